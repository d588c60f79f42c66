"""Keys of a log over time: rotations signed by both keys, revocations signed by the one in force.

A rotation hands a log over to another key under the same origin, at a size of the tree. It is a signed note
whose text no checkpoint can be, carried by a leaf of the log, and it stands alone: who trusts either key can
follow it to the other. The old key is *retired* (its checkpoints up to that size still count) or *revoked*
(none count: every leaf can be proved again under the new key).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.receipts.canonical import canonical
from allod.receipts.checkpoint import Checkpoint, number, open_checkpoint
from allod.receipts.notes import Signer, VerifyKey, open_note, parse_note, parse_vkey

ROTATION: Final = "allod key rotation v1"
REVOCATION: Final = "allod key revocation v1"
RETIRED, REVOKED = "retired", "revoked"
MAX_NOTES: Final = 256


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """From ``old`` to ``new`` at ``size`` leaves; ``revoked`` if nothing the old key signed counts now."""

    old: VerifyKey
    new: VerifyKey
    size: int
    time: str
    revoked: bool


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """``key`` counts no more, says ``by``."""

    key: VerifyKey
    by: VerifyKey
    time: str


class RingKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key of the log; ``until`` is the largest tree it may have signed, None while it is in force."""

    key: VerifyKey
    until: int | None = None
    revoked: bool = False


