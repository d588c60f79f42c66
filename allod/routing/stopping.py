"""When to stop asking: gain against cost, learned out of fold, and the order and threshold of each task.

The rule is optimal stopping with one price: after each answer, deliver the likeliest candidate once what the
reference is expected to add is worth less than what it is expected to cost. A threshold is gain per unit of
cost, the unit being the reference's mean cost. Orders and thresholds are picked by how they did out of fold
(the stopping itself then is, too), mostly by what happened and a little by what was expected, which varies
less; the widest threshold is taken that keeps the floor of every task and of all together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from allod.routing.agreement import (
    Array,
    Ints,
    Outcomes,
    Rows,
    Teller,
    by_task,
    fit_teller,
    linear,
    logistic,
    penalty,
    rows_of,
    skills,
)

FOLDS: Final = 5
WIDEST: Final = 0.11
THRESHOLDS: Final = tuple(float(x) for x in np.geomspace(0.012, WIDEST, 16))
"""Gain per unit of cost below which the reference is not asked."""
LEAST_ANSWERS: Final = 2
"""No answer is delivered before another model was asked: alone, nothing would show that it turned bad."""
_SETS_TO_JUDGE: Final = 24
_SETS_TO_GAIN: Final = 24
_LARGEST_SET: Final = 5
_WEIGHT: Final = 4.0
"""What all the random sets of one prompt weigh together, as answers."""
_LEAST_COST: Final = 0.3
"""The reference is never expected to cost less than this share of its mean at the task."""
_VOTE_LEAST: Final = 0.0005
_DEAR: Final = 0.75
"""Skill a model must have more to be worth the cost of one reference."""
_ENOUGH: Final = 1400
"""Prompts from which on the widest threshold and the plain floors are used; with fewer it dares less."""
_HAPPENED: Final = 0.65
"""How much of a change out of fold is what happened; the rest is what was expected, which varies less."""
_DOUBT: Final = 0.15
"""Standard errors by which a task's change is doubted before it is held against its floor."""
_SPLIT: Final = 0.05
"""Right answers are written in two ways where more than this share of pairs of them differ."""
_DEAREST: Final = 0.5
"""Two models that cost this share of the reference cost as much as the reference."""
_LONGEST: Final = 4


@dataclass(frozen=True, eq=False)
class Voter:
    """Chance of each candidate to be right, for any set of models; see ``allod.routing.agreement``."""

    skill: Array
    weights: Array
    tasks: int

    def rows(self, of: Outcomes, told: Array, chosen: Sequence[int]) -> Rows:
        """Describe the candidates of a set of columns."""
        columns = list(chosen)
        reference = columns.index(of.reference) if of.reference in columns else None
        return rows_of(
            of.same[:, columns][:, :, columns],
            of.has[:, columns],
            self.skill[of.task][:, columns],
            told,
            reference,
        )

    def chances(self, of: Outcomes, told: Array, chosen: Sequence[int]) -> Array:
        """Return prompts x set: the chance at the first who says it, -1 for the others."""
        rows = self.rows(of, told, chosen)
        x = by_task(rows.base, of.task[rows.prompt], self.tasks)
        return rows.spread(1 / (1 + np.exp(-np.clip(x @ self.weights, -30, 30))))


@dataclass(frozen=True, eq=False)
class State:
    """What is known after some answers.

    Attributes:
        best: column of the likeliest candidate's first speaker, -1 where nobody answered.
        chance: of the best; ``second`` of the next.
        columns: what gain and cost are read from.

    """

    best: Ints
    chance: Array
    columns: Array


@dataclass(frozen=True, eq=False)
class Judge:
    """All that is learned about states.

    ``gain`` and ``cost`` are weights of linear models, ``mean_cost`` the reference's mean cost by task (last
    row: all), in units; ``vote`` says for which tasks the answers asked before may outvote the reference.
    """

    teller: Teller
    voter: Voter
    gain: Array
    cost: Array
    mean_cost: Array
    vote: tuple[bool, ...]

    def state(self, of: Outcomes, told: Array, chosen: Sequence[int]) -> State:
        """Judge the answers of a set."""
        return state_of(self.voter, of, told, chosen)

    def worth(self, of: Outcomes, state: State) -> tuple[Array, Array]:
        """Return what the reference would add, 0..1, and what it would cost, in units."""
        x = by_task(state.columns, of.task, self.voter.tasks)
        return x @ self.gain, np.maximum(x @ self.cost, _LEAST_COST * self.mean_cost[of.task])

    def after(self, of: Outcomes, told: Array, chosen: Sequence[int]) -> Ints:
        """Return the column delivered once the reference was asked as well."""
        may = np.asarray([*self.vote, False], dtype=bool)[of.task]
        return np.where(may, outvoted(self.voter, of, told, chosen), of.reference)


