"""Which catalogue a plan was made with, and who vouches for the rows it used: for all commands that plan."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from allod.gateway.cli.lines import say_folded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

    from allod.planner.catalogue import Catalogue, Device, GridRow, ModelCard, Origin

    Row = Device | ModelCard | GridRow

MOST: Final = 6
"""So many rows are named in a line."""

catalogue_option = click.option(
    "--catalogue",
    "catalogues",
    multiple=True,
    type=click.Path(path_type=Path),
    help="facts to lay over the catalogue, signed by nobody; may be repeated",
)
"""``--catalogue FILE`` of the groups whose commands plan."""


def reading(files: Sequence[Path] = ()) -> AbstractContextManager[None]:
    """Plan with what serves in the home, and files, over what ships; read when it is first needed."""
    from allod.planner.catalogue import using  # noqa: PLC0415 (only when it runs)

    def read() -> Catalogue:
        from allod.gateway import compose, planfacts  # noqa: PLC0415
        from allod.store.home import Home  # noqa: PLC0415

        return planfacts.catalogue(Home(compose.home_root()), files)

    return using(read)


def _kind(row: Row) -> tuple[str, str]:
    kind = {"Device": "device", "ModelCard": "model"}.get(type(row).__name__, "grid")
    return kind, getattr(row, "id", "") or getattr(row, "iso3", "")


def _named(origin: Origin) -> dict[str, Any]:
    return {
        "as_of": origin.as_of.isoformat(),
        "digest": origin.digest or None,
        "source": origin.source,
        "vouched": origin.vouched,
    }


def as_data(*rows: Row | None) -> dict[str, Any]:
    """Return the catalogue in use for a program: layers, the rows that were used, those that are not."""
    from allod.planner.catalogue import current  # noqa: PLC0415 (only when it runs)

    held = current()
    used = {id(one): one for one in rows if one is not None}.values()
    top = held.layers[0]
    return {
        "as_of": top.as_of.isoformat(),
        "digest": top.digest,
        "vouched": top.vouched,
        "layers": [_named(one) for one in held.layers],
        "rows": [
            {
                "kind": _kind(one)[0],
                "id": _kind(one)[1],
                "as_of": one.as_of.isoformat(),
                "source": one.source,
                "digest": held.origin(one).digest or None,
                "vouched": held.origin(one).vouched,
            }
            for one in used
        ],
        "points": len(held.points),
        "not_used": [
            {"kind": one.kind, "id": one.id, "as_of": one.as_of.isoformat(), "vouched": one.origin.vouched}
            | {"instead": one.used.isoformat(), "instead_vouched": one.by.vouched}
            for one in held.passed
        ],
    }


def _covered(row: Row, origin: Origin) -> bool:
    """Tell whether a row that was handed over has the name of a row of the catalogue."""
    from allod.planner.catalogue import BY_HAND, current, spelt  # noqa: PLC0415 (only when it runs)

    kind, name = _kind(row)
    names = {"device": current().device_names, "model": current().model_names}.get(kind, {})
    return origin.vouched == BY_HAND and spelt(name) in names


def lines(*rows: Row | None) -> list[str]:
    """Return it for a person: a line a layer, the used rows that are not shipped, those that are not used."""
    from allod.planner.catalogue import current  # noqa: PLC0415 (only when it runs)

    held = current()
    out = [f"{one.as_of}, {one.digest[:19]}..., {one.vouched}" for one in held.layers]
    for one in {id(one): one for one in rows if one is not None}.values():
        origin = held.origin(one)
        if origin.rank:
            kind, name = _kind(one)
            instead = ", in place of the catalogue's" if _covered(one, origin) else ""
            out.append(f"{kind} {name} of {one.as_of}{instead}: {one.source}; {origin.vouched}")
    for vouched, n in sorted(Counter(origin.vouched for _, origin in held.points).items()):
        out.append(
            f"{n} measured points besides those that ship: {vouched}; `plan speed` uses its own cell's"
        )
    late = [f"{one.kind} {one.id} of {one.as_of} (used: {one.used}, {one.by.vouched})" for one in held.passed]
    if late:
        more = f" and {len(late) - MOST} more" if len(late) > MOST else ""
        out.append(f"rows that are older and not used: {'; '.join(late[:MOST])}{more}")
    return out


def say_catalogue(*rows: Row | None) -> None:
    """Print it."""
    for one in lines(*rows):
        say_folded("catalogue ", one)


def briefly(rows: Iterable[Row | None]) -> list[str]:
    """Return it for a long list of rows: as ``lines``, those that are not shipped counted beyond a few."""
    from allod.planner.catalogue import current  # noqa: PLC0415 (only when it runs)

    held = current()
    brought = [one for one in rows if one is not None and held.origin(one).rank]
    count = Counter(_kind(one)[0] for one in brought[MOST:])
    more = [f"and {n} more of kind {kind} that are not shipped" for kind, n in sorted(count.items())]
    return [*lines(*brought[:MOST]), *more]
