"""Salted commitments to content, and pseudonyms: what a leaf says instead of the thing itself (I9).

A plain hash of a short prompt can be guessed; a commitment with a secret 32-byte salt cannot, and deleting
the salt is erasure.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from allod.domain.errors import Invalid

SALT_BYTES: Final = 32


def commitment(salt: bytes, body: bytes) -> str:
    """Commit to a whole body: ``sha256:`` and the hex of SHA-256(salt || body)."""
    if len(salt) != SALT_BYTES:
        raise _unsalted(salt)
    return "sha256:" + hashlib.sha256(salt + body).hexdigest()


class StreamCommitment:
    """The same commitment over a body that comes in pieces, in the order they were delivered."""

    __slots__ = ("_hash", "update")

    def __init__(self, salt: bytes) -> None:
        if len(salt) != SALT_BYTES:
            raise _unsalted(salt)
        self._hash = hashlib.sha256(salt)
        self.update = self._hash.update

    def text(self) -> str:
        """Return the commitment to everything delivered so far."""
        return "sha256:" + self._hash.hexdigest()


def opens(text: str, salt: bytes, body: bytes) -> bool:
    """Tell whether a commitment is to this body with this salt."""
    return hmac.compare_digest(text.encode(), commitment(salt, body).encode())


def digest(data: bytes) -> str:
    """Name public data by its hash: ``sha256:`` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def pseudonym(secret: bytes, kind: str, name: str) -> str:
    """Name a tenant or an app in a leaf without telling who it is: ``p_`` and 32 hex digits.

    HMAC-SHA-256 (RFC 2104) under the home's secret, cut to 128 bits; ``kind`` separates the name spaces.
    """
    if len(secret) < SALT_BYTES:
        raise Invalid("the secret is too short", f"got {len(secret)} bytes, expected {SALT_BYTES}")
    text = f"{kind}\n{name}".encode("utf-8", "surrogatepass")
    return "p_" + hmac.new(secret, text, "sha256").hexdigest()[:32]


def _unsalted(salt: bytes) -> Invalid:
    return Invalid("the salt has the wrong length", f"got {len(salt)} bytes, expected {SALT_BYTES}")
