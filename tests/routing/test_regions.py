"""One model in several regions: the cheapest lawful one at this hour, and no price makes one lawful."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from routing_worlds import AT, deployment, fleet, lawful, price

from allod.domain.fleet import DEFERRED, Price, PriceWindow
from allod.domain.request import Admitted, Sizes
from allod.metering.rates import tariffs_of
from allod.routing.plan import plan
from allod.routing.question import Health, question_of

HOUR_MS = 3_600_000
rates = st.decimals(0, 100, places=4)


def planned(of, unlawful=(), at_ms=AT, needs=("text",)):
    admitted = Admitted(
        receipt="r_1", received_at_ms=at_ms, app="app", surface="chat", classes=("personal",), purpose=None,
        task=None, model="llama", pinned=tuple(of.deployments), needs=needs,
        sizes=Sizes(body_bytes=4000, input_tokens=1000), min_quality=None, max_cost_usd=None,
        deadline_ms=None, effort=None, tier=None, stream=False,
    )  # fmt: skip
    return plan(question_of(admitted, lawful(of, unlawful), of, tariffs_of(of, None, at_ms), Health()))


def named(made) -> list[str]:
    return [attempt.deployment for attempt in made.attempts]


def night(factor: str) -> Price:
    half = PriceWindow(from_minute=20 * 60, until_minute=6 * 60, factor=Decimal(factor))
    return msgspec.structs.replace(price("2", "4"), windows=(half,))


def test_the_cheapest_region_changes_with_the_hour() -> None:
    of = fleet(
        deployment("paris", model="llama", price=price("1.5", "3")),
        deployment("dublin", model="llama", price=night("0.5")),
        objective="cheapest",
    )
    assert named(planned(of, at_ms=AT))[0] == "paris"  # noon
    assert named(planned(of, at_ms=AT + 9 * HOUR_MS))[0] == "dublin"
    assert named(planned(of, at_ms=AT + 19 * HOUR_MS))[0] == "paris"


def test_a_region_surcharge_counts() -> None:
    near = msgspec.structs.replace(price("2", "4"), factor=Decimal("1.1"))
    of = fleet(
        deployment("near", model="llama", price=near),
        deployment("far", model="llama", price=price("2", "4")),
        objective="cheapest",
    )
    assert named(planned(of)) == ["far", "near"]


@given(
    st.lists(rates, min_size=3, max_size=3),
    st.lists(st.none() | rates, min_size=2, max_size=2),
    st.sampled_from(["sovereign", "cheapest", "best"]),
    st.integers(0, 23),
)
def test_I1_no_price_of_an_unlawful_region_changes_anything(ours, theirs, objective, hour) -> None:
    """Free, dear or unknown: what may not see the request is not even estimated."""
    inside = [
        deployment(f"in{n}", model="llama", price=price(str(usd), str(usd * 2))) for n, usd in enumerate(ours)
    ]
    names = ("out0", "out1")

    def world(prices):
        outside = [
            deployment(
                name, model="llama", price=None if usd is None else price(str(usd), str(usd)),
                quality={"default": Decimal(1)},
            )
            for name, usd in zip(names, prices, strict=True)
        ]  # fmt: skip
        return fleet(*outside, *inside, objective=objective)

    at_ms = AT + hour * HOUR_MS
    attractive = planned(world([Decimal(0), Decimal(0)]), names, at_ms)
    made = planned(world(theirs), names, at_ms)
    assert made == attractive
    assert not set(named(made)) & set(names)
    shown = {one.deployment: one for one in made.candidates}
    assert all(shown[name].cost_usd is None and not shown[name].eligible for name in names)


def test_what_is_sold_as_batch_is_for_work_that_waits_only() -> None:
    of = fleet(
        deployment("batch", model="llama", price=price("0.5", "1"), batch_only=True),
        deployment("live", model="llama", price=price("1", "2")),
        objective="cheapest",
    )
    waits = planned(of, needs=(DEFERRED, "text"))
    asked = planned(of)
    assert named(waits) == ["batch", "live"]
    assert named(asked) == ["live"]
    (rule,) = next(one for one in asked.candidates if one.deployment == "batch").rules
    assert rule.id == "capability.interactive"
    assert rule.source == "deployment.batch.batch_only"


def test_without_batch_deployments_nothing_of_it_is_in_a_decision() -> None:
    of = fleet(deployment("live", model="llama"))
    assert "interactive" not in str(planned(of))
