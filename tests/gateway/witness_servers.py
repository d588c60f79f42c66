"""Witnesses for the tests: real ones in processes of their own, and one that answers what it is told to."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from world import World, config, deployment, read_json

from allod.receipts.cosignature import parse_cosigner_key

FLEET = [deployment("inner", "answer")]


class Served:
    """A witness in a process of its own; it can be ended and begun again on the same port."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name, self.port = root, name, 0
        self.environ = {**World(root, "").environ}
        keys = self._run("--name", name, "--keys")
        self.keys = [parse_cosigner_key(key) for key in json.loads(keys.stdout)["keys"]]
        self.process: subprocess.Popen[bytes] | None = None

    def _run(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "allod", "log", "witness", *args, "--json"]
        return subprocess.run(
            command, env=self.environ, capture_output=True, text=True, timeout=60, check=False
        )

    def begin(self, *vkeys: str) -> None:
        logs = [word for vkey in vkeys for word in ("--log", vkey)]
        command = [sys.executable, "-m", "allod", "log", "witness", "--json", "--port", str(self.port), *logs]
        self.process = subprocess.Popen(
            command, env=self.environ, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        self.port = int(read_json(self.process, 60.0)["url"].rsplit(":", 1)[1])

    def end(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def row(self, which: int) -> dict[str, str]:
        key = self.keys[which]
        name = f"{self.name}-{key.algorithm}"
        return {"name": name, "key": key.vkey(), "url": f"http://127.0.0.1:{self.port}"}


@contextlib.contextmanager
def witnesses(root: Path, vkey: str, count: int = 2) -> Iterator[list[Served]]:
    served = [Served(root / f"w{i}", f"w{i}.example") for i in range(count)]
    try:
        for one in served:
            one.begin(vkey)
        yield served
    finally:
        for one in served:
            one.end()


def asked(world: World, rows: list[dict[str, str]], quorum: int, **more: Any) -> None:
    world.write(config(FLEET, log={"witnesses": rows, "quorum": quorum, "witness_ms": 1000, **more}))


@contextlib.contextmanager
def liar(answers: list[tuple[int, bytes]]) -> Iterator[tuple[int, list[int]]]:
    """Answer each request with the next of these, then with the last."""
    heard: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link, contextlib.suppress(OSError):
                    link.recv(1 << 18)
                    status, body = answers[min(len(heard), len(answers) - 1)]
                    heard.append(status)
                    head = f"HTTP/1.1 {status} X\r\ncontent-type: text/x.tlog.size\r\nlocation: /\r\n"
                    link.sendall(f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode())
                    link.sendall(body)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)