class KeyRing(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of one log, oldest first."""

    keys: tuple[RingKey, ...]

    @property
    def origin(self) -> str:
        """The log's origin."""
        return self.keys[0].key.name

    def open(self, note: bytes) -> Checkpoint:
        """Verify a checkpoint by a key of the ring that may sign it.

        Raises:
            Integrity: none signed, the one that did is revoked, or was retired at a smaller tree.

        """
        return self.signed(note)[0]

    def signed(self, note: bytes) -> tuple[Checkpoint, VerifyKey]:
        """Return a checkpoint, verified as ``open`` does, and the key that signed it."""
        lines = {(s.name, s.key_id) for s in parse_note(note).signatures}
        fault: Integrity | None = None
        for one in reversed(self.keys):
            if (one.key.name, one.key.key_id) not in lines:
                continue
            checkpoint = open_checkpoint(note, one.key)
            if one.revoked:
                fault = _refused(one.key, "got a revoked key")
            elif one.until is not None and checkpoint.size > one.until:
                fault = _refused(one.key, f"got size {checkpoint.size}, expected at most {one.until}")
            else:
                return checkpoint, one.key
        if fault is not None:
            raise fault
        return open_checkpoint(note, self.keys[-1].key), self.keys[-1].key


def single(key: VerifyKey) -> KeyRing:
    """Return the ring of a log that has had one key."""
    return KeyRing(keys=(RingKey(key=key),))


def write_rotation(old: Signer, new: Signer, *, size: int, time: str, revoked: bool) -> bytes:
    """Write and sign a rotation with both keys (raises Invalid if they are of two origins, or one key)."""
    if old.key.name != new.key.name or old.key == new.key:
        raise Invalid("this is no rotation", f"got {new.key.vkey()}, expected another key of {old.key.name}")
    state = REVOKED if revoked else RETIRED
    text = (
        f"{ROTATION}\n{old.key.name}\nold {old.key.vkey()}\nnew {new.key.vkey()}\n"
        f"size {size}\ntime {time}\nold key {state}\n"
    )
    return old.sign(text) + new.sign(text).decode().rpartition("\n\n")[2].encode()


def write_revocation(signer: Signer, key: VerifyKey, *, time: str) -> bytes:
    """Write and sign that a key counts no more."""
    return signer.sign(f"{REVOCATION}\n{signer.key.name}\nkey {key.vkey()}\ntime {time}\n")


def read_rotation(note: bytes) -> Rotation:
    """Read a rotation and verify that both keys signed it (raises Integrity)."""
    match parse_note(note).text.split("\n"):
        case [head, origin, old, new, size, time, state, ""] if head == ROTATION:
            rotation = Rotation(
                old=_key(old, "old ", origin),
                new=_key(new, "new ", origin),
                size=number(_after(size, "size "), "the size"),
                time=_after(time, "time "),
                revoked=_after(state, "old key ") == REVOKED,
            )
        case _:
            raise _bad("got another text than a rotation's")
    if rotation.old == rotation.new or _after(state, "old key ") not in {RETIRED, REVOKED}:
        raise _bad("got one key twice, or another state than retired or revoked")
    open_note(note, rotation.old)
    open_note(note, rotation.new)
    return rotation


def read_revocation(note: bytes, ring: KeyRing) -> Revocation:
    """Read a revocation signed by a key of a ring that came after the revoked one (raises Integrity)."""
    match parse_note(note).text.split("\n"):
        case [head, origin, key, time, ""] if head == REVOCATION and origin == ring.origin:
            revoked = _key(key, "key ", origin)
        case _:
            raise _bad("got another text than a revocation's")
    lines = {(s.name, s.key_id) for s in parse_note(note).signatures}
    later = False
    for one in ring.keys:
        if later and (one.key.name, one.key.key_id) in lines:
            open_note(note, one.key)
            return Revocation(key=revoked, by=one.key, time=_after(time, "time "))
        later = later or one.key == revoked
    raise _bad("got a revocation that no later key of this log signed")


def follow(trusted: VerifyKey, notes: Sequence[bytes]) -> KeyRing:
    """Return the ring that begins from one trusted key, by notes in any order.

    Raises:
        Integrity: a note that does not hold or is of another log, or two rotations away from one key: then
            somebody has forked the log's keys, and neither is believed.

    """
    if len(notes) > MAX_NOTES:
        raise _bad(f"got {len(notes)} notes, expected at most {MAX_NOTES}")
    rotations = [read_rotation(note) for note in notes if note.startswith(ROTATION.encode())]
    rest = [note for note in notes if not note.startswith(ROTATION.encode())]
    distinct = {(r.old.public, r.new.public): r for r in sorted(rotations, key=lambda r: r.size)}
    for side in (0, 1):
        if len({pair[side] for pair in distinct}) != len(distinct):
            raise _bad("got two rotations of one key: its log was forked, believe neither")
    if any(r.old.name != trusted.name for r in rotations):
        raise _bad("got a rotation of another log")
    ring = _chain(trusted, distinct.values())
    for note in rest:
        revoked = read_revocation(note, ring).key
        keys = (msgspec.structs.replace(k, revoked=k.revoked or k.key == revoked) for k in ring.keys)
        ring = KeyRing(keys=tuple(keys))
    return ring


def anchor_of_log(note: bytes, ring: KeyRing | None) -> Checkpoint:
    """Verify a checkpoint that was kept elsewhere, by any key the log ever had.

    A revoked key counts here: that the anchor is genuine says the place where it was kept, and all that is
    asked is whether the log extends it.

    Raises:
        Integrity: no key of this log signed it.

    """
    if ring is None:
        raise Integrity("the log's keys did not hold", "an earlier step failed")
    whole = note.replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"
    lines = {(s.name, s.key_id) for s in parse_note(whole).signatures}
    signed = (one.key for one in ring.keys if (one.key.name, one.key.key_id) in lines)
    return open_checkpoint(whole, next(signed, ring.keys[-1].key))


def notice(facts: dict[str, str], note: bytes, subject: str) -> bytes:
    """Write the leaf that carries a note: a notice with the whole note as text.

    Args:
        facts: id, tenant and time of the notice.
        note: the signed note.
        subject: what it is about.

    """
    leaf: dict[str, Any] = {
        "detail": "",
        "facts": {"note": note.decode()},
        "id": facts["id"],
        "kind": "notice",
        "subject": subject,
        "tenant": facts["tenant"],
        "time": facts["time"],
        "v": 1,
    }
    return canonical(leaf)


def _chain(trusted: VerifyKey, rotations: Iterable[Rotation]) -> KeyRing:
    after = {r.old.public: r for r in rotations}
    before = {r.new.public: r for r in after.values()}
    keys = [RingKey(key=trusted)]
    while (r := after.get(keys[-1].key.public)) is not None and len(keys) <= len(after):
        keys[-1] = RingKey(key=r.old, until=r.size, revoked=r.revoked)
        keys.append(RingKey(key=r.new))
    while (r := before.get(keys[0].key.public)) is not None and len(keys) <= len(after):
        keys.insert(0, RingKey(key=r.old, until=r.size, revoked=r.revoked))
    return KeyRing(keys=tuple(keys))


def _key(line: str, word: str, origin: str) -> VerifyKey:
    try:
        key = parse_vkey(_after(line, word))
    except Invalid as fault:
        raise _bad(fault.why) from fault
    if key.name != origin:
        raise _bad(f"got a key of {key.name!r:.60}, expected one of {origin!r:.60}")
    return key


def _after(line: str, word: str) -> str:
    if not line.startswith(word):
        raise _bad(f"got the line {line[:40]!r}, expected {word.strip()}")
    return line.removeprefix(word)


def _refused(key: VerifyKey, why: str) -> Integrity:
    return Integrity(
        f"the key {key.name}+{key.key_id.hex()} may not have signed this checkpoint",
        why,
        "get the receipt again from its log: every leaf has a proof under the key in force",
    )


def _bad(why: str) -> Integrity:
    return Integrity("the history of the log's keys does not hold", why, "ask the log's operator which it is")
