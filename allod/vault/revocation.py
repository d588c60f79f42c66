"""Digests that may not be used any more: weights, adapters, templates, signers.

They stand in the vault's register, so removing one does not pass unnoticed. It is read whenever something is
resolved, so a revocation holds from the next load on; what an engine already serves ends with its process. A
register that cannot be read refuses everything: it might have named what is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.vault.manifest import is_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allod.vault.register import Register, State

MAX_REVOCATIONS: Final = 100_000
MAX_REASON: Final = 1000


class Revocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A digest, why it was revoked, and when (RFC 3339)."""

    digest: str
    reason: str
    at: str


def joined(state: State, items: Iterable[Revocation]) -> dict[str, Revocation]:
    """Return a state's revocations and these; one that is there keeps its first reason.

    Raises:
        Invalid: no digest, or no reason.

    """
    out = dict(state.revoked)
    for item in items:
        if not is_digest(item.digest) or not item.reason.strip():
            raise Invalid("nothing was revoked", "a revocation names a sha256 digest and a reason")
        reason = item.reason.strip()[:MAX_REASON]
        out.setdefault(item.digest, Revocation(digest=item.digest, reason=reason, at=item.at))
    return out


class Revocations:
    """The list of one vault."""

    def __init__(self, register: Register) -> None:
        self._register = register

    def read(self) -> dict[str, Revocation]:
        """Return the list by digest (raises as ``Register.read``)."""
        return self._register.read().revoked

    def check(self, digests: Iterable[str | None], label: str) -> None:
        """Refuse what is on the list (raises ``Integrity``)."""
        revoked = self.read()
        for digest in digests if revoked else ():
            if digest in revoked:
                item = revoked[digest]
                raise Integrity(
                    f"{label} is revoked",
                    f"{digest} was revoked on {item.at}: {item.reason}",
                    "use another model",
                )

    def add(self, digest: str, reason: str, at: str) -> Revocation:
        """Put a digest on the list; one that is there keeps its first reason.

        Raises:
            Invalid: no digest, or no reason.
            Integrity: the register does not hold.
            Unavailable: the disk is full or failing; the list stays as it was.

        """
        item = Revocation(digest=digest, reason=reason, at=at)

        def change(state: State) -> State:
            revoked = joined(state, (item,))
            return state if revoked == state.revoked else msgspec.structs.replace(state, revoked=revoked)

        return self._register.commit(at, change).revoked[digest]
