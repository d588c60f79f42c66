"""Where the promise of a task stands: the floor's state, what was spent on it, and who answered by what name.

One ``Standing`` per task and policy (``rules.policy_of``). Whatever enters the bound is a notice of the log,
written first: ``promise`` when one begins, ``audit`` for every audit, also one that could not be judged. The
floor's state is a function of these notices in their order (``replayed``), and each names the digest it led
to. Beside the log the home keeps the newest state in a file, so that a start need not read the log; a crash
may lose the last audits of it, never add one.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.domain.money import ZERO, plain
from allod.gateway.promise.rules import ALPHA, LEAST_AUDITS, Parties
from allod.routing import floor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from allod.domain.fleet import CascadeTask

FORMAT: Final = "allod-promise-1"
BLIND: Final = 10
"""So many more audits missing than judged, of late: then nobody knows how it stands."""
_Z: Final = 1.96


class Spent(msgspec.Struct, kw_only=True):
    """What a promise did and cost; counts of requests, money in USD.

    Attributes:
        requests: answered under it; ``kept_base``: those answered without the reference.
        steps_usd: what their steps cost; ``checks_usd``: those of them that were not delivered.
        audits: begun; ``audits_usd``: what the audits' own requests cost.
        missing: audits that were not made or not judged, by reason.
        sampled: audits with a known cost of the reference; ``sampled_usd``, ``squares``: its sum and the
            sum of its squares.
        skipped: requests sent to the reference because an estimate said that asking the base would not pay.
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
    trouble: str = ""

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
        """``sha256:`` of promise and state."""
        return floor.digest(self.promise, self.state)

    def audited(self, differences: tuple[int, ...], at_ms: int) -> floor.Event:
        """Take in an audit: for each rule, its quality minus the reference's (-1, 0 or 1)."""
        self.state, event = floor.audit(self.promise, self.state, tuple(map(float, differences)), at_ms)
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
        self.state = shut(self.promise, self.state)
        return known

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


def begin(
    task: str, own: CascadeTask, rules: tuple[str, ...], policy: str, who: Parties, at_ms: int
) -> Standing:
    """Begin at the reference, with nothing proven."""
    promise = floor.Promise(
        task=task, policy=policy, ladder=rules, loss=float(own.max_loss), alpha=ALPHA,
        share=float(own.audit_share), least=LEAST_AUDITS,
    )  # fmt: skip
    return Standing(
        task=task, policy=policy, who=who, promise=promise, state=floor.start(promise),
        spent=Spent(since_ms=at_ms), models={},
    )  # fmt: skip


def shut(promise: floor.Promise, state: floor.State) -> floor.State:
    """Return the state after something that made the evidence worthless: as after a drift."""
    return msgspec.structs.replace(
        floor.start(promise), shut=state.shut + 1, audits=state.audits, at_ms=state.at_ms
    )


