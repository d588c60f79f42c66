"""From Anthropic's request to the neutral form.

What the neutral form cannot say is refused, never dropped, with these exceptions, which a deployment that
speaks this dialect still gets in ``native``: cache marks, citation switches, earlier thinking, ``is_error``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from allod.domain.fleet import Effort
from allod.gateway.surfaces import messages_request as wire
from allod.gateway.surfaces.faults import Rejected
from allod.gateway.surfaces.sse import ENCODE


def neutral(typed: wire.CountRequest) -> dict[str, Any]:
    """Build the chat-completions body.

    Raises:
        Rejected: blocks where they may not stand, tool results that answer no call.

    """
    body: dict[str, Any] = {"model": typed.model, "messages": _messages(typed)}
    if typed.tools:
        body["tools"] = [_tool(tool) for tool in typed.tools]
    if typed.tool_choice is not None:
        body.update(_choice(typed.tool_choice, {tool.name for tool in typed.tools or ()}))
    effort = effort_of(typed)
    if effort is not None:
        body["reasoning_effort"] = effort
    shape = typed.output_format or (typed.output_config.format if typed.output_config else None)
    if shape is not None:
        schema = {"name": "answer", "schema": shape.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if isinstance(typed, wire.MessagesRequest):
        _settings(body, typed)
    return body


def effort_of(typed: wire.CountRequest) -> Effort | None:
    """Return the depth asked for: from the budget, or from ``output_config`` when thinking is adaptive."""
    match typed.thinking:
        case None:
            return None
        case wire.Disabled():
            return "none"
        case wire.Enabled(budget_tokens=budget):
            return next((effort for limit, effort in wire.BUDGET_EFFORT if budget <= limit), "xhigh")
        case _:
            return (typed.output_config.effort if typed.output_config else None) or wire.ADAPTIVE_EFFORT


def _settings(body: dict[str, Any], typed: wire.MessagesRequest) -> None:
    body["max_tokens"] = typed.max_tokens
    if typed.stream is not None:
        body["stream"] = typed.stream
    for key in ("temperature", "top_p", "top_k"):
        value = getattr(typed, key)
        if value is not None:
            body[key] = value
    if typed.stop_sequences:
        if not all(sequence.strip() for sequence in typed.stop_sequences):
            what = "stop_sequences: each stop sequence must contain non-whitespace"
            raise Rejected(what, param="stop_sequences")
        body["stop"] = list(typed.stop_sequences)
    if typed.metadata is not None and typed.metadata.user_id:
        body["user"] = typed.metadata.user_id


def _messages(typed: wire.CountRequest) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if typed.system:
        messages.append({"role": "system", "content": _joined(typed.system)})
    open_calls: tuple[str, ...] = ()
    for position, message in enumerate(typed.messages):
        match message:
            case wire.AssistantMessage():
                _demand_content(message, position, last=position == len(typed.messages) - 1)
                written, open_calls = _assistant(message, position)
                messages.extend(written)
            case wire.SystemMessage():
                messages.append({"role": "system", "content": _joined(message.content)})
            case wire.UserMessage():
                messages.extend(_user(message, position, open_calls))
                open_calls = ()
    _demand_answered(open_calls, set(), len(typed.messages))
    if not any(message["role"] != "system" for message in messages):
        raise Rejected("messages: at least one message with content is required", param="messages")
    return messages


def _demand_content(message: wire.AssistantMessage, position: int, *, last: bool) -> None:
    if not message.content and not last:
        what = f"messages.{position}: only the last message, if it is an assistant's, may have empty content"
        raise Rejected(what, param=f"messages[{position}].content")


def _assistant(message: wire.AssistantMessage, position: int) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the message, or nothing where only thinking stood, and the ids of its tool calls."""
    if isinstance(message.content, str):
        return [{"role": "assistant", "content": message.content}], ()
    texts = [block.text for block in message.content if isinstance(block, wire.TextBlock)]
    calls = [_call(block) for block in message.content if isinstance(block, wire.ToolUse)]
    ids = tuple(call["id"] for call in calls)
    if len(set(ids)) != len(ids):
        raise Rejected(
            f"messages.{position}.content: `tool_use` ids must be unique", param=f"messages[{position}]"
        )
    if not texts and not calls:
        return [], ()
    written: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None}
    if calls:
        written["tool_calls"] = calls
    return [written], ids


def _call(block: wire.ToolUse) -> dict[str, Any]:
    function = {"name": block.name, "arguments": ENCODE(block.input).decode()}
    return {"id": block.id, "type": "function", "function": function}