def state_of(voter: Voter, of: Outcomes, told: Array, chosen: Sequence[int]) -> State:
    """Reduce a set's answers to what decides."""
    chances = voter.chances(of, told, chosen)
    line, place = np.arange(of.size), chances.argmax(1)
    top = np.maximum(chances[line, place], 0.0)
    best = np.where(chances[line, place] >= 0, np.asarray(chosen)[place], -1)
    chances[line, place] = -1.0
    second = np.maximum(chances.max(1), 0.0)
    n = len(chosen)
    columns = np.column_stack([
        np.ones(of.size), top, top**2, second, top * (n > 1), np.full(of.size, float(n > 2)), told,  # noqa: PLR2004
        told * top[:, None],
    ])  # fmt: skip
    return State(best=best.astype(np.int64), chance=top, columns=columns)


def outvoted(voter: Voter, of: Outcomes, told: Array, chosen: Sequence[int]) -> Ints:
    """Return who is delivered if all answers vote: the reference, unless another is likelier to be right."""
    columns = [*chosen, of.reference]
    chances = voter.chances(of, told, columns)
    said = of.same[:, columns, of.reference]
    reference = np.where(said, chances, -1.0).max(1)
    place = chances.argmax(1)
    better = chances[np.arange(of.size), place] > np.maximum(reference, 0.0)
    return np.where(better, np.asarray(columns)[place], of.reference)


def fit_voter(of: Outcomes, told: Array, pool: Sequence[int], seed: int) -> Voter:
    """Fit the chances on random sets of the pool, half of them with the reference."""
    random = np.random.default_rng(seed)
    skill = skills(of)
    tasks = len(of.tasks)
    voter = Voter(skill=skill, weights=np.zeros(0), tasks=tasks)
    xs, ys = [], []
    for turn in range(_SETS_TO_JUDGE):
        chosen = draw(of, pool, random)
        if turn % 2 and of.reference not in chosen:
            chosen.append(of.reference)
        rows = voter.rows(of, told, chosen)
        right = of.quality[:, chosen][rows.prompt, rows.place]
        known = ~np.isnan(right)
        xs.append(by_task(rows.base[known], of.task[rows.prompt[known]], tasks))
        ys.append(right[known])
    x, y = np.concatenate(xs), np.concatenate(ys)
    weights = logistic(x, y, np.full(len(y), _WEIGHT / _SETS_TO_JUDGE), penalty(x.shape[1], tasks, 2.0, 6.0))
    return Voter(skill=skill, weights=weights, tasks=tasks)


def draw(of: Outcomes, pool: Sequence[int], random: np.random.Generator) -> list[int]:
    """Draw a set: one to ``_LARGEST_SET`` models, cheap ones more often."""
    cheap = 1 / (of.cost[:, list(pool)].mean(0) / max(float(of.cost[:, of.reference].mean()), 1e-12) + 0.015)
    size = min(int(random.integers(1, _LARGEST_SET + 1)), len(pool))
    return [
        int(one) for one in random.choice(np.asarray(pool), size=size, replace=False, p=cheap / cheap.sum())
    ]


