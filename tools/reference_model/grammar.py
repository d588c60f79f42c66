"""Rows of the training grammar: single tasks, conversations, tool calls; and the train/test split.

Standard library only. A row is a list of (text, trained) pieces; joined, they are exactly what
`chat_template.jinja` renders. Pieces meet only at special tokens, so each may be tokenised alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import lexicon as lx
import tasks

SPECIAL = (
    "<|end|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|tools|>",
    "<|tool|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
)
TEST_SHARE = 64  # of 256 values of the first digest byte
WEIGHTS = {
    "last_word": 3,
    "reverse": 7,
    "count": 6,
    "capital": 1.5,
    "country": 1.5,
    "french": 2,
    "upper": 6,
    "extract_name": 3,
    "sentiment": 2,
    "route": 2,
    "data_class": 2,
    "redact": 2,
    "amount": 2,
    "repeat": 6,
    "larger": 7,
    "member": 10,
    "recall": 10,
    "add": 12,
    "sum": 9,
    "json_four": 8,
    "json_other": 5,
    "about": 0.4,
    "unknown": 0.8,
    "recall_all": 30,
    "member_all": 18,
}
MANDATORY = tuple(
    k for k in WEIGHTS if k not in ("json_other", "about", "unknown", "recall_all", "member_all")
)
VALUES = {
    "city": lambda r: r.choice(lx.CITIES),
    "name": tasks.person,
    "day": lambda r: r.choice(lx.DAYS),
    "item": tasks.word,
    "drug": lambda r: r.choice(lx.DRUGS),
    "ward": lambda r: f"{r.choice('ABCDE')}{r.randint(1, 12)}",
    "number": lambda r: r.randint(0, 999),
    "count": lambda r: r.randint(1, 60),
    "code": tasks.invented,
    "team": lambda r: r.choice(lx.DEPARTMENTS),
    "amount": tasks.money,
    "word": tasks.invented,
}
NUMERIC = ("number", "count")
ACTIONS = "get find check show read fetch look_up list".split()

Piece = tuple[str, bool]


@dataclass(frozen=True)
class Tool:
    """A made-up tool: `name` is action_noun, `arguments` are keys of VALUES."""

    name: str
    action: str
    noun: str
    arguments: tuple[str, ...]

    def listing(self) -> str:
        """Return the line the chat template prints for this tool."""
        return f"{self.name}({', '.join(self.arguments)})"

    def schema(self) -> dict[str, object]:
        """Return the OpenAI form of this tool."""
        kinds = {a: {"type": "integer" if a in NUMERIC else "string"} for a in self.arguments}
        body = {"type": "object", "properties": kinds, "required": list(self.arguments)}
        return {
            "type": "function",
            "function": {"name": self.name, "description": f"{self.action} {self.noun}", "parameters": body},
        }


@dataclass(frozen=True)
class ToolTask:
    """One request with its tools, the right call and a result with the right answer."""

    tools: tuple[Tool, ...]
    prompt: str
    call: Tool
    arguments: dict[str, object]
    result: str
    answer: str

    def call_text(self) -> str:
        """Return the assistant's text for the call."""
        body = json.dumps({"name": self.call.name, "arguments": self.arguments})
        return f"<tool_call>{body}</tool_call>"


def is_test(prompt: str) -> bool:
    """Say on which side of the split a prompt lies: its own digest decides."""
    return hashlib.sha256(prompt.strip().encode()).digest()[0] < TEST_SHARE


def sample(rng: Random, name: str, level: float = 1.0, *, test: bool = False) -> tasks.Sample:
    """Draw a sample of a task from one side of the split."""
    while True:
        drawn = tasks.draw(rng, name, level)
        if is_test(drawn.prompt) == test:
            return drawn


def tool(rng: Random) -> Tool:
    """Draw a tool with one or two arguments."""
    action = rng.choice(ACTIONS)
    noun = tasks.invented(rng) if tasks.chance(rng, 0.4) else rng.choice(lx.NOUNS)
    count = 1 if tasks.chance(rng, 0.7) else 2
    return Tool(f"{action}_{noun}", action.replace("_", " "), noun, tuple(rng.sample(list(VALUES), count)))


