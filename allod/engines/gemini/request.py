"""Requests of ``generateContent``, from the neutral form. Pure.

Sources: the provider's API reference "Generating content" and the pages "Function calling", "Structured
outputs", "Gemini thinking", "Thought signatures" and "Image understanding", November 2026.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from allod.engines import neutral
from allod.engines.gemini.models import thinking
from allod.engines.gemini.schema import fitted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allod.domain.chat import ChatCall, EmbedCall

SUPPORTED: Final = frozenset(
    {
        "temperature", "top_p", "top_k", "stop", "tools", "tool_choice", "response_format",
        "presence_penalty", "frequency_penalty", "parallel_tool_calls",
    }
)  # fmt: skip
OPENING: Final = "(The conversation so far.)"
"""Said for the user where a conversation starts with the assistant: the API wants the user to speak first."""
UNSIGNED: Final = "skip_thought_signature_validator"
"""The value the provider documents for tool calls whose signature is not at hand (made by another model)."""
_MEDIA: Final = frozenset({"image/jpeg", "image/png", "image/webp", "image/heic", "image/heif"})
_MOST_STOPS: Final = 5
_SAMPLING: Final = {
    "temperature": ("temperature", 0.0, 2.0),
    "top_p": ("topP", 0.0, 1.0),
    "top_k": ("topK", 1.0, 1_000_000.0),
    "presence_penalty": ("presencePenalty", -2.0, 2.0),
    "frequency_penalty": ("frequencyPenalty", -2.0, 2.0),
}


def prepare(call: ChatCall, model: str) -> dict[str, Any]:
    """Make the body of a call.

    Raises:
        EngineFault: ``request``, not sent: the dialect cannot carry what is asked for.

    """
    neutral.demand_known(call.body, SUPPORTED, "the Gemini API")
    talk = neutral.conversation(call.body)
    think = thinking(model, call.effort, call.max_output_tokens, call.thinking_tokens)
    config: dict[str, Any] = {"maxOutputTokens": call.max_output_tokens}
    if think.config is not None:
        config["thinkingConfig"] = think.config
    for key, (name, low, high) in _SAMPLING.items():
        value = neutral.number(call.body, key, low, high)
        if value is not None:
            config[name] = int(value) if key == "top_k" else value
    sequences = neutral.stops(call.body)
    if len(sequences) > _MOST_STOPS:
        raise neutral.unfit(f"more than {_MOST_STOPS} stop sequences")
    if sequences:
        config["stopSequences"] = sequences
    seed = call.body.get("seed")
    if type(seed) is int and -(2**31) <= seed < 2**31:
        config["seed"] = seed
    body: dict[str, Any] = {
        "contents": _contents(talk.turns, signatures=think.signatures),
        "generationConfig": config,
    }
    if talk.system:
        body["systemInstruction"] = {"parts": [{"text": text} for text in talk.system]}
    _add_tools(call.body, body)
    _add_shape(call.body, config, calls="tools" in body and not think.signatures)
    return body


def counting(body: dict[str, Any], model: str) -> dict[str, Any]:
    """Wrap a request for ``countTokens``, which counts system text and tools only in this form."""
    return {"generateContentRequest": {"model": f"models/{model}", **body}}


def embedding(call: EmbedCall, model: str) -> dict[str, Any]:
    """Make the body of ``batchEmbedContents`` (raises ``EngineFault`` ``request``, not sent)."""
    given = call.body.get("input")
    inputs = [given] if isinstance(given, str) else given
    if (
        not isinstance(inputs, list)
        or not inputs
        or not all(isinstance(text, str) and text for text in inputs)
    ):
        raise neutral.unfit("input is not a text or a list of texts")
    if call.body.get("encoding_format") not in (None, "float"):
        raise neutral.unfit("the Gemini API gives embeddings as numbers only")
    wanted: dict[str, Any] = {}
    if (size := call.body.get("dimensions")) is not None:
        wanted["outputDimensionality"] = size
    name = f"models/{model}"
    return {
        "requests": [{"model": name, "content": {"parts": [{"text": text}]}, **wanted} for text in inputs]
    }


def _contents(turns: tuple[neutral.Turn, ...], *, signatures: bool) -> list[dict[str, Any]]:
    """Alternate user and model, user first; results of tools lead the user's turn that follows."""
    merged: list[dict[str, Any]] = []
    for turn in turns:
        role = "model" if turn.role == "assistant" else "user"
        parts = list(_parts(turn, signatures=signatures))
        if merged and merged[-1]["role"] == role:
            merged[-1]["parts"].extend(parts)
        else:
            merged.append({"role": role, "parts": parts})
    if merged[0]["role"] == "model":
        merged.insert(0, {"role": "user", "parts": [{"text": OPENING}]})
    return merged


