"""The Gemini API over HTTP: one deployment, one pool, the engine contract."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

from allod.engines import exchange
from allod.engines.contract import Description, EngineFault, LoadMetrics
from allod.engines.gemini.answer import ContentStream, decoded, embedded_of, events_of, malformed
from allod.engines.gemini.models import thinking
from allod.engines.gemini.request import counting, embedding, prepare
from allod.engines.wire import data_of, error_object, fault_from_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from allod.domain.chat import ChatCall, EmbedCall, Embedded, Event
    from allod.domain.fleet import Deployment
    from allod.engines.contract import EngineContext
    from allod.engines.wire import Response

DEFAULT_BASE_URL: Final = "https://generativelanguage.googleapis.com"
MAX_RETRY_MS: Final = 24 * 3600 * 1000
_MODEL: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_RETRY: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,9})?s")


class GeminiEngine:
    """Driver for one deployment that speaks ``generateContent``.

    Args:
        deployment: its ``base_url`` may end with ``/v1beta`` or ``/v1``; without one the provider's own host
            is meant.
        context: environment (for the key) and the address check.

    Raises:
        EngineFault: ``unavailable``: the base URL or the model name cannot be used.

    """

    def __init__(self, deployment: Deployment, context: EngineContext) -> None:
        self._deployment = deployment
        self._model = deployment.model.removeprefix("models/")
        if not _MODEL.fullmatch(self._model):
            raise EngineFault("unavailable", "the model's name cannot stand in a path", sent=False)
        base = (deployment.base_url or DEFAULT_BASE_URL).rstrip("/")
        self._wire = exchange.wire_of(deployment, context, base)
        self._reason, self._key = exchange.credential(deployment, context.environ)
        version = "" if self._wire.prefix.endswith(("/v1beta", "/v1")) else "/v1beta"
        self._path = f"{version}/models/{self._model}:"

    def describe(self) -> Description:
        """Say what runs there, and that thinking cannot be switched off where that is so."""
        off = thinking(self._model, None, 1).off
        told = "this model always thinks; where thinking is off, its least is asked for"
        return Description(engine="gemini", notice=None if off else told)

    def ready(self) -> str | None:
        """Return why this deployment cannot serve, or None."""
        return self._reason

    async def chat(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """Answer, streamed or whole (raises ``EngineFault``; see the engine contract)."""
        body = prepare(call, self._model)
        action = "streamGenerateContent?alt=sse" if call.stream else "generateContent"
        response = await self._ask(action, body, exchange.limits_of(self._deployment, call))
        try:
            await _demand_ok(response)
            if call.stream:
                async for event in _streamed(response):
                    yield event
                return
            raw = await response.read()
            try:
                answer = events_of(raw, created=int(time.time()))
            except EngineFault as fault:
                raise _cut(fault, response) from None
            for event in answer:
                yield event
        finally:
            response.abort()

    async def embed(self, call: EmbedCall) -> Embedded:
        """Embed texts (raises ``EngineFault``)."""
        body = embedding(call, self._model)
        limits = exchange.limits_of_question(self._deployment, call)
        raw = await self._whole("batchEmbedContents", body, limits)
        return embedded_of(raw, model=self._model, expected=len(body["requests"]))

    async def count_tokens(self, call: ChatCall) -> int | None:
        """Count input tokens with the operator's own counter (raises ``EngineFault``)."""
        body = counting(prepare(call, self._model), self._model)
        limits = exchange.limits_of_question(self._deployment, call)
        count = decoded(await self._whole("countTokens", body, limits)).get("totalTokens")
        if type(count) is not int or count < 0:
            raise malformed("the token count is not a number")
        return count

    async def load(self) -> LoadMetrics:
        """Unknown: the API has no load metrics."""
        return LoadMetrics()

    async def close(self) -> None:
        """Close every connection; idempotent."""
        await self._wire.close()

    async def _whole(self, action: str, body: dict[str, Any], limits: exchange.Limits) -> bytes:
        response = await self._ask(action, body, limits)
        try:
            await _demand_ok(response)
            return await response.read()
        finally:
            response.abort()

    async def _ask(self, action: str, body: dict[str, Any], limits: exchange.Limits) -> Response:
        if self._reason is not None:
            raise EngineFault("unavailable", self._reason, sent=False)
        headers = [(b"content-type", b"application/json")]
        if self._key is not None:
            headers.append((b"x-goog-api-key", self._key))
        return await exchange.ask(self._wire, self._path + action, headers, body, limits)


async def _demand_ok(response: Response) -> None:
    if response.status == exchange.OK:
        return
    body = await exchange.error_body(response)
    fault = exchange.refused(response, body)
    if fault.kind in ("rate", "overloaded") and fault.retry_after_ms is None:
        fault.retry_after_ms = _retry_ms(error_object(body))
    raise fault


def _retry_ms(error: dict[str, Any] | None) -> int | None:
    """Read ``google.rpc.RetryInfo``: this API asks to wait in the body, not in a header."""
    details = error.get("details") if error is not None else None
    for detail in details if isinstance(details, list) else []:
        told = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(told, str) and _RETRY.fullmatch(told):
            return min(int(float(told[:-1]) * 1000), MAX_RETRY_MS)
    return None


async def _streamed(response: Response) -> AsyncGenerator[Event, None]:
    if not exchange.is_stream(response):
        error = error_object(await response.read())
        raise fault_from_error(error) if error is not None else malformed("the answer is not an event stream")
    reader = ContentStream()
    async for raw, closed in exchange.events(response):
        try:
            events = reader.feed(data_of(raw))
        except EngineFault as fault:
            if not closed and fault.kind == "malformed":
                raise EngineFault("truncated", "the stream ended inside an event", status=200) from None
            raise
        for event in events:
            yield event
    if response.unframed:
        raise EngineFault("truncated", "a body without length or chunks: its end proves nothing", status=200)
    for event in reader.end():
        yield event


def _cut(fault: EngineFault, response: Response) -> EngineFault:
    """Tell a body that ended with its connection, in the middle of its JSON, from one that never was any."""
    if response.unframed and fault.kind == "malformed":
        return EngineFault("truncated", "the answer ended with its connection", status=200)
    return fault
