"""Hostile and damaged input of drills: a clear error or an honest result, never a traceback or nonsense."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import stat
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from drilled import DAY, FLEET, PROFILES, RULE, at, decided, losing, record, setting

from allod.domain.errors import AllodError, Invalid
from allod.domain.register import Function, Register
from allod.drills.concentration import concentration
from allod.drills.exit_test import LAW, LIMITS, conclusion, functions_of, left_out
from allod.drills.expected import Event, Harm, Hedge, Year, expect
from allod.drills.fate import fates
from allod.drills.pages import drill_page
from allod.drills.restore import Remedy, Served, kinds, restore
from allod.drills.run import drill
from allod.drills.traffic import Gathering
from allod.drills.worlds import Dearer, World, joined, load, named, single
from allod.gateway.cli import program
from allod.gateway.drilling_restore import _served
from allod.planner.estimate import Estimate
from allod.routing.plan import choose
from allod.routing.question import DecisionFacts, DeploymentFacts
from allod.routing.simulate import past_of

HOSPITAL = Path(__file__).parents[2] / "examples/hospital/allod.toml"
LONG = "+".join(["price=1000"] * 110)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    root = tmp_path / "home"
    root.mkdir()
    shutil.copy(HOSPITAL, root / "allod.toml")
    return root


def run(root: Path, *args: str) -> Result:
    return CliRunner().invoke(program, ["drill", *args], env={"ALLOD_HOME": str(root), "COLUMNS": "20"})


def told(result: Result) -> str:
    """Return the explanation of an error that explains itself, and nothing else."""
    assert isinstance(result.exception, AllodError), (result.exception, result.output)
    return result.exception.explain()


def asked(*names: str) -> DecisionFacts:
    return DecisionFacts(
        task=None, needs=("text",), input_tokens=8, min_quality=None, max_cost_usd=None, deadline_ms=None,
        effort=None, objective="best", ordered=True,
        candidates=tuple(
            DeploymentFacts(
                deployment=name, quality=Decimal("0.5"), cost_usd=Decimal(1), reserve_usd=Decimal(2)
            )
            for name in names
        ),
    )  # fmt: skip


def gathered(*parts: tuple[DecisionFacts, int, str]) -> Any:
    gathering = Gathering()
    for n, (of, requests, app) in enumerate(parts):
        gathering.add(decided(record(of, app), requests, n))
    return gathering.traffic()


def about(value: float, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(
        value=value, low=value if low is None else low, high=value if high is None else high,
        source="test", as_of=DAY,
    )  # fmt: skip


# --- worlds


def test_prices_that_multiply_beyond_sense_are_refused() -> None:
    world = joined([World(id=f"p{n}", price=(Dearer(factor=Decimal(1000)),)) for n in range(110)])
    with pytest.raises(Invalid, match="times"):
        at(world)
    with pytest.raises(Invalid, match="digits"):
        single("price=0.50123456789012345678901")
    with pytest.raises(Invalid):
        single("price=1e-300")


def test_a_file_cannot_take_the_name_of_a_single_loss() -> None:
    for name in ("operator=us-cloud", "link", "empty", "price=3"):
        with pytest.raises(Invalid, match="name of a world"):
            load(f'id = "{name}"\n[lose]\nlink = true\n'.encode(), "w")


def test_the_same_name_in_other_letters_is_the_same_name() -> None:
    wide = "".join(chr(ord(one) + 0xFEE0) for one in "NVIDIA")
    for name in ("nvidia", wide, "NVIDIA "):
        assert "a" in at(losing(chips=(name,)))(None).gone, name
    assert not at(msgspec.structs.replace(losing(chips=("NVIDIAX",)), unknown="spared"))(None).gone


def test_includes_may_be_wide_and_deep_and_end_in_time() -> None:
    """A ladder of 40 rungs has 2**40 ways down; a chain of 3000 is deeper than any stack."""
    ladder = {
        f"r{n}{side}": World(id=f"r{n}{side}", include=(f"r{n + 1}a", f"r{n + 1}b") if n < 24 else ("link",))
        for n in range(25)
        for side in "ab"
    }
    assert named("r0a", ladder).lose.link
    chain = {f"c{n}": World(id=f"c{n}", include=(f"c{n + 1}",)) for n in range(3000)}
    with pytest.raises(Invalid, match="includes"):
        named("c0", chain)
    many = {f"m{n}": World(id=f"m{n}") for n in range(100)}
    with pytest.raises(Invalid, match="includes"):
        named("all", {"all": World(id="all", include=tuple(many)), **many})


@pytest.mark.parametrize(
    "args",
    [
        ("run", LONG, "--generate", "10"),
        ("run", "link", "--since", "2026-11-20", "--until", "2026-11-01"),
        ("run", "link", "--generate", "10", "--html", ""),
        ("run", "link", "--generate", "10", "--html", "/"),
        ("run", "link", "--generate", "10", "--html", "pipe"),
        ("run", "link", "--generate", "10", "--svg", "."),
        ("run", "link", "--generate", "10", "--dora", "."),
        ("run", "link", "--generate", "10", "--dora", ""),
        ("all", "--generate", "10", "--csv", ""),
        ("tick", "forced-alignment/taiwan", "--day", "2999-01-01"),
    ],
)
def test_what_cannot_be_meant_is_an_error_that_explains_itself(
    home: Path, args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    os.mkfifo(home / "pipe")
    assert told(run(home, *args))
    assert stat.S_ISFIFO((home / "pipe").stat().st_mode)  # what is no file is not put aside
    assert not list(home.glob("*.new"))


def test_an_output_that_cannot_be_written_leaves_nothing_behind(home: Path, tmp_path: Path) -> None:
    result = run(home, "run", "link", "--generate", "10", "--dora", str(tmp_path / "no" / "exit"))
    assert isinstance(result.exception, OSError)
    assert not (tmp_path / "no").exists()


def test_files_are_written_through_links_as_plans_write_them(home: Path, tmp_path: Path) -> None:
    for name in ("page", "svg", "csv"):
        (tmp_path / f"real-{name}").write_text("old")
        (tmp_path / name).symlink_to(tmp_path / f"real-{name}")
    done = run(home, "run", "link", "--generate", "10", "--html", str(tmp_path / "page"),
               "--svg", str(tmp_path / "svg"))  # fmt: skip
    assert done.exit_code == 0, done.exception
    assert run(home, "all", "--generate", "10", "--csv", str(tmp_path / "csv")).exit_code == 0
    for name in ("page", "svg", "csv"):
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / f"real-{name}").read_text() != "old"


def test_names_of_an_exit_test_are_kept(home: Path, tmp_path: Path) -> None:
    assert run(home, "run", "link", "--generate", "10", "--dora", str(tmp_path / "exit.2026")).exit_code == 0
    assert {"exit.2026.json", "exit.2026.md"} <= {one.name for one in tmp_path.iterdir()}
    assert run(home, "run", "link", "--generate", "10", "--dora", str(tmp_path / "q4.json")).exit_code == 0
    assert {"q4.json", "q4.md"} <= {one.name for one in tmp_path.iterdir()}


def test_no_traffic_is_said_and_never_a_figure(home: Path, tmp_path: Path) -> None:
    assert "Nothing was served" in " ".join(run(home, "all").output.split())
    assert "Nothing was served" in " ".join(run(home, "run", "link").output.split())
    assert "nothing was served" in told(run(home, "expected", "--draws", "1000"))
    assert run(home, "run", "link", "--dora", str(tmp_path / "x")).exit_code == 0
    made = json.loads((tmp_path / "x.json").read_text())
    assert "nothing was tested" in made["conclusion"]


def test_one_request_is_enough_and_every_number_is_one(home: Path) -> None:
    for args in (("run", "operator=self"), ("all",), ("concentration",), ("expected", "--draws", "1000")):
        result = run(home, *args, "--generate", "1", "--json")
        assert result.exit_code == 0, (args, result.exception)

        def refuse(text: str) -> None:
            raise AssertionError(text)

        json.loads(result.output, parse_constant=refuse)


def test_generated_requests_have_no_period(home: Path, tmp_path: Path) -> None:
    assert run(home, "run", "link", "--generate", "10", "--dora", str(tmp_path / "x")).exit_code == 0
    made = json.loads((tmp_path / "x.json").read_text())
    assert made["period"] == ["generated", "generated"]


def test_a_world_of_a_file_that_odds_name_is_dearer_too(home: Path, tmp_path: Path) -> None:
    (tmp_path / "dear.toml").write_text("[[price]]\nfactor = 50\n")
    (home / "drills.toml").write_text(
        f'[risk.dear]\ntitle = "Dear"\nlow = 0.5\nhigh = 0.9\nworlds = ["{tmp_path / "dear.toml"}"]\n'
        'days = { low = 100, high = 300 }\nindependent = true\nas_of = 2026-10-01\nsource = "x"\n'
    )
    result = run(home, "expected", "--generate", "10000", "--draws", "1000", "--json")
    lines = {one["id"]: one for one in json.loads(result.output)["expected"]["lines"]}
    assert lines["dear"]["usd_year"]["value"] > 0


def _tick(root: str, sign: str) -> None:
    assert run(Path(root), "tick", sign).exit_code == 0


def test_two_who_tick_at_once_both_tick(home: Path) -> None:
    signs = [f"forced-alignment/{name}" for name in ("taiwan", "trade-war", "attribution")]
    context = multiprocessing.get_context("fork")
    those = [context.Process(target=_tick, args=(str(home), sign)) for sign in signs]
    for one in those:
        one.start()
    for one in those:
        one.join(30)
    text = (home / "drills" / "ticks.toml").read_text()
    assert all(sign in text for sign in signs)


def test_a_note_with_control_characters_is_read_again_and_does_not_paint_the_screen(home: Path) -> None:
    note = 'a\x1b[31m"\nb'
    result = run(home, "tick", "forced-alignment/taiwan", "--note", note)
    assert result.exit_code == 0, result.exception
    assert "\x1b" not in result.output
    found = json.loads(run(home, "tick", "--json").output)["ticks"]
    assert found[0]["note"] == note


def test_a_title_does_not_paint_the_screen_or_break_a_table(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    path.write_text('title = "a\\u001b[31mred\\nnew|line"\ntext = "x\\u009by"\n[lose]\nlink = true\n')
    result = run(home, "run", str(path), "--generate", "10", "--dora", str(tmp_path / "x"))
    assert result.exit_code == 0, result.exception
    assert "\x1b" not in result.output
    assert "\x9b" not in result.output
    rows = [line for line in (tmp_path / "x.md").read_text().splitlines() if line.startswith("| Scenario")]
    assert len(rows) == 1
    assert rows[0].endswith(" |")


# --- what is claimed


def test_what_nobody_knows_may_all_be_the_largest() -> None:
    """60 % on NVIDIA and 40 % of which nobody knows: all of it may be NVIDIA."""
    traffic = gathered((asked("a"), 60, "app"), (asked("d"), 40, "app"))
    (one,) = (o for o in concentration(traffic, setting()) if (o.axis, o.weight) == ("chip", "traffic"))
    assert one.hhi.value == pytest.approx(0.6**2 + 0.4**2)
    assert one.hhi.high == pytest.approx(1.0)
    assert one.hhi.low == pytest.approx(0.36)
    assert one.effective.low == pytest.approx(1.0)
    assert one.effective.high == pytest.approx(1 / 0.36)


def test_I10_the_cost_of_a_year_has_the_interval_of_odds_and_harms() -> None:
    of = [Event(id="e", title="e", group="risk", low=0.1, high=0.3, world="w", days=(30.0, 30.0))]
    harm = Harm(
        world="w", usd_day=about(100.0, 10.0, 190.0), after_day=about(0.0), restore_days=None,
        remedy_usd=None, remedy_month_usd=None, restored={"h": 0.5},
    )  # fmt: skip
    found = expect(
        Year(of, {"w": harm}, draws=40_000, seed=1), [Hedge(id="h", title="h", year_usd=about(9.0))], DAY
    )
    days = 30 - 30**2 / (2 * 365.25)
    assert found.expected.low == pytest.approx(0.1 * 10 * days, rel=0.06)
    assert found.expected.high == pytest.approx(0.3 * 190 * days, rel=0.06)
    assert found.lines[0].usd_year.low == pytest.approx(found.expected.low)
    assert found.lines[0].usd_year.high == pytest.approx(found.expected.high)
    assert found.tail.low <= 10 * 30 * 1.001
    assert found.tail.high >= 190 * 29
    hedge = found.hedges[0]
    assert hedge.less_expected_usd.high == pytest.approx(found.expected.high / 2)
    assert hedge.less_tail_usd.low <= hedge.less_tail_usd.value <= hedge.less_tail_usd.high
    assert hedge.less_tail_usd.value == pytest.approx(found.tail.value / 2)


def test_the_tail_is_the_mean_of_the_worst_twentieth() -> None:
    """One event of 2 % a year that costs 1000: the worst 5 % of years hold all of it, and 3 % of nothing."""
    of = [Event(id="e", title="e", group="risk", low=0.02, high=0.02, world="w", days=(0.001, 0.001))]
    harm = Harm(
        world="w", usd_day=about(1e6), after_day=about(0.0), restore_days=None, remedy_usd=None,
        remedy_month_usd=None,
    )  # fmt: skip
    found = expect(Year(of, {"w": harm}, draws=100_000, seed=5), [], DAY)
    assert found.tail.value == pytest.approx(found.expected.value * 20, rel=1e-6)
    assert found.tail.value == pytest.approx(0.4 * 1000, rel=0.06)


def _restored(keep: dict[str, set[str]], *parts: tuple[DecisionFacts, int, str]) -> Any:
    """Drill the loss of ``a``; each remedy restores the apps that ``keep`` says."""
    traffic = gathered(*parts)
    world = losing(deployments=("a",))
    found = fates(traffic, at(world))
    terms = kinds()["approve"]
    slow = msgspec.structs.replace(
        terms, hours=msgspec.structs.replace(terms.hours, low=Decimal(500), high=Decimal(900))
    )
    remedies = [
        Remedy(id=name, kind="approve", title=name, terms=slow if name == "slow" else terms)
        for name in keep
        if name
    ]

    def again(used: Any, cases: Any) -> list[Served | None]:
        apps = set().union(*(keep[one.id] for one in used), keep.get("", set()))
        return [
            Served("b", Decimal(1), Decimal("0.5")) if case.group.asked.app in apps else None
            for case in cases
        ]

    restoration = restore(found, remedies, again, critical=frozenset({"app"}), day=DAY)
    return drill(traffic, setting(), at(world)), restoration


def test_a_function_is_back_when_its_own_requests_are() -> None:
    """The fast remedy restores one function in time, the slow one the other: each has its own hours."""
    ran, found = _restored(
        {"fast": {"app"}, "slow": {"app", "web"}}, (asked("a"), 5, "app"), (asked("a"), 3, "web")
    )
    apps = {
        "app": msgspec.structs.replace(FLEET.apps["app"], function="F1"),
        "web": msgspec.structs.replace(FLEET.apps["web"], function="F2"),
    }
    register = Register(
        functions={name: Function(id=name, name=name, rto_hours=130) for name in ("F1", "F2")}
    )
    fleet = msgspec.structs.replace(FLEET, apps=apps)
    made = {one.function: one for one in functions_of(ran, fleet, register, found)}
    assert (made["F1"].restore_hours_high, made["F1"].within_rto) == (120, True)
    assert (made["F2"].restore_hours_high, made["F2"].within_rto) == (900, False)


def test_what_today_serves_anyway_is_no_merit_of_a_remedy() -> None:
    ran, found = _restored({"": {"web"}, "idle": set()}, (asked("a"), 5, "app"), (asked("a"), 3, "web"))
    assert found.today == 3
    assert (found.cheapest, found.fastest) == (None, None)
    told = conclusion(ran, (), found)
    assert "3 of them" in told


def test_an_exit_test_cites_what_asks_for_it_and_what_it_is_not() -> None:
    law, limits = " ".join(LAW), " ".join(LIMITS)
    for article in ("28(8)", "2024/1773 Art 10", "11(4)", "11(6)", "2024/1774 Art 25", "24(1)", "25(1)"):
        assert article in law, article
    for article in ("24(4)", "26"):
        assert article in limits, article


def test_a_page_names_no_plural_of_one_and_no_rule_nobody_knows() -> None:
    traffic = gathered((asked("a"), 5, "app"))
    page = drill_page(drill(traffic, setting(), at(losing(deployments=("a",)))), None, traffic)
    text = page.markdown()
    assert "deployment a" in text
    assert "deployments a" not in text
    assert "1 days" not in text
    assert "world.removed" not in text
    assert "not known | not known" not in text


def test_what_served_under_an_older_configuration_is_still_known() -> None:
    gone = {name: one for name, one in PROFILES.items() if name != "a"}
    traffic = gathered((asked("a"), 5, "app"))
    known = concentration(traffic, setting(profiles=gone))
    assert known[0].unknown == 1
    known = concentration(traffic, setting(profiles=gone, earlier=PROFILES))
    assert known[0].unknown == 0
    assert math.isfinite(known[0].hhi.value)
    assert date.fromisoformat("2026-10-20") + timedelta(0) == known[0].trend[0].since


def test_a_record_of_a_version_nobody_knows_is_left_out_by_name() -> None:
    body = record(asked("a")).replace(b'"format":"allod-decision-', b'"format":"allod-decision-9')
    gathering = Gathering()
    gathering.add(decided(body, 7))
    traffic = gathering.traffic()
    assert (traffic.groups, traffic.damaged) == ((), 1)
    assert "another format" in traffic.left[0].reason
    assert "7 requests could not be decided again" in left_out(traffic)


def test_I2_a_list_that_is_lost_lets_nobody_in() -> None:
    """Where a list names who is forbidden, its loss allows nobody: who was unlawful serves nothing."""
    past = past_of(record(asked("a", "c")))
    rule = msgspec.structs.replace(asked("a").candidates[0], law=(RULE,))

    def world(of: DecisionFacts) -> Any:
        return SimpleNamespace(again=lambda _past, _at: (SimpleNamespace(facts=of, choice=choose(of)), None))

    found = at(losing(lists={"house.forbidden": ("*",)}))(None)
    without = world(asked("a", "c"))
    before = world(msgspec.structs.replace(asked("a", "c"), candidates=(rule, asked("c").candidates[0])))
    one = _served(without, found, past, unpin=False, plain=before)
    assert one is not None
    assert one.deployment == "c"
    nobody = world(msgspec.structs.replace(asked("a"), candidates=(rule,)))
    assert _served(world(asked("a")), found, past, unpin=False, plain=nobody) is None
