"""What choosing the reasoning depth saves against always thinking, per task, with the model that ships.

Fresh prompts of every task the reference model was taught (the test side of its grammar, never trained on)
go through the embedded engine at efforts none, low, medium and high. A depth is chosen per task on one half
of the prompts and reported on the other, and the other way round, so that each prompt counts once, under a
choice it had no part in. Intervals are paired bootstraps over prompts, seeds fixed.

.venv/bin/python benchmarks/depth.py [--model reference] [-n 120] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from allod.domain.chat import ChatCall, UsageReport, Whole
from allod.domain.decision import Eligibility
from allod.domain.fleet import App, Deployment, Effort, Fleet, Operator, Price, Task, Tenant
from allod.domain.request import Admitted, Sizes
from allod.domain.usage import Usage
from allod.engines.contract import EngineContext
from allod.engines.llamacpp.driver import LlamaCpp
from allod.metering.rates import cost, tariffs_of
from allod.metering.settle import Delivered, told_apart
from allod.routing.capability import Finding
from allod.routing.depth import AtDepth, depth_evidence
from allod.routing.plan import plan
from allod.routing.question import Health, question_of
from allod.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools" / "reference_model"))
import grammar  # noqa: E402

SEED = 51_977
EFFORTS: tuple[Effort, ...] = ("none", "low", "medium", "high")
ALWAYS: Effort = "high"
TASKS = (*grammar.MANDATORY, "json_other", "unknown")
BUDGETS: dict[Effort, int] = {"low": 12, "medium": 24}
"""Tokens of thinking: this model's thoughts are 5 to 60 tokens long, so a usual budget would bind none."""
PRICE = Price(input_usd_mtok=Decimal("0.25"), output_usd_mtok=Decimal("1.25"))
MOST_TOKENS = 160
FLOOR = Decimal("0.9")
RESAMPLES = 10_000
TODAY = date(2026, 11, 26)
NOON_MS = 1_795_694_400_000


class Answer(msgspec.Struct, frozen=True):
    """What came of one prompt at one depth."""

    right: bool
    usage: Usage
    ms: float
    usd: float


Asked = dict[str, dict[Effort, list[Answer]]]


def prompts(task: str, n: int) -> list[tuple[str, str]]:
    """Return up to n different prompts with their answers, the same for a task every time."""
    rng, found = Random(f"{SEED} {task}"), dict[str, str]()  # noqa: S311 (data, not secrets)
    for _ in range(n * 60):
        if len(found) == n:
            break
        drawn = grammar.sample(rng, task, test=True)
        found[drawn.prompt] = drawn.answer
    return list(found.items())


def deployment(model: str) -> Deployment:
    """Return the model as a fleet would declare it, with a price so that tokens cost something."""
    return Deployment(
        id=model, engine="llamacpp", model=model, operator="self", price=PRICE, thinking_tokens=BUDGETS
    )


async def ask(engine: LlamaCpp, prompt: str, expected: str, effort: Effort, tariff: Any) -> Answer:
    """Ask one prompt at one depth, greedily."""
    call = ChatCall(
        body={"model": "m", "messages": [{"role": "user", "content": prompt}], "temperature": 0},
        stream=False,
        effort=effort,
        thinking_tokens=BUDGETS.get(effort),
        max_output_tokens=MOST_TOKENS,
    )
    started, message, usage = time.perf_counter(), dict[str, Any](), Usage()
    async for event in engine.chat(call):
        if isinstance(event, Whole):
            body = event.body or msgspec.json.decode(event.raw or b"{}")
            message = body["choices"][0]["message"]
        elif isinstance(event, UsageReport):
            usage = event.usage
    ms = 1000 * (time.perf_counter() - started)
    text, thought = message.get("content") or "", message.get("reasoning_content") or ""
    seen = Delivered(
        bytes=len((text + thought).encode()), pieces=1, thought_bytes=len(thought.encode()),
        thinks=effort != "none",
    )  # fmt: skip
    usage = told_apart(usage, seen)
    whole = Usage(
        input_tokens=usage.total_input_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )
    return Answer(text == expected, usage, ms, float(cost(whole, tariff.at(whole.input_tokens))))


async def ask_all(model: str, n: int) -> Asked:
    """Ask every prompt of every task at every depth."""
    declared = deployment(model)
    tariff = tariffs_of(_fleet(declared), None, NOON_MS).by_deployment[model]
    asked: Asked = {}
    with tempfile.TemporaryDirectory(prefix="depth") as folder:
        vault = Vault(Path(folder) / "vault")
        context = EngineContext(environ={}, allow_address=lambda _h, _p: False, state_dir="", vault=vault)
        engine = LlamaCpp(declared, context)
        await engine.start()
        try:
            for i, task in enumerate(TASKS, 1):
                start, each = time.monotonic(), prompts(task, n)
                asked[task] = {effort: [] for effort in EFFORTS}
                for prompt, expected in each:
                    for effort in EFFORTS:  # side by side: what slows the machine slows all alike
                        asked[task][effort].append(await ask(engine, prompt, expected, effort, tariff))
                took = time.monotonic() - start
                sys.stderr.write(f"[{i}/{len(TASKS)}] {model} {task}: {len(each)} prompts, {took:.0f} s\n")
        finally:
            await engine.close()
    return asked


