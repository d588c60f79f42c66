"""From remembered outcomes to weights: tables per task, ridge on words, trees on shape, calibration.

What each sees of a request is different (what task, which words, what form), and their mean is better than
any of them. Calibration and the tables by (task, cluster) are fitted to estimates that had no part of the
label in them: ridge by folds, trees by the rows a tree did not see. Rows are put in the order of their hash,
so that the order of what was told does not matter (I8).
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.routing.calibrate import apply_beta, fit_beta
from allod.routing.features import BUCKETS, SHAPE_SIZE
from allod.routing.ridge import entries, rarity, solve, sparse, subset, times
from allod.routing.trees import UNITS, Forest, grow, means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.routing.features import Features

FOLDS: Final = 5
ALPHA: Final = 0.2
"""Strength of the ridge, over the square root of the number of outcomes."""
TABLE_WORTH: Final = 20.0
"""Outcomes a table's prior is worth."""
TREE_SHARE: Final = 0.7
CONTRAST: Final = 3.0
HINTED: Final = 3
TREE_COLUMNS: Final = SHAPE_SIZE + 2 + 2 * HINTED
"""How many numbers trees see."""
CLUSTERS: Final = 5
CELL_WORTH: Final = 200.0
LOG_TOKENS: Final = math.log1p(1_000_000)
"""Lengths of answers are learned as logarithms, as a share of this one's."""
VALUE_UNITS: Final = 1 << 15
_LEAST_KNOWN: Final = 30


class Prior(msgspec.Struct, frozen=True, kw_only=True):
    """A published or configured score, taken as so many outcomes (its doubt): weak by design.

    Attributes:
        deployment: whose; ``task``: for which, empty for all.
        score: 0..1; ``worth``: pseudo-outcomes, 0.5 to 50.
        source: where it is from, for the reader.

    """

    deployment: str
    task: str = ""
    score: float
    worth: float = 2.0
    source: str = ""


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an estimate is computed from; M deployments, T tasks, arrays of numpy.

    Attributes:
        deployments, tasks: ascending names.
        base: float64 M, overall success; ``table``: float64 (T + 1) x M, success by task (last: any other).
        code: float32 (T + 1) x 2, how hard a task is and how much it tells strong from weak.
        idf: float32 per bucket; ``weights``: int8 bucket x M; ``scale``: float64 M.
        hints: int8 bucket x 2, ``hint_scale``: float64 2, ``hint_table``: float64 (T + 1) x 2: what the ridge
            tells trees, of all deployments together (none in particular).
        forest: trees; its leaves hold M successes, then M lengths.
        calibration: float64 M x 3.
        edges: float64 M x (CLUSTERS - 1); ``cells``: float64 (T + 1) x CLUSTERS x M x 2, outcomes and the
            sum of what calibration left over.
        lengths: float64 M x 2, factors for the mean and the 90 % quantile; ``known``: float64 M, outcomes.

    """

    deployments: tuple[str, ...]
    tasks: tuple[str, ...]
    base: Any
    table: Any
    code: Any
    idf: Any
    weights: Any
    scale: Any
    hints: Any
    hint_scale: Any
    hint_table: Any
    forest: Forest
    calibration: Any
    edges: Any
    cells: Any
    lengths: Any
    known: Any


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes as arrays: requests x deployments, NaN for unknown; ``weigh`` one number per request."""

    features: Sequence[Features]
    deployments: tuple[str, ...]
    quality: Any
    tokens: Any
    weigh: Any


