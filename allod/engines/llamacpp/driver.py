"""The driver of the embedded engine: keeps one child alive and speaks llama-server's protocol to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import AllodError, Integrity, Invalid
from allod.engines.contract import Description, EngineFault, LoadMetrics
from allod.engines.llamacpp import build, drafting, process
from allod.engines.llamacpp.drafting import Drafting
from allod.engines.llamacpp.endpoint import SIDE_CONNECTIONS, Endpoint
from allod.engines.llamacpp.process import Child, LoadFault, Settings
from allod.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from allod.domain.chat import ChatCall, EmbedCall, Embedded, Event
    from allod.domain.drafting import DraftSetup
    from allod.domain.fleet import Deployment
    from allod.engines.contract import EngineContext
    from allod.engines.llamacpp.spec import Withheld
    from allod.vault.vault import Entry, Model

DEFAULT_CONTEXT_TOKENS: Final = 4_096
MAX_DEFAULT_CONTEXT_TOKENS: Final = 8_192
DEFAULT_SLOTS: Final = 2
MAX_SLOTS: Final = 16
SMALL_MODEL_BYTES: Final = 64 << 20
"""Below this one thread is fastest: threads would spend their time waiting for each other."""
BASE_MEMORY_BYTES: Final = 1 << 30
CACHE_BYTES_PER_TOKEN: Final = 512 << 10
"""An upper bound of the key and value cache: 32 layers of width 4096 in 16 bits."""
BASE_LOAD_MS: Final = 30_000
LOAD_BYTES_PER_MS: Final = 50_000
FIRST_BACKOFF_MS: Final = 250
MAX_BACKOFF_MS: Final = 60_000
MAX_FRUITLESS: Final = 3
"""After so many loads in a row that never came to serve, only ``start`` tries again."""
PROVEN_S: Final = 60.0
"""A child that lived so long starts with a clean record."""
DEFAULT_CONNECTIONS: Final = 32
"""Answers that may be under way or queued in the child at once; more wait in the driver, in order."""


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator of an engine may set beside the deployment; None means the default above."""

    threads: int | None = None
    memory_bytes: int | None = None
    load_ms: int | None = None
    first_backoff_ms: int = FIRST_BACKOFF_MS
    without: tuple[Withheld, ...] = ()