def joined(one: Standing, two: Standing) -> Standing:
    """Put the evidence of two nodes together that audited apart; spending adds up.

    Raises:
        Invalid: they are of different promises, or deployments answered by different names.

    """
    names = set(one.models) & set(two.models)
    if one.promise != two.promise or any(one.models[name] != two.models[name] for name in names):
        raise Invalid("these are not two nodes' evidence of one promise", "", "join those of one policy")
    a, b = one.spent, two.spent
    missing = {why: a.missing.get(why, 0) + b.missing.get(why, 0) for why in {*a.missing, *b.missing}}
    summed = {
        name: getattr(a, name) + getattr(b, name)
        for name in Spent.__struct_fields__
        if name not in {"missing", "since_ms"}
    }
    return Standing(
        task=one.task, policy=one.policy, who=one.who, promise=one.promise,
        state=floor.join(one.promise, one.state, two.state),
        spent=Spent(**summed, missing=missing, since_ms=min(a.since_ms, b.since_ms)),
        unseen=max(one.unseen, two.unseen), models={**two.models, **one.models},
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
        floor.from_bytes(floor.to_bytes(kept.standing.promise, kept.standing.state))
    except (msgspec.MsgspecError, Invalid, UnicodeError, RecursionError) as error:
        raise Integrity("the state of a promise cannot be read", str(error), "it begins anew") from error
    if kept.format != FORMAT or to_bytes(kept.standing) != body:
        raise Integrity("the state of a promise cannot be read", "not its canonical bytes", "it begins anew")
    return kept.standing


# --- what the log says


def begun(standing: Standing) -> dict[str, str]:
    """Return the facts of the notice with which a promise begins."""
    return {
        "task": standing.task, "policy": standing.policy, "ladder": " ".join(standing.promise.ladder),
        "loss": repr(standing.promise.loss), "share": repr(standing.promise.share),
        "alpha": repr(standing.promise.alpha), "false_alarms": repr(standing.promise.false_alarms),
        "least": f"{standing.promise.least}", "state": standing.digest,
        "reference": standing.who.reference, "base": standing.who.base or "",
        "second": standing.who.second or "",
    }  # fmt: skip


def replayed(
    notices: Iterable[Mapping[str, object]],
) -> dict[tuple[str, str], tuple[floor.Promise, floor.State]]:
    """Make all states again from the log's notices, in their order (I8).

    Args:
        notices: leaves of subjects ``promise`` and ``audit``; others are passed over.

    Raises:
        Integrity: a notice names another digest than its state has, or comes before its promise began.

    """
    out: dict[tuple[str, str], tuple[floor.Promise, floor.State]] = {}
    for leaf in notices:
        facts = leaf.get("facts")
        if leaf.get("subject") not in {"promise", "audit"} or not isinstance(facts, dict):
            continue
        key = str(facts.get("task")), str(facts.get("policy"))
        try:
            out[key] = _after(out.get(key), facts, _ms(str(leaf["time"])))
        except (KeyError, ValueError, Invalid) as error:
            raise Integrity(
                "a notice of a promise cannot be followed", f"{leaf.get('id')}: {error}"
            ) from None
        if floor.digest(*out[key]) != facts.get("state"):
            raise Integrity("a promise's state is not what the log leads to", f"at {leaf.get('id')}")
    return out


def catch_up(standing: Standing, notices: Iterable[Mapping[str, object]]) -> int:
    """Take in what the log has of a promise since its state was kept; returns how many notices that were.

    Args:
        standing: as it was kept.
        notices: the log's leaves from ``standing.size`` on.

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
        at_ms = _ms(str(leaf["time"]))
        try:
            standing.promise, standing.state = _after((standing.promise, standing.state), facts, at_ms)
        except (KeyError, ValueError, Invalid) as error:
            why = f"{leaf.get('id')}: {error}"
            raise Integrity("a notice of a promise cannot be followed", why) from None
        if standing.digest != facts.get("state"):
            raise Integrity("a promise's state is not what the log leads to", f"at {leaf.get('id')}")
        by = 1 if "missing" in facts else -1
        standing.unseen = min(BLIND, max(0, standing.unseen + by))
        standing.noticed = str(leaf.get("id"))
    return len(mine) - known


def _after(
    known: tuple[floor.Promise, floor.State] | None, facts: dict[str, str], at_ms: int
) -> tuple[floor.Promise, floor.State]:
    if "ladder" in facts:
        promise = floor.Promise(
            task=facts["task"], policy=facts["policy"], ladder=tuple(facts["ladder"].split(" ")),
            loss=float(facts["loss"]), alpha=float(facts["alpha"]), share=float(facts["share"]),
            false_alarms=float(facts["false_alarms"]), least=int(facts["least"]),
        )  # fmt: skip
        return promise, floor.start(promise)
    if known is None:
        raise KeyError("its beginning")
    promise, state = known
    if "changed" in facts:
        return promise, shut(promise, state)
    if "differences" not in facts:
        return known
    differences = tuple(float(one) for one in facts["differences"].split(" "))
    return promise, floor.audit(promise, state, differences, at_ms)[0]


def _ms(text: str) -> int:
    at = datetime.fromisoformat(text)
    return int(at.timestamp()) * 1000 + at.microsecond // 1000


def day_of(at_ms: int) -> str:
    """Write the UTC day of a time."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).date().isoformat()


def points(change: float) -> str:
    """Write a change of quality plainly, exact to a grid point of the bound."""
    return plain(Decimal(repr(round(change, 6))))
