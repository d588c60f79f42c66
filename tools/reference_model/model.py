"""A small Llama-architecture transformer and the Muon optimiser, in plain torch.

Shapes use B (rows), T (tokens), D (width), H (heads), K (D // H), V (vocabulary). The layout follows the
`llama` architecture of GGUF: RMSNorm before each block, interleaved rotary pairs, SwiGLU, tied embeddings.
Muon: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), quintic
Newton-Schulz coefficients as published.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

ROPE_BASE = 10000.0
NORM_EPS = 1e-5
MAX_TRAINED = 512
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


@dataclass(frozen=True)
class Shape:
    """Sizes of one model: `layers`, `width` D, `heads` H, `hidden` (SwiGLU), `vocab` V."""

    layers: int
    width: int
    heads: int
    hidden: int
    vocab: int

    def as_dict(self) -> dict[str, int]:
        """Return the sizes as a plain dictionary, for a checkpoint."""
        return asdict(self)


def rope_table(length: int, head: int) -> tuple[Tensor, Tensor]:
    """Return cosine and sine tables of shape (length, head // 2)."""
    inverse = ROPE_BASE ** (-torch.arange(0, head, 2, dtype=torch.float32) / head)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), inverse)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate interleaved pairs of the last axis of x (B, H, T, K); llama.cpp's NORM rope."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def is_hidden(name: str, p: Tensor) -> bool:
    """Say whether a parameter is a hidden matrix (Muon's share) and not a gain or the embedding."""
    return p.dim() > 1 and "embed" not in name


class RMSNorm(nn.Module):
    """Root-mean-square norm with a learned gain of shape (D,)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis of x (..., D)."""
        return fn.rms_norm(x, (x.shape[-1],), self.weight, NORM_EPS)


class Layer(nn.Module):
    """One pre-norm block: causal attention, then SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d = shape.width
        self.heads = shape.heads
        self.attn_norm = RMSNorm(d)
        self.q = nn.Linear(d, d, bias=False)
        self.k = nn.Linear(d, d, bias=False)
        self.v = nn.Linear(d, d, bias=False)
        self.o = nn.Linear(d, d, bias=False)
        self.ffn_norm = RMSNorm(d)
        self.gate = nn.Linear(d, shape.hidden, bias=False)
        self.up = nn.Linear(d, shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, d, bias=False)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], keep: Tensor | None = None) -> Tensor:
        """Map x (B, T, D) to (B, T, D), or to (N, D) at the N flat positions `keep`."""
        b, t, d = x.shape
        h = self.attn_norm(x)
        q, k, v = (f(h).view(b, t, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        score = rotate(q, *rope) @ rotate(k, *rope).transpose(2, 3) * (d // self.heads) ** -0.5
        future = torch.ones(t, t, dtype=torch.bool).triu(1)
        mixed = score.masked_fill(future, float("-inf")).softmax(-1) @ v  # faster here than the fused kernel
        mixed = mixed.transpose(1, 2).reshape(b, t, d)
        if keep is not None:
            mixed, x = (z.view(b * t, d).index_select(0, keep) for z in (mixed, x))
        x = x + self.o(mixed)
        h = self.ffn_norm(x)
        return x + self.down(fn.silu(self.gate(h)) * self.up(h))


class Transformer(nn.Module):
    """The whole model; the output matrix is the embedding matrix (V, D)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocab, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width)
        cos, sin = rope_table(MAX_TRAINED, shape.width // shape.heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self._init()

    def _init(self) -> None:
        nn.init.normal_(self.embed.weight, std=0.02)
        for name, p in self.named_parameters():
            if is_hidden(name, p):
                last = name.endswith(("o.weight", "down.weight"))
                std = 1.0 / math.sqrt(p.shape[1])
                nn.init.normal_(p, std=std / math.sqrt(2 * self.shape.layers) if last else std)

    def forward(self, ids: Tensor, keep: Tensor) -> Tensor:
        """Return logits (N, V) at the N flat positions `keep` of ids (B, T)."""
        rope = (self.cos[: ids.shape[1]], self.sin[: ids.shape[1]])
        x = self.embed(ids)
        for layer in self.layers[:-1]:
            x = layer(x, rope)
        x = self.layers[-1](x, rope, keep)
        return fn.linear(self.norm(x), self.embed.weight)


def orthogonalise(g: Tensor, steps: int = 5) -> Tensor:
    """Return the batch g (N, R, C) with singular values pushed to about 1 (Newton-Schulz)."""
    a, b, c = NEWTON_SCHULZ
    x = g.transpose(1, 2) if g.shape[1] > g.shape[2] else g
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.transpose(1, 2)
        x = a * x + (b * s + c * s @ s) @ x
    return x.transpose(1, 2) if g.shape[1] > g.shape[2] else x


class Muon:
    """Orthogonalised momentum for matrices; equal shapes are stacked and done in one batch."""

    def __init__(self, params: list[nn.Parameter], momentum: float = 0.95, decay: float = 0.01) -> None:
        self.momentum, self.decay = momentum, decay
        self.groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for p in params:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.buffers = {s: torch.zeros(len(ps), *s) for s, ps in self.groups.items()}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Apply one update with learning rate `rate`, scaled by max(1, R / C) ** 0.5."""
        for shape, params in self.groups.items():
            grads = torch.stack([p.grad for p in params if p.grad is not None])
            buffer = self.buffers[shape]
            buffer.lerp_(grads, 1 - self.momentum)
            update = orthogonalise(grads.lerp(buffer, self.momentum))
            scale = rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for p, u in zip(params, update, strict=True):
                p.mul_(1 - rate * self.decay).add_(u, alpha=-scale)
