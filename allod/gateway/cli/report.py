"""``allod report``: files for a regulator, made from the log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from allod.domain.errors import Invalid, Unavailable
from allod.gateway.cli import out, say
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import config_option, json_option, now_ms
from allod.gateway.cli.period import moment_ms

if TYPE_CHECKING:
    from allod.evidence.paper import Report
    from allod.evidence.world import World
    from allod.gateway.compose import Setting
    from allod.store.database import Database
    from allod.store.extract import Extract

KINDS = (
    "dora-roi", "gdpr-art30", "gdpr-transfers", "ai-act-log", "hipaa-disclosures", "model-inventory",
    "seal-dossier", "exposure", "subject",
)  # fmt: skip
FORMATS = ("csv", "html", "json")
MOST_SUBJECT_CHARS = 256
SHOWN = 12
DAY_MS = 86_400_000


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    kind: str
    since: str | None
    until: str | None
    app: str | None
    task: str | None
    subject: str | None
    target: Path | None
    form: str | None
    sheet: str | None


@click.command("report")
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--since", help="from this day or time on, or `30d` ago (default: the first leaf)")
@click.option("--until", help="up to and with this day, or before this time (default: now)")
@click.option("--app", help="only this app")
@click.option("--task", help="only this task")
@click.option("--subject", help="the person, by the id the application gave (subject, hipaa-disclosures)")
@click.option(
    "--erase", is_flag=True, help="with subject: forget the person; with --out the report comes first"
)
@click.option("--out", "target", type=click.Path(path_type=Path), help="a new folder, or one file")
@click.option("--format", "form", type=click.Choice(FORMATS), help="one file of this format")
@click.option("--sheet", help="which table a CSV file holds (default: the leading one)")
@config_option
@json_option
def command(
    kind: str,
    since: str | None,
    until: str | None,
    app: str | None,
    task: str | None,
    subject: str | None,
    erase: bool,
    target: Path | None,
    form: str | None,
    sheet: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Make a report from the log: CSV and a page that prints, with receipts behind every figure.

    Without --out and --format it says what the report holds. A gateway may be running.
    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)

    wanted = Wanted(
        kind=kind, since=since, until=until, app=app, task=task, subject=subject, target=target, form=form,
        sheet=sheet,
    )  # fmt: skip
    _check(wanted, erase=erase)
    setting = compose.setting(config_path)
    if not erase or target is not None:
        _make(wanted, setting, as_json=as_json)
    if erase and subject is not None:
        _erase(setting, subject, as_json=as_json)


def _check(wanted: Wanted, *, erase: bool) -> None:
    subject = wanted.subject
    if wanted.kind == "subject" and subject is None:
        raise Invalid("no person is named", "this report is about one", "say --subject ID", param="subject")
    if subject is not None and wanted.kind not in ("subject", "hipaa-disclosures"):
        raise Invalid(
            f"{wanted.kind} is not about one person", "got --subject", "leave it out", param="subject"
        )
    if subject is not None and not (0 < len(subject) <= MOST_SUBJECT_CHARS and subject.isprintable()):
        raise Invalid(
            "the id of the person cannot be read",
            f"expected 1 to {MOST_SUBJECT_CHARS} printable characters, as the application gives them",
            "correct it",
            param="subject",
        )
    if erase and wanted.kind != "subject":
        raise Invalid("--erase goes with subject", f"got {wanted.kind}", "leave it out", param="erase")


def _make(wanted: Wanted, setting: Setting, *, as_json: bool) -> None:
    from allod.evidence.write import write_folder, write_one  # noqa: PLC0415
    from allod.gateway.cli.client import database  # noqa: PLC0415
    from allod.gateway.evidence import Asked, world  # noqa: PLC0415
    from allod.store.extract import Extract  # noqa: PLC0415

    now = now_ms()
    limits = Asked(now_ms=now, app=wanted.app, task=wanted.task)
    if wanted.since is not None:
        limits = msgspec.structs.replace(limits, since_ms=moment_ms(wanted.since, now, param="since"))
    if wanted.until is not None:
        limits = msgspec.structs.replace(limits, until_ms=_until(wanted.until, now))
    extract = Extract(setting.home)
    try:
        with database(setting) as tables:
            whole = world(setting, extract, tables, limits)
            report, chosen = _report(wanted, setting, extract, tables, whole)
            form, target = wanted.form, wanted.target
            if target is not None and form is None and target.suffix.removeprefix(".") in FORMATS:
                form = target.suffix.removeprefix(".")
            if form is None and target is not None:
                names = write_folder(report, target, chosen.chosen, extract)
                _tell(report, as_json=as_json, wrote=(str(target), names))
            elif target is not None and form is not None:
                with target.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
                    write_one(report, file, form, wanted.sheet)
                _tell(report, as_json=as_json, wrote=(str(target), ()))
            elif form is not None or as_json:
                write_one(report, sys.stdout, form or "json", wanted.sheet)
            else:
                _tell(report, as_json=False, wrote=None)
    finally:
        extract.close()


def _until(text: str, now: int) -> int:
    """Read the end of a period: a day counts whole."""
    at_ms = moment_ms(text, now, param="until")
    return at_ms + DAY_MS if len(text) == len("2026-01-01") and text[4] == "-" else at_ms


def _report(
    wanted: Wanted, setting: Setting, extract: Extract, tables: Database, whole: World
) -> tuple[Report, World]:
    from allod.evidence import hipaa, kinds, subject  # noqa: PLC0415
    from allod.gateway.evidence import about  # noqa: PLC0415

    if wanted.subject is None:
        return kinds.KINDS[wanted.kind][1](whole), whole
    mine = about(whole, setting, extract, tables, wanted.subject)
    if wanted.kind == kinds.HIPAA:
        return hipaa.disclosures(mine, f"the person with the id {wanted.subject}, {whole.scope}"), mine

    def erased(receipt: str) -> bool:
        row = tables.request(receipt)
        return row is None or row.request_salt is None

    return subject.decisions(mine, subject.Tables(erased, tables.record), wanted.subject), mine


def _tell(report: Report, *, as_json: bool, wrote: tuple[str, tuple[str, ...]] | None) -> None:
    """Say what a report holds, and where it is."""
    if as_json:
        out({
            "kind": report.kind,
            "out": wrote[0] if wrote else None,
            "files": list(wrote[1]) if wrote else [],
            "figures": dict(report.figures),
            "gaps": len(report.gaps),
            "findings": report.findings,
        })  # fmt: skip
        return
    say_folded("", f"{report.title}: {report.scope}")
    names = [*(name for name, _ in report.figures), *(sheet.id for sheet in report.sheets)]
    wide = max(map(len, names), default=0)
    for name, value in report.figures:
        say_folded(f"  {name:{wide}}  ", value)
    for sheet in report.sheets:
        say(f"  {sheet.id:{wide}}  {sum(1 for _ in sheet.rows())} rows")
    for f in report.findings[:SHOWN]:
        say_folded("  REJECTS " if f.rejects else "  finding ", f"{f.rule}: {f.where}: {f.detail}")
    if len(report.findings) > SHOWN:
        say(f"  and {len(report.findings) - SHOWN} findings more")
    for gap in report.gaps[:SHOWN]:
        say_folded("  gap ", f"{gap.where}: {gap.what}")
    if len(report.gaps) > SHOWN:
        say(f"  and {len(report.gaps) - SHOWN} gaps more")
    say(
        f"written to {wrote[0]}"
        if wrote
        else "nothing is written: say --out FOLDER, or --format csv|html|json"
    )


def _erase(setting: Setting, subject: str, *, as_json: bool) -> None:
    """Forget a person, through the log's own writer if nobody else has it, so that a notice is left."""
    import os  # noqa: PLC0415

    from allod.gateway.cli.client import database  # noqa: PLC0415
    from allod.receipts.commitment import pseudonym  # noqa: PLC0415
    from allod.receipts.ids import new_id  # noqa: PLC0415
    from allod.receipts.leaves import NoticeFacts  # noqa: PLC0415
    from allod.store.home import load_keys  # noqa: PLC0415
    from allod.store.store import Store  # noqa: PLC0415
    from allod.store.subjects import erase  # noqa: PLC0415

    at_ms, keys = now_ms(), load_keys(setting.home)
    noticed = True
    try:
        store = Store.open(setting.home)
    except Unavailable as busy:
        if busy.kind != "busy":
            raise
        noticed = False
        with database(setting) as tables:
            erased = erase(setting.home, tables, keys.secret, subject, at_ms=at_ms)
    else:
        try:
            erased = store.erase_subject(subject, at_ms=at_ms)
            if erased.found:
                notice = NoticeFacts(
                    id=new_id(keys.origin, at_ms, os.urandom(10)),
                    at_ms=at_ms,
                    tenant=pseudonym(keys.secret, "tenant", setting.fleet.tenant.id),
                    subject="subject-erased",
                    facts={"requests": str(erased.requests)},
                )
                store.append_notice(notice)
        finally:
            store.close()
    if as_json:
        out({"erased": erased.found, "requests": erased.requests, "notice": noticed and erased.found})
    elif not erased.found:
        say("nobody of this id is known here: never named, or erased before")
    else:
        say(f"forgotten; {erased.requests} requests lost their salts, their proofs stay valid")
        if not noticed:
            say("a gateway is running: its journal forgets within ten minutes, and no notice is in the log")
