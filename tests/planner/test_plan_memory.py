"""Bytes: sizes of published files, measured peaks, out-of-memory rows, monotony, hostile loads."""

from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.planner.architecture import Architecture
from allod.planner.catalogue import GB, Device, devices, find_device, find_model, models
from allod.planner.memory import (
    KV_BITS,
    Load,
    bytes_per_param,
    cache_bytes,
    checkpoint_bytes,
    fit,
    kv_bits,
    runs,
    weights_bytes,
)
from allod.planner.quants import PRECISIONS, precision
from allod.planner.reserve import engine_named

DAY = date(2026, 11, 26)
PUBLISHED_GB = [
    ("Meta-Llama-3-8B", "Q4_K_M", 4.92), ("Meta-Llama-3-8B", "Q6_K", 6.60), ("Meta-Llama-3-8B", "Q8_0", 8.54),
    ("Meta-Llama-3-8B", "Q5_K_M", 5.73), ("Meta-Llama-3-8B", "Q3_K_M", 4.02),
    ("Meta-Llama-3-8B", "Q2_K", 3.18),
    ("Meta-Llama-3-8B", "Q4_K_S", 4.69), ("Meta-Llama-3-8B", "IQ4_XS", 4.45),
    ("Meta-Llama-3-8B", "f16", 16.07),
    ("Meta-Llama-3-70B", "Q4_K_M", 42.52), ("Meta-Llama-3-70B", "Q2_K", 26.38),
    ("Qwen3-30B-A3B", "Q4_K_M", 18.56),
    ("Qwen3-30B-A3B", "UD-Q4_K_XL", 17.72), ("Qwen3-32B", "Q8_0", 34.82), ("gpt-oss-20b", "MXFP4", 13.79),
    ("gpt-oss-120b", "fp4", 65.25), ("Kimi-K2.5", "int4", 595.0), ("Meta-Llama-3.1-70B", "awq", 39.8),
    ("Qwen3-235B-A22B", "Q4_K_M", 142.2), ("Qwen3-8B", "Q4_K_M", 5.03), ("Meta-Llama-3-8B", "Q4_0", 4.66),
]  # fmt: skip
"""Sizes of files as their publishers list them, 10^9 bytes."""
PEAKS_MIB = [
    ("tencent/Hunyuan-A13B", "Q6_K_XL", 640, 69118), ("Qwen/Qwen3-30B-A3B", "Q4_K_XL", 640, 17729),
    ("openai/gpt-oss-20b", "F16/MXFP4", 640, 15022), ("Qwen/Qwen3-32B", "Q8_0", 1024, 34948),
    ("google/gemma-3-27b-it", "Q4_K_XL", 1024, 18726),
]  # fmt: skip
"""Measured by lhl/strix-halo-testing@5ee14b5b on Ryzen AI Max+ 395, llama.cpp with Vulkan."""
OUT_OF_MEMORY = [
    ("rtx-3070", 1, "8B", "F16"), ("rtx-3080", 1, "8B", "F16"), ("rtx-3080", 1, "70B", "Q4_K_M"),
    ("rtx-3080ti", 1, "70B", "F16"), ("rtx-4070ti", 1, "70B", "F16"), ("rtx-4080", 1, "70B", "Q4_K_M"),
    ("rtx-4000-ada", 1, "70B", "Q4_K_M"), ("rtx-3090", 1, "70B", "Q4_K_M"), ("rtx-4090", 1, "70B", "F16"),
    ("rtx-5000-ada", 1, "70B", "Q4_K_M"), ("rtx-4090", 2, "70B", "F16"), ("a100-sxm-80", 1, "70B", "F16"),
    ("rtx-4090", 4, "70B", "F16"), ("m1", 1, "8B", "F16"), ("m1", 1, "70B", "Q4_K_M"),
]  # fmt: skip
RAN = [
    ("rtx-4080", 1, "8B", "F16"), ("rtx-3070", 1, "8B", "Q4_K_M"), ("rtx-3090", 2, "70B", "Q4_K_M"),
    ("rtx-4090", 8, "70B", "F16"), ("a100-sxm-80", 2, "70B", "F16"), ("rtx-4000-ada", 4, "70B", "Q4_K_M"),
    ("m1", 1, "8B", "Q4_K_M"), ("m1-max", 1, "70B", "Q4_K_M"), ("m2-ultra", 1, "70B", "F16"),
]  # fmt: skip
"""Reported by XiongjieDai/GPU-Benchmarks-on-LLM-Inference@aa72e0ec, llama.cpp of May 2024, 1024 tokens."""


