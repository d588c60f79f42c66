"""Carrying out a plan: order, retries, what is never tried again, one report per dispatch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest

from allod.domain.chat import Chunk, Embedded, Finished, UsageReport, Whole
from allod.domain.decision import Attempt
from allod.domain.errors import AllodError, Integrity, Invalid, Unavailable
from allod.domain.usage import Usage
from allod.engines.contract import EngineFault
from allod.engines.run import AttemptReport, Execution, Take

WHOLE = (Chunk(text="green"), Chunk(text=" tea"), Finished(model="m"))
Script = tuple[Any, ...]
"""What an attempt yields; an exception is raised, a number is slept (seconds)."""


class World:
    """A world that plays one script per dispatch and notes what it is asked."""

    def __init__(self, **scripts: list[Script]) -> None:
        self.scripts = scripts
        self.clock_ms = 0
        self.allowed: Callable[[str], bool] = lambda _name: True
        self.rechecked: Callable[[str], bool] = lambda _name: True
        self.dispatched: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.recorded: list[tuple[str, str | None]] = []
        self.waits: list[tuple[int, int | None]] = []
        self.closed = 0
        self.full = False

    def engine(self, deployment: str) -> Any:
        return deployment

    def recheck(self, deployment: str) -> bool:
        self.asked.append(("recheck", deployment))
        return self.rechecked(deployment)

    def dispatch(self, report: AttemptReport) -> None:
        if self.full:
            raise Unavailable("no room", kind="storage")
        self.asked.append(("dispatch", report.attempt.deployment))
        self.dispatched.append(report.attempt.deployment)

    def allows(self, deployment: str) -> bool:
        self.asked.append(("allows", deployment))
        return self.allowed(deployment)

    def record(self, deployment: str, fault: EngineFault | None, total_ms: int) -> None:
        self.recorded.append((deployment, fault.kind if fault else None))

    def backoff_ms(self, retry: int, retry_after_ms: int | None) -> int:
        self.waits.append((retry, retry_after_ms))
        return retry_after_ms if retry_after_ms is not None else 1

    def now_ms(self) -> int:
        return 1_700_000_000_000 + self.clock_ms

    def elapsed_ms(self) -> int:
        return self.clock_ms

    async def operate(self, engine: Any, attempt: Attempt, take: Take) -> None:
        script = self.scripts[engine].pop(0)
        try:
            for step in script:
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif (wait := take((step,))) is not None:
                    await wait
        finally:
            self.closed += 1


def plan(*names: str, retries: int = 2) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(
            deployment=name,
            quality=None,
            cost_usd=Decimal(0),
            reserve_usd=Decimal(1),
            effort=None,
            retries=retries,
        )
        for name in names
    )


def carry_out(
    world: World, attempts: tuple[Attempt, ...], deadline_ms: int | None = None
) -> tuple[list[Any], AllodError | None, list[AttemptReport]]:
    """Run a plan; returns what came out, the error it ended with, and the reports."""
    execution = Execution(attempts, world.operate, world, deadline_ms)
    out: list[Any] = []

    async def go() -> AllodError | None:
        try:
            await execution.run(out.extend)
        except AllodError as error:
            return error
        return None

    return out, asyncio.run(go()), execution.reports


def statuses(reports: list[AttemptReport]) -> list[tuple[str, str]]:
    return [(r.attempt.deployment, r.status) for r in reports]


def test_the_first_that_succeeds_answers_and_is_reported() -> None:
    world = World(a=[(Chunk(text="grün"), UsageReport(usage=Usage(output_tokens=2)), Finished(model="m"))])
    out, error, reports = carry_out(world, plan("a", "b"))
    assert error is None
    assert [type(x) for x in out] == [Chunk, UsageReport, Finished]
    (report,) = reports
    assert (report.status, report.number, report.whole, report.model) == ("answered", 1, True, "m")
    assert (report.delivered_bytes, report.pieces) == (5, 1)
    assert report.usage == Usage(output_tokens=2)
    assert world.recorded == [("a", None)]
    assert world.closed == 1


def test_retries_are_bounded_then_the_next_deployment_is_tried() -> None:
    fault = EngineFault("server", "HTTP 500", status=500)
    world = World(a=[(fault,)] * 3, b=[WHOLE])
    _, error, reports = carry_out(world, plan("a", "b"))
    assert error is None
    assert statuses(reports) == [("a", "failed")] * 3 + [("b", "answered")]
    assert [r.number for r in reports] == [1, 2, 3, 4]
    assert world.waits == [(1, None), (2, None)]


@pytest.mark.parametrize("kind", ["request", "auth", "too_long", "redirect", "oversize", "unavailable"])
def test_what_would_fail_again_is_not_retried_but_the_next_is_tried(kind: Any) -> None:
    world = World(a=[(EngineFault(kind, "x"),)], b=[WHOLE])
    _, error, reports = carry_out(world, plan("a", "b"))
    assert error is None
    assert statuses(reports) == [("a", "failed"), ("b", "answered")]


def test_nothing_is_tried_again_once_an_event_was_handed_on() -> None:
    world = World(a=[(Chunk(text="green"), EngineFault("reset", "gone"))], b=[WHOLE])
    out, error, reports = carry_out(world, plan("a", "b"))
    assert len(out) == 1
    assert isinstance(error, Unavailable)
    assert error.kind == "failed"
    assert statuses(reports) == [("a", "failed")]
    assert reports[0].sent


def test_a_driver_that_ends_without_an_end_mark_has_failed() -> None:
    world = World(a=[(Chunk(text="green"),)])
    _, error, reports = carry_out(world, plan("a"))
    assert isinstance(error, Unavailable)
    assert statuses(reports) == [("a", "failed")]
    assert "end mark" in reports[0].fault


def test_a_defect_of_a_driver_is_a_fault_like_any_other() -> None:
    world = World(a=[(ZeroDivisionError("secret prompt"),)] * 3, b=[WHOLE])
    _, error, reports = carry_out(world, plan("a", "b"))
    assert error is None
    assert "secret" not in "".join(r.fault for r in reports)
    assert statuses(reports)[-1] == ("b", "answered")


def test_I1_each_attempt_and_each_retry_is_re_decided_before_it_is_dispatched() -> None:
    fault = EngineFault("server", "HTTP 500", status=500)
    world = World(a=[(fault,)] * 3, b=[WHOLE])
    carry_out(world, plan("a", "b"))
    order = [what for what, _ in world.asked]
    assert order == ["recheck", "allows", "dispatch"] * 4


def test_I1_a_deployment_the_reference_engine_denies_is_never_dispatched() -> None:
    world = World(a=[WHOLE], b=[WHOLE])
    world.rechecked = lambda name: name != "a"
    _, error, _ = carry_out(world, plan("a", "b"))
    assert error is None
    assert world.dispatched == ["b"]
    world = World(a=[WHOLE], b=[WHOLE])
    world.rechecked = lambda _name: False
    _, error, reports = carry_out(world, plan("a", "b"))
    assert isinstance(error, Integrity)
    assert reports == []


def test_a_decision_that_changes_between_retries_stops_them() -> None:
    world = World(a=[(EngineFault("server", "x", status=500),)] * 3)
    answers = iter([True, False])
    world.rechecked = lambda _name: next(answers)
    _, error, reports = carry_out(world, plan("a"))
    assert isinstance(error, Unavailable)
    assert len(reports) == 1


def test_what_cannot_be_recorded_is_not_dispatched() -> None:
    world = World(a=[WHOLE])
    world.full = True
    _, error, reports = carry_out(world, plan("a"))
    assert isinstance(error, Unavailable)
    assert error.kind == "storage"
    assert reports == []
    assert world.closed == 0


def test_an_open_breaker_is_not_passed() -> None:
    world = World(a=[WHOLE], b=[WHOLE])
    world.allowed = lambda name: name == "b"
    _, error, reports = carry_out(world, plan("a", "b"))
    assert error is None
    assert statuses(reports) == [("b", "answered")]
    world = World(a=[WHOLE])
    world.allowed = lambda _name: False
    _, error, _ = carry_out(world, plan("a"))
    assert isinstance(error, Unavailable)
    assert error.kind == "down"


def test_a_probe_is_not_taken_from_the_breaker_for_an_attempt_that_will_not_be_made() -> None:
    world = World(a=[WHOLE])
    world.clock_ms = 100
    _, error, _ = carry_out(world, plan("a"), deadline_ms=50)
    assert isinstance(error, Unavailable)
    assert error.kind == "timeout"
    assert ("allows", "a") not in world.asked


def test_a_long_retry_after_without_a_deadline_goes_to_the_next_and_is_not_slept_out() -> None:
    busy = EngineFault("rate", "HTTP 429", status=429, retry_after_ms=3_600_000)
    world = World(a=[(busy,), WHOLE], b=[WHOLE])
    _, error, reports = carry_out(world, plan("a", "b"))
    assert error is None
    assert statuses(reports) == [("a", "failed"), ("b", "answered")]


def test_a_long_retry_after_with_nobody_else_is_told_to_the_client() -> None:
    busy = EngineFault("rate", "HTTP 429", status=429, retry_after_ms=3_600_000)
    world = World(a=[(busy,), WHOLE])
    _, error, reports = carry_out(world, plan("a"))
    assert isinstance(error, Unavailable)
    assert error.retry_after_ms == 3_600_000
    assert len(reports) == 1


def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    busy = EngineFault("rate", "HTTP 429", status=429, retry_after_ms=5_000)
    world = World(a=[(busy,), WHOLE], b=[WHOLE])
    _, error, reports = carry_out(world, plan("a", "b"), deadline_ms=1_000)
    assert error is None
    assert statuses(reports)[-1] == ("b", "answered")


def test_no_attempt_begins_after_the_deadline() -> None:
    world = World(a=[(EngineFault("timeout", "late"),)], b=[WHOLE])
    real = world.operate

    async def slow(engine: Any, attempt: Attempt, take: Take) -> None:
        world.clock_ms += 600
        await real(engine, attempt, take)

    world.operate = slow  # type: ignore[method-assign]
    _, error, reports = carry_out(world, plan("a", "b", retries=0), deadline_ms=500)
    assert isinstance(error, Unavailable)
    assert error.kind == "timeout"
    assert len(reports) == 1


@pytest.mark.parametrize(
    ("fault", "kind", "sort"),
    [
        (EngineFault("too_long", "x"), "invalid", Invalid),
        (EngineFault("request", "x", status=400), "invalid", Invalid),
        (EngineFault("connect", "x", sent=False), "down", Unavailable),
        (EngineFault("unavailable", "x", sent=False), "down", Unavailable),
        (EngineFault("timeout", "x"), "timeout", Unavailable),
        (EngineFault("server", "x", status=500), "failed", Unavailable),
        (EngineFault("auth", "x", status=401), "failed", Unavailable),
        (EngineFault("redirect", "x", status=302), "failed", Unavailable),
    ],
)
def test_what_the_client_is_told_when_all_fail(fault: EngineFault, kind: str, sort: type) -> None:
    _, error, _ = carry_out(World(a=[(fault,)] * 3), plan("a"))
    assert isinstance(error, sort)
    assert error.kind == kind  # type: ignore[attr-defined]


def test_a_client_that_goes_while_the_engine_works_leaves_an_aborted_report() -> None:
    world = World(a=[(Chunk(text="green"), 60.0)])
    execution = Execution(plan("a"), world.operate, world, None)

    async def go() -> None:
        task = asyncio.create_task(execution.run(lambda _items: None))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    (report,) = execution.reports
    assert (report.status, report.delivered_bytes) == ("aborted", 5)
    assert report.total_ms is not None
    assert world.closed == 1
    assert world.recorded == []


def test_a_client_that_goes_while_it_is_waited_for_leaves_an_aborted_report() -> None:
    """The client takes nothing and then leaves: the engine must be closed before ``run`` ends."""
    world = World(a=[WHOLE])
    execution = Execution(plan("a"), world.operate, world, None)

    async def go() -> tuple[int, str]:
        task = asyncio.create_task(execution.run(lambda _items: asyncio.sleep(60)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return world.closed, execution.reports[0].status

    assert asyncio.run(go()) == (1, "aborted")
    assert execution.reports[0].total_ms is not None
    assert world.recorded == []


def test_an_answer_that_cannot_be_said_is_not_blamed_on_the_driver() -> None:
    """``take`` fails: its own error comes out, nothing is tried again."""
    for error in (Unavailable("it cannot be said in this dialect"), ZeroDivisionError("a defect of ours")):
        world = World(a=[WHOLE], b=[WHOLE])
        execution = Execution(plan("a", "b"), world.operate, world, None)

        def take(_items: Sequence[Any], error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)):
            asyncio.run(execution.run(take))
        assert statuses(execution.reports) == [("a", "failed")]
        assert world.closed == 1
        assert world.recorded == [("a", None)]


def test_what_comes_together_is_handed_on_together_and_waited_for() -> None:
    world = World()
    order: list[str] = []

    async def operate(_engine: Any, _attempt: Attempt, take: Take) -> None:
        for items in (WHOLE[:2], WHOLE[2:]):
            wait = take(items)
            assert wait is not None
            await wait
            order.append("read on")

    async def client(items: Sequence[Any]) -> None:
        await asyncio.sleep(0)
        order.append(f"took {len(items)}")

    execution = Execution(plan("a"), operate, world, None)
    asyncio.run(execution.run(client))
    assert order == ["took 2", "read on", "took 1", "read on"]
    assert execution.reports[0].pieces == 2


@pytest.mark.parametrize(
    ("item", "bytes_"),
    [
        (Whole(raw=b'{"choices":[{"message":{"role":"assistant","content":"green tea"}}]}'), 18),
        (
            Whole(body={"choices": [{"message": {"role": "assistant", "content": "grün"}}]}),
            len("grün".encode()),
        ),
        (Whole(raw=b"\xff not json"), None),
    ],
)
def test_a_whole_answer_without_usage_is_weighed(item: Whole, bytes_: int | None) -> None:
    world = World(a=[(item, Finished(model="m"))])
    _, error, (report,) = carry_out(world, plan("a"))
    assert error is None
    assert report.pieces == 1
    assert report.delivered_bytes > 0
    if bytes_ is not None:
        assert report.delivered_bytes <= bytes_


def test_a_whole_answer_with_usage_is_not_weighed() -> None:
    whole = Whole(raw=b'{"choices":[{"message":{"content":"green tea"}}]}')
    world = World(a=[(whole, UsageReport(usage=Usage(input_tokens=1, output_tokens=2)), Finished())])
    _, _, (report,) = carry_out(world, plan("a"))
    assert report.delivered_bytes == 0


def test_embeddings_and_counts_are_whole_answers() -> None:
    world = World(a=[(Embedded(body={"data": []}, usage=Usage(input_tokens=3), model="m"),)], b=[(7,)])
    _, error, (report,) = carry_out(world, plan("a"))
    assert error is None
    assert (report.whole, report.usage) == (True, Usage(input_tokens=3))
    out, error, _ = carry_out(world, plan("b"))
    assert (out, error) == ([7], None)
