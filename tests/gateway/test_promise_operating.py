"""Operating a promise: prices that flip, a reference that is down, and what is told at /metrics."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operators import Region
from world import Inside, Trap, World, chat, config, until

from allod.domain.decision import Candidate
from allod.domain.errors import Invalid
from allod.domain.fleet import CascadeTask, Task
from allod.gateway.cascadefile import cascade
from allod.gateway.promise import measured, rules
from allod.gateway.promise import state as states
from allod.gateway.promise.choosing import choose
from allod.gateway.toml import Table
from gateway.lineages import ends
from gateway.promised import TASK, Minds, ask, begun, fleet, opened, right, running, settled, standing, wrong

# --- a reference that is down


def down(_: int) -> None:
    return None


def test_without_a_fallback_a_reference_that_is_down_fails_the_request(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap) as inside:
        begun(inside, minds)
        minds.says["big-9"] = down
        assert ask(inside, 3).status == 502


@pytest.mark.parametrize("stream", [False, True])
def test_a_named_fallback_answers_marked_and_outside_the_promise(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds, stream: bool
) -> None:
    own = {"fallback": ["abroad", "other", "small"], "audit_share": 1}
    with running(tmp_path, region, trap, own=own) as inside:
        begun(inside, minds)
        before = standing(inside).state.audits
        minds.says["big-9"] = down
        taken = inside.start("/v1/chat/completions", chat(TASK, "twice 4", stream=stream), app="ward")
        body = taken.read()
        assert taken.status == 200
        assert b"8" in body
        assert taken.headers["allod-answer"] == "fallback"
        assert taken.headers["allod-deployment"] == "other"
        one = settled(inside)
        whole, *steps = ends(inside, taken.receipt)
        assert whole["deployment"] == "other"
        assert (whole["floor"]["answer"], whole["floor"]["fallback"]) == ("fallback", "other")
        roles = [(entry[1], entry[2]) for entry in whole["steps"]]
        assert roles == [("reference", "failed"), ("fallback", "refused"), ("fallback", "answered")]
        assert trap.touched == 0, "a fallback is decided by law like anybody"
        assert (one.spent.fallbacks, one.spent.kept_base) == (1, 0)
        assert one.state.audits == before
        assert one.spent.missing == {"reference-failed": 1}, "it was drawn, and could not be held against it"
        assert len(steps) == 3


def test_what_fails_the_check_falls_back_too_and_an_answer_there_is_not_paid_twice(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    own = {"fallback": ["small"], "audit_share": Decimal("0.001")}
    with running(tmp_path, region, trap, own=own) as inside:
        begun(inside, minds)
        opened(inside, "numeric+agreement")
        minds.says |= {"tiny-1": wrong, "big-9": down}
        answer = ask(inside, 9)
        whole, *_ = ends(inside, answer.receipt)
        assert answer.headers["allod-answer"] == "fallback"
        assert whole["deployment"] == "small"
        assert [entry[1] for entry in whole["steps"]].count("fallback") == 0
        assert settled(inside).spent.escalated == 1


def test_a_marked_answer_is_never_given_again_unmarked(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    own = {"fallback": ["other"], "audit_share": Decimal("0.001")}
    with running(tmp_path, region, trap, own=own, cache_s=60) as inside:
        begun(inside, minds)
        assert ask(inside, 1).headers.get("allod-cache") == "hit", "the reference's answer is kept"
        minds.says["big-9"] = down
        for _ in range(2):
            answer = ask(inside, 8)
            assert (answer.headers["allod-answer"], answer.headers.get("allod-cache")) == ("fallback", None)


def test_a_fallback_below_the_floor_of_the_task_is_refused(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    own = {"fallback": ["small"]}
    with running(tmp_path, region, trap, own=own, min_quality=Decimal("0.9")) as inside:
        begun(inside, minds)
        minds.says["big-9"] = down
        assert ask(inside, 3).status == 502


def test_an_open_rule_answers_while_the_reference_rests_though_the_base_is_below_the_floor(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    own = {"audit_share": Decimal("0.001")}
    with running(tmp_path, region, trap, own=own, min_quality=Decimal("0.9")) as inside:
        begun(inside, minds)
        minds.says["big-9"] = down
        until(lambda: ask(inside, 1).status == 503)  # the breaker is open, and nobody else may answer
        opened(inside, "numeric+agreement")
        answer = ask(inside, 6)
        assert answer.status == 200
        assert answer.headers["allod-deployment"] in {"small", "other"}
        minds.says["tiny-1"] = wrong
        assert ask(inside, 6).status in {502, 503}, "what does not agree is answered by nobody"


def read(**own: Any) -> CascadeTask | None:
    return cascade(Table({"cascade": own}, "task.sums"))


def test_what_cannot_be_a_fallback_or_a_margin_is_refused() -> None:
    assert read(fallback=["a"], switch_margin=Decimal("1.5")) == CascadeTask(
        fallback=("a",), switch_margin=Decimal("1.5")
    )
    with pytest.raises(Invalid):
        read(switch_margin=Decimal("0.9"))


# --- who stays chosen

AUTO = Task(name="t", cascade=CascadeTask())
MODELS = {"reference": "ref-1", "alpha": "aaa-1", "beta": "bbb-1", "gamma": "ccc-1"}
FLEET: Any = SimpleNamespace(deployments={name: SimpleNamespace(model=m) for name, m in MODELS.items()})


def candidates(**costs: str) -> list[Candidate]:
    said = {"reference": "10", **costs}
    quality = {name: Decimal("0.9" if name == "reference" else "0.5") for name in said}
    return [
        Candidate(deployment=name, eligible=True, rules=(), cost_usd=Decimal(cost), quality=quality[name])
        for name, cost in said.items()
    ]


def proven(base: str, second: str | None, n: int, open_: int = 0) -> states.Standing:
    who = rules.Parties(reference="reference", base=base, second=second)
    one = states.begin("t", CascadeTask(), ("agreement",), f"sha256:{base}{second}", who, 1)
    wealth = msgspec.structs.replace(one.state.rungs[0].wealth, n=n)
    rung = msgspec.structs.replace(one.state.rungs[0], wealth=wealth)
    one.state = msgspec.structs.replace(one.state, rungs=(rung,), open=open_)
    return one


def chosen(
    known: list[states.Standing], down: tuple[str, ...] = (), task: Task = AUTO, **costs: str
) -> tuple[str | None, str | None]:
    found = choose(task, candidates(**costs), FLEET, known, down)
    assert found is not None
    assert found.reference == "reference"
    return found.base, found.second


def test_prices_that_flip_back_and_forth_do_not_move_who_was_proven() -> None:
    known = [proven("alpha", "beta", 40)]
    assert chosen([], alpha="1", beta="1.1") == ("alpha", "beta")
    for beta in ("0.81", "1.2", "0.9", "3"):
        assert chosen(known, alpha="1", beta=beta) == ("alpha", "beta")
    assert chosen(known, alpha="1", beta="0.79") == ("beta", "alpha"), "more than the margin"
    known.append(proven("beta", "alpha", 5))
    assert chosen(known, alpha="1", beta="0.79") == ("beta", "alpha")
    assert chosen(known, alpha="1", beta="0.9") == ("alpha", "beta"), "who was proven more comes back"
    known.append(proven("beta", "gamma", 5, open_=1))
    assert chosen(known, alpha="1", beta="0.9", gamma="1") == ("beta", "gamma"), "an open rule comes first"


@given(
    costs=st.lists(st.tuples(*[st.decimals("0.01", "9", places=2)] * 3), min_size=1, max_size=12),
    n=st.integers(0, 9),
)
def test_whoever_is_chosen_is_never_dearer_than_the_margin_and_only_moves_for_that(
    costs: list[tuple[Decimal, Decimal, Decimal]], n: int
) -> None:
    known: list[states.Standing] = []
    before: tuple[str | None, str | None] | None = None
    for three in costs:
        named = dict(zip(("alpha", "beta", "gamma"), map(str, three), strict=True))
        now = chosen(known, **named)
        assert now[0] is not None
        cheapest = min(three)
        assert Decimal(named[now[0]]) <= cheapest * AUTO.cascade.switch_margin  # type: ignore[union-attr]
        assert chosen(known, **named) == now
        if before is not None and now != before and all(one.who.base != now[0] for one in known):
            assert any(Decimal(named[name or ""]) > cheapest for name in before)
        if all((one.who.base, one.who.second) != now for one in known):
            known.append(proven(*now, n))  # type: ignore[arg-type]
        before = now


def test_who_is_down_gives_way_and_comes_back_but_not_at_the_price_of_a_weaker_check() -> None:
    known = [proven("alpha", "beta", 40)]
    costs = {"alpha": "1", "beta": "1.1", "gamma": "1.2"}
    assert chosen(known, ("alpha",), **costs) == ("beta", "gamma")
    assert chosen(known, (), **costs) == ("alpha", "beta")
    assert chosen(known, ("reference",), **costs) == ("alpha", "beta"), "the reference is no weather"
    assert chosen(known, ("alpha", "gamma"), **costs) == ("alpha", "beta"), "nobody is left to agree"
    named = msgspec.structs.replace(AUTO, cascade=CascadeTask(base="alpha"))
    assert chosen([], ("alpha",), named, **costs) == ("alpha", "beta"), "who is named stays"


def test_what_is_no_longer_lawful_or_of_another_reference_does_not_stay() -> None:
    other = proven("alpha", "beta", 40)
    other.who = msgspec.structs.replace(other.who, reference="beta")
    assert chosen([other], alpha="1", beta="0.9") == ("beta", "alpha")
    assert chosen([proven("gamma", "beta", 40)], alpha="1", beta="0.9") == ("beta", "alpha")
    one = msgspec.structs.replace(AUTO, cascade=CascadeTask(switch_margin=Decimal(1)))
    assert chosen([proven("alpha", "beta", 40)], (), one, alpha="1", beta="0.99") == ("beta", "alpha")


def test_a_price_change_over_a_restart_resumes_the_proof_of_an_earlier_base(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    minds.says |= {"tiny-1": right, "pico-2": right, "big-9": right}
    cascade_ = {"check": ["numeric", "agreement"], "audit_share": 1, "max_loss": Decimal("0.1")}

    def run(price: int, n: int) -> states.Standing:
        """Ask n times where ``other`` costs so much, and ``small`` 10."""
        deployments = fleet(region, trap)
        for one, usd in zip(deployments[:2], (10, price), strict=True):
            one["price"] = {"input_usd_mtok": usd, "output_usd_mtok": usd}
        world = World(tmp_path / "home", config(deployments, tasks=[{"name": TASK, "cascade": cascade_}]))
        world.key("ward")
        with Inside(world) as inside:
            for k in range(n):
                ends_ = ask(inside, k)
                assert ends_.status == 200
                settled(inside)
            policies = {ends(inside, ends_.receipt)[0]["floor"]["policy"]}
            return next(one for one in inside.gateway.promises.standings.values() if one.policy in policies)

    first = run(11, 3)
    assert (first.who.base, first.state.audits) == ("small", 3)
    same = run(9, 2)
    assert (same.policy, same.state.audits) == (first.policy, 5), "a little cheaper moves nobody"
    moved = run(1, 2)
    assert (moved.who.base, moved.state.audits) == ("other", 2)
    back = run(11, 1)
    assert (back.policy, back.state.audits) == (first.policy, 6), "what was proven goes on"


# --- metrics


def series(inside: Inside) -> dict[str, float]:
    text = inside.call("/metrics", app=None).body.decode()
    rows = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    assert len(rows) == len({name for name, _ in rows}), "no series comes twice"
    return {name: float(value) for name, value in rows}


def test_what_a_promise_came_to_is_told_and_a_step_is_no_request(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap, own={"audit_share": 1, "fallback": ["small"]}) as inside:
        begun(inside, minds)
        at = 'task="sums",reference="large",base="small",second="other"'
        assert series(inside)[f"allod_promise_rule{{{at}}}"] == 0
        ask(inside, 2)
        settled(inside)
        opened(inside, "numeric+agreement")
        minds.says["tiny-1"] = wrong
        ask(inside, 3)
        settled(inside)
        opened(inside, "numeric+agreement")
        minds.says["tiny-1"] = right
        ask(inside, 4)
        settled(inside)
        opened(inside, "numeric+agreement")
        minds.says |= {"tiny-1": wrong, "big-9": down}
        ask(inside, 5)
        one = settled(inside)
        found = series(inside)
        assert found[f"allod_promise_rule{{{at}}}"] == one.state.open == 1
        assert found[f"allod_promise_bound{{{at}}}"] == one.bound().change_at_least
        assert found[f"allod_promise_bound_audits{{{at}}}"] == one.bound().audits
        assert found[f"allod_promise_audits_total{{{at}}}"] == one.state.audits
        assert found[f'allod_promise_audits_missing_total{{{at},why="reference-failed"}}'] == 1
        assert found[f"allod_promise_escalations_total{{{at}}}"] == 2
        by = {w: found[f'allod_promise_requests_total{{{at},by="{w}"}}'] for w in ("rule", "fallback")}
        assert by == {"rule": 1, "fallback": 1}
        saving = one.saving()
        assert saving is not None
        saved = {w: found[f'allod_promise_saved_usd{{{at},of="{w}"}}'] for w in ("low", "estimate", "high")}
        assert saved["low"] <= saved["estimate"] == float(saving.saved_usd) <= saved["high"]
        requests = sum(n for name, n in found.items() if name.startswith("allod_requests_total"))
        assert requests == 5, "one for each request of a caller"
        of = 'allod_cascade_steps_total{task="sums"'
        assert found[f'{of},role="escalation",deployment="large",status="answered"}}'] == 1
        assert found[f'{of},role="escalation",deployment="large",status="failed"}}'] == 1
        assert found[f'{of},role="audit",deployment="large",status="answered"}}'] == 1
        steps = sum(n for name, n in found.items() if name.startswith("allod_cascade_steps_total"))
        inside.gateway.store.flush()
        attempts = sum(n for name, n in found.items() if name.startswith("allod_attempts_total"))
        assert steps == attempts == len(inside.world.rows())


def test_the_number_of_series_is_bounded() -> None:
    some = [proven(f"b{n}", None, n) for n in range(40)]
    told = [line for line in measured.lines(some) if line.startswith("allod_promise_rule{")]
    assert len(told) == measured.MOST
