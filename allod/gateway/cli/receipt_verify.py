"""What ``allod receipt verify`` verifies with: keys, policy, rotations, and the salts of the home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from allod.domain.errors import Integrity, Invalid
from allod.gateway import compose
from allod.receipts.cose import verify_statement
from allod.receipts.ids import id_prefix
from allod.receipts.notes import parse_vkey
from allod.receipts.tlog_policy import TrustPolicy, parse_policy
from allod.receipts.verify import Step, Verification
from allod.receipts.verify import verify as check

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_FILE_BYTES = 1 << 20
COSE = b"\xd2"
_NOTE = b"\nallod key "


def verified(
    file: Path,
    vkey: str | None,
    policy_file: Path | None,
    rotations: Path | None,
    bodies: tuple[Path | None, Path | None],
) -> Verification:
    """Verify a receipt file, or a COSE statement by its first byte.

    Raises:
        Invalid: no key to verify with, or a policy that cannot be used.

    """
    home, data = compose.home_root(), _read(file)
    policy = None if policy_file is None else parse_policy(policy_file.read_bytes())
    notes = () if rotations is None else _notes(rotations)
    key = vkey or _policy_key(policy, data)
    if key is None:
        key, notes = _home_key(home), notes or _home_notes(home)
    if data.startswith(COSE):
        return _statement(data, key, policy)
    return check(data, key, policy=policy, rotations=notes, **_openings(home, data, *bodies))


def _statement(data: bytes, vkey: str, policy: TrustPolicy | None) -> Verification:
    key = parse_vkey(vkey)
    if policy is not None and policy.demands:
        why = "a COSE receipt carries no cosignatures, which the policy demands: get the receipt file"
        return Verification(ok=False, steps=(Step(n=1, name="witnesses", ok=False, detail=why),))
    try:
        said = verify_statement(data, key)
    except Integrity as fault:
        return Verification(ok=False, steps=(Step(n=1, name="COSE statement", ok=False, detail=fault.why),))
    detail = f"the {said.kind} leaf of {said.id} at index {said.index}, signed by {key.name}"
    return Verification(ok=True, steps=(Step(n=1, name="COSE statement", ok=True, detail=detail),))


def _policy_key(policy: TrustPolicy | None, data: bytes) -> str | None:
    """Return the key of the policy's log that a receipt is of, by its id."""
    for key in policy.logs if policy is not None else ():
        if id_prefix(key.name).encode() in data:
            return key.vkey()
    return None


def _notes(path: Path) -> Sequence[bytes]:
    """Read notes that stand one behind the other, an empty line between them."""
    whole = b"\n" + path.read_bytes()[:MAX_FILE_BYTES]
    starts = [at for at in range(len(whole)) if whole.startswith(_NOTE, at)]
    parts = zip(starts, [*starts[1:], len(whole)], strict=True)
    return [whole[a + 1 : b].rstrip(b"\n") + b"\n" for a, b in parts]


def _home_notes(home: Path) -> Sequence[bytes]:
    from allod.store.history import notes  # noqa: PLC0415
    from allod.store.home import Home  # noqa: PLC0415

    return notes(Home(home))


def _read(file: Path) -> bytes:
    with file.open("rb") as handle:
        data = handle.read(MAX_FILE_BYTES + 2)
    return data if data.startswith(COSE) else data.rstrip(b"\n")


def _home_key(home: Path) -> str:
    from allod.store.home import Home  # noqa: PLC0415

    try:
        return Home(home).log_vkey.read_text().strip()
    except OSError as error:
        raise Invalid(
            "no key to verify with",
            f"{home} has no log key",
            "give the log's verifier key with --key",
            param="key",
        ) from error


def _openings(home: Path, data: bytes, request: Path | None, response: Path | None) -> dict[str, Any]:
    """Return what opens the commitments to bodies given as files; their salts are in the home."""
    if request is None and response is None:
        return {}
    from allod.receipts.file import read_file  # noqa: PLC0415
    from allod.receipts.verify import Opening  # noqa: PLC0415
    from allod.store.database import Database  # noqa: PLC0415
    from allod.store.home import load_home  # noqa: PLC0415

    tables = Database.lite_file(load_home(home).database)
    try:
        row = tables.request(read_file(data).id)
    finally:
        tables.close()
    out = {}
    for name, file in (("request", request), ("response", response)):
        if file is None:
            continue
        salt: bytes | None = getattr(row, f"{name}_salt", None)
        if salt is None:
            raise Invalid(f"the salt of the {name} is not here", "it was erased, or is in another home")
        out[name] = Opening(salt=salt, body=file.read_bytes())
    return out
