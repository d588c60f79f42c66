"""``allod receipt verify FOLDER``: every receipt in it, and what they say of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Invalid
from allod.gateway.cli.receipt_verify import COSE, verified
from allod.gateway.cli.vault import show_progress, size_of
from allod.receipts.file import read_file
from allod.receipts.lineage import family
from allod.receipts.verify import Step, Verification

if TYPE_CHECKING:
    from pathlib import Path

    from allod.receipts.lineage import Family

SHOWN: Final = 20


def verified_folder(
    folder: Path,
    vkey: str | None,
    policy: Path | None,
    rotations: Path | None,
    *,
    complete: bool,
    quiet: bool,
) -> Verification:
    """Verify the receipt files (``*.json``) of a folder, one step each, then how they hang together.

    Args:
        folder: with receipts of one log.
        vkey: verifier key, ``policy`` and ``rotations`` as for one file.
        complete: whether the folder is said to hold every receipt of its deployments: a number missing
            between two of them fails then.
        quiet: whether no progress is drawn.

    Raises:
        Invalid: there is no receipt in it, or no key to verify with.

    """
    files = sorted(path for path in folder.glob("*.json") if path.is_file())
    if not files:
        raise Invalid(f"{folder} holds no receipts", "expected files that end with .json", "", param="file")
    steps: list[Step] = []
    leaves: list[dict[str, Any]] = []
    told, end = show_progress(sum(map(size_of, files)), "verifying receipts", quiet=quiet)
    try:
        for n, file in enumerate(files, 1):
            one = verified(file, vkey, policy, rotations, (None, None))
            failed = next((step for step in one.steps if not step.ok), None)
            detail = one.steps[0].detail if failed is None else f"{failed.name}: {failed.detail}"
            steps.append(Step(n=n, name=file.name, ok=one.ok, detail=detail))
            leaves += _leaf(file) if one.ok else []
            told(size_of(file))
    finally:
        end()
    found = family(leaves)
    steps += [
        Step(n=len(files) + i, name=name, ok=ok, detail=detail)
        for i, (name, ok, detail) in enumerate(_together(found, complete=complete), 1)
    ]
    return Verification(ok=all(step.ok for step in steps), steps=tuple(steps))


def _together(found: Family, *, complete: bool) -> list[tuple[str, bool, str]]:
    """Say what receipts say of each other, as (name, ok, detail)."""
    wrong = [f"{one.receipt}: {one.what}" + (f": {one.why}" if one.why else "") for one in found.findings]
    gaps = [
        f"{name} {a}" if a == b else f"{name} {a} to {b}"
        for name, runs in found.gaps.items()
        for a, b in runs
    ]
    numbers = f"missing here: {_some(gaps)}" if gaps else "no number is missing between two of a deployment"
    return [
        (
            "parents and steps are there",
            not found.missing,
            f"missing: {_some(found.missing)}" if found.missing else "every receipt that is named",
        ),
        ("they agree", not wrong, _some(wrong) if wrong else "what one says of another holds"),
        ("numbers", not (gaps and complete), numbers),
    ]


def _some(items: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def _leaf(file: Path) -> list[dict[str, Any]]:
    """Return the terminal leaf of a receipt file that verified; a COSE statement says nothing of others."""
    data = file.read_bytes().rstrip(b"\n")
    terminal = None if data.startswith(COSE) else read_file(data).terminal
    return [] if terminal is None else [msgspec.json.decode(terminal.leaf)]
