"""Requests that leave: no found value in them anywhere, nothing else changed, and all of it comes back."""

from __future__ import annotations

import copy
import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pseudonym_world import FULL, KEY, VALUES, asking, covered_text, findings, pseudonymiser, sentence

from allod.admission.pseudonym import (
    NOTE,
    Pseudonymiser,
    Restorer,
    opening,
)
from allod.admission.pseudonym.tokens import MAX_VALUES, Coder
from allod.admission.pseudonym.view import View
from allod.domain.chat import Chunk, Whole
from allod.domain.errors import AllodError, Integrity, Invalid

SECRET = b"s" * 32


def refused(body: dict, kind: str = "not_supported") -> Invalid:
    with pytest.raises(Invalid) as caught:
        pseudonymiser().cover(body)
    assert caught.value.kind == kind
    assert "jean" not in caught.value.explain()
    return caught.value


def back(restorer: Restorer, text: str) -> str:
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    answer = restorer.whole(Whole(body=body)).body
    assert answer is not None
    return answer["choices"][0]["message"]["content"]


def test_nothing_found_is_left_in_any_text() -> None:
    before = copy.deepcopy(FULL)
    covered = pseudonymiser().cover(FULL)
    assert before == FULL
    sent = json.dumps(covered.body, ensure_ascii=False)
    for value in ("jean", "Müller", "Zoë", "9434765919", "170 1234567", "anna"):
        assert value not in sent, value
    assert covered.kinds == {"EMAIL": 1, "PERSON": 2, "PHONE": 1, "UK_NHS": 1}
    assert set(covered.table.values.values()) == {
        "jean@x.de",
        "Anna Müller",
        "Zoë",
        "9434765919",
        "+49 170 1234567",
    }


def test_everything_else_is_sent_as_it_was() -> None:
    covered = pseudonymiser().cover(FULL).body
    for key in ("model", "temperature", "stream", "n", "seed", "reasoning", "max_tokens"):
        assert covered[key] == FULL[key]
    asked, wrote, told = covered["messages"][1:]
    (call,) = wrote["tool_calls"]
    assert call["function"]["name"] == told["name"] == "send_mail"
    assert call["id"] == told["tool_call_id"] != "call-9434765919"
    assert call["extra_content"] == FULL["messages"][2]["tool_calls"][0]["extra_content"]
    assert wrote["thinking_blocks"][0]["signature"] == "QZBCDF" * 20
    assert asked["content"][0]["cache_control"] == {"type": "e"}
    function = covered["tools"][0]["function"]
    assert list(function["parameters"]["properties"]) == ["to", "how"]
    assert function["parameters"]["properties"]["how"] == {"enum": ["fast", "slow"]}
    arguments = json.loads(call["function"]["arguments"])
    assert list(arguments) == ["to", "nhs", "a"]
    assert call["function"]["arguments"].endswith('"a": 1.50}')
    assert isinstance(arguments["nhs"], str)  # a number cannot hold a token


def test_one_value_is_one_token_wherever_it_stands() -> None:
    covered = pseudonymiser().cover(FULL)
    (token,) = [code for code, value in covered.table.values.items() if value == "jean@x.de"]
    assert json.dumps(covered.body).count(f"{token}_EMAIL") == 7
    assert covered.body["user"] != covered.body["prompt_cache_key"] != "k"


def test_the_next_turn_has_the_same_tokens_and_another_conversation_has_not() -> None:
    first = asking("I am Jean Dupont, jean@x.de")
    next_turn = {
        **first,
        "messages": [
            *first["messages"],
            {"role": "assistant", "content": "Hello Jean Dupont"},
            {"role": "user", "content": "Write to Zoë and jean@x.de"},
        ],
    }
    one, two = pseudonymiser().cover(first), pseudonymiser().cover(next_turn)
    assert two.body["messages"][0] == one.body["messages"][0]
    assert one.table.values.items() <= two.table.values.items()
    other = Pseudonymiser(b"o" * 32, findings).cover(first)
    assert set(one.table.values).isdisjoint(other.table.values)


