"""The plan commands as an enemy and a hurried person use them: no traceback, no nonsense number."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from allod.domain.errors import AllodError, Invalid, Unavailable
from allod.gateway.cli.lines import columns
from allod.gateway.cli.plan import command
from allod.gateway.cli.plan_money import write
from allod.planner.catalogue import find_device, find_model
from allod.planner.fits import answer, question
from allod.planner.memory import held
from allod.planner.money.npv import usd
from allod.planner.money.shown import money
from allod.planner.pictures import Section, page
from allod.planner.sizing.trace import Arrival, made, read_trace, shape
from allod.planner.speed.speeds import estimate_speed

DEEP = 20_000
"""So many brackets are more than any reader may follow."""
PACE = ("--pace", "1:5,8:6", "--prompt-tokens-per-second", "20000")


def run(home: Path, *words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words], env={"ALLOD_HOME": str(home / "none")})


def refused(home: Path, *words: object) -> AllodError:
    """Return the error a command explains itself with; anything else is a traceback for a user."""
    error = run(home, *words).exception
    assert isinstance(error, AllodError), error
    return error


# -- files


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("fit", "gpt-oss-20b"), "--device-facts"),
        (("cost", "gpt-oss-20b", "--on", "h100-sxm"), "--assumptions"),
        (("place",), ""),
        (("fit",), "--model-config"),
        (("size", "--on", "h100-sxm", "--rate", "1"), "--model-config"),
        (("size", "gpt-oss-20b", "--rate", "1"), "--device-facts"),
        (("size", *PACE), "--trace"),
    ],
)
def test_files_nested_without_end_are_refused(tmp_path: Path, words: tuple[str, ...], option: str) -> None:
    bomb = tmp_path / "bomb"
    bomb.write_text(f"a = {'[' * DEEP}{']' * DEEP}\n" if option != "--model-config" else "[" * DEEP)
    error = refused(tmp_path, *words, *([option] if option else []), bomb)
    assert isinstance(error, Invalid | Unavailable)
    assert str(bomb.name) in error.what


@pytest.mark.parametrize("words", [("fit", "gpt-oss-20b", "--device-facts"), ("place",)])
def test_a_file_without_an_end_is_not_read_to_it(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert isinstance(refused(tmp_path, *words, "/dev/zero"), Invalid)


# -- pictures and pages


@pytest.mark.parametrize("words", [("fit", "gpt-oss-20b", "--on", "h100-sxm"), ("tiers", "--tier", "iot")])
def test_json_stays_json_when_files_are_written(tmp_path: Path, words: tuple[str, ...]) -> None:
    svg, html = tmp_path / "a.svg", tmp_path / "new" / "a.html"
    done = run(tmp_path, *words, "--svg", svg, "--html", html, "--json")
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)
    assert svg.read_text().startswith("<svg")
    assert "</html>" in html.read_text()


@pytest.mark.parametrize(
    "words",
    [
        ("fit", "gpt-oss-20b", "--on", "h100-sxm", "--svg"),
        ("tiers", "--tier", "iot", "--html"),
        ("claims", "--html"),
        ("prices", "--history", "openai/gpt-5.5", "--svg"),
    ],
)
def test_a_folder_or_a_full_disk_is_told_by_its_name(tmp_path: Path, words: tuple[str, ...]) -> None:
    for target in (tmp_path, Path("/dev/full")):
        error = refused(tmp_path, *words, target)
        assert isinstance(error, Unavailable)
        assert str(target) in error.what
        assert ".new" not in error.what
    assert not list(tmp_path.parent.glob("*.new"))


def test_a_device_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    pipe, link, real = tmp_path / "pipe", tmp_path / "link", tmp_path / "real"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(pipe, "seen")
        assert os.read(reader, 9) == b"seen"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    real.write_text("old")
    link.symlink_to(real)
    write(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"


# -- numbers


@pytest.mark.parametrize(
    "words",
    [
        ("--input-tokens", "1e308"),
        ("--output-tokens", "1e9"),
        ("--peak", "1e308"),
        ("--rate", "0"),
        ("--rate", "1e308"),
        ("--hours", "1e7"),
    ],
)
def test_traffic_beyond_all_bounds_is_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    rate = () if words[0] == "--rate" else ("--rate", "1")
    error = refused(tmp_path, "size", *PACE, *rate, *words)
    assert isinstance(error, Invalid)
    assert len(error.why) < 300


@pytest.mark.parametrize("last", ["1e308", "3e9", "nan", "inf"])
def test_a_trace_over_a_century_is_refused_at_once(tmp_path: Path, last: str) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(f"at_s,input_tokens,output_tokens\n0,10,10\n{last},10,10\n")
    with pytest.raises(Invalid, match=r"trace\.csv"):
        read_trace(file)


def test_seconds_and_minutes_without_requests_count() -> None:
    trace = [Arrival(0.0, 1, 1), Arrival(0.5, 1, 1), Arrival(119.0, 1, 1)]
    like = shape(trace)
    assert like.peak_1s == pytest.approx(2 * 120 / 3)
    assert like.peak_60s == pytest.approx(2 * 2 / 3)
    assert like.dispersion == pytest.approx((0.5**2) / 1.5)
    even = shape(made(rate_s=5, peak=1, input_tokens=9, output_tokens=9, seconds=7200, seed=1))
    assert 0.6 < even.dispersion < 1.5


def test_a_cache_of_everything_gives_no_nonsense(tmp_path: Path) -> None:
    done = run(tmp_path, "cost", "DeepSeek-V4-Pro", "--on", "h200-sxm", "--tokens-per-second", "1200",
               "--cached", "1", "--set", "own.prefill_share=0.1..0.9", "--json")  # fmt: skip
    assert done.exit_code == 0, done.exception
    json.loads(done.stdout, parse_constant=pytest.fail)
    assert not done.stderr


@pytest.mark.parametrize(
    "words", [("--engine", "abacus"), ("--quant", "q17"), ("--model-config", "/none"), ("--concurrency", "0")]
)
def test_a_word_that_means_nothing_is_refused_even_where_nothing_asks_for_it(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    said = ("--tokens-per-second", "1000", "--tasks-month", "1000", "--draws", "200")
    done = run(tmp_path, "cost", "gpt-oss-20b", "--on", "h100-sxm", *said, *words)
    assert isinstance(done.exception, Invalid) or done.exit_code == 2


@pytest.mark.parametrize("words", [("--devices", "4"), ("--memory", "40")])
def test_what_is_said_of_a_device_needs_one(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(tmp_path, "fit", "gpt-oss-20b", *words)
    assert done.exit_code == 2
    assert "needs --on" in done.stderr


def test_a_configuration_named_and_absent_is_an_error(tmp_path: Path) -> None:
    error = refused(tmp_path, "prices", "--history", "openai/gpt-5.5", "--config", tmp_path / "none.toml")
    assert isinstance(error, Unavailable)


def test_a_solver_has_a_number_of_seconds(tmp_path: Path) -> None:
    done = run(tmp_path, "place", tmp_path / "x.toml", "--seconds", "nan")
    assert done.exit_code == 2


def test_npv_says_why_there_is_no_speed(tmp_path: Path) -> None:
    error = refused(tmp_path, "npv", "nosuch", "--on", "h200-sxm")
    assert "no model 'nosuch' is known" in error.why


# -- one question, one answer


def test_cost_counts_on_no_more_at_once_than_fit_says_there_is_room_for(tmp_path: Path) -> None:
    device, model, load = find_device("h100-sxm"), find_model("Llama-3.1-70B"), (8000, 1000)
    asked = question(model, quant="fp8", engine="vllm", context=sum(load))
    room = answer(asked, device, 2).verdict.sequences
    assert room == held(device, 2, model, "fp8", "vllm", sum(load)).sequences
    assert room is not None
    assert 1 < room < 64
    done = run(tmp_path, "cost", "Llama-3.1-70B", "--on", "h100-sxm", "--devices", "2", "--quant", "fp8",
               "--input-tokens", "8000", "--output-tokens", "1000", "--draws", "200", "--json")  # fmt: skip
    speed = next(one for one in json.loads(done.stdout)["inputs"] if one["key"] == "own.tokens_s")
    expected = estimate_speed(device, 2, model, "fp8", "vllm", room, *load).out_tok_s.value
    assert float(speed["value"]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "told_mib"), [("l4", 23_034), ("l40s", 46_068), ("a40", 46_068), ("a10", 23_028), ("t4", 15_360)]
)
def test_cards_with_error_correction_have_what_their_driver_tells(name: str, told_mib: int) -> None:
    asked = question(find_model("Llama-3.1-8B"), quant="fp8", engine="llamacpp")
    have = answer(asked, find_device(name), 1).verdict.have_bytes
    assert have is not None
    assert 0.97 * told_mib < have / (1 << 20) <= told_mib


# -- how it reads


ROWS = [
    ("way", "USD/month", "80 %"),
    ("Open model's API: deepseek/deepseek-v4-pro", "2,532", "1,324 to 6,130"),
    ("Own", "18,921", "15,731 to 34,169"),
]


@pytest.mark.parametrize("most", [20, 40, 60, 100])
def test_tables_keep_to_the_width_and_lose_no_word(most: int) -> None:
    lines = columns(ROWS, 1, most)
    words = {word for row in ROWS[1:] for cell in row for word in cell.split()}
    longest = max(map(len, words))
    assert max(map(len, lines)) <= max(most, longest + 4)
    assert words <= {word for line in lines for word in line.split()}


@pytest.mark.parametrize("wide", ["60", "100"])
@pytest.mark.parametrize(
    "words",
    [
        ("fit", "Llama-3.1-8B"),
        ("tiers", "--tier", "server"),
        ("prices", "--history", "deepseek-v4-pro"),
        ("npv", "deepseek-ai/DeepSeek-V4-Pro", "--tokens-per-second", "1200", "--draws", "200"),
    ],
)
def test_no_line_is_wider_than_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], wide: str
) -> None:
    monkeypatch.setenv("COLUMNS", wide)
    done = run(tmp_path, *words)
    assert done.exit_code == 0, done.exception
    for line in done.stdout.splitlines():
        assert len(line) <= int(wide) or " " not in line.strip() or len(max(line.split(), key=len)) > 50, line


def test_money_has_three_digits_that_count() -> None:
    said = {4.2: "4.20", 0.039: "0.0390", 39.0: "39.0", 390.0: "390", 999.9: "1,000", 0.0: "0"}
    said[18_921.4] = "18,921"
    assert {value: money(value) for value in said} == said
    assert [usd(one) for one in (9_396.0, 27_041.0, -119_130.0, 512.4)] == [
        "USD 9,400", "USD 27,000", "-USD 119,100", "USD 512",
    ]  # fmt: skip


def test_columns_of_words_that_begin_with_a_figure_stand_left() -> None:
    table: tuple[tuple[str, ...], ...] = (
        ("tier", "machine", "need", "value"),
        ("a", "8 x h200-sxm, 141 GiB and a rack", "39.35 GiB", "USD 429,200"),
        ("b", "1 x jetson-agx-orin-64, 64 GiB", "1.2 GiB", "-USD 1,200 to USD 3"),
    )
    html = page("x", [Section("y", (), None, table)])
    assert '<th class="t">machine</th>' in html
    assert "<th>need</th>" in html
    assert "<th>value</th>" in html


def test_a_short_last_year_is_divided_by_its_own_months(tmp_path: Path) -> None:
    words = ("npv", "deepseek-ai/DeepSeek-V4-Pro", "--tokens-per-second", "1200", "--tasks-month", "1000",
             "--draws", "200", "--set", "demand.growth_year=0", "--set", "demand.elasticity=0",
             "--set", "demand.realised_share=1", "--months", "38", "--json")  # fmt: skip
    found: Any = json.loads(run(tmp_path, *words).stdout)
    assert [round(year[0]) for year in found["work"]] == [1000] * 4


@pytest.mark.parametrize("name", ["GLM-4.5", "HyperCLOVAX", "tsuzumi"])
def test_another_model_of_a_family_is_never_taken_for_the_one_that_was_named(name: str) -> None:
    with pytest.raises(Invalid) as error:
        find_model(name)
    assert name.lower() in error.value.why.lower()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Mixtral-8x7B", "Mixtral-8x7B-v0.1"),
        ("Kimi-K2", "Kimi-K2-Instruct"),
        ("Llama-4-Maverick", "Llama-4-Maverick-17B-128E-Instruct"),
        ("Qwen3-235B", "Qwen3-235B-A22B"),
        ("Mistral-Small-24B", "Mistral-Small-24B-Instruct-2501"),
    ],
)
def test_the_end_of_a_name_may_be_left_out(name: str, meant: str) -> None:
    assert find_model(name).id.endswith(meant)


def test_tiers_and_speed_say_the_same_of_one_stream(tmp_path: Path) -> None:
    tier = json.loads(run(tmp_path, "tiers", "--tier", "desktop", "--json").stdout)["tiers"][0]
    best = tier["best"]
    said = run(tmp_path, "speed", best["model"], "--on", tier["device"], "--quant", best["quant"], "--json")
    step = json.loads(said.stdout)["tpot_ms"]
    assert best["tok_s"]["value"] == pytest.approx(1000 / step["value"])
    assert best["tok_s"]["low"] == pytest.approx(1000 / step["high"])
