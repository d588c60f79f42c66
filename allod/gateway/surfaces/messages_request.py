"""What ``/v1/messages`` and its token count take: Anthropic's request and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from allod.domain.fleet import Effort

ModelName = Annotated[str, Meta(min_length=1, max_length=256)]
ToolUseId = Annotated[str, Meta(min_length=1, pattern="^[a-zA-Z0-9_-]+$")]
ToolName = Annotated[str, Meta(min_length=1, max_length=128, pattern="^[a-zA-Z0-9_-]{1,128}$")]
Tokens = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Text = Annotated[str, Meta(min_length=1)]
EffortWord = Literal["low", "medium", "high", "xhigh", "max"]

BUDGET_EFFORT: Final[tuple[tuple[int, Effort], ...]] = ((4096, "low"), (16_384, "medium"), (32_768, "high"))
"""Thinking budgets in tokens, each up to and including, and the effort they ask for; above them ``xhigh``."""
ADAPTIVE_EFFORT: Final[Effort] = "high"
"""What ``thinking: {"type": "adaptive"}`` asks for when ``output_config.effort`` says nothing."""

NOT_SUPPORTED: Final[Mapping[str, str]] = {
    "container": "Run your tools yourself; the gateway has no code containers.",
    "inference_geo": "Say what the data is with Allod-Data-Class; the law of your packs decides the place.",
    "mcp_servers": "Offer the server's tools under tools and call them yourself.",
    "user_profile_id": "The gateway knows no user profiles.",
    "workspace_id": "The gateway knows no workspaces; use a key of its own for each app.",
}
"""Fields Anthropic knows and this gateway refuses when they hold something, with what to do."""

NOT_APPLIED: Final = frozenset({"context_management", "diagnostics"})
"""Fields coding agents always send whose absence changes no single answer: accepted, applied nowhere."""

FOREIGN_KINDS: Final[Mapping[str, frozenset[str]]] = {
    "messages[].content[].type": frozenset(
        {
            "server_tool_use", "web_search_tool_result", "web_fetch_tool_result",
            "code_execution_tool_result",
            "bash_code_execution_tool_result", "text_editor_code_execution_tool_result",
            "tool_search_tool_result", "container_upload", "mcp_tool_use", "mcp_tool_result",
            "mid_conv_system",
        }
    ),
    "messages[].content[].source.type": frozenset({"base64", "url", "file"}),
    "messages[].content[].content[].type": frozenset({"tool_reference"}),
    "messages[].content[].content[].source.type": frozenset({"base64", "url", "file"}),
}  # fmt: skip
"""Block and source kinds Anthropic knows here and this gateway refuses (for images: only ``file``)."""

BLOCKS: Final = (
    "text",
    "image",
    "document",
    "search_result",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "tool_result",
)
"""Kinds of blocks; each role has its own."""

VOCABULARY: Final[Mapping[str, tuple[str, ...]]] = {
    "messages[].role": ("user", "assistant", "system"),
    "messages[].content[].type": BLOCKS,
    "messages[].content[].content[].type": ("text", "image", "document", "search_result"),
    "messages[].content[].source.media_type": ("image/jpeg", "image/png", "image/gif", "image/webp"),
    "system[].type": ("text",),
    "thinking.type": ("enabled", "adaptive", "disabled", "between_tools"),
    "tool_choice.type": ("auto", "any", "tool", "none"),
    "output_config.effort": ("low", "medium", "high", "xhigh", "max"),
    "service_tier": ("auto", "standard_only"),
    "speed": ("standard",),
}  # fmt: skip


class _Strict(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An object whose every member is known."""


class CacheControl(_Strict):
    """Where an operator may cut its prompt cache; kept for one that speaks this dialect."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None
    scope: str | None = None


class TextBlock(_Strict, tag_field="type", tag="text"):
    """Text."""

    text: Text
    cache_control: CacheControl | None = None
    citations: list[dict[str, Any]] | None = None


class LoneText(_Strict):
    """Text where nothing else may stand; msgspec demands a tag only among several kinds."""

    type: Literal["text"]
    text: Text
    cache_control: CacheControl | None = None
    citations: list[dict[str, Any]] | None = None


class Base64Image(_Strict, tag_field="type", tag="base64"):
    """An image in the request."""

    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: Annotated[str, Meta(min_length=4, pattern="^[A-Za-z0-9+/]+={0,2}$")]


class UrlImage(_Strict, tag_field="type", tag="url"):
    """An image elsewhere."""

    url: Annotated[str, Meta(pattern="^https?://")]


class ImageBlock(_Strict, tag_field="type", tag="image"):
    """An image."""

    source: Base64Image | UrlImage
    cache_control: CacheControl | None = None


class PlainText(_Strict, tag_field="type", tag="text"):
    """A document's text."""

    data: str
    media_type: Literal["text/plain"]


