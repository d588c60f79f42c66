"""HTTP as an attacker, a broken proxy and a Java client speak it, over raw sockets."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import Inside, World, chat, config, deployment

from allod.gateway.protocol import BoundedProtocol

HOST = b"Host: allod\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\n"
BODY = json.dumps(chat("answer")).encode()
ALIVE = b'{"status":"alive"}'
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: allod\r\n\r\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    root: Path = tmp_path_factory.mktemp("http") / "home"
    world = World(
        root, config([deployment("local", "answer"), deployment("still", "stall-mid", timeout_ms=20_000)])
    )
    world.key("press")
    with Inside(world) as inside:
        yield inside


@pytest.fixture
def key(gateway: Inside) -> bytes:
    return b"Authorization: Bearer " + gateway.world.key("press").encode() + b"\r\n"


def length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n" % len(body)


def chunked(body: bytes, trailer: bytes = b"") -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailer)


class Raw:
    """A socket that says exactly what it is told."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.got = b""
        self.closed = False

    def send(self, *pieces: bytes) -> Raw:
        for piece in pieces:
            self.socket.sendall(piece)
            time.sleep(0.05)
        return self

    def read(self, within_s: float = 1.0, until: bytes | None = None) -> bytes:
        end = time.monotonic() + within_s
        while not self.closed and (left := end - time.monotonic()) > 0:
            if until is not None and until in self.got:
                break
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                break
            except ConnectionResetError:
                data = b""
            self.got += data
            self.closed = not data
        return self.got


def say(gateway: Inside, *pieces: bytes, within_s: float = 1.0, until: bytes | None = None) -> Raw:
    raw = Raw(gateway.port).send(*pieces)
    raw.read(within_s, until)
    raw.socket.close()
    return raw


def status(raw: Raw) -> int:
    return int(raw.got.split(b" ", 2)[1])


def test_a_key_behind_the_body_is_no_key(gateway: Inside, key: bytes) -> None:
    answer = say(gateway, POST + HOST + chunked(BODY, key), until=b"}}")
    assert status(answer) == 401, answer.got


def test_a_label_behind_the_body_is_refused_not_ignored(gateway: Inside, key: bytes) -> None:
    answer = say(gateway, POST + HOST + key + chunked(BODY, b"Allod-Data-Class: phi\r\n"), until=b"}}")
    assert status(answer) == 400, answer.got


def test_a_label_written_with_underscores_is_refused_not_ignored(gateway: Inside, key: bytes) -> None:
    head = POST + HOST + key + b"allod_data_class: phi\r\n" + length(BODY)
    assert status(say(gateway, head + b"\r\n" + BODY, until=b"}}")) == 400


def test_a_request_without_host_is_400(gateway: Inside, key: bytes) -> None:
    assert status(say(gateway, POST + key + length(BODY) + b"\r\n" + BODY)) == 400


@pytest.mark.parametrize(
    "framing",
    [
        length(BODY) + chunked(BODY),
        b"Transfer-Encoding: chunked\r\n" + chunked(BODY),
        b"Transfer-Encoding: xchunked\r\n\r\n",
        b"Content-Length: +5\r\n\r\nhello",
        b"Content-Length : 5\r\n\r\nhello",
        b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"X-Folded: a\r\n b\r\n" + length(BODY) + b"\r\n" + BODY,
        b"X-Nul: a\0b\r\n" + length(BODY) + b"\r\n" + BODY,
    ],
)
def test_framing_that_two_readers_could_read_differently_is_400_and_closes(
    gateway: Inside, key: bytes, framing: bytes
) -> None:
    answer = say(gateway, POST + HOST + key + framing + HEALTH)
    assert status(answer) == 400
    assert answer.closed
    assert ALIVE not in answer.got


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"


@pytest.mark.parametrize("cut", [0, 7])
def test_a_request_that_offers_http2_keeps_its_body_and_its_connection(
    gateway: Inside, key: bytes, cut: int
) -> None:
    whole = POST + HOST + key + UPGRADE + length(BODY) + b"\r\n" + BODY
    pieces = (whole[:-cut], whole[-cut:], HEALTH) if cut else (whole + HEALTH,)
    answer = say(gateway, *pieces, within_s=5, until=ALIVE)
    assert status(answer) == 200, answer.got
    assert answer.got.count(b"HTTP/1.1 200 OK") == 2


def test_the_body_of_an_upgrade_request_is_never_read_as_a_request(gateway: Inside) -> None:
    body = HEALTH
    answer = say(gateway, POST + HOST + UPGRADE + length(body) + b"\r\n", body)
    assert status(answer) == 401
    assert ALIVE not in answer.got


def test_an_upgrade_with_a_chunked_body_is_refused(gateway: Inside, key: bytes) -> None:
    answer = say(gateway, POST + HOST + key + UPGRADE + chunked(BODY))
    assert status(answer) == 400
    assert answer.closed


