"""How far the planner's speed is off on measured points it never saw, per engine and vendor.

    make bench-planner            # the packaged points
    python benchmarks/planner.py --data FOLDER/measured_public.csv [--by shape] [--json]

Cells (device, model, precision) are left out whole; the interval of a cell is as wide as the errors of the
*other* cells. Brackets are 80 % bootstrap intervals, drawn by cell. Errors are of the metric as published:
tokens a second for local streams and prompts, ms for serving.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from allod.planner import bench
from allod.planner.speed import points
from allod.planner.speed.crossing import ANCHORS, KEYS, Left, left_out
from allod.planner.speed.heads import timed
from allod.planner.speed.intervals import widths
from allod.planner.speed.rows import text

NAMES = {
    "stream": "decode, one stream (tok/s)",
    "serve": "serving, time per output token (ms)",
    "first": "serving, time to first token (ms)",
    "prompt": "prompt, local engine (tok/s)",
}
INVERSE = {"stream", "prompt"}
DRAWS = 400
FEW = 4


def error(name: str, truth: float, said: float, sd: float) -> float:
    """Return the relative error of the metric as ``bench.predict`` answers it, from logarithms of ms."""
    over = truth - said if name in INVERSE else said - truth
    return abs(float(np.exp(over - bench.LEAN * min(sd, 1.0) ** 2)) - 1)


def covered(left: Sequence[Left], *, anchored: bool) -> list[bool]:
    """Tell for each point whether the interval that the other cells give holds it."""
    out = []
    for one in left:
        others = [two for two in left if two.point.case.cell != one.point.case.cell]
        made = widths(
            [two.score for two in others],
            [two.point.case.engine.family for two in others],
            {},
            [two.anchored_score for two in others if two.anchored_score is not None],
        )
        width = made.anchored if anchored else made.of(one.point.case.engine.family, (), 0)
        score = one.anchored_score if anchored else one.score
        assert score is not None
        out.append(score <= width)
    return out


def bracket(
    values: Sequence[float], cells: Sequence[str], figure: Callable[[np.ndarray], float]
) -> tuple[float, float]:
    """Return the 80 % bootstrap interval of a figure, cells drawn whole."""
    rng, by = np.random.default_rng(0), {}
    for value, cell in zip(values, cells, strict=True):
        by.setdefault(cell, []).append(value)
    groups = list(by.values())
    drawn = [
        figure(np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))]))
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(drawn, [0.1, 0.9])
    return float(low), float(high)


def line(
    name: str, label: str, left: Sequence[Left], held: Sequence[bool], *, anchored: bool = False
) -> dict[str, object]:
    """Return one row of the table."""
    said = [(one.anchored, one.anchored_sd) if anchored else (one.mean, one.sd) for one in left]
    errors = [
        error(name, one.point.y, at, sd)
        for one, (at, sd) in zip(left, said, strict=True)
        if at is not None and sd is not None
    ]
    cells = [one.point.case.cell for one in left]
    middle, tail = float(np.median(errors)), float(np.quantile(errors, 0.9))
    return {
        "what": NAMES[name],
        "group": label,
        "rows": len(errors),
        "cells": len(set(cells)),
        "median": middle,
        "median_80": bracket(errors, cells, lambda x: float(np.median(x))),
        "p90": tail,
        "p90_80": bracket(errors, cells, lambda x: float(np.quantile(x, 0.9))),
        "covered": float(np.mean(held)),
    }


def table(name: str, left: Sequence[Left]) -> list[dict[str, object]]:
    """Return the rows of one quantity: all, each engine, each vendor, and with anchors."""
    held = covered(left, anchored=False)
    out = [line(name, "all", left, held)]
    for kind, key in (
        ("engine", lambda one: one.point.case.engine.family),
        ("vendor", lambda one: one.point.case.machine.vendor),
    ):
        for group in sorted({key(one) for one in left}):
            index = [i for i, one in enumerate(left) if key(one) == group]
            out.append(line(name, f"{kind} {group}", [left[i] for i in index], [held[i] for i in index]))
    anchored = [one for one in left if one.anchored is not None]
    if anchored:
        out.append(
            line(name, f"all, {ANCHORS} anchors", anchored, covered(anchored, anchored=True), anchored=True)
        )
    return out


def memory(rows: Sequence[dict[str, str]]) -> dict[str, object]:
    """Return how often the answer to 'does it run' is right, and how many rows are answered at all."""
    right = {"0": [0, 0], "1": [0, 0]}
    answered, peaks = 0, []
    for row in rows:
        asked = {key: value for key, value in row.items() if key != "value"}
        answered += bool(bench.predict(asked))
        truth = "0" if text(row, "metric") == "fits" and float(row["value"]) == 0 else "1"
        said = bench.predict(asked | {"metric": "fits", "unit": "bool"})["value"]
        right[truth][0] += said == float(truth)
        right[truth][1] += 1
        if text(row, "metric") in {"peak_mem", "checkpoint_size"}:
            peaks.append(abs(bench.predict(asked)["value"] / float(row["value"]) - 1))
    return {
        "answered": answered / len(rows),
        "oom": right["0"],
        "ran": right["1"],
        "bytes": float(np.median(peaks or [0])),
    }


def show(one: dict[str, object]) -> None:
    """Print a row."""
    few = "  few cells" if int(str(one["cells"])) < FEW else ""
    (a, b), (c, d) = one["median_80"], one["p90_80"]
    print(
        f"  {one['group']:22} {one['rows']:4} {one['cells']:5}  {one['median']:6.1%} [{a:.1%} {b:.1%}]"
        f"  {one['p90']:6.1%} [{c:.0%} {d:.0%}]  {one['covered']:4.0%}{few}"
    )


def main() -> int:
    """Print the table."""
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--data", type=Path, help="measured points; default: those that ship")
    ask.add_argument("--by", choices=sorted(KEYS), default="cell", help="what is left out whole")
    ask.add_argument("--seed", type=int, default=0, help="of the draw of anchors")
    ask.add_argument("--json", action="store_true", dest="as_json")
    given = ask.parse_args()
    rows = (
        list(csv.DictReader(given.data.read_text("utf-8").splitlines()))
        if given.data
        else list(points.points())
    )
    found = timed(rows)
    out: dict[str, object] = {}
    for name in NAMES:
        left = left_out(found, name, given.by, anchors=ANCHORS, seed=given.seed)
        out[name] = table(name, left) if left else []
    out["memory"] = held = memory(rows)
    if given.as_json:
        print(json.dumps(out, indent=1))
        return 0
    print(f"{len(rows)} rows, {len(found)} times; left out whole: {given.by}")
    print(
        "  group                  rows cells  median [80 %]        90th [80 %]      held by the 80 % interval"
    )
    for name, title in NAMES.items():
        print(title)
        for one in out[name]:
            show(one)
    print(
        f"rows answered {held['answered']:.0%}; out of memory right {held['oom'][0]} of {held['oom'][1]};",
        end=" ",
    )
    print(f"ran right {held['ran'][0]} of {held['ran'][1]}; median error of bytes {held['bytes']:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
