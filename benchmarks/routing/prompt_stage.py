"""The prompt stage by cross-validation: Allod beside length, task table, ridge, kNN, blend, oracle, records.

    python benchmarks/routing/prompt_stage.py --data FOLDER [--folds 5] [--seed 0] [--nested] [--json FILE]

Every prompt is scored by what was fitted without it. Intervals are of 95 %, by a bootstrap over prompts: they
hold the doubt of these prompts, not that of other data.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from baselines import PUBLISHED, read_all, scores
from data import Outcomes, folds, read
from metrics import (
    Pair,
    aiq,
    apgr,
    brier,
    cpt,
    curve,
    deployed,
    ece,
    interval,
    oracle,
    regret,
    saving,
    threshold,
)  # fmt: skip

from allod.routing.bench import make

PAIRS = {
    "routellm": (("mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"),),
    "zeroeval": (
        ("Meta-Llama-3.1-70B-Instruct", "claude-3-5-sonnet-20241022"),
        ("Qwen2-72B-Instruct", "gpt-4o-2024-08-06"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"),
    ),
}
FLOORS = (0.0, 0.01)
HEAD = (
    "| router | APGR (95 %) | CPT50 | CPT80 | saved at 0 / -1 pt, hindsight "
    "| deployed at -1 pt: saved, change (se) | AIQ | regret |"
)


def held_out(data: Outcomes, fold: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Estimate every prompt by a fit without its fold: (prompts x models, times)."""
    out = np.full(data.quality.shape, np.nan)
    fitted, asked = [], []
    for k in range(int(fold.max()) + 1):
        inside, outside = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        stage, near = make(), data.take(inside)
        start = time.process_time()
        stage.fit(near.prompts, near.models, near.quality, near.cost)
        fitted.append(time.process_time() - start)
        for at in outside:
            start = time.process_time()
            found = stage.predict(data.prompts[at])
            asked.append(time.process_time() - start)
            out[at] = [found[name] for name in data.models]
    p50, p95 = np.percentile(asked, [50, 95]) * 1000
    return out, {"fit_s": max(fitted), "predict_p50_ms": float(p50), "predict_p95_ms": float(p95)}


def pair_of(data: Outcomes, weak: str, strong: str) -> tuple[Pair, np.ndarray, int, int]:
    """Take two models, and the prompts where both have an outcome."""
    w, s = data.models.index(weak), data.models.index(strong)
    rows = np.flatnonzero(
        np.isfinite(data.quality[:, [w, s]]).all(1) & np.isfinite(data.cost[:, [w, s]]).all(1)
    )
    pair = Pair(
        weak=data.quality[:, w],
        strong=data.quality[:, s],
        weak_usd=data.cost[:, w],
        strong_usd=data.cost[:, s],
    )
    return pair.take(rows), rows, w, s


def nested(
    data: Outcomes, fold: np.ndarray, pairs: tuple[tuple[str, str], ...], seed: int
) -> dict[tuple[str, str], np.ndarray]:
    """Pick thresholds for -1 pt on held-out estimates of the fitting folds alone; one per prompt and pair."""
    out = {names: np.full(len(data.prompts), np.nan) for names in pairs}
    for k in range(int(fold.max()) + 1):
        near = data.take(np.flatnonzero(fold != k))
        inner, _ = held_out(near, folds(len(near.prompts), 4, seed + 100 + k))
        for names in pairs:
            pair, rows, w, s = pair_of(near, *names)
            out[names][fold == k] = threshold((inner[:, s] - inner[:, w])[rows], pair, 0.01)
    return out