@given(st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_any_text_covers_and_comes_back(seed: int) -> None:
    text = sentence(random.Random(seed), 20)
    sent, restorer = covered_text(text)
    for value in VALUES[:2] + VALUES[8:11]:
        assert value not in sent
    assert "".join(event.text for event in restorer.events([Chunk(text=sent), Chunk(finish="stop")])) == text


@given(
    st.text(max_size=60),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9), st.sampled_from(["PERSON", "X"])), max_size=5),
)
@settings(max_examples=300, deadline=None)
def test_any_places_in_any_text_cover_and_come_back(text: str, places: list[tuple[int, int, str]]) -> None:
    """Detectors may overlap, touch, cut words and stand inside look-alikes."""

    def found(given: str) -> list[tuple[int, int, str]]:
        spans = [(at, min(len(given), at + size), kind) for at, size, kind in places if at < len(given)]
        return spans if given == text else []

    covered = Pseudonymiser(KEY, found).cover(asking(text))
    sent = covered.body["messages"][0]["content"]
    chunks = [Chunk(text=c) for c in sent]
    got = "".join(e.text for e in Restorer(covered.table).events([*chunks, Chunk(finish="stop")]))
    if View(text).literals is None:
        assert got == text
    else:
        assert json.loads(got) == json.loads(text)


def test_look_alikes_in_the_users_text_come_back_exactly() -> None:
    token = covered_text("jean@x.de")[0]
    spelled = " ".join(token[:12].lower())
    for alike in (
        "QZBCDFGHJKLM_NAME",
        "QZBCDF",
        "QZXXXX",
        "qzbc",
        token,
        token.lower(),
        token[:12],
        spelled,
        token + "x",
    ):
        for text in (alike, f"see ({alike}) and jean@x.de", f"{alike}, {alike}", f"jean@x.de {alike}"):
            sent, restorer = covered_text(text)
            assert alike not in sent.replace(token, "")
            assert (
                "".join(
                    e.text for e in restorer.events([*(Chunk(text=c) for c in sent), Chunk(finish="stop")])
                )
                == text
            )
    assert covered_text("QZSS, QZ8501 and Q. Zed")[0] == "QZSS, QZ8501 and Q. Zed"


def test_a_value_is_covered_where_the_detector_does_not_see_it() -> None:
    def only_once(text: str) -> list[tuple[int, int, str]]:
        at = text.find("I am Anna Berger")
        return [(at + 5, at + 16, "PERSON")] if at >= 0 else []

    body = asking("I am Anna Berger.", "Is ANNA BERGER or Anna Berger's cat older? Bergerac is a town.", "{}")
    body["tools"] = [{"type": "function", "function": {"name": "f", "description": "asks Anna Berger"}}]
    sent = json.dumps(Pseudonymiser(KEY, only_once).cover(body).body)
    assert "nna " not in sent
    assert "ANNA" not in sent
    assert "Bergerac" in sent
    named = {**body, "tools": [{"type": "function", "function": {"name": "Anna Berger"}}]}
    with pytest.raises(Invalid):
        Pseudonymiser(KEY, only_once).cover(named)


def test_names_in_scripts_without_blanks_are_found_again() -> None:
    def first(text: str) -> list[tuple[int, int, str]]:
        return [(0, 2, "PERSON")] if text.startswith("张伟") else []

    covered = Pseudonymiser(KEY, first).cover(asking("张伟住在北京", "昨天张伟来了"))
    assert "张伟" not in json.dumps(covered.body, ensure_ascii=False)
    assert back(Restorer(covered.table), covered.body["messages"][1]["content"]) == "昨天张伟来了"


def test_json_in_a_text_is_read_as_what_it_says() -> None:
    said = {
        "who": 'Ann "Q" Lee',
        "mail": "a\njean@x.de",
        "é": ["张伟", 9434765919, "9434765919"],
        "jean@x.de": None,
    }
    for ascii_only in (True, False):
        text = json.dumps(said, ensure_ascii=ascii_only, indent=1)
        sent, restorer = covered_text(text)
        decoded = json.loads(sent)
        assert "jean" not in sent
        assert "9434" not in sent
        assert decoded["mail"].startswith("a\nQZ")
        got = json.loads(back(restorer, sent))
        assert got == {**said, "é": ["张伟", "9434765919", "9434765919"]}


def test_members_of_a_schema_called_like_keywords_are_members() -> None:
    parameters = {
        "properties": {
            "description": {"type": "string", "description": "jean@x.de"},
            "default": {"enum": ["a"]},
        }
    }
    body = asking("x", tools=[{"type": "function", "function": {"name": "f", "parameters": parameters}}])
    sent = pseudonymiser().cover(body).body["tools"][0]["function"]["parameters"]["properties"]
    assert sent["description"]["description"].startswith("QZ")
    assert sent["default"] == {"enum": ["a"]}


