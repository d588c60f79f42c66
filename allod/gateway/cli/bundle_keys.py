"""``allod bundle keys | withdraw``: the keys that sign bundles, and the roots that vouch for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allod.gateway.cli import out, say
from allod.gateway.cli.options import json_option, now_ms

if TYPE_CHECKING:
    from allod.vault.bundle.publish import Expiry, Publisher

_FOLDERS = click.option(
    "--keys", "folders", multiple=True, type=click.Path(path_type=Path),
    help="another folder of keys, for example on a medium that is kept in a safe; repeatable",
)  # fmt: skip


def publisher(folders: tuple[Path, ...], expiry: Expiry | None = None) -> Publisher:
    """Return the publisher of this home; keys lie in its ``keys/bundle`` and in ``folders``."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.store.home import load_home  # noqa: PLC0415
    from allod.vault.bundle.publish import Publisher  # noqa: PLC0415

    home = load_home(compose.home_root())
    return Publisher(home.root / "publish", (home.keys / "bundle", *folders), expiry)


@click.group("keys")
def keys() -> None:
    """Keys that sign bundles and their update metadata: make, list, rotate, hand out."""


@keys.command("init")
@json_option
def init(as_json: bool) -> None:
    """Make one key for each role that has none, and the first root of trust."""
    from allod.vault.bundle import keys as files  # noqa: PLC0415

    ours = publisher(())
    have = files.load(*ours.key_folders)
    made = [files.new(ours.key_folders[0], role) for role in files.ROLES if not files.of(have, role)]
    if not ours.roots():
        ours.new_root(now_ms=now_ms())
    if as_json:
        out({"made": [_row(key) for key in made], **_public(ours)})
        return
    for key in made:
        say(f"{key.role:10} {key.key_id[:16]}  {key.path}")
    say("keep the root's key elsewhere: move its file to a medium of its own, and name that with --keys")
    _say_public(ours)


@keys.command("new")
@click.argument("role")
@click.option("--into", type=click.Path(path_type=Path), help="another folder than the home's keys/bundle")
@json_option
def new(role: str, into: Path | None, as_json: bool) -> None:
    """Make a key for ROLE: root, timestamp, snapshot, targets, or bundle.

    A key of the first four counts from the next `keys root` on; one of `bundle` when homes trust it.
    """
    from allod.vault.bundle import keys as files  # noqa: PLC0415

    key = files.new(into or publisher(()).key_folders[0], role)
    out(_row(key)) if as_json else say(f"{key.role} {key.key_id}\n{key.path}")


@keys.command("list")
@_FOLDERS
@json_option
def list_(folders: tuple[Path, ...], as_json: bool) -> None:
    """List the keys that are here, and which of them the newest root names."""
    from allod.vault.bundle import keys as files  # noqa: PLC0415

    ours = publisher(folders)
    named: dict[str, Any] = ours.root().signed.roles if ours.roots() else {}
    rows = [
        {
            **_row(key),
            "in_force": key.role == files.BUNDLE or key.key_id in (named[key.role].keyids if named else ()),
        }
        for key in files.load(*ours.key_folders)
    ]
    if as_json:
        out({"keys": rows})
        return
    for row in rows:
        state = "in force" if row["in_force"] else "not in a root"
        say(f"{row['role']:10} {row['key_id'][:16]}  {state:13} {row['path']}")


@keys.command("root")
@click.option(
    "--threshold", "thresholds", multiple=True, metavar="ROLE=N", help="how many must sign; repeatable"
)
@click.option("--retire", "retired", multiple=True, help="a key id, or its beginning, that counts no more")
@_FOLDERS
@json_option
def root(
    thresholds: tuple[str, ...], retired: tuple[str, ...], folders: tuple[Path, ...], as_json: bool
) -> None:
    """Write the next root: all keys that are here or in the last root, less those that are retired.

    It is signed by the keys of the last root and by its own, so that homes can follow from one to the other.
    """
    ours = publisher(folders)
    version = ours.new_root(now_ms=now_ms(), thresholds=dict(map(_threshold, thresholds)), retired=retired)
    out({"version": version, **_public(ours)}) if as_json else say(
        f"root {version} is written; it travels with the next bundle"
    )


