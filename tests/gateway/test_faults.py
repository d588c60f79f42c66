"""Operators that break in every way: no truncated answer passes for whole, nothing hangs, all is billed.

Each fault is played by a scripted server over a socket. A request names a task whose first deployment has
the fault and whose second is sound: before the first byte the second answers, after it the client is told.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from world import Answer, Gateway, Region, Stream, World, chat, config, deployment, messages, responses

from allod.engines.scripted import acts
from allod.engines.scripted.script import ScriptError
from allod.engines.scripted.server import route

FIRST_MS, TOTAL_MS, SLACK_S = 400, 1200, 2.0
TEXT = "This is a scripted answer, the same for every question."


class Fault(NamedTuple):
    """What a fault must lead to: ``before`` or ``mid`` the stream (or ``none``), and its ledger basis.

    ``stream`` and ``whole`` are the basis of the failed attempt in either form, and whether it is free.
    """

    when: str
    stream: str
    whole: str
    whole_fails: bool = True


FREE, LOST, COUNTED = "free", "reserved", "counted"
FAULTS = {
    "http-429": Fault("before", FREE, FREE),
    "http-429-bare": Fault("before", FREE, FREE),
    "http-500": Fault("before", FREE, FREE),
    "http-502": Fault("before", LOST, LOST),
    "http-503": Fault("before", FREE, FREE),
    "http-401": Fault("before", FREE, FREE),
    "too-long": Fault("before", FREE, FREE),
    "redirect": Fault("before", FREE, FREE),
    "stall-before": Fault("before", LOST, LOST),
    "mute": Fault("before", LOST, LOST),
    "hangup": Fault("before", LOST, LOST),
    "not-http": Fault("before", LOST, LOST),
    "long-head": Fault("before", LOST, LOST),
    "garbage": Fault("before", LOST, LOST),
    "error-200": Fault("before", LOST, LOST),
    "gzip": Fault("before", LOST, LOST),
    "long-line": Fault("before", LOST, LOST),
    "stall-mid": Fault("mid", COUNTED, LOST),
    "truncate": Fault("mid", COUNTED, LOST),
    "reset": Fault("either", COUNTED, LOST),
    "malformed-event": Fault("mid", COUNTED, LOST),
    "error-mid": Fault("mid", COUNTED, LOST),
    "no-done": Fault("mid", COUNTED, LOST, whole_fails=False),
    "endless": Fault("mid", COUNTED, LOST),
    "eof-cut": Fault("mid", COUNTED, LOST),
}
SOUND = ("usage-missing", "usage-wrong", "other-model", "drip", "crlf", "comments", "eof", "unstreamed")
LIMITS = {"retries": 0, "first_token_ms": FIRST_MS, "timeout_ms": TOTAL_MS, "max_output_tokens": 64}


def embeddings_fail_too(method: str, path: str, body: bytes) -> Any:
    """Play the errors of the scripted server for embeddings as well."""
    if path.endswith("/embeddings") and (named := re.search(rb'"model":"http-([45][0-9]{2})', body)):
        return acts.refuse(ScriptError(int(named[1]), "scripted error"))
    return route(method, path, body)


@pytest.fixture(scope="module")
def region() -> Iterator[Region]:
    with Region(embeddings_fail_too) as one:
        yield one


@pytest.fixture(scope="module")
def gateway(region: Region, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    names = [*FAULTS, *SOUND, "overstreamed"]
    deployments = [deployment(f"d-{n}", n, base_url=region.url, **LIMITS) for n in names]
    deployments += [
        deployment("good", "answer", base_url=region.url),
        deployment("refusing", "answer", base_url="http://127.0.0.1:1/v1", **LIMITS),
        deployment("retried", "http-500", base_url=region.url, **{**LIMITS, "retries": 2}),
        deployment("waiting", "http-429", base_url=region.url, **{**LIMITS, "retries": 1}),
        deployment("failing", "http-500", base_url=region.url, **LIMITS),
    ]
    firsts = [f"d-{n}" for n in names] + ["refusing", "retried", "waiting", "failing"]
    tasks = [{"name": f"t-{n}", "deployments": [n, "good"]} for n in firsts]
    world = World(tmp_path_factory.mktemp("faults") / "home", config(deployments, tasks=tasks))
    with world.up("press") as up:
        yield up


def charged(gateway: Gateway, receipt: str) -> list[tuple[str, str, str]]:
    """Return (deployment, status, basis) of each ledger row; a basis of nothing due is ``free``."""
    gateway.receipt(receipt)
    rows = gateway.world.rows(receipt)
    assert [row.attempt for row in rows] == list(range(1, len(rows) + 1))
    out = []
    for row in rows:
        free = row.basis == "counted" and row.cost_usd == 0 and row.usage.total_input_tokens == 0
        assert free or row.cost_usd > 0
        out.append((row.deployment, row.status, FREE if free else row.basis))
    return out


def within_limits(began: float) -> None:
    assert time.monotonic() - began < TOTAL_MS / 1000 + SLACK_S


@pytest.mark.parametrize("name", FAULTS)
def test_a_whole_answer_falls_back_before_the_first_byte(gateway: Gateway, name: str) -> None:
    began = time.monotonic()
    answer = gateway.chat(chat(f"t-d-{name}"))
    within_limits(began)
    assert answer.status == 200
    assert answer.json["choices"][0]["message"]["content"] == TEXT
    if FAULTS[name].whole_fails:
        assert answer.headers["allod-deployment"] == "good"
        assert charged(gateway, answer.receipt) == [
            (f"d-{name}", "failed", FAULTS[name].whole),
            ("good", "answered", "reported"),
        ]
    leaf = gateway.leaf(answer.receipt)
    assert leaf["status"] == "answered"
    assert leaf["attempts"] == len(gateway.world.rows(answer.receipt))
    assert Decimal(leaf["cost_usd"]) == sum(r.cost_usd for r in gateway.world.rows(answer.receipt))
    assert leaf["cost_usd"] == answer.headers["allod-cost"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_stream_falls_back_before_and_never_after_the_first_byte(gateway: Gateway, name: str) -> None:
    began = time.monotonic()
    stream = gateway.start("/v1/chat/completions", chat(f"t-d-{name}", stream=True))
    body = stream.read()
    within_limits(began)
    fault = FAULTS[name]
    fell_back = stream.headers["allod-deployment"] == "good"
    assert fault.when == "either" or fell_back == (fault.when == "before")
    if fell_back:
        assert body.endswith(b"data: [DONE]\n\n")
        assert told(body) == TEXT
        assert charged(gateway, stream.receipt) == [
            (f"d-{name}", "failed", fault.stream if fault.when == "before" else LOST),
            ("good", "answered", "reported"),
        ]
        assert gateway.leaf(stream.receipt)["status"] == "answered"
    else:
        broken_chat(stream)
        assert charged(gateway, stream.receipt) == [(f"d-{name}", "failed", fault.stream)]
        leaf = gateway.leaf(stream.receipt)
        assert leaf["status"] == "failed"
        assert leaf["reason"] in ("failed", "timeout")


def told(body: bytes) -> str:
    """Return the text of a chat stream."""
    text = ""
    for line in body.decode().split("\n"):
        if line.startswith("data: {"):
            event = json.loads(line.removeprefix("data: "))
            text += "".join(c["delta"].get("content") or "" for c in event.get("choices", ()))
    return text


def broken_chat(stream: Stream) -> None:
    body = stream.body
    assert b"[DONE]" not in body
    assert body.endswith(b"\n\n")
    last = json.loads(body.rstrip(b"\n").rsplit(b"\n\n", 1)[-1].removeprefix(b"data: "))
    assert last["error"]["allod"]["receipt"] == stream.receipt
    assert last["error"]["type"] == "server_error"


MID = [name for name, fault in FAULTS.items() if fault.when == "mid"]


@pytest.mark.parametrize("name", MID)
def test_a_broken_message_stream_has_an_error_event_and_no_stop(gateway: Gateway, name: str) -> None:
    began = time.monotonic()
    stream = gateway.start("/v1/messages", messages(f"d-{name}", stream=True))
    body = stream.read()
    within_limits(began)
    assert b"event: error" in body
    assert b"message_stop" not in body
    assert gateway.leaf(stream.receipt)["status"] == "failed"
    assert charged(gateway, stream.receipt) == [(f"d-{name}", "failed", COUNTED)]


@pytest.mark.parametrize("name", MID)
def test_a_broken_response_stream_fails_and_is_never_completed(gateway: Gateway, name: str) -> None:
    began = time.monotonic()
    stream = gateway.start("/v1/responses", responses(f"d-{name}", stream=True))
    body = stream.read()
    within_limits(began)
    assert b"event: response.failed" in body or b"event: error" in body
    assert b"response.completed" not in body
    assert b"response.incomplete" not in body
    assert gateway.leaf(stream.receipt)["status"] == "failed"
    assert charged(gateway, stream.receipt) == [(f"d-{name}", "failed", COUNTED)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", SOUND)
def test_what_is_odd_but_whole_is_answered(gateway: Gateway, name: str, stream: bool) -> None:
    answer: Answer | Stream
    if stream:
        answer = gateway.start(
            "/v1/chat/completions",
            chat(f"d-{name}", stream=True, stream_options={"include_usage": True}),
        )
        answer.read()
        assert told(answer.body) == TEXT
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert last_usage(answer.body)["completion_tokens"] >= 15
    else:
        answer = gateway.chat(chat(f"d-{name}"))
        assert answer.json["choices"][0]["message"]["content"] == TEXT
    assert answer.status == 200
    basis = "counted" if name.startswith("usage-") else "reported"
    assert charged(gateway, answer.receipt) == [(f"d-{name}", "answered", basis)]
    leaf = gateway.leaf(answer.receipt)
    assert leaf["status"] == "answered"
    assert leaf["basis"] == basis
    if name == "other-model":
        assert leaf["model"] == "another-model"
    if name.startswith("usage-"):
        assert leaf["tokens"]["output"] >= 15


def last_usage(body: bytes) -> dict[str, Any]:
    """Return the usage a stream ended with; where the operator told none, or a wrong one, it is ours."""
    events = [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: {")]
    return next(e["usage"] for e in reversed(events) if e.get("usage"))  # type: ignore[no-any-return]


def test_a_stream_where_one_answer_was_asked_for_falls_back(gateway: Gateway) -> None:
    answer = gateway.chat(chat("t-d-overstreamed"))
    assert answer.headers["allod-deployment"] == "good"


def test_nothing_listens_costs_nothing_and_is_503_alone(gateway: Gateway) -> None:
    answer = gateway.chat(chat("t-refusing"))
    assert answer.headers["allod-deployment"] == "good"
    assert charged(gateway, answer.receipt)[0] == ("refusing", "failed", FREE)
    alone = gateway.chat(chat("refusing"))
    assert alone.status == 503
    assert charged(gateway, alone.receipt) == [("refusing", "failed", FREE)]


def test_retries_are_bounded_and_each_has_a_row(gateway: Gateway, region: Region) -> None:
    region.clear()
    answer = gateway.chat(chat("t-retried"))
    assert answer.headers["allod-deployment"] == "good"
    rows = charged(gateway, answer.receipt)
    assert [name for name, _, _ in rows] == ["retried"] * 3 + ["good"]
    assert len(region.seen) == 4


def test_retry_after_is_honoured(gateway: Gateway, region: Region) -> None:
    region.clear()
    began = time.monotonic()
    answer = gateway.chat(chat("t-waiting"))
    assert answer.headers["allod-deployment"] == "good"
    first, second, third = (seen.at for seen in region.seen)
    assert 1.0 <= second - first < 2.5
    assert third - second < 1.0
    assert time.monotonic() - began < 5


def test_a_retry_after_that_no_deadline_allows_is_not_waited_for(gateway: Gateway, region: Region) -> None:
    region.clear()
    began = time.monotonic()
    answer = gateway.chat(chat("t-waiting"), headers={"Allod-Deadline-Ms": "900"})
    assert answer.headers["allod-deployment"] == "good"
    assert time.monotonic() - began < 0.9
    assert len(region.seen) == 2


@pytest.mark.parametrize(
    ("name", "status"),
    [("http-429", 502), ("http-500", 502), ("http-401", 502), ("stall-before", 504), ("redirect", 502)],
)
def test_alone_they_have_their_status(gateway: Gateway, name: str, status: int) -> None:
    answer = gateway.chat(chat(f"d-{name}"))
    assert answer.status == status
    assert answer.headers["allod-receipt"] == answer.json["error"]["allod"]["receipt"]
    assert gateway.leaf(answer.receipt)["status"] == "failed"


def test_too_long_for_every_context_is_the_callers_400(gateway: Gateway) -> None:
    answer = gateway.chat(chat("d-too-long"))
    assert answer.status == 400
    assert gateway.leaf(answer.receipt)["status"] == "failed"


def test_the_breaker_opens_after_failures_in_a_row_and_the_next_serves(
    gateway: Gateway, region: Region
) -> None:
    for _ in range(5):
        assert gateway.chat(chat("failing")).status == 502
    region.clear()
    alone = gateway.chat(chat("failing"))
    assert alone.status == 503
    assert int(alone.headers["retry-after"]) >= 1
    assert region.seen == []
    assert gateway.world.rows(alone.receipt) == []
    answer = gateway.chat(chat("t-failing"))
    assert answer.headers["allod-deployment"] == "good"
    assert [name for name, _, _ in charged(gateway, answer.receipt)] == ["good"]


def test_a_deadline_ends_an_attempt_that_hangs(gateway: Gateway) -> None:
    began = time.monotonic()
    answer: Answer = gateway.chat(chat("good", max_tokens=5), headers={"Allod-Deadline-Ms": "5000"})
    assert answer.status == 200
    answer = gateway.chat(chat("d-mute"), headers={"Allod-Deadline-Ms": "300"})
    assert answer.status == 504
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("name", ["http-500", "http-503", "http-429-bare"])
def test_embeddings_fall_back_as_well(gateway: Gateway, name: str) -> None:
    answer = gateway.call("/v1/embeddings", {"model": f"t-d-{name}", "input": ["one", "two"]})
    assert answer.status == 200
    assert answer.headers["allod-deployment"] == "good"
    assert len(answer.json["data"]) == 2
    assert charged(gateway, answer.receipt) == [
        (f"d-{name}", "failed", FREE),
        ("good", "answered", "reported"),
    ]
