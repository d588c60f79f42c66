"""How long leaves are kept: what ``[log]`` says of it, what the packs in force demand, what is published."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Invalid
from allod.receipts.ids import is_id
from allod.receipts.pruning import LEAST_DAYS, MAX_BECAUSE, Hold, PruningPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from allod.gateway.toml import Table
    from allod.policy.forms import Pack

MAX_DAYS: Final = 36_600


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says.

    Attributes:
        days: leaves older than that may be pruned; 0: nothing is.
        because: why fewer than 184 days are enough, to be published.
        ledger: whether ledger rows of pruned requests go with them.
        holds: legal holds.

    """

    days: int = 0
    because: str = ""
    ledger: bool = False
    holds: tuple[Hold, ...] = ()

    def policy(self, origin: str) -> PruningPolicy | None:
        """Return the policy of a log, None where nothing is pruned."""
        if not self.days:
            return None
        return PruningPolicy(origin=origin, retain_days=self.days, because=self.because, ledger=self.ledger)


def read_retention(t: Table) -> Retention:
    """Read ``retain_days``, ``retain_because``, ``prune_ledger`` and ``holds`` of ``[log]``.

    Raises:
        Invalid: fewer days than six months have, without a reason; a hold that names no receipt's id.

    """
    found = Retention(
        days=t.whole("retain_days", 0, 0, MAX_DAYS),
        because=(t.text("retain_because") or "").strip(),
        ledger=t.flag("prune_ledger", default=False),
        holds=tuple(_hold(row) for row in t.list_of("holds", "hold")),
    )
    if 0 < found.days < LEAST_DAYS and not found.because:
        raise Invalid(
            f"{t.name('retain_days')} is too short",
            f"got {found.days} days, expected at least {LEAST_DAYS}: Article 26(6) of the AI Act has logs of "
            "high-risk uses kept for six months",
            "raise it, or say with retain_because why this log needs less; that is published",
            param=t.name("retain_days"),
        )
    if len(found.because) > MAX_BECAUSE or not found.because.isprintable():
        raise Invalid(
            f"{t.name('retain_because')} is too long or holds a control character",
            f"got {len(found.because)} characters, expected at most {MAX_BECAUSE} in one line",
            param=t.name("retain_because"),
        )
    return found


def judged(retention: Retention, law: Iterable[Pack]) -> None:
    """Hold the days against what the packs in force demand.

    Raises:
        Invalid: a pack wants records kept longer.

    """
    if not retention.days:
        return
    for pack in law:
        for duty in pack.obligations:
            if duty.keep_days > retention.days:
                raise Invalid(
                    "log.retain_days is shorter than a pack in force demands",
                    f"got {retention.days} days, expected at least {duty.keep_days} by pack {pack.id}: "
                    f"{duty.article}",
                    "raise it, or leave it out: nothing is pruned then",
                    param="log.retain_days",
                )


def _hold(t: Table) -> Hold:
    since, receipts = t.day("since"), t.texts("receipts") or ()
    hold = Hold(
        reason=t.required("reason"), since_ms=None if since is None else _ms(since), receipts=receipts
    )
    t.done()
    wrong = next((name for name in receipts if not is_id(name)), None)
    if wrong is not None:
        raise Invalid(
            f"{wrong[:60]!r} is no receipt", "a hold names receipts by their ids", param=t.name("receipts")
        )
    return hold


def _ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
