"""What the SIMULATORS of the OpenAI family share; each dialect's own file tells its source."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from simulators.mind import CONTEXT_TOKENS, Thought, think, words_of
from simulators.server import Ask, Reply, Simulator, json_reply, sse, stream_reply

CORE = {
    "model", "messages", "stream", "stream_options", "temperature", "top_p", "n", "stop", "seed", "tools",
    "tool_choice", "parallel_tool_calls", "response_format", "presence_penalty", "frequency_penalty",
    "logprobs", "top_logprobs", "logit_bias", "max_tokens",
}  # fmt: skip


class Refusal(Exception):
    """An error answer on its way."""

    def __init__(self, reply: Reply) -> None:
        super().__init__("refused")
        self.reply = reply


class OpenAISimulator(Simulator):
    """A server of the family. Class attributes are what the dialects set.

    ``reasoning_field`` names the field of hidden text, ``limit`` that of the output limit, ``strict`` refuses
    unknown parameters, ``usage_asked`` sends usage in a stream only when asked.
    """

    chat_path: ClassVar[str] = "/v1/chat/completions"
    reasoning_field: ClassVar[str] = "reasoning_content"
    limit: ClassVar[str] = "max_tokens"
    extra: ClassVar[frozenset[str]] = frozenset()
    lacks: ClassVar[frozenset[str]] = frozenset()
    strict: ClassVar[bool] = True
    usage_asked: ClassVar[bool] = True
    metrics_path: ClassVar[str | None] = None
    metrics: ClassVar[str] = ""
    key: ClassVar[str] = "sk-simulated"

    # -- what dialects override ---------------------------------------------------------------------------

    def thinks(self, body: dict[str, Any]) -> bool:
        """Whether the request asks the model to think; also holds the request against the dialect's rules."""
        raise NotImplementedError

    def authorised(self, ask: Ask) -> bool:
        """Whether the credential is right."""
        return ask.headers.get("authorization") == f"Bearer {self.key}"

    def error(self, status: int, code: str, told: str) -> Reply:
        """An error answer in the dialect's form."""
        return json_reply({"error": {"message": told, "type": code, "param": None, "code": code}}, status)

    def too_long(self, tokens: int) -> Reply:
        """The error of a request that the context does not hold."""
        told = f"This model's maximum context length is {CONTEXT_TOKENS} tokens; you requested {tokens}."
        return self.error(400, "context_length_exceeded", told)

    def usage(self, thought: Thought) -> dict[str, Any]:
        """A usage block: four of the prompt's tokens came from the cache."""
        prompt, out = thought.input_tokens + 4, thought.output_tokens + thought.reasoning_tokens
        return {
            "prompt_tokens": prompt, "completion_tokens": out, "total_tokens": prompt + out,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": thought.reasoning_tokens},
        }  # fmt: skip

    def message(self, thought: Thought) -> dict[str, Any]:
        """The message of a whole answer."""
        out: dict[str, Any] = {"role": "assistant", "content": thought.text if not thought.calls else None}
        if thought.reasoning:
            out[self.reasoning_field] = thought.reasoning
        if thought.calls:
            out["tool_calls"] = calls(thought)
        return out

    def text_deltas(self, thought: Thought) -> list[dict[str, Any]]:
        """The deltas of hidden and visible text."""
        hidden = [{self.reasoning_field: word} for word in words_of(thought.reasoning)]
        return [*hidden, *({"content": word} for word in words_of(thought.text))]

    def before(self) -> list[bytes]:
        """What a stream sends before its first piece."""
        return []

    def other(self, ask: Ask) -> Reply | None:
        """Answer what is beside chat, or None."""
        if ask.path == self.metrics_path and ask.method == "GET":
            return Reply(200, {"content-type": "text/plain; version=0.0.4"}, self.metrics.encode())
        return None

    # -- the common part ----------------------------------------------------------------------------------

    def answer(self, ask: Ask) -> Reply:
        """Answer chat, and what the dialect has beside it."""
        found = self.other(ask)
        if found is not None:
            return found
        if not self.authorised(ask):
            return self.error(401, "invalid_api_key", "Incorrect API key provided")
        if ask.path != self.chat_path:
            return self.error(404, "not_found", "Not found")
        body = ask.json
        try:
            return self.chat(body)
        except Refusal as refusal:
            return refusal.reply

    def chat(self, body: dict[str, Any]) -> Reply:
        """Answer a chat request."""
        for key in body:
            if key in self.lacks or (self.strict and key not in CORE | self.extra | {self.limit}):
                raise Refusal(self.error(400, "unknown_parameter", f"Unknown parameter: {key}"))
        thought = self.mind(body)
        if thought.input_tokens > CONTEXT_TOKENS:
            return self.too_long(thought.input_tokens)
        if body.get("stream"):
            asked = bool((body.get("stream_options") or {}).get("include_usage")) or not self.usage_asked
            return stream_reply(self.stream(body["model"], thought, usage=asked))
        choice = {
            "index": 0,
            "message": self.message(thought),
            "finish_reason": finish(thought),
            "logprobs": None,
        }
        return json_reply(
            {**head(body["model"], "chat.completion"), "choices": [choice], "usage": self.usage(thought)}
        )

    def mind(self, body: dict[str, Any]) -> Thought:
        """Let the simulated model think."""
        choice = body.get("tool_choice")
        only = choice["function"]["name"] if isinstance(choice, dict) else None
        fmt = body.get("response_format") or {}
        schema = fmt.get("json_schema", {}).get("schema") if fmt.get("type") == "json_schema" else None
        content = body["messages"][-1]["content"]
        text = content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
        tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in body.get("tools") or []}
        return think(
            text, reasons=self.thinks(body), tools=tools if choice != "none" else None,
            forced=choice in ("required", "any"), only=only, schema=schema, limit=body.get(self.limit),
        )  # fmt: skip

    def stream(self, model: str, thought: Thought, *, usage: bool) -> list[bytes]:
        """The events of a stream; usage in a last chunk with empty choices."""
        out = self.before()
        out.append(piece(model, {"role": "assistant", "content": ""}))
        out += [piece(model, delta) for delta in self.text_deltas(thought)]
        for index, call in enumerate(calls(thought)):
            text = call["function"]["arguments"]
            start = {**call, "index": index, "function": {"name": call["function"]["name"], "arguments": ""}}
            out.append(piece(model, {"tool_calls": [start]}))
            out += [
                piece(model, {"tool_calls": [{"index": index, "function": {"arguments": part}}]})
                for part in (text[:2], text[2:])
            ]
        out.append(piece(model, {}, finish(thought)))
        if usage:
            out.append(
                sse({**head(model, "chat.completion.chunk"), "choices": [], "usage": self.usage(thought)})
            )
        return [*out, sse("[DONE]")]


def head(model: str, kind: str) -> dict[str, Any]:
    """The fields every object starts with."""
    return {"id": "chatcmpl-sim", "object": kind, "created": 1_790_000_000, "model": model}


def piece(model: str, delta: dict[str, Any], reason: str | None = None) -> bytes:
    """One chunk of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
    return sse({**head(model, "chat.completion.chunk"), "choices": [choice]})


def finish(thought: Thought) -> str:
    """The finish reason."""
    return "tool_calls" if thought.calls else "length" if thought.cut else "stop"


def calls(thought: Thought) -> list[dict[str, Any]]:
    """The tool calls of a message."""
    return [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
        for n, (name, given) in enumerate(thought.calls)
    ]


def templated(body: dict[str, Any]) -> bool:
    """Read thinking from ``chat_template_kwargs``, whose default in the template is on."""
    kwargs = body.get("chat_template_kwargs") or {}
    return bool(kwargs.get("enable_thinking", True))
