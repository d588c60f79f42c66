"""Secrets: tokens by form, private keys, passwords in addresses, and values that are called a secret.

A value called a password is taken only if it does not look like the words of a sentence: what follows ``=`` or
``:`` needs less to be believed than what follows "is", and what follows nothing needs most. Placeholders, code
that fetches a secret, and descriptions (``password: required``) are not secrets.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import re2

from allod.admission.detect.model import Hit
from allod.admission.detect.tokens import BASIC, BEARER, PRIVATE_KEY, TOKENS, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PASSWORD_MARKS: Final = (
    "passwor passwd passcode passphrase pwd kennwort zugangscode losungswort zugangsdaten credential wachtwoord wachtzin "
    "contraseñ contrasen senha parola hasło haslo hasła hasla lösenord losenord salasana adgangskode passord heslo jelszó "
    "jelszo şifre sifre κωδικ пароль пароля паролата паролем лозинка lozink zaporka geslo slaptažod parool parole 密码 密碼 口令 "
    "パスワード 暗証番号 비밀번호 암호 पासवर्ड كلمة סיסמ รหัสผ่าน mdp login logon"
).split() + ["mot de passe", "code secret", "clave", "palavra-passe", "palavra passe", "mật khẩu", "kata sandi", "sandi", "گذرواژه", "رمز عبور", "pass", "pin"]
NAME_MARKS: Final = "secret token apikey api_key api-key accesskey access_key access-key private_key auth_key credential signing encryption bearer api key".split() + [
    "api key", "access key", "schlüssel", "clé api", "clave api", "_key", "-key", "key"
]
URL_MARK: Final = "://"
SURE: Final = 130.0

WORD: Final = re2.compile(
    r"(?i)pass[ _-]?(?:word|wort|code|phrase|wd|ord)s?|\bpass\b|pwd|\bpw\b|kennwort|zugangscode|losungswort|zugangsdaten|credentials?|"
    r"wachtwoord(?:en)?|wachtzin|contraseñas?|contrasenas?|\bclave\b|senhas?|palavra[- ]passe|parol[aăeoă]|mot de passe|\bmdp\b|code secret|"
    r"hasł[oa]|hasl[oa]|l[öo]senord(?:et)?|salasana(?:si|ni|mme)?|adgangskode[nr]?|\bhesl[oaem]m?|jelsz[óo]|[şs]ifre(?:si|niz|m|n)?|"
    r"κωδικ[όο]ς?(?: πρόσβασης)?|парол[ьяемю]{1,2}|паролата|лозинка|lozinka|zaporka|\bgeslo|slaptažodis|parool|密[码碼]|口令|パスワード|暗証番号|"
    r"비밀번호|암호|पासवर्ड|كلمة (?:السر|المرور)|סיסמ[הת]|รหัสผ่าน|mật khẩu|kata sandi|گذرواژه|رمز عبور|\blog[io]n\b"
)
_VERBS: Final = frozenset(
    "is was are is: ist lautet war heißt sind est était es era é è fue jest brzmi to är er on oli je bylo van este e sunt να είναι это є "
    "adalah ialah dir olarak को है हैं là now nun jetzt maintenant ahora agora teraz nu use using with mit avec con com met z med".split()
)
_RUN: Final = re.compile(r"[!-~]{2,160}")
_LEAD: Final = re.compile(r"[\"'`)\]}*_]{0,4}(?:[:=]{1,2}>?|->|>)[\"'`*_]{0,3}|[\"'`(\[*]{1,3}")
_ASSIGNS: Final = re.compile(r"[:=>]")
_WIDE_ASSIGN: Final = "：＝→⇒➜"
_WIDE_QUOTES: Final = "„“”«»「」『』‚‘’"
_QUOTES: Final = "\"'`"
WINDOW_CHARS, MAX_WORDS = 110, 12
NAME: Final = re2.compile(
    r"(?i)secret|token|passw(?:or)?d|passwd|pwd|pass|api[ _-]?key|access[ _-]?key|private[ _-]?key|auth[ _-]?key|account[ _-]?key|"
    r"credential|signing[ _-]?key|encryption[ _-]?key|master[ _-]?key|bearer|schlüssel|[_-]key"
)
NAMED: Final = re.compile(
    r"(?<![A-Za-z0-9_.-])([A-Za-z0-9_.-]{0,40}?(?:secret|token|passw(?:or)?d|passwd|pwd|pass|api[ _-]?key|access[ _-]?key|private[ _-]?key|"
    r"auth[ _-]?key|account[ _-]?key|credential|signing[ _-]?key|encryption[ _-]?key|master[ _-]?key|bearer|schlüssel|_key|-key)[A-Za-z0-9_.-]{0,24})"
    r"[\"'\])]{0,2}\s{0,3}(?:=>|={1,2}|:=|:|：)\s{0,3}[fFrRbB]?(?:\"([^\"\n]{6,512})\"|'([^'\n]{6,512})'|`([^`\n]{6,512})`|([^\s\"'`,;<>&]{6,512}))",
    re.IGNORECASE,
)
KEY_WORD: Final = re2.compile(
    r"(?i)\b(?:api|access|secret|license|auth|bearer|session|refresh)[ _-]?(?:key|token)s?|\btoken|client secret|api[ -]?schlüssel|"
    r"zugangsschlüssel|clé(?: d['’]api| api| secrète)|clave(?: de)?(?: api| secreta)|chave(?: de)? api|chiave api|klucz api|api[ -]?nyckel|"
    r"api[ -]?avain|ключ(?: api| доступа)|密钥|密鑰|apiキー|アクセスキー|トークン|api ?키|토큰|токен|令牌"
)
IN_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,24}://[^\s:/@\"'<>]{0,64}:([^\s/\"'<>]{1,128})@(?=[A-Za-z0-9\[_.${-])")
_COMMAND: Final = re.compile(r"(?<!\S)(?:-u|--user)[ =]['\"]?[A-Za-z0-9._@-]{1,64}:([^\s'\"]{4,128})|sshpass\s+-p\s?['\"]?([^\s'\"]{4,128})|--password[= ]['\"]?([^\s'\"]{4,128})")
_PIN: Final = re.compile(r"\b(?:PIN|PIN[- ]?Code|code PIN|Pincode|PIN-koden?|TAN|OTP|CVV2?|CVC2?)\b(?:[^\n.!?0-9]{0,24})(?::|=|\bis\b|\bist\b|lautet|\best\b|\bes\b|\bé\b|\bè\b|är|\bon\b|jest|\bto\b)\s?([0-9]{3,8})(?![0-9.])")
_PLACEHOLDER: Final = re.compile(
    r"(?i)[<\[{(].*[>\]})]?$|\$[A-Z_{(].*|%[(sd{].*|%[A-Z_]+%|x{3,}.*|\*{2,}.*|\.{3}.*|…+|•+|your[-_ ]?.*|my[-_]?(?:password|secret|token|key)|example.*|sample.*|dummy.*|"
    r"placeholder.*|redacted.*|masked.*|hidden.*|change[-_ ]?(?:me|it|this)|to[-_ ]?be.*|todo.*|tbd|n/?a|none|null|nil|undefined|true|false|required|optional|"
    r"strings?|text|passw(?:or)?d|pass|secret|token|insert.*|enter.*|replace.*|env\..*|os\.environ.*|os\.getenv.*|process\.env.*|getenv.*|import\.meta.*|secrets\..*|vars\..*|"
    r"vault:.*|ref\+.*|file:.*|ssm:.*|arn:.*|https?://.*|/[\w./-]+|\./.*|~/.*|(?-i:[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)"
)
_CODE: Final = re.compile(r"[A-Za-z_][\w.]*\(|\w+\[[\"'\w]|^(?:self|this|args|config|request|req|ctx|params|settings|cfg|user|data|options|opts|props|state)\b[.\[]|=>|::|&&|\|\||^[!=]=")
_NOT_A_NAME: Final = re.compile(
    r"(?i)tokens$|max_?tokens|tokeniz|token[_-]?(?:s|count|limit|type|url|uri|endpoint|name|length|size|budget|usage|per|rate|price|index|ids?)\b|_(?:url|uri|path|file|name|dir|length|hint|policy|field|label|"
    r"type|len|regex|pattern|min|max|expiry|ttl|algo|algorithm)$|public[_-]?key|primary[_-]?key|foreign[_-]?key|sort[_-]?key|partition[_-]?key|cache[_-]?key|key[_-]?(?:id|name|up|down|press|code|value)|"
    r"(?:hot|short|arrow|idempotency|dedup|object|routing|s3|group|unique|map|dict|index)[_-]?key|compass|bypass|passenger|passport|passive|passage|passed|passing|reset|forgot|secretar"
)
_TRIM: Final = ".,;:)]}>\"'`。，、；：）»"
_HYPHENATED: Final = re.compile(r"[A-Za-zÀ-ɏ]+(?:['’./-][A-Za-zÀ-ɏ]+)*")
_NUMERIC: Final = re.compile(r"[0-9][0-9.,:/%-]*(?:[a-z]{1,3}|st|nd|rd|th|er|e)?")
_ORDINARY: Final = re.compile(r"(?i)(?:sha-?\d+|md5|utf-?\d+|base64|bcrypt|argon2\w*|pbkdf2|oauth2?(?:\.0)?|http/?\d?.*|rfc\d+|iso\d+|ipv\d|v\d[\d.]*|mp3|mp4|2fa|[a-z]+\.(?:txt|md|py|js|json|yml|yaml|toml|pdf|com|org|net|html|php|conf|cfg|env|log)|\d+[a-z]{1,3}|[A-Z]{2,5}-\d{1,4}|q[1-4]|[a-z]\d|kdf\d?|aes-?\d+(?:-\w+)?|rsa-?\d+|tls\d?.*|win\d+|windows\d+|office365|log4j)")


def kinds(value: str) -> int:
    """Return how many kinds of characters a value has: lower, upper, digits, others."""
    return (
        any(c.islower() for c in value)
        + any(c.isupper() for c in value)
        + any(c.isdigit() for c in value)
        + any(not c.isalnum() for c in value)
    )


def bits(value: str) -> float:
    """Return the Shannon entropy of a value's characters, in bits per character."""
    size = len(value)
    return -sum(n / size * math.log2(n / size) for n in Counter(value).values())


