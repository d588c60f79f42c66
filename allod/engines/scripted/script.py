"""What the scripted engine says: a pure, deterministic function of the request.

The model name chooses the behaviour (``BEHAVIOURS``). Tokens are pieces of at most four characters with the
blank before them, so counts are the same whoever counts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from allod.domain.chat import Finish
from allod.engines.scripted.instance import SchemaUnmet, instance

FINGERPRINT: Final = "allod-scripted"
CREATED: Final = 1_767_225_600
"""The same second for every answer: equal requests get equal bytes."""

DEFAULT_MAX_TOKENS: Final = 4096
MAX_CHOICES: Final = 128
MAX_TOP_LOGPROBS: Final = 20
_TOKEN: Final = re.compile(r" ?\S{1,4}|\s")
_WISH: Final = re.compile(
    r"\b(?:reply|respond|answer)\s+(?:\w+\s+)?with\s+(?:exactly\s+|only\s+|just\s+)?:?\s*"
    r"[\"'`]?([^\"'`.\n]{1,200})",
    re.IGNORECASE,
)
_SLOW: Final = re.compile(r"slow-([0-9]{1,6})\Z")
_THINK: Final = re.compile(r"think-(hidden-)?([0-9]{1,5})\Z")
_NEEDS: Final = re.compile(r"\bneeds (none|low|medium|high|xhigh|max)\b")
_NEEDED: Final = ((128, "none"), (192, "low"), (224, "medium"), (240, "high"), (248, "xhigh"), (256, "max"))
"""Of 256 questions so many need no more than this depth."""
_STATUS: Final = re.compile(r"http-([45][0-9]{2})(-bare)?\Z")
_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

BEHAVIOURS: Final[Mapping[str, str]] = {
    "answer": "a fixed sentence",
    "echo": "the last message's text",
    "obey": "a call of the given tool, an instance of the given schema, or what the message asks to reply",
    "tool": "a call of the first tool, a sentence after its result",
    "think": "reasoning in reasoning_content, then a sentence",
    "think-vllm": "reasoning in the field named reasoning",
    "http-429": "429 with Retry-After: 1",
    "http-429-bare": "429 without Retry-After",
    "http-500": "an error of status 500 (any 4xx and 5xx number works)",
    "http-503": "an error of status 503",
    "too-long": "400 context_length_exceeded",
    "stall-before": "nothing, ever",
    "stall-mid": "half an answer, then silence",
    "mute": "keep-alive comments and nothing else",
    "truncate": "half an answer, then the connection is closed",
    "reset": "half an answer, then the connection is reset",
    "hangup": "the connection is closed before any answer",
    "not-http": "bytes that are no HTTP",
    "long-head": "a head without end",
    "garbage": "bytes that are no JSON, where JSON belongs",
    "malformed-event": "an event (or answer) of the wrong shape",
    "error-200": "an error object with status 200",
    "error-mid": "half an answer, then an error event",
    "no-done": "a stream without [DONE]",
    "no-finish": "an answer without finish_reason",
    "endless": "an answer without end",
    "long-line": "one line without end",
    "gzip": "a compressed answer nobody asked for",
    "redirect": "302 to /v1/trap",
    "unstreamed": "one JSON answer where a stream was asked for",
    "overstreamed": "a stream where one answer was asked for",
    "eof": "a whole answer framed by the end of the connection",
    "eof-cut": "half an answer framed by the end of the connection",
    "usage-missing": "no usage, even when asked",
    "usage-wrong": "a usage block that contradicts itself",
    "other-model": "an answer that names another model",
    "drip": "a whole answer, byte by byte",
    "crlf": "a stream with CR LF line ends",
    "comments": "a stream with comments between its events",
    "slow-<ms>": "an answer after so many milliseconds",
    "think-<n>": "obey after n tokens of reasoning per step of depth, if the question needs no more depth",
    "think-hidden-<n>": "the same, with reasoning billed as output and neither shown nor counted apart",
}
STEPS: Final[Mapping[str, int]] = {"none": 0, "low": 1, "medium": 2, "high": 4, "xhigh": 8, "max": 16}
"""Steps of depth by ``reasoning_effort``: a thinking script takes n tokens for each."""
UNSOLVED: Final = "I do not know."
"""What a thinking script says when the question needed more depth."""


class ScriptError(Exception):
    """A request the scripted engine refuses, as its HTTP status and OpenAI error object."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = {
            "message": message,
            "type": "invalid_request_error" if status < 500 else "server_error",  # noqa: PLR2004
            "param": param,
            "code": code,
        }