def test_a_value_that_is_a_word_of_the_protocol_stops_nothing() -> None:
    def words(text: str) -> list[tuple[int, int, str]]:
        return [(10, len(text), "PASSWORD")] if text.startswith("password: ") else []

    for word in ("user", "string", "function", "type", "low"):
        schema = {"type": "object", "properties": {"a": {"type": "string"}}}
        body = {**tool(parameters=schema), **asking(f"password: {word}"), "reasoning_effort": "low"}
        sent = Pseudonymiser(KEY, words).cover(body).body
        assert sent["messages"][0]["content"].startswith("password: QZ")
        assert sent["tools"] == body["tools"]


def tool(**function: object) -> dict:
    return asking("hi", tools=[{"type": "function", "function": {"name": "f", **function}}])


def call(arguments: str, name: str = "f") -> dict:
    made = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"messages": [{"role": "assistant", "tool_calls": [made]}]}


@pytest.mark.parametrize(
    "body",
    [
        tool(parameters={"properties": {"jean@x.de": {"type": "string"}}}),
        tool(parameters={"properties": {"a": {"enum": ["x", "jean@x.de"]}}}),
        tool(parameters={"properties": {"a": {"const": "Jean Dupont"}}}),
        tool(parameters={"properties": {"a": {"const": 9434765919}}}),
        tool(parameters={"properties": {"a": {"pattern": "jean@x.de"}}}),
        tool(parameters={"x-note": {"deep": ["jean@x.de"]}}),
        tool(parameters={"properties": {"a": {"default": {"jean@x.de": 1}}}}),
        tool(name="jean@x.de"),
        call('{"jean@x.de": 1}'),
        call('{"a": {"jean\\u0040x.de": 1}}'),
        call("{}", name="QZBCDFGH"),
        asking("x", tool_choice={"type": "function", "function": {"name": "jean@x.de"}}),
        asking("x", metadata={"about": "jean@x.de"}),
        asking("x", something=["jean@x.de"]),
        {"messages": [{"role": "tool", "tool_call_id": "c", "name": "jean@x.de", "content": "x"}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}],
                }
            ]
        },
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "note": "jean@x.de"}]}]},
        {"messages": [{"role": "user", "content": "a", "unknown": "jean@x.de"}]},
        {"messages": [{"role": "user", "content": {"text": "jean@x.de"}}]},
        {"messages": ["jean@x.de"]},
    ],
)
def test_what_no_token_can_cover_does_not_leave(body: dict) -> None:
    refused(body)


def test_plain_words_of_programs_are_not_taken_for_people() -> None:
    def names(text: str) -> list[tuple[int, int, str]]:
        return [(0, len(text), "PERSON")] if text in {"grace", "rose", "Will"} else []

    parameters = {"properties": {"grace": {"enum": ["rose", "Will"]}}}
    body = asking("hello", tools=[{"type": "function", "function": {"name": "f", "parameters": parameters}}])
    assert Pseudonymiser(KEY, names).cover(body).body == body


@pytest.mark.parametrize("limit", [{"format": "email"}, {"pattern": "^.{3}$"}, {"maxLength": 12}])
def test_a_strict_schema_without_room_for_a_token_does_not_leave(limit: dict) -> None:
    schema = {"type": "object", "properties": {"a": {"type": ["string"], **limit}}}
    shaped = {"type": "json_schema", "json_schema": {"name": "r", "schema": schema}}
    refused(asking("jean@x.de", response_format=shaped))
    refused({**tool(parameters=schema, strict=True), **asking("jean@x.de")})
    assert pseudonymiser().cover(
        {**tool(parameters=schema), **asking("jean@x.de")}
    )  # not enforced, only read
    assert pseudonymiser().cover(asking("nobody", response_format=shaped))  # nothing to put there


def test_dates_in_a_strict_schema_are_refused_only_where_a_date_was_covered() -> None:
    schema = {"properties": {"a": {"format": "date"}, "b": {"maxLength": 2}}}
    body = asking(
        "jean@x.de, born",
        response_format={"type": "json_schema", "json_schema": {"name": "r", "schema": schema}},
    )
    assert pseudonymiser().cover(body)
    with pytest.raises(Invalid):
        Pseudonymiser(KEY, lambda text: [(0, 9, "BIRTH_DATE")] if len(text) > 9 else []).cover(body)


def test_topics_and_markings_stay() -> None:
    def found(text: str) -> list[tuple[int, int, str]]:
        return [(0, 5, "HEALTH"), (6, 12, "MARKING_STATE")] if text.startswith("fever") else []

    assert Pseudonymiser(KEY, found).cover(asking("fever SECRET")).body == asking("fever SECRET")
    assert Pseudonymiser(KEY, found, passes=frozenset()).cover(asking("fever SECRET")).body != asking(
        "fever SECRET"
    )