def _user(message: wire.UserMessage, position: int, open_calls: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return tool messages first, then what else the user says; images of tool results go to the latter."""
    if isinstance(message.content, str):
        _demand_answered(open_calls, set(), position)
        return [{"role": "user", "content": message.content}]
    answers: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    answered: set[str] = set()
    for index, block in enumerate(message.content):
        if not isinstance(block, wire.ToolResult):
            parts.append(_part(block))
            continue
        if block.tool_use_id not in open_calls or block.tool_use_id in answered:
            raise _unasked(position, index, block.tool_use_id)
        answered.add(block.tool_use_id)
        text, images = _result(block)
        answers.append({"role": "tool", "tool_call_id": block.tool_use_id, "content": text})
        shown.extend(images)
    _demand_answered(open_calls, answered, position)
    parts = shown + parts
    if parts:
        plain = len(parts) == 1 and parts[0]["type"] == "text"
        answers.append({"role": "user", "content": parts[0]["text"] if plain else parts})
    return answers


def _demand_answered(open_calls: tuple[str, ...], answered: set[str], position: int) -> None:
    missing = [call for call in open_calls if call not in answered]
    if missing:
        what = (
            f"messages.{position}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block "
            "in the next message."
        )
        raise Rejected(what, param=f"messages[{position}].content")


def _result(block: wire.ToolResult) -> tuple[str, list[dict[str, Any]]]:
    if block.content is None or isinstance(block.content, str):
        return block.content or "", []
    parts = [_part(inner) for inner in block.content]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "\n".join(texts), [part for part in parts if part["type"] != "text"]


def _part(block: wire.TextBlock | wire.ImageBlock | wire.DocumentBlock | wire.SearchResult) -> dict[str, Any]:
    match block:
        case wire.TextBlock(text=text):
            return {"type": "text", "text": text}
        case wire.ImageBlock(source=wire.UrlImage(url=url)):
            return {"type": "image_url", "image_url": {"url": url}}
        case wire.ImageBlock(source=wire.Base64Image(media_type=kind, data=data)):
            return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
        case wire.DocumentBlock(source=source, title=title, context=context):
            text = source.data if isinstance(source, wire.PlainText) else _joined(source.content)
            return {"type": "text", "text": "\n".join(part for part in (title, context, text) if part)}
        case wire.SearchResult(source=origin, title=title, content=content):
            return {"type": "text", "text": "\n".join((title, origin, _joined(content)))}
    raise TypeError(block)


def _joined(content: str | Iterable[wire.LoneText]) -> str:
    return content if isinstance(content, str) else "\n\n".join(block.text for block in content)


def _tool(tool: wire.Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: wire.Auto | wire.AnyTool | wire.Named | wire.NoTool, offered: set[str]) -> dict[str, Any]:
    if isinstance(choice, wire.NoTool):
        return {"tool_choice": "none"} if offered else {}
    if not offered:
        raise Rejected("tool_choice: may only be specified while providing `tools`", param="tool_choice")
    said: dict[str, Any]
    match choice:
        case wire.Auto():
            said = {"tool_choice": "auto"}
        case wire.AnyTool():
            said = {"tool_choice": "required"}
        case wire.Named(name=name):
            if name not in offered:
                what = f"tool_choice.name: Tool '{name[:128]}' not found in provided tools"
                raise Rejected(what, param="tool_choice.name")
            said = {"tool_choice": {"type": "function", "function": {"name": name}}}
    if choice.disable_parallel_tool_use is not None:
        said["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    return said


def without_unsigned_thinking(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages for a native deployment, without thinking that no operator signed.

    Such blocks come from deployments of another dialect, whose reasoning this gateway wrote as thinking.
    """
    kept = [_without_unsigned(message) for message in messages]
    return [message for message in kept if message["content"] != []]


def _without_unsigned(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, str) or not any(_unsigned(block) for block in content):
        return message
    return {**message, "content": [block for block in content if not _unsigned(block)]}


def _unsigned(block: dict[str, Any]) -> bool:
    return block["type"] == "thinking" and not block["signature"]


def _unasked(position: int, index: int, call: str) -> Rejected:
    what = (
        f"messages.{position}.content.{index}: unexpected `tool_use_id` found in `tool_result` blocks: "
        f"{call}. "
        "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
    )
    return Rejected(what, param=f"messages[{position}].content[{index}].tool_use_id")
