"""Clients that send rubbish, too much, too slowly or never: a clear error, and nobody else notices."""

from __future__ import annotations

import json
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import Gateway, Region, World, call, chat, config, deployment, messages, responses, until

CHAT = "/v1/chat/completions"
PATHS = (CHAT, "/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/v1/embeddings")
BODY_LIMIT = 200_000
HEAD_LIMIT = 8_192
SERVER = {
    "max_body_bytes": BODY_LIMIT,
    "max_header_bytes": HEAD_LIMIT,
    "header_ms": 600,
    "body_ms": 600,
    "send_idle_ms": 1200,
}
IDLE = 1000


@pytest.fixture(scope="module")
def region() -> Iterator[Region]:
    with Region() as one:
        yield one


@pytest.fixture(scope="module")
def gateway(region: Region, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    fleet = [
        deployment("sound", "answer"),
        deployment("region", "answer", base_url=region.url),
        deployment("stuck", "stall-mid", base_url=region.url, first_token_ms=60_000),
        deployment("endless", "endless", base_url=region.url),
        deployment("obey", "obey"),
    ]
    world = World(tmp_path_factory.mktemp("bad") / "home", config(fleet, server=SERVER))
    with world.up("press") as up:
        yield up


@pytest.fixture(autouse=True)
def others_are_still_served(gateway: Gateway) -> Iterator[None]:
    yield
    assert gateway.process.poll() is None
    assert gateway.chat(chat("sound")).status == 200


def head(gateway: Gateway, length: int | None, *more: str, path: str = CHAT) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", f"authorization: Bearer {gateway.world.key('press')}"]
    lines += [f"content-length: {length}"] if length is not None else []
    return "\r\n".join([*lines, *more, "", ""]).encode()


def raw(gateway: Gateway, data: bytes, *, timeout: float = 10, end: bool = False) -> tuple[int, bytes]:
    """Send bytes as they are; returns the status and everything that came.

    With ``end`` our half of the connection is closed behind them, which tells a server that we are gone.
    """
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=timeout) as plain:
        try:
            plain.sendall(data)
            if end:
                plain.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        return said(plain)


def said(plain: socket.socket) -> tuple[int, bytes]:
    got = b""
    try:
        while part := plain.recv(65536):
            got += part
            if b"content-length: 0" not in got and _complete(got):
                break
    except ConnectionResetError:
        pass
    return (int(got.split(b" ", 2)[1]) if got else 0), got


def _complete(got: bytes) -> bool:
    top, _, body = got.partition(b"\r\n\r\n")
    for line in top.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return False


# --- bodies


