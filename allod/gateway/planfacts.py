"""Which catalogue a plan is made with: what ships, what bundles brought to the home, files handed over.

Facts are for plans. No decision about a request reads them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from allod.domain.errors import Integrity, Invalid, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from allod.gateway.supply import Supplied
    from allod.planner.catalogue import Catalogue, Origin
    from allod.planner.overlay import Layer
    from allod.store.home import Home
    from allod.vault.bundle.content import Catalogue as Brought

MAX_FILE_BYTES: Final = 64 << 20


def readable(name: str, brought: Brought) -> None:
    """Check that a plan could be made with the facts of a catalogue.

    Raises:
        Integrity: a configuration describes no model, contradicts its row, or is not there.

    """
    if not brought.plans:
        return
    from allod.planner.catalogue import Origin  # noqa: PLC0415 (only where there are facts)
    from allod.planner.overlay import layer_of  # noqa: PLC0415

    nobody = Origin(as_of=brought.as_of, digest="", source=brought.source, vouched="")
    try:
        layer_of(brought, nobody)
    except Invalid as error:
        raise Integrity(
            f"catalogue {name} cannot be used", f"{error.what}: {error.why}", "ask its publisher for another"
        ) from error


def counted(brought: Brought) -> str:
    """Say how many facts of each kind a catalogue holds."""
    models = sum(one.facts is not None for one in brought.models.values())
    return (
        f"{len(brought.devices)} devices, {models} models, {len(brought.grids)} grids, "
        f"{len(brought.points)} points, for plans"
    )


def catalogue(home: Home, files: Sequence[Path] = ()) -> Catalogue:
    """Lay what bundles brought to a home, and files, over the shipped catalogue; a home need not be there.

    Raises:
        Integrity: the supply is not what was imported, or a catalogue cannot be used.
        Unavailable: there is no such file.

    """
    from allod.gateway import supply  # noqa: PLC0415 (reads the home)
    from allod.planner.overlay import lay  # noqa: PLC0415

    supplied = supply.supplied(home)
    return lay([*_brought(home, supplied), *(_file(path) for path in files)])


def _brought(home: Home, supplied: Supplied) -> Iterator[Layer]:
    """Read the facts that serve, each with who signed the bundle it came with, and when that came."""
    if not supplied.facts:
        return
    from allod.planner.catalogue import Origin  # noqa: PLC0415

    vouched = vouchers(home, supplied)
    for brought, digest, bundle in supplied.facts:
        if bundle not in vouched:
            raise Integrity(
                f"the catalogue of {brought.as_of} came with a bundle that was never imported",
                f"{bundle} is in no switch of supply/",
                "restore supply/ as a whole from a backup of this home",
            )
        yield _layer(
            brought,
            Origin(
                as_of=brought.as_of, digest=digest, source=brought.source, vouched=vouched[bundle], rank=1
            ),
        )


def vouchers(home: Home, supplied: Supplied) -> dict[str, str]:
    """Return when each bundle that was ever imported came and who had signed it, in words, by its digest."""
    from allod.vault.bundle import switch  # noqa: PLC0415
    from allod.vault.bundle.supply import Supply  # noqa: PLC0415

    if supplied.generation is None:
        return {}
    past = switch.history(Supply(home.root), supplied.generation)
    return {
        one.bundle.digest: f"imported by bundle at {one.at}, signed by {', '.join(one.signers)}"
        for one in reversed(list(past))
        if one.bundle is not None
    }


def _layer(brought: Brought, origin: Origin) -> Layer:
    from allod.planner.overlay import layer_of  # noqa: PLC0415

    try:
        return layer_of(brought, origin)
    except Invalid as error:
        raise Integrity(
            f"the catalogue of {origin.as_of}, {origin.vouched}, cannot be used",
            f"{error.what}: {error.why}",
            "have its publisher send another",
        ) from error


def _file(path: Path) -> Layer:
    from allod.planner.catalogue import Origin  # noqa: PLC0415
    from allod.vault.bundle import content  # noqa: PLC0415
    from allod.vault.bundle.supply import digest_of  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"{path} cannot be read", str(error), "check the path") from error
    if len(raw) > MAX_FILE_BYTES:
        raise Invalid(f"{path} is too large", f"at most {MAX_FILE_BYTES} bytes are read", "check the file")
    brought = content.catalogue(path.name, raw, time.time_ns() // 1_000_000)
    return _layer(
        brought,
        Origin(
            as_of=brought.as_of,
            digest=digest_of(raw),
            source=brought.source,
            vouched=f"file {path.name}, signed by nobody",
            rank=2,
        ),
    )
