"""Everything of a request that leaves: each piece of text with its path, and what cannot be read.

The body is the neutral one (OpenAI chat completions). Nothing is assumed harmless: the system prompt, every
message of every role, tool definitions, tool calls and results, schemas, names, stop sequences and any
member nobody here knows. What is not text (pictures, sound, files by reference) is yielded as None: the
caller treats it as ``unscanned``.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Part = tuple[str, str | None]
_ROUTING: Final = frozenset(
    """
    model stream temperature top_p n max_tokens max_completion_tokens presence_penalty frequency_penalty seed
    logprobs top_logprobs stream_options parallel_tool_calls service_tier reasoning_effort modalities store
    top_k min_p verbosity
    """.split()
)
"""Members that are settings; as scalars of a known kind they hold no text of the caller's."""
_TEXT_PARTS: Final[dict[str, str]] = {
    "text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal", "thinking": "thinking",
}  # fmt: skip
_DATA_URL: Final = re.compile(r"data:([a-zA-Z0-9.+/-]{0,80})((?:;[a-zA-Z0-9=._-]{1,40})*),")
_TEXT_TYPES: Final = ("text/", "application/json", "application/xml", "application/csv", "application/yaml")
_SHORT_SETTING: Final = 64
_SHORT_NUMBER: Final = 10
"""A setting of more digits may be somebody's number."""
SEAM_CHARS: Final = 128
_CACHED: Final = {"type": "ephemeral"}


class Joined(str):
    """What the parts of one message say when they are read on; of long ones the ends."""

    __slots__ = ()


def texts_of(parts: list[Any]) -> list[str]:
    """Return the texts of a message's parts."""
    return [part["text"] for part in parts if isinstance(part, dict) and type(part.get("text")) is str]


def joined(texts: list[str]) -> Joined:
    """Return the texts of a message's parts as a model reads them, without the middle of long ones."""
    cut = 2 * SEAM_CHARS
    return Joined("".join(t if len(t) <= cut else f"{t[:SEAM_CHARS]}\n\n{t[-SEAM_CHARS:]}" for t in texts))


def walk(body: Mapping[str, Any]) -> Iterator[Part]:
    """Yield (path, text) of everything in a neutral chat body that leaves; text None where it cannot be read.

    A value may be split between the parts of a message: they are yielded once more together, as ``Joined``.
    Never raises: what has not the form expected is written out whole and yielded as text, or as None.
    """
    for key, value in body.items():
        if key in _ROUTING and _is_setting(value):
            continue
        if key == "messages" and isinstance(value, list):
            for index, message in enumerate(value):
                yield from _message(f"messages[{index}]", message)
        elif key in ("tools", "functions") and isinstance(value, list):
            for index, tool in enumerate(value):
                yield from _written(f"{key}[{index}]", tool)
        else:
            yield from _written(str(key), value)


def _message(path: str, message: Any) -> Iterator[Part]:
    if not isinstance(message, dict):
        yield from _written(path, message)
        return
    for key, value in message.items():
        where = f"{path}.{key}"
        if key == "role" and isinstance(value, str) and len(value) <= _SHORT_SETTING:
            continue
        if key == "content" and isinstance(value, list):
            for index, part in enumerate(value):
                yield from _part(f"{where}[{index}]", part)
            texts = texts_of(value)
            if len(texts) > 1:
                yield where, joined(texts)
        elif key == "tool_calls" and isinstance(value, list):
            for index, call in enumerate(value):
                yield from _call(f"{where}[{index}]", call)
        elif key == "function_call":
            yield from _function(where, value)
        else:
            yield from _written(where, value)


