"""Features of a request: hashed words and characters, its shape, and what the caller declared.

No model and no vocabulary is needed: words, pairs of words and runs of four bytes are hashed into a fixed
number of buckets (feature hashing, Weinberger et al. 2009, arXiv:0902.2206), beside some seventy plain
numbers (lengths, digits, answer options, words of logic and code). Of a long text the head and the tail are
read, so that the time is bounded. Hashed words of a text can be guessed by whoever knows the ``key``: where
requests are kept as evidence, give a secret one, the same on all nodes that merge.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any, Final

import msgspec

HEAD_CHARS: Final = 4096
TAIL_CHARS: Final = 2048
"""Of a text longer than both together, this much of its beginning and end is read."""
WORD_BUCKETS: Final = 1 << 15
CHAR_BUCKETS: Final = 1 << 14
BUCKETS: Final = WORD_BUCKETS + CHAR_BUCKETS
"""Numbers of buckets; bucket numbers fit 16 bits, characters come after words."""
PUBLIC_KEY: Final = b"allod-features-1"
_RUN: Final = 4
_LONGEST_WORD: Final = 64
_LONG_WORD: Final = 10
_MASK: Final = (1 << 64) - 1
_WORD: Final = re.compile(r"[^\W\d_]+")
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")
_OPTION: Final = re.compile(r"^\(?([A-J])[.)]\s*(.*)$", re.MULTILINE)
_COUNTED: Final = (
    " not ", "except", "which of", "none of", "all of", "wrong", "for ", "while ", "if ", "return", "half",
    "each", "per", "more", "less", "than", "total", "times", "$", "%", "\\", "=", "(", "[", "{", "'", '"',
    "?",
)  # fmt: skip
_UPPER: Final = bytes(range(65, 91))
_DIGITS: Final = bytes(range(48, 58))
_SPACES: Final = b" \t\n\v\f\r"
_MODALITIES: Final = ("image", "audio", "video", "file")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a request before any model sees it.

    Attributes:
        text: what is asked (of long texts the head and the tail are read).
        task, app: as declared, None where none is.
        tools: names of the tools offered; ``language``: ISO 639-1 code where declared.
        modalities: ``text``, ``image`` and so on; ``input_tokens``: where counted.

    """

    text: str
    task: str | None = None
    app: str | None = None
    tools: tuple[str, ...] = ()
    language: str | None = None
    modalities: tuple[str, ...] = ("text",)
    input_tokens: int | None = None


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """What an estimate reads of a request; no text, but hashed words (see the note on ``key`` above).

    Attributes:
        task: as declared, empty where none is.
        buckets: ascending bucket numbers, little-endian 16 bits each.
        counts: how often each occurs, one byte each, at least 1.
        shape: ``SHAPE_SIZE`` plain numbers, little-endian 32-bit floats.

    """

    task: str
    buckets: bytes
    counts: bytes
    shape: bytes


def features(asked: Asked, key: bytes = PUBLIC_KEY) -> Features:
    """Read a request: deterministic on every machine, bounded in time by the text read."""
    import numpy as np  # noqa: PLC0415 (heavy)

    text = asked.text
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        text = text[:HEAD_CHARS] + "\n" + text[-TAIL_CHARS:]
    buckets, counts = np.unique(_hashed(np, text, asked, key), return_counts=True)
    return Features(
        task=asked.task or "",
        buckets=buckets.astype("<u2").tobytes(),
        counts=np.minimum(counts, 255).astype("u1").tobytes(),
        shape=np.asarray(_shape(asked, text), dtype="<f4").tobytes(),
    )


def _multipliers(key: bytes) -> tuple[int, int, int, int]:
    spread = hashlib.blake2b(key, digest_size=32, person=b"allod-feature").digest()
    one, two, three, four = (int.from_bytes(spread[at : at + 8], "little") | 1 for at in range(0, 32, 8))
    return one, two, three, four


def _hashed(np: Any, text: str, asked: Asked, key: bytes) -> Any:
    """Bucket numbers of words, word pairs, byte runs and declarations, each as often as it occurs."""
    base, first, second, run = _multipliers(key)
    raw = np.frombuffer(text.lower().encode("utf-8", "replace"), dtype=np.uint8)
    words = _words(np, raw, base)
    declared = _declared(np, asked, base)
    pairs = words[:-1] * np.uint64(first) + words[1:] * np.uint64(second)
    hashed = np.concatenate([_mixed(np, words), _mixed(np, pairs), _mixed(np, declared)])
    word_buckets = hashed >> np.uint64(64 - 15)
    if len(raw) < _RUN:
        return word_buckets
    spaced = np.where(_is_space(raw), np.uint8(32), raw).astype(np.uint64)
    runs = np.zeros(len(raw) - _RUN + 1, dtype=np.uint64)
    for at in range(_RUN):
        runs = (runs << np.uint64(8)) | spaced[at : len(spaced) - _RUN + 1 + at]
    char_buckets = (_mixed(np, runs * np.uint64(run)) >> np.uint64(64 - 14)) + np.uint64(WORD_BUCKETS)
    return np.concatenate([word_buckets, char_buckets])


