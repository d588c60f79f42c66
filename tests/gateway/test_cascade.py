"""Cascades: one request answered in steps, each lawful, each with a receipt, all of it added up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import Inside, Region, Trap, World, chat, config, deployment, messages, responses, until

from allod.domain.errors import Integrity, Invalid
from allod.engines.run import NOT_NEEDED
from allod.gateway.cascade import MAX_STEPS, Cascade, Step
from allod.receipts.commitment import commitment
from gateway.lineages import ends, log_of

QUICK = {"retries": 0, "first_token_ms": 300, "timeout_ms": 600}


@pytest.fixture(scope="module")
def region() -> Iterator[Region]:
    with Region() as one:
        yield one


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    with Trap() as one:
        yield one


@pytest.fixture(scope="module")
def inside(region: Region, trap: Trap, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    fleet = [
        deployment("base", "echo", base_url=region.url),
        deployment("strong", "answer", base_url=region.url, quality={"default": Decimal("0.99")}),
        deployment("inner", "answer"),
        deployment("broken", "http-500", base_url=region.url, **QUICK),
        deployment("half", "truncate", base_url=region.url, **QUICK),
        deployment("stuck", "stall-before", base_url=region.url, retries=0),
        deployment("slow", "slow-400", base_url=region.url),
        deployment("abroad", "answer", lawful=False, base_url=trap.url),
    ]
    world = World(tmp_path_factory.mktemp("cascade") / "home", config(fleet))
    world.key("ward")
    world.key("press")
    with Inside(world) as one:
        yield one


@contextlib.contextmanager
def stepped(inside: Inside, strategy: Any) -> Iterator[None]:
    """Have every request of the gateway answered by a strategy."""
    inside.gateway.strategy_for = lambda _: strategy
    try:
        yield
    finally:
        inside.gateway.strategy_for = None


async def escalating(cascade: Cascade) -> Step:
    base = await cascade.step("base", "base")
    assert base.status == "answered"
    return await cascade.step("escalation", "strong", stems_from=[base])


SURFACES = [("/v1/chat/completions", chat), ("/v1/messages", messages), ("/v1/responses", responses)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "make"), SURFACES, ids=["chat", "messages", "responses"])
def test_two_deployments_answer_one_request_and_every_receipt_says_so(
    inside: Inside, region: Region, path: str, make: Any, stream: bool
) -> None:
    region.clear()
    with stepped(inside, escalating):
        taken = inside.start(path, make("auto", "say less", stream=stream), app="ward")
        body = taken.read()
    assert taken.status == 200, body
    assert stream or b"scripted answer" in body
    assert b"say less" not in body.replace(b'"instructions"', b"")  # the base's echo was held back
    whole, base, strong = ends(inside, taken.receipt)
    assert [json.loads(s.body)["model"] for s in region.seen] == ["echo", "answer"]
    assert whole["answer_from"] == strong["id"]
    assert [entry[:3] for entry in whole["steps"]] == [
        [base["id"], "base", "answered"],
        [strong["id"], "escalation", "answered"],
    ]
    assert whole["attempts"] == 0
    assert "seq" not in whole
    assert base["parents"] == [whole["id"]]
    assert strong["parents"] == [whole["id"], base["id"]]
    assert whole["deployment"] == strong["deployment"] == "strong"
    assert whole["conditions"] == strong["conditions"]
    # money: each attempt one row, under its step; the request's total is their sum (I4)
    inside.gateway.store.flush()
    rows = {leaf["id"]: inside.world.rows(leaf["id"]) for leaf in (whole, base, strong)}
    assert [len(rows[leaf["id"]]) for leaf in (whole, base, strong)] == [0, 1, 1]
    paid = sum((row.cost_usd for leaf in (base, strong) for row in rows[leaf["id"]]), Decimal(0))
    assert paid > 0
    assert Decimal(whole["total_usd"]) == paid == sum(Decimal(e[3]) for e in whole["steps"])
    assert whole["cost_usd"] == "0"
    assert Decimal(taken.headers["allod-cost"]) == paid
    # what was delivered is committed to under the request's own receipt
    row = inside.world.request_row(taken.receipt)
    assert row is not None
    assert row.response_salt is not None
    assert whole["response"] == commitment(row.response_salt, body)
    assert base["response"] != strong["response"]


def test_numbers_of_deployments_have_no_gap_and_the_intent_of_each_step_comes_first(inside: Inside) -> None:
    with stepped(inside, escalating):
        for _ in range(3):
            assert inside.chat(chat("auto"), app="ward").status == 200
    assert inside.chat(chat("strong"), app="ward").status == 200
    inside.gateway.store.flush()
    leaves = log_of(inside)
    numbers: dict[str, list[int]] = {}
    for leaf in leaves:
        if "seq" in leaf:
            numbers.setdefault(leaf["deployment"], []).append(leaf["seq"])
    for name, given_ in numbers.items():
        assert given_ == list(range(1, len(given_) + 1)), name
    begun: set[str] = set()
    for leaf in leaves:
        if leaf["kind"] == "intent":
            assert set(leaf.get("parents", [])) <= begun, "a step begins before its request"
            begun.add(leaf["id"])
    counts = Counter((leaf["id"], leaf["kind"]) for leaf in leaves if leaf["kind"] != "notice")
    assert set(counts.values()) == {1}


def test_a_step_that_fails_is_in_the_receipt_and_the_next_may_still_answer(inside: Inside) -> None:
    async def strategy(cascade: Cascade) -> Step:
        for name in ("broken", "half", "abroad"):
            step = await cascade.step("base", name)
            assert step.status == ("refused" if name == "abroad" else "failed")
            assert step.events == ()
        return await cascade.step("escalation", "inner")

    with stepped(inside, strategy):
        answer = inside.chat(chat("auto", stream=False), app="ward")
    assert answer.status == 200
    whole, *steps = ends(inside, answer.receipt)
    assert [s["status"] for s in steps] == ["failed", "failed", "refused", "answered"]
    assert whole["status"] == "answered"
    assert steps[2]["excluded"], "the law's reasons are in the refused step's own receipt"


def test_when_no_step_answers_the_request_fails_and_names_them(inside: Inside) -> None:
    async def strategy(cascade: Cascade) -> Step:
        await cascade.step("base", "broken")
        return await cascade.step("escalation", "half")

    for stream in (False, True):
        with stepped(inside, strategy):
            taken = inside.start("/v1/chat/completions", chat("auto", stream=stream), app="ward")
            taken.read()
        assert taken.status == 502
        whole, *steps = ends(inside, taken.receipt)
        assert whole["status"] == "failed"
        assert "answer_from" not in whole
        assert "deployment" not in whole
        assert [s["status"] for s in steps] == ["failed", "failed"]
        assert Decimal(whole["total_usd"]) == sum(Decimal(s["cost_usd"]) for s in steps)


def test_a_strategy_that_breaks_leaves_the_steps_it_ran(inside: Inside) -> None:
    async def strategy(cascade: Cascade) -> Step:
        await cascade.step("base", "base")
        raise RuntimeError("a fault of the strategy")

    with stepped(inside, strategy):
        answer = inside.chat(chat("auto"), app="ward")
    assert answer.status == 503
    whole, base = ends(inside, answer.receipt)
    assert (whole["status"], base["status"]) == ("failed", "answered")
    assert whole["total_usd"] == base["cost_usd"] != "0"


def test_a_client_that_leaves_in_the_middle_aborts_the_step_and_the_request(
    inside: Inside, region: Region
) -> None:
    async def strategy(cascade: Cascade) -> Step:
        await cascade.step("base", "base")
        return await cascade.step("escalation", "stuck")

    region.clear()
    before = {leaf["id"] for leaf in log_of(inside)}
    with stepped(inside, strategy):
        client = threading.Thread(target=_leaves, args=(inside, region))
        client.start()
        client.join()

        def over() -> list[dict[str, Any]]:
            fresh = [one for one in log_of(inside) if one["id"] not in before and one["kind"] == "terminal"]
            return fresh if len(fresh) == 3 else []

        base, stuck, whole = until(over)
    assert (base["status"], stuck["status"], whole["status"]) == ("answered", "aborted", "aborted")
    assert stuck["reason"] == whole["reason"] == "client-gone"
    assert [e[2] for e in ends(inside, whole["id"])[0]["steps"]] == ["answered", "aborted"]
    assert "answer_from" not in whole
    assert Decimal(whole["total_usd"]) == Decimal(base["cost_usd"]) + Decimal(stuck["cost_usd"])
    assert stuck["basis"] == "reserved"


def _leaves(inside: Inside, region: Region) -> None:
    import http.client

    raw = json.dumps(chat("auto")).encode()
    key = inside.world.key("ward")
    connection = http.client.HTTPConnection("127.0.0.1", inside.port, timeout=20)
    connection.request("POST", "/v1/chat/completions", raw, {"authorization": f"Bearer {key}"})
    region.wait_seen(2)
    connection.close()


@pytest.mark.parametrize("beside", [False, True])
def test_a_gateway_that_stops_in_the_middle_says_so_in_every_receipt(
    inside: Inside, region: Region, beside: bool
) -> None:
    async def strategy(cascade: Cascade) -> Step:
        if beside:
            return (await asyncio.gather(cascade.step("base", "stuck"), cascade.step("base", "stuck")))[0]
        return await cascade.step("base", "stuck")

    region.clear()
    before = {leaf["id"] for leaf in log_of(inside)}
    loop = inside._loop
    assert loop is not None
    with stepped(inside, strategy):
        client = threading.Thread(target=_asks, args=(inside,))
        client.start()
        region.wait_seen(1 + beside)
        tasks = [t for t in asyncio.all_tasks(loop) if "Cycle.run" in repr(t.get_coro())]
        for task in tasks:  # as the server does with what does not end in time
            loop.call_soon_threadsafe(task.cancel, "stopped")
        client.join()
    until(lambda: len({e["id"] for e in log_of(inside) if e["kind"] == "terminal"} - before) == 2 + beside)
    ended = [e for e in log_of(inside) if e["id"] not in before and e["kind"] == "terminal"]
    assert {(e["status"], e["reason"]) for e in ended} == {("aborted", "gateway-stopped")}


def _asks(inside: Inside) -> None:
    with contextlib.suppress(Exception):
        inside.chat(chat("auto"), app="ward")


def test_steps_run_beside_each_other_and_what_is_not_needed_is_ended(inside: Inside) -> None:
    async def strategy(cascade: Cascade) -> Step:
        tasks = [asyncio.create_task(cascade.step("base", name)) for name in ("inner", "slow", "stuck")]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result()

    with stepped(inside, strategy):
        started = time.monotonic()
        answer = inside.chat(chat("auto"), app="ward")
        assert time.monotonic() - started < 3
    assert answer.status == 200
    whole, *steps = ends(inside, answer.receipt)
    assert [s["status"] for s in steps] == ["answered", "aborted", "aborted"]
    assert [s.get("reason") for s in steps] == [None, NOT_NEEDED, NOT_NEEDED]
    assert Decimal(whole["total_usd"]) == sum(Decimal(s["cost_usd"]) for s in steps)


def test_a_step_has_its_own_time(inside: Inside) -> None:
    async def strategy(cascade: Cascade) -> Step:
        late = await cascade.step("base", "stuck", within_ms=150)
        assert (late.status, late.reason) == ("failed", "timeout")
        return await cascade.step("escalation", "inner")

    with stepped(inside, strategy):
        answer = inside.chat(chat("auto"), app="ward", headers={"Allod-Deadline-Ms": "5000"})
    assert answer.status == 200, answer


# --- I1, I3, I4


def test_I1_no_byte_of_any_step_reaches_what_the_law_forbids(inside: Inside, trap: Trap) -> None:
    async def strategy(cascade: Cascade) -> Step:
        step = await cascade.step("escalation", "abroad")
        assert step.status == "refused"
        return step

    with stepped(inside, strategy):
        answer = inside.chat(chat("auto"), app="ward")
    assert answer.status == 502
    assert trap.touched == 0
    whole, step = ends(inside, answer.receipt)
    assert step["attempts"] == 0
    assert whole["steps"][0][2] == "refused"


def test_I1_each_step_is_decided_again_by_the_reference_engine_before_dispatch(
    inside: Inside, region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = inside.gateway.decider.policy.recheck

    def recheck(question: Any, name: str) -> bool:
        asked.append(name)
        return name != "strong" and real(question, name)

    monkeypatch.setattr(inside.gateway.decider.policy, "recheck", recheck)
    region.clear()
    with stepped(inside, escalating):
        answer = inside.chat(chat("auto"), app="ward")
    assert answer.status in (502, 503)
    assert asked == ["base", "strong"]
    assert [json.loads(s.body)["model"] for s in region.seen] == ["echo"]


def test_I1_what_a_step_asks_instead_is_scanned_and_never_loses_a_class(inside: Inside, trap: Trap) -> None:
    """The question of a check may hold what the request did not: it is decided by what it holds."""
    from allod.gateway.surfaces.chat import ChatSurface

    before = trap.touched

    async def strategy(cascade: Cascade) -> Step:
        raw = json.dumps(chat("auto", "patient anna.kowalska@example.org, IBAN DE89370400440532013000"))
        other = ChatSurface().parse(raw.encode())
        step = await cascade.step("check", "abroad", parsed=other)
        assert step.status == "refused"
        return await cascade.step("base", "inner")

    with stepped(inside, strategy):
        answer = inside.chat(chat("auto", "plain"), app="press")
    assert answer.status == 200, answer
    whole, check, base = ends(inside, answer.receipt, app="press")
    assert set(whole["classes"]) == set(base["classes"]) == {"public"}
    assert "personal" in check["classes"]
    assert trap.touched == before


def test_I3_a_step_whose_intent_cannot_be_recorded_is_not_run(
    inside: Inside, region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    from allod.domain.errors import Unavailable

    real, count = inside.gateway.store.append_intent, [0]

    def full(*args: Any, **kwargs: Any) -> int:
        count[0] += 1
        if count[0] == 3:
            raise Unavailable("the journal is full", kind="storage")
        return int(real(*args, **kwargs))

    monkeypatch.setattr(inside.gateway.store, "append_intent", full)
    region.clear()
    with stepped(inside, escalating):
        answer = inside.chat(chat("auto"), app="ward")
    assert answer.status == 503
    assert [json.loads(s.body)["model"] for s in region.seen] == ["echo"]
    whole, base = ends(inside, answer.receipt)
    assert (whole["status"], base["status"]) == ("failed", "answered")
    assert len(whole["steps"]) == 1


def test_I4_the_limit_of_a_request_holds_over_its_steps_and_beside_each_other(inside: Inside) -> None:
    """Each reservation is about 0.0082 USD: 4096 output tokens at 2 USD a million, and the input."""

    async def beside(cascade: Cascade) -> Step:
        both = await asyncio.gather(cascade.step("base", "slow"), cascade.step("base", "strong"))
        assert sorted(s.status for s in both) == ["answered", "refused"]
        return next(s for s in both if s.status == "answered")

    with stepped(inside, beside):
        answer = inside.chat(chat("auto"), app="ward", headers={"Allod-Max-Cost": "0.03"})
    assert answer.status == 200, answer
    whole, *steps = ends(inside, answer.receipt)
    assert Decimal(whole["total_usd"]) <= Decimal("0.03")
    refused = next(s for s in steps if s["status"] == "refused")
    assert "cost.max" in refused["rules"]

    async def lost(cascade: Cascade) -> Step:
        await cascade.step("base", "stuck", within_ms=100)  # lost: charged its reservation
        return await cascade.step("escalation", "inner")

    with stepped(inside, lost):
        answer = inside.chat(chat("auto"), app="ward", headers={"Allod-Max-Cost": "0.0085"})
    assert answer.status == 502, answer
    whole, *steps = ends(inside, answer.receipt)
    assert [s["status"] for s in steps] == ["failed", "refused"]
    assert Decimal(whole["total_usd"]) <= Decimal("0.0085")


def test_a_cascade_takes_no_step_too_many_and_none_afterwards(inside: Inside) -> None:
    kept: list[Cascade] = []

    async def strategy(cascade: Cascade) -> Step:
        kept.append(cascade)
        for _ in range(MAX_STEPS):
            last = await cascade.step("base", "inner")
        with pytest.raises(Integrity):
            await cascade.step("base", "inner")
        with pytest.raises(Integrity):
            await cascade.step("base", "inner")
        return last

    with stepped(inside, strategy):
        answer = inside.chat(chat("auto"), app="ward")
    assert answer.status == 200, answer
    assert len(ends(inside, answer.receipt)) == 1 + MAX_STEPS
    with pytest.raises(Integrity):
        asyncio.run(kept[0].step("base", "inner"))


def test_a_step_must_name_a_role_and_a_deployment_and_its_own_relatives(inside: Inside) -> None:
    async def strategy(cascade: Cascade) -> Step:
        stranger = Step(receipt="r_x", role="base", deployment="inner", status="answered")
        for role, name, stems in (
            ("boss", "inner", ()),
            ("base", "none", ()),
            ("base", "inner", (stranger,)),
        ):
            with pytest.raises(Invalid):
                await cascade.step(role, name, stems_from=stems)
        return stranger

    with stepped(inside, strategy):
        answer = inside.chat(chat("auto"), app="ward")
    assert answer.status == 502
    (whole,) = ends(inside, answer.receipt)
    assert "steps" not in whole
    assert "total_usd" not in whole


def test_a_floor_is_about_what_is_delivered(inside: Inside) -> None:
    async def strategy(cascade: Cascade) -> Step:
        assert (await cascade.step("base", "inner")).status == "refused"
        return await cascade.step("base", "inner", min_quality=Decimal("0.5"))

    with stepped(inside, strategy):
        answer = inside.chat(chat("auto"), app="ward", headers={"Allod-Min-Quality": "0.95"})
        assert answer.status == 200, answer
        assert [e[2] for e in ends(inside, answer.receipt)[0]["steps"]] == ["refused", "answered"]
        answer = inside.chat(chat("auto"), app="ward", headers={"Allod-Min-Quality": "1"})
    assert answer.status == 403  # the request itself is refused: nothing lawful reaches its floor


names = st.sampled_from(["base", "strong", "inner", "broken", "half", "abroad"])


@given(plan=st.lists(names, min_size=1, max_size=4), stream=st.booleans(), fold=st.booleans())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_I3_I4_whatever_steps_are_run_receipts_and_costs_add_up(
    inside: Inside, plan: list[str], stream: bool, fold: bool
) -> None:
    async def strategy(cascade: Cascade) -> Step:
        if fold:
            done = await asyncio.gather(*(cascade.step("base", name) for name in plan))
        else:
            done = [await cascade.step("base", name) for name in plan]
        return next((s for s in done if s.status == "answered"), done[-1])

    with stepped(inside, strategy):
        taken = inside.start("/v1/chat/completions", chat("auto", stream=stream), app="ward")
        taken.read()
    whole, *steps = ends(inside, taken.receipt)
    assert len(steps) == len(plan)
    good = [s["id"] for s in steps if s["status"] == "answered"]
    assert (whole["status"] == "answered") == bool(good)
    if good:
        assert whole["answer_from"] in good
    inside.gateway.store.flush()
    paid = sum((row.cost_usd for s in steps for row in inside.world.rows(s["id"])), Decimal(0))
    assert Decimal(whole["total_usd"]) == paid
    assert not inside.world.rows(whole["id"])