class LlamaCpp:
    """An embedded model: loads it in a child, keeps it running, and answers through it.

    A child that dies is started again after a growing pause; one that refuses its files, its sandbox or its
    engine build, or fails to load several times, is not: that does not mend by itself. While no child is up,
    calls fail with ``unavailable`` and say why; while one is loading they wait, within their own time.

    Args:
        deployment: ``model`` is a vault name or digest, of weights or of an adapter.
        context: must carry a ``Vault``.
        tuning: limits that differ from the defaults.

    """

    def __init__(self, deployment: Deployment, context: EngineContext, tuning: Tuning | None = None) -> None:
        if not isinstance(context.vault, Vault):
            raise EngineFault("unavailable", "an embedded engine needs the vault", sent=False)
        self._deployment, self._context, self._vault = deployment, context, context.vault
        self._tuning = tuning or Tuning()
        self._drafting = Drafting(deployment, context.drafts)
        self._setup: DraftSetup | None = None
        self._child: Child | None = None
        self._server: Endpoint | None = None
        self._task: asyncio.Task[None] | None = None
        self._turn: asyncio.Future[None] | None = None
        self._reason: str | None = None
        self._final = False
        self._retry_at = 0.0
        self._closed = False
        self._checking: asyncio.Task[None] | None = None
        self._connections = deployment.max_concurrent or DEFAULT_CONNECTIONS
        self._described = Description(engine="llamacpp", evidence="self-run", notice="not loaded yet")

    # -- what the gateway asks

    def describe(self) -> Description:
        """Say what was last loaded: digests are those the child computed of what it loaded."""
        return self._described

    def ready(self) -> str | None:
        """Return why nothing can be served now, or None (also before the first load)."""
        return None if self._server is not None else self._reason

    def expected(self) -> DraftSetup:
        """Say what would be loaded with the draft that is configured, without loading it; reads files.

        Raises:
            Integrity, Invalid, Unavailable: model, draft or engine cannot be had.

        """
        deployment = self._deployment
        model = self._vault.resolve(deployment.model, deployment.adapter)
        draft = None if deployment.draft is None else drafting.weights_of(self._vault, deployment.draft)
        engine = build.installed()
        return drafting.setup(model, draft, self._settings(model), engine.version, engine.digest)

    @property
    def running(self) -> tuple[int, DraftSetup] | None:
        """Process id of the child that serves, and what it has loaded; None while there is none."""
        child, setup = self._child, self._setup
        return None if child is None or setup is None else (child.pid, setup)

    async def start(self) -> None:
        """Load the model now rather than at the first call; also tries again after a final refusal.

        Raises:
            EngineFault: ``unavailable``, with the reason.

        """
        if self._final and self._server is None and not self._closed:
            self._final, self._reason = False, None
            self._drafting.again()
            await self._settle()
        await self._obtain(None)

    async def chat(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """Answer (see the contract)."""
        server, left_ms = await self._await_turn(call.deadline_ms)
        ours = msgspec.structs.replace(call, body=server.own(call.body), deadline_ms=left_ms)
        events = server.chat(ours)
        try:
            async for event in events:
                yield event
        except EngineFault as fault:
            self._look(fault, server)
            raise
        finally:
            await events.aclose()

    async def embed(self, call: EmbedCall) -> Embedded:
        """Embed the inputs with mean pooling (raises ``EngineFault``)."""
        if "embeddings" not in self._deployment.takes:
            raise EngineFault("request", "this deployment does not take embeddings", sent=False)
        server, left_ms = await self._await_turn(call.deadline_ms)
        ours = msgspec.structs.replace(call, body=server.own(call.body), deadline_ms=left_ms)
        try:
            return await server.embed(ours)
        except EngineFault as fault:
            self._look(fault, server)
            raise

    async def count_tokens(self, call: ChatCall) -> int | None:
        """Count the input with the model's own tokenizer and template."""
        server, _ = await self._await_turn(call.deadline_ms)
        return await server.count_tokens(call)

    async def load(self) -> LoadMetrics:
        """Ask how busy the slots are; unknown while nothing is loaded."""
        return LoadMetrics() if self._server is None else await self._server.load()

    async def close(self) -> None:
        """End the child and everything of it; idempotent."""
        self._closed = True
        self._reason = "the driver is closed"
        for task in (self._checking, self._task):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self._settle()
        self._tell()  # a task cancelled before its first step has told nobody

    # -- keeping a child

    async def _await_turn(self, deadline_ms: int | None) -> tuple[Endpoint, int]:
        """Return the running server and the milliseconds left after waiting for it."""
        limit_ms = self._deployment.timeout_ms
        limit_ms = limit_ms if deadline_ms is None else min(limit_ms, deadline_ms)
        if self._server is not None:
            return self._server, limit_ms
        loop = asyncio.get_running_loop()
        began = loop.time()
        server = await self._obtain(limit_ms)
        return server, max(1, limit_ms - int((loop.time() - began) * 1000))

    async def _obtain(self, deadline_ms: int | None) -> Endpoint:
        """Return the running server, starting or awaiting one."""
        if self._server is not None:
            return self._server
        loop = asyncio.get_running_loop()
        if self._closed or self._final:
            raise EngineFault("unavailable", self._reason or "closed", sent=False)
        if loop.time() < self._retry_at:
            wait_ms = int((self._retry_at - loop.time()) * 1000)
            raise EngineFault("unavailable", self._reason or "down", retry_after_ms=wait_ms, sent=False)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._supervise())
        if self._turn is None:
            self._turn = loop.create_future()
        try:
            async with asyncio.timeout(None if deadline_ms is None else max(deadline_ms, 1) / 1000):
                await asyncio.shield(self._turn)
        except TimeoutError:
            raise EngineFault("timeout", "still loading", sent=False) from None
        return self._current()

    def _current(self) -> Endpoint:
        if self._server is None:
            raise EngineFault("unavailable", self._reason or "down", sent=False)
        return self._server

    async def _supervise(self) -> None:
        """Start children one after the other until closed or refused for good."""
        loop, failures, fruitless = asyncio.get_running_loop(), 0, 0
        try:
            while not self._closed and not self._final:
                began = loop.time()
                fruitless = 0 if await self._run_once() else fruitless + 1
                self._final = self._final or fruitless >= MAX_FRUITLESS
                failures = 1 if loop.time() - began > PROVEN_S else failures + 1
                pause_ms = min(self._tuning.first_backoff_ms * 2 ** min(failures - 1, 20), MAX_BACKOFF_MS)
                self._retry_at = 0.0 if self._final else loop.time() + pause_ms / 1000
                self._tell()
                if not self._final:
                    await asyncio.sleep(pause_ms / 1000)
        finally:
            self._retry_at = 0.0
            self._tell()

    async def _run_once(self) -> bool:
        """Load, serve until the child ends, clean up, keep the reason; tell whether it ever served."""
        try:
            name, child = await self._load()
        except LoadFault as fault:
            self._reason, self._final = f"{fault.reason}: {fault.detail}", fault.final
            return False
        except AllodError as error:
            self._reason = f"{error.what}: {error.why}"
            self._final = isinstance(error, Integrity | Invalid)
            return False
        except OSError as error:
            self._reason = f"the child could not be started: {os.strerror(error.errno or 0)}"
            return False
        self._child = child
        self._server = Endpoint(self._deployment, child, name, self._connections)
        self._reason, self._described = None, _description(child, self._drafting.why)
        self._tell()
        try:
            status = await child.wait()
            self._reason = f"the engine process ended with status {status}"
            if child.ready.draft is not None:
                self._drafting.failed(self._reason)
        finally:
            await self._settle()
        return True

    async def _load(self) -> tuple[str, Child]:
        """Start a child, with the draft where one is to be used, else or failing that without."""
        model, draft, settings = await asyncio.to_thread(self._resolve)
        if draft is not None:
            try:
                child = await process.start(self._vault, model, draft, settings)
            except (LoadFault, AllodError, OSError) as fault:
                if not self._drafting.failed(f"it could not be loaded: {fault}"):
                    raise
            else:
                self._setup = drafting.loaded(child.ready, settings)
                if self._drafting.accepts(self._setup):
                    return model.name, child
                await child.close()
        child = await process.start(self._vault, model, None, settings)
        self._setup = drafting.loaded(child.ready, settings)
        return model.name, child

    async def _settle(self) -> None:
        """Forget the running child, if there is one, and end it."""
        child, server, self._child, self._server = self._child, self._server, None, None
        if server is not None:
            await server.close()
        if child is not None:
            await child.close()

    def _tell(self) -> None:
        """Wake who waits for a child."""
        turn, self._turn = self._turn, None
        if turn is not None and not turn.done():
            turn.set_result(None)

    def _look(self, fault: EngineFault, server: Endpoint) -> None:
        """After a silence, see whether the child answers at all; one that does not is ended."""
        if fault.kind == "timeout" and (self._checking is None or self._checking.done()):
            self._checking = asyncio.create_task(self._check(server, self._child))

    async def _check(self, server: Endpoint, child: Child | None) -> None:
        if child is not None and not await server.healthy():
            child.kill()

    # -- what to load, and how

    def _resolve(self) -> tuple[Model, Entry | None, Settings]:
        model = self._vault.resolve(self._deployment.model, self._deployment.adapter)
        told = self._context.weights.get(self._deployment.id)
        if told is not None and model.facts != told:
            raise Integrity(
                f"the vault holds other weights as {self._deployment.model} than the law was told of",
                f"got {model.weights.digest}, expected {told.weights}, or another adapter, template or maker",
                "start the gateway again, so that policy judges them",
            )
        settings = self._settings(model)
        return model, self._drafting.resolve(self._vault, model, settings), settings

    def _settings(self, model: Model) -> Settings:
        size = model.weights.manifest.size_bytes
        made_for = model.weights.manifest.context_tokens or DEFAULT_CONTEXT_TOKENS
        context = self._deployment.context_tokens or min(made_for, MAX_DEFAULT_CONTEXT_TOKENS)
        slots = max(1, min(self._deployment.max_concurrent or DEFAULT_SLOTS, MAX_SLOTS))
        threads = 1 if size < SMALL_MODEL_BYTES else max(1, min(os.cpu_count() or 1, 16))
        tuning = self._tuning
        return Settings(
            context_tokens=context,
            slots=slots,
            connections=self._connections + SIDE_CONNECTIONS,
            threads=tuning.threads or threads,
            embeddings="embeddings" in self._deployment.takes,
            memory_bytes=tuning.memory_bytes
            or BASE_MEMORY_BYTES + 2 * size + context * slots * CACHE_BYTES_PER_TOKEN,
            load_ms=tuning.load_ms or BASE_LOAD_MS + size // LOAD_BYTES_PER_MS,
            air_gapped=self._context.air_gapped,
            state_dir=self._context.state_dir,
            without=tuning.without,
        )


def _description(child: Child, no_draft: str) -> Description:
    ready = child.ready
    told = [] if ready.sandbox == "seccomp+netns" else [f"sandbox: {ready.sandbox}"]
    told += [f"the draft is not used: {no_draft}"] if no_draft else []
    return Description(
        engine="llamacpp",
        engine_version=ready.engine_version,
        engine_digest=ready.engine_digest,
        weights=ready.weights,
        adapter=ready.adapter,
        template=ready.template,
        sandbox=ready.sandbox,
        evidence="self-run",
        notice="; ".join(told) or None,
    )
