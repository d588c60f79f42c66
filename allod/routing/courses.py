"""Which course each task takes: whom to ask in which order, when to stop, and when not to begin at all.

A course is an order of models and a threshold: after each answer, what was said so far is delivered once the
reference would add less than threshold x its expected cost (``allod.routing.stopping``). Before each question
a gate says whether going on is expected to save more than it costs; if not, the reference is asked at once.
A gate delivers nothing and spares no check: it costs no quality, only the surplus of a vote.

Courses are picked by how they did out of fold, mostly by what happened and a little by what was expected,
which varies less. Picking by outcomes flatters: orders are few and nested, thresholds are capped, and the
cap narrows with the number of prompts: what a few hundred outcomes say about a threshold is mostly chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from allod.routing.agreement import Array, Bools, Ints, Outcomes
from allod.routing.stopping import FOLDS, Fitted, delivered

WIDEST: Final = 0.118
THRESHOLDS: Final = tuple(float(x) for x in np.geomspace(0.012, WIDEST, 18))
"""Gain per unit of cost below which the reference is not asked."""
LEAST_ANSWERS: Final = 2
"""No answer is delivered before another model was asked: alone, nothing would show that it turned bad."""
_DEAR: Final = 0.75
"""Skill a model must have more to be worth the cost of one reference."""
_ENOUGH: Final = 1280
"""Prompts from which on the widest threshold and the plain floors are used; with fewer it dares less."""
_CAUTION: Final = 2.3
"""Power of the share of enough prompts by which the widest threshold narrows."""
_HAPPENED: Final = 0.85
"""How much of a change out of fold is what happened; the rest is what was expected, which varies less."""
_DOUBT: Final = 0.5
"""Standard errors by which a task's change is doubted before it is held against its floor."""
_UNSEEN: Final = 4.0
"""Answers of another quality that are added to those seen for the error: few seen are not yet none."""
_PRICE: Final = 0.1
"""Change of quality that is worth one unit of cost where orders are compared."""
_SPLIT: Final = 0.05
"""Right answers are written in two ways where more than this share of pairs of them differ."""
_DEAREST: Final = 0.35
"""Two models that cost this share of the reference cost as much as the reference."""
_LONGEST: Final = 4
_ALIKE: Final = 0.6
"""Share of what the best of the pool solves that a model must solve to have a say."""
_GATE_RIDGE: Final = 20.0
_GATE_WORTH: Final = 0.5
"""Share of the loss of quality a gate counts, at the threshold's price, against the money it would save."""