def _part(path: str, part: Any) -> Iterator[Part]:
    if not isinstance(part, dict):
        yield from _written(path, part)
        return
    kind = part.get("type")
    member = _TEXT_PARTS.get(kind) if isinstance(kind, str) else None
    if member is not None and isinstance(part.get(member), str):
        yield f"{path}.{member}", part[member]
        yield from _rest(path, part, member)
        return
    if kind in ("image_url", "input_image"):
        inner = part.get("image_url")
        yield from _picture(path, inner.get("url") if isinstance(inner, dict) else inner)
        yield from _rest(path, part, "image_url")
        return
    if isinstance(kind, str) and kind != "tool_result":
        # sound, files and whatever comes next: the words in it are read, the rest cannot be
        yield from _written(path, part)
        yield path, None
        return
    yield from _written(path, part)


def _rest(path: str, part: dict[str, Any], member: str) -> Iterator[Part]:
    """Yield what a part holds besides its own member; a cache mark of the usual form says nothing."""
    rest = {k: v for k, v in part.items() if k not in (member, "type") and v != _CACHED}
    if rest:
        yield from _written(path, rest)


def _is_setting(value: Any) -> bool:
    """Tell whether a value is a short scalar."""
    if isinstance(value, dict | list):
        return False
    limit = _SHORT_SETTING if isinstance(value, str) else _SHORT_NUMBER
    return isinstance(value, float) or len(str(value)) <= limit


def _picture(path: str, url: Any) -> Iterator[Part]:
    """Yield None for a picture; text that is called one, and the address of a remote one, are read too."""
    if isinstance(url, str):
        found = _DATA_URL.match(url)
        text = None if found is None else data_text(url)
        if found is None or text is not None:
            yield f"{path}.url", url if text is None else text
    yield path, None


def data_text(url: str) -> str | None:
    """Return the text in a ``data:`` URL, or None when it is no text or cannot be decoded."""
    match = _DATA_URL.match(url)
    if match is None or not (match.group(1) or "text/plain").lower().startswith(_TEXT_TYPES):
        return None
    rest = url[match.end() :]
    if ";base64" not in match.group(2).lower():
        return rest
    try:
        return base64.b64decode(rest + "=" * (-len(rest) % 4), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None


def _call(path: str, call: Any) -> Iterator[Part]:
    if not isinstance(call, dict):
        yield from _written(path, call)
        return
    for key, value in call.items():
        if key in ("function", "custom"):
            yield from _function(f"{path}.{key}", value)
        elif not (key in ("type", "index") and _is_setting(value)):
            yield from _written(f"{path}.{key}", value)


def _function(path: str, value: Any) -> Iterator[Part]:
    """Yield arguments, which are JSON in a string: escapes undone, or as they stand if they are no JSON."""
    if not isinstance(value, dict):
        yield from _written(path, value)
        return
    for key, inner in value.items():
        where = f"{path}.{key}"
        if key in ("arguments", "input") and isinstance(inner, str):
            try:
                yield where, _plain(msgspec.json.decode(inner.encode()))
            except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
                yield where, inner
        else:
            yield from _written(where, inner)


def _written(path: str, value: Any) -> Iterator[Part]:
    """Yield a string as it is (``data:`` URLs decoded), anything else written out without escapes."""
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        if value.startswith("data:") and _DATA_URL.match(value):
            text = data_text(value)
            yield path, text
            return
        if value:
            yield path, value
        return
    try:
        yield path, _plain(value)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        yield path, None


def _plain(value: Any) -> str:
    """Write a value so that names stand beside their values and strings are not escaped."""
    if isinstance(value, str):
        return value
    pieces: list[str] = []
    _write(value, pieces, 0)
    return "".join(pieces)


_MAX_DEPTH: Final = 64


def _write(value: Any, pieces: list[str], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise RecursionError
    if isinstance(value, dict):
        for key, inner in value.items():
            pieces.append(f"{key}: ")
            _write(inner, pieces, depth + 1)
            pieces.append("\n")
    elif isinstance(value, list | tuple):
        for inner in value:
            _write(inner, pieces, depth + 1)
            pieces.append("\n")
    elif isinstance(value, str):
        text = data_text(value) if value.startswith("data:") else None
        pieces.append(value if text is None else text)
    elif value is not None:
        pieces.append(str(value))
