"""One app cannot close a deployment to another: not by deadlines, not by reading slowly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest
from world import Gateway, Region, World, chat, config, deployment

from allod.domain.chat import Chunk, Finished
from allod.domain.decision import Attempt
from allod.domain.money import ZERO
from allod.engines.contract import EngineFault
from allod.engines.run import Execution
from allod.gateway.gateway import FORGET_MS, Latency


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Region() as region:
        slow = deployment("slow", "slow-300", base_url=region.url, retries=0)
        root: Path = tmp_path_factory.mktemp("neighbours") / "home"
        with World(root, config([slow])).up("press", "ward") as up:
            yield up


def test_deadlines_nobody_can_meet_do_not_open_the_breaker(gateway: Gateway) -> None:
    for _ in range(8):
        answer = gateway.chat(chat("slow"), headers={"allod-deadline-ms": "100"})
        assert answer.status in {403, 504}, answer
    time.sleep(0.3)
    assert gateway.chat(chat("slow"), app="ward").status == 200


class Now:
    """A world in which everything is allowed and time is the loop's."""

    def __init__(self, engine: Any) -> None:
        self._engine, self.told = engine, list[tuple[EngineFault | None, int]]()

    def engine(self, _name: str) -> Any:
        return self._engine

    def recheck(self, _name: str) -> bool:
        return True

    def allows(self, _name: str) -> bool:
        return True

    def dispatch(self, _report: Any) -> None: ...

    def record(self, _name: str, fault: EngineFault | None, total_ms: int) -> None:
        self.told.append((fault, total_ms))

    def backoff_ms(self, _retry: int, _after: int | None) -> int:
        return 0

    def now_ms(self) -> int:
        return 0

    def elapsed_ms(self) -> int:
        return int(time.monotonic() * 1000)


@pytest.mark.parametrize("breaks", [False, True])
def test_the_time_a_client_does_not_read_is_not_held_against_the_deployment(breaks: bool) -> None:
    async def operate(_engine: Any, _attempt: Attempt, take: Any) -> None:
        for item in (Chunk(text="a"), Chunk(text="b")):
            if (wait := take((item,))) is not None:
                await wait
        if breaks:
            raise EngineFault("timeout", "not whole within its total time")
        take((Finished(),))

    def slow_reader(items: Any) -> Awaitable[None] | None:
        return asyncio.sleep(0.2) if isinstance(items[0], Chunk) else None

    async def run() -> Now:
        world = Now(None)
        attempt = Attempt(deployment="d", quality=None, cost_usd=ZERO, reserve_usd=ZERO, retries=0)
        execution = Execution((attempt,), operate, world, None)
        if breaks:
            with pytest.raises(Exception, match="broke off"):
                await execution.run(slow_reader)
        else:
            await execution.run(slow_reader)
        return world

    world = asyncio.run(run())
    if breaks:
        assert world.told == []
    else:
        ((fault, total_ms),) = world.told
        assert fault is None
        assert total_ms < 100


def test_a_deployment_that_was_slow_once_is_measured_again() -> None:
    latency = Latency()
    latency.note("d", 60_000, 0)
    assert latency.rounded(FORGET_MS)["d"] > 10_000
    assert latency.rounded(FORGET_MS + 1) == {}
    latency.note("d", 100, FORGET_MS + 2)
    assert latency.rounded(FORGET_MS + 3)["d"] < 200
