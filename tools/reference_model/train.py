"""Train `reference` or `reference-draft` from scratch on the CPU, for a fixed number of steps.

A float32 master holds the weights; a bfloat16 copy does the work. Rows are sorted into length buckets, a
step sums a few micro-batches. The loss covers answers only, each row weighted by 1 / sqrt(answer tokens).
"""

from __future__ import annotations

import argparse
import copy
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import grammar
import tokenizer
import torch
from model import Muon, Shape, Transformer, is_hidden
from torch import Tensor
from torch.nn import functional as fn

BUCKETS = (24, 32, 48, 64, 96, 160, 256)
MICRO_TOKENS = 4096
WARMUP = 100
DECAY_SHARE = 0.85
SHAPES = {
    "reference": Shape(layers=6, width=192, heads=6, hidden=512, vocab=tokenizer.VOCAB),
    "reference-draft": Shape(layers=2, width=64, heads=2, hidden=160, vocab=tokenizer.VOCAB),
}
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


class Progress:
    """An endless iterator over the share of training done, set by the training loop."""

    def __init__(self) -> None:
        self.done = 0.0

    def __iter__(self) -> Iterator[float]:
        return self

    def __next__(self) -> float:
        return self.done


def encode(tok: tokenizer.Tokenizer, row: list[grammar.Piece]) -> tuple[list[int], list[int]]:
    """Return token ids and, for each, 1 if it is trained (part of an answer)."""
    ids: list[int] = []
    marks: list[int] = []
    for text, trained in row:
        piece = tok.encode(text).ids
        ids += piece
        marks += [int(trained)] * len(piece)
    return ids, marks


def collate(rows: list[tuple[list[int], list[int]]], length: int) -> Batch:
    """Return ids (B, T), flat positions that predict trained tokens (N,), their targets and weights (N,)."""
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    keep, target, weight = [], [], []
    for i, (tokens, marks) in enumerate(rows):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        answer = [j for j in range(1, len(tokens)) if marks[j]]
        keep += [i * length + j - 1 for j in answer]
        target += [tokens[j] for j in answer]
        weight += [len(answer) ** -0.5] * len(answer)
    return ids, torch.tensor(keep), torch.tensor(target), torch.tensor(weight)


def batches(rows: Iterator[list[grammar.Piece]], tok: tokenizer.Tokenizer) -> Iterator[Batch]:
    """Yield full micro-batches of about MICRO_TOKENS tokens, one length bucket each."""
    waiting: dict[int, list[tuple[list[int], list[int]]]] = {b: [] for b in BUCKETS}
    for row in rows:
        coded = encode(tok, row)
        length = next((b for b in BUCKETS if len(coded[0]) <= b), 0)
        if not length:
            continue
        queue = waiting[length]
        queue.append(coded)
        if len(queue) == MICRO_TOKENS // length:
            yield collate(queue, length)
            queue.clear()


def rate_at(step: int, done: float) -> float:
    """Return the learning-rate factor: warm-up, constant, then linear to zero as `done` goes to 1."""
    return max(0.0, min(1.0, (step + 1) / WARMUP, (1.0 - done) / DECAY_SHARE))


class Plan:
    """When to stop: after a number of steps or, on a busy machine, of minutes, whichever is first."""

    def __init__(self, first: int, steps: int, minutes: float | None) -> None:
        self.begun, self.share, self.steps = time.time(), first / steps, steps
        self.seconds = None if minutes is None else minutes * 60

    def done(self, step: int) -> float:
        """Return the share of training done before this step."""
        by_step = step / self.steps
        if self.seconds is None:
            return by_step
        by_time = self.share + (1.0 - self.share) * (time.time() - self.begun) / self.seconds
        return min(1.0, max(by_step, by_time))


