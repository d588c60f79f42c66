"""What ``/v1/responses`` takes: OpenAI's Responses request, without what needs a memory on our side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from allod.gateway.surfaces.chat_request import EXTENSIONS, Effort, Metadata, ModelName, Name, Penalty, Tokens

ImageUrl = Annotated[str, Meta(pattern="^(https?://|data:image/)")]
Status = Literal["in_progress", "completed", "incomplete"]

NOT_SUPPORTED: Final[Mapping[str, str]] = {
    "access_programs": "No such program exists here.",
    "background_options": "Requests are answered while you wait.",
    "context_management": "Send only the items the model shall see.",
    "conversation": "Nothing is stored: send the whole conversation as input.",
    "image": "No image tool exists here.",
    "moderation": "No moderation service stands beside the answer.",
    "previous_response_id": "Nothing is stored: send the earlier items again as input.",
    "prompt": "Prompt templates are not stored here: send the text as instructions or input.",
}
"""Fields OpenAI knows and this gateway refuses when they hold something, with what to do."""

FOREIGN_ITEMS: Final = frozenset(
    {
        "apply_patch_call", "apply_patch_call_output", "code_interpreter_call", "compaction", "computer_call",
        "computer_call_output", "custom_tool_call", "custom_tool_call_output", "file_search_call",
        "image_generation_call", "item_reference", "local_shell_call", "local_shell_call_output",
        "mcp_approval_request", "mcp_approval_response", "mcp_call", "mcp_list_tools", "shell_call",
        "shell_call_output", "tool_search_call", "tool_search_output", "web_search_call", "additional_tools",
    }
)  # fmt: skip
"""Item types OpenAI knows and this gateway refuses."""

FOREIGN_PARTS: Final = frozenset({"input_file", "input_audio", "input_video", "computer_screenshot"})
"""Content parts OpenAI knows and this gateway refuses."""

VOCABULARY: Final[Mapping[str, tuple[str, ...]]] = {
    "input[].type": ("message", "function_call", "function_call_output", "reasoning"),
    "input[].role": ("user", "assistant", "system", "developer"),
    "input[].content[].type": ("input_text", "input_image", "output_text", "refusal"),
    "input[].output[].type": ("input_text", "input_image"),
    "input[].content[].detail": ("auto", "low", "high", "original"),
    "tools[].type": ("function",),
    "tool_choice": ("none", "auto", "required"),
    "tool_choice.type": ("function", "allowed_tools"),
    "text.format.type": ("text", "json_object", "json_schema"),
    "text.verbosity": ("low", "medium", "high"),
    "reasoning.effort": ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "reasoning.summary": ("auto", "concise", "detailed"),
    "truncation": ("auto", "disabled"),
    "service_tier": ("auto", "default", "flex", "priority", "scale", "fast"),
}

Includable = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]


class _Strict(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An object whose every member is known."""


class InputText(_Strict, tag_field="type", tag="input_text"):
    """Text of a user or developer."""

    text: str
    prompt_cache_breakpoint: Any = None


class InputImage(_Strict, tag_field="type", tag="input_image"):
    """An image by URL; ``file_id`` would need a store of files."""

    image_url: ImageUrl | None = None
    file_id: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None
    prompt_cache_breakpoint: Any = None


class OutputText(_Strict, tag_field="type", tag="output_text"):
    """Text of an earlier answer."""

    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    parsed: Any = None


class Refusal(_Strict, tag_field="type", tag="refusal"):
    """An earlier refusal."""

    refusal: str


class MessageItem(_Strict):
    """A message; ``type`` may be left out."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputText | InputImage | OutputText | Refusal]
    type: Literal["message"] | None = None
    id: str | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class CallItem(_Strict):
    """An earlier function call."""

    type: Literal["function_call"]
    call_id: Annotated[str, Meta(min_length=1)]
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    arguments: str
    id: str | None = None
    status: Status | None = None
    caller: dict[str, Any] | None = None
    namespace: None = None
    parsed_arguments: Any = None


class CallOutputItem(_Strict):
    """What a function answered."""

    type: Literal["function_call_output"]
    call_id: Annotated[str, Meta(min_length=1)]
    output: str | list[InputText | InputImage]
    id: str | None = None
    status: Status | None = None
    caller: dict[str, Any] | None = None
    name: str | None = None
    namespace: None = None


class ReasoningItem(_Strict):
    """Earlier reasoning: taken, and left out of what the model sees."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: list[dict[str, Any]] | None = None
    content: list[dict[str, Any]] | None = None
    encrypted_content: str | None = None
    status: Status | None = None


class FunctionTool(_Strict):
    """A function the model may call."""

    type: Literal["function"]
    name: Name
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None
    allowed_callers: list[str] | None = None
    defer_loading: bool | None = None


class NamedChoice(_Strict, tag_field="type", tag="function"):
    """This function must be called."""

    name: Annotated[str, Meta(min_length=1)]


class AllowedTool(_Strict):
    """One of the tools that may be called."""

    type: Literal["function"]
    name: Annotated[str, Meta(min_length=1)]


class AllowedChoice(_Strict, tag_field="type", tag="allowed_tools"):
    """Only these of the tools may be called."""

    mode: Literal["none", "auto", "required"]
    tools: list[AllowedTool]


class TextFormat(_Strict, tag_field="type", tag="text"):
    """Plain text."""


class ObjectFormat(_Strict, tag_field="type", tag="json_object"):
    """Any JSON object."""


class SchemaFormat(_Strict, tag_field="type", tag="json_schema"):
    """JSON that a schema describes."""

    name: Name
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class TextConfig(_Strict):
    """How the text should be."""

    format: TextFormat | ObjectFormat | SchemaFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(_Strict):
    """How deep to think, and whether to show it."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None
    mode: Literal["standard"] | None = None


class StreamOptions(_Strict):
    """Padding against traffic analysis is not made here; asking for it changes nothing."""

    include_obfuscation: bool | None = None


class ResponsesRequest(msgspec.Struct, kw_only=True):
    """The request; items are read one by one, because a message may leave out its type."""

    model: ModelName
    input: str | list[dict[str, Any]]
    background: bool | None = None
    frequency_penalty: Penalty | None = None
    include: list[Includable] | None = None
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    metadata: Metadata | None = None
    parallel_tool_calls: bool | None = None
    presence_penalty: Penalty | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    reasoning: Reasoning | None = None
    safety_identifier: str | None = None
    service_tier: Literal["auto", "default", "flex", "priority", "scale", "fast"] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    text: TextConfig | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | AllowedChoice | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=1024)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None


PASSED_ON: Final = EXTENSIONS - {"reasoning"}
KNOWN: Final = frozenset(ResponsesRequest.__struct_fields__) | PASSED_ON
