"""``allod plan cost`` as it is typed: answers, pictures, files of assumptions, and nonsense refused."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.gateway.cli.plan_cost import COMMAND
from allod.planner.money import inputs
from allod.planner.prices import shipped_book

DAY = date(2026, 11, 25)
BOOK = shipped_book()


def test_the_shipped_assumptions_are_a_file_that_can_be_handed_in(tmp_path: Path) -> None:
    shown = CliRunner().invoke(COMMAND, ["--print-assumptions"])
    assert shown.exit_code == 0
    # as printed it says nothing, and so stands in nobody's way
    assert inputs.from_toml(shown.output.encode(), "printed", DAY) == []
    changed = shown.output.replace("pue = { value = 1.4,", "pue = { value = 1.3,")
    assert [one.key for one in inputs.from_toml(changed.encode(), "printed", DAY)] == ["site.pue"]
    for one in inputs.shipped().by_key.values():
        assert inputs.made(one.key, one.value, low=one.low, high=one.high, as_of=DAY)
    file = tmp_path / "ours.toml"
    file.write_text(changed)
    found = typed(tmp_path, *BASE, "--assumptions", str(file), "--tasks-month", "1000")
    pue = next(one for one in found["inputs"] if one["key"] == "site.pue")
    assert (pue["value"], pue["assumed"]) == ("1.3", False)


def typed(tmp_path: Path, *words: str) -> Any:
    done = CliRunner().invoke(COMMAND, [*words, "--json"], env={"ALLOD_HOME": str(tmp_path / "none")})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return json.loads(done.stdout)


MODEL = "deepseek-ai/DeepSeek-V4-Pro"
BASE = (
    "deepseek-ai/DeepSeek-V4-Pro",
    "--on",
    "h200-sxm",
    "--tokens-per-second",
    "900..1500",
    "--draws",
    "1000",
)


def test_the_command_answers_and_draws(tmp_path: Path) -> None:
    svg, html = tmp_path / "one.svg", tmp_path / "all.html"
    found = typed(tmp_path, *BASE, "--country", "Germany", "--svg", str(svg), "--html", str(html),
                  "--picture", "volume")  # fmt: skip
    assert [one["side"] for one in found["ways"]] == ["frontier", "open", "rented", "own"]
    assert found["books"][0]["digest"] == BOOK.digest
    assert found["books"][0]["vouched"] == "shipped with the program"
    assert found["hosts"][0]["entry"]
    assert found["footprint"]["carbon_kg"]
    assert found == typed(tmp_path, *BASE, "--country", "DEU")
    assert found != typed(tmp_path, *BASE, "--country", "DEU", "--seed", "2")
    assert "What a month costs by volume" in svg.read_text()
    page = html.read_text()
    assert BOOK.digest[:19] in page
    assert "assumption" in page


def test_the_command_for_a_person(tmp_path: Path) -> None:
    done = CliRunner().invoke(COMMAND, list(BASE), env={"ALLOD_HOME": str(tmp_path)})
    assert done.exception is None, done.exception
    for said in ("USD/task", "80 %", "breaks even", "inputs are assumptions", "seed", BOOK.digest[:19]):
        assert said in done.stdout, said


@pytest.mark.parametrize(
    "words",
    [
        ("--on", "h200sxx"), ("--country", "Atlantis"), ("--day", "yesterday"), ("--day", "1999-01-01"),
        ("--load-curve", "1,2"), ("--load-curve", "a"), ("--tokens-per-second", "-5"),
        ("--tokens-per-second", "NaN"),
        ("--tariff", "0.1", "--colocation", "200"), ("--tariff", "0.1", "--set", "site.tariff_usd_kwh=0.2"),
        ("--price-book", __file__), ("--open-api", "deepseek/nothing"),
    ],
)  # fmt: skip
def test_the_command_refuses_nonsense(tmp_path: Path, words: tuple[str, ...]) -> None:
    with pytest.raises((Invalid, Integrity)):
        typed(tmp_path, "deepseek-ai/DeepSeek-V4-Pro", "--utilisation", "0.3", "--draws", "500", *words)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        typed(tmp_path, *BASE, "--assumptions", str(tmp_path / "none.toml"))


def test_the_speed_is_estimated_where_the_model_fits_and_refused_where_it_does_not(tmp_path: Path) -> None:
    words = ("--devices", "2", "--input-tokens", "3000", "--output-tokens", "1000", "--draws", "500")
    found = typed(tmp_path, "openai/gpt-oss-120b", "--on", "h100-sxm", *words)
    speed = next(one for one in found["inputs"] if one["key"] == "own.tokens_s")
    assert float(speed["low"]) < float(speed["value"]) < float(speed["high"])
    assert speed["source"] != "said with the command"
    assert found["ways"][3]["parts"]["capital"] > 0
    small = typed(tmp_path, MODEL, "--on", "h20-96", "--tasks-month", "1000", "--draws", "500")
    for way in small["ways"][2:]:
        assert "does not run on 8 x h20-96" in way["unknown"]
        assert way["task_usd"] is None
    with pytest.raises(Invalid, match="how much work") as told:
        typed(tmp_path, MODEL, "--on", "h20-96", "--draws", "500")
    assert "does not run" in told.value.why
    with pytest.raises(Invalid, match="how much work"):
        typed(tmp_path, MODEL, "--draws", "500")
