"""The attention of one layer out of a configuration: its kind, what it caches, its parameters.

Each function follows the model code that publishes the weights (``transformers``; for DeepSeek V4 its
reference code as served by vLLM and SGLang).
"""

from __future__ import annotations

from typing import Final

from allod.planner.facts import MAX_POSITION, Facts, wrong
from allod.planner.layers import Layer

HEADS: Final = ("num_attention_heads", "n_head", "n_heads")
QK_NORMS: Final = (
    "qwen3",
    "gemma3",
    "gemma4",
    "minimax",
    "olmo2",
    "apertus",
    "glm4_moe",
    "hunyuan",
    "step3",
    "sarvam",
)
BIASED: Final = ("qwen2", "gpt_oss", "gpt2")
MAX_HEADS: Final = 100_000


def attention_layer(facts: Facts, hidden: int, index: int, kind: str) -> Layer:
    """Return layer ``index`` without its feed-forward network; ``kind`` is a word of the configuration.

    Raises:
        Invalid: the kind is not known, or its dimensions are missing or contradict each other.

    """
    if kind == "linear_attention" and not facts.has("linear_num_value_heads"):
        wrong("its linear attention is of no kind this planner knows", "layer_types")
    if kind.startswith("compressed-"):
        return _compressed(facts, hidden, _ratio(kind))
    recurrent = {"linear_attention": _delta, "kda": _kimi_delta, "mamba": _mamba}.get(kind)
    if recurrent is not None:
        return recurrent(facts, hidden)
    if facts.has("kv_lora_rank"):
        return _latent(facts, hidden, index)
    if kind not in {"full", "full_attention", "attention", "sliding_attention", "chunked_attention"}:
        wrong(f"its layers are of the unknown kind {kind[:40]!r}", "layer_types")
    layer = _grouped(facts, hidden, index, kind)
    return _beside_mamba(facts, hidden, layer) if facts.text("model_type") == "falcon_h1" else layer


def _ratio(kind: str) -> int:
    text = kind.removeprefix("compressed-")
    if not text.isdigit() or len(text) > len(str(MAX_POSITION)):
        wrong(f"a compress ratio is {text[:40]!r}, expected a whole number", "compress_ratios")
    return int(text)


def _heads(facts: Facts) -> int:
    return facts.number(*HEADS, low=1, high=MAX_HEADS)


def _grouped(facts: Facts, hidden: int, index: int, kind: str) -> Layer:
    """Return multi-head, multi-query or grouped-query attention, over all tokens or a window."""
    sliding = kind in {"sliding_attention", "chunked_attention"}
    prefix = "swa_" if sliding else ""
    heads = facts.number(f"{prefix}num_attention_heads", *HEADS, low=1, high=MAX_HEADS)
    kv_heads = _kv_heads(facts, heads, index, sliding=sliding)
    if heads % kv_heads:
        wrong(f"{heads} heads do not divide among {kv_heads} key heads", "num_key_value_heads")
    whole = facts.number("global_head_dim", default=0)
    if not facts.has("head_dim", "attention_head_dim") and hidden % heads:
        wrong(f"{hidden} hidden elements do not divide among {heads} heads", "num_attention_heads")
    width = facts.number(
        f"{prefix}head_dim", "head_dim", "attention_head_dim", low=1, default=hidden // heads
    )
    if whole and not sliding:
        width = whole
    value = facts.number(f"{prefix}v_head_dim", "v_head_dim", low=1, default=width)
    window = 0
    if sliding:
        keys = ("attention_chunk_size",) if kind == "chunked_attention" else ()
        window = facts.number(*keys, "sliding_window", "sliding_window_size", low=1, high=MAX_POSITION)
    model = facts.text("model_type")
    biased = facts.flag("attention_bias", default=model.startswith(BIASED))
    gate = facts.flag("attn_output_gate") or facts.flag("attention_output_gate")
    query = hidden * heads * width * (2 if gate else 1)
    same = facts.flag("attention_k_eq_v") and not sliding
    values = 0 if same else hidden * kv_heads * value
    output = heads * value * hidden
    bias = (heads * width + kv_heads * (width + value)) if biased else 0
    if biased and model == "gpt_oss":
        bias += hidden + heads
    norms = 2 * width if model.startswith(QK_NORMS) or facts.flag("use_qk_norm") else 0
    index_heads, index_dim, topk, index_params = _block_index(facts, hidden, index)
    return Layer(
        attention="sliding" if sliding else "full",
        heads=heads,
        kv_heads=kv_heads,
        head_dim=width,
        value_dim=value,
        window=window,
        index_heads=index_heads,
        index_dim=index_dim,
        index_topk=topk,
        attention_params=query + hidden * kv_heads * width + values + output + bias + index_params,
        value_params=values,
        output_params=output,
        norm_params=norms,
    )


