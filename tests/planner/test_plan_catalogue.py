"""The catalogue: every row dated and sourced, a blank is not known, names in any usual spelling."""

import contextlib
import csv
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.domain.jurisdiction import COUNTRIES
from allod.planner.catalogue import devices, find_device, find_model, grid, models, rows


def test_I10_every_row_has_its_day_and_its_source() -> None:
    for name in ("devices.csv", "models.csv", "grid.csv"):
        for row in rows(name):
            assert date.fromisoformat(row["as_of"]) <= date(2100, 1, 1)
            assert row["source"].strip()


def test_blank_is_not_known_and_never_zero() -> None:
    for one in devices().values():
        for value in (
            one.mem_bytes,
            one.mem_bw_bytes_s,
            one.bf16_flops,
            one.fp8_flops,
            one.price_usd,
            one.tdp_w,
        ):
            assert value is None or value > 0
    assert find_device("h20-141").mem_bw_bytes_s is None
    assert find_device("drive-agx-thor").mem_bytes is None
    assert isinstance(find_device("h100").owner_usd_h, Decimal)
    for country in grid().values():
        assert country.carbon_g_kwh is None or country.carbon_g_kwh >= 0


def test_jurisdictions_are_countries_or_not_known() -> None:
    for one in (*devices().values(), *models().values()):
        assert one.maker_jurisdiction in COUNTRIES | {""}
        assert one.maker_jurisdiction or one.id == "cpu"


def test_the_tiers_that_had_no_device_have_one() -> None:
    for tier in (
        "controller",
        "phone",
        "vehicle",
        "telco",
        "iot",
        "edge",
        "laptop",
        "desktop",
        "server",
        "rack",
    ):
        assert any(one.tier == tier for one in devices().values()), tier
    makers = {one.maker_jurisdiction for one in devices().values()}
    assert {"CN", "US", "KR", "NL", "FR", "IL", "TW", "GB"} <= makers
    assert {"FR", "AE", "PT", "CH", "IN", "KR", "JP", "ES"} <= {
        m.maker_jurisdiction for m in models().values()
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("h100_sxm", "h100-sxm"),
        ("H100", "h100-sxm"),
        ("b200_sxm", "b200-sxm"),
        ("GB200", "gb200-nvl72"),
        ("rtx-a4000 (CM5 host)", "rtx-a4000"),
        ("GeForce RTX 4090", "rtx-4090"),
        ("dgx spark", "gb10"),
        ("cpu:AmpereOne A192-32X", "ampereone-a192"),
    ],
)
def test_devices_in_usual_spellings(name: str, expected: str) -> None:
    assert find_device(name).id == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Llama-3.1-70B", "meta-llama/Meta-Llama-3.1-70B"),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Meta-Llama-3.1-8B"),
        ("zhipuai/GLM-5", "zai-org/GLM-5"),
        ("Qwen/Qwen3-235B-A22B-FP8", "Qwen/Qwen3-235B-A22B"),
        ("Qwen2.5-14B (R1 distill)", "Qwen/Qwen2.5-14B"),
        ("gpt-oss-120b", "openai/gpt-oss-120b"),
        ("Mistral-Small-24B", "mistralai/Mistral-Small-24B-Instruct-2501"),
        ("google/gemma-3-27b-it", "google/gemma-3-27b-it"),
    ],
)
def test_models_in_usual_spellings(name: str, expected: str) -> None:
    assert find_model(name).id == expected


def test_an_unknown_name_tells_the_nearest_and_what_to_pass() -> None:
    with pytest.raises(Invalid) as device:
        find_device("h101-sxm")
    assert "h100-sxm" in device.value.why
    assert "--device-facts" in device.value.remedy
    with pytest.raises(Invalid) as model:
        find_model("Llama-9-70B")
    assert "lama-3" in model.value.why
    assert "--model-config" in model.value.remedy
    with pytest.raises(Invalid) as many:
        find_model("qwen3.5")
    assert "Qwen3.5-27B" in many.value.why


@given(st.text(max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_name_is_found_or_invalid(name: str) -> None:
    for find in (find_device, find_model):
        with contextlib.suppress(Invalid):
            assert find(name).id


def test_a_device_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('name = "Box"\nvendor = "Us"\nmem_gb = 48\nmem_bw_gbs = 900.5\nunified = true\n')
    one = find_device("box", file)
    assert (one.id, one.mem_bytes, one.mem_bw_bytes_s, one.unified) == ("box", 48 << 30, 900.5e9, True)
    assert "own.toml" in one.source


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mem_gb = -1",
        "mem_gb = 0",
        'mem_gb = "much"',
        "mem_gb = true",
        "mem_gb = nan",
        "mem_gb = inf",
        "mem_gb = 1e30",
        "mem_gb = 8\nmemory = 9",
        "mem_gb = 8\nname = 3",
        "mem_gb = [8]",
        "mem_gb = ",
        "mem_gb = 8\nprice_usd = -5",
    ],
)
def test_a_wrong_device_of_ones_own_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(Invalid):
        find_device("box", file)
    with pytest.raises(Invalid):
        find_device("box", tmp_path / "absent.toml")


def test_tables_are_plain_csv() -> None:
    import importlib.resources

    folder = importlib.resources.files("allod.planner").joinpath("data")
    for name in ("devices.csv", "models.csv", "grid.csv"):
        table: list[Any] = list(csv.reader(folder.joinpath(name).read_text("utf-8").splitlines()))
        assert len({len(row) for row in table}) == 1
        assert len({row[0] for row in table}) == len(table)
