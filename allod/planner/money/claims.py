"""What was claimed of cost, recomputed with the formulas of this package and prices of the shipped book.

The claims are those of the register of the brief this program was built from (tables T11, T18 to T20); each
is answered by a number of ours and how it was come by. ``allod plan claims`` prints them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any, Final

import msgspec

from allod.planner.money import case as sums
from allod.planner.money.arithmetic import MILLION, SECONDS_A_MONTH, exactly
from allod.planner.money.case import Api, Case, Values
from allod.planner.money.inputs import made, shipped
from allod.planner.prices import offer, own_offer, shipped_book

DAY: Final = date(2026, 11, 25)
"""Whose prices count."""
FRONTIER: Final = "openai/gpt-5.5"
OPEN: Final = "deepseek/deepseek-v4-pro"
DEVICES: Final = 8
RENT: Final = Decimal("1.60")
"""USD per H200 and hour for three years: InferenceX-app constants.ts, as in the catalogue."""
OUTPUT_S: Final = Decimal(150)
TOTAL_S: Final = Decimal(1372)
"""Output and total tokens/s per H200: DeepSeek R1 FP8 on eight, 8k in and 1k out, TensorRT-LLM and SGLang."""
MIXES: Final = (Decimal(3), Decimal(10))
"""Tokens read for each token written: from chat to documents."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim, what we find, from what, and what that says of the claim."""

    claim: str
    ours: str
    inputs: str
    verdict: str


def _case(**said: str | Decimal | int) -> Case:
    today = DAY
    inputs = shipped().having(
        [made(key.replace("__", "."), Decimal(value), as_of=today) for key, value in said.items()], said=True
    )
    book = shipped_book()
    return Case(
        inputs=inputs,
        months=36,
        frontier=offer(FRONTIER, book, DAY),
        open=offer(OPEN, book, DAY),
        devices=DEVICES,
        day=DAY,
    )


def attempt_usd(api: Api, read: int, written: int, cached_share: Decimal = Decimal(0)) -> Decimal:
    """Return the exact USD of one request at GPT-5.5 (frontier) or DeepSeek's V4-Pro API (open)."""
    case = _case(task__input_tokens=read, task__output_tokens=written, task__cached_share=cached_share)
    found: Decimal = exactly(lambda: sums.attempt_usd(case, api, case.inputs.middle())).normalize()
    return found


def hosted_usd_mtok_output(utilisation: Decimal) -> Decimal:
    """Return USD per million output tokens of eight rented H200 at a utilisation, nothing but the rent."""
    case, x = _bare(utilisation=utilisation)

    def compute() -> Decimal:
        rent: Decimal = sums.rented_parts(case, x)["rent"]
        tasks, _ = sums.served(case, x)
        each: Decimal = rent / (tasks * x["task.output_tokens"]) * MILLION
        return each

    found: Decimal = exactly(compute)
    return found


def _bare(**more: Decimal) -> tuple[Case, Values]:
    """Return a case of eight rented H200 without retries, derating or downtime."""
    case = _case(
        own__tokens_s=OUTPUT_S * DEVICES,
        own__slo_derate=1,
        own__availability=1,
        own__retry_rate=0,
        rent__usd_device_h=RENT,
        **{f"own__{key}": value for key, value in more.items()},
    )
    return case, case.inputs.middle()


def node_usd_month() -> Decimal:
    """Return the rent of eight H200 a month without anything else, USD."""
    case, x = _bare()
    found: Decimal = exactly(lambda: sums.rented_parts(case, x)["rent"])
    return found


def breakeven_tokens(api: Api, read_per_written: Decimal, cached_share: Decimal = Decimal(0)) -> Decimal:
    """Return the tokens a month (read and written) at which eight rented H200 cost what an API costs today.

    DeepSeek's prices by the hour are left out here, as the claim did: its usual price counts.
    """
    written = Decimal(1000)
    read = written * read_per_written
    case = _case(task__input_tokens=read, task__output_tokens=written, task__cached_share=cached_share)
    found = case.offer(api)
    assert found is not None
    usual = msgspec.structs.replace(found, slots=(found.usual,))
    plain = msgspec.structs.replace(case, **{api: usual})

    def compute() -> Decimal:
        each: Decimal = sums.attempt_usd(plain, api, plain.inputs.middle())
        return node_usd_month() / each * (read + written)

    return exactly(compute)


def node_tokens_month(utilisation: Decimal) -> Decimal:
    """Return what eight H200 read and write a month, R1-class at 8k in and 1k out."""
    return TOTAL_S * DEVICES * utilisation * SECONDS_A_MONTH


