"""Where in a request people's words stand, and where a pseudonym must not.

The neutral body (OpenAI chat completions) is walked once, every string of it: it is a text, which may carry
tokens; a name, key, choice or setting, which may not; or an identifier that only has to stay the same within
the request. A member nobody here knows is of the second kind: nothing leaves unseen.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Protocol

from allod.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DEPTH: Final = 128
_END_USERS: Final = frozenset({"user", "safety_identifier", "prompt_cache_key"})
"""Members that name a person or tie requests together for the operator; no answer repeats them."""
_UNSENT: Final = frozenset({"model", "stream", "stream_options"})
"""Members a driver writes itself."""
_OPAQUE: Final = frozenset(
    {"signature", "data", "thought_signature", "encrypted_content", "thoughtSignature"}
)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=_-]{64,}")
_FIXED: Final = frozenset({"type", "role", "id", "format", "status", "object"})
_SPOKEN: Final = frozenset({"content", "refusal", "reasoning_content", "reasoning"})
_RICH: Final = frozenset({"reasoning_details", "thinking_blocks", "annotations", "extra_content"})
_TITLES: Final = frozenset({"description", "title", "$comment", "markdownDescription"})
_SAMPLES: Final = frozenset({"default", "examples", "example"})
_NAMED: Final = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})
_SCHEMAS: Final = frozenset(
    {
        "items", "prefixItems", "anyOf", "allOf", "oneOf", "not", "if", "then", "else", "contains",
        "additionalProperties", "additionalItems", "unevaluatedProperties", "unevaluatedItems",
        "propertyNames",
    }
)  # fmt: skip
_LONG_NUMBER: Final = 10_000


class Visit(Protocol):
    """What to do with each string; a path says where it stands (``messages[2].content``)."""

    def text(self, text: str, path: str) -> str:
        """Return what stands in place of words."""

    def arguments(self, text: str, path: str) -> str:
        """Return what stands in place of the JSON text of a tool call's arguments."""

    def fixed(self, text: str, path: str) -> None:
        """Look at what must stay as it is (raises ``Invalid`` where that cannot be)."""

    def identifier(self, text: str, path: str) -> str:
        """Return what stands in place of an identifier that is used only within the request."""

    def end_user(self, text: str) -> str:
        """Return what stands in place of a name of an end user or of a cache."""


def walk(body: Mapping[str, Any], visit: Visit) -> dict[str, Any]:
    """Return a new body with every string visited (raises what ``visit`` raises).

    Raises:
        Invalid: a part that is not text, or nesting beyond ``MAX_DEPTH``.

    """
    walker = _Walker(visit)
    out: dict[str, Any] = {}
    for key, value in body.items():
        if key == "messages" and isinstance(value, list):
            out[key] = [walker.message(one, f"messages[{i}]") for i, one in enumerate(value)]
        elif key == "tools" and isinstance(value, list):
            out[key] = [walker.tool(one, f"tools[{i}]") for i, one in enumerate(value)]
        elif key == "response_format" and isinstance(value, dict):
            out[key] = walker.shape(value)
        elif key in _END_USERS and isinstance(value, str):
            out[key] = visit.end_user(value)
        elif key == "prediction" and isinstance(value, dict):
            out[key] = {**value, "content": walker.content(value.get("content"), "prediction.content")}
        elif key not in _UNSENT:
            out[key] = walker.fixed(value, key[:64])
        else:
            out[key] = value
    return out


