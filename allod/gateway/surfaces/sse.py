"""Server-sent events as these APIs frame them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

ENCODE: Final = msgspec.json.Encoder().encode
DONE: Final = b"data: [DONE]\n\n"


def data(value: dict[str, Any]) -> bytes:
    """Frame an object as OpenAI's chat streams do: without an event name."""
    return b"data: " + ENCODE(value) + b"\n\n"


def named(value: dict[str, Any]) -> bytes:
    """Frame an object under its own ``type``, as Anthropic and the Responses API do."""
    kind: str = value["type"]
    return b"event: " + kind.encode() + b"\ndata: " + ENCODE(value) + b"\n\n"