def test_the_model_may_be_told() -> None:
    body = pseudonymiser(note=True).cover(asking("jean@x.de")).body
    assert body["messages"][0] == {"role": "system", "content": NOTE}
    assert pseudonymiser(note=True).cover(asking("nobody")).body == asking("nobody")


# --- what fails closed


@pytest.mark.parametrize("span", [(-1, 2, "X"), (0, 99, "X"), (2, 2, "X"), (3, 1, "X")])
def test_a_detector_that_points_outside_the_text_stops_the_request(span: tuple[int, int, str]) -> None:
    with pytest.raises(Integrity):
        Pseudonymiser(KEY, lambda _: [span]).cover(asking("some text"))


def test_a_detector_that_did_not_finish_stops_the_request() -> None:
    def fails(_: str) -> list[tuple[int, int, str]]:
        raise Invalid("not scanned", "too large")

    with pytest.raises(Invalid):
        Pseudonymiser(KEY, fails).cover(asking("some text"))
    with pytest.raises(Invalid):
        opening(SECRET, asking("some text"), fails)


def test_too_many_values_are_refused() -> None:
    text = " ".join(f"u{n}@x.de" for n in range(MAX_VALUES + 1))
    refused(asking(text), "size")


def test_a_collision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allod.admission.pseudonym.tokens._letters", lambda *_: "BCDFGHJKLM")
    with pytest.raises(Integrity):
        pseudonymiser().cover(asking("jean@x.de and Anna Müller"))


def test_a_round_trip_that_is_not_exact_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Coder,
        "token",
        lambda self, value, kind: self.values.setdefault("QZBCDFGHJKLM", "x") and "QZBCDFGHJKLM",
    )
    with pytest.raises(Integrity) as caught:
        pseudonymiser().cover(asking("jean@x.de"))
    assert "jean" not in caught.value.explain()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": None},
        {"messages": [None, 5]},
        {"messages": [{"role": "user"}]},
        {"tools": [None]},
        {"tools": [{"type": "function"}]},
        {"response_format": {"json_schema": None}},
        {"prediction": {}},
        {"messages": [{"tool_calls": [None, {"function": None}]}]},
        {"messages": [{"content": [None]}]},
        {"user": None},
        call("not json, jean@x.de"),
        call("{" * 5000),
        asking("[" * 5000),
        asking('{"a": "jean@x.de"' * 3),
        call("[]"),
        asking("\ud800 jean@x.de"),
        asking("x" * 200_000 + "jean@x.de"),
        tool(parameters=[]),
        tool(parameters=None),
    ],
)
def test_odd_bodies_are_covered_or_refused_but_nothing_leaks(body: dict) -> None:
    try:
        sent = repr(pseudonymiser().cover(body).body)
    except AllodError:
        return
    assert "jean@" not in sent


def test_deep_schemas_are_refused() -> None:
    schema: dict = {"type": "string"}
    for _ in range(5000):
        schema = {"properties": {"a": schema}}
    with pytest.raises(Invalid):
        pseudonymiser().cover(tool(parameters=schema))


def test_many_findings_in_one_long_word_take_linear_time() -> None:
    text = "a" * 300_000
    covered = Pseudonymiser(KEY, lambda t: [(n, n + 1, "X") for n in range(0, len(t), 3)]).cover(asking(text))
    assert len(covered.table) == 1


@pytest.mark.parametrize("form", ["+49 170 {:07}", "{} Weg", "Weg {}", "user{}@x.de", "张{:04}", "a {}"])
def test_thousands_of_values_that_begin_alike_take_linear_time(form: str) -> None:
    values = [form.format(n) for n in range(1000, 1000 + 3500)]
    text = ", ".join(values)

    def all_of_them(given: str) -> list[tuple[int, int, str]]:
        spans, at = [], 0
        for value in values if given == text else ():
            at = given.index(value, at)
            spans.append((at, at + len(value), "X"))
        return spans

    covered = Pseudonymiser(KEY, all_of_them).cover(asking(text, text[::-1], text + "."))
    assert len(covered.table) == 3500
    for value in (values[7], values[-1]):
        assert value not in covered.body["messages"][2]["content"]


def test_values_that_begin_alike_in_too_many_lengths_are_refused() -> None:
    text = ", ".join("Weg " + "x" * n for n in range(1, 300))
    with pytest.raises(Invalid) as caught:
        Pseudonymiser(KEY, lambda t: [(m.start(), m.end(), "X") for m in re.finditer("Weg x+", t)]).cover(
            asking(text)
        )
    assert caught.value.kind == "size"
