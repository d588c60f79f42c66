"""``allod classify``: what detection finds in a file, and which classes that raises. Nothing is kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from allod.domain.classes import UNSCANNED, expand
from allod.domain.errors import Invalid
from allod.gateway.cli import FAILED, out, say
from allod.gateway.cli.options import json_option

if TYPE_CHECKING:
    from allod.admission.detect import Finding, Scan

MAX_BYTES: Final = 64 << 20
_SHOWN_CHARS: Final = 2


@click.command("classify")
@click.argument("file")
@click.option("--show", is_flag=True, help="print what was found instead of masking it")
@click.option("--class", "given", multiple=True, help="a class the text has already; may be repeated")
@json_option
def command(file: str, given: tuple[str, ...], *, show: bool, as_json: bool) -> None:
    """Find what is sensitive in FILE (- for standard input), and print the classes it raises.

    Places are characters, end exclusive. Found text is masked unless --show. Exit code 1 when the scan did
    not finish: such a text counts as unscanned.
    """
    from allod.admission.detect import Detector  # noqa: PLC0415 (only when it runs)

    text = _read(file)
    scan = Detector().scan(text)
    classes = expand((*_checked(given), *scan.classes, *(() if scan.complete else (UNSCANNED,))))
    if as_json:
        out(_as_json(text, scan, classes, show=show))
    else:
        _print(text, scan, classes, show=show)
    sys.exit(0 if scan.complete else FAILED)


def _checked(given: tuple[str, ...]) -> tuple[str, ...]:
    from allod.domain.classes import BASE_CLASSES  # noqa: PLC0415

    unknown = set(given) - BASE_CLASSES
    if unknown:
        raise Invalid(
            f"{min(unknown)[:64]!r} is not a data class",
            f"known: {', '.join(sorted(BASE_CLASSES))}",
            "name one of these",
            param="class",
        )
    return given


def _read(file: str) -> str:
    raw = sys.stdin.buffer.read(MAX_BYTES + 1) if file == "-" else _bounded(Path(file))
    if len(raw) > MAX_BYTES:
        raise Invalid(
            "the file is too large", f"more than {MAX_BYTES >> 20} MiB", "classify it in parts", param="file"
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(
            "the file is not text",
            f"it is not UTF-8 at byte {error.start}",
            "extract the text first; what cannot be read counts as unscanned",
            param="file",
        ) from None


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _masked(piece: str) -> str:
    """Return a found text with all but its first and last characters hidden; short ones wholly."""
    if len(piece) < 4 * _SHOWN_CHARS:
        return "*" * len(piece)
    return piece[:_SHOWN_CHARS] + "*" * (len(piece) - 2 * _SHOWN_CHARS) + piece[-_SHOWN_CHARS:]


def _piece(text: str, one: Finding, *, show: bool) -> str:
    piece = text[one.start : one.end]
    return piece if show else _masked(piece)


def _as_json(text: str, scan: Scan, classes: tuple[str, ...], *, show: bool) -> dict[str, Any]:
    return {
        "classes": list(classes),
        "complete": scan.complete,
        "types": scan.types,
        "findings": [
            {
                "start": one.start,
                "end": one.end,
                "type": one.type,
                "class": one.class_,
                "text": _piece(text, one, show=show),
            }
            for one in scan.findings
        ],
        "version": scan.version,
    }


def _print(text: str, scan: Scan, classes: tuple[str, ...], *, show: bool) -> None:
    say("classes: " + (", ".join(classes) or "none raised"))
    for one in scan.findings:
        piece = " ".join(_piece(text, one, show=show).split())
        say(f"  {one.start:>7} {one.end:>7}  {one.type:<22} {one.class_:<13} {piece}")
    if not scan.complete:
        say("the scan did not finish: this text counts as unscanned")
