"""``allod log rotate | revoke | keys``: the log's signing key over time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from allod.gateway.cli import out, say
from allod.gateway.cli.options import json_option, now_ms

if TYPE_CHECKING:
    from allod.gateway.compose import Setting


@click.command("rotate")
@click.option("--revoke", is_flag=True, help="the old key was stolen: nothing it signed counts any more")
@json_option
def rotate(revoke: bool, as_json: bool) -> None:
    """Hand the log of the home at rest over to a new key. Origin, tree and receipt ids stay.

    A leaf signed by both keys records it. Hand out the new verifier key, and to whoever holds the old one the
    notes of `allod log keys --notes`. Witnesses need the new key before they cosign again.
    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.store.home import load_home  # noqa: PLC0415
    from allod.store.rotate import rotate_key  # noqa: PLC0415

    home = load_home(compose.home_root())
    done = rotate_key(home, tenant=_tenant(), at_ms=now_ms(), revoked=revoke)
    if as_json:
        out(done)
    else:
        say(f"the log goes on under {done.new}\nfrom leaf {done.size} on; before: {done.old}")


@click.command("revoke")
@click.argument("key_id")
@json_option
def revoke(key_id: str, as_json: bool) -> None:
    """Say that a former key counts no more, by the 8 hex digits in its verifier key."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.store.home import load_home  # noqa: PLC0415
    from allod.store.rotate import revoke_key  # noqa: PLC0415

    home = load_home(compose.home_root())
    key = revoke_key(home, key_id, tenant=_tenant(), at_ms=now_ms())
    out({"revoked": key.vkey()}) if as_json else say(f"revoked: {key.vkey()}")


@click.command("keys")
@click.option(
    "--notes", "only_notes", is_flag=True, help="print the signed notes, for `receipt verify --rotation`"
)
@json_option
def keys(only_notes: bool, as_json: bool) -> None:
    """Show every key the log has had, and up to which size of the tree it signed."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.store.history import key_ring, notes  # noqa: PLC0415
    from allod.store.home import load_home  # noqa: PLC0415

    home = load_home(compose.home_root())
    if only_notes:
        sys.stdout.write("\n".join(note.decode() for note in notes(home)))
        return
    rows = [
        {"key": one.key.vkey(), "until": one.until, "state": _state(one.until, one.revoked)}
        for one in key_ring(home).keys
    ]
    if as_json:
        out({"keys": rows})
        return
    for row in rows:
        until = "" if row["until"] is None else f" up to {row['until']} leaves"
        say(f"{row['key']}  {row['state']}{until}")


def _state(until: int | None, revoked: bool) -> str:
    if revoked:
        return "revoked"
    return "in force" if until is None else "retired"


def tenant_of(setting: Setting) -> str:
    """Return the tenant's pseudonym in the log."""
    from allod.receipts.commitment import pseudonym  # noqa: PLC0415
    from allod.store.home import load_keys  # noqa: PLC0415

    return pseudonym(load_keys(setting.home).secret, "tenant", setting.fleet.tenant.id)


def _tenant() -> str:
    from allod.gateway import compose  # noqa: PLC0415
    from allod.receipts.commitment import pseudonym  # noqa: PLC0415
    from allod.store.home import Home, load_keys  # noqa: PLC0415

    home = Home(compose.home_root())
    fleet = compose.read_config(home.config).fleet
    return pseudonym(load_keys(home).secret, "tenant", fleet.tenant.id)
