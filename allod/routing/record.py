"""Decision records: everything a plan was made of, kept so that the decision can be made again (I8).

A record is canonical JSON without content and without a clock reading. ``replay`` makes the plan again from
the recorded facts alone; that it equals the recorded plan is what an auditor checks. The rules of law, most
of a record, are written once, with the facts: a candidate of the plan without ``rules`` has those. Records of
the older format write them twice, and name no ``configuration``, the snapshot of the fleet they were decided
with.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.decision import Candidate, DecidingRule, Plan
from allod.domain.errors import Integrity
from allod.domain.money import plain
from allod.receipts.canonical import canonical, parse
from allod.routing.plan import decide
from allod.routing.question import DecisionFacts, DeploymentFacts, facts_of
from allod.routing.shadow import Shadowed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allod.routing.question import Question

FORMAT: Final = "allod-decision-2"
OLDER: Final = "allod-decision-1"
"""Written until configurations were kept; read for ever."""
FORMATS: Final = frozenset({FORMAT, OLDER})
_OPTIONAL: Final = ("configuration", "estimator", "promise", "shadow")
_LATER: Final = frozenset({"evidence", "expected_tokens", "depths", "depth", "efforts", "estimate"})
"""Facts that are left out where there are none: records without them stay as they were."""
_GROWN: Final = (DeploymentFacts, DecisionFacts, Candidate)


class Recorded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A decision record, read back.

    Attributes:
        asked: who asked and how (app, surface, classes, purpose, pinned, output limit, choices), for the
            reader.
        flags: what else policy looked at (``link_up`` and the like).
        packs, fleet: digests the law was decided with; price digests stand with the candidates.
        facts: what the decision was made of.
        plan: what was decided.
        configuration: digest of the fleet's snapshot (``routing.snapshot``); None in the older format.
        shadow: what packs in shadow would have decided, where there are any.
        promise: for a request whose task has a cascade and learns: the rule in force and the estimate that
            it was answered by (``allod.gateway.promise``), as words.
        estimator: where candidates were estimated: what by (digest of what was fitted, the day it was), as
            words. The estimates stand with the facts: a replay reads them and computes none.

    """

    format: str
    asked: dict[str, Any]
    flags: dict[str, bool | int | str]
    packs: str
    fleet: str
    facts: DecisionFacts
    plan: Plan
    configuration: str | None = None
    shadow: Shadowed | None = None
    promise: dict[str, str] | None = None
    estimator: dict[str, str] | None = None


def decision_record(
    question: Question,
    plan: Plan,
    flags: Mapping[str, bool | int | str] | None = None,
    *,
    configuration: str | None = None,
    shadow: Shadowed | None = None,
    estimator: Mapping[str, str] | None = None,
) -> bytes:
    """Write the record of a decision as canonical JSON; equal decisions have equal bytes."""
    recorded = Recorded(
        format=FORMAT,
        asked={
            "app": question.app,
            "surface": question.surface,
            "classes": question.classes,
            "purpose": question.purpose,
            "pinned": question.pinned,
            "max_output_tokens": question.max_output_tokens,
            "choices": question.choices,
        },
        flags=dict(flags or {}),
        packs=question.eligibility.pack_digest,
        fleet=question.eligibility.fleet_digest,
        facts=facts_of(question),
        plan=plan,
        configuration=configuration,
        shadow=shadow,
        estimator=None if estimator is None else dict(estimator),
    )
    return write_record(recorded)


def with_promise(record: bytes, said: Mapping[str, str]) -> bytes:
    """Add to a record what of a promise its request was answered by.

    Raises:
        Integrity: it is not canonical.

    """
    return canonical({**parse(record, what="the decision record"), "promise": dict(said)})


def write_record(recorded: Recorded) -> bytes:
    """Write a record in its format; what it lacks (``configuration``, ``shadow``) is left out."""
    twice, plan = recorded.format == OLDER, recorded.plan
    laws = {} if twice else {one.deployment: one.law for one in recorded.facts.candidates if one.law}
    names = [n for n in Recorded.__struct_fields__ if n not in _OPTIONAL or getattr(recorded, n) is not None]
    data = {name: plain_data(getattr(recorded, name)) for name in names if name != "plan"}
    words = [name for name in Plan.__struct_fields__ if name != "candidates"]
    data["plan"] = {name: plain_data(getattr(plan, name)) for name in words}
    data["plan"]["candidates"] = [_shown(one, laws.get(one.deployment)) for one in plan.candidates]
    return canonical(data)


def _shown(one: Candidate, law: tuple[DecidingRule, ...] | None) -> dict[str, Any]:
    shown: dict[str, Any] = plain_data(one)
    if law is not None and one.rules == law:
        del shown["rules"]
    return shown


def read_record(record: bytes) -> Recorded:
    """Read a record back.

    Raises:
        Integrity: it is not a canonical decision record of a known format.

    """
    data = parse(record, what="the decision record")
    try:
        _fill_in(data)
        recorded = msgspec.convert(data, Recorded)
    except (msgspec.ValidationError, LookupError, TypeError, AttributeError) as error:
        raise Integrity("the decision record cannot be read", str(error), "get it again") from error
    if recorded.format not in FORMATS:
        raise Integrity("the decision record has another format", f"got {recorded.format}, expected {FORMAT}")
    return recorded


def _fill_in(data: Any) -> None:
    """Give the plan's candidates the rules of law that stand with the facts."""
    laws = {one["deployment"]: one["law"] for one in data["facts"]["candidates"]}
    for one in data["plan"]["candidates"]:
        if "rules" not in one:
            one["rules"] = laws[one["deployment"]]


def replay(record: bytes) -> Plan:
    """Make the recorded decision again from its facts (raises ``Integrity`` as ``read_record`` does)."""
    return decide(read_record(record).facts)


def holds(record: bytes) -> bool:
    """Tell whether a record's plan is what its facts lead to (raises ``Integrity`` as above)."""
    recorded = read_record(record)
    return decide(recorded.facts) == recorded.plan


def plain_data(value: Any) -> Any:
    """Turn structs into JSON data: money and probabilities in plain notation, everything else as it is."""
    if isinstance(value, msgspec.Struct):
        later = _LATER if isinstance(value, _GROWN) else frozenset[str]()
        names = (n for n in value.__struct_fields__ if n not in later or getattr(value, n) not in (None, ()))
        return {name: plain_data(getattr(value, name)) for name in names}
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple | list):
        return [plain_data(item) for item in value]
    if isinstance(value, dict):
        return {key: plain_data(item) for key, item in value.items()}
    return value
