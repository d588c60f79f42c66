"""What packs in shadow would have decided beside those in force: the difference that a record keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from allod.domain.errors import Integrity

if TYPE_CHECKING:
    from allod.domain.decision import Eligibility, Plan

Outcome = Literal["served", "down", "refused"]
"""``served``: there is something to try; ``down``: lawful and able, but none up; ``refused``: neither."""


class ShadowExclusion(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment that is lawful under the packs in force and would not be with those in shadow."""

    deployment: str
    rules: tuple[str, ...]


class Shadowed(msgspec.Struct, frozen=True, kw_only=True):
    """The difference packs in shadow make to one decision.

    Attributes:
        packs: ids of the packs in shadow, in the order of the configuration.
        digest: pack digest of those in force and in shadow together; None where ``error`` says why not.
        error: why the shadow could not be evaluated; then it says nothing, and the live decision stands.
        excluded: candidates the shadow takes away, each with all rules against it.
        kept: candidates it would add.
        outcome: what would have become of the request; ``first``: the first choice then, if any.
        changed: whether the first choice or the outcome is another.

    """

    packs: tuple[str, ...]
    digest: str | None = None
    error: str | None = None
    excluded: tuple[ShadowExclusion, ...] = ()
    kept: tuple[str, ...] = ()
    outcome: Outcome | None = None
    first: str | None = None
    changed: bool = False

    @property
    def differs(self) -> bool:
        """Tell whether law or choice would be another."""
        return self.changed or bool(self.excluded or self.kept)


def outcome_of(attempts: int, resting: int) -> Outcome:
    """Name what becomes of a request with so many attempts and so many able deployments that are down."""
    return "served" if attempts else "down" if resting else "refused"


def difference(
    packs: tuple[str, ...], live: tuple[Eligibility, Plan], beside: tuple[Eligibility, Plan]
) -> Shadowed:
    """Compare what was decided live with what was decided ``beside`` it, each as (law, plan).

    Only candidates of the request are compared: what it could not have used makes no difference to it.
    """
    (law, plan), (other_law, other) = live, beside
    scope = [one.deployment for one in plan.candidates]
    against = {one.deployment: tuple(rule.id for rule in one.rules) for one in other_law.excluded}
    first, then = _end(plan), _end(other)
    return Shadowed(
        packs=packs,
        digest=other_law.pack_digest,
        excluded=tuple(
            ShadowExclusion(deployment=name, rules=against.get(name, ()))
            for name in scope
            if name in law.kept and name not in other_law.kept
        ),
        kept=tuple(name for name in scope if name in other_law.kept and name not in law.kept),
        outcome=then[0],
        first=then[1],
        changed=first != then,
    )


def _end(plan: Plan) -> tuple[Outcome, str | None]:
    first = plan.attempts[0].deployment if plan.attempts else None
    return outcome_of(len(plan.attempts), len(plan.resting)), first


EXAMPLES: Final = 3


class _Asked(msgspec.Struct, frozen=True):
    app: str
    classes: tuple[str, ...]


class _Facts(msgspec.Struct, frozen=True):
    task: str | None


class _Attempt(msgspec.Struct, frozen=True):
    deployment: str


class _Plan(msgspec.Struct, frozen=True):
    attempts: tuple[_Attempt, ...]
    resting: tuple[str, ...]


class _Seen(msgspec.Struct, frozen=True):
    asked: _Asked
    facts: _Facts
    plan: _Plan
    shadow: Shadowed | None = None


_SEEN: Final = msgspec.json.Decoder(_Seen)


