"""Requests of the Messages API, from the neutral form or from the caller's own body.

Sources: the provider's API reference "Messages" and the pages "Tool use", "Structured outputs", "Thinking",
"Vision" and "Stop reasons", November 2026. Everything here is pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.fleet import EFFORTS
from allod.engines import neutral
from allod.engines.anthropic.models import BUDGETS, CEILINGS, SMALLEST_BUDGET_TOKENS, traits
from allod.engines.anthropic.schema import closed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from allod.domain.chat import ChatCall
    from allod.domain.fleet import Effort
    from allod.engines.anthropic.models import Traits

SUPPORTED: Final = frozenset(
    {
        "temperature", "top_p", "top_k", "stop", "tools", "tool_choice", "parallel_tool_calls",
        "response_format",
    }
)  # fmt: skip
OPENING: Final = "(The conversation so far.)"
"""Said for the user where a conversation starts with the assistant: the API wants the user to speak first."""
ANSWER_TOOL: Final = "answer_in_json"
"""The tool a model without structured outputs is made to call when the caller wants JSON."""
_COUNTED: Final = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control"}
)
_MEDIA: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOP_P_WHILE_THINKING: Final = 0.95
_OPEN_OBJECT: Final[dict[str, Any]] = {"type": "object"}


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A request ready to be encoded.

    Attributes:
        body: the JSON body, ``model`` and ``stream`` set.
        native: whether it is the caller's own body and the answer's bytes go back as they come.
        answer_tool: name of the tool whose input is the answer, where JSON is forced that way.
        betas: values of the ``anthropic-beta`` header the caller asked for.

    """

    body: dict[str, Any]
    native: bool = False
    answer_tool: str | None = None
    betas: tuple[str, ...] = ()


def prepare(call: ChatCall, model: str) -> Prepared:
    """Make the request of a call, native where the caller speaks this dialect, else translated.

    Raises:
        EngineFault: ``request``, not sent: the dialect cannot carry what is asked for.

    """
    if call.native is not None and call.native_dialect == "anthropic":
        return _native(call, call.native, model)
    return _translated(call, model)


def counting(prepared: Prepared) -> Prepared:
    """Cut a request down to what the token counter takes."""
    body = {key: value for key, value in prepared.body.items() if key in _COUNTED}
    return msgspec.structs.replace(prepared, body=body)


def _translated(call: ChatCall, model: str) -> Prepared:
    neutral.demand_known(call.body, SUPPORTED, "the Messages API")
    accepts = traits(model)
    talk = neutral.conversation(call.body)
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": call.max_output_tokens,
        "stream": call.stream,
        "messages": _messages(talk.turns),
    }
    if talk.system:
        body["system"] = [{"type": "text", "text": text} for text in talk.system]
    answer_tool = _tools_and_shape(call, body, accepts)
    _think(body, call.effort, accepts, unsigned=_unsigned_loop(talk.turns), most=call.thinking_tokens)
    _sample(body, call.body, accepts)
    if sequences := neutral.stops(call.body):
        body["stop_sequences"] = sequences
    user = call.body.get("user")
    if isinstance(user, str) and user:
        body["metadata"] = {"user_id": user[:256]}
    return Prepared(body=body, answer_tool=answer_tool)


def _native(call: ChatCall, given: dict[str, Any], model: str) -> Prepared:
    """Keep the caller's body; only model, limit, stream, depth and Allod's own metadata are ours."""
    body = {key: value for key, value in given.items() if key not in ("anthropic_beta", "betas", "metadata")}
    body["model"], body["stream"] = model, call.stream
    limit = given.get("max_tokens")
    mine = call.max_output_tokens
    body["max_tokens"] = min(limit, mine) if type(limit) is int and limit >= 0 else mine
    metadata = given.get("metadata")
    kept = metadata if isinstance(metadata, dict) else {}
    kept = {key: value for key, value in kept.items() if not str(key).lower().startswith("allod")}
    if kept:
        body["metadata"] = kept
    _native_depth(body, call.effort, traits(model), call.thinking_tokens)
    betas = given.get("anthropic_beta") or given.get("betas") or []
    named = [betas] if isinstance(betas, str) else betas if isinstance(betas, list) else []
    return Prepared(body=body, native=True, betas=tuple(_clean(named)))


