"""Facts for plans by signed bundle and by file, as people type it: who vouches, what is newer or broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from supply_world import NOW_MS, Publisher, Site, catalogue, pieces

from allod.domain.errors import AllodError, Integrity, Unavailable
from allod.gateway import bundling, supply
from allod.gateway.cli.plan import command
from allod.planner.catalogue import current, shipped
from allod.vault.bundle import switch

DAY_MS = 86_400_000
LATER = NOW_MS + 30 * DAY_MS
CONFIG = {
    "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 16,
    "num_key_value_heads": 4, "intermediate_size": 8192, "vocab_size": 64000,
    "max_position_embeddings": 32768,
}  # fmt: skip
SOURCE = {"as_of": "2026-12-20", "source": "the maker's page of December"}
DEVICES = {
    "h100-sxm": {"name": "H100 SXM5 80GB", "vendor": "NVIDIA", "maker_jurisdiction": "US",
                 "device_class": "datacentre", "tier": "server", "mem_gb": 72, "mem_bw_gbs": 3000,
                 "bf16_dense_tflops": 989, "tdp_w": 700, **SOURCE},
    "a100-pcie-80": {"name": "A100 PCIe 80GB", "vendor": "NVIDIA", "device_class": "datacentre",
                     "tier": "server", "mem_gb": 1, "as_of": "2026-01-02", "source": "an old page"},
    "box-9": {"name": "Box Nine", "vendor": "Us", "maker_jurisdiction": "DE", "device_class": "datacentre",
              "tier": "server", "mem_gb": 128, "mem_bw_gbs": 2000, "bf16_dense_tflops": 500, **SOURCE},
}  # fmt: skip
POINT = {"hardware": "box-9", "model": "us/small-2b", "quant": "fp8", "engine": "vllm 0.19", "isl": 1024}
POINT |= {"osl": 256, "metric": "tpot_ms", "value": 4.5, **SOURCE}


def facts(**more: Any) -> bytes:
    body = {
        "format": "allod-catalogue-1", "as_of": "2026-12-20", "source": "our lab", "licence": "ours",
        "models": {"us/small-2b": {"title": "Small", "facts": {
            "maker": "Us", "maker_jurisdiction": "DE", "licence": "Apache-2.0", "released": "2026-12",
            "config": CONFIG, **SOURCE}}},
        "devices": DEVICES,
        "grids": {"DEU": {"country": "Germany", "carbon_gco2_kwh": 123, **SOURCE}},
        "points": [POINT],
    }  # fmt: skip
    return json.dumps(body | more).encode()


def item(raw: bytes, name: str = "facts") -> pieces.Content:
    return pieces.text("catalogue", name, "2026.12.20", raw)


def bring(site: Site, bundle: Path, now_ms: int = LATER) -> Any:
    return supply.bring(site.home, bundle, now_ms=now_ms, version="0.1.0")


def typed(home: Path, *words: object) -> Any:
    done = CliRunner().invoke(command, [*map(str, words), "--json"], env={"ALLOD_HOME": str(home)})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def said(home: Path, *words: object) -> str:
    done = CliRunner().invoke(command, list(map(str, words)), env={"ALLOD_HOME": str(home), "COLUMNS": "120"})
    assert done.exception is None, done.exception
    return " ".join(done.stdout.split())


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher(tmp_path_factory.mktemp("publisher"))


@pytest.fixture(scope="module")
def site(publisher: Publisher, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A home that took the facts by bundle, and something else by the next one."""
    made = Site(tmp_path_factory.mktemp("site"), publisher)
    done, _ = bring(made, publisher.bundle(item(facts()), now_ms=LATER - DAY_MS))
    assert any(
        one.name == "facts of facts" and "3 devices, 1 models" in one.detail for one in done.generation.steps
    )
    bring(
        made,
        publisher.bundle(pieces.text("prices", "list", "1", _prices()), now_ms=LATER - 1000),
        LATER + 1000,
    )
    return made


