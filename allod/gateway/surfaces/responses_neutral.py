"""From a Responses request to the neutral form.

Reasoning items are taken and left out: chat completions have no place for another model's reasoning.
``truncation: "auto"`` is taken and never applied; the answer says ``disabled``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from allod.gateway.surfaces import complaints
from allod.gateway.surfaces import responses_request as wire
from allod.gateway.surfaces.faults import Rejected

_ITEMS: Final[dict[str, type[msgspec.Struct]]] = {
    "message": wire.MessageItem,
    "function_call": wire.CallItem,
    "function_call_output": wire.CallOutputItem,
    "reasoning": wire.ReasoningItem,
}
_COPIED: Final = (
    "frequency_penalty", "parallel_tool_calls", "presence_penalty", "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier", "service_tier", "stream", "temperature", "top_p", "user",
)  # fmt: skip


def neutral(typed: wire.ResponsesRequest, body: dict[str, Any]) -> dict[str, Any]:
    """Build the chat-completions body.

    Raises:
        Rejected: items of a kind this gateway does not know, or outputs of no call.

    """
    out: dict[str, Any] = {"model": typed.model, "messages": _messages(typed)}
    out.update({key: body[key] for key in _COPIED if body.get(key) is not None})
    out.update({key: body[key] for key in wire.PASSED_ON if key in body})
    if typed.max_output_tokens is not None:
        out["max_completion_tokens"] = typed.max_output_tokens
    if typed.reasoning is not None and typed.reasoning.effort is not None:
        out["reasoning_effort"] = typed.reasoning.effort
    if typed.top_logprobs or "message.output_text.logprobs" in (typed.include or ()):
        out["logprobs"] = True
        out["top_logprobs"] = typed.top_logprobs or 0
    _tools(out, typed)
    if typed.text is not None:
        _text(out, typed.text)
    return out


def _tools(out: dict[str, Any], typed: wire.ResponsesRequest) -> None:
    offered: Sequence[wire.FunctionTool] = typed.tools or ()
    chosen: Any = typed.tool_choice
    if chosen is not None and chosen != "none" and not offered:
        raise Rejected(
            "The 'tool_choice' parameter is only allowed when 'tools' is given.", param="tool_choice"
        )
    if isinstance(chosen, wire.AllowedChoice):
        allowed = {tool.name for tool in chosen.tools}
        offered = [tool for tool in offered if tool.name in allowed]
        chosen = chosen.mode if offered else None
    if isinstance(chosen, wire.NamedChoice):
        if chosen.name not in {tool.name for tool in offered}:
            what = f"Tool choice '{chosen.name[:128]}' not found in 'tools' parameter."
            raise Rejected(what, param="tool_choice", code="invalid_value")
        chosen = {"type": "function", "function": {"name": chosen.name}}
    if offered:
        out["tools"] = [_tool(tool) for tool in offered]
        if chosen is not None:
            out["tool_choice"] = chosen


def _tool(tool: wire.FunctionTool) -> dict[str, Any]:
    fields = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }
    return {
        "type": "function",
        "function": {key: value for key, value in fields.items() if value is not None},
    }


def _text(out: dict[str, Any], text: wire.TextConfig) -> None:
    match text.format:
        case wire.ObjectFormat():
            out["response_format"] = {"type": "json_object"}
        case wire.SchemaFormat(name=name, schema=schema, description=description, strict=strict):
            fields = {"name": name, "schema": schema, "description": description, "strict": strict}
            inner = {key: value for key, value in fields.items() if value is not None}
            out["response_format"] = {"type": "json_schema", "json_schema": inner}
    if text.verbosity is not None:
        out["verbosity"] = text.verbosity


def _messages(typed: wire.ResponsesRequest) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if typed.instructions:
        messages.append({"role": "system", "content": typed.instructions})
    if isinstance(typed.input, str):
        messages.append({"role": "user", "content": typed.input})
        return messages
    open_calls: set[str] = set()
    for position, raw in enumerate(typed.input):
        match _item(raw, position):
            case wire.MessageItem() as item:
                messages.append(_message(item, position))
            case wire.CallItem() as item:
                if item.call_id in open_calls:
                    what = f"Duplicate call_id at 'input[{position}].call_id'."
                    raise Rejected(what, param=f"input[{position}].call_id", code="invalid_value")
                open_calls.add(item.call_id)
                _add_call(messages, item)
            case wire.CallOutputItem() as item:
                if item.call_id not in open_calls:
                    what = f"No tool call found for function call output with call_id {item.call_id[:128]}."
                    raise Rejected(what, param=f"input[{position}].call_id", code="invalid_value")
                messages.append(_output(item, position))
    if not messages:
        raise Rejected("Invalid 'input': it holds no message.", param="input", code="empty_array")
    return messages


def _item(raw: dict[str, Any], position: int) -> msgspec.Struct:
    kind = raw.get("type") or "message"
    shape = _ITEMS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        where = f"input[{position}].type"
        if isinstance(kind, str) and kind in wire.FOREIGN_ITEMS:
            raise Rejected(f"'{kind}' at '{where}' is not supported here.", kind="not_supported", param=where)
        allowed = ", ".join(f"'{name}'" for name in _ITEMS)
        what = f"Invalid value: {str(kind)[:64]!r}. Supported values are: {allowed}."
        raise Rejected(what, param=where, code="invalid_value")
    try:
        return msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        complaint = complaints.read(error, ("input", position))
        value = complaints.value_at(raw, complaint.path[2:])
        if isinstance(value, str) and value in wire.FOREIGN_PARTS:
            where = complaint.openai_path
            what = f"'{value}' at '{where}' is not supported here."
            raise Rejected(what, kind="not_supported", param=where) from None
        raise complaints.openai(complaint, wire.VOCABULARY) from None


def _message(item: wire.MessageItem, position: int) -> dict[str, Any]:
    role = "system" if item.role == "developer" else item.role
    if isinstance(item.content, str):
        return {"role": role, "content": item.content}
    parts = [_part(part, f"input[{position}].content[{index}]") for index, part in enumerate(item.content)]
    if not parts:
        where = f"input[{position}].content"
        raise Rejected(f"Invalid '{where}': empty array.", param=where, code="empty_array")
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if role != "user":
        if any(part["type"] == "image_url" for part in parts):
            where = f"input[{position}].content"
            raise Rejected(
                f"Images at '{where}' may only come from the user.", param=where, code="invalid_value"
            )
        refusals = [part["refusal"] for part in parts if part["type"] == "refusal"]
        return {"role": role, "content": "".join(texts + refusals)}
    return {"role": role, "content": texts[0] if len(parts) == len(texts) == 1 else parts}


def _part(
    part: wire.InputText | wire.InputImage | wire.OutputText | wire.Refusal, where: str
) -> dict[str, Any]:
    match part:
        case wire.InputText(text=text) | wire.OutputText(text=text):
            return {"type": "text", "text": text}
        case wire.Refusal(refusal=refusal):
            return {"type": "refusal", "refusal": refusal}
        case wire.InputImage(image_url=url, detail=detail):
            if url is None:
                what = f"An image by file_id at '{where}' is not supported here: send it as a data URL."
                raise Rejected(what, kind="not_supported", param=f"{where}.file_id")
            image = {"url": url}
            if detail in ("auto", "low", "high"):
                image["detail"] = detail
            return {"type": "image_url", "image_url": image}
    raise TypeError(part)


def _add_call(messages: list[dict[str, Any]], item: wire.CallItem) -> None:
    """Add a call to the assistant's turn it belongs to, or begin one."""
    call = {
        "id": item.call_id,
        "type": "function",
        "function": {"name": item.name, "arguments": item.arguments},
    }
    if messages and messages[-1]["role"] == "assistant":
        messages[-1].setdefault("tool_calls", []).append(call)
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _output(item: wire.CallOutputItem, position: int) -> dict[str, Any]:
    if isinstance(item.output, str):
        text = item.output
    else:
        for index, part in enumerate(item.output):
            if isinstance(part, wire.InputImage):
                where = f"input[{position}].output[{index}]"
                what = f"Images at '{where}' are not supported here: send them in a user message."
                raise Rejected(what, kind="not_supported", param=where)
        text = "\n".join(part.text for part in item.output if isinstance(part, wire.InputText))
    return {"role": "tool", "tool_call_id": item.call_id, "content": text}
