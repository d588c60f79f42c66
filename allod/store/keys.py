"""Keys of apps: made once, shown once, kept only as digests.

A key is ``ak_`` and 43 base64url characters of 32 random bytes. Its digest, SHA-256 in hex, is what is
stored; 256 bits of chance need no slow hash.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from typing import Final

import msgspec

from allod.domain.errors import Invalid
from allod.store.database import Database

PREFIX: Final = "ak_"
MAX_APP: Final = 200


class KeyRow(msgspec.Struct, frozen=True):
    """One key as stored, in column order; times are UTC milliseconds, None is never."""

    digest: str
    app: str
    created_at_ms: int
    expires_at_ms: int | None
    revoked_at_ms: int | None


def digest_of(key: str) -> str:
    """Return what is stored of a key: its SHA-256 in hex."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class KeyTable:
    """The keys in memory, as of the last ``refresh``; any thread may look up."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys: Mapping[str, KeyRow] = {}
        self._seen: tuple[int, int] | None = None

    def lookup(self, digest: str, at_ms: int) -> str | None:
        """Return the app of a key digest, or None if it is unknown, revoked or expired at this time."""
        row = self._keys.get(digest)
        if row is None or (row.revoked_at_ms is not None and row.revoked_at_ms <= at_ms):
            return None
        if row.expires_at_ms is not None and row.expires_at_ms <= at_ms:
            return None
        return row.app

    def refresh(self) -> None:
        """Read the table again if it may have changed (raises what the database raises)."""
        seen = self._database.changes()
        if seen is None or seen != self._seen:
            self._keys = {row.digest: row for row in list_keys(self._database)}
            self._seen = seen

    def reload(self) -> None:
        """Read the table again: a change by this very process does not show in its change number."""
        self._keys = {row.digest: row for row in list_keys(self._database)}


def create_key(database: Database, app: str, *, at_ms: int, expires_at_ms: int | None = None) -> str:
    """Make a key and return it, for the only time.

    Raises:
        Invalid: no app, or an expiry that has passed.
        Unavailable: the table cannot be written.

    """
    if not app or len(app) > MAX_APP:
        raise Invalid(
            "a key needs an app", f"got {app[:40]!r}", "name an [[app]] of the configuration", param="app"
        )
    if expires_at_ms is not None and expires_at_ms <= at_ms:
        raise Invalid("the key would have expired before it is made", param="expires")
    key = PREFIX + base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
    row = {
        "digest": digest_of(key),
        "app": app,
        "created_at_ms": at_ms,
        "expires_at_ms": expires_at_ms,
        "revoked_at_ms": None,
    }
    from sqlalchemy import insert  # noqa: PLC0415 -- loaded only by who changes keys

    from allod.store.tables import APP_KEY  # noqa: PLC0415

    with database.faults("written"), database.engine.begin() as connection:
        connection.execute(insert(APP_KEY).values(**row))
    return key


def revoke_keys(database: Database, *, at_ms: int, app: str | None = None, digest: str | None = None) -> int:
    """Revoke the keys of an app, or those whose digest begins so; returns how many were revoked now."""
    if not app and not digest:
        raise Invalid("name an app or a key digest to revoke", param="app")
    from sqlalchemy import update  # noqa: PLC0415 -- as above

    from allod.store.tables import APP_KEY  # noqa: PLC0415

    change = update(APP_KEY).where(APP_KEY.c.revoked_at_ms.is_(None)).values(revoked_at_ms=at_ms)
    if app:
        change = change.where(APP_KEY.c.app == app)
    if digest:
        change = change.where(APP_KEY.c.digest.startswith(digest, autoescape=True))
    with database.faults("written"), database.engine.begin() as connection:
        return connection.execute(change).rowcount


def list_keys(database: Database) -> list[KeyRow]:
    """Return all keys ever made, oldest first."""
    return [KeyRow(*row) for row in database.read(database.text.keys)]
