"""The witness protocol without its transport: C2SP tlog-witness, ``add-checkpoint``.

A witness answers what it may only answer if nothing it has said before is contradicted: its state per log is
one checkpoint, and the caller replaces it, durably and under one lock with the judgement, before the answer
leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from allod.domain.errors import Integrity
from allod.receipts.checkpoint import Checkpoint, number, parse_text
from allod.receipts.merkle import EMPTY_ROOT, HASH_BYTES, verify_consistency
from allod.receipts.notes import VerifyKey, b64, open_note, parse_note, unb64

MAX_PROOF: Final = 63
MAX_REQUEST_BYTES: Final = 160 * 1024
TEXT: Final = "text/plain; charset=utf-8"
SIZE: Final = "text/x.tlog.size"
_ASIDE: Final = "\n\n"


class AddCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A request: the size the witness is thought to know, the proof from there, and the checkpoint."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a witness answers.

    Attributes:
        status: 200, 400, 403, 404, 409 or 422; ``why`` one line for the witness's own log.
        size: on 409 the size it has seen, which is the whole body.
        accepted: on 200 the checkpoint to keep, and to cosign once it is kept.
        text: the text to cosign.
        forked: the signed note contradicts what the same log signed before: evidence, to be kept.

    """

    status: int
    why: str = ""
    size: int | None = None
    accepted: Checkpoint | None = None
    text: str = ""
    forked: bool = False


def write_request(request: AddCheckpoint) -> bytes:
    """Write the body of a request."""
    return "\n".join([f"old {request.old}", *map(b64, request.proof), "", ""]).encode() + request.note


def parse_request(data: bytes) -> AddCheckpoint:
    """Read the body of a request without believing it.

    Raises:
        Integrity: the format is broken, or there are more than 63 proof lines.

    """
    if len(data) > MAX_REQUEST_BYTES:
        raise _bad(f"got {len(data)} bytes, expected at most {MAX_REQUEST_BYTES}")
    try:
        head, blank, note = data.decode("utf-8").partition(_ASIDE)
    except UnicodeDecodeError as fault:
        raise _bad("got bytes that are not UTF-8") from fault
    first, *rest = head.split("\n")
    if not blank or not first.startswith("old "):
        raise _bad(f"got the first line {first[:40]!r}, expected old and a size")
    if len(rest) > MAX_PROOF:
        raise _bad(f"got {len(rest)} proof lines, expected at most {MAX_PROOF}")
    proof = tuple(unb64(line, "a proof hash") for line in rest)
    if any(len(hashed) != HASH_BYTES for hashed in proof):
        raise _bad("got a proof hash that is not 32 bytes")
    return AddCheckpoint(
        old=number(first.removeprefix("old "), "the old size"), proof=proof, note=note.encode()
    )


def judge(
    request: AddCheckpoint, logs: Mapping[str, Sequence[VerifyKey]], last: Checkpoint | None
) -> Verdict:
    """Decide about a request.

    Args:
        request: as read.
        logs: trusted keys by origin.
        last: the newest checkpoint of this origin that was cosigned, None if none ever was.

    """
    try:
        text = parse_note(request.note).text
        origin = text.split("\n", 1)[0]
        checkpoint = parse_text(text, extensions=True)
    except Integrity as fault:
        return Verdict(status=400, why=f"{fault.what}: {fault.why}")
    if origin not in logs:
        return Verdict(status=404, why="this log is not witnessed here")
    if not _signed(request.note, logs[origin]):
        return Verdict(status=403, why="no key of this log signed the checkpoint")
    if request.old > checkpoint.size:
        return Verdict(status=400, why=f"old size {request.old} is beyond the checkpoint's {checkpoint.size}")
    return _compare(request, text, checkpoint, last)


def origin_of(note: bytes) -> str:
    """Return the origin line of a checkpoint that is not yet believed (raises Integrity)."""
    return parse_note(note).text.split("\n", 1)[0]


def _compare(request: AddCheckpoint, text: str, new: Checkpoint, last: Checkpoint | None) -> Verdict:
    known = last or Checkpoint(origin=new.origin, size=0, root=EMPTY_ROOT)
    fork = new.size == known.size and new.root != known.root
    if request.old != known.size:
        return Verdict(status=409, why=f"known size {known.size}", size=known.size, forked=fork)
    if fork:
        return Verdict(status=409, why="another root at the known size", size=known.size, forked=True)
    if not verify_consistency(known.size, new.size, known.root, new.root, request.proof):
        # without a signed size the log may just have sent a wrong proof: no evidence of a fork
        return Verdict(status=422, why=f"not consistent with the known size {known.size}")
    return Verdict(status=200, accepted=new, text=text)


def _signed(note: bytes, keys: Sequence[VerifyKey]) -> bool:
    """Tell whether a trusted key signed; false lines of a trusted key count as none."""
    for key in keys:
        try:
            open_note(note, key)
        except Integrity:
            continue
        return True
    return False


def _bad(why: str) -> Integrity:
    return Integrity("the request is no add-checkpoint", why, "see c2sp.org/tlog-witness")
