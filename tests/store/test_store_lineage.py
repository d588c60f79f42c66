"""Cascades and answers given again in the log: numbers, crashes, tables, and what verifies a home at rest."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

from store_worlds import Requests as Asked
from store_worlds import final as end_of
from store_worlds import fresh, reopen, sound

from allod.receipts.lineage import family
from allod.store.home import Home
from allod.store.store import Store

NOTHING: dict[str, Any] = {"cost_usd": Decimal(0)}


def cascade(asked: Asked) -> tuple[str, str, str]:
    """One request in two steps; returns all three, the request's first."""
    whole = asked.begin()
    base, strong = asked.begin(parents=(whole,)), asked.begin(parents=(whole,))
    for step in (base, strong):
        asked.attempt(step)
        asked.end(step, (asked.row(step),), cost_usd=Decimal("0.25"))
    steps = ((base, "base", "answered", "0.25"), (strong, "escalation", "answered", "0.25"))
    asked.end(whole, answer_from=strong, steps=steps, total_usd=Decimal("0.5"), **NOTHING)
    return whole, base, strong


def leaves(store: Store, *names: str) -> list[dict[str, Any]]:
    assert store.flush()
    return [end_of(store, name) for name in names]


def test_only_ends_of_a_deployment_that_was_asked_have_a_number(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    try:
        asked = Asked(store)
        names = [*cascade(asked)]
        again = asked.begin(parents=(names[2],))
        asked.end(again, answer_from=names[2], **NOTHING)
        names += [again, asked.whole()]
        ends = leaves(store, *names)
        assert [end.get("seq") for end in ends] == [None, 1, 2, None, 3]
        assert not family(ends).findings
        assert not family(ends).missing
        assert store.database.rows(receipt=names[0]) == []
        assert sum((row.cost_usd for row in store.database.rows()), Decimal(0)) == Decimal("0.75")
        paid = sum((Decimal(str(end["cost_usd"])) for end in ends), Decimal(0))
        assert paid == Decimal("0.75"), "each cost stands in one leaf"
    finally:
        store.close()
    sound(home)
    with_more = reopen(home)
    try:
        assert leaves(with_more, Asked(with_more).whole())[0]["seq"] == 4
    finally:
        with_more.close()
    sound(home)


def test_I3_a_crash_in_the_middle_of_a_cascade_ends_request_and_steps_and_loses_no_parent(
    tmp_path: Path,
) -> None:
    home, store = fresh(tmp_path / "home")
    asked = Asked(store)
    whole = asked.begin()
    base, stuck, lost = (asked.begin(parents=(whole,)) for _ in range(3))
    asked.attempt(base)
    asked.end(base, (asked.row(base),), cost_usd=Decimal("0.25"))
    asked.attempt(stuck)
    shutil.copytree(home.root, tmp_path / "after")  # what a kill -9 at this instant leaves
    store.close()
    again = reopen(Home(tmp_path / "after"))
    try:
        ends = leaves(again, whole, base, stuck, lost)
        assert [end["status"] for end in ends] == ["failed", "answered", "failed", "failed"]
        assert [end.get("reason") for end in ends] == ["gateway-lost", None, "gateway-lost", "gateway-lost"]
        assert [end.get("parents") for end in ends[1:]] == [[whole]] * 3
        assert "steps" not in ends[0]
        assert "answer_from" not in ends[0]
        assert [end.get("seq") for end in ends] == [None, 1, 2, None]
        assert ends[2]["basis"] == "reserved"
    finally:
        again.close()
    sound(Home(tmp_path / "after"))
