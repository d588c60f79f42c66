"""The log as its last published checkpoint has it, read beside whoever writes: what every report is made of.

One pass goes through the log from the first leaf, in memory that grows with the requests in flight and
nothing else. It computes every hash on the way: a pass that comes to its end has read exactly the leaves the
checkpoint was signed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from allod.domain.errors import Integrity, Unavailable
from allod.receipts.checkpoint import open_checkpoint
from allod.receipts.ids import time_of
from allod.receipts.leaves import ms_of
from allod.receipts.merkle import leaf_hash
from allod.receipts.tiles import WIDTH, parse_bundle
from allod.store.cosigned import cosigned_by
from allod.store.home import Home, load_keys
from allod.store.logfiles import LogFiles
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
    """One request that ended: when it came in (UTC ms), its surface, its leaves' places, and its end."""

    received_at_ms: int
    surface: str
    intent_index: int
    terminal_index: int
    end: Terminal


class _Intent(msgspec.Struct, frozen=True):
    id: str
    surface: str


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
        begun: dict[str, tuple[int, str]] = {}
        edge, out = self._files.pruned_edge(), list[bytes]()
        first, halves = edge.size, self.pruned.halves if self.pruned is not None else 0
        for start in range(first, self.size, WIDTH):
            leaves = parse_bundle(self._files.bundle(start, min(start + WIDTH, self.size)))
            edge.extend([leaf_hash(leaf) for leaf in leaves], out)
            out.clear()
            for index, leaf in enumerate(leaves, start):
                if b'"kind":"intent"' in leaf:
                    intent = _read(leaf, _INTENT, index)
                    if since_ms <= time_of(intent.id) < until_ms:
                        begun[intent.id] = index, intent.surface
                elif b'"kind":"terminal"' in leaf:
                    end = _read(leaf, _TERMINAL, index)
                    at = begun.pop(end.id, None)
                    if at is not None:
                        yield Entry(
                            received_at_ms=time_of(end.id),
                            surface=at[1],
                            intent_index=at[0],
                            terminal_index=index,
                            end=end,
                        )
        self.in_flight, self.halves = len(begun), halves
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


def _read(leaf: bytes, decoder: msgspec.json.Decoder[Any], index: int) -> Any:
    try:
        return decoder.decode(leaf)
    except msgspec.MsgspecError as fault:
        raise Integrity(f"leaf {index} cannot be read", f"got {fault}", "run `allod log verify`") from fault