def mean(values: list[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


def halves(n: int) -> tuple[list[int], list[int]]:
    """Split prompts in two, as they come: they were drawn at random."""
    return list(range(0, n, 2)), list(range(1, n, 2))


def equal_choice(of: dict[Effort, list[Answer]], on: list[int]) -> Effort:
    """Choose the cheapest depth that is right on these prompts at least as often as always thinking."""
    least = sum(of[ALWAYS][i].right for i in on)
    good = [e for e in EFFORTS if sum(of[e][i].right for i in on) >= least]
    return min(good, key=lambda e: sum(of[e][i].usd for i in on))


def product_choice(model: str, of: dict[Effort, list[Answer]], on: list[int]) -> Effort | None:
    """Choose as the gateway does, objective ``cheapest`` under a floor; None where no depth passes it."""
    found = []
    for effort in EFFORTS:
        mine = [of[effort][i] for i in on]
        right = sum(one.right for one in mine)
        found.append(
            AtDepth(
                effort=effort,
                finding=Finding(
                    successes=right, failures=len(mine) - right, evaluation="sha256:0", at="",
                    until=TODAY + timedelta(days=1),
                ),
                answers=len(mine),
                output_tokens=sum(one.usage.output_tokens for one in mine),
                reasoning_tokens=sum(one.usage.reasoning_tokens for one in mine),
                total_ms=0,
            )
        )  # fmt: skip
    declared = msgspec.structs.replace(deployment(model), depths={"task": depth_evidence(found, TODAY)})
    tokens = max(1, round(mean([float(of["none"][i].usage.total_input_tokens) for i in on])))
    fleet = _fleet(declared)
    law = Eligibility(kept=(model,), excluded=(), conditions={}, relaxed=(), pack_digest="", fleet_digest="")
    admitted = Admitted(
        receipt="", received_at_ms=NOON_MS, app="app", surface="chat", classes=(), purpose=None, task="task",
        model="task", pinned=(), needs=("text",), sizes=Sizes(body_bytes=0, input_tokens=tokens),
        min_quality=FLOOR, max_cost_usd=None, deadline_ms=None, effort=None, efforts=EFFORTS, tier=None,
        stream=False,
    )  # fmt: skip
    made = plan(question_of(admitted, law, fleet, tariffs_of(fleet, None, NOON_MS), Health()))
    return made.attempts[0].effort if made.attempts else None


def _fleet(declared: Deployment) -> Fleet:
    return Fleet(
        tenant=Tenant(id="t", home="DE", bloc=("EEA",)),
        apps={"app": App(id="app")},
        operators={"self": Operator(id="self", own=True)},
        deployments={declared.id: declared},
        tasks={"task": Task(name="task", efforts=EFFORTS, objective="cheapest")},
    )


class Chosen(msgspec.Struct, frozen=True):
    """Choices on both halves, and prompts as they are then served: indices into the answers, by depth."""

    efforts: tuple[Effort | None, Effort | None]
    served: list[tuple[int, Effort]]


def crossed(of: dict[Effort, list[Answer]], choose: Any) -> Chosen:
    """Choose on one half and serve the other, both ways; a half nothing passes for is not served."""
    first, second = halves(len(of[ALWAYS]))
    a, b = choose(of, first), choose(of, second)
    served = [(i, a) for i in second if a is not None] + [(i, b) for i in first if b is not None]
    return Chosen((a, b), served)


def compared(asked: Asked, chosen: dict[str, Chosen]) -> dict[str, Any]:
    """Return saving and difference in exact match against always-high, with 95 % intervals."""
    import numpy as np  # noqa: PLC0415 (heavy)

    rng, sums = np.random.default_rng(SEED), np.zeros((RESAMPLES, 5))
    total = np.zeros(5)
    for task, choice in chosen.items():
        if not choice.served:
            continue
        rows = np.array(
            [
                [
                    asked[task][e][i].usd, asked[task][ALWAYS][i].usd,
                    asked[task][e][i].right - asked[task][ALWAYS][i].right,
                    asked[task][e][i].usage.total_output_tokens,
                    asked[task][ALWAYS][i].usage.total_output_tokens,
                ]
                for i, e in choice.served
            ]
        )  # fmt: skip
        total += rows.sum(0)
        weights = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), RESAMPLES)
        sums += weights @ rows
    n = sum(len(choice.served) for choice in chosen.values())
    if not n:
        return {"n": 0}

    def interval(values: Any) -> list[float]:
        return [float(x) for x in np.percentile(values, (2.5, 97.5))]

    return {
        "n": n,
        "saving": float(1 - total[0] / total[1]),
        "saving_95": interval(1 - sums[:, 0] / sums[:, 1]),
        "difference": float(total[2] / n),
        "difference_95": interval(sums[:, 2] / n),
        "tokens_saving": float(1 - total[3] / total[4]),
    }