def learn(told: Told, priors: Sequence[Prior] = ()) -> Fitted:
    """Fit everything to outcomes; the same outcomes in any order give the same result."""
    import numpy as np  # noqa: PLC0415 (heavy)

    told = _ordered(np, told)
    known = np.isfinite(told.quality)
    quality = np.where(known, told.quality, 0.0)
    weigh = known * told.weigh[:, None]
    tasks = tuple(sorted({one.task for one in told.features}))
    place = {name: at for at, name in enumerate(tasks)}
    task = np.asarray([place[one.task] for one in told.features], dtype=np.int64)
    start = _prior_table(np, told.deployments, tasks, priors)
    base, table = _table(np, quality, weigh, task, len(tasks), start)
    residual = np.where(known, quality - base, 0.0)
    targets = _targets(np, residual, known, base)
    code = _code(np, targets, task, len(tasks))
    held, weights, idf = _ridge(np, told, quality, weigh, task, start)
    onto = _onto(np, base)
    shapes = _shapes(np, told.features, code[task], (held - base) @ onto)
    min_leaf = max(3, round(math.sqrt(len(quality)) / 3))
    leaves = np.concatenate([np.where(known, quality, np.nan), _log_tokens(np, told.tokens)], 1)
    forest, honest = grow(np, shapes, np.rint(targets * UNITS), leaves, told.weigh, min_leaf)
    count = len(told.deployments)
    score = (1 - TREE_SHARE) * held + TREE_SHARE * honest[:, :count]
    calibration = np.asarray(
        [
            fit_beta(np, score[known[:, m], m], quality[known[:, m], m], weigh[known[:, m], m])
            for m in range(count)
        ]
    ).reshape(count, 3)
    probability = apply_beta(np, score, calibration)
    edges, cells = _cells(np, probability, quality, weigh, task, len(tasks))
    steps, scale = _steps(np, weights)
    hints, hint_scale = _steps(np, weights @ onto)
    return Fitted(
        deployments=told.deployments, tasks=tasks, base=base, table=table, code=code, idf=idf,
        weights=steps, scale=scale, hints=hints, hint_scale=hint_scale, hint_table=(table - base) @ onto,
        forest=forest, calibration=calibration,
        edges=edges, cells=cells, lengths=_lengths(np, told.tokens, honest[:, count:]), known=weigh.sum(0),
    )  # fmt: skip


def _ordered(np: Any, told: Told) -> Told:
    if not told.features:
        return told
    quality, tokens = np.asarray(told.quality, dtype=np.float64), np.asarray(told.tokens, dtype=np.float64)
    weigh = np.asarray(told.weigh, dtype=np.float64)
    names = np.asarray(told.deployments)
    across = np.argsort(names, kind="stable")
    marks = [_mark(one) + quality[at, across].tobytes() for at, one in enumerate(told.features)]
    down = np.asarray(sorted(range(len(marks)), key=marks.__getitem__), dtype=np.int64)
    return Told(
        features=[told.features[at] for at in down],
        deployments=tuple(str(one) for one in names[across]),
        quality=quality[down][:, across],
        tokens=tokens[down][:, across],
        weigh=weigh[down],
    )


def _mark(one: Features) -> bytes:
    return hashlib.blake2b(one.task.encode() + one.buckets + one.counts + one.shape, digest_size=16).digest()


def _prior_table(
    np: Any, deployments: tuple[str, ...], tasks: tuple[str, ...], priors: Sequence[Prior]
) -> Any:
    """Successes and outcomes that priors are taken as: (1 + T) x M x 2, first the ones for all tasks."""
    out = np.zeros((1 + len(tasks), len(deployments), 2))
    out[0] = (0.5, 1.0)
    for one in priors:
        if one.deployment in deployments and (not one.task or one.task in tasks):
            at = 0 if not one.task else 1 + tasks.index(one.task)
            out[at, deployments.index(one.deployment)] += (one.score * one.worth, one.worth)
    return out


def _table(np: Any, quality: Any, weigh: Any, task: Any, tasks: int, start: Any) -> tuple[Any, Any]:
    """Beta means: overall, and by task, where the prior is the overall one plus the task's effect on all."""
    m = quality.shape[1]
    base = ((weigh * quality).sum(0) + start[0, :, 0]) / (weigh.sum(0) + start[0, :, 1])
    good, seen = np.zeros((tasks, m)), np.zeros((tasks, m))
    for at in range(m):
        good[:, at] = np.bincount(task, weigh[:, at] * quality[:, at], tasks)
        seen[:, at] = np.bincount(task, weigh[:, at], tasks)
    effect = (good - seen * base).sum(1) / (seen.sum(1) + TABLE_WORTH)
    before = np.clip(base + effect[:, None], 0.01, 0.99)
    table = (good + TABLE_WORTH * before + start[1:, :, 0]) / (seen + TABLE_WORTH + start[1:, :, 1])
    return base, np.concatenate([table, base[None]])