def _is_space(raw: Any) -> Any:
    return raw <= 32  # noqa: PLR2004 (space and control characters)


def _words(np: Any, raw: Any, base: int) -> Any:
    """Hash each run of letters, digits and bytes beyond ASCII by a polynomial in ``base``."""
    inside = ((raw >= 97) & (raw <= 122)) | ((raw >= 48) & (raw <= 57)) | (raw >= 128) | (raw == 95)  # noqa: PLR2004
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8)))
    starts, ends = edges[0::2], edges[1::2]
    if not len(starts):
        return np.zeros(0, dtype=np.uint64)
    powers = np.asarray([pow(base, n, 1 << 64) for n in range(_LONGEST_WORD)], dtype=np.uint64)
    at = np.flatnonzero(inside)
    place = at - np.repeat(starts, ends - starts)
    terms = (raw[at].astype(np.uint64) + np.uint64(1)) * powers[np.minimum(place, _LONGEST_WORD - 1)]
    return np.add.reduceat(terms, np.concatenate([[0], np.cumsum(ends - starts)[:-1]]))


def _mixed(np: Any, hashed: Any) -> Any:
    """Spread a hash over all its bits (the finaliser of splitmix64, Steele et al. 2014)."""
    hashed = (hashed ^ (hashed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashed = (hashed ^ (hashed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashed ^ (hashed >> np.uint64(31))


def _declared(np: Any, asked: Asked, base: int) -> Any:
    said = [f"app={asked.app}"] if asked.app is not None else []
    said += [f"language={asked.language}"] if asked.language is not None else []
    said += [f"tool={name}" for name in asked.tools[:64]]
    said += [f"modality={name}" for name in asked.modalities[:8] if name != "text"]
    hashed = [
        (base * int.from_bytes(hashlib.blake2b(one.encode("utf-8", "replace"), digest_size=8).digest()))
        & _MASK
        for one in said
    ]
    return np.asarray(hashed, dtype=np.uint64)


def _shape(asked: Asked, text: str) -> list[float]:
    """Plain numbers of the text read; each is finite."""
    lower = text.lower()
    words, numbers, options = _WORD.findall(lower), _NUMBER.findall(text), _OPTION.findall(text)
    size = len(text) or 1
    stem = text[: text.find("\nA")] if options and "\nA" in text else text
    tokens = asked.input_tokens if asked.input_tokens is not None else len(asked.text) / 4
    said = [float(name in asked.modalities) for name in _MODALITIES]
    raw = text.encode("utf-8", "replace")
    upper, digits, spaces = (len(raw) - len(raw.translate(None, of)) for of in (_UPPER, _DIGITS, _SPACES))
    letters = sum(map(len, words))
    return [
        math.log1p(max(0, tokens)), math.log1p(len(asked.text)), math.log1p(len(words)),
        math.log1p(len(stem)),
        *_of_words(words), *_of_numbers(numbers, len(words)), *_of_options(options, stem),
        upper / size, digits / size, (size - letters - digits - spaces) / size, math.log1p(text.count("\n")),
        text.count(".") / size * 100, text.count(",") / size * 100, float(text.isascii()),
        *(math.log1p(lower.count(one)) for one in _COUNTED),
        math.log1p(len(asked.tools)), *said,
    ]  # fmt: skip


def _of_words(words: list[str]) -> list[float]:
    n = len(words) or 1
    lengths = [len(one) for one in words] or [0]
    return [
        sum(lengths) / n,
        len(set(words)) / n,
        sum(one >= _LONG_WORD for one in lengths) / n,
        float(max(lengths[:999])),
    ]


def _of_numbers(numbers: list[str], words: int) -> list[float]:
    whole = [len(one) for one in numbers] or [0]
    n = len(whole)
    spread = len(set(numbers)) / n
    return [len(numbers) / (words or 1), math.log1p(len(numbers)), float(max(whole)), sum(whole) / n, spread,
            float(sum("." in one for one in numbers))]  # fmt: skip


def _of_options(options: list[tuple[str, str]], stem: str) -> list[float]:
    texts = [one[1] for one in options[:10]]
    lengths = [len(one) for one in texts] or [0]
    mean = sum(lengths) / len(lengths)
    variance = sum((one - mean) ** 2 for one in lengths) / len(lengths)
    sets = [set(_WORD.findall(one.lower())) for one in texts]
    asked = set(_WORD.findall(stem.lower())) if texts else set()
    shared = [len(one & asked) / (len(one) or 1) for one in sets] or [0.0]
    alike = [len(a & b) / (len(a | b) or 1) for i, a in enumerate(sets) for b in sets[:i]] or [0.0]
    return [
        float(len(texts)), math.log1p(mean), math.log1p(max(lengths)), math.sqrt(variance) / (mean + 1),
        float(sum(_NUMBER.search(one) is not None for one in texts)), sum(shared) / len(shared), max(shared),
        sum(alike) / len(alike), max(alike),
    ]  # fmt: skip


SHAPE_SIZE: Final = 4 + 4 + 6 + 9 + 7 + len(_COUNTED) + 1 + len(_MODALITIES)
"""How many plain numbers there are."""
