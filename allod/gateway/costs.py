"""What a solved task costs: requests of the ledger with all that was paid for them, by task and deployment.

Cost per token says little. A request costs what all of its attempts cost, the failed and the retried ones,
and all of its steps: the base that was not good enough, the check, the second opinion, the audit afterwards.
They are charged to the request they served, and that to the deployment whose answer was delivered. Divided by
the requests that were answered and by the share of answers that solve the task, it is the cost of a solved
one.

The sums are exact; success is an estimate, and what it rests on is said with it. Memory is bounded by the
tasks and deployments there are, and by the steps whose requests are looked for (``MOST_PARENTS``).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import AllodError
from allod.domain.money import ZERO
from allod.routing.question import DEFAULT_TASK, quality_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import date

    from allod.domain.fleet import CapabilityEvidence, Fleet
    from allod.domain.usage import LedgerRow
    from allod.store.costs import Settled

MOST_PARENTS: Final = 65_536
NOBODY: Final = "-"
"""Stands for the deployment of requests that nobody was asked about."""
_Z95: Final = 1.6448536269514722
_PLACES: Final = Decimal("1e-12")
Key = tuple[str, str]


class Leaf(msgspec.Struct, frozen=True):
    """What is read of a terminal leaf: where an answer comes from, its steps, what it is a step of."""

    task: str | None = None
    deployment: str | None = None
    answer_from: str | None = None
    steps: tuple[tuple[str, str, str, str], ...] = ()
    parents: tuple[str, ...] = ()
    step: str | None = None


class Sums(msgspec.Struct, kw_only=True):
    """What was added up of one task and deployment; money in USD.

    Attributes:
        requests, answered, failed, aborted, refused: requests by how they ended.
        attempts: of the requests and all their steps.
        retried_usd: attempts that another one at the same request followed. failed_usd: all that was paid for
            requests without an answer. steps_usd: steps and audits beside the delivered answer.
        again: answers given again, without any attempt.
        lost: requests whose steps are not known, because their leaves are pruned.

    """

    requests: int = 0
    answered: int = 0
    failed: int = 0
    aborted: int = 0
    refused: int = 0
    attempts: int = 0
    cost_usd: Decimal = ZERO
    retried_usd: Decimal = ZERO
    failed_usd: Decimal = ZERO
    steps_usd: Decimal = ZERO
    squares: float = 0.0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    again: int = 0
    lost: int = 0

    def pay(self, rows: Iterable[LedgerRow]) -> Decimal:
        """Add attempts; returns what they cost."""
        paid = ZERO
        for row in rows:
            usage = row.usage
            self.attempts += 1
            self.input_tokens += usage.input_tokens + usage.cache_write_tokens + usage.cache_write_1h_tokens
            self.cached_tokens += usage.cache_read_tokens
            self.output_tokens += usage.output_tokens
            self.reasoning_tokens += usage.reasoning_tokens
            paid += row.cost_usd
        self.cost_usd += paid
        return paid


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The cost per solved task of one task at one deployment, with what it rests on.

    ``solved_low_usd`` and ``solved_high_usd`` bound ``solved_usd`` with 90 %: by what is known of success and
    by how much requests differ in cost; None where nothing bounds them.
    """

    task: str
    deployment: str
    sums: Sums
    success: float | None
    success_low: float | None
    success_high: float | None
    basis: str
    cases: str
    request_usd: Decimal | None
    solved_usd: Decimal | None
    solved_low_usd: Decimal | None
    solved_high_usd: Decimal | None


class _Request(msgspec.Struct):
    """A request in steps some of whose steps are still to come."""

    key: Key
    answered: bool
    answer_from: str | None
    left: set[str]
    paid: Decimal = ZERO


def in_order(one: Settled) -> tuple[int, bool]:
    """Order requests before their steps, where both began in one millisecond."""
    return one.at_ms, bool(one.rows)