def _onto(np: Any, base: Any) -> Any:
    """Reduce deployments to two numbers: their mean, and the strong half's less the weak half's (M x 2)."""
    order = np.argsort(base, kind="stable")
    weak, strong = order[: len(order) // 2], order[len(order) // 2 :]
    onto = np.zeros((len(base), 2))
    onto[:, 0] = 1 / len(base)
    onto[strong, 1] = 1 / len(strong)
    onto[weak, 1] = -1 / max(1, len(weak))
    return onto


def _targets(np: Any, residual: Any, known: Any, base: Any) -> Any:
    """Say what trees split by: how well a request went over all deployments, and strong less weak ones."""
    onto = _onto(np, base)
    sides = [onto[:, 0], np.maximum(onto[:, 1], 0), np.maximum(-onto[:, 1], 0)]
    mean, strong, weak = (residual @ one / np.maximum(known @ one, 1e-9) for one in sides)
    return np.stack([mean, CONTRAST * (strong - weak)], 1)


def _code(np: Any, targets: Any, task: Any, tasks: int) -> Any:
    """Tell tasks by their mean targets, shrunk to 0; a task never seen is an average one."""
    seen = np.bincount(task, minlength=tasks) + TABLE_WORTH
    code = np.stack([np.bincount(task, targets[:, at], tasks) / seen for at in range(2)], 1)
    return np.concatenate([code, np.zeros((1, 2))]).astype(np.float32)


def _shapes(np: Any, of: Sequence[Features], code: Any, hints: Any) -> Any:
    """Put together what trees see: shape, the code of the task, and hints of the ridge (several times)."""
    shapes = np.stack([np.frombuffer(one.shape, "<f4") for one in of])
    return np.concatenate([shapes, code, *[hints] * HINTED], 1).astype(np.float32)


def _steps(np: Any, weights: Any) -> tuple[Any, Any]:
    """Round weights to whole steps of 1/127 of each column's greatest."""
    scale = np.maximum(abs(weights).max(0), 1e-12) / 127
    return np.rint(weights / scale).astype(np.int8), scale


def _ridge(np: Any, told: Told, quality: Any, weigh: Any, task: Any, start: Any) -> tuple[Any, Any, Any]:
    """Return held-out estimates (requests x M), final weights (buckets x M) and the rarity of buckets."""
    fold = np.asarray([_mark(one)[0] % FOLDS for one in told.features])
    idf = rarity(np, told.features)
    rows = sparse(np, told.features, idf)
    held = np.zeros(quality.shape)
    for k in range(FOLDS):
        inside, outside = fold != k, fold == k
        if not outside.any():
            continue
        _, table = _table(np, quality, weigh * inside[:, None], task, len(start) - 1, start)
        held[outside] = table[task[outside]]
        if inside.any():
            near, far = subset(np, rows, inside), subset(np, rows, outside)
            weights = _solve(np, near, (quality - table[task])[inside], weigh[inside])
            held[outside] += np.stack([times(np, far, one) for one in weights.T], 1)
    _, table = _table(np, quality, weigh, task, len(start) - 1, start)
    return held, _solve(np, rows, quality - table[task], weigh), idf


def _solve(np: Any, rows: Any, target: Any, weigh: Any) -> Any:
    out = np.zeros((BUCKETS, target.shape[1]))
    for m in range(target.shape[1]):
        known = int((weigh[:, m] > 0).sum())
        if known >= _LEAST_KNOWN:
            out[:, m] = solve(np, rows, target[:, m], weigh[:, m], ALPHA * math.sqrt(known))
    return out


def _log_tokens(np: Any, tokens: Any) -> Any:
    return np.clip(np.log1p(np.maximum(tokens, 0)) / LOG_TOKENS, 0, 1)


def _cells(np: Any, probability: Any, quality: Any, weigh: Any, task: Any, tasks: int) -> tuple[Any, Any]:
    """Count outcomes and what is left over by task and cluster, clusters by fifths of the probability."""
    m = quality.shape[1]
    edges = np.full((m, CLUSTERS - 1), 2.0)
    cells = np.zeros((tasks + 1, CLUSTERS, m, 2))
    for at in range(m):
        known = weigh[:, at] > 0
        if not known.any():
            continue
        edges[at] = np.quantile(probability[known, at], np.arange(1, CLUSTERS) / CLUSTERS)
        cluster = np.searchsorted(edges[at], probability[:, at], side="right")
        flat = task * CLUSTERS + cluster
        left = weigh[:, at] * (quality[:, at] - probability[:, at])
        for place, what in enumerate((weigh[:, at], left)):
            cells[:tasks, :, at, place] = np.bincount(flat, what, tasks * CLUSTERS).reshape(tasks, CLUSTERS)
    cells[tasks] = cells[:tasks].sum(0)
    return edges, cells


def _lengths(np: Any, tokens: Any, honest: Any) -> Any:
    """Factors from the estimated geometric mean to the mean, and to the 90 % quantile, of a length."""
    out = np.tile(np.asarray([1.3, 3.0]), (tokens.shape[1], 1))
    for m in range(tokens.shape[1]):
        known = np.isfinite(tokens[:, m])
        if known.sum() >= _LEAST_KNOWN:
            ratio = np.maximum(tokens[known, m], 1) / np.maximum(np.expm1(honest[known, m] * LOG_TOKENS), 1)
            out[m] = np.clip((ratio.mean(), np.quantile(ratio, 0.9)), 0.1, 100)
    return out


def scores(np: Any, fitted: Fitted, of: Features, columns: Any) -> tuple[Any, Any, int]:
    """Estimate one request at some deployments: probabilities, geometric mean lengths, and the task's row."""
    task = fitted.tasks.index(of.task) if of.task in fitted.tasks else len(fitted.tasks)
    bucket, value = entries(np, of, fitted.idf)
    # whole numbers: the same sum for any columns, in any order, on any machine
    steps = np.rint(value * VALUE_UNITS).astype(np.int64)
    words = (
        steps @ fitted.weights[bucket][:, columns].astype(np.int64) * (fitted.scale[columns] / VALUE_UNITS)
    )
    hints = steps @ fitted.hints[bucket].astype(np.int64) * (fitted.hint_scale / VALUE_UNITS)
    told = (hints + fitted.hint_table[task]).astype(np.float32)
    row = np.concatenate([np.frombuffer(of.shape, "<f4"), fitted.code[task], *[told] * HINTED])
    both = np.concatenate([columns, columns + len(fitted.deployments)])
    leaves = means(np, fitted.forest, row, both)
    n = len(columns)
    score = (1 - TREE_SHARE) * (fitted.table[task, columns] + words) + TREE_SHARE * leaves[:n]
    probability = apply_beta(np, score, fitted.calibration[columns])
    return probability, np.expm1(leaves[n:] * LOG_TOKENS), task


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Estimates of one request, arrays with one number per deployment asked about."""

    success: Any
    low: Any
    high: Any
    tokens: Any
    tokens_high: Any
    known: Any


def estimates(np: Any, fitted: Fitted, of: Features, columns: Any) -> Found:
    """Estimate one request at some deployments (columns of ``fitted``), calibrated by task and cluster."""
    probability, lengths, task = scores(np, fitted, of, columns)
    cluster = (probability[:, None] >= fitted.edges[columns]).sum(1)
    cell = fitted.cells[task, cluster, columns]
    left = cell[:, 1] / (cell[:, 0] + CELL_WORTH)
    p = np.rint(np.clip(probability + left, 0.001, 0.999) * 1e6) / 1e6
    low, high = interval(np, p, cell[:, 0] + 1.0)
    mean, most = (np.maximum(lengths, 1) * fitted.lengths[columns, at] for at in (0, 1))
    return Found(success=p, low=low, high=high, tokens=mean, tokens_high=most, known=fitted.known[columns])


def interval(np: Any, p: Any, n: Any) -> tuple[Any, Any]:
    """Return the 90 % interval of a share p seen in n outcomes (Wilson 1927, doi:10.2307/2276774)."""
    z = 1.6448536
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return np.minimum(p, middle - half), np.maximum(p, middle + half)
