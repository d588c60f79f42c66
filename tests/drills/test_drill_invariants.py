from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from drilled import NAMES, OPERATORS, at, decided, facts, gathered, losing, record, setting, traffics
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allod.domain.decision import Estimated
from allod.drills.fate import fates
from allod.drills.run import drill
from allod.drills.traffic import Gathering, held, repriced
from allod.drills.worlds import Dearer, Lose, World, joined
from allod.routing.plan import choose
from allod.routing.question import DecisionFacts, DeploymentFacts
from allod.routing.record import read_record, write_record
from allod.routing.simulate import past_of

CALM = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
gone_sets = st.sets(st.sampled_from(NAMES))


def alone(of: DecisionFacts, gone: set[str]) -> DecisionFacts:
    return msgspec.structs.replace(of, candidates=tuple(c for c in of.candidates if c.deployment not in gone))


def outcome(of: DecisionFacts) -> tuple[str, str | None]:
    choice = choose(of)
    if choice.up:
        return "served", choice.up[0].deployment
    return ("down" if choice.down else "refused"), None


@CALM
@given(traffics, gone_sets)
def test_I8_a_group_is_decided_as_the_production_code_decides_each_of_its_requests(
    drawn: Any, gone: set[str]
) -> None:
    """What the groups say is what ``choose`` says of every record, made again without those that are gone."""
    traffic = gathered(drawn).traffic()
    assert (traffic.held, traffic.left) == (len(drawn), ())
    found: dict[tuple[str, str | None], int] = {}
    for fate in fates(traffic, at(losing(deployments=tuple(gone)))):
        key = fate.after, fate.serves
        found[key] = found.get(key, 0) + fate.group.requests
    wanted: dict[tuple[str, str | None], int] = {}
    for of, requests, _ in drawn:
        key = outcome(alone(of, gone))
        wanted[key] = wanted.get(key, 0) + requests
    assert found == wanted


@CALM
@given(traffics, gone_sets)
def test_I8_costs_and_qualities_are_the_recorded_ones_exactly(drawn: Any, gone: set[str]) -> None:
    traffic = gathered(drawn).traffic()
    cost = quality = Decimal(0)
    for fate in fates(traffic, at(losing(deployments=tuple(gone)))):
        if fate.serves is not None:
            cost += fate.group.sums[fate.serves].cost
            quality += fate.group.sums[fate.serves].quality
    wanted_cost = wanted_quality = Decimal(0)
    for of, requests, _ in drawn:
        choice = choose(alone(of, gone))
        if choice.up:
            wanted_cost += (choice.up[0].cost_usd or 0) * requests
            wanted_quality += (choice.up[0].quality or 0) * requests
    assert (cost, quality) == (wanted_cost, wanted_quality)


@CALM
@given(traffics)
def test_I8_the_empty_world_gives_the_recorded_decisions_bit_for_bit(drawn: Any) -> None:
    for of, _, app in drawn:
        body = record(of, app)
        past = past_of(body)
        assert tuple(one.deployment for one in held(past).up[:4]) == tuple(
            one.deployment for one in past.plan.attempts
        )
        assert write_record(read_record(body)) == body
    traffic = gathered(drawn).traffic()
    for fate in fates(traffic, at(World(id="empty"))):
        assert fate.serves == fate.group.first
        assert fate.before == fate.after
        assert not fate.lost
    found = drill(traffic, setting(), at(World(id="empty")))
    assert (found.uncovered, found.moved, found.nothing) == (0, 0, True)
    assert found.cost_change_month_usd is None or found.cost_change_month_usd.value == 0


@CALM
@given(traffics, gone_sets)
def test_I2_a_loss_never_adds_a_lawful_deployment(drawn: Any, gone: set[str]) -> None:
    traffic = gathered(drawn).traffic()
    lawful = {c.deployment for of, _, _ in drawn for c in of.candidates if not c.law}
    for fate in fates(traffic, at(losing(deployments=tuple(gone)))):
        assert fate.serves is None or (fate.serves in lawful and fate.serves not in gone)
        assert fate.before == "served" or fate.after != "served" or fate.group.hard_up == ()