def _parts(turn: neutral.Turn, *, signatures: bool) -> Iterator[dict[str, Any]]:
    if turn.role == "tool":
        yield _result(turn)
        return
    for part in turn.parts:
        yield _part(part)
    for position, call in enumerate(turn.calls):
        out: dict[str, Any] = {"functionCall": {"id": call.id, "name": call.name, "args": call.arguments}}
        if call.signature is not None:
            out["thoughtSignature"] = call.signature
        elif signatures and position == 0:
            out["thoughtSignature"] = UNSIGNED
        yield out


def _result(turn: neutral.Turn) -> dict[str, Any]:
    """Put a tool's text under ``result``, as the API wants an object."""
    assert turn.answers is not None
    texts = [part.text for part in turn.parts if isinstance(part, neutral.Text)]
    if len(texts) < len(turn.parts):
        raise neutral.unfit("the result of a tool holds an image")
    response = {"result": "\n".join(texts)}
    return {"functionResponse": {"id": turn.answers.id, "name": turn.answers.name, "response": response}}


def _part(part: neutral.Part) -> dict[str, Any]:
    if isinstance(part, neutral.Text):
        return {"text": part.text}
    if part.url is not None:
        raise neutral.unfit("the Gemini API takes images as data only, and we fetch none")
    if part.media_type not in _MEDIA:
        raise neutral.unfit(f"images of type {part.media_type} are not taken")
    return {"inlineData": {"mimeType": part.media_type, "data": part.data}}


def _add_tools(given: dict[str, Any], body: dict[str, Any]) -> None:
    offered = neutral.tools(given)
    chosen = neutral.choice(given, offered)
    if not offered:
        return
    if given.get("parallel_tool_calls") is False and chosen.kind != "none":
        raise neutral.unfit("the Gemini API cannot be held to one tool call at a time")
    body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in offered]}]
    mode = {"auto": "AUTO", "none": "NONE", "required": "ANY", "tool": "ANY"}[chosen.kind]
    config: dict[str, Any] = {"mode": mode}
    if chosen.name is not None:
        config["allowedFunctionNames"] = [chosen.name]
    body["toolConfig"] = {"functionCallingConfig": config}


def _declaration(tool: neutral.Tool) -> dict[str, Any]:
    out: dict[str, Any] = {"name": tool.name, "description": tool.description or tool.name}
    if tool.parameters.get("properties"):
        out["parametersJsonSchema"] = _fitted(tool.parameters)
    return out


def _add_shape(given: dict[str, Any], config: dict[str, Any], *, calls: bool) -> None:
    """Add the form of the answer; up to series 2.5 the API takes it only in a request without tools."""
    shape = neutral.shape(given)
    if shape.kind == "text":
        return
    if calls:
        raise neutral.unfit("this model takes either tools or a form of the answer, not both")
    config["responseMimeType"] = "application/json"
    if shape.schema is not None:
        config["responseJsonSchema"] = _fitted(shape.schema)


def _fitted(schema: dict[str, Any]) -> Any:
    try:
        return fitted(schema)
    except ValueError as error:
        raise neutral.unfit("a schema is nested too deep, or is none") from error
