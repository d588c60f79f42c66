"""Reports as files: a folder that is there whole or not at all, or one file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import IO, Final

from allod.domain.errors import Invalid
from allod.evidence.paper import Report, Row, Sheet
from allod.evidence.tables import (
    finding_sheet,
    gap_sheet,
    preamble,
    trace_sheet,
    write_json,
    write_sheet,
)
from allod.store.extract import Entry, Extract
from allod.store.home import sync_folder, unwritable

FORMATS: Final = ("csv", "html", "json")
MOST_ROWS_ON_PAPER: Final = 5000
TEMPLATE: Final = "report.html.jinja"
SUMS: Final = "SHA256SUMS"
RECEIPTS: Final = "receipts/"
_VERIFY: Final = """How to check this folder without the gateway and without a network
1. sha256sum -c SHA256SUMS
2. {one}
   It says step by step that the leaf stands in the log and what the log's key signed.
3. The verifier key in log.vkey must be the one you were given by another way than this folder.
Every row names its receipts, or receipts.csv does; each is shown in full by `allod receipt show ID`.
"""


def write_folder(
    report: Report, target: Path, entries: Callable[[], Iterable[Entry]], extract: Extract | None = None
) -> tuple[str, ...]:
    """Write everything into a new folder; returns the names of its files.

    It is written beside itself and renamed: a folder of this name is whole. Only its owner may read it.

    Args:
        report: what to write.
        target: the folder; if there is one it must be empty.
        entries: the requests the report is limited to, for the table of receipts behind rows.
        extract: where receipt files come from, if the report wants them in.

    Raises:
        Invalid: the folder holds something.
        Unavailable: it cannot be written.

    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Invalid(
            f"{target} holds something already",
            "what is left of an earlier report must not pass for a part of this one",
            "name a folder that does not exist yet",
            param="out",
        )
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        new.mkdir(mode=0o700)
        try:
            names = _fill(report, new, entries, extract)
            with contextlib.suppress(FileNotFoundError):
                target.rmdir()
            new.rename(target)
            sync_folder(target.parent)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    except OSError as fault:
        raise unwritable(target, fault) from fault
    return names


def _fill(
    report: Report, folder: Path, entries: Callable[[], Iterable[Entry]], extract: Extract | None
) -> tuple[str, ...]:
    with contextlib.closing(_Files(folder)) as files:
        _write_all(report, files, entries, extract)
    bundled = (f"{RECEIPTS} ({files.receipts} files)",) if files.receipts else ()
    return (*files.names, *bundled, SUMS)


def _write_all(
    report: Report, files: _Files, entries: Callable[[], Iterable[Entry]], extract: Extract | None
) -> None:
    lines = tuple(preamble(report))
    for number, sheet in enumerate(report.sheets):
        if not sheet.official:
            with files.text(f"{report.kind if number == 0 else sheet.id}.csv") as out:
                write_sheet(out, sheet, lines)
    for sheet in (gap_sheet(report), finding_sheet(report)):
        with files.text(f"{sheet.id}.csv") as out:
            write_sheet(out, sheet, lines[:4])
    for sheet in (one for one in report.sheets if one.official):
        with files.text(f"reports/{sheet.id}.csv") as out:
            write_sheet(out, sheet)
    for name, data in report.extra.items():
        files.write(name, data)
    if report.trace is not None:
        with files.text("receipts.csv") as out:
            write_sheet(out, trace_sheet(report, entries()), lines[:4])
    one = "allod receipt show ID --json   (in the home)"
    if report.receipts is not None and extract is not None:
        for entry in report.receipts():
            files.write(f"{RECEIPTS}{entry.end.id}.json", extract.receipt_file(entry))
        one = 'allod receipt verify receipts/ID.json --key "$(cat log.vkey)"'
    files.write("checkpoint", report.log.checkpoint.encode())
    files.write("log.vkey", (report.log.vkey + "\n").encode())
    files.write("README.txt", _readme(report, one).encode())
    with files.text("report.html") as out:
        out.writelines(html(report, linked=report.receipts is not None))
    with files.text("report.json") as out:
        write_json(out, report)


def _readme(report: Report, one: str) -> str:
    lines = [report.title, f"for {report.tenant}: {report.scope}", f"made at {report.made_at}", ""]
    lines += ["What it cannot know", *(f"- {text}" for text in report.cannot_know), ""]
    lines += ["To be done and to be known", *(f"- {text}" for text in report.notes), ""]
    return "\n".join(lines) + _VERIFY.format(one=one)


def write_one(report: Report, out: IO[str], form: str, sheet: str | None = None) -> None:
    """Write one file: the page, the JSON, or one table as CSV (the leading one unless another is named).

    Raises:
        Invalid: there is no such table.

    """
    if form == "html":
        out.writelines(html(report, linked=False))
    elif form == "json":
        write_json(out, report)
    else:
        write_sheet(out, _sheet(report, sheet), preamble(report))


def _sheet(report: Report, name: str | None) -> Sheet:
    for one in report.sheets:
        if name is None or one.id == name:
            return one
    raise Invalid(
        f"there is no table {name!r} in {report.kind}",
        "its tables: " + ", ".join(one.id for one in report.sheets),
        "name one of these",
        param="sheet",
    )


def html(report: Report, *, linked: bool) -> Iterator[str]:
    """Go through the pieces of a page that prints; everything in it is escaped.

    With ``linked`` receipts lead to their files in the folder. A table shows its first 5,000 rows and says
    how many there are.
    """
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 -- only when a page is written

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(resources.files("allod.evidence").joinpath(TEMPLATE).read_text())
    return template.generate(
        r=report, linked=linked, head=_head, counted=_counted, most=MOST_ROWS_ON_PAPER, is_receipt=_is_receipt
    )


def _head(rows: Iterable[Row]) -> Iterator[Row]:
    return islice(rows, MOST_ROWS_ON_PAPER)


def _counted(sheet: Sheet) -> int:
    return sum(1 for _ in sheet.rows())


def _is_receipt(cell: str) -> bool:
    return cell.startswith("r_") and len(cell) == len("r_01234567_") + 26


class _Files:
    """Writes files into a folder, and their digests beside them as it goes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []
        self.receipts = 0
        self._sums = os.fdopen(_private(folder / SUMS), "w", encoding="utf-8", newline="")

    @contextlib.contextmanager
    def text(self, name: str) -> Iterator[IO[str]]:
        path = self._path(name)
        with os.fdopen(_private(path), "w", encoding="utf-8", errors="backslashreplace", newline="") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
        self._note(name, digest.hexdigest())

    def write(self, name: str, data: bytes) -> None:
        with os.fdopen(_private(self._path(name)), "wb") as out:
            out.write(data)
        self._note(name, hashlib.sha256(data).hexdigest())

    def close(self) -> None:
        """Make the digests durable."""
        self._sums.flush()
        os.fsync(self._sums.fileno())
        self._sums.close()

    def _path(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return path

    def _note(self, name: str, digest: str) -> None:
        self._sums.write(f"{digest}  {name}\n")
        if name.startswith(RECEIPTS):
            self.receipts += 1
        else:
            self.names.append(name)


def _private(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