@dataclass(frozen=True, eq=False)
class Course:
    """What is done at one task: whom to ask in which order, and from which gain per cost on to stop.

    ``gates`` are weights, one vector for each question of the order: before asking it, the reference is asked
    at once where ``Seen.ahead`` (``first`` for the first) times them is not above 0.

    ``saved`` is the share of the reference's cost, ``change`` of quality and its standard ``error``: all out
    of fold, ``change`` as it happened, a little drawn to what was expected.
    """

    order: tuple[int, ...]
    threshold: float
    gates: tuple[Array, ...]
    saved: float
    change: float
    error: float

    def hopeless(self, at: int, ahead: Array) -> Bools:
        """Say for which rows the question ``at`` (from 0) is not worth asking."""
        return np.asarray(ahead @ self.gates[at] <= 0, dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class Walk:
    """How a replay went: how many were asked before the reference, whether that was, and what came of it.

    ``spent`` in units; ``quality`` as delivered; ``expected``: the change that was expected.
    """

    asked: Ints
    escalated: Bools
    spent: Array
    quality: Array
    expected: Array


class Replay:
    """One order at one task, replayed out of fold."""

    def __init__(self, fitted: Fitted, task: int, order: tuple[int, ...]) -> None:
        of = fitted.of
        self.order = order
        self.rows = np.flatnonzero(of.task == task)
        self._fold = fitted.fold[self.rows]
        self._seen = [fitted.states(order[: at + 1]).part(self.rows) for at in range(len(order))]
        self._ahead = [first(fitted.told[self.rows]), *(one.ahead for one in self._seen[:-1])]
        self._cost = of.cost[self.rows][:, order]
        self.dear = of.cost[self.rows, of.reference]
        self.reference = delivered(of.part(self.rows), np.full(len(self.rows), of.reference))

    def stops(self, threshold: float) -> list[Bools]:
        """Say after each question which rows stop."""
        return [
            (one.gain < threshold * one.cost) & (at + 1 >= LEAST_ANSWERS) for at, one in enumerate(self._seen)
        ]

    def gates(self, threshold: float) -> tuple[tuple[Array, ...], list[Bools]]:
        """Fit the gates backwards; return their weights, and out of fold where each lets go on."""
        stops, n = self.stops(threshold), len(self.rows)
        live = [np.ones(n, dtype=bool)]
        for stop in stops[:-1]:
            live.append(live[-1] & ~stop)
        weights: list[Array] = []
        goes: list[Bools] = []
        later = np.zeros(n)
        for at in range(len(self.order) - 1, -1, -1):
            worth = self.dear - _GATE_WORTH * self._seen[at].gain / threshold
            ahead = np.where(stops[at], worth, later) - self._cost[:, at]
            x, weigh = self._ahead[at], live[at].astype(float)
            go = np.zeros(n, dtype=bool)
            for fold in range(FOLDS):
                own = self._fold == fold
                go[own] = x[own] @ _ridge(x[~own], ahead[~own], weigh[~own]) > 0
            weights.insert(0, _ridge(x, ahead, weigh))
            goes.insert(0, go)
            later = np.where(go, ahead, 0.0)
        return tuple(weights), goes

    def walk(self, threshold: float, goes: Sequence[Bools]) -> Walk:
        """Play the order under a threshold."""
        n, last = len(self.rows), self._seen[-1]
        vote = [0.0, *(float((one.asked - self.reference).mean()) for one in self._seen)]
        live, spent = np.ones(n, dtype=bool), np.zeros(n)
        asked, escalated = np.zeros(n, dtype=np.int64), np.ones(n, dtype=bool)
        quality, expected = last.asked.copy(), np.full(n, vote[-1])
        for at, (one, go, stop) in enumerate(zip(self._seen, goes, self.stops(threshold), strict=True)):
            out = live & ~go
            quality[out] = self.reference[out] if at == 0 else self._seen[at - 1].asked[out]
            expected[out] = vote[at]
            live &= go
            spent[live] += self._cost[live, at]
            asked[live] += 1
            done = live & stop
            quality[done], expected[done] = one.stopped[done], vote[-1] - one.gain[done]
            escalated[done] = False
            live &= ~done
        spent[escalated] += self.dear[escalated]
        return Walk(asked=asked, escalated=escalated, spent=spent, quality=quality, expected=expected)


def first(told: Array) -> Array:
    """Return what the gate before the first question reads: prompts x columns."""
    return np.column_stack([np.ones(len(told)), told])


def _ridge(x: Array, y: Array, weigh: Array) -> Array:
    held = np.full(x.shape[1], _GATE_RIDGE)
    held[0] = _GATE_RIDGE / 1000
    weighed = (x * weigh[:, None]).T
    return np.asarray(np.linalg.solve(weighed @ x + np.diag(held), weighed @ y), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Curve:
    """One order at one task under every threshold: sums of money saved and of changed quality, in units."""

    replay: Replay
    saved: Array
    change: Array
    error: Array


def curve(fitted: Fitted, task: int, order: tuple[int, ...]) -> Curve:
    """Play an order out of fold under every threshold."""
    replay = Replay(fitted, task, order)
    saved, change, error = [], [], []
    for threshold in THRESHOLDS:
        walk = replay.walk(threshold, replay.gates(threshold)[1])
        happened = walk.quality - replay.reference
        saved.append(replay.dear.sum() - walk.spent.sum())
        change.append(_HAPPENED * happened.sum() + (1 - _HAPPENED) * walk.expected.sum())
        error.append(np.sqrt(happened.var() * len(happened) + _UNSEEN))
    return Curve(replay=replay, saved=np.asarray(saved), change=np.asarray(change), error=np.asarray(error))


def orders(fitted: Fitted, task: int, pool: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the orders tried: the two, three, four models that are best for their cost, cheapest first.

    They are few and nested on purpose: the best of many orders is mostly the luckiest. Much weaker models
    have no say: where they agree, they often agree on an error. Where right answers are often written in two
    ways, two equal ones still mean much, but more opinions mislead: only two are asked.
    """
    of = fitted.of
    rows = of.task == task
    reference = max(float(of.cost[rows, of.reference].mean()), 1e-12)
    cost = of.cost[rows].mean(0) / reference
    skill = 1 / (1 + np.exp(-fitted.judge.voter.skill[task]))
    able = [one for one in pool if cost[one] < _DEAREST]
    best = max((float(skill[one]) for one in able), default=0.0)
    able = [one for one in able if skill[one] >= _ALIKE * best]
    able = sorted(able, key=lambda one: (-(skill[one] - _DEAR * cost[one]), one))[:_LONGEST]
    most = LEAST_ANSWERS if split(of.part(np.flatnonzero(rows)), pool) > _SPLIT else len(able)
    sizes = range(LEAST_ANSWERS, min(most, len(able)) + 1)
    return [tuple(sorted(able[:n], key=lambda one: (cost[one], one))) for n in sizes]


def split(of: Outcomes, pool: Sequence[int]) -> float:
    """Return the share of pairs of right answers to a prompt whose keys differ."""
    columns = list(pool)
    right = (np.nan_to_num(of.quality[:, columns]) > 0.5) & of.has[:, columns]  # noqa: PLR2004 (half right)
    pairs = right[:, :, None] & right[:, None, :] & ~np.eye(len(columns), dtype=bool)
    equal = pairs & of.same[:, columns][:, :, columns]
    return 1 - float(equal.sum()) / float(max(1, pairs.sum()))


def courses(fitted: Fitted, pool: Sequence[int], floor: float, task_floor: float) -> list[Course | None]:
    """Choose each task's course; None where the reference alone keeps the floor.

    ``floor`` and ``task_floor`` are the least mean change of quality out of fold, of all prompts and of each
    task. No threshold is wider than ``WIDEST``, however well it did out of fold; all are narrowed together
    until the floors are kept. From few prompts the threshold and the floor of a task are stricter.
    """
    of = fitted.of
    every = [
        [curve(fitted, task, order) for order in orders(fitted, task, pool)] for task in range(len(of.tasks))
    ]
    sizes = [int((of.task == task).sum()) for task in range(len(of.tasks))]
    seen = min(1.0, of.size / _ENOUGH)
    task_floor += 0.005 * (1 - seen)
    dared = sum(one <= WIDEST * seen**_CAUTION * (1 + 1e-9) for one in THRESHOLDS)
    for widest in range(dared - 1, -1, -1):
        picked = [_pick(curves, widest, task_floor * n) for curves, n in zip(every, sizes, strict=True)]
        if sum(float(one[0].change[one[1]]) for one in picked if one) >= floor * of.size:
            return [None if one is None else _course(*one) for one in picked]
    return [None] * len(of.tasks)


def _course(one: Curve, at: int) -> Course:
    n, threshold = len(one.replay.rows), THRESHOLDS[at]
    return Course(
        order=one.replay.order,
        threshold=threshold,
        gates=one.replay.gates(threshold)[0],
        saved=float(one.saved[at] / one.replay.dear.sum()),
        change=float(one.change[at]) / n,
        error=float(one.error[at]) / n,
    )


def _pick(curves: list[Curve], widest: int, least: float) -> tuple[Curve, int] | None:
    """Narrow each order until it keeps the task's floor, and return the one worth most then.

    Of two as good the surer one is taken: a change counts less its standard error. None where nothing is
    saved.
    """
    found: list[tuple[float, Curve, int]] = []
    for one in curves:
        sure = one.change - _DOUBT * one.error
        kept = [at for at in range(widest + 1) if sure[at] >= least and one.saved[at] > 0]
        if kept:
            at = kept[-1]
            found.append((float(one.saved[at] + (one.change[at] - one.error[at]) / _PRICE), one, at))
    if not found:
        return None
    _, best, at = max(found, key=lambda one: one[0])
    return best, at
