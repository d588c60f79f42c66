"""The one contract every driver keeps.

A driver is made by the factory named in the entry-point group ``allod.engines``::

    def make(deployment: Deployment, context: EngineContext) -> Engine

Rules of the contract, each a row of the conformance suite:

1. ``chat`` yields events and ends with exactly one ``Finished`` when, and only when, the operator's answer is
   whole. Anything else raises ``EngineFault``; a driver never ends silently.
2. Closing the iterator (``aclose``) or cancelling the task closes the upstream connection before it returns.
3. No redirect is followed, no proxy variable read, no connection shared with another deployment.
4. Silence, size and time are bounded by the deployment's limits.
5. ``UsageReport`` is yielded at most once, before ``Finished``, and never invented.

A driver may offer ``deliver`` beside ``chat``: the same events under the same rules, handed to a callable the
moment they come, several at once where they came together. It is the faster way, not another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import msgspec

from allod.engines.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from allod.domain.chat import ChatCall, EmbedCall, Embedded, Event
    from allod.domain.drafting import DraftSetup
    from allod.domain.fleet import Weights

FaultKind = Literal[
    "connect",      # no connection: refused, unresolvable, TLS, not in the allowed addresses
    "unavailable",  # the driver knows it cannot serve: no credential, child not running
    "rate",         # 429
    "overloaded",   # 503, 529
    "server",       # other 5xx, or an error body with status 200
    "request",      # 4xx that blames our request: another deployment may still take it
    "auth",         # 401, 403
    "too_long",     # context exceeded
    "redirect",     # 3xx: never followed
    "timeout",      # first token, idle or total limit passed
    "reset",        # connection broke
    "truncated",    # ended without its end mark
    "malformed",    # not the protocol: bad JSON, bad SSE, unasked compression
    "oversize",     # an answer, a line or a stream beyond its bound
]  # fmt: skip

RETRYABLE: frozenset[str] = frozenset(
    {"connect", "rate", "overloaded", "server", "timeout", "reset", "truncated", "malformed"}
)


class EngineFault(Exception):
    """The operator or the way to it is at fault.

    Attributes:
        kind: see ``FaultKind``.
        detail: one line for receipt and log; never content of the request or the answer.
        status: the HTTP status, if one came.
        retry_after_ms: what the operator asked for, if it did.
        sent: whether any byte of the request may have reached the operator (then the attempt is billed).

    """

    def __init__(
        self,
        kind: FaultKind,
        detail: str,
        *,
        status: int | None = None,
        retry_after_ms: int | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind: FaultKind = kind
        self.detail, self.status = detail, status
        self.retry_after_ms, self.sent = retry_after_ms, sent

    def anew(self) -> EngineFault:
        """Return the same fault, to be raised: one that is kept must not gather the frames it passed."""
        return EngineFault(
            self.kind, self.detail, status=self.status, retry_after_ms=self.retry_after_ms, sent=self.sent
        )


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What runs behind a deployment, as far as we can know it.

    Digests are ``sha256:...`` and only for weights we loaded ourselves: a remote model never carries one.
    ``evidence`` is the receipt's evidence level.
    """

    engine: str
    engine_version: str | None = None
    engine_digest: str | None = None
    weights: str | None = None
    adapter: str | None = None
    template: str | None = None
    sandbox: Literal["seccomp+netns", "seccomp", "none"] | None = None
    evidence: Literal["self-run", "tee-attested", "operator-claims", "simulated"] = "operator-claims"
    notice: str | None = None


class LoadMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """How busy the engine is; None is unknown, never idle."""

    running: int | None = None
    waiting: int | None = None
    cache_used: float | None = None


@runtime_checkable
class Engine(Protocol):
    """A driver for one deployment."""

    def describe(self) -> Description:
        """Say what runs there; cheap, no I/O."""

    def chat(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """Answer, streamed or whole.

        Raises:
            EngineFault: see the rules above.

        """

    async def embed(self, call: EmbedCall) -> Embedded:
        """Embed the inputs (raises ``EngineFault``)."""

    async def count_tokens(self, call: ChatCall) -> int | None:
        """Count the input tokens with the operator's own tokenizer; None where it offers none."""

    async def load(self) -> LoadMetrics:
        """Ask how busy it is; all None where it cannot say."""

    async def close(self) -> None:
        """Release connections and children; idempotent."""


class Delivers(Protocol):
    """A driver that also hands events on as they come."""

    async def deliver(
        self, call: ChatCall, take: Callable[[Sequence[Event]], Awaitable[None] | None]
    ) -> None:
        """Call ``take`` with what came at once; where it returns something, wait for it before reading on.

        Raises:
            EngineFault: as ``chat``; what ``take`` raises passes through.

        """


def deliver(
    engine: Engine, call: ChatCall, take: Callable[[Sequence[Event]], Awaitable[None] | None]
) -> Awaitable[None]:
    """Hand on what an engine answers, by the way it offers (raises as ``Delivers.deliver``)."""
    faster: Callable[..., Awaitable[None]] | None = getattr(engine, "deliver", None)
    return _drawn(engine, call, take) if faster is None else faster(call, take)


async def _drawn(
    engine: Engine, call: ChatCall, take: Callable[[Sequence[Event]], Awaitable[None] | None]
) -> None:
    events = engine.chat(call)
    try:
        async for event in events:
            wait = take((event,))
            if wait is not None:
                await wait
    finally:
        await events.aclose()


class EngineContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver is given of the world.

    Attributes:
        environ: the only environment it may read (for ``api_key_env``).
        allow_address: called with host and port before each connection; False forbids it (I6).
        state_dir: a 0700 folder of the home for sockets.
        vault: where embedded engines find their weights.
        air_gapped: whether the tenant is.
        weights: by deployment id, what the law was told of embedded weights: no others are loaded.
        drafts: by deployment id, what a measurement that speaks for its draft was made of: no other draft is
            loaded. None asks for no measurement: what is configured is loaded.
        outbox: through which a driver's requests leave together, or None. A driver all of whose requests
            leave by it says so with an attribute ``by_outbox``: then the intent need not be recorded before.

    """

    environ: Mapping[str, str]
    allow_address: Callable[[str, int], bool]
    state_dir: str
    vault: object | None = None
    air_gapped: bool = False
    weights: Mapping[str, Weights] = {}
    drafts: Mapping[str, DraftSetup] | None = None
    outbox: Outbox | None = None
