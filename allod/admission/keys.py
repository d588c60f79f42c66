"""Keys of apps: their form, their digest, and how a request presents one.

A key is ``ak_`` and 43 characters of base64url (32 random bytes). Only its SHA-256 is ever stored: a key has
256 bits of entropy, so a slow hash would add nothing (NIST SP 800-63B, section 5.1.1.2, is about memorised
secrets). No error message repeats any part of a key.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Final

from allod.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX: Final = "ak_"
KEY_BYTES: Final = 32
_FORM: Final = re.compile(r"ak_[A-Za-z0-9_-]{43}")
_SINGLE: Final = frozenset({b"authorization", b"host", b"content-length", b"x-api-key"})


def new_key(random32: bytes) -> str:
    """Write 32 random bytes as a key.

    Raises:
        ValueError: another number of bytes.

    """
    if len(random32) != KEY_BYTES:
        msg = f"a key is made of {KEY_BYTES} random bytes, not {len(random32)}"
        raise ValueError(msg)
    return PREFIX + base64.urlsafe_b64encode(random32).rstrip(b"=").decode()


def key_digest(key: str) -> str:
    """Return the SHA-256 of a presented key, as 64 hex digits; what the key table is looked up by."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def refuse_duplicates(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a request that carries a header twice whose first and last reading could differ.

    Raises:
        Invalid: ``Authorization``, ``X-Api-Key``, ``Host`` or ``Content-Length`` came twice (RFC 9110, 5.3;
            RFC 9112, 3.2 and 6.3).

    """
    seen: set[bytes] = set()
    for raw, _ in headers:
        name = raw.lower()
        if name in _SINGLE:
            if name in seen:
                raise Invalid(
                    f"the header {name.decode()} came twice",
                    "which of the two is meant cannot be told",
                    "send it once",
                    param=name.decode(),
                )
            seen.add(name)


def presented_key(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the key in ``Authorization: Bearer ...`` or ``x-api-key``; both may come if they are equal.

    Raises:
        Invalid: kind ``key`` where there is none or it is not in the form of one; kind ``invalid`` where one
            of the headers came twice, or the two name different keys.

    """
    listed = list(headers)
    refuse_duplicates(listed)
    found: set[str] = set()
    for raw, value in listed:
        name = raw.lower()
        if name == b"authorization":
            found.add(_bearer(value))
        elif name == b"x-api-key":
            found.add(_form(value.strip()))
    if not found:
        raise Invalid(
            "no key was presented",
            "neither Authorization: Bearer nor x-api-key is there",
            "make one with: allod keys create APP",
            kind="key",
            param="authorization",
        )
    if len(found) > 1:
        raise Invalid(
            "two different keys were presented",
            "Authorization and x-api-key disagree",
            "send one of them",
            param="authorization",
        )
    return found.pop()


def _bearer(value: bytes) -> str:
    scheme, _, rest = value.strip().partition(b" ")
    if scheme.lower() != b"bearer":
        raise Invalid(
            "the Authorization header holds no bearer key",
            "its scheme is not Bearer",
            "send Authorization: Bearer ak_...",
            kind="key",
            param="authorization",
        )
    return _form(rest.strip())


def _form(value: bytes) -> str:
    text = value.decode("latin-1")
    if _FORM.fullmatch(text) is None:
        raise Invalid(
            "the key presented is not a key of Allod",
            "a key is ak_ and 43 characters of base64url",
            "make one with: allod keys create APP",
            kind="key",
            param="authorization",
        )
    return text