class Call(msgspec.Struct, frozen=True):
    """A tool call: id, name and arguments as JSON text."""

    id: str
    name: str
    arguments: str


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What one choice says; ``tokens`` are the pieces of ``text``, ``hidden`` thinking that is not shown."""

    text: str = ""
    reasoning: str = ""
    tokens: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    finish: Finish = "stop"
    hidden: int = 0

    @property
    def count(self) -> int:
        """Output tokens: text, reasoning shown and hidden, names and arguments."""
        calls = sum(count(call.name) + count(call.arguments) for call in self.calls)
        return len(self.tokens) + calls + count(self.reasoning) + self.hidden


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """A whole performance of a chat request."""

    behaviour: str
    model: str
    id: str
    line: Line
    choices: int
    prompt_tokens: int
    stream: bool
    include_usage: bool
    logprobs: bool
    top_logprobs: int
    delay_ms: int = 0
    status: int = 200
    retry_after_s: int | None = None

    @property
    def usage(self) -> dict[str, Any] | None:
        """The usage block of this behaviour."""
        if self.behaviour == "usage-missing":
            return None
        written = self.line.count * self.choices
        if self.behaviour == "usage-wrong":
            written = -written
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self.prompt_tokens + written,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": count(self.line.reasoning) * self.choices},
        } | ({"completion_tokens_details": None} if self.line.hidden else {})


def count(text: str) -> int:
    """Count the tokens of a text."""
    return sum(1 for _ in _TOKEN.finditer(text))


def tokens_of(text: str) -> tuple[str, ...]:
    """Cut a text into its tokens; joined they are the text."""
    return tuple(_TOKEN.findall(text))


def is_model(name: str) -> bool:
    """Tell whether a model name chooses a behaviour."""
    return name in BEHAVIOURS or any(form.match(name) for form in (_SLOW, _STATUS, _THINK))


def write_script(body: Any) -> Script:
    """Turn a chat request into its performance.

    Raises:
        ScriptError: 400 for a request that is no chat request, 404 for an unknown model.

    """
    model, messages = _checked(body)
    digest = hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest()
    line = _limited(_line(model, body, messages, digest), body)
    slow, status = _SLOW.match(model), _STATUS.match(model)
    options = body.get("stream_options")
    retry_after = 1 if status and status[1] in ("429", "503") and not status[2] else None
    return Script(
        behaviour="answer" if slow else "http" if status else model,
        model="another-model" if model == "other-model" else model,
        id=f"chatcmpl-{digest[:24]}",
        line=line,
        choices=_whole_number(body, "n", 1, 1, MAX_CHOICES),
        prompt_tokens=_prompt_tokens(body, messages),
        stream=bool(body.get("stream")),
        include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        logprobs=bool(body.get("logprobs")),
        top_logprobs=_whole_number(body, "top_logprobs", 0, 0, MAX_TOP_LOGPROBS),
        delay_ms=int(slow[1]) if slow else 0,
        status=int(status[1]) if status else 200,
        retry_after_s=retry_after,
    )


def _checked(body: Any) -> tuple[str, list[dict[str, Any]]]:
    if not isinstance(body, dict):
        raise ScriptError(400, "the body is not a JSON object")
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or not model:
        raise ScriptError(400, "you must provide a model parameter", param="model")
    if not is_model(model):
        raise ScriptError(
            404, f"the model {model[:64]!r} does not exist", code="model_not_found", param="model"
        )
    if not isinstance(messages, list) or not messages:
        raise ScriptError(400, "messages must be a non-empty array", param="messages")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise ScriptError(400, "a message without a known role", param=f"messages[{number}].role")
    if not isinstance(body.get("stream", False), bool | None):
        raise ScriptError(400, "stream must be a boolean", param="stream")
    return model, messages


def _whole_number(body: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ScriptError(400, f"{key} must be an integer from {low} to {high}", param=key)
    return value


def text_of(content: Any) -> str:
    """Return the text of a message's content."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(
        str(part.get("text", "")) for part in content if isinstance(part, dict) and part.get("type") == "text"
    )


def _prompt_tokens(body: Mapping[str, Any], messages: list[dict[str, Any]]) -> int:
    total = 0
    for message in messages:
        content = message.get("content")
        total += 4 + count(text_of(content))
        if isinstance(content, list):
            total += 85 * sum(
                1 for part in content if isinstance(part, dict) and part.get("type") == "image_url"
            )
        if message.get("tool_calls"):
            total += count(msgspec.json.encode(message["tool_calls"]).decode())
    if body.get("tools"):
        total += count(msgspec.json.encode(body["tools"]).decode())
    return total


def _line(model: str, body: dict[str, Any], messages: list[dict[str, Any]], digest: str) -> Line:
    last = messages[-1]
    said = text_of(last.get("content"))
    if model in ("obey", "tool"):
        name = _chosen_tool(body, always=model == "tool", last_role=str(last["role"]))
        if name is not None:
            arguments = _instance_text(_parameters(body, name), said)
            return Line(calls=(Call(f"call_{digest[24:48]}", name, arguments),), finish="tool_calls")
    if model == "obey":
        return Line(text=_obeyed(body, last, said))
    think = _THINK.match(model)
    if think is not None:
        return _thinking(body, last, said, int(think[2]), hidden=think[1] is not None)
    if model == "echo":
        return Line(text=said or "(nothing)")
    if model == "tool" and last["role"] == "tool":
        return Line(text=f"The tool said: {said}")
    reasoning = "First one thing, then the other." if model.startswith("think") else ""
    return Line(text="This is a scripted answer, the same for every question.", reasoning=reasoning)