def test_many_upgrade_requests_in_one_packet_are_each_answered(gateway: Inside) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    raw = Raw(gateway.port).send(one * 400)
    end = time.monotonic() + 10
    while raw.got.count(ALIVE) < 400 and time.monotonic() < end:
        raw.read(0.2)
    assert raw.got.count(ALIVE) == 400


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/nowhere", "/healthz"])
def test_an_answer_before_the_end_of_the_body_closes_the_connection(gateway: Inside, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".encode()
    answer = say(gateway, head, b"x" * 1000, until=b"}}")
    assert status(answer) in {401, 404, 405}
    assert b"connection: close" in answer.got


def test_an_early_answer_reaches_a_client_that_still_sends(gateway: Inside) -> None:
    body = b"x" * 3_000_000
    raw = Raw(gateway.port)
    raw.socket.settimeout(10)
    raw.socket.sendall(POST + HOST + length(body) + b"\r\n")
    for at in range(0, len(body), 100_000):
        raw.socket.sendall(body[at : at + 100_000])
    raw.read(5)
    assert status(raw) == 401
    assert raw.closed


def test_a_body_that_was_not_asked_for_is_never_read_as_the_next_request(gateway: Inside) -> None:
    head = POST + HOST + b"Expect: 100-continue\r\nContent-Length: 100000\r\n\r\n"
    answer = say(gateway, head, HEALTH)
    assert status(answer) == 401
    assert answer.closed
    assert answer.got.count(b"HTTP/1.1") == 1


def test_an_answer_to_http_1_0_is_not_chunked(gateway: Inside, key: bytes) -> None:
    body = json.dumps(chat("answer", stream=True)).encode()
    head = b"POST /v1/chat/completions HTTP/1.0\r\n" + key + length(body) + b"\r\n"
    answer = say(gateway, head + body, within_s=5)
    assert answer.closed
    assert b"transfer-encoding" not in answer.got
    assert answer.got.rstrip().endswith(b"data: [DONE]")


def test_nothing_is_written_into_an_answer_under_way(gateway: Inside, key: bytes) -> None:
    body = json.dumps(chat("still", stream=True)).encode()
    raw = Raw(gateway.port).send(POST + HOST + key + length(body) + b"\r\n" + body)
    raw.read(5, until=b"data: ")
    raw.send(POST + HOST + key + b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\n")
    raw.read(10)
    assert raw.got.count(b"HTTP/1.1") == 1
    assert b"not HTTP" not in raw.got


def test_a_body_we_do_not_read_yet_is_not_late(tmp_path: Path) -> None:
    still = deployment("still", "stall-mid", timeout_ms=20_000)
    world = World(tmp_path / "home", config([still], server={"body_ms": 500}))
    key = b"Authorization: Bearer " + world.key("press").encode() + b"\r\n"
    body = json.dumps(chat("still", stream=True)).encode()
    with Inside(world) as gateway:
        raw = Raw(gateway.port).send(POST + HOST + key + length(body) + b"\r\n" + body)
        raw.read(5, until=b"data: ")
        raw.send(POST + HOST + key + length(body) + b"\r\n")
        raw.read(2.5)
        assert not raw.closed
        assert raw.got.count(b"HTTP/1.1") == 1
        raw.socket.close()


def test_a_queued_request_is_answered_in_its_turn(gateway: Inside, key: bytes) -> None:
    whole = POST + HOST + key + length(BODY) + b"\r\n" + BODY
    raw = Raw(gateway.port).send(whole + whole + POST + HOST + key + length(BODY) + b"\r\n", BODY + HEALTH)
    raw.read(5, until=ALIVE)
    assert raw.got.count(b"HTTP/1.1 200 OK") == 4


def test_a_head_that_never_ends_is_bounded_while_an_answer_is_under_way(gateway: Inside, key: bytes) -> None:
    body = json.dumps(chat("still", stream=True)).encode()
    raw = Raw(gateway.port).send(POST + HOST + key + length(body) + b"\r\n" + body)
    raw.read(5, until=b"data: ")
    raw.socket.settimeout(10)
    raw.socket.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 64 << 20:
            sent += raw.socket.send(b"x" * 65536)
    assert sent < 16 << 20


def test_requests_sent_ahead_wait_on_the_wire_not_in_memory(gateway: Inside) -> None:
    raw = Raw(gateway.port)
    raw.socket.setblocking(False)
    most, end = 0, time.monotonic() + 1.5
    while time.monotonic() < end:
        try:
            raw.socket.send(HEALTH * 2000)
        except BlockingIOError:
            time.sleep(0.01)
        most = max([most, *(len(c._queued) for c in connections())])
    raw.socket.close()
    assert most <= 262_144 // len(HEALTH) + 1, most


def connections() -> list[Any]:
    found = [thing for thing in gc.get_objects() if isinstance(thing, BoundedProtocol)]
    return [one for one in found if not one.transport.is_closing()]