def shape(name: str) -> Architecture:
    found = find_model(name).architecture
    assert found is not None
    return found


@pytest.mark.parametrize(("model", "quant", "size_gb"), PUBLISHED_GB)
def test_weights_are_within_3_percent_of_published_files(model: str, quant: str, size_gb: float) -> None:
    total = weights_bytes(shape(model), quant).total
    assert total.value / 1e9 == pytest.approx(size_gb, rel=0.03)
    assert total.low <= size_gb * 1e9 * 1.005
    assert size_gb * 1e9 <= total.high * 1.005


def test_a_whole_checkpoint_with_its_speculation_layer() -> None:
    size = checkpoint_bytes(shape("DeepSeek-V4-Flash"), "FP4+FP8")
    assert size.value / GB == pytest.approx(148.66, rel=0.01)


@pytest.mark.parametrize(("model", "quant", "context", "peak_mib"), PEAKS_MIB)
def test_peaks_are_within_10_percent_and_inside_the_interval(
    model: str, quant: str, context: int, peak_mib: float
) -> None:
    need = runs(
        find_device("ryzen-ai-max-395"), 1, find_model(model), quant, "llama.cpp vulkan", context
    ).need
    assert need.value / (1 << 20) == pytest.approx(peak_mib, rel=0.10)
    assert need.low / (1 << 20) <= peak_mib <= need.high / (1 << 20)


def run(device: str, count: int, size: str, quant: str) -> bool:
    card = find_model(f"meta-llama/Meta-Llama-3-{size}")
    return runs(find_device(device), count, card, quant, "llama.cpp 2024-05", 1024).fits


@pytest.mark.parametrize("row", OUT_OF_MEMORY)
def test_no_false_fits_where_memory_ran_out(row: tuple[str, int, str, str]) -> None:
    assert not run(*row)


@pytest.mark.parametrize("row", RAN)
def test_what_ran_fits(row: tuple[str, int, str, str]) -> None:
    assert run(*row)


def test_v4_pro_on_h20() -> None:
    card = find_model("DeepSeek-V4-Pro")
    assert not runs(find_device("h20-96"), 8, card, "FP4", "sglang", 8192).fits
    assert runs(find_device("h20-141"), 8, card, "FP4", "sglang", 8192).fits
    assert runs(find_device("h20-96"), 16, card, "FP4", "sglang", 1 << 20).fits
    assert not runs(find_device("h200"), 8, card, "fp8", "vllm", 8192).fits


def test_serving_of_published_runs_fits() -> None:
    for device, count, model, quant in (
        ("h200_sxm", 8, "DeepSeek-R1", "fp8"), ("b200_sxm", 4, "DeepSeek-R1", "fp8"),
        ("b200_sxm", 4, "DeepSeek-R1", "fp4"), ("h200_sxm", 8, "GLM-5", "fp8"),
        ("h200_sxm", 8, "Kimi-K2.5", "int4"), ("h200_sxm", 1, "gpt-oss-120b", "fp4"),
        ("b300_sxm", 8, "Qwen3.5-397B-A17B", "bf16"), ("b200_sxm", 1, "Llama-3.1-70B", "fp4"),
    ):  # fmt: skip
        assert runs(find_device(device), count, find_model(model), quant, "vllm 0.19.0", 9216, 64).fits


