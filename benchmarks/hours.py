"""What choosing the region and the hour saves: a day of work replayed over the shipped price book.

    python benchmarks/hours.py [--day 2026-11-25] [--requests 300] [--seeds 5] [--json]

Real: the price book with its dates and hours (``metering.book``), the tariffs of a fleet at a time
(``metering.rates``), the plan with objective ``cheapest`` (``routing.plan``) and the choice of the hour
(``routing.defer``). Simulated: time, the day's arrivals and sizes (drawn from a seed), the law (the sets are
named here, by the seat of the operator as generally known; a price book holds no facts), and that every
deployment is up and answers in ``EXPECTED_MS``. No request is sent to anybody.

*Fixed* is an organisation that uses one deployment of the set, whichever, at once: the mean over all of them.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import resources
from typing import Any, NamedTuple

import msgspec

from allod.domain.decision import DecidingRule, Eligibility, Exclusion
from allod.domain.fleet import (
    DEFERRED,
    App,
    Deployment,
    Fleet,
    Operator,
    Price,
    PriceWindow,
    Tenant,
)
from allod.domain.request import Admitted, Sizes
from allod.metering.book import Book
from allod.metering.rates import tariffs_of
from allod.routing.defer import SPREADS, DeferFacts, Span, choose
from allod.routing.plan import plan
from allod.routing.question import Health, question_of

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
EXPECTED_MS, DOUBT_MS = 20_000, 720_000
SHARES = (0, 25, 50, 100)
OFFICE = [1, 1, 1, 1, 1, 2, 6, 14, 22, 24, 22, 18, 18, 22, 22, 20, 16, 10, 6, 4, 3, 2, 2, 1]
"""Requests of each hour of the day, UTC, as weights: an office in central Europe."""
EEA = {"ovhcloud": "FR", "huggingface_nebius": "NL", "mistral": "FR"}
UK = {"huggingface_nscale": "GB", "doubleword": "GB"}
ELSEWHERE = {
    "baseten": "US", "cerebras": "US", "cloudflare": "US", "fireworks": "US", "groq": "US", "together": "US",
    "novita": "US", "arcee": "US", "huggingface_sambanova": "US", "huggingface_hyperbolic": "US",
    "deepseek": "CN",
}  # fmt: skip
SETS = {"EEA": EEA, "EEA + GB": EEA | UK, "anywhere": EEA | UK | ELSEWHERE}
MODELS: dict[str, tuple[str, ...]] = {
    "gpt-oss-120b": ("gpt-oss-120b",),
    "Llama-3.3-70B": ("llama-3.3-70b-instruct", "meta-llama-3_3-70b-instruct", "llama-3.3-70b"),
    "Llama-3.1-8B": ("llama-3.1-8b-instruct",),
    "Qwen3-32B": ("qwen3-32b",),
    "DeepSeek-V4-Pro": ("deepseek-v4-pro",),
    "DeepSeek-V4-Flash": ("deepseek-v4-flash",),
}
LAW = DecidingRule(id="set", law="", got="outside", required="inside", source="benchmark", remedy="")


class Work(NamedTuple):
    """One request: when it comes (UTC ms), its size, and what spreads it."""

    at_ms: int
    input_tokens: int
    output_tokens: int
    spread: int


class Cell(NamedTuple):
    """USD of one day, all of it interactive and all of it batch, four ways each."""

    fixed: float
    region: float
    hour: float
    both: float


def entries(book: Book, names: Sequence[str], operators: dict[str, str]) -> dict[str, str]:
    """Return the book's entry of a model at each operator that sells it."""
    found: dict[str, str] = {}
    for entry in book.models:
        operator, _, rest = entry.partition("/")
        if operator in operators and rest.rsplit("/", 1)[-1].lower() in names:
            found.setdefault(operator, entry)
    return found


def fleet_of(prices: dict[str, Price]) -> Fleet:
    """Make a fleet of one model at these prices."""
    deployments = {
        name: Deployment(
            id=name, engine="compatible", model="m", operator="o", price=price,
            quality={"default": Decimal("0.9")}, max_output_tokens=None,
        )
        for name, price in prices.items()
    }  # fmt: skip
    return Fleet(
        tenant=Tenant(id="t", home="DE", bloc=("EEA",), objective="cheapest"),
        apps={"app": App(id="app")},
        operators={"o": Operator(id="o")},
        deployments=deployments,
    )


