"""The one suite every driver passes: what may never happen between us and an operator.

A driver's test file describes its dialect once (``Rig``) and inherits the tests::

    class TestMyDriver(Conformance):
        rig = MyRig()

The misbehaving server is the scripted engine's, so its faults are real ones on real sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import msgspec
import pytest
import uvloop

from allod.domain.chat import ChatCall, Chunk, Event, Finished, UsageReport, Whole
from allod.domain.fleet import Deployment
from allod.engines.contract import RETRYABLE, Engine, EngineContext, EngineFault
from allod.engines.scripted import Server
from allod.engines.scripted.acts import Play, give, plain

FAULTS: dict[str, tuple[str | None, str | None]] = {
    # behaviour: (kind when not streamed, kind when streamed); None is a whole answer
    "http-400": ("request", "request"),
    "http-401": ("auth", "auth"),
    "http-403": ("auth", "auth"),
    "http-429": ("rate", "rate"),
    "http-429-bare": ("rate", "rate"),
    "http-500": ("server", "server"),
    "http-503": ("overloaded", "overloaded"),
    "http-529": ("overloaded", "overloaded"),
    "stall-before": ("timeout", "timeout"),
    "stall-mid": ("timeout", "timeout"),
    "mute": ("timeout", "timeout"),
    "truncate": ("truncated", "truncated"),
    "reset": ("reset", "reset"),
    "hangup": ("reset", "reset"),
    "not-http": ("malformed", "malformed"),
    "long-head": ("oversize", "oversize"),
    "garbage": ("malformed", "malformed"),
    "malformed-event": ("malformed", "malformed"),
    "error-200": ("server", "server"),
    "error-mid": ("server", "server"),
    "no-done": (None, "truncated"),
    "endless": ("oversize", "oversize"),
    "long-line": ("oversize", "oversize"),
    "gzip": ("malformed", "malformed"),
    "redirect": ("redirect", "redirect"),
    "overstreamed": ("malformed", None),
    "eof-cut": ("truncated", "truncated"),
}
WHOLE = ("answer", "eof", "drip", "crlf", "comments", "slow-30")
FIRST_TOKEN_MS = 300
TIMEOUT_MS = 700
SLACK_S = 0.35


class Rig:
    """What the suite must know of a dialect; ``TEXT`` must be the text of the whole answer.

    Attributes:
        engine: name of the engine under test.
        path: what the base URL ends with.
        model: a model name that asks for nothing special.
        differs: behaviours whose kind differs in this dialect, with the kinds; ``()`` leaves one out.

    """

    TEXT: ClassVar[str] = "A whole answer."
    engine: ClassVar[str] = ""
    path: ClassVar[str] = "/v1"
    model: ClassVar[str] = "some-model"
    environ: ClassVar[dict[str, str]] = {"KEY": "secret-key"}
    api_key_env: ClassVar[str | None] = "KEY"
    differs: ClassVar[dict[str, tuple[str | None, ...]]] = {}

    def make(self, deployment: Deployment, context: EngineContext) -> Engine:
        """Make the driver."""
        raise NotImplementedError

    def whole(self) -> bytes:
        """The answer that is not streamed, as JSON bytes."""
        raise NotImplementedError

    def events(self) -> list[bytes]:
        """The events of the stream; whatever ``is_mark`` names is the end mark."""
        raise NotImplementedError

    def is_mark(self, event: bytes) -> bool:
        """Tell whether an event belongs to the end mark."""
        raise NotImplementedError

    more: ClassVar[bytes] = b""
    """An event that may come again and again."""
    error: ClassVar[bytes] = b""
    """An error answer's JSON."""
    error_event: ClassVar[bytes] = b""
    misshapen: ClassVar[bytes] = b'{"never": "heard of"}'
    misshapen_event: ClassVar[bytes] = b'data: {"never": "heard of"}\n\n'

    def wants_stream(self, path: str, body: bytes) -> bool:
        """Tell from a request whether it asks for a stream."""
        del path
        return b'"stream":true' in body

    def preflight(self, method: str, path: str) -> Iterator[Any] | None:
        """Answer a question the driver asks before its request, or None."""
        del method, path
        return None

    # -- what the suite does with it

    def play(self, behaviour: str, *, stream: bool) -> Iterator[Any]:
        """Return the steps of a behaviour in this dialect."""
        status, delay, name = 200, 0, behaviour
        bare = behaviour.endswith("-bare")
        if behaviour.startswith("http-"):
            status, name = int(behaviour.split("-")[1]), "http"
        if behaviour.startswith("slow-"):
            delay, name = int(behaviour.split("-")[1]), "answer"
        return give(
            Play(
                behaviour=name,
                stream=stream,
                whole=self.whole,
                events=lambda: iter(self.events()),
                is_mark=self.is_mark,
                more=self.more,
                error=self.error,
                error_event=self.error_event,
                misshapen=self.misshapen,
                misshapen_event=self.misshapen_event,
                status=status,
                retry_after_s=1 if status == 429 and not bare else None,
                delay_ms=delay,
            )
        )

    async def server(self, behaviour: str) -> Server:
        """Start a server that behaves so."""

        def answer(method: str, path: str, body: bytes) -> Iterator[Any]:
            if path.endswith("/trap"):
                return plain({"trapped": True})
            before = self.preflight(method, path)
            if before is not None:
                return before
            return self.play(behaviour, stream=self.wants_stream(path, body))

        return await Server(record=True, answer=answer).start()

    def deployment(self, base_url: str, **more: Any) -> Deployment:
        """Declare a deployment with short limits."""
        given: dict[str, Any] = {
            "id": "under-test",
            "engine": self.engine,
            "model": self.model,
            "operator": "op",
            "base_url": base_url,
            "api_key_env": self.api_key_env,
            "timeout_ms": TIMEOUT_MS,
            "first_token_ms": FIRST_TOKEN_MS,
        }
        return Deployment(**{**given, **more})

    def context(self, allow: Callable[[str, int], bool] = lambda _h, _p: True, **more: Any) -> EngineContext:
        """Give the driver a world."""
        given: dict[str, Any] = {"environ": self.environ, "allow_address": allow, "state_dir": "/nonexistent"}
        return EngineContext(**{**given, **more})


