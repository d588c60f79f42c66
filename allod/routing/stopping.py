"""When to stop asking: what the reference would add, for what cost, learned out of fold.

The rule is optimal stopping with one price: after each answer, deliver the likeliest candidate once what the
reference is expected to add is worth less than what it is expected to cost. A threshold is gain per unit of
cost, the unit being the reference's mean cost. Which order and which threshold a task gets is decided by
``allod.routing.courses``, from the same states out of fold.
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
_SETS_TO_JUDGE: Final = 24
_SETS_TO_GAIN: Final = 24
_LARGEST_SET: Final = 5
_WEIGHT: Final = 4.0
"""What all the random sets of one prompt weigh together, as answers."""
_GAIN_WEIGHT: Final = 4.0
_LEAST_COST: Final = 0.3
"""The reference is never expected to cost less than this share of its mean at the task."""
_VOTE_LEAST: Final = 0.0005


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
    second: Array
    columns: Array

    def ahead(self, gain: Array, told: Array) -> Array:
        """Return what is read to tell whether asking on is worth its cost: prompts x columns."""
        return np.column_stack([
            np.ones(len(gain)), self.chance, self.chance**2, self.second, gain, told,
        ])  # fmt: skip


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
        """Return what the reference would add (all, where nobody answered), and its cost in units."""
        x = by_task(state.columns, of.task, self.voter.tasks)
        gain = np.where(state.best < 0, 1.0, x @ self.gain)
        return gain, np.maximum(x @ self.cost, _LEAST_COST * self.mean_cost[of.task])

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
    return State(best=best.astype(np.int64), chance=top, second=second, columns=columns)


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


@dataclass(frozen=True, eq=False)
class Seen:
    """States of prompts, out of fold.

    ``gain`` and ``cost`` of the reference as expected, quality if ``stopped`` and if the reference is
    ``asked``, and ``ahead``: see ``State.ahead``.
    """

    gain: Array
    cost: Array
    stopped: Array
    asked: Array
    ahead: Array

    def part(self, rows: Ints) -> Seen:
        """Return some of the prompts."""
        return Seen(
            gain=self.gain[rows], cost=self.cost[rows], stopped=self.stopped[rows], asked=self.asked[rows],
            ahead=self.ahead[rows],
        )  # fmt: skip


@dataclass(eq=False)
class Fitted:
    """A judge of each fold that never saw the fold, and one of all."""

    of: Outcomes
    fold: Ints
    told: Array
    folds: list[Judge]
    judge: Judge
    _seen: dict[tuple[int, ...], Seen] = field(default_factory=dict)

    def states(self, chosen: tuple[int, ...]) -> Seen:
        """Judge a set of answers out of fold."""
        if chosen not in self._seen:
            places, parts = [], []
            for at, judge in enumerate(self.folds):
                rows = np.flatnonzero(self.fold == at)
                places.append(rows)
                parts.append(_seen(judge, self.of.part(rows), self.told[rows], chosen))
            whole = np.argsort(np.concatenate(places), kind="stable")
            self._seen[chosen] = Seen(
                **{
                    name: np.concatenate([getattr(one, name) for one in parts])[whole]
                    for name in ("gain", "cost", "stopped", "asked", "ahead")
                }
            )
        return self._seen[chosen]


def _seen(judge: Judge, of: Outcomes, told: Array, chosen: tuple[int, ...]) -> Seen:
    state = judge.state(of, told, chosen)
    gain, cost = judge.worth(of, state)
    return Seen(
        gain=gain,
        cost=cost,
        stopped=delivered(of, state.best),
        asked=delivered(of, judge.after(of, told, chosen)),
        ahead=state.ahead(gain, told),
    )


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
    weight = _GAIN_WEIGHT / _SETS_TO_GAIN
    keeps = [*(of_fold != at for at in range(FOLDS)), np.ones(len(gain), dtype=bool)]
    return [
        (linear(x[keep], gain[keep], weight, ridge), linear(x[keep], cost[keep], weight, ridge))
        for keep in keeps
    ]
