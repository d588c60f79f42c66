"""What is measured decides by its bound, for as long as it holds, and is in the record (I8).

What fits and what is spoken decides too, where it is known.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_worlds import AT, deployment, fleet, question

from allod.domain.facts import Fact
from allod.domain.fleet import CapabilityEvidence, Task
from allod.domain.request import Sizes
from allod.receipts.canonical import parse
from allod.routing.capability import Finding, Published, evidence
from allod.routing.plan import exclusions, plan
from allod.routing.question import facts_of, quality_of
from allod.routing.record import decision_record, holds, read_record, write_record
from allod.routing.simulate import past_of
from allod.routing.snapshot import read_snapshot, snapshot_of

TODAY = datetime.fromtimestamp(AT // 1000, UTC).date()
KNOWN = CapabilityEvidence(
    value=Decimal("0.93"), low=Decimal("0.87"), high=Decimal("0.97"), basis="measured", cases=Decimal(120),
    evaluations=("sha256:ab",), until=TODAY + timedelta(days=9),
)  # fmt: skip
DAYS = st.integers(1, 400).map(lambda n: TODAY + timedelta(days=n))
FINDINGS = st.lists(
    st.builds(
        Finding, successes=st.floats(0, 500), failures=st.floats(0, 500),
        evaluation=st.sampled_from("abcdef"), at=st.just("2026-11-20T08:00:00Z"), until=DAYS,
    ),
    max_size=6,
)  # fmt: skip
SHARES = st.decimals(0, 1, places=3)


def rules_of(made: Any, name: str) -> dict[str, Any]:
    return {rule.id: rule for one in exclusions(made) if one.deployment == name for rule in one.rules}


def test_the_floor_is_held_against_the_bound_and_order_follows_what_is_expected() -> None:
    measured = deployment("measured", quality={"default": Decimal("0.5")}, capability={"t": (KNOWN,)})
    declared = deployment("declared", quality={"default": Decimal("0.9")})
    of = fleet(measured, declared, tasks=(Task(name="t"),), objective="best")
    below = plan(question(of, task="t", min_quality=Decimal("0.88")))
    assert [a.deployment for a in below.attempts] == ["declared"], "0.93 is expected, but only 0.87 is known"
    rule = rules_of(below, "measured")["quality.floor"]
    assert rule.got == (
        "0.93 expected, at least 0.87 with 95 % from 120 cases (measured), evaluation sha256:ab"
    )
    assert rule.required == "at least 0.88, with 95 %"
    met = plan(question(of, task="t", min_quality=Decimal("0.87")))
    assert [a.deployment for a in met.attempts] == ["measured", "declared"]
    assert met.attempts[0].quality == Decimal("0.93")
    elsewhere = plan(question(of, min_quality=Decimal("0.6")))
    assert [a.deployment for a in elsewhere.attempts] == ["declared"], (
        "what is known of a task is of it alone"
    )


def test_what_is_known_of_the_task_comes_before_what_is_known_of_none() -> None:
    declared = {"default": Decimal("0.1"), "t": Decimal("0.2")}
    one = deployment("d", quality=declared, capability={"default": (KNOWN,)})
    assert quality_of(one, "t", TODAY) == (Decimal("0.2"), "t", None)
    assert quality_of(one, "u", TODAY) == (Decimal("0.93"), "default", KNOWN)
    later = TODAY + timedelta(days=9)
    assert quality_of(one, "u", later) == (Decimal("0.1"), "default", None), "it holds no more"


@settings(max_examples=40)
@given(SHARES | st.none(), FINDINGS, st.integers(0, 500))
def test_evidence_is_by_stretches_of_days_that_follow_one_another(
    declared: Decimal | None, findings: list[Finding], days: int
) -> None:
    found = evidence(declared, (), findings, TODAY)
    assert len(found) == len({one.until for one in findings})
    untils = [one.until for one in found]
    assert None not in untils, "without publications what is measured comes to an end"
    assert untils == sorted(set(untils))  # type: ignore[type-var]
    for one in found:
        assert 0 <= one.low <= one.value <= one.high <= 1
        assert one.until is not None
        left = [f for f in findings if f.until >= one.until]
        assert set(one.evaluations) == {f.evaluation for f in left}
    day = TODAY + timedelta(days=days)
    now = next((one for one in found if one.until is not None and day < one.until), None)
    fresh = evidence(declared, (), findings, day)
    assert (fresh[0] if fresh else None) == now, "a start on that day says the same"


def test_more_cases_say_more_and_publications_outlive_them() -> None:
    published = Published(
        benchmark="b", model="m", score=Decimal("0.9"), source="s", retrieved="2026-11-01", items=100
    )
    until = TODAY + timedelta(days=10)
    few, many = (Finding(successes=9 * n, failures=n, evaluation="e", at="x", until=until) for n in (1, 20))
    lows = [evidence(None, (published,), (one,), TODAY)[0].low for one in (few, many)]
    assert lows[0] < lows[1] < Decimal("0.9")
    last = evidence(None, (published,), (many,), TODAY)[-1]
    assert (last.basis, last.until, last.cases) == ("published", None, 0)


def test_I8_a_record_with_evidence_is_decided_again_and_one_without_stays_as_it_was() -> None:
    measured = deployment("measured", capability={"default": (KNOWN,)}, context_tokens=4000)
    of = fleet(measured, deployment("plain"))
    asked = question(of, sizes=Sizes(body_bytes=9, input_tokens=9000, expected_tokens=(("measured", 3500),)))
    record = decision_record(asked, plan(asked))
    assert holds(record)
    recorded = read_record(record)
    assert recorded.facts == facts_of(asked)
    assert write_record(recorded) == record
    assert past_of(record).facts.candidates[0].evidence == KNOWN
    one, other = parse(record, what="it")["facts"]["candidates"]
    assert one["expected_tokens"] == 3500
    assert one["evidence"]["until"] == f"{KNOWN.until}"
    assert "evidence" not in other
    assert "expected_tokens" not in other
    lies = record.replace(b'"low":"0.87"', b'"low":"0.10"')
    assert lies != record
    assert holds(lies), "no floor was asked for"
    floor = question(of, min_quality=Decimal("0.8"))
    strict = decision_record(floor, plan(floor))
    assert holds(strict)
    assert not holds(strict.replace(b'"low":"0.87"', b'"low":"0.10"'))


def test_a_snapshot_keeps_evidence_and_older_ones_are_read() -> None:
    of = fleet(deployment("d", capability={"t": (KNOWN,)}, languages=Fact(value=("de",))))
    kept = snapshot_of(of)
    assert read_snapshot(kept.body, kept.digest) == of
    assert snapshot_of(fleet(deployment("d"))).digest != kept.digest
    body = msgspec.json.decode(snapshot_of(fleet(deployment("d"))).body)
    for name in ("capability", "languages"):
        del body["fleet"]["deployments"]["d"][name]
    raw = msgspec.json.encode(body)
    from allod.receipts.commitment import digest

    assert read_snapshot(raw, digest(raw)) == fleet(deployment("d"))


@pytest.mark.parametrize(("expected", "fits"), [(3999, True), (4000, True), (4001, False), (None, True)])
def test_what_is_learned_of_a_tokenizer_comes_before_the_rule_of_thumb(
    expected: int | None, fits: bool
) -> None:
    of = fleet(deployment("d", context_tokens=4000))
    known = () if expected is None else (("d", expected),)
    made = plan(question(of, sizes=Sizes(body_bytes=9, input_tokens=6000, expected_tokens=known)))
    assert bool(made.attempts) is fits
    if not fits:
        rule = rules_of(made, "d")["capability.context"]
        assert rule.required.startswith("room for 4001 tokens of input: with 95 % no more")


SPEAKS = Fact(value=("de", "uk"))


@pytest.mark.parametrize(
    ("need", "task", "able"),
    [
        ("language:de", None, ["german", "silent"]),
        ("language:ja", None, ["silent"]),
        ("script:Cyrl", None, ["german", "silent"]),
        ("language:de", "strict", ["german"]),
        ("language:ja", "strict", []),
        ("language:unknown", "strict", []),
        ("text", "strict", ["german", "silent", "over"]),
    ],
)
def test_a_language_goes_to_those_who_take_it_and_unknown_excludes_only_if_it_must(
    need: str, task: str | None, able: list[str]
) -> None:
    of = fleet(
        deployment("german", languages=SPEAKS),
        deployment("silent"),
        deployment(
            "over", languages=Fact(value=("en",), expires=date(2026, 1, 1) if need == "text" else None)
        ),
        tasks=(Task(name="strict", require_language=True),),
    )
    made = plan(question(of, needs=tuple(sorted({need, "text"})), task=task))
    assert sorted(a.deployment for a in made.attempts) == sorted(able)
    for one in exclusions(made):
        assert [rule.id for rule in one.rules] == ["capability.language"]
        assert one.rules[0].remedy


def test_a_fact_about_languages_that_is_over_counts_as_unknown() -> None:
    over = Fact(value=("en",), expires=date(2026, 1, 1))
    of = fleet(deployment("d", languages=over), tasks=(Task(name="s", require_language=True),))
    asked = {"needs": ("language:de", "text")}
    assert plan(question(of, **asked)).attempts
    assert not plan(question(of, task="s", **asked)).attempts
