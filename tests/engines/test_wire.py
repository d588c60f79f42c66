"""The client below the drivers, against raw sockets that say exactly what a test wants."""

from __future__ import annotations

import asyncio
import time

import pytest
from wire_peer import LOOPS, OK, allow, ask, fault_of, wire, with_peer

from allod.engines.wire import Wire


@pytest.mark.parametrize("run", LOOPS)
def test_a_request_is_written_once_and_the_connection_kept(run):
    @with_peer(OK, run=run)
    async def _(peer, way):
        for _ in range(3):
            response, body = await ask(way, body=b"{}", headers=[(b"x-a", b"1")])
            assert (response.status, body, response.complete) == (200, b"ok", True)
        assert peer.connections == 1
        head, _, sent = peer.requests[0].partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /x HTTP/1.1"
        assert sorted(lines[1:]) == sorted(
            [
                b"host: 127.0.0.1:%d" % peer.port,
                b"accept-encoding: identity",
                b"user-agent: allod",
                b"x-a: 1",
                b"content-length: 2",
            ]
        )
        assert sent == b"{}"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", None], "truncated"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", None], "truncated"),
        ([b"HTTP/1.1 200 OK\r\ncontent-le", None], "truncated"),
        ([None], "reset"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-encoding: gzip\r\n\r\nok", "malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok", "malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nokk", "malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok", "malformed"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok", "malformed"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "malformed"),
        (b"HTTP/1.1 301 Moved\r\nlocation: /y\r\ncontent-length: 0\r\n\r\n", "redirect"),
        (b"HTTP/1.1 307 Moved\r\nlocation: http://example.org/\r\ncontent-length: 0\r\n\r\n", "redirect"),
        (b"SSH-2.0-OpenSSH\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: %b\r\n" % (b"y" * 1000) * 70 + b"\r\n", "oversize"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 4000, "oversize"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + b"t: 1\r\n" * 20_000,
            "oversize",
        ),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"e=" * 90_000, "malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3000000000\r\n\r\n" + b"x" * 5000, "oversize"),
    ],
)
def test_what_is_not_a_whole_http_answer_is_a_fault(answer, kind):
    @with_peer(answer)
    async def _(peer, way):
        fault = await fault_of(ask(way, max_body_bytes=4000))
        assert fault.kind == kind
        assert fault.sent
        assert way.open_connections == 0
        assert len(peer.requests) == 1


def test_an_interim_answer_is_passed_over():
    @with_peer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK)
    async def _(peer, way):
        response, body = await ask(way)
        assert (response.status, body) == (200, b"ok")
        assert response.header(b"link") is None
        await ask(way)
        assert peer.connections == 1


def test_an_answer_framed_by_the_end_says_so():
    @with_peer([b"HTTP/1.0 200 OK\r\n\r\nall of it", None])
    async def _(_peer, way):
        response, body = await ask(way)
        assert body == b"all of it"
        assert response.unframed


def test_bytes_behind_an_answer_end_the_connection_but_not_the_answer():
    @with_peer(OK + OK, OK)
    async def _(peer, way):
        assert (await ask(way))[1] == b"ok"
        assert way.open_connections == 0
        assert (await ask(way))[1] == b"ok"
        assert peer.connections == 2


def test_bytes_nobody_asked_for_end_an_idle_connection():
    @with_peer([OK, 0.02, OK], OK)
    async def _(_peer, way):
        await ask(way)
        await asyncio.sleep(0.06)
        assert way.open_connections == 0