@CALM
@given(traffics, gone_sets, gone_sets)
def test_a_pair_of_losses_uncovers_what_either_does(drawn: Any, a: set[str], b: set[str]) -> None:
    traffic = gathered(drawn).traffic()
    first, second = losing(deployments=tuple(a)), losing(deployments=tuple(b))
    both = fates(traffic, at(joined([first, second], "both")))
    for one in (first, second):
        for single, pair in zip(fates(traffic, at(one)), both, strict=True):
            assert single.group is pair.group
            assert not single.uncovered or pair.uncovered


@CALM
@given(traffics, gone_sets)
def test_a_drill_is_the_same_every_time_and_in_any_order_of_the_records(drawn: Any, gone: set[str]) -> None:
    world = losing(deployments=tuple(gone))
    first = drill(gathered(drawn).traffic(), setting(), at(world))
    again = drill(gathered(drawn).traffic(), setting(), at(world))
    turned = drill(gathered(list(reversed(drawn))).traffic(), setting(), at(world))
    assert first == again
    for name in ("uncovered", "served", "moved", "down", "critical_uncovered"):
        assert getattr(first, name) == getattr(turned, name)


@CALM
@given(traffics, st.sampled_from((Decimal("0.5"), Decimal(3), Decimal(100))))
def test_where_prices_change_every_record_is_judged_again(drawn: Any, factor: Decimal) -> None:
    factors = dict.fromkeys(("c", "d"), factor)
    world = World(id="w", price=(Dearer(factor=factor, operators=("two",)),))
    assert at(world)(None).factors == factors
    traffic = gathered(drawn, {"w": lambda _: factors}).traffic("w")
    found: dict[tuple[str, str | None], int] = {}
    for fate in fates(traffic, at(world)):
        key = fate.after, fate.serves
        found[key] = found.get(key, 0) + fate.group.requests
    wanted: dict[tuple[str, str | None], int] = {}
    for of, requests, _ in drawn:
        key = outcome(repriced(of, factors))
        wanted[key] = wanted.get(key, 0) + requests
    assert found == wanted


@CALM
@given(traffics)
def test_a_world_that_removes_everything_is_a_clear_result(drawn: Any) -> None:
    found = drill(gathered(drawn).traffic(), setting(), at(losing(deployments=("*",))))
    assert found.uncovered == found.served
    assert found.share in {0.0, 1.0}
    assert found.moved == 0
    assert (found.quality_lost, found.quality_before) == (None, None)
    assert all(line.whole for line in found.lines if line.served)


def test_nothing_at_all_was_asked() -> None:
    found = drill(Gathering().traffic(), setting(), at(losing(operators=("two",))))
    assert (found.served, found.uncovered, found.share, found.critical_share) == (0, 0, 0.0, 0.0)
    assert found.cost_month_before_usd is None


@CALM
@given(traffics)
def test_what_is_not_known_counts_as_gone_and_says_so(drawn: Any) -> None:
    world = losing(chips=("NVIDIA",))
    found = at(world)(None)
    assert set(found.gone) == set(NAMES)
    assert set(found.unsure) == {"b", "d", "e"}
    spared = at(msgspec.structs.replace(world, unknown="spared"))(None)
    assert set(spared.gone) == {"a", "c"}
    careful = drill(gathered(drawn).traffic(), setting(), at(world))
    lax = drill(gathered(drawn).traffic(), setting(), at(msgspec.structs.replace(world, unknown="spared")))
    assert careful.uncovered >= lax.uncovered


def test_a_jurisdiction_is_seat_or_control_and_spares_ourselves() -> None:
    assert set(at(losing(jurisdictions=("US",)))(None).gone) == {"c", "d", "e"}  # e: nobody knows
    assert at(losing(jurisdictions=("US",)))(None).unsure == ("e",)
    assert set(at(losing(seats=("IE",)))(None).gone) == {"c", "d", "e"}
    assert set(at(losing(controlled=("DE",)))(None).gone) == {"e"}
    assert set(at(losing(controlled=("DE",), own=True))(None).gone) == {"a", "b", "e"}
    assert set(at(losing(regions=("EEA",)))(None).gone) == set(NAMES)


