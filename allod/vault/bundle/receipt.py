"""The import receipt: what a home says arrived, signed with its log key, to be carried back to the publisher.

A DSSE envelope of type ``application/vnd.allod.import-receipt+json``; the payload is canonical JSON. The key
id is the SHA-256 of the log's raw public key. The same statement always has the same bytes.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import AllodError, Integrity
from allod.receipts.canonical import canonical, parse
from allod.receipts.notes import parse_vkey
from allod.vault.bundle import envelope
from allod.vault.bundle.form import Bundle, Kind, Signer
from allod.vault.bundle.form import decode as decode_bundle
from allod.vault.bundle.supply import Generation, Origin, digest_of
from allod.vault.bundle.verify import Step

if TYPE_CHECKING:
    from allod.receipts.notes import Signer as LogSigner

TYPE: Final = "application/vnd.allod.import-receipt+json"
FORMAT: Final = "allod-import-1"
MAX_BYTES: Final = 16 * 1024 * 1024


class Arrived(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item as it stood in the bundle: ``digest`` is its OCI manifest's."""

    kind: Kind
    name: str
    version: str
    digest: str


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a home says of one import.

    Attributes:
        format: ``allod-import-1``; home: origin of the home's log, whose key signs.
        serial, generation: number of the switch and digest of what serves since then.
        at: RFC 3339; importer: version of Allod; trust: digest of the home's ``trust.toml``.
        bundle: what was imported; items: all that it brought.
        signers: the home's names of whoever signed it; stale: why its metadata was old, or empty.
        steps: what was checked and found.

    """

    format: str
    home: str
    serial: int
    generation: str
    at: str
    importer: str
    trust: str
    bundle: Origin
    items: tuple[Arrived, ...]
    signers: tuple[str, ...]
    stale: str
    steps: tuple[Step, ...]


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found: every step, and the receipt if its form was right."""

    ok: bool
    steps: tuple[Step, ...]
    receipt: Receipt | None = None


def write(found: Generation, signer: LogSigner) -> bytes:
    """Write the receipt of an import, signed with a home's log key; ``found`` must be of an import."""
    assert found.bundle is not None
    mine = {item.key: item for item in found.items}
    said = Receipt(
        format=FORMAT,
        home=signer.key.name,
        serial=found.serial,
        generation=found.digest,
        at=found.at,
        importer=found.importer,
        trust=found.trust,
        bundle=found.bundle,
        items=tuple(
            Arrived(kind=item.kind, name=item.name, version=item.version, digest=item.digest)
            for item in (mine[key] for key in found.items_in)
        ),
        signers=found.signers,
        stale=found.stale,
        steps=found.steps,
    )
    fields: Any = msgspec.to_builtins(said)
    payload = canonical(fields)
    signature = signer.raw(envelope.pae(TYPE, payload))
    return canonical({
        "payload": base64.b64encode(payload).decode(),
        "payloadType": TYPE,
        "signatures": [
            {"keyid": envelope.key_id(signer.key.public), "sig": base64.b64encode(signature).decode()}
        ],
    })  # fmt: skip


def verify(raw: bytes, vkey: str, bundle: bytes | None = None) -> Verified:
    """Verify a receipt offline, in numbered steps; the first that fails is the last.

    Args:
        raw: the envelope.
        vkey: verifier key of the home's log (``name+id+base64``).
        bundle: bytes of the ``bundle.json`` that it must be of, if they are at hand.

    Raises:
        Invalid: ``vkey`` is none.

    """
    key, steps = parse_vkey(vkey), list[Step]()
    receipt: Receipt | None = None

    def passed(name: str, detail: str) -> None:
        steps.append(Step(n=len(steps) + 1, name=name, ok=True, detail=detail))

    doing = "form"
    try:
        payload = _payload(raw)
        passed("form", f"an envelope of {TYPE}")
        doing = "signature"
        envelope.verify(raw, payload, {envelope.key_id(key.public): Signer(public=key.public, name=key.name)},
                        1, TYPE)  # fmt: skip
        passed("signature", f"by the log key of {key.name}")
        doing = "statement"
        receipt = _statement(payload)
        if receipt.home != key.name:
            raise Integrity("the receipt is of another home", f"got {receipt.home}, the key is {key.name}")
        passed("statement", f"import {receipt.serial} of {receipt.home} at {receipt.at}")
        if bundle is not None:
            doing = "bundle"
            passed("bundle", _same(receipt, bundle))
    except AllodError as error:
        why = error.why or error.what
        steps.append(Step(n=len(steps) + 1, name=doing, ok=False, detail=why))
        return Verified(ok=False, steps=tuple(steps), receipt=receipt if doing == "bundle" else None)
    return Verified(ok=True, steps=tuple(steps), receipt=receipt)


def _payload(raw: bytes) -> bytes:
    if len(raw) > MAX_BYTES:
        raise Integrity("the receipt is too long", f"got more than {MAX_BYTES} bytes")
    value: Any = parse(raw, what="the import receipt")
    text = value.get("payload") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise Integrity("the import receipt is no envelope", "got no payload")
    return envelope.unb64(text)


def _statement(payload: bytes) -> Receipt:
    value: Any = parse(payload, what="what the receipt says")
    try:
        said = msgspec.convert(value, Receipt)
    except msgspec.ValidationError as error:
        raise Integrity("the import receipt cannot be read", str(error)) from error
    if said.format != FORMAT:
        raise Integrity("the import receipt has another format", f"got {said.format[:40]!r}")
    return said


def _same(receipt: Receipt, raw: bytes) -> str:
    """Compare with the bundle at hand: its digest, and every item of it."""
    if digest_of(raw) != receipt.bundle.digest:
        raise Integrity("it is of another bundle", f"got {receipt.bundle.digest}, here is {digest_of(raw)}")
    sent: Bundle = decode_bundle(raw)
    arrived = [(one.kind, one.name, one.version, one.digest) for one in receipt.items]
    if arrived != [(one.kind, one.name, one.version, one.digest) for one in sent.items]:
        raise Integrity("other items arrived than were sent", f"got {len(arrived)}, sent {len(sent.items)}")
    return f"all {len(arrived)} items of {sent.channel} number {sent.number} arrived"