def _prices() -> bytes:
    from supply_world import prices

    return prices("3")


def test_a_command_says_which_catalogue_it_used_without_a_home(tmp_path: Path) -> None:
    none = tmp_path / "none"
    (own,) = shipped().layers
    for words in (
        ("fit", "Qwen3-8B", "--on", "h100"),
        ("speed", "Qwen3-8B", "--on", "h100"),
        ("tiers", "--tier", "edge"),
    ):
        found = typed(none, *words)["catalogue"]
        assert (found["digest"], found["as_of"], found["vouched"]) == (
            own.digest,
            own.as_of.isoformat(),
            "shipped",
        )
        assert {one["vouched"] for one in found["rows"]} == {"shipped"}
        assert found["rows"]
        assert f"catalogue {own.as_of}, {own.digest[:19]}..., shipped" in said(none, *words)
    assert not none.exists()


def test_rows_of_a_bundle_lie_over_the_shipped_ones_with_day_source_and_signer(site: Site) -> None:
    found = typed(site.root, "fit", "us/small-2b", "--on", "h100", "--quant", "bf16")
    assert found["answers"][0]["per_device"]["have_bytes"] < 73 << 30
    told = found["catalogue"]
    rows = {(one["kind"], one["id"]): one for one in told["rows"]}
    assert set(rows) == {("model", "us/small-2b"), ("device", "h100-sxm")}
    for one in rows.values():
        assert (one["as_of"], one["source"]) == ("2026-12-20", SOURCE["source"])
        assert one["vouched"].startswith("imported by bundle at 2026-12-25")
        assert "signed by " in one["vouched"]
        assert one["digest"] == next(
            x.files[0].digest for x in site.supply.serving().items if x.kind == "catalogue"
        )  # type: ignore[union-attr]
    assert [one["vouched"].split()[0] for one in told["layers"]] == ["imported", "shipped"]
    # the signer is whoever signed the bundle it came with, not the newest one
    first = next(one for one in switch.history(site.supply, site.supply.serving()) if one.serial == 1)
    assert f"signed by {', '.join(first.signers)}" in rows["device", "h100-sxm"]["vouched"]
    text = said(site.root, "fit", "us/small-2b", "--on", "h100", "--quant", "bf16")
    assert f"device h100-sxm of 2026-12-20: {SOURCE['source']}; imported by bundle" in text


def test_an_older_row_is_not_used_and_that_is_said(site: Site) -> None:
    found = typed(site.root, "fit", "Qwen3-8B", "--on", "a100-pcie-80")
    assert found["answers"][0]["per_device"]["have_bytes"] > 70 << 30
    (late,) = found["catalogue"]["not_used"]
    assert (late["kind"], late["id"], late["as_of"]) == ("device", "a100-pcie-80", "2026-01-02")
    assert (late["instead"], late["instead_vouched"]) == ("2026-11-26", "shipped")
    assert {one["vouched"] for one in found["catalogue"]["rows"]} == {"shipped"}
    assert "older and not used: device a100-pcie-80 of 2026-01-02" in said(
        site.root, "fit", "Qwen3-8B", "--on", "a100-pcie-80"
    )