def _dearer_but_shorter() -> Decimal:
    """Return five times the price with 80 % fewer tokens, over one times with all of them."""
    one, five = (own_offer("x", rate, rate, DAY) for rate in (Decimal(1), Decimal(5)))
    prices = []
    for it, length in ((one, Decimal(1000)), (five, Decimal(200))):
        case = msgspec.structs.replace(_case(task__input_tokens=0, task__output_tokens=length), frontier=it)
        prices.append(exactly(lambda c=case: sums.attempt_usd(c, "frontier", c.inputs.middle())))  # type: ignore[misc]
    ratio: Decimal = prices[1] / prices[0]
    return ratio


def rows() -> tuple[Claim, ...]:
    """Return every claim about money with our number."""
    return (*_tasks(), *_hosted(), *_breakeven())


def _tasks() -> tuple[Claim, ...]:
    both = attempt_usd("frontier", 50_000, 5_000)
    read = attempt_usd("frontier", 50_000, 0 + 1) - attempt_usd("frontier", 0, 1)
    short, whole = attempt_usd("frontier", 0, 200), attempt_usd("frontier", 1_000, 200)
    long = attempt_usd("frontier", 1_000_000, 10_000)
    by_book = f"{FRONTIER} by the shipped book of {shipped_book().as_of}"
    return (
        Claim(
            claim="50,000 tokens in and 5,000 out at GPT-5.5 cost $0.40 + $0.15 = $0.55",
            ours=f"${both:.2f}, of which input ${read:.2f}",
            inputs=by_book,
            verdict="arithmetic error: the input is $0.25",
        ),
        Claim(
            claim="5 times the price per token with 80 % fewer tokens is cheaper",
            ours=f"{_dearer_but_shorter():f} times the cost: the same",
            inputs="5 x 0.2",
            verdict="exactly equal",
        ),
        Claim(
            claim="a customer query of 200 output tokens costs $0.006 at GPT-5.5",
            ours=f"${short:f} output only, ${whole:f} with a prompt of 1,000 tokens",
            inputs=by_book,
            verdict="right for the output alone",
        ),
        Claim(
            claim="a million tokens in and 10,000 out at GPT-5.5 cost $5.30",
            ours=f"${long:f}",
            inputs=f"{by_book}: above 272,000 tokens of input twice the input and 1.5 times the output price",
            verdict="the surcharge for long requests is missing",
        ),
    )


def _hosted() -> tuple[Claim, ...]:
    full, usual = (hosted_usd_mtok_output(Decimal(one)) for one in ("1", "0.4"))
    per_query = full * 200 / MILLION
    inputs = (
        f"{DEVICES} x H200 at ${RENT} per GPU-hour for three years, {OUTPUT_S} output tokens/s per GPU "
        "(R1-class, 8k in, 1k out, measured); rent only"
    )
    return (
        Claim(
            claim="self-hosted, a query of 200 output tokens costs $0.00008 ($0.40 per million)",
            ours=(
                f"${full:.2f} per million output tokens at 100 % utilisation, ${usual:.2f} at 40 %; "
                f"${per_query:.5f} a query at best"
            ),
            inputs=inputs,
            verdict=f"{full / Decimal('0.4'):.0f} to {usual / Decimal('0.4'):.0f} times too low",
        ),
    )


def _breakeven() -> tuple[Claim, ...]:
    month = node_usd_month()
    cached = Decimal("0.8")
    least, most = (breakeven_tokens("frontier", mix) for mix in MIXES)
    least_c, most_c = (breakeven_tokens("frontier", mix, cached) for mix in MIXES)
    open_least, open_most = (breakeven_tokens("open", mix) for mix in MIXES)
    node = node_tokens_month(Decimal("0.3"))
    inputs = (
        f"{DEVICES} x H200 rented for three years at ${RENT}: ${month:,.0f} a month, without staff; "
        f"{MIXES[0]} to {MIXES[1]} tokens read for each one written"
    )
    bn: Callable[[Any], str] = lambda tokens: f"{tokens / Decimal(10) ** 9:.1f}"  # noqa: E731
    return (
        Claim(
            claim="self-hosting breaks even at a few hundred million tokens a month",
            ours=(
                f"against GPT-5.5 {bn(least)} to {bn(most)} bn tokens a month uncached, "
                f"{bn(least_c)} to {bn(most_c)} bn with 80 % cache hits"
            ),
            inputs=inputs,
            verdict="three to ten times more; a few hundred million only for a fixed cost of $2-3k a month",
        ),
        Claim(
            claim="self-hosting is cheaper than any API",
            ours=(
                f"against DeepSeek's own V4-Pro API {open_least / Decimal(10) ** 9:.0f} to "
                f"{open_most / Decimal(10) ** 9:.0f} bn tokens a month; the node does "
                f"{bn(node)} bn at 30 % load"
            ),
            inputs=f"{inputs}; {OPEN} at its usual hours; {TOTAL_S} tokens/s per GPU in all (R1-class)",
            verdict="not than the same model's API: sovereignty is the reason, not the price",
        ),
    )
