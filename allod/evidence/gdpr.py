"""Records of processing (GDPR Art 30) and transfers to third countries (Chapter V), from the log.

Regulation (EU) 2016/679. There is no official machine format for either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from allod.domain.classes import UNSCANNED
from allod.domain.facts import NOWHERE
from allod.domain.fleet import Deployment, Operator
from allod.domain.register import Activity, Declared
from allod.evidence.base import facts_sheet, report
from allod.evidence.facts import cell, holding, outside_eea, valid
from allod.evidence.paper import Gap, Report, Row, Sheet, columns, fixed, listed, ref
from allod.evidence.world import (
    COUNT_COLUMNS,
    NOT_STATED,
    OTHERS,
    UNKNOWN,
    Count,
    World,
    survey,
    tally,
)
from allod.store.extract import Entry

PERSONAL: Final = frozenset({"personal", UNSCANNED})
NOBODY: Final = "nobody (nothing was sent)"
IN_LOG, NOT_IN_LOG = "log", "declared, not in the log"
ART30_COLUMNS: Final = columns(
    """
    row             Row
    from            Known from
    purpose         Purpose
    app             App or system
    categories      Categories of data
    subjects        Categories of persons
    recipient       Recipient
    own             Own
    deployment      Deployment
    countries       Countries of processing, storage and transit
    transfers       Countries outside the EEA
    safeguard       Safeguard
    erasure         Envisaged erasure
    retention_days  Days kept by the recipient
    security        Security measures
    """
    + COUNT_COLUMNS
)
TRANSFER_COLUMNS: Final = columns(
    """
    row             Row
    from            Known from
    operator        Operator
    deployment      Deployment or system
    country         Country or bloc
    how             What happens there
    instrument      Instrument (Art 45, 46)
    grade           Grade of the evidence
    source          Its source
    expires         It expires
    categories      Categories of data
    assessment      What is to be assessed by a person
    """
    + COUNT_COLUMNS
)
OF_OPERATOR: Final = "of the operator"
INSTRUMENTS: Final = (
    ("adequacy-certified", "Art 45: decision limited to certified organisations"),
    ("scc", "Art 46(2)(c): standard contractual clauses"),
    ("bcr", "Art 46(2)(b): binding corporate rules"),
)
Key30 = tuple[str, str, tuple[str, ...], str]
KeyT = tuple[str, str, str, tuple[str, ...]]


def art30(world: World) -> Report:
    """Return the records of processing activities.

    One row per purpose, app, categories of data and recipient, as requests with personal data really went.
    """
    found = survey(world)
    others: Key30 = (OTHERS, OTHERS, (OTHERS,), OTHERS)

    def keys(entry: Entry) -> Iterator[Key30]:
        end = entry.end
        if PERSONAL.isdisjoint(end.classes):
            return
        for recipient in end.saw or (NOBODY,):
            yield end.purpose or NOT_STATED, world.app_of(entry), end.classes, recipient

    counts = tally(world.chosen(), keys, others)

    def trace(entry: Entry) -> Iterator[tuple[str, str]]:
        for key in keys(entry):
            yield "gdpr-art30", ref(*(key if key in counts else others))

    rows = [_art30_row(world, key, count) for key, count in sorted(counts.items())]
    rows += [_art30_declared(world, one) for one in world.declared if not PERSONAL.isdisjoint(one.classes)]
    sheet = Sheet(
        id="gdpr-art30",
        title="Processing activities",
        columns=ART30_COLUMNS,
        rows=fixed(rows),
        note="Each row is a purpose, an app, categories of data and a recipient that requests with "
        "personal data really had in the period. Requests of no personal class are not in it.",
    )
    return report(
        world,
        found,
        kind="gdpr-art30",
        title="Records of processing activities",
        law=("Regulation (EU) 2016/679 Art 30(1)", "Art 5(2)"),
        sheets=(sheet, facts_sheet(world)),
        gaps=_art30_gaps(world, counts),
        figures=(
            ("Controller", world.register.controller or ""),
            ("Contact", world.register.contact or ""),
            ("Data protection officer", world.register.officer or ""),
        ),
        cannot_know=(
            "The lawful basis of each purpose (Art 6, 9), and whether consent was valid.",
            "A purpose that the caller did not state: such rows say so.",
        ),
        trace=trace,
    )


def _art30_row(world: World, key: Key30, count: Count) -> Row:
    purpose, app, classes, recipient = key
    deployment = world.fleet.deployments.get(recipient)
    operator = world.operator_of(recipient)
    activity = world.register.activities.get(purpose)
    places = _places(world, deployment)
    outside = outside_eea(place for place in places if place != UNKNOWN)
    if deployment is None:
        own, who = ("", recipient) if recipient in (NOBODY, OTHERS) else ("no", f"{UNKNOWN} ({recipient})")
    else:
        own, who = ("yes" if operator and operator.own else "no"), deployment.operator
    return (
        ref(*key), IN_LOG, purpose, app, listed(classes), listed(activity.subjects if activity else ()), who,
        own, "" if deployment is None else recipient, listed(places), listed(outside),
        _safeguard(world, operator, deployment, outside), (activity and activity.erasure) or "",
        "" if deployment is None else cell(deployment.retention_days, world.day),
        (activity and activity.security) or "", *count.cells(),
    )  # fmt: skip


def _art30_declared(world: World, one: Declared) -> Row:
    operator = world.fleet.operators.get(one.operator or "")
    purpose = listed(one.purposes) or NOT_STATED
    known = [world.register.activities[p] for p in one.purposes if p in world.register.activities]
    places = _places(world, one)
    outside = outside_eea(place for place in places if place != UNKNOWN)
    return (
        ref("declared", one.id), NOT_IN_LOG, purpose, one.name, listed(one.classes),
        listed(dict.fromkeys(s for a in known for s in a.subjects)), one.supplier or one.operator or UNKNOWN,
        "yes" if operator and operator.own else "no", one.id, listed(places), listed(outside),
        _safeguard(world, operator, None, outside), listed(a.erasure for a in known if a.erasure), "",
        listed(a.security for a in known if a.security), "", "", "", "", "",
    )  # fmt: skip


def _places(world: World, thing: Deployment | Declared | None) -> tuple[str, ...]:
    """Return where something processes, stores and carries, unknown included."""
    if thing is None:
        return ()
    facts = (thing.processing, thing.at_rest, thing.transit)
    out: dict[str, None] = {}
    for fact in facts:
        value = valid(fact, world.day)
        for place in (UNKNOWN,) if value is None else (value,) if isinstance(value, str) else value:
            if place not in NOWHERE:
                out[place] = None
    return tuple(out)


def _safeguard(
    world: World, operator: Operator | None, deployment: Deployment | None, outside: tuple[str, ...]
) -> str:
    if not outside:
        return ""
    return listed(name for name, *_ in _instruments(world, operator, deployment, outside)) or UNKNOWN


def _instruments(
    world: World, operator: Operator | None, deployment: Deployment | None, outside: Iterable[str]
) -> list[tuple[str, str, str, str]]:
    """Return the transfer instruments that hold for places: text, grade, source, expiry."""
    out: list[tuple[str, str, str, str]] = []
    places = tuple(outside)
    if places and world.adequate is not None and world.adequate.issuperset(places):
        out.append(("Art 45: adequacy decision", "", "list of the packs in force", ""))
    named = holding([operator.agreements] if operator else [], world.day)
    named |= holding([deployment.agreements] if deployment else [], world.day)
    for name, text in INSTRUMENTS:
        fact = named.get(name)
        if fact is not None:
            out.append((text, fact.grade, fact.source or "", str(fact.expires or "")))
    return out


def _art30_gaps(world: World, counts: dict[Key30, Count]) -> Iterator[Gap]:
    r = world.register
    for what, value in (("controller", r.controller), ("contact", r.contact), ("officer", r.officer)):
        if value is None:
            yield Gap(where=f"register.{what}", what=f"the {what} is not named", law="GDPR Art 30(1)(a)")
    purposes = {purpose for purpose, *_ in counts} | {p for d in world.declared for p in d.purposes}
    for purpose in sorted(purposes - {OTHERS}):
        if purpose == NOT_STATED:
            requests = sum(count.requests for key, count in counts.items() if key[0] == NOT_STATED)
            yield Gap(where="purpose", what=f"{requests} requests stated no purpose", law="GDPR Art 30(1)(b)")
            continue
        activity = r.activities.get(purpose, Activity(purpose=purpose))
        for what, law, given in (
            ("categories of persons", "(c)", bool(activity.subjects)),
            ("envisaged erasure", "(f)", activity.erasure is not None),
            ("security measures", "(g)", activity.security is not None),
        ):
            if not given:
                yield Gap(where=f"activity {purpose}", what=what, law=f"GDPR Art 30(1){law}")


def transfers(world: World) -> Report:
    """Return every transfer of personal data to a place outside the EEA, with its instrument.

    What a seat or a controlling jurisdiction outside can bring about is a row too, marked so: it is no
    transfer by itself, but what Art 48 and an assessment under Art 46 are about.
    """
    found = survey(world)
    targets = {d.id: _targets(world, d) for d in world.deployments}
    others: KeyT = (OTHERS, OTHERS, OTHERS, (OTHERS,))

    def keys(entry: Entry) -> Iterator[KeyT]:
        if PERSONAL.isdisjoint(entry.end.classes):
            return
        for name in entry.end.saw:
            for country, how in targets.get(name, ((UNKNOWN, "not configured any more"),)):
                yield name, country, how, entry.end.classes

    counts = tally(world.chosen(), keys, others)

    def trace(entry: Entry) -> Iterator[tuple[str, str]]:
        for key in keys(entry):
            yield "gdpr-transfers", ref(*(key if key in counts else others))

    rows = [_transfer_row(world, key, count) for key, count in sorted(counts.items())]
    for one in world.declared:
        if not PERSONAL.isdisjoint(one.classes):
            rows += [_transfer_declared(world, one, place, how) for place, how in _targets(world, one)]
    gaps = [
        Gap(where=f"{row[3]} in {row[4]}", what="no instrument is known that holds today", law="GDPR Art 44")
        for row in rows
        if not row[6] and row[5] in ("processing", "at rest", "transit", "not configured any more")
    ]
    sheet = Sheet(
        id="gdpr-transfers",
        title="Transfers outside the EEA",
        columns=TRANSFER_COLUMNS,
        rows=fixed(rows),
        note="Seat and control outside the EEA are no transfer by themselves; they are rows because "
        "an authority there may demand access (Art 48). An empty instrument means that none is known.",
    )
    return report(
        world,
        found,
        kind="gdpr-transfers",
        title="Transfers of personal data to third countries",
        law=("Regulation (EU) 2016/679 Art 30(1)(e)", "Art 44 to 49"),
        sheets=(sheet, facts_sheet(world)),
        gaps=dict.fromkeys(gaps),
        cannot_know=(
            (
                "Whether an adequacy decision still stands on the day this is read, and whether an "
                "instrument is "
                "effective in the country: that assessment is a person's."
            ),
            "Transfers an operator makes onward beyond the places it declared.",
        ),
        trace=trace,
    )


def _targets(world: World, thing: Deployment | Declared) -> tuple[tuple[str, str], ...]:
    """Return (place, what happens there) outside the EEA, or unknown."""
    operator = world.fleet.operators.get(thing.operator or "")
    seat = operator.seat if operator else None
    control = operator.controlled_from if operator else None
    if isinstance(thing, Declared):
        seat, control = thing.seat or seat, thing.controlled_from or control
    out: list[tuple[str, str]] = []
    for how, fact in (
        ("processing", thing.processing),
        ("at rest", thing.at_rest),
        ("transit", thing.transit),
        (f"seat {OF_OPERATOR}", seat),
        (f"control {OF_OPERATOR}", control),
    ):
        value = valid(fact, world.day)
        places = (value,) if isinstance(value, str) else value
        out += [(UNKNOWN, how)] if places is None else [(place, how) for place in outside_eea(places)]
    return tuple(out)


def _assessment(how: str) -> str:
    if how.endswith(OF_OPERATOR):
        return "access demanded by an authority there (Art 48)"
    return "law and practice of the country (Art 46)"


def _transfer_row(world: World, key: KeyT, count: Count) -> Row:
    name, country, how, classes = key
    deployment = world.fleet.deployments.get(name)
    operator = world.operator_of(name)
    return (
        ref(*key), IN_LOG, deployment.operator if deployment else UNKNOWN, name, country, how,
        *_instrument_cells(world, operator, deployment, country, how), listed(classes), _assessment(how),
        *count.cells(),
    )  # fmt: skip


def _transfer_declared(world: World, one: Declared, country: str, how: str) -> Row:
    operator = world.fleet.operators.get(one.operator or "")
    return (
        ref("declared", one.id, country, how), NOT_IN_LOG, one.operator or one.supplier or UNKNOWN, one.id,
        country, how, *_instrument_cells(world, operator, None, country, how), listed(one.classes),
        _assessment(how), "", "", "", "", "",
    )  # fmt: skip


def _instrument_cells(
    world: World, operator: Operator | None, deployment: Deployment | None, country: str, how: str
) -> tuple[str, str, str, str]:
    if how.endswith(OF_OPERATOR):  # no transfer by itself: no instrument is for it
        return "", "", "", ""
    if operator is not None and operator.own:
        return "own organisation (no separate recipient)", "", "", ""
    known = [] if country == UNKNOWN else _instruments(world, operator, deployment, (country,))
    texts, grades, sources, ends = zip(*known, strict=True) if known else ((), (), (), ())
    return tuple(listed(x for x in cells if x) for cells in (texts, grades, sources, ends))  # type: ignore[return-value]
