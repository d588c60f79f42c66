"""The full policy in trouble, on real outcomes: wrong labels, a model that turns bad, one that copies.

    python benchmarks/routing/policy_trouble.py --data FOLDER [--folds 5] [--json FILE]

Prompts are served by a policy fitted without their fold. Trouble begins with the second half of each fold's
traffic: ``bad`` gives one model's answers keys nobody else has, ``copy`` gives it the keys of the first model
asked. ``flipped`` turns 10 % of the labels the policy is fitted on around; it is scored on the true ones.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from data import Outcomes, folds, read
from policy import CLOSED, REFERENCES, Played, folder, interval, together

from allod.routing.bench_policy import Policy, Watch, policy

FLIPPED = 0.1
TROUBLES = ("none", "flipped", "bad", "bad, unwatched", "copy", "copy, unwatched")


class _Blind(Watch):
    """Notices nothing."""

    def note(self, task: str, answers: Any) -> None:
        """Look away."""


def fitted(data: Outcomes, names: list[str], rows: np.ndarray, trouble: str, seed: int) -> Policy:
    """Fit on some prompts, with 10 % of the labels turned around where that is the trouble."""
    near = data.take(rows)
    columns = [data.models.index(name) for name in names]
    quality = near.quality[:, columns]
    if trouble == "flipped":
        random = np.random.Generator(np.random.PCG64(seed))
        quality = np.where(random.random(quality.shape) < FLIPPED, 1 - quality, quality)
    one = policy()
    one.fit(near.prompts, names, quality, near.cost[:, columns], near.keys[:, columns], names[-1])
    if trouble.endswith("unwatched"):
        one._watch = _Blind({}, {})  # noqa: SLF001 (what the watch is worth is measured)
    return one


def victims(one: Policy) -> dict[str, tuple[str, str]]:
    """By task, the first model asked, and the one trouble comes to: the second."""
    return {of.task: (of.order[0], of.order[1]) for of in one.promised}


def serve(data: Outcomes, one: Policy, rows: np.ndarray, trouble: str, out: Counter[str]) -> Played:
    """Serve prompts, in trouble from the middle on; only what comes after is returned."""
    hit, reference = victims(one), data.models.index(REFERENCES[0])
    change, spent, paid, after = [], [], [], []
    for at, row in enumerate(rows):
        asked: dict[str, bool] = {}
        prompt = data.prompts[int(row)]
        first, second = hit.get(prompt["task"], ("", ""))
        troubled = at >= len(rows) // 2

        kind = trouble.split(",", maxsplit=1)[0] if troubled else ""

        def ask(
            model: str,
            row: int = int(row),
            asked: dict[str, bool] = asked,
            kind: str = kind,
            pair: tuple[str, str] = (first, second),
        ) -> str:
            asked[model] = kind == "bad" and model == pair[1]
            source = pair[0] if kind == "copy" and model == pair[1] else model
            return f"bad {row}" if asked[model] else str(data.keys[row, data.models.index(source)])

        chosen = one.run(prompt, ask)
        wrong = asked.setdefault(chosen, False)
        source = first if kind == "copy" and chosen == second else chosen
        quality = 0.0 if wrong else data.quality[row, data.models.index(source)]
        change.append(quality - data.quality[row, reference])
        spent.append(sum(data.cost[row, data.models.index(name)] for name in asked))
        paid.append(data.cost[row, reference])
        after.append(troubled)
    for task, (_, second) in hit.items():
        out["noticed"] += second in one._watch.out(task)  # noqa: SLF001
        out["of"] += 1
    keep = np.asarray(after)
    tasks = np.asarray([data.prompts[int(row)]["task"] for row in rows])
    return Played(
        change=np.asarray(change)[keep], spent=np.asarray(spent)[keep], reference=np.asarray(paid)[keep],
        task=tasks[keep], ms=np.zeros(int(keep.sum())), stated=np.zeros(int(keep.sum())),
    )  # fmt: skip


def main() -> int:
    """Print one line for each trouble."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = read(folder(args.data))
    names = [*sorted(data.open_weights), *CLOSED, REFERENCES[0]]
    fold = folds(len(data.prompts), args.folds, 0)
    print(f"against {REFERENCES[0]}; the second half of each fold's traffic\n")
    print("| trouble | saved | change, pt (95 %) | left out, of task and fold |\n|---|---|---|---|")
    found = []
    for trouble in TROUBLES:
        seen: Counter[str] = Counter()
        parts = [
            serve(data, fitted(data, names, np.flatnonzero(fold != k), trouble, k), np.flatnonzero(fold == k),
                  trouble, seen)
            for k in range(args.folds)
        ]  # fmt: skip
        one = together(parts)
        mean, low, high = interval(one)
        print(f"| {trouble} | {one.saved:.1%} | {mean:+.2f} ({low:+.2f} to {high:+.2f}) | "
              f"{seen['noticed']} of {seen['of']} |", flush=True)  # fmt: skip
        found.append(
            {"trouble": trouble, "saved": one.saved, "change_pt": mean, "change_95": (low, high), **seen}
        )
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
