"""Drafts on the real engine: measured, and loaded only where a measurement speaks for them and holds."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from world import Inside, World, chat, config, deployment

from allod.domain.chat import ChatCall, Finished
from allod.domain.errors import AllodError, Invalid, Refused, Unavailable
from allod.engines.llamacpp.driver import LlamaCpp
from allod.gateway import compose, speculating, speculating_probe
from allod.gateway.cli.plan_speculate import COMMAND
from allod.gateway.speculating import Measured
from allod.store.store import Store
from allod.vault.vault import Vault

sys.path.append(str(Path(__file__).parents[1] / "vault"))
import gguf_writer

PROMPTS = (
    "What is the capital of Peru?",
    "Repeat: lamp stone river amber green",
    "Return JSON with name, city and amount: Anna Weber from Oslo paid 120 euro.",
    "List ten animals.",
    "Reverse: amber lamp",
)
LOADED = {"weights", "machine", "engine_digest"}
"""Of what a measurement may be of something else by: for these the driver is started too."""
OWN = {"engine": "llamacpp", "price": "free", "takes": ["text"]}


def configuration(**more: Any) -> str:
    own = deployment("local", "reference", **{**OWN, "draft": "reference-draft", **more})
    others = [
        deployment("bare", "reference", **OWN),
        deployment("one", "echo"),
        deployment("two", "echo"),
        deployment("closed", "echo", approved=False),
    ]
    return config([own, *others])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    one = World(tmp_path / "home", configuration())
    one.key("press")
    monkeypatch.setenv("ALLOD_HOME", str(one.root))
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    return one


def short(world: World) -> list[str]:
    return ["--prompts", str(world.root.parent / "prompts.txt"), "--rounds", "3", "--max-tokens", "16"]


@pytest.fixture
def one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round is one pass: half the children, where what is under test is not how fast they are."""
    monkeypatch.setattr(speculating_probe, "PASSES", 1)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, dict[str, Any], Measured]:
    """One measurement by the command itself, in a process of its own, with what it printed and kept."""
    folder = tmp_path_factory.mktemp("measured")
    world = World(folder / "home", configuration())
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    pictures = ["--svg", str(folder / "a.svg"), "--html", str(folder / "a.html")]
    done = world.allod("plan", "speculate", "local", *short(world), *pictures, "--json")
    assert done.returncode == 0, done.stderr
    measured = speculating.read(world.paths, "local")
    assert measured is not None
    return world, json.loads(done.stdout), measured


def ran(*words: str) -> Any:
    return CliRunner().invoke(COMMAND, list(words))


def refused(kind: type[AllodError], *words: str) -> AllodError:
    error = ran(*words).exception
    assert isinstance(error, kind), error
    return error


def favourable(measured: Measured) -> Measured:
    """The same measurement with figures that speak for the draft: under test is what comes of them."""
    whole = msgspec.structs.replace(measured.whole, speed_up=("1.5", "1.3", "1.7"))
    return msgspec.structs.replace(measured, whole=whole, different=0)


def favour(world: World, measured: Measured, **changes: Any) -> None:
    setup = msgspec.structs.replace(measured.setup, **changes)
    (speculating.folder(world.paths)).mkdir(parents=True, exist_ok=True)
    speculating.keep(world.paths, msgspec.structs.replace(favourable(measured), setup=setup))


def driver() -> LlamaCpp:
    made = compose.engines(compose.setting())["local"]
    assert isinstance(made, LlamaCpp)
    return made


def loads() -> tuple[str | None, str | None]:
    """Start the driver as the gateway does: the draft's digest, and the notice."""

    async def run() -> tuple[str | None, str | None]:
        engine = driver()
        try:
            await engine.start()
            assert engine.running is not None
            body = {"messages": [{"role": "user", "content": PROMPTS[0]}], "temperature": 0}
            call = ChatCall(body=body, stream=False, max_output_tokens=8)
            found = [event async for event in engine.chat(call)]
            assert isinstance(found[-1], Finished)
            return engine.running[1].draft, engine.describe().notice
        finally:
            await engine.close()

    return asyncio.run(run())


# --- measuring


def test_a_measurement_is_real_and_says_everything_it_rests_on(
    told: tuple[World, dict[str, Any], Measured],
) -> None:
    world, said, measured = told
    vault = Vault(world.paths.vault)
    assert said["kept"]
    assert said["logged"]
    assert said["used"] == measured.decided()[0]
    setup = measured.setup
    assert setup.weights == vault.find("reference").digest
    assert setup.draft == vault.find("reference-draft").digest
    assert setup.engine_digest.startswith("sha256:")
    assert setup.machine
    assert measured.sandbox != "none"
    assert (measured.whole.prompts, measured.rounds) == (len(PROMPTS), 3)
    assert 0 < measured.whole.accepted < measured.whole.drafted
    assert measured.different == 0
    assert min(measured.memory_bytes) > 10 << 20
    assert measured.whole.speed_up is not None
    value, low, high = map(float, measured.whole.speed_up)
    assert 0 < low <= value <= high
    assert measured.engine_speed_up is not None