def secrets(text: str, marks: frozenset[str]) -> Iterator[Hit]:
    """Yield secrets; ``marks`` are the literals that the one pass over the text has found, lower case."""
    for token in dict.fromkeys(token for mark in marks for token in _BY_MARK.get(mark, ())):
        for match in token.pattern.finditer(text):
            if len(set(match.group())) > 6:  # noqa: PLR2004 (not xxxxx)
                yield Hit(match.start(), match.end(), token.type, SURE + 10)
    if "private key" in marks or "putty-user-key-file-" in marks:
        for match in PRIVATE_KEY.finditer(text):
            yield Hit(match.start(), match.end(), "PRIVATE_KEY", SURE + 20)
    if URL_MARK in marks:
        for match in IN_URL.finditer(text):
            if not _empty(match.group(1)):
                yield Hit(match.start(1), match.end(1), "PASSWORD", SURE + 5)
    if "bearer" in marks or "authorization" in marks:
        yield from _headers(text)
    if not marks.isdisjoint(_PASSWORD_SET):
        yield from _passwords(text)
    if not marks.isdisjoint(_NAME_SET):
        yield from _named(text)


def _by_mark() -> dict[str, tuple[Token, ...]]:
    table: dict[str, list[Token]] = {}
    for token in TOKENS:
        for mark in token.marks:
            table.setdefault(mark.lower(), []).append(token)
    return {mark: tuple(tokens) for mark, tokens in table.items()}


