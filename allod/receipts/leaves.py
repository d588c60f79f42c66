"""Leaves of the log: what a receipt says, as facts in and canonical JSON out, always under 4 KB.

Three kinds: ``intent`` before the first byte leaves to any upstream, ``terminal`` exactly once for every
intent (I3), ``notice`` for what else the organisation must be able to prove (a waived rule, a loss). Leaves
hold no content: commitments, digests and pseudonyms only (I9). Absent fields were not known or not given.

A leaf is never too long: ``detail`` is cut first, then a long list of exclusions becomes its digest with the
entries that fit; where that is not enough, names beyond 80 bytes are cut and followed by their digest, and a
list of names ends with the digest of the whole list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from allod.domain.decision import Conditions, Exclusion
from allod.domain.errors import Integrity
from allod.domain.money import plain
from allod.domain.usage import AttemptStatus, Basis, Usage
from allod.receipts.canonical import canonical
from allod.receipts.commitment import digest
from allod.receipts.fitting import (
    MAX_NAME,
    Tried,
    cut_text,
    fitting,
    fitting_attempts,
    fitting_list,
    fitting_or_none,
    utf8,
)
from allod.receipts.handling import MAX_KINDS, MAX_KINDS_CUT, Handling, counted
from allod.receipts.tokens import Tokens, tokens_of

Evidence = Literal["self-run", "tee-attested", "operator-claims", "simulated"]
Durability = Literal["default", "strict"]

MAX_LEAF_BYTES: Final = 4095
MAX_INTENT_BYTES: Final = 1800
MAX_DETAIL: Final = 512
MAX_LIST: Final = 16
_DAY_ZERO: Final = date(1970, 1, 1).toordinal()
_MINUTES: Final = tuple(f"T{m // 60:02d}:{m % 60:02d}:" for m in range(1440))
_SECONDS: Final = tuple(f"{s:02d}." for s in range(60))
_MILLIS: Final = tuple(f"{ms:03d}Z" for ms in range(1000))
_ENCODER: Final = msgspec.json.Encoder()
_NOTHING: Final = msgspec.Raw(b"[]")


class IntentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known before dispatch.

    Attributes:
        id: the receipt id; at_ms: the request's one clock reading, UTC milliseconds.
        tenant, app: pseudonyms (``commitment.pseudonym``).
        surface: the HTTP surface; request: salted commitment to the body as received.
        classes: expanded and sorted.
        pack, fleet, decision: ``sha256:`` digests; ``decision`` is that of the decision record.
        plan: ids of the deployments that may be tried, in order; empty when the request is refused.
        parents: receipt ids this one stems from; durability: what was waited for before the first byte left.
        data: what was found in it and done to it, or None for nothing.
        step: what it is for, where it is a step of the request that is its first parent, or an audit of it.

    """

    id: str
    at_ms: int
    tenant: str
    app: str
    surface: str
    request: str
    classes: tuple[str, ...]
    pack: str
    fleet: str
    decision: str
    purpose: str | None = None
    task: str | None = None
    plan: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    durability: Durability = "default"
    data: Handling | None = None
    step: str | None = None


class Exclusions(msgspec.Struct, frozen=True, kw_only=True):
    """Why each deployment was left out, written once per decision; make it with ``exclusions``."""

    rules: tuple[str, ...] = ()
    entries: tuple[tuple[str, tuple[int, ...]], ...] = ()
    rules_json: msgspec.Raw = _NOTHING
    entries_json: msgspec.Raw = _NOTHING


NO_EXCLUSIONS: Final = Exclusions()


class TerminalFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How a request ended; the leaf repeats the intent's own facts, so that it can be read alone.

    Attributes:
        id: the receipt id; at_ms: UTC milliseconds of the end.
        status: ``answered``, ``refused``, ``aborted`` or ``failed``; ``reason`` is one word for it
            (``gateway-lost``), ``detail`` one line without content.
        response: salted commitment to the delivered body, or None when nothing was delivered.
        deployment, model, engine, engine_version, engine_digest, sandbox, evidence, notice: what answered,
            from the driver's description.
        weights, adapter, template: digests, only with evidence ``self-run``.
        conditions: the residency conditions of that deployment as evaluated.
        relaxed: rules the tenant waived that would otherwise have excluded it.
        excluded: every other deployment and its deciding rules.
        usage: tokens in disjoint parts, over all attempts; cost_usd with the digest of its prices.
        basis: the weakest basis among the attempts' ledger rows, None without attempts.
        attempts: how many upstream attempts there were.
        tried: each attempt's (deployment, status, basis, cost in plain USD) in order, where ``deployment``
            alone does not say it: whoever saw the request is named, whether or not it answered.
        seq: the number of this end among those of its deployment in this log, from 1 without gaps.
        answer_from: the receipt under which the answer delivered here was made, where that is another one: a
            step of this request, or for an answer out of the cache the receipt it was given under first.
            Nothing was attempted under this receipt then, and its end has no number.
        steps: each step's (receipt, role, status, cost in plain USD) in the order they began.
        total_usd: what the request cost with all its steps; None without steps.
        floor: for a task answered in steps under a promise: the rule in force, its bound, from how many
            audits and as of when, and whether this request is audited; ASCII words, sorted. Empty for none.

    """

    id: str
    at_ms: int
    status: AttemptStatus
    reason: str = ""
    detail: str = ""
    response: str | None = None
    deployment: str | None = None
    model: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    engine_digest: str | None = None
    weights: str | None = None
    adapter: str | None = None
    template: str | None = None
    sandbox: str | None = None
    evidence: Evidence | None = None
    notice: str | None = None
    conditions: Conditions | None = None
    relaxed: tuple[str, ...] = ()
    excluded: Exclusions = NO_EXCLUSIONS
    usage: Usage | None = None
    cost_usd: Decimal | None = None
    price_digest: str | None = None
    basis: Basis | None = None
    attempts: int = 0
    tried: Tried = ()
    seq: int | None = None
    answer_from: str | None = None
    steps: Tried = ()
    total_usd: Decimal | None = None
    floor: tuple[tuple[str, str], ...] = ()


class NoticeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be provable that is no request: a subject, one line, and named texts or digests."""

    id: str
    at_ms: int
    tenant: str
    subject: str
    detail: str = ""
    facts: Mapping[str, str] = {}


class IntentLeaf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An intent leaf's fields in canonical order."""

    app: str
    classes: tuple[str, ...]
    data: Handling | None = None
    decision: str
    durability: str
    fleet: str
    id: str
    kind: str
    pack: str
    parents: tuple[str, ...] = ()
    plan: tuple[str, ...] = ()
    purpose: str | None = None
    request: str
    step: str | None = None
    surface: str
    task: str | None = None
    tenant: str
    time: str
    v: int


class TerminalLeaf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A terminal leaf's fields in canonical order; ``excluded``: deployment, indices into ``rules``."""

    adapter: str | None = None
    answer_from: str | None = None
    app: str
    attempts: int
    basis: str | None = None
    classes: tuple[str, ...]
    conditions: dict[str, bool] | None = None
    cost_usd: str | None = None
    decision: str
    deployment: str | None = None
    detail: str = ""
    durability: str
    engine: str | None = None
    engine_digest: str | None = None
    engine_version: str | None = None
    evidence: str | None = None
    excluded: msgspec.Raw = _NOTHING
    excluded_count: int | None = None
    excluded_digest: str | None = None
    fleet: str
    floor: dict[str, str] | None = None
    id: str
    intent: str
    kind: str
    model: str | None = None
    notice: str | None = None
    pack: str
    parents: tuple[str, ...] = ()
    price: str | None = None
    purpose: str | None = None
    reason: str = ""
    relaxed: tuple[str, ...] = ()
    request: str
    response: str | None = None
    rules: msgspec.Raw = _NOTHING
    sandbox: str | None = None
    seq: int | None = None
    status: str
    step: str | None = None
    steps: Tried = ()
    task: str | None = None
    template: str | None = None
    tenant: str
    time: str
    tokens: Tokens | None = None
    total_usd: str | None = None
    tried: Tried = ()
    v: int
    weights: str | None = None


@lru_cache(maxsize=64)
def leaf_time(at_ms: int) -> str:
    """Write UTC milliseconds as ``2026-11-25T19:15:01.000Z`` (``domain.money.rfc3339``, but faster)."""
    days, ms_of_day = divmod(at_ms, 86_400_000)
    minute, rest = divmod(ms_of_day, 60_000)
    second, ms = divmod(rest, 1000)
    return _day(days) + _MINUTES[minute] + _SECONDS[second] + _MILLIS[ms]


def ms_of(text: str) -> int:
    """Read such a time as UTC milliseconds (raises ValueError)."""
    at = datetime.fromisoformat(text)
    return int(at.timestamp()) * 1000 + at.microsecond // 1000


@lru_cache(maxsize=8)
def _day(days: int) -> str:
    return date.fromordinal(_DAY_ZERO + days).isoformat()