def test_a_measurement_leaves_a_notice_in_a_free_log(told: tuple[World, dict[str, Any], Measured]) -> None:
    world, _, measured = told
    store = Store.open(world.paths)
    try:
        leaves = [json.loads(store.reader.leaf(n)) for n in range(store.reader.size())]
    finally:
        store.close()
    (notice,) = [leaf for leaf in leaves if leaf.get("subject") == speculating.SUBJECT]
    assert notice["facts"]["deployment"] == "local"
    assert notice["facts"]["used"] == ("yes" if measured.decided()[0] else "no")
    assert notice["facts"]["draft"] == measured.setup.draft


def test_its_picture_and_page_are_written(told: tuple[World, dict[str, Any], Measured]) -> None:
    folder = told[0].root.parent
    assert "used above 1.1" in (folder / "a.svg").read_text()
    assert "<svg" in (folder / "a.html").read_text()


@pytest.mark.usefixtures("one_pass")
def test_it_measures_while_a_gateway_runs_and_leaves_it_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Inside(world) as inside:
        monkeypatch.setenv("ALLOD_HOME", str(world.root))
        assert inside.call("/v1/chat/completions", chat("bare", "hello"), app="press").status == 200
        engine = inside.gateway.engines["bare"]
        before = engine.running
        done = ran("local", *short(world), "--json")
        assert done.exit_code == 0, done.exception
        assert json.loads(done.output)["logged"] is False
        assert engine.running == before
    assert speculating.read(world.paths, "local") is not None


@pytest.mark.usefixtures("one_pass")
def test_a_draft_with_another_vocabulary_never_drafts_and_one_not_configured_is_not_kept(
    world: World, tmp_path: Path
) -> None:
    compose.setting().vault.add(gguf_writer.tiny(tmp_path / "tiny.gguf", context=2048), "tiny")
    done = ran("local", "--draft", "tiny", *short(world), "--json")
    assert done.exit_code == 0, done.exception
    said = json.loads(done.output)
    assert said["used"] is False
    assert "not one token was drafted" in said["why"]
    assert said["kept"] is False
    assert speculating.read(world.paths, "local") is None


def test_a_measurement_that_breaks_off_takes_the_one_before_away(
    world: World, told: tuple[World, dict[str, Any], Measured], monkeypatch: pytest.MonkeyPatch
) -> None:
    favour(world, told[2])
    began: list[LlamaCpp] = []
    real = LlamaCpp.start

    async def start(self: LlamaCpp) -> None:
        await real(self)
        began.append(self)
        if len(began) == 4:  # the child with the draft, in the second pass
            assert self.running is not None
            os.kill(self.running[0], signal.SIGKILL)

    monkeypatch.setattr(LlamaCpp, "start", start)
    error = refused(Unavailable, "local", *short(world))
    assert "broke off" in error.what
    assert speculating.read(world.paths, "local") is None
    assert all(one.running is None for one in began)


# --- what comes of it


def test_without_a_measurement_the_model_is_served_plain_and_doctor_says_what_to_do(world: World) -> None:
    assert loads() == (None, None)
    done = world.allod("doctor")
    assert "reference-draft is not loaded: nothing was measured" in done.stdout
    assert "allod plan speculate local" in done.stdout
    assert "allod plan speculate local" in world.allod("models", "list").stdout
    (one,) = json.loads(ran("--json").output)
    assert one["used"] is False