@pytest.mark.parametrize("run", LOOPS)
@pytest.mark.parametrize(
    ("limits", "answer", "least"),
    [
        ({"first_byte_ms": 100}, [5.0], 0.1),
        ({"first_byte_ms": 100}, [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", 5.0], 0.1),
        ({"idle_ms": 100}, [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nha", 5.0], 0.1),
        ({"total_ms": 150}, [b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n", *[b"x", 0.02] * 100], 0.15),
    ],
)
def test_every_silence_has_its_limit(run, limits, answer, least):
    @with_peer(answer, run=run)
    async def _(_peer, way):
        started = time.monotonic()
        fault = await fault_of(ask(way, **limits))
        took = time.monotonic() - started
        assert fault.kind == "timeout"
        assert least - 0.02 <= took < least + 0.25
        assert way.open_connections == 0


def test_slow_readers_are_not_blamed_on_the_operator_and_hold_it_back():
    size = 8 << 20

    @with_peer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (size, b"x" * size))
    async def _(_peer, way):
        response = await ask(way, read=False, idle_ms=60, total_ms=5000)
        await asyncio.sleep(0.2)
        assert response._held < 2 << 20, "no back-pressure"
        got = 0
        while data := await response.next_chunk():
            got += len(data)
        assert got == size
        assert way.open_connections == 1


def test_a_large_body_is_read_at_once_and_bounded():
    size = 3 << 20
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (size, b"x" * size)

    @with_peer(answer)
    async def _(_peer, way):
        assert len((await ask(way))[1]) == size
        assert (await fault_of(ask(way, max_body_bytes=size - 1))).kind == "oversize"


def test_a_large_request_arrives_whole():
    @with_peer(OK)
    async def _(peer, way):
        await ask(way, body=b"z" * (5 << 20))
        assert peer.requests[0].endswith(b"\r\n\r\n" + b"z" * (5 << 20))


def test_a_stale_connection_is_replaced_once_and_only_if_silent():
    @with_peer([OK, 0.05, None], OK)
    async def _(peer, way):
        await ask(way)
        # The peer closes after 50 ms; write into the closing connection.
        connection = way._idle[0]
        connection.transport.pause_reading()  # we do not see the end coming
        await asyncio.sleep(0.1)
        connection.transport.resume_reading()
        assert (await ask(way))[1] == b"ok"
        assert peer.connections == 2


def test_a_fresh_connection_that_hangs_up_is_not_retried():
    @with_peer([None])
    async def _(peer, way):
        fault = await fault_of(ask(way))
        assert (fault.kind, fault.sent, len(peer.requests)) == ("reset", True, 1)


@pytest.mark.parametrize("run", LOOPS)
def test_a_peer_that_closes_as_it_accepts_is_a_fault_and_leaves_nothing_behind(run):
    async def scenario():
        def shut(_reader, writer):
            writer.transport.abort()

        server = await asyncio.start_server(shut, "127.0.0.1", 0)
        way = wire(server.sockets[0].getsockname()[1])
        for _ in range(30):
            fault = await fault_of(ask(way))
            assert fault.kind in ("connect", "reset")
            assert fault.sent is (fault.kind == "reset")
        await asyncio.sleep(0.01)
        assert way.open_connections == 0
        await way.close()
        server.close()

    run(scenario())


def test_at_most_so_many_connections_and_waiting_is_bounded():
    @with_peer([0.1, OK], max_connections=2, connect_timeout_ms=2000)
    async def _(peer, way):
        answers = await asyncio.gather(*(ask(way) for _ in range(6)))
        assert [body for _, body in answers] == [b"ok"] * 6
        assert peer.connections == 2

    @with_peer([0.3, OK], max_connections=1, connect_timeout_ms=80)
    async def _(_peer, way):
        first = asyncio.create_task(ask(way))
        await asyncio.sleep(0.02)
        fault = await fault_of(ask(way))
        assert (fault.kind, fault.sent) == ("overloaded", False)
        await first


def test_a_cancelled_waiter_hands_its_turn_on():
    @with_peer([0.05, OK], max_connections=1, connect_timeout_ms=2000)
    async def _(_peer, way):
        first = asyncio.create_task(ask(way))
        await asyncio.sleep(0.01)
        second, third = asyncio.create_task(ask(way)), asyncio.create_task(ask(way))
        await asyncio.sleep(0.01)
        second.cancel()
        await first
        assert (await asyncio.wait_for(third, 1))[1] == b"ok"


def test_cancelling_before_the_head_closes_the_socket():
    @with_peer([5.0])
    async def _(peer, way):
        task = asyncio.create_task(ask(way))
        while not peer.requests:  # noqa: ASYNC110 - the peer is a stranger
            await asyncio.sleep(0.002)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert way.open_connections == 0


def test_drained_answers_keep_their_connection_and_endless_ones_do_not():
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"

    @with_peer([chunked, 0.03, b"0\r\n\r\n"], [chunked, *[b"2\r\nok\r\n", 0.02] * 100], OK)
    async def _(peer, way):
        for kept in (True, False):
            response = await ask(way, read=False)
            assert (await response.next_chunk()).startswith(b"ok")
            response.drain(0.2)
            await asyncio.sleep(0.3)
            assert response.complete is kept
            assert way.open_connections == int(kept)
        assert peer.connections == 1


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/a b", (b"x", b"y")),
        ("/a\r\nx: y", (b"x", b"y")),
        ("/a", (b"x", b"y\r\nz: 1")),
        ("/a", (b"x y", b"1")),
        ("/a", (b"x", b"\x00")),
        ("a", (b"x", b"y")),
    ],
)
def test_nothing_can_be_smuggled_into_a_head(path, header):
    @with_peer(OK)
    async def _(peer, way):
        fault = await fault_of(ask(way, path, headers=[header]))
        assert (fault.kind, fault.sent) == ("request", False)
        assert peer.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/",
        "http:///x",
        "http://u:p@h/",
        "http://h/#f",
        "//h",
        "http://h/ä",
        "http://h/a b",
        "http://h:99999/",
    ],
)
def test_urls_that_cannot_be_used_are_refused(url):
    with pytest.raises(ValueError):
        Wire(url, allow_address=allow)


def test_prefix_and_query_of_the_base_url_are_kept():
    @with_peer(OK)
    async def _(peer, _way):
        way = Wire(f"http://127.0.0.1:{peer.port}/base/v1/?api-version=7", allow_address=allow)
        await ask(way, "/chat")
        await ask(way, "/metrics", method="GET", from_root=True)
        await way.close()
        assert peer.requests[0].startswith(b"POST /base/v1/chat?api-version=7 HTTP/1.1\r\n")
        assert peer.requests[1].startswith(b"GET /metrics HTTP/1.1\r\n")
        assert b"content-length" not in peer.requests[1]


def test_idle_connections_do_not_stay_forever():
    @with_peer(OK)
    async def _(_peer, way):
        await ask(way)
        way._idle[0].deadline = way._loop.time() + 0.03
        way._watch(way._idle[0])
        await asyncio.sleep(0.1)
        assert way.open_connections == 0
