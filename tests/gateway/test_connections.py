"""Connections that live on: answers never shift, whatever came before on the same one."""

from __future__ import annotations

import http.client
import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from world import Gateway, Region, World, chat, config, deployment, messages

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Region() as region:
        fleet = [
            deployment("echo", "echo"),
            deployment("far", "echo", base_url=region.url, max_concurrent=2),
            deployment("foreign", "echo", lawful=False),
            deployment(
                "broken", "truncate", base_url=region.url, retries=0, first_token_ms=300, timeout_ms=600
            ),
        ]
        text = config(fleet, server={"max_body_bytes": 50_000})
        with World(tmp_path_factory.mktemp("connections") / "home", text).up("ward", "press") as up:
            yield up


def written(body: Any) -> bytes:
    return json.dumps(body).encode()


KINDS: dict[str, tuple[str, Callable[[str], bytes], tuple[int, ...]]] = {
    "whole": (CHAT, lambda text: written(chat("echo", text)), (200,)),
    "stream": (CHAT, lambda text: written(chat("far", text, stream=True)), (200,)),
    "messages": ("/v1/messages", lambda text: written(messages("far", text)), (200,)),
    "refused": (CHAT, lambda text: written(chat("foreign", text)), (403,)),
    "malformed": (CHAT, lambda text: b"{" + text.encode(), (400,)),
    "no key": (CHAT, lambda text: written(chat("echo", text)), (401,)),
    "no model": (CHAT, lambda text: written(chat("nothing-like-it", text)), (404,)),
    "no path": ("/v1/nowhere", lambda text: written(chat("echo", text)), (404,)),
    "label": (CHAT, lambda text: written(chat("echo", text)), (400,)),
    "large": (CHAT, lambda text: written(chat("echo", text * 20_000)), (413,)),
    "broken": (CHAT, lambda text: written(chat("broken", text)), (502, 503)),
}
"""Kinds of requests: path, body, and the status each must have."""


def ask(connection: http.client.HTTPConnection, kind: str, key: str, text: str) -> None:
    """Make one request on a connection that may have been used; its answer must be its own."""
    path, body, statuses = KINDS[kind]
    headers = {"authorization": "Bearer " + ("ak_wrong" if kind == "no key" else key)}
    if kind == "label":
        headers["allod-nonsense"] = "1"
    connection.request("POST", path, body(text), headers)
    answer = connection.getresponse()
    got = answer.read()
    assert answer.status in statuses, (kind, answer.status, got)
    if kind in ("whole", "messages"):
        assert text.encode() in got
    if kind == "stream":
        assert got.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("seed", range(6))
def test_answers_never_shift_on_one_connection(gateway: Gateway, seed: int) -> None:
    draw = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    key = gateway.world.key("ward")
    for n in range(40):
        ask(connection, draw.choice(list(KINDS)), key, f"word{seed}x{n}")
    connection.close()


def test_answers_never_shift_between_connections(gateway: Gateway) -> None:
    """Many at once through two upstream connections: everybody gets the words they sent."""

    def one(number: int) -> str:
        answer = gateway.chat(chat("far", f"word{number}", stream=number % 2 == 0), app="ward")
        assert answer.status == 200
        if number % 2 == 0:
            events = [
                json.loads(line[6:])
                for line in answer.body.decode().splitlines()
                if line.startswith("data: {")
            ]
            return "".join(e["choices"][0]["delta"].get("content") or "" for e in events)
        return answer.json["choices"][0]["message"]["content"]  # type: ignore[no-any-return]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(80))) == [f"word{n}" for n in range(80)]


def plain(gateway: Gateway, version: str = "1.1", *more: str, body: bytes = b"", path: str = CHAT) -> bytes:
    key = gateway.world.key("press")
    lines = [f"POST {path} HTTP/{version}", "host: x", f"authorization: Bearer {key}"]
    return "\r\n".join([*lines, f"content-length: {len(body)}", *more, "", ""]).encode()


def everything(peer: socket.socket) -> bytes:
    got = b""
    while part := peer.recv(65536):
        got += part
    return got


@pytest.mark.parametrize("stream", [False, True])
def test_an_old_client_gets_an_answer_that_ends_with_the_connection(gateway: Gateway, stream: bool) -> None:
    body = json.dumps(chat("echo", "old", stream=stream)).encode()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as peer:
        peer.sendall(plain(gateway, "1.0", body=body) + body)
        top, _, rest = everything(peer).partition(b"\r\n\r\n")
    assert b" 200 " in top.split(b"\r\n")[0]
    assert b"transfer-encoding" not in top.lower()
    assert b"old" in rest
    assert not stream or rest.endswith(b"data: [DONE]\n\n")


def test_who_waits_for_100_continue_is_told_to_go_on(gateway: Gateway) -> None:
    body = json.dumps(chat("echo", "patient")).encode()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as peer:
        peer.sendall(plain(gateway, "1.1", "expect: 100-continue", "connection: close", body=body))
        assert peer.recv(65536).startswith(b"HTTP/1.1 100")
        peer.sendall(body)
        assert b"patient" in everything(peer)


def test_who_waits_with_too_much_is_told_before_it_is_sent(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as peer:
        head = plain(gateway, "1.1", "expect: 100-continue").replace(
            b"content-length: 0", b"content-length: 60000"
        )
        peer.sendall(head)
        assert peer.recv(65536).startswith(b"HTTP/1.1 413")


def test_an_upload_that_breaks_off_leaves_no_receipt(gateway: Gateway) -> None:
    gateway.receipt(gateway.chat(chat("echo")).receipt)
    before = len(gateway.world.all_requests())
    for size in (0, 1, 20):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as peer:
            peer.sendall(plain(gateway).replace(b"content-length: 0", b"content-length: 500") + b"x" * size)
            time.sleep(0.05)
    time.sleep(0.1)
    assert len(gateway.world.all_requests()) == before


def test_a_deadline_in_the_middle_of_a_stream_is_told(gateway: Gateway) -> None:
    """The deadline bounds the whole answer; what comes late is not presented as whole."""
    with Region() as slow:
        text = config([deployment("mid", "stall-mid", base_url=slow.url)])
        world = World(gateway.world.root.parent / "deadline" / "home", text)
        with world.up("press") as up:
            began = time.monotonic()
            stream = up.start(CHAT, chat("mid", stream=True), headers={"Allod-Deadline-Ms": "500"})
            body = stream.read()
            assert 0.4 < time.monotonic() - began < 2
            assert b"[DONE]" not in body
            assert b'"error"' in body
            leaf: dict[str, Any] = up.leaf(stream.receipt)
            assert (leaf["status"], leaf["reason"]) == ("failed", "timeout")
