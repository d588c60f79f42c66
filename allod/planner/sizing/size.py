"""The fewest replicas that keep a service level, by replaying a trace; Erlang's formula is a floor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Invalid
from allod.planner.sizing.erlang import servers_for
from allod.planner.sizing.replay import MOST_REPLICAS, Pace, Replayed, replay
from allod.planner.sizing.trace import Arrival, drawn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DRAWS: Final = 20
BLOCK_S: Final = 60.0


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised: tokens a second to a share of the requests, a place within ``wait_s`` to another."""

    tokens_s: float
    share: float = 0.99
    wait_s: float = 1.0
    wait_share: float = 0.99

    def __post_init__(self) -> None:
        shares = (self.share, self.wait_share)
        if not (math.isfinite(self.tokens_s) and self.tokens_s > 0 and self.wait_s >= 0) or not all(
            0 < one < 1 for one in shares
        ):
            raise Invalid(
                "this is no service level",
                f"{self.tokens_s} tokens/s for {self.share}, {self.wait_s} s to wait for {self.wait_share}",
                "tokens a second above 0, a wait of 0 or more, shares between 0 and 1",
            )

    def kept(self, done: Replayed) -> bool:
        """Tell whether a replay keeps it."""
        return self.fast(done) >= self.share and self.admitted(done) >= self.wait_share

    def fast(self, done: Replayed) -> float:
        """Return the share of the requests that got their tokens a second."""
        longest = 1 / self.tokens_s * (1 + 1e-9)
        return done.share(lambda one: one.token_s <= longest)

    def admitted(self, done: Replayed) -> float:
        """Return the share of the requests that had a place in time."""
        return done.share(lambda one: one.wait_s <= self.wait_s)


class Sized(msgspec.Struct, frozen=True, kw_only=True):
    """How many replicas keep the level at one pace, and what that looks like.

    ``slots`` is how many requests a replica may hold so that a token comes in time; ``floor`` what Erlang's
    formula asks for, which bursts exceed; ``load`` the offered load in requests in service at once.
    ``passes`` is the share of traces drawn anew (blocks of a minute, with replacement) that keep the level
    with as many.
    """

    replicas: int
    slots: int
    floor: int
    load: float
    fast: float
    admitted: float
    wait_p99_s: float
    first_p50_s: float
    first_p99_s: float
    busy: float
    passes: float
    draws: int


def size(
    trace: Sequence[Arrival],
    level: Level,
    pace: Pace,
    *,
    most_held: int,
    draws: int = DRAWS,
    seed: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Sized:
    """Find the fewest replicas that keep a level.

    Args:
        trace: the arrivals.
        level: what is promised.
        pace: how fast a replica is.
        most_held: how many requests a replica has memory for.
        draws: how many traces to draw anew.
        seed: of those draws.
        progress: called with (done, all) of the draws.

    Raises:
        Invalid: one request alone is slower than promised, so no number of replicas is enough; or ten
        thousand are not.

    """
    slots = pace.slots(1 / level.tokens_s, most_held)
    if slots < 1:
        raise Invalid(
            "no number of replicas keeps this level",
            f"one request alone gets {1 / pace.seconds(1):.1f} tokens/s, {level.tokens_s:g} are promised",
            "take faster devices, a smaller or more quantised model, or promise less",
        )
    service_s = _service_s(trace, pace, slots)
    load = len(trace) / max(trace[-1].at_s - trace[0].at_s, 1e-9) * service_s
    floor = -(-servers_for(load, service_s, level.wait_s, level.wait_share) // slots)
    replicas, done = _fewest(trace, level, pace, slots, floor)
    passed = 0
    for n in range(draws):
        passed += level.kept(
            replay(drawn(trace, block_s=BLOCK_S, seed=seed + n), replicas=replicas, slots=slots, pace=pace)
        )
        if progress is not None:
            progress(n + 1, draws)
    return Sized(
        replicas=replicas,
        slots=slots,
        floor=floor,
        load=load,
        fast=level.fast(done),
        admitted=level.admitted(done),
        wait_p99_s=done.quantile(lambda one: one.wait_s, 0.99),
        first_p50_s=done.quantile(lambda one: one.first_s, 0.5),
        first_p99_s=done.quantile(lambda one: one.first_s, 0.99),
        busy=done.busy,
        passes=passed / draws if draws else math.nan,
        draws=draws,
    )


def _service_s(trace: Sequence[Arrival], pace: Pace, slots: int) -> float:
    """Return the mean seconds a request is held by a replica that is full."""
    tokens_in = sum(one.input_tokens for one in trace) / len(trace)
    tokens_out = sum(one.output_tokens for one in trace) / len(trace)
    return tokens_in / pace.prompt_tokens_s + tokens_out * pace.seconds(slots)


def _fewest(
    trace: Sequence[Arrival], level: Level, pace: Pace, slots: int, floor: int
) -> tuple[int, Replayed]:
    """Return the fewest replicas that keep the level: doubled until it is kept, then halved in between."""
    low, high = 0, max(1, floor)
    while not level.kept(done := replay(trace, replicas=high, slots=slots, pace=pace)):
        if high >= MOST_REPLICAS:
            raise Invalid(
                "ten thousand replicas do not keep this level",
                f"{level.admitted(done):.1%} get a place in time, {level.fast(done):.1%} their tokens/s",
                "look at the trace: are its times in seconds, and are its prompts read fast enough?",
            )
        low, high = high, min(MOST_REPLICAS, high * 2)
    while high - low > 1:
        middle = (low + high) // 2
        tried = replay(trace, replicas=middle, slots=slots, pace=pace)
        if level.kept(tried):
            high, done = middle, tried
        else:
            low = middle
    return high, done
