"""Partial pooling: parameters drawn towards what their group shares, and residuals that neighbours share.

A formula of physics (``Mean``) has a few positive parameters; each may deviate by engine, generation and so
on, and every deviation is held near zero by a normal prior (a hierarchical model, fitted at its mode with
Student-t residuals). What is left is a Gaussian process (Rasmussen and Williams 2006, chapter 2) whose
covariance is a sum of ``Term``s: an effect that cases with equal labels share, or that fades with distance.
Points measured on the very cell asked about (anchors) condition it like any other points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from allod.planner.speed.case import Table

Array = npt.NDArray[np.float64]
Values = Callable[[str], Any]
Formula = Callable[[Mapping[str, Any], Values], Any]
TAIL: Final = 4.0
"""Degrees of freedom of the residuals: single runs have heavy tails."""
STEP: Final = 1e-4
ENOUGH: Final = 3
"""Anchors among which one can be told to be an outlier."""
SURPRISE: Final = 2.5
"""Squared mean of anchors over its variance from which they are believed against the fit."""


class Scalar(msgspec.Struct, frozen=True, kw_only=True):
    """A positive parameter: where it is expected, how far its logarithm may lie, what lets it deviate."""

    centre: float
    spread: float
    groups: tuple[str, ...] = ()
    deviation: float = 0.16


class Mean(msgspec.Struct, frozen=True, kw_only=True):
    """A formula of ms with its parameters; ``formula(numbers, value)`` reads columns and parameter values."""

    scalars: Mapping[str, Scalar]
    formula: Formula
    tail_scale: float = 0.25


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """One shared effect: standard deviation in log time, equal labels, and columns it fades with.

    ``along`` makes it a slope in that column (between 0 and 1) instead of a level.
    """

    sd: float
    same: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    along: str = ""
    length: float = 1.2


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a quantity is modelled: the mean, the shared effects, the noise of one run."""

    name: str
    mean: Mean
    terms: tuple[Term, ...]
    noise: float


SCALES: Final = {
    "batch": 1.5, "isl": 1.2, "osl": 1.2, "n": 1.0, "weights": 1.5, "bandwidth": 1.0, "active": 1.0,
    "bits": 0.9,
}  # fmt: skip


def layout(mean: Mean, levels: Mapping[str, Sequence[int]]) -> tuple[dict[str, Any], Array, Array]:
    """Return where each parameter lies in the vector, the centre of the priors, and their spreads."""
    places: dict[str, Any] = {}
    centre: list[float] = []
    spread: list[float] = []
    for name, scalar in mean.scalars.items():
        places[name] = (len(centre), {})
        centre.append(float(np.log(scalar.centre)))
        spread.append(scalar.spread)
        for group in scalar.groups:
            places[name][1][group] = {}
            for level in levels[group]:
                places[name][1][group][level] = len(centre)
                centre.append(0.0)
                spread.append(scalar.deviation)
    return places, np.array(centre), np.array(spread)


def evaluator(mean: Mean, places: Mapping[str, Any], data: Table) -> Callable[[Array], Array]:
    """Return the function from parameters to log ms of these rows; a level nobody measured deviates by 0."""
    picks: dict[str, tuple[int, list[tuple[Any, Any]]]] = {}
    for name, (place, groups) in places.items():
        chosen = []
        for group, by in groups.items():
            index = np.array([by.get(int(one), -1) for one in data.labels[group]])
            chosen.append((np.where(index < 0, 0, index), index >= 0))
        picks[name] = (place, chosen)

    def evaluate(params: Array) -> Array:
        def value(name: str) -> Any:
            place, chosen = picks[name]
            total: Any = params[place]
            for index, seen in chosen:
                total = total + np.where(seen, params[index], 0.0)
            return np.exp(total)

        return np.asarray(np.log(np.maximum(mean.formula(data.numbers, value), 1e-6)), float)

    return evaluate


def fit_mean(mean: Mean, data: Table, y: Array, rounds: int = 25) -> tuple[dict[str, Any], Array]:
    """Fit the parameters at their mode by Levenberg-Marquardt; returns their places and values."""
    levels = {
        group: sorted({int(one) for one in data.labels[group]})
        for scalar in mean.scalars.values()
        for group in scalar.groups
    }
    places, centre, spread = layout(mean, levels)
    evaluate = evaluator(mean, places, data)
    scale = mean.tail_scale

    def objective(params: Array) -> float:
        z = (y - evaluate(params)) / scale
        prior = ((params - centre) / spread) ** 2
        return float(0.5 * (TAIL + 1) * np.log1p(z * z / TAIL).sum() + 0.5 * prior.sum())

    params, damping = centre.copy(), 1e-2
    current = objective(params)
    for _ in range(rounds):
        base = evaluate(params)
        slopes = np.empty((len(y), len(params)))
        for j in range(len(params)):
            moved = params.copy()
            moved[j] += STEP
            slopes[:, j] = (evaluate(moved) - base) / STEP
        rest = y - base
        weight = (TAIL + 1) / (TAIL + (rest / scale) ** 2) / scale**2
        bend = (slopes * weight[:, None]).T @ slopes + np.diag(1 / spread**2)
        slope = slopes.T @ (weight * rest) - (params - centre) / spread**2
        gain = 0.0
        for _ in range(8):
            step = np.linalg.solve(bend + damping * np.diag(np.diag(bend)), slope)
            trial = objective(params + step)
            if trial < current:
                params, gain, current = params + step, current - trial, trial
                damping = max(damping / 5, 1e-6)
                break
            damping *= 4
        if gain <= 1e-4 * abs(current):
            break
    return places, params