def test_names_that_fit_nothing_are_told_with_the_nearest() -> None:
    found = at(losing(operators=("tow",), chips=("AMD",), agreements=("scc",)))(None)
    told = " ".join(found.idle)
    assert "operators tow" in told
    assert "did you mean 'two'?" in told
    assert "agreements scc" in told
    assert at(losing(operators=("nobody-has-this",)))(None).nothing


def test_evidence_is_lost_everywhere_or_at_one_operator() -> None:
    assert at(losing(agreements=("dpa",)))(None).fleet.operators["two"].agreements == {}
    assert at(losing(agreements=("two/dpa",)))(None).law
    assert not at(losing(agreements=("one/dpa",)))(None).law


@pytest.mark.parametrize("spoil", ["digest", "json", "day", "plan", "number"])
def test_damaged_records_are_counted_and_never_drilled(spoil: str) -> None:
    body = record(DecisionFacts(
        task=None, needs=("text",), input_tokens=1, min_quality=None, max_cost_usd=None, deadline_ms=None,
        effort=None, objective="best", ordered=False, candidates=(),
    ))  # fmt: skip
    one = decided(body, 7)
    if spoil == "digest":
        one = msgspec.structs.replace(one, digest="sha256:" + "f" * 64)
    elif spoil == "json":
        one = decided(body[:-2], 7)
    elif spoil == "day":
        one = decided(body.replace(b"2026-10-20", b"2026"), 7)
    elif spoil == "plan":
        one = decided(body.replace(b'"resting":[]', b'"resting":["a"]'), 7)
    else:
        one = decided(body.replace(b'"input_tokens":1', b'"input_tokens":"NaN"'), 7)
    gathering = Gathering()
    gathering.add(one)
    traffic = gathering.traffic()
    assert traffic.groups == ()
    assert sum(left.requests for left in traffic.left) == 7
    assert traffic.damaged == (spoil != "plan")


@CALM
@given(facts(), st.sampled_from(sorted(set(OPERATORS.values()))))
def test_every_uncovered_request_says_why(of: DecisionFacts, operator: str) -> None:
    gathering = Gathering()
    gathering.add(decided(record(of), 5))
    found = drill(gathering.traffic(), setting(), at(World(id="w", lose=Lose(operators=(operator,)))))
    for line in found.lines:
        if line.uncovered:
            assert line.reasons
            assert line.reasons[0][0] == "world.removed"
            assert line.receipts


def test_who_is_only_estimated_to_fail_comes_where_nobody_else_is_left() -> None:
    """As the plan has it: too hard for everybody shuts nobody out."""

    def one(name: str, success: str) -> DeploymentFacts:
        value = Decimal(success)
        return DeploymentFacts(
            deployment=name, quality=Decimal("0.9"), cost_usd=Decimal(1), reserve_usd=Decimal(1),
            estimate=Estimated(success=value, low=value, high=value, output_tokens=10, n=9),
        )  # fmt: skip

    of = DecisionFacts(
        task=None, needs=("text",), input_tokens=1, min_quality=Decimal("0.8"), max_cost_usd=None,
        deadline_ms=None, effort=None, objective="best", ordered=False,
        candidates=(one("a", "0.9"), one("c", "0.5"), one("d", "0.6")),
    )  # fmt: skip
    assert [c.deployment for c in choose(of).able] == ["a"]
    gathering = Gathering()
    gathering.add(decided(record(of), 3))
    traffic = gathering.traffic()
    serves = {
        gone: fates(traffic, at(losing(deployments=gone)))[0].serves
        for gone in ((), ("a",), ("a", "d"), ("d",), ("a", "c", "d"))
    }
    assert serves == {(): "a", ("a",): "d", ("a", "d"): "c", ("d",): "a", ("a", "c", "d"): None}
