# ruff: noqa: ASYNC110, ASYNC240, PT012 (tests wait, and say what must raise in more than one line)
"""The life of the child under the driver: cancellation, death, silence, restart, closing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from asyncio.subprocess import Process
from pathlib import Path

import msgspec
import pytest
import uvloop
from llamacpp_world import call, engine, events, gone, message, tiny_vault, with_tiny

from allod.domain.chat import Event, Finished
from allod.domain.fleet import Deployment, Weights
from allod.engines.contract import EngineContext, EngineFault
from allod.engines.llamacpp import make, process
from allod.engines.llamacpp.driver import LlamaCpp, Tuning
from allod.engines.llamacpp.spec import Report, Spec


def test_closing_an_answer_frees_its_slot_within_100_ms(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        for how in ("aclose", "cancel"):
            answer = driver.chat(call(tokens=1500, stream=True, ignore_eos=True))
            seen = 0
            if how == "aclose":
                async for _ in answer:
                    seen += 1
                    if seen == 3:
                        break
                assert (await driver.load()).running == 1
                began = time.perf_counter()
                await answer.aclose()
            else:
                task = asyncio.create_task(events(driver, call(tokens=1500, stream=True, ignore_eos=True)))
                while (await driver.load()).running != 1:
                    await asyncio.sleep(0.002)
                began = time.perf_counter()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            while (await driver.load()).running:
                await asyncio.sleep(0.002)
            assert time.perf_counter() - began < 0.1

    with_tiny(tmp_path, body)


def test_a_child_killed_in_the_middle_is_a_fault_and_comes_back(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        await driver.start()
        first = driver._child
        assert first is not None
        seen: list[Event] = []
        with pytest.raises(EngineFault) as caught:
            async for event in driver.chat(call(tokens=1500, stream=True, ignore_eos=True)):
                seen.append(event)
                if len(seen) == 3:
                    os.kill(first.pid, 9)
        assert caught.value.kind in {"reset", "truncated"}
        assert not any(isinstance(event, Finished) for event in seen)
        for _ in range(200):  # its sockets are closed before the last of its threads is gone
            if gone(first.pid):
                break
            await asyncio.sleep(0.02)
        assert gone(first.pid)
        with pytest.raises(EngineFault) as caught:
            for _ in range(200):
                await events(driver, call())
        assert caught.value.kind in {"unavailable", "connect", "reset"}
        for _ in range(200):
            if driver._child not in {None, first}:
                break
            await asyncio.sleep(0.02)
        assert message(await events(driver, call()))["role"] == "assistant"
        assert driver._child is not None
        assert driver._child.pid != first.pid
        assert not Path(first.socket).exists()

    with_tiny(tmp_path, body, tuning=Tuning(first_backoff_ms=200))


def test_a_child_killed_during_a_whole_answer_is_a_fault_too(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        await driver.start()
        assert driver._child is not None
        pid = driver._child.pid
        asyncio.get_running_loop().call_later(0.05, os.kill, pid, 9)
        with pytest.raises(EngineFault) as caught:
            await events(driver, call(tokens=2000, ignore_eos=True))
        assert caught.value.kind in {"reset", "truncated"}

    with_tiny(tmp_path, body)


def test_a_child_that_hangs_is_noticed_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allod.engines.llamacpp.endpoint.HEALTH_MS", 300)

    async def body(driver: LlamaCpp) -> None:
        await driver.start()
        first = driver._child
        assert first is not None
        os.kill(first.pid, 19)  # SIGSTOP
        with pytest.raises(EngineFault) as caught:
            await events(driver, call())
        assert caught.value.kind == "timeout"
        for _ in range(200):
            if driver._child not in {None, first}:
                break
            await asyncio.sleep(0.02)
        assert gone(first.pid)
        assert message(await events(driver, call()))["role"] == "assistant"

    with_tiny(tmp_path, body, timeout_ms=1500, tuning=Tuning(first_backoff_ms=50))


def test_the_pause_between_crashes_grows(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        pauses = []
        for _ in range(3):
            while driver._child is None:
                await asyncio.sleep(0.005)
                if driver._task is None:
                    await driver.start()
            os.kill(driver._child.pid, 9)
            while driver._retry_at <= asyncio.get_running_loop().time():
                await asyncio.sleep(0.002)
            pauses.append(driver._retry_at - asyncio.get_running_loop().time())
            with pytest.raises(EngineFault) as caught:
                await events(driver, call())
            assert caught.value.kind == "unavailable"
            assert caught.value.retry_after_ms is not None
            assert "status -9" in caught.value.detail
            assert "status -9" in (driver.ready() or "")
        assert 0.05 < pauses[0] <= 0.1 < pauses[1] <= 0.2 < pauses[2] <= 0.4

    with_tiny(tmp_path, body, tuning=Tuning(first_backoff_ms=100))


def test_a_model_that_never_loads_is_given_up_and_start_tries_again(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        for _ in range(300):
            with pytest.raises(EngineFault) as caught:
                await events(driver, call())
            if driver._final:
                break
            await asyncio.sleep(0.01)
        assert driver._final
        assert "not loaded within" in caught.value.detail
        assert driver._task is not None
        await asyncio.sleep(0.05)
        assert driver._task.done()
        driver._tuning = Tuning()
        await driver.start()
        assert driver.ready() is None
        assert message(await events(driver, call()))["role"] == "assistant"

    with_tiny(tmp_path, body, tuning=Tuning(load_ms=20, first_backoff_ms=10))


def test_calls_wait_for_a_load_within_their_own_time(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        hasty = msgspec.structs.replace(call(), deadline_ms=1)
        with pytest.raises(EngineFault) as caught:
            await events(driver, hasty)
        assert (caught.value.kind, caught.value.sent) == ("timeout", False)
        found = await asyncio.gather(*(events(driver, call()) for _ in range(5)))
        assert all(isinstance(each[-1], Finished) for each in found)

    with_tiny(tmp_path, body)


def test_closing_ends_everything_at_any_moment(tmp_path: Path) -> None:
    vault = tiny_vault(tmp_path)

    async def run() -> None:
        for pause in (0, 0.001, 0.05, 0.2, 1.0):
            driver = engine(vault)
            task = asyncio.create_task(events(driver, call(tokens=1500, stream=True, ignore_eos=True)))
            await asyncio.sleep(pause)
            child = driver._child
            await driver.close()
            await driver.close()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            whole = isinstance(outcome, list) and isinstance(outcome[-1], Finished)
            assert isinstance(outcome, EngineFault) or whole
            with pytest.raises(EngineFault) as caught:
                await events(driver, call())
            assert caught.value.kind == "unavailable"
            assert child is None or gone(child.pid)

    asyncio.run(run())
    left = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=True
    )
    assert "llamacpp.child" not in left.stdout
    assert not list(Path("/tmp").glob(f"allod-llm-{os.getpid()}-*"))


def test_closing_in_the_very_moment_of_the_report_ends_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report and the cancellation in one turn of the loop: neither may swallow the other."""
    honest = process._report

    async def run() -> None:
        driver = engine(tiny_vault(tmp_path))

        async def at_once(child: Process, spec: Spec) -> Report | None:
            report = await honest(child, spec)
            pids.append(child.pid)
            asyncio.get_running_loop().call_soon(closing.append, asyncio.ensure_future(driver.close()))
            return report

        pids: list[int] = []
        closing: list[asyncio.Future[None]] = []
        monkeypatch.setattr(process, "_report", at_once)
        with pytest.raises(EngineFault):
            await events(driver, call())
        async with asyncio.timeout(10):
            await closing[0]
        assert gone(pids[0])

    asyncio.run(run())


