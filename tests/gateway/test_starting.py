"""Starts that cannot be: a typo, a busy port, a home in use, a home that is damaged. Each says what to do."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from disks import small_disk
from world import World, chat, config, deployment

from allod.domain.errors import AllodError
from allod.store.audit import verify_home

FLEET = [deployment("sound", "answer"), deployment("slow", "slow-1000"), deployment("stuck", "stall-mid")]
USAGE, INTEGRITY, UNAVAILABLE = 2, 3, 5


def world_at(root: Path, text: str | None = None) -> World:
    return World(root / "home", text or config(FLEET))


def up(world: World, *args: str) -> subprocess.CompletedProcess[str]:
    """Run ``allod up``, which is expected to end by itself."""
    return world.allod("up", "--port", "0", *args, timeout=30)


@pytest.mark.parametrize(
    ("typo", "named"),
    [
        ("[tenant]\nhome = 'DE'\nblock = ['EEA']", "bloc"),
        (config([{**FLEET[0], "proccessing": "DE"}]), "processing"),
        (config(FLEET, server={"prot": 1}), "port"),
        (config([{**FLEET[0], "engine": "scriptd"}]), "scripted"),
        (config([{**FLEET[0], "operator": "slef"}]), "self"),
        (config(FLEET, tenant={"bloc": ["EAE"]}), "EEA"),
        (config(FLEET, tenant={"packs": ["bse"]}), "base"),
        ("[tenant\n", "TOML"),
    ],
)
def test_a_typo_is_exit_2_and_names_the_nearest_key(tmp_path: Path, typo: str, named: str) -> None:
    ended = up(world_at(tmp_path, typo))
    assert ended.returncode == USAGE, ended
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "do:" in ended.stderr


def test_with_json_the_error_is_json(tmp_path: Path) -> None:
    ended = up(world_at(tmp_path, "[tenant]\nhome = 'DE'\nblock = ['EEA']"), "--json")
    assert ended.returncode == USAGE
    error = json.loads(ended.stdout)["error"]
    assert error["kind"] == "invalid"
    assert error["what"]
    assert error["remedy"]


def test_no_configuration_is_exit_5_and_says_what_to_do(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    world.paths.config.unlink()
    ended = up(world)
    assert ended.returncode == UNAVAILABLE
    assert "allod init" in ended.stderr


def test_a_port_in_use_is_exit_5_with_the_remedy(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for args in (("--port", port), ("--scripted", "--port", port)):
            ended = world.allod("up", *args, timeout=30)
            assert ended.returncode == UNAVAILABLE, ended
            assert "--port" in ended.stderr
    ended = world.allod("up", "--host", "192.0.2.1", timeout=30)
    assert ended.returncode == UNAVAILABLE


def test_a_second_gateway_on_one_home_is_exit_5_and_harms_nothing(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    with world.up("press") as first:
        ended = up(world)
        assert ended.returncode == UNAVAILABLE
        assert "do:" in ended.stderr
        assert first.chat(chat("sound")).status == 200
        assert first.stop() == 0
    assert world.allod("log", "verify").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_and_leaves_the_home_at_rest(tmp_path: Path, number: int) -> None:
    world = world_at(tmp_path)
    with world.up("press") as gateway:
        answer = gateway.start("/v1/chat/completions", chat("sound", stream=True))
        answer.read()
        gateway.process.send_signal(number)
        assert gateway.process.wait(15) == 0
    verified = world.allod("log", "verify", "--json")
    assert verified.returncode == 0
    assert any("at rest" in step["detail"] for step in json.loads(verified.stdout)["steps"])


def test_a_request_under_way_ends_before_an_orderly_stop(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    with world.up("press") as gateway:
        got: list[int] = []
        asking = threading.Thread(target=lambda: got.append(gateway.chat(chat("slow")).status))
        asking.start()
        time.sleep(0.4)
        assert gateway.stop() == 0
        asking.join()
        assert got == [200]


@pytest.mark.slow
def test_an_endless_request_does_not_hold_up_a_stop_forever(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    with world.up("press") as gateway:
        stream = gateway.start("/v1/chat/completions", chat("stuck", stream=True))
        next(stream.events())
        began = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - began < 15
    row = world.request_row(stream.receipt)
    assert row is not None
    assert row.status in ("aborted", "failed")


# --- damage


def flip(path: Path, share: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 0xFF
    path.write_bytes(data)


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


DAMAGE: dict[str, tuple[Callable[[World], object], bool]] = {
    "an entry changed": (lambda w: flip(w.paths.log / "entries", 0.5), False),
    "the last entry changed": (lambda w: flip(w.paths.log / "entries", 0.99), False),
    "a hash changed": (lambda w: flip(w.paths.log / "hashes", 0.5), False),
    "an offset changed": (lambda w: flip(w.paths.log / "offsets", 0.5), False),
    "entries cut": (lambda w: cut(w.paths.log / "entries", 0.5), True),
    "entries gone": (lambda w: (w.paths.log / "entries").unlink(), True),
    "checkpoint changed": (lambda w: flip(w.paths.checkpoint, 0.5), True),
    "the journal gone": (lambda w: [p.unlink() for p in w.paths.journal.glob("*.seg")], True),
    "the journal's head changed": (
        lambda w: [flip(p, 20 / p.stat().st_size) for p in w.paths.journal.glob("*.seg")],
        True,
    ),
    "the tables cut": (lambda w: cut(w.paths.database, 0.4), True),
    "the tables overwritten": (lambda w: w.paths.database.write_bytes(b"x" * 20_000), True),
    "the log key gone": (lambda w: w.paths.log_key.unlink(), True),
    "the log key changed": (lambda w: flip(w.paths.log_key, 0.8), True),
    "another log's key": (lambda w: w.paths.log_key.write_text(other_key(w)), True),
    "the secret gone": (lambda w: w.paths.secret.unlink(), True),
    "the key readable by all": (lambda w: w.paths.log_key.chmod(0o644), True),
}
"""What is done to a home at rest, and whether a start must find it (``log verify`` must find all)."""


def other_key(world: World) -> str:
    from allod.store.home import make_home

    other = make_home(world.root.parent / "other")
    shutil.copyfile(other.log_vkey, world.paths.log_vkey)
    return other.log_key.read_text()


@pytest.fixture(scope="module")
def rested(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A home at rest with a hundred requests in it."""
    world = world_at(tmp_path_factory.mktemp("rested"))
    with world.up("press") as gateway:
        for n in range(100):
            assert gateway.chat(chat("sound", f"{n}")).status == 200
        assert gateway.stop() == 0
    return world


