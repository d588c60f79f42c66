"""Who may sign for the organisation: persons with a role and a public key, named in the configuration."""

from __future__ import annotations

from datetime import date

import msgspec


class Signer(msgspec.Struct, frozen=True, kw_only=True):
    """One ``[[signer]]``.

    Attributes:
        id: the name it goes by.
        role: what it signs as (``author``, ``compliance``); two signatures count as two only with two roles.
        key: its Ed25519 verifier key, ``name+id+base64`` (C2SP signed-note).
        expires: the first UTC day on which its signatures no longer count, or None.
        revoked: the first UTC day on which its key is withdrawn, or None.

    """

    id: str
    role: str
    key: str
    expires: date | None = None
    revoked: date | None = None

    def against(self, day: date) -> str | None:
        """Return why its signatures do not count on a UTC day, or None."""
        if self.revoked is not None and day >= self.revoked:
            return "its key is revoked" + (f" since {self.revoked}" if self.revoked > date.min else "")
        if self.expires is not None and day >= self.expires:
            return f"its key expired on {self.expires}"
        return None
