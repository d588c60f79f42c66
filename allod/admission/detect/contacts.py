"""E-mail addresses and IBANs: forms that speak for themselves."""

# ruff: noqa: E501 (patterns are not broken)

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from allod.admission.detect.checks import mod97
from allod.admission.detect.model import Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

_LATIN: Final = r"A-Za-z0-9\u00c0-\u024f"
EMAIL: Final = re.compile(
    rf"(?<![{_LATIN}._%+-])[{_LATIN}](?:[{_LATIN}._%+'-]{{0,62}}[{_LATIN}_+-])?"
    rf"@(?:[{_LATIN}](?:[{_LATIN}-]{{0,61}}[{_LATIN}])?\.){{1,8}}(?:[A-Za-z]{{2,24}}|xn--[A-Za-z0-9-]{{2,58}})(?![A-Za-z0-9])"
)
_EMAIL_OTHER: Final = re.compile(r"(?<![\w.])\w[\w.+-]{0,62}@(?:[\w-]{1,62}\.){1,4}[^\W\d_]{2,24}")
_SPELT: Final = re.compile(
    r"(?<![\w.@])([A-Za-z0-9][A-Za-z0-9._+-]{0,62})\s?(?:\(|\[|\{|<| )\s?(?:at|AT|ät|arroba|chiocciola|arobase|@)\s?(?:\)|\]|\}|>| )\s?"
    r"([A-Za-z0-9-]{1,62}(?:\s?(?:\.|(?:\(|\[|\{|<| )\s?(?:dot|DOT|punkt|point|punto|ponto)\s?(?:\)|\]|\}|>| ))\s?"
    r"[A-Za-z0-9-]{2,62}){1,4})(?![\w@])"
)
_WORD_AT: Final = re.compile(r" (?:at|AT) ")
_DOT_SPELT: Final = re.compile(r"dot|punkt|point|punto|ponto", re.IGNORECASE)
_FILES: Final = frozenset(
    "png jpg jpeg svg gif webp css js ts jsx tsx json yaml yml toml xml html htm md txt pdf csv py rb go rs java php sh exe "
    "dll so zip gz tar bz2 map lock log cfg ini conf bak tmp plc dbw".split()
)
IBAN_LENGTHS: Final[dict[str, int]] = {
    entry[:2]: int(entry[2:])
    for entry in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
        "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
        "YE30 DZ26 AO25 BJ28 BF28 CM27 CV25 CF27 TD27 KM27 CG27 GQ27 GA27 GW25 IR26 CI28 MG27 ML28 MA28 MZ25 NE28 SN28 TG28"
    ).split()
}
_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ .-]?[A-Za-z0-9]){11,32}")
_IBAN_APART: Final = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z][ ][A-Za-z][ ][0-9](?:[ ]{1,2}[A-Za-z0-9]){12,32}(?![A-Za-z0-9])"
)
_APART_START: Final = re.compile(r"[A-Za-z] [A-Za-z] [0-9] ")
SURE: Final = 120.0


def emails(text: str) -> Iterator[Hit]:
    """Yield e-mail addresses, those spelt out with "at" and "dot" included; no file names, no SSH remotes."""
    if "@" in text or "\uff20" in text:
        for match in EMAIL.finditer(text):
            if _is_email(text, match.start(), match.end()):
                yield Hit(match.start(), match.end(), "EMAIL", SURE)
        if not text.isascii():
            for match in _EMAIL_OTHER.finditer(text):
                domain = match.group().rsplit("@", 1)[1]
                if not domain.isascii() and _is_email(text, match.start(), match.end()):
                    yield Hit(match.start(), match.end(), "EMAIL", SURE - 1)


def spelt_emails(text: str) -> Iterator[Hit]:
    """Yield addresses such as ``anna (at) example (dot) org``; plain words need both "at" and "dot"."""
    for match in _SPELT.finditer(text):
        middle = text[match.end(1) : match.start(2)]
        domain = match.group(2)
        dotted = "." in domain or _DOT_SPELT.search(domain) is not None
        plain = _WORD_AT.fullmatch(middle) is not None
        if dotted and not (plain and _DOT_SPELT.search(domain) is None):
            yield Hit(match.start(), match.end(), "EMAIL", SURE - 2)


def _is_email(text: str, start: int, end: int) -> bool:
    address = text[start:end]
    last = address.rsplit(".", 1)[1].lower()
    if last in _FILES or ".." in address or ".@" in address:
        return False
    if text[end : end + 1] == ":" and text[end + 1 : end + 2].isalpha():
        return not address.startswith(("git@", "hg@", "svn@"))
    left = text.rfind("://", max(0, start - 140), start)
    # after "scheme://user:" it is the password and the host, unless blanks lie between
    return left < 0 or not _userinfo(text[left + 3 : start])


def _userinfo(between: str) -> bool:
    return not any(c in between for c in " \t\n/?#\"'<>")


def ibans(text: str) -> Iterator[Hit]:
    """Yield IBANs: a country's length (ISO 13616 registry) and the check digits."""
    for pattern in (_IBAN, _IBAN_APART) if _APART_START.search(text) else (_IBAN,):
        for match in pattern.finditer(text):
            start = match.start()
            end = _iban_end(text, start, match.end())
            if end:
                yield Hit(start, end, "IBAN", SURE)


def _iban_end(text: str, start: int, most: int) -> int:
    raw = text[start:most]
    country = "".join(c for c in raw[:4] if c.isalnum())[:2].upper()
    length = IBAN_LENGTHS.get(country)
    if length is None:
        return 0
    if most - start == length and raw.isalnum():
        following = text[most : most + 1]
        clean = not (following.isascii() and following.isalnum())
        return most if clean and mod97(raw.upper()) else 0
    compact = ""
    for offset, char in enumerate(raw):
        if char.isalnum():
            compact += char
            if len(compact) == length:
                end = start + offset + 1
                if text[end : end + 1].isascii() and text[end : end + 1].isalnum():
                    return 0
                return end if mod97(compact.upper()) else 0
    return 0
