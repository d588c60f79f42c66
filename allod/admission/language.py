"""In what language a request is written, told from its script and its commonest words, or not at all.

It is only asked where a deployment says which languages it takes or a task demands that one does. A script
of one language names it (Greek, Thai); one of several does not, and is what is needed then (Cyrillic).
Languages in Latin letters are told by their function words, in running text; a few words, a list of names or
code tell nothing. What cannot be told is unknown, and unknown never keeps a request from anybody, unless its
task says ``require_language``.

Language codes are ISO 639-1, scripts ISO 15924.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from allod.domain.fleet import LANGUAGE, SCRIPT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

READ_CHARS: Final = 1024
"""Of the last message of the user: the task is told in it, and what came before may be quoted."""
UNKNOWN: Final = LANGUAGE + "unknown"
"""What a request needs whose language could not be told, where its task requires that it is."""
LEAST_LETTERS: Final = 4
LEAST_WORDS: Final = 3
_SCRIPTS: Final[tuple[tuple[int, str], ...]] = (
    (0x0370, "Grek"), (0x0400, "Cyrl"), (0x0530, "Armn"), (0x0590, "Hebr"), (0x0600, "Arab"), (0x0700, ""),
    (0x0750, "Arab"), (0x0780, ""), (0x0900, "Deva"), (0x0980, "Beng"), (0x0A00, "Guru"), (0x0A80, "Gujr"),
    (0x0B00, "Orya"), (0x0B80, "Taml"), (0x0C00, "Telu"), (0x0C80, "Knda"), (0x0D00, "Mlym"),
    (0x0D80, "Sinh"), (0x0E00, "Thai"), (0x0E80, "Laoo"), (0x0F00, "Tibt"), (0x1000, "Mymr"),
    (0x10A0, "Geor"), (0x1100, "Hang"), (0x1200, "Ethi"), (0x13A0, ""), (0x1780, "Khmr"), (0x1800, ""),
    (0x1C90, "Geor"), (0x1CC0, ""), (0x1E00, "Latn"), (0x1F00, "Grek"), (0x2000, ""), (0x3040, "Kana"),
    (0x3100, ""), (0x3130, "Hang"), (0x3190, ""), (0x31F0, "Kana"), (0x3200, ""), (0x3400, "Hani"),
    (0xA000, ""), (0xAC00, "Hang"), (0xD7B0, ""), (0xF900, "Hani"), (0xFB00, ""), (0xFB50, "Arab"),
    (0xFE00, ""), (0xFE70, "Arab"), (0xFF00, ""), (0xFF66, "Kana"), (0xFFA0, ""), (0x20000, "Hani"),
    (0x323B0, ""),
)  # fmt: skip
"""Where each script begins; letters before the first are Latin. Blocks of The Unicode Standard 16."""
_STARTS: Final = tuple(start for start, _ in _SCRIPTS)
_OF_SCRIPT: Final[dict[str, str]] = {
    "Grek": "el", "Armn": "hy", "Thai": "th", "Laoo": "lo", "Geor": "ka", "Hang": "ko", "Kana": "ja",
    "Khmr": "km", "Taml": "ta", "Telu": "te", "Knda": "kn", "Mlym": "ml", "Sinh": "si", "Gujr": "gu",
    "Guru": "pa", "Orya": "or", "Tibt": "bo",
}  # fmt: skip
"""Scripts in which one language is written, among those models are asked in."""
_SCRIPTS_OF: Final[dict[str, str]] = {
    **dict.fromkeys("be bg kk ky mk mn ru sr tg uk".split(), "Cyrl"),
    **dict.fromkeys("ar fa ps sd ug ur".split(), "Arab"),
    **dict.fromkeys("he yi".split(), "Hebr"),
    **dict.fromkeys("hi mr ne sa".split(), "Deva"),
    **dict.fromkeys("as bn".split(), "Beng"),
    **dict.fromkeys("ja zh".split(), "Hani"),
    **dict.fromkeys("my".split(), "Mymr"),
    **dict.fromkeys("am ti".split(), "Ethi"),
}
"""Languages whose script others have too."""
_WORDS: Final = {
    name: frozenset(words.split())
    for name, words in {
        "de": "der die das und ist nicht mit ein eine den von zu für auf dem wird wie ich sie im des wurde",
        "en": "the and is of to that with for are was this on it as be by from what how which you please",
        "fr": "le la les et est des dans une pour pas que qui sur avec au du vous je cette sont quel être",
        "es": "el los las y es una para con que del por se como más está son qué pero su lo al cuál",
        "it": "il gli di è una che per con non della sono del come più nel alla questo dei le anche quale",
        "pt": "o os as e é uma para com que não do da em por mais como dos das na no ao você está qual",
        "nl": "de het een en is van niet met voor op dat zijn te wordt die aan hoe wat ook bij deze naar",
        "pl": "i w na z jest nie się do że to jak dla są od przez po czy co oraz tego który może",
        "sv": "och är att det som en på för med av inte den till har ett om hur vad kan eller från",
        "da": "og er at det som en på for med af ikke den til har et om hvordan hvad kan eller fra",
        "fi": "ja on ei se että joka mutta myös ovat kun tai mitä miten voi olla sen niin kuin",
        "cs": "a je v se na že to s z do jak pro jsou by ale nebo co být od které jako",
        "hu": "a az és nem hogy egy is van mit ez meg de vagy mint csak már kell ki volt",
        "ro": "și este în de la cu nu un o pe care din pentru mai ce sunt să se ca cum",
        "tr": "ve bir bu için ile da de ne çok daha olarak gibi var mi nasıl değil olan en",  # noqa: RUF001
    }.items()
}
_LANGUAGES_OF: Final = {
    word: tuple(name for name, known in _WORDS.items() if word in known)
    for word in set().union(*_WORDS.values())
}
_WORD: Final = re.compile(r"[^\W\d_]+")


def need_of(text: str, *, strict: bool = False) -> str | None:
    """Return what a text needs of a model, ``language:de`` or ``script:Cyrl``; None where nothing is told.

    With ``strict`` that is ``UNKNOWN`` instead.
    """
    return _told(text[:READ_CHARS]) or (UNKNOWN if strict else None)


def asked(body: Mapping[str, Any]) -> str:
    """Return the text of the last message of the user in a neutral request, or of an embeddings request."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        given = body.get("input")
        return given[:READ_CHARS] if isinstance(given, str) else ""
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content[:READ_CHARS]
            if isinstance(content, list):
                parts = (part.get("text") for part in content if isinstance(part, dict))
                return " ".join(part for part in parts if isinstance(part, str))[:READ_CHARS]
            return ""
    return ""