def test_a_caller_cancelled_in_the_very_moment_the_model_is_up_is_cancelled(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        task = asyncio.create_task(events(driver, call(tokens=2000, stream=True, ignore_eos=True)))
        while driver._turn is None:
            await asyncio.sleep(0)
        driver._turn.add_done_callback(lambda _: task.cancel())
        with pytest.raises(asyncio.CancelledError):
            await task

    with_tiny(tmp_path, body)


def test_descriptors_do_not_leak(tmp_path: Path) -> None:
    vault = tiny_vault(tmp_path)

    async def run() -> list[int]:
        counts = []
        for _ in range(3):
            driver = engine(vault)
            await events(driver, call())
            await driver.close()
            await asyncio.sleep(0.05)
            counts.append(len(list(Path("/proc/self/fd").iterdir())))
        return counts

    counts = asyncio.run(run())
    assert counts[-1] <= counts[0]


def test_the_parent_runs_on_while_the_child_loads(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        longest, last = 0.0, time.perf_counter()

        async def watch() -> None:
            nonlocal longest, last
            while True:
                await asyncio.sleep(0.005)
                now = time.perf_counter()
                longest, last = max(longest, now - last), now

        watching = asyncio.create_task(watch())
        await driver.start()
        watching.cancel()
        assert longest < 0.2

    with_tiny(tmp_path, body)


def test_I5_weights_the_law_was_not_told_of_are_not_loaded(tmp_path: Path) -> None:
    """A name that stands for other weights than at the start: policy judged those of the start."""
    vault = tiny_vault(tmp_path)
    judged = vault.resolve("tiny").facts

    async def run(told: Weights) -> str | None:
        driver = engine(vault, told=told)
        try:
            await driver.start()
        except EngineFault as fault:
            return fault.detail
        else:
            return None
        finally:
            await driver.close()

    assert asyncio.run(run(judged)) is None
    for other in (
        vault.resolve("other").facts,
        vault.resolve("tiny-ad").facts,
        msgspec.structs.replace(judged, maker_jurisdiction="US"),
    ):
        assert "the law was told of" in (asyncio.run(run(other)) or "")


def test_without_a_vault_there_is_no_engine() -> None:
    context = EngineContext(environ={}, allow_address=lambda _h, _p: False, state_dir="")
    with pytest.raises(EngineFault) as caught:
        make(Deployment(id="d", engine="llamacpp", model="m", operator="self"), context)
    assert caught.value.kind == "unavailable"


def test_importing_the_driver_loads_no_engine() -> None:
    program = (
        "import sys, allod.engines.llamacpp.driver; print('xllamacpp' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_adding_a_served_model_again_does_not_disturb_it(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        await driver.start()
        child = driver._child
        await asyncio.to_thread(driver._vault.add, tmp_path / "tiny.gguf", "tiny")
        await asyncio.to_thread(driver._vault.add, tmp_path / "tiny.gguf", "second-name")
        await asyncio.sleep(0.2)
        assert driver._child is child
        assert message(await events(driver, call()))["role"] == "assistant"

    with_tiny(tmp_path, body)


def test_it_runs_on_the_loop_of_the_gateway(tmp_path: Path) -> None:
    async def run() -> None:
        driver = engine(tiny_vault(tmp_path), "tiny-ad")
        found = await events(driver, call(stream=True))
        assert isinstance(found[-1], Finished)
        child = driver._child
        assert child is not None
        await driver.close()
        assert gone(child.pid)

    uvloop.run(run())


def test_more_callers_than_slots_are_served_in_turn_and_questions_do_not_wait(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        await driver.start()
        began = time.monotonic()
        asking = [
            asyncio.create_task(events(driver, call(f"q{n}", tokens=200, ignore_eos=True))) for n in range(60)
        ]
        busy = 0
        while not all(task.done() for task in asking):
            asked = time.monotonic()
            busy = max(busy, (await driver.load()).running or 0)
            assert await driver.count_tokens(call()) is not None
            assert time.monotonic() - asked < 2
            await asyncio.sleep(0.02)
        assert all(isinstance(task.result()[-1], Finished) for task in asking)
        assert busy in {1, 2}
        assert time.monotonic() - began < 60

    with_tiny(tmp_path, body)


def test_the_time_spent_waiting_for_a_load_counts(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        began = time.monotonic()
        asked = msgspec.structs.replace(call(tokens=1900, ignore_eos=True), deadline_ms=450)
        (outcome,) = await asyncio.gather(events(driver, asked), return_exceptions=True)
        assert isinstance(outcome, list) or (isinstance(outcome, EngineFault) and outcome.kind == "timeout")
        assert time.monotonic() - began < 0.45 + 0.3

    with_tiny(tmp_path, body)


def test_a_load_longer_than_the_deployments_time_is_a_timeout_and_goes_on(tmp_path: Path) -> None:
    async def body(driver: LlamaCpp) -> None:
        with pytest.raises(EngineFault) as caught:
            await events(driver, call())
        assert (caught.value.kind, caught.value.sent) == ("timeout", False)
        await driver.start()
        assert driver.ready() is None

    with_tiny(tmp_path, body, timeout_ms=5)
