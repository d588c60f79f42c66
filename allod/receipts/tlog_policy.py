"""Which checkpoints count: C2SP tlog-policy, known logs, known witnesses, and the quorum of the latter.

A file of lines ``log VKEY [URL]``, ``witness NAME VKEY [URL]``, ``group NAME all|any|K MEMBER...`` and
exactly one ``quorum NAME|none``. Names are opaque; a line may refer only to names above it, and each name may
be a member once, so that a witness counts in one way only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.receipts.checkpoint import Checkpoint, open_checkpoint
from allod.receipts.cosignature import Cosignature, CosignerKey, cosignatures, parse_cosigner_key
from allod.receipts.notes import VerifyKey, parse_note, parse_vkey

NONE: Final = "none"
MAX_POLICY_BYTES: Final = 256 * 1024
MAX_NAMES: Final = 256
_DECIMAL: Final = re.compile("[1-9][0-9]{0,3}")
_ALLOWED: Final = re.compile(rb"[\x09\x0a\x20-\x7e\x80-\xff]*")
_SPACE: Final = re.compile("[ \t]+")


class Witness(msgspec.Struct, frozen=True, kw_only=True):
    """A witness by its name in the policy; ``url`` is its submission prefix, or empty."""

    name: str
    key: CosignerKey
    url: str = ""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """At least ``least`` of ``members``, each a witness or a group above."""

    name: str
    least: int
    members: tuple[str, ...]


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that counts: which log key signed it, and which known witnesses cosigned it."""

    checkpoint: Checkpoint
    key: VerifyKey
    cosigned: tuple[Cosignature, ...]


class TrustPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint needs. ``logs`` may be empty where the log is known otherwise."""

    logs: tuple[VerifyKey, ...]
    witnesses: tuple[Witness, ...]
    groups: tuple[Group, ...]
    quorum: str

    @property
    def demands(self) -> bool:
        """Whether any cosignature is demanded."""
        return self.quorum != NONE

    def met(self, cosigned: Sequence[Cosignature]) -> bool:
        """Tell whether these cosignatures reach the quorum."""
        keys = {c.key for c in cosigned}
        done = {w.name for w in self.witnesses if w.key in keys} | {NONE}
        for group in self.groups:
            if sum(member in done for member in group.members) >= group.least:
                done.add(group.name)
        return self.quorum in done

    def known(self, note: bytes) -> tuple[Cosignature, ...]:
        """Return the cosignatures of known witnesses on a note (raises Integrity if one of them is false)."""
        return cosignatures(parse_note(note), (w.key for w in self.witnesses))

    def open(self, note: bytes, key: VerifyKey | None = None) -> Accepted:
        """Verify a checkpoint by one of the logs (or by ``key``) and the quorum.

        Raises:
            Integrity: no known log signed it, a known cosigner's line is false, or the quorum is not reached.

        """
        logs = self.logs if key is None else (key,)
        lines = {(s.name, s.key_id) for s in parse_note(note).signatures}
        signed = [log for log in logs if (log.name, log.key_id) in lines]
        if not signed:
            raise Integrity(
                "no log of the policy signed this checkpoint",
                f"got {_names(lines)}, expected one of {_names((k.name, k.key_id) for k in logs)}",
                "get the verifier key of the log from its operator, by another way than the checkpoint",
            )
        checkpoint = open_checkpoint(note, signed[0])
        cosigned = self.known(note)
        if not self.met(cosigned):
            have = ", ".join(c.key.name for c in cosigned) or "none"
            raise Integrity(
                "too few witnesses cosigned this checkpoint",
                f"got {have}, expected the quorum {self.quorum} of {len(self.witnesses)} witnesses",
                "ask for the receipt again later; do not count what only its log vouches for",
            )
        return Accepted(checkpoint=checkpoint, key=signed[0], cosigned=cosigned)


def k_of_n(witnesses: Sequence[Witness], k: int, logs: Sequence[VerifyKey] = ()) -> TrustPolicy:
    """Make the policy that ``k`` of these witnesses must have cosigned; 0 demands none.

    Raises:
        Invalid: more than there are, or two of one name or key.

    """
    if not 0 <= k <= len(witnesses):
        raise _bad(f"the quorum is {k} of {len(witnesses)} witnesses")
    _single([w.name for w in witnesses], "witnesses are called")
    _single([w.key.public.hex() for w in witnesses], "witnesses have the key")
    group = Group(name="quorum", least=max(k, 1), members=tuple(w.name for w in witnesses))
    return TrustPolicy(
        logs=tuple(logs),
        witnesses=tuple(witnesses),
        groups=(group,) if k else (),
        quorum="quorum" if k else NONE,
    )


def parse_policy(data: bytes) -> TrustPolicy:
    """Read a policy file.

    Raises:
        Invalid: a line that is no line of a policy, named by its number; a name that is unknown, used twice
            or a member twice; a key given twice; no quorum, or two.

    """
    if len(data) > MAX_POLICY_BYTES or not _ALLOWED.fullmatch(data):
        raise _bad("it is too long, or holds a control character")
    reading = _Reading()
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        words = [word for word in _SPACE.split(line) if word]
        if not words or words[0].startswith("#"):
            continue
        try:
            reading.take(words)
        except Invalid as fault:
            raise _bad(f"line {number}: {fault.why or fault.what}") from fault
        except UnicodeEncodeError as fault:
            raise _bad(f"line {number}: a key's name is not UTF-8") from fault
    return reading.whole()


def write_policy(policy: TrustPolicy) -> str:
    """Write a policy as its file."""
    lines = [f"log {key.vkey()}" for key in policy.logs]
    lines += [f"witness {w.name} {w.key.vkey()} {w.url}".rstrip() for w in policy.witnesses]
    lines += [f"group {g.name} {g.least} {' '.join(g.members)}" for g in policy.groups]
    return "\n".join([*lines, f"quorum {policy.quorum}", ""])


class _Reading:
    """What the lines so far have said."""

    def __init__(self) -> None:
        self.logs: list[VerifyKey] = []
        self.witnesses: list[Witness] = []
        self.groups: list[Group] = []
        self.quorum: str | None = None
        self._members: set[str] = set()

    def take(self, words: list[str]) -> None:
        match words:
            case ["log", vkey] | ["log", vkey, _]:
                self.logs.append(parse_vkey(vkey))
                _single([key.public.hex() for key in self.logs], "logs have the key")
            case ["witness", name, vkey, *url] if len(url) <= 1:
                self._new(name)
                witness = Witness(name=name, key=parse_cosigner_key(vkey), url=url[0] if url else "")
                self.witnesses.append(witness)
                _single([w.key.public.hex() for w in self.witnesses], "witnesses have the key")
            case ["group", name, least, *members] if members:
                self._new(name)
                self.groups.append(self._group(name, least, tuple(members)))
            case ["quorum", name] if self.quorum is None:
                if name != NONE:
                    self._there(name)
                self.quorum = name
            case _:
                raise Invalid("", f"got {' '.join(words)[:80]!r}")

    def whole(self) -> TrustPolicy:
        if self.quorum is None:
            raise _bad("there is no quorum line")
        return TrustPolicy(
            logs=tuple(self.logs),
            witnesses=tuple(self.witnesses),
            groups=tuple(self.groups),
            quorum=self.quorum,
        )

    def _names(self) -> set[str]:
        return {w.name for w in self.witnesses} | {g.name for g in self.groups}

    def _new(self, name: str) -> None:
        if name == NONE or name in self._names():
            raise Invalid("", f"the name {name[:60]!r} is taken")
        if len(self._names()) >= MAX_NAMES:
            raise Invalid("", f"there are more than {MAX_NAMES} names")

    def _there(self, name: str) -> None:
        if name not in self._names():
            raise Invalid("", f"nothing above is called {name[:60]!r}")

    def _group(self, name: str, least: str, members: tuple[str, ...]) -> Group:
        for member in members:
            self._there(member)
            if member in self._members:
                raise Invalid("", f"{member[:60]!r} is a member already")
            self._members.add(member)
        count = {"any": 1, "all": len(members)}.get(least)
        if count is None and _DECIMAL.fullmatch(least):
            count = int(least)
        if count is None or count > len(members):
            raise Invalid("", f"got {least[:20]!r} of {len(members)} members")
        return Group(name=name, least=count, members=members)


def _single(values: list[str], what: str) -> None:
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise Invalid("the policy says something twice", f"two {what} {twice[:60]}", "name each once")


def _names(keys: object) -> str:
    return ", ".join(sorted(f"{name}+{key_id.hex()}" for name, key_id in keys)) or "nobody"  # type: ignore[attr-defined]


def _bad(why: str) -> Invalid:
    return Invalid("the witness policy cannot be used", why, "see c2sp.org/tlog-policy", param="policy")
