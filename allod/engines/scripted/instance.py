"""A small valid instance of a JSON Schema (2020-12, the subset tools and structured outputs use).

Deterministic and minimal: required properties only, the first enum value, the shortest array. Patterns are
met where a regular language can be walked; what cannot be met is told by ``SchemaUnmet``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as sre_parser  # type: ignore[attr-defined]
from typing import Any, Final

MAX_DEPTH: Final = 64
MAX_LENGTH: Final = 4096
_FORMATS: Final[Mapping[str, str]] = {
    "date-time": "2026-01-01T00:00:00Z", "date": "2026-01-01", "time": "00:00:00Z", "duration": "P1D",
    "email": "someone@example.org", "hostname": "example.org", "ipv4": "192.0.2.1", "ipv6": "2001:db8::1",
    "uri": "https://example.org/", "url": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}  # fmt: skip
_CATEGORY: Final = {
    sre.CATEGORY_DIGIT: "0", sre.CATEGORY_WORD: "a", sre.CATEGORY_SPACE: " ",
    sre.CATEGORY_NOT_DIGIT: "a", sre.CATEGORY_NOT_WORD: " ", sre.CATEGORY_NOT_SPACE: "a",
}  # fmt: skip


class SchemaUnmet(ValueError):
    """No instance was found: the schema contradicts itself or asks for what is not known here."""


def instance(schema: Any, *, hint: str = "text") -> Any:
    """Return a valid instance of a schema.

    Args:
        schema: decoded JSON Schema.
        hint: used for plain strings without other demands.

    Raises:
        SchemaUnmet: if none was found.

    """
    return _Maker(schema, hint).make(schema, 0)


class _Maker:
    def __init__(self, root: Any, hint: str) -> None:
        self._root, self._hint = root, hint

    def make(self, schema: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise SchemaUnmet("nested too deep")
        if schema is True:
            return {}
        if not isinstance(schema, dict):
            raise SchemaUnmet("a schema that allows nothing")
        if "$ref" in schema:
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            target = self._target(schema["$ref"])
            return self.make({"allOf": [target, rest]} if rest else target, depth + 1)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return schema["enum"][0]
        return self._joined(schema, depth)

    def _joined(self, schema: dict[str, Any], depth: int) -> Any:
        if "allOf" in schema:
            return self.make(self._merged(schema, depth), depth + 1)
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list) and schema[key]:
                return self._any_of(schema, key, depth)
        return self._typed(schema, depth)

    def _any_of(self, schema: dict[str, Any], key: str, depth: int) -> Any:
        rest = {name: value for name, value in schema.items() if name != key}
        last: SchemaUnmet | None = None
        for branch in schema[key]:
            try:
                joined = {"allOf": [rest, branch]} if rest.keys() - _NOTES else branch
                return self.make(joined, depth + 1)
            except SchemaUnmet as error:
                last = error
        raise last or SchemaUnmet(f"no branch of {key}")

    def _target(self, ref: Any) -> Any:
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise SchemaUnmet("a reference outside the schema")
        found: Any = self._root
        for part in ref[1:].split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                raise SchemaUnmet(f"no {ref}")
            found = found[name]
        return found

    def _merged(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """Join ``allOf``: properties and required add up, the last word wins elsewhere."""
        merged: dict[str, Any] = {}
        own = {key: value for key, value in schema.items() if key != "allOf"}
        for part in [*schema["allOf"], own]:
            resolved = part
            for _ in range(MAX_DEPTH):
                if not (isinstance(resolved, dict) and "$ref" in resolved):
                    break
                inner = {key: value for key, value in resolved.items() if key != "$ref"}
                resolved = {**self._target(resolved["$ref"]), **inner}
            if not isinstance(resolved, dict):
                raise SchemaUnmet("allOf of what is no schema")
            if "allOf" in resolved and depth < MAX_DEPTH:
                resolved = self._merged(resolved, depth + 1)
            for key, value in resolved.items():
                if key == "properties" and isinstance(value, dict):
                    merged[key] = {**merged.get(key, {}), **value}
                elif key == "required" and isinstance(value, list):
                    merged[key] = [*merged.get(key, []), *value]
                else:
                    merged[key] = value
        return merged

    def _typed(self, schema: dict[str, Any], depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((each for each in kind if each != "null"), "null")
        if kind is None:
            kind = _implied(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind == "string":
            return _string(schema, self._hint)
        if kind in ("integer", "number"):
            return _number(schema, whole=kind == "integer")
        if kind == "boolean":
            return True
        if kind == "null":
            return None
        raise SchemaUnmet(f"an unknown type {kind!r}")

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        made: dict[str, Any] = {}
        for name in dict.fromkeys(schema.get("required") or ()):
            part = properties.get(name, schema.get("additionalProperties", True))
            made[name] = self._hint if part is True else self.make(part, depth + 1)
        least = _int(schema.get("minProperties"), 0)
        for name, part in properties.items():
            if len(made) >= least:
                break
            if name not in made:
                made[name] = self.make(part, depth + 1)
        extra = schema.get("additionalProperties", True)
        for number in range(min(least, MAX_LENGTH)):
            if len(made) >= least or extra is False:
                break
            made.setdefault(f"key{number}", self._hint if extra is True else self.make(extra, depth + 1))
        return made

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems") or []
        least = max(_int(schema.get("minItems"), 0), 1 if "contains" in schema else 0)
        if least > MAX_LENGTH:
            raise SchemaUnmet(f"minItems over {MAX_LENGTH}")
        made = [self.make(part, depth + 1) for part in first[: max(least, 0)]]
        items = schema.get("items", schema.get("contains", True))
        while len(made) < least:
            value = self._hint if items is True else self.make(items, depth + 1)
            made.append(_different(value, made, items) if schema.get("uniqueItems") else value)
        if "contains" in schema:
            made[-1] = self.make(schema["contains"], depth + 1)
        return made


_NOTES: Final = frozenset(
    {"title", "description", "$schema", "$defs", "definitions", "examples", "default", "$id"}
)


def _implied(schema: Mapping[str, Any]) -> str:
    if "properties" in schema or "required" in schema or "additionalProperties" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema or "minItems" in schema:
        return "array"
    if "minimum" in schema or "maximum" in schema or "multipleOf" in schema:
        return "number"
    return "string"


def _int(value: Any, default: int) -> int:
    return int(value) if isinstance(value, int | float) and value >= 0 else default


def _different(value: Any, made: list[Any], items: Any) -> Any:
    """Return a value that is not there yet."""
    choices = items.get("enum", []) if isinstance(items, dict) else []
    for each in choices:
        if each not in made:
            return each
    if value not in made:
        return value
    if isinstance(value, str) and not choices:
        return f"{value}{len(made)}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        step = items.get("multipleOf", 1) if isinstance(items, dict) else 1
        return value + step * len(made)
    if value is True:
        return False
    raise SchemaUnmet("no further unique item")


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    step = schema.get("multipleOf")
    unit = step if isinstance(step, int | float) and step > 0 else 1
    floor: float | None = max(_numbers(low, above), default=None)
    ceiling: float | None = min(_numbers(high, below), default=None)
    value: float = 0
    if floor is not None and (floor > 0 or above == floor):
        value = math.ceil(floor / unit) * unit
        if above is not None and value <= above:
            value += unit
    elif floor is not None and ceiling is not None and ceiling < 0:
        value = math.ceil(floor / unit) * unit
    if ceiling is not None and (value > ceiling or (below is not None and value >= below)):
        value = math.floor(ceiling / unit) * unit
        if below is not None and value >= below:
            value -= unit
    if (
        not whole
        and step is None
        and floor is not None
        and ceiling is not None
        and not floor <= value <= ceiling
    ):
        value = (floor + ceiling) / 2
    if (floor is not None and value < floor) or (ceiling is not None and value > ceiling):
        raise SchemaUnmet("no number within the bounds")
    return int(value) if whole or value == int(value) else value


def _numbers(*values: Any) -> list[float]:
    return [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]


def _string(schema: Mapping[str, Any], hint: str) -> str:
    least, most = _int(schema.get("minLength"), 0), _int(schema.get("maxLength"), MAX_LENGTH)
    if least > MAX_LENGTH or least > most:
        raise SchemaUnmet("no string of that length")
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        return _matching(pattern, least, most)
    text = _FORMATS.get(str(schema.get("format")), hint)
    return (text + "x" * max(0, least - len(text)))[:most]


def _matching(pattern: str, least: int, most: int) -> str:
    """Return a string the pattern is found in (ECMA-262 patterns that Python reads alike)."""
    try:
        text = _walk(sre_parser.parse(pattern))
        for _ in range(least):
            if len(text) >= least:
                break
            longer = text + (text[-1:] or "a")
            text = longer if re.search(pattern, longer) else "a" + text
        if len(text) <= most and len(text) >= least and re.search(pattern, text):
            return text
    except (re.error, OverflowError, KeyError, NotImplementedError, RecursionError) as error:
        raise SchemaUnmet(f"a pattern that cannot be walked: {type(error).__name__}") from None
    raise SchemaUnmet("a pattern and lengths that do not meet")


def _walk(parsed: Any) -> str:
    return "".join(_step(operation, value) for operation, value in parsed)


def _step(operation: Any, value: Any) -> str:
    """Return the shortest text one piece of a parsed pattern matches."""
    if operation is sre.LITERAL:
        return chr(value)
    if operation in (sre.ANY, sre.NOT_LITERAL):
        return "b" if operation is sre.NOT_LITERAL and value == ord("a") else "a"
    if operation is sre.IN:
        return _one_of(value)
    if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT) and value[0] <= MAX_LENGTH:
        return _walk(value[2]) * int(value[0])
    if operation in (sre.SUBPATTERN, sre.BRANCH):
        return _walk(value[3] if operation is sre.SUBPATTERN else value[1][0])
    if operation is sre.AT:
        return ""
    raise NotImplementedError


def _one_of(members: Any) -> str:
    if members[0][0] is sre.NEGATE:
        for code in (*range(97, 123), *range(48, 58), *range(32, 47), *range(65, 91)):
            if not any(_holds(member, code) for member in members[1:]):
                return chr(code)
        raise NotImplementedError
    operation, value = members[0]
    if operation is sre.LITERAL:
        return chr(value)
    if operation is sre.RANGE:
        return chr(value[0])
    return str(_CATEGORY[value])


def _holds(member: Any, code: int) -> bool:
    operation, value = member
    if operation is sre.LITERAL:
        return bool(code == value)
    if operation is sre.RANGE:
        return bool(value[0] <= code <= value[1])
    letter = chr(code)
    word, digit, space = letter.isalnum() or letter == "_", letter.isdigit(), letter.isspace()
    return {
        sre.CATEGORY_DIGIT: digit, sre.CATEGORY_NOT_DIGIT: not digit, sre.CATEGORY_WORD: word,
        sre.CATEGORY_NOT_WORD: not word, sre.CATEGORY_SPACE: space, sre.CATEGORY_NOT_SPACE: not space,
    }[value]  # fmt: skip
