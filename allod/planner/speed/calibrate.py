"""Probing a live endpoint: what is sent, and what the arrival of its tokens says about its speed.

A probe is one streamed request: the first piece of the answer gives the time to the first token, the time
from there to the last, divided by the tokens between, the time per token. Every prompt begins with a number
of its own, so that no cache of an earlier prompt shortens it. Only the sentences below are sent.
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
    """One answer: tokens in and out as the endpoint counts them, ms to its first and to its last piece."""

    prompt_tokens: int
    output_tokens: int
    first_ms: float
    last_ms: float


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
    got = [ask(prompt_text(isl, number + 1, task), osl) for number in range(times)]
    outs = statistics.median(one.output_tokens for one in got)
    if outs < FEWEST:
        raise Unavailable(
            f"the endpoint answered {outs:g} tokens where {osl} were allowed",
            f"fewer than {FEWEST} say nothing about the time per token",
            "measure it yourself and give --tpot-ms and --ttft-ms",
            kind="failed",
        )
    step = statistics.median((one.last_ms - one.first_ms) / max(one.output_tokens - 1, 1) for one in got)
    if step <= 0:
        raise Unavailable(
            "the whole answer came at once",
            f"{outs:g} tokens in one piece after {got[0].first_ms:.1f} ms",
            "the endpoint does not stream, or answers from a cache: give --tpot-ms and --ttft-ms",
            kind="failed",
        )
    read = statistics.median(one.prompt_tokens for one in got)
    first = statistics.median(one.first_ms for one in got)
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
