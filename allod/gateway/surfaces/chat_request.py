"""What ``/v1/chat/completions`` takes: OpenAI's request, its limits, and the engines' own sampling fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_-]+$")]
ModelName = Annotated[str, Meta(min_length=1, max_length=256)]
Tokens = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
ImageUrl = Annotated[str, Meta(pattern="^(https?://|data:image/)")]


class Extensions(msgspec.Struct, kw_only=True):
    """Fields of vLLM, SGLang, llama.cpp, Mistral and others that only steer sampling, passed on as they are.

    Fields that would reroute a request, load something, replace the chat template or lift the output limit
    (``models``, ``lora_path``, ``chat_template``, ``n_predict``, ``best_of``) are unknown here, on purpose.
    """

    add_generation_prompt: bool | None = None
    bad_words: list[str] | None = None
    cache_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    continue_final_message: bool | None = None
    dry_allowed_length: int | None = None
    dry_base: float | None = None
    dry_multiplier: float | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: list[str] | None = None
    dynatemp_exponent: float | None = None
    dynatemp_range: float | None = None
    ebnf: str | None = None
    enable_thinking: bool | None = None
    grammar: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    guided_json: str | dict[str, Any] | None = None
    guided_regex: str | None = None
    ignore_eos: bool | None = None
    include_reasoning: bool | None = None
    include_stop_str_in_output: bool | None = None
    json_schema: dict[str, Any] | None = None
    length_penalty: float | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    mirostat: int | None = None
    mirostat_eta: float | None = None
    mirostat_tau: float | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    prompt_mode: str | None = None
    random_seed: int | None = None
    reasoning: dict[str, Any] | None = None
    reasoning_format: str | None = None
    regex: str | None = None
    repeat_last_n: int | None = None
    repeat_penalty: float | None = None
    repetition_penalty: float | None = None
    safe_prompt: bool | None = None
    separate_reasoning: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    stop_token_ids: list[int] | None = None
    structured_outputs: dict[str, Any] | None = None
    thinking: dict[str, Any] | bool | None = None
    thinking_budget: int | None = None
    top_a: float | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    top_n_sigma: float | None = None
    typical_p: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None


EXTENSIONS: Final = frozenset(Extensions.__struct_fields__)

NOT_SUPPORTED: Final[Mapping[str, str]] = {
    "audio": "No deployment of this gateway answers with audio.",
    "function_call": "Use tool_choice.",
    "functions": "Use tools.",
    "moderation": "No moderation service stands beside the answer.",
    "web_search_options": "The gateway searches nothing on the web; give the model a tool of your own.",
}
"""Fields OpenAI knows and this gateway refuses, with what to do."""

FOREIGN_KINDS: Final[Mapping[str, frozenset[str]]] = {
    "messages[].content[].type": frozenset({"input_audio", "file"}),
    "messages[].tool_calls[].type": frozenset({"custom"}),
    "messages[].role": frozenset({"function"}),
    "tools[].type": frozenset({"custom"}),
    "tool_choice.type": frozenset({"custom"}),
    "response_format.type": frozenset({"grammar", "python"}),
}
"""Kinds OpenAI knows at these places and this gateway refuses."""

VOCABULARY: Final[Mapping[str, tuple[str, ...]]] = {
    "messages[].role": ("system", "assistant", "user", "tool", "developer"),
    "messages[].content[].type": ("text", "image_url", "refusal"),
    "messages[].content[].image_url.detail": ("auto", "low", "high"),
    "messages[].tool_calls[].type": ("function",),
    "tools[].type": ("function",),
    "tool_choice": ("none", "auto", "required"),
    "tool_choice.type": ("function", "allowed_tools"),
    "response_format.type": ("text", "json_object", "json_schema"),
    "reasoning_effort": ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "service_tier": ("auto", "default", "flex", "scale", "priority", "fast"),
    "verbosity": ("low", "medium", "high"),
    "modalities[]": ("text",),
}


class _Strict(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An object whose every member is known.

    Kinds that stand among others are told apart by a tag; msgspec demands a tag only there, so a kind that
    stands alone spells its ``type`` as a member.
    """


class TextPart(_Strict, tag_field="type", tag="text"):
    """Text; ``cache_control`` is what some operators read as a caching hint."""

    text: str
    cache_control: Any = None