class ShadowLine(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one app, class set and task that a shadow would have treated alike.

    ``packs`` and ``digest`` say which shadow; ``before`` and ``after`` are (outcome, first choice) live and
    with the shadow; ``rules`` take candidates away, from ``excluded``; ``kept`` would be added.
    """

    packs: tuple[str, ...]
    digest: str | None
    app: str
    classes: tuple[str, ...]
    task: str | None
    before: tuple[str, str | None]
    after: tuple[str | None, str | None]
    excluded: tuple[str, ...]
    kept: tuple[str, ...]
    rules: tuple[str, ...]
    requests: int
    decisions: int
    receipts: tuple[str, ...]


class ShadowTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Requests: all, those a shadow was evaluated for, and what it said of these.

    ``changed`` (another first choice or outcome) are among ``differing`` (law or choice), ``refused`` (served
    live, refused with the shadow) among ``changed``. ``failed`` could not be evaluated; of the ``unread`` the
    record is lost or damaged.
    """

    requests: int = 0
    shadowed: int = 0
    failed: int = 0
    same: int = 0
    differing: int = 0
    changed: int = 0
    refused: int = 0
    unread: int = 0


class ShadowFault(msgspec.Struct, frozen=True, kw_only=True):
    """Why a shadow could not be evaluated, and for how many requests."""

    packs: tuple[str, ...]
    error: str
    requests: int
    receipts: tuple[str, ...]


class ShadowFound(msgspec.Struct, frozen=True, kw_only=True):
    """What the records say of shadows; lines and faults by falling number of requests."""

    totals: ShadowTotals
    lines: tuple[ShadowLine, ...]
    faults: tuple[ShadowFault, ...]


class ShadowTally:
    """Adds up what records say of the packs in shadow."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(ShadowTotals.__struct_fields__, 0)
        self._lines: dict[tuple[Any, ...], tuple[list[int], list[str]]] = {}
        self._faults: dict[tuple[tuple[str, ...], str], tuple[list[int], list[str]]] = {}

    def add(self, record: bytes | None, requests: int, receipt: str) -> None:
        """Add one record that so many requests share, or None for a lost one.

        Raises:
            Integrity: it is no decision record; it was counted as ``unread``.

        """
        self._count(requests, "requests")
        if record is None:
            self._count(requests, "unread")
            return
        try:
            seen = _SEEN.decode(record)
        except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
            self._count(requests, "unread")
            raise Integrity("the decision record cannot be read", str(fault), "get it again") from fault
        shadow = seen.shadow
        if shadow is None:
            return
        self._count(requests, "shadowed")
        if shadow.error is not None:
            self._count(requests, "failed")
            _note(self._faults, (shadow.packs, shadow.error), requests, receipt)
        elif not shadow.differs:
            self._count(requests, "same")
        else:
            self._differing(seen, shadow, requests, receipt)

    def found(self) -> ShadowFound:
        """Return what was found so far."""
        names = ShadowLine.__struct_fields__[:10]
        lines = [
            ShadowLine(
                **dict(zip(names, key, strict=True)), requests=n[0], decisions=n[1], receipts=tuple(receipts)
            )
            for key, (n, receipts) in self._lines.items()
        ]
        faults = [
            ShadowFault(packs=packs, error=error, requests=n[0], receipts=tuple(receipts))
            for (packs, error), (n, receipts) in self._faults.items()
        ]
        return ShadowFound(
            totals=ShadowTotals(**self._counts),
            lines=tuple(sorted(lines, key=lambda one: (-one.requests, one.app, one.classes))),
            faults=tuple(sorted(faults, key=lambda one: -one.requests)),
        )

    def _count(self, requests: int, *names: str) -> None:
        for name in names:
            self._counts[name] += requests

    def _differing(self, seen: _Seen, shadow: Shadowed, requests: int, receipt: str) -> None:
        plan = seen.plan
        outcome = outcome_of(len(plan.attempts), len(plan.resting))
        before = outcome, plan.attempts[0].deployment if plan.attempts else None
        self._count(requests, "differing", *(("changed",) if shadow.changed else ()))
        if shadow.outcome == "refused" and outcome != "refused":
            self._count(requests, "refused")
        rules = dict.fromkeys(rule for one in shadow.excluded for rule in one.rules)
        key = (
            shadow.packs, shadow.digest, seen.asked.app, seen.asked.classes, seen.facts.task, before,
            (shadow.outcome, shadow.first), tuple(one.deployment for one in shadow.excluded), shadow.kept,
            tuple(rules),
        )  # fmt: skip
        _note(self._lines, key, requests, receipt)


def _note(into: dict[Any, tuple[list[int], list[str]]], key: object, requests: int, receipt: str) -> None:
    counts, receipts = into.setdefault(key, ([0, 0], []))
    counts[0] += requests
    counts[1] += 1
    if len(receipts) < EXAMPLES:
        receipts.append(receipt)
