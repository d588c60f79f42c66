"""What ``allod vault scan`` finds: structure and templates, lowest bits, differences from a parent."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from allod.gateway.cli import say
from allod.vault import intake, parts, tensors
from allod.vault.blobs import open_regular
from allod.vault.compare import CANNOT_SEE, Comparison, compare, hidden
from allod.vault.examine import Examiner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allod.vault.tensors import Tensor
    from allod.vault.vault import Vault


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """What was found; ``flags`` are for a person to look at, ``comparison`` where a parent was named."""

    target: str
    kind: str
    architecture: str
    quantisation: str
    parameters: int
    tensors: int
    flags: tuple[str, ...]
    comparison: Comparison | None = None
    cannot_see: str = ""


@contextlib.contextmanager
def _opened(vault: Vault, target: str) -> Iterator[dict[str, int]]:
    """Open the files of a name of the vault, or of a path: name -> descriptor."""
    path, files = Path(target), dict[str, int]()
    try:
        if path.exists() or path.is_symlink():
            for name, place in intake.files_at(path).items():
                files[name] = open_regular(place, name)
        else:
            entry = vault.verify(target)
            for file in entry.manifest.files:
                name = file.name if len(entry.manifest.files) > 1 or "." in file.name else f"{file.name}.gguf"
                files[name] = vault.open_file(entry, file)
        yield files
    finally:
        for fd in files.values():
            os.close(fd)


def _tensors(files: dict[str, int]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, fd in files.items():
        if name.endswith((".gguf", ".safetensors")):
            out.update(tensors.tensors(fd, name))
    return out


def run(vault: Vault, target: str, parent: str | None, *, bits: bool) -> Scan:
    """Scan a name of the vault or a path.

    Raises:
        Invalid: no such thing, or a file that may not enter.
        Integrity: the vault's file is not what was verified.

    """
    with _opened(vault, target) as files:
        with Examiner() as examine:
            reports = {name: examine(fd, name, part=len(files) > 1) for name, fd in files.items()}
        whole = parts.put_together(reports)
        flags, comparison = list(whole.flags), None
        mine = _tensors(files)
        if bits:
            flags += hidden(mine)
        if parent is not None:
            with _opened(vault, parent) as theirs:
                comparison = compare(mine, _tensors(theirs))
            flags += comparison.flags
    return Scan(
        target=target,
        kind=whole.facts.kind,
        architecture=whole.facts.architecture,
        quantisation=whole.facts.quantisation,
        parameters=whole.facts.parameters,
        tensors=len(mine),
        flags=tuple(flags),
        comparison=comparison,
        cannot_see=CANNOT_SEE if bits or parent is not None else "",
    )


def tell(found: Scan) -> None:
    """Print a scan for a person to read."""
    what = f"{found.kind} of {found.architecture}, {found.quantisation}"
    say(f"{found.target}: {what}, {found.parameters} parameters in {found.tensors} tensors, well formed")
    seen = found.comparison
    if seen is not None:
        counts = {
            "changed": seen.changed,
            "added": seen.added,
            "missing": seen.missing,
            "reshaped": seen.reshaped,
        }
        others = ", ".join(f"{word}: {len(names)}" for word, names in counts.items())
        say(f"  equal to the parent: {len(seen.equal)}, {others}")
        for change in seen.changed[:40]:
            size = "" if change.relative is None else f"  change {change.relative:.3g} of its size"
            rank = "" if change.rank is None else f"  rank {change.rank} of {change.of}"
            rounding = "" if change.rounding is None else f"  {change.rounding:.2%} rounded from it"
            say(f"    {change.name}{size}{rank}{rounding}")
    for flag in found.flags:
        say(f"  look at: {flag}")
    if found.cannot_see:
        say(f"  not seen: {found.cannot_see}")
