"""Circuit breakers and backoff: pure, with time and chance as arguments.

A breaker is closed (attempts pass), open (the deployment rests) or half-open (one probe may pass). Failures
in a row, or a high share of failures among recent attempts, open it; a rest that failed to help is followed
by one twice as long. Times are milliseconds of a monotonic clock, state is bounded by the fleet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

BACKOFF_BASE_MS: Final = 100
BACKOFF_CAP_MS: Final = 5_000
PATIENCE_MS: Final = 10_000
"""How long a request without a deadline waits for a retry; a longer Retry-After means: try another one."""
_NOT_ITS_FAULT: Final = frozenset({"request", "too_long"})


class BreakerRules(msgspec.Struct, frozen=True, kw_only=True):
    """When a breaker opens and for how long.

    Attributes:
        in_a_row: so many failures in a row open it.
        share_percent, at_least, window, window_ms: or this share of failures among the last ``window``
            attempts of the last ``window_ms``, if there were ``at_least`` so many.
        rest_ms, longest_rest_ms: the first rest, and the bound of its doubling.

    """

    in_a_row: int = 5
    share_percent: int = 50
    at_least: int = 10
    window: int = 20
    window_ms: int = 60_000
    rest_ms: int = 5_000
    longest_rest_ms: int = 120_000


class BreakerState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one deployment's breaker.

    Attributes:
        recent: (time, ok) of the last attempts, oldest first, at most ``window``.
        in_a_row: failures since the last success.
        open_until_ms: end of the rest; None when closed. After it the breaker is half-open.
        rest_ms: length of the current or last rest.
        probe_until_ms: while half-open, a probe is under way until it reports or this time passes.

    """

    recent: tuple[tuple[int, bool], ...] = ()
    in_a_row: int = 0
    open_until_ms: int | None = None
    rest_ms: int = 0
    probe_until_ms: int | None = None

    def rests(self, at_ms: int) -> bool:
        """Tell whether no attempt may pass now: open, or half-open with a probe under way."""
        if self.open_until_ms is None:
            return False
        return at_ms < self.open_until_ms or (self.probe_until_ms is not None and at_ms < self.probe_until_ms)

    def probing(self, at_ms: int, rules: BreakerRules) -> BreakerState:
        """Take the probe of a half-open breaker; a probe that never reports is forgotten after a rest."""
        return msgspec.structs.replace(self, probe_until_ms=at_ms + max(self.rest_ms, rules.rest_ms))

    def after(self, ok: bool, at_ms: int, rules: BreakerRules) -> BreakerState:
        """Return the state after an attempt ended."""
        if self.open_until_ms is not None:
            if at_ms < self.open_until_ms and self.probe_until_ms is None:
                return self  # an attempt from before the rest: it says nothing new
            if ok:
                return BreakerState()
            return self._opened(at_ms, min(self.rest_ms * 2, rules.longest_rest_ms))
        recent = (*self.recent, (at_ms, ok))[-rules.window :]
        state = BreakerState(recent=recent, in_a_row=0 if ok else self.in_a_row + 1)
        return state._opened(at_ms, rules.rest_ms) if state._trips(at_ms, rules) else state

    def _trips(self, at_ms: int, rules: BreakerRules) -> bool:
        if self.in_a_row >= rules.in_a_row:
            return True
        if self.in_a_row == 0:
            return False
        fresh = [ok for when, ok in self.recent if when > at_ms - rules.window_ms]
        return len(fresh) >= rules.at_least and fresh.count(False) * 100 >= rules.share_percent * len(fresh)

    def _opened(self, at_ms: int, rest_ms: int) -> BreakerState:
        return BreakerState(in_a_row=self.in_a_row, open_until_ms=at_ms + rest_ms, rest_ms=rest_ms)


_CLOSED: Final = BreakerState()
_NONE: Final[frozenset[str]] = frozenset()


class Breaker:
    """The breakers of a fleet: one state per deployment, held by the composition root, not thread-safe.

    Args:
        deployments: the ids it keeps state for; records of others are ignored, so that state stays bounded.
        rules: when to open and how long to rest.

    """

    def __init__(self, deployments: Iterable[str], rules: BreakerRules | None = None) -> None:
        self._rules = rules or BreakerRules()
        self._states: dict[str, BreakerState] = dict.fromkeys(deployments, _CLOSED)
        self._open: set[str] = set()

    def record(self, deployment: str, ok: bool, at_ms: int) -> None:
        """Note how an attempt ended; what ``blames_deployment`` clears is not to be recorded as a failure."""
        state = self._states.get(deployment)
        if state is None:
            return
        after = state.after(ok, at_ms, self._rules)
        self._states[deployment] = after
        if after.open_until_ms is None:
            self._open.discard(deployment)
        else:
            self._open.add(deployment)

    def allows(self, deployment: str, at_ms: int) -> bool:
        """Tell whether an attempt may pass now, and take the probe if the breaker is half-open."""
        state = self._states.get(deployment)
        if state is None or state.open_until_ms is None:
            return True
        if state.rests(at_ms):
            return False
        self._states[deployment] = state.probing(at_ms, self._rules)
        return True

    def resting(self, at_ms: int) -> frozenset[str]:
        """Return the deployments no attempt may reach now."""
        if not self._open:
            return _NONE
        return frozenset(name for name in self._open if self._states[name].rests(at_ms))

    def state(self, deployment: str) -> BreakerState:
        """Return the state of one deployment (closed where none is kept)."""
        return self._states.get(deployment, _CLOSED)


def blames_deployment(fault_kind: str) -> bool:
    """Tell whether an engine's fault kind speaks against the deployment, not against the request."""
    return fault_kind not in _NOT_ITS_FAULT


def backoff_ms(attempt: int, retry_after_ms: int | None, jitter: float) -> int:
    """Return how long to wait before retry number ``attempt`` (from 1), in milliseconds.

    Exponential with full jitter from 100 ms up to 5 s; what the operator asked for is waited out whole, plus
    up to 100 ms, so that those it turned away do not come back together.

    Args:
        attempt: 1 for the first retry.
        retry_after_ms: the operator's Retry-After, if it sent one.
        jitter: chance, uniform in [0, 1).

    """
    if retry_after_ms is not None:
        return max(0, retry_after_ms) + int(BACKOFF_BASE_MS * jitter)
    most = min(BACKOFF_CAP_MS, BACKOFF_BASE_MS << min(max(attempt - 1, 0), 16))
    return int(most * jitter)


def worth_waiting(wait_ms: int, remaining_ms: int | None) -> bool:
    """Tell whether a retry after this wait still fits: into what remains of the deadline, or our patience."""
    return wait_ms < (PATIENCE_MS if remaining_ms is None else remaining_ms)
