"""What models answered: recorded outcomes of zeroeval, or where they are not there, simulated ones.

``prompts.parquet`` and ``outcomes.parquet`` are described in docs/routing.md. Without them (or without
pyarrow) answers are drawn from an item-response model with a fixed seed: a prompt has a difficulty
b ~ N(0, 1), a model an ability a, and it is right with probability 1 / (1 + exp(-1.7 (a - hardness - b)));
a wrong answer is one of three per prompt, the first of them two times in three, so that wrong models
sometimes agree. Tokens are drawn around the means of the models. Simulated outcomes show how the gateway
behaves, not how good any model is; whatever is written from them says SIMULATED OUTCOMES.
"""

from __future__ import annotations

import hashlib
import math
import random
from pathlib import Path
from typing import Any, Final

import msgspec

TASKS: Final = ("gsm", "crux", "math-l5")
RECORDED: Final = (
    "recorded outcomes of zeroeval (github.com/WildEval/ZeroEval at 8c1485e, Apache-2.0; its GSM8K, CRUXEval "
    "and MATH prompts MIT), replayed"
)
SIMULATED: Final = "SIMULATED OUTCOMES, drawn from an item-response model with seed {seed}: no real model's"
_ABILITY: Final = {
    "Meta-Llama-3.1-70B-Instruct": 1.0, "Qwen2-72B-Instruct": 0.8, "deepseek-v2.5-0908": 1.1,
    "Mistral-Large-2": 1.3, "claude-3-5-sonnet-20241022": 1.8, "gemma-2-2b-it": -0.9,
}  # fmt: skip
_TOKENS: Final = {"gsm": (140, 160), "crux": (170, 180), "math-l5": (150, 450)}
_HARDNESS: Final = {"gsm": -1.6, "crux": 0.3, "math-l5": 1.2}
_SLOPE: Final = 1.7
_LURE: Final = 2 / 3


class Answered(msgspec.Struct, frozen=True):
    """What one model answered to one prompt: key of the final answer (empty for none), and tokens."""

    key: str
    input_tokens: int
    output_tokens: int


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """Prompts by task, answers by prompt and model, and how good each answer is.

    Attributes:
        said: where they come from, for whoever reads a figure.
        prompts: by task, the texts; an id is a text's ``prompt_id``.
        answers: by (prompt id, model). quality: by (prompt id, key), 0 to 1; no key is 0.

    """

    said: str
    prompts: dict[str, list[str]]
    answers: dict[tuple[str, str], Answered]
    quality: dict[tuple[str, str], float]

    def right(self, prompt: str, key: str) -> float:
        """Return how good an answer is; the gateway never sees this."""
        return self.quality.get((prompt, key), 0.0) if key else 0.0


def prompt_id(text: str) -> str:
    """Return the name of a prompt: 16 hex digits of SHA-256 of the text with its whitespace made single."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16]


def load(folder: Path, models: tuple[str, ...], seed: int) -> tuple[Outcomes, str]:
    """Return the outcomes of these models, and why they are not recorded ones (empty where they are)."""
    try:
        import pyarrow.parquet as pq  # noqa: PLC0415 (of the development extra)
    except ImportError:
        return simulated(models, seed), "pyarrow is not installed (it is in the extra `dev`)"
    try:
        prompts = pq.read_table(folder / "prompts.parquet").to_pylist()
        rows = pq.read_table(folder / "outcomes.parquet").to_pylist()
    except OSError as error:
        return simulated(models, seed), f"no recorded outcomes in {folder.name}: {type(error).__name__}"
    return _recorded(prompts, rows, models), ""


def _recorded(prompts: list[dict[str, Any]], rows: list[dict[str, Any]], models: tuple[str, ...]) -> Outcomes:
    """Keep the prompts that all models answered, as the same text is to be asked of each."""
    answers, quality = {}, {}
    for row in rows:
        key = row["answer_key"] or ""
        quality[row["prompt_id"], key] = float(row["quality"])
        if row["model"] in models:
            tokens = row["input_tokens"] or 1, row["output_tokens"] or 1
            answers[row["prompt_id"], row["model"]] = Answered(key, *tokens)
    whole: dict[str, list[str]] = {task: [] for task in TASKS}
    for row in sorted(prompts, key=lambda one: one["prompt_id"]):
        name = prompt_id(row["prompt"])
        if row["task"] in whole and all((name, model) in answers for model in models):
            whole[row["task"]].append(row["prompt"])
    return Outcomes(said=RECORDED, prompts=whole, answers=answers, quality=quality)


def simulated(models: tuple[str, ...], seed: int, of_each: int = 400) -> Outcomes:
    """Draw outcomes from the item-response model of this file's head."""
    chance = random.Random(seed)  # noqa: S311 (a simulation, to be drawn again alike)
    prompts: dict[str, list[str]] = {task: [] for task in TASKS}
    answers, quality = {}, {}
    for task in TASKS:
        for n in range(of_each):
            text = f"Simulated exercise {n} of {task}: give its final answer."
            name = prompt_id(text)
            prompts[task].append(text)
            right, *wrong = (hashlib.sha256(f"{name} {k}".encode()).hexdigest()[:8] for k in range(4))
            quality |= {(name, right): 1.0} | {(name, key): 0.0 for key in wrong}
            hard = _HARDNESS[task] + chance.gauss(0, 1)
            for model in models:
                able = 1 / (1 + math.exp(-_SLOPE * (_ABILITY.get(model, 0.5) - hard)))
                lured = wrong[0] if chance.random() < _LURE else wrong[chance.randrange(1, 3)]
                key = right if chance.random() < able else lured
                asked, said = _TOKENS[task]
                spread = chance.lognormvariate(0, 0.4)
                answers[name, model] = Answered(key, asked, max(1, round(said * spread)))
    return Outcomes(said=SIMULATED.format(seed=seed), prompts=prompts, answers=answers, quality=quality)
