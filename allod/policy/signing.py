"""What the organisation's signers put their names to, and when a signed statement counts. Pure.

A statement is text of two lines: what kind it is, and its fields as one line of JSON with sorted keys and
ASCII only. It travels as a C2SP signed note; this room never sees a key at work: whoever opened the note
says of every signature line whether it holds (``Line.holds``), and the rules about who and how many are
here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, Final, TypeVar

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.domain.signer import Signer

PACK: Final = "allod pack v1"
MAX_NAME: Final = 200
_S = TypeVar("_S", bound=msgspec.Struct)


class PackStatement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a signature under a pack says: this id in this version is exactly these files.

    ``digest`` is the pack's canonical digest (``Pack.digest``).
    """

    id: str
    version: str
    digest: str


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One signature line of a note.

    Attributes:
        name: the key's name as the line gives it.
        signer: id of the configured signer whose key this is, or None for a stranger's.
        holds: whether the signature is true for that key; a stranger's never is.
        signature: the 64 bytes as they stand there.

    """

    name: str
    signer: str | None
    holds: bool
    signature: bytes = b""


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A note that was opened: its text and what each line is worth."""

    text: str
    lines: tuple[Line, ...]


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """A signature that counts: who, as what, and the 64 bytes."""

    signer: str
    role: str
    signature: bytes

    @property
    def who(self) -> str:
        """Return ``alice (author)``."""
        return f"{self.signer} ({self.role})"


def statement(kind: str, body: msgspec.Struct) -> str:
    """Write a statement, ready to be signed; equal statements are equal bytes.

    Raises:
        Invalid: a name in it is empty, too long, or holds control characters.

    """
    fields = msgspec.to_builtins(body)
    _check(fields, kind)
    return f"{kind}\n{json.dumps(fields, sort_keys=True, separators=(',', ':'), ensure_ascii=True)}\n"


def read_statement(text: str, kind: str, form: type[_S], what: str) -> _S:
    """Read a statement that must be exactly what ``statement`` writes; ``what`` names it.

    Raises:
        Integrity: it is of another kind, has other fields, or other bytes.

    """
    first, _, rest = text.partition("\n")
    if first != kind:
        raise Integrity(f"{what} is no {kind!r}", f"got {first[:80]!r}", "get the right file")
    try:
        body = msgspec.convert(json.loads(rest), form)
        again = statement(kind, body)
    except (ValueError, RecursionError, msgspec.ValidationError, Invalid) as fault:
        raise Integrity(f"{what} cannot be read", str(fault), "get the file again") from fault
    if again != text:
        raise Integrity(f"{what} is not in canonical form", "got other bytes", "get the file again, unedited")
    return body


def counted(signed: Signed, signers: Mapping[str, Signer], day: date, what: str) -> tuple[Signature, ...]:
    """Return the signatures that count on a UTC day, in the order of their lines, one per signer.

    Lines of strangers and of signers whose key is expired or revoked do not count; a false signature of a
    configured signer rejects the whole note.

    Raises:
        Integrity: none counts (every line's reason is named), or one is false.

    """
    found: dict[str, Signature] = {}
    reasons: list[str] = []
    for line in signed.lines:
        signer = signers.get(line.signer) if line.signer is not None else None
        if signer is None:
            reasons.append(f"{line.name} is not a configured signer with this key")
            continue
        if not line.holds:
            raise Integrity(
                f"the signature of {signer.id} under {what} is false",
                "got a signature that is not of this text by this key",
                "have it signed again, after finding out who changed it",
            )
        against = signer.against(day)
        if against is not None:
            reasons.append(f"{signer.id}: {against}")
            continue
        found.setdefault(signer.id, Signature(signer=signer.id, role=signer.role, signature=line.signature))
    if not found:
        raise Integrity(
            f"{what} bears no signature that counts",
            "; ".join(reasons) or "got no signature",
            "have it signed by a signer named in the configuration",
        )
    return tuple(found.values())


def verify_pack(
    signed: Signed, expected: PackStatement, signers: Mapping[str, Signer], day: date
) -> tuple[Signature, ...]:
    """Return who signed for a pack; the statement must name exactly this id, version and digest.

    Raises:
        Integrity: it names another, or ``counted`` finds nothing that counts.

    """
    what = f"pack {expected.id!r}"
    said = read_statement(signed.text, PACK, PackStatement, f"the signature file of {what}")
    for name in ("id", "version", "digest"):
        got, required = getattr(said, name), getattr(expected, name)
        if got != required:
            raise Integrity(
                f"{what} was signed with another {name}",
                f"got a signature for {got!r}, the pack here has {required!r}",
                "find out what was changed after signing, then have it signed again",
            )
    return counted(signed, signers, day, what)


def pair(signatures: Iterable[Signature]) -> tuple[Signature, Signature] | None:
    """Return the first two signatures by different signers with different roles, or None."""
    known = list(signatures)
    for n, first in enumerate(known):
        for second in known[n + 1 :]:
            if first.signer != second.signer and first.role != second.role:
                return first, second
    return None


def require(signatures: tuple[Signature, ...], *, two: bool, what: str, why: str) -> None:
    """Demand two signatures of different signers and roles where ``two``, else one.

    Raises:
        Integrity: there are fewer.

    """
    if not signatures or (two and pair(signatures) is None):
        raise Integrity(
            f"{what} needs {'two signatures' if two else 'a signature'}",
            f"got {', '.join(s.who for s in signatures) or 'none'}; {why}",
            "have a second signer with another role sign it" if two else "have it signed",
        )


def _check(fields: Mapping[str, Any], kind: str) -> None:
    for name in ("id", "version"):
        value = fields.get(name)
        if value is not None and (
            not value or len(value) > MAX_NAME or any(c < " " or c == "\x7f" for c in value)
        ):
            raise Invalid(f"{kind}: {name} {value[:80]!r} cannot be signed", "got control characters or none")