BAD_BODIES = {
    "empty": b"",
    "not JSON": b"{not json",
    "cut": b'{"model": "sound", "messages": [',
    "a list": b"[]",
    "a string": b'"hello"',
    "null": b"null",
    "two values": b"{} {}",
    "NaN": b'{"model": "sound", "messages": [{"role":"user","content":"x"}], "temperature": NaN}',
    "a huge number": b'{"model": "sound", "messages": [{"role":"user","content":"x"}], "seed": 1'
    + b"0" * 400
    + b"}",
    "not UTF-8": b'{"model": "sound", "messages": [{"role":"user","content":"\xff\xfe"}]}',
    "a lone surrogate": b'{"model": "sound", "messages": [{"role":"user","content":"\\ud800"}]}',
    "a name twice": b'{"model": "sound", "model": "obey", "messages": [{"role":"user","content":"x"}]}',
    "deep arrays": b"[" * 50_000 + b"]" * 50_000,
    "deep objects": b'{"a":' * 30_000 + b"1" + b"}" * 30_000,
    "UTF-16": '{"model": "sound"}'.encode("utf-16"),
    "gzip magic": b"\x1f\x8b\x08" + b"\0" * 50,
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_malformed_body_is_400_in_the_surfaces_own_words(gateway: Gateway, path: str, name: str) -> None:
    answer = gateway.call(path, BAD_BODIES[name], method="POST")
    assert answer.status == 400, answer
    error = answer.json["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert (answer.json.get("type") == "error") == path.startswith("/v1/messages")
    assert len(answer.body) < 2000


WRONG = [
    (CHAT, {"model": 5, "messages": []}, "model"),
    (CHAT, {"model": "sound"}, "messages"),
    (CHAT, chat("sound", messages=[{"role": "king", "content": "x"}]), "messages[0].role"),
    (CHAT, chat("sound", temperature="hot"), "temperature"),
    (CHAT, chat("sound", n=0), "n"),
    (CHAT, chat("sound", max_tokens=-1), "max_tokens"),
    (CHAT, {**chat("sound"), "stream": "yes"}, "stream"),
    (CHAT, chat("sound", tools=[{"type": "function"}]), "tools[0].function"),
    (CHAT, chat("sound", unknown_field=1), "unknown_field"),
    (CHAT, chat("sound", metadata={"k": {"deep": 1}}), "metadata"),
    ("/v1/responses", {"model": "sound", "input": 5}, "input"),
    ("/v1/responses", responses("sound", unknown_field=1), "unknown_field"),
    ("/v1/embeddings", {"model": "sound"}, "input"),
    ("/v1/embeddings", {"model": "sound", "input": "x", "dimensions": 0}, "dimensions"),
    ("/v1/messages", {"model": "sound", "messages": []}, None),
    ("/v1/messages", messages("sound", max_tokens="many"), None),
    ("/v1/messages", messages("sound", unknown_field=1), None),
]


@pytest.mark.parametrize(("path", "body", "param"), WRONG)
def test_wrong_types_and_unknown_fields_are_named(
    gateway: Gateway, path: str, body: Any, param: str | None
) -> None:
    answer = gateway.call(path, body)
    assert answer.status == 400, answer
    if param is not None:
        assert (answer.json["error"]["param"] or "").startswith(param), answer
    else:
        assert answer.json["type"] == "error"
    assert "allod-receipt" not in answer.headers


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    ["model", "messages", "stream", "tools", "tool_choice", "response_format", "stop", "n", "max_tokens",
     "metadata", "stream_options", "logprobs", "top_logprobs", "user", "input", "system", "thinking",
     "temperature", "reasoning", "text", "instructions", "encoding_format", "dimensions"]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(PATHS),
    changes=st.dictionaries(FIELDS, JSON, max_size=3),
)
def test_whatever_stands_in_a_field_nothing_of_ours_breaks(
    gateway: Gateway, path: str, changes: dict[str, Any]
) -> None:
    body = {"model": "sound", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "input": "x"}
    if path in ("/v1/responses", "/v1/embeddings"):
        del body["messages"], body["max_tokens"]
    else:
        del body["input"]
    answer = gateway.call(path, {**body, **changes})
    assert answer.status in (200, 400, 403, 404), answer
    assert "defect" not in gateway.stderr


def test_a_body_over_the_limit_is_413_declared_or_not(gateway: Gateway) -> None:
    declared = raw(gateway, head(gateway, BODY_LIMIT + 1))
    assert declared[0] == 413
    assert b"request_too_large" in declared[1]
    chunk = b"%x\r\n%b\r\n" % (10_000, b" " * 10_000)
    chunked = raw(gateway, head(gateway, None, "transfer-encoding: chunked") + chunk * 40 + b"0\r\n\r\n")
    assert chunked[0] == 413
    exact = json.dumps(chat("sound", "x")).encode().ljust(BODY_LIMIT)
    assert gateway.call(CHAT, exact).status == 200


def test_a_chunked_body_within_the_limit_is_read(gateway: Gateway) -> None:
    body = json.dumps(chat("sound")).encode()
    parts = b"".join(
        b"%x\r\n%b\r\n" % (len(body[i : i + 7]), body[i : i + 7]) for i in range(0, len(body), 7)
    )
    status, _ = raw(gateway, head(gateway, None, "transfer-encoding: chunked") + parts + b"0\r\n\r\n")
    assert status == 200


def test_a_compressed_body_is_not_taken(gateway: Gateway) -> None:
    answer = gateway.chat(chat("sound"), headers={"content-encoding": "gzip"})
    assert answer.status == 400
    assert answer.json["error"]["code"] == "not_supported"


# --- heads


BAD_HEADS = {
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00",
    "no method": b"/v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
    "a space before the colon": b"GET /healthz HTTP/1.1\r\nhost : x\r\n\r\n",
    "two lengths": b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n"
    b"content-length: 2\r\n\r\n{}",
    "length and chunks": b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n"
    b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -2\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
    "two authorizations": b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a\r\n"
    b"authorization: Bearer b\r\n\r\n",
    "folded": b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: a\r\n b\r\n\r\n",
    "a NUL": b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n",
    "chunks without sense": b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
    b"transfer-encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_a_malformed_head_is_400_and_closes(gateway: Gateway, name: str) -> None:
    status, got = raw(gateway, BAD_HEADS[name])
    assert status in (400, 401), got
    assert status == 400 or name == "chunks without sense"


def test_headers_over_the_limit_are_400_however_they_come(gateway: Gateway) -> None:
    for many in (
        "x: " + "a" * HEAD_LIMIT,
        "\r\n".join(f"x-{n}: {n:0>20}" for n in range(HEAD_LIMIT // 20)),
        "a" * HEAD_LIMIT + ": x",
    ):
        status, got = raw(gateway, head(gateway, 2, many) + b"{}")
        assert status in (400, 431), got
    status, _ = raw(gateway, b"GET /" + b"a" * HEAD_LIMIT + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    assert status in (400, 414, 431)
    status, _ = raw(gateway, b"GET / HTTP/1.1\r\nx: " + b"a" * (HEAD_LIMIT * 20))
    assert status in (0, 400, 408, 431)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", CHAT, 405),
        ("PUT", "/v1/models", 405),
        ("DELETE", "/v1/receipts/r_x", 405),
        ("GET", "/", 404),
        ("GET", "/v1/../etc/passwd", 404),
        ("GET", "/v1/%00", 404),
        ("POST", "/v1/completions", 404),
        ("OPTIONS", CHAT, 405),
        ("GET", "/log/tile/0/%2e%2e/%2e%2e/keys/log.key", 404),
    ],
)
def test_paths_and_methods_that_are_not_there(gateway: Gateway, method: str, path: str, status: int) -> None:
    answer = gateway.call(path, method=method)
    assert answer.status == status
    if status == 405:
        assert answer.headers["allow"]


def test_labels_behind_the_body_do_not_count(gateway: Gateway) -> None:
    body = json.dumps(chat("sound")).encode()
    sent = head(gateway, None, "transfer-encoding: chunked", "trailer: allod-data-class")
    sent += b"%x\r\n%b\r\n0\r\nallod-data-class: phi\r\n\r\n" % (len(body), body)
    status, got = raw(gateway, sent)
    assert status == 400, got


# --- slowness


def test_a_head_that_does_not_come_is_408(gateway: Gateway) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain:
        plain.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nho")
        status, _ = said(plain)
    assert status == 408
    assert time.monotonic() - began < 4


def test_a_head_that_drips_is_408(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain:
        plain.settimeout(0.1)
        got = b""
        for at in range(60):
            try:
                plain.sendall(b"GET /healthz HTTP/1.1\r\nx-slow: "[at : at + 1] or b"a")
                got += plain.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            if got:
                break
        assert got.startswith(b"HTTP/1.1 408")


def test_a_body_that_does_not_come_is_408_and_leaves_no_receipt(gateway: Gateway) -> None:
    gateway.receipt(gateway.chat(chat("sound")).receipt)
    before = len(gateway.world.all_requests())
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain:
        plain.sendall(head(gateway, 500) + b'{"model":')
        status, _ = said(plain)
    assert status == 408
    time.sleep(0.1)
    assert len(gateway.world.all_requests()) == before


def test_a_reader_that_takes_nothing_is_dropped_and_its_operator_too(
    gateway: Gateway, region: Region
) -> None:
    region.clear()
    body = json.dumps(chat("endless", stream=True, max_tokens=16_384)).encode()
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(("127.0.0.1", gateway.port))
        plain.sendall(head(gateway, len(body)) + body)
        seen = until(lambda: region.seen)[0]
        until(lambda: seen.lost_at, 10)
    rss = gateway.rss_bytes()
    assert rss < 250 << 20, f"{rss >> 20} MiB"


def test_a_reader_that_is_slow_gets_everything(gateway: Gateway) -> None:
    stream = gateway.start(CHAT, chat("sound", stream=True))
    parts = []
    while part := stream._response.read(64):
        parts.append(part)
        time.sleep(0.005)
    assert b"".join(parts).endswith(b"data: [DONE]\n\n")
    stream.drop()


def test_a_thousand_idle_streams_are_bounded_and_others_are_served(gateway: Gateway) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16_384), hard))
    before = gateway.rss_bytes()
    body = json.dumps(chat("stuck", stream=True)).encode()
    request = head(gateway, len(body)) + body
    streams: list[socket.socket] = []
    try:
        for _ in range(IDLE):
            plain = socket.create_connection(("127.0.0.1", gateway.port), timeout=20)
            plain.sendall(request)
            streams.append(plain)
        for plain in streams:
            assert plain.recv(64).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        assert gateway.chat(chat("sound")).status == 200
        took = time.monotonic() - began
        grown = gateway.rss_bytes() - before
        each, took_ms = grown / IDLE / 1024, took * 1000
        print(f"{IDLE} idle streams: {each:.1f} KiB each; another took {took_ms:.0f} ms")  # noqa: T201
        assert grown < 150 << 20
        assert took < 2
    finally:
        for plain in streams:
            plain.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    until(lambda: gateway.chat(chat("sound")).status == 200, 10)
    until(lambda: sum(r.status == "aborted" for r in gateway.world.all_requests()) >= IDLE, 20, 0.2)


def test_connections_that_ask_nothing_are_closed(gateway: Gateway) -> None:
    plain = [socket.create_connection(("127.0.0.1", gateway.port), timeout=5) for _ in range(50)]
    began = time.monotonic()
    for one in plain:
        said(one)
        one.close()
    assert time.monotonic() - began < 4


def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    body = json.dumps(chat("sound")).encode()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain:
        plain.sendall((head(gateway, len(body)) + body) * 5)
        got = b""
        while got.count(b"HTTP/1.1 200") < 5:
            part = plain.recv(65536)
            assert part
            got += part
    assert got.count(b"HTTP/1.1 ") == 5


# --- callers


def test_an_unknown_model_is_404_with_the_nearest_name(gateway: Gateway) -> None:
    for path, make in ((CHAT, chat), ("/v1/messages", messages), ("/v1/responses", responses)):
        answer = gateway.call(path, make("soundd"))
        assert answer.status == 404
        assert "sound" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer ak_wrong"},
        {"authorization": "Basic abc"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer \xff"},
        {"x-api-key": "ak_wrong"},
        {"authorization": "Bearer " + "a" * 4000},
    ],
)
def test_no_key_or_a_wrong_one_is_401(gateway: Gateway, headers: dict[str, str]) -> None:
    for path, make in ((CHAT, chat), ("/v1/messages", messages)):
        answer = call(gateway.port, path, make("sound"), headers=headers)
        assert answer.status == 401
        assert answer.json["error"]["type"] in ("authentication_error", "invalid_request_error")
        assert "allod-receipt" not in answer.headers