class Costs:
    """Adds up requests as they come, in order of time.

    Args:
        read: reads the terminal leaf at an index, or None where it is not there any more.
        task: only requests of this task.

    """

    def __init__(self, read: Callable[[int], Leaf | None], task: str | None = None) -> None:
        self._read, self._task = read, task
        self.sums: dict[Key, Sums] = {}
        self._steps: OrderedDict[str, _Request] = OrderedDict()
        self._parents: OrderedDict[str, Key] = OrderedDict()
        self._stepped: set[tuple[str, str | None]] = set()

    def add(self, one: Settled) -> None:
        """Add one request, or one step of one."""
        whole = self._steps.pop(one.receipt, None)
        if whole is not None:
            self._step(whole, one)
            return
        leaf = self._leaf(one)
        if leaf is not None and leaf.steps:
            self._in_steps(one, leaf)
        elif leaf is not None and leaf.step is not None:
            key = (leaf.task or DEFAULT_TASK, leaf.deployment or NOBODY)
            self._later(self._parents.get(next(iter(leaf.parents), ""), key), one)
        else:
            self._plain(one, leaf)

    def _leaf(self, one: Settled) -> Leaf | None:
        """Read the leaf of a request that may be in steps, may be a later step, or given again."""
        if one.terminal_index is None or one.status == "refused":
            return None
        if one.rows and (one.app, one.rows[0].task) not in self._stepped:
            return None
        return self._read(one.terminal_index)

    def _of(self, key: Key) -> Sums | None:
        """Return where to add, None for a task that is not asked about."""
        if self._task is not None and key[0] != self._task:
            return None
        return self.sums.setdefault(key, Sums())

    def _plain(self, one: Settled, leaf: Leaf | None) -> None:
        rows = one.rows
        if rows:
            key = (rows[0].task or DEFAULT_TASK, rows[-1].deployment)
        elif leaf is not None:
            key = (leaf.task or DEFAULT_TASK, leaf.deployment or NOBODY)
        else:
            key = (DEFAULT_TASK, NOBODY)
        sums = self._of(key)
        if sums is None:
            return
        _ended(sums, one.status)
        paid = sums.pay(rows)
        sums.squares += float(paid) ** 2
        if one.status == "answered":
            sums.retried_usd += sum((row.cost_usd for row in rows[:-1]), ZERO)
            sums.again += not rows and leaf is not None
            sums.lost += not rows and leaf is None
        else:
            sums.failed_usd += paid

    def _in_steps(self, one: Settled, leaf: Leaf) -> None:
        task = leaf.task
        key = (task or DEFAULT_TASK, leaf.deployment or NOBODY)
        self._stepped.add((one.app, task))
        self._parents[one.receipt] = key
        if len(self._parents) > MOST_PARENTS:
            self._parents.popitem(last=False)
        sums = self._of(key)
        if sums is not None:
            _ended(sums, one.status)
        whole = _Request(key, one.status == "answered", leaf.answer_from, {step[0] for step in leaf.steps})
        self._steps.update(dict.fromkeys(whole.left, whole))
        while len(self._steps) > MOST_PARENTS:
            self._steps.popitem(last=False)

    def _step(self, whole: _Request, one: Settled) -> None:
        whole.left.discard(one.receipt)
        sums = self._of(whole.key)
        if sums is None:
            return
        paid = sums.pay(one.rows)
        whole.paid += paid
        if not whole.answered:
            sums.failed_usd += paid
        elif one.receipt == whole.answer_from:
            sums.retried_usd += sum((row.cost_usd for row in one.rows[:-1]), ZERO)
        else:
            sums.steps_usd += paid
        if not whole.left:
            sums.squares += float(whole.paid) ** 2

    def _later(self, key: Key, one: Settled) -> None:
        """Charge an audit to the request it is of, and a step whose request was lost to whom it asked."""
        sums = self._of(key)
        if sums is not None:
            sums.steps_usd += sums.pay(one.rows)

    def rows(self, fleet: Fleet, today: date) -> list[Row]:
        """Return what was added up, by task and then by cost."""
        found = [_row(key, sums, fleet, today) for key, sums in self.sums.items()]
        return sorted(found, key=lambda row: (row.task, -row.sums.cost_usd, row.deployment))


def _ended(sums: Sums, status: str) -> None:
    sums.requests += 1
    setattr(sums, status, getattr(sums, status) + 1)


def _row(key: Key, sums: Sums, fleet: Fleet, today: date) -> Row:
    task, name = key
    one = fleet.deployments.get(name)
    value, _, known = (None, "", None) if one is None else quality_of(one, _named(task), today)
    success = None if value is None else float(value)
    low, high = _bounds(known)
    mean, half = _mean(sums)
    answered = sums.answered

    def solved(cost: float, rate: float | None) -> Decimal | None:
        if not answered or not rate:
            return None
        return Decimal(repr(cost * sums.requests / answered / rate)).quantize(_PLACES).normalize()

    return Row(
        task=task,
        deployment=name,
        sums=sums,
        success=success,
        success_low=low,
        success_high=high,
        basis="unknown" if value is None else "declared" if known is None else known.basis,
        cases="0" if known is None else f"{known.cases:f}",
        request_usd=(sums.cost_usd / sums.requests).quantize(_PLACES).normalize() if sums.requests else None,
        solved_usd=solved(mean, success),
        solved_low_usd=solved(max(0.0, mean - half), high),
        solved_high_usd=solved(mean + half, low),
    )


def _named(task: str) -> str | None:
    return None if task == DEFAULT_TASK else task


def _bounds(known: CapabilityEvidence | None) -> tuple[float | None, float | None]:
    return (None, None) if known is None else (float(known.low), float(known.high))


def _mean(sums: Sums) -> tuple[float, float]:
    """Return the mean cost of a request, USD, and how far off it is with 90 %."""
    n = sums.requests
    if not n:
        return 0.0, 0.0
    mean = float(sums.cost_usd) / n
    spread = max(0.0, sums.squares / n - mean * mean)
    return mean, _Z95 * math.sqrt(spread / n) if n > 1 else mean


def leaf_reader(leaf: Callable[[int], bytes]) -> Callable[[int], Leaf | None]:
    """Return what reads terminal leaves; one that is pruned, or not published yet, is not there."""
    decoder = msgspec.json.Decoder(Leaf)

    def read(index: int) -> Leaf | None:
        try:
            found: Leaf = decoder.decode(leaf(index))
        except (AllodError, msgspec.MsgspecError):
            return None
        return found

    return read
