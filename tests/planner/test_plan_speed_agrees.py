"""``allod plan speed`` and ``calibrate`` say what ``fit`` says, refuse what it refuses, write as it does."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from allod.domain.errors import AllodError, Invalid, Refused, Unavailable
from allod.domain.jurisdiction import ALPHA3, COUNTRIES
from allod.gateway.cli.plan import command
from allod.gateway.cli.plan_money import country
from allod.planner.catalogue import find_device, find_model, grid
from allod.planner.memory import held
from allod.planner.speed.points import points
from allod.planner.speed.speeds import estimate_speed

EIGHT = ("--on", "h200-sxm", "--devices", "8")
QUICK = ("llama-3.1-8b", "--on", "h100-sxm")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLOD_HOME", str(tmp_path / "home"))
    return tmp_path


def run(*words: object, given: str = "") -> Result:
    return CliRunner().invoke(command, [str(one) for one in words], input=given)


def said(*words: object) -> str:
    result = run(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def answer(*words: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(*words, "--json"))
    return found


def refused(kind: type[AllodError], *words: object) -> AllodError:
    error = run(*words).exception
    assert isinstance(error, kind), error
    return error


@pytest.mark.parametrize("model", ["DeepSeek-V4-Pro", "gpt-oss-120b", "deepseek-r1", "llama-3.1-8b"])
def test_the_precision_is_the_published_one_as_fit_takes_it(model: str) -> None:
    speed, fit = answer("speed", model, *EIGHT), answer("fit", model, *EIGHT)
    assert speed["quant"] == fit["question"]["quant"]
    assert fit["answers"][0]["fits"]


def test_llama_cpp_still_serves_four_bits_and_what_is_said_counts() -> None:
    assert answer("speed", "llama-3.1-8b", "--on", "rtx-4090")["quant"] == "q4_k_m"
    assert answer("speed", *QUICK, "--quant", "fp8")["quant"] == "fp8"


def test_sequences_held_at_once_are_those_of_fit() -> None:
    device, model = find_device("rtx-4090"), find_model("llama-3.1-8b")
    room = held(device, 1, model, "bf16", "vllm", 2048).sequences
    assert room is not None
    assert 1 < room < 64
    found = estimate_speed(device, 1, model, "bf16", "vllm", 64, 1024, 1024)
    (note,) = [one for one in found.notes if "at once" in one]
    assert re.search(rf"\b{room} of 64 sequences", note)
    fit = said("fit", "llama-3.1-8b", "--on", "rtx-4090", "--engine", "vllm", "--context", "2048")
    assert re.search(rf"sequences of this length: +{room}\b", fit)
    # of so many more none works at once: the others only wait
    more = estimate_speed(device, 1, model, "bf16", "vllm", 10 * room, 1024, 1024)
    assert more.out_tok_s.value <= 1e3 * room / more.tpot_ms.value * 1.001


@pytest.mark.parametrize("verb", ["speed", "calibrate", "fit"])
def test_an_engine_nobody_knows_is_refused(verb: str) -> None:
    more = ("--tpot-ms", "9") if verb == "calibrate" else ()
    assert "no engine 'foo'" in refused(Invalid, verb, *QUICK, "--engine", "foo", *more).what


def test_where_fit_holds_more_than_the_step_is_of_both_are_told() -> None:
    device, model = find_device("h200-sxm"), find_model("deepseek-r1")
    room = held(device, 8, model, "fp8", "sglang", 9216).sequences
    found = estimate_speed(device, 8, model, "fp8", "sglang", 256, 8192, 1024, check_memory=False)
    assert any("the speed is of about" in one and f"memory holds {room} " in one for one in found.notes)


# -- what is written


def test_pictures_are_written_whole_through_links_and_into_pipes(tmp_path: Path) -> None:
    pipe, link, real = tmp_path / "pipe", tmp_path / "link", tmp_path / "real"
    real.write_text("old")
    link.symlink_to(real)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        said("speed", *QUICK, "--svg", pipe, "--html", link)
        assert os.read(reader, 4) == b"<svg"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert link.is_symlink()
    assert "</html>" in real.read_text()
    said("speed", *QUICK, "--svg", tmp_path / "new" / "a.svg")
    assert (tmp_path / "new" / "a.svg").read_text().startswith("<svg")


def test_what_cannot_be_written_is_told_by_its_name(tmp_path: Path) -> None:
    for target in (tmp_path, Path("/dev/full")):
        for option in ("--svg", "--html"):
            assert str(target) in refused(Unavailable, "speed", *QUICK, option, target).what


def test_charts_over_all_loads_are_not_captioned_with_one(tmp_path: Path) -> None:
    said("speed", *QUICK, "--html", tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    swept = [one for one in charts if "streams at once" in one]
    assert 0 < len(swept) < len(charts)
    assert any("; 1 at once" in one for one in charts)
    for chart in swept:
        assert "1 to 512 at once" in chart
        assert "; 1 at once" not in chart


def test_a_source_says_which_points_and_of_how_many() -> None:
    found = answer("speed", *QUICK)
    assert "fitted on 225 times per output token in serving, among 615" in found["tpot_ms"]["source"]
    assert "fitted on 225 times to the first token, among 615" in found["ttft_ms"]["source"]
    assert "serving and 225 times to the first token, among 615" in found["out_tok_s"]["source"]
    local = answer("speed", "llama-3.1-8b", "--on", "rtx-4090")
    assert "73 times per output token of one stream" in local["tpot_ms"]["source"]
    assert "48 times to read a prompt" in local["ttft_ms"]["source"]
    docs = (Path(__file__).parents[2] / "docs/planner.md").read_text()
    assert f"{len(points())} public rows" in " ".join(docs.split())
    assert "571 are times" in " ".join(docs.split())


# -- what is asked


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://8.8.8.8/v1", Refused),
        ("file:///etc/passwd", Invalid),
        ("http://[::1/v1", Invalid),
        ("ftp://127.0.0.1/v1", Invalid),
    ],
)
def test_an_address_is_refused_before_anybody_is_asked(url: str, kind: type) -> None:
    result = run("calibrate", *QUICK, "--base-url", url, given="y\n")
    assert isinstance(result.exception, kind), result.exception
    assert "Send them?" not in result.output
    assert "sends:" not in result.output


def test_an_empty_key_is_told_before_anybody_is_asked() -> None:
    words = ("--base-url", "http://127.0.0.1:9/v1", "--key-env", "NO_SUCH_KEY")
    result = run("calibrate", *QUICK, *words, given="y\n")
    assert isinstance(result.exception, Invalid)
    assert "Send them?" not in result.output


def test_facts_of_a_file_under_a_name_of_the_catalogue_are_told(tmp_path: Path) -> None:
    facts = tmp_path / "mine.toml"
    facts.write_text("mem_gb = 100\nmem_bw_gbs = 3000\n")
    more = ("--device-facts", facts)
    note = "h100-sxm: the facts are those of mine.toml, none are the catalogue's"
    assert note in answer("speed", *QUICK, *more)["notes"]
    assert note in " ".join(said("speed", *QUICK, *more).split())
    assert note in " ".join(said("calibrate", *QUICK, *more, "--tpot-ms", "9").split())
    assert answer("calibrate", *QUICK, *more, "--tpot-ms", "9")["notes"] == [note]
    other = " ".join(said("fit", *QUICK, *more).split())
    assert "in place of the catalogue's" in other
    alone = ("llama-3.1-8b", "--device-facts", facts)
    assert "catalogue's" not in said("speed", *alone)
    assert "none are" not in said("speed", *QUICK)


# -- countries


def test_every_country_has_three_letters_and_every_grid_a_country() -> None:
    assert set(ALPHA3) == COUNTRIES
    assert len(set(ALPHA3.values())) == len(COUNTRIES)
    assert {"CHE", "DEU", "HRV", "ISL", "MAC", "PRT", "SVK", "SVN", "SWE"} <= set(ALPHA3.values())
    assert set(grid()) <= set(ALPHA3.values())


def test_a_country_may_be_written_in_two_letters_three_or_by_name() -> None:
    for text in ("DE", "de", "DEU", "deu", "Germany", " germany "):
        row = country(text)
        assert row is not None
        assert row.iso3 == "DEU"
    with pytest.raises(Invalid) as found:
        country("UK")
    assert "GBR" in found.value.why + found.value.remedy
    with pytest.raises(Invalid) as found:
        country("VA")  # a country, of whose grid nothing is known
    assert "VAT" in found.value.what


@pytest.mark.parametrize("text", ["CN", "cn", "CHN", "China"])
def test_a_ban_is_written_as_a_country_is(text: str) -> None:
    assert answer("tiers", "--tier", "iot", "--ban", text)["banned"] == ["CN"]
    assert answer("tiers", "--tier", "iot", "--clean-of", text)["avoid"] == ["CN"]


def test_a_ban_of_nothing_names_the_nearest() -> None:
    error = refused(Invalid, "tiers", "--tier", "iot", "--ban", "Chna")
    assert "China" in error.why
    assert "'Chna'" in error.what
    error = refused(Invalid, "tiers", "--tier", "iot", "--ban", "UK")
    assert "GB" in error.why + error.remedy
