"""The HTTP application: a bare ASGI callable, routes in one table."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.admission.keys import key_digest, presented_key
from allod.domain.errors import AllodError, Invalid
from allod.gateway import pipeline
from allod.gateway.counting import CONTENT_TYPE, exposition
from allod.gateway.deferring import Came, no_response
from allod.gateway.http import (
    JSON,
    TEXT,
    Gone,
    Receive,
    Scope,
    Send,
    client_of,
    read_body,
    read_head,
    respond,
    retry_after,
)
from allod.gateway.incoming import incoming
from allod.gateway.surfaces.chat import ChatSurface
from allod.gateway.surfaces.embeddings import EmbeddingsSurface
from allod.gateway.surfaces.messages import CountTokensSurface, MessagesSurface
from allod.gateway.surfaces.responses import ResponsesSurface
from allod.gateway.witnessing import final_file
from allod.receipts.cose import STATEMENT_TYPE, statement_of
from allod.receipts.file import read_file
from allod.receipts.pruning import describe
from allod.receipts.tiles import WIDTH, parse_tile_path

if TYPE_CHECKING:
    from allod.domain.fleet import App
    from allod.engines.outbox import Outbox
    from allod.gateway.catalogue import Catalogue
    from allod.gateway.deferring import Queue
    from allod.gateway.gateway import Gateway
    from allod.gateway.http import Head

Route = Callable[[Scope, Receive, Send], Awaitable[None]]
RECEIPT_WAIT_S: Final = 1.0
_FORWARDED: Final = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"})
_KEYS_REMEMBERED: Final = 1024
_RESPONSES: Final = "/v1/responses/"
_ACTS: Final = frozenset({"POST", "DELETE"})


class Application:
    """What uvicorn calls.

    Args:
        gateway: the object graph.
        models: writes the list of models.
        description: our OpenAPI document.
        queue: what takes work that may wait, or None: there is no such work.

    """

    def __init__(
        self, gateway: Gateway, models: Catalogue, description: bytes, queue: Queue | None = None
    ) -> None:
        surfaces: dict[str, Any] = {
            "/v1/chat/completions": ChatSurface(),
            "/v1/responses": ResponsesSurface(background=queue is not None),
            "/v1/messages": MessagesSurface(),
            "/v1/messages/count_tokens": CountTokensSurface(),
            "/v1/embeddings": EmbeddingsSurface(),
        }
        self._gateway, self._surfaces = gateway, surfaces
        self._models, self._description, self._queue = models, description, queue
        self._chat = surfaces["/v1/chat/completions"]
        self._routes: dict[tuple[str, str], Route] = {
            **{("POST", path): self._inference(codec) for path, codec in surfaces.items()},
            ("GET", "/healthz"): self._healthz,
            ("GET", "/readyz"): self._readyz,
            ("GET", "/openapi.json"): self._openapi,
            ("GET", "/log/checkpoint"): self._checkpoint,
            ("GET", "/log/pruning"): self._pruning,
            ("GET", "/v1/models"): self._list_models,
            ("GET", "/metrics"): self._metrics,
        }
        self._prefixes: tuple[tuple[str, Route], ...] = (
            ("/v1/models/", self._one_model),
            ("/v1/receipts/", self._receipt),
            (_RESPONSES, self._response),
            ("/log/tile/", self._tile),
        )
        self._paths = {path for _, path in self._routes}
        self._digests: dict[tuple[bytes | None, bytes | None], str] = {}

    @property
    def outbox(self) -> Outbox:
        """By which answers leave."""
        return self._gateway.outbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        route = self._routes.get((scope["method"], path)) or self._by_prefix(scope["method"], path)
        try:
            if route is None:
                await self._nowhere(scope, send)
            else:
                await route(scope, receive, send)
        except Gone:
            return
        except AllodError as error:
            own = scope.get("extensions", {}).get("allod.client")
            if own is not None and own.response_started:
                return  # an answer whose end could not be made durable: the connection breaks off
            status, body = self._codec(scope).error(error, None)
            await respond(send, status, body, JSON, *retry_after(error))

    def _codec(self, scope: Scope) -> Any:
        """Return the surface in whose words an error is told: the route's, else the caller's dialect."""
        known = self._surfaces.get(scope["path"])
        if known is not None:
            return known
        anthropic = any(name == b"anthropic-version" for name, _ in scope["headers"])
        return self._surfaces["/v1/messages"] if anthropic else self._chat

    def _by_prefix(self, method: str, path: str) -> Route | None:
        if method == "GET":
            for prefix, route in self._prefixes:
                if path.startswith(prefix):
                    return route
        return self._response if method in _ACTS and path.startswith(_RESPONSES) else None

    async def _nowhere(self, scope: Scope, send: Send) -> None:
        path = scope["path"]
        if path in self._paths or any(path.startswith(prefix) for prefix, _ in self._prefixes):
            allowed = sorted({m for m, p in self._routes if p == path}) or ["GET"]
            body = _problem(f"{scope['method']} is not taken here", "method_not_allowed")
            await respond(send, 405, body, JSON, (b"allow", ", ".join(allowed).encode()))
            return
        await respond(send, 404, _problem("there is nothing at this path", "not_found"), JSON)

    # --- who asks

    def _caller(self, head: Head, at_ms: int | None = None) -> App:
        """Return the app whose key was presented.

        The digest of a good key is remembered, never that it is good: that is looked up each time.

        Raises:
            Invalid: kind ``key``.

        """
        presented = (head.authorization, head.api_key)
        digest = self._digests.get(presented) or key_digest(presented_key(_key_headers(head)))
        app = self._gateway.app_of(digest, self._gateway.now_ms() if at_ms is None else at_ms)
        if app is not None and presented not in self._digests:
            if len(self._digests) >= _KEYS_REMEMBERED:
                self._digests.clear()
            self._digests[presented] = digest
        if app is None:
            raise Invalid(
                "the key is not known",
                "it was never made, has expired, was revoked, or its app is not configured",
                "make one with `allod keys create APP`",
                kind="key",
            )
        return app

    # --- inference

    def _inference(self, codec: Any) -> Route:
        async def route(scope: Scope, receive: Receive, send: Send) -> None:
            started, received_at_ms = time.monotonic(), time.time_ns() // 1_000_000
            gateway = self._gateway
            head = read_head(scope["headers"])
            app = self._caller(head, received_at_ms)
            raw = await read_body(receive, head, gateway.config.server.max_body_bytes)
            ask = await incoming(
                gateway, codec, app, head, raw, started=started, received_at_ms=received_at_ms
            )
            if ask.parsed.background:
                assert self._queue is not None
                await self._queue.accept(ask, Came(raw=raw, labels=head.labels), client_of(scope, send))
                return
            del raw
            await pipeline.answer(gateway, ask, client_of(scope, send))

        return route

    async def _response(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Give back, cancel or delete what was asked for in the background."""
        app, method = self._caller(read_head(scope["headers"])), scope["method"]
        name, _, act = scope["path"].removeprefix("/v1/responses/").partition("/")
        if act != ("cancel" if method == "POST" else ""):
            await self._nowhere(scope, send)
            return
        if scope["query_string"] and _query(scope["query_string"]).get("stream", "false") != "false":
            raise Invalid("a response is not streamed again", kind="not_supported", param="stream")
        if self._queue is None:
            raise no_response(name)
        acts = {"GET": self._queue.retrieve, "POST": self._queue.cancel, "DELETE": self._queue.delete}
        body, headers = await acts[method](app.id, name)
        await respond(send, 200, body, *headers)

    # --- what there is

    async def _list_models(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        head = read_head(scope["headers"])
        self._caller(head)
        await respond(send, 200, self._models.listing(anthropic=head.anthropic), JSON)

    async def _one_model(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        head = read_head(scope["headers"])
        self._caller(head)
        name = scope["path"].removeprefix("/v1/models/")
        await respond(send, 200, self._models.one(name, anthropic=head.anthropic), JSON)

    async def _receipt(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        app = self._caller(read_head(scope["headers"]))
        name = scope["path"].removeprefix("/v1/receipts/")
        store = self._gateway.store
        if store.owner(name) != app.id and not (self._queue and self._queue.waits(app.id, name)):
            raise Invalid("there is no such receipt for this app", kind="model", param="id")
        wanted = _query(scope["query_string"]).get("format", "file")
        if wanted not in {"file", "tlog-proof", "cose"}:
            raise Invalid(
                f"format {wanted[:40]!r} is not known",
                "known: tlog-proof, cose",
                kind="not_supported",
                param="format",
            )
        file = await final_file(store, name, RECEIPT_WAIT_S)
        if not isinstance(file, bytes):
            await respond(send, 200, store.pending_file(name), JSON)
        elif wanted == "tlog-proof":
            terminal = read_file(file).terminal
            await respond(send, 200, terminal.proof.encode() if terminal else b"", TEXT)
        elif wanted == "cose":
            kind = (b"content-type", STATEMENT_TYPE.encode())
            await respond(send, 200, statement_of(store.keys.signer, file), kind)
        else:
            await respond(send, 200, file, JSON)

    # --- for operators

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Tell counters to this machine, and to the keys of operators."""
        if not _from_here(scope):
            app = self._caller(read_head(scope["headers"]))
            if app.id not in self._gateway.config.server.operators:
                raise Invalid(
                    f"app {app.id} is no operator",
                    "metrics are for this machine and for the apps of server.operators",
                    "add it there",
                    kind="key",
                )
        await respond(send, 200, exposition(self._gateway), (b"content-type", CONTENT_TYPE))

    # --- the log and the state, open to all

    async def _checkpoint(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await respond(send, 200, self._gateway.store.reader.checkpoint(), TEXT)

    async def _pruning(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        store, retention = self._gateway.store, self._gateway.config.log.retention
        said = describe(retention.policy(store.keys.origin), store.reader.pruned)
        await respond(send, 200, msgspec.json.encode(said), JSON)

    async def _tile(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        reader, data, why = self._gateway.store.reader, None, b"there is no such tile\n"
        try:
            tile = parse_tile_path(scope["path"].removeprefix("/log/"))
            data = reader.resource(tile)
            if tile.level is None and tile.n * WIDTH < reader.first:
                why = b"pruned: leaves below %d are gone by the policy at /log/pruning\n" % reader.first
        except AllodError:
            data = None
        if data is None:
            await respond(send, 404, why, TEXT)
            return
        await respond(send, 200, data, (b"content-type", b"application/octet-stream"))

    async def _healthz(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await respond(send, 200, b'{"status":"alive"}', JSON)

    async def _readyz(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        gateway = self._gateway
        trouble = gateway.store.healthy()
        up = len(gateway.engines) - len(gateway.health().unready)
        ready = trouble is None and up > 0
        told = None if trouble is None else "in trouble: see `allod doctor`"  # paths are not for everybody
        body = {"status": "ready" if ready else "not ready", "store": told, "deployments_up": up}
        await respond(send, 200 if ready else 503, msgspec.json.encode(body), JSON)

    async def _openapi(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await respond(send, 200, self._description, JSON)


def _key_headers(head: Head) -> list[tuple[bytes, bytes]]:
    given = ((b"authorization", head.authorization), (b"x-api-key", head.api_key))
    return [(name, value) for name, value in given if value is not None]


def _from_here(scope: Scope) -> bool:
    """Tell whether somebody on this machine asks for himself: a proxy on it asks for others."""
    client = scope.get("client")
    if client is None or any(name in _FORWARDED for name, _ in scope["headers"]):
        return False
    try:
        return ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _problem(message: str, code: str) -> bytes:
    return msgspec.json.encode(
        {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    )


def _query(raw: bytes) -> dict[str, str]:
    from urllib.parse import parse_qsl  # noqa: PLC0415 (only receipts have a query)

    return dict(parse_qsl(raw.decode("latin-1")))
