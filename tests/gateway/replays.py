"""Traffic of real gateways to be simulated, packs to simulate it with, and the commands."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from world import Inside, World, chat, config, deployment

from allod.gateway import compose
from allod.gateway.cli import program
from allod.gateway.packs import Found, find

AUDITED = """@id("house.audited")
@law("house rule 1")
@text("Only what was audited serves.")
@remedy("have it audited")
forbid (principal is Allod::App, action == Allod::Action::"dispatch", resource is Allod::Deployment)
when { context.classes.containsAny(["public", "personal"]) }
unless { resource.attestations.declared.contains("iso27001") };
"""


def pack_folder(root: Path, name: str = "house", policies: str = AUDITED, **more: str) -> Path:
    """Write a pack."""
    folder = root / f"folder-of-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    head = {"id": name, "version": "1.0.0", "status": "in-force", "title": "House", **more}
    lines = [f"{key} = {json.dumps(value)}" for key, value in head.items()]
    lines += ['jurisdiction = ""', 'applies_to = "tests"', 'requires = ["base"]', 'reviewer = ""']
    (folder / "pack.toml").write_text("\n".join(lines) + "\n")
    (folder / "policies.cedar").write_text(policies.replace("house.", f"{name}."))
    (folder / "theorems.toml").write_text("monotone = true\n")
    (folder / "obligations.toml").write_text("")
    return folder


def install(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the house's packs beside the shipped ones; returns the folder of ``house``."""
    folder = pack_folder(root)
    twin = pack_folder(root, "twin", AUDITED)
    (twin / "policies.cedar").write_text(AUDITED)  # the rule id of the other pack: it cannot stand beside it

    def found(*more: Found) -> Any:
        installed = [
            Found(id="house", origin="installed", folder=folder),
            Found(id="twin", origin="installed", folder=twin),
        ]
        return find(*installed, *more)

    monkeypatch.setattr(compose, "find", found)
    return folder


ISO = {"iso27001": True}
CHEAP = {"input_usd_mtok": 0.1, "output_usd_mtok": 0.2}
DEPLOYMENTS = (
    deployment("home", "answer", quality={"default": 0.5, "extract": 0.95}, attestations=ISO),
    deployment(
        "cheap", "echo", quality={"default": 0.6}, price={"input_usd_mtok": 0.1, "output_usd_mtok": 0.2}
    ),
    deployment("far", "answer", lawful=False),
    deployment("blind", "answer", takes=["text"], quality={}, price=None),
)
TASKS = (
    {"name": "extract", "min_quality": 0.9},
    {"name": "brief", "min_quality": 0.8},
    {"name": "listed", "deployments": ["far", "home"]},
)


LABELS = (
    {"Allod-Min-Quality": "0.55"},
    {"Allod-Max-Cost": "0.0000001"},
    {"Allod-Deadline-Ms": "90000"},
    {"Allod-Data-Class": "restricted, confidential", "Allod-Effort": "low"},
)


def text_of(deployments: Any = DEPLOYMENTS, **tenant: Any) -> str:
    return config(deployments, tasks=TASKS, tenant=tenant)


@contextlib.contextmanager
def inside(root: Path, text: str) -> Iterator[Inside]:
    world = World(root, text)
    world.key("ward")
    world.key("press")
    with Inside(world) as gateway:
        yield gateway


def traffic(gateway: Inside) -> int:
    """Ask everything a decision may depend on; returns how many requests were recorded."""
    answers = []
    for app in ("ward", "press"):
        models = ("auto", "extract", "brief", "listed", "far", "home", "echo")
        answers += [gateway.chat(chat(model), app=app) for model in models]
        answers.append(gateway.chat(chat("auto", "long " * 900, max_tokens=77, n=2), app=app))
        answers.append(gateway.chat(chat("auto", stream=False, tools=TOOLS), app=app))
        answers += [gateway.chat(chat("auto"), app=app, headers=labels) for labels in LABELS]
        embed = {"model": "home", "input": "x"}
        answers.append(gateway.call("/v1/embeddings", embed, app=app))
    assert {answer.status for answer in answers} >= {200, 403}
    return sum("allod-receipt" in answer.headers for answer in answers)


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def command(root: Path, *args: str) -> Result:
    return CliRunner().invoke(program, ["policy", *args], env={"ALLOD_HOME": str(root)})


def simulated(root: Path, *args: str, code: int = 0) -> dict[str, Any]:
    result = command(root, "simulate", "--json", *args)
    assert result.exit_code == code, (result.exit_code, result.exception, result.output)
    return json.loads(result.output)


def changes(report: Mapping[str, Any]) -> dict[str, int]:
    return {one["change"]: one["requests"] for one in report["changes"] if one["requests"]}


def tables(root: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(root / "allod.sqlite"))


def records(root: Path) -> dict[str, bytes]:
    with tables(root) as link:
        return dict(link.execute("SELECT digest, body FROM decision_record"))


def whole(report: Mapping[str, Any], requests: int) -> None:
    """Assert that everything was replayed and nothing differs in a single byte."""
    totals = report["totals"]
    assert (totals["requests"], totals["replayed"], totals["identical"]) == (requests,) * 3, report["left"]
    assert report["checked"] == totals["decisions"] > 0
    assert report["unequal"] == []
    assert changes(report) == {"same": requests}


def traffic_of_two(gateway: Inside) -> int:
    answers = [gateway.chat(chat("auto"), app=app) for app in ("ward", "press", "press")]
    return len(answers)


def log_of(root: Path) -> dict[str, str]:
    """Digest what the log consists of; journal and checkpoint are written again while nothing is added."""
    files = [p for folder in ("log", "keys") for p in (root / folder).rglob("*") if p.is_file()]
    kept = [p for p in files if "journal" not in p.parts and "checkpoint" not in p.name]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in kept}


def counts(link: sqlite3.Connection) -> list[tuple[Any, ...]]:
    names = [row[0] for row in link.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
    return [(name, *link.execute(f"SELECT count(*) FROM {name}").fetchone()) for name in names]
