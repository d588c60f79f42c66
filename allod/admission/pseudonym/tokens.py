"""What stands in place of a value: ``QZ``, ten letters made from it under a key, and a word for its kind.

``QZBCDFGHJKLM_EMAIL`` is ASCII without brackets, so no template, quoting or markup changes it. Its letters
hold no vowel, so no word of a language is one; no ``Q``, ``Z`` or ``S``, so two tokens in a row and a glued
genitive stay apart. Nearly no text holds ``QZ``: a stream is held back only where that pair may begin.
"""

from __future__ import annotations

import hmac
import re
from typing import Final

import msgspec

from allod.domain.errors import Integrity, Invalid

MARK: Final = "QZ"
LETTERS: Final = "BCDFGHJKLMNPRTVW"
"""Sixteen consonants, one for four bits."""
CODE_LETTERS: Final = 10
"""40 bits: two of 4,096 values meet with a probability of 8e-6, and then the request is refused."""
MAX_VALUES: Final = 4096
KEY_BYTES: Final = 32

WORDS: Final = (
    "ACCOUNT", "CARD", "DATE", "EMAIL", "IBAN", "ID", "IP", "NAME", "PHONE", "PLACE", "SECRET", "TEXT", "URL",
    "VALUE",
)  # fmt: skip
"""What follows a code; none is the beginning of another. ``TEXT`` is the user's own look-alike of a token."""
TOKEN_CHARS: Final = len(MARK) + CODE_LETTERS + 1 + max(len(word) for word in WORDS)

TOPICS: Final = frozenset({"HEALTH", "SPECIAL_CATEGORY", "INSIDER_INFORMATION", "TRADE_SECRET"})
"""Types of findings that say what a text is about, not who: covering them would take the question away."""

_KINDS: Final[tuple[tuple[str, frozenset[str]], ...]] = (
    ("EMAIL", frozenset({"EMAIL", "MAIL"})),
    ("PHONE", frozenset({"PHONE", "TEL", "FAX", "MOBILE"})),
    ("IBAN", frozenset({"IBAN"})),
    ("CARD", frozenset({"CARD"})),
    ("URL", frozenset({"URL", "WEBHOOK", "DOMAIN"})),
    ("IP", frozenset({"IP", "IPV4", "IPV6"})),
    ("SECRET", frozenset({"KEY", "TOKEN", "SECRET", "PASSWORD", "JWT", "CREDENTIAL"})),
    ("ACCOUNT", frozenset({"ACCOUNT", "BIC", "SWIFT"})),
    ("DATE", frozenset({"DATE", "BIRTH", "DOB", "BIRTHDATE", "TIME"})),
    ("PLACE", frozenset({"ADDRESS", "STREET", "POSTCODE", "ZIP", "CITY", "GPE", "LOCATION", "PLACE"})),
    ("NAME", frozenset({"PERSON", "NAME", "ORGANIZATION", "TITLE"})),
    ("ID", frozenset({"ID", "NIR", "DNI", "BSN", "PESEL", "CPF", "RRN", "NHS", "SSN", "PASSPORT", "RECORD"})),
)


def word_of(kind: str) -> str:
    """Return the word a token carries for a type of finding: a hint for the model, nothing rests on it."""
    parts = frozenset(re.split(r"[^A-Z0-9]+", kind.upper()))
    for word, names in _KINDS:
        if not names.isdisjoint(parts):
            return word
    return "TEXT" if kind == "TEXT" else "VALUE"


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """What one request's tokens stand for, kept in memory until it is answered and never written down.

    Attributes:
        values: from the twelve letters of a token (upper case, ``QZ`` included) to the value as it was
            written.

    """

    values: dict[str, str] = {}

    def __len__(self) -> int:
        """Return the number of different values."""
        return len(self.values)


class Coder:
    """Makes the tokens of one conversation.

    The letters are HMAC-SHA-256 (RFC 2104) of the value under the conversation's key, cut to 40 bits. The
    type stays out of it: the same detectors may call one number a phone here and an account there, and it
    must be one token. Values are told apart by the character: ``Jean`` and ``JEAN`` have two tokens, or
    neither would come back as it was.

    Args:
        key: 32 bytes of one conversation (see ``conversation_key``).

    Attributes:
        values: from codes to the values of the tokens made so far.

    Raises:
        Invalid: a shorter key.

    """

    def __init__(self, key: bytes) -> None:
        if len(key) < KEY_BYTES:
            raise Invalid("the pseudonym key is too short", f"got {len(key)} bytes, expected {KEY_BYTES}")
        self._key = key
        self._tokens: dict[str, str] = {}
        self.values: dict[str, str] = {}

    def token(self, value: str, kind: str) -> str:
        """Return the token of a value; the first kind it was called by gives the word.

        Raises:
            Invalid: more than ``MAX_VALUES`` values (kind ``size``).
            Integrity: two values meet in one code.

        """
        known = self._tokens.get(value)
        if known is not None:
            return known
        if len(self._tokens) >= MAX_VALUES:
            raise Invalid(
                "the request holds too much that must be covered",
                f"more than {MAX_VALUES} different values",
                "send less at once",
                kind="size",
            )
        code = MARK + _letters(hmac.digest(self._key, b"value\0" + _bytes(value), "sha256"), CODE_LETTERS)
        if code in self.values:
            raise Integrity(
                "two values have the same pseudonym", "a collision of 40 bits", "start a new conversation"
            )
        self.values[code] = value
        token = self._tokens[value] = f"{code}_{word_of(kind)}"
        return token

    def alias(self, name: str) -> str:
        """Return a name for an identifier that no answer repeats (an end user, a call): ``a_`` and 32 hex."""
        return "a_" + hmac.digest(self._key, b"alias\0" + _bytes(name), "sha256").hex()[:32]

    def table(self) -> Table:
        """Return what the tokens made so far stand for."""
        return Table(values=dict(self.values))


def _letters(digest: bytes, count: int) -> str:
    return "".join(LETTERS[int(digit, 16)] for digit in digest.hex()[:count])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
