"""The full policy on real outcomes: spend saved, quality, and how often the stated floor is broken.

    python benchmarks/routing/policy.py --data FOLDER [--folds 5] [--halves 20] [--rows 1 2] [--json FILE]

FOLDER holds ``zeroeval/`` (prompts and outcomes with answer keys). Everything is scored on prompts
the fitted policy never saw: by cross-validation, and by resampling into a fitting and a scoring half. Every
model asked or delivered is paid for. Intervals are of 95 %, from the paired differences over prompts. A floor
is broken where the mean over the scoring half is below it: the floor aimed at (-0.5 points, a task -1), and
the one the fitted policy states itself for so many prompts (``Policy.stated``).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from data import Outcomes, folds, read

from allod.routing.bench_policy import policy

CLOSED = (
    "gpt-4o-mini-2024-07-18",
    "gemini-1.5-flash",
    "claude-3-haiku-20240307",
    "claude-3-5-haiku-20241022",
)
REFERENCES = ("claude-3-5-sonnet-20241022", "gpt-4o-2024-08-06")
FLOOR, TASK_FLOOR = -0.005, -0.01
AIMS = {(True, REFERENCES[0]): 0.56, (True, REFERENCES[1]): 0.48,
        (False, REFERENCES[0]): 0.44, (False, REFERENCES[1]): 0.38}  # fmt: skip


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What serving some prompts did, per prompt: change of quality, USD spent and USD of the reference."""

    change: np.ndarray
    spent: np.ndarray
    reference: np.ndarray
    task: np.ndarray
    ms: np.ndarray
    stated: np.ndarray

    @property
    def saved(self) -> float:
        """Share of the reference's spend."""
        return float(1 - self.spent.sum() / self.reference.sum())

    def at(self, task: str) -> Played:
        """Keep one task."""
        of = self.task == task
        return Played(
            change=self.change[of], spent=self.spent[of], reference=self.reference[of], task=self.task[of],
            ms=self.ms[of], stated=self.stated[of],
        )  # fmt: skip


def play(data: Outcomes, pool: list[str], reference: str, fit: np.ndarray, score: np.ndarray) -> Played:
    """Fit on some prompts, serve others in order."""
    names = [*pool, reference]
    columns = [data.models.index(name) for name in names]
    near, one = data.take(fit), policy()
    one.fit(
        near.prompts, names, near.quality[:, columns], near.cost[:, columns], near.keys[:, columns], reference
    )
    change, spent, paid, took = [], [], [], []
    strong = columns[-1]
    for row in score:
        asked: set[str] = set()

        def ask(model: str, row: int = int(row), asked: set[str] = asked) -> str:
            asked.add(model)
            return str(data.keys[row, data.models.index(model)])

        start = time.perf_counter()
        chosen = one.run(data.prompts[int(row)], ask)
        took.append((time.perf_counter() - start) * 1000)
        asked.add(chosen)
        change.append(data.quality[row, data.models.index(chosen)] - data.quality[row, strong])
        spent.append(sum(data.cost[row, data.models.index(name)] for name in asked))
        paid.append(data.cost[row, strong])
    tasks = np.asarray([data.prompts[int(row)]["task"] for row in score])
    return Played(
        change=np.asarray(change), spent=np.asarray(spent), reference=np.asarray(paid), task=tasks,
        ms=np.asarray(took), stated=np.full(len(score), one.stated(len(score))),
    )  # fmt: skip


def together(parts: list[Played]) -> Played:
    """Put folds together."""
    return Played(
        **{name: np.concatenate([getattr(one, name) for one in parts]) for name in Played.__struct_fields__}
    )


def interval(one: Played) -> tuple[float, float, float]:
    """Mean change in points and its 95 % interval."""
    mean = float(one.change.mean() * 100)
    error = float(one.change.std(ddof=1) / np.sqrt(len(one.change)) * 100)
    return mean, mean - 1.96 * error, mean + 1.96 * error