def test_every_command_that_looks_something_up_knows_the_brought_rows(site: Site, tmp_path: Path) -> None:
    everywhere = typed(site.root, "fit", "us/small-2b", "--quant", "bf16")
    assert "box-9" in {one["device"] for one in everywhere["answers"]}
    assert "box-9" in said(site.root, "fit", "us/small-2b", "--quant", "bf16")
    speed = typed(site.root, "speed", "us/small-2b", "--on", "box-9", "--engine", "vllm", "--quant", "fp8")
    assert speed["anchors"] == 1
    assert typed(site.root, "speed", "us/small-2b", "--on", "box-9", "--uncalibrated")["anchors"] == 0
    cost = typed(
        site.root, "cost", "us/small-2b", "--on", "box-9", "--country", "DEU", "--draws", 500,
        "--tasks-month", 1000,
    )  # fmt: skip
    grid = next(one for one in cost["catalogue"]["rows"] if one["kind"] == "grid")
    assert (grid["as_of"], "signed by" in grid["vouched"]) == ("2026-12-20", True)
    carbon = next(one for one in cost["inputs"] if one["key"] == "site.carbon_g_kwh")
    assert float(carbon["value"]) == 123
    trace = typed(site.root, "size", "us/small-2b", "--on", "box-9", "--rate", "0.5", "--hours", "0.02")
    assert {one["id"] for one in trace["catalogue"]["rows"]} == {"box-9", "us/small-2b"}


def test_facts_go_back_with_a_rollback(publisher: Publisher, tmp_path: Path) -> None:
    site = Site(tmp_path / "site", publisher)
    bring(site, publisher.bundle(item(catalogue()), now_ms=LATER - 2 * DAY_MS))
    assert len(typed(site.root, "fit", "Qwen3-8B", "--on", "h100")["catalogue"]["layers"]) == 1
    bring(site, publisher.bundle(item(facts()), now_ms=LATER - DAY_MS), LATER + 1)
    assert len(typed(site.root, "fit", "Qwen3-8B", "--on", "h100")["catalogue"]["layers"]) == 2
    supply.go_back(site.home, LATER + 2)
    assert len(typed(site.root, "fit", "Qwen3-8B", "--on", "h100")["catalogue"]["layers"]) == 1