def _thinking(
    body: Mapping[str, Any], last: Mapping[str, Any], said: str, each: int, *, hidden: bool
) -> Line:
    """Think as deep as asked, and be right only if that was deep enough (``needs <depth>`` in the message).

    A message that does not say needs what its digest says: half of all need none, and each further depth half
    of the rest. Thinking that reaches the output limit leaves no answer.
    """
    effort = body.get("reasoning_effort") or "none"
    steps = STEPS.get(effort) if isinstance(effort, str) else None
    if steps is None:
        raise ScriptError(400, f"reasoning_effort is one of {', '.join(STEPS)}", param="reasoning_effort")
    told = _NEEDS.search(said)
    drawn = hashlib.sha256(said.encode()).digest()[0]
    needed = told[1] if told else next(depth for most, depth in _NEEDED if drawn < most)
    thought = steps * each
    limit = _limit(body)
    whole = thought < limit
    thought = min(thought, limit)
    text = (_obeyed(body, last, said) if steps >= STEPS[needed] else UNSOLVED) if whole else ""
    reasoning = "" if hidden else " ".join(["so"] * thought)
    return Line(
        text=text,
        reasoning=reasoning,
        hidden=thought if hidden else 0,
        finish="stop" if whole else "length",
    )


def _limit(body: Mapping[str, Any]) -> int:
    """Return the output limit in force."""
    return min(
        _whole_number(body, "max_completion_tokens", DEFAULT_MAX_TOKENS, 1, 1 << 30),
        _whole_number(body, "max_tokens", DEFAULT_MAX_TOKENS, 1, 1 << 30),
    )


def _obeyed(body: Mapping[str, Any], last: Mapping[str, Any], said: str) -> str:
    wanted = body.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_object":
        return "{}"
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        named = wanted.get("json_schema")
        if not isinstance(named, dict) or "schema" not in named:
            raise ScriptError(400, "json_schema without a schema", param="response_format")
        return _instance_text(named["schema"], said)
    if last["role"] == "tool":
        return f"The tool said: {said}"
    wish = _WISH.search(said)
    if wish is not None:
        return wish[1].strip()
    return said or "Understood."


def _instance_text(schema: Any, said: str) -> str:
    hint = (said.split() or ["text"])[-1].strip(".,;:!?\"'")[:32] or "text"
    try:
        return msgspec.json.encode(instance(schema, hint=hint)).decode()
    except SchemaUnmet as error:
        raise ScriptError(
            400, f"no instance of the schema was found: {error}", code="invalid_schema"
        ) from None


def _tools(body: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    given = body.get("tools") or []
    found: dict[str, dict[str, Any]] = {}
    if not isinstance(given, list):
        raise ScriptError(400, "tools must be an array", param="tools")
    for tool in given:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ScriptError(400, "a tool without a function name", param="tools")
        found[function["name"]] = function
    return found


def _parameters(body: Mapping[str, Any], name: str) -> Any:
    return _tools(body)[name].get("parameters") or {"type": "object", "properties": {}}


def _chosen_tool(body: Mapping[str, Any], *, always: bool, last_role: str) -> str | None:
    """Return the tool to call.

    A forced or required call is always made; with ``auto`` a tool is called when the user spoke last, so
    that the turn after a tool's result ends the conversation with text.
    """
    tools, choice = _tools(body), body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        allowed = choice.get("allowed_tools")
        if isinstance(allowed, dict):
            names = [tool.get("function", {}).get("name") for tool in allowed.get("tools", [])]
            tools = {name: tool for name, tool in tools.items() if name in names}
            choice = allowed.get("mode", "auto")
        else:
            forced = (
                choice.get("function", {}).get("name") if isinstance(choice.get("function"), dict) else None
            )
            if forced not in tools:
                raise ScriptError(400, "tool_choice names a tool that is not given", param="tool_choice")
            return str(forced)
    if choice == "none":
        return None
    if not tools:
        if choice == "required":
            raise ScriptError(400, "tool_choice without tools", param="tool_choice")
        return None
    if choice == "required" or last_role in ("user", "function") or (always and last_role != "tool"):
        return next(iter(tools))
    return None


def _limited(line: Line, body: Mapping[str, Any]) -> Line:
    """Honour stop sequences and the output limit."""
    limit = _limit(body)
    text = line.text
    stops = body.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops if isinstance(stops, list) else []:
        if isinstance(stop, str) and stop and stop in text:
            text = text[: text.index(stop)]
    tokens = tokens_of(text)
    finish = line.finish
    calls = line.calls
    if len(tokens) > limit:
        tokens, finish = tokens[:limit], "length"
        text = "".join(tokens)
    elif calls and count(calls[0].arguments) > limit:
        cut = "".join(tokens_of(calls[0].arguments)[:limit])
        calls, finish = (Call(calls[0].id, calls[0].name, cut),), "length"
    return msgspec.structs.replace(line, text=text, tokens=tokens, calls=calls, finish=finish)
