"""Plans by per-request estimates on real outcomes: what they move, what they add to a decision.

    python benchmarks/routing/planned.py --data FOLDER [--one-task] [--disguise easy] [--seed 0]

FOLDER holds ``zeroeval/``. By five-fold cross-validation each prompt is planned twice by the product's own
code (``routing.plan``, ``gateway.decide``): by what evaluations of the other folds say of its task, and by
what an estimator fitted to them says of it. What the first attempt of each plan came to is what counts. With
``--one-task`` all prompts are said to be of one task, as where an organisation's task mixes easy and hard
work. With ``--disguise easy`` (or ``hard``) every prompt carries three copies of that prompt of the other
folds which the deployments are estimated likeliest (or unlikeliest) to solve. Intervals are of 95 %, by a
bootstrap over prompts. The time is CPU time of one thread: features, estimates, plan and record, beside the
remembered decision without.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from data import Outcomes, folds, read

from allod.domain.classes import expand
from allod.domain.fleet import App, Deployment, Fleet, Operator, Price, Task, Tenant
from allod.domain.request import Admitted, Sizes
from allod.gateway.decide import Decider, Decision
from allod.gateway.estimates.planning import able, pairs_of
from allod.gateway.estimates.words import read_prompt
from allod.gateway.packs import find
from allod.policy.policy import Policy
from allod.routing.capability import Finding, evidence
from allod.routing.estimate import Estimator, Seen
from allod.routing.held_out import worth
from allod.routing.question import Health
from allod.routing.record import holds

POOL = (
    "claude-3-5-sonnet-20241022",
    "gpt-4o-2024-08-06",
    "gpt-4o-mini-2024-07-18",
    "Meta-Llama-3.1-70B-Instruct",
    "Qwen2-72B-Instruct",
    "deepseek-v2.5-0908",
)
CASES: tuple[tuple[str, str | None], ...] = (
    ("best", None), ("cheapest", None), ("cheapest", "0.6"), ("cheapest", "0.7"), ("sovereign", "0.6"),
)  # fmt: skip
KEY = b"a secret of this benchmark, 32 b"
AT_MS = 1_790_000_000_000
DRAWS = 1000


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Per prompt: success and USD of the first attempt, without estimates and with."""

    bare: np.ndarray
    with_them: np.ndarray
    bare_usd: np.ndarray
    with_usd: np.ndarray
    shut_out: float


def prices(data: Outcomes, columns: list[int]) -> np.ndarray:
    """Return USD per million tokens by which a mean answer has 500: its cost stands for its length."""
    return np.asarray(np.nanmean(data.cost[:, columns], 0) / 500 * 1e6)


def decider_of(
    data: Outcomes, columns: list[int], rows: np.ndarray, objective: Any, floor: str | None
) -> Decider:
    """Build the product's decider over the pool, with what these prompts say of each task as evaluations."""
    usd = prices(data, columns)
    tasks = sorted({one["task"] for one in data.prompts})
    task_of = np.asarray([one["task"] for one in data.prompts])
    today = datetime.fromtimestamp(AT_MS / 1000, UTC).date()
    deployments = {}
    for at, column in enumerate(columns):
        known = {}
        for task in tasks:
            mine = data.quality[rows[task_of[rows] == task], column]
            mine = mine[np.isfinite(mine)]
            finding = Finding(
                successes=float(mine.sum()), failures=float(len(mine) - mine.sum()), evaluation="sha256:00",
                at="2026-09-20T00:00:00Z", until=today.replace(year=today.year + 1),
            )  # fmt: skip
            known[task] = evidence(None, (), (finding,), today)
        name = data.models[column]
        open_ = name in data.open_weights
        deployments[f"d{at}"] = Deployment(
            id=f"d{at}", engine="vllm", model=name, operator="self", capability=known,
            price=Price(input_usd_mtok=Decimal(0), output_usd_mtok=Decimal(repr(round(float(usd[at]), 4)))),
            base_url="http://127.0.0.1:1/v1", takes=frozenset({"text"}), approved=True,
            context_tokens=128_000 if open_ else 200_000,
        )  # fmt: skip
    limit = None if floor is None else Decimal(floor)
    fleet = Fleet(
        tenant=Tenant(id="bench", home="DE", bloc=("EEA",), default_classes=("public",)),
        apps={"app": App(id="app", classes=("public",))},
        operators={"self": Operator(id="self", own=True)},
        deployments=deployments,
        tasks={
            name: Task(name=name, objective=objective, min_quality=limit, estimate=True) for name in tasks
        },
    )
    return Decider(Policy(find().some(["base"]), fleet), fleet, None)


