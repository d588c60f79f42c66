"""``allod receipt``: list, get, show and verify receipts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from allod.domain.errors import AllodError, Invalid, Unavailable
from allod.domain.money import rfc3339
from allod.gateway.cli import INTEGRITY, out, say
from allod.gateway.cli.options import config_option, json_option

if TYPE_CHECKING:
    from allod.gateway.compose import Setting
    from allod.store.database import Request

LATEST = "latest"
OK = 200
GONE = 410


@click.group("receipt")
def command() -> None:
    """Every answer, refusal, abort and failure has a receipt."""


def _setting(config_path: Path | None) -> Setting:
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)

    return compose.setting(config_path)


def _recent(setting: Setting, limit: int, app: str | None = None) -> list[Request]:
    from allod.gateway.cli.client import database  # noqa: PLC0415

    with database(setting) as tables:
        return tables.recent(limit, app)


@command.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option("--app", help="only of this app")
@config_option
@json_option
def listing(limit: int, app: str | None, config_path: Path | None, as_json: bool) -> None:
    """List the latest receipts, newest first."""
    rows = _recent(_setting(config_path), limit, app)
    if as_json:
        out({"receipts": [_row(row) for row in rows]})
        return
    for row in rows:
        say(f"{row.receipt}  {row.status:8}  {row.app:12}  {rfc3339(row.at_ms)}")
    if not rows:
        say("no receipts yet")


def _row(row: Request) -> dict[str, Any]:
    return {"id": row.receipt, "status": row.status, "app": row.app, "time": rfc3339(row.at_ms)}


@command.command("get")
@click.argument("receipt")
@click.option("--out", "target", type=click.Path(path_type=Path), help="write to a file instead")
@click.option(
    "--format",
    "form",
    type=click.Choice(["file", "tlog-proof", "cose"]),
    default="file",
    show_default=True,
    help="the receipt file, or the terminal leaf's proof alone, or that leaf as COSE (RFC 9942, 9943)",
)
@config_option
def get(receipt: str, target: Path | None, form: str, config_path: Path | None) -> None:
    """Get a receipt by its id, or `latest`, from the running gateway or the home at rest."""
    setting = _setting(config_path)
    data = _formed(setting, _file(setting, *_owner(setting, receipt)), form)
    if target is not None:
        target.write_bytes(data)
    elif form == "cose":
        sys.stdout.buffer.write(data)
    else:
        sys.stdout.write(data.decode() + ("\n" if form == "file" else ""))


def _formed(setting: Setting, data: bytes, form: str) -> bytes:
    """Return a receipt file in the form asked for (raises Unavailable for a request that has not ended)."""
    if form == "file":
        return data
    from allod.receipts.cose import statement_of  # noqa: PLC0415
    from allod.receipts.file import read_file  # noqa: PLC0415
    from allod.store.home import load_keys  # noqa: PLC0415

    terminal = read_file(data).terminal
    if terminal is None:
        raise Unavailable(
            "the receipt is not final yet", "its request has not ended", "ask again", kind="busy"
        )
    return (
        terminal.proof.encode()
        if form == "tlog-proof"
        else statement_of(load_keys(setting.home).signer, data)
    )


def _owner(setting: Setting, receipt: str) -> tuple[str, str]:
    """Return (id, app) of a receipt.

    Raises:
        Invalid: there is none of this id.

    """
    from allod.gateway.cli.client import database  # noqa: PLC0415

    with database(setting) as tables:
        found = next(iter(tables.recent(1)), None) if receipt == LATEST else tables.request(receipt)
    if found is None:
        raise Invalid(
            f"there is no receipt {receipt}", "this home has none of this id", "see `allod receipt list`"
        )
    return found.receipt, found.app


def _file(setting: Setting, receipt: str, app: str) -> bytes:
    from allod.gateway.cli.client import Client  # noqa: PLC0415

    try:
        with Client(setting, app) as client:
            answered = client.ask("GET", f"/v1/receipts/{receipt}")
        if answered.status == OK:
            return answered.raw
        if answered.status == GONE:
            raise _pruned(receipt, answered.raw)
    except Unavailable as error:
        if error.kind != "down":
            raise
    return _at_rest(setting, receipt)


def _pruned(receipt: str, body: bytes) -> Invalid:
    """Pass on what the gateway says of a receipt whose leaves are gone."""
    said = msgspec.json.decode(body).get("error", {}).get("message", "")
    return Invalid(
        f"the leaves of receipt {receipt} are pruned", said, "see `allod log status`", kind="pruned"
    )


def _at_rest(setting: Setting, receipt: str) -> bytes:
    from allod.receipts.tlog_policy import k_of_n  # noqa: PLC0415
    from allod.store.cosigned import demand  # noqa: PLC0415
    from allod.store.store import Store  # noqa: PLC0415

    log = setting.config.log
    store = Store.open(setting.home)
    try:
        demand(store, k_of_n(log.witnesses, log.quorum))
        store.flush()
        file = store.receipt_file(receipt)
    finally:
        store.close()
    if file is None or file == "pending":
        raise Unavailable(
            f"receipt {receipt} is not in the log", f"got {file}", "see `allod log verify`", kind="failed"
        )
    return file


@command.command("show")
@click.argument("receipt")
@config_option
@json_option
def show(receipt: str, config_path: Path | None, as_json: bool) -> None:
    """Show what a receipt says, and what its attempts cost."""
    from allod.gateway.cli.client import database  # noqa: PLC0415
    from allod.receipts.file import read_file  # noqa: PLC0415

    setting = _setting(config_path)
    name, app = _owner(setting, receipt)
    file = read_file(_file(setting, name, app))
    terminal = msgspec.json.decode(file.terminal.leaf) if file.terminal else None
    with database(setting) as tables:
        rows = tables.rows(receipt=name)
    if as_json:
        intent = msgspec.json.decode(file.intent.leaf)
        out(
            {
                "id": name,
                "status": file.status,
                "app": app,
                "intent": intent,
                "terminal": terminal,
                "ledger": rows,
            }
        )
        return
    for key, value in (terminal or {}).items():
        say(f"{key:16} {value if isinstance(value, str) else msgspec.json.encode(value).decode()}")
    for row in rows:
        spent = f"{row.cost_usd:f} USD ({row.basis})"
        say(f"attempt {row.attempt}: {row.deployment} {row.status}, {spent} {row.detail}")


@command.command("erase")
@click.argument("receipt")
@config_option
@json_option
def erase(receipt: str, config_path: Path | None, as_json: bool) -> None:
    """Delete the salts of a receipt: its commitments can no longer be opened, its proofs stay valid.

    Those of the steps it was answered in go with it: they commit to the same request. A running gateway's
    journal forgets them when its segment turns, within ten minutes.
    """
    from allod.gateway.cli.client import database  # noqa: PLC0415
    from allod.store.subjects import remember  # noqa: PLC0415

    setting = _setting(config_path)
    name, _ = _owner(setting, receipt)
    with database(setting) as tables:
        steps = _steps(setting, tables.request(name))
        erased = [one for one in (name, *(steps or ())) if tables.erase_salts(one)]
        remember(setting.home, tables)
    if as_json:
        out({"id": name, "erased": name in erased, "steps": steps})
        return
    say(f"the salts of {name} are deleted" if name in erased else f"{name} had no salts any more")
    for one in steps or ():
        say(f"  of its step {one} as well")
    if steps is None:
        say("  whether it was answered in steps is not known: its leaf cannot be read (pruned, or damaged)")


def _steps(setting: Setting, row: Request | None) -> list[str] | None:
    """Return the receipts of a request's steps and audits; None if its end cannot be read."""
    from allod.gateway.promise.kept import audited_by  # noqa: PLC0415
    from allod.receipts.ids import is_id  # noqa: PLC0415
    from allod.store.reading import Reader  # noqa: PLC0415
    from allod.store.recovery import bare_files  # noqa: PLC0415
    from allod.store.writer import Published  # noqa: PLC0415

    if row is None or row.terminal_index is None:
        return []
    files = bare_files(setting.home)
    try:
        leaf = msgspec.json.decode(files.leaf(row.terminal_index))
        audits = list[str]()
        if leaf.get("floor", {}).get("audit") == "yes":
            reader = Reader(files, lambda: Published(files.held(), b""))
            audits = audited_by(reader, row.receipt, row.terminal_index)
    except AllodError:
        return None
    finally:
        files.close()
    return [*(entry[0] for entry in leaf.get("steps", []) if is_id(entry[0])), *filter(is_id, audits)]


