"""How large a request is and what it needs of a model, read from its neutral form (OpenAI chat completions).

No tokenizer runs here: the deployment is not chosen yet, and those of remote models are not to be had
offline. The estimate is from above for the text people send: one token per 3 ASCII bytes (English has about 4
bytes to a token, code and German 3 to 3.5) and one per 2 bytes of other scripts, over the whole JSON body,
whose framing stands for the chat template's. Dense text (random strings, digits, rare scripts) can exceed it,
up to one token a byte: then the attempt costs more than was reserved for it and is charged what it cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from allod.domain.errors import Invalid
from allod.domain.request import Sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allod.domain.request import Surface

ASCII_BYTES_PER_TOKEN: Final = 3
OTHER_BYTES_PER_TOKEN: Final = 2
IMAGE_TOKENS: Final = 5_000
"""Assumed per picture, whatever its size: above what most models charge for one at full resolution, but not
above those that bill pictures at a multiple."""
TEMPLATE_TOKENS: Final = 16
TOOL_TEMPLATE_TOKENS: Final = 800
"""Assumed for the instructions an operator adds when tools are present; documented ones are some hundreds."""
MAX_CHOICES: Final = 128
MAX_OUTPUT_TOKENS: Final = 2**31 - 1
_BITS: Final = 3
_TEXT_PARTS: Final = frozenset({"text", "refusal", "input_text", "output_text", "thinking"})
_IMAGE_PARTS: Final = frozenset({"image_url", "input_image", "image"})
_TOOL_ROLES: Final = frozenset({"tool", "function"})
_ASKING: Final = frozenset(
    {"tools", "functions", "response_format", "logprobs", "top_logprobs", "modalities"}
)
"""Members of a body that may ask for more than text."""


def bucket(tokens: int) -> int:
    """Round up to three significant bits (at most a quarter more), so that like requests share a plan."""
    shift = tokens.bit_length() - _BITS
    if shift <= 0:
        return tokens
    return -(-tokens >> shift) << shift


def measure(
    body: Mapping[str, Any], raw: bytes, surface: Surface = "chat", *, plain: bool = False
) -> tuple[tuple[str, ...], Sizes]:
    """Return what a request needs and how large it is, reading it once (see ``needs_of``, ``sizes_of``).

    ``plain`` says that all messages are known to be text in plain strings, without a word of tools.

    Raises:
        Invalid: as both.

    """
    parts, tools = ([], False) if plain else _read(body)
    return _needs(body, parts, surface, tools=tools), _sizes(body, raw, parts, surface)


def needs_of(body: Mapping[str, Any], surface: Surface = "chat") -> tuple[str, ...]:
    """Return the capabilities a request uses, sorted.

    Raises:
        Invalid: kind ``not_supported`` for a content part or modality no deployment can declare.

    """
    parts, tools = _read(body)
    return _needs(body, parts, surface, tools=tools)


def sizes_of(body: Mapping[str, Any], raw: bytes, surface: Surface = "chat") -> Sizes:
    """Estimate a request from its neutral form and its bytes as received.

    Raises:
        Invalid: an output limit or a number of choices that is not a count.

    """
    return _sizes(body, raw, _read(body)[0], surface)


_Part = tuple[int, int, dict[str, Any]]
"""Number of the message, number in it, and the part itself."""


def _read(body: Mapping[str, Any]) -> tuple[list[_Part], bool]:
    """Return the parts of messages that come in parts, and whether any message speaks of tools."""
    parts: list[_Part] = []
    tools = False
    messages = body.get("messages")
    if not isinstance(messages, list):
        return parts, tools
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            continue
        content = message.get("content")
        if isinstance(content, list):
            parts += [(i, j, part) for j, part in enumerate(content) if isinstance(part, dict)]
        if message.get("role") in _TOOL_ROLES or "tool_calls" in message:
            tools = tools or message.get("role") in _TOOL_ROLES or bool(message["tool_calls"])
    return parts, tools


def _needs(body: Mapping[str, Any], parts: list[_Part], surface: Surface, *, tools: bool) -> tuple[str, ...]:
    if surface == "embeddings":
        return ("embeddings",)
    if not parts and not tools and _ASKING.isdisjoint(body):
        return ("text",)
    needs = {"text"}
    for i, j, part in parts:
        kind = part.get("type", "text")
        if kind in _IMAGE_PARTS:
            needs.add("image")
        elif kind not in _TEXT_PARTS:
            raise Invalid(
                f"content of type {str(kind)[:40]!r} is not supported",
                "no deployment can declare that it takes it",
                "send text or images",
                kind="not_supported",
                param=f"messages[{i}].content[{j}].type",
            )
    if tools or body.get("tools") or body.get("functions"):
        needs.add("tools")
    wanted = body.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") in {"json_schema", "json_object"}:
        needs.add("json_schema")
    if body.get("logprobs") or body.get("top_logprobs"):
        needs.add("logprobs")
    modalities = body.get("modalities")
    if isinstance(modalities, list) and any(one != "text" for one in modalities):
        raise Invalid(
            "output other than text is not supported",
            "no deployment can declare that it makes it",
            'leave modalities out or say ["text"]',
            kind="not_supported",
            param="modalities",
        )
    return tuple(sorted(needs))


def _sizes(body: Mapping[str, Any], raw: bytes, parts: list[_Part], surface: Surface) -> Sizes:
    size = len(raw)
    if raw.isascii() and not parts:
        tokens = TEMPLATE_TOKENS - (-size // ASCII_BYTES_PER_TOKEN)
    else:
        pictures, picture_bytes = _pictures(parts)
        other = size - len(raw.decode("ascii", "ignore"))
        plain_bytes = max(0, size - other - picture_bytes)
        tokens = TEMPLATE_TOKENS - (-plain_bytes // ASCII_BYTES_PER_TOKEN)
        tokens += pictures * IMAGE_TOKENS - (-other // OTHER_BYTES_PER_TOKEN)
    if body.get("tools") or body.get("functions"):
        tokens += TOOL_TEMPLATE_TOKENS
    if surface in {"embeddings", "count_tokens"}:
        return Sizes(body_bytes=size, input_tokens=tokens, max_output_tokens=0)
    limit = _integer(body, "max_tokens", MAX_OUTPUT_TOKENS) if "max_tokens" in body else None
    if "max_completion_tokens" in body:
        newer = _integer(body, "max_completion_tokens", MAX_OUTPUT_TOKENS)
        limit = newer if limit is None else limit if newer is None else min(limit, newer)
    return Sizes(
        body_bytes=size,
        input_tokens=tokens,
        max_output_tokens=limit,
        choices=(_integer(body, "n", MAX_CHOICES) or 1) if "n" in body else 1,
    )


def _pictures(parts: list[_Part]) -> tuple[int, int]:
    """Count pictures, and the bytes of those that came inline."""
    number, inline = 0, 0
    for _, _, part in parts:
        if part.get("type") in _IMAGE_PARTS:
            number += 1
            source = part.get("image_url")
            url = source.get("url") if isinstance(source, dict) else source
            if isinstance(url, str) and url.startswith("data:"):
                inline += len(url)
    return number, inline


def fetches(body: Mapping[str, Any]) -> bool:
    """Tell whether a picture is given by address: whoever serves the request would fetch it."""
    parts, _ = _read(body)
    for _, _, part in parts:
        if part.get("type") in _IMAGE_PARTS:
            source = part.get("image_url")
            url = source.get("url") if isinstance(source, dict) else source
            if isinstance(url, str) and not url.startswith("data:"):
                return True
    return False


def _integer(body: Mapping[str, Any], name: str, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= most:
        raise Invalid(
            f"{name} cannot be read",
            f"got {str(value)[:40]!r}, expected a whole number from 1 to {most}",
            "correct it",
            param=name,
        )
    return value
