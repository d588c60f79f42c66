"""The client below the drivers, against raw sockets that say exactly what a test wants."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import time

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from allod.engines.contract import EngineFault
from allod.engines.wire import Wire, fault_from_response

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LOOPS = [uvloop.run, asyncio.run]


def allow(_host, _port):
    return True


class Peer:
    """Answers every request with the bytes given; ``None`` closes, a float pauses."""

    def __init__(self, *answers, ssl_context=None):
        self.answers, self.requests, self.connections, self.lost = list(answers), [], 0, 0
        self._ssl = ssl_context

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._ssl)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = 0
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                for part in answer if isinstance(answer, list | tuple) else [answer]:
                    if part is None:
                        return
                    if isinstance(part, float):
                        await writer.drain()
                        await asyncio.sleep(part)
                    else:
                        writer.write(part)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.lost += 1
        finally:
            writer.close()


def wire(port, **more):
    return Wire(f"http://127.0.0.1:{port}", **{"allow_address": allow, **more})


async def ask(way, path="/x", body=b"", *, method="POST", headers=(), read=True, **limits):
    given = {"first_byte_ms": 500, "idle_ms": 500, "total_ms": 2000, **limits}
    response = await way.request(method, path, list(headers), body, **given)
    return (response, await response.read()) if read else response


async def fault_of(coroutine):
    try:
        await coroutine
    except EngineFault as fault:
        return fault
    raise AssertionError("no fault")


def with_peer(*answers, run=uvloop.run, **more):
    def decorate(scenario):
        async def inside():
            async with Peer(*answers) as peer:
                way = wire(peer.port, **more)
                try:
                    return await scenario(peer, way)
                finally:
                    await way.close()

        return run(inside())

    return decorate


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
            [b"host: 127.0.0.1:%d" % peer.port, b"accept-encoding: identity", b"user-agent: allod", b"x-a: 1",
             b"content-length: 2"]
        )  # fmt: skip
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
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + b"t: 1\r\n" * 20_000, "oversize"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"e=" * 90_000, "malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3000000000\r\n\r\n" + b"x" * 5000, "oversize"),
    ],
)  # fmt: skip
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
        while not peer.requests:
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
    [("/a b", (b"x", b"y")), ("/a\r\nx: y", (b"x", b"y")), ("/a", (b"x", b"y\r\nz: 1")), ("/a", (b"x y", b"1")),
     ("/a", (b"x", b"\x00")), ("a", (b"x", b"y"))],
)  # fmt: skip
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


def test_I6_a_name_is_asked_about_and_so_is_each_address_it_resolves_to():
    asked = []

    def only_name(host, port):
        asked.append(host)
        return host == "localhost"

    @with_peer(OK)
    async def _(peer, _way):
        way = Wire(f"http://localhost:{peer.port}", allow_address=only_name)
        fault = await fault_of(ask(way))
        await way.close()
        assert (fault.kind, fault.sent, peer.connections) == ("connect", False, 0)

    assert asked[0] == "localhost"
    assert "127.0.0.1" in asked


def test_I6_no_name_is_resolved_that_is_not_allowed(monkeypatch):
    async def scenario():
        loop = asyncio.get_running_loop()
        resolved = []
        monkeypatch.setattr(type(loop), "getaddrinfo", lambda *a, **k: resolved.append(a), raising=False)
        way = Wire("http://leak.example.org", allow_address=lambda _h, _p: False)
        fault = await fault_of(ask(way))
        assert fault.kind == "connect"
        assert not resolved

    asyncio.run(scenario())


def test_I6_the_socket_goes_to_the_address_that_was_asked_about(monkeypatch):
    """A second resolution, which might answer otherwise, never happens."""

    async def scenario():
        async with Peer(OK) as peer:
            loop = asyncio.get_running_loop()
            lookups = []

            async def once(self, host, port, **_):
                lookups.append(host)
                assert len(lookups) == 1
                return [(2, 1, 6, "", ("127.0.0.1", port))]

            monkeypatch.setattr(type(loop), "getaddrinfo", once, raising=False)
            way = Wire(f"http://rebinding.example.org:{peer.port}", allow_address=allow)
            assert (await ask(way))[1] == b"ok"
            assert b"host: rebinding.example.org:" in peer.requests[0]
            await way.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("run", LOOPS)
def test_a_unix_socket_serves_as_well(run, tmp_path):
    async def scenario():
        path = str(tmp_path / "s")

        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            await writer.drain()

        server = await asyncio.start_unix_server(serve, path)
        way = Wire("http://engine", allow_address=lambda _h, _p: False, unix_socket=path)
        assert (await ask(way))[1] == b"ok"
        await way.close()
        server.close()
        missing = Wire("http://engine", allow_address=allow, unix_socket=path + "x")
        fault = await fault_of(ask(missing))
        assert (fault.kind, fault.sent) == ("connect", False)

    run(scenario())


def certificate(tmp_path, name):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    path = tmp_path / "server.pem"
    path.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize("run", LOOPS)
def test_tls_is_spoken_and_an_unknown_certificate_refused(run, tmp_path):
    path = certificate(tmp_path, "peer")
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(path)
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_side.load_verify_locations(path)

    async def scenario():
        async with Peer(OK, ssl_context=server_side) as peer:
            way = Wire(f"https://127.0.0.1:{peer.port}", allow_address=allow, tls=client_side)
            for _ in range(2):
                assert (await ask(way))[1] == b"ok"
            assert peer.connections == 1
            await way.close()
            stranger = Wire(f"https://127.0.0.1:{peer.port}", allow_address=allow)
            fault = await fault_of(ask(stranger))
            assert (fault.kind, fault.sent, len(peer.requests)) == ("connect", False, 2)
            plain = wire(peer.port)
            assert (await fault_of(ask(plain))).kind in ("reset", "malformed", "truncated")

    run(scenario())


def test_tls_secrets_go_to_no_key_log(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    context = Wire("https://example.org", allow_address=allow)._context()
    assert context.keylog_filename is None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_idle_connections_do_not_stay_forever():
    @with_peer(OK)
    async def _(_peer, way):
        await ask(way)
        way._idle[0].deadline = way._loop.time() + 0.03
        way._watch(way._idle[0])
        await asyncio.sleep(0.1)
        assert way.open_connections == 0


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "wait"),
    [
        (429, [(b"Retry-After", b"7")], b"", "rate", 7000),
        (429, [(b"retry-after", b"0.5")], b"", "rate", 500),
        (429, [(b"retry-after-ms", b"25"), (b"retry-after", b"7")], b"", "rate", 25),
        (503, [(b"retry-after", b"Wed, 21 Oct 2026 07:28:10 GMT"), (b"date", b"Wed, 21 Oct 2026 07:28:00 GMT")],
         b"", "overloaded", 10_000),
        (503, [(b"retry-after", b"Wed, 21 Oct 2015 07:28:00 GMT")], b"", "overloaded", 0),
        (429, [(b"retry-after", b"99999999999")], b"", "rate", 86_400_000),
        (429, [(b"retry-after", b"soon")], b"", "rate", None),
        (429, [(b"retry-after", b"-5")], b"", "rate", None),
        (400, [], b'{"error":{"code":"context_length_exceeded"}}', "too_long", None),
        (400, [], b'{"error":{"type":"exceed_context_size_error","n_ctx":512}}', "too_long", None),
        (400, [], b'{"object":"error","message":"This model\'s maximum context length is 4096 tokens."}',
         "too_long", None),
        (400, [], b'{"error":"prompt is too long: 300 tokens"}', "too_long", None),
        (413, [], b"<html>", "too_long", None),
        (400, [], b'{"error":{"message":"bad","type":"invalid_request_error"}}', "request", None),
        (404, [], b"", "request", None),
        (402, [], b"", "auth", None),
        (504, [], b"", "timeout", None),
        (599, [], b"[" * 100_000, "server", None),
    ],
)  # fmt: skip
def test_error_answers_are_told_apart(status, headers, body, kind, wait):
    fault = fault_from_response(status, headers, body)
    assert (fault.kind, fault.retry_after_ms, fault.status) == (kind, wait, status)


@given(st.integers(300, 599), st.binary(max_size=200), st.binary(max_size=40))
def test_no_word_of_an_operators_message_is_kept(status, body, value):
    secret = b"patient-name"
    wrapped = b'{"error":{"message":"patient-name","code":"patient name!","type":"x y"}}'
    fault = fault_from_response(status, [(b"retry-after", value)], wrapped if len(body) % 2 else body)
    assert secret.decode() not in fault.detail
    assert "\n" not in fault.detail
    assert len(fault.detail) < 120