def test_devices_and_precision_that_were_not_stated() -> None:
    assert runs(
        find_device("mi355x"), None, find_model("DeepSeek-V4-Pro"), "FP4", "vLLM/SGLang day0", 9216
    ).fits
    assert runs(find_device("h200"), 1, find_model("DeepSeek-V4-Flash"), "", "ds4", 1024).fits
    half = runs(find_device("rtx-4070ti"), 1, find_model("gpt-oss-20b"), "MXFP4", "ollama/llama.cpp", 1024)
    assert half.fits
    assert any("host" in note for note in half.notes)
    assert not runs(find_device("rtx-4070ti"), 1, find_model("gpt-oss-120b"), "MXFP4", "ollama", 1024).fits


def one(device: Device, context: int, concurrency: int, name: str = "Meta-Llama-3.1-8B", **more: Any) -> Any:
    arch = shape(name)
    load = Load(context=context, concurrency=concurrency, kv_quant=more.pop("kv", "f16"))
    count = more.pop("count", 1)
    engine = more.pop("engine", "vllm")
    weights = weights_bytes(arch, more.pop("quant", "bf16"))
    return fit(device, count, arch, weights, engine, load, as_of=DAY, **more)


@given(
    st.sampled_from(["Meta-Llama-3.1-8B", "gpt-oss-120b", "DeepSeek-V3", "Qwen3.5-27B", "DeepSeek-V4-Pro"]),
    st.sampled_from(["vllm", "llamacpp", "sglang", "transformers"]),
    st.integers(1, 1 << 20),
    st.integers(1, 1 << 20),
    st.integers(1, 512),
    st.integers(1, 512),
    st.sampled_from([1, 2, 8, 72]),
)
@settings(max_examples=80, deadline=None)
def test_bytes_grow_with_context_and_concurrency(
    name: str, engine: str, context: int, more: int, concurrency: int, others: int, count: int
) -> None:
    device = find_device("h200")
    given_ = {"name": name, "engine": engine, "count": count, "quant": "fp8"}
    base = one(device, context, concurrency, **given_)
    longer = one(device, context + more, concurrency, **given_)
    wider = one(device, context, concurrency + others, **given_)
    for bigger in (longer, wider):
        assert bigger.need.low >= base.need.low * (1 - 1e-12)
        assert bigger.need.value >= base.need.value * (1 - 1e-12)
        assert bigger.need.high >= base.need.high * (1 - 1e-12)
    assert base.need.low <= base.need.value <= base.need.high


@given(
    st.sampled_from(sorted(PRECISIONS)),
    st.sampled_from(["Meta-Llama-3-8B", "Mixtral-8x7B-v0.1", "Qwen3-0.6B"]),
)
@settings(max_examples=60, deadline=None)
def test_every_precision_is_between_one_and_33_bits(quant: str, name: str) -> None:
    arch = shape(name)
    bits = 8 * weights_bytes(arch, quant).total.value / arch.params_total()
    assert 1.5 < bits < 32.1


@given(st.sampled_from(sorted(d for d in devices() if devices()[d].mem_bytes)), st.integers(1, 200_000))
@settings(max_examples=60, deadline=None)
def test_the_limits_told_are_the_limits(device: str, context: int) -> None:
    verdict = one(find_device(device), context, 2, "Meta-Llama-3.1-8B", engine="llamacpp", quant="q4_k_m")
    if verdict.sequences:
        assert one(find_device(device), context, verdict.sequences, engine="llamacpp", quant="q4_k_m").fits
        assert not one(
            find_device(device), context, verdict.sequences + 1, engine="llamacpp", quant="q4_k_m"
        ).fits
    assert verdict.fits == (verdict.sequences >= 2)
    assert verdict.fits == (verdict.margin >= 0)


def test_windows_keep_the_cache_small() -> None:
    arch, engine = shape("gemma-3-27b-it"), engine_named("vllm")
    long, short = (cache_bytes(arch, engine, Load(context=n)) for n in (131072, 1024))
    full = arch.layer_count * 16 * 128 * 2 * 2 * 131072
    assert short < long < full / 5


