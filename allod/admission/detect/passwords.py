"""Values that are called a secret: passwords in sentences, assignments and tables, and named keys.

A value is taken only if it does not look like the words of a sentence (``values``): descriptions such as
``password: required`` and sentences about passwords are none.
"""

# ruff: noqa: E501, RUF001 (words of many languages)

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import re2

from allod.admission.detect.model import Hit
from allod.admission.detect.values import (
    MIXED,
    NAMED_CHARS,
    STRONG_KINDS,
    believable,
    drawn,
    empty,
    is_key,
    is_secrets_name,
    kinds,
    odd,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PASSWORD_MARKS: Final[tuple[str, ...]] = (
    *"passwor passwd passcode passphrase pwd kennwort zugangscode losungswort zugangsdaten credential wachtwoord wachtzin".split(),
    *"contraseñ contrasen senha parola hasło haslo hasła hasla lösenord losenord salasana adgangskode passord heslo jelszó".split(),
    *"jelszo şifre sifre κωδικ пароль пароля паролата паролем паролі лозинка lozink zaporka geslo slaptažod parool parole 密码".split(),
    *"密碼 口令 パスワード 暗証番号 비밀번호 암호 पासवर्ड كلمة סיסמ รหัสผ่าน mdp login logon clave گذرواژه sandi pass pin pw psk cred".split(),
    "mot de passe", "code secret", "palavra-passe", "palavra passe", "mật khẩu", "kata sandi", "رمز عبور",
    "--user", "-u ", "sshpass", "--passwor", "otp", "cvv", "cvc", "tan ",
)  # fmt: skip
NAME_MARKS: Final[tuple[str, ...]] = (
    *"secret token apikey api_key api-key access_key access-key accesskey private_key auth_key credential signing".split(),
    *"encryption bearer clé chave chiave klucz nyckel avain ключ 密钥 密鑰 キー 키 토큰 токен 令牌 トークン license auth apikey".split(),
    " key", "client secret", "api ", "api-", "api_", "apiキー", "api키", "access key", "schlüssel", "_key", "-key", "clave",
)  # fmt: skip
SURE: Final = 130.0

WORD: Final = re2.compile(
    r"(?i)pass[ _-]?(?:word|wort|code|phrase|wd|ord)s?|\bpass\b|pwd|\bpw\b|kennwort|zugangscode|losungswort|zugangsdaten|credentials?|\bcreds?\b|"
    r"wachtwoord(?:en)?|wachtzin|contraseñas?|contrasenas?|\bclave\b|senhas?|palavra[- ]passe|parol[aăeoă]|mot de passe|\bmdp\b|code secret|"
    r"hasł[oa]|hasl[oa]|l[öo]senord(?:et)?|salasana(?:si|ni|mme)?|adgangskode[nr]?|\bhesl[oaem]m?|jelsz[óo]|[şs]ifre(?:si|niz|m|n)?|"
    r"κωδικ[όο]ς?(?: πρόσβασης)?|парол[ьяемю]{1,2}|паролата|лозинка|lozinka|zaporka|\bgeslo|slaptažodis|parool|密[码碼]|口令|パスワード|暗証番号|"
    r"비밀번호|암호|पासवर्ड|كلمة (?:السر|المرور)|סיסמ[הת]|รหัสผ่าน|mật khẩu|kata sandi|گذرواژه|رمز عبور|\blog[io]n\b"
)
_PAIRS: Final = frozenset({"login", "logon", "credentials", "credential", "creds", "cred", "zugangsdaten"})
_VERBS: Final = frozenset(
    "is was are is: ist lautet war heißt sind est était es era é è fue jest brzmi to är er on oli je bylo van este e sunt να είναι это є "
    "adalah ialah dir olarak को है हैं là now nun jetzt maintenant ahora agora teraz nu use using with mit avec con com met z med".split()
)
_RUN: Final = re.compile(r"[!-~]{1,160}")
_LEAD: Final = re.compile(
    r"(?:[A-Za-z_-]{0,10}value|default|content)=[\"']|[\"'`)\]}*_]{0,4}(?:[:=]{1,2}>?|->|>)[\"'`*_]{0,3}|[\"'`(\[*]{1,3}"
)
_ASSIGNS: Final = re.compile(r"[:=>]")
_WIDE_ASSIGN: Final = "：＝→⇒➜"
_WIDE_QUOTES: Final = "„“”«»「」『』‚‘’"
_QUOTES: Final = "\"'`"
WINDOW_CHARS, MAX_WORDS = 110, 14
NAME: Final = re2.compile(
    r"(?i)secret|token|passw(?:or)?d|passwd|pwd|pass|api[ _-]?key|access[ _-]?key|private[ _-]?key|auth[ _-]?key|account[ _-]?key|"
    r"credential|signing[ _-]?key|encryption[ _-]?key|master[ _-]?key|bearer|schlüssel|[_-]key|\bpsk\b"
)
NAMED: Final = re.compile(
    r"(?<![A-Za-z0-9_.-])([A-Za-z0-9_.-]{0,40}?(?:secret|token|passw(?:or)?d|passwd|pwd|pass|api[ _-]?key|access[ _-]?key|private[ _-]?key|"
    r"auth[ _-]?key|account[ _-]?key|credential|signing[ _-]?key|encryption[ _-]?key|master[ _-]?key|bearer|schlüssel|_key|-key|psk)[A-Za-z0-9_.-]{0,24})"
    r"[\"'\])]{0,2}\s{0,3}(?:=>|={1,2}|:=|:|：)\s{0,3}[fFrRbB]?(?:\"([^\"\n]{6,512})\"|'([^'\n]{6,512})'|`([^`\n]{6,512})`|([^\s\"'`,;<>&]{6,512}))",
    re.IGNORECASE,
)
KEY_WORD: Final = re2.compile(
    r"(?i)\b(?:api|access|secret|license|auth|bearer|session|refresh|network|wi-?fi|wlan|security)[ _-]?(?:key|token)s?|\btoken|client secret|api[ -]?schlüssel|"
    r"zugangsschlüssel|clé(?: d['’]api| api| secrète)|clave(?: de)?(?: api| secreta)|chave(?: de)? api|chiave api|klucz api|api[ -]?nyckel|"
    r"api[ -]?avain|ключ(?: api| доступа)|密钥|密鑰|apiキー|アクセスキー|トークン|api ?키|토큰|токен|令牌"
)
_COMMAND: Final = re.compile(
    r"(?<!\S)(?:-u|--user)[ =]['\"]?[A-Za-z0-9._@-]{1,64}:([^\s'\"]{4,128})|sshpass\s+-p\s?['\"]?([^\s'\"]{4,128})|--password[= ]['\"]?([^\s'\"]{4,128})"
)
_PIN: Final = re.compile(
    r"\b(?:PIN|PIN[- ]?Code|code PIN|Pincode|PIN-koden?|TAN|OTP|CVV2?|CVC2?)\b(?:[^\n.!?0-9]{0,24})(?::|=|\bis\b|\bist\b|lautet|\best\b|\bes\b|\bé\b|\bè\b|är|\bon\b|jest|\bto\b)\s?([0-9]{3,8})(?![0-9.])"
)
_TRIM: Final = ".,;:)]}>\"'`。，、；：）»"
_AS: Final = re.compile(
    r"(?<![!-~])([!-~]{6,64}) (?:as|als|como|comme|come|jako|som) (?:(?:the|my|a|your|our|das|mein|unser|le|mon|la|el|il|minha|mi|hasło) )?(?:[a-zà-ÿ-]{2,14} )?\Z"
)
_COMMAND_MARKS: Final = frozenset({"--user", "-u ", "sshpass", "--passwor"})
_PIN_MARKS: Final = frozenset({"pin", "tan ", "otp", "cvv", "cvc"})
_PASSWORDS: Final = frozenset(PASSWORD_MARKS)
_NAMES: Final = frozenset(
    "secret token passwor passwd pwd pass apikey api_key api-key access_key access-key accesskey private_key auth_key credential "
    "signing encryption bearer schlüssel psk _key -key".split()
) | {" key"}
_KEYS: Final = frozenset(
    "token apikey api_key api-key access_key access-key accesskey clé clave chave chiave klucz nyckel avain ключ 密钥 密鑰 キー 키 토큰 "
    "токен 令牌 トークン schlüssel _key -key".split()
) | {" key", "client secret"}
_NAME_CHARS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_AWS_SECRET: Final = re.compile(r"[A-Za-z0-9+/]{40}")
_VALUE_CHARS, _NAME_LEFT_CHARS, _TABLE_CHARS = 160, 40, 4096


def passwords(text: str, marks: frozenset[str]) -> Iterator[Hit]:
    """Yield passwords and named keys; ``marks`` are the literals that the one pass over the text has found."""
    if not marks.isdisjoint(_PASSWORDS):
        yield from _called(text)
        for pattern, announced in ((_COMMAND, _COMMAND_MARKS), (_PIN, _PIN_MARKS)):
            if not marks.isdisjoint(announced):
                yield from _matched(pattern, text)
    if not marks.isdisjoint(_NAMES):
        yield from _named(text)
    if not marks.isdisjoint(_KEYS):
        for place in KEY_WORD.finditer(text):
            for start, end, _ in said(text, place.end(), is_key, is_key):
                around = text[max(0, place.start() - 24) : start]
                yield Hit(start, end, _kind(around, text[start:end]), SURE - 6)


def _called(text: str) -> Iterator[Hit]:
    done = -1
    for match in WORD.finditer(text):
        start, after = match.span()
        if start < done or text[max(0, start - 1) : start] in ("$", "/", "\\"):
            continue
        pair = text[start:after].lower() in _PAIRS
        values = list(said(text, after, odd if pair else believable, odd, pair=pair))
        for begin, end, sure in values:
            done = end
            yield Hit(begin, end, "PASSWORD", sure)
        if not values:
            yield from _before(text, start)
        yield from _column(text, start, after)


def _before(text: str, start: int) -> Iterator[Hit]:
    """Yield the value that stands before a secret's name ("use X as the password")."""
    match = _AS.search(text, max(0, start - WINDOW_CHARS), start)
    if match is not None:
        value = match.group(1).strip(_QUOTES).rstrip(_TRIM)
        if kinds(value) >= STRONG_KINDS and odd(value, quoted=False):
            begin = text.index(value, match.start(1))
            yield Hit(begin, begin + len(value), "PASSWORD", SURE - 4)


def _matched(pattern: re.Pattern[str], text: str) -> Iterator[Hit]:
    for match in pattern.finditer(text):
        start, end, value, _ = _group(match, 1)
        if not empty(value):
            yield Hit(start, end, "PASSWORD", SURE - 3)


def _group(match: re.Match[str], first: int) -> tuple[int, int, str, bool]:
    """Return the value of a match, from its first group that took part: start, end, text, quoted."""
    last = match.re.groups
    index = next(i for i in range(first, last + 1) if match.start(i) >= 0)
    return match.start(index), match.end(index), match.group(index), index != last


class _Word:
    """One run of visible characters after a secret's name: what leads it, and the value it may be."""

    __slots__ = ("assigned", "begin", "quoted", "value")

    def __init__(self, text: str, start: int, word: str, gap: str, before: str) -> None:
        lead = _LEAD.match(word)
        marks = lead.group() if lead else ""
        self.begin = start + len(marks)
        wide = any(c in gap for c in _WIDE_ASSIGN)
        self.assigned = wide or _ASSIGNS.search(marks) is not None or (before != "" and before in ":=")
        quote = marks[-1:] if marks and marks[-1] in _QUOTES else ""
        self.quoted = quote != "" or (gap != "" and gap[-1] in _WIDE_QUOTES)
        self.value = _value(text, self.begin, quote, word[len(marks) :])


def said(
    text: str, at: int, assigned_is: Callable[..., bool], said_is: Callable[..., bool], *, pair: bool = False
) -> Iterator[tuple[int, int, float]]:
    """Yield the value that a secret's name is given after the place ``at``, if there is one.

    Words are walked until the clause ends: what stands behind ``=`` or ``:`` is judged by ``assigned_is``,
    what stands behind a verb, or behind nothing, by ``said_is``. With ``pair`` the first value may be a
    user's name.
    """
    limit = min(len(text), at + WINDOW_CHARS)
    last, verb = at, False
    for count, run in enumerate(_RUN.finditer(text, at, limit + _VALUE_CHARS)):
        start, word = run.start(), run.group()
        gap = text[last:start]
        before = text[last - 1 : last] if count else ""
        if _clause_ended(start >= limit or count > MAX_WORDS, gap, word, before, first=count == 0):
            return
        one = _Word(text, start, word, gap, before)
        if one.value:
            end = one.begin + len(one.value)
            taken = one.assigned and assigned_is(one.value, quoted=one.quoted)
            if taken:
                yield one.begin, end, SURE
            if taken or (one.assigned and not pair):
                return
            strong = count == 0 or verb or one.quoted or not gap.isascii() or kinds(one.value) >= STRONG_KINDS
            if not one.assigned and strong and said_is(one.value, quoted=one.quoted):
                yield one.begin, end, SURE - 2
                return
        if word[-1] in ".!?;" and len(word) > 2:  # noqa: PLR2004 (a mark alone ends nothing)
            return
        verb = word.lower().strip("\"'`:,") in _VERBS
        last = run.end()


def _clause_ended(over: bool, gap: str, word: str, before: str, *, first: bool) -> bool:
    """Tell whether a word no longer belongs to the clause of a secret's name."""
    led = _LEAD.match(word)
    if over or gap.count("\n") > 1 or (first and not gap and led is None and word != "?"):
        return True
    assigns = led is not None and _ASSIGNS.search(led.group()) is not None
    return "\n" in gap and not (assigns or (before != "" and before in ":=*"))


def _value(text: str, begin: int, quote: str, rest: str) -> str:
    """Return the value that begins at a place: up to the closing quote, or without the marks of a clause."""
    if quote:
        close = text.find(quote, begin, begin + _VALUE_CHARS)
        if close > begin and "\n" not in text[begin:close]:
            return text[begin:close]
    return rest.split("</", 1)[0].split('"', 1)[0].split("`", 1)[0].rstrip(_TRIM)


def _column(text: str, start: int, end: int) -> Iterator[Hit]:
    """Yield the cells below a heading that names passwords."""
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", end)
    line = text[line_start:line_end] if line_end >= 0 else ""
    separator = next((c for c in "\t|;," if c in line), "")
    if not separator:
        return
    column, place = line.count(separator, 0, start - line_start), line_end + 1
    for row in text[place : place + _TABLE_CHARS].split("\n"):
        if row.count(separator) != line.count(separator):
            return
        cells = row.split(separator)
        value = cells[column].strip().strip("\"'`")
        if odd(value, quoted=False):
            begin = place + sum(len(c) + 1 for c in cells[:column]) + cells[column].index(value)
            yield Hit(begin, begin + len(value), "PASSWORD", SURE - 3)
        place += len(row) + 1


def _named(text: str) -> Iterator[Hit]:
    """Yield what is assigned to a name that holds ``secret``, ``token``, ``key`` and the like."""
    done = -1
    for place in NAME.finditer(text):
        left = begin = place.start()
        if left < done:
            continue
        while left > 0 and begin - left < _NAME_LEFT_CHARS and text[left - 1] in _NAME_CHARS:
            left -= 1
        match = NAMED.match(text, left)
        if match is None:
            continue
        name = match.group(1)
        done = match.start(1) + len(name)
        start, _, value, quoted = _group(match, 2)
        value = value if quoted else value.rstrip(_TRIM)
        if " " in value or empty(value) or not is_secrets_name(name):
            continue
        if drawn(value, NAMED_CHARS) or (name.isupper() and MIXED.fullmatch(value)):
            yield Hit(start, start + len(value), _kind(name, value), SURE - 4)


def _kind(name: str, value: str) -> str:
    return "AWS_SECRET" if "aws" in name.lower() and _AWS_SECRET.fullmatch(value) else "PASSWORD"