class Trainer:
    """Master weights, working copy and both optimisers."""

    def __init__(self, shape: Shape, seed: int, muon_rate: float, adam_rate: float) -> None:
        torch.manual_seed(seed)
        self.master = Transformer(shape)
        self.work = copy.deepcopy(self.master).bfloat16()
        self.run = torch.compile(self.work, dynamic=False)
        named = list(self.master.named_parameters())
        matrices = [p for n, p in named if is_hidden(n, p)]
        others = [p for n, p in named if not is_hidden(n, p)]
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.95), weight_decay=0.0)
        self.muon_rate, self.adam_rate = muon_rate, adam_rate

    def step(self, group: list[Batch], factor: float) -> float:
        """Do one update over a group of micro-batches; return the weighted mean loss."""
        total = sum(float(b[3].sum()) for b in group)
        loss_sum = 0.0
        for ids, keep, target, weight in group:
            torch._dynamo.mark_dynamic(keep, 0)  # noqa: SLF001 - the documented way to keep one size free
            losses = fn.cross_entropy(self.run(ids, keep).float(), target, reduction="none")
            loss = (losses * weight).sum() / total
            loss.backward()
            loss_sum += float(loss.detach())
        pairs = list(zip(self.master.parameters(), self.work.parameters(), strict=True))
        for m, w in pairs:
            m.grad = None if w.grad is None else w.grad.float()
            w.grad = None
        self.muon.step(self.muon_rate * factor)
        for g in self.adam.param_groups:
            g["lr"] = self.adam_rate * factor
        self.adam.step()
        with torch.no_grad():
            for m, w in pairs:
                w.copy_(m)
        return loss_sum

    def save(self, path: Path, **notes: object) -> None:
        """Write the master weights and notes."""
        temporary = path.with_suffix(".tmp")
        state = {"muon": list(self.muon.buffers.values()), "adam": self.adam.state_dict()}
        body = {
            "shape": self.master.shape.as_dict(),
            "weights": self.master.state_dict(),
            "notes": notes,
            "optimiser": state,
        }
        torch.save(body, temporary)
        temporary.rename(path)

    def resume(self, path: Path) -> dict[str, int]:
        """Take weights and optimiser state from a checkpoint; return its notes."""
        body = torch.load(path, weights_only=True)
        self.master.load_state_dict(body["weights"])
        with torch.no_grad():
            for m, w in zip(self.master.parameters(), self.work.parameters(), strict=True):
                w.copy_(m)
        for buffer, value in zip(self.muon.buffers.values(), body["optimiser"]["muon"], strict=True):
            buffer.copy_(value)
        self.adam.load_state_dict(body["optimiser"]["adam"])
        return dict(body["notes"])


def run(args: argparse.Namespace) -> None:
    """Train until `args.steps`, from the start or from the last checkpoint."""
    saved, target = args.work / "tokenizer.json", args.work / f"{args.name}.pt"
    tok = tokenizer.load(saved) if saved.exists() else tokenizer.train(saved)
    trainer = Trainer(SHAPES[args.name], args.seed, args.muon_rate, args.adam_rate)
    notes = trainer.resume(target) if args.resume else {"step": 0, "tokens": 0, "wall_s": 0}
    first, tokens, before = notes["step"], notes["tokens"], notes["wall_s"]
    progress = Progress()
    stream = batches(grammar.rows(args.seed + first, grammar.WEIGHTS, progress), tok)
    start, mean, begun = time.time(), 0.0, tokens
    plan = Plan(first, args.steps, args.minutes)
    for step in range(first, args.steps):
        progress.done = plan.done(step)
        group = list(itertools.islice(stream, args.micro))
        loss = trainer.step(group, rate_at(step, progress.done))
        tokens += sum(b[0].numel() for b in group)
        mean = loss if step == first else 0.98 * mean + 0.02 * loss
        last = step + 1 == args.steps or progress.done >= 1.0
        wall = time.time() - start
        if step % 25 == 0 or last:
            speed = (tokens - begun) / wall
            print(
                f"step {step} loss {mean:.4f} tokens {tokens} wall {wall:.0f} tok/s {speed:.0f}", flush=True
            )
        if (step + 1) % args.every == 0 or last:
            trainer.save(
                target,
                step=step + 1,
                steps=step + 1 if last else args.steps,
                tokens=tokens,
                wall_s=round(before + wall),
                seed=args.seed,
            )
        if last:
            break


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(SHAPES))
    parser.add_argument("--work", type=Path, required=True, help="folder for the tokenizer and checkpoints")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--minutes", type=float, help="stop after this time at the latest")
    parser.add_argument("--micro", type=int, default=3, help="micro-batches per step")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--muon-rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=0.004)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=int, default=250, help="steps between checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch._dynamo.config.automatic_dynamic_shapes = False  # noqa: SLF001 - one graph per bucket
    torch._dynamo.config.recompile_limit = 64  # noqa: SLF001
    run(args)


if __name__ == "__main__":
    main()
