"""A silent change of a tokenizer, found from traffic through the real gateway; what else is learned."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import Inside, Region, World, chat, config, deployment, until

from allod.engines.scripted import acts
from allod.gateway.drifting import CROWDED, MOST_WAITING, SHARE, Drift, read_state, state_file
from allod.metering.drift import WARM
from allod.routing.record import holds
from gateway.lineages import log_of

WORDS = "the ward keeps every patient safe when a nurse writes down what was given and at which hour".split()
JSON = ((b"content-type", b"application/json"),)


class Operator:
    """Bills by a tokenizer of its own, which it may change without a word."""

    def __init__(self) -> None:
        self.factor, self.cached = 1.0, 0.0

    def __call__(self, method: str, path: str, body: bytes) -> Iterator[acts.Step]:
        asked = json.loads(body)
        text = "".join(m["content"] for m in asked["messages"])
        tokens = round(self.factor * (9 + 0.3 * len(text)))
        usage = {"prompt_tokens": tokens, "completion_tokens": 3, "total_tokens": tokens + 3}
        if self.cached:
            usage["prompt_tokens_details"] = {"cached_tokens": round(self.cached * tokens)}
        message = {"role": "assistant", "content": "noted, and filed"}
        answer = {
            "id": "c", "object": "chat.completion", "created": 1, "model": asked["model"], "usage": usage,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }  # fmt: skip
        raw = json.dumps(answer).encode()
        yield acts.Head(200, JSON, len(raw))
        yield acts.Body(raw)
        yield acts.End()


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
def region(operator: Operator) -> Iterator[Region]:
    with Region(operator) as one:
        yield one


def prose(rng: random.Random, least: int = 8, most: int = 60) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(least, most)))


def ask(inside: Inside, n: int, rng: random.Random) -> None:
    for _ in range(n):
        answer = inside.chat(chat("far", prose(rng)), app="ward")
        assert answer.status == 200, answer


def world_with(tmp_path: Path, region: Region, **more: Any) -> World:
    world = World(tmp_path / "home", config([deployment("far", "opaque", base_url=region.url, **more)]))
    world.key("ward")
    return world


def drift_of(inside: Inside, count: int) -> Drift:
    """Return the watches once so many requests were counted."""
    drift: Drift = inside.gateway.drift
    until(lambda: any(one.watch.count >= count for one in drift.kept), 10)
    return drift


def test_a_fifth_more_tokens_is_found_within_500_requests(
    tmp_path: Path, operator: Operator, region: Region
) -> None:
    world, rng = world_with(tmp_path, region), random.Random(1)
    with Inside(world) as inside:
        ask(inside, WARM + 60, rng)
        known = drift_of(inside, WARM + 60).kept[0]
        assert known.watch.first is not None
        assert known.alarms == ()
        assert known.since_start == pytest.approx(1, abs=0.03)
    # a restart in between forgets nothing, and cached tokens count in full
    kept, damaged = read_state(state_file(world.paths))
    assert (kept[0].watch.count, damaged) == (WARM + 60, "")
    operator.factor, operator.cached = 1.2, 0.75
    with Inside(world) as inside:
        changed = 0
        while not drift_of(inside, WARM + 60 + changed).kept[0].alarms:
            assert changed < 500, "not found within 500 requests"
            ask(inside, 20, rng)
            changed += 20
        found = inside.gateway.drift.kept[0].alarms[0]
        assert found.kind == "input"
        assert found.ratio == pytest.approx(1.2, rel=0.03)
        assert inside.gateway.drift.kept[0].since_start == pytest.approx(1.2, rel=0.03)
        until(lambda: b'allod_tokenizer_alarms_total{deployment="far",kind="input"} 1' in metrics(inside))
        inside.gateway.store.flush()
        notices = [
            leaf for leaf in log_of(inside) if leaf["kind"] == "notice" and leaf["subject"] == "tokenizer"
        ]
        assert [n["facts"]["deployment"] for n in notices] == ["far"]
        assert "+20 %" in notices[0]["detail"]
    told = json.loads(world.here("doctor", "--json").stdout)["findings"]
    assert any(f["name"] == "tokenizer far" and "+20 %" in f["detail"] for f in told)
    cost = json.loads(world.here("models", "cost", "--json").stdout)["tokenizers"]
    assert cost[0]["factor"] == pytest.approx(1.2, rel=0.03)
    assert len(cost[0]["alarms"]) == 1
    assert "+20 %" in world.here("models", "cost").stdout


def metrics(inside: Inside) -> bytes:
    answer = inside.call("/metrics", app=None)
    assert answer.status == 200, answer
    return answer.body


def test_a_long_request_goes_to_nobody_it_does_not_fit_by_what_traffic_taught(
    tmp_path: Path, region: Region
) -> None:
    # this tokenizer makes 0.3 tokens of a byte: more than the rule of thumb takes for certain
    world, rng = world_with(tmp_path, region, context_tokens=2000), random.Random(2)
    fits, not_fits = "safe " * 1000, "safe " * 1700  # about 1500 and 2550 tokens
    with Inside(world) as inside:
        # by the rule of thumb (at least 5 bytes to a token), both might fit
        assert inside.chat(chat("far", not_fits), app="ward").status == 200
        ask(inside, WARM + 10, rng)
        drift_of(inside, WARM + 11)
        assert inside.chat(chat("far", fits), app="ward").status == 200
        refused = inside.chat(chat("far", not_fits), app="ward")
        assert refused.status == 403
        rule = refused.json["error"]["allod"]["excluded"][0]["rules"][0]
        assert rule["id"] == "capability.context"
        assert "as its tokenizer billed so far" in rule["required"]
        assert len(region.seen) == WARM + 12
        inside.gateway.store.flush()
        row = world.request_row(refused.receipt)
        assert row is not None
    with contextlib.closing(world.tables()) as tables:
        record = tables.record(row.decision)
    assert record is not None
    assert b"expected_tokens" in record
    assert holds(record), "I8: the recorded facts lead to the recorded plan"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"format":"allod-drift-9","kept":[]}',
        b'{"format":"allod-drift-1","kept":[{"deployment":"far","kind":"input","about":"x","watch":{"weights":[1]}}]}',
        b"\xff" * 64,
    ],
)
def test_a_damaged_file_is_told_and_begins_anew(tmp_path: Path, region: Region, raw: bytes) -> None:
    world = world_with(tmp_path, region)
    state_file(world.paths).write_bytes(raw)
    assert read_state(state_file(world.paths))[1]
    with Inside(world) as inside:
        assert inside.gateway.drift.damaged
        ask(inside, 12, random.Random(3))
        assert drift_of(inside, 12).kept[0].watch.count == 12
    assert read_state(state_file(world.paths))[1] == ""


def test_another_model_behind_the_name_is_learned_anew(tmp_path: Path, region: Region) -> None:
    world = world_with(tmp_path, region)
    with Inside(world) as inside:
        ask(inside, 12, random.Random(4))
        drift_of(inside, 12)
    world.write(config([deployment("far", "other", base_url=region.url)]))
    with Inside(world) as inside:
        assert inside.gateway.drift.kept == ()


def test_streamed_answers_show_what_output_is_billed(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config([deployment("near", "echo")]))
    world.key("ward")
    with Inside(world) as inside:
        text = prose(random.Random(6), 30, 40)
        assert inside.start("/v1/chat/completions", chat("near", text, stream=True), app="ward").read()
        drift_of(inside, 1)
        known = {one.kind: one.watch for one in inside.gateway.drift.kept}
        assert known["output"].held[0].features[:2] == (1.0, float(len(text)))
        inside.gateway.store.flush()
        (row,) = world.rows()
        assert known["output"].held[0].tokens == row.usage.output_tokens
        assert known["input"].held[0].tokens == row.usage.total_input_tokens


def test_nothing_waits_for_a_watch(tmp_path: Path, region: Region) -> None:
    world = world_with(tmp_path, region)
    with Inside(world) as inside:
        fleet = inside.gateway.fleet
        drift = Drift(world.paths, fleet, lambda _: None, lambda _: None)
        body = {"messages": [{"role": "user", "content": prose(random.Random(5))}]}
        for _ in range(CROWDED):
            drift.note("far", "ward/", body, 20, 0, 0, 1)
        assert len(drift._waiting) == CROWDED, "where there are few, each is watched"
        for _ in range(SHARE * 2 * MOST_WAITING):
            drift.note("far", "ward/", body, 20, 0, 0, 1)
        assert len(drift._waiting) == MOST_WAITING
        assert drift.dropped == CROWDED + MOST_WAITING
        broken: list[BaseException] = []
        drift = Drift(world.paths, fleet, lambda _: None, broken.append)
        drift.note("gone", "ward/", body, 20, 0, 0, 1)
        drift.note("far", "ward/", body, 20, 0, 0, 1)
        drift.close()
        assert [type(fault) for fault in broken] == [KeyError], "a fault of ours stops no other watch"
        assert drift.kept[0].watch.count == 1