def saved_interval(one: Played, seed: int = 0, times: int = 500) -> tuple[float, float]:
    """Bootstrap the saved share over prompts."""
    random = np.random.Generator(np.random.PCG64(seed))
    n = len(one.spent)
    rows = random.integers(n, size=(times, n))
    shares = 1 - one.spent[rows].sum(1) / one.reference[rows].sum(1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def cross_validated(data: Outcomes, pool: list[str], reference: str, count: int, seed: int) -> Played:
    """Serve every prompt by a policy fitted without its fold."""
    fold = folds(len(data.prompts), count, seed)
    return together(
        [
            play(data, pool, reference, np.flatnonzero(fold != k), np.flatnonzero(fold == k))
            for k in range(count)
        ]
    )


def broken(data: Outcomes, pool: list[str], reference: str, times: int) -> dict[str, Any]:
    """Resample into halves: how often the floor of all, and of any task, is not kept in the scoring half."""
    tasks = sorted({one["task"] for one in data.prompts})
    below, under, below_task, saved, change, stated = 0, 0, dict.fromkeys(tasks, 0), [], [], []
    for turn in range(times):
        half = folds(len(data.prompts), 2, 10_000 + turn)
        one = play(data, pool, reference, np.flatnonzero(half == 0), np.flatnonzero(half == 1))
        below += one.change.mean() < FLOOR
        under += one.change.mean() < one.stated[0]
        stated.append(float(one.stated[0]) * 100)
        for task in tasks:
            below_task[task] += one.at(task).change.mean() < TASK_FLOOR
        saved.append(one.saved)
        change.append(float(one.change.mean()) * 100)
    return {
        "resamplings": times,
        "saved": float(np.mean(saved)),
        "change_pt": float(np.mean(change)),
        "change_pt_sd": float(np.std(change)),
        "below_floor": below / times,
        "stated_pt": float(np.mean(stated)),
        "below_stated": under / times,
        "below_task_floor": {task: n / times for task, n in below_task.items()},
    }


ROWS = tuple((closed, reference) for closed in (True, False) for reference in REFERENCES)


def folder(data: Path) -> Path:
    """Return the set's own folder, given that or the one it lies in."""
    return data / "zeroeval" if (data / "zeroeval").is_dir() else data


def report(data: Outcomes, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every pool and reference, printing as it goes."""
    tasks = sorted({one["task"] for one in data.prompts})
    print("| pool | reference | saved (95 %) | aim | change, pt (95 %) | "
          + " | ".join(f"{task}: saved, pt" for task in tasks) + " | run p50/p95 ms |")  # fmt: skip
    print("|---" * (6 + len(tasks)) + "|")
    out = []
    for closed in (True, False):
        pool = sorted(data.open_weights) + [one for one in CLOSED if closed]
        for reference in REFERENCES:
            if args.rows and ROWS.index((closed, reference)) + 1 not in args.rows:
                continue
            one = cross_validated(data, pool, reference, args.folds, seed=0)
            low, high = saved_interval(one)
            mean, under, over = interval(one)
            by_task = {task: (one.at(task).saved, interval(one.at(task))) for task in tasks}
            p50, p95 = np.percentile(one.ms, [50, 95])
            cells = [f"{s:.1%}, {m[0]:+.2f} ({m[1]:+.1f} to {m[2]:+.1f})" for s, m in by_task.values()]
            line = [
                "open + 4 closed" if closed else "open",
                reference,
                f"{one.saved:.1%} ({low:.1%} to {high:.1%})",
                f"{AIMS[closed, reference]:.0%}",
                f"{mean:+.2f} ({under:+.2f} to {over:+.2f})",
                *cells,
                f"{p50:.1f} / {p95:.1f}",
            ]
            print(f"| {' | '.join(line)} |", flush=True)
            row: dict[str, Any] = {
                "closed": closed, "reference": reference, "saved": one.saved, "saved_95": (low, high),
                "aim": AIMS[closed, reference], "change_pt": mean, "change_95": (under, over),
                "tasks": {task: {"saved": s, "change_pt": m} for task, (s, m) in by_task.items()},
                "run_ms": {"p50": float(p50), "p95": float(p95)},
            }  # fmt: skip
            if args.halves:
                row["halves"] = broken(data, pool, reference, args.halves)
                print(f"    halves: {row['halves']}", flush=True)
            out.append(row)
    return out


def main() -> int:
    """Print the table; write it as JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--halves", type=int, default=0, help="resamplings into halves (200 for the figure)")
    parser.add_argument("--rows", type=int, nargs="*", choices=(1, 2, 3, 4), help="only these of the table")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = report(read(folder(args.data)), args)
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
