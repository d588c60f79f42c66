"""Estimates of one request at every lawful deployment: probability of success and length of the answer.

An ``Estimator`` is evidence (a sample of outcomes that nodes can join), what was fitted to it, and how
outcomes told since then differ from what was estimated, by deployment, task and day. The evidence is a
function of the set of outcomes told (I8); what is fitted is a function of the evidence at that moment, so
fitting belongs into the log like any other decision; what has changed since is summed in whole numbers,
in any order. Every record keeps the estimates it was decided with, so that a replay needs none of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.receipts.commitment import digest as digest_of
from allod.routing.evidence import DAY_MS, UNITS, Evidence, Seen
from allod.routing.fitted import read_fitted, write_fitted
from allod.routing.learn import Fitted, Prior, Told, estimates, interval, learn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from allod.routing.evidence import Key, Remembered
    from allod.routing.features import Features

__all__ = ["Estimate", "Estimator", "Prior", "Seen"]

FORMAT: Final = "allod-estimator-1"
PARTS: Final = 1_000_000
"""Estimates are kept in millionths where they are summed up."""
RECENT_HALF_LIFE_DAYS: Final = 3
RECENT_WORTH: Final = 15.0
"""So many outcomes as estimated hold against the ones told since the fit."""
RECENT_DAYS: Final = 60
UNKNOWN_TOKENS: Final = 512.0
UNKNOWN_TOKENS_HIGH: Final = 4096.0
"""Length of an answer where nothing was told (``routing.question``'s assumption and limit)."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What is expected of one deployment for one request.

    Attributes:
        success: calibrated probability of success, 0..1.
        low, high: 90 % interval of that probability, from the outcomes of its task and cluster: what more
            evidence could still move it by, not how this one answer will be.
        output_tokens: expected length of the answer; ``output_tokens_high``: its 90 % quantile.
        n: outcomes behind it, each weighed by its age (0: prior alone).

    """

    success: float
    low: float
    high: float
    output_tokens: float
    output_tokens_high: float
    n: float


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    evidence: bytes
    fitted: bytes | None
    fitted_on: tuple[tuple[str, int], ...]
    priors: tuple[Prior, ...]


class Estimator:
    """Estimates per deployment; what it learned is mergeable and canonical (I8).

    Args:
        evidence: what is remembered so far; none to begin with.
        priors: published or configured scores, as the benchmark audit let them in.

    Raises:
        Invalid: a prior that is no probability, or claims to be worth more than 50 outcomes.

    """

    def __init__(self, evidence: Evidence | None = None, priors: Sequence[Prior] = ()) -> None:
        self.evidence = Evidence() if evidence is None else evidence
        if not all(_lawful(one) for one in priors):
            raise Invalid(
                "a prior is a score of 0 to 1, worth up to 50 outcomes",
                "one of them is not",
                "correct its score or worth",
            )
        self.priors = tuple(sorted(map(_plain, priors), key=_order))
        self.fitted: Fitted | None = None
        self._fitted_on: frozenset[Key] = frozenset()
        self._columns: dict[str, int] = {}
        self._recent = Recent()

    def fit(self, seen: Iterable[Seen] = ()) -> None:
        """Learn these outcomes and fit anew to all that is remembered: seconds, never on a request's way.

        Raises:
            Invalid: an outcome out of range; those before it are learned.

        """
        for one in seen:
            self.evidence.learn(one)
        remembered = self.evidence.all()
        told = _told(remembered, self.evidence.half_life_days)
        self._take(None if told is None else learn(told, self.priors), frozenset(map(_key, remembered)))

    def update(self, seen: Seen) -> None:
        """Learn one outcome at once: estimates of its deployment and task move, weights at the next ``fit``.

        Raises:
            Invalid: a number out of range, or features of another shape.

        """
        for gone in self.evidence.learn(seen):
            self._recent.drop(gone)
        kept = self.evidence.get(seen.receipt, seen.at_ms)
        if kept is not None:
            self._recount(kept)

    def merge(self, other: Estimator) -> None:
        """Take in what another node remembers: the same as having been told both here.

        Weights stay as they are until the next ``fit``; what moved since counts at once.

        Raises:
            Invalid: the other keeps another number of requests, or forgets at another pace.

        """
        self.evidence.merge(other.evidence)
        self._again()

    def predict(self, features: Features, deployments: Iterable[str]) -> dict[str, Estimate]:
        """Estimate a request at these deployments (the lawful ones: no other is ever estimated)."""
        import numpy as np  # noqa: PLC0415 (heavy)

        names = tuple(dict.fromkeys(deployments))
        known = [name for name in names if name in self._columns]
        out = {name: self._unknown(name, features.task) for name in names if name not in self._columns}
        if known:
            assert self.fitted is not None
            columns = np.asarray([self._columns[name] for name in known])
            found = estimates(np, self.fitted, features, columns)
            for at, name in enumerate(known):
                out[name] = Estimate(
                    success=float(found.success[at]), low=float(found.low[at]), high=float(found.high[at]),
                    output_tokens=float(found.tokens[at]), output_tokens_high=float(found.tokens_high[at]),
                    n=float(found.known[at]),
                )  # fmt: skip
        return {name: self._recent.moved(out[name], name, features.task) for name in names}

    def to_bytes(self) -> bytes:
        """Write everything as canonical bytes: equal estimators have equal bytes."""
        on = sorted(self._fitted_on)
        kept = _Kept(
            format=FORMAT,
            evidence=self.evidence.to_bytes(),
            fitted=None if self.fitted is None else write_fitted(self.fitted),
            fitted_on=tuple((receipt, at_ms) for receipt, at_ms in on),
            priors=self.priors,
        )
        return msgspec.msgpack.encode(kept, order="deterministic")

    @classmethod
    def from_bytes(cls, body: bytes, digest: str | None = None) -> Estimator:
        """Read back.

        Args:
            body: canonical bytes.
            digest: what their digest has to be, where it is known.

        Raises:
            Integrity: another digest, or not the canonical bytes of an estimator.

        """
        if digest is not None and digest_of(body) != digest:
            raise Integrity(
                "the estimator is not the one it is named for", f"got {digest_of(body)}, expected {digest}",
                "restore it, or replay it from the log",
            )  # fmt: skip
        try:
            kept = msgspec.msgpack.decode(body, type=_Kept)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as fault:
            raise Integrity("the estimator cannot be read", str(fault), "restore it, or replay it") from fault
        if kept.format != FORMAT or not all(_lawful(one) for one in kept.priors):
            raise Integrity("the estimator has another format or impossible priors", f"expected {FORMAT}", "")
        out = cls(Evidence.from_bytes(kept.evidence), kept.priors)
        out._take(None if kept.fitted is None else read_fitted(kept.fitted), frozenset(kept.fitted_on))
        if out.to_bytes() != body:
            raise Integrity("the estimator is not canonical", "it was written by something else", "replay it")
        return out

    @property
    def digest(self) -> str:
        """``sha256:`` of the canonical bytes."""
        return digest_of(self.to_bytes())

    @property
    def fitted_digest(self) -> str | None:
        """``sha256:`` of what is fitted alone, None before the first fit: what a receipt can name."""
        return None if self.fitted is None else digest_of(write_fitted(self.fitted))

    def _take(self, fitted: Fitted | None, on: frozenset[Key]) -> None:
        self.fitted, self._fitted_on = fitted, on
        self._columns = {} if fitted is None else {name: at for at, name in enumerate(fitted.deployments)}
        self._again()

    def _again(self) -> None:
        self._recent = Recent()
        for one in self.evidence.all():
            self._recount(one)

    def _recount(self, one: Remembered) -> None:
        """Sum up how a request's outcomes differ from what is fitted, unless it was fitted to them."""
        judged = {name: quality for name, quality, _ in one.outcomes if quality >= 0}
        if _key(one) in self._fitted_on or not judged:
            return
        expected = self._expected(one.features, tuple(judged))
        left = {name: quality * (PARTS // UNITS) - expected[name] for name, quality in judged.items()}
        self._recent.put(_key(one), one.features.task, left)

    def _expected(self, of: Features, names: tuple[str, ...]) -> dict[str, int]:
        import numpy as np  # noqa: PLC0415 (heavy)

        known = [name for name in names if name in self._columns]
        out = {name: self._unknown(name, of.task).success for name in names if name not in self._columns}
        if known:
            assert self.fitted is not None
            columns = np.asarray([self._columns[name] for name in known])
            success = estimates(np, self.fitted, of, columns).success
            out.update(zip(known, map(float, success), strict=True))
        return {name: round(p * PARTS) for name, p in out.items()}

    def _unknown(self, name: str, task: str) -> Estimate:
        """Return what priors alone say of a deployment nothing was fitted for."""
        import numpy as np  # noqa: PLC0415 (heavy)

        said = [one for one in self.priors if one.deployment == name and one.task in {"", task}]
        worth = 1.0 + sum(one.worth for one in said)
        p = (0.5 + sum(one.score * one.worth for one in said)) / worth
        low, high = interval(np, np.float64(p), np.float64(worth))
        return Estimate(
            success=p, low=float(low), high=float(high), output_tokens=UNKNOWN_TOKENS,
            output_tokens_high=UNKNOWN_TOKENS_HIGH, n=0.0,
        )  # fmt: skip


class Recent:
    """How outcomes told since the fit differ from what was estimated: whole millionths, by day."""

    def __init__(self) -> None:
        self._put: dict[Key, tuple[str, dict[str, int]]] = {}
        self._sums: dict[tuple[str, str | None], dict[int, list[int]]] = {}

    def put(self, key: Key, task: str, left: dict[str, int]) -> None:
        """Count a request, in the place of what was counted of it before."""
        self.drop(key)
        self._put[key] = task, left
        self._add(key, 1)

    def drop(self, key: Key) -> None:
        """Count a request no more."""
        if key in self._put:
            self._add(key, -1)
            del self._put[key]

    def moved(self, one: Estimate, name: str, task: str) -> Estimate:
        """Move an estimate by what its deployment did since, on all tasks and then on this one."""
        overall = self._sums.get((name, None))
        if not overall:
            return one
        newest = max(overall)
        every, told = _decayed(overall, newest)
        mine, of = _decayed(self._sums.get((name, task), {}), newest)
        by = every / (told + RECENT_WORTH)
        by += (mine - of * by) / (of + RECENT_WORTH)
        p = min(max(one.success + by, 0.001), 0.999)
        doubt = 2.7 * p * (1 - p) * told / (told + RECENT_WORTH) ** 2
        below = ((one.success - one.low) ** 2 + doubt) ** 0.5
        above = ((one.high - one.success) ** 2 + doubt) ** 0.5
        return msgspec.structs.replace(
            one, success=round(p, 6), low=max(0.0, p - below), high=min(1.0, p + above), n=one.n + told
        )

    def _add(self, key: Key, sign: int) -> None:
        task, left = self._put[key]
        day = key[1] // DAY_MS
        for name, parts in left.items():
            for row in ((name, None), (name, task)):
                days = self._sums.setdefault(row, {})
                sums = days.setdefault(day, [0, 0])
                sums[0] += sign
                sums[1] += sign * parts
                if not sums[0]:
                    del days[day]


def _decayed(days: dict[int, list[int]], newest: int) -> tuple[float, float]:
    """Return the sum of what is left over and the number of outcomes, halved every few days."""
    left = told = 0.0
    for day in sorted(days):
        if newest - day <= RECENT_DAYS:
            weigh = 2.0 ** ((day - newest) / RECENT_HALF_LIFE_DAYS)
            told += weigh * days[day][0]
            left += weigh * days[day][1] / PARTS
    return left, told


def _told(remembered: tuple[Remembered, ...], half_life_days: int) -> Told | None:
    """Put what is remembered into arrays; older requests weigh less."""
    import numpy as np  # noqa: PLC0415 (heavy)

    names = tuple(sorted({name for one in remembered for name, _, _ in one.outcomes}))
    if not names:
        return None
    place = {name: at for at, name in enumerate(names)}
    quality = np.full((len(remembered), len(names)), np.nan)
    tokens = quality.copy()
    for row, one in enumerate(remembered):
        for name, judged, length in one.outcomes:
            quality[row, place[name]] = judged / UNITS if judged >= 0 else np.nan
            tokens[row, place[name]] = length if length >= 0 else np.nan
    newest = max(one.at_ms for one in remembered)
    age = np.asarray([(newest - one.at_ms) / DAY_MS for one in remembered])
    weigh = np.exp2(-age / half_life_days)
    return Told(features=[one.features for one in remembered], deployments=names, quality=quality,
                tokens=tokens, weigh=weigh)  # fmt: skip


def _key(one: Remembered) -> Key:
    return one.receipt, one.at_ms


def _order(one: Prior) -> tuple[Any, ...]:
    return one.deployment, one.task, one.source, one.score, one.worth


def _plain(one: Prior) -> Prior:
    return msgspec.structs.replace(one, score=float(one.score), worth=float(one.worth))


def _lawful(one: Prior) -> bool:
    return 0 <= one.score <= 1 and 0 < one.worth <= 50  # noqa: PLR2004 (a prior stays weak)