class _Walker:
    def __init__(self, visit: Visit) -> None:
        self._visit = visit

    def message(self, message: Any, path: str) -> Any:
        if not isinstance(message, dict):
            return self.fixed(message, path)
        out: dict[str, Any] = {}
        for key, value in message.items():
            where = f"{path}.{key[:32]}"
            if key in _SPOKEN:
                out[key] = self.content(value, where)
            elif key == "name" and isinstance(value, str) and message.get("role") != "tool":
                out[key] = self._visit.text(value, where)
            elif key == "tool_call_id" and isinstance(value, str):
                out[key] = self._visit.identifier(value, where)
            elif key == "tool_calls" and isinstance(value, list):
                out[key] = [self._call(call, f"{where}[{i}]") for i, call in enumerate(value)]
            elif key in _RICH:
                out[key] = self._rich(value, where, signed=key != "annotations")
            else:
                out[key] = self.fixed(value, where)
        return out

    def content(self, content: Any, path: str) -> Any:
        """Visit words: a text, or parts of which each is one."""
        if isinstance(content, str):
            return self._visit.text(content, path)
        if not isinstance(content, list):
            return self.fixed(content, path)
        return [self._part(part, f"{path}[{i}]") for i, part in enumerate(content)]

    def _part(self, part: Any, path: str) -> Any:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in ("text", "refusal"):
            raise Invalid(
                "this request cannot be pseudonymised",
                f"{path} is not text, and nothing looks into it",
                "send text, or use an app that does not pseudonymise",
                kind="not_supported",
                param=path,
            )
        return {
            key: self._visit.text(value, path)
            if key == kind and isinstance(value, str)
            else self.fixed(value, path)
            for key, value in part.items()
        }

    def _call(self, call: Any, path: str) -> Any:
        if not isinstance(call, dict):
            return self.fixed(call, path)
        out: dict[str, Any] = {}
        for key, value in call.items():
            if key == "id" and isinstance(value, str):
                out[key] = self._visit.identifier(value, f"{path}.id")
            elif key == "function" and isinstance(value, dict):
                out[key] = {
                    inner: self._visit.arguments(given, f"{path}.function.arguments")
                    if inner == "arguments" and isinstance(given, str)
                    else self.fixed(given, f"{path}.function.{inner[:32]}")
                    for inner, given in value.items()
                }
            elif key in _RICH:
                out[key] = self._rich(value, f"{path}.{key}")
            else:
                out[key] = self.fixed(value, f"{path}.{key[:32]}")
        return out

    def tool(self, tool: Any, path: str) -> Any:
        """Visit a tool: its descriptions are words, everything else is not."""
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict):
            return self.fixed(tool, path)
        return {
            key: self._described(value, f"{path}.function", "parameters")
            if key == "function"
            else self.fixed(value, f"{path}.{key[:32]}")
            for key, value in tool.items()
        }

    def shape(self, given: dict[str, Any]) -> dict[str, Any]:
        """Visit ``response_format``."""
        return {
            key: self._described(value, "response_format.json_schema", "schema")
            if key == "json_schema" and isinstance(value, dict)
            else self.fixed(value, f"response_format.{key[:32]}")
            for key, value in given.items()
        }

    def _described(self, given: dict[str, Any], path: str, schema: str) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in given.items():
            where = f"{path}.{key[:32]}"
            if key == "description" and isinstance(value, str):
                out[key] = self._visit.text(value, where)
            elif key == schema:
                out[key] = self._schema(value, where, 0)
            else:
                out[key] = self.fixed(value, where)
        return out

    def _schema(self, node: Any, path: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise _too_deep(path)
        if isinstance(node, list):
            return [self._schema(inner, path, depth + 1) for inner in node]
        if not isinstance(node, dict):
            return self.fixed(node, path)
        out: dict[str, Any] = {}
        for key, value in node.items():
            self._visit.fixed(key, path)
            if key in _TITLES and isinstance(value, str):
                out[key] = self._visit.text(value, path)
            elif key in _SAMPLES:
                out[key] = self._rich(value, path, depth + 1, signed=False)
            elif key in _NAMED and isinstance(value, dict):
                for name in value:
                    self._visit.fixed(name, path)
                out[key] = {name: self._schema(inner, path, depth + 1) for name, inner in value.items()}
            elif key in _SCHEMAS:
                out[key] = self._schema(value, path, depth + 1)
            else:
                out[key] = self.fixed(value, path, depth + 1)
        return out

    def _rich(self, value: Any, path: str, depth: int = 0, *, signed: bool = True) -> Any:
        """Visit a value whose strings are words, but for what is marked as something else.

        Only where ``signed``, an operator's own long base64 goes back unseen: it made it, and reads it
        anyway.
        """
        if depth > MAX_DEPTH:
            raise _too_deep(path)
        if isinstance(value, str):
            return self._visit.text(value, path)
        if isinstance(value, list):
            return [self._rich(inner, path, depth + 1, signed=signed) for inner in value]
        if not isinstance(value, dict):
            return self.fixed(value, path)
        out: dict[str, Any] = {}
        for key, inner in value.items():
            self._visit.fixed(key, path)
            if signed and key in _OPAQUE and isinstance(inner, str) and _BASE64.fullmatch(inner):
                out[key] = inner
            elif key in _FIXED:
                out[key] = self.fixed(inner, path)
            else:
                out[key] = self._rich(inner, path, depth + 1, signed=signed)
        return out

    def fixed(self, value: Any, path: str, depth: int = 0) -> Any:
        """Look at a value that stays as it is, keys and long numbers included, and return a copy."""
        if depth > MAX_DEPTH:
            raise _too_deep(path)
        if isinstance(value, str):
            self._visit.fixed(value, path)
            return value
        if isinstance(value, list):
            return [self.fixed(inner, path, depth + 1) for inner in value]
        if isinstance(value, dict):
            for key in value:
                self._visit.fixed(key, path)
            return {key: self.fixed(inner, path, depth + 1) for key, inner in value.items()}
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) >= _LONG_NUMBER:
            self._visit.fixed(str(value), path)
        return value


def _too_deep(path: str) -> Invalid:
    return Invalid(
        "this request cannot be pseudonymised", f"{path} is nested deeper than {MAX_DEPTH} levels",
        "flatten it", param=path,
    )  # fmt: skip
