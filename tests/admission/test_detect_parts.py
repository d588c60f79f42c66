"""Everything of a request that leaves is walked; what cannot be read is said so."""

from __future__ import annotations

import base64
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from allod.admission.detect import walk

MARK = "needle-7f3a"


def texts(body):
    return [text for _, text in walk(body)]


def test_messages_of_every_role_and_form():
    body = {
        "model": "auto",
        "temperature": 0.5,
        "messages": [
            {"role": "system", "content": "one"},
            {"role": "user", "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "three"}]},
            {"role": "assistant", "content": None, "refusal": "four"},
            {"role": "tool", "tool_call_id": "c1", "content": "five"},
            {"role": "user", "name": "six", "content": "seven"},
        ],
    }
    got = dict(walk(body))
    assert got["messages[0].content"] == "one"
    assert got["messages[1].content[1].text"] == "three"
    assert {"four", "five", "six", "seven"} <= set(got.values())
    assert "auto" not in got.values()


def test_tool_calls_are_read_without_escapes():
    arguments = json.dumps({"mail": "anna@example.org\nBSN", "über": "ü"})
    call = {"id": "c1", "type": "function", "function": {"name": "send", "arguments": arguments}}
    (text,) = [t for t in texts({"messages": [{"role": "assistant", "tool_calls": [call]}]}) if "anna" in t]
    assert "anna@example.org\nBSN" in text
    assert "über: ü" in text
    broken = {"function": {"name": "x", "arguments": '{"mail": "anna@example.org'}}
    assert any("anna@example.org" in t for t in texts({"messages": [{"tool_calls": [broken]}]}))


def test_tool_definitions_and_schemas():
    tool = {
        "type": "function",
        "function": {"name": "f", "description": MARK, "parameters": {"enum": [MARK + "2"]}},
    }
    body = {
        "messages": [],
        "tools": [tool],
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"title": MARK + "3"}}},
        "stop": [MARK + "4"],
        "user": MARK + "5",
        "metadata": {"note": MARK + "6"},
        "prediction": {"content": MARK + "7"},
        "something_new": {"deep": [{"er": MARK + "8"}]},
    }
    joined = "\n".join(t for t in texts(body) if t)
    for suffix in ("", "2", "3", "4", "5", "6", "7", "8"):
        assert MARK + suffix in joined


def test_pictures_sound_and_files_are_unknown():
    def one(part):
        return texts({"messages": [{"role": "user", "content": [part]}]})

    assert one({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}) == [None]
    assert one({"type": "image_url", "image_url": {"url": "https://x/" + MARK}}) == [
        "https://x/" + MARK,
        None,
    ]
    sound = one({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})
    assert None in sound
    assert None in one({"type": "file", "file": {"file_id": "f1", "filename": MARK}})
    assert None in one({"type": "a_kind_of_next_year", "x": MARK})


def test_a_setting_that_is_no_scalar_is_read():
    assert any(MARK in t for t in texts({"model": {"x": MARK}}))
    assert any(MARK in t for t in texts({"model": MARK * 10}))


def test_data_urls_of_text_are_opened():
    url = "data:text/plain;base64," + base64.b64encode(b"anna@example.org").decode()
    assert "anna@example.org" in texts({"messages": [{"role": "user", "content": url}]})
    part = {"type": "image_url", "image_url": {"url": url}}
    assert texts({"messages": [{"content": [part]}]}) == ["anna@example.org", None]
    assert None in texts({"x": "data:application/pdf;base64,AAAA"})


def test_what_has_no_end_is_unknown():
    deep: list = []
    for _ in range(200):
        deep = [deep]
    assert None in texts({"x": deep})


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(max_size=8),
        st.just(MARK),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["role", "content", "text", "type", "x"]), inner),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["messages", "tools", "stop", "new", "model"]), JSON))
def test_I1_no_text_is_left_unread(body):
    """Whatever the shape: a text in the body is yielded, or something is yielded as unknown."""
    got = texts(body)
    if MARK in json.dumps(body):
        seen = any(t is not None and MARK in t for t in got) or None in got
        # roles and settings, short scalars of fixed meaning, are not text of the caller's
        assert seen or _only_settings(body)


def _only_settings(body):
    stripped = {k: v for k, v in body.items() if k != "model" or isinstance(v, dict | list)}
    messages = stripped.get("messages")
    if isinstance(messages, list):
        stripped["messages"] = [
            {k: v for k, v in m.items() if k != "role" or not isinstance(v, str)}
            if isinstance(m, dict)
            else m
            for m in messages
        ]
    return MARK not in json.dumps(stripped) or _types_only(stripped)


def _types_only(value):
    """``type`` of a text part whose text was read is its kind, no text."""
    return MARK not in json.dumps(_without_types(value))


def _without_types(value):
    if isinstance(value, dict):
        return {k: _without_types(v) for k, v in value.items() if not (k == "type" and isinstance(v, str))}
    return [_without_types(v) for v in value] if isinstance(value, list) else value
