from __future__ import annotations

import asyncio
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from allod.domain.chat import ChatCall, EmbedCall
from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.domain.fleet import ENGINES, Deployment
from allod.engines import registry
from allod.engines.contract import Engine, EngineContext, EngineFault
from allod.engines.registry import GROUP, OURS, drivers, make_engine, readiness

CONTEXT = EngineContext(environ={}, allow_address=lambda _h, _p: True, state_dir="/nonexistent")


def deployment(engine, **more):
    given = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}
    return Deployment(id="d", engine=engine, operator="o", **{**given, **more})


def test_every_engine_of_the_fleet_has_a_driver_and_the_package_says_the_same():
    assert set(OURS) == set(ENGINES)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["entry-points"][GROUP] == dict(OURS)


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "llamacpp"])
def test_every_http_driver_can_be_made_and_closed(engine):
    made = make_engine(deployment(engine), CONTEXT)
    assert isinstance(made, Engine)
    asyncio.run(made.close())


def test_an_unknown_engine_names_the_nearest():
    with pytest.raises(Invalid) as caught:
        make_engine(deployment("antropic"), CONTEXT)
    assert "anthropic" in caught.value.remedy
    with pytest.raises(Invalid):
        make_engine(deployment("zzzzzz"), CONTEXT)


def test_a_driver_that_is_not_installed_says_how_to_get_it():
    found = {"opc": EntryPoint(name="opc", value="no_such_package.driver:make", group=GROUP)}
    with pytest.raises(Unavailable) as caught:
        make_engine(deployment("opc"), CONTEXT, found=found)
    assert caught.value.remedy == "pip install 'allod[opc]'"


def test_a_name_of_ours_cannot_be_taken(monkeypatch):
    theirs = EntryPoint(name="openai", value="evil:make", group=GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [theirs])
    with pytest.raises(Integrity):
        drivers()


def test_others_enter_by_the_same_door(monkeypatch):
    theirs = EntryPoint(name="mine", value="allod.engines.scripted:make", group=GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [theirs])
    made = make_engine(deployment("mine", model="answer", base_url=None), CONTEXT)
    assert made.describe().evidence == "simulated"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"engine": "openai", "api_key_env": "ABSENT"}, "ABSENT"),
        ({"engine": "openai", "base_url": None}, "base_url"),
        ({"engine": "openai", "base_url": "gopher://x"}, "gopher"),
        ({"engine": "ollama", "model": "gpt-oss:120b-cloud"}, "cloud"),
        ({"engine": "ollama", "model": "minimax-m2.5:cloud"}, "cloud"),
        ({"engine": "ollama", "model": "Kimi-K2:1T-CLOUD"}, "cloud"),
    ],
)
def test_what_cannot_serve_exists_and_says_why(given, said):
    async def scenario():
        made = make_engine(deployment(**given), CONTEXT)
        assert isinstance(made, Engine)
        assert said in (readiness(made) or "")
        for attempt in (
            made.chat(ChatCall(body={"messages": []}, stream=False)).__anext__(),
            made.embed(EmbedCall(body={"input": "x"})),
            made.count_tokens(ChatCall(body={"messages": []}, stream=False)),
        ):
            with pytest.raises(EngineFault) as caught:
                await attempt
            assert (caught.value.kind, caught.value.sent) == ("unavailable", False)
        assert await made.load() is not None
        await made.close()

    asyncio.run(scenario())


def test_ollamas_own_site_is_no_trap_when_it_is_declared():
    made = make_engine(deployment("ollama", model="x:cloud", base_url="https://ollama.com/v1"), CONTEXT)
    assert readiness(made) is None


def test_nothing_is_imported_before_it_is_asked_for():
    code = (
        "import sys, allod.engines.registry\n"
        "late = ('allod.engines.openai', 'allod.engines.scripted', 'httptools')\n"
        "print([name for name in sys.modules if name.startswith(late)])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
