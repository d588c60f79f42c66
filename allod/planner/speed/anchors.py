"""Measurements of the organisation's own machines, dated, kept in the home, used by later predictions."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.planner.catalogue import current
from allod.planner.speed.case import Case
from allod.planner.speed.heads import Point, point
from allod.planner.speed.names import engine_of
from allod.store.home import write_file
from allod.vault.bundle.facts import POINT_BOUNDS as BOUNDS

Metric = Literal["tpot_ms", "ttft_ms", "tok_s"]
MAX_BYTES: Final = 4 << 20
MAX_ANCHORS: Final = 10_000


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: device, model and conditions; ``value`` in ms, or tokens a second of one stream."""

    device: str
    devices: int
    model: str
    quant: str
    engine: str
    concurrency: float
    isl: float
    osl: float
    metric: Metric
    value: float
    at: date
    source: str


def check(metric: str, value: float) -> None:
    """Check that a measurement can be meant.

    Raises:
        Invalid: it is no finite number within the bounds of its unit.

    """
    low, high = BOUNDS[metric]
    if not math.isfinite(value) or not low <= value <= high:
        raise Invalid(
            f"{metric} is {value}",
            f"expected a number from {low:g} to {high:g}",
            "give what was measured, in the unit the option names",
            param=metric,
        )


def point_of(anchor: Anchor, case: Case) -> Point:
    """Return the measurement as a point of the case's machine and model."""
    local = case.local
    if anchor.metric == "ttft_ms":
        kind, ms = ("prompt" if local else "first"), anchor.value
    else:
        kind, ms = "step", anchor.value if anchor.metric == "tpot_ms" else 1e3 / anchor.value
    measured = msgspec.structs.replace(
        case,
        n=anchor.devices,
        concurrency=max(anchor.concurrency, 1.0),
        isl=anchor.isl,
        osl=anchor.osl,
        engine=engine_of(anchor.engine),
        metric=kind,
    )
    return point(msgspec.to_builtins(anchor), measured, math.log(ms))


def of_cell(anchors: Iterable[Anchor], case: Case) -> list[Point]:
    """Return the measurements of the same device, model, precision and family of engines as points."""
    mine = (case.machine.id, case.subject.id.lower(), case.quant.strip().lower(), case.engine.family)
    return [
        point_of(one, case)
        for one in anchors
        if (one.device, one.model.lower(), one.quant.strip().lower(), engine_of(one.engine).family) == mine
    ]


def read_anchors(path: Path) -> list[Anchor]:
    """Return the anchors kept in a file, none where there is no file.

    Raises:
        Integrity: the file is not what this program writes.

    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    try:
        _check_size(raw)
        held: Mapping[str, Any] = json.loads(raw)
        found = msgspec.convert(held["anchors"], list[Anchor])
        for one in found:
            check(one.metric, one.value)
            _check_conditions(one)
    except (ValueError, KeyError, TypeError, msgspec.ValidationError, Invalid, RecursionError) as error:
        raise Integrity(
            f"the measurements in {path.name} cannot be read",
            str(error)[:200],
            "restore the file, or remove it",
        ) from error
    return found


def _check_size(raw: bytes) -> None:
    if len(raw) > MAX_BYTES:
        raise ValueError(f"{len(raw)} bytes, at most {MAX_BYTES}")


def _check_conditions(one: Anchor) -> None:
    numbers = (one.devices, one.concurrency, one.isl, one.osl)
    if not all(math.isfinite(x) and 0 <= x <= 1e9 for x in numbers) or one.devices < 1:  # noqa: PLR2004
        raise ValueError("conditions out of range")


def supplied() -> list[Anchor]:
    """Return the measurements of the catalogue in use that do not ship, each with its source and who vouches.

    Those of a machine or model that no catalogue knows are left out: nothing can be asked about them.
    """
    held = current()
    out = []
    for one, origin in held.points:
        with contextlib.suppress(Invalid):
            out.append(
                Anchor(
                    device=held.find_device(one.hardware).id,
                    devices=one.devices,
                    model=held.find_model(one.model).id,
                    quant=one.quant,
                    engine=one.engine,
                    concurrency=float(one.concurrency),
                    isl=float(one.isl),
                    osl=float(one.osl),
                    metric=one.metric,
                    value=float(one.value),
                    at=one.as_of,
                    source=f"{one.source}; {origin.vouched}",
                )
            )
    return out


def change_anchors(
    path: Path, change: Callable[[list[Anchor]], list[Anchor]]
) -> tuple[list[Anchor], list[Anchor]]:
    """Change the anchors kept in a file, whole or not at all, one writer at a time; returns before and after.

    Raises:
        Invalid: there are too many.
        Integrity: the file is not what this program writes.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = read_anchors(path)
        after = change(before)
        if len(after) > MAX_ANCHORS:
            raise Invalid(
                f"there are {len(after)} measurements", f"at most {MAX_ANCHORS} are kept", "forget some"
            )
        body = {"format": 1, "anchors": msgspec.to_builtins(after)}
        write_file(path, (json.dumps(body, indent=1, sort_keys=True) + "\n").encode())
    return before, after
