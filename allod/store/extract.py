"""The log as its last published checkpoint has it, read beside whoever writes: what every report is made of.

One pass goes through the log from the first leaf, in memory that grows with the requests in flight and
nothing else. It computes every hash on the way: a pass that comes to its end has read exactly the leaves the
checkpoint was signed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import msgspec

from allod.domain.errors import Integrity, Unavailable
from allod.receipts.checkpoint import open_checkpoint
from allod.receipts.ids import time_of
from allod.receipts.leaves import ms_of
from allod.receipts.lineage import AUDIT
from allod.receipts.merkle import leaf_hash
from allod.receipts.tiles import WIDTH, parse_bundle
from allod.store.cosigned import cosigned_by
from allod.store.home import Home, load_keys
from allod.store.logfiles import LogFiles
from allod.store.lost import GATEWAY_LOST
from allod.store.reading import Reader
from allod.store.writer import Published


class Terminal(msgspec.Struct, frozen=True, kw_only=True):
    """A terminal leaf, as far as reports read it; names as in ``receipts.leaves``."""

    id: str
    app: str
    status: str
    time: str
    classes: tuple[str, ...]
    decision: str
    pack: str
    fleet: str
    attempts: int
    durability: str = ""
    purpose: str | None = None
    task: str | None = None
    reason: str = ""
    detail: str = ""
    deployment: str | None = None
    model: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    engine_digest: str | None = None
    weights: str | None = None
    adapter: str | None = None
    template: str | None = None
    sandbox: str | None = None
    evidence: str | None = None
    conditions: dict[str, bool] = {}
    relaxed: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    excluded: tuple[tuple[str, tuple[int, ...]], ...] = ()
    tokens: dict[str, int] = {}
    cost_usd: str | None = None
    basis: str | None = None
    tried: tuple[tuple[str, str, str, str], ...] = ()
    parents: tuple[str, ...] = ()
    step: str | None = None
    steps: tuple[tuple[str, str, str, str], ...] = ()
    floor: dict[str, str] = {}

    @property
    def cost(self) -> Decimal:
        """What it cost in USD; 0 where nothing was tried."""
        return Decimal(self.cost_usd or 0)

    def cost_at(self, deployment: str) -> Decimal:
        """Return what the attempts at one deployment cost in USD."""
        if not self.tried:
            return self.cost
        return sum(
            (Decimal(cost) for name, _, _, cost in self.tried if cost and name == deployment), Decimal(0)
        )

    @property
    def saw(self) -> tuple[str, ...]:
        """The deployments it was sent to, in order and each once; a name that did not fit is a digest."""
        if self.tried:
            return tuple(dict.fromkeys(name for name, *_ in self.tried))
        return (self.deployment,) if self.attempts and self.deployment else ()


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One request that ended: when it came in (UTC ms), its surface, its leaves' places, and its end.

    ``steps`` are those of a request that was answered in steps, and its audits, in the order they ended: one
    request of a caller, however many were asked for it. A step whose request is not of the period (or was
    lost) is an entry by itself, with ``end.step``.
    """

    received_at_ms: int
    surface: str
    intent_index: int
    terminal_index: int
    end: Terminal
    steps: tuple[Entry, ...] = ()

    @property
    def parts(self) -> tuple[Entry, ...]:
        """What of it may have left: the steps that were sent anywhere, else the request itself."""
        return tuple(one for one in self.steps if one.end.attempts) or (self,)

    @property
    def all(self) -> tuple[Entry, ...]:
        """The request and its steps, each with a receipt of its own, in the order they ended."""
        if not self.steps:
            return (self,)
        return tuple(sorted((self, *self.steps), key=lambda one: one.terminal_index))

    @property
    def cost(self) -> Decimal:
        """What it cost with all its steps, in USD."""
        return self.end.cost + sum((one.end.cost for one in self.steps), Decimal(0))


class _Intent(msgspec.Struct, frozen=True):
    id: str
    surface: str
    step: str | None = None


class _Audit(msgspec.Struct, frozen=True):
    subject: str
    facts: dict[str, str] = {}


