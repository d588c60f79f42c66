"""Where the promise of a task stands: the floor's state, what was spent on it, and who answered by what name.

One ``Standing`` per task and policy (``rules.policy_of``). Whatever enters the bound is a notice of the log,
written first: ``promise`` when one begins, ``audit`` for every audit, also one that could not be judged. The
floor's state is a function of these notices in their order (``replayed``), and each names the digest it led
to. Beside the log the home keeps the newest state in a file, so that a start need not read the log; a crash
may lose the last audits of it, never add one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.domain.money import ZERO, plain
from allod.gateway.promise.proof import Proof, Told
from allod.gateway.promise.rules import ALPHA, LEAST_AUDITS, Parties, ladder_facts, ladder_of
from allod.routing import floor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from allod.domain.fleet import CascadeTask

FORMAT: Final = "allod-promise-2"
_BEFORE: Final = "allod-promise-1"
"""As before other nodes could tell; read, and written as ``FORMAT`` from then on."""
BLIND: Final = 10
"""So many more audits missing than judged, of late: then nobody knows how it stands."""
_Z: Final = 1.96


class Spent(msgspec.Struct, kw_only=True):
    """What a promise did and cost; counts of requests, money in USD.

    Attributes:
        requests: answered under it, without fallbacks; ``kept_base``: those answered without the reference.
        steps_usd: what their steps cost; ``checks_usd``: those of them that were not delivered.
        audits: begun; ``audits_usd``: what the audits' own requests cost.
        missing: audits that were not made or not judged, by reason.
        sampled: audits with a known cost of the reference; ``sampled_usd``, ``squares``: its sum and the
            sum of its squares.
        skipped: requests sent to the reference because an estimate said that asking the base would not pay.
        escalated: requests that a rule was in force for, and the reference was asked all the same.
        fallbacks: requests that neither the rule nor the reference could answer: a fallback did.
        since_ms: when it began, UTC ms.

    """

    requests: int = 0
    kept_base: int = 0
    steps_usd: Decimal = ZERO
    checks_usd: Decimal = ZERO
    audits: int = 0
    audits_usd: Decimal = ZERO
    missing: dict[str, int] = {}
    sampled: int = 0
    sampled_usd: Decimal = ZERO
    squares: Decimal = ZERO
    skipped: int = 0
    escalated: int = 0
    fallbacks: int = 0
    since_ms: int = 0


class Saving(msgspec.Struct, frozen=True, kw_only=True):
    """What was saved against asking the reference alone, after every check and audit, in USD.

    ``low`` and ``high`` are a 95 % interval (normal approximation): what the reference would have cost is
    known from the audits alone. None where there are too few of them (fewer than 2).
    """

    reference_usd: Decimal
    spent_usd: Decimal
    saved_usd: Decimal
    low_usd: Decimal
    high_usd: Decimal


class Standing(msgspec.Struct, kw_only=True):
    """The promise of one task under one policy.

    ``unseen`` goes up by one with every audit that is missing and down, to 0, with every one that was judged:
    where more than half are missing it comes to ``BLIND``. ``models`` are the names deployments answer by,
    ``noticed`` is the last notice in it, ``size`` how many leaves the log had when it was kept.
    ``state`` is what decides; where ``others`` told of their audits, ``own`` is this node's part of it.
    ``trouble`` says why its state could not be kept, and is not kept itself.
    """

    task: str
    policy: str
    who: Parties
    promise: floor.Promise
    state: floor.State
    spent: Spent
    unseen: int = 0
    models: dict[str, str] = {}
    noticed: str = ""
    size: int = 0
    own: floor.State | None = None
    others: dict[str, Told] = {}
    trouble: str = ""

    @property
    def proof(self) -> Proof:
        """The promise with its evidence."""
        return Proof(promise=self.promise, state=self.state, own=self.own, others=self.others)

    def rest_on(self, proof: Proof) -> None:
        """Take other evidence."""
        self.promise, self.state, self.own = proof.promise, proof.state, proof.own
        self.others = dict(proof.others)

    @property
    def blind(self) -> bool:
        """Whether so many audits are missing that no rule may be used."""
        return self.unseen >= BLIND

    def turn(self, draw: float) -> floor.Turn:
        """Say who answers a request and whether it is audited; blind or in trouble, the reference does."""
        said = floor.turn(self.promise, self.state, draw)
        if self.blind or self.trouble:
            return floor.Turn(rule=None, audit=said.audit)
        return said

    @property
    def digest(self) -> str:
        """``sha256:`` of promise and evidence."""
        return self.proof.digest

    def audited(self, differences: tuple[int, ...], at_ms: int) -> floor.Event:
        """Take in an audit: for each rule, its quality minus the reference's (-1, 0 or 1)."""
        proof, event = self.proof.audited(differences, at_ms)
        self.rest_on(proof)
        self.unseen = max(0, self.unseen - 1)
        return event

    def missed(self, why: str) -> bool:
        """Count an audit that could not be made or judged; returns whether this made it blind."""
        before = self.unseen
        self.spent.missing[why] = self.spent.missing.get(why, 0) + 1
        self.unseen = min(BLIND, self.unseen + 1)
        return before < BLIND == self.unseen and self.state.open > 0

    def changed(self, deployment: str, model: str) -> str | None:
        """Note by what name a deployment answered; returns the name before, if it is another now.

        What was proven was proven of another model then: all of it is forgotten, as after a drift.
        """
        known = self.models.setdefault(deployment, model)
        if known == model:
            return None
        self.models[deployment] = model
        self.rest_on(self.proof.shut())
        return known

    def told(self, origin: str, one: Told) -> bool:
        """Take in what another node told; returns whether that was news (raises ``Invalid``)."""
        before = self.proof
        after = before.told(origin, one)
        self.rest_on(after)
        return after is not before

    def bound(self) -> floor.Bound:
        """Return the bound of the rule in force, or where none is of the next one to prove."""
        every = floor.bounds(self.promise, self.state)
        return every[max(0, self.state.open - 1)]

    def saving(self) -> Saving | None:
        """Return what was saved, None where audits do not tell yet what the reference would have cost."""
        s, n = self.spent, self.spent.sampled
        if n < 2:  # noqa: PLR2004 (no interval)
            return None
        mean = s.sampled_usd / n
        variance = max(ZERO, (s.squares - n * mean * mean) / (n - 1))
        error = Decimal(repr(_Z * math.sqrt(float(variance) / n))) * s.requests
        would, spent = mean * s.requests, s.steps_usd + s.audits_usd
        return Saving(
            reference_usd=would, spent_usd=spent, saved_usd=would - spent, low_usd=would - spent - error,
            high_usd=would - spent + error,
        )  # fmt: skip


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    standing: Standing


