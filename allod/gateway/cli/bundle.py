"""``allod bundle``: what enters a site without a network, made and verified here.

Commands of the importing side (``import``, ``status``, ``trust``, ...) come from ``bundle_import.COMMANDS``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allod.gateway.cli import exit_code, out, say
from allod.gateway.cli.bundle_import import COMMANDS as HOME_SIDE
from allod.gateway.cli.bundle_keys import keys, publisher, withdraw
from allod.gateway.cli.options import config_option, json_option, now_ms

if TYPE_CHECKING:
    from allod.vault.bundle.form import Keyring, Known
    from allod.vault.bundle.verify import Examined

_PATH = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group("bundle")
def command() -> None:
    """Signed bundles: models, packs, prices, lists and programs, carried to where no network is."""


command.add_command(keys)
command.add_command(withdraw)
for _one in HOME_SIDE:
    command.add_command(_one)


@command.command("create")
@click.argument("target", type=_PATH)
@click.option("--channel", default="stable", show_default=True, help="the line of bundles it continues")
@click.option("--model", "models", multiple=True, help="a model of the vault, by name or digest; repeatable")
@click.option("--pack", "packs", multiple=True, help="a pack, by id or folder; repeatable")
@click.option("--prices", help="a price book's file, or `shipped`")
@click.option("--catalogue", type=_FILE, help="a catalogue's file")
@click.option("--trust", "trust", multiple=True, type=_FILE, help="a .pem or .vkey to be trusted; repeatable")
@click.option("--revocations", help="a list's file, or `vault` for this vault's own")
@click.option("--program", type=_PATH, help="a folder with wheels and a lock file with hashes")
@click.option(
    "--for", "audience", multiple=True, help="origin of a home it is for (default: any); repeatable"
)
@click.option(
    "--min-importer", default="0.1.0", show_default=True, help="the oldest Allod that may import it"
)
@click.option("--notes", default="", help="a text for whoever imports it")
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="until it is stale")
@click.option("--keys", "folders", multiple=True, type=_PATH, help="another folder of keys; repeatable")
@click.option("--without-log-proof", is_flag=True, help="while a gateway writes the log; few homes take it")
@config_option
@json_option
def create(
    target: Path,
    channel: str,
    audience: tuple[str, ...],
    min_importer: str,
    notes: str,
    days: int,
    folders: tuple[Path, ...],
    without_log_proof: bool,
    config_path: Path | None,
    as_json: bool,
    **items: Any,
) -> None:
    """Make a bundle at TARGET: a folder, or one tar if its name ends in `.tar`.

    Interrupted, it leaves `.TARGET.partial` beside; the same command goes on from there.
    """
    from allod.gateway import bundling, compose  # noqa: PLC0415 (only when it runs)
    from allod.gateway.cli.vault import show_progress  # noqa: PLC0415
    from allod.store.home import load_home, load_keys  # noqa: PLC0415
    from allod.vault.bundle.create import Head  # noqa: PLC0415
    from allod.vault.bundle.create import create as make  # noqa: PLC0415
    from allod.vault.bundle.publish import Expiry  # noqa: PLC0415
    from allod.vault.vault import Vault  # noqa: PLC0415

    home, at = load_home(compose.home_root()), now_ms()
    contents = bundling.gather(home, Vault(home.vault), bundling.Wanted(**items), now_ms=at)
    log = None
    if not without_log_proof:
        log = bundling.log_of(home, compose.setting(config_path).fleet.tenant.id, now_ms=at)
    head = Head(
        channel=channel,
        source=load_keys(home).origin,
        audience=audience,
        min_importer=min_importer,
        notes=notes,
    )
    total = sum(source.size_bytes for one in contents for source in one.sources)
    told, end = show_progress(total, "writing the bundle", quiet=as_json)
    try:
        made = make(
            target,
            contents,
            head,
            publisher(folders, Expiry(timestamp=days)),
            log,
            now_ms=at,
            progress=told,
        )
    finally:
        end()
    if as_json:
        out({"path": made.path, "digest": made.digest, "logged": made.logged, "bundle": made.bundle})
        return
    say(f"{made.path}\n{made.bundle.channel} {made.bundle.number}, {made.digest}")
    for line in bundling.names_of(contents):
        say(f"  {line}")
    say("its digest is in the log of this home" if made.logged else "NOT in a log: few homes will take it")


@command.command("verify")
@click.argument("bundle", type=_PATH)
@click.option("--trust", type=_FILE, help="a trust file (default: the home's supply/trust.toml)")
@click.option("--own", is_flag=True, help="as somebody who trusts this home's publisher and log")
@click.option("--new", "ignore_known", is_flag=True, help="as a home that has imported nothing yet")
@click.option("--quick", is_flag=True, help="leave out the content, check all that is said of it")
@json_option
def verify(
    bundle: Path, trust: Path | None, own: bool, ignore_known: bool, quick: bool, as_json: bool
) -> None:
    """Check BUNDLE as an import would, step by step, and every byte of its content. Nothing is written.

    Exit codes: 3 where it does not hold, 4 where it is sound but not for this home.
    """
    from allod import __version__  # noqa: PLC0415 (only when it runs)
    from allod.vault.bundle.form import Known  # noqa: PLC0415
    from allod.vault.bundle.verify import examine  # noqa: PLC0415

    ring, origin = _believed(trust, own=own)
    known = Known() if ignore_known or own else _known()
    done = examine(bundle, ring, known, now_ms=now_ms(), importer_version=__version__, origin=origin)
    content = None if quick or done.opened is None else _content(done, quiet=as_json)
    ok = done.opened is not None and content is not False
    _report(done, content, ok=ok, as_json=as_json)
    if done.opened is not None:
        done.opened.close()
    if not ok:
        sys.exit(exit_code(done.error) if done.error is not None else 3)


def _believed(trust: Path | None, *, own: bool) -> tuple[Keyring, str]:
    """Return whom to believe, and the origin of this home."""
    from allod.gateway import compose  # noqa: PLC0415
    from allod.store.home import Home, load_keys  # noqa: PLC0415
    from allod.vault.bundle import trust as trusting  # noqa: PLC0415

    home = Home(compose.home_root())
    if own:
        keys_of = load_keys(home)
        return publisher(()).keyring((keys_of.signer.key.vkey(),)), keys_of.origin
    origin = load_keys(home).origin if home.log_key.exists() else ""
    return trusting.read(trust or home.root / "supply" / "trust.toml")[0], origin


def _known() -> Known:
    """Return what this home has imported."""
    from allod.gateway import compose  # noqa: PLC0415
    from allod.vault.bundle.supply import Supply  # noqa: PLC0415

    return Supply(compose.home_root()).known()


def _content(done: Examined, *, quiet: bool) -> bool:
    """Read every part through; say which is not what was signed."""
    from allod.domain.errors import Integrity  # noqa: PLC0415
    from allod.gateway.cli.vault import show_progress  # noqa: PLC0415

    opened = done.opened
    if opened is None:
        return False
    told, end = show_progress(opened.bundle.size_bytes, "reading the bundle", quiet=quiet)
    parts = {part.digest: part for part in opened.bundle.parts}
    try:
        for part in parts.values():
            opened.check(part, told)
    except Integrity as error:
        sys.stderr.write(error.explain() + "\n")
        return False
    finally:
        end()
    return True


def _report(done: Examined, content: bool | None, *, ok: bool, as_json: bool) -> None:
    opened = done.opened
    if as_json:
        out({
            "ok": ok,
            "steps": done.steps,
            "content": {True: "holds", False: "broken", None: "not read"}[content],
            "digest": opened.digest if opened else None,
            "stale": opened.stale if opened else None,
            "signers": list(opened.signers) if opened else [],
            "bundle": opened.bundle if opened else None,
        })  # fmt: skip
        return
    for step in done.steps:
        say(f"{step.n:2}  {'ok  ' if step.ok else 'FAIL'}  {step.name:16} {step.detail}")
    if opened is None:
        if done.error is not None and done.error.remedy:
            say(f"do: {done.error.remedy}")
        say("the bundle is NOT to be imported")
        return
    n, words = len(done.steps) + 1, {True: "every byte is what was signed", None: "not read (--quick)"}
    say(f"{n:2}  {'FAIL' if content is False else 'ok  ' if content else '-   '}  content          "
        f"{words.get(content, 'not what was signed')}")  # fmt: skip
    for item in opened.bundle.items:
        say(f"    {item.kind:12} {item.name} {item.version}")
    if opened.stale:
        say(f"stale: {opened.stale}")
    say("the bundle holds" if ok else "the bundle is NOT to be imported")
