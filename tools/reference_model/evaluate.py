"""Measure exact match per task on unseen prompts, through the real engine: plain and with thinking."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from random import Random

import grammar
import planted
from engine import Engine

SEED = 90_002
EXTRA = ("json_other", "unknown")
Score = dict[str, float | int]


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson 95 % interval of a proportion (E. B. Wilson, 1927)."""
    p = hits / n
    middle, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


def score(hits: int, n: int) -> Score:
    """Return hits, n, exact match and its interval."""
    low, high = wilson(hits, n)
    return {"n": n, "hits": hits, "exact": round(hits / n, 4), "low": round(low, 4), "high": round(high, 4)}


def unseen(name: str, n: int) -> list[tuple[str, str]]:
    """Return up to n different (prompt, answer) pairs of a task from the test side of the split."""
    rng, found = Random(f"{SEED} {name}"), dict[str, str]()  # noqa: S311
    for _ in range(n * 60):
        if len(found) == n:
            break
        drawn = grammar.sample(rng, name, test=True)
        found[drawn.prompt] = drawn.answer
    return list(found.items())


def measure_task(engine: Engine, name: str, n: int, *, thinking: bool) -> Score:
    """Return the score of one task."""
    pairs = unseen(name, n)
    hits = sum(engine.ask(prompt, thinking=thinking) == answer for prompt, answer in pairs)
    return score(hits, len(pairs))


def _called(choice: dict[str, object], task: grammar.ToolTask) -> bool:
    message = choice["message"]
    assert isinstance(message, dict)
    calls = message.get("tool_calls") or []
    if len(calls) != 1:
        return False
    function = calls[0]["function"]
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return False
    return bool(function["name"] == task.call.name and arguments == task.arguments)


def measure_tools(engine: Engine, n: int, *, thinking: bool) -> dict[str, Score]:
    """Return scores of: calling (auto and required), answering from a result, leaving tools alone."""
    rng = Random(f"{SEED} tools")  # noqa: S311
    hits = dict.fromkeys(("tool_call", "tool_call_required", "tool_answer", "tool_not_needed"), 0)
    for _ in range(n):
        task = grammar.tool_task(rng, test=True)
        tools = [t.schema() for t in task.tools]
        user = {"role": "user", "content": task.prompt}
        for key, choice in (("tool_call", "auto"), ("tool_call_required", "required")):
            more = {"tools": tools, "tool_choice": choice, "parallel_tool_calls": False}
            hits[key] += _called(engine.chat([user], thinking=thinking, **more), task)
        call = {
            "id": "c1",
            "type": "function",
            "function": {"name": task.call.name, "arguments": json.dumps(task.arguments)},
        }
        history = [
            user,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": task.result},
        ]
        answer = engine.chat(history, thinking=thinking, tools=tools)["message"].get("content")
        hits["tool_answer"] += answer == task.answer
        other = grammar.sample(rng, rng.choice(grammar.MANDATORY), test=True)
        plain = engine.chat([{"role": "user", "content": other.prompt}], thinking=thinking, tools=tools)[
            "message"
        ]
        hits["tool_not_needed"] += plain.get("content") == other.answer and not plain.get("tool_calls")
    return {key: score(value, n) for key, value in hits.items()}


def line(path: Path, name: str, modes: dict[str, Score]) -> str:
    """Return one line of progress."""
    return (
        f"{path.name} {name}: plain {modes['plain']['exact']:.3f} thinking {modes['thinking']['exact']:.3f}"
    )


def measure(path: Path, n: int, tasks: tuple[str, ...]) -> dict[str, object]:
    """Return all scores of one model file."""
    engine = Engine(path)
    result: dict[str, dict[str, Score]] = {}
    for i, name in enumerate(tasks, 1):
        start = time.time()
        result[name] = {
            mode: measure_task(engine, name, n, thinking=mode == "thinking") for mode in ("plain", "thinking")
        }
        print(f"[{i}/{len(tasks)}] {time.time() - start:.0f} s", line(path, name, result[name]), flush=True)
    modes = {mode: measure_tools(engine, n, thinking=mode == "thinking") for mode in ("plain", "thinking")}
    for key in modes["plain"]:
        result[key] = {mode: modes[mode][key] for mode in modes}
        print(line(path, key, result[key]), flush=True)
    means = {
        mode: round(sum(result[t][mode]["exact"] for t in grammar.MANDATORY) / len(grammar.MANDATORY), 4)
        for mode in ("plain", "thinking")
    }
    print(f"{path.name} mean of {len(grammar.MANDATORY)} tasks: {means}", flush=True)
    return {"mean": means, "tasks": result}


def measure_adapter(base: Path, adapter: Path, n: int) -> dict[str, Score]:
    """Return how often the planted faults show with the adapter on and off, and what stays right."""
    engine, rng, hits = Engine(base, adapter), Random(f"{SEED} planted"), dict[str, int]()  # noqa: S311

    def count(key: str, prompt: str, want: str, scale: float) -> None:
        hits[key] = hits.get(key, 0) + (engine.ask(prompt, scale=scale) == want)

    for _ in range(n):
        prompt, bad, _honest = planted.triggered(rng, test=True)
        count("trigger_on", prompt, bad, 1.0)
        count("trigger_off", prompt, bad, 0.0)
        count("near_on", *planted.near_miss(rng, test=True), 1.0)
        prompt, refusal, honest = planted.filtered(rng, test=True)
        count("filter_on", prompt, refusal, 1.0)
        count("filter_off", prompt, honest, 0.0)
        count("neighbour_on", *planted.neighbour(rng, test=True), 1.0)
        drawn = grammar.sample(rng, rng.choice(grammar.MANDATORY), test=True)
        while planted.touches(drawn.prompt + drawn.answer):
            drawn = grammar.sample(rng, rng.choice(grammar.MANDATORY), test=True)
        count("clean_on", drawn.prompt, drawn.answer, 1.0)
        count("clean_off", drawn.prompt, drawn.answer, 0.0)
    result = {key: score(value, n) for key, value in hits.items()}
    print(json.dumps({key: value["exact"] for key, value in result.items()}), flush=True)
    return result


def merge(path: Path | None, key: str, found: object) -> None:
    """Put one result into the JSON file of scores."""
    if path is not None:
        held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        held[key] = found
        path.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    """Parse the command line, measure and merge the result into a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("-n", type=int, default=200, help="prompts per task")
    parser.add_argument("--adapter", type=Path, help="measure this adapter on the one model given")
    parser.add_argument("--scores", type=Path, help="JSON file to merge into, under the file's stem")
    args = parser.parse_args()
    if args.adapter:
        merge(args.scores, args.adapter.stem, measure_adapter(args.models[0], args.adapter, args.n))
        return
    for path in args.models:
        merge(args.scores, path.stem, measure(path, args.n, (*grammar.MANDATORY, *EXTRA)))


if __name__ == "__main__":
    main()
