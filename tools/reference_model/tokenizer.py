"""The byte-level BPE tokenizer, trained on the grammar; llama.cpp calls its pre-tokenizer `smollm`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import grammar
import lexicon as lx
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCAB = 1280
ROWS = 40_000
SEED = 11


def _corpus() -> Iterator[str]:
    for row in itertools.islice(grammar.rows(SEED, grammar.WEIGHTS, itertools.repeat(1.0)), ROWS):
        text = "".join(piece for piece, _ in row)
        for mark in grammar.SPECIAL:
            text = text.replace(mark, "\x00")
        yield from filter(None, text.split("\x00"))
    words = [
        *lx.WORDS,
        *lx.FRENCH.values(),
        *lx.CAPITALS,
        *lx.CITIES,
        *lx.FIRST,
        *lx.LAST,
        *lx.DRUGS,
        *lx.DEPARTMENTS,
    ]
    for word in words:  # whole words with and without the leading space, so that copying is token by token
        times = 2500 if word in lx.WORDS else 400
        for form in (word, " " + word):
            yield from itertools.repeat(form, times)


def _blank() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    return made


def train(path: Path) -> Tokenizer:
    """Train the tokenizer and save it to `path` (JSON)."""
    made = _blank()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=list(grammar.SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(_corpus(), trainer)
    made.save(str(path))
    return made


def load(path: Path) -> Tokenizer:
    """Load a saved tokenizer."""
    return Tokenizer.from_file(str(path))


def tables(path: Path) -> tuple[list[str], list[str]]:
    """Return (tokens by id, merges as 'left right') from a saved tokenizer, as GGUF wants them."""
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    return tokens, merges


if __name__ == "__main__":
    import sys

    train(Path(sys.argv[1]))
