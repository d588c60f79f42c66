"""``allod bundle import | status | trust | rollback | receipt``: what enters this home, and its proof."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from allod.domain.errors import Invalid
from allod.gateway.cli import INTEGRITY, out, say
from allod.gateway.cli.options import json_option, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from allod.store.home import Home
    from allod.vault.bundle.form import Keyring
    from allod.vault.bundle.supply import Generation, Held, Supply

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_RESTART: Final = "a gateway that runs goes on with what it has: restart it to serve this"
_SHORT: Final = 19


def _home() -> Home:
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.store.home import make_home  # noqa: PLC0415

    return make_home(compose.home_root())


def _bar(*, quiet: bool) -> tuple[Callable[[int], Callable[[int], None]], Callable[[], None]]:
    """Return what is told the bytes to come and draws a bar, and what ends it."""
    from allod.gateway.cli.vault import show_progress  # noqa: PLC0415

    ends: list[Callable[[], None]] = []

    def begin(total: int) -> Callable[[int], None]:
        told, end = show_progress(total, "copying and checking", quiet=quiet)
        ends.append(end)
        return told

    def finish() -> None:
        for end in ends:
            end()

    return begin, finish


@click.command("import")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--receipt", "to", type=click.Path(path_type=Path), help="write the import receipt there too")
@json_option
def bring_in(bundle: Path, to: Path | None, as_json: bool) -> None:
    """Check BUNDLE, a folder or a tar, and let everything in it serve at once, or nothing.

    Interrupted at any point, the same command continues. Exit code 3: it does not hold.
    """
    from allod import __version__  # noqa: PLC0415
    from allod.gateway import supply  # noqa: PLC0415

    home = _home()
    begin, end = _bar(quiet=as_json)
    try:
        done, logged = supply.bring(home, bundle, now_ms=now_ms(), version=__version__, progress=begin)
    finally:
        end()
    if to is not None and done.receipt is not None:
        _copy(done.receipt, to)
    found = done.generation
    programs = _programs(home, found)
    if as_json:
        out({
            "repeated": done.repeated,
            "mended": done.mended,
            "serial": found.serial,
            "generation": found.digest,
            "bundle": found.bundle,
            "stale": found.stale,
            "signers": list(found.signers),
            "steps": found.steps,
            "items": [_row(item) for item in found.items if item.key in found.items_in],
            "receipt": None if done.receipt is None else str(done.receipt),
            "logged": logged,
            "programs": programs,
        })  # fmt: skip
        return
    if done.repeated:
        mended = "what was damaged of it is whole again" if done.mended else "nothing was changed"
        say(f"this bundle was imported already; {mended}")
    else:
        _tell(found)
    if done.receipt is not None:
        say(f"import receipt, to be carried back: {to or done.receipt}")
    say("its notice is in the log" if logged else "its notice is logged by the gateway's next start")
    for command in programs:
        say(f"a program came along and was not run; to install it:\n  {command}")


def _tell(found: Generation) -> None:
    for step in found.steps:
        say(f"{step.n:2}  ok    {step.name:16} {step.detail}")
    for item in found.items:
        if item.key in found.items_in:
            say(f"    {item.kind:12} {item.name} {item.version}")
    if found.stale:
        say(f"stale: {found.stale}")
    say(f"switch {found.serial} is made; {_RESTART}")


def _copy(receipt: Path, to: Path) -> None:
    from allod.store.home import write_file  # noqa: PLC0415

    write_file(to, receipt.read_bytes())


def _row(item: Held) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "name": item.name,
        "version": item.version,
        "digest": item.digest,
        "bundle": f"{item.origin.channel} {item.origin.number}",
        "size_bytes": sum(file.size_bytes for file in item.files),
    }


def _programs(home: Home, found: Generation) -> list[str]:
    """Return the commands that install the programs of the last bundle; nothing here runs them."""
    from allod.vault.bundle import content, switch  # noqa: PLC0415
    from allod.vault.bundle.supply import Supply  # noqa: PLC0415

    lines = []
    for item in found.items:
        if item.kind == "program" and item.key in found.items_in:
            folder = switch.program_folder(Supply(home.root), item)
            locks = sorted(file.path for file in item.files if content.is_lock(file.path))
            words = ["pip", "install", "--no-index", "--require-hashes", "--find-links", str(folder), "-r",
                     str(folder / locks[0])]  # fmt: skip
            lines.append(shlex.join(words))
    return lines


@click.command("status")
@json_option
def status(as_json: bool) -> None:
    """Show what bundles brought, with every file read again; exit code 3 if one is not what was imported."""
    from allod.domain.money import rfc3339  # noqa: PLC0415
    from allod.gateway import compose, supply  # noqa: PLC0415
    from allod.store.home import Home  # noqa: PLC0415
    from allod.vault.bundle.supply import Supply  # noqa: PLC0415

    home = Home(compose.home_root())
    held, found = Supply(home.root), supply.supplied(home).generation
    if found is not None:
        _read_all(held, found)
    state = held.state()
    data = {
        "serial": None if found is None else found.serial,
        "generation": None if found is None else found.digest,
        "since": None if found is None else found.at,
        "cause": None if found is None else found.cause,
        "settled": found is None or (state is not None and state.serial == found.serial),
        "stale": "" if found is None else found.stale,
        "old": "" if found is None else found.old(rfc3339(now_ms())),
        "channels": {} if found is None else found.known.channels,
        "items": [] if found is None else [_row(item) for item in found.items],
        "under_way": _under_way(held),
    }
    if as_json:
        out(data)
        return
    if found is None:
        say("no bundle was imported here yet")
    else:
        say(f"switch {found.serial}, {found.cause} of {found.at}, {found.digest}")
        for channel, seen in found.known.channels.items():
            say(f"  {channel:12} up to {seen.number}  {seen.digest[:_SHORT]}")
        for item in found.items:
            by = f"{item.origin.channel} {item.origin.number}"
            say(f"  {item.kind:12} {item.name:24} {item.version:20} {by}")
        if data["old"]:
            say(str(data["old"]))
        say("every file is what was imported")
    for one in _under_way(held):
        say(f"under way: {one['bundle']}, {one['bytes']} bytes are here; import it again to go on")


def _read_all(held: Supply, found: Generation) -> None:
    """Read every file again, programs in pieces (raises ``Integrity``)."""
    import os  # noqa: PLC0415

    from allod.domain.errors import Integrity  # noqa: PLC0415
    from allod.vault.blobs import digest_of, open_regular  # noqa: PLC0415

    for item in found.items:
        for file in item.files:
            if item.kind != "program":
                held.read(file)
                continue
            fd = open_regular(held.object_path(file.digest), file.path)
            try:
                if digest_of(fd) != file.digest:
                    raise Integrity(f"{file.path} of {item.name} is not what was imported", "another digest",
                                    "import the bundle again")  # fmt: skip
            finally:
                os.close(fd)


def _under_way(held: Supply) -> list[dict[str, Any]]:
    folders = sorted(held.incoming.iterdir()) if held.incoming.is_dir() else []
    vault = held.root.parent / "vault" / "incoming"
    rows: list[dict[str, Any]] = []
    for folder in folders:
        both = [at for at in (folder, vault / folder.name) if at.is_dir()]
        here = sum(path.lstat().st_size for at in both for path in at.iterdir() if path.is_file())
        rows.append({"bundle": "sha256:" + folder.name, "bytes": here})
    return rows


@click.command("rollback")
@json_option
def rollback(as_json: bool) -> None:
    """Let what served before the newest import serve again; a switch of its own, in the log.

    Packs, prices, catalogue and model names go back. Revocations and trust roots stay, and so do the numbers
    that were imported: an older bundle cannot come in again.
    """
    from allod.gateway import supply  # noqa: PLC0415

    found, logged = supply.go_back(_home(), now_ms())
    if as_json:
        out({"serial": found.serial, "returned": found.returned, "generation": found.digest, "logged": logged,
             "items": [_row(item) for item in found.items]})  # fmt: skip
        return
    say(f"switch {found.serial}: back to {found.returned or 'before the first import'}; {_RESTART}")
    say("its notice is in the log" if logged else "its notice is logged by the gateway's next start")


@click.command("trust")
@click.option("--from", "source", type=_FILE, help="a trust file, as `bundle keys show --trust` prints it")
@click.option("--key", "keys", multiple=True, metavar="[NAME=]KEY", help="a signer to add; repeatable")
@click.option("--remove", "gone", multiple=True, metavar="NAME", help="a signer to take out; repeatable")
@click.option("--threshold", type=click.IntRange(min=1), help="how many signers each bundle needs")
@click.option("--root", help="sha256: digest of the publisher's first TUF root, or its file")
@click.option("--log", "logs", multiple=True, help="verifier key of the publisher's log; repeatable")
@click.option("--channel", "channels", multiple=True, help="take bundles of these channels only; repeatable")
@click.option("--log-proof/--without-log-proof", "proof", default=None, help="require the log's proof")
@click.option(
    "--refuse-stale/--take-stale", "stale", default=None, help="refuse expired metadata or report it"
)
@click.option("--grace-days", type=click.IntRange(0, 3660), help="days after expiry that are not yet stale")
@json_option
def trust(source: Path | None, as_json: bool, **given: Any) -> None:
    """Show or change who may sign bundles for this home (supply/trust.toml).

    Compare what is shown with the publisher by another way than the one the bundles come.
    """
    from allod.vault.bundle import trust as trusting  # noqa: PLC0415
    from allod.vault.bundle.supply import Supply  # noqa: PLC0415

    held = Supply(_home().root)
    if source is not None:
        ring = trusting.parse(source.read_bytes()[: trusting.MAX_BYTES + 1])
    elif held.trust.exists():
        ring, _ = trusting.read(held.trust)
    else:
        ring = _nobody()
    changed = _changed(ring, given)
    if source is not None or changed != ring:
        trusting.keep(held.trust, changed)
    ring, digest = trusting.read(held.trust)
    if as_json:
        signers = [{"name": one.name, "key_id": name} for name, one in ring.signers.items()]
        out({**msgspec.to_builtins(msgspec.structs.replace(ring, signers={})), "signers": signers,
             "digest": digest})  # fmt: skip
        return
    say(f"{held.trust}\n  {digest}")
    sys.stdout.write(trusting.write(ring).decode())


def _nobody() -> Keyring:
    from allod.vault.bundle.form import Keyring  # noqa: PLC0415

    return Keyring(signers={}, root="")


def _changed(ring: Keyring, given: dict[str, Any]) -> Keyring:
    """Return a keyring with what was given changed in it (raises ``Invalid``)."""
    from allod.vault.bundle import trust as trusting  # noqa: PLC0415
    from allod.vault.bundle.envelope import key_id  # noqa: PLC0415
    from allod.vault.bundle.form import Signer, digest_of  # noqa: PLC0415

    signers = dict(ring.signers)
    for name in given["gone"]:
        hit = [key for key, one in signers.items() if one.name == name]
        if not hit:
            known = ", ".join(one.name for one in signers.values()) or "nobody"
            raise Invalid(f"no signer is called {name[:80]!r}", f"there is {known}", param="remove")
        del signers[hit[0]]
    for text in given["keys"]:
        name, equals, key = text.partition("=")
        public, own = trusting.public_key(key if equals and key else text)
        label = (name if equals and key else own) or key_id(public)[:12]
        signers[key_id(public)] = Signer(public=public, name=label)
    root = given["root"]
    if root is not None and not root.startswith("sha256:"):
        root = digest_of(Path(root).read_bytes())
    wanted = {
        "signers": signers,
        "threshold": given["threshold"],
        "root": root,
        "log_vkeys": tuple(dict.fromkeys((*ring.log_vkeys, *given["logs"]))),
        "channels": given["channels"] or None,
        "require_log_proof": given["proof"],
        "refuse_stale": given["stale"],
        "grace_ms": None if given["grace_days"] is None else given["grace_days"] * trusting.DAY_MS,
    }
    return msgspec.structs.replace(
        ring, **{name: value for name, value in wanted.items() if value is not None}
    )


@click.group("receipt")
def receipt() -> None:
    """Import receipts: what a home says arrived, signed with its log key."""


@receipt.command("show")
@click.argument("serial", type=click.IntRange(min=1), required=False)
@click.option("--out", "to", type=click.Path(path_type=Path), help="write its file there, to carry it back")
@json_option
def show(serial: int | None, to: Path | None, as_json: bool) -> None:
    """Show the receipt of switch SERIAL (default: the last import of this home)."""
    from allod.gateway import compose  # noqa: PLC0415
    from allod.store.home import Home, load_keys  # noqa: PLC0415
    from allod.vault.bundle import receipt as receipts  # noqa: PLC0415
    from allod.vault.bundle import switch  # noqa: PLC0415
    from allod.vault.bundle.supply import Supply  # noqa: PLC0415

    home = Home(compose.home_root())
    held = Supply(home.root)
    made = [one.serial for one in switch.history(held, held.serving()) if one.cause == "import"]
    wanted = serial or (made[0] if made else 0)
    path = held.receipt_path(wanted)
    if wanted not in made or not path.exists():
        raise Invalid("there is no such receipt", f"there are {sorted(made) or 'none'}", param="serial")
    if to is not None:
        _copy(path, to)
    _report(receipts.verify(path.read_bytes(), load_keys(home).signer.key.vkey()), as_json=as_json)


@receipt.command("verify")
@click.argument("file", type=_FILE)
@click.option("--key", required=True, help="verifier key of the log of the home it is from")
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), help="the bundle that was sent")
@json_option
def verify(file: Path, key: str, bundle: Path | None, as_json: bool) -> None:
    """Verify a receipt that was carried back, offline; needs no home. Exit code 3 if it does not hold."""
    from allod.vault.bundle import receipt as receipts  # noqa: PLC0415
    from allod.vault.bundle.form import MAX_BUNDLE_BYTES  # noqa: PLC0415
    from allod.vault.bundle.tree import read_small  # noqa: PLC0415
    from allod.vault.bundle.verify import BUNDLE, tree_of  # noqa: PLC0415

    raw, sent = file.read_bytes()[: receipts.MAX_BYTES + 1], None
    if bundle is not None:
        tree = tree_of(bundle)
        try:
            sent = read_small(tree, BUNDLE, MAX_BUNDLE_BYTES)
        finally:
            tree.close()
    _report(receipts.verify(raw, key, sent), as_json=as_json)


def _report(done: Any, *, as_json: bool) -> None:
    if as_json:
        out(done)
    else:
        for step in done.steps:
            say(f"{step.n:2}  {'ok  ' if step.ok else 'FAIL'}  {step.name:16} {step.detail}")
        for item in done.receipt.items if done.receipt is not None else ():
            say(f"    {item.kind:12} {item.name} {item.version}")
    if not done.ok:
        sys.exit(INTEGRITY)


COMMANDS: Final = (bring_in, status, trust, rollback, receipt)