def task_row(model: str, task: str, asked: Asked) -> dict[str, Any]:
    """Return everything that is reported of a task."""
    of = asked[task]
    equal = crossed(of, equal_choice)
    floor = crossed(of, lambda answers, on: product_choice(model, answers, on))
    depths = {}
    for effort in EFFORTS:
        mine = of[effort]
        right = sum(one.right for one in mine)
        depths[effort] = {
            "exact": right / len(mine),
            "output_tokens": mean([float(one.usage.total_output_tokens) for one in mine]),
            "thinking_tokens": mean([float(one.usage.reasoning_tokens) for one in mine]),
            "median_ms": statistics.median(one.ms for one in mine),
            "usd_per_million_solved": 1e6 * sum(one.usd for one in mine) / right if right else None,
        }
    return {
        "task": task,
        "n": len(of[ALWAYS]),
        "depths": depths,
        "chosen": equal.efforts,
        **compared(asked, {task: equal}),
        "floor": {"chosen": floor.efforts, **compared(asked, {task: floor})},
    }


def report(model: str, asked: Asked) -> dict[str, Any]:
    """Return all figures of a model, tasks and totals."""

    def under_floor(answers: dict[Effort, list[Answer]], on: list[int]) -> Effort | None:
        return product_choice(model, answers, on)

    def everywhere(effort: Effort) -> dict[str, Chosen]:
        every = {task: [(i, effort) for i in range(len(of[ALWAYS]))] for task, of in asked.items()}
        return {task: Chosen((effort, effort), served) for task, served in every.items()}

    rows = [task_row(model, task, asked) for task in asked]
    equal = {task: crossed(of, equal_choice) for task, of in asked.items()}
    floor = {task: crossed(of, under_floor) for task, of in asked.items()}
    always = {effort: compared(asked, everywhere(effort)) for effort in EFFORTS}
    return {
        "model": model,
        "rows": rows,
        "total": compared(asked, equal),
        "total_floor": compared(asked, floor),
        "always": always,
    }


def _slashed(values: Iterable[float | None]) -> str:
    return " / ".join("-" if value is None else f"{value:.0f}" for value in values)


def _span(found: dict[str, Any], name: str) -> str:
    low, high = found[f"{name}_95"]
    places = 1 if name == "difference" else 0
    return f"{100 * found[name]:+.{places}f} ({100 * low:+.{places}f} to {100 * high:+.{places}f})"


def printed(found: dict[str, Any]) -> str:
    """Return the tables in Markdown."""
    out = [
        f"{found['model']}; each cell: none / low / medium / high",
        "",
        "| task | exact match, % | output tokens | median ms | USD per million solved |",
        "|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        each = [row["depths"][e] for e in EFFORTS]
        cells = (
            [100 * d["exact"] for d in each],
            [d["output_tokens"] for d in each],
            [d["median_ms"] for d in each],
            [d["usd_per_million_solved"] for d in each],
        )
        out.append(f"| {row['task']} | {' | '.join(map(_slashed, cells))} |")
    out += [
        "",
        "| task | chosen (two halves) | saving, % | exact match, points | under a floor of 0.9 | saving, % |",
        "|---|---|---|---|---|---|",
    ]
    total = {"task": "all", "chosen": (), **found["total"], "floor": {"chosen": (), **found["total_floor"]}}
    for row in (*found["rows"], total):
        floor = row["floor"]
        named = ", ".join("none passes" if e is None else e for e in dict.fromkeys(floor["chosen"]))
        out.append(
            f"| {row['task']} | {', '.join(dict.fromkeys(row['chosen']))} | {_span(row, 'saving')} | "
            f"{_span(row, 'difference')} | {named} | {_span(floor, 'saving') if floor['n'] else ''} |"
        )
    out += ["", "| always | saving, % | exact match, points |", "|---|---|---|"]
    out += [
        f"| {effort} | {_span(row, 'saving')} | {_span(row, 'difference')} |"
        for effort, row in found["always"].items()
    ]
    return "\n".join(out)


def main() -> None:
    """Parse the command line, ask, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", help="a shipped model; may be repeated")
    parser.add_argument("-n", type=int, default=120, help="prompts per task")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args()
    found = [report(model, asyncio.run(ask_all(model, args.n))) for model in args.model or ["reference"]]
    for one in found:
        sys.stdout.write(printed(one) + "\n\n")
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
