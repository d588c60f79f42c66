"""``allod policy new``: a skeleton of a law pack for a country that has none."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from allod.domain import jurisdiction
from allod.domain.errors import Invalid
from allod.gateway.cli import out, say
from allod.gateway.cli.options import json_option, now_ms

if TYPE_CHECKING:
    from allod.gateway.packs import Packs
    from allod.policy import Pack

FOLDER_MODE = 0o755
FILE_MODE = 0o644


@click.command("new")
@click.argument("country")
@click.option(
    "--out", "target", type=click.Path(path_type=Path), help="the folder to make (default: ./<country>_law)"
)
@json_option
def command(country: str, target: Path | None, as_json: bool) -> None:
    """Write a skeleton of a law pack for COUNTRY, an ISO 3166-1 code or an English name.

    It denies what nobody has allowed by filling it: no law was opened for it, every rule says so, and its
    obligations are the questions a lawyer of the country must answer. What is there already is not touched
    (exit code 2), and so is a word that names no country.
    """
    from allod.gateway.packs import find  # noqa: PLC0415 (only when it runs)
    from allod.policy.skeleton import country_code, skeleton, skeleton_id  # noqa: PLC0415

    code = country_code(country)
    folder = target or Path(skeleton_id(code).replace("-", "_"))
    files = skeleton(code, datetime.fromtimestamp(now_ms() / 1000, UTC).date())
    known = find()
    pack, cases = _checked(files, known)
    _write(folder, files)
    there = covering(code, known)
    if as_json:
        out(
            {
                "id": pack.id, "folder": str(folder), "files": sorted(files), "rules": len(pack.rules),
                "cases": cases, "questions": len(pack.obligations), "shipped_for_country": there,
            }
        )  # fmt: skip
        return
    say(f"{folder}: skeleton {pack.id} with {len(pack.rules)} rules, {cases} cases hold")
    say(f"  no law was opened for it: {len(pack.obligations)} questions wait in obligations.toml")
    if there:
        say(f"  packs for {code} are shipped already: {', '.join(there)}")
    say("  fill it, then look at it with")
    say(f"    allod policy lint {folder}")
    say(f"    allod policy test {folder}")


def covering(code: str, known: Packs) -> list[str]:
    """Return the packs there are whose jurisdiction is the country or a bloc it belongs to."""
    found = []
    for name, one in known.found.items():
        with contextlib.suppress(OSError, TypeError, ValueError):
            manifest = tomllib.loads(one.folder.joinpath("pack.toml").read_text())
            if code in jurisdiction.expand((str(manifest.get("jurisdiction", "")),)):
                found.append(name)
    return sorted(found)


def _checked(files: dict[str, bytes], known: Packs) -> tuple[Pack, int]:
    """Load the pack and decide its cases before anything is written; return it and how many held.

    Raises:
        Invalid: a case does not come out as it says, which is a fault of the template.

    """
    from allod.policy import run_cases  # noqa: PLC0415
    from allod.policy.pack import BASE, load_pack  # noqa: PLC0415

    base = known.load(BASE)
    pack = load_pack(files, base.schema)
    results = run_cases(pack, base)
    for result in results:
        if not result.ok:
            raise Invalid(f"the skeleton fails its own case {result.name!r}", result.detail, "report it")
    return pack, len(pack.cases)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Put the whole folder in place at once, or nothing.

    Raises:
        Invalid: something is there already, or the folder above it is not there.

    """
    refusal = Invalid(
        f"{folder} is there already", "nothing is overwritten", "say another --out", param="out"
    )
    if folder.exists() or folder.is_symlink():
        raise refusal
    if not folder.parent.is_dir():
        raise Invalid(f"there is no folder {folder.parent}", "", "make it first", param="out")
    part = Path(tempfile.mkdtemp(prefix=".skeleton-", dir=folder.parent))
    try:
        for path, content in files.items():
            place = part / path
            place.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
            place.write_bytes(content)
            place.chmod(FILE_MODE)
        part.chmod(FOLDER_MODE)
        try:
            os.rename(part, folder)  # noqa: PTH104 (Path.rename says the same; on a full folder it fails)
        except OSError as error:
            if folder.exists():
                raise refusal from error
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
