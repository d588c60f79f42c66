"""A validation error of msgspec, told the way each API tells it.

OpenAI names the field as ``messages[0].role`` and gives a ``code``; Anthropic writes ``messages.0.role``
before a sentence of pydantic's. Only the failing path pays for this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from allod.gateway.surfaces.faults import Rejected

Kind = Literal["missing", "unknown", "type", "range", "length", "pattern", "value", "other"]
Path = tuple[str | int, ...]
Vocabulary = Mapping[str, tuple[str, ...]]
"""Allowed values by path with indexes removed: ``messages[].role``."""

_AT: Final = " - at `"
_SHAPES: Final[tuple[tuple[Kind, re.Pattern[str]], ...]] = (
    ("missing", re.compile(r"Object missing required field `(.*)`", re.DOTALL)),
    ("unknown", re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)),
    ("type", re.compile(r"Expected `([^`]*)`, got `([^`]*)`")),
    ("length", re.compile(r"Expected `([^`]*)` of length (>=|<=) (\d+)")),
    ("range", re.compile(r"Expected `([^`]*)` (>=|<=|>|<) (.+)")),
    ("pattern", re.compile(r"Expected `str` matching regex (.+)")),
    ("value", re.compile(r"Invalid (?:enum )?value (.+)", re.DOTALL)),
)
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[\.\.\.\]")


class Complaint(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong and where.

    ``told`` holds what the kind needs: the field; expected and got; the bound's sense and value; the value.
    """

    kind: Kind
    path: Path
    told: tuple[str, ...] = ()

    @property
    def openai_path(self) -> str:
        """The path as ``messages[0].role``."""
        return render_path(self.path)

    @property
    def anthropic_path(self) -> str:
        """The path as ``messages.0.role``."""
        return ".".join(str(step) for step in self.path)


def render_path(path: Path) -> str:
    """Write a path as OpenAI does."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step == "[]" or not text:
            text += step
        else:
            text += f".{step}"
    return text


def read(error: msgspec.ValidationError, under: Path = ()) -> Complaint:
    """Take msgspec's sentence apart; ``under`` is where the value it looked at stands in the request."""
    text = str(error)
    cut = text.rfind(_AT)
    sentence, where = (text[:cut], text[cut + len(_AT) : -1]) if cut >= 0 else (text, "$")
    path = under + _path(where)
    for kind, shape in _SHAPES:
        found = shape.fullmatch(sentence)
        if found is None:
            continue
        told = found.groups()
        if kind in ("missing", "unknown"):
            return Complaint(kind=kind, path=(*path, told[0][:128]), told=told)
        return Complaint(kind=kind, path=path, told=told)
    return Complaint(kind="other", path=path, told=(sentence,))


