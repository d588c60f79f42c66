"""Directions and versions: what may never widen, and what does, as a request and a deployment."""

from __future__ import annotations

import json
from datetime import date

import cedarpy
import msgspec
import pytest
from policy_worlds import DAY, forbid, pack_files

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.policy import Pack, load_pack
from allod.policy.forms import Rule
from allod.policy.proof import refine
from allod.policy.proof.compare import COMPARISONS, compare
from allod.policy.proof.law import law_of
from allod.policy.proof.refine import widens
from allod.policy.proof.session import Answer, Session


def pack(base: Pack, body: str, manifest: str = "", **files: str) -> Pack:
    given = pack_files("x", forbid("x.1", body), manifest)
    given |= {name.replace("__", "/") + ".toml": text.encode() for name, text in files.items()}
    return load_pack(given, base.schema)


def smuggled(base: Pack, body: str) -> Pack:
    """A rule that the lint would refuse, put into the base pack all the same."""
    (policy,) = json.loads(cedarpy.policies_to_json_str(forbid("x.1", body)))["staticPolicies"].values()
    rule = Rule(
        id="x.1", effect="forbid", law="", text="t", remedy="r", policy=policy, reads=("context.classes",)
    )
    return msgspec.structs.replace(base, rules=(*base.rules, rule))


# One direction only: the claims about two requests.


@pytest.mark.parametrize(
    ("body", "broken", "then"),
    [
        ('when { !context.classes.contains("public") }', "monotone-in-classes", "request.classes"),
        ("when { context.classes.isEmpty() }", "monotone-in-classes", "request.classes"),
        ('when { context.classes == ["internal"] }', "monotone-in-classes", "request.classes"),
        ("when { context.link_up }", "monotone-in-link", "request.link_up"),
        ('when { resource.agreements.declared.contains("dpa") }', "monotone-in-evidence", "agreements"),
        ('when { principal.attestations.contract.contains("dpia") }', "monotone-in-evidence", "app."),
        ("when { context.pseudonymised }", "monotone-in-evidence", "request.pseudonymised"),
        ('when { resource has transit && resource.transit.grade == "attested" }', "monotone-in-evidence",
         "deployment.transit"),
        ("when { resource has trains_on_inputs && resource.trains_on_inputs.value }",
         "unknown-never-admits", "deployment.trains_on_inputs"),
        ("when { resource.operator has owners && resource.operator.owners.total_outside_eu > 3900 }",
         "unknown-never-admits", "operator.owners"),
    ],
)  # fmt: skip
def test_a_rule_in_the_wrong_direction_is_shown_as_two_requests(
    base: Pack, body: str, broken: str, then: str
) -> None:
    law = law_of([smuggled(base, body)], DAY)
    session = Session([law])
    for comparison in COMPARISONS:
        proof = compare(law, comparison, session)
        if comparison.id == broken:
            assert proof.status == "refuted"
            assert proof.counterexample.against == ("x.1",)
            assert any(name.startswith(then) or then in name for name in proof.counterexample.then)
        elif "transit" not in body:  # a fact that is not there has no grade either
            assert proof.status == "proved", (comparison.id, proof)


@pytest.mark.parametrize(
    "body",
    [
        'when { context.classes.contains("public") } unless { resource has seal && resource.seal.sov1 > 2 }',
        'when { !context.link_up } unless { resource.attestations.attested.contains("exit-tested") }',
        "when { true } unless { context.pseudonymised || resource.operator.own }",
        'when { context.classes.containsAll(["phi", "restricted"]) }',
    ],
)
def test_a_rule_in_the_right_direction_passes(base: Pack, body: str) -> None:
    law = law_of([base, pack(base, body)], DAY)
    session = Session([law])
    assert {compare(law, one, session).status for one in COMPARISONS} == {"proved"}


def test_a_rule_that_never_reads_what_differs_is_no_ground_for_alarm(base: Pack) -> None:
    bare = msgspec.structs.replace(base, rules=tuple(r for r in base.rules if r.id == "base.approved"))
    proof = compare(law_of([bare], DAY), COMPARISONS[0])
    assert (proof.status, proof.reason) == ("proved", "no rule reads what differs")


# Versions.

STRICT = 'when { context.classes.contains("phi") } unless { resource.agreements.contract.contains("baa") }'
LISTS = '[[list]]\nid = "x.good"\n[[list.row]]\nplace = "CH"\n{rows}'
LISTED = (
    "when { true } unless { resource has processing && "
    'Allod::List::"x.good".codes.containsAll(resource.processing.codes) }'
)
SEAL = "when { true } unless { resource has seal && resource.seal.score >= 250 }"
WEIGHTS = (
    '[[weights]]\nid = "w"\nobjectives = ["a", "b", "c", "d", "e", "f", "g", "h"]\npercent = {percent}\n'
)
GRADED = "when { true } unless { resource has retention_days && resource.retention_days.value == 0 }"


def laws(base: Pack, old: Pack, new: Pack) -> tuple[tuple[Pack, ...], tuple[Pack, ...]]:
    return (base, old), (base, new)


def row(place: str, **dates: str) -> str:
    return f'[[list.row]]\nplace = "{place}"\n' + "".join(f"{name} = {day}\n" for name, day in dates.items())


def weights(*percent: int) -> str:
    return WEIGHTS.replace("{percent}", str(list(percent)))


