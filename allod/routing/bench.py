"""Entry points for an outside scorer: factories without arguments.

``make`` gives the estimator of the prompt stage alone, ``policy`` the whole of it with checks and floor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allod.domain.errors import Invalid
from allod.routing.bench_policy import policy
from allod.routing.evidence import check_features
from allod.routing.features import Asked, features
from allod.routing.learn import Told, estimates, learn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allod.routing.features import Features
    from allod.routing.learn import Fitted

__all__ = ["PromptStage", "features_of", "make", "policy"]


def make() -> PromptStage:
    """Return an estimator that has learned nothing yet."""
    return PromptStage()


def features_of(prompt: Mapping[str, Any]) -> Features:
    """Read a row ``{"prompt_id", "task", "prompt"}``; what is missing counts as empty."""
    task, text = prompt.get("task"), prompt.get("prompt")
    found = features(Asked(text="" if text is None else str(text), task=None if task is None else str(task)))
    check_features(found)
    return found


class PromptStage:
    """Learns from a matrix of outcomes, and estimates a prompt's success at every model of it."""

    def __init__(self) -> None:
        self.fitted: Fitted | None = None
        self._names: tuple[str, ...] = ()
        self._columns: dict[str, int] = {}

    def fit(
        self, prompts: Sequence[Mapping[str, Any]], models: Sequence[str], quality: Any, cost: Any = None
    ) -> None:
        """Learn outcomes.

        Args:
            prompts: rows ``{"prompt_id", "task", "prompt"}``.
            models: their names, one per column.
            quality: prompts x models, 0..1, NaN where unknown (beyond 0..1 counts as the nearest).
            cost: prompts x models in USD; not needed here.

        Raises:
            Invalid: a matrix of another shape.

        """
        import numpy as np  # noqa: PLC0415 (heavy)

        del cost
        names = tuple(map(str, models))
        matrix = np.asarray(quality, dtype=np.float64).reshape(len(prompts), -1) if len(prompts) else None
        self._names, self.fitted = names, None
        if matrix is None or not names:
            return
        if matrix.shape != (len(prompts), len(names)):
            raise Invalid(
                "the matrix of qualities has another shape",
                f"got {matrix.shape}, expected {(len(prompts), len(names))}",
                "give one row per prompt and one column per model",
            )
        matrix = np.clip(np.where(np.isfinite(matrix), matrix, np.nan), 0, 1)
        self.fitted = learn(
            Told(
                features=[features_of(one) for one in prompts], deployments=names, quality=matrix,
                tokens=np.full(matrix.shape, np.nan), weigh=np.ones(len(prompts)),
            )
        )  # fmt: skip
        self._columns = {name: at for at, name in enumerate(self.fitted.deployments)}

    def predict(self, prompt: Mapping[str, Any]) -> dict[str, float]:
        """Return each model's probability of success for a prompt; 0.5 where nothing was learned."""
        import numpy as np  # noqa: PLC0415 (heavy)

        if self.fitted is None:
            return dict.fromkeys(self._names, 0.5)
        at = np.asarray([self._columns[name] for name in self._names])
        found = estimates(np, self.fitted, features_of(prompt), at)
        return {name: float(p) for name, p in zip(self._names, found.success, strict=True)}
