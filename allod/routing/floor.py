"""The floor with proof: a rule that saves is used only while audits show that it keeps its promise.

Per task and policy there is a ladder of rules, the strictest first. All traffic goes to the reference until
the first rule's lower bound on the paired change of quality clears -e; then that rule is open, and the next
is tested (fixed-sequence testing: each at the full level, none before the one below it passed; Learn then
Test, arXiv:2110.01052). A random share of the task's traffic, drawn by a number handed in and logged, is
audited: answered by the rule and by the reference, and judged. An audit in which both deliver the same
answer is a difference of 0.

Drift closes. Bounds average over the past, so another detector looks at the recent past: a sum of bets
against "the change is at least -e" that starts anew whenever it is down (an e-detector, Shin, Ramdas and
Rinaldo, arXiv:2203.03532; CUSUM form). While the promise holds, it raises at most one false alarm in 1/delta
audits on average. After an alarm the ladder is shut and every bound starts anew, at half the level, so that
all bounds of one rule together are wrong with probability at most alpha. Only new evidence opens a shut rule.

State is a value: it is replayed from the log, in order, to the same bytes, and its digest goes in a receipt.
"""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, date, datetime
from typing import Final, Literal

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.routing.bound import COARSE, GRID, GRIDS, Wealth, empty, lower, merge, observe, possible, refutes

_BETS: Final = (0.1, 0.3, 0.6)
"""Shares of the most a bet against the promise may stake: for slow, faster and sudden losses."""
_AGAINST: Final = 0.5
_FORMATS: Final = {len(COARSE): "allod-floor-1", len(GRID): "allod-floor-2"}
"""By the grid of its bounds: a floor goes on in the format it was begun in."""
_MOST: Final = 10**12
"""Audits and times shut: nobody comes to so many."""
_LAST_MS: Final = 253_402_300_800_000
"""The year 10000, UTC ms."""
_HALVED: Final = 1_000
"""So often a level is halved: no number is smaller by much."""


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised for a task under a policy, and how it is watched.

    Attributes:
        task, policy: what the promise is about.
        ladder: names of rules, strictest (least saving) first.
        loss: e, the most quality lost on average, 0..1.
        alpha: probability that a rule is ever opened that loses more, and that the bound of one rule is ever
            wrong (of two rules shown together: at most twice that).
        share: of the task's traffic that is audited, 0..1.
        false_alarms: expected per audit while the promise is kept.
        least: audits before a rule may open.

    """

    task: str
    policy: str
    ladder: tuple[str, ...]
    loss: float = 0.01
    alpha: float = 0.05
    share: float = 0.03
    false_alarms: float = 0.0002
    least: int = 50

    def __post_init__(self) -> None:
        """Refuse promises that mean nothing.

        Raises:
            Invalid: a number is out of its range, or the ladder is empty or repeats a rule.

        """
        numbers = (0 < self.loss < 1, 0 < self.alpha < 1, 0 < self.share <= 1, 0 < self.false_alarms < 1)
        if not all(numbers) or self.least < 1 or not self.ladder or len(set(self.ladder)) != len(self.ladder):
            raise Invalid(
                f"the floor of task {self.task} is not one",
                f"loss {self.loss}, alpha {self.alpha}, share {self.share}, "
                f"false alarms {self.false_alarms}, ladder {', '.join(self.ladder) or 'empty'}",
                "give numbers between 0 and 1, and rules with different names",
            )


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One rule's evidence since the ladder was last shut: wealth of the bound, and of the drift detector."""

    wealth: Wealth = Wealth()
    against: tuple[float, ...] = (0.0,) * len(_BETS)


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Where a floor stands.

    Attributes:
        rungs: evidence by rule of the ladder.
        open: how many rules of the ladder are open; 0 is "the reference answers".
        shut: how often drift shut the ladder.
        audits: all audits ever; ``at_ms``: the last one, UTC ms.

    """

    rungs: tuple[Rung, ...]
    open: int = 0
    shut: int = 0
    audits: int = 0
    at_ms: int = 0


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What one request does: ``rule`` answers (None: the reference); ``audit``: the other is asked too."""

    rule: str | None
    audit: bool


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """What may be shown of a rule: the bound on its change of quality, from how many audits, and when."""

    rule: str
    open: bool
    change_at_least: float
    mean_change: float
    confidence: float
    audits: int
    day: date | None

    def statement(self, promise: Promise) -> str:
        """Say it in a sentence; never more than the audits show."""
        if not self.audits or self.day is None:
            return f"no audits yet of {self.rule} on {promise.task}: nothing is promised"
        kept = (
            "" if self.change_at_least >= -promise.loss else f", which is more than {promise.loss * 100:g} %"
        )
        return (
            f"with {self.confidence * 100:g} % confidence, {self.rule} loses at most "
            f"{max(0.0, -self.change_at_least) * 100:g} points of quality on {promise.task}{kept} "
            f"({self.audits} audits, {self.day.isoformat()})"
        )


