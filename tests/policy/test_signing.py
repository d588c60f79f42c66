"""Signed statements, the difference in words, who may be sent what, and what two signatures are worth."""

from __future__ import annotations

import random
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_worlds import (
    DAY,
    base_files,
    forbid,
    hospital,
    load,
    pack_files,
    random_fleet,
    random_question,
)

from allod.domain.errors import Integrity, Invalid
from allod.domain.facts import Fact
from allod.domain.fleet import App, Fleet, Relaxation, Task
from allod.domain.signer import Signer
from allod.policy import Pack, Policy
from allod.policy.change import (
    APPROVAL,
    FIRST,
    PROPOSAL,
    Approval,
    PackRef,
    Proposal,
    State,
    against,
    digest_of_text,
    require_pair,
    verify_approval,
    verify_proposal,
    words,
)
from allod.policy.difference import digest_of, lines_of, pack_lines
from allod.policy.reach import MAX_DAYS, compare
from allod.policy.signing import (
    PACK,
    Line,
    PackStatement,
    Signed,
    counted,
    pair,
    read_statement,
    require,
    statement,
    verify_pack,
)

MARK = PackStatement(id="house", version="1.0.0", digest="sha256:" + "1" * 64)
SIGNERS = {
    "alice": Signer(id="alice", role="author", key="a"),
    "bob": Signer(id="bob", role="compliance", key="b"),
    "carol": Signer(id="carol", role="author", key="c"),
    "old": Signer(id="old", role="compliance", key="d", expires=DAY),
    "gone": Signer(id="gone", role="compliance", key="e", revoked=date.min),
}


def line(signer: str | None, *, holds: bool = True) -> Line:
    return Line(name=signer or "stranger", signer=signer, holds=holds, signature=b"s" * 64)


def signed(*signers: str | None, text: str | None = None) -> Signed:
    return Signed(text=text or statement(PACK, MARK), lines=tuple(line(name) for name in signers))


# --- statements


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=80))
def test_a_statement_reads_back_as_it_was_or_is_not_written(name: str, version: str, digest: str) -> None:
    body = PackStatement(id=name, version=version, digest=digest)
    try:
        text = statement(PACK, body)
    except Invalid:
        assert not name or not version or not (name + version).isprintable() or "\x7f" in name + version
        return
    assert text.isascii()
    assert text.count("\n") == 2
    assert read_statement(text, PACK, PackStatement, "it") == body


@pytest.mark.parametrize(
    "text",
    [
        "",
        "allod pack v2\n{}\n",
        "allod pack v1\n{}\n",
        'allod pack v1\n{"digest":"d","id":"i","version":"1"}',
        'allod pack v1\n{"digest": "d","id":"i","version":"1"}\n',
        'allod pack v1\n{"version":"1","digest":"d","id":"i"}\n',
        'allod pack v1\n{"digest":"d","id":"i","id":"j","version":"1"}\n',
        'allod pack v1\n{"digest":"d","id":"i","more":1,"version":"1"}\n',
        'allod pack v1\n{"digest":"d","id":"i","version":1}\n',
        "allod pack v1\n" + "[" * 100_000,
    ],
)
def test_a_statement_of_other_bytes_is_none(text: str) -> None:
    with pytest.raises(Integrity):
        read_statement(text, PACK, PackStatement, "it")


def test_a_signature_of_one_kind_is_none_of_another() -> None:
    with pytest.raises(Integrity, match="no 'allod pack v1'"):
        verify_pack(signed("alice", text=statement(PROPOSAL, MARK)), MARK, SIGNERS, DAY)


# --- who counts


@pytest.mark.parametrize(
    ("change", "named"),
    [({"id": "other"}, "id"), ({"version": "1.0.1"}, "version"), ({"digest": "sha256:2"}, "digest")],
)
def test_a_signature_for_another_pack_does_not_count(change: dict[str, str], named: str) -> None:
    other = msgspec.structs.replace(MARK, **change)
    with pytest.raises(Integrity, match=f"another {named}"):
        verify_pack(signed("alice"), other, SIGNERS, DAY)


def test_strangers_and_keys_that_no_longer_hold_do_not_count_and_each_is_named() -> None:
    with pytest.raises(Integrity) as caught:
        counted(signed(None, "old", "gone"), SIGNERS, DAY, "the pack")
    for word in ("stranger", "old", "expired", "gone", "revoked"):
        assert word in caught.value.why
    assert [s.signer for s in counted(signed("old"), SIGNERS, date(2026, 11, 24), "it")] == ["old"]


