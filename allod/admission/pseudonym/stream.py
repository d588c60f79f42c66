"""One line of text on its way back: tokens become values again, however the text was cut into pieces.

A ``Channel`` is a scanner with a memory of a few characters. It gives out everything but a suffix that may be
the beginning of a token. What is shaped like a token and is none of this conversation ends the answer with
``Integrity``: nobody knows whom it means, and the nearest token may be another person.
"""

from __future__ import annotations

import json
import re
import string
from bisect import bisect_left
from collections.abc import Mapping
from typing import Final, Literal

from allod.admission.pseudonym import shape
from allod.admission.pseudonym.tokens import MARK
from allod.domain.errors import Integrity

Mode = Literal["text", "json", "auto"]
"""Plain text; the text of a JSON value; or JSON if the first characters say so."""

_MIN_LETTERS: Final = 4
"""So many consonants right behind the mark are taken for a token that failed."""
_MIN_KNOWN: Final = 2
"""So many are enough where a token of this conversation begins with them."""
_MIN_SPACED: Final = 8
_LOOKBACK: Final = 32
_RUN: Final = 24
_CUT: Final = re.compile(r"(?<!\\)(?:\\\\)*(\\(?:u[0-9a-fA-F]{0,3})?)\Z")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_PLAIN: Final = frozenset(string.ascii_letters + "_-" + shape.BLANKS) - {"\t"}
_AFTER_ESCAPE: Final = re.compile(r"\\(?:[nrtbf]|u[0-9a-fA-F]{4})\Z")
_OPENINGS: Final = frozenset({'{"', "{}", '["', "[{", "[["})
_ESCAPED: Final = re.compile(r'["\\\x00-\x1f]')


