"""``allod plan place`` and ``size`` as users have them: law under its own ids, clear errors, pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from allod.gateway.cli.plan import command

EXAMPLE = Path(__file__).parents[2] / "examples" / "placement"
CONFIG = str(EXAMPLE / "allod.toml")
SPEEDS = {
    "small": "tokens_s = { l40s = 900, h100-sxm = 3500, h200-sxm = 4200 }",
    "large": "tokens_s = { l40s = 400, h100-sxm = 1600, h200-sxm = 2300 }",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLOD_HOME", str(tmp_path / "home"))
    return tmp_path


def sheet(home: Path, **change: str) -> Path:
    """Write the example with measured speeds, so that only law and solver are looked at."""
    text = (EXAMPLE / "bank.toml").read_text()
    for name, speeds in SPEEDS.items():
        text = text.replace(f'id = "{name}"', f'id = "{name}"\n{speeds}')
    for old, new in change.items():
        text = text.replace(old, new)
    path = home / "place.toml"
    path.write_text(text)
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in words])


def placed(home: Path, *words: str, **change: str) -> dict:
    result = run("place", sheet(home, **change), "--config", CONFIG, "--json", *words)
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("solver", ["greedy", "auto"])
def test_what_may_not_be_is_barred_by_the_rules_of_the_gateway(home: Path, solver: str) -> None:
    found = placed(home, "--solver", solver)
    rules = {
        (one["traffic"], one["site"], one["model"]): {r["id"] for r in one["rules"]}
        for one in found["barred"]
    }
    assert rules["letters", "frankfurt-region", "gpt-5.5"] == {"residency.4-audit", "residency.5-operator"}
    assert rules["credit memos", "hamburg", "small"] == {"quality.floor"}
    assert ("press", "frankfurt-region", "gpt-5.5") not in rules
    for world in found["worlds"]:
        for flow in world["flows"]:
            assert (flow["traffic"], flow["site"], flow["model"]) not in rules
    detail = next(one for one in found["barred"] if one["site"] == "frankfurt-region")["rules"][0]
    assert detail["got"]
    assert detail["required"]
    assert detail["remedy"]


def test_what_must_survive_does_and_what_cannot_is_said(home: Path) -> None:
    found = placed(home)
    served = {one["name"]: one["served"] for one in found["worlds"]}
    # only the large model is good enough for credit memos, and its maker is gone
    assert served == {
        "everyday": True,
        "hamburg dark": True,
        "no US operator": True,
        "no Meta model": False,
        "a busy day": True,
    }
    assert run("place", sheet(home), "--config", CONFIG).exit_code == 1
    dark = next(one for one in found["worlds"] if one["name"] == "hamburg dark")
    assert {one["site"] for one in dark["flows"]}.isdisjoint({"hamburg"})
    lost = next(one for one in found["worlds"] if one["name"] == "no Meta model")
    assert set(lost["missing_tokens_s"]) == {"credit memos"}


def test_it_says_why_and_draws(home: Path) -> None:
    svg, html = home / "out" / "p.svg", home / "p.html"
    words = (
        "--config",
        CONFIG,
        "--why",
        "desk",
        "--svg",
        str(svg),
        "--html",
        str(html),
        "--solver",
        "greedy",
    )
    result = run("place", sheet(home), *words)
    assert "why not elsewhere, for desk" in result.output
    assert "residency.5-operator" in result.output
    assert svg.read_text().startswith("<svg")
    assert "residency.5-operator" in html.read_text()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("most = 16", "mots = 16", "most"),
        ('site = "kiel"', 'site = "keil"', "keil"),
        ('device = "h100-sxm"', 'device = "h100-smx"', "h100"),
        ('task = "credit-memo"', 'task = "credit-mem"', "credit-mem"),
        ("requests_s = 4", "requests_s = -4", "requests_s"),
        ("tokens_s = 400", "tokens_s = 400\nrequests_s = 1", "tokens_s"),
        ('operator = "nord-cloud"', 'operator = "nrod-cloud"', "nrod-cloud"),
        ('deployments = ["nord-mistral"', 'deployments = ["nord-mistrl"', "nord-mistrl"),
        ("demand = 1.5", "demand = 0", "demand"),
        ('processing = "FI"', 'processing = "Finland"', "Finland"),
        ('name = "a busy day"', 'name = "hamburg dark"', "hamburg dark"),
    ],
)
def test_a_sheet_that_is_wrong_is_refused_by_name(home: Path, old: str, new: str, told: str) -> None:
    result = run("place", sheet(home, **{old: new}), "--config", CONFIG)
    assert result.exit_code not in (0, 1) or result.exception is not None
    assert told in f"{result.output}{result.exception}{getattr(result.exception, 'why', '')}"


def test_a_device_whose_price_nobody_knows_is_asked_for(home: Path) -> None:
    result = run("place", sheet(home, **{"usd_month = 420": "", "usd_month = 450": ""}), "--config", CONFIG)
    assert "usd_month" in getattr(result.exception, "remedy", "")


def test_size_by_a_measured_pace(home: Path) -> None:
    words = ("--rate", 3, "--peak", 6, "--pace", "1:8,8:10,32:16,64:26", "--prompt-tokens-per-second", 20000)
    result = run("size", *words, "--json", "--svg", home / "s.svg", "--html", home / "s.html")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    one = found["sized"]["measured"]
    assert one["replicas"] >= one["floor"]
    assert one["slots"] == 44
    assert found["shape"]["rate_s"] == pytest.approx(3, rel=0.15)
    assert (home / "s.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    "words",
    [
        ("--rate", "3"),
        ("--pace", "1:8"),
        ("--rate", "3", "--from-log"),
        ("--rate", "3", "--pace", "8"),
        ("--rate", "3", "--pace", "1:8"),
        ("--rate", "3", "--pace", "1:800", "--prompt-tokens-per-second", "10"),
        ("--rate", "nan", "--pace", "1:8", "--prompt-tokens-per-second", "10"),
        ("--trace", "/nowhere.csv", "--pace", "1:8", "--prompt-tokens-per-second", "10"),
        ("no-such-model", "--on", "h100-sxm", "--rate", "3"),
    ],
)
def test_size_refuses_what_it_cannot_size(home: Path, words: tuple[str, ...]) -> None:
    result = run("size", *words)
    assert type(result.exception).__name__ in ("Invalid", "SystemExit")
    assert result.exit_code != 0
