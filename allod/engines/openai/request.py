"""From the neutral request to the body one dialect takes.

A parameter that changes what is asked for and that the dialect does not take is a ``request`` fault before
any byte leaves; only hints are left out. Depth and the output limit are always written by the call in force.
"""

from __future__ import annotations

import re
from typing import Any, Final

from allod.domain.chat import ChatCall
from allod.domain.fleet import Effort
from allod.engines.contract import EngineFault
from allod.engines.openai.dialects import ADVISORY, CORE, OWNED, Dialect

_PREFIX: Final = "allod"
_PLAIN_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,40}\Z")
_GPT: Final = re.compile(r"gpt-(\d+)(?:\.(\d+))?(?!\d)(?![a-z])")
_O_SERIES: Final = re.compile(r"o[1-9](?:-|\Z)")
_ADJUSTABLE: Final = re.compile(r"mistral-(?:small-(?:latest|2[6-9]\d\d)|medium-3[.-]5)")
_LOW_MEDIUM_HIGH: Final = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
BUDGETS: Final[dict[Effort, int]] = {"low": 1_024, "medium": 4_096, "high": 16_384, "xhigh": 32_768}
"""Tokens of thinking per depth where a server is told a budget, unless the deployment has its own; ``max``
may take all but what is left for the answer, a quarter of the output limit."""
_DEEPSEEK: Final = {"low": "low", "medium": "high", "high": "high", "xhigh": "high", "max": "max"}


def chat_body(call: ChatCall, model: str, dialect: Dialect) -> dict[str, Any]:
    """Return the body to send.

    Raises:
        EngineFault: ``request``, nothing sent, when the dialect does not take a parameter that matters.

    """
    body = _kept(call.body, dialect)
    body["model"] = model
    if dialect.strips:
        body["messages"] = _stripped(body.get("messages"), dialect.strips)
    body[dialect.limit] = call.max_output_tokens
    if call.stream:
        body["stream"] = True
        if dialect.stream_usage:
            body["stream_options"] = _stream_options(call.body.get("stream_options"), dialect)
    _set_depth(body, model, call.effort or "none", dialect)
    _set_budget(body, call, dialect)
    if dialect.name == "mistral":
        _for_mistral(body)
    return body


def _kept(given: dict[str, Any], dialect: Dialect) -> dict[str, Any]:
    taken = dialect.taken
    kept = {
        key: value
        for key, value in given.items()
        if value is not None and (key in taken or (key not in OWNED and _is_taken(key, dialect)))
    }
    if "metadata" in kept:
        _strip_metadata(kept)
    if "store" in kept:
        kept["store"] = False
    return kept


def _is_taken(key: str, dialect: Dialect) -> bool:
    """Tell whether to send a parameter; raise where leaving it out would change what is asked for."""
    if key.lower().startswith(_PREFIX):
        return False
    if key in CORE and key not in dialect.lacks:
        return True
    if key in ADVISORY:
        return key in dialect.hints
    if key not in CORE and (dialect.extensions is None or key in dialect.extensions):
        return True
    raise _untaken(key, dialect)


def _untaken(key: str, dialect: Dialect) -> EngineFault:
    name = key if _PLAIN_NAME.match(key) else "of another name"
    return EngineFault("request", f"engine {dialect.name} takes no parameter {name}", sent=False)


def _strip_metadata(body: dict[str, Any]) -> None:
    given = body["metadata"]
    own = (
        {key: value for key, value in given.items() if not str(key).lower().startswith(_PREFIX)}
        if isinstance(given, dict)
        else None
    )
    if own:
        body["metadata"] = own
    else:
        del body["metadata"]


def _stripped(messages: Any, strips: frozenset[str]) -> Any:
    if not isinstance(messages, list):
        return messages
    return [
        {key: value for key, value in message.items() if key not in strips}
        if isinstance(message, dict) and not strips.isdisjoint(message)
        else message
        for message in messages
    ]


def _stream_options(given: Any, dialect: Dialect) -> dict[str, Any]:
    options: dict[str, Any] = {"include_usage": True}
    if dialect.name == "openai" and isinstance(given, dict) and "include_obfuscation" in given:
        options["include_obfuscation"] = bool(given["include_obfuscation"])
    return options


def _set_depth(body: dict[str, Any], model: str, effort: Effort, dialect: Dialect) -> None:
    """Write how deep to think; ``none`` is said explicitly wherever the dialect can say it."""
    thinks = effort != "none"
    way = dialect.thinking
    said: str | None = _LOW_MEDIUM_HIGH[effort] if thinks else None
    if way in ("template", "template-effort"):
        kwargs: dict[str, Any] = {"enable_thinking": thinks, "thinking": thinks}
        body["chat_template_kwargs"] = kwargs
        if way == "template" and thinks:
            kwargs["reasoning_effort"], said = said, None
    elif way == "ollama":
        said = said or "none"
    elif way == "deepseek":
        body["thinking"] = {"type": "enabled" if thinks else "disabled"}
        said = _DEEPSEEK[effort] if thinks else None
    elif way == "mistral":
        adjustable = _ADJUSTABLE.match(model) is not None
        said = "high" if thinks else "none" if adjustable else None
    elif way == "openai":
        said = openai_effort(model, effort)
    elif way == "named":
        said = effort if thinks else None
    if said is not None:
        body["reasoning_effort"] = said


def _set_budget(body: dict[str, Any], call: ChatCall, dialect: Dialect) -> None:
    """Write how much thinking may take; a quarter of the output limit is left for the answer."""
    if dialect.budget is None or call.effort in (None, "none"):
        return
    most = call.thinking_tokens
    if most is None:
        if not dialect.always_budget:
            return
        most = BUDGETS.get(call.effort, call.max_output_tokens)
    most = min(most, call.max_output_tokens - call.max_output_tokens // 4)
    body[dialect.budget] = {"thinking_budget": most} if dialect.budget == "custom_params" else most


def openai_effort(model: str, effort: Effort) -> str | None:
    """Return the value OpenAI's model of this name takes for an effort, or None to send nothing.

    Off is the least a reasoning model can do: ``none`` from gpt-5.1 on, ``minimal`` for gpt-5, ``low`` for
    the o series; models that do not reason, chat variants and pro variants (one depth only) get nothing.
    """
    name = model.rsplit("/", 1)[-1].removeprefix("ft:")
    if "-pro" in name or "-chat" in name:
        return None
    match = _GPT.match(name)
    version = (int(match[1]), int(match[2] or 0)) if match else (0, 0)
    if version < (5, 0):
        off = "low" if _O_SERIES.match(name) else None
        return off if effort == "none" else _LOW_MEDIUM_HIGH[effort]
    if effort == "none":
        return "low" if "codex" in name else "none" if version >= (5, 1) else "minimal"
    if effort in ("xhigh", "max") and version < (5, 2):
        return "high"
    return "xhigh" if effort == "max" and version < (5, 6) else effort


def _for_mistral(body: dict[str, Any]) -> None:
    if body.get("tool_choice") == "required":
        body["tool_choice"] = "any"
    if "seed" in body:
        body["random_seed"] = body.pop("seed")


def embed_body(given: dict[str, Any], model: str) -> dict[str, Any]:
    """Return an embeddings body: the caller's with the deployment's model, nothing of ours."""
    body = {
        key: value
        for key, value in given.items()
        if value is not None and key not in ("user", "metadata") and not key.lower().startswith(_PREFIX)
    }
    body["model"] = model
    return body