def call(*, stream: bool, **more: Any) -> ChatCall:
    """A small request."""
    body = {"model": "auto", "messages": [{"role": "user", "content": "Tell me."}]}
    return ChatCall(body=body, stream=stream, **{"max_output_tokens": 64, **more})


async def collect(engine: Engine, asked: ChatCall) -> tuple[list[Event], EngineFault | None, float]:
    """Run a chat to its end: events, fault, seconds."""
    events: list[Event] = []
    started = time.monotonic()
    try:
        async for event in engine.chat(asked):
            events.append(event)  # noqa: PERF401 - what came before a fault is kept
    except EngineFault as fault:
        return events, fault, time.monotonic() - started
    return events, None, time.monotonic() - started


def text_of(events: list[Event]) -> str:
    """The text of an answer, streamed or not."""
    text = "".join(event.text for event in events if isinstance(event, Chunk))
    for event in events:
        if isinstance(event, Whole):
            body = event.body if event.body is not None else msgspec.json.decode(event.raw or b"null")
            if event.dialect == "openai":
                text += body["choices"][0]["message"]["content"] or ""
            else:
                text += "".join(part.get("text", "") for part in body["content"])
    return text


def run(scenario: Any) -> Any:
    """Run a scenario on the loop we ship with."""
    return uvloop.run(scenario)


async def until(condition: Callable[[], Any], limit_s: float = 1.0) -> None:
    """Wait until something holds."""
    ends = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < ends, "it never came to hold"
        await asyncio.sleep(0.002)


