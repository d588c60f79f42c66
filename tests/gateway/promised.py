"""A gateway whose task makes a promise, and models that say what a test wants them to."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from operators import Region
from world import Answer, Inside, Trap, World, chat, config, deployment, until

from allod.engines.scripted import acts
from allod.engines.scripted.script import write_script
from allod.engines.scripted.server import route
from allod.gateway.promise.state import Standing
from allod.routing import floor

TASK = "sums"
PATH = "/v1/chat/completions"


class Minds:
    """What each model answers to a number: ``says[model](n)``; None is an error, "act X" the scripted X."""

    def __init__(self) -> None:
        self.says: dict[str, Any] = {}
        self.named: dict[str, str] = {}
        self.asked: list[str] = []

    def route(self, method: str, path: str, body: bytes) -> Any:
        """Answer as the model asked for would."""
        asked = json.loads(body) if method == "POST" else {}
        name = asked.get("model")
        if name not in self.says:
            return route(method, path, body)
        self.asked.append(name)
        said = self.says[name](int(str(asked["messages"][-1]["content"]).split()[-1]))
        if said is None or said.startswith("act "):
            act = "http-500" if said is None else said.removeprefix("act ")
            return route(method, path, json.dumps({**asked, "model": act}).encode())
        scripted = {**asked, "model": "echo", "messages": [{"role": "user", "content": said}]}
        script = write_script(scripted)
        return acts.perform(msgspec.structs.replace(script, model=self.named.get(name, name)))


def right(n: int) -> str:
    return f"The answer is {2 * n}."


def wrong(n: int) -> str:
    return f"The answer is {2 * n + 1}."


def fleet(region: Region, trap: Trap) -> list[dict[str, Any]]:
    more = {"base_url": region.url, "retries": 0}
    return [
        deployment("small", "tiny-1", quality={"default": Decimal("0.6")}, **more),
        deployment("other", "pico-2", quality={"default": Decimal("0.6")}, **more),
        deployment(
            "large",
            "big-9",
            quality={"default": Decimal("0.95")},
            **{**more, "price": {"input_usd_mtok": 10, "output_usd_mtok": 50}},
        ),
        deployment("abroad", "best-1", lawful=False, base_url=trap.url, quality={"default": 1}),
    ]


@contextlib.contextmanager
def running(
    root: Path,
    region: Region,
    trap: Trap,
    *,
    own: dict[str, Any] | None = None,
    files: dict[str, str] | None = None,
    **task: Any,
) -> Iterator[Inside]:
    """Run a gateway whose task has a cascade; half of all its requests are audited.

    ``files`` are written beside the configuration.
    """
    cascade = {"check": ["numeric", "agreement"], "audit_share": Decimal("0.5"), "max_loss": Decimal("0.1")}
    tasks = [{"name": TASK, "cascade": {**cascade, **(own or {})}, **task}]
    world = World(root / "home", config(fleet(region, trap), tasks=tasks))
    for name, text in (files or {}).items():
        (world.root / name).parent.mkdir(parents=True, exist_ok=True)
        (world.root / name).write_text(text)
    world.key("ward")
    with Inside(world) as one:
        yield one


def ask(inside: Inside, n: int, **more: Any) -> Answer:
    return inside.chat(chat(TASK, f"twice {n}", stream=False), app="ward", **more)


def standing(inside: Inside) -> Standing:
    return next(iter(inside.gateway.promises.standings.values()))


def settled(inside: Inside) -> Standing:
    """Return how the promise stands once no audit is under way."""
    until(lambda: not inside.gateway.promises._audits)
    time.sleep(0.03)  # an audit begins when its answer was sent, which the client may know before
    until(lambda: not inside.gateway.promises._audits)
    return standing(inside)


def opened(inside: Inside, by: str, rules: int = 1) -> None:
    """Bring the promise to where its first rules are open, as so many audits would."""
    one, rung = settled(inside), floor.Rung()
    for _ in range(200):
        rung = msgspec.structs.replace(rung, wealth=floor.observe(rung.wealth, 0.0, one.promise.alpha / 2))
    one.state = msgspec.structs.replace(
        one.state, open=rules, audits=200, at_ms=1_790_000_000_000, rungs=(rung,) * len(one.state.rungs)
    )
    assert one.promise.ladder[rules - 1] == by


def begun(
    inside: Inside, minds: Minds, *, base: Any = right, second: Any = right, reference: Any = right
) -> None:
    minds.says |= {"tiny-1": base, "pico-2": second, "big-9": reference}
    assert ask(inside, 1).status == 200
    settled(inside)
    minds.asked.clear()