CHANGES = [
    ("no rule at all", STRICT, "when { false }", {}, {}, "", ""),
    ("a lesser grade", STRICT, STRICT.replace("contract", "declared"), {}, {}, "", ""),
    ("another class", STRICT, STRICT.replace('"phi"', '"restricted"'), {}, {}, "", ""),
    ("nothing", STRICT, STRICT, {}, {}, "", ""),
    ("a row more", LISTED, LISTED, {"facts__l": LISTS.replace("{rows}", "")},
     {"facts__l": LISTS.replace("{rows}", row("JP"))}, "", ""),
    ("a row that holds longer", LISTED, LISTED,
     {"facts__l": LISTS.replace("{rows}", row("JP", until="2027-01-01"))},
     {"facts__l": LISTS.replace("{rows}", row("JP", until="2027-06-01"))}, "", ""),
    ("weights", SEAL, SEAL, {"facts__w": weights(15, 10, 10, 15, 20, 15, 10, 5)},
     {"facts__w": weights(100, 0, 0, 0, 0, 0, 0, 0)}, "", ""),
    ("a lesser demand of grade", GRADED, GRADED, {}, {}, 'min_grade = "attested"', 'min_grade = "contract"'),
    ("no demand of grade", STRICT, STRICT, {}, {}, 'min_grade = "measured"', ""),
    ("an older fact", GRADED, GRADED, {}, {}, "max_age_days = 90", "max_age_days = 365"),
    ("no limit of age", GRADED, GRADED, {}, {}, "max_age_days = 90", ""),
    ("no limit of age for evidence", STRICT, STRICT, {}, {}, "max_age_days = 90", ""),
    ("a longer validity", STRICT, STRICT, {}, {}, "valid_until = 2027-01-01", "valid_until = 2028-01-01"),
    ("an earlier validity", STRICT, STRICT, {}, {}, "valid_from = 2027-01-01", ""),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=[change[0] for change in CHANGES])
def test_a_widening_is_found_and_its_reverse_is_none(base: Pack, change: tuple) -> None:
    name, old_body, new_body, old_files, new_files, old_manifest, new_manifest = change
    old, new = (
        pack(base, old_body, old_manifest, **old_files),
        pack(base, new_body, new_manifest, **new_files),
    )
    found = widens(*laws(base, old, new), DAY)
    if name == "nothing":
        assert found is None
        return
    assert found is not None, name
    assert found.day >= DAY
    assert found.counterexample.facts["request.day"] == str(found.day)
    assert found.counterexample.against
    assert "newly permitted" in found.text
    if name in {"another class", "weights"}:
        assert widens(*laws(base, new, old), DAY) is not None  # neither contains the other
    else:
        assert widens(*laws(base, new, old), DAY) is None, name


def test_the_widening_is_concrete(base: Pack) -> None:
    old = pack(base, STRICT)
    new = pack(base, STRICT.replace("baa", "dpa"))
    found = widens(*laws(base, old, new), DAY)
    facts = found.counterexample.facts
    assert "phi" in facts["request.classes"]
    assert "dpa (contract)" in facts["deployment.agreements"] + facts["operator.agreements"]
    assert found.counterexample.against == ("x.1",)
    aged = widens(*laws(base, pack(base, GRADED, "max_age_days = 90"), pack(base, GRADED)), DAY)
    old_ones = [name for name, told in aged.counterexample.facts.items() if "as of 2026-08-26" in told]
    assert len(old_ones) == 1


def test_a_widening_of_a_coming_day_is_found(base: Pack) -> None:
    text = forbid("x.1", "when { !resource.operator.own }")
    dated = text.replace("@law", '@since("2027-08-02") @law')
    old = load_pack(pack_files("x", dated), base.schema)
    new = load_pack(pack_files("x", forbid("x.1", "when { false }")), base.schema)
    found = widens(*laws(base, old, new), DAY)
    assert found.day == date(2027, 8, 2)
    assert widens(*laws(base, new, old), DAY) is None
    postponed = load_pack(pack_files("x", dated.replace("2027-08", "2028-08")), base.schema)
    assert widens(*laws(base, old, postponed), DAY).day == date(2027, 8, 2)


def test_dropping_a_pack_widens_and_adding_one_does_not(base: Pack) -> None:
    more = pack(base, STRICT)
    assert widens((base, more), (base,), DAY) is not None
    assert widens((base,), (base, more), DAY) is None


def test_two_versions_of_the_base_pack(base: Pack) -> None:
    without = msgspec.structs.replace(base, rules=tuple(r for r in base.rules if r.id != "airgap"))
    found = widens((base,), (without,), DAY)
    assert found.counterexample.against == ("airgap",)
    assert found.counterexample.facts["deployment.on_premises"].startswith(("false", "not given"))
    assert widens((without,), (base,), DAY) is None


def test_what_cannot_be_proved_is_no_answer(base: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match="no law"):
        widens((pack(base, STRICT),), (base,), DAY)
    old, new = laws(base, pack(base, STRICT), pack(base, "when { false }"))
    with monkeypatch.context() as patched:
        patched.setattr(Session, "ask", lambda *_: Answer("undecided", frozenset(), None))
        with pytest.raises(Unavailable, match="not decided"):
            widens(old, new, DAY)
    with monkeypatch.context() as patched:
        patched.setattr(refine, "pair", lambda *_: (None, False))
        with pytest.raises(Integrity, match="does not hold before the rules"):
            widens(old, new, DAY)
    with monkeypatch.context() as patched:
        patched.setitem(__import__("sys").modules, "z3", None)
        with pytest.raises(Unavailable, match="z3") as told:
            widens(old, new, DAY)
        assert "pip install 'allod[prove]'" in told.value.remedy


def test_a_solver_that_breaks_off_has_proved_nothing(base: Pack) -> None:
    import z3

    class Breaks:
        def check(self, *_: object) -> object:
            raise z3.Z3Exception(b"out of memory")

        def add(self, *_: object) -> None:
            pass

    session = Session([law_of([base], DAY)])
    session._solver = Breaks()
    assert session.ask([]).verdict == "undecided"
