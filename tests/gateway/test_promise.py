"""The promise of a task through a real gateway: reference, audits, base, streams."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from operators import Region
from world import Stream, Trap, chat, messages, until

from gateway.lineages import ends, log_of
from gateway.promised import (
    PATH,
    TASK,
    Minds,
    ask,
    begun,
    opened,
    right,
    running,
    settled,
    standing,
    wrong,
)


def test_it_begins_at_the_reference_and_says_so(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap) as inside:
        begun(inside, minds)
        answer = ask(inside, 4)
        assert "8" in answer.body.decode()
        whole, *steps = ends(inside, answer.receipt)
        assert [(s["deployment"], s["status"]) for s in steps] == [("large", "answered")]
        assert whole["steps"][0][1] == "reference"
        said = whole["floor"]
        assert (said["rule"], said["reference"], said["of"]) == ("reference", "large", "numeric+agreement")
        assert said["bound"] == "-1" or int(said["n"]) > 0
        assert said["audit"] in {"yes", "no"}
        assert 0 <= Decimal(said["draw"]) < 1


def test_audits_run_after_delivery_with_receipts_of_their_own(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap, own={"audit_share": 1}) as inside:
        begun(inside, minds)
        answer = ask(inside, 7)
        one = settled(inside)
        inside.gateway.store.flush()
        mine = [leaf for leaf in log_of(inside) if answer.receipt in leaf.get("parents", ())]
        asked = {leaf["deployment"]: leaf for leaf in mine if leaf["kind"] == "terminal"}
        assert set(asked) == {"small", "other", "large"}
        assert all(leaf["task"] == TASK for leaf in asked.values())
        listed = {entry[0] for entry in ends(inside, answer.receipt)[0]["steps"]}
        assert listed == {asked["large"]["id"]}, "the request's end was written before its audit"
        assert [len(inside.world.rows(leaf["id"])) for leaf in asked.values()] == [1, 1, 1]  # I4
        assert one.state.audits == 2
        assert one.spent.audits_usd == sum(
            (Decimal(leaf["cost_usd"]) for leaf in log_of(inside)
             if leaf["kind"] == "terminal" and leaf.get("deployment") in {"small", "other"}), Decimal(0)
        )  # fmt: skip
        told = [leaf for leaf in log_of(inside) if leaf.get("subject") == "audit"]
        assert told[-1]["facts"]["differences"] == "0 0"
        assert told[-1]["facts"]["receipt"] == answer.receipt


def test_enough_audits_open_the_rule_and_the_base_is_delivered(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    own = {"audit_share": 1, "max_loss": Decimal("0.3"), "check": ["agreement"], "key": "numeric"}
    with running(tmp_path, region, trap, own=own) as inside:
        begun(inside, minds)
        for n in range(120):
            assert ask(inside, n).status == 200
            if settled(inside).state.open:
                break
        assert standing(inside).state.open
        assert standing(inside).state.audits >= standing(inside).promise.least
        answer = ask(inside, 5)
        whole, *steps = ends(inside, answer.receipt)
        assert whole["deployment"] in {"small", "other"}
        assert whole["floor"]["rule"] == "agreement"
        assert {s["deployment"] for s in steps} == {"small", "other"}
        assert Decimal(whole["floor"]["bound"]) >= Decimal("-0.3")
        assert int(whole["floor"]["n"]) >= 50
        assert whole["floor"]["day"]
        assert trap.touched == 0


def test_what_does_not_pass_or_agree_is_answered_by_the_reference(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap, own={"audit_share": Decimal("0.001")}) as inside:
        begun(inside, minds)
        opened(inside, "numeric+agreement")
        for base, second in (
            (wrong, right),
            (lambda _: "no idea", right),
            (None, right),
            (right, lambda _: "?"),
        ):
            minds.says["tiny-1"] = base or (lambda _: None)
            minds.says["pico-2"] = second
            answer = ask(inside, 9)
            whole, *_ = ends(inside, answer.receipt)
            assert whole["deployment"] == "large"
            assert whole["steps"][-1][1] == "escalation"
            assert "18" in answer.body.decode()


def test_the_second_rule_needs_no_second_model(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap, own={"audit_share": Decimal("0.001")}) as inside:
        begun(inside, minds)
        opened(inside, "numeric", rules=2)
        answer = ask(inside, 3)
        assert minds.asked == ["tiny-1"]
        assert ends(inside, answer.receipt)[0]["floor"]["rule"] == "numeric"


# --- what cannot be checked, and what is left alone


def test_tools_and_pinned_models_are_not_shortened(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap) as inside:
        begun(inside, minds)
        opened(inside, "numeric+agreement")
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        answer = inside.chat(chat(TASK, "twice 3", stream=False, tools=[tool]), app="ward")
        whole = ends(inside, answer.receipt)[0]
        assert (whole["deployment"], whole["floor"]["why"]) == ("large", "tools")
        pinned = inside.chat(chat("small", "twice 3", stream=False), app="ward", headers={"Allod-Task": TASK})
        leaf = ends(inside, pinned.receipt)[0]
        assert leaf["deployment"] == "small"
        assert "floor" not in leaf
        assert "steps" not in leaf


# --- streams


def test_a_stream_of_the_reference_passes_through_while_it_comes(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    for path, make in ((PATH, chat), ("/v1/messages", messages)):
        with running(tmp_path / make.__name__, region, trap) as inside:
            begun(inside, minds)
            taken: Stream = inside.start(path, make(TASK, "twice 6", stream=True), app="ward")
            body = taken.read()
            assert taken.status == 200, body
            assert taken.headers["allod-deployment"] == "large"
            assert "allod-cost" not in taken.headers, "known at the end only"
            whole, one = ends(inside, taken.receipt)
            assert whole["answer_from"] == one["id"]


def test_a_stream_may_be_the_bases_at_once_and_then_says_so(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    own = {"stream": "base", "audit_share": Decimal("0.001")}
    with running(tmp_path, region, trap, own=own) as inside:
        begun(inside, minds)
        closed = inside.start(PATH, chat(TASK, "twice 6", stream=True), app="ward")
        closed.read()
        assert closed.headers["allod-deployment"] == "large"
        assert "allod-answer" not in closed.headers
        opened(inside, "numeric+agreement")
        minds.asked.clear()
        taken = inside.start(PATH, chat(TASK, "twice 6", stream=True), app="ward")
        taken.read()
        assert (taken.headers["allod-deployment"], taken.headers["allod-answer"]) == ("small", "base")
        said = ends(inside, taken.receipt)[0]["floor"]
        assert (said["answer"], said["check"]) == ("base", "passed")
        assert minds.asked == ["tiny-1"]
        minds.says["tiny-1"] = lambda _: None  # breaks before it begins: the reference answers
        taken = inside.start(PATH, chat(TASK, "twice 6", stream=True), app="ward")
        taken.read()
        assert taken.status == 200
        whole = ends(inside, taken.receipt)[0]
        assert whole["deployment"] == "large"
        assert "allod-answer" not in taken.headers
        held = inside.chat(chat(TASK, "twice 6", stream=False), app="ward")
        assert "allod-answer" not in held.headers


def test_a_stream_that_breaks_after_it_began_ends_with_an_error_and_no_other_answer(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    own = {"stream": "base", "audit_share": Decimal("0.001")}
    with running(tmp_path, region, trap, own=own) as inside:
        begun(inside, minds)
        opened(inside, "numeric+agreement")
        for rules, name in ((1, "tiny-1"), (0, "big-9")):
            standing(inside).state = msgspec.structs.replace(standing(inside).state, open=rules)
            minds.says[name] = lambda _: "act truncate"
            minds.asked.clear()
            taken = inside.start(PATH, chat(TASK, "twice 6", stream=True), app="ward")
            body = taken.read()
            assert taken.status == 200
            assert b"error" in body
            assert b"[DONE]" not in body
            whole, one = ends(inside, taken.receipt)
            assert (whole["status"], one["status"]) == ("failed", "failed")
            assert set(minds.asked) == {name}, "nobody else is asked once a byte has gone"
            assert Decimal(whole["total_usd"]) == Decimal(one["cost_usd"])


def test_a_client_that_leaves_a_stream_under_way_ends_step_and_request(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap) as inside:
        begun(inside, minds)
        minds.says["big-9"] = lambda _: "act stall-mid"
        inside.gateway.store.flush()
        before = {leaf["id"] for leaf in log_of(inside)}
        taken = inside.start(PATH, chat(TASK, "twice 6", stream=True), app="ward")
        assert taken.status == 200, "its head and first words come while the step is under way"
        taken.drop()

        def over() -> list[dict[str, Any]]:
            fresh = [
                leaf for leaf in log_of(inside) if leaf["id"] not in before and leaf["kind"] == "terminal"
            ]
            return fresh if len(fresh) == 2 else []

        assert {(leaf["status"], leaf["reason"]) for leaf in until(over)} == {("aborted", "client-gone")}
