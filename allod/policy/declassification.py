"""The signed way down: what a signer has said need not raise the classes of an application's requests. Pure.

It concerns findings of detectors alone. What an application, a task, a label or the tenant's defaults say of
a request cannot be taken back by it, nor that something could not be scanned.
"""

from __future__ import annotations

from datetime import date
from typing import Final

import msgspec

STATEMENT: Final = "allod declassification v1"


class Declassification(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One signed statement.

    Attributes:
        id: its name.
        app: the application it is for.
        types: types of findings that raise nothing there (``EMAIL``, ``PERSON``), sorted.
        reason: why they need not.
        until: the first UTC day on which it no longer holds.

    """

    id: str
    app: str
    types: tuple[str, ...]
    reason: str
    until: date

    def holds_on(self, day: date) -> bool:
        """Tell whether it holds on a UTC day."""
        return day < self.until
