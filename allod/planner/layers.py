"""One kind of decoder layer: its parameters by part, what it caches per token, and its arithmetic.

Formulas follow the model code that publishes the weights: grouped-query attention (arXiv 2305.13245),
multi-head latent attention and its sparse index (arXiv 2412.19437; DeepSeek V3.2), compressed attention of
DeepSeek V4 by its ``compress_ratios``, gated delta networks (arXiv 2412.06464), Kimi delta attention
(arXiv 2510.26692) and Mamba-2 (arXiv 2405.21060).
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Attention = Literal["full", "sliding", "mla", "csa", "hca", "linear", "ssm", "none"]
PARTS: Final = ("attention", "norm", "dense", "router", "routed_experts", "shared_experts")
"""Parts of a layer; a model adds ``embedding``, ``head`` and ``vision``."""
STATE_FLOPS: Final = 6
"""Operations per element of recurrent state and token: decay, update and read, a product and a sum each."""


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """``count`` layers of one kind. Dimensions are elements, zero where the kind has none.

    Attributes:
        heads, kv_heads, head_dim, value_dim: of attention; for ``mla`` the two dims are what decoding reads
            per head (latent + rope, latent), for ``csa`` and ``hca`` the one shared head.
        prompt_dim: query and value elements per head while a prompt is read (``mla`` decompresses).
        window: tokens a sliding layer, or the uncompressed tail of ``csa`` and ``hca``, keeps.
        latent: cached elements per token of ``mla``, ``csa`` and ``hca``.
        ratio: tokens merged into one cached entry (1: none).
        index_heads, index_dim, index_topk: of the sparse index; ``index_dim`` is cached per entry.
        state_elements: recurrent state of one sequence, independent of its length.
        attention_params: projections, biases, convolutions and index of one layer; ``value_params`` of
            these belong to the value projection, ``output_params`` to the output projection.
        norm_params: vectors that stay in full precision.
        intermediate, gated: of the dense network; gated has three matrices, else two.
        experts, experts_per_token, moe_intermediate, expert_hidden: of the routed network;
            ``expert_hidden`` is 0 where experts read the hidden size itself.
        shared_experts, shared_intermediate: width of all shared experts together.
        latent_params: projections into and out of a narrower expert space.
        ffn_bias: whether the experts carry biases.

    """

    count: int = 1
    attention: Attention = "full"
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    value_dim: int = 0
    prompt_dim: int = 0
    window: int = 0
    latent: int = 0
    ratio: int = 1
    index_heads: int = 0
    index_dim: int = 0
    index_topk: int = 0
    state_elements: int = 0
    attention_params: int = 0
    value_params: int = 0
    output_params: int = 0
    norm_params: int = 0
    intermediate: int = 0
    gated: bool = True
    experts: int = 0
    experts_per_token: int = 0
    moe_intermediate: int = 0
    expert_hidden: int = 0
    shared_experts: int = 0
    shared_intermediate: int = 0
    latent_params: int = 0
    ffn_bias: bool = False

    @property
    def matrices(self) -> int:
        """Matrices of a feed-forward network: gate, up and down, or up and down."""
        return 3 if self.gated else 2

    def expert_params(self, hidden: int) -> int:
        """Return the parameters of one routed expert."""
        width = self.expert_hidden or hidden
        bias = (self.matrices - 1) * self.moe_intermediate + width if self.ffn_bias else 0
        return self.matrices * width * self.moe_intermediate + bias

    def params(self, hidden: int) -> dict[str, int]:
        """Return the parameters of ONE layer by part (``PARTS``)."""
        return {
            "attention": self.attention_params,
            "norm": self.norm_params,
            "dense": self.matrices * hidden * self.intermediate,
            "router": hidden * self.experts,
            "routed_experts": self.experts * self.expert_params(hidden),
            "shared_experts": self.matrices * hidden * self.shared_intermediate + self.latent_params,
        }

    def active_params(self, hidden: int) -> int:
        """Return the parameters of one layer that one token uses."""
        parts = self.params(hidden)
        parts["routed_experts"] = self.experts_per_token * self.expert_params(hidden)
        return sum(parts.values())

    def kv_elements(self, context: float) -> float:
        """Return the cached elements of one sequence of ``context`` tokens in one layer, without state."""
        seen = min(context, self.window) if self.window else context
        match self.attention:
            case "full" | "sliding":
                return self.kv_heads * (self.head_dim + self.value_dim) * seen
            case "mla":
                return (self.latent + self.index_dim) * context
            case "csa" | "hca":
                return (self.latent + self.index_dim) / self.ratio * context + self.latent * seen
            case _:
                return 0.0

    def attended(self, context: float) -> float:
        """Return how many cached entries one token attends to."""
        seen = min(context, self.window) if self.window else context
        if self.attention in {"csa", "hca"}:
            entries = context / self.ratio
            return (min(entries, self.index_topk) if self.index_topk else entries) + seen
        if self.attention in {"full", "sliding", "mla"}:
            return min(seen, self.index_topk) if self.index_topk else seen
        return 0.0

    def attention_flops(self, context: float) -> float:
        """Return the operations of one decoded token in one layer besides its matrix products."""
        pairs = 2.0 * self.heads * (self.head_dim + self.value_dim) * self.attended(context)
        index = 2.0 * self.index_heads * self.index_dim * context / self.ratio
        return pairs + index + STATE_FLOPS * self.state_elements

    def prompt_flops(self, length: float) -> float:
        """Return the same, summed over the positions of a prompt of ``length`` tokens."""
        per_pair = 2.0 * self.heads * (self.prompt_dim or self.head_dim + self.value_dim)
        index = self.index_heads * self.index_dim * length * length / self.ratio
        return per_pair * self._pairs(length) + index + STATE_FLOPS * self.state_elements * length

    def _pairs(self, length: float) -> float:
        """Return the sum of ``attended(i)`` over i up to ``length``, exact for each straight piece."""

        def ramp(top: float, slope: float) -> float:
            bend = top / slope
            return slope * length * length / 2 if length <= bend else top * length - top * bend / 2

        tail = ramp(self.window, 1.0) if self.window else length * length / 2
        if self.attention in {"csa", "hca"}:
            slope = 1.0 / self.ratio
            return (ramp(self.index_topk, slope) if self.index_topk else slope * length * length / 2) + tail
        if self.attention in {"full", "sliding", "mla"}:
            return ramp(self.index_topk, 1.0) if self.index_topk and not self.window else tail
        return 0.0
