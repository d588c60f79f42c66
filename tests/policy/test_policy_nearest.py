"""The nearest change: enough when made, and nothing smaller is."""

from __future__ import annotations

import random

import pytest
from policy_worlds import (
    ask,
    holds,
    hospital,
    random_fleet,
    random_question,
    with_deployment,
    with_operator,
    with_tenant,
)

from allod.domain.decision import NearestChange
from allod.domain.fleet import Fleet
from allod.policy import Pack, Policy
from allod.policy.nearest import MAX_CHANGES, changes_of

US = "frankfurt-region"


def almost() -> Fleet:
    """A foreign operator that satisfies everything."""
    fleet = with_operator(
        hospital(),
        "us-cloud",
        seat=holds("IE"),
        controlled_from=holds(("IE", "FR")),
        compelled_by=holds(("FR-CPP",)),
    )
    return with_deployment(
        fleet, US, records_auditable=holds(True, grade="attested"), inspectable=holds(True, grade="attested")
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda f: with_deployment(f, US, records_auditable=holds(True, grade="contract")),
            "grade records_auditable 'attested'",
        ),
        (
            lambda f: with_deployment(f, US, inspectable=holds(False)),
            "set inspectable true, graded 'attested'",
        ),
        (lambda f: with_deployment(f, US, inspectable=None), "set inspectable true, graded 'attested'"),
        (lambda f: with_deployment(f, US, processing=holds("US")), "process in EEA"),
        (lambda f: with_deployment(f, US, at_rest=None), "store only in EEA"),
        (lambda f: with_deployment(f, US, approved=False), "approve frankfurt-region"),
        (
            lambda f: with_operator(f, "us-cloud", controlled_from=holds(("US",))),
            "operator us-cloud controlled only from EEA",
        ),
        (
            lambda f: with_operator(f, "us-cloud", compelled_by=None),
            "operator us-cloud known not to be compellable from outside EEA",
        ),
        (lambda f: with_tenant(f, air_gapped=True), "stand frankfurt-region on the premises"),
        (
            lambda f: with_deployment(f, US, processing=holds("US"), approved=False),
            "approve frankfurt-region; process in EEA",
        ),
    ],
)
def test_single_changes_are_named(base: Pack, change, told: str) -> None:
    policy = Policy((base,), change(almost()))
    assert policy.nearest(ask()) == (NearestChange(deployment=US, change=told),)
    assert policy.nearest(ask()) is policy.nearest(ask())


def test_link_down_is_a_change_too(base: Pack) -> None:
    policy = Policy((base,), almost())
    assert policy.nearest(ask(link_up=False))[0].change == "restore the link"


def test_weights(base: Pack) -> None:
    fleet = almost()
    unverified = Policy((base,), Fleet(**{name: getattr(fleet, name) for name in (
        "tenant", "apps", "operators", "deployments")}))  # fmt: skip
    assert unverified.nearest(ask())[0] == NearestChange(
        deployment="ward-llm", change="verify the weights of 'reference' in the vault"
    )
    restricted = {n.deployment: n.change for n in unverified.nearest(ask(classes=("phi", "restricted")))}
    assert restricted == {
        "ward-llm": "verify the weights of 'reference' in the vault; weights of a known maker"
    }  # no fact makes weights we do not load verified


def test_section_12_needs_three_changes_and_fewer_come_first(base: Pack) -> None:
    fleet = with_deployment(hospital(), "ward-llm", processing=None)
    policy = Policy((base,), fleet)
    first, second = policy.nearest(ask())
    assert first == NearestChange(deployment="ward-llm", change="process in EEA")
    assert second == NearestChange(
        deployment=US,
        change="grade records_auditable 'attested'; set inspectable true, graded 'attested'; "
        "an operator seated and controlled only in EEA, not compellable from outside",
    )


def test_what_three_changes_do_not_mend_is_left_out(base: Pack) -> None:
    fleet = with_deployment(hospital(), US, processing=holds("US"), at_rest=holds(("US",)), approved=False)
    assert Policy((base,), fleet).nearest(ask()) == ()


def test_without_a_bloc_no_place_is_near(base: Pack) -> None:
    policy = Policy((base,), with_tenant(almost(), bloc=()))
    assert policy.nearest(ask()) == ()


def test_every_change_found_admits_when_really_made(base: Pack) -> None:
    rng = random.Random("nearest")
    checked = 0
    for _ in range(40):
        fleet = random_fleet(rng, 6, relax=rng.random() < 0.2)
        policy = Policy((base,), fleet)
        q = random_question(rng)
        calendar = policy._epochs[q.day].calendar if policy.eligible(q) else None
        assert calendar is not None
        for found in policy.nearest(q):
            scene = policy.scene(q, found.deployment, calendar)
            texts = {change.text: change for change in changes_of(scene)}
            chosen = [texts[text] for text in found.change.split("; ")]
            assert len(chosen) <= MAX_CHANGES
            for change in chosen:
                scene = change.apply(scene)
            subject = scene.subject
            made = Fleet(
                tenant=fleet.tenant,
                apps=fleet.apps,
                operators={**fleet.operators, subject.operator.id: subject.operator},
                deployments={found.deployment: subject.deployment},
                weights={} if subject.weights is None else {found.deployment: subject.weights},
            )
            after = Policy((base,), made)
            asked = ask(q.app, q.classes, purpose=q.purpose, link_up=scene.link_up)
            assert after.eligible(asked).kept == (found.deployment,)
            assert after.recheck(asked, found.deployment)
            checked += 1
    assert checked > 60