class Channel:
    """Restores one text: the content of a choice, its reasoning, the arguments of one tool call.

    Args:
        values: from codes to values (``Table.values``).
        mode: whether values go into JSON text, where they must be escaped.

    """

    __slots__ = ("_after", "_codes", "_cut", "_held", "_mode", "_opening", "_tail", "_values", "_worded")

    def __init__(self, values: Mapping[str, str], mode: Mode = "text") -> None:
        self._values, self._mode = values, mode
        self._held = self._cut = self._tail = self._opening = ""
        self._after: shape.Style = ""
        self._worded = False
        self._codes: list[str] | None = None

    @property
    def held(self) -> int:
        """How many characters wait."""
        return len(self._held) + len(self._cut)

    def feed(self, text: str) -> str:
        """Return what of the text so far may go on.

        Raises:
            Integrity: a token that was altered, or is unknown here.

        """
        if (
            "q" in text
            or "Q" in text
            or self._held
            or self._after
            or self._cut
            or (self._mode != "text" and "\\" in text)
        ):
            return self._scan(text)
        if text:
            if self._mode == "auto":
                self._open(text)
            self._remember(text)
        return text

    def end(self, *, cut: bool = False) -> str:
        """Return what was held back; nothing may follow.

        ``cut`` says that the operator stopped at a limit: a token of which only the beginning is there is
        then left out, as the rest of the text is.

        Raises:
            Integrity: the text ends in the middle of a token although nothing cut it.

        """
        out = self._scan("", final=True, cut=cut) if self._held or self._after or self._cut else ""
        self._held = self._cut = self._after = ""
        return out

    # --- scanning

    def _scan(self, text: str, *, final: bool = False, cut: bool = False) -> str:
        buffer = self._held + self._plain(text, final=final)
        self._held = ""
        out: list[str] = []
        at = self._past(buffer, 0, final=final, cut=cut) if self._after else 0
        while (begin := shape.BEGIN.search(buffer, at)) is not None:
            start = begin.start()
            if start > at:
                out.append(buffer[at:start])
                self._remember(buffer[at:start])
            full = shape.FULL.match(buffer, start)
            value = None if full is None else self._values.get(shape.letters_of(full.group()))
            if full is not None and value is not None:
                self._after, self._worded = shape.style_of(full.group()), False
                self._demand_begin()
                out.append(self._written(value))
                self._remember(shape.RESTORED)
                at = self._past(buffer, full.end(), final=final, cut=cut)
                continue
            at = start
            if not final and _may_become(buffer, start):
                self._held = buffer[start:]
                break
            if cut and self._is_begun(buffer, start):
                at = len(buffer)
                break
            if self._failed(buffer, start):
                raise _unknown()
            out.append(buffer[start])
            self._remember(buffer[start])
            at = start + 1
        if not self._held:
            out.append(buffer[at:])
            self._remember(buffer[at:])
        return "".join(out)

    def _remember(self, text: str) -> None:
        """Keep the end of what went on as it came, and look for what is left of a token in it."""
        seen = self._tail + text
        if "_" in seen:
            for suffix in shape.SUFFIXED.finditer(seen):
                if suffix.end() <= len(self._tail):
                    continue  # looked at before
                before = shape.WRECK.search(seen[max(0, suffix.start() - _RUN) : suffix.start()])
                if before is not None and (before[1] is None or shape.is_wreck(before[1])):
                    raise _unknown()
        self._tail = seen[-_LOOKBACK:]

    def _past(self, buffer: str, at: int, *, final: bool, cut: bool) -> int:
        """Take the word behind a code, if one is there, and return where the text goes on.

        Raises:
            Integrity: something is glued to the token that no token has.

        """
        if not self._worded:
            found = shape.SUFFIX.match(buffer, at)
            begun = shape.SUFFIX_PARTIAL.match(buffer, at)
            assert begun is not None
            if found is not None and self._belongs(found["between"], found["word"]):
                at, self._worded = found.end(), True
            elif begun.end() == len(buffer) and self._belongs(begun["between"], begun["word"]):
                if not final:
                    self._held = buffer[at:]
                    return len(buffer)
                if cut and begun["word"] is not None:
                    at = len(buffer)
        if at == len(buffer) and not final:
            return at
        if at < len(buffer):
            self._demand_end(buffer, at)
        self._after = ""
        return at

    def _belongs(self, between: str, word: str | None) -> bool:
        """Tell whether a word, or its beginning, is the token's own: joined to it, or in its case."""
        if word is None or "_" in between or "-" in between:
            return True
        if self._after == "title":
            return word[0].isupper() and not word[1:].isupper()
        return shape.style_of(word) == self._after or (self._after == "upper" and word.isupper())

    def _demand_begin(self) -> None:
        """Refuse a token with a letter in its case, or a digit, right before it."""
        if self._is_glued() and (self._tail[-1].isdigit() or shape.continues(self._after, self._tail[-1])):
            raise _altered()

    def _is_glued(self) -> bool:
        """Tell whether what went on last is an ASCII letter or digit, and no part of an escape."""
        before = self._tail[-1:]
        if not (before.isascii() and before.isalnum()):
            return False
        return not (self._is_json() and _AFTER_ESCAPE.search(self._tail))

    def _demand_end(self, buffer: str, at: int) -> None:
        """Refuse what is glued to a token: a letter in its case, a digit, a word that is none of ours."""
        c = buffer[at]
        if c in "Qq":
            return  # the next token, perhaps; it is looked at on its own
        if c.isascii() and (c.isdigit() or shape.continues(self._after, c)):
            raise _altered()
        if not self._worded and shape.GLUED.match(buffer, at):
            raise _altered()

    def _is_begun(self, buffer: str, start: int) -> bool:
        """Tell whether the text ends with the beginning of a known token, mark included."""
        partial = shape.PARTIAL.match(buffer, start)
        if partial is None or partial.end() != len(buffer):
            return False
        letters = shape.letters_of(partial.group())
        return len(letters) >= len(MARK) and self._begins(letters)

    def _failed(self, buffer: str, start: int) -> bool:
        """Tell whether what stands here is a token that was damaged, or one nobody made."""
        if self._is_glued():
            return False
        run, partial = shape.RUN.match(buffer, start), shape.PARTIAL.match(buffer, start)
        assert run is not None
        assert partial is not None
        first = run.group()[: len(MARK) + _MIN_LETTERS]
        behind = first[len(MARK) :].upper()
        if len(behind) == _MIN_LETTERS and shape.CONSONANTS.issuperset(behind) and first[1] in "Zz":
            return shape.style_of(first) != "mixed"
        letters = shape.letters_of(partial.group())
        whole = partial.group().upper().startswith(letters)
        if shape.style_of(partial.group()) == "mixed":
            return False
        if len(letters) >= len(MARK) + _MIN_SPACED:
            return True
        return len(letters) >= len(MARK) + (_MIN_KNOWN if whole else _MIN_LETTERS) and self._begins(letters)

    def _begins(self, letters: str) -> bool:
        if self._codes is None:
            self._codes = sorted(self._values)
        place = bisect_left(self._codes, letters)
        return place < len(self._codes) and self._codes[place].startswith(letters)

    # --- JSON

    def _plain(self, text: str, *, final: bool) -> str:
        """Return text in which letters are not written as escapes; an escape that is not whole waits."""
        if self._mode == "auto":
            self._open(text)
        if not self._is_json():
            return text
        text, self._cut = self._cut + text, ""
        if "\\" not in text:
            return text
        found = None if final else _CUT.search(text)
        if found is not None:
            self._cut, text = found[1], text[: found.start(1)]
        return _ESCAPE.sub(_unescaped, text) if "\\u" in text else text

    def _open(self, text: str) -> None:
        if len(self._opening) < len("{}"):
            self._opening = (self._opening + "".join(text.split()))[: len("{}")]

    def _is_json(self) -> bool:
        return self._mode == "json" or (self._mode == "auto" and self._opening in _OPENINGS)

    def _written(self, value: str) -> str:
        if self._is_json() and _ESCAPED.search(value):
            return json.dumps(value, ensure_ascii=False)[1:-1]
        return value


def _may_become(buffer: str, start: int) -> bool:
    """Tell whether what stands from ``start`` to the end may still become a token, or fail to."""
    partial, run = shape.PARTIAL.match(buffer, start), shape.RUN.match(buffer, start)
    assert partial is not None
    assert run is not None
    if partial.end() == len(buffer):
        return True
    behind = run.group()[len(MARK) :].upper()
    return run.end() == len(buffer) and len(behind) < _MIN_LETTERS and shape.CONSONANTS.issuperset(behind)


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1]
    letter = "" if code is None else chr(int(code, 16))
    return letter if letter in _PLAIN else escape[0]


def _unknown() -> Integrity:
    return Integrity(
        "the answer cannot be restored",
        "it holds a pseudonym that this request has not, so nobody knows what it stands for",
        "ask again; if it happens often, this model does not copy pseudonyms reliably",
    )


def _altered() -> Integrity:
    return Integrity(
        "the answer cannot be restored",
        "a pseudonym in it was altered, so what it stands for is not certain",
        "ask again; if it happens often, this model does not copy pseudonyms reliably",
    )
