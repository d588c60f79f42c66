"""``allod log anchor | export``: a checkpoint to keep elsewhere, and the log for other programs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click

from allod.domain.errors import Unavailable
from allod.gateway.cli import out, say
from allod.gateway.cli.options import json_option

PAPER_SCALE = 4


@click.command("anchor")
@click.option("--qr", is_flag=True, help="draw it as a QR code too (needs the extra `qr`)")
@click.option("--svg", type=click.Path(path_type=Path), help="write the QR code to a file, to be printed")
def anchor(qr: bool, svg: Path | None) -> None:
    """Print the last published checkpoint, to be kept where nobody who runs this home can reach it.

    On paper, in a safe, in a newspaper. `allod log verify --anchor FILE` shows later that the log extends it.
    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.store.home import load_home  # noqa: PLC0415

    note = load_home(compose.home_root()).checkpoint.read_text()
    say(note.rstrip("\n"))
    if not qr and svg is None:
        return
    code = _code(note)
    if qr:
        drawn = io.StringIO()
        code.terminal(drawn, compact=True)
        say("\n" + drawn.getvalue().rstrip("\n"))
    if svg is not None:
        code.save(str(svg), kind="svg", scale=PAPER_SCALE)


def _code(note: str) -> Any:
    try:
        import segno  # noqa: PLC0415 (the extra `qr`)
    except ImportError as fault:
        raise Unavailable(
            "no QR code can be drawn",
            "the package segno is not installed",
            "install it with `pip install 'allod[qr]'`, or keep the text: it is all there is to it",
            kind="down",
        ) from fault
    return segno.make_qr(note.encode(), error="m", mode="byte")


@click.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def export(folder: Path, as_json: bool) -> None:
    """Write the log of the home at rest into a FOLDER as C2SP tlog-tiles: checkpoint, tiles, entries."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.store.export import export_tiles  # noqa: PLC0415
    from allod.store.home import load_home  # noqa: PLC0415
    from allod.store.store import Store  # noqa: PLC0415

    home = load_home(compose.home_root())
    store = Store.open(home)
    try:
        store.flush()
        size, first = export_tiles(store.reader, folder), store.reader.first
    finally:
        store.close()
    if as_json:
        out({"leaves": size, "minimum_index": first, "folder": str(folder)})
    else:
        gone = f"; entries below leaf {first} are pruned, see pruned.json" if first else ""
        say(f"{size} leaves in {folder}{gone}")


def read_anchor(path: Path) -> bytes:
    """Read an anchor's file, at most 128 KiB."""
    with path.open("rb") as file:
        return file.read(128 * 1024)
