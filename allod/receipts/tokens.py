"""Tokens as a leaf says them: disjoint parts, zero left out."""

from __future__ import annotations

from typing import Final

import msgspec

from allod.domain.usage import Usage
from allod.receipts.canonical import MAX_INTEGER

_ENCODER: Final = msgspec.json.Encoder()


class Tokens(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens of a leaf, disjoint; zero is left out."""

    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    input: int = 0
    output: int = 0
    reasoning: int = 0


def tokens_of(usage: Usage | None) -> Tokens | None:
    """Return a usage as a leaf says it; counts beyond 2^53 are cut there."""
    if usage is None:
        return None
    tokens = Tokens(
        cache_read=usage.cache_read_tokens,
        cache_write=usage.cache_write_tokens,
        cache_write_1h=usage.cache_write_1h_tokens,
        input=usage.input_tokens,
        output=usage.output_tokens,
        reasoning=usage.reasoning_tokens,
    )
    parts = msgspec.structs.astuple(usage)
    if max(parts) <= MAX_INTEGER and min(parts) >= 0:
        return tokens
    names = tokens.__struct_fields__
    return Tokens(**{name: max(0, min(MAX_INTEGER, getattr(tokens, name))) for name in names})


def tokens_json(usage: Usage) -> str:
    """Write tokens as they stand in a leaf."""
    read, written = usage.input_tokens, usage.output_tokens
    if read <= 0 or written <= 0 or read > MAX_INTEGER or written > MAX_INTEGER or _parted(usage):
        return _ENCODER.encode(tokens_of(usage)).decode()
    return f'{{"input":{read},"output":{written}}}'


def _parted(usage: Usage) -> bool:
    """Tell whether there is more than plain input and output."""
    written = usage.cache_write_tokens or usage.cache_write_1h_tokens
    return bool(usage.cache_read_tokens or written or usage.reasoning_tokens)
