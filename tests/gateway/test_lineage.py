"""Parents: the receipts a caller names, and the receipts whose tool calls a request answers."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import Inside, Region, World, chat, config, deployment, messages, responses, until

from allod.domain.errors import Invalid
from allod.gateway.lineage import REMEMBERED, ToolCalls, ids_in, results_in
from gateway.lineages import leaf_of as leaf
from gateway.lineages import log_of

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
NATIVE = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
RESPONSE_TOOL = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
FORGOTTEN = "r_00000000_01KAY71KR860RK4CSM6MV3EE1S"


@pytest.fixture(scope="module")
def region() -> Iterator[Region]:
    with Region() as one:
        yield one


@pytest.fixture(scope="module")
def inside(region: Region, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    fleet = [
        deployment("sound", "answer", base_url=region.url),
        deployment("caller", "tool", base_url=region.url),
        deployment("slow", "slow-1500", base_url=region.url),
    ]
    world = World(tmp_path_factory.mktemp("lineage") / "home", config(fleet))
    world.key("ward")
    world.key("press")
    with Inside(world) as one:
        yield one


def ask(inside: Inside, body: dict[str, Any], *, app: str = "ward", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return inside.chat(body, app=app, headers=named)


# --- parents a caller names


def test_named_parents_stand_in_both_leaves_and_reach_no_operator(inside: Inside, region: Region) -> None:
    first, second = (ask(inside, chat("sound")).receipt for _ in range(2))
    region.clear()
    body = chat("sound", metadata={"Allod-Parent": f"{second}, {first}", "note": "kept"})
    third = ask(inside, body, allod_parent=first)
    assert third.status == 200
    for kind in ("intent", "terminal"):
        assert leaf(inside, third.receipt, kind=kind)["parents"] == [first, second]
    seen = region.seen[0]
    assert first.encode() not in seen.body
    assert not [name for name, _ in seen.headers if name.lower().startswith(b"allod")]
    native = messages("sound", metadata={"allod-parent": [first], "user_id": "u"})
    again = inside.call("/v1/messages", native, app="ward")
    assert leaf(inside, again.receipt)["parents"] == [first]


def test_a_parent_of_another_app_and_one_that_never_was_are_refused_alike(inside: Inside) -> None:
    theirs = ask(inside, chat("sound"), app="press").receipt
    never = theirs[:-6] + "ZZZZZZ"
    elsewhere = FORGOTTEN
    said = []
    for name in (theirs, never, elsewhere):
        answer = ask(inside, chat("sound"), allod_parent=name)
        assert answer.status == 400, answer
        assert name in answer.json["error"]["message"]
        said.append(answer.json["error"]["message"].replace(name, "X"))
        assert "allod-receipt" not in answer.headers
    assert len(set(said)) == 1
    assert ask(inside, chat("sound"), app="press", allod_parent=theirs).status == 200


@pytest.mark.parametrize("value", ["", " , ", "latest", "r_x", "../x", FORGOTTEN + "a", ",".join(["x"] * 9)])
def test_a_parent_that_is_no_receipt_is_refused(inside: Inside, value: str) -> None:
    assert ask(inside, chat("sound"), allod_parent=value).status == 400


def test_nine_parents_are_one_too_many(inside: Inside) -> None:
    names = [ask(inside, chat("sound")).receipt for _ in range(9)]
    assert ask(inside, chat("sound"), allod_parent=",".join(names)).status == 400
    eight = ask(inside, chat("sound"), allod_parent=",".join([*names[:8], names[0]]))
    assert leaf(inside, eight.receipt)["parents"] == names[:8]


def test_a_parent_may_still_be_in_flight(inside: Inside, region: Region) -> None:
    region.clear()
    stream = inside.start("/v1/chat/completions", chat("sound", stream=True), app="ward")
    child = ask(inside, chat("sound"), allod_parent=stream.receipt)
    stream.read()
    assert leaf(inside, child.receipt)["parents"] == [stream.receipt]


# --- tool steps


def called(surface: str, body: bytes, *, stream: bool) -> str:
    """Return the id of the tool call in an answer, as a client reads it."""
    if stream:
        events = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
        for event in events:
            for choice in event.get("choices", ()):
                for call in choice["delta"].get("tool_calls") or ():
                    if call.get("id"):
                        return str(call["id"])
            if event.get("content_block", {}).get("type") == "tool_use":
                return str(event["content_block"]["id"])
            if event.get("item", {}).get("type") == "function_call":
                return str(event["item"]["call_id"])
        raise AssertionError(events)
    said = json.loads(body)
    if surface == "chat":
        return str(said["choices"][0]["message"]["tool_calls"][0]["id"])
    if surface == "messages":
        return str(next(b["id"] for b in said["content"] if b["type"] == "tool_use"))
    return str(next(i["call_id"] for i in said["output"] if i["type"] == "function_call"))


def asking(surface: str, text: str, **more: Any) -> tuple[str, dict[str, Any]]:
    if surface == "chat":
        return "/v1/chat/completions", chat("caller", text, tools=[TOOL], **more)
    if surface == "messages":
        return "/v1/messages", messages("caller", text, tools=[NATIVE], **more)
    return "/v1/responses", responses("caller", text, tools=[RESPONSE_TOOL], **more)


def with_result(surface: str, text: str, call: str, **more: Any) -> tuple[str, dict[str, Any]]:
    path, body = asking(surface, text, **more)
    if surface == "chat":
        used = {"id": call, "type": "function", "function": {"name": "look", "arguments": "{}"}}
        body["messages"] += [
            {"role": "assistant", "content": None, "tool_calls": [used]},
            {"role": "tool", "tool_call_id": call, "content": "42"},
        ]
    elif surface == "messages":
        body["messages"] += [
            {"role": "assistant", "content": [{"type": "tool_use", "id": call, "name": "look", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call, "content": "42"}]},
        ]
    else:
        body["input"] = [
            {"role": "user", "content": text},
            {"type": "function_call", "call_id": call, "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": call, "output": "42"},
        ]
    return path, body


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("surface", ["chat", "messages", "responses"])
def test_a_request_with_a_tools_result_names_the_receipt_that_called_it(
    inside: Inside, surface: str, stream: bool
) -> None:
    text = f"look it up on {surface} {stream}"
    path, body = asking(surface, text, stream=stream)
    first = inside.start(path, body, app="ward")
    call = called(surface, first.read(), stream=stream)
    path, body = with_result(surface, text, call)
    second = inside.call(path, body, app="ward")
    assert second.status == 200, second
    assert leaf(inside, second.receipt)["parents"] == [first.receipt]
    assert "parents" not in leaf(inside, first.receipt)
    # another app that carries the same id is told nothing of it
    other = inside.call(path, body, app="press")
    assert "parents" not in leaf(inside, other.receipt, app="press")
    # a later turn that only repeats the result in its history does not stem from that call again
    if surface == "chat":
        body["messages"] += [
            {"role": "assistant", "content": "It is 42."},
            {"role": "user", "content": "and then?"},
        ]
        third = inside.call(path, body, app="ward")
        assert "parents" not in leaf(inside, third.receipt)
        declared = inside.call(path, body, app="ward", headers={"Allod-Parent": second.receipt})
        assert leaf(inside, declared.receipt)["parents"] == [second.receipt]


def test_a_call_id_that_two_answers_used_names_neither(inside: Inside) -> None:
    text = "the scripted model names this call twice alike"
    path, body = asking("chat", text)
    first, twin = (inside.call(path, body, app="ward") for _ in range(2))
    call = called("chat", first.body, stream=False)
    assert call == called("chat", twin.body, stream=False)
    answer = inside.call(*with_result("chat", text, call), app="ward")
    assert "parents" not in leaf(inside, answer.receipt)


def test_an_invented_call_id_names_nobody(inside: Inside) -> None:
    mine = ask(inside, chat("sound")).receipt
    theirs = ask(inside, chat("sound"), app="press").receipt
    for core, owned in ((mine[2:], True), (theirs[2:], False), ("11111111_" + mine[11:], False)):
        answer = inside.call(*with_result("chat", "x", f"call_{core}_0"), app="ward")
        found = leaf(inside, answer.receipt).get("parents", [])
        assert found == ([mine] if owned else []), core
    answer = inside.call(*with_result("chat", "x", "call_never"), app="ward")
    assert "parents" not in leaf(inside, answer.receipt)


def test_nothing_of_a_call_is_in_the_index(inside: Inside) -> None:
    calls = inside.gateway.tool_calls
    calls.note("ward", "call_zaubernuss", "r_1")
    assert "zaubernuss" not in repr(vars(calls))


def test_requests_without_tools_never_touch_the_index(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(*_: object) -> None:
        raise AssertionError("an ordinary request looked at the index of calls")

    monkeypatch.setattr(ToolCalls, "note", touched)
    monkeypatch.setattr(ToolCalls, "made_under", touched)
    for stream in (False, True):
        assert inside.start("/v1/chat/completions", chat("sound", stream=stream), app="ward").status == 200


def test_the_second_opinion_of_a_client_that_left_ends_there(region: Region, tmp_path: Any) -> None:
    fleet = [
        deployment("base", "answer", base_url=region.url),
        deployment("judge", "stall-before", base_url=region.url, retries=0),
    ]
    world = World(tmp_path / "home", config(fleet, detect={"opinion": "judge"}))
    world.key("press")
    with Inside(world) as one:
        region.clear()
        raw = json.dumps(chat("base", "hello")).encode()
        connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=20)
        head = {"authorization": f"Bearer {world.key('press')}"}
        connection.request("POST", "/v1/chat/completions", raw, head)
        region.wait_seen(1)
        connection.close()
        until(lambda: [leaf for leaf in log_of(one) if leaf.get("status") == "aborted"])
        time.sleep(0.2)
        assert [json.loads(s.body)["model"] for s in region.seen] == ["stall-before"]


# --- the index alone

ids = st.sampled_from(["call_0", "call_1", "a:b", "a_b", "call_x"])


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), ids, st.sampled_from(["r1", "r2", "r3"]))), ids)
def test_a_parent_is_right_or_absent(made: list[tuple[str, str, str]], asked: str) -> None:
    calls = ToolCalls(bytes(32))
    for app, call, receipt in made:
        calls.note(app, call, receipt)
    alike = {r for app, call, r in made if app == "a" and call.replace(":", "_") == asked.replace(":", "_")}
    assert calls.made_under("a", asked) == (alike.pop() if len(alike) == 1 else None)


def test_the_index_is_bounded_per_app_and_forgets_the_oldest_first() -> None:
    calls = ToolCalls(bytes(32))
    calls.note("quiet", "q", "r_q")
    for n in range(3 * REMEMBERED):
        calls.note("busy", f"c{n}", f"r{n}")
    assert sum(map(len, calls._apps["busy"])) <= 2 * REMEMBERED
    assert calls.made_under("busy", "c0") is None
    assert calls.made_under("busy", f"c{3 * REMEMBERED - 1}") == f"r{3 * REMEMBERED - 1}"
    assert calls.made_under("quiet", "q") == "r_q"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "tool_calls", "id", "content", "type"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_whatever_an_operator_sends_the_index_survives(value: Any) -> None:
    from allod.domain.chat import Whole

    assert all(isinstance(one, str) for one in ids_in(Whole(raw=json.dumps(value).encode())))
    if isinstance(value, dict):
        assert all(isinstance(one, str) for one in ids_in(Whole(body=value)))


def test_only_results_after_the_last_answer_count() -> None:
    body = {
        "messages": [
            {"role": "tool", "tool_call_id": "old"},
            {"role": "assistant", "content": "so"},
            {"role": "tool", "tool_call_id": "a"},
            {"role": "tool", "tool_call_id": "b"},
            {"role": "user", "content": "and?"},
        ]
    }
    assert results_in(body) == ["a", "b"]
    assert results_in({}) == []


def test_labels_take_parents_from_headers_and_metadata() -> None:
    from allod.admission.labels import NAMES, labels_from

    name = "r_0a1b2c3d_01KAY71KR860RK4CSM6MV3EE1S"
    assert "allod-parent" in NAMES
    assert labels_from([(b"allod-parent", name.encode())], {"Allod-Parent": [name]}).parents == (name,)
    with pytest.raises(Invalid):
        labels_from([(b"allod-parent", "r_…".encode())], None)