Event = Literal["opened", "shut", "none"]


def start(promise: Promise, like: State | None = None) -> State:
    """Begin at the reference; anew, if ``like`` is what went before, on the grid of that."""
    points = len(GRID) if like is None else len(like.rungs[0].wealth.plug_in)
    return State(rungs=(Rung(wealth=empty(points)),) * len(promise.ladder))


def begun(promise: Promise, version: str) -> State:
    """Begin in the format of a version (``1`` or ``2``), as a log says.

    Raises:
        Invalid: there is no such version.

    """
    points = next((n for n, name in _FORMATS.items() if name == f"allod-floor-{version}"), None)
    if points is None:
        raise Invalid(f"there is no version {version!r} of a floor", "", "use a newer Allod")
    return State(rungs=(Rung(wealth=empty(points)),) * len(promise.ladder))


def version(state: State) -> str:
    """Return the version of the format a state is in."""
    return _FORMATS[len(state.rungs[0].wealth.plug_in)].rsplit("-", 1)[-1]


def turn(promise: Promise, state: State, draw: float) -> Turn:
    """Say who answers and whether it is audited; ``draw`` is uniform in [0, 1) and goes in the log."""
    if not 0.0 <= draw < 1.0:
        raise Invalid(f"a draw is {draw!r}", "it lies in [0, 1)", "draw it anew")
    rule = promise.ladder[state.open - 1] if state.open else None
    return Turn(rule=rule, audit=draw < promise.share)


def audit(promise: Promise, state: State, differences: tuple[float, ...], at_ms: int) -> tuple[State, Event]:
    """Take in one audit: for each rule of the ladder, its quality minus the reference's.

    A rule that delivered the reference's own answer has 0. An audit that could not be judged, or whose
    reference was down, is no audit: it is not taken in, and opens nothing.

    Raises:
        Invalid: not one difference a rule, or one outside [-1, 1].

    """
    if len(differences) != len(promise.ladder):
        raise Invalid(
            f"an audit of task {promise.task} has {len(differences)} differences",
            f"its ladder has {len(promise.ladder)} rules",
            "judge every rule of the ladder",
        )
    level = _level(promise, state)
    rungs = tuple(
        Rung(wealth=observe(rung.wealth, one, level), against=_against(promise, rung.against, one))
        for rung, one in zip(state.rungs, differences, strict=True)
    )
    state = State(
        rungs=rungs, open=state.open, shut=state.shut, audits=state.audits + 1, at_ms=max(at_ms, state.at_ms)
    )
    if state.open and drifts(promise, state):
        return shut(promise, state), "shut"
    opened = _opened(promise, state)
    if opened > state.open:
        return msgspec.structs.replace(state, open=opened), "opened"
    return state, "none"


def shut(promise: Promise, state: State) -> State:
    """Return the state after something that made its evidence worthless: the reference answers."""
    anew = start(promise, state)
    return State(rungs=anew.rungs, shut=state.shut + 1, audits=state.audits, at_ms=state.at_ms)


def join(promise: Promise, *some: State) -> State:
    """Put the evidence of nodes together; what is open is judged anew, and a shut ladder stays shut.

    Only states that were shut equally often can be joined: evidence from before a drift is none. In any
    order it comes to the same bytes; the same node's evidence twice would be counted twice.

    Raises:
        Invalid: they are of different grids, or there is none.

    """
    last = max((one.shut for one in some), default=0)
    some = tuple(one for one in some if one.shut == last)
    if len(some) == 1:
        return some[0]
    rungs = tuple(
        Rung(
            wealth=merge(*(rung.wealth for rung in same)),
            against=tuple(map(max, zip(*(rung.against for rung in same), strict=True))),
        )
        for same in zip(*(one.rungs for one in some), strict=True)
    )
    state = State(
        rungs=rungs, open=min(one.open for one in some), shut=last,
        audits=sum(one.audits for one in some), at_ms=max(one.at_ms for one in some),
    )  # fmt: skip
    return msgspec.structs.replace(state, open=max(state.open, _opened(promise, state)))