class Conformance:
    """Inherit it in a class whose name begins with ``Test`` and set ``rig``."""

    rig: ClassVar[Rig]

    def expected(self, behaviour: str) -> tuple[str | None, ...]:
        kinds = self.rig.differs.get(behaviour, FAULTS.get(behaviour, (None, None)))
        if not kinds:
            pytest.skip(f"{behaviour} cannot happen in this dialect")
        return kinds

    def outcome(
        self, behaviour: str, *, stream: bool
    ) -> tuple[list[Event], EngineFault | None, float, Server]:
        async def scenario() -> Any:
            server = await self.rig.server(behaviour)
            url = f"http://127.0.0.1:{server.port}{self.rig.path}"
            engine = self.rig.make(self.rig.deployment(url), self.rig.context())
            try:
                return (*await collect(engine, call(stream=stream)), server)
            finally:
                await engine.close()
                await server.close()

        return run(scenario())

    @pytest.mark.parametrize("stream", [False, True], ids=["one", "stream"])
    @pytest.mark.parametrize("behaviour", FAULTS)
    def test_I4_a_broken_answer_is_a_fault_of_its_kind_within_the_limits(self, behaviour, stream):
        kind = self.expected(behaviour)[stream]
        events, fault, seconds, server = self.outcome(behaviour, stream=stream)
        finished = [event for event in events if isinstance(event, Finished)]
        assert seconds < TIMEOUT_MS / 1000 + SLACK_S
        if kind is None:
            assert fault is None
            assert len(finished) == 1
            return
        assert fault is not None, events
        assert fault.kind == kind
        assert not finished, "a broken answer was presented as whole"
        assert not [event for event in events if isinstance(event, Whole)]
        assert fault.sent
        assert "\n" not in fault.detail
        assert not [seen for seen in server.seen if seen.path.endswith("/trap")], "a redirect was followed"

    @pytest.mark.parametrize("stream", [False, True], ids=["one", "stream"])
    @pytest.mark.parametrize("behaviour", WHOLE)
    def test_a_whole_answer_in_any_clothes_is_whole(self, behaviour, stream):
        events, fault, _, _ = self.outcome(behaviour, stream=stream)
        assert fault is None, fault
        assert text_of(events) == self.rig.TEXT
        kinds = [type(event) for event in events]
        assert kinds[-1] is Finished
        assert kinds.count(Finished) == 1
        assert kinds.count(UsageReport) == 1
        assert kinds.index(UsageReport) == len(kinds) - 2
        assert (Whole in kinds) is not stream
        ends = [event.finish for event in events if isinstance(event, Chunk | Whole) and event.finish]
        assert ends == ["stop"]
        for event in events:
            if isinstance(event, Chunk) and event.raw is not None:
                assert event.raw.endswith((b"\n\n", b"\r\n\r\n", b"\r\n\r"))

    def test_retry_after_is_told_in_milliseconds(self):
        _, fault, _, _ = self.outcome("http-429", stream=False)
        assert fault is not None
        assert fault.retry_after_ms == 1000
        assert fault.status == 429
        assert fault.kind in RETRYABLE
        _, fault, _, _ = self.outcome("http-429-bare", stream=True)
        assert fault is not None
        assert fault.retry_after_ms is None

    @pytest.mark.parametrize("stream", [False, True], ids=["one", "stream"])
    def test_nothing_listens_is_connect_and_not_sent(self, stream):
        async def scenario() -> Any:
            server = await self.rig.server("answer")
            port = server.port
            await server.close()
            engine = self.rig.make(self.rig.deployment(f"http://127.0.0.1:{port}"), self.rig.context())
            events, fault, _ = await collect(engine, call(stream=stream))
            await engine.close()
            return events, fault

        events, fault = run(scenario())
        assert not events
        assert fault.kind == "connect"
        assert not fault.sent

    def test_I6_a_forbidden_address_gets_no_connection(self):
        asked: list[tuple[str, int]] = []

        async def scenario() -> Any:
            server = await self.rig.server("answer")

            def allow(host: str, port: int) -> bool:
                asked.append((host, port))
                return False

            url = f"http://127.0.0.1:{server.port}{self.rig.path}"
            engine = self.rig.make(self.rig.deployment(url), self.rig.context(allow))
            _, fault, _ = await collect(engine, call(stream=True))
            await engine.close()
            await server.close()
            return fault, server

        fault, server = run(scenario())
        assert fault.kind == "connect"
        assert not fault.sent
        assert server.connections == 0
        assert asked == [("127.0.0.1", server.port)]

    @pytest.mark.parametrize("behaviour", ["stall-before", "stall-mid", "endless"])
    @pytest.mark.parametrize("way", ["aclose", "cancel"])
    def test_cancellation_reaches_the_operator_within_100_ms(self, behaviour, way):
        async def scenario() -> float:
            server = await self.rig.server(behaviour)
            url = f"http://127.0.0.1:{server.port}{self.rig.path}"
            deployment = self.rig.deployment(url, timeout_ms=20_000, first_token_ms=20_000)
            engine = self.rig.make(deployment, self.rig.context())
            stream = engine.chat(call(stream=True, max_output_tokens=1_000_000))
            got = asyncio.Event()

            async def read() -> None:
                async with contextlib.aclosing(stream):  # a cancelled reader may stand outside the generator
                    async for _ in stream:
                        got.set()
                        if way == "aclose":
                            break
                        await asyncio.sleep(0)

            task = asyncio.create_task(read())
            await until(lambda: server.seen)
            if behaviour != "stall-before":
                await asyncio.wait_for(got.wait(), 2)
            left = time.monotonic()
            if way == "cancel" or behaviour == "stall-before":
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await until(lambda: server.seen[-1].lost_at is not None)
            await engine.close()
            await server.close()
            return server.seen[-1].lost_at - left

        assert run(scenario()) < 0.1

    def test_I1_no_connection_is_shared_between_deployments(self):
        async def scenario() -> Any:
            server = await self.rig.server("answer")
            url = f"http://127.0.0.1:{server.port}{self.rig.path}"
            engines = {
                name: self.rig.make(self.rig.deployment(url, id=name), self.rig.context()) for name in "ab"
            }
            used: dict[str, set[int]] = {"a": set(), "b": set()}
            for _ in range(3):
                for name, engine in engines.items():
                    before = len(server.seen)
                    _, fault, _ = await collect(engine, call(stream=False))
                    assert fault is None
                    used[name] |= {seen.connection for seen in list(server.seen)[before:]}
            for engine in engines.values():
                await engine.close()
            await server.close()
            return used, server.connections

        used, connections = run(scenario())
        assert not used["a"] & used["b"]
        assert connections == 2, "a kept connection was not used again"

    def test_I1_no_proxy_variable_is_read(self, monkeypatch):
        async def scenario() -> int:
            trap = await Server().start()
            server = await self.rig.server("answer")
            proxy = f"http://127.0.0.1:{trap.port}"
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, proxy)
            monkeypatch.delenv("NO_PROXY", raising=False)
            environ = {**self.rig.environ, "HTTP_PROXY": proxy, "http_proxy": proxy, "ALL_PROXY": proxy}
            url = f"http://127.0.0.1:{server.port}{self.rig.path}"
            engine = self.rig.make(self.rig.deployment(url), self.rig.context(environ=environ))
            _, fault, _ = await collect(engine, call(stream=True))
            assert fault is None
            await engine.close()
            await server.close()
            await trap.close()
            return trap.connections

        assert run(scenario()) == 0

    def test_a_kept_connection_that_died_is_replaced_without_a_fault(self):
        async def scenario() -> Any:
            server = await self.rig.server("answer")
            url = f"http://127.0.0.1:{server.port}{self.rig.path}"
            engine = self.rig.make(self.rig.deployment(url), self.rig.context())
            assert (await collect(engine, call(stream=False)))[1] is None
            for connection in tuple(server.open):
                connection.drop()
            _, fault, _ = await collect(engine, call(stream=True))
            await engine.close()
            await server.close()
            return fault

        assert run(scenario()) is None

    def test_a_deadline_is_kept(self):
        async def scenario() -> Any:
            server = await self.rig.server("stall-before")
            url = f"http://127.0.0.1:{server.port}{self.rig.path}"
            deployment = self.rig.deployment(url, timeout_ms=20_000, first_token_ms=20_000)
            engine = self.rig.make(deployment, self.rig.context())
            result = await collect(engine, call(stream=False, deadline_ms=150))
            await engine.close()
            await server.close()
            return result

        _, fault, seconds = run(scenario())
        assert fault.kind == "timeout"
        assert seconds < 0.15 + SLACK_S

    def test_a_missing_credential_is_unavailable_and_opens_no_connection(self):
        async def scenario() -> Any:
            server = await self.rig.server("answer")
            url = f"http://127.0.0.1:{server.port}{self.rig.path}"
            engine = self.rig.make(
                self.rig.deployment(url, api_key_env="NOT_SET"), self.rig.context(environ={})
            )
            _, fault, _ = await collect(engine, call(stream=True))
            await engine.close()
            await server.close()
            return engine, fault, server

        engine, fault, server = run(scenario())
        assert fault.kind == "unavailable"
        assert not fault.sent
        assert server.connections == 0
        assert "NOT_SET" in engine.ready()

    def test_the_credential_is_in_no_fault_and_no_description(self):
        _, fault, _, server = self.outcome("http-401", stream=False)
        secret = self.rig.environ.get(self.rig.api_key_env or "", "")
        assert secret
        assert secret.encode() in b" ".join(value for _, value in server.seen[-1].headers)
        assert secret not in str(fault)

    def test_close_is_idempotent_and_ends_what_is_under_way(self):
        async def scenario() -> Any:
            server = await self.rig.server("stall-mid")
            url = f"http://127.0.0.1:{server.port}{self.rig.path}"
            deployment = self.rig.deployment(url, timeout_ms=20_000, first_token_ms=20_000)
            engine = self.rig.make(deployment, self.rig.context())
            task = asyncio.create_task(collect(engine, call(stream=True)))
            await until(lambda: server.seen)
            await asyncio.sleep(0.02)
            await engine.close()
            await engine.close()
            first = await asyncio.wait_for(task, 1)
            second = await collect(engine, call(stream=True))
            await server.close()
            return first[1], second[1]

        first, second = run(scenario())
        assert first is not None
        assert second.kind == "unavailable"
