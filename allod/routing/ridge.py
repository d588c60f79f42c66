"""Ridge regression on hashed words, one weight vector per deployment, by conjugate gradients.

Rows are sparse: tf-idf with sublinear counts, words and characters each of length one. The loss is the square
(a Brier score), so that differences of two deployments' estimates are estimates of their difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.routing.features import BUCKETS, WORD_BUCKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.routing.features import Features

STEPS: Final = 24
LEAST_REQUESTS: Final = 2
"""A bucket seen in fewer is not read."""
_ENOUGH: Final = 1e-4


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Sparse rows: ``bucket``, ``value`` and ``row`` of each entry, and the first entry of each row."""

    bucket: Any
    value: Any
    row: Any
    starts: Any

    def __len__(self) -> int:
        return len(self.starts)


def rarity(np: Any, of: Sequence[Features]) -> Any:
    """Weigh each bucket by how few requests have it (inverse document frequency), float32 of ``BUCKETS``."""
    have = np.zeros(BUCKETS)
    for one in of:
        have[np.frombuffer(one.buckets, "<u2")] += 1
    return np.where(have >= LEAST_REQUESTS, np.log((len(of) + 1) / (have + 1)) + 1, 0.0).astype(np.float32)


def entries(np: Any, one: Features, idf: Any) -> tuple[Any, Any]:
    """Return a request's buckets and their tf-idf; words have length one, and so have characters."""
    bucket = np.frombuffer(one.buckets, "<u2").astype(np.int32)
    value = (1 + np.log(np.frombuffer(one.counts, "u1").astype(np.float64))) * idf[bucket]
    words = int(np.searchsorted(bucket, WORD_BUCKETS))
    for part in (slice(0, words), slice(words, None)):
        value[part] /= np.sqrt((value[part] ** 2).sum()) or 1.0
    kept = value > 0
    return bucket[kept], value[kept]


def sparse(np: Any, of: Sequence[Features], idf: Any) -> Rows:
    """Put requests together; one without any known bucket has a single zero."""
    parts = [entries(np, one, idf) for one in of]
    parts = [(b, v) if len(b) else (np.zeros(1, np.int32), np.zeros(1)) for b, v in parts]
    if not parts:
        parts = [(np.zeros(0, np.int32), np.zeros(0))]
    sizes = np.asarray([len(b) for b, _ in parts], dtype=np.int64)
    return Rows(
        bucket=np.concatenate([b for b, _ in parts]),
        value=np.concatenate([v for _, v in parts]),
        row=np.repeat(np.arange(len(parts)), sizes),
        starts=np.concatenate([[0], np.cumsum(sizes)[:-1]]),
    )


def subset(np: Any, rows: Rows, mask: Any) -> Rows:
    """Keep some of the rows."""
    kept = mask[rows.row]
    row = (np.cumsum(mask) - 1)[rows.row[kept]]
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    return Rows(bucket=rows.bucket[kept], value=rows.value[kept], row=row, starts=starts)


def times(np: Any, rows: Rows, weights: Any) -> Any:
    """Multiply rows by one weight vector."""
    return np.add.reduceat(weights[rows.bucket] * rows.value, rows.starts)


def solve(np: Any, rows: Rows, target: Any, weigh: Any, alpha: float) -> Any:
    """Return the weights that minimise sum(weigh * (rows @ w - target)^2) + alpha * |w|^2.

    Sums run in a fixed order in one thread: equal rows give equal bits on one build of numpy.
    """

    def back(left: Any) -> Any:
        return np.bincount(rows.bucket, rows.value * left[rows.row], BUCKETS)

    weights = np.zeros(BUCKETS)
    rest = back(weigh * target)
    way, size = rest.copy(), float((rest**2).sum())
    stop = size * _ENOUGH**2
    for _ in range(STEPS):
        if size <= stop or size == 0:
            break
        pushed = back(weigh * times(np, rows, way)) + alpha * way
        step = size / float((way * pushed).sum())
        weights += step * way
        rest -= step * pushed
        new = float((rest**2).sum())
        way, size = rest + (new / size) * way, new
    return weights
