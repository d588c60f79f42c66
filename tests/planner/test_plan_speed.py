"""Speed: what holds of every prediction, whatever is asked; accuracy on cells left out; anchors; refusals."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allod.domain.errors import Integrity, Invalid
from allod.planner import bench
from allod.planner.catalogue import find_device, find_model
from allod.planner.speed import estimator, points
from allod.planner.speed.anchors import Anchor, change_anchors, of_cell, read_anchors
from allod.planner.speed.calibrate import by_hand
from allod.planner.speed.crossing import left_out
from allod.planner.speed.heads import timed
from allod.planner.speed.intervals import quantile, widths
from allod.planner.speed.names import engine_of, generation_of, sizes_in
from allod.planner.speed.rows import case_of, devices_of
from allod.planner.speed.speeds import estimate_speed

METRICS = (
    "tok_s", "tok_s_total", "out_tok_s_total", "tok_s_per_gpu_at_27_tok_s_user", "ttft_ms", "tpot_ms",
    "itl_ms", "peak_mem", "checkpoint_size", "fits",
)  # fmt: skip
ROW = {
    "id": "x", "source": "", "date": "2026", "hardware": "h100_sxm", "n_devices": "8",
    "model": "deepseek-ai/DeepSeek-R1", "quant": "fp8", "engine": "sglang 0.5.9", "phase": "serve",
    "concurrency": "16", "isl": "1024", "osl": "1024", "metric": "tpot_ms", "unit": "ms",
    "peak_wall_power_w": "", "notes": "",
}  # fmt: skip


def sound(answer: dict[str, float]) -> bool:
    return all(map(math.isfinite, answer.values())) and answer["low"] <= answer["value"] <= answer["high"]


# --- whatever is asked


def test_every_packaged_row_is_answered_for_its_metric_and_for_fits() -> None:
    for row in points.points():
        asked = {key: value for key, value in row.items() if key != "value"}
        assert sound(bench.predict(asked)), row["id"]
        fits = bench.predict(asked | {"metric": "fits", "unit": "bool"})
        truth = 0.0 if row["metric"] == "fits" and float(row["value"]) == 0 else 1.0
        assert sound(fits), row["id"]
        assert fits["value"] == truth, row["id"]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("phase", ["decode", "prefill", "memory", "serve", ""])
@pytest.mark.parametrize(
    ("hardware", "model", "engine"),
    [("Frobnicator 9000", "acme/never-7b", "newserve 1.0"), ("cpu:EPYC 9754", "mixtral-8x7B", "llama.cpp"),
     ("n/a", "", ""), ("gb300", "Qwen3-30B-A3B", "vllm")],
)  # fmt: skip
def test_every_metric_is_answered_in_every_phase_for_what_nobody_measured(
    metric: str, phase: str, hardware: str, model: str, engine: str
) -> None:
    row = ROW | {"metric": metric, "phase": phase, "hardware": hardware, "model": model, "engine": engine}
    answer = bench.predict(row)
    assert sound(answer)
    assert answer["low"] >= 0


TEXT = st.one_of(
    st.text(max_size=40), st.sampled_from(["nan", "inf", "-1", "0", "1e400", "70B", "Q4_K_M", "tp=64 ep=8"])
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(ROW)), TEXT), st.sampled_from(METRICS))
def test_hostile_rows_never_raise_and_never_give_a_nonsense_number(
    change: dict[str, str], metric: str
) -> None:
    row = ROW | change | {"metric": change.get("metric", metric)}
    assert sound(bench.predict(row))
    assert sound(bench.predict(row, [row | {"value": change.get("id", "5")}]))


def test_missing_columns_and_none_are_answered() -> None:
    assert sound(bench.predict({"metric": "tpot_ms"}))
    assert sound(bench.predict({**dict.fromkeys(ROW), "metric": "tok_s"}, anchors=None))


def test_more_streams_never_make_a_stream_faster_by_the_formula() -> None:
    heads = estimator.packaged()
    from allod.planner.speed.case import table

    cases = [case_of(ROW, "step", n) for n in (1, 4, 16, 64, 256)]
    assert (np.diff(heads.fitted["serve"].mean(table(cases))) >= 0).all()


# --- accuracy on cells left out


@pytest.mark.parametrize(("name", "median", "tail"), [("stream", 0.09, 0.28), ("serve", 0.17, 0.48)])
def test_cells_left_out_whole_are_predicted_within_the_bar(name: str, median: float, tail: float) -> None:
    left = left_out(timed(points.points()), name)
    sign = -1 if name == "stream" else 1
    errors = [abs(math.exp(sign * (one.mean - one.point.y)) - 1) for one in left]
    assert np.median(errors) <= median
    assert np.quantile(errors, 0.9) <= tail
    held = estimator.known_widths()[name]
    inside = np.mean([one.score <= held.of(one.point.case.engine.family, (), 0) for one in left])
    assert 0.75 <= inside <= 0.85


def test_a_measurement_of_the_cell_moves_and_narrows_the_prediction() -> None:
    plain = bench.predict(ROW)
    truth = plain["value"] * 1.6
    other = ROW | {
        "concurrency": "64",
        "value": str(1.6 * bench.predict(ROW | {"concurrency": "64"})["value"]),
    }
    near = ROW | {"concurrency": "8", "value": str(1.6 * bench.predict(ROW | {"concurrency": "8"})["value"])}
    told = bench.predict(ROW, [other, near])
    assert abs(told["value"] / truth - 1) < abs(plain["value"] / truth - 1)
    assert told["high"] / told["low"] < plain["high"] / plain["low"]


def test_anchors_of_a_throughput_shift_it() -> None:
    row = ROW | {"metric": "out_tok_s_total", "unit": "tok/s"}
    plain = bench.predict(row)["value"]
    told = bench.predict(row, [row | {"value": str(2 * plain)}])
    assert plain * 1.3 < told["value"] < plain * 2


def test_an_unseen_engine_model_or_device_has_a_wider_interval() -> None:
    def width(**change: str) -> float:
        one = bench.predict({**ROW, "hardware": "h200_sxm", "model": "deepseek-ai/DeepSeek-V3", **change})
        return one["high"] / one["low"]

    base = width()
    assert width(engine="newserve 1.0") > base
    assert width(model="acme/never-671b-a37b") > base
    assert width(hardware="Frobnicator 9000") > base


# --- what was read of names and tables


def test_the_expert_degree_is_not_counted_twice() -> None:
    assert devices_of({"n_devices": "64", "notes": "tp=64 dp=1 ep=8"}) == (8, False)
    assert devices_of({"n_devices": "16", "notes": "tp=1 dp=16 ep=4"}) == (4, True)
    assert devices_of({"n_devices": "8", "notes": "tp=8 dp=1 ep=8"}) == (8, False)
    assert devices_of({"n_devices": "36", "notes": "tp=36 dp=1 ep=1"}) == (36, False)


@pytest.mark.parametrize(
    ("name", "family"),
    [("ollama/llama.cpp", "llama.cpp"), ("TensorRT-Edge-LLM 0.7", "edge"), ("trtllm 1.2.0rc6", "trtllm"),
     ("Dynamo vLLM disagg", "vllm"), ("", "unknown")],
)  # fmt: skip
def test_engines_are_told_by_name(name: str, family: str) -> None:
    assert engine_of(name).family == family


def test_generations_and_sizes_are_told_by_name() -> None:
    named = {
        "cpu:AmpereOne A192-32X": "cpu",
        "RTX 5090": "blackwell-rtx",
        "m4-max-40": "apple-3",
        "mi325x": "cdna",
    }
    assert {name: generation_of(name) for name in named} == named
    assert sizes_in("Qwen3-30B-A3B") == (30e9, 3e9)
    assert sizes_in("no size") is None


def test_widths_are_of_the_points_that_ship(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(estimator.known_widths()) == {"serve", "stream", "first", "prompt"}
    estimator.known_widths.cache_clear()
    monkeypatch.setattr(points, "digest", lambda: "0" * 64)
    with pytest.raises(Integrity):
        estimator.known_widths()
    monkeypatch.undo()
    estimator.known_widths.cache_clear()


def test_every_point_has_its_day_and_source() -> None:
    for row in points.points():
        assert date.fromisoformat(row["as_of"]) <= date(2026, 12, 1)
        assert row["source"]


def test_the_conformal_quantile_is_the_one_of_n_plus_one() -> None:
    assert quantile([float(n) for n in range(1, 10)], 0.8) == 8.0
    made = widths([1.0] * 40 + [3.0] * 40, ["a"] * 40 + ["b"] * 40, {"engine": [6.0] * 9}, [])
    assert made.engines["a"] < made.engines["b"]
    assert made.of("c", ("engine",), 0) == 2 * made.of("c", (), 0)
    assert made.of("c", (), 2) > made.of("c", (), 1) > made.of("c", (), 0)


# --- estimate_speed


def test_a_prediction_says_its_day_engines_and_neighbours() -> None:
    said = estimate_speed(
        find_device("rtx-4090"), 1, find_model("llama-3-8b"), "q4_k_m", "llama.cpp", 1, 1024, 256
    )
    assert said.tpot_ms.low < said.tpot_ms.value < said.tpot_ms.high
    assert said.nearest
    assert said.nearest[0].id.startswith("m")
    assert "2024-05" in said.engines
    assert said.as_of >= date(2026, 1, 1)
    assert said.energy_j_per_token is not None
    assert "wall" in said.energy_j_per_token.source
    assert said.out_tok_s.value < 1e3 / said.tpot_ms.value


def test_streams_beyond_the_memory_add_no_throughput() -> None:
    device, model = find_device("h200-sxm"), find_model("deepseek-r1")

    def rate(streams: int) -> float:
        said = estimate_speed(device, 8, model, "fp8", "sglang", streams, 8192, 1024, check_memory=False)
        return said.out_tok_s.value

    assert rate(64) > rate(32) > rate(8)
    assert rate(512) == pytest.approx(rate(256), rel=0.15)


def test_nothing_near_is_said_as_none() -> None:
    said = estimate_speed(
        find_device("gaudi3"), 8, find_model("qwen3-8b"), "bf16", "newserve", 64, 30_000, 10
    )
    assert said.nearest == ()
    assert said.engines == ""
    assert sum("nobody measured" in one for one in said.notes) == 3


@pytest.mark.parametrize(
    ("device", "n", "model", "quant", "streams", "isl", "param"),
    [("h20-141", 8, "deepseek-r1", "fp8", 1, 100, "device"),
     ("h100", 1, "deepseek-r1", "fp8", 1, 100, "devices"), ("h100", 0, "qwen3-8b", "fp8", 1, 100, "devices"),
     ("h100", 1, "qwen3-8b", "q9_z", 1, 100, "quant"),
     ("h100", 1, "qwen3-8b", "fp8", float("nan"), 100, "concurrency"),
     ("h100", 1, "qwen3-8b", "fp8", 1, 0, "input_tokens"),
     ("h100", 1, "qwen3-8b", "fp8", 1, 10**12, "input_tokens"),
     ("h100", 1, "tsuzumi-2", "fp8", 1, 100, "model")],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_by_name(
    device: str, n: int, model: str, quant: str, streams: float, isl: int, param: str
) -> None:
    with pytest.raises(Invalid) as caught:
        estimate_speed(find_device(device), n, find_model(model), quant, "vllm", streams, isl, 100)
    assert caught.value.param == param


# --- anchors in the home


def an_anchor(value: float = 50.0) -> Anchor:
    return Anchor(
        device="h200-sxm", devices=8, model="deepseek-ai/DeepSeek-R1", quant="fp8", engine="sglang 0.5.11",
        concurrency=16, isl=1024, osl=1024, metric="tpot_ms", value=value,
        at=date(2026, 11, 26), source="by hand",
    )  # fmt: skip


def test_anchors_come_back_as_they_were_kept(tmp_path: Path) -> None:
    path = tmp_path / "planner" / "anchors.json"
    assert read_anchors(path) == []
    change_anchors(path, lambda kept: [*kept, an_anchor()])
    before, after = change_anchors(path, lambda kept: [*kept, an_anchor(60.0)])
    assert (len(before), len(after)) == (1, 2)
    assert read_anchors(path) == after


def test_two_at_once_lose_no_anchor(tmp_path: Path) -> None:
    path = tmp_path / "anchors.json"
    code = (
        "import sys; from pathlib import Path; import msgspec, datetime as dt\n"
        "from allod.planner.speed.anchors import Anchor, change_anchors\n"
        "for n in range(20):\n"
        "    one = Anchor(device=sys.argv[2], devices=1, model='m', quant='q', engine='e', concurrency=1,"
        " isl=1, osl=1, metric='tok_s', value=n + 1, at=dt.date(2026, 1, 1), source='')\n"
        "    change_anchors(Path(sys.argv[1]), lambda kept: [*kept, one])\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in ("a", "b")]
    assert [one.wait(60) for one in both] == [0, 0]
    assert len(read_anchors(path)) == 40


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"anchors": [1]}', '{"anchors": [{"device": "x"}]}', '{"anchors": ' + "[" * 5000],
)
def test_a_damaged_file_of_anchors_is_an_integrity_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "anchors.json"
    path.write_text(text)
    with pytest.raises(Integrity):
        read_anchors(path)


def test_only_anchors_of_the_same_cell_and_engine_are_used() -> None:
    device, model = find_device("h200-sxm"), find_model("deepseek-r1")

    def said(quant: str, engine: str) -> int:
        return estimate_speed(device, 8, model, quant, engine, 16, 1024, 1024, [an_anchor()]).anchors

    assert said("fp8", "sglang") == 1
    assert said("fp8", "vllm") == 0
    assert said("fp4", "sglang") == 0
    case = case_of(ROW | {"hardware": "h200_sxm"})
    assert of_cell([an_anchor()], case)[0].y == pytest.approx(math.log(50))


@pytest.mark.parametrize(
    "text", ["", "tpot_ms", "tpot_ms=x", "tpot_ms=-1", "speed=4", "tpot_ms=5,input=0", "tpot_ms=5,tok_s=3"]
)
def test_a_measurement_by_hand_is_read_strictly(text: str) -> None:
    with pytest.raises(Invalid):
        by_hand(text)


def test_a_measurement_by_hand_has_its_conditions() -> None:
    assert by_hand("tpot_ms=12.5, concurrency=8,input=1024") == (
        "tpot_ms",
        12.5,
        {"concurrency": 8.0, "input": 1024.0},
    )


def test_importing_the_gateway_does_not_import_the_planner() -> None:
    code = (
        "import sys, allod, allod.gateway.cli\n"
        "assert not [m for m in sys.modules if 'planner' in m or m == 'numpy']"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
