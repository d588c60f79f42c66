"""The traffic of a day, a client that sends it, and the gateway process it is sent to."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Self

import msgspec
from day_fleet import STREAMS, Stream
from day_outcomes import Outcomes, prompt_id

RATE: Final = (2, 1, 1, 1, 1, 2, 4, 8, 14, 18, 20, 19, 15, 17, 20, 20, 18, 15, 11, 9, 8, 6, 5, 3)
"""Requests by hour of the day, relative: an office with evening use (made up)."""
_START_S: Final = 90


class Asked(msgspec.Struct, kw_only=True):
    """One request of the day, and what came of it."""

    hour: int
    stream: Stream
    prompt: str
    status: int = 0
    receipt: str = ""
    key: str = ""

    @property
    def id(self) -> str:
        """The prompt's name in the outcomes."""
        return prompt_id(self.prompt)


def day(outcomes: Outcomes, requests: int, seed: int) -> list[list[Asked]]:
    """Draw the requests of each hour, in the order they are sent."""
    chance = random.Random(seed)  # noqa: S311 (a simulation, to be drawn again alike)
    shares = [float(one.share) for one in STREAMS]
    hours = []
    for hour, rate in enumerate(RATE):
        streams = chance.choices(STREAMS, shares, k=max(1, round(requests * rate / sum(RATE))))
        hours.append(
            [
                Asked(hour=hour, stream=one, prompt=chance.choice(outcomes.prompts[one.prompts]))
                for one in streams
            ]
        )
    return hours


class Gateway:
    """A gateway in a process of its own, ``python -m allod up`` on a home; ended in order."""

    def __init__(self, home: Path) -> None:
        self._env = {**os.environ, "ALLOD_HOME": str(home)}
        self._errors = home / "gateway.stderr"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self._process = self._begin()
        assert self._process.stdout is not None
        said = b""
        async with asyncio.timeout(_START_S):
            while not said.endswith(b"\n}\n"):
                line = await asyncio.to_thread(self._process.stdout.readline)
                if not line:
                    raise SystemExit(f"the gateway did not start: {self._errors.read_text()[-2000:]}")
                said += line
        self.port = int(json.loads(said)["url"].rsplit(":", 1)[1])
        return self

    def _begin(self) -> subprocess.Popen[bytes]:
        with self._errors.open("ab") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", "allod", "up", "--json", "--port", "0"],
                env=self._env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        await asyncio.to_thread(self._process.wait, 60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def key(self, app: str) -> str:
        """Make a key of an app, as an administrator does."""
        made = subprocess.run(
            [sys.executable, "-m", "allod", "keys", "create", app, "--json"],
            env=self._env, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return str(json.loads(made.stdout)["key"])


async def send(
    port: int, asked: Iterable[Asked], keys: dict[str, str], *, at_once: int, task: Callable[[Asked], str]
) -> None:
    """Send requests, so many at once, each as soon as there is room; what came of them stands in them."""
    left = iter(asked)
    await asyncio.gather(*(_sender(port, left, keys, task) for _ in range(at_once)))


async def _sender(
    port: int, left: Iterable[Asked], keys: dict[str, str], task: Callable[[Asked], str]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for one in left:
        body = {"model": "auto", "messages": [{"role": "user", "content": one.prompt}]}
        data = json.dumps(body).encode()
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Authorization: Bearer {keys[one.stream.app]}\r\nContent-Type: application/json\r\n"
            f"Allod-Task: {task(one)}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        one.status, headers, answer = await _answer(reader)
        one.receipt = headers.get("allod-receipt", "")
        if one.status == 200:  # noqa: PLR2004 (HTTP)
            text = json.loads(answer)["choices"][0]["message"]["content"]
            one.key = text.removeprefix("FINAL ") if text.startswith("FINAL ") else ""
        if headers.get("connection", "").lower() == "close":
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


async def fetch(port: int, path: str) -> tuple[int, bytes]:
    """Get a page."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    status, _, body = await _answer(reader)
    writer.close()
    return status, body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    if headers.get("transfer-encoding") != "chunked":
        length = int(headers.get("content-length", "0"))
        return int(first.split()[1]), headers, await reader.readexactly(length)
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return int(first.split()[1]), headers, body