class TextContent(_Strict, tag_field="type", tag="content"):
    """A document in blocks of text."""

    content: str | list[LoneText]


class DocumentBlock(_Strict, tag_field="type", tag="document"):
    """A document as text; PDF files need an engine that reads them."""

    source: PlainText | TextContent
    title: str | None = None
    context: str | None = None
    citations: dict[str, Any] | None = None
    cache_control: CacheControl | None = None


class SearchResult(_Strict, tag_field="type", tag="search_result"):
    """A passage the caller found."""

    source: str
    title: str
    content: list[LoneText]
    citations: dict[str, Any] | None = None
    cache_control: CacheControl | None = None


class ThinkingBlock(_Strict, tag_field="type", tag="thinking"):
    """Earlier thinking, sent back."""

    thinking: str
    signature: str


class RedactedThinking(_Strict, tag_field="type", tag="redacted_thinking"):
    """Earlier thinking only its operator can read."""

    data: str


class ToolUse(_Strict, tag_field="type", tag="tool_use"):
    """An earlier tool call."""

    id: ToolUseId
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    input: dict[str, Any]
    cache_control: CacheControl | None = None
    caller: dict[str, Any] | None = None
    toolset_name: None = None


class ToolResult(_Strict, tag_field="type", tag="tool_result"):
    """What a tool answered."""

    tool_use_id: ToolUseId
    content: str | list[TextBlock | ImageBlock | DocumentBlock | SearchResult] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


class UserMessage(_Strict, tag_field="role", tag="user"):
    """What the user says, shows, and answers for tools."""

    content: (
        Text
        | Annotated[
            list[TextBlock | ImageBlock | DocumentBlock | SearchResult | ToolResult], Meta(min_length=1)
        ]
    )


class AssistantMessage(_Strict, tag_field="role", tag="assistant"):
    """An earlier answer, or the beginning of the one wanted."""

    content: str | list[TextBlock | ThinkingBlock | RedactedThinking | ToolUse]


class SystemMessage(_Strict, tag_field="role", tag="system"):
    """Instructions in the middle of a conversation."""

    content: Text | Annotated[list[LoneText], Meta(min_length=1)]


Message = UserMessage | AssistantMessage | SystemMessage


class Tool(_Strict):
    """A tool of the caller's own."""

    name: ToolName
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    description: str | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None
    eager_input_streaming: bool | None = None
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None
    input_examples: list[dict[str, Any]] | None = None


class Auto(_Strict, tag_field="type", tag="auto"):
    """The model decides."""

    disable_parallel_tool_use: bool | None = None


class AnyTool(_Strict, tag_field="type", tag="any"):
    """Some tool must be called."""

    disable_parallel_tool_use: bool | None = None


class Named(_Strict, tag_field="type", tag="tool"):
    """This tool must be called."""

    name: str
    disable_parallel_tool_use: bool | None = None


class NoTool(_Strict, tag_field="type", tag="none"):
    """No tool may be called."""


class Enabled(_Strict, tag_field="type", tag="enabled"):
    """Thinking with a budget in tokens."""

    budget_tokens: Annotated[int, Meta(ge=1024, le=2**31 - 1)]
    display: Literal["summarized", "omitted"] | None = None


class Adaptive(_Strict, tag_field="type", tag="adaptive"):
    """Thinking as the model sees fit."""

    display: Literal["summarized", "omitted"] | None = None


class BetweenTools(_Strict, tag_field="type", tag="between_tools"):
    """Thinking only between tool calls."""


class Disabled(_Strict, tag_field="type", tag="disabled"):
    """No thinking."""


class JsonFormat(_Strict):
    """JSON that a schema describes."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(_Strict):
    """How the answer should be."""

    effort: EffortWord | None = None
    format: JsonFormat | None = None


class CallerMetadata(msgspec.Struct, kw_only=True):
    """``user_id``; beside it only ``Allod-*`` keys are allowed, which is looked for separately."""

    user_id: Annotated[str, Meta(max_length=512)] | None = None


class CountRequest(msgspec.Struct, kw_only=True):
    """What both routes take."""

    model: ModelName
    messages: Annotated[list[Message], Meta(min_length=1, max_length=100_000)]
    system: str | list[LoneText] | None = None
    tools: list[Tool] | None = None
    tool_choice: Auto | AnyTool | Named | NoTool | None = None
    thinking: Enabled | Adaptive | BetweenTools | Disabled | None = None
    output_config: OutputConfig | None = None
    output_format: JsonFormat | None = None
    cache_control: CacheControl | None = None
    speed: Literal["standard"] | None = None


class MessagesRequest(CountRequest, kw_only=True):
    """What asks for an answer."""

    max_tokens: Tokens
    metadata: CallerMetadata | None = None
    stop_sequences: Annotated[list[Text], Meta(max_length=8191)] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
