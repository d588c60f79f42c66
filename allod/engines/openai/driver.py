"""The driver of the OpenAI family; what differs between servers is in ``dialects``."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from allod.domain.chat import ChatCall, EmbedCall, Embedded, Event
from allod.domain.fleet import Deployment
from allod.engines import exchange
from allod.engines.contract import Description, EngineContext, EngineFault, LoadMetrics
from allod.engines.openai import answer
from allod.engines.openai.dialects import DIALECTS, Dialect
from allod.engines.openai.request import chat_body, embed_body
from allod.engines.wire import Wire, fault_from_error, fault_from_response
from allod.metering.usage import usage_from_openai

AZURE_API_VERSION: Final = "2024-10-21"
"""The newest stable version of the deployment-path surface; another one is put into the base URL's query."""

MAX_ERROR_BYTES: Final = 256 * 1024
PROBE_MS: Final = 3000
SHOW_VALID_S: Final = 300.0
_ROOM_BYTES: Final = 2 << 20
_BYTES_PER_TOKEN: Final = 1024
_BYTES_PER_LOGPROB_TOKEN: Final = 8192
_MAX_ANSWER_BYTES: Final = 256 << 20
_CLOUD: Final = re.compile(r"(?:[:-])cloud\Z", re.IGNORECASE)
_SAMPLE: Final = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{[^}]*\})?\s+([-+0-9.eE]+)(?:\s+\d+)?$", re.MULTILINE)
_JSON: Final = (b"content-type", b"application/json")
_OK: Final = 200
_ERRORS: Final = 400
_SSE: Final = b"text/event-stream"
Take = Callable[[Sequence[Event]], "Awaitable[None] | None"]


class Answer(Protocol):
    """What the driver needs of a response (``wire.Response`` has it)."""

    status: int
    headers: list[tuple[bytes, bytes]]
    unframed: bool

    @property
    def draining(self) -> bool:
        """Whether the rest is being thrown away."""

    def header(self, name: bytes) -> bytes | None:
        """Return a header."""

    def body(self) -> bytes | None:
        """Return the whole body if it is there."""

    async def read(self) -> bytes:
        """Return the whole body."""

    async def next_chunk(self) -> bytes:
        """Return the next bytes."""

    async def pump(self, take: Callable[[bytes], Awaitable[None] | None]) -> None:
        """Hand on each piece as it comes."""

    def enough(self) -> None:
        """Say that no more is needed."""

    def begun(self) -> None:
        """Say that the first event has come."""

    def drain(self) -> None:
        """Throw the rest away."""

    def abort(self) -> None:
        """Break off."""


class Way(Protocol):
    """What the driver needs of a way to its server (``Wire`` has it; the scripted engine has its own)."""

    @property
    def host(self) -> str:
        """Host name."""

    @property
    def prefix(self) -> str:
        """Path of the base URL."""

    @property
    def query(self) -> str:
        """Query of the base URL."""

    async def request(
        self, method: str, path: str, headers: Sequence[tuple[bytes, bytes]], body: bytes, *,
        first_byte_ms: int, idle_ms: int, total_ms: int, max_body_bytes: int = ..., until_event: bool = ...,
        from_root: bool = ...,
    ) -> Answer:  # fmt: skip
        """See ``Wire.request``."""

    async def close(self) -> None:
        """Close everything."""


_SIMULATED: Final = "the operator's answer says that it is simulated"


def make(deployment: Deployment, context: EngineContext) -> OpenAIEngine:
    """Make the driver (the factory named in ``allod.engines``; raises ``EngineFault`` ``unavailable``)."""
    return OpenAIEngine(deployment, context)


