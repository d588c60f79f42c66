"""Extremely randomised trees over plain numbers (Geurts et al. 2006, doi:10.1007/s10994-006-6226-1).

Splits are drawn at random and chosen by squared error on a few shared targets; each leaf then holds one mean
per deployment. Every tree sees a share of the rows, so that the others' estimates are honest (out of bag).
Targets are whole numbers: sums are exact, and the same rows give the same trees on every machine.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

TREES: Final = 200
SHARE: Final = 0.6
TRIED: Final = 0.3
MAX_DEPTH: Final = 20
UNITS: Final = 1024
"""Targets of 0..1 are rounded to this many steps."""
_SHRINK: Final = 2.0
_BITS: Final = 2.0**-53


class Forest(msgspec.Struct, frozen=True, kw_only=True):
    """Trees as flat arrays, children numbered from the first node of all.

    Attributes:
        feature: int16 per node, -1 for a leaf; ``threshold``: float32, go left when below.
        left: int32, the left child (the right one is next to it), for a leaf its row in ``leaves``.
        roots: int32, one per tree.
        leaves: uint8, leaf x deployment, means in steps of 1/255.

    """

    feature: Any
    threshold: Any
    left: Any
    roots: Any
    leaves: Any


def uniform(np: Any, seed: int, count: int) -> Any:
    """Numbers in [0, 1) from a counter (splitmix64): the same for the same seed, on every machine."""
    at = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
    at = (at ^ (at >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    at = (at ^ (at >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((at ^ (at >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * _BITS


def grow(
    np: Any, rows: Any, targets: Any, quality: Any, weigh: Any, min_leaf: int, trees: int = TREES
) -> tuple[Forest, Any]:
    """Grow a forest.

    Args:
        np: numpy.
        rows: float32, requests x numbers, finite.
        targets: whole numbers as float64, requests x few, no NaN: what splits are chosen by.
        quality: 0..1 or NaN, requests x deployments: what leaves hold.
        weigh: how much each row counts in the leaves.
        min_leaf, trees: rows a leaf has at least, and how many trees.

    Returns:
        The forest, and estimates of the rows by the trees that did not see them (requests x deployments).

    """
    n = len(rows)
    known = np.isfinite(quality)
    filled = np.where(known, quality, 0.0)
    weighed = known * weigh[:, None]
    filled = filled * weighed
    base = (filled.sum(0) + 0.5) / (weighed.sum(0) + 1.0)
    parts: list[tuple[Any, ...]] = []
    total, votes = np.zeros(quality.shape), np.zeros(n)
    nodes = leaves = 0
    for tree in range(trees):
        order = np.argsort(uniform(np, 2 * tree, n), kind="stable")
        cut = max(1, int(n * SHARE))
        inside, outside = np.sort(order[:cut]), order[cut:]
        feature, threshold, left = _tree(np, rows, targets, inside, 2 * tree + 1, min_leaf)
        count = int((feature < 0).sum())
        at = descend(np, rows, feature, threshold, left, np.zeros(n, dtype=np.int32))
        mine = at[inside]
        values = np.empty((count, quality.shape[1]))
        for m in range(quality.shape[1]):
            seen = np.bincount(mine, weighed[inside, m], count)
            good = np.bincount(mine, filled[inside, m], count)
            values[:, m] = (good + _SHRINK * base[m]) / (seen + _SHRINK)
        steps = np.rint(values * 255).astype(np.uint8)
        total[outside] += steps[at[outside]] / 255.0
        votes[outside] += 1
        parts.append(
            (feature, threshold, left + np.where(feature < 0, leaves, nodes).astype(np.int32), nodes, steps)
        )
        nodes, leaves = nodes + len(feature), leaves + count
    forest = Forest(
        feature=np.concatenate([one[0] for one in parts]),
        threshold=np.concatenate([one[1] for one in parts]),
        left=np.concatenate([one[2] for one in parts]),
        roots=np.asarray([one[3] for one in parts], dtype=np.int32),
        leaves=np.concatenate([one[4] for one in parts]),
    )
    return forest, np.where(votes[:, None] > 0, total / np.maximum(votes, 1)[:, None], base)


def descend(np: Any, rows: Any, feature: Any, threshold: Any, left: Any, at: Any) -> Any:
    """Send each row from its node to its leaf, and return the leaf's number."""
    every = np.arange(len(at))
    for _ in range(MAX_DEPTH + 1):
        f = feature[at]
        inner = f >= 0
        if not inner.any():
            break
        right = rows[every, np.maximum(f, 0)] >= threshold[at]
        at = np.where(inner, left[at] + right, at)
    return left[at]