def day_of(seed: int, count: int, midnight_ms: int) -> list[Work]:
    """Draw a day: arrivals by the office's hours, sizes log-normal (median 900 in and 300 out)."""
    draw = random.Random(seed)  # noqa: S311 (a simulation)
    out = []
    for hour in draw.choices(range(24), OFFICE, k=count):
        sizes = (draw.lognormvariate(math.log(900), 1.0), draw.lognormvariate(math.log(300), 0.8))
        at_ms = midnight_ms + hour * HOUR_MS + draw.randrange(HOUR_MS)
        tokens = [max(1, min(round(size), 60_000)) for size in sizes]
        out.append(Work(at_ms, tokens[0], tokens[1], draw.randrange(SPREADS)))
    return sorted(out)


class World:
    """One model at the operators of a set; what may be used is named with each question."""

    def __init__(self, fleet: Fleet, book: Book) -> None:
        self.fleet, self.book = fleet, book
        self._tariffs: list[Any] = []

    def tariffs(self, at_ms: int) -> Any:
        """Return the tariffs at a time."""
        for begun, found in self._tariffs:
            if begun <= at_ms and found.hold_at(at_ms):
                return found
        found = tariffs_of(self.fleet, self.book, at_ms)
        self._tariffs.append((at_ms, found))
        return found

    def first(self, work: Work, at_ms: int, kept: tuple[str, ...]) -> tuple[str, Decimal, int]:
        """Return whom the plan asks first at a time, what that costs, and until when."""
        sizes = Sizes(
            body_bytes=0, input_tokens=work.input_tokens, max_output_tokens=min(512, work.output_tokens)
        )
        admitted = Admitted(
            receipt="r", received_at_ms=at_ms, app="app", surface="responses", classes=("public",),
            purpose=None, task=None, model="auto", pinned=(), needs=(DEFERRED, "text"), sizes=sizes,
            min_quality=None, max_cost_usd=None, deadline_ms=None, effort=None, tier=None, stream=False,
        )  # fmt: skip
        law = Eligibility(
            kept=kept,
            excluded=tuple(
                Exclusion(deployment=n, rules=(LAW,)) for n in self.fleet.deployments if n not in kept
            ),
            conditions={}, relaxed=(), pack_digest="", fleet_digest="",
        )  # fmt: skip
        tariffs = self.tariffs(at_ms)
        made = plan(question_of(admitted, law, self.fleet, tariffs, Health()))
        first = made.attempts[0]
        return first.deployment, first.cost_usd, tariffs.valid_until_ms or at_ms + 2 * DAY_MS

    def waits(self, work: Work, kept: tuple[str, ...]) -> Decimal:
        """Return what it costs at the hour that is chosen for it, with a day to wait."""
        end_ms, at_ms, spans = work.at_ms + DAY_MS, work.at_ms, list[Span]()
        while at_ms < end_ms:
            name, usd, until_ms = self.first(work, at_ms, kept)
            until_ms = min(until_ms, end_ms)
            last = spans[-1] if spans else None
            if last is not None and (last.deployment, last.cost_usd) == (name, usd):
                spans[-1] = msgspec.structs.replace(last, until_ms=until_ms)
            else:
                spans.append(Span(from_ms=at_ms, until_ms=until_ms, deployment=name, cost_usd=usd))
            at_ms = until_ms
        start = choose(
            DeferFacts(
                now_ms=work.at_ms, deadline_at_ms=end_ms, expected_ms=EXPECTED_MS, doubt_ms=DOUBT_MS,
                spread=work.spread, spans=tuple(spans),
            )
        )  # fmt: skip
        _, charged, _ = self.first(work, start.start_ms, kept)
        assert charged == start.cost_usd, "what is charged is what was estimated: the price at dispatch"
        return charged


def cell(world: World, day: Sequence[Work]) -> tuple[Cell, Cell]:
    """Return what a day costs, all of it interactive, and all of it batch."""
    names = tuple(world.fleet.deployments)
    totals = {key: Decimal(0) for key in ("fixed", "region", "hour", "both")}
    for work in day:
        totals["region"] += world.first(work, work.at_ms, names)[1]
        totals["both"] += world.waits(work, names)
        for name in names:
            totals["fixed"] += world.first(work, work.at_ms, (name,))[1] / len(names)
            totals["hour"] += world.waits(work, (name,)) / len(names)
    whole = {key: float(value) for key, value in totals.items()}
    at_once = Cell(whole["fixed"], whole["region"], whole["fixed"], whole["region"])
    return at_once, Cell(whole["fixed"], whole["region"], whole["hour"], whole["both"])