class OpenAIEngine:
    """One deployment behind a server of the OpenAI family.

    Args:
        deployment: ``base_url`` ends where ``/chat/completions`` begins (usually ``/v1``).
        context: the world.
        dialect: how to speak, by default what ``engine`` names.
        wire: a way to use instead of one made from ``base_url``.

    Raises:
        EngineFault: ``unavailable`` when it can never serve: no base URL, or a cloud model of Ollama.

    """

    def __init__(
        self,
        deployment: Deployment,
        context: EngineContext,
        *,
        dialect: str | None = None,
        wire: Way | None = None,
    ) -> None:
        self._deployment, self.model = deployment, deployment.model
        self._dialect: Dialect = DIALECTS[dialect or deployment.engine]
        self.wire = wire if wire is not None else _wire(deployment, context)
        if (
            self._dialect.name == "ollama"
            and self.wire.host != "ollama.com"
            and _CLOUD.search(deployment.model)
        ):
            raise EngineFault("unavailable", _LEAVES, sent=False)
        self._reason, key = exchange.credential(deployment, context.environ)
        self._headers = self._authorized(key)
        self._chat_path, self._embed_path = self._paths()
        self._local_until = 0.0
        self.by_outbox: bool = getattr(self.wire, "by_outbox", False)
        self._claims = Description(engine=deployment.engine)
        self._plays = Description(engine=deployment.engine, evidence="simulated", notice=_SIMULATED)
        self._simulated = False

    def _authorized(self, key: bytes | None) -> list[tuple[bytes, bytes]]:
        if key is None:
            return [_JSON]
        if self._dialect.azure:
            return [_JSON, (b"api-key", key)]
        return [_JSON, (b"authorization", b"Bearer " + key)]

    def _paths(self) -> tuple[str, str]:
        if not self._dialect.azure or self.wire.prefix.endswith("/v1"):
            return "/chat/completions", "/embeddings"
        stem = "" if "/deployments/" in self.wire.prefix else f"/openai/deployments/{self._deployment.model}"
        version = "" if self.wire.query else f"?api-version={AZURE_API_VERSION}"
        return f"{stem}/chat/completions{version}", f"{stem}/embeddings{version}"

    def describe(self) -> Description:
        """Say that we only have the operator's word, or that the last answer said it was simulated."""
        return self._plays if self._simulated else self._claims

    def ready(self) -> str | None:
        """Return why this deployment cannot serve, or None."""
        return self._reason

    async def close(self) -> None:
        """Close the connections."""
        await self.wire.close()

    # -- chat --------------------------------------------------------------------------------------------

    async def chat(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """Answer (see the contract); raises ``EngineFault``."""
        await self._serves_here()
        body = exchange.encoded(chat_body(call, self._deployment.model, self._dialect))
        response = await self._post(self._chat_path, body, call)
        try:
            if not await _is_stream(response, call):
                read = answer.streamed if call.stream else answer.whole
                for event in read(await response.read(), unframed=response.unframed):
                    yield event
                return
            reader = answer.StreamReader()
            begun = False
            while not reader.done and (data := await response.next_chunk()):
                for event in reader.feed(data):
                    if not begun:
                        begun = True
                        response.begun()
                    yield event
            response.drain()
            for event in reader.end():
                yield event
        finally:
            if not response.draining:
                response.abort()

    async def deliver(self, call: ChatCall, take: Take) -> None:
        """Answer, handing on what comes the moment it comes (see the contract); raises ``EngineFault``."""
        if self._reason is not None or self._dialect.name == "ollama":
            await self._serves_here()
        body = exchange.encoded(chat_body(call, self._deployment.model, self._dialect))
        response = await self._post(self._chat_path, body, call)
        try:
            if response.status != _OK:
                raise await _refusal(response)
            if _streams(response, call):
                await _relay(response, take)
                return
            read = answer.streamed if call.stream else answer.whole
            data = response.body()
            if data is None:
                data = await response.read()
            wait = take(read(data, unframed=response.unframed))
            if wait is not None:
                await wait
        finally:
            if not response.draining:
                response.abort()

    async def _post(self, path: str, body: bytes, call: ChatCall) -> Answer:
        total = _total_ms(self._deployment, call.deadline_ms)
        first = min(self._deployment.first_token_ms, total) if call.stream else total
        response = await self.wire.request(
            "POST", path, self._headers, body, first_byte_ms=first, idle_ms=first, total_ms=total,
            max_body_bytes=_bound(call), until_event=call.stream,
        )  # fmt: skip
        self._simulated = response.header(b"allod-simulated") is not None
        return response

    async def _serves_here(self) -> None:
        """Raise unless there is a credential and, for Ollama, unless the model runs where the server is."""
        if self._reason is not None:
            raise EngineFault("unavailable", self._reason, sent=False)
        if self._dialect.name == "ollama" and self.wire.host != "ollama.com":
            now = time.monotonic()
            if now >= self._local_until:
                await self._check_local()
                self._local_until = now + SHOW_VALID_S

    async def _check_local(self) -> None:
        """Ask Ollama whether the model is a name for one that runs elsewhere (``remote_host``)."""
        body = msgspec.json.encode({"model": self._deployment.model})
        try:
            status, data = await self._probe("POST", "/api/show", body)
        except EngineFault as fault:
            fault.sent = False
            raise
        if status != _OK:
            raise EngineFault(
                "server", f"HTTP {status} to /api/show: where the model runs is unknown", sent=False
            )
        try:
            shown: Any = msgspec.json.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            shown = None
        if not isinstance(shown, dict):
            raise EngineFault("malformed", "unreadable answer to /api/show", sent=False)
        if shown.get("remote_host") or shown.get("remote_model"):
            raise EngineFault("unavailable", _LEAVES, sent=False)

    # -- the rest ----------------------------------------------------------------------------------------

    async def embed(self, call: EmbedCall) -> Embedded:
        """Embed the inputs (raises ``EngineFault``)."""
        await self._serves_here()
        total = _total_ms(self._deployment, call.deadline_ms)
        body = exchange.encoded(embed_body(call.body, self._deployment.model))
        response = await self.wire.request(
            "POST", self._embed_path, self._headers, body, first_byte_ms=total, idle_ms=total, total_ms=total
        )
        try:
            if response.status != _OK:
                raise await _refusal(response)
            data = await response.read()
        finally:
            response.abort()
        return _embedded(data, call.body.get("input"), unframed=response.unframed)

    async def count_tokens(self, call: ChatCall) -> int | None:
        """Count with the server's own tokenizer where it offers one (vLLM, llama-server), else None."""
        await self._serves_here()
        messages, way = call.body.get("messages"), self._dialect.counting
        if way is None:
            return None
        if way == "vllm":
            given = {"model": self._deployment.model, "messages": messages, "add_generation_prompt": True}
            if call.body.get("tools"):
                given["tools"] = call.body["tools"]
            counted = await self._ask("/tokenize", given)
            count = counted.get("count") if isinstance(counted, dict) else None
            return count if isinstance(count, int) and count >= 0 else None
        given = {key: call.body[key] for key in ("messages", "tools", "tool_choice") if call.body.get(key)}
        prompt = await self._ask("/apply-template", given)
        if not isinstance(prompt, dict) or not isinstance(prompt.get("prompt"), str):
            return None
        asked = {"content": prompt["prompt"], "add_special": True, "parse_special": True}
        tokens = await self._ask("/tokenize", asked)
        found = tokens.get("tokens") if isinstance(tokens, dict) else None
        return len(found) if isinstance(found, list) else None

    async def load(self) -> LoadMetrics:
        """Read the server's gauges; what it does not tell is None."""
        dialect = self._dialect
        if dialect.metrics is None or self._reason is not None:
            return LoadMetrics()
        try:
            status, data = await self._probe("GET", dialect.metrics, b"")
        except EngineFault:
            return LoadMetrics()
        if status != _OK:
            return LoadMetrics()
        return gauges(data.decode("utf-8", "replace"), dialect)

    async def _ask(self, path: str, given: Mapping[str, Any]) -> Any:
        status, data = await self._probe("POST", path, msgspec.json.encode(given))
        if status != _OK:
            return None
        try:
            return msgspec.json.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None

    async def _probe(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Ask a question beside the API, at the server's root."""
        root = self.wire.prefix.removesuffix("/v1")
        response = await self.wire.request(
            method, root + path, self._headers, body, first_byte_ms=PROBE_MS, idle_ms=PROBE_MS,
            total_ms=PROBE_MS, max_body_bytes=16 << 20, from_root=True,
        )  # fmt: skip
        try:
            return response.status, await response.read()
        finally:
            response.abort()


def _wire(deployment: Deployment, context: EngineContext) -> Wire:
    if not deployment.base_url:
        raise EngineFault("unavailable", f"engine {deployment.engine} needs a base_url", sent=False)
    return exchange.wire_of(deployment, context, deployment.base_url)


_LEAVES: Final = (
    "this name stands for a model that Ollama runs in its own cloud: content would leave through an endpoint "
    "that looks local; declare a deployment with base_url https://ollama.com/v1 and its true facts instead"
)


def _total_ms(deployment: Deployment, deadline_ms: int | None) -> int:
    return deployment.timeout_ms if deadline_ms is None else max(1, min(deployment.timeout_ms, deadline_ms))


def _bound(call: ChatCall) -> int:
    """Return how many bytes a lawful answer can have, generously: an endless one ends here."""
    if "n" not in call.body and "logprobs" not in call.body:
        return min(_MAX_ANSWER_BYTES, _ROOM_BYTES + call.max_output_tokens * _BYTES_PER_TOKEN)
    choices = call.body.get("n")
    times = choices if isinstance(choices, int) and 0 < choices <= 128 else 1  # noqa: PLR2004 - API limit
    each = _BYTES_PER_LOGPROB_TOKEN if call.body.get("logprobs") else _BYTES_PER_TOKEN
    return min(_MAX_ANSWER_BYTES, _ROOM_BYTES + call.max_output_tokens * times * each)


async def _is_stream(response: Answer, call: ChatCall) -> bool:
    """Judge status and media type; tell whether events follow (raises ``EngineFault`` for what cannot be)."""
    if response.status != _OK:
        raise await _refusal(response)
    return _streams(response, call)


def _streams(response: Answer, call: ChatCall) -> bool:
    value = response.header(b"content-type")
    kind = b"" if value is None else value.split(b";", 1)[0].strip().lower()
    if not call.stream:
        if kind == _SSE:
            raise EngineFault("malformed", "a stream where one answer was asked for", status=_OK)
        return False
    if kind not in (_SSE, b"", b"application/json"):
        raise EngineFault("malformed", "neither a stream nor JSON", status=_OK)
    return kind != b"application/json"


async def _relay(response: Answer, take: Take) -> None:
    """Hand on a stream's events from the event loop's own callback, until its end mark."""
    reader = answer.StreamReader()
    begun, fault = False, None

    def fed(data: bytes) -> Awaitable[None] | None:
        nonlocal begun, fault
        events, fault = reader.take(data)
        if events and not begun:
            begun = True
            response.begun()
        if reader.done or fault is not None:
            response.enough()
        return take(events) if events else None

    await response.pump(fed)
    if fault is not None:
        raise fault
    response.drain()
    wait = take(reader.end())
    if wait is not None:
        await wait


async def _refusal(response: Answer) -> EngineFault:
    """Read an error answer; a body that breaks does not hide the status."""
    if response.status < _ERRORS:
        return EngineFault("malformed", f"HTTP {response.status}", status=response.status)
    try:
        body = await response.read()
    except EngineFault:
        body = b""
    return fault_from_response(response.status, response.headers, body[:MAX_ERROR_BYTES])


def _embedded(data: bytes, given: Any, *, unframed: bool) -> Embedded:
    try:
        body = msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        kind = "truncated" if unframed else "malformed"
        raise EngineFault(
            "truncated" if kind == "truncated" else "malformed", "not JSON", status=_OK
        ) from None
    if isinstance(body, dict) and body.get("error") is not None:
        raise fault_from_error(body["error"])
    rows = body.get("data") if isinstance(body, dict) else None
    single = isinstance(given, str) or (isinstance(given, list) and bool(given) and isinstance(given[0], int))
    expected = 1 if single else len(given) if isinstance(given, list) else None
    if not isinstance(rows, list) or (expected is not None and len(rows) != expected):
        raise EngineFault("malformed", "not one embedding for each input", status=_OK)
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("embedding"), list | str):
            raise EngineFault("malformed", "a row without an embedding", status=_OK)
    usage = None
    if isinstance(body.get("usage"), dict):
        try:
            usage = usage_from_openai(body["usage"])
        except ValueError:
            usage = None
    model = body.get("model")
    return Embedded(body=body, usage=usage, model=model if isinstance(model, str) else None)


def gauges(text: str, dialect: Dialect) -> LoadMetrics:
    """Read load from Prometheus text: counts summed over their label sets, cache use the highest."""
    samples: dict[str, list[float]] = {}
    for match in _SAMPLE.finditer(text):
        try:
            samples.setdefault(match[1], []).append(float(match[2]))
        except ValueError:
            continue

    def values(patterns: Sequence[str]) -> list[float]:
        for pattern in patterns:
            for name, found in samples.items():
                if re.fullmatch(pattern, name):
                    return found
        return []

    running, waiting, cache = map(values, (dialect.running, dialect.waiting, dialect.cache_used))
    return LoadMetrics(
        running=int(sum(running)) if running else None,
        waiting=int(sum(waiting)) if waiting else None,
        cache_used=max(cache) if cache else None,
    )