_BY_MARK: Final = _by_mark()
_PASSWORD_SET: Final = frozenset(PASSWORD_MARKS) | {"--user", "-u ", "sshpass", "otp", "cvv", "cvc"}
_NAME_SET: Final = frozenset(NAME_MARKS) | _PASSWORD_SET


def _headers(text: str) -> Iterator[Hit]:
    for pattern, kind in ((BEARER, "BEARER_TOKEN"), (BASIC, "PASSWORD")):
        for match in pattern.finditer(text):
            value = match.group(1)
            if kinds(value) >= 2 and any(c.isdigit() for c in value) and not _empty(value):  # noqa: PLR2004
                yield Hit(match.start(1), match.end(1), kind, SURE - 5)


def _group(match: re.Match[str], first: int) -> tuple[int, int, str, bool]:
    """Return the value of a match, from its first group that took part: start, end, text, quoted."""
    last = match.re.groups
    for index in range(first, last + 1):
        if match.start(index) >= 0:
            return match.start(index), match.end(index), match.group(index), index != last
    raise AssertionError


def _empty(value: str) -> bool:
    return _PLACEHOLDER.fullmatch(value) is not None or _CODE.search(value) is not None


def _trimmed(value: str) -> str:
    """Cut what ends a sentence or a clause; a single sign at the end that is no such mark stays."""
    return value.rstrip(_TRIM)