def promise_of(task: str, own: CascadeTask, rules: tuple[str, ...], policy: str) -> floor.Promise:
    """Return what is promised of a task that is answered so."""
    return floor.Promise(
        task=task, policy=policy, ladder=rules, loss=float(own.max_loss), alpha=ALPHA,
        share=float(own.audit_share), least=LEAST_AUDITS,
    )  # fmt: skip


def begin(
    task: str, own: CascadeTask, rules: tuple[str, ...], policy: str, who: Parties, at_ms: int
) -> Standing:
    """Begin at the reference, with nothing proven."""
    promise = promise_of(task, own, rules, policy)
    return Standing(
        task=task, policy=policy, who=who, promise=promise, state=floor.start(promise),
        spent=Spent(since_ms=at_ms), models={},
    )  # fmt: skip


def to_bytes(standing: Standing) -> bytes:
    """Write a standing as canonical bytes."""
    bare = msgspec.structs.replace(standing, trouble="")
    return msgspec.json.encode(_Kept(format=FORMAT, standing=bare), order="deterministic")


def from_bytes(body: bytes) -> Standing:
    """Read it back.

    Raises:
        Integrity: these are not the canonical bytes of a standing.

    """
    try:
        kept = msgspec.json.decode(body, type=_Kept)
        one = kept.standing
        for state in (one.state, one.proof.mine, *(told.state for told in one.others.values())):
            floor.from_bytes(floor.to_bytes(one.promise, state))
    except (msgspec.MsgspecError, Invalid, UnicodeError, RecursionError, LookupError) as error:
        raise Integrity("the state of a promise cannot be read", str(error), "it begins anew") from error
    if kept.format != _BEFORE and (kept.format != FORMAT or to_bytes(kept.standing) != body):
        raise Integrity("the state of a promise cannot be read", "not its canonical bytes", "it begins anew")
    return kept.standing


# --- what the log says


def begun(standing: Standing) -> dict[str, str]:
    """Return the facts of the notice with which a promise begins."""
    return {
        "task": standing.task, "policy": standing.policy, **ladder_facts(standing.promise.ladder),
        "loss": repr(standing.promise.loss), "share": repr(standing.promise.share),
        "alpha": repr(standing.promise.alpha), "false_alarms": repr(standing.promise.false_alarms),
        "least": f"{standing.promise.least}", "version": floor.version(standing.state),
        "state": standing.digest,
        "reference": standing.who.reference, "base": standing.who.base or "",
        "second": standing.who.second or "",
    }  # fmt: skip