def covariance(terms: Sequence[Term], one: Table, two: Table) -> Array:
    """Return the covariance between the rows of two tables."""
    out = np.zeros((len(one), len(two)))
    equal: dict[str, Array] = {}
    apart: dict[str, Array] = {}
    for term in terms:
        part = np.full(out.shape, term.sd**2)
        for label in term.same:
            if label not in equal:
                equal[label] = (one.labels[label][:, None] == two.labels[label][None, :]).astype(float)
            part = part * equal[label]
        if term.along:
            part = part * one.numbers[term.along][:, None] * two.numbers[term.along][None, :]
        if term.near:
            for name in term.near:
                if name not in apart:
                    scale = SCALES[name]
                    left, right = np.log(one.numbers[name]) / scale, np.log(two.numbers[name]) / scale
                    apart[name] = (left[:, None] - right[None, :]) ** 2
            part = part * np.exp(-0.5 * sum(apart[name] for name in term.near) / term.length**2)
        out += part
    return out


class Fitted(msgspec.Struct, kw_only=True):
    """A plan fitted on rows: parameters of the mean, and the residuals with the weight of each."""

    plan: Plan
    places: dict[str, Any]
    params: Any
    data: Table
    rest: Any
    weights: Any
    inverse: Any = None
    alpha: Any = None

    def condition(self) -> None:
        """Compute what predictions need of the rows."""
        gram = covariance(self.plan.terms, self.data, self.data)
        gram += np.diag(self.plan.noise**2 * self.weights)
        self.inverse = np.linalg.inv(gram)
        self.alpha = self.inverse @ self.rest

    def mean(self, data: Table) -> Array:
        """Return log ms by the formula alone."""
        return evaluator(self.plan.mean, self.places, data)(self.params)

    def predict(
        self, asked: Table, anchors: Table | None = None, seen: Array | None = None
    ) -> tuple[Array, Array]:
        """Return log ms and its standard deviation; ``anchors`` with log ms ``seen`` are points too."""
        cross = covariance(self.plan.terms, asked, self.data)
        mean = self.mean(asked) + cross @ self.alpha
        own = covariance(self.plan.terms, asked, asked)
        noise = self.plan.noise**2
        cov = own - cross @ self.inverse @ cross.T
        if anchors is None or seen is None or not len(seen):
            return mean, np.sqrt(np.maximum(np.diag(cov), 1e-8) + noise)
        back = covariance(self.plan.terms, anchors, self.data)
        left = seen - self.mean(anchors) - back @ self.alpha
        among = covariance(self.plan.terms, anchors, anchors) - back @ self.inverse @ back.T
        between = covariance(self.plan.terms, asked, anchors) - cross @ self.inverse @ back.T
        shift = _cell_shift(left, among, noise)
        cov, among, between = cov + shift, among + shift, between + shift
        weights = np.ones(len(left))
        for _ in range(3 if len(left) >= ENOUGH else 0):
            inner = np.linalg.inv(among + np.diag(noise * weights))
            surprise = (inner @ left) ** 2 / np.diag(inner)
            weights = np.maximum(weights, surprise / 2.0)
        inner = np.linalg.inv(among + np.diag(noise * weights))
        after = cov - between @ inner @ between.T
        return mean + between @ inner @ left, np.sqrt(np.maximum(np.diag(after), 1e-8) + noise)


def _cell_shift(left: Array, among: Array, noise: float) -> float:
    """Return the variance of one more effect that a cell's anchors share: zero unless they all surprise.

    Measurements that agree with each other and not with the fit say that this cell is unlike any other
    (empirical Bayes); without this they would be taken for noise.
    """
    own = float((among.sum() + noise * len(left)) / len(left) ** 2)
    mean = float(left.mean()) ** 2
    return mean - own if mean > SURPRISE * own else 0.0


def fit(plan: Plan, data: Table, y: Array) -> Fitted:
    """Fit a plan: the mean first, then weights that let single points be outliers of what they share."""
    places, params = fit_mean(plan.mean, data, y)
    rest = y - evaluator(plan.mean, places, data)(params)
    fitted = Fitted(plan=plan, places=places, params=params, data=data, rest=rest, weights=np.ones(len(y)))
    fitted.condition()
    for _ in range(4):
        surprise = fitted.alpha**2 / np.diag(fitted.inverse)
        fitted.weights = np.maximum(1.0, surprise / 2.0)
        fitted.condition()
    return fitted
