"""The public measured points that ship: each with its source, its day and the engine version it ran."""

from __future__ import annotations

import csv
import functools
import hashlib
import importlib.resources
from datetime import date

NAME = "measured.csv"


def raw() -> bytes:
    """Return the packaged table."""
    return importlib.resources.files("allod.planner").joinpath("data", NAME).read_bytes()


@functools.cache
def points() -> tuple[dict[str, str], ...]:
    """Return every measured point; a blank is not known."""
    return tuple(csv.DictReader(raw().decode("utf-8").splitlines()))


def digest() -> str:
    """Return the SHA-256 of the table, which the intervals were computed on."""
    return hashlib.sha256(raw()).hexdigest()


def newest() -> date:
    """Return the day of the newest point."""
    return max(date.fromisoformat(row["as_of"]) for row in points())
