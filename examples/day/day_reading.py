"""What the day came to: the gateway's public log, beside what the recorded outcomes say of each answer.

The log is read over HTTP, as anybody may read it who has the address. Spend, rules, bounds and events come
from it. Only the quality comes from the outcomes, which the gateway never saw.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from day_fleet import ROLES, prices
from day_outcomes import Outcomes
from day_traffic import Asked, fetch

from allod.receipts.tiles import WIDTH, Tile, parse_bundle, tile_path

_SETTLE_S: Final = 1.0
_TRIES: Final = 10
_OK: Final = 200
_MILLION: Final = Decimal(1_000_000)


class Row(msgspec.Struct, kw_only=True):
    """One request of the day as it ended.

    Attributes:
        at: hour of the day, with its fraction. stream: its name. status: of HTTP, as the client saw it.
        right, reference_right: quality of what was delivered, and of what the reference would have said.
        spent, audit, reference: USD for its steps, for its audit, and what the reference alone would cost.
        checks: of ``spent``, USD for answers that were not delivered. by: whose answer was delivered.
        rule, bound, n: in force or to be proven as its receipt says; ``of`` is which rule the bound is of,
            ``why`` a word for why no rule was used although one is open.
        audited: whether it was drawn. against: its reference, which law chose.

    """

    at: float
    stream: str
    status: int
    right: float
    reference_right: float
    spent: float
    checks: float
    audit: float
    reference: float
    by: str
    rule: str
    of: str
    bound: float
    n: int
    why: str
    audited: bool
    against: str

    @property
    def answered(self) -> bool:
        """Whether there was an answer."""
        return self.status == _OK


class Moved(msgspec.Struct, kw_only=True):
    """Something that moved: when (hour of the day), for whom, and what the log says of it.

    ``stray``: it is of a promise with another reference than the stream's, as detection found something in
    the text that keeps a request in the bloc.
    """

    at: float
    stream: str
    what: str
    said: str
    stray: bool = False


async def leaves(port: int, until: Sequence[str]) -> list[dict[str, Any]]:
    """Read the published leaves; only what is used of each is kept.

    Args:
        port: the gateway's.
        until: receipts whose ends must be there; an end is published a moment after its answer.

    """
    for _ in range(_TRIES):
        await asyncio.sleep(_SETTLE_S)
        out = await _read(port)
        if {leaf["id"] for leaf in out if leaf["kind"] == "terminal"}.issuperset(until):
            return out
    raise SystemExit("the log lacks the end of a request that was answered")


async def _read(port: int) -> list[dict[str, Any]]:
    _, checkpoint = await fetch(port, "/log/checkpoint")
    size = int(checkpoint.split(b"\n")[1])
    out = []
    for n in range(-(-size // WIDTH)):
        tile = Tile(level=None, n=n, width=min(WIDTH, size - n * WIDTH))
        _, body = await fetch(port, f"/log/{tile_path(tile)}")
        for entry in parse_bundle(body):
            leaf = json.loads(entry)
            if leaf["kind"] != "intent":
                out.append({name: leaf[name] for name in _USED if name in leaf})
    return out


_USED: Final = (
    "kind", "subject", "facts", "detail", "time", "id", "parents", "status", "deployment", "cost_usd",
    "total_usd", "steps", "answer_from", "floor",
)  # fmt: skip


def rows(
    asked: Sequence[Sequence[Asked]], log: Sequence[Mapping[str, Any]], outcomes: Outcomes, dearer_from: int
) -> list[Row]:
    """Put each request together with its end, its audit, and the truth."""
    ends = {leaf["id"]: leaf for leaf in log if leaf["kind"] == "terminal"}
    listed = {step[0] for leaf in ends.values() for step in leaf.get("steps", ())}
    audits: dict[str, Decimal] = defaultdict(Decimal)
    for leaf in ends.values():
        if leaf.get("parents") and leaf["id"] not in listed:
            audits[leaf["parents"][0]] += Decimal(leaf.get("cost_usd", "0"))
    out = []
    for hour in asked:
        for n, one in enumerate(hour):
            end = ends.get(one.receipt, {})
            out.append(_row(one, one.hour + n / len(hour), end, audits[one.receipt], outcomes, dearer_from))
    return out


def _row(
    one: Asked, at: float, end: Mapping[str, Any], audit: Decimal, outcomes: Outcomes, dearer_from: int
) -> Row:
    floor, steps = end.get("floor", {}), end.get("steps", ())
    against = floor.get("reference", one.stream.reference)
    reference = outcomes.answers[one.id, ROLES[against].model]
    rates = prices(against, dearer=one.hour >= dearer_from)
    alone = (rates[0] * reference.input_tokens + rates[1] * reference.output_tokens) / _MILLION
    spent = Decimal(end.get("total_usd", end.get("cost_usd", "0")))
    mine = sum((Decimal(step[3]) for step in steps if step[0] == end.get("answer_from")), Decimal(0))
    return Row(
        at=at,
        stream=one.stream.name,
        status=one.status,
        right=outcomes.right(one.id, one.key),
        reference_right=outcomes.right(one.id, reference.key),
        spent=float(spent),
        checks=float(spent - mine) if steps else 0.0,
        audit=float(audit),
        reference=float(alone),
        by=end.get("deployment", "nobody"),
        rule=floor.get("rule", "none"),
        of=floor.get("of", ""),
        bound=float(floor.get("bound", "-1")),
        n=int(floor.get("n", "0")),
        why=floor.get("why", ""),
        audited=floor.get("audit") == "yes",
        against=against,
    )  # fmt: skip


def logged(log: Sequence[Mapping[str, Any]]) -> Decimal:
    """Add up what the log says was spent, in USD: every end's own cost, so nothing twice."""
    return sum((Decimal(one.get("cost_usd", "0")) for one in log if one["kind"] == "terminal"), Decimal(0))


