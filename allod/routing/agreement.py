"""What several answers say together: how likely each is right, and what asking the reference would add.

For any set of answers of one request, equal answers form one candidate. A logistic model gives each
candidate its chance to be right, from the skill of those who say it, of those who say something else, how
many there are, and what the prompt tells (its expected difficulty, how far models agree on prompts like it,
how the reference fares and what it costs: kernel ridge on hashed words). The model knows deployments only
by their measured skill at the task, so that a few hundred outcomes are enough, and sets it never saw are
judged too; it is fitted on random sets. A second, linear model on the same kind of states tells how much
quality the reference would add, and what it would cost. Nothing here is random but by the given seed.

Numbers are arrays of prompts x models; a key is the hash of a normalised final answer, empty for none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from allod.routing.features import Asked, features

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WIDTH: Final = 4096
"""Columns hashed words are folded into."""
TOLD: Final = 4
"""Numbers told by the prompt: difficulty, agreement, the reference's success, log of its cost."""
_SHAPE_WEIGHT: Final = 2.0
_WORD_WEIGHT: Final = 3.0
_RIDGE: Final = 8.0
_LEAST_TASK: Final = 60
"""A task with fewer prompts has no weights of its own."""
_PRIOR_ANSWERS: Final = 4.0


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Outcomes to learn from.

    Attributes:
        task: number of each prompt's task, -1 for one without weights of its own.
        tasks: names by number.
        quality: prompts x models, 0..1, NaN where unknown; equal keys share their mean.
        cost: prompts x models, USD a request, finite; ``has``: there is an answer.
        same: prompts x models x models, two answers are equal.
        words, shape: what is read of the prompts.
        reference: column of the reference.

    """

    task: Ints
    tasks: tuple[str, ...]
    quality: Array
    cost: Array
    has: Bools
    same: Bools
    words: Array
    shape: Array
    reference: int

    def part(self, rows: Ints) -> Outcomes:
        """Return some of the prompts."""
        return Outcomes(
            task=self.task[rows], tasks=self.tasks, quality=self.quality[rows], cost=self.cost[rows],
            has=self.has[rows], same=self.same[rows], words=self.words[rows], shape=self.shape[rows],
            reference=self.reference,
        )  # fmt: skip

    @property
    def size(self) -> int:
        """How many prompts there are."""
        return len(self.task)


def outcomes(
    prompts: Sequence[tuple[str, str]],
    quality: Array,
    cost: Array,
    keys: Sequence[Sequence[str]],
    reference: int,
) -> Outcomes:
    """Prepare outcomes; ``prompts`` are (task, text).

    A missing cost is taken as the mean of the model's others (of all costs where it has none); an answer
    without key never equals another.
    """
    names = sorted({task for task, _ in prompts})
    enough = tuple(name for name in names if sum(task == name for task, _ in prompts) >= _LEAST_TASK)
    number = {name: at for at, name in enumerate(enough)}
    has = np.asarray([[bool(key) for key in row] for row in keys], dtype=bool).reshape(quality.shape)
    same = np.zeros((*quality.shape, quality.shape[1]), dtype=bool)
    for at, row in enumerate(keys):
        line = np.asarray(row, dtype=object)
        same[at] = (line[:, None] == line[None, :]) & has[at][:, None] & has[at][None, :]
    read = [read_prompt(task, text) for task, text in prompts]
    return Outcomes(
        task=np.asarray([number.get(task, -1) for task, _ in prompts], dtype=np.int64),
        tasks=enough,
        quality=_shared(quality, same),
        cost=_filled(cost),
        has=has,
        same=same,
        words=np.asarray([one[0] for one in read]).reshape(len(read), WIDTH),
        shape=np.asarray([one[1] for one in read]).reshape(len(read), -1),
        reference=reference,
    )


def _shared(quality: Array, same: Bools) -> Array:
    known = ~np.isnan(quality)
    total = np.einsum("nab,nb->na", same, np.where(known, quality, 0.0))
    count = np.einsum("nab,nb->na", same, known.astype(float))
    return np.where(count > 0, total / np.maximum(count, 1), quality)


def _filled(cost: Array) -> Array:
    known = np.isfinite(cost)
    count = known.sum(0)
    all_mean = float(cost[known].mean()) if known.any() else 0.0
    mean = np.where(count > 0, np.where(known, cost, 0.0).sum(0) / np.maximum(count, 1), all_mean)
    return np.where(known, cost, mean[None, :])


def read_prompt(task: str, text: str) -> tuple[Array, Array]:
    """Read a prompt: log counts of hashed words and characters (``WIDTH`` columns), and its shape."""
    read = features(Asked(text=text, task=task))
    buckets = np.frombuffer(read.buckets, dtype="<u2").astype(np.int64)
    counts = np.frombuffer(read.counts, dtype="u1").astype(float)
    row = np.bincount(buckets % WIDTH, weights=np.log1p(counts), minlength=WIDTH)
    return np.asarray(row, dtype=np.float64), np.frombuffer(read.shape, dtype="<f4").astype(np.float64)


@dataclass(frozen=True, eq=False)
class Teller:
    """Tells of a prompt what is expected before anything is asked: ``TOLD`` numbers, standardised by task."""

    rarity: Array
    middle: Array
    spread: Array
    base: Array
    words: Array
    shape: Array
    mean: Array
    scale: Array

    def tell(self, of: Outcomes) -> Array:
        """Return prompts x ``TOLD``; zeros for a task without weights of its own."""
        out = np.zeros((of.size, TOLD))
        words = _scaled_words(of.words, self.rarity)
        for at in range(len(of.tasks)):
            rows = np.flatnonzero(of.task == at)
            if len(rows):
                shape = np.clip((of.shape[rows] - self.middle[at]) / self.spread[at], -4, 4)
                raw = self.base[at] + words[rows] @ self.words[at] + shape @ self.shape[at]
                out[rows] = np.clip((raw - self.mean[at]) / self.scale[at], -4, 4)
        return out

    def standardised(self, mean: Array, scale: Array) -> Teller:
        """Return the same with other standards."""
        return Teller(
            rarity=self.rarity, middle=self.middle, spread=self.spread, base=self.base, words=self.words,
            shape=self.shape, mean=mean, scale=scale,
        )  # fmt: skip


def _scaled_words(words: Array, rarity: Array) -> Array:
    scaled = words * rarity
    return np.asarray(scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-9))


def fit_teller(of: Outcomes) -> Teller:
    """Fit kernel ridge by task, in its primal form, to what the prompts' outcomes were."""
    target, known = _targets(of)
    rarity = np.log((1 + of.size) / (1 + (of.words > 0).sum(0)))
    words = _scaled_words(of.words, rarity)
    tasks, shapes = max(1, len(of.tasks)), of.shape.shape[1]
    middle, spread = np.zeros((tasks, shapes)), np.ones((tasks, shapes))
    base, word_weights = np.zeros((tasks, TOLD)), np.zeros((tasks, WIDTH, TOLD))
    shape_weights = np.zeros((tasks, shapes, TOLD))
    for at in range(len(of.tasks)):
        rows = np.flatnonzero((of.task == at) & known)
        if len(rows) < 2:  # noqa: PLR2004 (nothing to learn from)
            continue
        middle[at], spread[at] = of.shape[rows].mean(0), of.shape[rows].std(0) + 1e-6
        shape = np.clip((of.shape[rows] - middle[at]) / spread[at], -4, 4)
        base[at] = target[rows].mean(0)
        share = _SHAPE_WEIGHT / shapes
        kernel = _WORD_WEIGHT * words[rows] @ words[rows].T + share * shape @ shape.T
        dual = np.linalg.solve(kernel + _RIDGE * np.eye(len(rows)), target[rows] - base[at])
        word_weights[at] = _WORD_WEIGHT * words[rows].T @ dual
        shape_weights[at] = share * shape.T @ dual
    return Teller(
        rarity=rarity, middle=middle, spread=spread, base=base, words=word_weights, shape=shape_weights,
        mean=np.zeros((tasks, TOLD)), scale=np.ones((tasks, TOLD)),
    )  # fmt: skip


