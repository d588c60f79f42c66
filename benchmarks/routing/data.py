"""Real outcomes of models, from Parquet: one folder per set, as docs/routing.md describes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """A set: prompts as dicts, models, and matrices prompts x models (NaN, or "" for keys, where missing)."""

    prompts: list[dict[str, str]]
    models: list[str]
    quality: np.ndarray
    cost: np.ndarray
    keys: np.ndarray
    open_weights: frozenset[str]

    def take(self, rows: np.ndarray) -> Outcomes:
        """Keep these prompts."""
        return Outcomes(
            prompts=[self.prompts[at] for at in rows], models=self.models, quality=self.quality[rows],
            cost=self.cost[rows], keys=self.keys[rows], open_weights=self.open_weights,
        )  # fmt: skip


def read(folder: Path) -> Outcomes:
    """Read ``prompts.parquet`` and ``outcomes.parquet`` of a folder."""
    import pyarrow.parquet as pq  # noqa: PLC0415 (development only)

    prompts = pq.read_table(folder / "prompts.parquet").to_pylist()
    outcomes = pq.read_table(folder / "outcomes.parquet").to_pylist()
    models = sorted({one["model"] for one in outcomes})
    row = {one["prompt_id"]: at for at, one in enumerate(prompts)}
    column = {name: at for at, name in enumerate(models)}
    quality = np.full((len(prompts), len(models)), np.nan)
    cost, keys = quality.copy(), np.full(quality.shape, "", dtype="U64")
    for one in outcomes:
        place = row[one["prompt_id"]], column[one["model"]]
        quality[place], cost[place] = one["quality"], one["cost_usd"]
        keys[place] = one.get("answer_key") or ""
    return Outcomes(
        prompts=prompts, models=models, quality=quality, cost=cost, keys=keys,
        open_weights=frozenset(one["model"] for one in outcomes if one.get("open_weights")),
    )  # fmt: skip


def folds(n: int, count: int, seed: int) -> np.ndarray:
    """Deal n prompts into folds of equal size, at random but the same for the same seed."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(n)
    out = np.empty(n, dtype=int)
    out[order] = np.arange(n) % count
    return out
