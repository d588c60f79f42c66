"""A trace replayed on replicas: who waits how long for a place, and how fast the answers come.

A replica holds ``slots`` requests at once. Prompts are read one after the other; every stream advances by
one token in the time the replica needs per token with as many requests as it holds. That time is the one of
a closed loop with so many clients, in which waiting for the prompts of others is part of it. A request goes
to the replica that holds the fewest; where none has a place it waits in one queue, first come first served.

What this leaves out: requests that share a prefix, streams that are broken off, replicas that fail.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allod.planner.sizing.trace import Arrival

MOST_REPLICAS: Final = 10_000
_EPSILON: Final = 1e-9


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast one replica is.

    ``token_s`` are (requests held, seconds per token) by rising requests, between which it is linear, and
    beyond the last of which it grows in proportion; ``prompt_tokens_s`` is how many tokens of prompts it
    reads a second.
    """

    token_s: tuple[tuple[int, float], ...]
    prompt_tokens_s: float

    def __post_init__(self) -> None:
        held = [n for n, _ in self.token_s]
        figures = [*(one for _, one in self.token_s), self.prompt_tokens_s]
        if not held or held[0] < 1 or held != sorted(set(held)) or not all(_positive(one) for one in figures):
            raise Invalid(
                "a replica's speed makes no sense",
                f"{self.token_s}, {self.prompt_tokens_s} tokens of prompts a second",
                "give times above 0 for rising numbers of requests",
            )

    def seconds(self, held: int) -> float:
        """Return the seconds per token with so many requests held."""
        points = self.token_s
        if held <= points[0][0]:
            return points[0][1]
        for (n, low), (m, high) in itertools.pairwise(points):
            if held <= m:
                return low + (high - low) * (held - n) / (m - n)
        return points[-1][1] * held / points[-1][0]

    def slots(self, token_s: float, most: int) -> int:
        """Return the most requests, up to ``most``, with which a token takes at most so long; 0 if none."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.seconds(middle) <= token_s else (low, middle - 1)
        return low


def _positive(figure: float) -> bool:
    return math.isfinite(figure) and figure > 0


class Served(msgspec.Struct, frozen=True):
    """One request of a replay, in seconds: waited for a place, until the first token, per token after it."""

    wait_s: float
    first_s: float
    token_s: float


class _Replica:
    """What one replica holds: prompts in line, and streams on a clock of their own that counts tokens."""

    __slots__ = ("busy", "held", "lap", "now", "pace", "prompts", "streams", "tokens", "version")

    def __init__(self, pace: list[float]) -> None:
        self.pace, self.held, self.version = pace, 0, 0
        self.now = self.tokens = self.busy = 0.0
        self.lap = 0.0
        self.prompts: deque[tuple[float, int]] = deque()
        self.streams: list[tuple[float, int]] = []

    def advance(self, to_s: float) -> None:
        if self.held:
            span = to_s - self.now
            self.busy += span
            self.tokens += span / self.pace[self.held]
        self.now = to_s

    def next_s(self) -> float:
        first = self.prompts[0][0] if self.prompts else math.inf
        if self.streams:
            first = min(first, self.now + max(0.0, self.streams[0][0] - self.tokens) * self.pace[self.held])
        return first


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay came to: every request, and the share of the time a replica held one at least."""

    served: tuple[Served, ...]
    busy: float

    def share(self, good: Callable[[Served], bool]) -> float:
        """Return the share of the requests of which something holds."""
        return sum(1 for one in self.served if good(one)) / len(self.served)

    def quantile(self, of: Callable[[Served], float], share: float) -> float:
        """Return the smallest figure that ``share`` of the requests do not exceed."""
        ordered = sorted(of(one) for one in self.served)
        return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


