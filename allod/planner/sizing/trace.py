"""Arrivals: read from a file, made from a few figures, or drawn anew from blocks of a real trace."""

from __future__ import annotations

import csv
import datetime as dt
import math
import random
from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MOST_ARRIVALS: Final = 2_000_000
MOST_TOKENS: Final = 100_000_000
MOST_SECONDS: Final = 400 * 86_400.0
MOST_PEAK: Final = 1000.0
TIMES: Final = ("TIMESTAMP", "Timestamp", "timestamp", "at_s", "at", "time", "arrived")
INPUTS: Final = ("ContextTokens", "Request tokens", "input_tokens", "isl", "prompt_tokens")
OUTPUTS: Final = ("GeneratedTokens", "Response tokens", "output_tokens", "osl", "completion_tokens")


class Arrival(msgspec.Struct, frozen=True):
    """A request as a queue sees it: seconds since the trace began, tokens in, tokens out."""

    at_s: float
    input_tokens: int
    output_tokens: int


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a trace is like.

    ``peak_1s`` and ``peak_60s`` are the busiest second and minute against the mean; ``dispersion`` is
    variance over mean of the counts of a minute, which is 1 for Poisson arrivals.
    """

    n: int
    seconds: float
    rate_s: float
    input_mean: float
    output_mean: float
    peak_1s: float
    peak_60s: float
    dispersion: float


def read_trace(path: Path) -> list[Arrival]:
    """Read a CSV file with a header: a time, tokens in, tokens out.

    Known headers are those of the Azure LLM inference traces (``TIMESTAMP, ContextTokens,
    GeneratedTokens``), of BurstGPT (``Timestamp, Request tokens, Response tokens``) and ``at_s,
    input_tokens, output_tokens``. A time is a number of seconds or an ISO date and time. Requests without
    an answer (0 tokens out) are left out.

    Raises:
        Invalid: no such columns, a line that is no request, no request at all, or more than two million.

    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            names = _columns(path, rows.fieldnames or ())
            found = [
                _arrival(path, n, row, names) for n, row in zip(range(MOST_ARRIVALS + 1), rows, strict=False)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Invalid(f"{path} cannot be read", str(error), "name a CSV file in UTF-8") from error
    if len(found) > MOST_ARRIVALS:
        raise Invalid(
            f"{path} is too long", f"more than {MOST_ARRIVALS} requests", "take a week of it, not a year"
        )
    return settled([one for one in found if one.output_tokens > 0], str(path))


def settled(arrivals: Sequence[Arrival], where: str) -> list[Arrival]:
    """Return arrivals in order, the first at second 0.

    Raises:
        Invalid: there are fewer than two, all of them at one time, or more than 400 days between them.

    """
    ordered = sorted(arrivals, key=lambda one: one.at_s)
    if len(ordered) < 2 or ordered[-1].at_s <= ordered[0].at_s:  # noqa: PLR2004 (a rate needs two times)
        raise Invalid(
            f"{where} is no trace", f"got {len(ordered)} requests", "a rate needs two times that differ"
        )
    first = ordered[0].at_s
    if ordered[-1].at_s - first > MOST_SECONDS:
        raise Invalid(
            f"{where} is too long",
            f"its times span {(ordered[-1].at_s - first) / 86_400:.3g} days, accepted are 400",
            "look whether they are in seconds, and take a week of it",
        )
    return [Arrival(one.at_s - first, one.input_tokens, one.output_tokens) for one in ordered]


def _columns(path: Path, names: Sequence[str]) -> tuple[str, str, str]:
    known = [next((one for one in group if one in names), None) for group in (TIMES, INPUTS, OUTPUTS)]
    if None in known:
        raise Invalid(
            f"{path} is no trace",
            f"its columns are {', '.join(names) or 'none'}",
            "a trace has the columns at_s, input_tokens and output_tokens",
        )
    at, tokens_in, tokens_out = known
    assert at
    assert tokens_in
    assert tokens_out
    return at, tokens_in, tokens_out


def _arrival(path: Path, n: int, row: dict[str, str], names: tuple[str, str, str]) -> Arrival:
    try:
        at = _seconds(row[names[0]])
        tokens_in, tokens_out = (int(float(row[name])) for name in names[1:])
    except (TypeError, ValueError, OverflowError) as error:
        raise Invalid(f"{path}, request {n + 1}: {error}", "", "a time and two whole numbers") from error
    if not math.isfinite(at):
        raise Invalid(
            f"{path}, request {n + 1} is no request", f"its time is {at}", "a number of seconds, or a date"
        )
    if not (0 <= tokens_in <= MOST_TOKENS and 0 <= tokens_out <= MOST_TOKENS):
        raise Invalid(
            f"{path}, request {n + 1} is no request",
            f"got {tokens_in:.6g} tokens in and {tokens_out:.6g} out",
            f"0 to {MOST_TOKENS} tokens",
        )
    return Arrival(at, tokens_in, tokens_out)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        # the traces of Azure have seven digits behind the point, one more than ISO times may have here
        head, point, tail = text.strip().partition(".")
        whole = dt.datetime.fromisoformat(head + point + tail[:6] if tail.isdigit() else text.strip())
        return (whole if whole.tzinfo else whole.replace(tzinfo=dt.UTC)).timestamp()


def shape(trace: Sequence[Arrival]) -> Shape:
    """Return what a trace is like; it has at least two arrivals."""
    seconds = trace[-1].at_s - trace[0].at_s
    ones, sixties = _counts(trace, 1.0), _counts(trace, 60.0)
    minutes, moments = int(trace[-1].at_s / 60) + 1, int(trace[-1].at_s) + 1
    mean = len(trace) / minutes
    variance = sum(one * one for one in sixties.values()) / minutes - mean * mean
    return Shape(
        n=len(trace),
        seconds=seconds,
        rate_s=len(trace) / seconds,
        input_mean=sum(one.input_tokens for one in trace) / len(trace),
        output_mean=sum(one.output_tokens for one in trace) / len(trace),
        peak_1s=max(ones.values()) * moments / len(trace),
        peak_60s=max(sixties.values()) * minutes / len(trace),
        dispersion=max(0.0, variance / mean),
    )


def _counts(trace: Sequence[Arrival], width_s: float) -> Counter[int]:
    return Counter(int(one.at_s / width_s) for one in trace)


def made(
    *, rate_s: float, peak: float, input_tokens: float, output_tokens: float, seconds: float, seed: int
) -> list[Arrival]:
    """Make a trace from a few figures: bursts, with lengths that vary as much as their mean.

    The rate of each minute is drawn from a gamma distribution so that about one minute in a hundred has
    ``peak`` times the mean (1: Poisson arrivals at an even rate); lengths are exponential, at least 1. A
    trace of one's own is better: real lengths and real bursts go together.

    Args:
        rate_s: mean requests per second.
        peak: the busiest minute in a hundred against the mean, at least 1.
        input_tokens, output_tokens: their means.
        seconds: how long it lasts.
        seed: of the draw; the same gives the same trace.

    Raises:
        Invalid: a figure is out of bounds.

    """
    figures = (rate_s, peak, input_tokens, output_tokens, seconds)
    sound = all(math.isfinite(one) and one > 0 for one in figures)
    small = max(input_tokens, output_tokens) <= MOST_TOKENS and seconds <= MOST_SECONDS
    if not (sound and small and 1 <= peak <= MOST_PEAK and rate_s * seconds >= 2):  # noqa: PLR2004 (two times)
        raise Invalid(
            "no traffic can be made of these figures",
            f"rate {rate_s:g}/s, peak {peak:g}, {input_tokens:g} tokens in, {output_tokens:g} out, "
            f"{seconds:g} s",
            f"all above 0, a peak of 1 to {MOST_PEAK:.0f}, at most {MOST_TOKENS} tokens and 400 days, "
            "and two requests at least",
        )
    if rate_s * seconds > MOST_ARRIVALS:
        raise Invalid(
            "the traffic is too much to replay",
            f"{rate_s * seconds:.3g} requests, accepted are {MOST_ARRIVALS}",
            "a lower rate, or fewer hours",
        )
    draw = random.Random(seed)  # noqa: S311 (a simulation, and repeatable)
    out: list[Arrival] = []
    for minute, busy in enumerate(_minutes(draw, peak, math.ceil(seconds / 60))):
        ends, rate = min(60.0, seconds - 60 * minute), rate_s * busy
        at = draw.expovariate(rate) if rate > 0 else ends
        while at < ends:
            sizes = (max(1, round(draw.expovariate(1 / mean))) for mean in (input_tokens, output_tokens))
            out.append(Arrival(60 * minute + at, *sizes))
            at += draw.expovariate(rate)
    return settled(out, "the traffic made")


def _minutes(draw: random.Random, peak: float, count: int) -> list[float]:
    """Return how busy each minute is against the mean, which is 1 over all of them."""
    spread = _gamma_shape(peak)
    if spread is None:
        return [1.0] * count
    busy = [draw.gammavariate(spread, 1 / spread) for _ in range(count)]
    mean = sum(busy) / count
    return [one / mean for one in busy] if mean > 0 else [1.0] * count


def _gamma_shape(peak: float) -> float | None:
    """Return the shape of a gamma distribution of mean 1 whose 99th percentile is ``peak``; None if it is 1.

    By Wilson and Hilferty's cube-root approximation of its percentiles (1931), which is plenty for a figure
    somebody estimated.
    """
    if peak <= 1.0:
        return None
    low, high = 0.02, 1e6
    for _ in range(80):
        middle = math.sqrt(low * high)
        ninth = 1 / (9 * middle)
        at = max(0.0, 1 - ninth + 2.3263 * math.sqrt(ninth)) ** 3
        low, high = (middle, high) if at > peak else (low, middle)
    return low


def drawn(trace: Sequence[Arrival], *, block_s: float, seed: int) -> list[Arrival]:
    """Draw another trace of the same length from blocks of this one, with replacement (block bootstrap)."""
    draw = random.Random(seed)  # noqa: S311 (a simulation, and repeatable)
    blocks: dict[int, list[Arrival]] = {}
    for one in trace:
        blocks.setdefault(int(one.at_s / block_s), []).append(one)
    count = max(blocks) + 1
    out = []
    for n in range(count):
        taken = draw.randrange(count)
        out += [
            Arrival(one.at_s + (n - taken) * block_s, one.input_tokens, one.output_tokens)
            for one in blocks.get(taken, ())
        ]
    if len(out) < 2:  # noqa: PLR2004 (a rate needs two times)
        return list(trace)
    return sorted(out, key=lambda one: one.at_s)