def bounds(promise: Promise, state: State) -> tuple[Bound, ...]:
    """Return what may be shown, for each rule of the ladder."""
    level = _level(promise, state)
    day = datetime.fromtimestamp(state.at_ms / 1000, UTC).date() if state.audits else None
    return tuple(
        Bound(
            rule=name,
            open=at < state.open,
            change_at_least=lower(rung.wealth, level),
            mean_change=rung.wealth.total / rung.wealth.n if rung.wealth.n else 0.0,
            confidence=1 - promise.alpha,
            audits=rung.wealth.n,
            day=day,
        )
        for at, (name, rung) in enumerate(zip(promise.ladder, state.rungs, strict=True))
    )


def to_bytes(promise: Promise, state: State) -> bytes:
    """Write promise and state as canonical bytes (sorted keys, shortest floats)."""
    named = _FORMATS[len(state.rungs[0].wealth.plug_in)]
    return msgspec.json.encode({"format": named, "promise": promise, "state": state}, order="deterministic")


def digest(promise: Promise, state: State) -> str:
    """Return ``sha256:`` of the canonical bytes."""
    return "sha256:" + hashlib.sha256(to_bytes(promise, state)).hexdigest()


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    promise: Promise
    state: State


def from_bytes(body: bytes) -> tuple[Promise, State]:
    """Read them back.

    Raises:
        Integrity: these are not the canonical bytes of a floor.

    """
    try:
        kept = msgspec.json.decode(body, type=_Kept)
    except (msgspec.DecodeError, Invalid) as error:
        raise _broken(str(error)) from error
    promise, state = kept.promise, kept.state
    sizes = {len(rung.wealth.plug_in) for rung in state.rungs} | {
        len(rung.wealth.growth) for rung in state.rungs
    }
    sound = (
        len(state.rungs) == len(promise.ladder)
        and len(sizes) == 1
        and sizes <= set(GRIDS)
        and all(len(rung.against) == len(_BETS) for rung in state.rungs)
        and 0 <= state.open <= len(promise.ladder)
        and min(state.shut, state.audits, state.at_ms) >= 0
        and max(state.shut, state.audits) < _MOST
        and state.at_ms < _LAST_MS
        and all(possible(rung.wealth) and rung.wealth.n <= state.audits for rung in state.rungs)
        and all(abs(one) <= rung.wealth.n + 1 for rung in state.rungs for one in rung.against)
    )
    if not sound or to_bytes(promise, state) != body:
        raise _broken("its parts do not fit together, or the bytes are not canonical")
    return promise, state


def _broken(why: str) -> Integrity:
    return Integrity("the state of a floor cannot be read", why, "replay it from the log")


def _level(promise: Promise, state: State) -> float:
    """Spend alpha: half of what is left after each time the ladder was shut."""
    return promise.alpha / 2.0 ** min(state.shut + 1, _HALVED)


def _opened(promise: Promise, state: State) -> int:
    """Count the rules of the ladder that pass, up to the first that does not."""
    level, passed = _level(promise, state), state.open
    while passed < len(state.rungs):
        wealth = state.rungs[passed].wealth
        if wealth.n < promise.least or not refutes(wealth, -promise.loss, level):
            break
        passed += 1
    return passed


def _against(promise: Promise, wealth: tuple[float, ...], difference: float) -> tuple[float, ...]:
    """Bet once more that the change is below -e; a gambler who is down starts anew."""
    most = 1 / (1 + promise.loss)
    gain = -promise.loss - difference
    return tuple(
        max(0.0, one) + math.log1p(bet * most * gain) for one, bet in zip(wealth, _BETS, strict=True)
    )


def drifts(promise: Promise, state: State) -> bool:
    """Say whether any open rule's detector is above its threshold."""
    enough = math.log(len(_BETS) / promise.false_alarms)
    return any(max(rung.against) >= enough for rung in state.rungs[: state.open])