class _Replay:
    def __init__(self, trace: Sequence[Arrival], replicas: int, slots: int, pace: Pace) -> None:
        self.trace, self.slots, self.pace = trace, slots, pace
        table = [math.inf, *(pace.seconds(held) for held in range(1, slots + 1))]
        self.replicas = [_Replica(table) for _ in range(replicas)]
        self.free = [(0, n) for n in range(replicas)]
        self.events: list[tuple[float, int, int]] = []
        self.queue: deque[int] = deque()
        self.waited = [0.0] * len(trace)
        self.first = [0.0] * len(trace)
        self.spent = [0.0] * len(trace)

    def run(self) -> Replayed:
        coming = iter(enumerate(self.trace))
        arrival = next(coming, None)
        while arrival is not None or self.events:
            if arrival is not None and (not self.events or arrival[1].at_s <= self.events[0][0]):
                self.arrive(arrival[0], arrival[1].at_s)
                arrival = next(coming, None)
            else:
                self.happen(*heapq.heappop(self.events))
        end = max(one.now for one in self.replicas) or 1.0
        served = (Served(*one) for one in zip(self.waited, self.first, self.spent, strict=True))
        return Replayed(
            served=tuple(served), busy=sum(one.busy for one in self.replicas) / end / len(self.replicas)
        )

    def arrive(self, n: int, now: float) -> None:
        place = self.place()
        if place is None:
            self.queue.append(n)
        else:
            self.admit(n, place, now)

    def place(self) -> int | None:
        """Return the replica that holds the fewest, if one has a place; entries out of date are dropped."""
        while self.free:
            held, n = self.free[0]
            if self.replicas[n].held == held:
                return n
            heapq.heappop(self.free)
        return None

    def admit(self, n: int, place: int, now: float) -> None:
        replica, request = self.replicas[place], self.trace[n]
        replica.advance(now)
        self.waited[n] = now - request.at_s
        replica.held += 1
        replica.lap = max(replica.lap, now) + request.input_tokens / self.pace.prompt_tokens_s
        replica.prompts.append((replica.lap, n))
        self.settle(place)

    def settle(self, place: int) -> None:
        replica = self.replicas[place]
        replica.version += 1
        if replica.held < self.slots:
            heapq.heappush(self.free, (replica.held, place))
        due = replica.next_s()
        if due < math.inf:
            heapq.heappush(self.events, (due, place, replica.version))

    def happen(self, now: float, place: int, version: int) -> None:
        replica = self.replicas[place]
        if version != replica.version:
            return
        replica.advance(now)
        while replica.prompts and replica.prompts[0][0] <= now + _EPSILON:
            self.begin(replica, replica.prompts.popleft()[1], now)
        while replica.streams and replica.streams[0][0] <= replica.tokens + _EPSILON * max(
            1.0, replica.tokens
        ):
            n = heapq.heappop(replica.streams)[1]
            more = self.trace[n].output_tokens - 1
            self.spent[n] = (now - self.trace[n].at_s - self.first[n]) / more if more else 0.0
            replica.held -= 1
        self.settle(place)
        while self.queue and (free := self.place()) is not None:
            self.admit(self.queue.popleft(), free, now)

    def begin(self, replica: _Replica, n: int, now: float) -> None:
        self.first[n] = now - self.trace[n].at_s
        heapq.heappush(replica.streams, (replica.tokens + self.trace[n].output_tokens - 1, n))


def replay(trace: Sequence[Arrival], *, replicas: int, slots: int, pace: Pace) -> Replayed:
    """Replay a trace, from its first arrival until its last answer ended.

    Raises:
        Invalid: no replica, no place, no arrival, or more replicas than ten thousand.

    """
    if not 1 <= replicas <= MOST_REPLICAS or slots < 1 or not trace:
        raise Invalid(
            "there is nothing to replay on",
            f"{replicas} replicas of {slots} places, {len(trace)} arrivals",
            f"1 to {MOST_REPLICAS} replicas, a place and an arrival at least",
        )
    return _Replay(trace, replicas, slots, pace).run()
