"""Names, lists and texts made to fit a leaf; what is cut is followed by its digest."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from allod.receipts.canonical import canonical
from allod.receipts.commitment import digest

MAX_NAME: Final = 80
_ENCODER: Final = msgspec.json.Encoder()
Tried = tuple[tuple[str, str, str, str], ...]


def utf8(text: str) -> bytes:
    """Encode text even where it is no Unicode, for hashing."""
    return text.encode("utf-8", "surrogatepass")


def cut_text(text: str, limit: int) -> str:
    """Cut text to a number of bytes once written, whatever it holds; escapes count."""
    text = text[:limit].encode("utf-8", "replace").decode()
    while len(_ENCODER.encode(text)) > limit + 2:
        text = text[: len(text) * 3 // 4]
    return text


def fitting(text: str, limit: int = MAX_NAME) -> str:
    """Return a name as it is, or if it is too long or no Unicode its beginning and its digest."""
    try:
        if len(text) <= limit and len(_ENCODER.encode(text)) <= limit + 2:
            return text
    except UnicodeEncodeError:
        pass
    return cut_text(text, limit - 40) + "~" + hashlib.sha256(utf8(text)).hexdigest()[:32]


def fitting_or_none(text: str | None, limit: int) -> str | None:
    """Return a name that fits, or what is none or empty as it is."""
    return fitting(text, limit) if text else text


def fitting_list(names: tuple[str, ...], items: int) -> tuple[str, ...]:
    """Return names if they fit, else the first few and the digest of all as the last."""
    named = tuple(fitting(name) for name in names)
    if len(_ENCODER.encode(named)) <= items * 25:
        return named
    few = [*named]
    while len(_ENCODER.encode(few)) > items * 25:
        del few[len(few) // 2 :]
    return (*few, digest(canonical(named)))


def fitting_attempts(tried: Tried, items: int) -> Tried:
    """Return the attempts if they fit, else the last few after one entry that holds the digest of all."""
    named = tuple((fitting(d), status, basis, cost) for d, status, basis, cost in tried)
    room = items * 50
    if len(_ENCODER.encode(named)) <= room:
        return named
    last = list(named)
    while len(_ENCODER.encode(last)) > room:
        del last[: (len(last) + 1) // 2]
    return ((digest(canonical(named)), "", "", ""), *last)