class LoneTextPart(_Strict):
    """Text where nothing else may stand."""

    type: Literal["text"]
    text: str
    cache_control: Any = None


class RefusalPart(_Strict, tag_field="type", tag="refusal"):
    """An earlier refusal, sent back."""

    refusal: str


class Image(_Strict):
    """Where an image is: an http(s) or a data URL."""

    url: ImageUrl
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Strict, tag_field="type", tag="image_url"):
    """An image."""

    image_url: Image
    cache_control: Any = None


class CalledFunction(_Strict):
    """What was called."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    arguments: str


class ToolCall(_Strict):
    """An earlier tool call, sent back; ``index`` is what careless stream readers keep."""

    id: Annotated[str, Meta(min_length=1)]
    type: Literal["function"]
    function: CalledFunction
    index: int | None = None
    extra_content: Any = None


Texts = Annotated[list[LoneTextPart], Meta(min_length=1)]


class SystemMessage(_Strict, tag_field="role", tag="system"):
    """Instructions."""

    content: str | Texts
    name: str | None = None


class DeveloperMessage(_Strict, tag_field="role", tag="developer"):
    """Instructions, in the word newer models use."""

    content: str | Texts
    name: str | None = None


class UserMessage(_Strict, tag_field="role", tag="user"):
    """What the user says and shows."""

    content: str | Annotated[list[TextPart | ImagePart], Meta(min_length=1)]
    name: str | None = None


class AssistantMessage(_Strict, tag_field="role", tag="assistant"):
    """An earlier answer, with the fields answers carry, so that one can be sent back as it came."""

    content: str | Annotated[list[TextPart | RefusalPart], Meta(min_length=1)] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: Any = None
    thinking_blocks: Any = None
    prefix: bool | None = None


class ToolMessage(_Strict, tag_field="role", tag="tool"):
    """What a tool answered."""

    content: str | Texts
    tool_call_id: Annotated[str, Meta(min_length=1)]
    name: str | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class Function(_Strict):
    """A function the model may call; ``parameters`` is a JSON Schema."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Strict):
    """A function tool."""

    type: Literal["function"]
    function: Function
    cache_control: Any = None


class ChosenFunction(_Strict):
    """A function by name."""

    name: Annotated[str, Meta(min_length=1)]


class NamedChoice(_Strict, tag_field="type", tag="function"):
    """This function must be called."""

    function: ChosenFunction


class AllowedTools(_Strict):
    """Only these tools may be called."""

    mode: Literal["auto", "required"]
    tools: list[dict[str, Any]]


class AllowedChoice(_Strict, tag_field="type", tag="allowed_tools"):
    """A choice among some of the tools."""

    allowed_tools: AllowedTools


class TextFormat(_Strict, tag_field="type", tag="text"):
    """Plain text."""


class ObjectFormat(_Strict, tag_field="type", tag="json_object"):
    """Any JSON object."""


class JsonSchema(_Strict):
    """A named JSON Schema."""

    name: Name
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class SchemaFormat(_Strict, tag_field="type", tag="json_schema"):
    """JSON that a schema describes."""

    json_schema: JsonSchema


class StreamOptions(_Strict):
    """What a stream carries besides the answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class Prediction(_Strict):
    """Text much of the answer will repeat: a hint for speed."""

    type: Literal["content"]
    content: str | list[LoneTextPart]


Penalty = Annotated[float, Meta(ge=-2, le=2)]


class ChatRequest(msgspec.Struct, kw_only=True):
    """The request; unknown members are looked for beside it, because ``EXTENSIONS`` are welcome."""

    model: ModelName
    messages: Annotated[list[Message], Meta(min_length=1)]
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    max_completion_tokens: Tokens | None = None
    max_tokens: Tokens | None = None
    metadata: Metadata | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    parallel_tool_calls: bool | None = None
    prediction: Prediction | None = None
    presence_penalty: Penalty | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    reasoning_effort: Effort | None = None
    response_format: TextFormat | ObjectFormat | SchemaFormat | None = None
    safety_identifier: str | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | AllowedChoice | None = None
    tools: Annotated[list[Tool], Meta(max_length=1024)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    user: str | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


KNOWN: Final = frozenset(ChatRequest.__struct_fields__) | EXTENSIONS