def test_a_latent_cache_is_shared_out_by_sequences() -> None:
    few = one(find_device("h200"), 131072, 1, "DeepSeek-V3", count=8, quant="fp8")
    many = one(find_device("h200"), 131072, 8, "DeepSeek-V3", count=8, quant="fp8")
    assert many.parts["cache"] <= 8 * few.parts["cache"]


def test_uncertain_is_not_fits() -> None:
    arch = shape("Meta-Llama-3-8B")
    device = find_device("rtx-4090")
    middle = one(device, 1024, 1, "Meta-Llama-3-8B", engine="llamacpp", quant="f16").need.value
    tight = int(middle / 0.985)
    verdict = fit(
        device,
        1,
        arch,
        weights_bytes(arch, "f16"),
        "llamacpp",
        Load(context=1024),
        as_of=DAY,
        memory_bytes=tight,
    )
    assert verdict.answer == "too close to tell"
    assert not verdict.fits


def test_unknown_memory_is_said_and_not_guessed() -> None:
    verdict = one(find_device("drive-agx-thor"), 1024, 1)
    assert (verdict.answer, verdict.fits, verdict.have_bytes, verdict.margin) == (
        "not known",
        False,
        None,
        None,
    )
    assert "--memory" in verdict.notes[0]


def test_no_memory_at_all_does_not_fit() -> None:
    device = msgspec.structs.replace(find_device("gb10"), mem_bytes=1 << 30)
    assert one(device, 1024, 1).answer == "does not fit"
    assert one(device, 1024, 1).sequences == 0


@pytest.mark.parametrize(
    ("context", "concurrency", "count"),
    [(0, 1, 1), (-5, 1, 1), (10**15, 1, 1), (1, 0, 1), (1, 10**9, 1), (1, 1, 0), (1, 1, -1), (1, 1, 10**7)],
)
def test_absurd_loads_are_invalid(context: int, concurrency: int, count: int) -> None:
    with pytest.raises(Invalid):
        one(find_device("h200"), context, concurrency, count=count)


@pytest.mark.parametrize("bad", [1.5, True, "8", None])
def test_a_load_that_is_no_whole_number_is_invalid(bad: Any) -> None:
    with pytest.raises(Invalid):
        one(find_device("h200"), bad, 1)


def test_unknown_names_are_invalid() -> None:
    for call in (
        lambda: precision("q9_k"),
        lambda: precision(""),
        lambda: precision("x" * 1000),
        lambda: engine_named("teleport"),
        lambda: engine_named(""),
        lambda: kv_bits("f12"),
        lambda: bytes_per_param("q4_k_m", "soul"),
        lambda: runs(find_device("h100"), 1, find_model("Apertus-70B-2509"), "bf16", "vllm", 1024),
    ):
        with pytest.raises(Invalid) as caught:
            call()
        assert len(caught.value.what) < 200
        assert caught.value.remedy


def test_bytes_per_parameter_by_part() -> None:
    assert bytes_per_param("bf16") == 2
    assert bytes_per_param("fp8", "embedding") == 2
    assert bytes_per_param("mxfp4", "routed_experts") == pytest.approx(4.25 / 8)
    assert bytes_per_param("nvfp4") == pytest.approx(4.5 / 8)
    assert bytes_per_param("q4_k_m", "head") == pytest.approx(6.5625 / 8)
    assert bytes_per_param("q4_k_m", "norm") == 4
    assert bytes_per_param("fp8", "norm") == 2
    assert KV_BITS["q8_0"] == 8.5


def test_every_known_model_has_bytes_at_every_usual_precision() -> None:
    for card in models().values():
        if card.architecture is None:
            continue
        sizes = [weights_bytes(card.architecture, q).total.value for q in ("q4_k_m", "fp8", "bf16")]
        assert sizes == sorted(sizes), card.id