def copy_of(rested: World, root: Path) -> World:
    shutil.copytree(rested.root, root)
    return World(root, rested.paths.config.read_text())


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_home_is_exit_3_and_says_what_and_how_to_recover(
    rested: World, tmp_path: Path, name: str
) -> None:
    harm, at_start = DAMAGE[name]
    world = copy_of(rested, tmp_path / "home")
    harm(world)
    before = {p.name: p.read_bytes() for p in (world.paths.log).iterdir() if p.is_file()}
    assert not sound(world)
    if not at_start:
        verified = world.allod("log", "verify")
        assert verified.returncode == INTEGRITY, verified
        assert "FAIL" in verified.stdout
        assert "Traceback" not in verified.stderr
        return
    ended = up(world)
    assert ended.returncode == INTEGRITY, ended
    assert "Traceback" not in ended.stderr
    assert "why:" in ended.stderr
    assert "do:" in ended.stderr
    after = {name: (world.paths.log / name).read_bytes() for name in before}
    assert after == before, "a damaged log was written to"


def sound(world: World) -> bool:
    """Tell whether the log verifies (in this process: the command costs a second)."""
    try:
        return verify_home(world.paths).ok
    except AllodError:
        return False


def test_hashes_that_are_lost_are_computed_again(rested: World, tmp_path: Path) -> None:
    world = copy_of(rested, tmp_path / "home")
    cut(world.paths.log / "hashes", 0.5)
    assert not sound(world)
    with world.up("press") as gateway:
        assert gateway.chat(chat("sound")).status == 200
        assert gateway.stop() == 0
    assert sound(world)