def exclusions(excluded: Iterable[Exclusion]) -> Exclusions:
    """Name each deciding rule once, and per deployment the rules by index; keep the result per decision."""
    rules: dict[str, int] = {}
    entries = [
        (fitting(e.deployment), tuple(rules.setdefault(fitting(r.id), len(rules)) for r in e.rules))
        for e in excluded
    ]
    names, pairs = tuple(rules), tuple(entries)
    return Exclusions(
        rules=names,
        entries=pairs,
        rules_json=msgspec.Raw(canonical(names)),
        entries_json=msgspec.Raw(canonical(pairs)),
    )


def intent_leaf(facts: IntentFacts) -> tuple[IntentFacts, bytes]:
    """Write an intent leaf; returns it with the facts as written, which the terminal leaf must repeat."""
    try:
        leaf = _ENCODER.encode(_intent(facts))
        if len(leaf) <= MAX_INTENT_BYTES:
            return facts, leaf
    except UnicodeEncodeError:
        pass
    names = {name: fitting_or_none(getattr(facts, name), MAX_NAME) for name in _INTENT_NAMES}
    lists = {name: fitting_list(getattr(facts, name), MAX_LIST) for name in ("classes", "parents", "plan")}
    facts = msgspec.structs.replace(facts, **names, **lists, data=counted(facts.data, MAX_KINDS_CUT))
    return facts, _ENCODER.encode(_intent(facts))


def terminal_leaf(intent: IntentFacts, intent_hash: bytes, facts: TerminalFacts) -> bytes:
    """Write a terminal leaf; ``intent`` and ``intent_hash`` (RFC 6962 leaf hash) as written before.

    Raises:
        Integrity: weights, adapter or template are named for something we did not run ourselves.

    """
    if facts.evidence != "self-run" and (facts.weights or facts.adapter or facts.template):
        raise Integrity(
            f"receipt {facts.id} claims weights nobody here loaded",
            f"got a digest with evidence {facts.evidence}, expected self-run",
            "a remote model is named by its operator's word only; fix the driver's description",
        )
    named = "sha256:" + intent_hash.hex()
    leaf = whole_terminal(intent, named, facts)
    if leaf is not None and len(leaf) <= MAX_LEAF_BYTES and len(facts.detail) <= MAX_DETAIL:
        return leaf
    return _terminal_cut(intent, named, facts)


def whole_terminal(intent: IntentFacts, named: str, facts: TerminalFacts) -> bytes | None:
    """Write a terminal leaf however long it is; None where some text in it is no Unicode.

    ``named`` is the intent's leaf hash as ``sha256:`` and 64 hex digits.
    """
    try:
        return _ENCODER.encode(_terminal(intent, named, facts))
    except UnicodeEncodeError:
        return None


def notice_leaf(facts: NoticeFacts) -> bytes:
    """Write a notice leaf; facts that do not fit are replaced by their digest."""
    named = {fitting(k) if k.isascii() else digest(utf8(k)): fitting(v) for k, v in facts.facts.items()}
    leaf: dict[str, Any] = {
        "detail": cut_text(facts.detail, MAX_DETAIL),
        "facts": named,
        "id": fitting(facts.id),
        "kind": "notice",
        "subject": fitting(facts.subject),
        "tenant": fitting(facts.tenant),
        "time": leaf_time(facts.at_ms),
        "v": 1,
    }
    data = canonical(leaf)
    if len(data) > MAX_LEAF_BYTES:
        data = canonical({**leaf, "facts": {"digest": digest(canonical(named))}})
    return data


def _intent(facts: IntentFacts) -> IntentLeaf:
    return IntentLeaf(
        app=facts.app,
        classes=facts.classes,
        data=counted(facts.data, MAX_KINDS),
        decision=facts.decision,
        durability=facts.durability,
        fleet=facts.fleet,
        id=facts.id,
        kind="intent",
        pack=facts.pack,
        parents=facts.parents,
        plan=facts.plan,
        purpose=facts.purpose,
        request=facts.request,
        step=facts.step,
        surface=facts.surface,
        task=facts.task,
        tenant=facts.tenant,
        time=leaf_time(facts.at_ms),
        v=1,
    )