def _passwords(text: str) -> Iterator[Hit]:
    done = -1
    for match in WORD.finditer(text):
        if match.start() < done:
            continue
        for start, end, sure in said(text, match.end(), _believable, _odd):
            done = end
            yield Hit(start, end, "PASSWORD", sure)
        yield from _column(text, match.start(), match.end())
    for pattern in (_COMMAND, _PIN):
        for found in pattern.finditer(text):
            start, end, value, _ = _group(found, 1)
            if not _empty(value):
                yield Hit(start, end, "PASSWORD", SURE - 3)


def said(
    text: str, at: int, assigned_is: Callable[..., bool], said_is: Callable[..., bool]
) -> Iterator[tuple[int, int, float]]:
    """Yield the value that a secret's name is given after the place ``at``, if there is one.

    Words are walked until the clause ends: what stands behind ``=`` or ``:`` is judged by ``assigned_is``, what
    stands behind a verb, or behind nothing, by ``said_is``.
    """
    limit = min(len(text), at + WINDOW_CHARS)
    last, verb = at, False
    for count, run in enumerate(_RUN.finditer(text, at, limit + 160)):
        start, word = run.start(), run.group()
        gap = text[last:start]
        if start >= limit or count > MAX_WORDS or gap.count("\n") > 1:
            return
        lead = _LEAD.match(word)
        marks = lead.group() if lead else ""
        assigned = _ASSIGNS.search(marks) is not None or any(c in gap for c in _WIDE_ASSIGN)
        if count == 0 and lead is None and not gap and word[0] not in " \t" and word[0].isalnum():
            return
        if "\n" in gap and not (assigned or text[last - 1 : last] in ":=*"):
            return
        assigned = assigned or (count > 0 and text[last - 1 : last] in (":", "="))
        begin = start + len(marks)
        quote = marks[-1:] if marks and marks[-1] in _QUOTES else ""
        quoted = quote != "" or (gap != "" and gap[-1] in _WIDE_QUOTES)
        value = _value(text, begin, quote, word[len(marks) :])
        if value:
            if assigned:
                if assigned_is(value, quoted=quoted):
                    yield begin, begin + len(value), SURE
                return
            if said_is(value, quoted=quoted) and (verb or quoted or kinds(value) >= 3 or not gap.isascii()):  # noqa: PLR2004
                yield begin, begin + len(value), SURE - 2
                return
        if word[-1] in ".!?;" and len(word) > 2:  # noqa: PLR2004 (the clause ends)
            return
        verb = word.lower().strip("\"'`:,") in _VERBS
        last = run.end()


def _value(text: str, begin: int, quote: str, rest: str) -> str:
    """Return the value that begins at a place: up to the closing quote, or without the marks of a clause."""
    if quote:
        close = text.find(quote, begin, begin + 160)
        if close > begin and "\n" not in text[begin:close]:
            return text[begin:close]
    cut = rest.split("</", 1)[0]
    for mark in _QUOTES:
        cut = cut.split(mark, 1)[0] if mark != "'" else cut
    return cut.rstrip(_TRIM)


def _column(text: str, start: int, end: int) -> Iterator[Hit]:
    """Yield the cells below a heading that names passwords."""
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", end)
    if line_end < 0:
        return
    line = text[line_start:line_end]
    separator = next((c for c in "\t|;," if c in line), "")
    if not separator:
        return
    column, place = line.count(separator, 0, start - line_start), line_end + 1
    for row in text[place : place + 4096].split("\n"):
        if row.count(separator) != line.count(separator):
            return
        cells = row.split(separator)
        cell = cells[column]
        value = cell.strip().strip("\"'`")
        if _odd(value, quoted=False):
            begin = place + sum(len(c) + 1 for c in cells[:column]) + cell.index(value)
            yield Hit(begin, begin + len(value), "PASSWORD", SURE - 3)
        place += len(row) + 1


