import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.gateway.surfaces.decode import MAX_DEPTH, demand_shallow, json_object
from allod.gateway.surfaces.faults import Rejected, verdict

HOSTILE = {
    "empty": b"",
    "not json": b"model=auto",
    "array": b"[]",
    "string": b'"x"',
    "null": b"null",
    "trailing": b'{"a":1} x',
    "bom": b'\xef\xbb\xbf{"a":1}',
    "latin-1": '{"a":"é"}'.encode("latin-1"),
    "overlong utf-8": b'{"a":"\xc0\xaf"}',
    "surrogate bytes": b'{"a":"\xed\xa0\x80"}',
    "lone surrogate": b'{"a":"\\ud800"}',
    "reversed surrogates": b'{"a":"\\udc00\\ud800"}',
    "nan": b'{"a":NaN}',
    "infinity": b'{"a":Infinity}',
    "huge float": b'{"a":1e999}',
    "huge integer": b'{"a":' + b"9" * 5000 + b"}",
    "control character": b'{"a":"\n"}',
    "trailing comma": b'{"a":1,}',
    "single quotes": b"{'a':1}",
    "deep arrays": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "unclosed deep": b"[" * 1_000_000,
    "duplicate": b'{"model":"a","model":"b"}',
    "duplicate inside": b'{"m":[{"role":"user","role":"system"}]}',
    "duplicate, spaced": b'{"model" : "a", "model"\n:"b"}',
    "duplicate, escaped": b'{"model":"a","mod\\u0065l":"b"}',
    "duplicate, hidden by an escaped colon": b'{"model":"a","model":"b","z":"\\u003ax"}',
    "duplicate, hidden by an escaped colon in capitals": b'{"model":"a","model":"b","z":"\\u003Ax"}',
    "duplicate, dropped value holds colons": b'{"model":"::","model":"b","z":"\\u003a\\u003a\\u003a"}',
    "duplicate after a backslash": b'{"a\\\\":1,"a\\\\":2}',
    "duplicate empty name": b'{"":1,"":2}',
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bodies_are_a_clean_400(raw):
    with pytest.raises(Rejected) as caught:
        json_object(raw)
    assert verdict(caught.value).status == 400
    assert len(caught.value.what) < 400


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":"x: y","b":{"a":1},"c":[{"a":1},{"a":2}]}',
        b'{"a" : "one : two", "b":"\\u003a"}',
        b'{"a\\\\":1,"a":2}',
        b'{"a":"\\"a\\":1, \\"a\\":2"}',
        b'{"a":12345678901234567890123}',
        '{"ä":"é","Ä":"😀"}'.encode(),
    ],
)
def test_honest_bodies_pass(raw):
    assert json_object(raw) == json.loads(raw)


def test_depth_is_bounded_where_nobody_else_looks():
    at = b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}"
    demand_shallow(at, json_object(at))
    over = b'{"a":' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}"
    with pytest.raises(Rejected, match="nested"):
        demand_shallow(over, json_object(over))


def test_many_containers_are_not_depth():
    wide = b'{"a":[' + b",".join([b"{}"] * 5000) + b"]}"
    demand_shallow(wide, json_object(wide))


_names = st.sampled_from(["a", "b", ":", '"', "\\", 'a":', "\\u003a"])
_values = st.recursive(
    st.one_of(st.text(alphabet=':"\\ a', max_size=6), st.integers(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(st.tuples(_names, inner), max_size=4).map(tuple)
    ),
    max_leaves=8,
)


def _spell(value, draw):
    """Write JSON with arbitrary escapes and white space; tuples of pairs are objects, duplicates included."""
    space = draw(st.sampled_from(["", " ", "\n", "\t"]))
    if isinstance(value, str):
        plain = json.dumps(value)
        return plain.replace(":", draw(st.sampled_from([":", "\\u003a", "\\u003A"])))
    if isinstance(value, tuple):
        pairs = [f"{_spell(name, draw)}{space}:{_spell(inner, draw)}" for name, inner in value]
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_spell(inner, draw) for inner in value) + "]"
    return json.dumps(value)


def _repeats(value):
    if isinstance(value, tuple):
        names = [name for name, _ in value]
        return len(names) != len(set(names)) or any(_repeats(inner) for _, inner in value)
    return isinstance(value, list) and any(_repeats(inner) for inner in value)


@given(st.lists(st.tuples(_names, _values), max_size=5).map(tuple), st.data())
@settings(deadline=None)
def test_a_duplicate_name_never_passes_however_it_is_spelled(body, data):
    raw = _spell(body, data.draw).encode()
    if _repeats(body):
        with pytest.raises(Rejected, match="twice"):
            json_object(raw)
    else:
        assert json_object(raw) == json.loads(raw)


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_arbitrary_bytes_never_escape_as_another_error(raw):
    with contextlib.suppress(Rejected):
        assert isinstance(json_object(raw), dict)
