"""Whether a piece of text looks like the value of a secret: by its kinds of characters, never by a list of words.

What stands behind ``=`` needs less to be believed than a word in a sentence. Placeholders and code that
fetches a secret are empty values.
"""

# ruff: noqa: E501, RUF001 (patterns are not broken)

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Final

LEAST_ASSIGNED, LEAST_SAID, LEAST_PIN, LEAST_NUMBER, LEAST_WORD = 4, 6, 4, 6, 8
SURE_KEY_CHARS, KEY_CHARS, NAMED_CHARS = 16, 10, 8
MIXED_KINDS, STRONG_KINDS, ALL_KINDS = 2, 3, 4
MIN_BITS: Final = 2.5
_LOOKED_AT: Final = 128
PLACEHOLDER: Final = re.compile(
    r"(?i)[<\[{(].*[>\]})]?$|\$[A-Z_{(].*|%[sd]|%[({].*|%[A-Z_]+%|(?-i:[a-z0-9_.-]+(?:/[a-z0-9_.-]+){2,})|x{3,}.*|\*{2,}.*|\.{3}.*|…+|•+|your[-_ ]?.*|my[-_]?(?:password|secret|token|key)|example.*|sample.*|dummy.*|"
    r"placeholder.*|redacted.*|masked.*|hidden.*|change[-_ ]?(?:me|it|this)|to[-_ ]?be.*|todo.*|tbd|n/?a|none|null|nil|undefined|true|false|required|optional|"
    r"strings?|text|passw(?:or)?d|pass|secret|token|insert.*|enter.*|replace.*|env\..*|os\.environ.*|os\.getenv.*|process\.env.*|getenv.*|import\.meta.*|secrets\..*|vars\..*|"
    r"vault:.*|ref\+.*|file:.*|ssm:.*|arn:.*|https?://.*|/[\w./-]+|\./.*|~/.*|(?-i:[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)"
)
CODE: Final = re.compile(
    r"[A-Za-z_][\w.]*\(|\w+\[[\"'\w]|^(?:self|this|args|config|request|req|ctx|params|settings|cfg|user|data|options|opts|props|state)\b[.\[]|=>|::|&&|\|\||^[!=]="
)
NOT_A_NAME: Final = re.compile(
    r"(?i)tokens$|max_?tokens|tokeniz|token[_-]?(?:s|count|limit|type|url|uri|endpoint|name|length|size|budget|usage|per|rate|price|index|ids?)\b|_(?:url|uri|path|file|name|dir|length|hint|policy|field|label|"
    r"type|len|regex|pattern|min|max|expiry|ttl|algo|algorithm)$|public[_-]?key|primary[_-]?key|foreign[_-]?key|sort[_-]?key|partition[_-]?key|cache[_-]?key|key[_-]?(?:id|name|up|down|press|code|value)|"
    r"(?:hot|short|arrow|idempotency|dedup|object|routing|s3|group|unique|map|dict|index)[_-]?key|compass|bypass|passenger|passport|passive|passage|passed|passing|reset|forgot|secretar"
)
HYPHENATED: Final = re.compile(r"[A-Za-zÀ-ɏ]+(?:['’./-][A-Za-zÀ-ɏ]+)*")
NUMERIC: Final = re.compile(r"[0-9][0-9.,:/%-]*(?:[a-z]{1,3}|st|nd|rd|th|er|e)?")
ORDINARY: Final = re.compile(
    r"(?i)(?:\$2[aby]\$\d*\$?|sha-?\d+|md5|utf-?\d+|base64|bcrypt|argon2\w*|pbkdf2|oauth2?(?:\.0)?|http/?\d?.*|rfc\d+|iso\d+|ipv\d|v\d[\d.]*|mp3|mp4|2fa|[a-z]+\.(?:txt|md|py|js|json|yml|yaml|toml|pdf|com|org|net|html|php|conf|cfg|env|log)|\d+[a-z]{1,3}|[A-Z]{2,5}-\d{1,4}|q[1-4]|[a-z]\d|kdf\d?|aes-?\d+(?:-\w+)?|rsa-?\d+|tls\d?.*|win\d+|windows\d+|office365|log4j)"
)


_INNER: Final = re.compile(r"[!@#$%^&*+=~?|\\{}\[\]<>§]")
_HUMP: Final = re.compile(r"[a-z][A-Z]")
_DATED: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ]|$)")
MIXED: Final = re.compile(r"(?=[A-Z]*[a-z])(?=[a-z]*[A-Z])[A-Za-z]{12,128}")
"""In the environment's style (``TOKEN=``) letters of both cases are enough."""


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


def empty(value: str) -> bool:
    """Tell whether it is a placeholder or code."""
    return PLACEHOLDER.fullmatch(value) is not None or CODE.search(value) is not None


def is_secrets_name(name: str) -> bool:
    """Tell whether a name that holds ``token``, ``key`` or ``pass`` can be a secret's (``max_tokens`` is none)."""
    return NOT_A_NAME.search(name) is None


def believable(value: str, *, quoted: bool) -> bool:
    """Tell whether what follows ``password:`` or ``password =`` is a value."""
    if len(value) < LEAST_ASSIGNED or empty(value) or ORDINARY.fullmatch(value):
        return False
    if value.isdecimal():
        return len(value) >= (LEAST_PIN if quoted else LEAST_NUMBER)
    if HYPHENATED.fullmatch(value):
        inner = any(c.isupper() for c in value[1:]) and any(c.islower() for c in value)
        return (quoted and len(value) >= LEAST_SAID) or (inner and len(value) >= LEAST_WORD)
    if " " in value:
        return quoted and kinds(value.replace(" ", "")) >= STRONG_KINDS
    return kinds(value) >= MIXED_KINDS and NUMERIC.fullmatch(value) is None and value.isprintable()


def odd(value: str, *, quoted: bool) -> bool:
    """Tell whether a word in a sentence is no word: digits or signs among its letters."""
    core = value if quoted else value.rstrip("!?")
    if len(value) < LEAST_SAID or empty(value) or ORDINARY.fullmatch(core) or " " in value:
        return False
    if HYPHENATED.fullmatch(core):
        mixed = _HUMP.search(core) is not None and sum(c.isupper() for c in core) > 1
        return (quoted or mixed) and len(core) >= LEAST_WORD
    if NUMERIC.fullmatch(core) or not core.isascii():
        return False
    letters, digits = any(c.isalpha() for c in core), any(c.isdigit() for c in core)
    signs = _INNER.search(core) is not None
    return (letters and (digits or signs)) or (digits and signs)


def drawn(value: str, least: int) -> bool:
    """Tell whether a value looks made by a machine or a careful person: long, mixed, not repeating."""
    letters, digits = any(c.isalpha() for c in value), any(c.isdigit() for c in value)
    if len(value) < least or not digits or not letters:
        enough = len(value) >= max(least, NAMED_CHARS) and kinds(value) >= STRONG_KINDS
        return enough and letters and _INNER.search(value) is not None
    if ORDINARY.fullmatch(value) or _DATED.match(value):
        return False
    return bits(value[:_LOOKED_AT]) >= MIN_BITS and value.isascii()


def is_key(value: str, *, quoted: bool) -> bool:  # noqa: ARG001 (judged alike)
    """Tell whether a value is long and mixed enough to be a key."""
    sized = len(value) >= SURE_KEY_CHARS or kinds(value) >= ALL_KINDS
    return sized and " " not in value and not empty(value) and drawn(value, KEY_CHARS)
