"""Facts laid over the shipped catalogue: newest wins, in any order, however often; hostile forms refused."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from supply_world import NOW_MS

from allod.domain.errors import Integrity, Invalid
from allod.gateway import planfacts
from allod.planner.catalogue import (
    Catalogue,
    Device,
    GridRow,
    Origin,
    current,
    find_device,
    find_model,
    shipped,
    shipped_digest,
    using,
)
from allod.planner.overlay import Layer, lay, layer_of
from allod.planner.speed.anchors import supplied
from allod.vault.bundle import content

DAY = date(2026, 11, 20)
SMALL = {
    "model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 2, "intermediate_size": 4096, "vocab_size": 32000, "max_position_embeddings": 8192,
}  # fmt: skip


def device(**more: Any) -> dict[str, Any]:
    row = {"name": "Box One", "vendor": "Us", "device_class": "datacentre", "tier": "server", "mem_gb": 96}
    return row | {"mem_bw_gbs": 900.5, "as_of": "2026-11-20", "source": "maker's page"} | more


def model(**more: Any) -> dict[str, Any]:
    facts = {"maker": "Us", "maker_jurisdiction": "DE", "licence": "Apache-2.0", "config": SMALL}
    return {"facts": facts | {"as_of": "2026-11-20", "source": "its repository"} | more}


def point(**more: Any) -> dict[str, Any]:
    row = {"hardware": "h100", "model": "Qwen3-8B", "quant": "fp8", "engine": "vllm 0.19", "isl": 1024}
    row |= {"osl": 256, "concurrency": 8, "metric": "tpot_ms", "value": 9.5}
    return row | {"as_of": "2026-11-20", "source": "our lab"} | more


def book(**more: Any) -> bytes:
    body: dict[str, Any] = {"format": "allod-catalogue-1", "as_of": "2026-11-20", "source": "the lab"}
    return json.dumps(body | {"licence": "ours", "models": {}} | more).encode()


def read(raw: bytes) -> content.Catalogue:
    found = content.catalogue("list", raw, NOW_MS)
    planfacts.readable("list", found)
    return found


def origin(day: date = DAY, rank: int = 1, digest: str = "sha256:aa") -> Origin:
    return Origin(as_of=day, digest=digest, source="the lab", vouched="signed by press", rank=rank)


# -- form


def test_every_kind_of_row_is_read() -> None:
    raw = book(
        devices={"box-1": device(unified=True, price_usd="123.45", scaleup_domain=8)},
        models={"us/small": {"title": "Small", **model()}},
        grids={"DEU": {"country": "Germany", "carbon_gco2_kwh": 300, "low_carbon_share": 0.6,
                       "as_of": "2026-11-20", "source": "agency"}},
        points=[point()],
    )  # fmt: skip
    found = lay([layer_of(read(raw), origin())])
    box = found.find_device("BOX_1")
    assert (box.mem_bytes, box.mem_bw_bytes_s, box.unified, box.scaleup_devices) == (
        96 << 30,
        900.5e9,
        True,
        8,
    )
    assert box.tdp_w is None
    card = found.find_model("small")
    assert card.architecture is not None
    assert card.architecture.layer_count == 8
    assert card.context_tokens == 8192
    # dated before the shipped row of the same country: passed over, and told
    assert found.grids["DEU"] is shipped().grids["DEU"]
    assert [(one.kind, one.id, one.as_of) for one in found.passed] == [("grid", "DEU", DAY)]
    assert content.catalogue("list", raw, NOW_MS).models["us/small"].title == "Small"
    with using(lambda: found):
        (one,) = supplied()
        assert (one.device, one.model, one.value, one.at) == ("h100-sxm", "Qwen/Qwen3-8B", 9.5, DAY)
        assert "signed by press" in one.source


GRID = {"country": "Germany", "carbon_gco2_kwh": 300, "as_of": "2026-11-20", "source": "agency"}
HOSTILE = {
    "an unknown key of the whole": book(machines={}),
    "an unknown key of a device": book(devices={"a": device(memory=8)}),
    "an unknown key of a model": book(models={"a": model(size=8)}),
    "an unknown key of a grid": book(grids={"DEU": GRID | {"co2": 1}}),
    "an unknown key of a point": book(points=[point(speed=1)]),
    "no day": book(devices={"a": {k: v for k, v in device().items() if k != "as_of"}}),
    "no source": book(devices={"a": device(source=" ")}),
    "a day to come": book(devices={"a": device(as_of="2027-01-01")}),
    "a day of the past": book(devices={"a": device(as_of="1970-01-01")}),
    "a negative figure": book(devices={"a": device(mem_gb=-1)}),
    "zero memory": book(devices={"a": device(mem_gb=0)}),
    "NaN": book(devices={"a": device(mem_gb=float("nan"))}),
    "NaN as text": book(devices={"a": device(mem_gb="NaN")}),
    "a signalling NaN": book(devices={"a": device(mem_gb="sNaN")}),
    "infinity": book(devices={"a": device(mem_gb=float("inf"))}),
    "infinity as text": book(devices={"a": device(mem_gb="Infinity")}),
    "an absurd size": book(devices={"a": device(mem_gb=10_000_000)}),
    "an absurd exponent": book(devices={"a": device()}).replace(b"900.5", b"1e999999"),
    "a tiny number": book(devices={"a": device()}).replace(b"900.5", b"1e-400"),
    "a truth for a number": book(devices={"a": device(mem_gb=True)}),
    "a list for a number": book(devices={"a": device(mem_gb=[80])}),
    "half a domain": book(devices={"a": device(scaleup_domain=1.5)}),
    "a negative price": book(devices={"a": device(price_usd=-5)}),
    "one name twice": book(devices={"a": device()}).replace(b'"devices": {', b'"devices": {"a": {}, '),
    "one key twice": book(devices={"a": device()}).replace(b'"mem_gb": 96', b'"mem_gb": 96, "mem_gb": 97'),
    "one name in two spellings": book(devices={"h100-sxm": device(), "H100_SXM": device()}),
    "a name of nothing": book(devices={" ": device()}),
    "a name too long": book(devices={"a" * 500: device()}),
    "a name with a control": book(devices={"a\x1b[31m": device()}),
    "a source with lines": book(devices={"a": device(source="a\nb")}),
    "a country by name": book(models={"a": model(maker_jurisdiction="Germany")}),
    "a grid of no country": book(grids={"Germany": GRID}),
    "more carbon-free than all": book(grids={"DEU": GRID | {"low_carbon_share": 1.5}}),
    "negative carbon": book(grids={"DEU": GRID | {"carbon_gco2_kwh": -1}}),
    "more active than all": book(models={"a": model(params_total_b=8, params_active_b=9)}),
    "a release of no day": book(models={"a": model(released="soon")}),
    "config and config_id": book(models={"a": model(config_id="Qwen/Qwen3-8B")}),
    "a config_id of nothing": book(models={"a": {"facts": {
        "maker": "Us", "config_id": "us/none", "as_of": "2026-11-20", "source": "x"}}}),
    "a config that is a list": book(models={"a": model(config=[1])}),
    "a config that is null": book(models={"a": model(config=None)}),
    "a config of nothing": book(models={"a": model(config={})}),
    "a config without end": book(models={"a": model(config=SMALL | {"x": "y" * 300_000})}),
    "a config of 1e400 layers": book(models={"a": model()}).replace(
        b'"num_hidden_layers": 8', b'"num_hidden_layers": 1e400'),
    "negative layers": book(models={"a": model(config=SMALL | {"num_hidden_layers": -8})}),
    "absurdly many layers": book(models={"a": model(config=SMALL | {"num_hidden_layers": 10**9})}),
    "parameters that contradict": book(models={"a": model(params_total_b=70)}),
    "a point of nothing": book(points=[point(value=0)]),
    "a point too good": book(points=[point(value=1e-7)]),
    "a point of another measure": book(points=[point(metric="loss")]),
    "a point on no device": book(points=[point(devices=0)]),
    "too many points": book(points=[point()] * 20_001),
    "nesting": book().replace(b'"models": {}', b'"models": ' + b'{"a":' * 5000 + b"{}" + b"}" * 5000),
    "half a file": book(devices={"a": device()})[:-5],
    "no JSON": b"\xff\xfe",
    "a list": b"[]",
}  # fmt: skip


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_catalogue_is_refused(raw: bytes) -> None:
    with pytest.raises(Integrity):
        read(raw)


@given(
    st.dictionaries(
        st.sampled_from([*device(), "unified", "price_usd", "scaleup_domain", "x"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just([])),
        max_size=3,
    )
)
@settings(max_examples=150, deadline=None)
def test_any_cell_is_read_or_refused_and_what_is_read_is_a_number_over_zero(cells: dict[str, Any]) -> None:
    try:
        found = read(book(devices={"a": device(**cells)}))
    except Integrity:
        return
    one = layer_of(found, origin()).devices["a"]
    for value in (one.mem_bytes, one.mem_bw_bytes_s, one.price_usd, one.scaleup_devices):
        assert value is None or 0 < value < 1e22


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(Integrity):
        read(raw)


# -- laying over

NAMES = ("box-1", "BOX_1", "box-2", "h100-sxm", "H100 SXM")


@st.composite
def layers(draw: st.DrawFn) -> list[Layer]:
    out = []
    for n in range(draw(st.integers(1, 5))):
        rows = {}
        for name in draw(st.sets(st.sampled_from(NAMES), max_size=3)):
            day = date(2026, 11, 26) + timedelta(days=draw(st.integers(-3, 3)))
            size = draw(st.integers(1, 9)) << 30
            rows[name] = Device(
                id=name, name="Box", vendor="Us", maker_jurisdiction="", device_class="x", tier="server",
                mem_bytes=size, as_of=day, source=f"layer {n}",
            )  # fmt: skip
        top = max((one.as_of for one in rows.values()), default=DAY)
        rank = draw(st.integers(1, 2))
        out.append(Layer(origin=origin(top, rank, f"sha256:{n}"), devices=rows))
    return out


def seen(found: Catalogue) -> tuple[Any, ...]:
    rows = {name: (row, found.origin(row)) for name, row in found.devices.items()}
    return rows, sorted(found.passed, key=str), found.layers


@given(layers(), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_laying_over_is_idempotent_and_free_of_order(given_: list[Layer], chance: Any) -> None:
    once = seen(lay(given_))
    shuffled = given_ * 2
    chance.shuffle(shuffled)
    assert seen(lay(shuffled)) == once


@given(layers())
@settings(max_examples=150, deadline=None)
def test_the_newest_row_of_a_name_counts_and_only_older_ones_are_passed(given_: list[Layer]) -> None:
    from allod.planner.catalogue import spelt

    found = lay(given_)
    for name, row in found.devices.items():
        rivals = [r for one in given_ for n, r in one.devices.items() if spelt(n) == spelt(name)]
        own = shipped().devices.get(name)
        assert row.as_of == max(r.as_of for r in [*rivals, *([own] if own else [])])
        if own is not None and all(r.as_of < own.as_of for r in rivals):
            assert row is own
        elif rivals:
            # of one day a file counts before a bundle, a bundle before what ships
            ranks = [one.origin.rank for one in given_ for n, r in one.devices.items()
                     if spelt(n) == spelt(name) and r.as_of == row.as_of]  # fmt: skip
            assert found.origin(row).rank == max(ranks)
    assert all(one.used >= one.as_of for one in found.passed)
    assert set(shipped().devices) <= set(found.devices)
    assert len({spelt(one) for one in found.devices}) == len(found.devices)


def test_without_layers_it_is_what_ships() -> None:
    assert lay([]) is shipped()
    assert current() is shipped()
    (only,) = shipped().layers
    assert only.digest == shipped_digest()
    assert only.as_of == max(one.as_of for one in shipped().devices.values())


def test_a_newer_row_counts_whole_and_keeps_the_shipped_name() -> None:
    row = device(as_of="2026-11-26", name="H100 SXM5 80GB", mem_gb=88)
    found = lay([layer_of(read(book(devices={"H100_SXM": row})), origin())])
    with using(lambda: found):
        one = find_device("h100")
        assert (one.id, one.mem_bytes, one.bf16_flops) == ("h100-sxm", 88 << 30, None)
        assert found.origin(one).vouched == "signed by press"
        assert find_model("Qwen3-8B") is shipped().models["Qwen/Qwen3-8B"]
        assert found.origin(find_model("Qwen3-8B")) == shipped().layers[0]
    assert find_device("h100") is shipped().devices["h100-sxm"]


def test_a_brought_row_does_not_take_the_spellings_of_shipped_ones() -> None:
    rows = {"theirs": device(name="h100-sxm"), "other": device(name="gb200")}
    cards = {"them/Qwen3-8B": model(), "them/llama-3.1-70b": model()}
    found = lay([layer_of(read(book(devices=rows, models=cards)), origin())])
    assert found.find_device("h100-sxm").id == "h100-sxm"
    assert found.find_device("gb200").id == "gb200-nvl72"
    for name in ("Qwen3-8B", "Llama-3.1-70B"):
        assert found.find_model(name) is shipped().find_model(name)
    assert found.find_model("them/qwen3-8b").maker == "Us"


def test_a_model_without_a_configuration_keeps_the_shipped_one() -> None:
    facts = {"maker": "Alibaba Qwen", "licence": "Other", "as_of": "2026-11-26", "source": "its page"}
    named = {"maker": "Us", "config_id": "Qwen/Qwen3-8B", "as_of": "2026-11-20", "source": "its page"}
    cards = {"Qwen/Qwen3-8B": {"facts": facts}, "us/twin": {"facts": named}}
    found = lay([layer_of(read(book(models=cards)), origin())])
    one, own = found.find_model("Qwen3-8B"), shipped().find_model("Qwen3-8B")
    assert (one.licence, one.architecture) == ("Other", own.architecture)
    twin = found.find_model("twin").architecture
    assert twin is not None
    assert own.architecture is not None
    assert twin.layers == own.architecture.layers


def test_what_was_fitted_stays_with_the_shipped_facts() -> None:
    from allod.planner.speed.facts import machine_named

    row = device(as_of="2026-11-26", mem_bw_gbs=10)
    found = lay([layer_of(read(book(devices={"h100-pcie": row})), origin())])
    machine_named.cache_clear()
    with using(lambda: found):
        assert find_device("h100-pcie").mem_bw_bytes_s == 10e9
        assert machine_named("h100-pcie").bandwidth == 2000e9


def test_of_two_measurements_under_one_condition_the_newest_counts() -> None:
    old, new = point(value=7), point(value=8, as_of="2026-11-21")
    one = Layer(origin=origin(digest="sha256:1"), points=read(book(points=[new])).points)
    two = Layer(origin=origin(digest="sha256:2"), points=read(book(points=[old, point(osl=9)])).points)
    for order in ([one, two], [two, one], [one, two, one]):
        assert sorted(float(row.value) for row, _ in lay(order).points) == [8, 9.5]


def test_a_row_handed_over_is_nobodys() -> None:
    own = GridRow(iso3="DEU", country="Germany", as_of=DAY, source="me")
    assert shipped().origin(own).vouched.endswith("signed by nobody")
    with pytest.raises(Invalid):
        find_device("box-1")