def _targets(of: Outcomes) -> tuple[Array, Bools]:
    known = ~np.isnan(of.quality)
    mean = np.where(known, of.quality, 0.0).sum(1) / np.maximum(known.sum(1), 1)
    reference = np.where(known[:, of.reference], of.quality[:, of.reference], mean)
    cost = np.log(np.maximum(of.cost[:, of.reference], 1e-9))
    agree = of.same.mean((1, 2))
    return np.column_stack([mean, agree, reference, cost]), np.asarray(known.any(1), dtype=np.bool_)


def skills(of: Outcomes) -> Array:
    """Log odds of success, tasks x models (last row: all tasks), shrunk to the mean of the task."""
    known = ~np.isnan(of.quality)
    right = np.where(known, of.quality, 0.0)
    out = np.zeros((len(of.tasks) + 1, right.shape[1]))
    for at in range(-1, len(of.tasks)):
        rows = (of.task == at) if at >= 0 else np.ones(of.size, dtype=bool)
        n = known[rows].sum(0)
        mean = right[rows].sum() / max(1, int(n.sum()))
        share = (right[rows].sum(0) + _PRIOR_ANSWERS * mean) / np.maximum(n + _PRIOR_ANSWERS, 1e-9)
        share = np.clip(share, 0.01, 0.99)
        out[at] = np.log(share / (1 - share))
    return out


