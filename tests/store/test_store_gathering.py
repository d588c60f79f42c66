"""Requests in steps, gathered from leaves as they come: each leaf once, each step with its request."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from allod.receipts.ids import new_id
from allod.store.extract import Entry, Gathering, Terminal, _Intent, gathered

AT = 1_790_000_000_000


def name(n: int) -> str:
    return new_id("allod/00000001", AT + n, b"gathering%d" % (n % 10))


def end(receipt: str, **more: Any) -> Terminal:
    said = {"status": "answered", "attempts": 1, **more}
    return Terminal(
        id=receipt, app="a", time="", classes=(), decision="", pack="", fleet="", **said
    )  # fmt: skip


def whole(receipt: str, steps: tuple[str, ...], *, audit: bool = False, **more: Any) -> Terminal:
    listed = tuple((one, "base", "answered", "0.1") for one in steps)
    floor = {"audit": "yes" if audit else "no"}
    return end(receipt, attempts=0, steps=listed, floor=floor, **more)


def step(receipt: str, of: str, role: str | None = "base") -> Terminal:
    return end(receipt, parents=(of,), step=role)


class Log:
    """Feeds a gathering, and keeps what comes out."""

    def __init__(self) -> None:
        self.pool, self.out, self.size = Gathering(), list[Entry](), 0

    def begin(self, *names: str) -> None:
        for one in names:
            self.pool.begin(self.size, _Intent(id=one, surface="chat"))
            self.size += 1

    def end(self, *ends: Terminal) -> None:
        for one in ends:
            self.out += self.pool.end(self.size, one)
            self.size += 1

    def audited(self, receipt: str) -> None:
        self.out += self.pool.audited(receipt)

    def shape(self) -> list[tuple[str, list[str]]]:
        self.out += self.pool.rest()
        return [(one.end.id, [s.end.id for s in one.steps]) for one in self.out]


A, B, C, D, E = map(name, range(5))


def test_steps_come_with_their_request_and_audits_too() -> None:
    log = Log()
    log.begin(A, B, C)
    log.end(step(B, A), step(C, A))
    assert log.out == []
    log.end(whole(A, (B, C), audit=True))
    assert log.out == [], "its audits are to come"
    log.begin(D, E)
    log.end(step(D, A, "audit"), end(E, parents=(A,)))
    log.audited(A)
    assert log.shape() == [(E, []), (A, [B, C, D])]


def test_a_request_that_names_one_in_flight_is_no_step_of_it() -> None:
    log = Log()
    log.begin(A, B, C)
    log.end(step(B, A), end(C, parents=(A,)), whole(A, (B,)))
    assert log.shape() == [(C, []), (A, [B])]


def test_leaves_from_before_are_steps_by_the_list_of_their_request() -> None:
    log = Log()
    log.begin(A, B)
    log.end(step(B, A, None), whole(A, (B,)))
    assert log.shape() == [(A, [B])]


def test_a_request_that_was_lost_keeps_the_steps_that_say_so_of_themselves() -> None:
    log = Log()
    log.begin(A, B, C)
    log.end(step(B, A), end(A, status="failed", reason="gateway-lost", attempts=0))
    log.end(step(C, A))
    assert log.shape() == [(A, [B]), (C, [])]
    assert log.out[1].end.step == "base", "it is counted as a step, not as a request"


def test_a_step_whose_request_is_of_another_period_stands_by_itself() -> None:
    log = Log()
    log.begin(B)
    log.end(step(B, A, "audit"))
    assert log.shape() == [(B, [])]


def test_an_audit_nobody_reported_on_waits_until_the_end_and_no_longer() -> None:
    log = Log()
    log.begin(A, B, C)
    log.end(step(B, A), whole(A, (B,), audit=True), step(C, A, "audit"))
    assert log.out == []
    assert log.shape() == [(A, [B, C])]


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans()), max_size=8),
    seed=st.integers(0, 2**32),
)
def test_every_leaf_comes_once_with_its_request_however_they_interleave(
    requests: list[tuple[int, int, bool]], seed: int
) -> None:
    drawn, log, n = random.Random(seed), Log(), 0
    courses: list[list[Any]] = []
    expected: dict[str, set[str]] = {}
    for steps, audits, follows in requests:
        names = [name(n + k) for k in range(steps + audits + 1)]
        n += len(names)
        own, mine, later = names[0], names[1 : steps + 1], names[steps + 1 :]
        if not steps:
            later = []
        parents = {"parents": (next(iter(expected)),)} if follows and expected else {}
        expected[own] = {*mine, *later}
        ended = whole(own, tuple(mine), audit=bool(later), **parents) if steps else end(own, **parents)
        course: list[Any] = [("begin", own)]
        for one in mine:
            course += [("begin", one), ("end", step(one, own))]
        course.append(("end", ended))
        for one in later:
            course += [("begin", one), ("end", step(one, own, "audit"))]
        courses.append([*course, ("audited", own)] if later and drawn.random() < 0.7 else course)
    while any(courses):
        course = drawn.choice([one for one in courses if one])
        what, of = course.pop(0)
        getattr(log, what)(of)
    assert {own: set(steps) for own, steps in log.shape()} == expected
    again = gathered(one for entry in log.out for one in entry.all)
    bare = {one.end.id: {s.end.id for s in one.steps} for one in again}
    assert bare == expected
    assert log.pool.in_flight == 0


def test_requests_that_stem_from_one_another_in_flight_break_no_report() -> None:
    """A caller names its own receipts as parents; a thousand of them, one from the other, end in turn."""
    for ended in (True, False):
        log, names = Log(), [name(n) for n in range(3_000)]
        log.begin(*names)
        log.end(*(end(one, parents=(of,)) for of, one in reversed(list(pairwise(names)))))
        if ended:
            log.end(end(names[0]))
        found = log.shape()
        assert sorted(one for one, _ in found) == sorted(names[not ended :])
        assert not any(steps for _, steps in found)
