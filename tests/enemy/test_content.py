"""I9 against an operator that echoes what it was told everywhere it can, and a caller that misplaces it."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import World, chat, config, deployment

SECRET = "Frau Zyx-17 has phthisis"
COMPLETION = {
    "id": SECRET,
    "object": "chat.completion",
    "created": 1,
    "model": SECRET,
    "system_fingerprint": SECRET,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": SECRET}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18, SECRET: 1},
}
ECHOES: dict[str, tuple[int, Any]] = {
    "whole": (200, COMPLETION),
    "wrong-usage": (200, {**COMPLETION, "usage": {"prompt_tokens": SECRET}}),
    "no-finish": (200, {**COMPLETION, "choices": [{**COMPLETION["choices"][0], "finish_reason": SECRET}]}),
    "error-200": (200, {"error": {"message": SECRET, "code": SECRET, "type": SECRET}}),
    "error-400": (400, {"error": {"message": SECRET, "code": SECRET, "type": SECRET, "param": SECRET}}),
    "error-500": (500, {"detail": SECRET}),
    "text-502": (502, SECRET),
    "no-json": (200, SECRET + "{"),
}


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers by the model asked for, quoting the prompt."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, body = ECHOES[asked["model"]]
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status, SECRET)
        self.send_header("content-type", "application/json")
        self.send_header("x-request-id", SECRET)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def operator() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


MISPLACED: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({SECRET: 1}, {}),
    ({"model": SECRET}, {}),
    ({"reasoning_effort": SECRET}, {}),
    ({"tools": SECRET}, {}),
    ({"metadata": {"allod-purpose": SECRET}}, {}),
    ({"metadata": {"allod-" + SECRET: "x"}}, {}),
    ({"metadata": {"note": SECRET}}, {}),
    ({"user": SECRET, "stop": [SECRET]}, {}),
    ({"tools": [{"type": "function", "function": {"name": "f", "description": SECRET}}]}, {}),
    ({}, {"allod-purpose": SECRET}),
    ({}, {"allod-task": SECRET}),
    ({}, {"allod-data-class": SECRET}),
    ({}, {"allod-zyx-17-has-phthisis": "1"}),
    ({}, {"authorization": f"Bearer {SECRET}"}),
]


def test_I9_no_content_rests_in_the_home_or_on_standard_error(tmp_path: Path) -> None:
    with operator() as url:
        deployments = [deployment(name, name, base_url=url, retries=0) for name in ECHOES]
        world = World(tmp_path / "home", config([*deployments, deployment("own", "answer")]))
        with world.up("press") as gateway:
            statuses = {name: gateway.chat(chat(name, SECRET)).status for name in ECHOES}
            for more, headers in MISPLACED:
                gateway.chat(chat("own", SECRET) | more, headers=headers)
            gateway.call("/v1/embeddings", {"model": "own", "input": SECRET})
            gateway.call(f"/v1/receipts/{SECRET.replace(' ', '%20')}")
        said = gateway.stderr
    assert statuses["whole"] == 200
    assert statuses["error-400"] == 400
    found = [str(path) for path in files(world.root) if marks(path.read_bytes())]
    assert not found
    assert not marks(said.encode())


def marks(data: bytes) -> bool:
    return b"phthisis" in data


def files(root: Path) -> list[Path]:
    found = [path for path in root.rglob("*") if path.is_file()]
    assert len(found) > 8, "the home is there"
    return found


@pytest.mark.parametrize("name", ["gpt-5.5", "/models/a.gguf", "org/model:tag@sha256", None, ""])
def test_a_name_is_kept(name: str | None) -> None:
    from allod.engines.run import named

    assert named(name) == name