def admitted(prompt: dict[str, str], floor: str | None) -> Admitted:
    """Admit a prompt as the gateway does."""
    size = len(prompt["prompt"])
    return Admitted(
        receipt="r_00000000_01ARZ3NDEKTSV4RRFFQ69G5FAV", received_at_ms=AT_MS, app="app", surface="chat",
        classes=expand(("public",)), purpose=None, task=prompt["task"], model="auto", pinned=(),
        needs=("text",), sizes=Sizes(body_bytes=size, input_tokens=max(1, size // 4)),
        min_quality=None if floor is None else Decimal(floor), max_cost_usd=None, deadline_ms=None,
        effort=None, tier=None, stream=False,
    )  # fmt: skip


def estimator_of(data: Outcomes, columns: list[int], rows: np.ndarray) -> Estimator:
    """Fit to what evaluations of these prompts found."""
    usd, estimator = prices(data, columns), Estimator()
    seen = []
    for at in rows:
        one = data.prompts[at]
        features = read_prompt(one["prompt"], one["task"], KEY)
        for n, column in enumerate(columns):
            if np.isfinite(data.quality[at, column]):
                tokens = round(float(data.cost[at, column]) / float(usd[n]) * 1e6)
                seen.append(
                    Seen(
                        receipt=one["prompt_id"], deployment=f"d{n}", features=features, at_ms=AT_MS,
                        quality=float(data.quality[at, column]), output_tokens=max(1, tokens),
                    )
                )  # fmt: skip
    estimator.fit(seen)
    return estimator


def counts_of(data: Outcomes, columns: list[int], rows: np.ndarray) -> dict[tuple[str, str], int]:
    """Count outcomes by task and deployment."""
    out: dict[tuple[str, str], int] = {}
    for at in rows:
        for n in range(len(columns)):
            key = data.prompts[at]["task"], f"d{n}"
            out[key] = out.get(key, 0) + 1
    return out


def disguise(data: Outcomes, columns: list[int], rows: np.ndarray, by: Estimator, how: str) -> str:
    """Return three copies of the prompt that looks easiest, or hardest."""
    names = [f"d{n}" for n in range(len(columns))]
    means = []
    for at in rows:
        one = data.prompts[at]
        found = by.predict(read_prompt(one["prompt"], one["task"], KEY), names)
        means.append(sum(each.success for each in found.values()))
    chosen = rows[int(np.argmax(means) if how == "easy" else np.argmin(means))]
    text: str = data.prompts[chosen]["prompt"][:1200] + "\n\n"
    return 3 * text


def first(of: Decision) -> int | None:
    """Return the column of whom a decision asks first, None where it refuses."""
    return int(of.plan.attempts[0].deployment[1:]) if of.plan.attempts else None


def played(
    data: Outcomes,
    columns: list[int],
    fold: np.ndarray,
    case: tuple[str, str | None],
    fits: dict[int, Estimator],
    disguises: dict[int, str],
    spent: list[tuple[float, float]],
) -> Row:
    """Plan every prompt by what the other folds taught."""
    (objective, floor), n = case, len(data.prompts)
    out = {name: np.full(n, np.nan) for name in ("bare", "with_them", "bare_usd", "with_usd")}
    gone = able_n = 0
    for k in sorted(set(fold)):
        near, far = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        decider, counts = decider_of(data, columns, near, objective, floor), counts_of(data, columns, near)
        for at in far:
            asked = admitted(data.prompts[at], floor)
            bare = decider.decide(asked, Health())
            begun = time.process_time()
            known = decider.decide(asked, Health())
            middle = time.process_time()
            text = disguises[int(k)] + data.prompts[at]["prompt"]
            read_ = read_prompt(text, data.prompts[at]["task"], KEY)
            pairs = pairs_of(fits[k], counts, read_, able(known))
            made = decider.estimated(known, pairs, (("fitted", "sha256:00"),)) if pairs else known
            spent.append((middle - begun, time.process_time() - middle))
            assert set(able(made)) <= set(able(bare))
            able_n += len(able(bare))
            gone += len(able(bare)) - len(able(made))
            for name, one in (("bare", bare), ("with", made)):
                column = first(one)
                if column is not None:
                    out["with_them" if name == "with" else "bare"][at] = data.quality[at, columns[column]]
                    out[f"{name}_usd"][at] = data.cost[at, columns[column]]
            assert holds(made.record)
    return Row(**out, shut_out=gone / max(1, able_n))


def said(name: str, row: Row) -> None:
    """Print a line: success, spend and USD per success, without and with estimates."""
    both = np.flatnonzero(np.isfinite(row.bare) & np.isfinite(row.with_them))
    refused = [float(np.isnan(one).mean()) for one in (row.bare, row.with_them)]

    def figures(at: np.ndarray) -> np.ndarray:
        q0, q1 = row.bare[at].mean(), row.with_them[at].mean()
        c0, c1 = row.bare_usd[at].sum(), row.with_usd[at].sum()
        return np.asarray([100 * (q1 - q0), 100 * (1 - c1 / c0), 100 * (1 - (c1 / q1) / (c0 / q0))])

    chance = np.random.Generator(np.random.PCG64(1))
    drawn = np.stack([figures(chance.choice(both, len(both))) for _ in range(DRAWS)])
    now, (low, high) = figures(both), np.quantile(drawn, [0.025, 0.975], axis=0)
    spans = [f"{a:+.1f} ({b:+.1f} to {c:+.1f})" for a, b, c in zip(now, low, high, strict=True)]
    print(
        f"| {name} | {100 * np.nanmean(row.bare):.1f} | {100 * np.nanmean(row.with_them):.1f} | "
        + " | ".join(spans)
        + f" | {100 * refused[0]:.1f}, {100 * refused[1]:.1f} | {100 * row.shut_out:.1f} |"
    )


def main() -> int:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one-task", action="store_true")
    parser.add_argument("--disguise", choices=("easy", "hard"))
    args = parser.parse_args()
    data = read(args.data / "zeroeval" if (args.data / "zeroeval").is_dir() else args.data)
    if args.one_task:
        data = msgspec.structs.replace(data, prompts=[{**one, "task": "mixed"} for one in data.prompts])
    columns = [data.models.index(name) for name in POOL]
    fold = folds(len(data.prompts), 5, args.seed)
    begun = time.process_time()
    fits = {int(k): estimator_of(data, columns, np.flatnonzero(fold != k)) for k in set(fold)}
    print(f"fit of {len(data.prompts) * 4 // 5} prompts: {(time.process_time() - begun) / 5:.1f} s CPU")
    for one in worth(estimator_of(data, columns, np.arange(len(data.prompts))).evidence):
        print(
            f"{one.task}: calibration error {one.calibration_error:.3f}, Brier {one.brier:.4f}, of the "
            f"rate {one.brier_of_rate:.4f}, gain at least {one.gain_low:.4f}, used: {one.tells}"
        )
    print(
        "| objective, floor | success % | with | change, pt | spend saved, % | per success saved, % | "
        "refused, % | shut out, % |"
    )
    spent: list[tuple[float, float]] = []
    disguises = {
        k: ""
        if args.disguise is None
        else disguise(data, columns, np.flatnonzero(fold != k), one, args.disguise)
        for k, one in fits.items()
    }
    for objective, floor in CASES:
        row = played(data, columns, fold, (objective, floor), fits, disguises, spent)
        said(f"{objective}, {floor or 'none'}", row)
    times = np.sort(np.asarray(spent), 0) * 1e3
    at = [len(times) // 2, int(len(times) * 0.95)]
    print(f"remembered decision: median {times[at[0], 0]:.3f} ms, 95 % {times[at[1], 0]:.3f} ms (CPU)")
    print(f"by estimates, added: median {times[at[0], 1]:.3f} ms, 95 % {times[at[1], 1]:.3f} ms (CPU)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
