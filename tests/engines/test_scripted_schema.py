"""The scripted engine obeys schemas: checked by an independent validator."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.engines.scripted.instance import SchemaUnmet, instance


def valid(value, schema, root):  # noqa: C901, PLR0911, PLR0912 - a validator is a list of rules
    """An independent check of the rules the tests use."""
    if schema is True:
        return True
    if schema is False:
        return False
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].split("/")[1:]:
            target = target[part]
        return valid(value, target, root)
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "anyOf" in schema and not any(valid(value, each, root) for each in schema["anyOf"]):
        return False
    if not all(valid(value, each, root) for each in schema.get("allOf", [])):
        return False
    kinds = schema.get("type")
    if kinds is not None:
        checks = {
            "object": isinstance(value, dict),
            "array": isinstance(value, list),
            "string": isinstance(value, str),
            "boolean": isinstance(value, bool),
            "null": value is None,
            "number": isinstance(value, int | float) and not isinstance(value, bool),
            "integer": isinstance(value, int) and not isinstance(value, bool),
        }
        if not any(checks[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds)):
            return False
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**6):
            return False
        if "pattern" in schema and not re.search(schema["pattern"], value):
            return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf):
            return False
        if not schema.get("exclusiveMinimum", -math.inf) < value < schema.get("exclusiveMaximum", math.inf):
            return False
        if "multipleOf" in schema and value % schema["multipleOf"]:
            return False
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**6):
            return False
        if schema.get("uniqueItems") and len({json.dumps(each) for each in value}) != len(value):
            return False
        return all(valid(each, schema.get("items", True), root) for each in value)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        if not set(schema.get("required", [])) <= set(value):
            return False
        if schema.get("additionalProperties") is False and not set(value) <= set(properties):
            return False
        return all(valid(each, properties.get(name, True), root) for name, each in value.items())
    return True


leaves = st.one_of(
    st.builds(
        lambda a, b: {"type": "string", "minLength": a, "maxLength": a + b},
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    st.sampled_from(
        [
            {"type": "string", "pattern": p}
            for p in ("^[A-Z]{3}-\\d+$", "^a|b$", "x{2,}", "[^a-c]\\w\\s", "^(ab)*$")
        ]
    ),
    st.builds(
        lambda a, b: {"type": "integer", "minimum": a, "maximum": a + b},
        st.integers(-50, 50),
        st.integers(0, 50),
    ),
    st.builds(lambda a: {"type": "number", "exclusiveMinimum": a}, st.integers(-5, 5)),
    st.builds(lambda a: {"type": "integer", "multipleOf": 7, "minimum": a}, st.integers(-20, 20)),
    st.sampled_from(
        [
            {"type": "boolean"},
            {"type": "null"},
            {"type": ["null", "string"]},
            {"const": {"a": [1]}},
            {"enum": [3, "x"]},
        ]
    ),
)


def nest(inner):
    names = st.sampled_from(["a", "b", "c", "d"])
    return st.one_of(
        st.builds(
            lambda parts, needed: {
                "type": "object",
                "properties": parts,
                "required": [n for n in needed if n in parts],
                "additionalProperties": False,
            },
            st.dictionaries(names, inner, min_size=1, max_size=4),
            st.lists(names, max_size=4, unique=True),
        ),
        st.builds(
            lambda items, least: {"type": "array", "items": items, "minItems": least, "maxItems": least + 2},
            inner,
            st.integers(0, 3),
        ),
        st.builds(lambda one, two: {"anyOf": [one, two]}, inner, inner),
        st.builds(lambda one: {"allOf": [one]}, inner),
    )


@given(st.recursive(leaves, nest, max_leaves=12))
@settings(max_examples=300)
def test_an_instance_obeys_its_schema(schema):
    assert valid(instance(schema), schema, schema)


def test_references_recursion_and_contradictions():
    tree = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["value", "next"],
            }
        },
        "$ref": "#/$defs/node",
    }
    with pytest.raises(SchemaUnmet):
        instance({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})
    made = instance(tree)
    assert made["value"] == 0
    unique = {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 2, "uniqueItems": True}
    assert instance(unique) == ["x", "y"]
    for impossible in (
        False,
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"$ref": "http://elsewhere/"},
        {"type": "wish"},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "minItems": 10**9},
        {"pattern": "(?<=x)y"},
        {**unique, "minItems": 3},
        {"pattern": "a{999999999}"},
    ):
        with pytest.raises(SchemaUnmet):
            instance(impossible)