def baseline_scores(
    data: Outcomes, fold: np.ndarray, pair: Pair, rows: np.ndarray, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Score held-out prompts by each baseline, and pick each one's thresholds on inner folds."""
    out: dict[str, np.ndarray] = {}
    limits: dict[str, np.ndarray] = {}
    prompts, gain = [data.prompts[at] for at in rows], pair.strong - pair.weak
    of = read_all(prompts)
    for k in range(int(fold.max()) + 1):
        inside, outside = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        near = [prompts[at] for at in inside]
        for name, found in scores(near, gain[inside], [prompts[at] for at in outside], of).items():
            out.setdefault(name, np.empty(len(rows)))[outside] = found
        inner_fold, inner = folds(len(inside), 4, seed + 100 + k), {}
        for j in range(4):
            a, b = np.flatnonzero(inner_fold != j), np.flatnonzero(inner_fold == j)
            known, asked = [near[at] for at in a], [near[at] for at in b]
            for name, found in scores(known, gain[inside][a], asked, of).items():
                inner.setdefault(name, np.empty(len(inside)))[b] = found
        for name, found in inner.items():
            limits.setdefault(name, np.empty(len(rows)))[outside] = threshold(found, pair.take(inside), 0.01)
    return out, limits


def line(name: str, score: np.ndarray, pair: Pair, limit: np.ndarray | None) -> tuple[str, dict[str, Any]]:
    """Measure one router on one pair."""
    of = curve(score, pair)
    low, high = interval(lambda rows: apgr(curve(score[rows], pair.take(rows))), len(score))
    saved = [saving(of, floor) for floor in FLOORS]
    used = None if limit is None else deployed(score, pair, limit)
    figures = {
        "router": name, "apgr": apgr(of), "apgr_low": low, "apgr_high": high, "cpt50": cpt(of, 0.5),
        "cpt80": cpt(of, 0.8), "saved_at_0": saved[0], "saved_at_1pt": saved[1], "deployed": used,
        "aiq": aiq(of), "regret": regret(of, pair),
        "frontier_saved_at_1pt": saving(of, 0.01, strong_only=True),
    }  # fmt: skip
    shown = "" if used is None else f"{used[0]:.0%}, {used[1]:+.2f} pt ({used[2]:.2f})"
    return (
        f"| {name} | {apgr(of):.3f} ({low:.3f}-{high:.3f}) | {cpt(of, 0.5):.1%} | {cpt(of, 0.8):.1%} "
        f"| {saved[0]:.0%} / {saved[1]:.0%} | {shown} | {aiq(of):.3f} | {regret(of, pair):.3f} |"
    ), figures


def calibration(estimate: np.ndarray, quality: np.ndarray, models: list[str]) -> tuple[str, dict[str, Any]]:
    """Say how far predicted success is from observed: pooled over models, and the models' mean and worst."""
    known = np.isfinite(quality)
    each = {
        m: ece(estimate[known[:, at], at], quality[known[:, at], at])
        for at, m in enumerate(models)
        if known[:, at].any()
    }
    low, high = interval(
        lambda rows: ece(estimate[rows][known[rows]], quality[rows][known[rows]]), len(quality), draws=200
    )
    random = np.random.Generator(np.random.PCG64(7))
    floor = np.mean(
        [[ece(e, (random.random(len(e)) < e).astype(float)) for e in estimate.T] for _ in range(20)]
    )
    figures = {
        "ece_pooled": ece(estimate[known], quality[known]), "ece_low": low, "ece_high": high,
        "ece_mean_of_models": float(np.mean(list(each.values()))), "ece_by_model": each,
        "ece_of_perfect_calibration_at_this_n": float(floor), "brier": brier(estimate[known], quality[known]),
    }  # fmt: skip
    return (
        f"calibration error of predicted success: {figures['ece_pooled']:.4f} pooled ({low:.4f}-{high:.4f}), "
        f"{figures['ece_mean_of_models']:.3f} per model in the mean, {max(each.values()):.3f} at worst "
        f"(chance alone: {floor:.3f} per model at this n); Brier {figures['brier']:.4f}"
    ), figures


def one_set(
    name: str, folder: Path, count: int, seed: int, *, inner: bool, flips: float = 0.0
) -> dict[str, Any]:
    """Measure one set and print it; ``flips`` of the labels fitted to are turned around."""
    data = read(folder)
    fold = folds(len(data.prompts), count, seed)
    told = data if not flips else _flipped(data, flips, seed)
    estimate, times = held_out(told, fold)
    limits = nested(told, fold, PAIRS[name], seed) if inner else {}
    print(
        f"\n## {name}: {len(data.prompts)} prompts, {len(data.models)} models, {count} folds, seed {seed}\n"
    )
    said, figures = calibration(estimate, data.quality, data.models)
    out: dict[str, Any] = {"set": name, "calibration": figures, "times": times, "pairs": {}}
    for names in PAIRS[name]:
        out["pairs"][" -> ".join(names)] = _pair(data, fold, estimate, names, limits.get(names), seed)
    print(f"\n{said}")
    print(
        f"predict: median {times['predict_p50_ms']:.2f} ms, 95th percentile {times['predict_p95_ms']:.2f} ms "
        f"of CPU for {len(data.models)} models; fit: {times['fit_s']:.1f} s of CPU"
    )
    return out


def _pair(
    data: Outcomes,
    fold: np.ndarray,
    estimate: np.ndarray,
    names: tuple[str, str],
    limit: np.ndarray | None,
    seed: int,
) -> list[dict[str, Any]]:
    pair, rows, w, s = pair_of(data, *names)
    print(
        f"\n### {names[0]} -> {names[1]}: quality {pair.weak.mean():.4f} -> {pair.strong.mean():.4f}\n"
        f"\n{HEAD}"
    )
    print("|---" * 8 + "|")
    random = np.random.Generator(np.random.PCG64(seed)).random(len(rows))
    found, limits = baseline_scores(data, fold[rows], pair, rows, seed)
    lines = [line("random", random, pair, None)]
    lines += [line(name, score, pair, limits[name]) for name, score in found.items()]
    mine = (estimate[:, s] - estimate[:, w])[rows]
    lines.append(line("**Allod, prompt stage**", mine, pair, None if limit is None else limit[rows]))
    lines.append(line("oracle", oracle(pair), pair, None))
    print("\n".join(text for text, _ in lines))
    if names in PAIRS["routellm"]:
        print("\n".join(f"| {name} | {said} | | | | | | |" for name, said in PUBLISHED))
        gsm = np.asarray([data.prompts[at]["task"] == "gsm8k" for at in rows])
        for task, part in (("MMLU", ~gsm), ("GSM8K", gsm)):
            if part.any():
                print(line(f"Allod on {task} alone", mine[part], pair.take(np.flatnonzero(part)), None)[0])
    return [figures for _, figures in lines]


def _flipped(data: Outcomes, share: float, seed: int) -> Outcomes:
    random = np.random.Generator(np.random.PCG64(seed + 7))
    wrong = random.random(data.quality.shape) < share
    return msgspec.structs.replace(data, quality=np.where(wrong, 1 - data.quality, data.quality))


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of routellm/ and zeroeval/")
    parser.add_argument("--sets", nargs="*", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--nested", action="store_true", help="pick Allod's thresholds on inner folds: four times the time"
    )
    parser.add_argument(
        "--flips", type=float, default=0.0, help="share of the labels to turn around before fitting"
    )
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    found = [
        one_set(name, args.data / name, args.folds, args.seed, inner=args.nested, flips=args.flips)
        for name in args.sets
    ]
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
