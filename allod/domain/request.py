"""A request as the gateway sees it: what was asked, and what admission made of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from allod.domain.fleet import Effort

Surface = Literal["chat", "responses", "messages", "embeddings", "count_tokens"]


NO_RECEIPT: Final = "r_00000000_00000000000000000000000000"
"""Of a request that is decided and not made: to explain, or to plan."""


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller said with ``Allod-*`` headers and ``metadata``, joined; the stricter number won.

    ``subject`` is the person a request is about, as the application names them; it is kept salted only.
    ``parents`` are ids of receipts the request stems from, not checked yet.
    """

    classes: tuple[str, ...] = ()
    purpose: str | None = None
    task: str | None = None
    min_quality: Decimal | None = None
    max_cost_usd: Decimal | None = None
    deadline_ms: int | None = None
    tier: str | None = None
    effort: Effort | None = None
    subject: str | None = None
    parents: tuple[str, ...] = ()


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How large a request is.

    Bytes as received, tokens estimated from above, the output limit of one choice if one was set, and the
    number of choices asked for. ``expected_tokens`` holds, of a long one, the input tokens that deployments
    whose tokenizer was learned from traffic are unlikely to bill more than, by deployment, sorted.
    """

    body_bytes: int
    input_tokens: int
    max_output_tokens: int | None = None
    choices: int = 1
    expected_tokens: tuple[tuple[str, int], ...] = ()


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, what kind of data, what task, within what limits.

    Attributes:
        receipt: the receipt id this request will have.
        received_at_ms: the one clock reading of this request, UTC milliseconds.
        app: id of the calling app.
        surface: the HTTP surface it came by.
        classes: the expanded classes, sorted.
        purpose: the declared purpose, or None.
        task: task name, or None.
        model: the model field as written.
        pinned: deployment ids the model field limits candidates to; empty for ``auto`` and tasks.
        needs: capabilities the request uses (``text``, ``image``, ``tools``, ``json_schema``, ``logprobs``,
            ``embeddings``), sorted.
        sizes: bytes and tokens.
        min_quality, max_cost_usd, deadline_ms, effort, tier: limits after joining caller, task and app.
        efforts: the depths to choose among, within what app and caller allow; empty where ``effort`` is
            fixed. Then ``effort`` is for deployments of which no depth was measured.
        stream: whether the caller asked for a stream.
        kind: all of it that a decision depends on, besides sizes, health and day; one object for all requests
            that differ in nothing else. None where nobody looked for requests like it.

    """

    receipt: str
    received_at_ms: int
    app: str
    surface: Surface
    classes: tuple[str, ...]
    purpose: str | None
    task: str | None
    model: str
    pinned: tuple[str, ...]
    needs: tuple[str, ...]
    sizes: Sizes
    min_quality: Decimal | None
    max_cost_usd: Decimal | None
    deadline_ms: int | None
    effort: Effort | None
    tier: str | None
    stream: bool
    kind: tuple[Any, ...] | None = None
    efforts: tuple[Effort, ...] = ()