def means(np: Any, forest: Forest, row: Any, columns: Any) -> Any:
    """Estimate one request: the mean over the trees of these columns of the leaves."""
    at = forest.roots
    while True:
        f = forest.feature[at]
        inner = f >= 0
        if not inner.any():
            break
        at = np.where(inner, forest.left[at] + (row[f] >= forest.threshold[at]), at)
    return forest.leaves[forest.left[at]][:, columns].sum(0, dtype=np.int64) / (255.0 * len(at))


def _tree(np: Any, rows: Any, targets: Any, inside: Any, seed: int, min_leaf: int) -> tuple[Any, Any, Any]:
    tried = max(1, int(rows.shape[1] * TRIED))
    feature: list[int] = [-1]
    threshold: list[float] = [0.0]
    left: list[int] = [0]
    stack = [(inside, 0, 0)]
    drawn = uniform(np, seed, 4096 * 2).reshape(-1)
    cursor, page = 0, 1
    leaf = 0
    while stack:
        idx, node, depth = stack.pop()
        split = None
        if len(idx) >= 2 * min_leaf and depth < MAX_DEPTH:
            need = rows.shape[1] + tried
            if cursor + need > len(drawn):
                drawn, cursor, page = uniform(np, seed + (page << 16), 8192), 0, page + 1
            split = _split(np, rows[idx], targets[idx], drawn[cursor : cursor + need], tried, min_leaf)
            cursor += need
        if split is None:
            left[node] = leaf
            leaf += 1
            continue
        feature[node], threshold[node], goes_left = split
        left[node] = len(feature)
        feature += [-1, -1]
        threshold += [0.0, 0.0]
        left += [0, 0]
        stack.append((idx[~goes_left], left[node] + 1, depth + 1))
        stack.append((idx[goes_left], left[node], depth + 1))
    return (
        np.asarray(feature, dtype=np.int16),
        np.asarray(threshold, dtype=np.float32),
        np.asarray(left, dtype=np.int32),
    )


def _split(
    np: Any, rows: Any, targets: Any, drawn: Any, tried: int, min_leaf: int
) -> tuple[int, float, Any] | None:
    low, high = rows.min(0), rows.max(0)
    order = np.argsort(drawn[: rows.shape[1]], kind="stable")
    chosen = order[(high > low)[order]][:tried]
    if not len(chosen):
        return None
    cuts = (
        low[chosen] + drawn[rows.shape[1] : rows.shape[1] + len(chosen)] * (high[chosen] - low[chosen])
    ).astype(np.float32)
    goes_left = rows[:, chosen] < cuts
    mask = goes_left.T.astype(np.float64)
    n, nl = len(rows), goes_left.sum(0)
    sums, whole = mask @ targets, targets.sum(0)
    fits = (nl >= min_leaf) & (n - nl >= min_leaf)
    if not fits.any():
        return None
    gain = (sums**2).sum(1) / np.maximum(nl, 1) + ((whole - sums) ** 2).sum(1) / np.maximum(n - nl, 1)
    best = int(np.argmax(np.where(fits, gain, -1.0)))
    return int(chosen[best]), float(cuts[best]), goes_left[:, best]