Finder = Callable[[str, str, str, str], Told]
"""Finds what a node told: by digest of its file, its log, task and policy (raises ``Integrity``)."""


def _nothing_told(digest: str, origin: str, *_: str) -> Told:
    raise Integrity("what another node told is not here", f"{origin}, {digest}", "promises/told of the home")


def replayed(
    notices: Iterable[Mapping[str, object]], told: Finder = _nothing_told
) -> dict[tuple[str, str], Proof]:
    """Make all states again from the log's notices, in their order (I8).

    Args:
        notices: leaves of subjects ``promise`` and ``audit``; others are passed over.
        told: finds what other nodes told: a notice has its digest only.

    Raises:
        Integrity: a notice names another digest than its state has, or comes before its promise began; what
            another node told is not there any more.

    """
    out: dict[tuple[str, str], Proof] = {}
    for leaf in notices:
        facts = leaf.get("facts")
        if leaf.get("subject") not in {"promise", "audit"} or not isinstance(facts, dict):
            continue
        key = str(facts.get("task")), str(facts.get("policy"))
        out[key] = _followed(out.get(key), leaf, facts, told)
    return out


def catch_up(
    standing: Standing, notices: Iterable[Mapping[str, object]], told: Finder = _nothing_told
) -> int:
    """Take in what the log has of a promise since its state was kept; returns how many notices that were.

    Args:
        standing: as it was kept.
        notices: the log's leaves from ``standing.size`` on.
        told: as for ``replayed``.

    Raises:
        Integrity: they do not lead on from it.

    """
    mine = [
        leaf
        for leaf in notices
        if leaf.get("subject") in {"promise", "audit"}
        and isinstance(facts := leaf.get("facts"), dict)
        and (facts.get("task"), facts.get("policy")) == (standing.task, standing.policy)
    ]
    known = next((at for at, leaf in enumerate(mine, 1) if leaf.get("id") == standing.noticed), 0)
    for leaf in mine[known:]:
        facts = leaf["facts"]
        assert isinstance(facts, dict)
        standing.rest_on(_followed(standing.proof, leaf, facts, told))
        if leaf.get("subject") == "audit":
            by = 1 if "missing" in facts else -1
            standing.unseen = min(BLIND, max(0, standing.unseen + by))
        if "changed" in facts and "is" in facts:
            standing.models[facts["changed"]] = facts["is"]
        standing.noticed = str(leaf.get("id"))
    return len(mine) - known


def _followed(known: Proof | None, leaf: Mapping[str, object], facts: dict[str, str], told: Finder) -> Proof:
    """Go on by one notice, and hold the state against the digest it names."""
    try:
        found = _after(known, facts, _ms(str(leaf["time"])), told)
    except (KeyError, ValueError, Invalid) as error:
        why = f"{leaf.get('id')}: {error}"
        raise Integrity("a notice of a promise cannot be followed", why) from None
    if found.digest != facts.get("state"):
        raise Integrity("a promise's state is not what the log leads to", f"at {leaf.get('id')}")
    return found


def _after(known: Proof | None, facts: dict[str, str], at_ms: int, told: Finder) -> Proof:
    if "ladder" in facts:
        promise = floor.Promise(
            task=facts["task"], policy=facts["policy"], ladder=ladder_of(facts),
            loss=float(facts["loss"]), alpha=float(facts["alpha"]), share=float(facts["share"]),
            false_alarms=float(facts["false_alarms"]), least=int(facts["least"]),
        )  # fmt: skip
        return Proof(promise=promise, state=floor.begun(promise, facts.get("version", "1")))
    if known is None:
        raise KeyError("its beginning")
    if "changed" in facts:
        return known.shut()
    if "told" in facts:
        digest, origin = facts["told"], facts["by"]
        return known.told(origin, told(digest, origin, known.promise.task, known.promise.policy))
    if "differences" not in facts:
        return known
    return known.audited(tuple(int(one) for one in facts["differences"].split(" ")), at_ms)[0]


def _ms(text: str) -> int:
    at = datetime.fromisoformat(text)
    return int(at.timestamp()) * 1000 + at.microsecond // 1000


def day_of(at_ms: int) -> str:
    """Write the UTC day of a time."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).date().isoformat()


def points(change: float) -> str:
    """Write a change of quality plainly, exact to a grid point of the bound."""
    return plain(Decimal(repr(round(change, 6))))