def savings(cells: Sequence[tuple[Cell, Cell]], share: int) -> dict[str, tuple[float, float, float]]:
    """Return saving in percent against fixed: mean, least and most over the drawn days."""
    out = {}
    for way in ("region", "hour", "both"):
        found = []
        for now, later in cells:
            fixed = now.fixed * (100 - share) + later.fixed * share
            used = getattr(now, way) * (100 - share) + getattr(later, way) * share
            found.append(100 * (1 - used / fixed))
        out[way] = sum(found) / len(found), min(found), max(found)
    return out


def rows_of(
    label: str, where: str, prices: dict[str, Price], book: Book, days: Sequence[Sequence[Work]]
) -> dict[str, Any] | None:
    """Measure one model in one set; None where nobody sells it."""
    if not prices:
        return None
    world = World(fleet_of(prices), book)
    cells = [cell(world, day) for day in days]
    return {
        "model": label,
        "set": where,
        "deployments": sorted(prices),
        "fixed_usd": round(sum(now.fixed for now, _ in cells) / len(cells), 6),
        "savings": {str(share): savings(cells, share) for share in SHARES},
    }


def everything(book: Book, day: date, requests: int, seeds: int) -> list[dict[str, Any]]:
    """Measure every model in every set, the day before a dated cut, and a window that is assumed."""
    out = []

    def days_of(when: date) -> list[list[Work]]:
        midnight_ms = int(datetime(when.year, when.month, when.day, tzinfo=UTC).timestamp() * 1000)
        return [day_of(seed, requests, midnight_ms) for seed in range(seeds)]

    days = days_of(day)
    for label, names in MODELS.items():
        known = None
        for where, operators in SETS.items():
            found = entries(book, names, operators)
            if found and found != known:
                known = found
                prices = {name: Price(book=entry) for name, entry in found.items()}
                out.append(rows_of(label, where, prices, book, days))
    own = {"deepseek": Price(book="deepseek/deepseek-v4-pro")}
    out.append(rows_of("DeepSeek-V4-Pro", "its maker's own (CN)", own, book, days))
    eve = date(2026, 10, 28)
    price = {"mistral": Price(book="mistral/mistral-large-4")}
    out.append(rows_of("mistral-large-4", f"EEA, {eve}, a cut the day after", price, book, days_of(eve)))
    half = PriceWindow(from_minute=30, until_minute=8 * 60 + 30, factor=Decimal("0.5"))
    found = entries(book, MODELS["gpt-oss-120b"], EEA)
    prices = {
        name: Price(book=entry, windows=(half,) if name == "ovhcloud" else ())
        for name, entry in found.items()
    }
    out.append(rows_of("gpt-oss-120b", "EEA, ASSUMED -50% 00:30-08:30 at one", prices, book, days))
    return [one for one in out if one is not None]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--day", type=date.fromisoformat, default=date(2026, 11, 25))
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    book = Book.parse(resources.files("allod.metering").joinpath("prices.json").read_bytes())
    found = everything(book, arguments.day, arguments.requests, arguments.seeds)
    daily = sorted(name for name, raw in book.models.items() if b'"daily"' in bytes(raw))
    if arguments.json:
        print(json.dumps({"book": book.digest, "daily": daily, "rows": found}, indent=1))
        return 0
    print(f"price book as of {book.as_of}, {len(book.models)} entries, {book.digest}")
    print(f"with hours of the day: {len(daily)}: {', '.join(daily)}")
    print(
        f"{arguments.seeds} drawn days of {arguments.requests} requests, {arguments.day}; saving in % of "
        "fixed: region / hour / both, mean over the days; USD of 1,000 requests, fixed\n"
    )
    head = "".join(f"{f'{share} % batch':>22}" for share in SHARES)
    print(f"{'model':18} {'set':40} {'of':>3}{'USD':>7}{head}")
    for row in found:
        said = ""
        for share in SHARES:
            ways = row["savings"][str(share)]
            said += f"{' / '.join(f'{ways[w][0]:.1f}' for w in ('region', 'hour', 'both')):>22}"
        usd = 1000 * row["fixed_usd"] / arguments.requests
        print(f"{row['model']:18} {row['set']:40} {len(row['deployments']):3}{usd:7.3f}{said}")
    widest = max(
        ways[w][2] - ways[w][1] for row in found for ways in row["savings"].values() for w in ("hour", "both")
    )
    print(f"\nno saving differs by more than {widest:.1f} points between the drawn days")
    return 0


if __name__ == "__main__":
    sys.exit(main())
