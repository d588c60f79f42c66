"""Calibration of scores into probabilities: beta calibration (Kull et al. 2017, PMLR 54:623-631).

logit p = a ln s - b ln(1 - s) + c, fitted by Newton's method to scores the labels had no part in, with a weak
pull to a = b = 1, c = 0 (the score itself), which is what few labels leave it at.
"""

from __future__ import annotations

from typing import Any, Final

LEAST: Final = 0.002
"""Scores are kept this far from 0 and 1."""
PULL: Final = (4.0, 4.0, 1.0)
IDENTITY: Final = (1.0, 1.0, 0.0)
_ROUNDS: Final = 20


def fit_beta(np: Any, score: Any, quality: Any, weigh: Any) -> tuple[float, float, float]:
    """Return (a, b, c) for scores 0..1 and qualities 0..1; a and b are never negative (order is kept)."""
    given = _columns(np, score)
    start, pull = np.asarray(IDENTITY), np.diag(PULL)
    at = start.copy()
    for _ in range(_ROUNDS):
        p = 1 / (1 + np.exp(-np.clip(given @ at, -30, 30)))
        slope = given.T @ (weigh * (quality - p)) - pull @ (at - start)
        bend = (given * (weigh * p * (1 - p))[:, None]).T @ given + pull
        step = np.linalg.solve(bend, slope)
        at = at + np.clip(step, -1, 1)
        at[:2] = np.maximum(at[:2], 0.0)
        if float(abs(step).max()) < 1e-8:  # noqa: PLR2004
            break
    return float(at[0]), float(at[1]), float(at[2])


def apply_beta(np: Any, score: Any, parameters: Any) -> Any:
    """Turn scores into probabilities; ``parameters`` is ... x 3 and broadcast against the scores."""
    parameters = np.asarray(parameters)
    s = np.clip(score, LEAST, 1 - LEAST)
    logit = parameters[..., 0] * np.log(s) - parameters[..., 1] * np.log1p(-s) + parameters[..., 2]
    return 1 / (1 + np.exp(-np.clip(logit, -30, 30)))


def _columns(np: Any, score: Any) -> Any:
    s = np.clip(score, LEAST, 1 - LEAST)
    return np.stack([np.log(s), -np.log1p(-s), np.ones(len(s))], 1)
