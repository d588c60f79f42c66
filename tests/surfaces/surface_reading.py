"""What the surface tests share: reading streams as clients do, and events as engines make them."""

import json
from functools import cache
from itertools import pairwise
from typing import Any, get_args

import msgspec
from hypothesis import strategies as st
from pydantic import TypeAdapter

from allod.domain.chat import Chunk, Finished, ToolCallDelta, UsageReport
from allod.domain.usage import Usage

RECEIPT = "r_ab12cd34_01JDQ8Y5N0ABCDEFGHJKMNPQRS"
CREATED_S = 1_764_000_000
USAGE = Usage(
    input_tokens=70,
    cache_read_tokens=20,
    cache_write_tokens=6,
    cache_write_1h_tokens=4,
    output_tokens=30,
    reasoning_tokens=12,
)


def encode(body: Any) -> bytes:
    return msgspec.json.encode(body)


def sse(raw: bytes) -> list[tuple[str | None, str]]:
    """Split a stream into (event name, data); every event must end with an empty line."""
    assert raw == b"" or raw.endswith(b"\n\n")
    events = []
    for frame in raw.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in frame.split("\n"))
        assert "data" in fields
        events.append((fields.get("event"), fields["data"]))
    return events


def objects(raw: bytes) -> list[dict[str, Any]]:
    """Return the JSON objects of a stream, end marks left out; names must equal types."""
    found = []
    for name, data in sse(raw):
        if data == "[DONE]":
            continue
        value = json.loads(data)
        assert name is None or name == value["type"]
        found.append(value)
    return found


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def strict(kind: Any, value: Any) -> Any:
    """Validate JSON as the SDK's own types have it, without its usual leniency."""
    return _adapter(kind).validate_json(value if isinstance(value, bytes) else encode(value), strict=True)


def kinds(union: Any) -> dict[str, Any]:
    """Map the ``type`` of each member of an SDK's event union to its class."""
    members = get_args(union)
    if members and not hasattr(members[0], "model_fields"):
        members = get_args(members[0])
    return {get_args(member.model_fields["type"].annotation)[0]: member for member in members}


def run(stream: Any, events: Any) -> bytes:
    """Feed all events and end."""
    return b"".join(stream.feed(event) for event in events) + stream.end()


texts = st.text(max_size=12)
_names = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)


@st.composite
def calls(draw: Any) -> dict[str, Any]:
    """Return one tool call: id, name, arguments as JSON text of an object."""
    arguments = draw(st.dictionaries(texts, st.one_of(texts, st.integers(-5, 5), st.none()), max_size=3))
    return {
        "id": draw(st.one_of(st.none(), st.from_regex(r"call_[a-z0-9]{1,6}", fullmatch=True))),
        "name": draw(_names),
        "arguments": json.dumps(arguments, ensure_ascii=draw(st.booleans())),
    }


def _pieces(draw: Any, text: str) -> list[str]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    bounds = [0, *cuts, len(text)]
    return [text[a:b] for a, b in pairwise(bounds)]


@st.composite
def answers(draw: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the events of an answer in an arbitrary interleaving, and what they say in total."""
    made = draw(st.lists(calls(), max_size=3, unique_by=lambda call: call["id"] or id(call)))
    said = {
        "text": draw(st.text(max_size=40)),
        "reasoning": draw(st.text(max_size=30)),
        "refusal": draw(st.sampled_from(["", "", "No."])),
        "calls": made,
        "finish": draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"])),
    }
    lanes: list[list[Chunk]] = [
        [Chunk(**{kind: piece}) for piece in _pieces(draw, said[kind])]
        for kind in ("text", "reasoning", "refusal")
    ]
    for index, call in enumerate(made):
        first = ToolCallDelta(index=index, id=call["id"], name=call["name"])
        rest = [ToolCallDelta(index=index, arguments=piece) for piece in _pieces(draw, call["arguments"])]
        lanes.append([Chunk(tool_calls=(delta,)) for delta in (first, *rest)])
    events: list[Any] = []
    words, begun = lanes[:3], 0
    tools = lanes[3:]
    while any(lanes):  # calls begin in the order of their indexes; everything else is free
        ready = [lane for lane in [*words, *tools[: begun + 1]] if lane]
        lane = draw(st.sampled_from(ready))
        begun = max([begun, *(index + 1 for index, each in enumerate(tools) if each is lane)])
        events.append(lane.pop(0))
    events += [Chunk(finish=said["finish"]), UsageReport(usage=USAGE), Finished(model="served-model")]
    return events, said