def _kv_heads(facts: Facts, heads: int, index: int, *, sliding: bool) -> int:
    blocks = facts.items("block_configs")
    if blocks is not None and index < len(blocks):
        attention = Facts(blocks[index]).part("attention")
        group = attention.number("n_heads_in_group", high=MAX_HEADS, default=0) if attention else 0
        return max(heads // group, 1) if group else heads
    keys = ["num_key_value_heads", "num_kv_heads", "n_kv_heads"]
    if sliding and facts.has("swa_num_key_value_heads"):
        keys.insert(0, "swa_num_key_value_heads")
    if not sliding and facts.has("num_global_key_value_heads"):
        keys.insert(0, "num_global_key_value_heads")
    multi_query = 1 if facts.flag("multi_query") else heads
    return facts.number(*keys, low=1, high=MAX_HEADS, default=multi_query)


def _block_index(facts: Facts, hidden: int, index: int) -> tuple[int, int, int, int]:
    """Return (heads, dim, tokens attended, parameters) of a block-sparse index (MiniMax M3)."""
    sparse = facts.part("sparse_attention_config")
    if sparse is None or not sparse.flag("use_sparse_attention"):
        return 0, 0, 0, 0
    frequency = sparse.items("sparse_attention_freq")
    if frequency is not None and index < len(frequency) and not frequency[index]:
        return 0, 0, 0, 0
    heads = sparse.number("sparse_num_index_heads", high=MAX_HEADS, default=0)
    dim = sparse.number("sparse_index_dim", default=0)
    blocks = sum(
        sparse.number(key, high=MAX_POSITION, default=0)
        for key in ("sparse_topk_blocks", "sparse_init_block", "sparse_local_block")
    )
    tokens = blocks * sparse.number("sparse_block_size", high=MAX_POSITION, default=0)
    return heads, dim, tokens, hidden * dim * (heads + 1)


def _latent(facts: Facts, hidden: int, index: int) -> Layer:
    """Return multi-head latent attention, with the sparse index of DeepSeek V3.2 where it is stated."""
    heads = _heads(facts)
    latent = facts.number("kv_lora_rank", low=1)
    rope = facts.number("qk_rope_head_dim", default=0)
    nope = facts.number("qk_nope_head_dim", low=1)
    value = facts.number("v_head_dim", low=1)
    low_rank = facts.number("q_lora_rank", default=0)
    query = (
        hidden * low_rank + low_rank * heads * (nope + rope) if low_rank else hidden * heads * (nope + rope)
    )
    output = heads * value * hidden
    gate = hidden * heads * value if facts.flag("mla_use_output_gate") else 0
    values = latent * heads * value
    params = query + hidden * (latent + rope) + latent * heads * nope + values + output + gate
    index_heads, index_dim = 0, facts.number("index_head_dim", default=0)
    types = facts.items("indexer_types")
    shared = types is not None and index < len(types) and types[index] == "shared"
    if index_dim and not shared:
        index_heads = facts.number("index_n_heads", low=1, high=MAX_HEADS)
        params += low_rank * index_heads * index_dim + hidden * (index_dim + index_heads) + 2 * index_dim
    return Layer(
        attention="mla",
        heads=heads,
        kv_heads=1,
        head_dim=latent + rope,
        value_dim=latent,
        prompt_dim=nope + rope + value,
        latent=latent + rope,
        index_heads=index_heads,
        index_dim=0 if shared else index_dim,
        index_topk=facts.number("index_topk", high=MAX_POSITION, default=0),
        attention_params=params,
        value_params=values,
        output_params=output,
        norm_params=low_rank + latent,
    )


def _compressed(facts: Facts, hidden: int, ratio: int) -> Layer:
    """Return attention over compressed entries (DeepSeek V4): ratio 4 indexed, 128 not, 0 a window."""
    heads, width = _heads(facts), facts.number("head_dim", low=1)
    low_rank = facts.number("q_lora_rank", low=1)
    groups, out_rank = facts.number("o_groups", low=1), facts.number("o_lora_rank", low=1)
    if not 0 <= ratio <= MAX_POSITION or (heads * width) % groups:
        wrong(f"a compress ratio of {ratio}, or {heads} heads in {groups} groups", "compress_ratios")
    output = heads * width * out_rank + groups * out_rank * hidden
    params = hidden * low_rank + low_rank * heads * width + hidden * width + output + heads
    index_heads = index_dim = topk = 0
    indexed = facts.number("index_compress_ratio", high=MAX_POSITION, default=4)
    if ratio == indexed:
        index_heads = facts.number("index_n_heads", low=1, high=MAX_HEADS)
        index_dim = facts.number("index_head_dim", low=1)
        topk = facts.number("index_topk", low=1, high=MAX_POSITION)
        params += low_rank * index_heads * index_dim + hidden * index_heads + 4 * hidden * index_dim
    if ratio:
        overlap = 2 if ratio == indexed else 1
        params += overlap * width * (2 * hidden + ratio)
    return Layer(
        attention="hca" if ratio and ratio != indexed else "csa" if ratio else "sliding",
        heads=heads,
        kv_heads=1,
        head_dim=width,
        value_dim=0 if not ratio else width,
        prompt_dim=2 * width,
        window=facts.number("sliding_window", low=1, high=MAX_POSITION),
        latent=width,
        ratio=ratio or 1,
        index_heads=index_heads,
        index_dim=index_dim,
        index_topk=topk,
        attention_params=params,
        output_params=output,
        norm_params=low_rank + width,
    )


def _delta(facts: Facts, hidden: int) -> Layer:
    """Return a gated delta network (Qwen3-Next and 3.5)."""
    heads = facts.number("linear_num_value_heads", low=1, high=MAX_HEADS)
    keys = facts.number("linear_num_key_heads", low=1, high=MAX_HEADS)
    key_dim, value_dim = (
        facts.number("linear_key_head_dim", low=1),
        facts.number("linear_value_head_dim", low=1),
    )
    kernel = facts.number("linear_conv_kernel_dim", low=1, high=4096)
    wide = 2 * keys * key_dim + heads * value_dim
    output = heads * value_dim * hidden
    params = hidden * (wide + heads * value_dim + 2 * heads) + wide * kernel + 2 * heads + output
    return Layer(
        attention="linear",
        heads=heads,
        state_elements=heads * key_dim * value_dim + wide * (kernel - 1),
        attention_params=params,
        output_params=output,
        norm_params=value_dim,
    )


def _kimi_delta(facts: Facts, hidden: int) -> Layer:
    """Return Kimi delta attention: a decay for each channel."""
    linear = facts.part("linear_attn_config")
    if linear is None:
        wrong("it lacks linear_attn_config", "linear_attn_config")
    heads, width = linear.number("num_heads", low=1, high=MAX_HEADS), linear.number("head_dim", low=1)
    kernel = linear.number("short_conv_kernel_size", low=1, high=4096)
    wide = heads * width
    gates = 2 if linear.flag("use_full_rank_gate") else 0
    decay = (
        2 * (hidden * width + width * wide) if not gates else hidden * width + width * wide + hidden * wide
    )
    params = 4 * hidden * wide + 3 * wide * kernel + decay + hidden * heads + 2 * wide
    return Layer(
        attention="linear",
        heads=heads,
        state_elements=heads * width * width + 3 * wide * (kernel - 1),
        attention_params=params,
        output_params=wide * hidden,
        norm_params=width,
    )


def _mamba_sizes(facts: Facts, hidden: int) -> tuple[int, int, int, int, int, int]:
    """Return (heads, inner width, state, groups, kernel, parameters) of a Mamba-2 mixer."""
    heads = facts.number("mamba_num_heads", "mamba_n_heads", low=1, high=MAX_HEADS)
    width = facts.number("mamba_head_dim", "mamba_d_head", low=1)
    state = facts.number("ssm_state_size", "mamba_d_state", low=1)
    groups = facts.number("n_groups", "mamba_n_groups", low=1)
    kernel = facts.number("conv_kernel", "mamba_d_conv", low=1, high=4096)
    inner = facts.number("mamba_d_ssm", low=1, default=heads * width)
    mixed = inner + 2 * groups * state
    params = hidden * (inner + mixed + heads) + mixed * (kernel + 1) + 3 * heads + inner * hidden
    return heads, inner, state, groups, kernel, params


def _mamba(facts: Facts, hidden: int) -> Layer:
    """Return a Mamba-2 layer: a state of constant size."""
    heads, inner, state, groups, kernel, params = _mamba_sizes(facts, hidden)
    return Layer(
        attention="ssm",
        heads=heads,
        state_elements=inner * state + (inner + 2 * groups * state) * (kernel - 1),
        attention_params=params,
        output_params=inner * hidden,
        norm_params=inner,
    )


def _beside_mamba(facts: Facts, hidden: int, layer: Layer) -> Layer:
    """Return a layer whose attention runs beside a Mamba-2 mixer (Falcon-H1)."""
    import msgspec  # noqa: PLC0415

    _, inner, state, groups, kernel, params = _mamba_sizes(facts, hidden)
    return msgspec.structs.replace(
        layer,
        state_elements=inner * state + (inner + 2 * groups * state) * (kernel - 1),
        attention_params=layer.attention_params + params,
    )
