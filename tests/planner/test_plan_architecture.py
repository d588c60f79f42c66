"""Shapes of models: totals their makers publish, cache and arithmetic by kind of attention, hostile files."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.planner.architecture import Architecture, from_config
from allod.planner.catalogue import find_model, models

PLAIN: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "hidden_act": "silu",
    "max_position_embeddings": 8192, "tie_word_embeddings": False,
}  # fmt: skip


def shape(name: str) -> Architecture:
    found = find_model(name).architecture
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "total_b", "active_b"),
    [
        ("DeepSeek-V3", 671.0, 37.55),
        ("Qwen3-235B-A22B", 235.1, 22.2),
        ("Qwen3-Coder-480B-A35B-Instruct", 480.2, 35.5),
        ("Meta-Llama-3.1-405B", 405.9, 405.9),
        ("gpt-oss-120b", 116.8, 5.7),
        ("gpt-oss-20b", 20.9, 4.2),
        ("Kimi-K2-Instruct", 1026.4, 32.9),
        ("Mixtral-8x7B-v0.1", 46.7, 12.9),
        ("DeepSeek-V4-Flash", 284.3, 13.8),
        ("MiMo-V2-Flash", 308.8, 15.4),
        ("Nemotron-3-Nano", 31.6, 3.6),
        ("Nemotron-3-Super", 120.7, 12.8),
        ("Qwen3.5-397B-A17B", 396.3, 17.3),
        ("Llama-4-Maverick-17B-128E-Instruct", 400.7, 17.2),
        ("Llama-4-Scout-17B-16E-Instruct", 107.8, 17.2),
        ("gemma-3-27b-it", 27.0, 27.0),
        ("Kimi-K3", 2779.5, 105.4),
        ("sarvam-105b", 106.0, 12.4),
    ],
)
def test_parameter_totals_are_those_the_makers_publish(name: str, total_b: float, active_b: float) -> None:
    names = [one for one in models() if name in one]
    arch = models()[names[0]].architecture
    assert arch is not None
    assert arch.params_total() / 1e9 == pytest.approx(total_b, rel=1e-3)
    assert arch.params_active() / 1e9 == pytest.approx(active_b, abs=0.051)


def test_the_parts_are_the_whole() -> None:
    for card in models().values():
        if card.architecture is not None:
            assert sum(card.architecture.parts().values()) == card.architecture.params_total()
            assert card.architecture.params_active() <= card.architecture.params_total() + 1


def test_cache_by_kind_of_attention() -> None:
    assert shape("Meta-Llama-3-70B").kv_elements(1000) == 80 * 8 * 128 * 2 * 1000  # grouped
    assert shape("DeepSeek-V3").kv_elements(1000) == 61 * (512 + 64) * 1000  # latent
    assert shape("DeepSeek-V3.2").kv_elements(1000) == 61 * (512 + 64 + 128) * 1000  # and its index
    oss = shape("gpt-oss-120b")
    assert oss.kv_elements(100_000) == 18 * 1024 * 100_000 + 18 * 1024 * 128  # half of it a window
    qwen = shape("Qwen3.5-27B")
    assert qwen.kv_elements(1000) == 16 * 4 * 256 * 2 * 1000  # a quarter attends, the rest holds a state
    assert qwen.state_elements() > 48 * 48 * 128 * 128


def test_deepseek_v4_by_its_compress_ratios() -> None:
    new, old = shape("DeepSeek-V4-Pro"), shape("DeepSeek-V3.2")
    million = 1 << 20
    slope = (new.kv_elements(2 * million) - new.kv_elements(million)) / million
    assert slope == 30 * (512 + 128) / 4 + 31 * 512 / 128 == 4924
    assert 2 * new.kv_elements(million) / 2**30 == pytest.approx(9.62, abs=0.01)
    assert 2 * old.kv_elements(million) / 2**30 == pytest.approx(83.9, abs=0.05)
    shares = [new.flops_per_token(n) / old.flops_per_token(n) for n in (million, 131072, 8192)]
    assert shares == pytest.approx([0.262, 0.55, 0.93], abs=0.005)


def test_a_prompt_costs_the_sum_of_its_tokens() -> None:
    for name in ("Meta-Llama-3-8B", "gpt-oss-20b", "Qwen3.5-27B", "DeepSeek-V4-Flash"):
        arch = shape(name)
        length = 3000
        head = arch.vocab * arch.hidden * 2.0
        each = sum(arch.flops_per_token(n) - head for n in range(1, length + 1)) + head
        assert arch.flops_prompt(length) == pytest.approx(each, rel=0.01)


def test_a_latent_prompt_reads_decompressed_heads() -> None:
    arch = shape("DeepSeek-V3")
    pairs = 2 * 61 * 128 * (192 + 128) * 10_000**2 / 2
    body = 2 * (arch.params_active() - 2 * arch.vocab * arch.hidden) * 10_000
    assert arch.flops_prompt(10_000) == pytest.approx(body + pairs, rel=0.001)


@given(st.integers(1, 200), st.sampled_from([1, 2, 4, 8]), st.integers(1, 1 << 21), st.integers(1, 1 << 20))
@settings(max_examples=60, deadline=None)
def test_more_layers_and_longer_contexts_never_need_less(
    layers: int, kv: int, context: int, more: int
) -> None:
    one = from_config(PLAIN | {"num_hidden_layers": layers, "num_key_value_heads": kv})
    two = from_config(PLAIN | {"num_hidden_layers": layers + 1, "num_key_value_heads": kv})
    assert one.params_total() < two.params_total()
    assert one.kv_elements(context) < two.kv_elements(context)
    assert one.kv_elements(context) < one.kv_elements(context + more)
    assert one.flops_per_token(context) < one.flops_per_token(context + more)


@pytest.mark.parametrize("name", sorted(models()))
def test_every_architecture_is_monotone_in_context(name: str) -> None:
    arch = models()[name].architecture
    if arch is None:
        return
    contexts = [1, 7, 128, 129, 1024, 4096, 131072, 1 << 20]
    for measure in (arch.kv_elements, arch.flops_per_token, arch.flops_prompt):
        values = [measure(n) for n in contexts]
        assert values == sorted(values)
        assert all(math.isfinite(value) and value >= 0 for value in values)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_hidden_layers": -3}, "num_hidden_layers"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"num_hidden_layers": "many"}, "num_hidden_layers"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"hidden_size": 4096.5}, "hidden_size"),
        ({"hidden_size": float("nan")}, "hidden_size"),
        ({"hidden_size": 10**30}, "hidden_size"),
        ({"num_attention_heads": 33, "num_key_value_heads": 33}, "num_attention_heads"),
        ({"num_key_value_heads": 7}, "num_key_value_heads"),
        ({"vocab_size": None}, "vocab_size"),
        ({"vocab_size": [1, 2]}, "vocab_size"),
        ({"num_experts": 8, "num_experts_per_tok": 9}, "num_experts_per_tok"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types"),
        ({"layer_types": ["telepathy"] * 32}, "layer_types"),
        ({"compress_ratios": [-1] * 32}, "compress_ratios"),
        ({"compress_ratios": ["9" * 400] * 32}, "compress_ratios"),
        ({"kv_lora_rank": 512}, "qk_nope_head_dim"),
        ({"hidden_act": 7}, "hidden_act"),
        ({"text_config": "no"}, "config"),
        ({"hybrid_override_pattern": "MM*X"}, "num_hidden_layers"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"quantization_config": []}, "config"),
    ],
)
def test_contradictory_configurations_are_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(Invalid) as caught:
        from_config(PLAIN | change)
    assert named in {caught.value.param, caught.value.why.split()[0]} or named in caught.value.why
    assert len(caught.value.why) < 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
KEYS = (
    "num_hidden_layers hidden_size num_attention_heads num_key_value_heads head_dim "
    "intermediate_size vocab_size sliding_window layer_types n_routed_experts "
    "num_experts_per_tok moe_intermediate_size kv_lora_rank compress_ratios "
    "hybrid_override_pattern linear_attn_config vision_config quantization_config text_config "
    "block_configs sparse_attention_config moe_layer_freq mlp_only_layers "
    "num_nextn_predict_layers hc_mult model_type layers_block_type attention_chunk_size "
).split()


@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4))
@settings(max_examples=300, deadline=None)
def test_no_configuration_does_worse_than_invalid(change: dict[str, Any]) -> None:
    try:
        arch = from_config(PLAIN | change)
    except Invalid:
        return
    assert 0 < arch.params_total() < 1e20
    assert arch.layer_count <= 1000
    assert math.isfinite(arch.flops_per_token(4096))


@pytest.mark.parametrize("bad", [None, 3, "x", [], [1]])
def test_what_is_no_object_is_no_configuration(bad: Any) -> None:
    with pytest.raises(Invalid):
        from_config(bad)


def test_a_window_without_a_list_of_layers_keeps_the_makers_rhythm() -> None:
    small = PLAIN | {"sliding_window": 128}
    for kind, full in (("gpt_oss", 16), ("gemma2", 16), ("gemma3_text", 5), ("olmo2", 8), ("mistral", 0)):
        arch = from_config(small | {"model_type": kind})
        assert sum(layer.count for layer in arch.layers if layer.attention == "full") == full, kind
    written = from_config(small | {"model_type": "exaone4", "sliding_window_pattern": "LLLG"})
    assert sum(layer.count for layer in written.layers if layer.attention == "full") == 8


def test_a_kind_nobody_checked_is_told_and_given_room() -> None:
    from allod.planner.memory import weights_bytes

    arch = from_config(PLAIN | {"model_type": "brand_new"})
    total = weights_bytes(arch, "bf16").total
    assert not arch.familiar
    assert total.high >= 1.1 * total.value - 1


def test_numbers_repeated_for_every_layer_are_read() -> None:
    mixed = PLAIN | {"num_experts": 8, "num_experts_per_tok": [2] * 32, "moe_intermediate_size": [512] * 32}
    assert from_config(mixed).layers[0].experts_per_token == 2
    with pytest.raises(Invalid):
        from_config(mixed | {"num_experts_per_tok": [2] * 31 + [3]})