def _terminal(intent: IntentFacts, named: str, facts: TerminalFacts) -> TerminalLeaf:
    return TerminalLeaf(
        adapter=facts.adapter,
        answer_from=facts.answer_from,
        app=intent.app,
        attempts=facts.attempts,
        basis=facts.basis,
        classes=intent.classes,
        conditions=_conditions(facts.conditions),
        cost_usd=None if facts.cost_usd is None else plain(facts.cost_usd),
        decision=intent.decision,
        deployment=facts.deployment,
        detail=facts.detail,
        durability=intent.durability,
        engine=facts.engine,
        engine_digest=facts.engine_digest,
        engine_version=facts.engine_version,
        evidence=facts.evidence,
        excluded=facts.excluded.entries_json,
        fleet=intent.fleet,
        floor=_floor(facts.floor),
        id=facts.id,
        intent=named,
        kind="terminal",
        model=facts.model,
        notice=facts.notice,
        pack=intent.pack,
        parents=intent.parents,
        price=facts.price_digest,
        purpose=intent.purpose,
        reason=facts.reason,
        relaxed=facts.relaxed,
        request=intent.request,
        response=facts.response,
        rules=facts.excluded.rules_json,
        sandbox=facts.sandbox,
        seq=facts.seq,
        status=facts.status,
        step=intent.step,
        steps=facts.steps,
        task=intent.task,
        template=facts.template,
        tenant=intent.tenant,
        time=leaf_time(facts.at_ms),
        tokens=tokens_of(facts.usage),
        total_usd=None if facts.total_usd is None else plain(facts.total_usd),
        tried=facts.tried,
        v=1,
        weights=facts.weights,
    )


def _terminal_cut(intent: IntentFacts, named: str, facts: TerminalFacts) -> bytes:
    """Write a leaf that is too long, or holds text that is not Unicode, step by step shorter."""
    leaf = _terminal(intent, named, _shortened(facts, 4 * MAX_NAME, MAX_LIST))
    data = _ENCODER.encode(leaf)
    over = len(data) - MAX_LEAF_BYTES
    if over > 0 and leaf.detail:
        detail = cut_text(leaf.detail, max(0, len(_ENCODER.encode(leaf.detail)) - over - 2))
        leaf = msgspec.structs.replace(leaf, detail=detail)
        data = _ENCODER.encode(leaf)
    keep = len(facts.excluded.entries)
    while len(data) > MAX_LEAF_BYTES and keep:
        keep //= 2
        leaf = msgspec.structs.replace(leaf, **_first(facts.excluded, keep))
        data = _ENCODER.encode(leaf)
    if len(data) > MAX_LEAF_BYTES:
        leaf = _terminal(intent, named, _shortened(facts, MAX_NAME, 2))
        data = _ENCODER.encode(msgspec.structs.replace(leaf, detail="", **_first(facts.excluded, 0)))
    return data


def _shortened(facts: TerminalFacts, limit: int, items: int) -> TerminalFacts:
    names = {name: fitting_or_none(getattr(facts, name), limit) for name in _NAMES}
    return msgspec.structs.replace(
        facts,
        **names,
        relaxed=fitting_list(facts.relaxed, items),
        detail=cut_text(facts.detail, MAX_DETAIL),
        tried=fitting_attempts(facts.tried, items),
        steps=fitting_attempts(facts.steps, items),
    )


_NAMES: Final = (
    "adapter", "answer_from", "deployment", "engine", "engine_digest", "engine_version", "model", "notice",
    "price_digest", "reason", "response", "sandbox", "template", "weights",
)  # fmt: skip
_INTENT_NAMES: Final = (
    "id", "tenant", "app", "surface", "request", "pack", "fleet", "decision", "purpose", "task",
)  # fmt: skip


def _first(excluded: Exclusions, keep: int) -> dict[str, Any]:
    """Return the first exclusions, and digest and number of them all."""
    entries = excluded.entries[:keep]
    used = {rule: i for i, rule in enumerate(sorted({n for _, rules in entries for n in rules}))}
    pairs = [(name, [used[n] for n in rules]) for name, rules in entries]
    return {
        "rules": msgspec.Raw(canonical([excluded.rules[n] for n in used])),
        "excluded": msgspec.Raw(canonical(pairs)),
        "excluded_count": len(excluded.entries),
        "excluded_digest": digest(canonical({"excluded": excluded.entries, "rules": excluded.rules})),
    }


def _floor(said: tuple[tuple[str, str], ...]) -> dict[str, str] | None:
    return {fitting(name): fitting(value) for name, value in sorted(said)} or None


def _conditions(conditions: Conditions | None) -> dict[str, bool] | None:
    if conditions is None:
        return None
    return {
        "audit": conditions.audit,
        "operator": conditions.operator,
        "process": conditions.process,
        "rest": conditions.rest,
        "transit": conditions.transit,
    }
