"""Memory over many mixed requests: resident memory at the end beside that after the first tenth.

    python benchmarks/soak.py [--requests 200000]

Half of the requests are streamed, a tenth of these are cut off by the client, every prompt is new, and among
them are refusals, wrong keys and bodies that are no JSON. The upstream is the mock here (simulated).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
from machine import Process
from overhead import CONFIG, DEPLOYMENT

WORKERS = 24
ALLOWED_GROWTH = 1.05
STREAM_MODEL = "mock-20-0"
READ = 1 << 16


class Mixed:
    """One client's share of the requests."""

    def __init__(self, port: int, key: str, chance: random.Random) -> None:
        self._port, self._key, self._chance = port, key, chance
        self.counts: dict[str, int] = {}

    def _request(self) -> tuple[str, bytes]:
        kind = self._chance.choices(
            ["whole", "stream", "cut", "refused", "key", "garbage"], [43, 42, 5, 5, 3, 2]
        )[0]
        stream = kind in ("stream", "cut")
        model = {"stream": STREAM_MODEL, "cut": STREAM_MODEL, "refused": "far"}.get(kind, "mock")
        words = " ".join(f"w{self._chance.randrange(10**9)}" for _ in range(60))
        body = json.dumps(
            {"model": model, "stream": stream, "messages": [{"role": "user", "content": words}]}
        ).encode()
        if kind == "garbage":
            body = b'{"model": '
        key = "ak_" + "x" * 43 if kind == "key" else self._key
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: soak\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return kind, head.encode() + body

    async def run(self, number: int) -> None:
        """Make so many requests, on one connection as long as it lives."""
        link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for _ in range(number):
            kind, request = self._request()
            if link is None:
                link = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = link
            writer.write(request)
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if kind == "cut":
                    writer.transport.abort()
                    link = None
                else:
                    await _rest(reader, head)
                status = head.split(b" ", 2)[1].decode()
            except (asyncio.IncompleteReadError, ConnectionError):
                link, status = None, "closed"
            if link is not None and b"connection: close" in head:
                writer.close()
                link = None
            name = f"{kind} {status}"
            self.counts[name] = self.counts.get(name, 0) + 1


async def _rest(reader: asyncio.StreamReader, head: bytes) -> None:
    """Read the body of an answer."""
    if b"content-length:" in head:
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        return
    while True:
        size = int((await reader.readuntil(b"\r\n")).strip(), 16)
        await reader.readexactly(size + 2)
        if size == 0:
            return


def prepared(scratch: Path, upstream: int, port: int) -> tuple[Process, str]:
    """Start the gateway on one core; return it and a key."""
    home = scratch / "home"
    home.mkdir(mode=0o700)
    text = CONFIG.format(port=port)
    for n, model in enumerate(("mock", STREAM_MODEL)):
        text += DEPLOYMENT.format(id=f"d{n}", upstream=upstream, model=model, operator="self", n=n)
    text += DEPLOYMENT.format(id="far", upstream=upstream, model="other", operator="abroad", n=9)
    (home / "allod.toml").write_text(text)
    env = {**os.environ, "ALLOD_HOME": str(home)}
    command = [sys.executable, "-m", "allod", "keys", "create", "bench", "--json"]
    made = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    gateway = Process("allod", [sys.executable, "-m", "allod", "up"], 1, scratch / "allod.log", env=env)
    gateway.wait_for(port)
    return gateway, json.loads(made.stdout)["key"]


async def mixed(port: int, key: str, requests: int, seed: int) -> dict[str, int]:
    """Make requests from several clients at once; return how many of each kind ended how."""
    clients = [Mixed(port, key, random.Random(seed * 1000 + n)) for n in range(WORKERS)]  # noqa: S311
    await asyncio.gather(*(client.run(requests // WORKERS) for client in clients))
    total: dict[str, int] = {}
    for client in clients:
        for name, count in client.counts.items():
            total[name] = total.get(name, 0) + count
    return total


def main() -> int:
    """Run, print a line per tenth, and fail when memory grew by more than five per cent."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--requests", type=int, default=200_000)
    asked = options.parse_args().requests
    with tempfile.TemporaryDirectory(prefix="allod-soak-") as folder:
        scratch = Path(folder)
        machine.build(scratch)
        upstream, port = machine.free_port(), machine.free_port()
        mock = Process("upstream", [str(scratch / "upstream"), str(upstream)], 0, scratch / "up.log")
        mock.wait_for(upstream)
        gateway, key = prepared(scratch, upstream, port)
        try:
            first, began, kinds = 0.0, time.monotonic(), {}
            for tenth in range(1, 11):
                kinds = asyncio.run(mixed(port, key, asked // 10, tenth))
                time.sleep(0.5)
                now = machine.memory_mb(gateway.pid, "VmRSS")
                first = first or now
                print(
                    f"{tenth * asked // 10:8} requests  {now:6.1f} MB  {time.monotonic() - began:6.1f} s",
                    flush=True,
                )
            print("of the last tenth: " + ", ".join(f"{n} x{c}" for n, c in sorted(kinds.items())))
            grown = now / first
            print(f"memory after all / after the first tenth: {grown:.3f} (at most {ALLOWED_GROWTH})")
            print(f"command: python benchmarks/soak.py --requests {asked}")
        finally:
            gateway.stop()
            mock.stop()
    return 0 if grown <= ALLOWED_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