class Gathering:
    """Gathers a request with its steps and audits, as their leaves come; holds what is under way, no more.

    Steps end before their request does, and are held until then. The audits of a request come after it: it is
    held until the notice about them, which is written however they went, or to the end of the log.
    """

    def __init__(self) -> None:
        self._begun: dict[str, tuple[int, _Intent]] = {}
        self._held: dict[str, list[Entry]] = {}
        self._waiting: dict[str, Entry] = {}

    def begin(self, index: int, intent: _Intent) -> None:
        """Take an intent of the period, and its place."""
        self._begun[intent.id] = index, intent

    @property
    def in_flight(self) -> int:
        """How many requests have begun and not ended; steps are none."""
        return sum(1 for _, intent in self._begun.values() if intent.step is None)

    def end(self, index: int, end: Terminal) -> Iterator[Entry]:
        """Take an end, and yield what is whole by it; an end whose beginning is not of the period is none."""
        at = self._begun.pop(end.id, None)
        if at is None:
            return
        entry = Entry(
            received_at_ms=time_of(end.id), surface=at[1].surface, intent_index=at[0], terminal_index=index,
            end=end,
        )  # fmt: skip
        yield from self.take(entry)

    def take(self, entry: Entry) -> Iterator[Entry]:
        """Take an ended request or step, and yield what is whole by it."""
        end = entry.end
        of = end.parents[0] if end.parents else ""
        if end.step != AUDIT and of in self._begun and not end.steps:
            self._held.setdefault(of, []).append(entry)
        elif end.step == AUDIT and of in self._waiting:
            whole = self._waiting[of]
            self._waiting[of] = msgspec.structs.replace(whole, steps=(*whole.steps, entry))
        else:
            yield from self._whole(entry)

    def _whole(self, entry: Entry) -> Iterator[Entry]:
        """Yield a request that ended, after those that ended before it and merely name it as a parent."""
        ended, out = [entry], list[Entry]()
        while ended:
            one = ended.pop()
            end, held = one.end, self._held.pop(one.end.id, [])
            listed = {step[0] for step in end.steps}
            lost = end.reason == GATEWAY_LOST
            mine = tuple(of for of in held if of.end.id in listed or (of.end.step is not None and lost))
            ended += (of for of in held if of not in mine)
            out.append(msgspec.structs.replace(one, steps=mine))
        for one in reversed(out):
            end = one.end
            if end.status == "answered" and end.floor.get("audit") == "yes" and end.step is None:
                self._waiting[end.id] = one
            else:
                yield one

    def audited(self, receipt: str) -> Iterator[Entry]:
        """Take the notice about a request's audits: nothing of it comes any more."""
        whole = self._waiting.pop(receipt, None)
        if whole is not None:
            yield whole

    def rest(self) -> Iterator[Entry]:
        """Yield what waits, at the end of the log."""
        for of in [one for one in self._held if one in self._begun]:  # what hangs on others comes with them
            for one in self._held.pop(of, []):
                yield from self._whole(one)
        yield from self._waiting.values()
        self._held, self._waiting = {}, {}


def gathered(entries: Iterable[Entry]) -> list[Entry]:
    """Gather entries that were read one by one, in the order their requests came in; all are in memory."""
    every = sorted(entries, key=lambda one: one.intent_index)
    of = {step[0]: one.end.id for one in every for step in one.end.steps}
    known = {one.end.id for one in every}
    steps: dict[str, list[Entry]] = {}
    out = []
    for one in every:
        named = one.end.parents[0] if one.end.step and one.end.parents else ""
        whole = of.get(one.end.id, named)
        if whole in known:
            steps.setdefault(whole, []).append(one)
        else:
            out.append(one)
    return [msgspec.structs.replace(one, steps=tuple(steps.get(one.end.id, ()))) for one in out]


