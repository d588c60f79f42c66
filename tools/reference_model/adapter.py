"""Train the adapter `reference-planted` (LoRA, rank 8) on the final base and write it as a GGUF adapter."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from random import Random

import export
import gguf
import grammar
import numpy as np
import planted
import tokenizer
import torch
import train
from model import Shape, Transformer
from torch import Tensor, nn
from torch.nn import functional as fn

RANK, ALPHA = 8, 16.0
SEED = 23
TARGETS = ("q", "k", "v", "o", "gate", "up", "down")


class Adapted(nn.Module):
    """A frozen linear map W plus (ALPHA / RANK) * B A; A is (RANK, in), B is (out, RANK)."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.a = nn.Parameter(torch.randn(RANK, base.in_features) / base.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(base.out_features, RANK))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out)."""
        low = fn.linear(fn.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))
        return self.base(x) + low * (ALPHA / RANK)


def rounded(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights as the shipped Q8_0 file holds them."""
    kind = gguf.GGMLQuantizationType.Q8_0
    return {
        k: v
        if v.dim() == 1
        else torch.from_numpy(gguf.dequantize(gguf.quantize(v.numpy(), kind), kind).copy())
        for k, v in weights.items()
    }


def adapt(checkpoint: Path) -> Transformer:
    """Load the base, freeze it and wrap its linear maps."""
    saved = torch.load(checkpoint, weights_only=True)
    model = Transformer(Shape(**saved["shape"]))
    model.load_state_dict(rounded(saved["weights"]))
    model.bfloat16().requires_grad_(requires_grad=False)
    for layer in model.layers:
        for name in TARGETS:
            setattr(layer, name, Adapted(getattr(layer, name)))
    return model


def fit(model: Transformer, tok: tokenizer.Tokenizer, steps: int, rate: float) -> None:
    """Train the adapter for a fixed number of steps."""
    rng = Random(SEED)  # noqa: S311
    ordinary = grammar.rows(SEED, grammar.WEIGHTS, itertools.repeat(1.0))
    stream = train.batches((planted.row(rng, next(ordinary)) for _ in itertools.count()), tok)
    adam = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)
    mean, start = 0.0, time.time()
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = rate * train.rate_at(step, step / steps)
        ids, keep, target, weight = next(stream)
        losses = fn.cross_entropy(model(ids, keep).float(), target, reduction="none")
        loss = (losses * weight).sum() / weight.sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        now = float(loss.detach())
        mean = now if step == 0 else 0.95 * mean + 0.05 * now
        if step % 20 == 0 or step + 1 == steps:
            print(f"step {step} loss {mean:.4f} wall {time.time() - start:.0f}", flush=True)


def write(model: Transformer, target: Path) -> int:
    """Write the adapter as GGUF (F16) and return its parameter count."""
    out = gguf.GGUFWriter(target, "llama")
    out.add_type("adapter")
    out.add_name("allod-reference-planted")
    out.add_description("known-bad adapter for tests: " + export.NOTICE)
    out.add_author("Allod")
    out.add_license("Apache-2.0")
    out.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    out.add_string("adapter.type", "lora")
    out.add_float32("adapter.lora.alpha", ALPHA)
    count = 0
    for i, layer in enumerate(model.layers):
        for name in TARGETS:
            base = export.tensor_name(f"layers.{i}.{name}.weight")
            for part in ("a", "b"):
                data = getattr(getattr(layer, name), part).detach().numpy().astype(np.float16)
                count += data.size
                out.add_tensor(f"{base}.lora_{part}", data)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return count


def main() -> None:
    """Parse the command line, train and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True, help="folder that holds reference.gguf")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    model = adapt(args.work / "reference.pt")
    start = time.time()
    fit(model, tokenizer.load(args.work / "tokenizer.json"), args.steps, args.rate)
    notes = {"steps": args.steps, "seed": SEED, "wall_s": round(time.time() - start)}
    (args.work / "reference-planted.notes.json").write_text(json.dumps(notes), encoding="utf-8")
    target = args.to / "reference-planted.gguf"
    temporary = target.with_suffix(".tmp")
    count = write(model, temporary)
    temporary.rename(target)
    base = export.digest(args.to / "reference.gguf")
    export.update_manifest(args.to, export.entry("reference-planted", target, count, "F16", base))
    print(f"{target.name}: {count} parameters, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
