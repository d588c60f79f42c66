"""The scripted engine as a driver: the same script without a socket, read by the same reader."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

import msgspec

from allod.domain.chat import ChatCall
from allod.domain.fleet import Deployment
from allod.engines.contract import Description, EngineContext, EngineFault
from allod.engines.openai.driver import OpenAIEngine
from allod.engines.scripted import acts
from allod.engines.scripted.script import ScriptError, write_script
from allod.engines.scripted.server import route
from allod.engines.wire import MAX_BODY_BYTES, MAX_HEAD_BYTES

VERSION = "1"


def make(deployment: Deployment, context: EngineContext) -> ScriptedEngine:
    """Make the driver: in-process, or over HTTP when the deployment has a ``base_url``."""
    return ScriptedEngine(deployment, context)


class ScriptedEngine(OpenAIEngine):
    """A deployment whose model name chooses a behaviour; everything it says is marked as simulated."""

    def __init__(self, deployment: Deployment, context: EngineContext) -> None:
        way = None if deployment.base_url else ScriptedWire()
        super().__init__(deployment, context, dialect="compatible", wire=way)
        self._dialect = msgspec.structs.replace(self._dialect, thinking="named")

    def describe(self) -> Description:
        """Say that nothing real runs here."""
        return Description(
            engine="scripted",
            engine_version=VERSION,
            evidence="simulated",
            notice="a scripted answer, no model",
        )

    async def count_tokens(self, call: ChatCall) -> int | None:
        """Count as the script counts."""
        try:
            return write_script({**call.body, "model": self.model}).prompt_tokens
        except ScriptError:
            return None


class ScriptedWire:
    """A way that leads to no socket: it plays the steps under the same limits."""

    host, prefix, query = "scripted", "/v1", ""

    async def request(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        *,
        first_byte_ms: int,
        idle_ms: int,
        total_ms: int,
        max_body_bytes: int = MAX_BODY_BYTES,
        until_event: bool = False,
        from_root: bool = False,
    ) -> ScriptedResponse:
        """Play until the head has come (see ``Wire.request``)."""
        del headers, from_root
        steps = route(method, path, body)
        response = ScriptedResponse(
            steps, first_byte_ms, idle_ms, total_ms, max_body_bytes, until_event=until_event
        )
        await response.start()
        return response

    async def close(self) -> None:
        """Do nothing."""


class ScriptedResponse:
    """The answer being played; judged as ``Response`` judges bytes from a socket."""

    def __init__(
        self,
        steps: Iterator[acts.Step],
        first_ms: int,
        idle_ms: int,
        total_ms: int,
        max_body_bytes: int,
        *,
        until_event: bool,
    ) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.unframed = self.draining = False
        self._steps, self._max, self._idle = steps, max_body_bytes, idle_ms / 1000
        self._until_event, self._awaiting_first = until_event, True
        now = asyncio.get_running_loop().time()
        self._first_at, self._end_at = now + first_ms / 1000, now + total_ms / 1000
        self._got = 0
        self._framing: int | str = 0
        self._over = self._enough = False

    def header(self, name: bytes) -> bytes | None:
        """Return a header."""
        return next((value for key, value in self.headers if key == name), None)

    def begun(self) -> None:
        """Say that the first event has come."""
        self._awaiting_first = False

    def abort(self) -> None:
        """Stop playing."""
        self._over = True

    def drain(self) -> None:
        """Stop playing: nobody needs the rest."""
        self._over = self.draining = True

    async def start(self) -> None:
        """Play up to the head."""
        step = await self._next()
        if isinstance(step, acts.Raw):
            raw = step
            size = 0
            while isinstance(step, acts.Raw):
                size += len(step.data)
                if size > MAX_HEAD_BYTES:
                    raise EngineFault("oversize", f"a head over {MAX_HEAD_BYTES} bytes")
                if not raw.data.startswith(b"HTTP/"):
                    raise EngineFault("malformed", "not HTTP/1.1")
                step = await self._next()
        if not isinstance(step, acts.Head):
            raise EngineFault("reset", "the connection ended before the answer")
        if 300 <= step.status < 400:  # noqa: PLR2004 - redirects
            raise EngineFault(
                "redirect", f"HTTP {step.status}: redirects are never followed", status=step.status
            )
        self.status, self.headers, self._framing = step.status, list(step.headers), step.framing
        if self.header(b"content-encoding"):
            raise EngineFault("malformed", "a compressed answer nobody asked for", status=step.status)

    async def next_chunk(self) -> bytes:
        """Return the next bytes of the body, empty at its end."""
        while not self._over:
            step = await self._next()
            if isinstance(step, acts.Body):
                self._got += len(step.data)
                if self._got > self._max:
                    raise EngineFault("oversize", f"an answer over {self._max} bytes")
                if not self._until_event:
                    self._awaiting_first = False
                return step.data
            if isinstance(step, acts.End):
                self._over = True
                if step.how == "whole":
                    return b""
                if step.how == "cut" and self._framing == "close":
                    self.unframed = True
                    return b""
                raise EngineFault(
                    "reset" if step.how == "reset" else "truncated", "the connection ended in the body"
                )
        return b""

    async def pump(self, take: Callable[[bytes], Awaitable[None] | None]) -> None:
        """Hand each piece on as it comes (see ``Response.pump``)."""
        while not self._enough and (data := await self.next_chunk()):
            wait = take(data)
            if wait is not None:
                await wait

    def enough(self) -> None:
        """Say that the end has come."""
        self._enough = True

    def body(self) -> None:
        """Know nothing before it was played."""

    async def read(self) -> bytes:
        """Return the whole body."""
        parts: list[bytes] = []
        self._awaiting_first = self._awaiting_first and not self._until_event
        while data := await self.next_chunk():
            parts.append(data)
        return b"".join(parts)

    async def _next(self) -> acts.Step:
        """Return the next step that is no pause, within the limits."""
        loop = asyncio.get_running_loop()
        silent_from = loop.time()
        while True:
            nearest = self._first_at if self._awaiting_first else silent_from + self._idle
            limit = min(nearest, self._end_at)
            now = loop.time()
            if now >= limit:
                raise EngineFault("timeout", "no answer within its time")
            step = next(self._steps, acts.End("cut"))
            if not isinstance(step, acts.Wait):
                return step
            if now + step.ms / 1000 >= limit:
                await asyncio.sleep(limit - now)
                raise EngineFault("timeout", "no answer within its time")
            await asyncio.sleep(step.ms / 1000)
