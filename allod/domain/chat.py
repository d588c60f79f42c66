"""Chat as every surface and every engine sees it.

The neutral form of a request and of an answer is the OpenAI chat-completions object, decoded to plain JSON
values. A surface turns its own dialect into it, a driver turns it into the operator's. Where both speak the
same dialect the answer's bytes pass through untouched (``raw`` with ``dialect``) and the typed fields beside
them carry only what the gateway must know: text length, end, usage.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from allod.domain.fleet import Effort
from allod.domain.usage import Usage

Dialect = Literal["openai", "anthropic"]
Finish = Literal["stop", "length", "tool_calls", "content_filter"]


class ChatCall(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one deployment.

    Attributes:
        body: the request in neutral form (OpenAI chat completions), ``Allod-*`` metadata stripped, ``model``
            still the caller's; the driver sets the deployment's own model name.
        native: the caller's own body when it came in ``native_dialect`` and that is not ``openai``; a driver
            whose operator speaks this dialect sends it instead of translating ``body`` (fidelity).
        native_dialect: dialect of ``native`` and of the bytes the surface would like back.
        stream: whether events are wanted as they come.
        effort: reasoning depth; None and ``none`` mean thinking is sent as off.
        thinking_tokens: the most tokens of thinking at this depth where the operator can be told, in place of
            the driver's own; None leaves it to the driver.
        max_output_tokens: the limit in force, never None: the reservation is made with it.
        deadline_ms: milliseconds from now after which the answer is worth nothing, or None.

    """

    body: dict[str, Any]
    stream: bool
    native: dict[str, Any] | None = None
    native_dialect: Dialect = "openai"
    effort: Effort | None = None
    thinking_tokens: int | None = None
    max_output_tokens: int = 4096
    deadline_ms: int | None = None


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a tool call: ``id`` and ``name`` come once, ``arguments`` in pieces of JSON text."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a streamed answer.

    ``raw`` holds the complete SSE event as received, blank line included, in ``dialect``; None when the
    driver translated. ``choice`` is the index of the choice. The typed fields are always filled.
    """

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: Any = None
    finish: Finish | None = None
    choice: int = 0
    raw: bytes | None = None
    dialect: Dialect = "openai"


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """A complete answer that was not streamed.

    ``body`` is the OpenAI ``chat.completion`` object; ``raw`` its bytes as received in ``dialect`` when
    nothing had to be translated (then ``body`` may be None to spare
    the decoding, and is decoded by who needs it).
    """

    body: dict[str, Any] | None = None
    raw: bytes | None = None
    dialect: Dialect = "openai"
    finish: Finish | None = None


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator says was used, taken apart into disjoint parts; ``raw`` as in ``Chunk``.

    ``block`` is the operator's own usage object, for surfaces that pass it on.
    """

    usage: Usage
    block: dict[str, Any] = {}
    raw: bytes | None = None
    dialect: Dialect = "openai"


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The answer is whole: the operator's end mark was seen. Its absence means a broken answer.

    ``model`` is the name the operator answered with, ``raw`` the end mark's bytes where there is one.
    """

    model: str | None = None
    raw: bytes | None = None
    dialect: Dialect = "openai"


Event = Chunk | Whole | UsageReport | Finished


class EmbedCall(msgspec.Struct, frozen=True, kw_only=True):
    """An embeddings request in OpenAI form; ``deadline_ms`` as in ``ChatCall``."""

    body: dict[str, Any]
    deadline_ms: int | None = None


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """An OpenAI embeddings ``list`` object with its usage (None when the operator reported none)."""

    body: dict[str, Any]
    usage: Usage | None
    model: str | None = None
