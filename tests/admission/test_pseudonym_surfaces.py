"""What a client of each dialect gets: its request covered, and an answer in which no token is left."""

from __future__ import annotations

import json
import random
import re

import pytest
from pseudonym_world import pieces, pseudonymiser

from allod.admission.pseudonym import Restorer, refuses
from allod.domain.chat import Chunk, Finished, ToolCallDelta, UsageReport, Whole
from allod.domain.usage import Usage
from allod.gateway.surfaces.chat import ChatSurface
from allod.gateway.surfaces.messages import MessagesSurface
from allod.gateway.surfaces.responses import ResponsesSurface

TOOL = {"type": "object", "properties": {"to": {"type": "string", "description": "such as jean@x.de"}}}
SAID = "Write to jean@x.de, O'Brien said."
RESULT = '{"sent": ["jean@x.de"], "by": "Ann \\"Q\\" Lee"}'
REQUESTS = {
    "chat": {
        "model": "auto",
        "messages": [
            {"role": "system", "content": "You serve Anna Müller."},
            {"role": "user", "content": SAID},
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "mail", "arguments": '{"to": "jean@x.de"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": RESULT},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "mail", "description": "for O'Brien", "parameters": TOOL},
            }
        ],
    },
    "messages": {
        "model": "auto",
        "max_tokens": 100,
        "system": "You serve Anna Müller.",
        "metadata": {"user_id": "jean@x.de"},
        "messages": [
            {"role": "user", "content": SAID},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "toolu_1", "name": "mail", "input": {"to": "jean@x.de"}}
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": RESULT}],
            },
        ],
        "tools": [{"name": "mail", "description": "for O'Brien", "input_schema": TOOL}],
    },
    "responses": {
        "model": "auto",
        "instructions": "You serve Anna Müller.",
        "input": [
            {"role": "user", "content": SAID},
            {"type": "function_call", "call_id": "c1", "name": "mail", "arguments": '{"to": "jean@x.de"}'},
            {"type": "function_call_output", "call_id": "c1", "output": RESULT},
        ],
        "tools": [{"type": "function", "name": "mail", "description": "for O'Brien", "parameters": TOOL}],
    },
}
SURFACES = {"chat": ChatSurface(), "messages": MessagesSurface(), "responses": ResponsesSurface()}
REAL = ["jean@x.de", "O'Brien", "Anna Müller", 'Ann "Q" Lee']


def covered(name: str, *, stream: bool) -> tuple:
    parsed = SURFACES[name].parse(json.dumps({**REQUESTS[name], "stream": stream}).encode())
    assert refuses(parsed.body, name) is None
    done = pseudonymiser().cover(parsed.body)
    sent = json.dumps(done.body, ensure_ascii=False)
    for value in ("jean@x.de", "O'Brien", "Anna Müller", "Lee"):
        assert value not in sent
    assert done.body["tools"][0]["function"]["name"] == "mail"
    tokens = {value: code for code, value in done.table.values.items()}
    return parsed, Restorer(done.table), [f"{tokens[value]}_NAME" for value in REAL]


@pytest.mark.parametrize("name", sorted(SURFACES))
@pytest.mark.parametrize("seed", range(5))
def test_a_streamed_answer(name: str, seed: int) -> None:
    draw = random.Random(seed)
    parsed, restorer, (mail, brien, anna, lee) = covered(name, stream=True)
    text, arguments = f"To {anna}: {brien} wrote.", json.dumps({"to": mail, "who": lee})
    events = [Chunk(text=piece, raw=b"data: {}\n\n") for piece in pieces(text, draw)]
    events += [Chunk(tool_calls=(ToolCallDelta(index=0, id="call_7", name="mail"),))]
    events += [
        Chunk(tool_calls=(ToolCallDelta(index=0, arguments=piece),)) for piece in pieces(arguments, draw)
    ]
    events += [Chunk(finish="tool_calls"), UsageReport(usage=Usage(input_tokens=1)), Finished(model="m")]
    renderer = SURFACES[name].stream(parsed, receipt="r_ab_cd", created_s=1)
    out = (
        b"".join(renderer.feed(event) for one in events for event in restorer.events([one])) + renderer.end()
    )
    told = out.decode()
    assert "QZ" not in told
    seen = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: {")]
    words = "".join(
        re.findall(r'"(?:content|text|delta)": ?"((?:[^"\\]|\\.)*)"', json.dumps(seen, ensure_ascii=False))
    )
    assert "Anna M" in words
    partial = re.findall(
        r'"(?:arguments|partial_json|delta)": ?("(?:[^"\\]|\\.)*")', json.dumps(seen, ensure_ascii=False)
    )
    joined = "".join(json.loads(piece) for piece in partial)
    assert '{"to": "jean@x.de", "who": "Ann \\"Q\\" Lee"}' in joined


@pytest.mark.parametrize("name", sorted(SURFACES))
def test_a_whole_answer(name: str) -> None:
    parsed, restorer, (mail, brien, anna, lee) = covered(name, stream=False)
    call = {
        "id": "call_7",
        "type": "function",
        "function": {"name": "mail", "arguments": json.dumps({"to": mail, "who": lee})},
    }
    message = {"role": "assistant", "content": f"To {anna.lower()}: {brien} wrote.", "tool_calls": [call]}
    raw = json.dumps(
        {
            "id": "x",
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        }
    )
    (answer,) = restorer.events([Whole(raw=raw.encode(), finish="tool_calls")])
    told = SURFACES[name].whole(parsed, answer, None, receipt="r_ab_cd", created_s=1).decode()
    assert "QZ" not in told
    assert "qz" not in told
    assert "To Anna Müller: O'Brien wrote." in told
    assert "jean@x.de" in told
    json.loads(told)