def test_a_false_signature_of_a_known_signer_rejects_the_whole_note() -> None:
    forged = Signed(text=statement(PACK, MARK), lines=(line("alice"), line("bob", holds=False)))
    with pytest.raises(Integrity, match="bob"):
        counted(forged, SIGNERS, DAY, "the pack")


def test_two_signatures_are_two_signers_with_two_roles() -> None:
    def found(*names: str) -> Any:
        return counted(signed(*names), SIGNERS, DAY, "it")

    assert pair(found("alice", "carol")) is None, "one role twice"
    assert pair(found("alice", "alice")) is None, "one signer twice"
    assert [s.signer for s in pair(found("alice", "carol", "bob")) or ()] == ["alice", "bob"]
    require(found("alice"), two=False, what="it", why="")
    with pytest.raises(Integrity, match="two signatures"):
        require(found("alice", "carol"), two=True, what="it", why="it widens")


# --- proposals and approvals

STATE = State(configuration="c", packs=(), pack_digest="p", fleet_digest="f", four_eyes=True)
PROPOSED = Proposal(
    home="allod/1",
    number=1,
    follows=FIRST,
    before=None,
    after=STATE,
    file="x",
    difference="y",
    widening=True,
    reason="a\nreason \u202e with what hides",
    proposed="2026-11-25T10:00:00.000Z",
    by="alice",
    role="author",
)
APPROVED = Approval(
    home="allod/1",
    number=1,
    change=digest_of_text(statement(PROPOSAL, PROPOSED)),
    approved="2026-11-25T11:00:00.000Z",
    by="bob",
    role="compliance",
)


def approving(approval: Approval, *names: str) -> Any:
    text = statement(PROPOSAL, PROPOSED)
    return verify_approval(signed(*names, text=statement(APPROVAL, approval)), text, PROPOSED, SIGNERS, DAY)


def test_an_approval_is_of_one_proposal_by_a_second_pair_of_eyes() -> None:
    text = statement(PROPOSAL, PROPOSED)
    proposal, by = verify_proposal(signed("alice", text=text), SIGNERS, DAY)
    assert (proposal, by.who) == (PROPOSED, "alice (author)")
    approval, by = approving(APPROVED, "bob")
    assert (approval, by.who) == (APPROVED, "bob (compliance)")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"change": "sha256:0"}, ("bob",)),
        ({"number": 2}, ("bob",)),
        ({"home": "allod/2"}, ("bob",)),
        ({"approved": "2026-11-25T09:00:00.000Z"}, ("bob",)),
        ({"approved": "yesterday"}, ("bob",)),
        ({"by": "alice", "role": "author"}, ("alice",)),
        ({"by": "carol", "role": "author"}, ("carol",)),
        ({"by": "bob"}, ("alice",)),
        ({"role": "author"}, ("bob",)),
        ({"by": "old"}, ("old",)),
        ({"by": "gone"}, ("gone",)),
        ({}, (None,)),
    ],
)
def test_any_other_approval_is_none(change: dict[str, Any], names: tuple[str, ...]) -> None:
    with pytest.raises(Integrity):
        approving(msgspec.structs.replace(APPROVED, **change), *names)


def test_a_proposal_must_be_signed_by_whom_it_names() -> None:
    text = statement(PROPOSAL, PROPOSED)
    for name in ("bob", "carol", None):
        with pytest.raises(Integrity):
            verify_proposal(signed(name, text=text), SIGNERS, DAY)


def test_a_configuration_that_leaves_nobody_to_approve_is_refused() -> None:
    require_pair([SIGNERS["alice"], SIGNERS["bob"]], DAY, "it")
    for names in ((), ("alice",), ("alice", "carol"), ("alice", "old"), ("gone", "carol")):
        with pytest.raises(Integrity, match="nobody"):
            require_pair([SIGNERS[name] for name in names], DAY, "it")


def test_what_is_in_place_is_held_against_what_was_approved() -> None:
    pack = PackRef(id="base", version="1", digest="d")
    old = msgspec.structs.replace(STATE, packs=(pack, msgspec.structs.replace(pack, id="more")))
    assert against(old, old) == ()
    assert against(msgspec.structs.replace(old, pack_digest="rotated", fleet_digest="rotated"), old) == ()
    assert "configuration" in against(msgspec.structs.replace(old, configuration="e"), old)[0]
    other = msgspec.structs.replace(old, packs=(msgspec.structs.replace(pack, digest="e"), old.packs[1]))
    assert "pack base" in against(other, old)[0]
    assert "pack more" in against(msgspec.structs.replace(old, packs=(pack,)), old)[0]
    assert "order" in against(msgspec.structs.replace(old, packs=old.packs[::-1]), old)[0]