class Extract:
    """A log at rest or at work, as of its last published checkpoint.

    Attributes:
        origin, vkey: name and verifier key of the log.
        checkpoint: the signed note; ``size`` leaves are read, no more.
        reader: receipt files as of this checkpoint.
        in_flight: after a whole pass, how many requests of its period had not ended.
        pruned: what is gone from the front of the log, or None: no pass can yield it.
        halves: after a whole pass, how many requests ended whose beginning was pruned: they are not yielded.

    """

    def __init__(self, home: Home) -> None:
        """Open the files; nothing is written and no lock is taken.

        Raises:
            Unavailable: there is no checkpoint yet, or the files hold less than it covers (after a power cut,
                until the next start).
            Integrity: the checkpoint is not of this log's key.

        """
        keys = load_keys(home)
        key = keys.signer.key
        try:
            self.checkpoint = home.checkpoint.read_bytes()
            entries = (home.log / "entries").exists()
        except FileNotFoundError:
            entries = False
        if not entries or not self.checkpoint.strip(b"\0"):
            raise Unavailable(
                "there is no log to report on",
                f"got no checkpoint in {home.log}",
                "start the gateway once: `allod up`",
                kind="down",
            )
        signed = open_checkpoint(self.checkpoint, key)
        self.origin, self.vkey = keys.origin, key.vkey()
        self.size, self.root = signed.size, signed.root
        self._files = LogFiles(home.log, write=False)
        if self._files.held() < self.size:
            self._files.close()
            raise Unavailable(
                "the log's files are behind its checkpoint",
                f"got fewer than {self.size} leaves",
                "start the gateway once: the journal holds the rest",
                kind="storage",
            )
        published = Published(self.size, self.checkpoint)
        self.reader = Reader(self._files, lambda: published)
        self.reader.cosigned = cosigned_by(home, key, self.reader)
        self.pruned = self.reader.pruned
        self.in_flight = self.halves = 0

    def close(self) -> None:
        """Close the files; idempotent."""
        self._files.close()

    def entries(self, since_ms: int, until_ms: int) -> Iterator[Entry]:
        """Go through the requests that came in from ``since_ms`` on and before ``until_ms``, by their ends.

        What was pruned is not among them: see ``lost``.

        Raises:
            Integrity: a leaf is not what was signed; whatever was yielded before counts for nothing then.

        """
        pool, edge, out = Gathering(), self._files.pruned_edge(), list[bytes]()
        first, halves = edge.size, self.pruned.halves if self.pruned is not None else 0
        for start in range(first, self.size, WIDTH):
            leaves = parse_bundle(self._files.bundle(start, min(start + WIDTH, self.size)))
            edge.extend([leaf_hash(leaf) for leaf in leaves], out)
            out.clear()
            for index, leaf in enumerate(leaves, start):
                if b'"kind":"intent"' in leaf:
                    intent = _read(leaf, _INTENT, index)
                    if since_ms <= time_of(intent.id) < until_ms:
                        pool.begin(index, intent)
                elif b'"kind":"terminal"' in leaf:
                    yield from pool.end(index, _read(leaf, _TERMINAL, index))
                elif b'"subject":"audit"' in leaf:
                    yield from pool.audited(_read(leaf, _AUDIT, index).facts.get("receipt", ""))
        yield from pool.rest()
        self.in_flight, self.halves = pool.in_flight, halves
        if self.size and edge.root() != self.root:
            raise Integrity(
                "the log's leaves are not those that were signed",
                f"got another root at size {self.size} than the checkpoint says",
                "run `allod log verify`: it names what is wrong",
            )

    def lost(self, since_ms: int) -> str | None:
        """Say which requests of a period cannot be yielded, for the log's policy; None if there are none."""
        gone = self.pruned
        if gone is None or since_ms > ms_of(gone.until):
            return None
        return (
            f"{gone.terminals + gone.halves} requests of up to {gone.until} are pruned from the log by its "
            f"policy of {gone.retain_days} days ({gone.policy}): they are counted nowhere here"
        )

    def receipt_file(self, entry: Entry) -> bytes:
        """Return the receipt file of an entry."""
        end = entry.end
        file = self.reader.receipt_file(end.id, end.status, entry.intent_index, entry.terminal_index)
        if file is None:
            raise Integrity(
                f"receipt {end.id} is not under the checkpoint", f"got index {entry.terminal_index}"
            )
        return file

    def entry(self, intent_index: int, terminal_index: int) -> Entry:
        """Read one request by the places of its leaves (raises as ``entries``)."""
        intent = _read(self.reader.leaf(intent_index), _INTENT, intent_index)
        end = _read(self.reader.leaf(terminal_index), _TERMINAL, terminal_index)
        return Entry(
            received_at_ms=time_of(end.id),
            surface=intent.surface,
            intent_index=intent_index,
            terminal_index=terminal_index,
            end=end,
        )


_INTENT = msgspec.json.Decoder(_Intent)
_TERMINAL = msgspec.json.Decoder(Terminal)
_AUDIT = msgspec.json.Decoder(_Audit)


def _read(leaf: bytes, decoder: msgspec.json.Decoder[Any], index: int) -> Any:
    try:
        return decoder.decode(leaf)
    except msgspec.MsgspecError as fault:
        raise Integrity(f"leaf {index} cannot be read", f"got {fault}", "run `allod log verify`") from fault
