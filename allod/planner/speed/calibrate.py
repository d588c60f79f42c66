"""Probing a live endpoint: what is sent, and what two answers of different length say about its speed.

Each probe is two requests with fresh prompts, one answer of a single token and one of many: the first takes
the time to the first token, the difference divided by the tokens between is the time per token. Prompts begin
with their own number, so that no cache of an earlier prompt shortens them. Only the sentences below are sent.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from datetime import date
from typing import Final

import msgspec

from allod.domain.errors import Invalid, Unavailable
from allod.planner.speed.anchors import Anchor, Metric, check

SENTENCE: Final = "The blue lamp on the long table gives a warm light in the evening. "
TASKS: Final = (
    "Now write the whole numbers from one on, as words, and do not stop before you are told to.",
    "Write a long story about a lamp.",
    "Repeat the word lamp a hundred times.",
)
"""Tried in turn until one is answered at length."""
WORDS_PER_TOKEN: Final = 0.78
FEWEST: Final = 8
"""Tokens an answer must have, so that the time per token is more than noise."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """One answer: tokens in and out as the endpoint counts them, and its milliseconds as a whole."""

    prompt_tokens: int
    output_tokens: int
    ms: float


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What the anchors of a probe or of a hand hold besides their value."""

    device: str
    devices: int
    model: str
    quant: str
    engine: str


Ask = Callable[[str, int], Timing]


def prompt_text(tokens: int, number: int, task: int = 0) -> str:
    """Return a public synthetic prompt of about so many tokens; no two numbers share a beginning."""
    words = max(int(tokens * WORDS_PER_TOKEN) - 24, 0)
    filler = (SENTENCE * (words // len(SENTENCE.split()) + 1)).split()[:words]
    return f"Probe {number}. {' '.join(filler)} {TASKS[task]}"


def probe(
    ask: Ask, conditions: Conditions, isl: int, osl: int, times: int, day: date, told: str
) -> list[Anchor]:
    """Probe an endpoint and return its time to the first token and per token as two anchors (medians).

    ``ask(text, limit)`` sends one request for at most ``limit`` tokens. One to three requests go before,
    unmeasured: so that loading a model is not counted, and to find a task that is answered at length.

    Raises:
        Unavailable: the answers are too short, or do not take longer the longer they are.

    """
    task = _talkative(ask, isl, osl)
    short = [ask(prompt_text(isl, 2 * number + 1, task), 1) for number in range(times)]
    long = [ask(prompt_text(isl, 2 * number + 2, task), osl) for number in range(times)]
    first = statistics.median(one.ms for one in short)
    whole = statistics.median(one.ms for one in long)
    outs = statistics.median(one.output_tokens for one in long)
    if outs < FEWEST:
        raise Unavailable(
            f"the endpoint answered {outs:g} tokens where {osl} were allowed",
            f"fewer than {FEWEST} say nothing about the time per token",
            "measure it yourself and give --tpot-ms and --ttft-ms",
            kind="failed",
        )
    step = (whole - first) / (outs - 1)
    if step <= 0:
        raise Unavailable(
            "a longer answer did not take longer",
            f"{first:.1f} ms for one token, {whole:.1f} ms for {outs:g}",
            "the endpoint answers from a cache, or is too busy to be measured: try again",
            kind="failed",
        )
    read = statistics.median(one.prompt_tokens for one in short)
    values: tuple[tuple[Metric, float], ...] = (("tpot_ms", step), ("ttft_ms", first))
    return [anchor(conditions, metric, value, 1.0, read, outs, day, told) for metric, value in values]


def _talkative(ask: Ask, isl: int, osl: int) -> int:
    """Return the first task that is answered at half the allowed length, else the one answered longest."""
    said = []
    for task in range(len(TASKS)):
        said.append(ask(prompt_text(isl, -task, task), osl).output_tokens)
        if said[-1] >= osl / 2:
            return task
    return said.index(max(said))


def anchor(
    conditions: Conditions,
    metric: Metric,
    value: float,
    concurrency: float,
    isl: float,
    osl: float,
    day: date,
    told: str,
) -> Anchor:
    """Return one anchor.

    Raises:
        Invalid: the value is out of range.

    """
    check(metric, value)
    return Anchor(
        device=conditions.device,
        devices=conditions.devices,
        model=conditions.model,
        quant=conditions.quant,
        engine=conditions.engine,
        concurrency=concurrency,
        isl=isl,
        osl=osl,
        metric=metric,
        value=value,
        at=day,
        source=told[:200],
    )


def by_hand(text: str) -> tuple[Metric, float, dict[str, float]]:
    """Read ``tpot_ms=12.5,concurrency=8,input=1024,output=256``: a metric, its value and its conditions.

    Raises:
        Invalid: it is not of this form.

    """
    metrics: Sequence[Metric] = ("tpot_ms", "ttft_ms", "tok_s")
    found: tuple[Metric, float] | None = None
    more: dict[str, float] = {}
    for part in text.split(","):
        key, _, raw = part.strip().partition("=")
        key = key.strip().lower().replace("-", "_")
        try:
            value = float(raw)
        except ValueError:
            value = float("nan")
        known = next((one for one in metrics if one == key), None)
        if known is not None and found is None:
            found = known, value
        elif key in {"concurrency", "input", "output"} and key not in more and 1 <= value <= 1e8:  # noqa: PLR2004
            more[key] = value
        else:
            raise Invalid(
                f"{part.strip()[:60]!r} is no part of a measurement",
                "expected one of tpot_ms, ttft_ms, tok_s, and concurrency, input, output, each a number",
                "write it like tpot_ms=12.5,concurrency=8,input=1024,output=256",
                param="anchor",
            )
    if found is None:
        raise Invalid(
            f"{text[:60]!r} holds no measurement",
            "",
            "begin with tpot_ms=, ttft_ms= or tok_s=",
            param="anchor",
        )
    check(*found)
    return *found, more
