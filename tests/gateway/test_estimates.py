"""Per-request estimates in a running gateway: what they move, what they cannot, and what is forgotten."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import Inside, World, chat, config, deployment, until

from allod.gateway import compose, uses
from allod.gateway.estimates import gathering, kept, planning, words
from allod.gateway.estimates.fitting import Fit
from allod.routing.question import Health
from allod.routing.record import holds, read_record
from allod.store.home import load_keys
from gateway.guessing import (
    EASY,
    HARD,
    MODELS,
    TASK,
    cases,
    evaluation,
    explained,
    fitted,
    fleet,
    home,
    planned,
    served,
    setting,
    taught,
)
from gateway.lineages import log_of
from gateway.test_decide import admitted


def record_of(inside: Inside, receipt: str) -> bytes:
    inside.gateway.store.flush()
    row = inside.world.request_row(receipt)
    assert row is not None
    with contextlib.closing(inside.world.tables()) as tables:
        record = tables.record(row.decision)
    assert record is not None
    return record


def notices(inside: Inside) -> list[dict[str, Any]]:
    inside.gateway.store.flush()
    return [leaf["facts"] for leaf in log_of(inside) if leaf.get("subject") == planning.SUBJECT]


# --- what it moves


def test_easy_work_goes_to_the_cheap_and_hard_work_to_the_dear(estimating: World) -> None:
    with Inside(estimating) as inside:
        assert planned(inside), "a start takes what is kept, and does not fit again"
        assert inside.gateway.estimates._fitting is None
        assert {served(inside, EASY.format(n, n + 40)) for n in (200, 300)} == {"cheap"}
        assert {served(inside, HARD.format(n, n + 40)) for n in (200, 300)} == {"dear"}
        answer = inside.chat(chat(TASK, HARD.format(512, 640), stream=False), app="ward")
        record = record_of(inside, answer.receipt)
        assert holds(record), "I8"
        read = read_record(record)
        known = inside.gateway.estimates.used.known
        assert read.estimator == {"day": known.day, "fitted": known.fitted, "format": kept.FORMAT}
        guesses = {one.deployment: one.estimate for one in read.facts.candidates}
        assert guesses["abroad"] is None, "I1: nobody estimates whom the law left out"
        assert guesses["cheap"] is not None
        assert guesses["dear"] is not None
        assert guesses["cheap"].success < guesses["dear"].success
        assert guesses["cheap"].n == 80
        assert served(inside, HARD.format(1, 2), model="cheap") == "cheap", "who names one gets it"
    done = estimating.here("policy", "simulate", "--since", "1h", "--json")
    assert done.returncode == 0, done
    total = json.loads(done.stdout)["totals"]
    assert total["identical"] == total["replayed"] == total["requests"] > 0, "I8: from the records alone"


def test_what_was_fitted_is_in_the_log_before_it_is_used(learned: Path) -> None:
    world = World(learned, (learned / "allod.toml").read_text())
    known = kept.known_of(world.paths)
    assert known is not None
    copy = World(learned, (learned / "allod.toml").read_text())
    copy.key("ward")
    with Inside(copy) as inside:
        (said,) = notices(inside)
        assert said == {
            "estimator": known.estimator, "fitted": known.fitted, "day": known.day, "sources": known.sources,
            "requests": "80", "audits": "0", "tasks": TASK,
        }  # fmt: skip


def test_like_requests_share_a_decision(estimating: World) -> None:
    with Inside(estimating) as inside:
        gateway = inside.gateway
        asked = [
            inside.chat(chat(TASK, EASY.format(n, n), stream=False), app="ward").receipt for n in (7, 7, 7)
        ]
        gateway.store.flush()
        decisions = {row.decision for one in asked if (row := estimating.request_row(one)) is not None}
        assert len(decisions) == 1


def test_only_what_evaluations_ask_is_estimated(estimating: World) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    content = [{"type": "text", "text": HARD.format(1, 2)}, picture]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    with Inside(estimating) as inside:
        for more in ({"messages": [{"role": "user", "content": content}]}, {"tools": [tool]}):
            answer = inside.chat({**chat(TASK, HARD.format(1, 2), stream=False), **more}, app="ward")
            assert answer.status == 200, answer
            assert b"estimator" not in record_of(inside, answer.receipt)
        plain = inside.chat({**chat(TASK, "x", stream=False), "model": "cheap"}, app="ward")
        assert b"estimator" not in record_of(inside, plain.receipt)


# --- what it cannot


APPS = ["ward", "press"]
ODD = st.text(max_size=80)
LOOKS = st.lists(
    st.one_of(
        st.sampled_from(
            [EASY.format(2, 2), HARD.format(2, 2), "easy", "trivial", "impossible", "\x00", "\ud83d\ude00"]
        ),
        ODD,
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(
    parts=LOOKS, floor=st.sampled_from([None, "0.5", "0.93", "0.99"]), app=st.sampled_from(["ward", "press"])
)
def test_I1_no_prompt_moves_the_law_or_the_floor(
    learned: Path, parts: list[str], floor: str | None, app: str
) -> None:
    """Whatever a prompt looks like: who may serve it is who might without it, less who is shut out."""
    decider, fit, key = _standing(learned)
    limit = None if floor is None else Decimal(floor)
    classes = ("phi",) if app == "ward" else ("public",)
    bare = decider.decide(admitted(app=app, task=TASK, classes=classes, min_quality=limit), Health())
    asked: list[str] = []
    watched = _Watched(fit.estimator, asked)
    counts = {(TASK, name): 80 for name in (*MODELS, "abroad")}
    read = words.read_prompt(" ".join(parts), TASK, key)
    pairs = planning.pairs_of(watched, counts, read, planning.able(bare))  # type: ignore[arg-type]
    able = set(planning.able(bare))
    assert set(asked) <= able, "only who could serve it is ever estimated"
    made = decider.estimated(bare, pairs, fit.known.said()) if pairs else bare
    now = set(planning.able(made))
    assert now <= able
    assert made.eligibility is bare.eligibility
    assert holds(made.record)
    for one in read_record(made.record).facts.candidates:
        if limit is not None and one.deployment in now:
            held = one.quality if one.evidence is None else one.evidence.low
            assert held is not None
            assert held >= limit, "by what is proven of the task, never by the look of a prompt"
    again = decider.estimated(bare, pairs, fit.known.said()) if pairs else bare
    assert again is made, "I8: the same record, the same decision"


class _Watched:
    """An estimator that notes whom it is asked about."""

    def __init__(self, own: Any, asked: list[str]) -> None:
        self._own, self._asked = own, asked

    def predict(self, read: Any, names: tuple[str, ...]) -> Any:
        self._asked += names
        return self._own.predict(read, names)


_KNOWN: dict[Path, Any] = {}


def _standing(root: Path) -> Any:
    if root not in _KNOWN:
        one = setting(World(root, (root / "allod.toml").read_text()))
        found = kept.read(one.home)
        assert not isinstance(found, str)
        decider = compose.decider(one.fleet, one.packs, one.supplied.books)
        _KNOWN[root] = decider, Fit(*found), words.key_of(load_keys(one.home).secret)
    return _KNOWN[root]


def test_estimates_of_the_unlawful_are_left_out(learned: Path) -> None:
    decider, fit, key = _standing(learned)
    bare = decider.decide(admitted(app="ward", task=TASK, classes=("phi",)), Health())
    read = words.read_prompt("x", TASK, key)
    counts = {(TASK, name): 80 for name in (*MODELS, "abroad")}
    pairs = planning.pairs_of(fit.estimator, counts, read, ("cheap", "dear", "abroad"))
    made = decider.estimated(bare, pairs, fit.known.said())
    assert [name for name, _ in made.question.estimates] == ["cheap", "dear"]
    assert set(planning.able(made)) <= {"cheap", "dear"}
    few = {**counts, (TASK, "dear"): kept.LEAST - 1}
    assert planning.pairs_of(fit.estimator, few, read, ("cheap", "dear")) == (), "all of them, or nobody"


def test_a_prompt_that_looks_easy_opens_nothing_below_the_floor(learned: Path, tmp_path: Path) -> None:
    shutil.copytree(learned, tmp_path / "home")
    tasks = [{"name": TASK, "estimate": True, "objective": "cheapest", "min_quality": Decimal("0.8")}]
    world = World(tmp_path / "home", config(fleet(), tasks=tasks))
    world.key("ward")
    with Inside(world) as inside:
        assert planned(inside)
        for n in range(4):
            assert served(inside, EASY.format(n, n)) == "dear", "cheap is proven to .4 at this task"


def test_an_estimate_that_breaks_is_none(estimating: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with Inside(estimating) as inside:

        def broken(*_: object) -> None:
            raise ValueError

        monkeypatch.setattr(inside.gateway.estimates.used.estimator, "predict", broken)
        assert served(inside, HARD.format(1, 2)) == "cheap", "as without estimates"


# --- damage, change, erasure


def _flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(bytes(body))


def _bin(root: Path) -> Path:
    return next(path for path in (root / "estimates").glob("*.bin") if len(path.stem) == 16)


@pytest.mark.parametrize(
    "damage",
    [
        lambda root: _flip(_bin(root)),
        lambda root: _bin(root).write_bytes(_bin(root).read_bytes()[:100]),
        lambda root: _bin(root).unlink(),
        lambda root: (root / "estimates" / "estimator.json").write_bytes(b"{}"),
        lambda root: (root / "estimates" / "estimator.json").write_bytes(b"\xff" * 50),
    ],
    ids=["flipped", "cut", "gone", "no-form", "not-json"],
)
def test_a_damaged_estimator_is_dropped_and_told(estimating: World, damage: Callable[[Path], None]) -> None:
    damage(estimating.root)
    one = setting(estimating)
    found = kept.read(one.home)
    assert isinstance(found, str)
    assert found
    said = explained(estimating, "--prompt", HARD.format(1, 2))
    assert said["plan"] == ["cheap", "dear"]
    assert said["estimates"]["used"] is False
    assert said["estimates"]["why"] == found


def test_after_damage_it_is_as_without_until_it_is_fitted_anew(estimating: World) -> None:
    _flip(_bin(estimating.root))
    with Inside(estimating) as inside:
        used = fitted(inside)
        until(lambda: planned(inside))
        assert "dropped" in notices(inside)[-2]
        assert notices(inside)[-1]["estimator"] == used.known.estimator
        assert served(inside, HARD.format(200, 240)) == "dear"
    assert not isinstance(kept.read(estimating.paths), str), "and what was fitted is kept"


def test_damaged_words_are_told_and_nothing_is_estimated(estimating: World) -> None:
    _flip(next((estimating.root / "evaluations").glob("*.words")))
    with Inside(estimating) as inside:
        assert not planned(inside)
        assert served(inside, HARD.format(1, 2)) == "cheap"
    assert kept.known_of(estimating.paths) is None, "what it rested on is not there any more"


def test_what_cannot_be_kept_is_not_used(tmp_path: Path) -> None:
    world = home(tmp_path)
    taught(world, cases(80))
    (world.root / "estimates").write_bytes(b"in the way")
    with Inside(world) as inside:
        until(inside.gateway.estimates._fitting.done)
        assert inside.gateway.estimates.used is None
        assert served(inside, HARD.format(1, 2)) == "cheap"
        assert all(set(said) == {"dropped"} for said in notices(inside)), "nothing was fitted"


def test_damaged_audits_are_told_and_begin_anew(estimating: World) -> None:
    (estimating.root / "estimates" / "audits.bin").write_bytes(b"\x00 no evidence")
    one = setting(estimating)
    with contextlib.closing(estimating.tables()) as tables:
        gathered = gathering.gather(one.home, one.proven, tables, datetime.now(UTC).date())
    assert len(gathered.evidence) == 80, "evaluations are read all the same"
    assert gathered.trouble[0].startswith("audits.bin: ")
    with Inside(estimating) as inside:
        assert planned(inside)


def test_an_evaluation_that_is_dropped_is_not_estimated_by(estimating: World) -> None:
    name = uses.uses(estimating.paths)[0].evaluation
    uses.drop(estimating.paths, name)
    assert "other evaluations count now" in explained(estimating, "--prompt", "x")["estimates"]["why"]
    with Inside(estimating) as inside:
        assert not planned(inside)
        assert served(inside, HARD.format(1, 2)) == "cheap"
        assert notices(inside)[-1] == {"dropped": "other evaluations count now"}
    assert kept.known_of(estimating.paths) is None
    assert not list((estimating.root / "estimates").glob("*.bin"))


def test_what_another_model_learned_is_not_used(estimating: World) -> None:
    own = [deployment(name, "echo-2", quality={"default": Decimal("0.9")}) for name in MODELS]
    estimating.write(config(own, tasks=[{"name": TASK, "estimate": True}]))
    with Inside(estimating) as inside:
        assert not planned(inside)
    assert kept.known_of(estimating.paths) is None


def test_an_evaluation_that_grows_too_old_is_used_no_more(estimating: World) -> None:
    one = setting(estimating)
    with Inside(estimating) as inside:
        estimates = inside.gateway.estimates
        assert planned(inside)
        until_day = max(line.until for line in one.proven.lines if line.until is not None)
        inside._loop.call_soon_threadsafe(estimates._another, until_day)  # type: ignore[union-attr]
        until(lambda: not planned(inside))
        assert served(inside, HARD.format(1, 2)) == "cheap"


def test_what_was_erased_is_forgotten(tmp_path: Path) -> None:
    world = home(tmp_path)
    some = cases(80)
    with Inside(world) as inside:
        receipts = [inside.chat(chat("cheap", "x", stream=False), app="ward").receipt for _ in range(3)]
        inside.gateway.store.flush()
    found = evaluation(some)
    items = tuple(
        msgspec.structs.replace(
            item, receipt=receipts[int(item.case[1:])] if item.case in {"c0", "c1"} else None
        )
        for item in found.items
    )
    name = taught(world, some, items=items).digest
    with Inside(world) as inside:
        fitted(inside)
    before = kept.read(world.paths)
    assert not isinstance(before, str)
    assert len(before[1].evidence) == 80
    assert world.here("receipt", "erase", receipts[0]).returncode == 0
    with Inside(world) as inside:
        fitted(inside)
        assert any("1 requests" in said.get("dropped", "") for said in notices(inside))
    after = kept.read(world.paths)
    assert not isinstance(after, str)
    assert len(after[1].evidence) == 79
    assert set(words.known(world.paths, name)) == {case.id for case in some} - {"c0"}
    assert len(list((world.root / "estimates").glob("*.bin"))) == 1, "and the older weights are gone"


def test_I9_what_a_crash_left_half_written_is_gone_with_the_next_start(estimating: World) -> None:
    """Hashed words are content: a file of them that nothing names would outlive every erasure."""
    folder, evaluated = estimating.root / "estimates", estimating.root / "evaluations"
    left = [folder / "0123456789abcdef.bin.new", folder / "audits.bin.new", evaluated / "0123.words.new"]
    for path in left:
        path.write_bytes(b"half")
        os.utime(path, (1, 1))
    (evaluated / "4567.words.new").write_bytes(b"half")  # another process may be writing it
    with Inside(estimating) as inside:
        assert planned(inside)
        assert not any(path.exists() for path in left)
        assert (evaluated / "4567.words.new").exists()
