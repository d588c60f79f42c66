from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.drills import own, worlds
from allod.drills.assume import assumptions
from allod.drills.losses import lost_lists
from allod.drills.restore import kinds
from allod.drills.worlds import Lose, World, joined, load, named, shipped, single, whole
from allod.policy.lists import codes_on, join


def test_the_six_risks_and_five_scenarios_ship_as_worlds_and_load() -> None:
    known = shipped()
    assert sum(name.startswith("risk-") for name in known) == 6
    assert sum(name.startswith("scenario-") for name in known) == 5
    assert sum(name.startswith("flashpoint-") for name in known) == 6
    for name in known:
        one = named(name, known)
        assert not one.empty
        assert one.title
        assert one.source
        assert one.as_of is not None


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(Invalid) as error:
        load(b'[lose]\noperater = ["x"]\n', "w")
    assert "did you mean 'operators'?" in error.value.explain()
    with pytest.raises(Invalid) as error:
        named("risk-ascend-paritty", shipped())
    assert "did you mean 'risk-ascend-parity'?" in error.value.explain()
    with pytest.raises(Invalid, match="engine") as error:
        load(b'[lose]\nengines = ["vlm"]\n', "w")
    assert "did you mean 'vllm'?" in error.value.explain()
    with pytest.raises(Invalid, match="kind of loss"):
        single("operatr=x")


@pytest.mark.parametrize(
    "text",
    [
        "lose = 3",
        "[lose]\noperators = 3",
        "[lose]\noperators = [3]",
        '[lose]\noperators = [""]',
        '[lose]\nregions = ["XX"]',
        '[lose]\nlists = { "a" = [] }',
        '[lose]\nlists = { "a" = ["ZZ"] }',
        "[lose]\nlink = 1",
        'unknown = "maybe"',
        "[[price]]\nfactor = 0",
        "[[price]]\nfactor = -2",
        "[[price]]\nfactor = 1e9",
        "[[price]]\nfactor = nan",
        "[[price]]\nfactor = inf",
        "[[price]]\n",
        "[[price]]\nfactor = true",
        'id = "a b"',
        'id = ""',
        "as_of = 3",
        "include = 'x'",
        "\0",
        "[lose]\noperators = " + "[" * 3000,
        "a" * (1 << 20) + "=1",
        "[lose]\noperators = [" + ",".join(f'"o{n}"' for n in range(600)) + "]",
    ],
)
def test_a_world_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        load(text.encode(), "w")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_hostile_bytes_are_a_world_or_an_error_that_explains_itself(raw: bytes) -> None:
    for read in (lambda: load(raw, "w"), lambda: own.load(raw)):
        try:
            read()
        except Invalid as error:
            assert error.explain()  # noqa: PT017 (either is fine, nothing else is)


def test_worlds_add_up_and_prices_multiply() -> None:
    a = load(b'[lose]\noperators = ["x"]\n[lose.lists]\n"l" = ["US"]\n[[price]]\nfactor = 2\n', "a")
    b = load(
        b'[lose]\noperators = ["y"]\nlink = true\n[lose.lists]\n"l" = ["CN"]\n[[price]]\nfactor = 3\n', "b"
    )
    both = joined([a, b])
    assert both.id == "a+b"
    assert both.lose == Lose(operators=("x", "y"), link=True, lists={"l": ("US", "CN")})
    assert [one.factor for one in both.price] == [2, 3]
    assert joined([a]) is a
    assert joined([]).empty
    assert joined([World(id="x", unknown="spared"), World(id="y")]).unknown == "affected"


def test_includes_are_taken_too_and_circles_refused() -> None:
    known = {
        "a": World(id="a", title="A", include=("b",), lose=Lose(operators=("x",))),
        "b": World(id="b", include=("c",), lose=Lose(operators=("y",))),
        "c": World(id="c", lose=Lose(chips=("z",))),
    }
    one = whole(known["a"], known.__getitem__)
    assert (one.id, one.title) == ("a", "A")
    assert set(one.lose.operators) == {"x", "y"}
    assert one.lose.chips == ("z",)
    known["c"] = World(id="c", include=("a",))
    with pytest.raises(Invalid, match="circle"):
        whole(known["a"], known.__getitem__)


