# ruff: noqa: ASYNC110, ASYNC240 (a test may wait)
"""Faults of files, of loading and of processes: the child and its parent."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from llamacpp_world import call, engine, events, gguf_writer, gone, tiny_vault

from allod.domain.errors import Unavailable
from allod.engines.contract import EngineFault
from allod.engines.llamacpp import build, held, process
from allod.engines.llamacpp.driver import Tuning
from allod.vault import examine, template
from allod.vault.manifest import File
from allod.vault.vault import Vault

HERE = Path(__file__).parent
Started = tuple[subprocess.Popen[bytes], dict[str, Any], list[int]]


async def refused(driver: Any) -> EngineFault:
    """Ask a driver that must refuse, and return its fault."""
    with pytest.raises(EngineFault) as caught:
        await events(driver, call())
    await driver.close()
    assert caught.value.kind == "unavailable"
    assert caught.value.sent is False
    return caught.value


def start_child(fd: int, **changes: Any) -> Started:
    """Start a child on a descriptor, with a specification to be told to it."""
    path = str(process.socket_folder("") / "s.sock")
    spec = {
        "parent": os.getpid(),
        "name": "tiny",
        "socket": path,
        "api_key": "k",
        "context_tokens": 64,
    } | changes
    child = subprocess.Popen(
        [sys.executable, "-I", "-m", "allod.engines.llamacpp.child"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=(fd,), env={},
        start_new_session=True, cwd="/",
    )  # fmt: skip
    return child, spec, [fd]


def fake_child(vault: Vault, **changes: Any) -> Started:
    """Start a child on the model ``tiny``, as the driver does."""
    model = vault.resolve("tiny")
    fd = vault.open(model.weights)
    weights = {"fd": fd, "digest": model.weights.digest, "template": model.weights.manifest.template}
    return start_child(fd, weights=weights, **changes)


def tell(child: subprocess.Popen[bytes], spec: dict[str, Any]) -> None:
    assert child.stdin is not None
    child.stdin.write(json.dumps(spec).encode() + b"\n")
    child.stdin.flush()


def hear(child: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert child.stdout is not None
    return json.loads(child.stdout.readline())  # type: ignore[no-any-return]


def finish(child: subprocess.Popen[bytes], spec: dict[str, Any], fds: list[int]) -> None:
    child.kill()
    child.wait(5)
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
    for fd in fds:
        os.close(fd)
    shutil.rmtree(Path(spec["socket"]).parent, ignore_errors=True)


# -- I5: what is served is what was verified


def test_I5_weights_swapped_between_adding_and_loading_are_refused_for_good(tmp_path: Path) -> None:
    vault = tiny_vault(tmp_path)
    entry = vault.find("tiny")
    gguf_writer.tiny(tmp_path / "swap.gguf", seed=99, context=2048).replace(entry.path)

    async def body() -> None:
        driver = engine(vault)
        with pytest.raises(EngineFault) as caught:
            await events(driver, call())
        assert caught.value.kind == "unavailable"
        assert "not what was verified" in caught.value.detail
        assert driver.describe().weights is None
        with pytest.raises(EngineFault, match="not what was verified"):
            await events(driver, call())
        await driver.close()

    asyncio.run(body())


def test_I5_a_swapped_adapter_is_refused(tmp_path: Path) -> None:
    vault = tiny_vault(tmp_path)
    gguf_writer.adapter(tmp_path / "swap.gguf", seed=99).replace(vault.find("tiny-ad").path)
    assert "not what was verified" in asyncio.run(refused(engine(vault, "tiny-ad"))).detail


def test_I5_a_template_other_than_the_manifests_is_refused_by_the_child(tmp_path: Path) -> None:
    vault = tiny_vault(tmp_path)
    child, spec, fds = fake_child(vault)
    spec["weights"]["template"] = "sha256:" + "0" * 64
    tell(child, spec)
    report = hear(child)
    assert (report["type"], report["reason"]) == ("refused", "integrity")
    assert "template" in report["detail"]
    finish(child, spec, fds)


@pytest.mark.parametrize("hold", ["lease", "sealed-copy"])
def test_I5_a_swap_after_the_descriptor_was_opened_does_not_change_what_is_loaded(
    tmp_path: Path, hold: str
) -> None:
    """The name stands for another file before the child even hashes: it loads the one it was given."""
    vault = tiny_vault(tmp_path)
    entry = vault.find("tiny")
    child, spec, fds = fake_child(vault, without=[] if hold == "lease" else ["lease"])
    gguf_writer.tiny(tmp_path / "swap.gguf", seed=99, context=2048).replace(entry.path)
    tell(child, spec)
    report = hear(child)
    assert report["type"] == "ready", report
    assert report["weights"] == entry.digest
    assert report["hold"] == hold
    maps = Path(f"/proc/{child.pid}/maps").read_text()
    assert ("(deleted)" in maps) or hold == "lease"
    finish(child, spec, fds)


def test_I5_a_file_written_in_place_while_it_is_served_ends_the_child(tmp_path: Path) -> None:
    vault = tiny_vault(tmp_path)
    blob = Path(vault.find("tiny").path)

    async def body() -> None:
        driver = engine(vault, tuning=Tuning(first_backoff_ms=50))
        await driver.start()
        assert driver._child is not None
        pid, hold = driver._child.pid, driver._child.ready.hold
        if hold != "lease":
            pytest.skip(
                "this file system grants no lease: the copy in sealed memory cannot be written at all"
            )
        blob.chmod(0o644)
        began = time.monotonic()
        fd = await asyncio.to_thread(os.open, blob, os.O_RDWR)
        assert time.monotonic() - began < 5
        while not gone(pid) and time.monotonic() - began < 5:
            await asyncio.sleep(0.01)
        assert gone(pid)
        os.pwrite(fd, b"\1\2\3\4", blob.stat().st_size - 4)
        os.close(fd)
        for _ in range(100):
            if driver.ready() is not None and "not what was verified" in (driver.ready() or ""):
                break
            await asyncio.sleep(0.05)
        assert "not what was verified" in (driver.ready() or "")
        await driver.close()

    asyncio.run(body())


def test_I5_a_file_open_for_writing_is_served_from_a_sealed_copy(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"weights" * 1000)
    writer = os.open(path, os.O_RDWR)
    kept = held.hold(os.open(path, os.O_RDONLY))
    assert kept.hold == "sealed-copy"
    os.pwrite(writer, b"changed", 0)
    assert Path(kept.path).read_bytes() == b"weights" * 1000
    with pytest.raises(OSError, match="not permitted"):
        os.pwrite(os.open(kept.path, os.O_RDWR), b"x", 0)
    os.close(writer)
    os.close(kept.fd)


def test_files_that_vanish_or_are_no_files_are_refused(tmp_path: Path) -> None:
    vault = tiny_vault(tmp_path)
    blob = Path(vault.find("tiny").path)
    blob.unlink()
    assert "not there" in asyncio.run(refused(engine(vault))).detail
    os.mkfifo(blob)
    assert "not there" in asyncio.run(refused(engine(vault))).detail
    assert "holds no absent" in asyncio.run(refused(engine(vault, "absent"))).detail
    assert "not an adapter" in asyncio.run(refused(engine(vault, "other", adapter="other"))).detail


HOSTILE = {
    "2^63-keys": b"GGUF" + struct.pack("<IQQ", 3, 1, 1 << 63),
    "2^62-string": b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 1 << 62),
    "truncated": gguf_writer.assemble(gguf_writer.model_fields(), gguf_writer.model_tensors())[:-4],
    "random": bytes(range(256)) * 16,
    "empty": b"",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_I5_a_hostile_file_with_a_forged_manifest_does_not_reach_the_engine(
    tmp_path: Path, case: str
) -> None:
    """Digest and size are as the manifest says: only the structure gives it away, twice."""
    vault = tiny_vault(tmp_path)
    raw = HOSTILE[case]
    digest = hashlib.sha256(raw).hexdigest()
    (vault.root / "blobs" / "sha256" / digest).write_bytes(raw)
    files = (File(name="x", digest=f"sha256:{digest}", size_bytes=len(raw)),)
    forged = msgspec.structs.replace(vault.find("tiny").manifest, files=files)
    vault.commit((forged,), replace=True)
    assert "not what was verified" in asyncio.run(refused(engine(vault))).detail  # the parent sees it

    file = tmp_path / "hostile"
    file.write_bytes(raw)
    fd = os.open(file, os.O_RDONLY)
    child, spec, fds = start_child(fd, weights={"fd": fd, "digest": f"sha256:{digest}", "template": None})
    tell(child, spec)
    began = time.monotonic()
    report = hear(child)  # and so does the child, whatever its parent says
    assert time.monotonic() - began < 5
    assert (report["type"], report["reason"]) == ("refused", "integrity")
    assert "well-formed" in report["detail"]
    finish(child, spec, fds)


# -- loading


def test_a_template_bomb_is_refused_by_the_linter_and_killed_by_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = "{% for i in range(1000000000) %}{% set x = i %}{% endfor %}{{ messages[0].content }}"
    with pytest.raises(Exception, match="template"):
        template.check(bomb)
    vault = Vault(tmp_path / "vault", shipped=tmp_path / "none")

    def unlooked(_self: object, fd: int, name: str, **_more: object) -> examine.Report:
        return examine.examine(fd, examine.Request(name=name))

    with monkeypatch.context() as patched:  # in this process, and without a look at the template
        patched.setattr(examine, "judge_templates", lambda *_a, **_k: ())
        patched.setattr(examine.Examiner, "__call__", unlooked)
        vault.add(gguf_writer.tiny(tmp_path / "bomb.gguf", template=bomb), "bomb")

    async def body() -> None:
        driver = engine(vault, "bomb", tuning=Tuning(load_ms=2500, memory_bytes=512 << 20))
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.02)
                ticks += 1

        ticking = asyncio.create_task(tick())
        began = time.monotonic()
        with pytest.raises(EngineFault) as caught:
            await events(driver, call())
        ticking.cancel()
        assert "load: " in caught.value.detail
        assert time.monotonic() - began < 8
        assert ticks > 10  # the parent kept running while the child was stuck
        await driver.close()

    asyncio.run(body())


def test_memory_beyond_the_limit_is_a_clean_failure(tmp_path: Path) -> None:
    """A context whose cache needs far more than the limit: the child fails, the parent says so."""
    vault = tiny_vault(tmp_path)
    tuning = Tuning(memory_bytes=256 << 20, load_ms=20_000)
    fault = asyncio.run(refused(engine(vault, context_tokens=4_000_000, max_concurrent=1, tuning=tuning)))
    assert fault.detail.startswith("load: ")


def test_a_stale_socket_file_is_no_obstacle(tmp_path: Path) -> None:
    vault = tiny_vault(tmp_path)
    child, spec, fds = fake_child(vault)
    Path(spec["socket"]).write_text("stale")
    tell(child, spec)
    assert hear(child)["type"] == "ready"
    finish(child, spec, fds)


def test_the_engine_needs_the_key_and_its_folder_is_ours(tmp_path: Path) -> None:
    vault = tiny_vault(tmp_path)

    async def ask(socket_path: str, path: str, key: str | None) -> int:
        reader, writer = await asyncio.open_unix_connection(socket_path)
        secret = "" if key is None else f"Authorization: Bearer {key}\r\n"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{secret}Connection: close\r\n\r\n".encode())
        status = int((await reader.readline()).split()[1])
        writer.close()
        return status

    async def body() -> None:
        driver = engine(vault)
        await driver.start()
        assert driver._child is not None
        path = driver._child.socket
        assert Path(path).parent.stat().st_mode & 0o777 == 0o700
        assert len(path) < 100
        assert len(driver._child.api_key) == 64
        assert await ask(path, "/health", None) == 200
        assert await ask(path, "/slots", None) == 401
        assert await ask(path, "/slots", "wrong") == 401
        assert await ask(path, "/slots", driver._child.api_key) == 200
        command = Path(f"/proc/{driver._child.pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{driver._child.pid}/environ").read_bytes()
        assert driver._child.api_key.encode() not in command + environment
        assert environment == b"LANG=C.UTF-8\0"
        await driver.close()
        assert not Path(path).parent.exists()

    asyncio.run(body())


def test_a_refused_build_loads_nothing() -> None:
    assert build.number_of("2026.10.11549") == 11549
    assert build.number_of("2026.10.11549+cu128") == 11549
    build.check_number(build.MINIMUM_BUILD)
    for number in (0, 7823, 10252, build.MINIMUM_BUILD - 1):
        with pytest.raises(Unavailable) as caught:
            build.check_number(number)
        assert "CVE-2026-27940" in caught.value.why
    with pytest.raises(Unavailable):
        build.number_of("unknown")
    found = build.installed()
    assert found.number >= build.MINIMUM_BUILD
    assert found.digest.startswith("sha256:")


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b"not json\n", b'{"parent": 1}\n', b"x" * 100_000])
def test_a_broken_specification_is_refused(line: bytes) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "allod.engines.llamacpp.child"],
        input=line,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert json.loads(done.stdout)["reason"] == "specification"


# -- processes


def test_signals_are_ours_again(tmp_path: Path) -> None:
    vault = tiny_vault(tmp_path)
    child, spec, fds = fake_child(vault)
    tell(child, spec)
    assert hear(child)["type"] == "ready"
    caught = next(
        line
        for line in Path(f"/proc/{child.pid}/status").read_text().splitlines()
        if line.startswith("SigCgt")
    )
    mask = int(caught.split()[1], 16)
    assert not mask & (1 << (signal.SIGTERM - 1))
    assert not mask & (1 << (signal.SIGINT - 1))
    child.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    assert child.wait(5) == -signal.SIGTERM
    finish(child, spec, fds)


def test_the_end_of_standard_input_ends_the_child(tmp_path: Path) -> None:
    vault = tiny_vault(tmp_path)
    child, spec, fds = fake_child(vault)
    tell(child, spec)
    assert hear(child)["type"] == "ready"
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(5) == 0
    finish(child, spec, fds)


def test_a_child_of_another_parent_ends_at_once(tmp_path: Path) -> None:
    vault = tiny_vault(tmp_path)
    child, spec, fds = fake_child(vault, parent=1)
    tell(child, spec)
    assert child.wait(10) == 0
    assert child.stdout is not None
    assert child.stdout.read() == b""
    finish(child, spec, fds)


PARENT = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from llamacpp_world import engine
from allod.vault.vault import Vault

async def main():
    driver = engine(Vault(sys.argv[2], shipped="/nonexistent"))
    await driver.start()
    print(driver._child.pid, driver._child.socket, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_killed_parent_takes_its_child_along_and_its_folder_is_swept_by_the_next(tmp_path: Path) -> None:
    tiny_vault(tmp_path)
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), HERE, tmp_path / "vault"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid, path = parent.stdout.readline().split()
    assert not gone(int(pid))
    parent.kill()
    parent.wait(5)
    for _ in range(100):
        if gone(int(pid)):
            break
        time.sleep(0.02)
    assert gone(int(pid))
    parent.stdout.close()
    assert Path(path).parent.exists()
    shutil.rmtree(process.socket_folder(""))
    assert not Path(path).parent.exists()


def test_a_long_state_folder_is_not_used_for_the_socket(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    folder = process.socket_folder(str(long))
    assert not str(folder).startswith(str(long))
    assert len(str(folder / process.SOCKET_NAME)) < 100
    folder.rmdir()
    short = Path("/tmp/allod-test-short")
    short.mkdir(exist_ok=True)
    folder = process.socket_folder(str(short))
    assert folder.parent == short
    shutil.rmtree(short)
