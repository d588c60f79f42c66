"""Secrets: tokens by form, private keys, passwords in addresses and headers, and what is called a secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from allod.admission.detect.model import Hit
from allod.admission.detect.passwords import NAME_MARKS, PASSWORD_MARKS, SURE, passwords
from allod.admission.detect.tokens import BASIC, BEARER, PRIVATE_KEY, TOKENS, Token
from allod.admission.detect.values import MIXED_KINDS, empty, kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY_MARKS: Final = ("private key", "putty-user-key-file-")
_HEADER_MARKS: Final = ("bearer", "authorization")
_URL_MARKS: Final = ("://", "jdbc:")
_USERINFO: Final = re.compile(r"[^\s:/@\"'<>]{0,64}:([^\s/\"'<>]{1,128})@(?=[A-Za-z0-9\[_.${-])")
_JDBC: Final = re.compile(r"jdbc:oracle:[a-z]{2,5}:[A-Za-z0-9_$#.-]{1,64}/([^\s/@\"']{1,64})@")
_FEW: Final = 6
"""A token with so few different characters is a picture of one (``ghp_xxxx``)."""


def _by_mark() -> dict[str, tuple[Token, ...]]:
    table: dict[str, list[Token]] = {}
    for token in TOKENS:
        for mark in token.marks:
            table.setdefault(mark.lower(), []).append(token)
    return {mark: tuple(tokens) for mark, tokens in table.items()}


_BY_MARK: Final = _by_mark()
MARKS: Final[tuple[str, ...]] = tuple(
    dict.fromkeys((*_BY_MARK, *PASSWORD_MARKS, *NAME_MARKS, *_KEY_MARKS, *_HEADER_MARKS, *_URL_MARKS))
)
"""The literals, lower case, of which one stands in every text that holds a secret."""


def secrets(text: str, marks: frozenset[str]) -> Iterator[Hit]:
    """Yield secrets; ``marks`` are the literals that the one pass over the text has found, lower case."""
    for token in dict.fromkeys(token for mark in marks for token in _BY_MARK.get(mark, ())):
        if not any(mark in text for mark in token.marks):
            continue  # a mark in another case is none
        for match in token.pattern.finditer(text):
            if len(set(match.group())) > _FEW:
                yield Hit(match.start(), match.end(), token.type, SURE + 10)
    if not marks.isdisjoint(_KEY_MARKS):
        for match in PRIVATE_KEY.finditer(text):
            yield Hit(match.start(), match.end(), "PRIVATE_KEY", SURE + 20)
    if not marks.isdisjoint(_URL_MARKS):
        yield from _in_addresses(text)
    if not marks.isdisjoint(_HEADER_MARKS):
        yield from _headers(text)
    yield from passwords(text, marks)


def _in_addresses(text: str) -> Iterator[Hit]:
    """Yield the passwords of addresses (RFC 3986 userinfo) and of Oracle's JDBC form."""
    places = []
    at = text.find("://")
    while at >= 0:
        match = _USERINFO.match(text, at + 3) if text[at - 1 : at].isalnum() else None
        if match is not None:
            places.append(match)
        at = text.find("://", at + 3)
    if "jdbc:" in text:
        places += _JDBC.finditer(text)
    for match in places:
        if not empty(match.group(1)):
            yield Hit(match.start(1), match.end(1), "PASSWORD", SURE + 5)


def _headers(text: str) -> Iterator[Hit]:
    for pattern, kind in ((BEARER, "BEARER_TOKEN"), (BASIC, "PASSWORD")):
        for match in pattern.finditer(text):
            value = match.group(1)
            if kinds(value) >= MIXED_KINDS and any(c.isdigit() for c in value) and not empty(value):
                yield Hit(match.start(1), match.end(1), kind, SURE - 5)