def moved(
    asked: Sequence[Sequence[Asked]], log: Sequence[Mapping[str, Any]], began_ms: Sequence[float]
) -> list[Moved]:
    """Read what moved from the log's notices: promises begun, rules opened, shut and set aside."""
    by_receipt = {one.receipt: one.stream for hour in asked for one in hour}
    policies = {
        leaf["floor"]["policy"]: (by_receipt[leaf["id"]], leaf["floor"]["reference"])
        for leaf in log
        if leaf["kind"] == "terminal" and "policy" in leaf.get("floor", {}) and leaf["id"] in by_receipt
    }
    out = []
    for leaf in log:
        facts = leaf.get("facts", {})
        if leaf.get("subject") not in {"promise", "audit"} or not (leaf.get("detail") or "ladder" in facts):
            continue
        if facts["policy"] not in policies:
            continue  # of a request that had no end in the log
        stream, reference = policies[facts["policy"]]
        what = "begun" if "ladder" in facts else "blind" if "missing" in facts else facts.get("event", "shut")
        said = leaf.get("detail", "")
        if what == "begun":
            said = f"{facts['base']} with {facts['second'] or 'nobody'}, against {facts['reference']}"
        at = _hour(datetime.fromisoformat(leaf["time"]).timestamp() * 1000, began_ms)
        stray = reference != stream.reference
        out.append(Moved(at=at, stream=stream.name, what=what, said=said, stray=stray))
    return out


def _hour(at_ms: float, began_ms: Sequence[float]) -> float:
    """Return the hour of the day a moment fell into; hours last as long as their requests took."""
    hour = max((n for n, began in enumerate(began_ms[:-1]) if began <= at_ms), default=0)
    length = max(1.0, began_ms[hour + 1] - began_ms[hour])
    return hour + min(0.999, max(0.0, (at_ms - began_ms[hour]) / length))