# --- the difference in words


def said(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [line.text() for line in lines_of(before, after)]


def test_a_fact_is_told_with_its_grade_and_source() -> None:
    before = {"deployment": [{"id": "x", "processing": "DE", "at_rest": ["DE"]}]}
    fact = {"value": "FR", "grade": "contract", "expires": date(2027, 1, 1), "source": "DPA annex 2"}
    after = {"deployment": [{"id": "x", "processing": fact, "inspectable": {"value": True}}]}
    assert said(before, after) == [
        "deployment x: processing: DE (declared) -> FR (contract, expires 2027-01-01, source DPA annex 2)",
        "deployment x: at_rest: [DE] -> absent",
        "deployment x: inspectable: unknown -> true (declared)",
    ]


def test_every_governed_key_is_in_the_difference_and_no_other() -> None:
    before = {"tenant": {"home": "DE", "relax": {}}, "server": {"port": 1}, "log": {"batch_ms": 1}}
    after = {
        "tenant": {"home": "DE", "relax": {"residency.4-audit": {"reason": "r", "signer": "s"}}},
        "server": {"port": 2},
        "log": {},
        "signer": [{"id": "bob", "key": "k"}],
        "unheard": {"of": 1},
    }
    assert said(before, after) == [
        "tenant: relax: {} -> absent",
        'tenant: relax."residency.4-audit".reason: absent -> r',
        'tenant: relax."residency.4-audit".signer: absent -> s',
        "signer bob: absent -> there",
        "signer bob: id: absent -> bob",
        "signer bob: key: absent -> k",
        "unheard: absent -> there",
        "unheard: of: absent -> 1",
    ]
    assert digest_of(before) != digest_of(after)
    assert digest_of(before) == digest_of({**before, "server": {}, "log": {"batch_ms": 9}})


def test_what_an_eye_would_miss_is_shown_escaped_and_a_long_value_by_its_digest() -> None:
    hidden = said({"app": [{"id": "a"}]}, {"app": [{"id": "a", "function": "x\u202eevil\x1b[2J"}]})
    assert hidden == ["app a: function: absent -> x\\u202eevil\\x1b[2J"]
    one, two = "y" * 1000 + "1", "y" * 1000 + "2"
    (long,) = said({"t": {"k": one}}, {"t": {"k": two}})
    before, _, after = long.removeprefix("t: k: ").partition(" -> ")
    assert before != after
    assert len(long) < 600


LEAF = st.one_of(
    st.none().map(lambda _: True),
    st.booleans(),
    st.integers(-3, 3),
    st.decimals(-2, 2, places=1),
    st.text(st.sampled_from("ab.\u200b\"'"), max_size=3),
    st.dates(date(2026, 1, 1), date(2026, 1, 3)),
)
KEYS = st.sampled_from(["id", "name", "value", "grade", "a", "b", "a.b", "server", "deployment"])
TREE = st.recursive(
    LEAF,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(KEYS, TREE, max_size=4), st.dictionaries(KEYS, TREE, max_size=4))
def test_no_difference_is_without_a_line_and_no_line_without_a_difference(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert bool(lines_of(before, after)) == (digest_of(before) != digest_of(after))
    assert not lines_of(before, before)


def test_packs_are_compared_rule_by_rule(base: Pack) -> None:
    old = load(pack_files("house", forbid("house.a", "when { true }") + forbid("house.b", "when { true }")))
    new = load(
        pack_files("house", forbid("house.b", "when { resource.approved }"), "max_age_days = 3")
        | {"cases/x.toml": b""}
    )
    told = "\n".join(line.text() for line in pack_lines((base, old), (base, new)))
    assert "pack house: 1.0.0 (sha256:" in told
    assert "pack house: rule house.a: Text of house.a." in told
    assert "-> absent" in told
    assert "pack house: rule house.b" in told
    assert "pack house: max_age_days: absent -> 3" in told
    assert "base" not in told
    gone = [line.text() for line in pack_lines((base, old), (base,))]
    assert gone[0].endswith("-> not in force")


def test_a_change_of_a_file_that_is_no_rule_is_told(base: Pack) -> None:
    files = pack_files("house", forbid("house.a", "when { true }"))
    told = pack_lines((load(files),), (load(files | {"cases/none.toml": b"# words"}),))
    assert [(line.key, line.after) for line in told][1] == ("other files", "changed")


# --- who may be sent what


def world(base: Pack, **tenant: Any) -> Fleet:
    fleet = hospital()
    return msgspec.structs.replace(fleet, tenant=msgspec.structs.replace(fleet.tenant, **tenant))


def reach(base: Pack, after: Fleet, before: Fleet | None = None) -> Any:
    return compare(Policy((base,), before or hospital()), Policy((base,), after), DAY)


def test_an_unchanged_fleet_opens_nothing(base: Pack) -> None:
    found = reach(base, hospital())
    assert (found.opened, found.closed, found.partial) == ((), (), False)
    assert found.questions > 100
    assert not found.widens


def test_a_lower_label_of_an_app_is_a_widening(base: Pack) -> None:
    fleet = hospital()
    lower = {**fleet.apps, "triage": msgspec.structs.replace(fleet.apps["triage"], classes=("public",))}
    found = reach(base, msgspec.structs.replace(fleet, apps=lower))
    assert [(w.app, w.deployment, w.classes) for w in found.opened] == [("triage", "frankfurt-region", ())]
    assert found.widens
    back = reach(base, fleet, msgspec.structs.replace(fleet, apps=lower))
    assert (back.opened, len(back.closed), back.widens) == ((), 1, False)


def test_a_relaxation_an_app_and_a_better_fact_are_widenings(base: Pack) -> None:
    fleet = hospital()
    waived = tuple(
        Relaxation(rule=rule, reason="r", signer="s")
        for rule in ("residency.4-audit", "residency.5-operator", "compelled.access")
    )
    assert reach(base, world(base, relax=waived)).widens
    assert reach(base, msgspec.structs.replace(fleet, apps={**fleet.apps, "new": App(id="new")})).widens
    cloud = msgspec.structs.replace(
        fleet.operators["us-cloud"],
        controlled_from=Fact(value=("DE",)),
        seat=Fact(value="DE"),
        compelled_by=Fact(value=()),
    )
    region = msgspec.structs.replace(
        fleet.deployments["frankfurt-region"],
        records_auditable=Fact(value=True, grade="attested"),
        inspectable=Fact(value=True, grade="attested"),
    )
    better = msgspec.structs.replace(
        fleet,
        operators={**fleet.operators, "us-cloud": cloud},
        deployments={**fleet.deployments, "frankfurt-region": region},
    )
    assert reach(base, better).widens


def test_a_fact_that_expires_later_is_a_widening_from_that_day(base: Pack) -> None:
    fleet = hospital()

    def until(day: date) -> Fleet:
        ward = fleet.deployments["ward-llm"]
        ward = msgspec.structs.replace(ward, processing=Fact(value="DE", expires=day))
        return msgspec.structs.replace(fleet, deployments={**fleet.deployments, "ward-llm": ward})

    found = reach(base, until(date(2028, 1, 1)), until(date(2027, 1, 1)))
    assert {way.day for way in found.opened} == {date(2027, 1, 1)}
    assert not reach(base, until(date(2027, 1, 1)), until(date(2028, 1, 1))).widens


def test_more_turning_days_than_are_asked_count_as_a_widening(base: Pack) -> None:
    fleet = hospital()
    ward = fleet.deployments["ward-llm"]
    many = {
        f"w{n}": msgspec.structs.replace(
            ward, id=f"w{n}", processing=Fact(value="DE", expires=date(2027, 1, 1 + n))
        )
        for n in range(MAX_DAYS + 1)
    }
    fleet = msgspec.structs.replace(fleet, deployments=many, tasks={})
    found = reach(base, fleet, fleet)
    assert (found.opened, found.partial, found.widens) == ((), True, True)
    assert "later days were not asked" in words((), found)


def test_one_more_deployment_of_a_task_is_a_widening(base: Pack) -> None:
    fleet = hospital()

    def task(*names: str) -> Fleet:
        found = Task(name="notes", deployments=names)
        return msgspec.structs.replace(fleet, tasks={"notes": found})

    found = reach(base, task("ward-llm", "frankfurt-region"), task("ward-llm"))
    assert {(w.app, w.task, w.deployment) for w in found.opened} == {("press", "notes", "frankfurt-region")}


@pytest.mark.parametrize("seed", range(4))
def test_who_may_see_without_reasons_is_who_may_see_with_them(base: Pack, seed: int) -> None:
    chance = random.Random(seed)
    fleet = random_fleet(chance)
    policy = Policy((base,), fleet)
    for _ in range(40):
        question = random_question(chance)
        assert policy.kept(question) == frozenset(policy.eligible(question).kept)


def test_numbers_in_a_configuration_are_compared_as_written() -> None:
    assert said({"t": {"k": Decimal("1.0")}}, {"t": {"k": 1}}) == ["t: k: 1.0 -> 1"]
    assert said({"t": {"k": True}}, {"t": {"k": 1}}) == ["t: k: true -> 1"]
    assert base_files()