def test_a_home_whose_folder_cannot_be_written_is_exit_5(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    world.environ["ALLOD_HOME"] = "/proc/allod"
    ended = world.allod("up", "--config", str(world.paths.config), timeout=30)
    assert ended.returncode == UNAVAILABLE, ended
    assert "Traceback" not in ended.stderr


# --- a full disk


def fill(root: Path) -> Path:
    """Take all the room there is."""
    ballast = root / "ballast"
    with ballast.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 65536)
        with contextlib.suppress(OSError):
            while True:
                file.write(b"x")
    return ballast


def test_a_full_disk_refuses_the_new_and_finishes_the_old(tmp_path: Path) -> None:
    """Before, during and after a request: 503 for the new, an end for the old, and all is well after."""
    root = tmp_path / "home"
    with small_disk(root, 90):
        world = World(root, config(FLEET))
        with world.up("press") as gateway:
            done = [gateway.chat(chat("sound")).receipt for _ in range(3)]
            gateway.receipt(done[-1])
            slow: list[object] = []
            asking = threading.Thread(
                target=lambda: slow.append(gateway.start("/v1/chat/completions", chat("slow", stream=True)))
            )
            asking.start()
            time.sleep(0.3)
            ballast = fill(root)
            seen = []
            for _ in range(100):
                answer = gateway.chat(chat("sound"))
                seen.append(answer.status)
                if answer.status == 503:
                    break
                done.append(answer.receipt)
                time.sleep(0.05)
            assert seen[-1] == 503, seen
            assert set(seen) <= {200, 503}
            assert "disk" in answer.json["error"]["message"] or "space" in answer.json["error"]["message"]
            ready = gateway.call("/readyz", app=None)
            assert ready.status == 503
            assert ready.json["store"]
            asking.join()
            stream = slow[0]
            assert stream.read().endswith(b"data: [DONE]\n\n")  # type: ignore[attr-defined]
            done.append(stream.receipt)  # type: ignore[attr-defined]
            ballast.unlink()
            end = time.monotonic() + 10
            while gateway.chat(chat("sound")).status != 200:
                assert time.monotonic() < end, "it does not recover when there is room again"
                time.sleep(0.1)
            for receipt in done:
                assert gateway.leaf(receipt)["status"] == "answered"
            assert gateway.call("/readyz", app=None).status == 200
            assert gateway.stop() == 0
        verified = world.allod("log", "verify")
        assert verified.returncode == 0, verified


def test_a_start_on_a_full_disk_is_exit_5(tmp_path: Path) -> None:
    root = tmp_path / "home"
    with small_disk(root, 90):
        world = World(root, config(FLEET))
        world.key("press")
        ballast = fill(root)
        ended = up(world)
        assert ended.returncode == UNAVAILABLE, ended
        assert "Traceback" not in ended.stderr
        assert "do:" in ended.stderr
        ballast.unlink()
        with world.up("press") as gateway:
            assert gateway.chat(chat("sound")).status == 200


def test_a_kill_on_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    root = tmp_path / "home"
    with small_disk(root, 120):
        world = World(root, config(FLEET))
        with world.up("press") as gateway:
            receipts = [gateway.chat(chat("sound")).receipt for _ in range(3)]
            gateway.receipt(receipts[-1])
            ballast = fill(root)
            for _ in range(5):
                answer = gateway.chat(chat("sound"))
                if answer.status == 200:
                    receipts.append(answer.receipt)
            gateway.kill()
        ballast.unlink()
        with world.up("press") as gateway:
            for receipt in receipts:
                assert gateway.leaf(receipt)["status"] == "answered"
            assert gateway.stop() == 0
        assert world.allod("log", "verify").returncode == 0


def test_the_scripted_product_ends_on_a_signal(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "allod", "up", "--scripted", "--port", "0", "--json"],
        env=world.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=15)
    assert b"Traceback" not in errors