def test_with_a_measurement_that_speaks_for_it_the_gateway_loads_the_draft_and_says_so(
    world: World, told: tuple[World, dict[str, Any], Measured]
) -> None:
    favour(world, told[2])
    with Inside(world) as inside:
        answer = inside.call("/v1/chat/completions", chat("local", PROMPTS[0]), app="press")
        assert answer.status == 200
        assert answer.json["choices"][0]["message"]["content"] == "Lima"
        assert inside.gateway.engines["local"].running[1].draft == told[2].setup.draft
    store = Store.open(world.paths)
    try:
        leaves = [json.loads(store.reader.leaf(n)) for n in range(store.reader.size())]
    finally:
        store.close()
    (start,) = [leaf for leaf in leaves if leaf.get("subject") == "start"]
    assert start["facts"]["drafts"] == "local reference-draft"
    assert "draft reference-draft is used" in world.allod("plan", "speculate").stdout


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "sha256:" + "0" * 64},
        {"draft": "sha256:" + "0" * 64},
        {"template": None},
        {"adapter": "sha256:" + "0" * 64},
        {"engine_digest": "sha256:" + "0" * 64},
        {"engine_version": "2020.1.1"},
        {"machine": "another"},
        {"threads": 7},
        {"slots": 9},
        {"context_tokens": 64},
    ],
)
def test_a_measurement_of_anything_else_means_plain(
    world: World, told: tuple[World, dict[str, Any], Measured], changes: dict[str, Any]
) -> None:
    favour(world, told[2], **changes)
    (name,) = changes
    if name in LOADED:
        draft, notice = loads()
        assert draft is None
        assert notice is not None
        assert f"measured with another {name.replace('_', ' ')}" in notice
    (one,) = speculating.checked(compose.setting(), time.time_ns() // 1_000_000)
    assert not one.used
    assert name.replace("_", " ") in one.why


@pytest.mark.parametrize("name", ["gone", "reference-planted"])
def test_a_draft_that_cannot_be_had_means_plain(
    world: World, told: tuple[World, dict[str, Any], Measured], name: str
) -> None:
    favour(world, told[2])
    world.write(configuration(draft=name))
    draft, notice = loads()
    assert draft is None
    assert notice is not None
    assert name in notice


def test_a_draft_damaged_since_means_plain(
    world: World, told: tuple[World, dict[str, Any], Measured], tmp_path: Path
) -> None:
    vault = compose.setting().vault
    entry = vault.add(gguf_writer.tiny(tmp_path / "tiny.gguf", context=2048), "tiny")
    favour(world, told[2], draft=entry.digest)
    world.write(configuration(draft="tiny"))
    assert loads()[0] == entry.digest
    blob = next(vault_file(world, entry.digest))
    raw = bytearray(blob.read_bytes())
    raw[-1] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(raw)
    draft, notice = loads()
    assert draft is None
    assert notice is not None
    assert "it could not be loaded: integrity" in notice


def vault_file(world: World, digest: str) -> Iterator[Path]:
    return (path for path in world.paths.vault.rglob("*") if path.name == digest.removeprefix("sha256:"))


def test_after_a_child_with_a_draft_died_the_next_is_plain(
    world: World, told: tuple[World, dict[str, Any], Measured]
) -> None:
    favour(world, told[2])

    async def run() -> None:
        engine = driver()
        try:
            await engine.start()
            assert engine.running is not None
            pid, setup = engine.running
            assert setup.draft is not None
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                while engine.running is None or engine.running[0] == pid:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert engine.running[1].draft is None
            assert "ended with status -9" in (engine.describe().notice or "")
        finally:
            await engine.close()

    asyncio.run(run())


# --- what is refused


def test_what_has_no_draft_or_is_not_ours_or_not_there_is_refused(world: World) -> None:
    assert "no draft" in refused(Invalid, "bare").what
    assert "--compare" in refused(Invalid, "one").remedy
    assert "did you mean 'local'" in refused(Invalid, "locla").what
    assert "with itself" in refused(Invalid, "one", "--compare", "one").what
    assert "decides nothing" in refused(Invalid, "one", "--compare", "two", "--draft", "x").what


def test_too_few_prompts_say_so_before_anything_is_kept(world: World, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text(PROMPTS[0])
    error = refused(Invalid, "local", "--prompts", str(tmp_path / "few.txt"), "--rounds", "3")
    assert "holds 1 prompts" in error.what
    assert speculating.read(world.paths, "local") is None


def test_I1_a_deployment_the_law_closes_is_not_asked(world: World) -> None:
    assert "decided by" in refused(Refused, "one", "--compare", "closed").why
    world.write(configuration(approved=False))
    error = refused(Refused, "local")
    assert "base." in error.why


def test_while_another_measurement_runs_there_is_none(world: World) -> None:
    with speculating.alone(world.paths):
        error = refused(Unavailable, "local", *short(world))
    assert isinstance(error, Unavailable)
    assert error.kind == "busy"


# --- two deployments of others


def test_two_deployments_are_compared_through_the_gateway_and_nothing_is_decided(world: World) -> None:
    with world.up("press") as gateway:
        world.write(configuration() + f"\n[server]\nport = {gateway.port}\n")
        done = world.allod(
            "plan", "speculate", "one", "--compare", "two", "--app", "press", *short(world), "--json"
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["simulated"] is True
        assert said["different"] == []
        assert said["found"]["whole"]["acceptance"] is None
        asked = 2 * 2 * 3 * (len(PROMPTS) + 1)
        assert len(world.all_requests()) == asked
    assert not list(speculating.folder(world.paths).glob("*.json"))


def test_a_gateway_that_is_not_there_is_said(world: World) -> None:
    world.write(configuration() + "\n[server]\nport = 9\n")
    error = refused(Unavailable, "one", "--compare", "two", "--app", "press", *short(world))
    assert "no gateway listens" in error.what
