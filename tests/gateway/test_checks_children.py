"""Children that serve checks: whoever is cancelled, late or killed leaves none behind."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from allod.gateway.checks.children import MOST, Children
from allod.gateway.checks.probing import order_of

LOOP = order_of("tests", "while True: pass")
WORKS = "def f(): return 1"


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_orders_are_served_so_many_at_once_and_each_by_a_new_child() -> None:
    async def body() -> None:
        children = Children()
        orders = [order_of("tests", WORKS, tests="assert f() == 1") for _ in range(2 * MOST)]
        said = await asyncio.gather(*(children.run(one, 20) for one in orders))
        assert said == [one.word for one in orders]
        await children.close()
        assert not children.pids

    asyncio.run(body())


def test_cancelled_at_any_moment_none_is_left() -> None:
    async def body() -> None:
        children, seen = Children(), set[int]()
        chance = random.Random(5)
        for _ in range(12):
            children.warm()
            tasks = [asyncio.create_task(children.run(LOOP, 10)) for _ in range(2)]
            await asyncio.sleep(chance.uniform(0, 0.15))
            seen |= children.pids
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await children.close()
        assert not children.pids
        assert seen
        assert all(map(gone, seen))

    asyncio.run(body())
    mine = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in mine if "allod.assurance.trial" in _command(pid)]


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_what_takes_too_long_is_ended() -> None:
    async def body() -> None:
        children = Children(keep=False)
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await children.run(LOOP, 0.5)
        assert time.monotonic() - started < 2
        await children.close()

    asyncio.run(body())


WAITS = "child = await children._spare"
SLEEPS = (
    "child = await children._spare\n"
    "    order = order_of('tests', 'import time; time.sleep(600)')\n"
    "    asyncio.ensure_future(children.run(order, 600)); await asyncio.sleep(0.7)"
)


@pytest.mark.parametrize("busy", [WAITS, SLEEPS], ids=["waits", "sleeps"])
def test_a_child_ends_with_its_gateway_also_one_that_uses_no_time(busy: str) -> None:
    script = (
        "import asyncio\n"
        "from allod.gateway.checks.children import Children\n"
        "from allod.gateway.checks.probing import order_of\n"
        "async def body():\n"
        "    children = Children(); children.warm()\n"
        f"    {busy}\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(body())\n"
    )
    gateway = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert gateway.stdout is not None
    pid = int(gateway.stdout.readline())
    gateway.send_signal(signal.SIGKILL)
    gateway.wait(10)
    gateway.stdout.close()
    end = time.monotonic() + 5
    while not gone(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert gone(pid)