def test_a_key_made_or_revoked_while_it_runs_counts_within_a_second(gateway: Gateway) -> None:
    made = gateway.world.allod("keys", "create", "press", "--json")
    assert made.returncode == 0
    key, at = json.loads(made.stdout)["key"], time.monotonic()
    until(lambda: call(gateway.port, CHAT, chat("sound"), key=key).status == 200, 5)
    assert time.monotonic() - at < 1
    from allod.store.keys import digest_of

    revoked = gateway.world.allod("keys", "revoke", digest_of(key)[:16], "--json")
    assert revoked.returncode == 0, revoked
    at = time.monotonic()
    until(lambda: call(gateway.port, CHAT, chat("sound"), key=key).status == 401, 5)
    assert time.monotonic() - at < 1


def test_an_expired_key_is_401(gateway: Gateway) -> None:
    from allod.store.keys import create_key

    now = time.time_ns() // 1_000_000
    tables = gateway.world.tables()
    key = create_key(tables, "press", at_ms=now, expires_at_ms=now + 1500)
    tables.close()
    until(lambda: call(gateway.port, CHAT, chat("sound"), key=key).status == 200, 1.2)
    time.sleep(max(0.0, (now + 1550) / 1000 - time.time()))
    assert call(gateway.port, CHAT, chat("sound"), key=key).status == 401


def test_the_key_of_an_app_that_is_not_configured_is_401(gateway: Gateway) -> None:
    assert call(gateway.port, CHAT, chat("sound"), key=gateway.world.key("nobody")).status == 401


def test_many_threads_of_rubbish_leave_it_standing(gateway: Gateway) -> None:
    def throw(seed: int) -> None:
        for n in range(20):
            raw(gateway, os.urandom(200 + seed + n), timeout=5, end=True)

    threads = [threading.Thread(target=throw, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