def _believable(value: str, *, quoted: bool) -> bool:
    """Tell whether what follows ``password:`` or ``password =`` is a value."""
    if len(value) < 4 or _empty(value) or _ORDINARY.fullmatch(value):  # noqa: PLR2004
        return False
    if value.isdecimal():
        return len(value) >= 6 or (quoted and len(value) >= 4)  # noqa: PLR2004
    if _HYPHENATED.fullmatch(value):
        inner = any(c.isupper() for c in value[1:]) and any(c.islower() for c in value)
        return (quoted and " " not in value and len(value) >= 6) or (inner and len(value) >= 8)  # noqa: PLR2004
    if " " in value:
        return quoted and kinds(value.replace(" ", "")) >= 3  # noqa: PLR2004
    return kinds(value) >= 2 and _NUMERIC.fullmatch(value) is None and value.isprintable()  # noqa: PLR2004


_INNER: Final = re.compile(r"[!@#$%^&*+=~?|\\{}\[\]<>§]")


def _odd(value: str, *, quoted: bool) -> bool:
    """Tell whether a word in a sentence is no word: digits or signs among its letters."""
    core = value.rstrip("!?") if not quoted else value
    if len(value) < 6 or _empty(value) or _ORDINARY.fullmatch(core) or " " in value:  # noqa: PLR2004
        return False
    if _HYPHENATED.fullmatch(core):
        mixed = re.search(r"[a-z][A-Z]", core) is not None and sum(c.isupper() for c in core) > 1
        return (quoted and len(core) >= 8) or (mixed and len(core) >= 8)  # noqa: PLR2004
    if _NUMERIC.fullmatch(core) or not core.isascii():
        return False
    letters, digits = any(c.isalpha() for c in core), any(c.isdigit() for c in core)
    signs = _INNER.search(core) is not None
    return (letters and (digits or signs)) or (digits and signs)


_NAME_CHARS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")


def _named(text: str) -> Iterator[Hit]:
    done = -1
    for place in NAME.finditer(text):
        left = place.start()
        if left < done:
            continue
        while left > 0 and place.start() - left < 40 and text[left - 1] in _NAME_CHARS:  # noqa: PLR2004
            left -= 1
        match = NAMED.match(text, left)
        if match is None:
            continue
        done = match.start(1) + len(match.group(1))
        start, _, value, quoted = _group(match, 2)
        value = value if quoted else _trimmed(value)
        if not _NOT_A_NAME.search(match.group(1)) and not _empty(value) and " " not in value and _random(value, 8):
            yield Hit(start, start + len(value), _kind(match.group(1), value), SURE - 4)
    for place in KEY_WORD.finditer(text):
        for start, end, _ in said(text, place.end(), _is_key, _is_key):
            yield Hit(start, end, _kind(text[max(0, place.start() - 24) : start], text[start:end]), SURE - 6)


def _is_key(value: str, *, quoted: bool) -> bool:  # noqa: ARG001 (judged alike)
    """Tell whether a value is long and mixed enough to be a key."""
    return not _empty(value) and " " not in value and _random(value, 10) and (len(value) >= 16 or kinds(value) >= 4)  # noqa: PLR2004


_AWS_SECRET: Final = re.compile(r"[A-Za-z0-9+/]{40}")


def _kind(name: str, value: str) -> str:
    return "AWS_SECRET" if "aws" in name.lower() and _AWS_SECRET.fullmatch(value) else "PASSWORD"


def _random(value: str, least: int) -> bool:
    """Tell whether a value looks made by a machine or a careful person: long, mixed, not repeating."""
    if len(value) < least or not any(c.isdigit() for c in value) or not any(c.isalpha() for c in value):
        letters = any(c.isalpha() for c in value)
        return len(value) >= max(least, 8) and letters and kinds(value) >= 3 and _INNER.search(value) is not None  # noqa: PLR2004
    if _ORDINARY.fullmatch(value) or _DATED.match(value):
        return False
    return bits(value) >= 2.5 and value.isascii()  # noqa: PLR2004 (bits)


_DATED: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ]|$)")
