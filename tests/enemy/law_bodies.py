"""Requests of every surface that hold something in every place, and probes put into each of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from allod.gateway.surfaces.chat import ChatSurface
from allod.gateway.surfaces.messages import CountTokensSurface, MessagesSurface
from allod.gateway.surfaces.responses import ResponsesSurface

SCHEMA = {
    "type": "object",
    "title": "T",
    "description": "d",
    "properties": {
        "a": {"type": "string", "enum": ["x", "y"], "default": "z", "examples": ["e"], "const": "k"}
    },
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"q": {"type": "number", "minimum": 1}},
    "x-more": {"deep": ["v", 1]},
}
CHAT: dict[str, Any] = {
    "model": "frankfurt-region",
    "messages": [
        {"role": "system", "content": "s", "name": "n"},
        {
            "role": "developer",
            "content": [{"type": "text", "text": "t", "cache_control": {"type": "e", "a": "b"}}],
        },
        {"role": "user", "content": [{"type": "text", "text": "u"}], "name": "x"},
        {
            "role": "assistant",
            "content": "c",
            "refusal": "r",
            "name": "m",
            "reasoning_content": "rc",
            "reasoning_details": [{"type": "x", "text": "y", "data": "d", "signature": "s", "id": "i"}],
            "thinking_blocks": [{"type": "thinking", "thinking": "th", "signature": "sg"}],
            "annotations": [{"type": "u", "url": "v"}],
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "index": 0,
                    "function": {"name": "fn", "arguments": '{"a":"b"}'},
                    "extra_content": {"google": {"thought_signature": "abc"}},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "tc", "name": "fn"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {"name": "fn", "description": "d", "parameters": SCHEMA, "strict": False},
            "cache_control": {"type": "e"},
        }
    ],
    "tool_choice": {"type": "function", "function": {"name": "fn"}},
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "nm", "description": "ds", "schema": SCHEMA, "strict": True},
    },
    "logit_bias": {"12": 1},
    "prediction": {"type": "content", "content": "p"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {"a": "b"},
    "safety_identifier": "si",
    "seed": 7,
    "stop": ["st"],
    "user": "us",
    "reasoning_effort": "low",
    "service_tier": "auto",
    "verbosity": "low",
    "modalities": ["text"],
    "bad_words": ["x"],
    "chat_template_kwargs": {"a": "b"},
    "dry_sequence_breakers": ["x"],
    "grammar": "g",
    "guided_choice": ["x"],
    "guided_json": {"a": "b"},
    "json_schema": {"a": "b"},
    "mm_processor_kwargs": {"a": 1},
    "prompt_mode": "pm",
    "random_seed": 3,
    "reasoning": {"effort": "low"},
    "reasoning_format": "rf",
    "regex": "r",
    "structured_outputs": {"a": "b"},
    "thinking": {"type": "x"},
    "repeat_last_n": 1,
    "thinking_budget": 2,
    "stream_options": {"include_usage": True},
    "stream": True,
    "max_tokens": 5,
}
MESSAGES: dict[str, Any] = {
    "model": "frankfurt-region",
    "max_tokens": 2000,
    "system": [
        {
            "type": "text",
            "text": "s",
            "cache_control": {"type": "ephemeral", "scope": "sc"},
            "citations": [{"a": "b"}],
        }
    ],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "u", "citations": [{"cited_text": "q"}]},
                {
                    "type": "document",
                    "source": {"type": "text", "data": "d", "media_type": "text/plain"},
                    "title": "ti",
                    "context": "cx",
                    "citations": {"enabled": True, "more": "m"},
                },
                {
                    "type": "search_result",
                    "source": "src",
                    "title": "tt",
                    "citations": {"x": "y"},
                    "content": [{"type": "text", "text": "cc"}],
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "th", "signature": "sig"},
                {"type": "redacted_thinking", "data": "rd"},
                {"type": "text", "text": "a"},
                {
                    "type": "tool_use",
                    "id": "tu1",
                    "name": "fn",
                    "input": {"a": "b", "n": 3},
                    "caller": {"k": "direct"},
                },
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "tu1", "content": [{"type": "text", "text": "r"}]},
                {"type": "text", "text": "z"},
            ],
        },
        {"role": "system", "content": "ss"},
        {"role": "user", "content": "fin"},
    ],
    "tools": [
        {
            "name": "fn",
            "type": "custom",
            "input_schema": SCHEMA,
            "description": "d",
            "allowed_callers": ["x"],
            "input_examples": [
                {"a": "b", "n": 5, "im": {"type": "base64", "media_type": "image/png", "data": "zz"}}
            ],
        }
    ],
    "tool_choice": {"type": "tool", "name": "fn"},
    "metadata": {"user_id": "ui"},
    "stop_sequences": ["st"],
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "context_management": {"edits": [{"type": "x"}]},
}
COUNTED = ("model", "messages", "system", "tools", "tool_choice", "output_config")
RESPONSES: dict[str, Any] = {
    "model": "frankfurt-region",
    "instructions": "i",
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "u"}]},
        {
            "type": "message",
            "role": "assistant",
            "id": "m1",
            "status": "completed",
            "content": [{"type": "output_text", "text": "o", "annotations": []}],
        },
        {"type": "function_call", "call_id": "c1", "name": "fn", "arguments": '{"a":"b"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "out"},
        {"role": "user", "content": "x"},
    ],
    "tools": [{"type": "function", "name": "fn", "description": "d", "parameters": SCHEMA, "strict": False}],
    "tool_choice": {"type": "function", "name": "fn"},
    "text": {"format": {"type": "json_schema", "name": "nm", "description": "ds", "schema": SCHEMA}},
    "user": "us",
    "safety_identifier": "si",
    "prompt_cache_key": "pk",
    "max_output_tokens": 5,
}
SURFACES: dict[str, tuple[Any, dict[str, Any]]] = {
    "chat": (ChatSurface(), CHAT),
    "messages": (MessagesSurface(), MESSAGES),
    "count": (CountTokensSurface(), {key: MESSAGES[key] for key in COUNTED}),
    "responses": (ResponsesSurface(), RESPONSES),
}
UNCOVERABLE = frozenset(
    "stop stop_sequences logit_bias bad_words dry_sequence_breakers grammar guided_choice guided_json "
    "json_schema regex structured_outputs".split()
)
WEAK = "additionalProperties"
"""A bare number behind this word is taken for a measure: a limit of the detectors, not a place left out."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every scalar and, as (name,), of every member's name."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, (name,))
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from places(inner, (*path, n))
    else:
        yield path


def put(body: dict[str, Any], path: tuple[Any, ...], probe: Any) -> dict[str, Any]:
    out = copy.deepcopy(body)
    at: Any = out
    for step in path[:-1]:
        at = at[step]
    last = path[-1]
    if isinstance(last, tuple):
        items = list(at.items())
        at.clear()
        at.update({probe if name == last[0] else name: inner for name, inner in items})
    else:
        at[last] = probe
    return out


def probed(body: dict[str, Any], probes: tuple[Any, ...]) -> Iterator[tuple[Any, Any, bytes]]:
    for path in places(body):
        if path == ("model",):
            continue  # refused further on: there is no such model
        for probe in probes:
            if isinstance(path[-1], tuple) and not isinstance(probe, str):
                continue
            yield path, probe, json.dumps(put(body, path, probe)).encode()