@dataclass(eq=False)
class Fitted:
    """A judge of each fold that never saw the fold, and one of all."""

    of: Outcomes
    fold: Ints
    told: Array
    folds: list[Judge]
    judge: Judge
    _seen: dict[tuple[int, ...], tuple[Array, Array, Array, Array]] = field(default_factory=dict)

    def states(self, chosen: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
        """Out of fold: expected gain and cost, quality if stopped, quality if the reference is asked."""
        if chosen not in self._seen:
            out = tuple(np.zeros(self.of.size) for _ in range(4))
            for at, judge in enumerate(self.folds):
                rows = np.flatnonzero(self.fold == at)
                part, told = self.of.part(rows), self.told[rows]
                state = judge.state(part, told, chosen)
                gain, cost = judge.worth(part, state)
                stopped = delivered(part, state.best)
                asked = delivered(part, judge.after(part, told, chosen))
                for whole, values in zip(
                    out, (np.where(state.best < 0, 1.0, gain), cost, stopped, asked), strict=True
                ):
                    whole[rows] = values
            self._seen[chosen] = (out[0], out[1], out[2], out[3])
        return self._seen[chosen]


def delivered(of: Outcomes, column: Ints) -> Array:
    """Return the quality of what is delivered; 0 for nothing, the reference's where it is unknown."""
    quality = of.quality[np.arange(of.size), column]
    reference = np.nan_to_num(of.quality[:, of.reference])
    return np.where(column < 0, 0.0, np.where(np.isnan(quality), reference, quality))


def fit(of: Outcomes, pool: Sequence[int], seed: int = 0) -> Fitted:
    """Learn judges: one without each fold, one of all. ``of`` has costs in units; ``pool`` is not empty."""
    fold = _folds(of, seed)
    tellers = [fit_teller(of.part(np.flatnonzero(fold != at))) for at in range(FOLDS)]
    raw = np.zeros((of.size, tellers[0].mean.shape[1]))
    for at, teller in enumerate(tellers):
        rows = np.flatnonzero(fold == at)
        raw[rows] = teller.tell(of.part(rows))
    told, mean, scale = _standards(of, raw)
    teller = fit_teller(of).standardised(mean, scale)
    voters = []
    for at in range(FOLDS):
        rows = np.flatnonzero(fold != at)
        voters.append(fit_voter(of.part(rows), told[rows], pool, seed * 100 + at))
    whole = fit_voter(of, told, pool, seed * 100 + FOLDS)
    vote = _votes(of, told, fold, voters, pool, seed)
    gains = _gains(of, told, fold, voters, pool, vote, seed)
    means = np.asarray([*(of.cost[of.task == at, of.reference].mean() for at in range(len(of.tasks))),
                        of.cost[:, of.reference].mean()])  # fmt: skip
    judges = [
        Judge(teller=teller, voter=voter, gain=gain, cost=cost, mean_cost=means, vote=vote)
        for voter, (gain, cost) in zip([*voters, whole], gains, strict=True)
    ]
    return Fitted(of=of, fold=fold, told=told, folds=judges[:-1], judge=judges[-1])


def _folds(of: Outcomes, seed: int) -> Ints:
    """Deal the prompts of each task out evenly."""
    random = np.random.default_rng(seed)
    fold = np.zeros(of.size, dtype=np.int64)
    for at in range(-1, len(of.tasks)):
        rows = np.flatnonzero(of.task == at)
        fold[random.permutation(rows)] = np.arange(len(rows)) % FOLDS
    return fold


def _standards(of: Outcomes, raw: Array) -> tuple[Array, Array, Array]:
    tasks = max(1, len(of.tasks))
    mean, scale = np.zeros((tasks, raw.shape[1])), np.ones((tasks, raw.shape[1]))
    told = np.zeros_like(raw)
    for at in range(len(of.tasks)):
        rows = of.task == at
        mean[at], scale[at] = raw[rows].mean(0), raw[rows].std(0) + 1e-6
        told[rows] = np.clip((raw[rows] - mean[at]) / scale[at], -4, 4)
    return told, mean, scale


def _votes(
    of: Outcomes, told: Array, fold: Ints, voters: Sequence[Voter], pool: Sequence[int], seed: int
) -> tuple[bool, ...]:
    """Say for each task whether outvoting the reference does no harm, out of fold, over random sets."""
    random = np.random.default_rng(seed + 5)
    total = np.zeros(len(of.tasks))
    turns = 8
    for _ in range(turns):
        chosen = draw(of, pool, random)
        for at, voter in enumerate(voters):
            rows = np.flatnonzero(fold == at)
            part = of.part(rows)
            better = delivered(part, outvoted(voter, part, told[rows], chosen)) - delivered(
                part, np.full(part.size, of.reference)
            )
            for task in range(len(of.tasks)):
                total[task] += better[part.task == task].sum()
    counts = np.asarray([(of.task == task).sum() for task in range(len(of.tasks))])
    return tuple(bool(one > _VOTE_LEAST) for one in total / np.maximum(counts, 1) / turns)


def _gains(
    of: Outcomes,
    told: Array,
    fold: Ints,
    voters: Sequence[Voter],
    pool: Sequence[int],
    vote: tuple[bool, ...],
    seed: int,
) -> list[tuple[Array, Array]]:
    """Fit gain and cost of the reference on random states, without each fold and with all."""
    random = np.random.default_rng(seed + 7)
    may = np.asarray([*vote, False], dtype=bool)
    xs, gains, costs, folds = [], [], [], []
    for _ in range(_SETS_TO_GAIN):
        chosen = draw(of, pool, random)
        for at, voter in enumerate(voters):
            rows = np.flatnonzero(fold == at)
            part = of.part(rows)
            state = state_of(voter, part, told[rows], chosen)
            after = np.where(may[part.task], outvoted(voter, part, told[rows], chosen), of.reference)
            xs.append(by_task(state.columns, part.task, len(of.tasks)))
            gains.append(delivered(part, after) - delivered(part, state.best))
            costs.append(part.cost[:, of.reference])
            folds.append(np.full(part.size, at))
    x, gain, cost, of_fold = map(np.concatenate, (xs, gains, costs, folds))
    ridge = penalty(x.shape[1], len(of.tasks), 2.0, 6.0)
    weight = _WEIGHT / _SETS_TO_GAIN
    keeps = [*(of_fold != at for at in range(FOLDS)), np.ones(len(gain), dtype=bool)]
    return [
        (linear(x[keep], gain[keep], weight, ridge), linear(x[keep], cost[keep], weight, ridge))
        for keep in keeps
    ]


@dataclass(frozen=True)
class Course:
    """What is done at one task: whom to ask in which order, and from which gain per cost on to stop.

    ``saved`` is the share of the reference's cost, ``change`` of quality and its standard ``error``: all out
    of fold, ``change`` as it happened, a little drawn to what was expected.
    """

    order: tuple[int, ...]
    threshold: float
    saved: float
    change: float
    error: float


@dataclass(frozen=True, eq=False)
class Curve:
    """One order at one task under every threshold: sums of money saved and of changed quality, in units."""

    order: tuple[int, ...]
    saved: Array
    change: Array
    error: Array


def curve(fitted: Fitted, task: int, order: tuple[int, ...]) -> Curve:
    """Play an order out of fold under every threshold."""
    of = fitted.of
    rows = np.flatnonzero(of.task == task)
    states = [tuple(one[rows] for one in fitted.states(order[: at + 1])) for at in range(len(order))]
    reference = delivered(of.part(rows), np.full(len(rows), of.reference))
    cost = of.cost[rows]
    saved, change, error = [], [], []
    vote = float((states[-1][3] - reference).mean())
    for threshold in THRESHOLDS:
        live, spent = np.ones(len(rows), dtype=bool), np.zeros(len(rows))
        quality, expected = states[-1][3].copy(), np.full(len(rows), vote)
        for at, (gain, worth, stopped, _) in enumerate(states):
            spent[live] += cost[live, order[at]]
            stop = live & (gain < threshold * worth) & (at + 1 >= LEAST_ANSWERS)
            quality[stop], expected[stop] = stopped[stop], vote - gain[stop]
            live &= ~stop
        spent[live] += cost[live, of.reference]
        happened = quality - reference
        saved.append(cost[:, of.reference].sum() - spent.sum())
        change.append(_HAPPENED * happened.sum() + (1 - _HAPPENED) * expected.sum())
        error.append(happened.std() * np.sqrt(len(rows)))
    return Curve(order=order, saved=np.asarray(saved), change=np.asarray(change), error=np.asarray(error))


def orders(fitted: Fitted, task: int, pool: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the orders tried: the two, three, four models that are best for their cost, cheapest first.

    They are few and nested on purpose: the best of many orders is mostly the luckiest. Where right answers
    are often written in two ways, two equal ones still mean much, but more opinions mislead: only two are
    asked.
    """
    of = fitted.of
    rows = of.task == task
    reference = max(float(of.cost[rows, of.reference].mean()), 1e-12)
    cost = of.cost[rows].mean(0) / reference
    skill = 1 / (1 + np.exp(-fitted.judge.voter.skill[task]))
    able = [one for one in pool if cost[one] < _DEAREST]
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
    until the floors are kept. From few prompts both are stricter, as the choice is less sure.
    """
    of = fitted.of
    every = [
        [curve(fitted, task, order) for order in orders(fitted, task, pool)] for task in range(len(of.tasks))
    ]
    sizes = [int((of.task == task).sum()) for task in range(len(of.tasks))]
    spent = [float(of.cost[of.task == task, of.reference].sum()) for task in range(len(of.tasks))]
    seen = min(1.0, of.size / _ENOUGH)
    floor, task_floor = floor + 0.008 * (1 - seen), task_floor + 0.01 * (1 - seen)
    dared = sum(one <= WIDEST * seen**0.8 * (1 + 1e-9) for one in THRESHOLDS)
    for widest in range(dared - 1, -1, -1):
        picked = [_pick(curves, widest, task_floor * n) for curves, n in zip(every, sizes, strict=True)]
        if sum(float(one[0].change[one[1]]) for one in picked if one) >= floor * of.size:
            return [
                None if one is None else _course(*one, n, money)
                for one, n, money in zip(picked, sizes, spent, strict=True)
            ]
    return [None] * len(of.tasks)


def _course(one: Curve, at: int, n: int, money: float) -> Course:
    return Course(
        order=one.order,
        threshold=THRESHOLDS[at],
        saved=float(one.saved[at]) / money,
        change=float(one.change[at]) / n,
        error=float(one.error[at]) / n,
    )


def _pick(curves: list[Curve], widest: int, least: float) -> tuple[Curve, int] | None:
    """Narrow each order until it keeps the task's floor, and return the one worth most then.

    What a change of quality is worth is what the widest threshold says. None where nothing is saved.
    """
    found: list[tuple[float, Curve, int]] = []
    for one in curves:
        sure = one.change - _DOUBT * one.error
        kept = [at for at in range(widest + 1) if sure[at] >= least and one.saved[at] > 0]
        if kept:
            at = kept[-1]
            found.append((float(one.saved[at] + one.change[at] / WIDEST), one, at))
    if not found:
        return None
    _, best, at = max(found, key=lambda one: one[0])
    return best, at
