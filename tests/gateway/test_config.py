"""The configuration: the example parses, typos are named, missing facts are unknown and not errors."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from allod.domain.errors import Invalid
from allod.domain.facts import NOWHERE
from allod.gateway.config import parse

EXAMPLE = (Path(__file__).parents[2] / "examples/hospital/allod.toml").read_text()
SMALL = """
[tenant]
home = "DE"
bloc = ["EEA"]
[[operator]]
id = "self"
[[deployment]]
id = "d"
engine = "scripted"
model = "answer"
operator = "self"
"""


def test_the_example_of_the_design_parses_to_exact_values() -> None:
    config = parse(EXAMPLE)
    region = config.fleet.deployments["frankfurt-region"]
    assert region.price is not None
    assert region.price.output_usd_mtok == Decimal("30.0")
    assert region.records_auditable is not None
    assert region.records_auditable.grade == "contract"
    assert region.records_auditable.source == "DPA annex 2"
    assert config.fleet.operators["self"].compelled_by is not None
    assert config.fleet.tasks["extract"].min_quality == Decimal("0.9")


def test_missing_facts_load_as_unknown_and_never_fail_the_start() -> None:
    fleet = parse(SMALL).fleet
    d = fleet.deployments["d"]
    facts = (d.processing, d.at_rest, d.transit, d.on_premises, d.records_auditable, d.inspectable, d.seal)
    assert facts == (None,) * 7
    assert fleet.operators["self"].seat is None
    assert fleet.operators["self"].own is False
    assert fleet.tenant.default_classes == ("personal",)
    assert not fleet.tenant.air_gapped


def test_stored_nowhere_is_not_the_same_as_empty() -> None:
    assert parse(SMALL + 'at_rest = "none"').fleet.deployments["d"].at_rest.value == NOWHERE  # type: ignore[union-attr]
    assert parse(SMALL + "at_rest = []").fleet.deployments["d"].at_rest.value == ()  # type: ignore[union-attr]


def test_norway_stays_a_country() -> None:
    assert parse(SMALL + 'processing = "NO"').fleet.deployments["d"].processing.value == "NO"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("at_rset = ['DE']", "at_rest"),
        ("processing = 'UK'", "GB"),
        ("processing = 'Germany'", "no jurisdiction"),
        ("takes = ['txt']", "text"),
        ("price = { input_usd_mtok = 1.0 }", "incomplete"),
        ("price = { input_usd_mtk = 1.0, output_usd_mtok = 2.0 }", "input_usd_mtok"),
        ("seal = [4, 4]", "eight levels"),
        ("timeout_ms = 0", "whole number"),
        ("timeout_ms = true", "whole number"),
        ("quality = { default = 1.5 }", "number"),
        ("on_premises = 'yes'", "true or false"),
        ("records_auditable = { grade = 'contract' }", "value"),
        ("records_auditable = { value = true, grade = 'contrct' }", "contract"),
        ("records_auditable = { value = true, expires = 2026-01-01T00:00:00Z }", "date"),
        ("[[task]]\nname = 'd'", "ambiguous"),
        ("[[task]]\nname = 't'\n[[task]]\nname = 't'", "one name"),
        ("[[task]]\nname = 't'\ndeployments = ['dd']", "not declared"),
        ("[[operator]]\nid = 'self'", "two operators"),
        ("[[app]]\nid = 'a'\nclasses = ['phy']", "phi"),
        ("[server]\nport = 99999", "65535"),
        ("[sever]\nport = 1", "server"),
        ("[tenant.relax]\n'airgap' = { reason = 'x' }", "signer"),
    ],
)
def test_a_mistake_is_named(change: str, named: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(SMALL + change)
    assert named in caught.value.explain()


@pytest.mark.parametrize(
    "missing", ['home = "DE"', 'bloc = ["EEA"]', 'operator = "self"', 'engine = "scripted"']
)
def test_what_may_not_be_absent(missing: str) -> None:
    with pytest.raises(Invalid):
        parse(SMALL.replace(missing, ""))


def test_not_toml_and_no_tenant() -> None:
    for text in ("[tenant", "", "x = 1"):
        with pytest.raises(Invalid):
            parse(text)