@keys.command("rotate")
@click.argument("role")
@_FOLDERS
@json_option
def rotate(role: str, folders: tuple[Path, ...], as_json: bool) -> None:
    """Make a new key for ROLE, retire its others, and write the next root.

    A key of `bundle` is in no root: homes must be given the new one before the old one stops signing.
    """
    from allod.domain.errors import Invalid  # noqa: PLC0415
    from allod.vault.bundle import keys as files  # noqa: PLC0415

    if files.check_role(role) == files.BUNDLE:
        raise Invalid(
            "keys of `bundle` are not rotated in one step",
            "homes name them in their trust, no root does",
            "make one with `allod bundle keys new bundle`, hand it out, then move the old file away",
        )
    ours = publisher(folders)
    old = files.of(files.load(*ours.key_folders), role)
    key = files.new(ours.key_folders[0], role)
    version = ours.new_root(now_ms=now_ms(), retired=tuple(one.key_id for one in old))
    for one in old:
        files.retire(one)
    if as_json:
        out({"version": version, "made": _row(key), "retired": [one.key_id for one in old]})
    else:
        say(f"root {version}: {role} is {key.key_id[:16]} from now on; {len(old)} retired")


@keys.command("show")
@click.option(
    "--trust", "as_trust", is_flag=True, help="print the trust file of a home that believes this publisher"
)
@_FOLDERS
@json_option
def show(as_trust: bool, folders: tuple[Path, ...], as_json: bool) -> None:
    """Print what homes need to trust this publisher; carry it by another way than the bundles."""
    from allod.vault.bundle import trust  # noqa: PLC0415

    ours = publisher(folders)
    if as_trust:
        say(trust.write(ours.keyring((_vkey(),))).decode().rstrip("\n"))
    elif as_json:
        out(_public(ours))
    else:
        _say_public(ours)


@click.command("withdraw")
@click.argument("channel")
@click.argument("number", type=click.IntRange(min=1))
@_FOLDERS
@json_option
def withdraw(channel: str, number: int, folders: tuple[Path, ...], as_json: bool) -> None:
    """Vouch for a bundle no more: the metadata of later bundles does not name it.

    Who holds it already is stopped by a revocation of its digest (`allod vault revoke DIGEST`), carried
    there.
    """
    ours = publisher(folders)
    with ours.alone():
        ours.withdraw(channel, number, now_ms=now_ms())
    out({"withdrawn": {"channel": channel, "number": number}}) if as_json else say(
        f"{channel} {number} is withdrawn"
    )


def _threshold(text: str) -> tuple[str, int]:
    from allod.domain.errors import Invalid  # noqa: PLC0415
    from allod.vault.bundle.metadata import ROLES  # noqa: PLC0415

    role, equals, number = text.partition("=")
    if role not in ROLES or not equals or not number.isdigit():
        raise Invalid(f"{text[:40]!r} is no threshold", f"roles are {', '.join(ROLES)}", "write root=2")
    return role, int(number)


def _row(key: Any) -> dict[str, Any]:
    return {"role": key.role, "key_id": key.key_id, "public": key.public.hex(), "path": key.path}


def _vkey() -> str:
    from allod.gateway import compose  # noqa: PLC0415
    from allod.store.home import Home, load_keys  # noqa: PLC0415

    return load_keys(Home(compose.home_root())).signer.key.vkey()


def _public(ours: Publisher) -> dict[str, Any]:
    ring = ours.keyring((_vkey(),))
    return {
        "root": ring.root,
        "signers": [{"key_id": name, "public": one.public.hex()} for name, one in ring.signers.items()],
        "log": list(ring.log_vkeys),
    }


def _say_public(ours: Publisher) -> None:
    said = _public(ours)
    say(f"first root  {said['root']}")
    for one in said["signers"]:
        say(f"signer      {one['public']}")
    for vkey in said["log"]:
        say(f"log         {vkey}")