def taken(needs: Iterable[str], languages: Iterable[str] | None, *, strict: bool) -> set[str]:
    """Return which of these needs a deployment gives that takes ``languages``; None is unknown.

    Unknown gives everything that is known to be needed, with ``strict`` nothing.
    """
    if languages is None:
        return set() if strict else {need for need in needs if need != UNKNOWN}
    given = {LANGUAGE + name for name in languages}
    given |= {SCRIPT + _SCRIPTS_OF[name] for name in languages if name in _SCRIPTS_OF}
    return given.intersection(needs)


def _told(text: str) -> str | None:
    """Tell by the script with most letters, Latin ones by words."""
    letters = [ch for ch in text if ch.isalpha()]
    if len(letters) < LEAST_LETTERS:
        return None
    scripts: Counter[str] = Counter()
    if not text.isascii():
        for ch in letters:
            if ch >= "\u0370":
                scripts[_SCRIPTS[bisect_right(_STARTS, ord(ch)) - 1][1]] += 1
    scripts["Latn"] += len(letters) - sum(scripts.values())
    script, count = scripts.most_common(1)[0]
    if 2 * count <= len(letters) and script != "Hani":
        return None
    if script == "Latn":
        return _by_words(text)
    if script == "Hani" and scripts["Kana"]:
        return LANGUAGE + "ja"
    if script in _OF_SCRIPT:
        return LANGUAGE + _OF_SCRIPT[script]
    return SCRIPT + script if script else None


def _by_words(text: str) -> str | None:
    """Tell by function words: enough of them, twice as many as of any other language."""
    words = _WORD.findall(text.lower())
    found = Counter(name for word in words for name in _LANGUAGES_OF.get(word, ()))
    (first, most), (_, next_most) = (*found.most_common(2), ("", 0), ("", 0))[:2]
    if most < LEAST_WORDS or most < 2 * next_most or 8 * most < len(words):
        return None
    return LANGUAGE + first
