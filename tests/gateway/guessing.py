"""Homes whose evaluations teach an estimator: easy and hard sums, and models that differ on them."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from world import Inside, World, chat, config, deployment, until

from allod.assurance.cases import Case
from allod.assurance.evaluation import FORMAT, Evaluated, Evaluation, Item
from allod.gateway import evaluations, uses
from allod.gateway.cli import estimate_lines
from allod.gateway.evaluations import Kept

TASK = "sums"
AT = "2026-11-20T08:00:00.000Z"
EASY = "Add the two numbers {} and {} and say the total."
HARD = "Prove by induction over matroids, lemma {} of chapter {}, and integrate the residue."
MODELS = {"cheap": "echo", "dear": "answer"}
PRICES = {"cheap": (1, 2), "dear": (2, 5), "abroad": (5, 30)}


def fleet(**more: dict[str, Any]) -> list[dict[str, Any]]:
    """A cheap one that is good at easy sums alone, a dear one that is good at all, one nobody may ask."""
    good = {"cheap": "0.8", "dear": "0.9"}
    own = [
        deployment(
            name, model, quality={"default": Decimal(good[name])}, price=_price(name), **more.get(name, {})
        )
        for name, model in MODELS.items()
    ]
    abroad = deployment("abroad", "echo", lawful=False, quality={"default": 1}, **more.get("abroad", {}))
    return [*own, abroad]


def _price(name: str) -> dict[str, int]:
    first, second = PRICES[name]
    return {"input_usd_mtok": first, "output_usd_mtok": second}


def cases(n: int = 120) -> list[Case]:
    """Half of them easy, half hard."""
    return [
        Case(id=f"c{i}", prompt=(HARD if i % 2 else EASY).format(i, i + 3), expected=("x",), task=TASK)
        for i in range(n)
    ]


def right(name: str, case: Case, i: int) -> bool:
    """Say who solves what: the cheap one nearly no hard case, the dear one nearly all of everything."""
    hard = "induction" in (case.prompt or "")
    if name == "cheap":
        return i % 20 != 0 if not hard else i % 10 == 1
    return i % 25 != 3


def evaluation(some: list[Case], names: tuple[str, ...] = ("cheap", "dear"), **more: Any) -> Evaluation:
    items = tuple(
        Item(
            case=case.id, task=case.task or TASK, deployment=name, why="",
            status="right" if right(name, case, i) else "wrong",
            output_tokens=400 if "induction" in (case.prompt or "") else 40, cost_usd="0.001",
        )
        for i, case in enumerate(some)
        for name in names
    )  # fmt: skip
    told = {name: Evaluated(engine="scripted", model=MODELS[name], operator="self") for name in names}
    values: dict[str, Any] = {"at": AT, "suite": "sha256:00", "app": "ward", "home": "home", "judge": None}
    return Evaluation(**{**values, "format": FORMAT, "evaluated": told, "items": items, **more})


def home(tmp_path: Path, *, tasks: list[dict[str, Any]] | None = None, **more: Any) -> World:
    """A home whose task asks for estimates."""
    own = tasks or [{"name": TASK, "estimate": True, "objective": "cheapest"}]
    world = World(tmp_path / "home", config(fleet(**more), tasks=own))
    world.key("ward")
    world.key("press")
    return world


def setting(world: World) -> Any:
    return Inside(world)._setting()


def taught(world: World, some: list[Case] | None = None, **more: Any) -> Kept:
    """Let an evaluation count, with the words of its cases."""
    some = cases() if some is None else some
    evaluations.folder(world.paths).mkdir(exist_ok=True)
    kept = evaluations.keep(world.paths, evaluation(some, **more))
    estimate_lines.keep_words(setting(world), kept, some)
    uses.use(world.paths, kept.digest, None, "Ada", AT)
    return kept


def fitted(inside: Inside) -> Any:
    """Wait until something is estimated by, and return it."""
    until(lambda: inside.gateway.estimates.used is not None, 30)
    return inside.gateway.estimates.used


def served(inside: Inside, prompt: str, **more: Any) -> str:
    """Ask, and return who answered."""
    answer = inside.chat({**chat(TASK, prompt, stream=False), **more}, app="ward")
    assert answer.status == 200, answer
    return str(answer.headers["allod-deployment"])


def planned(inside: Inside) -> bool:
    """Tell whether estimates are used by now."""
    return bool(inside.gateway.estimates._open)


def explained(world: World, *more: str) -> dict[str, Any]:
    """Return what `allod explain` says of a request of the task."""
    done = world.here("explain", "--app", "ward", "--task", TASK, "--json", *more)
    assert done.returncode == 0, done
    found: dict[str, Any] = json.loads(done.stdout)
    return found
