"""A day of traffic through a real gateway: what it spends, what it keeps, and what moves when.

    make day            or:  python examples/day/run.py [--data FOLDER] [--requests 60000] [--out docs]

FOLDER holds ``prompts.parquet`` and ``outcomes.parquet`` of zeroeval; without it outcomes are simulated, and
every page says so. Writes ``day.md`` and ``day.svg``. README.md beside this file says what is real here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec
from day_figures import Page
from day_fleet import OBJECTIVES, ROLES, SMALL, config, prices
from day_operators import Operator
from day_outcomes import Outcomes, load
from day_page import page
from day_plot import plot
from day_reading import leaves, logged, moved, rows
from day_traffic import Asked, Gateway, day, send

ROOT: Final = Path(__file__).resolve().parents[2]
SEED: Final = 20
AT_ONCE: Final = 8
BAD, TWINS, DOWN, DEARER_FROM = 13, 15, 17, 20
HAPPENS: Final = {
    BAD: f"the hosted base serves the answers of a small model ({SMALL}) under its old name",
    TWINS: "it is repaired; both models of our own serve that small one: they agree, and are wrong",
    DOWN: "both are repaired; the reference outside is down for an hour",
    DOWN + 1: "the reference is back",
    DEARER_FROM: "the hosted base costs eight times as much: a new configuration, the gateway starts again",
}
COMPARED: Final = 100
REST_S: Final = 130


def happens(hour: int, operators: Mapping[str, Operator]) -> None:
    """Let what is due at an hour happen to the deployments."""
    small = {BAD: ("bloc-deepseek",), TWINS: ("own-llama", "own-qwen")}
    if hour in {*small, DOWN}:
        for name, one in operators.items():
            one.plays = SMALL if name in small.get(hour, ()) else one.model
    operators["frontier"].down = hour == DOWN


class Played:
    """A day under way.

    Args:
        outcomes: what models answer. home: the gateway's. hours: the requests.

    """

    def __init__(self, outcomes: Outcomes, home: Path, hours: list[list[Asked]], *, quiet: bool) -> None:
        self._outcomes, self._home, self._hours, self._quiet = outcomes, home, hours, quiet
        self._operators: dict[str, Operator] = {}
        self._began: list[float] = []
        self._stood_s = 0.0

    async def page(self) -> Page:
        """Ask a hundred requests by each objective, play the day, read the log; return what the page says."""
        started = time.monotonic()
        gateway = Gateway(self._home)
        async with contextlib.AsyncExitStack() as stack:
            for name, role in ROLES.items():
                one = Operator(role.model, self._outcomes, prices(name, dearer=False))
                self._operators[name] = await stack.enter_async_context(one)
            self._configure(0)
            keys = {app: gateway.key(app) for app in ("school", "clinic")}
            async with gateway:
                compared = await by_objective(gateway.port, self._outcomes, keys)
                await self._play(gateway.port, keys, range(DEARER_FROM))
            self._configure(DEARER_FROM)
            async with gateway:
                await self._play(gateway.port, keys, range(DEARER_FROM, len(self._hours)))
                self._began.append(time.time() * 1000)
                log = await leaves(gateway.port, [one.receipt for hour in self._hours for one in hour])
        return Page(
            said=self._outcomes.said,
            rows=rows(self._hours, log, self._outcomes, DEARER_FROM),
            moved=moved(self._hours, log, self._began),
            compared=[(name, rows([asked], log, self._outcomes, DEARER_FROM)) for name, asked in compared],
            happens=HAPPENS,
            leaves=len(log),
            seconds=time.monotonic() - started,
            stood_s=self._stood_s,
            billed=sum((one.billed for one in self._operators.values()), Decimal(0)),
            logged=logged(log),
        )

    def _configure(self, hour: int) -> None:
        for name, one in self._operators.items():
            one.price = prices(name, dearer=hour >= DEARER_FROM)
        ports = {name: one.port for name, one in self._operators.items()}
        (self._home / "allod.toml").write_text(config(ports, dearer=hour >= DEARER_FROM))

    async def _play(self, port: int, keys: dict[str, str], hours: Iterable[int]) -> None:
        for hour in hours:
            happens(hour, self._operators)
            if hour == DOWN + 1:
                await self._stand_still(port, keys)
            self._began.append(time.time() * 1000)
            await send(port, self._hours[hour], keys, at_once=AT_ONCE, task=lambda a: a.stream.task)
            if not self._quiet:
                told = f"{hour:02d}:00  {len(self._hours[hour]):5d} requests   {HAPPENS.get(hour, '')}"
                print(told.rstrip(), flush=True)

    async def _stand_still(self, port: int, keys: dict[str, str]) -> None:
        """Wait until the gateway tries the reference again: its rest runs on a real clock."""
        began, before = time.monotonic(), self._operators["frontier"].asked
        while time.monotonic() - began < REST_S:
            await by_objective(port, self._outcomes, keys, ("best",), 1)
            if self._operators["frontier"].asked > before:
                break
            await asyncio.sleep(1)
        self._stood_s = time.monotonic() - began


async def by_objective(
    port: int,
    outcomes: Outcomes,
    keys: dict[str, str],
    objectives: Sequence[str] = OBJECTIVES,
    n: int = COMPARED,
) -> list[tuple[str, list[Asked]]]:
    """Ask the same public requests once by each objective; only the task's objective differs."""
    first = [one for hour in day(outcomes, 10 * n + 100, SEED + 1) for one in hour]
    public = [one for one in first if one.stream.app == "school"][:n]
    out = []
    for name in objectives:
        asked = [msgspec.structs.replace(one) for one in public]
        await send(port, asked, keys, at_once=min(n, AT_ONCE), task=lambda _, name=name: name)  # type: ignore[misc]
        out.append((name, asked))
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """Play a day and write its page and its plot."""
    parse = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parse.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/routing/zeroeval")
    parse.add_argument("--requests", type=int, default=60_000)
    parse.add_argument("--out", type=Path, default=ROOT / "docs")
    parse.add_argument("--quiet", action="store_true")
    given = parse.parse_args(arguments)
    models = (*(role.model for role in ROLES.values()), SMALL)
    outcomes, why = load(given.data, models, SEED)
    print(f"{outcomes.said}" + (f"\n  because: {why}" if why else ""), flush=True)
    with tempfile.TemporaryDirectory(prefix="allod-day-") as folder:
        home = Path(folder)
        hours = day(outcomes, given.requests, SEED)
        found = asyncio.run(Played(outcomes, home, hours, quiet=given.quiet).page())
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "day.md").write_text(page(found))
    (given.out / "day.svg").write_text(plot(found))
    print(f"{len(found.rows)} requests in {found.seconds:.0f} s; wrote day.md and day.svg in {given.out}")


if __name__ == "__main__":
    main()
