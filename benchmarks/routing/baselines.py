"""Routers to stand beside: length, task table, ridge, nearest neighbours, their blend; each scores a pair."""

from __future__ import annotations

import math

import numpy as np

from allod.routing.bench import features_of
from allod.routing.features import BUCKETS, Features
from allod.routing.ridge import entries, rarity, solve, sparse, times

NEIGHBOURS = 100
NARROW = 4096
PUBLISHED = (
    ("published best (SW ranking / causal LLM)", "MMLU .603, GSM8K .622"),
    ("published matrix factorisation", "MMLU .597, GSM8K .565"),
)
"""RouteLLM paper (arXiv 2406.18665), tables 2 and 3: trained on other data, scored on all prompts."""

Prompts = list[dict[str, str]]


def read_all(prompts: Prompts) -> dict[str, Features]:
    """Read prompts once, by their id."""
    return {one["prompt_id"]: features_of(one) for one in prompts}


def scores(
    prompts: Prompts, gain: np.ndarray, asked: Prompts, of: dict[str, Features]
) -> dict[str, np.ndarray]:
    """Score the asked prompts by every baseline, fitted to what the strong model gains on ``prompts``."""
    near, far = ([of[one["prompt_id"]] for one in some] for some in (prompts, asked))
    table = _table(prompts, gain)
    overall = float(gain.mean())
    by_task = np.asarray([table.get(one["task"], overall) for one in asked])
    idf = rarity(np, near)
    weights = solve(np, sparse(np, near, idf), gain - overall, np.ones(len(gain)), 0.2 * math.sqrt(len(gain)))
    ridge = times(np, sparse(np, far, idf), weights) + overall
    knn = _neighbours(near, far, idf, gain)
    return {
        "length": np.asarray([math.log1p(len(one["prompt"])) for one in asked]),
        "task table": by_task,
        "ridge": ridge,
        "kNN": knn,
        "blend (ridge + kNN + task)": ridge + knn + by_task,
    }


def _table(prompts: Prompts, gain: np.ndarray, worth: float = 20.0) -> dict[str, float]:
    sums: dict[str, list[float]] = {}
    for one, value in zip(prompts, gain, strict=True):
        told = sums.setdefault(one["task"], [0.0, 0.0])
        told[0] += value
        told[1] += 1
    mean = float(gain.mean())
    return {task: (s + worth * mean) / (n + worth) for task, (s, n) in sums.items()}


def _neighbours(near: list[Features], far: list[Features], idf: np.ndarray, gain: np.ndarray) -> np.ndarray:
    k = min(NEIGHBOURS, len(near))
    rows, asked = _dense(near, idf), _dense(far, idf)
    out = np.empty(len(far))
    for at in range(0, len(far), 512):
        alike = asked[at : at + 512] @ rows.T
        best = np.argpartition(-alike, k - 1, axis=1)[:, :k]
        weigh = np.maximum(np.take_along_axis(alike, best, 1), 0) + 1e-6
        out[at : at + 512] = (weigh * gain[best]).sum(1) / weigh.sum(1)
    return out


def _dense(of: list[Features], idf: np.ndarray) -> np.ndarray:
    """Fold the buckets into fewer, with signs, so that a plain product does."""
    narrow = (np.arange(BUCKETS) * 2654435761 >> 7) % NARROW
    sign = np.where((np.arange(BUCKETS) * 2246822519 >> 9) & 1, 1.0, -1.0)
    out = np.zeros((len(of), NARROW), dtype=np.float32)
    for at, one in enumerate(of):
        bucket, value = entries(np, one, idf)
        out[at] = np.bincount(narrow[bucket], value * sign[bucket], NARROW)
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)