@command.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", "vkey", help="verifier key of the log (default: the policy's, else the home's)")
@click.option("--policy", type=click.Path(path_type=Path), help="known logs and witnesses (C2SP tlog-policy)")
@click.option(
    "--rotation",
    "rotations",
    type=click.Path(path_type=Path),
    help="notes by which the log's key changed (`allod log keys --notes`)",
)
@click.option("--request", "request_file", type=click.Path(path_type=Path), help="the request body as sent")
@click.option("--response", "response_file", type=click.Path(path_type=Path), help="the answer as delivered")
@click.option(
    "--complete", is_flag=True, help="FOLDER is said to hold all of its deployments: a missing number fails"
)
@json_option
def verify(
    file: Path,
    vkey: str | None,
    policy: Path | None,
    rotations: Path | None,
    request_file: Path | None,
    response_file: Path | None,
    complete: bool,
    as_json: bool,
) -> None:
    """Verify a receipt FILE offline, step by step; also as COSE. Exit code 3 when a step fails.

    Of a FOLDER every receipt (*.json) is verified, and that the receipts they name as parents, steps or
    origins are there and agree.
    """
    if file.is_dir():
        from allod.gateway.cli.receipt_folder import verified_folder  # noqa: PLC0415 (only when it runs)

        result = verified_folder(file, vkey, policy, rotations, complete=complete, quiet=as_json)
    else:
        from allod.gateway.cli.receipt_verify import verified  # noqa: PLC0415

        result = verified(file, vkey, policy, rotations, (request_file, response_file))
    if as_json:
        out({"ok": result.ok, "steps": result.steps})
    else:
        for step in result.steps:
            say(f"{step.n:2}  {'ok  ' if step.ok else 'FAIL'}  {step.name:28} {step.detail}")
        what, many = ("the receipts", "verify") if file.is_dir() else ("the receipt", "verifies")
        say(f"{what} {many}" if result.ok else f"{what} {'do' if file.is_dir() else 'does'} NOT verify")
    sys.exit(0 if result.ok else INTEGRITY)
