"""The Messages API over HTTP: one deployment, one pool, the engine contract."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.engines import exchange
from allod.engines.anthropic.answer import events_of, fault_of_error, malformed, too_long
from allod.engines.anthropic.models import traits
from allod.engines.anthropic.request import counting, prepare
from allod.engines.anthropic.stream import MessageStream
from allod.engines.contract import Description, EngineFault, LoadMetrics
from allod.engines.wire import data_of, error_object

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from allod.domain.chat import ChatCall, EmbedCall, Embedded, Event
    from allod.domain.fleet import Deployment
    from allod.engines.anthropic.request import Prepared
    from allod.engines.contract import EngineContext
    from allod.engines.wire import Response

API_VERSION: Final = b"2023-06-01"
DEFAULT_BASE_URL: Final = "https://api.anthropic.com"


class AnthropicEngine:
    """Driver for one deployment that speaks the Messages API.

    Args:
        deployment: its ``base_url`` may end with ``/v1``; without one the provider's own host is meant.
        context: environment (for the key) and the address check.

    Raises:
        EngineFault: ``unavailable``: the base URL cannot be used.

    """

    def __init__(self, deployment: Deployment, context: EngineContext) -> None:
        self._deployment = deployment
        base = (deployment.base_url or DEFAULT_BASE_URL).rstrip("/")
        self._wire = exchange.wire_of(deployment, context, base)
        self._reason, self._key = exchange.credential(deployment, context.environ)
        self._path = "/messages" if self._wire.prefix.endswith("/v1") else "/v1/messages"

    def describe(self) -> Description:
        """Say what runs there, and that thinking cannot be switched off where that is so."""
        always = not traits(self._deployment.model).can_disable
        told = "this model always thinks; where thinking is off, its lowest effort is sent"
        return Description(engine="anthropic", notice=told if always else None)

    def ready(self) -> str | None:
        """Return why this deployment cannot serve, or None."""
        return self._reason

    async def chat(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """Answer, streamed or whole (raises ``EngineFault``; see the engine contract)."""
        prepared = prepare(call, self._deployment.model)
        limits = exchange.limits_of(self._deployment, call)
        response = await self._ask(self._path, prepared, limits)
        try:
            await _demand_ok(response)
            if call.stream:
                async for event in _streamed(response, prepared):
                    yield event
                return
            raw = await response.read()
            try:
                answer = events_of(
                    raw,
                    native=prepared.native,
                    answer_tool=prepared.answer_tool,
                    created=int(time.time()),
                )
            except EngineFault as fault:
                raise _cut(fault, response) from None
            for event in answer:
                yield event
        finally:
            if not response.draining:
                response.abort()

    async def embed(self, call: EmbedCall) -> Embedded:
        """Refuse: the Messages API has no embeddings."""
        del call
        raise EngineFault("request", "the Messages API has no embeddings", sent=False)

    async def count_tokens(self, call: ChatCall) -> int | None:
        """Count input tokens with the operator's own counter (raises ``EngineFault``)."""
        prepared = counting(prepare(call, self._deployment.model))
        limits = exchange.limits_of_question(self._deployment, call)
        response = await self._ask(f"{self._path}/count_tokens", prepared, limits)
        try:
            await _demand_ok(response)
            answer = _object_of(await response.read())
        finally:
            response.abort()
        count = answer.get("input_tokens")
        if type(count) is not int or count < 0:
            raise malformed("the token count is not a number")
        return count

    async def load(self) -> LoadMetrics:
        """Unknown: the API has no load metrics."""
        return LoadMetrics()

    async def close(self) -> None:
        """Close every connection; idempotent."""
        await self._wire.close()

    async def _ask(self, path: str, prepared: Prepared, limits: exchange.Limits) -> Response:
        if self._reason is not None:
            raise EngineFault("unavailable", self._reason, sent=False)
        headers = [(b"content-type", b"application/json"), (b"anthropic-version", API_VERSION)]
        if self._key is not None:
            headers.append((b"x-api-key", self._key))
        if prepared.betas:
            headers.append((b"anthropic-beta", ",".join(prepared.betas).encode()))
        return await exchange.ask(self._wire, path, headers, prepared.body, limits)


async def _demand_ok(response: Response) -> None:
    if response.status != exchange.OK:
        body = await exchange.error_body(response)
        raise too_long(exchange.refused(response, body), body)


async def _streamed(response: Response, prepared: Prepared) -> AsyncGenerator[Event, None]:
    if not exchange.is_stream(response):
        error = error_object(await response.read())
        raise fault_of_error(error) if error is not None else malformed("the answer is not an event stream")
    machine = MessageStream(native=prepared.native, answer_tool=prepared.answer_tool)
    async for raw, closed in exchange.events(response):
        try:
            events = machine.feed(data_of(raw), raw)
        except EngineFault as fault:
            if not closed and fault.kind == "malformed":
                raise EngineFault("truncated", "the stream ended inside an event", status=200) from None
            raise
        if machine.finished:
            response.drain()
        for event in events:
            yield event
        if machine.finished:
            return
    raise EngineFault("truncated", "the stream ended without message_stop", status=200)


def _cut(fault: EngineFault, response: Response) -> EngineFault:
    """Tell a body that ended with its connection, in the middle of its JSON, from one that never was any."""
    if response.unframed and fault.kind == "malformed":
        return EngineFault("truncated", "the answer ended with its connection", status=200)
    return fault


def _object_of(raw: bytes) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise malformed("the answer is not JSON") from None
    if not isinstance(answer, dict):
        raise malformed("the answer is not an object")
    if "error" in answer:
        raise fault_of_error(answer["error"])
    return answer