def _clean(named: Iterable[object]) -> Iterator[str]:
    for value in named:
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
            raise neutral.unfit("a beta name is not a plain word")
        yield value


def _native_depth(body: dict[str, Any], effort: Effort | None, accepts: Traits, own: int | None) -> None:
    """Keep the caller's own thinking unless the call narrows it; say ``disabled`` where it is silent."""
    asked = body.get("thinking")
    thinks = isinstance(asked, dict) and asked.get("type") != "disabled"
    if effort == "none" or not isinstance(asked, dict) or not thinks:
        _think(body, "none" if asked is not None else effort, accepts, unsigned=False, most=own)
        return
    config = _object(body.get("output_config"))
    told = config.get("effort")
    if effort is not None and told in EFFORTS and EFFORTS.index(told) > EFFORTS.index(effort):
        body["output_config"] = {**config, "effort": accepts.efforts.get(effort, effort)}
    budget = asked.get("budget_tokens")
    if type(budget) is int:
        limit = body["max_tokens"]
        most = budget if budget < limit else limit - limit // 4
        most = min(most, own or CEILINGS.get(effort, most)) if effort is not None else most
        narrowed = {**asked, "budget_tokens": most}
        body["thinking"] = narrowed if most >= SMALLEST_BUDGET_TOKENS else {"type": "disabled"}


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _think(
    body: dict[str, Any],
    effort: Effort | None,
    accepts: Traits,
    *,
    unsigned: bool,
    most: int | None = None,
) -> None:
    """Say explicitly whether to think and how hard.

    A forced tool and thinking exclude each other: the tool wins. A budget model in an open tool loop needs
    its own signed thinking blocks back; where the caller lost them it goes on without thinking.
    """
    forced = _object(body.get("tool_choice")).get("type") in ("any", "tool")
    wanted = effort if effort != "none" else None
    config = _object(body.get("output_config"))
    if accepts.thinking == "adaptive":
        if (wanted is None or forced) and accepts.can_disable:
            body["thinking"] = {"type": "disabled"}
            return
        depth = wanted or "low"
        body["thinking"] = {"type": "adaptive"}
        if accepts.display:
            body["thinking"]["display"] = "summarized" if wanted else "omitted"
        body["output_config"] = {**config, "effort": accepts.efforts[depth]}
        return
    budget = 0
    if wanted is not None and not forced and not unsigned:
        limit = body["max_tokens"]
        budget = min(most or BUDGETS[wanted], limit - limit // 4)
    if budget >= SMALLEST_BUDGET_TOKENS:
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    else:
        body["thinking"] = {"type": "disabled"}


def _unsigned_loop(turns: tuple[neutral.Turn, ...]) -> bool:
    """Tell whether the conversation stands in a tool loop whose thinking blocks the caller did not keep."""
    for turn in reversed(turns):
        if turn.role == "user":
            return False
        if turn.role == "assistant" and turn.calls:
            return not turn.thinking
    return False


def _sample(body: dict[str, Any], given: dict[str, Any], accepts: Traits) -> None:
    """Add sampling parameters where the model takes them; OpenAI's temperature 0-2 is clamped to 0-1."""
    temperature = neutral.number(given, "temperature", 0.0, 1.0)
    top_p = neutral.number(given, "top_p", 0.0, 1.0)
    top_k = neutral.number(given, "top_k", 0, 2**31)
    if not accepts.sampling:
        return
    if body["thinking"]["type"] != "disabled":
        if top_p is not None and top_p >= _TOP_P_WHILE_THINKING:
            body["top_p"] = top_p
        return
    if temperature is not None:
        body["temperature"] = temperature
    if top_p is not None and not (accepts.one_sampling and temperature is not None):
        body["top_p"] = top_p
    if top_k:
        body["top_k"] = int(top_k)


def _tools_and_shape(call: ChatCall, body: dict[str, Any], accepts: Traits) -> str | None:
    """Add tools, tool choice and the form of the answer; return the answer tool's name if one is forced."""
    offered = neutral.tools(call.body)
    chosen = neutral.choice(call.body, offered)
    if offered:
        body["tools"] = [_tool(tool) for tool in offered]
        body["tool_choice"] = _choice(chosen, one=call.body.get("parallel_tool_calls") is False)
    shape = neutral.shape(call.body)
    if shape.kind == "text" or chosen.kind in ("required", "tool"):
        return None  # a call the caller forces is the answer; its own schema rules
    schema = shape.schema or _OPEN_OBJECT
    fitted = closed(schema) if accepts.structured and shape.schema is not None else None
    if fitted is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": fitted}}
        return None
    if not accepts.can_disable:
        raise neutral.unfit(
            "this model always thinks, so no tool can be forced, and it cannot enforce this schema"
        )
    if schema.get("type", "object") != "object":
        raise neutral.unfit("the schema's root is no object, which a tool's input must be")
    names = {tool.name for tool in offered}
    name = ANSWER_TOOL
    while name in names:
        name += "_"
    told = "Give the final answer to the user by calling this tool, exactly once."
    answer = {"name": name, "description": told, "input_schema": {"type": "object", **schema}}
    may_call_others = offered and chosen.kind == "auto"
    body["tools"] = [*body.get("tools", ()), answer]
    forced = {"type": "any"} if may_call_others else {"type": "tool", "name": name}
    body["tool_choice"] = {**forced, "disable_parallel_tool_use": True}
    return name


def _tool(tool: neutral.Tool) -> dict[str, Any]:
    out: dict[str, Any] = {"name": tool.name, "input_schema": {"type": "object", **tool.parameters}}
    if tool.description is not None:
        out["description"] = tool.description
    return out


def _choice(chosen: neutral.Choice, *, one: bool) -> dict[str, Any]:
    if chosen.kind == "none":
        return {"type": "none"}
    out: dict[str, Any] = {"type": "any" if chosen.kind == "required" else chosen.kind}
    if chosen.kind == "tool":
        out["name"] = chosen.name
    if one:
        out["disable_parallel_tool_use"] = True
    return out


def _messages(turns: tuple[neutral.Turn, ...]) -> list[dict[str, Any]]:
    """Alternate user and assistant, user first; results of tools lead the user's turn that follows."""
    ids = _Ids()
    merged: list[dict[str, Any]] = []
    for turn in turns:
        role = "assistant" if turn.role == "assistant" else "user"
        blocks = list(_blocks(turn, ids))
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"].extend(blocks)
        else:
            merged.append({"role": role, "content": blocks})
    if merged[0]["role"] == "assistant":
        merged.insert(0, {"role": "user", "content": [{"type": "text", "text": OPENING}]})
    last = merged[-1]
    if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
        last["content"][-1]["text"] = last["content"][-1]["text"].rstrip()
    return merged


class _Ids:
    """Ids of tool calls in the alphabet the API takes, each used once in a conversation."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._open: dict[str, str] = {}

    def begin(self, calls: tuple[neutral.Call, ...]) -> None:
        self._open = {call.id: self._fresh(call.id) for call in calls}

    def of(self, call: neutral.Call) -> str:
        return self._open[call.id]

    def _fresh(self, wanted: str) -> str:
        base = wanted if _ID.fullmatch(wanted) else re.sub(r"[^A-Za-z0-9_-]", "_", wanted)[:48]
        name, number = base, 1
        while name in self._taken:
            number += 1
            name = f"{base}_{number}"
        self._taken.add(name)
        return name


def _blocks(turn: neutral.Turn, ids: _Ids) -> Iterator[dict[str, Any]]:
    if turn.role == "tool":
        assert turn.answers is not None
        result: dict[str, Any] = {"type": "tool_result", "tool_use_id": ids.of(turn.answers)}
        if turn.parts:
            result["content"] = [_part(part) for part in turn.parts]
        yield result
        return
    yield from turn.thinking
    for part in turn.parts:
        yield _part(part)
    if turn.role == "assistant":
        ids.begin(turn.calls)
        for call in turn.calls:
            yield {"type": "tool_use", "id": ids.of(call), "name": call.name, "input": call.arguments}


def _part(part: neutral.Part) -> dict[str, Any]:
    if isinstance(part, neutral.Text):
        return {"type": "text", "text": part.text}
    if part.url is not None:
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    if part.media_type not in _MEDIA:
        raise neutral.unfit(f"images of type {part.media_type} are not taken")
    source = {"type": "base64", "media_type": part.media_type, "data": part.data}
    return {"type": "image", "source": source}
