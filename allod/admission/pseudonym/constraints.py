"""Schemas an operator enforces while it decodes: one that leaves a token no room makes the model invent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from allod.admission.pseudonym.tokens import TOKEN_CHARS
from allod.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from allod.admission.pseudonym.tokens import Table

_TIMES: Final = frozenset({"date", "time", "date-time", "duration"})
_MAX_NODES: Final = 100_000


def demand_room(body: Mapping[str, Any], table: Table, *, dated: bool) -> None:
    """Refuse a strict schema that lets a covered value's field hold no token.

    Raises:
        Invalid: kind ``not_supported``: a string is limited by ``pattern``, by a ``format`` (of a time only
            where a date was covered: ``dated``), or by a ``maxLength`` that a covered value fits and a token
            does not.

    """
    shortest = min(len(value) for value in table.values.values())
    for path, schema in _strict(body):
        for node in _nodes(schema):
            keyword = _narrow(node, shortest, dated=dated)
            if keyword is not None:
                raise Invalid(
                    "this request cannot be pseudonymised",
                    f"{path} limits a string by {keyword}, which a pseudonym does not meet",
                    "leave the limit out of the schema, and check the restored answer instead",
                    kind="not_supported",
                    param=path,
                )


def _strict(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    shape = body.get("response_format")
    inner = shape.get("json_schema") if isinstance(shape, dict) else None
    if isinstance(inner, dict):
        yield "response_format.json_schema.schema", inner.get("schema")
    tools = body.get("tools")
    for i, tool in enumerate(tools if isinstance(tools, list) else ()):
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and function.get("strict") is True:
            yield f"tools[{i}].function.parameters", function.get("parameters")


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    todo = [schema]
    for _ in range(_MAX_NODES):
        if not todo:
            return
        node = todo.pop()
        if isinstance(node, dict):
            yield node
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)
    raise Invalid(
        "this request cannot be pseudonymised", "a schema is too large", "send a smaller one", kind="size"
    )


def _narrow(node: dict[str, Any], shortest: int, *, dated: bool) -> str | None:
    if isinstance(node.get("pattern"), str):
        return "pattern"
    given = node.get("format")
    if isinstance(given, str) and (dated or given not in _TIMES):
        return "format"
    longest = node.get("maxLength")
    if isinstance(longest, int) and shortest <= longest < TOKEN_CHARS:
        return "maxLength"
    return None
