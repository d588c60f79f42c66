"""What counting and watching cost: per request on the event loop, and per request in the thread beside it.

    python benchmarks/watching.py

Prints microseconds, the best of nine runs of 20,000, and after how many requests a tokenizer that makes a
fifth more tokens is found, by how much requests differ.
"""

from __future__ import annotations

import math
import random
import statistics
import time
import timeit
from collections import deque
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from allod.domain.usage import LedgerRow, Usage
from allod.gateway.counting import Counters
from allod.gateway.drifting import Drift, text_of
from allod.gateway.gateway import Gateway
from allod.metering.drift import Watch, observe, shape

RUNS = 20_000
WORDS = "the ward keeps every patient safe when a nurse writes down what was given and at which hour".split()
ROW = LedgerRow(
    receipt="r", attempt=1, app="a", task=None, deployment="d", started_at_ms=1, status="answered",
    basis="reported", usage=Usage(input_tokens=100, output_tokens=50), cost_usd=Decimal("0.00123"),
    price_digest="p", total_ms=321,
)  # fmt: skip


def on_the_loop() -> float:
    """Return the microseconds a settled request takes, counted and left to be watched."""
    gateway: Any = Gateway.__new__(Gateway)
    drift: Any = Drift.__new__(Drift)
    vars(drift).update(_waiting=deque(maxlen=400), dropped=0, _turn=0)
    vars(gateway).update(counters=Counters(), drift=drift, _own={"d": True})
    sizes, parsed = SimpleNamespace(body_bytes=400), SimpleNamespace(body={})
    admitted = SimpleNamespace(app="a", task=None, surface="chat", needs=("text",), sizes=sizes)
    ask: Any = SimpleNamespace(admitted=admitted, taps=(), covering=None, parsed=parsed)
    report = SimpleNamespace(delivered_bytes=100, thought_bytes=0)
    entry: Any = SimpleNamespace(elapsed_ms=lambda: 340, reports=[report])
    facts: Any = SimpleNamespace(status="answered", deployment="d")
    rows = (ROW,)
    runs = timeit.repeat(
        lambda: gateway.over(ask, entry, rows, facts), timer=time.process_time, number=RUNS, repeat=9
    )
    return min(runs) / RUNS * 1e6


def prose(rng: random.Random) -> dict[str, Any]:
    """Write a request of 20 to 400 words."""
    text = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(20, 400)))
    return {"messages": [{"role": "user", "content": text}]}


def in_the_thread(rng: random.Random, requests: int = 3000) -> float:
    """Return the microseconds of a processor one request takes to be counted and watched."""
    bodies, watch = [prose(rng) for _ in range(requests)], Watch()
    started = time.process_time()
    for body in bodies:
        text = text_of(body)
        watch, _ = observe(watch, shape(text), round(9 + 0.21 * len(text)), 1, "a/")
    return (time.process_time() - started) / requests * 1e6


def found_after(rng: random.Random, noise: float) -> int:
    """Return after how many requests a fifth more tokens is found."""
    watch, rises = Watch(), 700
    for n in range(rises + 2000):
        text = text_of(prose(rng))
        factor = (1.2 if n >= rises else 1.0) * math.exp(rng.gauss(0, noise))
        watch, alarm = observe(watch, shape(text), round(factor * (9 + 0.21 * len(text))), n, "a/")
        if alarm is not None and n >= rises:
            return n - rises + 1
    return 2000


def main() -> None:
    """Measure and print."""
    rng = random.Random(1)  # noqa: S311 (texts to measure with)
    print(f"on the event loop, per request   {on_the_loop():6.2f} us")
    print(f"in the thread, per request       {in_the_thread(rng):6.2f} us")
    for noise in (0.0, 0.1, 0.2, 0.3):
        runs = sorted(found_after(rng, noise) for _ in range(20))
        median = statistics.median(runs)
        print(f"+20 %, deviation {noise:.1f}: found after {median:.0f} requests, at most {runs[-1]}")


if __name__ == "__main__":
    main()