def test_a_file_lies_over_what_a_bundle_brought_and_is_signed_by_nobody(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "ours.json"
    past = {"as_of": "2025-06-01", "mem_gb": 64}
    rows = {"box-7": DEVICES["box-9"] | past | {"name": "Box Seven"}, "box-9": DEVICES["box-9"] | past}
    file.write_bytes(facts(as_of="2025-06-01", devices=rows, models={}, grids={}, points=[]))
    found = typed(site.root, "--catalogue", file, "fit", "Qwen3-8B", "--on", "box-7")
    row = next(one for one in found["catalogue"]["rows"] if one["kind"] == "device")
    assert row["vouched"] == "file ours.json, signed by nobody"
    assert found["answers"][0]["per_device"]["have_bytes"] < 65 << 30
    late = next(one for one in found["catalogue"]["not_used"] if one["id"] == "box-9")
    assert (late["as_of"], late["instead"]) == ("2025-06-01", "2026-12-20")
    own = tmp_path / "box.toml"
    own.write_text("mem_gb = 48\nmem_bw_gbs = 900\n")
    found = typed(site.root, "fit", "Qwen3-8B", "--on", "h100", "--device-facts", own)
    row = next(one for one in found["catalogue"]["rows"] if one["kind"] == "device")
    assert (row["digest"], row["vouched"]) == (None, "handed over with the command, signed by nobody")
    with pytest.raises(Unavailable):
        typed(site.root, "--catalogue", tmp_path / "absent", "fit", "Qwen3-8B", "--on", "h100")
    file.write_bytes(facts()[:-3])
    with pytest.raises(Integrity):
        typed(site.root, "--catalogue", file, "fit", "Qwen3-8B", "--on", "h100")


def test_an_altered_file_of_the_supply_is_an_integrity_error(
    site: Site, publisher: Publisher, tmp_path: Path
) -> None:
    broken = Site.copied(site, tmp_path / "broken")
    held = next(one for one in broken.supply.serving().items if one.kind == "catalogue")  # type: ignore[union-attr]
    path = broken.supply.object_path(held.files[0].digest)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"mem_gb": 72', b'"mem_gb": 99'))
    for words in (("fit", "Qwen3-8B", "--on", "h100"), ("speed", "Qwen3-8B", "--on", "h100"), ("tiers",)):
        with pytest.raises(Integrity):
            typed(broken.root, *words)
    done = subprocess.run(
        [sys.executable, "-m", "allod", "plan", "fit", "Qwen3-8B", "--on", "h100"],
        env={**os.environ, "ALLOD_HOME": str(broken.root)}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    path.unlink()
    with pytest.raises(Integrity):
        typed(broken.root, "tiers", "--tier", "edge")


def test_a_bundle_whose_facts_describe_nothing_changes_nothing(
    site: Site, publisher: Publisher, tmp_path: Path
) -> None:
    fresh = Site.copied(site, tmp_path / "fresh")
    before = fresh.sees()
    for raw in (
        facts(devices={"box-9": DEVICES["box-9"] | {"mem_gb": -1}}),
        facts(
            models={"us/x": {"facts": {"maker": "Us", "config": CONFIG | {"num_hidden_layers": 0}, **SOURCE}}}
        ),
        facts(models={"us/x": {"facts": {"maker": "Us", "config_id": "us/none", **SOURCE}}}),
        facts(devices={"box-9": DEVICES["box-9"] | {"as_of": "2027-02-01"}}),
    ):
        with pytest.raises(Integrity):
            bring(fresh, publisher.bundle(item(raw), now_ms=LATER - 500), LATER + 5000)
        assert fresh.sees() == before
    assert typed(fresh.root, "fit", "us/small-2b", "--on", "box-9")["answers"][0]["fits"]


def test_a_publisher_cannot_make_a_bundle_of_facts_that_describe_nothing(
    publisher: Publisher, tmp_path: Path
) -> None:
    file = tmp_path / "catalogue.json"
    file.write_bytes(facts())
    wanted = bundling.Wanted(catalogue=file)
    (made,) = bundling.gather(publisher.home, publisher.vault, wanted, now_ms=LATER)
    assert (made.kind, made.version) == ("catalogue", "2026-12-20")
    for raw in (
        facts(models={"us/x": {"facts": {"maker": "Us", "config": {"hidden_size": 1}, **SOURCE}}}),
        facts(devices={"box-9": DEVICES["box-9"] | {"tdp_w": 0}}),
    ):
        file.write_bytes(raw)
        with pytest.raises(Integrity):
            bundling.gather(publisher.home, publisher.vault, wanted, now_ms=LATER)


def test_a_title_is_there_for_callers_as_before(site: Site, publisher: Publisher, tmp_path: Path) -> None:
    found = supply.supplied(site.home)
    assert found.catalogue["us/small-2b"].title == "Small"
    held = supply.supplied(Site(tmp_path / "fresh", publisher).home)
    assert (held.catalogue, held.facts) == ({}, ())


def test_an_air_gapped_home_plans_with_what_its_bundle_brought(site: Site, tmp_path: Path) -> None:
    sealed = Site.copied(site, tmp_path / "sealed")
    (sealed.root / "allod.toml").write_text(
        '[tenant]\nid = "t"\nhome = "DE"\nair_gapped = true\n[[app]]\nid = "default"\n'
    )
    done = CliRunner().invoke(
        command, ["fit", "us/small-2b", "--on", "box-9", "--json"], env={"ALLOD_HOME": str(sealed.root)}
    )
    assert done.exit_code == 0, done.output
    child = subprocess.run(
        [sys.executable, "-m", "allod", "plan", "fit", "us/small-2b", "--on", "box-9", "--json"],
        env={**os.environ, "ALLOD_HOME": str(sealed.root)}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout)["catalogue"]["layers"][0]["vouched"].startswith("imported by bundle")


def test_a_command_leaves_no_catalogue_behind(site: Site) -> None:
    typed(site.root, "fit", "us/small-2b", "--on", "box-9")
    assert current() is shipped()
    with pytest.raises(AllodError):
        typed(Path("/nonexistent"), "fit", "us/small-2b", "--on", "box-9")
    assert current() is shipped()
