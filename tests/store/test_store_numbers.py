"""Numbers of ends per deployment, and the clock: recovered from the log, gaps and jumps back are named."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from store_worlds import AT, QUICK, Requests, fresh, patient, reopen, sound

from allod.domain.errors import Unavailable
from allod.receipts.leaves import IntentFacts, TerminalFacts, intent_leaf, terminal_leaf
from allod.receipts.merkle import leaf_hash
from allod.store.home import Home
from allod.store.numbers import numbered
from allod.store.store import Store


def numbers(store: Store) -> list[tuple[str, int]]:
    store.flush()
    leaves = (store.reader.leaf(i) for i in range(store.reader.size()))
    return [found for leaf in leaves if (found := numbered(leaf)) is not None]


def ended(ask: Requests, deployment: str | None) -> str:
    receipt = ask.begin()
    ask.end(receipt, deployment=deployment, **({} if deployment else {"status": "refused", "evidence": None}))
    return receipt


def test_ends_are_numbered_per_deployment_without_gaps_across_starts_and_crashes(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    ask = Requests(store)
    for name in ("a", "b", "a", None, "a"):
        ended(ask, name)
    assert numbers(store) == [("a", 1), ("b", 1), ("a", 2), ("a", 3)]
    begun = ask.begin()
    ask.attempt(begun, deployment="b")
    while store._journal.spare is None:  # a process that dies makes no segment afterwards
        time.sleep(0.001)
    store._writer.dead = "cut"  # no orderly end: the next start ends what was in flight
    store._writer.ring()
    store._writer._thread.join(10)
    store._lock.release()
    store = reopen(home)
    ended(Requests(store), "a")
    assert numbers(store)[4:] == [("b", 2), ("a", 4)]
    store.close()
    (home.log / "numbers").unlink()
    store = reopen(home)
    ended(Requests(store), "b")
    assert numbers(store)[-1] == ("b", 3)
    store.close()
    sound(home)


def test_numbers_go_on_over_many_segments_and_without_their_note(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    ask = Requests(store)
    for n in range(300):
        patient(ended, ask, "ab"[n % 2])
    store.close()
    sound(home)
    for damage in (lambda data: data[:-2], lambda data: data.replace(b'"a":150', b'"a":151'), lambda _: b""):
        path = home.log / "numbers"
        path.write_bytes(damage(path.read_bytes()))
        store = reopen(home)
        ended(Requests(store), "a")
        found = [n for name, n in numbers(store) if name == "a"]
        store.close()
        assert found == list(range(1, len(found) + 1))
    sound(home)


def test_a_name_in_escapes_is_read_as_it_was_written() -> None:
    facts = IntentFacts(
        id="r", at_ms=AT, tenant="t", app="a", surface="chat", request="x", classes=(), pack="p", fleet="f",
        decision="d",
    )  # fmt: skip
    written, first = intent_leaf(facts)
    for name in ('quo"ted', "back\\slash", "übung", 'a","seq":9,"x":"'):
        end = TerminalFacts(id="r", at_ms=AT, status="answered", deployment=name, seq=3)
        assert numbered(terminal_leaf(written, leaf_hash(first), end)) == (name, 3)
    assert numbered(first) is None


# --- the clock


def timed(home: Home, clock_ms: int, back_ms: int | None = 60_000) -> Store:
    settings = msgspec.structs.replace(QUICK, clock_back_ms=back_ms)
    return Store.open(home, settings=settings, clock=lambda: clock_ms)


def test_a_clock_that_went_back_is_named_at_the_start_and_nothing_is_recorded(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    Requests(store).whole()
    store.close()
    with pytest.raises(Unavailable, match="the clock went back") as told:
        timed(home, AT - 100_000)
    assert "expected no earlier than" in told.value.why
    timed(home, AT - 10_000).close()
    timed(home, AT - 100_000, back_ms=200_000).close()
    sound(home)


def test_a_clock_that_goes_back_while_it_runs_is_named_and_the_request_refused(tmp_path: Path) -> None:
    home, store = fresh(tmp_path / "home")
    store.close()
    store = timed(home, AT)
    ask = Requests(store)
    ask.whole()
    with pytest.raises(Unavailable, match="the clock went back"):
        ask.begin(at_ms=AT - 70_000)
    ask.begin(at_ms=AT - 50_000)
    ask.whole()
    store.close()
    sound(home)