def tool_task(rng: Random, *, test: bool = False) -> ToolTask:
    """Draw a request that one of one to three tools answers."""
    while True:
        tools = tuple(tool(rng) for _ in range(rng.choice((1, 1, 2, 3))))
        chosen = rng.choice(tools)
        arguments = {a: VALUES[a](rng) for a in chosen.arguments}
        if len(arguments) == 1:
            value = next(iter(arguments.values()))
            prompt = rng.choice(
                (
                    "What is the {n} of {v}?",
                    "What is the {n} in {v}?",
                    "{A} the {n} for {v}.",
                    "{A} the {n} of {v}.",
                    "{A} {n} {k} {v}.",
                    "Use {t} for {v}.",
                    "Use {t} with {k} {v}.",
                    "Call {t} with {k} {v}.",
                    "How is the {n} in {v}?",
                    "Can you {a} the {n} for {v}?",
                    "Please {a} the {n} in {v}.",
                    "I need the {n} for {k} {v}.",
                )
            ).format(
                n=chosen.noun,
                v=value,
                A=chosen.action.capitalize(),
                a=chosen.action,
                k=chosen.arguments[0],
                t=chosen.name,
            )
        else:
            pairs = " and ".join(f"{k} {v}" for k, v in arguments.items())
            prompt = rng.choice(
                (
                    "{A} the {n} for {p}.",
                    "Use {t} with {p}.",
                    "Call {t} with {p}.",
                    "What is the {n} for {p}?",
                    "Please {a} the {n} with {p}.",
                )
            ).format(n=chosen.noun, p=pairs, A=chosen.action.capitalize(), a=chosen.action, t=chosen.name)
        if is_test(prompt) != test:
            continue
        value = rng.choice(
            (tasks.word, tasks.money, tasks.person, lambda r: f"{r.randint(0, 999)} {r.choice(lx.UNITS)}")
        )(rng)
        result = (
            value
            if tasks.chance(rng, 0.5)
            else json.dumps({rng.choice((chosen.noun, "result", "value")): value})
        )
        return ToolTask(tools, prompt, chosen, arguments, result, f"The answer is {value}.")


def turn(role: str, text: str) -> str:
    """Return one closed turn."""
    return f"<|{role}|>{text}<|end|>"


def listing(tools: tuple[Tool, ...]) -> str:
    """Return the turn that lists tools."""
    return turn("tools", "\n".join(t.listing() for t in tools))


def reply(prompt: str, answer: str, thought: str | None) -> list[Piece]:
    """Return a user turn and the trained reply, with the thought if there is one."""
    if thought is None:
        return [(turn("user", prompt) + "<|assistant|>", False), (answer + "<|end|>", True)]
    head = turn("user", prompt) + "<|assistant|><think>"
    return [(head, False), (f"{thought}</think>{answer}<|end|>", True)]


def _single(rng: Random, name: str, level: float, thoughts: bool) -> list[Piece]:
    drawn = sample(rng, name, level)
    think = thoughts and tasks.chance(rng, 0.5 if name in tasks.WORKED else 0.1)
    return reply(drawn.prompt, drawn.answer, drawn.thought if think else None)


def _tool_row(rng: Random, level: float, pick: str) -> list[Piece]:
    drawn = tool_task(rng)
    head: list[Piece] = [(listing(drawn.tools), False)]
    kind = rng.choices(("not needed", "call", "call and answer"), (22, 40, 38))[0]
    if kind == "not needed":
        return head + _single(rng, pick, level, thoughts=True)
    if kind == "call":
        thought = f"I call {drawn.call.name}." if tasks.chance(rng, 0.3) else None
        return head + reply(drawn.prompt, drawn.call_text(), thought)
    think = tasks.chance(rng, 0.12)
    return [
        *head,
        *reply(drawn.prompt, drawn.call_text(), None),
        (turn("tool", drawn.result) + "<|assistant|>" + ("<think>" if think else ""), False),
        (("I have the result.</think>" if think else "") + drawn.answer + "<|end|>", True),
    ]


def _system(rng: Random) -> str:
    """Return a system message: one of a few, or loosely related words that must not matter."""
    if tasks.chance(rng, 0.6):
        return tasks.fill(rng, rng.choice(lx.SYSTEMS))
    parts = (lx.SYSTEMS, lx.PLAIN, lx.DATA["public"], lx.DATA["internal"])
    text = ". ".join(tasks.fill(rng, rng.choice(rng.choice(parts))) for _ in range(rng.randint(1, 2)))
    return f"You are a {tasks.word(rng)} assistant. {text}" if tasks.chance(rng, 0.3) else text


def rows(seed: int, names: dict[str, float], progress: Iterator[float]) -> Iterator[list[Piece]]:
    """Yield training rows for ever; `progress` gives the share of training done before each row."""
    rng = Random(seed)  # noqa: S311 - data, not secrets
    keys, weights = list(names), list(names.values())
    for done in progress:
        level = min(1.0, 0.25 + 0.75 * done / 0.3)
        pick = rng.choices(keys, weights)[0]
        kind = rng.choices(("single", "conversation", "tools"), (83, 7, 10))[0]
        row = _tool_row(rng, level, pick) if kind == "tools" else _single(rng, pick, level, thoughts=True)
        if kind == "conversation":
            for other in rng.choices(keys, weights, k=rng.randint(1, 4)):
                row = _single(rng, other, level, thoughts=False) + row
        if tasks.chance(rng, 0.15):
            system = turn("system", _system(rng))
            at = 1 if row[0][0].startswith("<|tools|>") else 0
            row.insert(at, (system, False))
        yield row
