"""``allod keys``: make, list and revoke the keys of apps. They work within a second on a running gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from allod.domain.errors import Invalid
from allod.domain.money import rfc3339
from allod.gateway.cli import out, say
from allod.gateway.cli.options import app_named, config_option, json_option, now_ms

if TYPE_CHECKING:
    from pathlib import Path

    from allod.gateway.compose import Setting
    from allod.store.database import Database

DAY_MS = 86_400_000


@click.group("keys")
def command() -> None:
    """Make, list and revoke the keys of apps."""


def _open(config_path: Path | None) -> tuple[Setting, Database]:
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.store.database import Database  # noqa: PLC0415

    setting = compose.setting(config_path)
    return setting, Database.lite_file(setting.home.database)


@command.command("create")
@click.argument("app")
@click.option("--expires-days", type=click.IntRange(1, 3650), help="let it expire")
@config_option
@json_option
def create(app: str, expires_days: int | None, config_path: Path | None, as_json: bool) -> None:
    """Make a key for APP and show it, once."""
    from allod.store.keys import create_key  # noqa: PLC0415

    setting, database = _open(config_path)
    app_named(setting.fleet, app)
    now = now_ms()
    expires = None if expires_days is None else now + expires_days * DAY_MS
    try:
        key = create_key(database, app, at_ms=now, expires_at_ms=expires)
    finally:
        database.close()
    if as_json:
        out({"app": app, "key": key})
    else:
        say(f"key of app {app}, shown once and stored nowhere:\n\n  {key}\n")


@command.command("list")
@config_option
@json_option
def listing(config_path: Path | None, as_json: bool) -> None:
    """List keys by the beginning of their digest; the keys themselves are nowhere."""
    from allod.store.keys import list_keys  # noqa: PLC0415

    _, database = _open(config_path)
    try:
        rows = list_keys(database)
    finally:
        database.close()
    if as_json:
        out({"keys": [_as_json(row) for row in rows]})
        return
    for row in rows:
        state = "revoked" if row.revoked_at_ms else "expired" if _expired(row) else "valid"
        say(f"{row.digest[:12]}  {state:8} {row.app:20} made {rfc3339(row.created_at_ms)}")
    if not rows:
        say("no keys yet: make one with `allod keys create APP`")


def _expired(row: object) -> bool:
    expires = getattr(row, "expires_at_ms", None)
    return expires is not None and expires <= now_ms()


def _as_json(row: object) -> dict[str, str | None]:
    def when(name: str) -> str | None:
        at = getattr(row, name)
        return None if at is None else rfc3339(at)

    return {
        "digest": row.digest,  # type: ignore[attr-defined]
        "app": row.app,  # type: ignore[attr-defined]
        "created": when("created_at_ms"),
        "expires": when("expires_at_ms"),
        "revoked": when("revoked_at_ms"),
    }


@command.command("revoke")
@click.argument("digest")
@config_option
@json_option
def revoke(digest: str, config_path: Path | None, as_json: bool) -> None:
    """Revoke the key whose DIGEST (or at least 8 digits of its beginning) `keys list` shows."""
    from allod.store.keys import list_keys, revoke_keys  # noqa: PLC0415

    if len(digest) < 8:  # noqa: PLR2004 (a shorter one could hit a stranger's key)
        raise Invalid("the digest is too short to name one key", "give at least 8 digits", param="digest")
    _, database = _open(config_path)
    try:
        hit = [row.digest for row in list_keys(database) if row.digest.startswith(digest.lower())]
        if len(hit) != 1:
            raise Invalid(f"{len(hit)} keys begin with {digest}", "one was expected", "see `allod keys list`")
        revoke_keys(database, at_ms=now_ms(), digest=hit[0])
    finally:
        database.close()
    if as_json:
        out({"revoked": hit[0]})
    else:
        say(f"revoked {hit[0][:12]}; a running gateway refuses it within a second")