@dataclass(frozen=True, eq=False)
class Rows:
    """Candidates of some prompts for one set of models: features, and where each stands."""

    base: Array
    prompt: Ints
    place: Ints
    shape: tuple[int, int]

    def spread(self, values: Array) -> Array:
        """Return prompts x models of the set: the value at the first who says it, -1 elsewhere."""
        out = np.full(self.shape, -1.0)
        out[self.prompt, self.place] = values
        return out


def rows_of(same: Bools, has: Bools, skill: Array, told: Array, reference: int | None) -> Rows:
    """Describe the candidates of one set.

    ``same`` is prompts x set x set, ``has`` and ``skill`` are prompts x set.

    ``reference`` is its place in the set, None where it was not asked.
    """
    n, s = has.shape
    first = has.copy()
    for at in range(1, s):
        first[:, at] &= ~same[:, at, :at].any(1)
    weight = np.einsum("nab,nb->na", same, skill) * first
    size = (same.sum(2) * first).astype(float)
    prompt, place = np.nonzero(first)
    line = np.arange(len(prompt))
    own, own_size = weight[prompt, place], size[prompt, place]
    rivals, rival_sizes = np.where(first, weight, -np.inf)[prompt], size[prompt]
    rivals[line, place], rival_sizes[line, place] = -np.inf, 0.0
    rival = rivals.max(1) if s else np.zeros(len(line))
    said = has[prompt].sum(1).astype(float)
    mine = same[prompt, place]
    best = np.where(mine, skill[prompt], -np.inf).max(1) if s else np.zeros(len(line))
    against = np.where(has[prompt] & ~mine, skill[prompt], -np.inf).max(1) if s else np.zeros(len(line))
    several = own_size > 1
    with_reference = np.zeros(len(line))
    if reference is not None:
        with_reference = np.where(same[prompt, place, reference], 1.0, -1.0)
    tell = told[prompt]
    base = np.column_stack([
        np.ones(len(line)), own, (has * skill).sum(1)[prompt] - own, best, _finite(against), own_size - 1,
        said - own_size, _finite(rival), rival_sizes.max(1) if s else np.zeros(len(line)),
        (own_size == said) & (said > 1), said == 1, np.log(np.maximum(own_size, 1)), own * several,
        with_reference, tell, tell * several[:, None],
    ])  # fmt: skip
    return Rows(base=base, prompt=prompt, place=place, shape=(n, s))


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, 0.0)


def by_task(base: Array, task: Ints, tasks: int) -> Array:
    """Give each task its own weights beside the shared ones (shrunk to them by the penalty)."""
    return np.concatenate([base, *(base * (task == at)[:, None] for at in range(tasks))], axis=1)


def penalty(columns: int, tasks: int, shared: float, own: float) -> Array:
    """Return the ridge penalty of such weights; constants are hardly held back."""
    each = columns // (tasks + 1)
    out = np.full(columns, own)
    out[:each] = shared
    out[::each] = 0.5
    out[0] = 0.01
    return out


def logistic(x: Array, y: Array, weight: Array, ridge: Array) -> Array:
    """Fit a logistic regression by Newton's method; ``y`` may lie between 0 and 1."""
    w = np.zeros(x.shape[1])
    for _ in range(12):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (weight * (p - y)) + ridge * w
        hessian = (x * (weight * p * (1 - p) + 1e-9)[:, None]).T @ x
        hessian[np.diag_indices_from(hessian)] += ridge
        move = np.linalg.solve(hessian, gradient)
        w -= move
        if np.abs(move).max(initial=0.0) < 1e-3:  # noqa: PLR2004
            break
    return w


def linear(x: Array, y: Array, weight: float, ridge: Array) -> Array:
    """Fit a ridge regression."""
    return np.asarray(np.linalg.solve(weight * x.T @ x + np.diag(ridge), weight * x.T @ y), dtype=np.float64)


def digest(*arrays: Array) -> str:
    """Return ``sha256:`` over arrays, rounded so that the last bits of an addition do not matter."""
    spread = hashlib.sha256()
    for one in arrays:
        spread.update(np.round(one, 9).astype("<f8").tobytes())
    return "sha256:" + spread.hexdigest()
