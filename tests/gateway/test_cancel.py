"""A client that goes away: the operator's connection is dropped, the receipt says so, what came is billed."""

from __future__ import annotations

import json
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from world import Gateway, Region, World, chat, config, deployment, messages, responses, until

LIMIT_S = 0.1
SURFACES = {
    "/v1/chat/completions": chat,
    "/v1/messages": messages,
    "/v1/responses": responses,
}


@pytest.fixture(scope="module")
def region() -> Iterator[Region]:
    with Region() as one:
        yield one


@pytest.fixture(scope="module")
def gateway(region: Region, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    fleet = [
        deployment("mid", "stall-mid", base_url=region.url),
        deployment("before", "stall-before", base_url=region.url),
        deployment("endless", "endless", base_url=region.url),
        deployment("inner", "stall-mid"),
        deployment("sound", "answer", base_url=region.url),
        deployment("retried", "http-429", base_url=region.url, retries=3),
    ]
    with World(tmp_path_factory.mktemp("cancel") / "home", config(fleet)).up("press") as up:
        yield up


def lost_after(region: Region, dropped: float) -> float:
    """Return the seconds from the client's end to the moment the operator saw its own client go."""
    seen = region.seen[-1]
    return until(lambda: seen.lost_at, 10) - dropped  # type: ignore[no-any-return]


def newest(gateway: Gateway, before: set[str]) -> str:
    """Return the receipt of a request that never had an answer to carry it."""
    found = until(lambda: [r.receipt for r in gateway.world.all_requests() if r.receipt not in before])
    assert len(found) == 1
    return found[0]  # type: ignore[no-any-return]


def aborted(gateway: Gateway, receipt: str, name: str) -> Any:
    """Check the receipt and return the one ledger row."""
    leaf = gateway.leaf(receipt)
    assert (leaf["status"], leaf["reason"]) == ("aborted", "client-gone")
    (row,) = gateway.world.rows(receipt)
    assert (row.deployment, row.status) == (name, "aborted")
    assert row.total_ms is not None
    return row


def tell(path: str, took: list[float]) -> None:
    """Show what was measured (with ``pytest -s``)."""
    low, high = 1000 * statistics.median(took), 1000 * max(took)
    print(f"{path}: the operator saw it after {low:.1f} ms, at most {high:.1f} ms")  # noqa: T201


@pytest.mark.parametrize("path", SURFACES)
def test_gone_in_the_middle_of_a_stream(gateway: Gateway, region: Region, path: str) -> None:
    took = []
    for _ in range(5):
        stream = gateway.start(path, SURFACES[path]("mid", stream=True))
        delivered = b""
        for event in stream.events():
            delivered += event
            if b'"This' in delivered:
                break
        took.append(lost_after(region, stream.drop()))
        row = aborted(gateway, stream.receipt, "mid")
        assert row.basis == "counted"
        assert row.usage.output_tokens >= 1
        assert row.cost_usd > 0
    tell(path, took)
    assert statistics.median(took) < LIMIT_S


def test_what_was_delivered_is_what_is_billed_at_least(gateway: Gateway) -> None:
    """Half the scripted answer is some tokens, each an event: no fewer are billed than the client got."""
    stream = gateway.start("/v1/chat/completions", chat("mid", stream=True))
    pieces = 0
    for event in stream.events():
        pieces += event.count(b'"content":"') - event.count(b'"content":""')
        if pieces >= 6:
            break
    stream.drop()
    assert aborted(gateway, stream.receipt, "mid").usage.output_tokens >= pieces


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", SURFACES)
def test_gone_before_the_first_byte(gateway: Gateway, region: Region, path: str, stream: bool) -> None:
    took = []
    for _ in range(3):
        before = {r.receipt for r in gateway.world.all_requests()}
        region.clear()
        body = json.dumps(SURFACES[path]("before", stream=stream)).encode()
        with socket.create_connection(("127.0.0.1", gateway.port)) as plain:
            key = gateway.world.key("press")
            head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: "
            plain.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body)
            region.wait_seen()
            dropped = time.monotonic()
        took.append(lost_after(region, dropped))
        row = aborted(gateway, newest(gateway, before), "before")
        assert row.basis == "reserved"
        assert row.cost_usd > 0
    tell(path, took)
    assert statistics.median(took) < LIMIT_S


def test_gone_while_the_answer_pours(gateway: Gateway) -> None:
    """An operator that sends without end keeps the gateway from neither the news nor the others."""
    took = []
    for _ in range(5):
        stream = gateway.start("/v1/chat/completions", chat("endless", stream=True))
        next(stream.events())
        stream.drop()
        row = aborted(gateway, stream.receipt, "endless")
        assert row.cost_usd > 0
        took.append(row.total_ms / 1000)
    tell("pouring", took)
    assert statistics.median(took) < 2 * LIMIT_S


def test_others_are_served_while_an_answer_pours(gateway: Gateway) -> None:
    body = chat("endless", stream=True, max_tokens=8192)
    pouring = [gateway.start("/v1/chat/completions", body) for _ in range(2)]
    reading = [threading.Thread(target=stream.read) for stream in pouring]
    for thread in reading:
        thread.start()
    assert gateway.chat(chat("sound")).status == 200
    assert all(thread.is_alive() for thread in reading), "it was answered only when the others had ended"
    for thread, stream in zip(reading, pouring, strict=True):
        thread.join()
        assert gateway.leaf(stream.receipt)["status"] == "failed"


def test_gone_from_an_engine_without_a_socket(gateway: Gateway) -> None:
    stream = gateway.start("/v1/chat/completions", chat("inner", stream=True))
    next(stream.events())
    stream.drop()
    assert aborted(gateway, stream.receipt, "inner").basis == "counted"


def test_gone_while_a_retry_waits_ends_the_retries(gateway: Gateway, region: Region) -> None:
    before = {r.receipt for r in gateway.world.all_requests()}
    region.clear()
    asking = threading.Thread(target=_ask_and_leave, args=(gateway, region))
    asking.start()
    asking.join()
    receipt = newest(gateway, before)
    leaf = gateway.leaf(receipt)
    assert leaf["status"] == "aborted"
    time.sleep(1.5)
    assert len(region.seen) == 1
    (row,) = gateway.world.rows(receipt)
    assert row.status == "failed"


def _ask_and_leave(gateway: Gateway, region: Region) -> None:
    body = json.dumps(chat("retried")).encode()
    with socket.create_connection(("127.0.0.1", gateway.port)) as plain:
        key = gateway.world.key("press")
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        plain.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        region.wait_seen()
        time.sleep(0.2)


def test_many_leave_at_once_and_nothing_is_left_behind(gateway: Gateway, region: Region) -> None:
    before = {r.receipt for r in gateway.world.all_requests()}
    streams = [gateway.start("/v1/chat/completions", chat("mid", stream=True)) for _ in range(40)]
    for stream in streams:
        next(stream.events())
    for stream in streams:
        stream.drop()
    for stream in streams:
        aborted(gateway, stream.receipt, "mid")
    new = {r.receipt for r in gateway.world.all_requests()} - before
    assert new == {stream.receipt for stream in streams}
    until(lambda: not any(not seen.lost_at for seen in region.seen[-40:]))
    assert gateway.chat(chat("sound")).status == 200
