"""What every simulated model does: a fixed, checkable behaviour in place of a model.

It echoes the last user text; asked for JSON it gives a valid instance of the schema; forced to a tool, or
where the text says ``use a tool``, it calls the tool with a valid instance. A text of more than
``CONTEXT_TOKENS`` words is too long for it. Tokens are words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CONTEXT_TOKENS = 1_000
REASONING = "They want an echo. I shall echo."


@dataclass
class Thought:
    """An answer before it is put into a dialect."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    input_tokens: int = 0
    cut: bool = False

    @property
    def output_tokens(self) -> int:
        """Visible tokens."""
        return len(self.text.split()) + sum(3 for _ in self.calls)

    @property
    def reasoning_tokens(self) -> int:
        """Hidden tokens."""
        return len(self.reasoning.split())


def think(
    text: str,
    *,
    reasons: bool = False,
    tools: dict[str, dict[str, Any]] | None = None,
    forced: bool = False,
    only: str | None = None,
    schema: dict[str, Any] | None = None,
    limit: int | None = None,
    extra_tokens: int = 0,
) -> Thought:
    """Answer; ``tools`` are schemas by name, ``only`` the one that must be called."""
    thought = Thought(input_tokens=len(text.split()) + extra_tokens)
    if reasons:
        thought.reasoning = REASONING
    wants = forced or only is not None or "use a tool" in text
    if tools and wants:
        name = only or next(iter(tools))
        thought.calls.append((name, instance(tools[name])))
    elif schema is not None:
        import json

        thought.text = json.dumps(instance(schema))
    else:
        thought.text = text
    words = thought.text.split(" ")
    if limit is not None and len(words) > limit:
        thought.text, thought.cut = " ".join(words[:limit]), True
    return thought


def instance(schema: dict[str, Any]) -> Any:
    """Return a valid instance of a plain JSON Schema."""
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: instance(inner) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema.get("items", {"type": "string"}))]
    return {"string": "Oslo", "integer": 7, "number": 0.5, "boolean": True, "null": None}[kind]


def words_of(text: str) -> list[str]:
    """Cut a text into the pieces a stream sends."""
    return text.replace(" ", " \0").split("\0") if text else []
