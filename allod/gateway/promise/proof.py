"""What a promise rests on: this node's audits, those other nodes told of, and what follows from both.

Nodes that serve one promise (one task, law, fleet: one ``policy``) audit apart. What another one told is kept
beside this node's own evidence, the latest of each node only, so that telling it twice changes nothing and
the order of telling does not matter. What decides is made of all of it: the wealths of bounds multiply, a
detector counts where it is highest, and where one node saw a drift, only what was audited after counts.

A rule that was open at an audit of this node stays open until a drift: to this node, its bound together with
what others told is one test that only ever gains or loses by fair bets, and it holds at every look.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Invalid
from allod.routing import floor

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_NODES: Final = 64


class Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What another node told of its own audits.

    Attributes:
        state: its state, and ``of`` the digest of that under the promise it is of.
        digest: of the signed file it came in, where it is found again.

    """

    state: floor.State
    of: str
    digest: str

    @property
    def age(self) -> tuple[int, int, int, str]:
        """Orders what one node told at different times: evidence of a node only grows."""
        return self.state.shut, self.state.audits, self.state.at_ms, self.of


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """A promise with its evidence.

    Attributes:
        promise: what is promised.
        state: what decides: which rules are open, from all evidence.
        own: this node's evidence; None where that is all there is, and ``state`` is it.
        others: what other nodes told, by the name of their log.

    """

    promise: floor.Promise
    state: floor.State
    own: floor.State | None = None
    others: Mapping[str, Told] = {}

    @property
    def mine(self) -> floor.State:
        """This node's evidence."""
        return self.state if self.own is None else self.own

    def audited(self, differences: tuple[int, ...], at_ms: int) -> tuple[Proof, floor.Event]:
        """Take in an audit of this node: for each rule, its quality minus the reference's (-1, 0 or 1)."""
        mine = msgspec.structs.replace(self.mine, open=self.state.open)
        own, event = floor.audit(self.promise, mine, tuple(map(float, differences)), at_ms)
        if self.own is None:
            return msgspec.structs.replace(self, state=own), event
        if event == "shut":
            return self._with(own), "shut"
        said = self._with(msgspec.structs.replace(own, open=self.state.open))
        said = msgspec.structs.replace(said, own=msgspec.structs.replace(own, open=said.state.open))
        return said, "opened" if said.state.open > self.state.open else "none"

    def shut(self) -> Proof:
        """Forget all of it, after something that made it worthless."""
        return self._with(floor.shut(self.promise, self.mine))

    def told(self, origin: str, one: Told) -> Proof:
        """Take in what another node told; nothing changes where as much or more of it is known.

        Raises:
            Invalid: it is not of this ladder or grid, or too many nodes told.

        """
        known = self.others.get(origin)
        if known is not None and known.age >= one.age:
            return self
        if len(one.state.rungs) != len(self.promise.ladder) or _points(one.state) != _points(self.mine):
            raise Invalid(
                "this evidence does not fit this promise",
                "it was begun by another version of Allod",
                "begin the older promise anew",
            )
        if known is None and len(self.others) >= MOST_NODES:
            raise Invalid(f"more than {MOST_NODES} nodes told of one promise", "", "")
        own = self.mine
        if (
            own.shut < one.state.shut
        ):  # it saw a drift that nobody here did: what is known here is from before
            anew = floor.start(self.promise, own)
            own = msgspec.structs.replace(anew, shut=one.state.shut, audits=own.audits, at_ms=own.at_ms)
        return _resting(self.promise, own, {**self.others, origin: one})

    def _with(self, own: floor.State) -> Proof:
        return _resting(self.promise, own, self.others)

    @property
    def digest(self) -> str:
        """``sha256:`` of promise and evidence."""
        if self.own is None:
            return floor.digest(self.promise, self.state)
        said = {
            "others": {name: one.of for name, one in self.others.items()},
            "own": floor.digest(self.promise, self.own),
            "state": floor.digest(self.promise, self.state),
        }
        return "sha256:" + hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()

    def stale(self) -> tuple[str, ...]:
        """Name the nodes whose evidence does not count, because it is from before a drift."""
        return tuple(sorted(n for n, one in self.others.items() if one.state.shut < self.state.shut))


def _resting(promise: floor.Promise, own: floor.State, others: Mapping[str, Told]) -> Proof:
    if not others:
        return Proof(promise=promise, state=own)
    return Proof(promise=promise, state=_together(promise, own, others), own=own, others=others)


def _points(state: floor.State) -> int:
    return len(state.rungs[0].wealth.plug_in)


def _together(promise: floor.Promise, own: floor.State, others: Mapping[str, Told]) -> floor.State:
    """Return what decides; a function of the evidence alone, in whatever order it was told.

    Where any node's detector stands above its threshold, nothing is open until that node tells better.
    """
    found = floor.join(promise, own, *(one.state for one in others.values()))
    open_ = max(found.open, own.open if own.shut == found.shut else 0)
    found = msgspec.structs.replace(found, open=open_)
    return msgspec.structs.replace(found, open=0) if floor.drifts(promise, found) else found
