"""From a Hugging Face ``config.json`` to an architecture: which layer is of which kind, and its dimensions.

Key names are those the model code of ``transformers`` reads. What a configuration does not state is taken
as that code takes it; what it contradicts is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from allod.planner.architecture import Architecture
from allod.planner.attentions import attention_layer
from allod.planner.facts import (
    MAX_EXPERTS,
    MAX_LAYERS,
    MAX_POSITION,
    MAX_VOCAB,
    Facts,
    wrong,
)
from allod.planner.layers import Layer

TEXT_PARTS: Final = ("text_config", "language_config", "llm_config")
TWO_MATRICES: Final = {"relu2", "relu", "gelu", "gelu_new", "gelu_fast", "xielu", "squared_relu"}
GATED_ANYWAY: Final = {"gemma", "gemma2", "gemma3", "gemma3_text", "gemma4_text"}
FAMILIES: Final = frozenset(
    "llama mistral mistral3 ministral3 mixtral qwen2 qwen2_moe qwen3 qwen3_moe qwen3_next qwen3_5_text "
    "qwen3_5_moe_text qwen3_vl_text qwen3_vl_moe_text gemma gemma2 gemma3 gemma3_text gemma4_text phi phi3 "
    "gpt_oss deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v4 kimi_k2 kimi_linear glm4_moe glm_moe_dsa "
    "minimax_m2 minimax_m3 mimo mimo_v2_flash step3p7 nemotron_h nemotron-nas llama4_text hunyuan_v1_moe "
    "hunyuan_moe apertus sarvam_moe sarvam_mla falcon_h1 dots1 olmo2 olmo3 granite smollm3 exaone exaone4 "
    "starcoder2 cohere2".split()
)
"""Kinds whose counts were held against published sizes, or whose code is that of one."""
_PATTERN: Final = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}


def read_config(config: Any, name: str = "") -> Architecture:
    """Read a parsed ``config.json``; see ``architecture.from_config``."""
    whole = Facts(config)
    facts = next((part for key in TEXT_PARTS if (part := whole.part(key)) is not None), whole)
    hidden = facts.number("hidden_size", "n_embd", "d_model", "dim", low=1)
    blocks = _block_types(facts)
    if blocks is not None:
        layers, count = _sequenced(facts, hidden, blocks), len(blocks)
    else:
        count = facts.number("num_hidden_layers", "n_layer", "num_layers", "n_layers", low=1, high=MAX_LAYERS)
        layers = tuple(_layer(facts, index, count, hidden) for index in range(count))
    limit = facts.number(
        "max_position_embeddings", "n_positions", "model_max_length", high=MAX_POSITION, default=0
    )
    tied = _tied(whole, facts)
    family = facts.text("model_type") or whole.text("model_type")
    return Architecture(
        family=family[:60],
        familiar=family in FAMILIES,
        name=(name or whole.text("_name_or_path") or whole.text("model_type"))[:200],
        hidden=hidden,
        vocab=facts.number("vocab_size", low=1, high=MAX_VOCAB),
        tied=tied,
        max_position=limit,
        layers=_merged(layers),
        extra_embedding=_per_layer_tables(facts, count, hidden),
        hyper_params=_hyper(facts, hidden),
        draft_layers=_draft(whole, facts, count, hidden),
        vision_params=_vision(whole, hidden),
        stored=stored_precision(whole, facts),
        state_bytes_per_element=2 if facts.text("mamba_ssm_dtype") in {"bfloat16", "float16"} else 4,
    )


def _tied(whole: Facts, facts: Facts) -> bool:
    gemma = facts.text("model_type").startswith("gemma")
    outer = whole.flag("tie_word_embeddings", default=gemma)
    return facts.flag("tie_word_embeddings", default=outer)


def _block_types(facts: Facts) -> list[str] | None:
    """Return the block of each layer where attention and feed-forward are layers of their own."""
    listed = facts.items("layers_block_type")
    if listed is not None:
        blocks = [str(one) for one in listed]
    elif facts.has("hybrid_override_pattern"):
        blocks = [_PATTERN.get(one, one) for one in facts.text("hybrid_override_pattern")]
    else:
        return None
    if facts.has("num_hidden_layers") and facts.number("num_hidden_layers", high=MAX_LAYERS) != len(blocks):
        wrong(f"its pattern has {len(blocks)} blocks, num_hidden_layers says otherwise", "num_hidden_layers")
    odd = sorted(set(blocks) - set(_PATTERN.values()))
    if odd or not 0 < len(blocks) <= MAX_LAYERS:
        wrong(f"its blocks are {odd or len(blocks)}; known are {', '.join(_PATTERN.values())}")
    return blocks


def _sequenced(facts: Facts, hidden: int, blocks: Sequence[str]) -> tuple[Layer, ...]:
    out = []
    for index, block in enumerate(blocks):
        if block in {"mamba", "attention"}:
            kind = "mamba" if block == "mamba" else "full"
            layer = attention_layer(facts, hidden, index, kind)
            out.append(msgspec.structs.replace(layer, norm_params=layer.norm_params + hidden))
        else:
            bare = Layer(attention="none", norm_params=hidden)
            out.append(_moe(facts, bare, hidden) if block == "moe" else _dense(facts, bare, hidden))
    return tuple(out)


def _layer(facts: Facts, index: int, count: int, hidden: int) -> Layer:
    """Return one layer: attention of its kind, then dense or routed network."""
    layer = attention_layer(facts, hidden, index, _attention_kind(facts, index, count))
    norms = 4 if facts.text("model_type") in {"gemma2", "gemma3", "gemma3_text", "gemma4_text"} else 2
    layer = msgspec.structs.replace(layer, norm_params=layer.norm_params + norms * hidden)
    blocks = facts.per_layer("block_configs", count)
    if blocks is not None:
        return _pruned(facts, Facts(blocks[index]), layer, hidden)
    if not _routed(facts, index, count):
        return _dense(facts, layer, hidden)
    if facts.flag("enable_moe_block"):
        layer = _dense(facts, layer, hidden)
    return _moe(facts, layer, hidden)


def _attention_kind(facts: Facts, index: int, count: int) -> str:
    """Return the word by which ``attentions`` builds this layer."""
    for key, word in (("layer_types", "{}"), ("attention_types", "{}"), ("compress_ratios", "compressed-{}")):
        listed = facts.per_layer(key, count)
        if listed is not None:
            return word.format(listed[index])
    linear, pattern = facts.part("linear_attn_config"), facts.per_layer("hybrid_layer_pattern", count)
    if linear is not None:
        return "full_attention" if index + 1 in (linear.items("full_attn_layers") or ()) else "kda"
    if pattern is not None:
        return "sliding_attention" if pattern[index] else "full_attention"
    return _windowed_kind(facts, index)


def _windowed_kind(facts: Facts, index: int) -> str:
    """Return the kind where only a window, and perhaps a rhythm, is stated."""
    model = facts.text("model_type")
    if model == "llama4_text":
        return "full_attention" if (index + 1) % 4 == 0 else "chunked_attention"
    usual = {"gemma3": 6, "gemma3_text": 6, "gemma2": 2, "gpt_oss": 2, "olmo2": 4}.get(model, 0)
    every = _rhythm(facts, usual)
    if not facts.data.get("sliding_window") or not facts.flag("use_sliding_window", default=True):
        return "full_attention"
    return "full_attention" if every and (index + 1) % every == 0 else "sliding_attention"


def _rhythm(facts: Facts, usual: int) -> int:
    """Return which layers attend to all tokens: every so many; some makers write it as ``LLLG``."""
    pattern = facts.data.get("sliding_window_pattern")
    if isinstance(pattern, str):
        return min(len(pattern), MAX_LAYERS)
    return facts.number("sliding_window_pattern", "_sliding_window_pattern", high=MAX_LAYERS, default=usual)


def _routed(facts: Facts, index: int, count: int) -> bool:
    if not facts.has("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts"):
        return False
    kinds = facts.per_layer("mlp_layer_types", count)
    if kinds is not None:
        return str(kinds[index]) != "dense"
    frequency = facts.data.get("moe_layer_freq")
    if isinstance(frequency, list | str):
        listed = facts.per_layer("moe_layer_freq", count)
        return listed is not None and bool(listed[index])
    if facts.text("model_type") == "llama4_text":
        step = facts.number("interleave_moe_layer_step", low=1, high=MAX_LAYERS, default=1)
        return (index + 1) % step == 0
    if index in (facts.items("mlp_only_layers") or ()):
        return False
    step = facts.number("decoder_sparse_step", low=1, high=MAX_LAYERS, default=1)
    first = facts.number("first_k_dense_replace", "moe_layer_start_index", high=MAX_LAYERS, default=0)
    return index >= first and (index + 1) % step == 0


def _gated(facts: Facts) -> bool:
    """Tell whether the feed-forward network has a gate (three matrices) by its activation."""
    kind = facts.text("model_type")
    if kind.startswith(tuple(GATED_ANYWAY)):
        return True
    activation = facts.text("hidden_act") or facts.text("mlp_hidden_act") or facts.text("hidden_activation")
    return activation not in TWO_MATRICES


def _dense(facts: Facts, layer: Layer, hidden: int) -> Layer:
    keys = ("dense_intermediate_size", "intermediate_size_mlp", "intermediate_size", "n_inner", "ffn_dim")
    width = facts.number(*keys, low=1, default=4 * hidden if facts.has("n_embd") else None)
    return msgspec.structs.replace(layer, intermediate=width, gated=_gated(facts))


def _moe(facts: Facts, layer: Layer, hidden: int) -> Layer:
    experts = facts.number(
        "n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts", low=1, high=MAX_EXPERTS
    )
    used = facts.number(
        "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_topk",
        "moe_top_k", low=1, high=MAX_EXPERTS,
    )  # fmt: skip
    if used > experts:
        wrong(f"a token uses {used} of {experts} experts", "num_experts_per_tok")
    width = facts.number("moe_intermediate_size", "expert_intermediate_size", "intermediate_size", low=1)
    shared = facts.number(
        "n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts",
        high=MAX_EXPERTS, default=0,
    )  # fmt: skip
    if facts.text("model_type") == "llama4_text":
        shared = 1
    wide = facts.number(
        "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "share_expert_dim",
        "shared_intermediate_size", default=shared * width,
    )  # fmt: skip
    latent = facts.number("moe_latent_size", "routed_expert_hidden_size", default=0)
    return msgspec.structs.replace(
        layer,
        experts=experts,
        experts_per_token=used,
        moe_intermediate=width,
        shared_experts=shared or (1 if wide else 0),
        shared_intermediate=wide,
        expert_hidden=latent,
        latent_params=2 * hidden * latent,
        gated=_gated(facts),
        ffn_bias=facts.text("model_type") == "gpt_oss",
    )


def _pruned(facts: Facts, block: Facts, layer: Layer, hidden: int) -> Layer:
    """Return a layer of a pruned model whose blocks differ (``block_configs`` of nemotron-nas)."""
    attention, ffn = block.part("attention"), block.part("ffn")
    if attention is None or ffn is None:
        wrong("a block lacks attention or ffn", "block_configs")
    if attention.flag("no_op") or attention.flag("replace_with_linear"):
        linear = hidden * hidden if attention.flag("replace_with_linear") else 0
        layer = Layer(attention="none", attention_params=linear, norm_params=layer.norm_params)
    if ffn.flag("no_op"):
        return layer
    multiple = ffn.real("ffn_mult", 0.0, 0.0, 64.0)
    width = -(-int(2 * multiple * hidden / 3) // 256) * 256
    return msgspec.structs.replace(layer, intermediate=width, gated=_gated(facts))


def _per_layer_tables(facts: Facts, layers: int, hidden: int) -> int:
    """Return the parameters of per-layer embeddings (Gemma 3n and 4): a table and its projections."""
    narrow = facts.number("hidden_size_per_layer_input", default=0)
    if not narrow:
        return 0
    rows = facts.number("vocab_size_per_layer_input", low=1, high=MAX_VOCAB)
    return layers * narrow * (rows + 3 * hidden)


def _hyper(facts: Facts, hidden: int) -> int:
    """Return the parameters of hyper-connections (arXiv 2512.24880) of all layers, as in DeepSeek V4."""
    streams = facts.number("hc_mult", high=64, default=0)
    layers = facts.number("num_hidden_layers", high=MAX_LAYERS, default=0)
    return 2 * layers * (2 + streams) * streams * (streams * hidden + 1) if streams else 0


def _draft(whole: Facts, facts: Facts, count: int, hidden: int) -> tuple[Layer, ...]:
    """Return the speculation layers stored with the weights: each like the last layer, and one projection."""
    keys = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")
    number = facts.number(*keys, high=MAX_LAYERS, default=whole.number(*keys, high=MAX_LAYERS, default=0))
    if not number or _block_types(facts) is not None:
        return ()
    one = _layer(facts, count - 1, count, hidden)
    extra = one.attention_params + 2 * hidden * hidden
    return (msgspec.structs.replace(one, count=number, attention_params=extra),)


def _vision(whole: Facts, hidden: int) -> int:
    """Return the parameters of a vision tower of the usual shape, 0 where there is none or it is unusual."""
    tower = whole.part("vision_config")
    if tower is None or not tower.has("hidden_size", "width"):
        return 0
    width = tower.number("hidden_size", "width", low=1)
    depth = tower.number("num_hidden_layers", "depth", "layers", high=MAX_LAYERS, default=0)
    inner = tower.number("intermediate_size", default=4 * width)
    return depth * (4 * width * width + 2 * width * inner) + width * hidden


def stored_precision(whole: Facts, facts: Facts) -> str:
    """Return the quantisation the maker publishes (a name of ``quants``), empty if none is stated."""
    stated = whole.part("quantization_config") or facts.part("quantization_config")
    if stated is None:
        return ""
    method, text = stated.text("quant_method").lower(), str(stated.data).lower()
    if facts.text("expert_dtype") == "fp4" or whole.text("expert_dtype") == "fp4":
        return "fp4+fp8"
    if method in {"awq", "gptq"}:
        bits = stated.number("bits", "w_bit", low=2, high=8, default=4)
        return method if bits == 4 else f"int{bits}"  # noqa: PLR2004 (four bits are what the names mean)
    if method in {"mxfp4", "fp8"}:
        return method
    if "nvfp4" in text:
        return "nvfp4"
    whole_numbers = "'num_bits': 4" in text and "'type': 'int'" in text
    return "int4" if whole_numbers else "fp8" if "fp8" in text or "'num_bits': 8" in text else ""


def _merged(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Merge runs of equal layers into one with their count."""
    out: list[Layer] = []
    for layer in layers:
        if out and msgspec.structs.replace(out[-1], count=layer.count) == layer:
            out[-1] = msgspec.structs.replace(out[-1], count=out[-1].count + layer.count)
        else:
            out.append(layer)
    return tuple(out)
