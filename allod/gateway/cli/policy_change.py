"""``allod policy key | sign | verify | propose | approve | changes``: signatures, changes under four eyes."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allod.domain.errors import AllodError, Integrity, Unavailable
from allod.gateway.cli import INTEGRITY, out, say
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import json_option, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from allod.gateway.changes import Change
    from allod.policy.pack import Pack
    from allod.store.home import Home

_key_option = click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    help="the private key (default: in the home)",
)


def _home() -> Home:
    from allod.gateway.compose import home_root  # noqa: PLC0415 (only when it runs)
    from allod.store.home import Home  # noqa: PLC0415

    return Home(home_root())


@click.command("key")
@click.argument("name")
@click.option("--out", "target", type=click.Path(path_type=Path), help="where to write the private key")
@click.option("--role", default="author", show_default=True, help="the role in the printed table")
@json_option
def key(name: str, target: Path | None, role: str, as_json: bool) -> None:
    """Make a signing key for NAME, 0600, and print what the configuration needs of it.

    Whoever holds the file signs in that name: keep it with its owner, not where the gateway runs.
    """
    from allod.gateway.signers import checked_name, key_path, make_key  # noqa: PLC0415
    from allod.store.home import make_home  # noqa: PLC0415

    home = _home()
    checked_name(name)
    if target is None:
        make_home(home.root)
    path = target or key_path(home, name)
    made = make_key(path, name)
    vkey = made.key.vkey()
    if as_json:
        out({"signer": name, "key": vkey, "file": str(path)})
    else:
        say(f'private key {path}\n\n[[signer]]\nid = "{name}"\nrole = "{role}"\nkey = "{vkey}"')


@click.command("sign")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--by", required=True, help="a signer of the configuration")
@_key_option
@json_option
def sign(folder: Path, by: str, key_file: Path | None, as_json: bool) -> None:
    """Check the pack in FOLDER whole and sign its id, version and digest; signatures of others stay.

    They lie beside the folder, in FOLDER.sig. A changed pack must be signed anew by everyone.
    """
    from allod.gateway.ownpacks import read_folder, signature_file, statement_of  # noqa: PLC0415
    from allod.gateway.signers import add_signature, key_path, load_key  # noqa: PLC0415
    from allod.policy.signing import PACK, statement  # noqa: PLC0415
    from allod.store.home import write_file  # noqa: PLC0415

    folder = folder.resolve()
    pack = _pack(read_folder(folder))
    signing = load_key(key_file or key_path(_home(), by))
    if signing.key.name != by:
        raise Integrity(
            f"the key is not that of {by!r}", f"got the key of {signing.key.name!r}", "name its own"
        )
    target = signature_file(folder)
    old = target.read_bytes() if target.is_file() else None
    note = add_signature(old, statement(PACK, statement_of(pack)), signing)
    write_file(target, note)
    if as_json:
        said = {"pack": pack.id, "version": pack.version, "digest": pack.digest}
        out({**said, "signer": by, "file": str(target)})
    else:
        say(f"{by} signed {pack.id} {pack.version}\n  {pack.digest}\n  {target}")


def _pack(files: dict[str, bytes]) -> Pack:
    from allod.gateway.packs import find  # noqa: PLC0415
    from allod.policy.pack import BASE, load_pack  # noqa: PLC0415

    return load_pack(files, find().load(BASE).schema)


@click.command("verify")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
def verify(folder: Path | None, as_json: bool) -> None:
    """Verify the signatures of the pack in FOLDER; without one, the home's own packs and every change.

    Exit code 3 when anything is not what was signed.
    """
    steps = _verify_folder(folder) if folder is not None else _verify_home()
    found: list[dict[str, Any]] = []
    for name, check in steps:
        try:
            found.append({"name": name, "ok": True, "detail": check()})
        except AllodError as error:
            detail = f"{error.what}: {error.why}" if error.why else error.what
            found.append({"name": name, "ok": False, "detail": detail})
    ok = all(step["ok"] for step in found)
    if as_json:
        out({"ok": ok, "steps": found})
    else:
        for step in found:
            say_folded("ok    " if step["ok"] else "FAIL  ", f"{step['name']}: {step['detail']}")
    sys.exit(0 if ok else INTEGRITY)


def _verify_folder(folder: Path) -> list[tuple[str, Callable[[], str]]]:
    from allod.gateway import compose, ownpacks  # noqa: PLC0415
    from allod.gateway.signers import open_signed  # noqa: PLC0415
    from allod.policy.signing import verify_pack  # noqa: PLC0415

    folder = folder.resolve()

    def step() -> str:
        signers = compose.read_config(_home().config).signers
        pack = _pack(ownpacks.read_folder(folder))
        note = ownpacks.read_note(ownpacks.signature_file(folder), f"pack {pack.id!r}")
        signed = open_signed(note, signers, f"pack {pack.id!r}")
        by = verify_pack(signed, ownpacks.statement_of(pack), signers, datetime.now(UTC).date())
        return f"{pack.id} {pack.version} {pack.digest}, signed by {', '.join(s.who for s in by)}"

    return [(str(folder), step)]


def _verify_home() -> list[tuple[str, Callable[[], str]]]:
    from allod.gateway import changes, compose  # noqa: PLC0415

    home = _home()

    def chain() -> str:
        approved = changes.chain(home)
        for number in range(len(approved)):
            changes.before(home, approved[number], datetime.now(UTC).date())
        return f"{len(approved)} approved, each signed by two and as it was signed"

    def own() -> str:
        setting = compose.setting()
        said = [f"{one.pack.id} by {', '.join(s.who for s in one.signatures)}" for one in setting.own]
        return "; ".join(said) or "none"

    def place() -> str:
        setting = compose.setting()
        policy = compose.decider(setting.fleet, setting.packs).policy
        approved = changes.enforce(setting, policy, datetime.now(UTC).date())
        return f"as change {len(approved)} says" if approved else "no change was ever approved"

    return [("changes", chain), ("own packs in force", own), ("what is in place", place)]


@click.command("propose")
@click.option("--by", required=True, help="the signer who proposes")
@click.option("--reason", required=True, help="why; it stands in the log")
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="the new configuration")
@click.option(
    "--pack",
    "packs",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="the folder of an own pack, signed; may be repeated",
)
@_key_option
@json_option
def propose(
    by: str,
    reason: str,
    config_path: Path | None,
    packs: tuple[Path, ...],
    key_file: Path | None,
    as_json: bool,
) -> None:
    """Propose a change of configuration and own packs; nothing is changed by it.

    Without --config the home's file is proposed as it is now, without --pack the home's packs as they are.
    """
    from allod.gateway import changes  # noqa: PLC0415

    told, end = _progress(quiet=as_json)
    try:
        change = changes.propose(
            _ready(),
            by=by,
            reason=reason,
            now_ms=now_ms(),
            config=config_path,
            packs=tuple(path.resolve() for path in packs),
            key=key_file,
            progress=told,
        )
    finally:
        end()
    if as_json:
        out(_as_json(change))
    else:
        say(change.difference())
        say(f"proposed as {change.id}; another signer: allod policy approve {change.id} --by NAME")


@click.command("approve")
@click.argument("name", metavar="ID")
@click.option("--by", required=True, help="the signer who approves, in another role than who proposed")
@_key_option
@json_option
def approve(name: str, by: str, key_file: Path | None, as_json: bool) -> None:
    """Approve the proposal ID and put it into place; a gateway takes it up when it starts again.

    What it would do is found out anew and must be what was signed.
    """
    from allod.gateway import changes  # noqa: PLC0415

    home = _ready()
    told, end = _progress(quiet=as_json)
    try:
        change = changes.approve(home, name, by=by, now_ms=now_ms(), key=key_file, progress=told)
    finally:
        end()
    logged = _log(home)
    if as_json:
        out({**_as_json(change), "logged": logged})
        return
    say(change.difference())
    say(f"change {change.proposal.number} ({change.id}) is approved and in place")
    say(
        "  logged"
        if logged
        else "  a gateway is running: it logs the change and takes it up at its next start"
    )


def _ready() -> Home:
    from allod.store.home import make_home  # noqa: PLC0415

    return make_home(_home().root)


def _log(home: Home) -> bool:
    """Log approved changes if nobody else writes the log now."""
    from allod.gateway import changes, compose, standing  # noqa: PLC0415
    from allod.receipts.commitment import pseudonym  # noqa: PLC0415
    from allod.store.store import Store  # noqa: PLC0415

    try:
        store = Store.open(home)
    except Unavailable as error:
        if error.kind == "busy":
            return False
        raise
    try:
        tenant = compose.read_config(home.config).fleet.tenant.id
        name = pseudonym(store.keys.secret, "tenant", tenant)
        standing.log_changes(store, changes.chain(home), name, now_ms())
    finally:
        store.close()
    return True


@click.command("changes")
@click.argument("name", metavar="[ID]", required=False)
@json_option
def changes(name: str | None, as_json: bool) -> None:
    """List open proposals and approved changes; with ID, show one with its difference in words."""
    from allod.gateway import changes as kept  # noqa: PLC0415

    home = _home()
    approved = list(kept.chain(home))
    still = kept.open_changes(home)
    everything = approved + [found for _, found in still if not isinstance(found, AllodError)]
    if name is not None:
        hit = [change for change in everything if change.id.startswith(name)]
        if len(hit) != 1:
            raise Unavailable(
                f"{len(hit)} changes are called {name[:40]!r}", "", "see `allod policy changes`"
            )
        if as_json:
            out({**_as_json(hit[0]), "lines": hit[0].difference().splitlines()})
        else:
            say("\n".join(f"{k}: {v}" for k, v in _as_json(hit[0]).items()) + "\n")
            say(hit[0].difference())
        return
    broken = {called: error for called, error in still if isinstance(error, AllodError)}
    if as_json:
        wrong = [{"id": called, "why": f"{error.what}: {error.why}"} for called, error in broken.items()]
        out({"changes": [_as_json(change) for change in everything], "broken": wrong})
        return
    for change in everything:
        say(_line(change))
    for called, error in broken.items():
        say(f"      {called}  DOES NOT HOLD  {error.what}: {error.why}")
    if not everything and not broken:
        say("no change was ever proposed here")


def _line(change: Change) -> str:
    proposal = change.proposal
    who = change.proposer.who + (f", {change.approver.who}" if change.approver else "")
    state = "approved" if change.approver else "open"
    wider = "widens  " if proposal.widening else "no wider"
    return f"{proposal.number:4}  {change.id}  {state:8}  {wider}  {who}: {proposal.reason}"


def _as_json(change: Change) -> dict[str, Any]:
    proposal, approval = change.proposal, change.approval
    return {
        "id": change.id,
        "number": proposal.number,
        "state": "approved" if approval else "open",
        "digest": change.digest,
        "reason": proposal.reason,
        "widening": proposal.widening,
        "proposed": proposal.proposed,
        "proposer": change.proposer.who,
        "approved": approval.approved if approval else None,
        "approver": change.approver.who if change.approver else None,
        "difference": proposal.difference,
    }


def _progress(*, quiet: bool) -> tuple[Callable[[int, int], None], Callable[[], None]]:
    """Return what is told (days done, days in all) and draws a bar, and what ends it."""
    if quiet or not sys.stderr.isatty():
        return (lambda _done, _all: None), (lambda: None)
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    bar = Progress(console=Console(stderr=True), transient=True)
    task = bar.add_task("who may be sent what")
    bar.start()
    return (lambda done, of: bar.update(task, completed=done, total=of)), bar.stop
