"""Minimum necessary: named fields arrive, nothing else of structured input does."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.admission.minimum import MAX_DEPTH, NOTHING, Fields, Reduced, name_digests, reduce
from allod.domain.errors import Invalid

LABS = Fields(["age", "labs.*.value"])
PATIENT = {
    "name": "Jean Dupont",
    "age": 61,
    "address": {"street": "Weg 1", "age": 9},
    "labs": [{"value": 4.50, "by": "Dr X"}, {"value": 1e3, "note": "N"}, "text"],
}


def asking(text: object, role: str = "user") -> dict:
    return {"model": "m", "messages": [{"role": role, "content": text, "tool_call_id": "c"}]}


def said(text: object, fields: Fields = LABS, role: str = "user", **more: object) -> object:
    return reduce(asking(text, role), fields, **more).body["messages"][0]["content"]  # type: ignore[arg-type]


def refused(text: object, fields: Fields = LABS, **more: object) -> Invalid:
    with pytest.raises(Invalid) as caught:
        reduce(asking(text), fields, **more)  # type: ignore[arg-type]
    assert caught.value.param is not None
    for word in ("Dupont", "Weg"):
        assert word not in caught.value.explain()
    return caught.value


def test_json_loses_what_is_not_named() -> None:
    for role in ("user", "tool"):
        assert said(json.dumps(PATIENT), role=role) == '{"age":61,"labs":[{"value":4.5},{"value":1000.0}]}'
    done = reduce(asking(json.dumps(PATIENT)), LABS, known=("name", "address", "phone"))
    assert done.dropped == {"json": 5}
    assert done.names == {"address": 1, "name": 1}
    assert done.unlisted == {"by", "note", "*"}


def test_numbers_stay_as_they_are_written() -> None:
    assert said('{"age": 1.500, "x": 1}') == '{"age":1.500}'
    assert said('{"age": 123456789012345678901234567890, "x": 1}') == '{"age":123456789012345678901234567890}'


def test_what_loses_nothing_is_not_touched() -> None:
    for text in (
        '{ "age" : 61 }',
        "[]",
        "{}",
        "age,labs.x.value\n1,2\n",
        "Age: 1\nLabs.9.value: 2",
        "",
        "  \n",
    ):
        fields = Fields(["age", "labs.*.value", "Age", "Labs.9.value"])
        assert said(text, fields) == text


@pytest.mark.parametrize(
    ("paths", "kept"),
    [
        (["a"], {"a": {"b": [1, {"c": 2}], "d": 3}}),
        (["a.b"], {"a": {"b": [1, {"c": 2}]}}),
        (["a.b.*"], {"a": {"b": [1, {"c": 2}]}}),
        (["a.b.*.c"], {"a": {"b": [{"c": 2}]}}),
        (["a.*.c"], {"a": {"b": []}}),
        (["*.d"], {"a": {"d": 3}, "x": {}}),
        (["*.*.*.c", "a.d"], {"a": {"b": [{"c": 2}], "d": 3}, "x": {"y": {}}}),
        (["a.d.deeper"], {"a": {}}),
        (["x\\.z"], {"x.z": 6}),
        (["nothing"], {}),
        (["a", "a.d"], {"a": {"b": [1, {"c": 2}], "d": 3}}),
    ],
)
def test_paths(paths: list[str], kept: dict) -> None:
    given_ = {"a": {"b": [1, {"c": 2}], "d": 3}, "x": {"y": {"z": 5}}, "x.z": 6, "": {"d": 7}, "t": "text"}
    got = json.loads(str(said(json.dumps(given_), Fields(paths))))
    assert got == kept


def test_a_list_at_the_top_is_a_list_of_records() -> None:
    assert said('[{"age": 1, "n": "x"}, {"age": 2}, "Dupont"]') == '[{"age":1},{"age":2}]'
    assert said('[{"age": 1, "n": "x"}]', Fields(["*.age"])) == '[{"age":1}]'
    assert said('{"age": 1, "n": "x"}\n\n{"age": 2, "n": "y"}\n') == '{"age":1}\n{"age":2}'


@pytest.mark.parametrize("bad", ["", ".", "a.", ".a", "a..b", "a\\*", "\\"])
def test_paths_that_say_nothing_are_refused(bad: str) -> None:
    with pytest.raises(Invalid):
        Fields([bad])


def test_no_path_or_too_many_are_refused() -> None:
    for paths in ([], ["a"] * 1001):
        with pytest.raises(Invalid):
            Fields(paths)


# --- tables and forms


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_tables_lose_columns(mark: str) -> None:
    table = "name,age,city\nDupont,61,Bonn\nMay,7,Ulm\n".replace(",", mark)
    assert said(table) == "age\n61\n7\n"
    quoted = 'name,age,note\n"Dupont, Jean",61,"a ""b""\nc"\n'.replace(",", mark)
    assert said(quoted, Fields(["age", "note"])) == 'age,note\n61,"a ""b""\nc"\n'.replace(",", mark)
    done = reduce(asking(table), Fields(["zip"]), known=["name"])
    assert done.body["messages"][0]["content"] == NOTHING
    assert (done.dropped, done.names) == ({"csv": 3}, {"name": 1})


def test_tables_that_read_in_two_ways_are_refused() -> None:
    for text in ("age,age\n1,2", "name,age\nDupont,Jean,61", 'name,age\n"Dupont', "age,name\n1,Dupont\n2"):
        for unstructured in ("refuse", "keep"):
            refused(text, unstructured=unstructured)


def test_forms_lose_lines() -> None:
    form = "Name: Jean Dupont\nAge: 61\n\nName: A. May\nAge:\nHome address: Weg 1"
    fields = Fields(["Age"])
    assert said(form, fields) == "Age: 61\n\nAge:"
    assert reduce(asking(form), fields).dropped == {"form": 3}
    assert said("Name: Dupont\nStreet: Weg", fields) == NOTHING
    for ambiguous in ("Age: 61\nDupont is here", "Age: 61\nAge: 7", "Age: 61", "Age = 61\nName = Dupont"):
        refused(ambiguous, fields)


def test_fenced_blocks() -> None:
    text = 'Look:\n```json\n{"age": 1, "name": "Dupont"}\n```\nand\n~~~csv\nname,age\nDupont,2\n~~~\nThanks'
    refused(text)
    assert (
        said(text, unstructured="keep") == 'Look:\n```json\n{"age":1}\n```\nand\n~~~csv\nage\n2\n~~~\nThanks'
    )
    assert said('```\n{"age": 1, "name": "Dupont"}\n```') == '```\n{"age":1}\n```'
    assert said('````json\n{"age": 1, "n": "```"}\n````') == '````json\n{"age":1}\n````'
    assert said('```jsonl\n{"age": 1, "n": 2}\n{"age": 2}\n```\n') == '```jsonl\n{"age":1}\n{"age":2}\n```\n'
    for bad in (
        "```json\nDupont\n```",
        "```csv\nDupont\n```",
        '```json\n{"age": 1, "age": 2}\n```',
        "```python\nname = 1\n```",
    ):
        refused(bad)
    assert said("```python\nx = 1\n```", unstructured="keep") == "```python\nx = 1\n```"


# --- what has no fields


def test_text_without_fields_is_refused_unless_the_task_keeps_it() -> None:
    for text in (
        "Jean Dupont is ill.",
        "Dupont",
        "5",
        '"Dupont"',
        "a, b\nc, d",
        "<name>Dupont</name>",
        "name: Dupont",
    ):
        error = refused(text)
        assert error.param == "messages[0].content"
        assert said(text, unstructured="keep") == text


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Dupont", ',
        '[{"name": "Dupont"}',
        'Patient: {"name": "Dupont", "age": 1}',
        "{'name': 'Dupont'}",
        '```json\n{"name": "Dupont"}',
        '\ufeff{"name": "Dupont"}',
        '\u00a0{"name": "Dupont"}',
        '{"name": "Dupont"} {"age": 1}',
        '"{\\"name\\": \\"Dupont\\"}"',
        '{"a": 1}\nDupont',
        "{\n // c\n'name' : 'Dupont'}",
        "{name: Dupont}",
        "[// c\n {'name': 'Dupont'}]",
    ],
)
def test_json_that_is_not_whole_is_never_kept(text: str) -> None:
    refused(text)
    if "name" in text:
        refused(text, unstructured="keep")


@pytest.mark.parametrize(
    "text",
    [
        '{"age": 1, "age": "Dupont"}',
        '{"x": {"a": 1, "a": 2}}',
        '{"age": NaN}',
        '{"age": -Infinity}',
        '{"age": 1e999}',
        '{"age": ' + "9" * 65 + "}",
        '{"x":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1),
        "[" * 100_000 + "]" * 100_000,
        '{"age": "\\ud800", "x": 1}',
        '[{"age": 1, "age": 2}]',
        '{"a": 1}\n{"age": 1, "age": 2}',
    ],
)
def test_json_that_reads_in_two_ways_or_without_bound_is_refused(text: str) -> None:
    for unstructured in ("refuse", "keep"):
        refused(text, unstructured=unstructured)


def test_too_many_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allod.admission.minimum.MAX_NODES", 100)
    assert said('{"x": [' + "1," * 90 + '1], "age": 1}') == '{"age":1}'
    refused('{"x": [' + "1," * 100 + "1]}")


def test_parts() -> None:
    parts = [{"type": "text", "text": '{"age": 1, "n": "Dupont"}'}, {"type": "text", "text": ""}]
    assert said(parts) == [{"type": "text", "text": '{"age":1}'}, {"type": "text", "text": ""}]
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    refused([picture])
    assert said([picture], unstructured="keep") == [picture]
    refused({"text": "Dupont"})
    refused(5)


def test_instructions_and_the_models_own_words_stay() -> None:
    body = {
        "messages": [
            {"role": "system", "content": 'Answer as {"risk": 1}'},
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": '{"age": 1, "name": "Dupont"}'},
            {
                "role": "assistant",
                "content": "Fine.",
                "tool_calls": [{"function": {"arguments": '{"name": 1}'}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": '{"age": 2, "name": "Dupont"}'},
            {"role": "tool", "tool_call_id": "d", "content": None},
        ],
        "temperature": 0,
    }
    before = json.dumps(body)
    done = reduce(body, LABS)
    assert json.dumps(body) == before
    assert "Dupont" not in json.dumps(done.body)
    assert [done.body["messages"][i] == body["messages"][i] for i in range(6)] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]
    assert done.body["temperature"] == 0


def test_inputs_of_embeddings() -> None:
    done = reduce({"input": ['{"age": 1, "name": "Dupont"}']}, LABS)
    assert done.body == {"input": ['{"age":1}']}
    for bad in ([1, 2], "Dupont", [[1]], None):
        with pytest.raises(Invalid):
            reduce({"input": bad}, LABS)


@pytest.mark.parametrize("messages", [["Dupont"], [None], [{"role": "user", "content": [None]}]])
def test_odd_messages_are_refused(messages: list) -> None:
    with pytest.raises(Invalid):
        reduce({"messages": messages}, LABS)


def test_names_of_dropped_fields_are_recorded_salted() -> None:
    one, two = name_digests({"b", "a"}, b"s" * 32), name_digests({"a", "b"}, b"t" * 32)
    assert len(one) == 2
    assert one == tuple(sorted(one))
    assert set(one).isdisjoint(two)
    assert all(len(digest) == 16 for digest in one)


# --- properties

_LEAF = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("xyz", max_size=4)
_NAME = st.sampled_from(["a", "b", "c", "d", "a.b", "*", "", "keep"])
_JSON = st.recursive(
    _LEAF,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAME, inner, max_size=4),
    max_leaves=25,
)
_PATHS = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "*", "keep"]), min_size=1, max_size=4).map(".".join),
    min_size=1,
    max_size=4,
)


def reachable(value: object, paths: list[list[str]]) -> object:
    """The same, said the slow way: what each path keeps, joined."""
    if any(not path for path in paths):
        return value
    if isinstance(value, dict):
        return {
            name: kept
            for name, inner in value.items()
            if (rest := [p[1:] for p in paths if p[0] in (name, "*") and name])
            and (kept := reachable(inner, rest)) is not _GONE
        }
    if isinstance(value, list):
        rest = [p[1:] for p in paths if p[0] == "*"]
        return [kept for inner in value if rest and (kept := reachable(inner, rest)) is not _GONE]
    return _GONE


_GONE = object()


@given(st.dictionaries(_NAME, _JSON, max_size=5), _PATHS)
@settings(max_examples=300, deadline=None)
def test_exactly_what_paths_reach_is_left(record: dict, paths: list[str]) -> None:
    done = reduce(asking(json.dumps(record)), Fields(paths))
    wanted = reachable(record, [path.split(".") for path in paths])
    assert json.loads(done.body["messages"][0]["content"]) == wanted
    again = reduce(done.body, Fields(paths))
    assert again.body == done.body
    assert again.dropped == {}


@given(st.text(max_size=80), st.sampled_from(["refuse", "keep"]))
@settings(max_examples=300, deadline=None)
def test_any_text_is_reduced_or_refused(text: str, unstructured: str) -> None:
    try:
        done = reduce(asking(text), LABS, unstructured=unstructured)  # type: ignore[arg-type]
    except Invalid:
        return
    assert isinstance(done, Reduced)


def test_time_does_not_grow_with_hostile_text() -> None:
    for text in (
        "`" * 3 + "\n" + "````\n" * 20_000,
        "{" * 100_000,
        '{"' * 50_000,
        "a:" * 50_000,
        "a " * 50_000 + ":",
        ',"' * 50_000,
        "{ " * 50_000,
    ):
        with pytest.raises(Invalid):
            reduce(asking(text), LABS)
        try:
            reduce(asking(text), LABS, unstructured="keep")
        except Invalid:
            continue
