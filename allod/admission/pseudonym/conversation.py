"""Which requests share their tokens.

An agent's next turn should send the same tokens as its last, so that a prompt cache still fits and the model
keeps its thread; two conversations should not, so that an operator cannot see that they are about the same
person. Nothing else rests on this: every request is covered whole, and restored from its own table.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from allod.admission.pseudonym.view import Span

SECRET_BYTES: Final = 32
MAX_LABEL_CHARS: Final = 256
_INSTRUCTIONS: Final = frozenset({"system", "developer"})
_ENCODE: Final = msgspec.json.Encoder(order="deterministic").encode


def conversation_key(secret: bytes, app: str, conversation: str) -> bytes:
    """Return the 32-byte key of one conversation: HMAC-SHA-256 (RFC 2104) under the home's secret.

    Args:
        secret: the home's, 32 bytes or more, never sent anywhere.
        app: the id of the calling app: two apps never share tokens.
        conversation: a label the app gave, or ``opening`` of the request; at most 256 characters.

    Raises:
        Invalid: a short secret, or a label that is empty or too long.

    """
    if len(secret) < SECRET_BYTES:
        raise Invalid("the secret is too short", f"got {len(secret)} bytes, expected {SECRET_BYTES}")
    if not 0 < len(conversation) <= MAX_LABEL_CHARS:
        raise Invalid("a conversation's label cannot be used", f"it has {len(conversation)} characters, "
                      f"expected 1 to {MAX_LABEL_CHARS}", "shorten it")  # fmt: skip
    parts = [part.encode("utf-8", "surrogatepass") for part in ("allod pseudonyms 1", app, conversation)]
    return hmac.digest(secret, b"".join(b"%d:" % len(part) + part for part in parts), "sha256")


def opening(secret: bytes, body: Mapping[str, Any], findings_of: Callable[[str], Sequence[Span]]) -> str:
    """Name a conversation by how it begins, where the app gives it no label: ``c_`` and 64 hex digits.

    It is a digest, under the home's secret, of the messages up to and including the first in which anything
    is found, without instructions (they may hold the time of day, and are alike in all conversations). So the
    name stays the same as messages are added, and conversations that begin alike part where the first person
    is named: those that share a name share that person's mention too. Where nothing is found, one
    message counts. An app that drops old messages changes the name, and with it the tokens, which harms
    nothing but the operator's cache.

    Raises:
        whatever ``findings_of`` raises.

    """
    messages = body.get("messages")
    begun: list[Any] = []
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict) or message.get("role") in _INSTRUCTIONS:
            continue
        begun.append([message.get("role"), message.get("content"), _calls(message)])
        if any(findings_of(text) for text in _texts(message)):
            break
    else:
        begun = begun[:1]
    return "c_" + hmac.digest(secret, b"opening\0" + _ENCODE(begun), "sha256").hex()


def _calls(message: Mapping[str, Any]) -> list[Any]:
    calls = message.get("tool_calls")
    return (
        [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    )


def _texts(message: Mapping[str, Any]) -> list[str]:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    texts += [call.get("arguments") for call in _calls(message) if isinstance(call, dict)]
    return [text for text in texts if isinstance(text, str) and text]