def test_single_losses_say_what_is_gone() -> None:
    for kind, (field, _) in worlds.KINDS.items():
        name = {"engine": "vllm", "price": "2.5", "list": "gdpr.adequate/US"}.get(kind, "US")
        one = single(f"{kind}={name}")
        assert one is not None
        assert not one.empty
        if kind == "price":
            assert one.price[0].factor == Decimal("2.5")
        elif kind == "list":
            assert one.lose.lists == {"gdpr.adequate": ("US",)}
        else:
            assert getattr(one.lose, field) == (name,)
    assert single("maker=Z.ai (Zhipu) + more") is not None
    for bad in (
        "price=cheap",
        "price=",
        "price=nan",
        "price=inf",
        "price=-1",
        "operator=",
        "region=Mars",
        "engine=abacus",
        "operator=a\nb",
    ):
        with pytest.raises(Invalid):
            single(bad)


def test_places_fall_out_of_lists_even_out_of_a_bloc() -> None:
    from allod.gateway.packs import find

    packs = find().some(("base", "eu-gdpr"))
    day = date(2026, 11, 1)
    before = join(one for pack in packs for one in pack.lists)
    made, found = lost_lists(
        packs, {"gdpr.adequate-recipients": ("US",), "gdpr.eea": ("FR",), "nobody": ("US",)}
    )
    after = join(one for pack in made for one in pack.lists)
    assert found == {"gdpr.adequate-recipients", "gdpr.eea"}
    for name in ("gdpr.adequate-recipients", "gdpr.eea"):
        was, now = codes_on(name, before, day), codes_on(name, after, day)
        assert was - now == ({"US"} if name == "gdpr.adequate-recipients" else {"FR"})
    gone, _ = lost_lists(packs, {"gdpr.safe": ("*",)})
    assert codes_on("gdpr.safe", join(one for pack in gone for one in pack.lists), day) == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "[assume.critical]\nlow = 1\n",
        '[assume.critical_usd]\nlow = 5\nhigh = 1\nas_of = 2026-01-01\nsource = "x"\n',
        '[assume.critical_usd]\nlow = -5\nhigh = 1\nas_of = 2026-01-01\nsource = "x"\n',
        '[assume.critical_usd]\nlow = 1\nhigh = 2\nas_of = 2026-01-01\nsource = " "\n',
        "[assume.critical_usd]\nlow = 1\nhigh = 2\n",
    ],
)
def test_assumptions_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        assumptions(own.load(text.encode()).assume)


@pytest.mark.parametrize(
    "text",
    [
        '[[remedy]]\nid = "a"\nkind = "prayer"\n',
        '[[remedy]]\nid = "a"\nkind = "buy"\n[[remedy]]\nid = "a"\nkind = "buy"\n',
        '[[remedy]]\nid = "a"\nkind = "buy"\ncosts = 3\n',
        "[generate]\napps = { x = -1 }\n",
        "[generate]\ninput_tokens = 0\n",
        "surprise = 1\n",
    ],
)
def test_an_organisation_file_that_is_wrong_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        own.load(text.encode())


def test_kinds_of_remedies_have_sources_and_can_be_replaced() -> None:
    shipped_terms = kinds()
    assert all(terms.hours.source for terms in shipped_terms.values())
    mine = {"low": 1, "high": 2, "as_of": date(2026, 1, 1), "source": "us"}
    made = kinds({"buy": {"hours": mine, "cost_usd": mine, "month_usd": mine}})
    assert made["buy"].hours.middle == 1.5
    with pytest.raises(Invalid):
        kinds({"borrow": {}})
    with pytest.raises(Invalid):
        kinds({"buy": {"hours": {**mine, "high": 0}, "cost_usd": mine, "month_usd": mine}})