def openai(complaint: Complaint, vocabulary: Vocabulary) -> Rejected:  # noqa: PLR0911 (one per kind)
    """Return the complaint as api.openai.com words it."""
    param = complaint.openai_path
    told = complaint.told
    match complaint.kind:
        case "missing":
            return Rejected(
                f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
            )
        case "unknown":
            return Rejected(f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")
        case "type":
            wanted, got = _expected(told[0]), _noun(told[1])
            what = f"Invalid type for '{param}': expected {wanted}, but got {got} instead."
            return Rejected(what, param=param or None, code="invalid_type")
        case "length":
            return _openai_length(param, told)
        case "range":
            sense = "below minimum" if told[1].startswith(">") else "above maximum"
            number = "integer" if told[0] == "int" else "decimal"
            what = f"Invalid '{param}': {number} {sense} value. Expected a value {told[1]} {told[2]}."
            return Rejected(
                what, param=param, code=f"{number}_{sense.split(maxsplit=1)[0]}_{sense.split()[1][:3]}_value"
            )
        case "pattern":
            what = (
                f"Invalid '{param}': string does not match pattern. Expected a string that matches {told[0]}."
            )
            return Rejected(what, param=param, code="invalid_value")
        case "value":
            allowed = vocabulary.get(general(complaint.path))
            hint = f" Supported values are: {_listed(allowed)}." if allowed else ""
            return Rejected(f"Invalid value: {_shown(told[0])}.{hint}", param=param, code="invalid_value")
        case _:
            return Rejected(f"Invalid request: {told[0]}.", param=param or None, code="invalid_value")


def anthropic(complaint: Complaint, vocabulary: Vocabulary) -> Rejected:
    """Return the complaint as api.anthropic.com words it: the path, a colon, pydantic's sentence."""
    told = complaint.told
    match complaint.kind:
        case "missing":
            said = "Field required"
        case "unknown":
            said = "Extra inputs are not permitted"
        case "type":
            said = f"Input should be {_pydantic(told[0])}"
        case "length":
            noun, unit = ("String", "character") if told[0] == "str" else ("List", "item")
            said = f"{noun} should have {'at least' if told[1] == '>=' else 'at most'} {told[2]} {unit}s"
        case "range":
            senses = {">=": "greater than or equal to", "<=": "less than or equal to", ">": "greater than"}
            said = f"Input should be {senses.get(told[1], 'less than')} {told[2]}"
        case "pattern":
            said = f"String should match pattern {told[0]}"
        case "value":
            allowed = vocabulary.get(general(complaint.path))
            said = (
                f"Input should be {_either(allowed)}" if allowed else f"Input should not be {_shown(told[0])}"
            )
        case _:
            said = told[0]
    where = complaint.anthropic_path
    return Rejected(f"{where}: {said}" if where else said, param=complaint.openai_path or None)


def value_at(body: object, path: Path) -> Any:
    """Return what stands at a path, or None."""
    for step in path:
        if isinstance(body, Mapping) and isinstance(step, str):
            body = body.get(step)
        elif isinstance(body, list) and isinstance(step, int) and step < len(body):
            body = body[step]
        else:
            return None
    return body


def foreign_kind(
    complaint: Complaint, body: object, foreign: Mapping[str, frozenset[str]]
) -> tuple[Path, str] | None:
    """Find the kind an API knows and we do not that is behind a complaint: at its path or above it.

    ``foreign`` holds such kinds by general path (``tools[].type``). Returns the kind's path and the kind.
    """
    for length in range(len(complaint.path) + 1):
        for step in ("type", "role"):
            path = (*complaint.path[:length], step)
            value = value_at(body, path)
            if isinstance(value, str) and value in foreign.get(general(path), frozenset()):
                return path, value
    return None


def general(path: Path) -> str:
    """Return a path without its indexes, ``messages[].role``: the key of a vocabulary."""
    return render_path(tuple("[]" if isinstance(step, int) else step for step in path))


def _path(where: str) -> Path:
    steps: list[str | int] = []
    for name, index in _STEP.findall(where):
        if name:
            steps.append(name)
        elif index:
            steps.append(int(index))
    return tuple(steps)


def _openai_length(param: str, told: tuple[str, ...]) -> Rejected:
    kind, sense, bound = told
    below = sense == ">="
    if kind == "array" and below:
        what = (
            f"Invalid '{param}': empty array. "
            f"Expected an array with minimum length {bound}, but got an empty array instead."
        )
        return Rejected(what, param=param, code="empty_array")
    noun = {"str": "string", "array": "array", "object": "object"}.get(kind, kind)
    measure = "too short" if below else "too long"
    limit = "minimum" if below else "maximum"
    what = f"Invalid '{param}': {noun} {measure}. Expected {_article(noun)} with {limit} length {bound}."
    return Rejected(what, param=param, code=f"{noun}_{limit_code(below)}")


def limit_code(below: bool) -> str:
    """Return the tail of OpenAI's code for a length out of bounds."""
    return "below_min_length" if below else "above_max_length"


_NOUNS: Final[Mapping[str, str]] = {
    "str": "a string",
    "int": "an integer",
    "float": "a decimal number",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_PYDANTIC: Final[Mapping[str, str]] = {
    "str": "a valid string",
    "int": "a valid integer",
    "float": "a valid number",
    "bool": "a valid boolean",
    "array": "a valid list",
    "object": "a valid dictionary",
    "null": "null",
}


def _noun(name: str) -> str:
    return _NOUNS.get(name, f"a {name}")


def _expected(names: str) -> str:
    wanted = [_noun(name) for name in names.split(" | ") if name != "null"]
    return wanted[0] if len(wanted) == 1 else "one of " + " or ".join(wanted)


def _pydantic(names: str) -> str:
    wanted = [_PYDANTIC.get(name, name) for name in names.split(" | ") if name != "null"]
    return " or ".join(wanted)


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _shown(value: str) -> str:
    return value if len(value) <= 80 else value[:77] + "..."  # noqa: PLR2004 (a line of a terminal)


def _listed(values: tuple[str, ...]) -> str:
    quoted = [f"'{value}'" for value in values]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + f", and {quoted[-1]}"


def _either(values: tuple[str, ...]) -> str:
    quoted = [f"'{value}'" for value in values]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + f" or {quoted[-1]}"
