"""What nodes audited apart is put together: once, in any order, signed, provable, and never by accident."""

from __future__ import annotations

import asyncio
import functools
import json
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operators import Region
from world import Inside, Trap, World, until

from allod.domain.errors import Integrity, Invalid, Refused
from allod.domain.fleet import CascadeTask, Deployment, Task
from allod.gateway.promise import joining, rules, telling
from allod.gateway.promise import state as states
from allod.gateway.promise.joining import incoming
from allod.gateway.promise.kept import every, path_of, put
from allod.gateway.promise.promises import Promises
from allod.gateway.promise.proof import Told
from allod.receipts.notes import Signer
from allod.routing import floor
from gateway.promised import TASK, Minds, ask, right, running, settled, standing, wrong

LADDER = ("numeric+agreement", "numeric")
AT = 1_790_000_000_000
AUDITS = st.lists(st.tuples(st.sampled_from([-1, 0]), st.sampled_from([-1, 0])), max_size=30)


def node(
    audits: list[tuple[int, ...]], loss: str = "0.1", ladder: tuple[str, ...] = LADDER
) -> states.Standing:
    own = CascadeTask(check=("numeric", "agreement"), max_loss=Decimal(loss))
    who = rules.Parties(reference="r", base="b", second="s")
    one = states.begin("t", own, ladder, "sha256:" + "a" * 64, who, AT)
    quiet = next((n for n, each in enumerate(audits) if any(each)), len(audits))
    one.state = _quiet(one.promise, quiet)
    for n, differences in enumerate(audits[quiet:], quiet):
        one.audited(differences, AT + n)
    return one


_QUIET: dict[floor.Promise, list[floor.State]] = {}


def _quiet(promise: floor.Promise, n: int) -> floor.State:
    """Return what so many audits without any difference come to; each is made once."""
    known = _QUIET.setdefault(promise, [floor.start(promise)])
    nothing = (0.0,) * len(promise.ladder)
    while len(known) <= n:
        known.append(floor.audit(promise, known[-1], nothing, AT + len(known) - 1)[0])
    return known[n]


def tells(one: states.Standing, name: str) -> Told:
    mine = one.proof.mine
    return Told(state=mine, of=floor.digest(one.promise, mine), digest=f"sha256:{name * 64}"[:71])


@settings(max_examples=25, deadline=None)
@given(mine=AUDITS, one=AUDITS, two=AUDITS, quiet=st.integers(0, 80))
def test_I8_in_whatever_order_and_however_often_nodes_tell_it_comes_to_the_same(
    mine: list[tuple[int, int]], one: list[tuple[int, int]], two: list[tuple[int, int]], quiet: int
) -> None:
    here, y, z = node([(0, 0)] * quiet + mine), node([(0, 0)] * quiet + one), node([(0, 0)] * quiet + two)
    told = [("y", tells(y, "1")), ("z", tells(z, "2"))]
    a, b = here.proof, here.proof
    for name, what in told:
        a = a.told(name, what)
    for name, what in reversed(told):
        b = b.told(name, what)
    assert a == b
    assert a.digest == b.digest
    assert a.told(*told[0]) is a, "telling it again is no news"
    assert floor.to_bytes(a.promise, a.state) == floor.to_bytes(b.promise, b.state)
    shuts = max(one.state.shut for one in (here, y, z))
    counted = [one for one in (here, y, z) if one.state.shut == shuts]
    if here.state.shut == shuts:
        assert a.state.rungs[0].wealth.n == sum(one.state.rungs[0].wealth.n for one in counted)


@settings(max_examples=25, deadline=None)
@given(first=AUDITS, then=AUDITS)
def test_I8_the_latest_of_a_node_stands_for_all_it_told_before(
    first: list[tuple[int, int]], then: list[tuple[int, int]]
) -> None:
    early, late, here = node(first), node(first + then), node([(0, 0)] * 5)
    once = here.proof.told("y", tells(late, "2"))
    twice = here.proof.told("y", tells(early, "1")).told("y", tells(late, "2"))
    assert once.state == twice.state or then == []
    assert once.told("y", tells(early, "1")) is once or then == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([-1, 0]), st.sampled_from([-1, 0])),
        st.tuples(st.just("told"), st.sampled_from("yz"), st.integers(0, 120)),
        st.sampled_from(["changed", "reference-failed"]),
    ),
    max_size=25,
)


@functools.lru_cache(maxsize=4)
def growing() -> tuple[floor.State, ...]:
    one, out = node([]), []
    for k in range(121):
        out.append(one.state)
        one.audited((0, -(k % 9 == 0)), AT + k)
    return tuple(out)


def audited_to(n: int) -> floor.State:
    """Return what a node's audits had come to after so many."""
    return growing()[n]


def lived(one: states.Standing, steps: list[Any], kept: dict[str, Told]) -> list[dict[str, Any]]:
    """Apply what happens, and return the notices a log would have."""
    out: list[dict[str, Any]] = []

    def note(subject: str, **facts: str) -> None:
        own = {"task": one.task, "policy": one.policy, "state": one.digest}
        at = f"2026-10-01T00:00:{len(out) % 60:02d}.000Z"
        one.noticed = f"r_{len(out):05d}"
        out.append({"id": one.noticed, "subject": subject, "time": at, "facts": {**facts, **own}})

    note("promise", **states.begun(one))
    for n, step in enumerate(steps):
        if step == "changed":
            if one.changed("b", f"name-{n}") is not None:
                note("promise", changed="b", was="", **{"is": f"name-{n}"})
        elif isinstance(step, str):
            one.missed(step)
            note("audit", missing=step)
        elif step[0] == "told":
            state = audited_to(step[2])
            told = Told(state=state, of=floor.digest(one.promise, state), digest=f"sha256:{step[2]:064x}")
            kept[told.digest + step[1]] = told
            if one.told(step[1], told):
                note("promise", told=told.digest, by=step[1])
        else:
            at_ms = states._ms(f"2026-10-01T00:00:{len(out) % 60:02d}.000Z")
            one.audited(step, at_ms)
            note("audit", differences=" ".join(map(str, step)))
    return out


@settings(max_examples=25, deadline=None)
@given(steps=STEPS, cut=st.integers(0, 25))
def test_I8_the_log_leads_to_the_same_state_with_what_others_told(steps: list[Any], cut: int) -> None:
    kept: dict[str, Told] = {}

    def find(digest: str, origin: str, _task: str, _policy: str) -> Told:
        return kept[digest + origin]

    one = node([])
    log = lived(one, steps, kept)
    assert states.replayed(log, find)[one.task, one.policy] == one.proof
    part = node([])
    lived(part, steps[:cut], kept)
    again = states.from_bytes(states.to_bytes(part))
    states.catch_up(again, log, find)
    assert again.proof == one.proof
    if any(leaf["facts"].get("told") for leaf in log):
        with pytest.raises(Integrity, match="not here"):
            states.replayed(log)


def test_two_nodes_open_a_rule_that_neither_could_alone() -> None:
    one, two = node([(0, 0)] * 60), node([(0, 0)] * 60)
    assert (one.state.open, two.state.open) == (0, 0)
    assert one.told("two", tells(two, "2"))
    assert one.state.open > 0
    assert one.bound().audits == 120
    one.audited((0, 0), AT)
    assert (one.state.open, one.bound().audits, one.proof.mine.audits) == (2, 121, 61)


def test_a_drift_one_node_saw_shuts_the_other_and_what_was_before_counts_no_more() -> None:
    calm, ill = node([(0, 0)] * 200), node([(0, 0)] * 200 + [(-1, -1)] * 40)
    assert calm.state.open == 2
    assert ill.state.shut == 1
    assert calm.told("ill", tells(ill, "1"))
    assert (calm.state.open, calm.state.shut) == (0, 1)
    old = node([(0, 0)] * 300)
    assert calm.told("old", tells(old, "2"))
    assert calm.state.open == 0
    assert calm.proof.stale() == ("old",)
    for n in range(400):
        calm.audited((0, 0), AT + n)
    assert calm.state.open == 2, "what is proven anew opens again"


def test_a_node_that_is_losing_now_keeps_every_rule_of_the_others_shut_until_it_tells_better() -> None:
    calm = node([(0, 0)] * 200)
    losing = node([(0, 0)] * 20 + [(-1, -1)] * 30)  # nothing was open there: nothing could be shut
    assert floor.drifts(losing.promise, msgspec.structs.replace(losing.state, open=2))
    assert calm.told("losing", tells(losing, "1"))
    assert calm.state.open == 0
    better = node([(0, 0)] * 20 + [(-1, -1)] * 30 + [(0, 0)] * 500)
    assert calm.told("losing", tells(better, "2"))
    assert calm.state.open == 2


def test_the_promise_is_opened_wrongly_in_at_most_alpha_of_runs_however_nodes_tell_each_other() -> None:
    import random

    wrongly = 0
    for seed in range(40):
        drawn = random.Random(seed)
        here, there = node([], ladder=LADDER[:1]), node([], ladder=LADDER[:1])
        for n in range(160):
            differs = -(drawn.random() < 0.1)  # what is lost is what is promised: no rule may open
            (here if n % 2 else there).audited((differs,), AT)
            if n % 8 == 7:
                here.told("there", tells(there, f"{n % 10}"))
            if here.state.open:
                wrongly += 1
                break
    assert wrongly / 40 <= here.promise.alpha


# --- files

ONE, TWO = Signer("allod/00000001", b"1" * 32), Signer("allod/00000002", b"2" * 32)


def test_a_file_is_read_only_as_the_trusted_log_signed_it() -> None:
    data = telling.written(ONE, [node([(0, 0)] * 3)], 7, AT)
    said = telling.opened(data, [TWO.key, ONE.key])
    assert (said.origin, said.leaves, said.promises[0].state.audits) == (ONE.key.name, 7, 3)
    with pytest.raises(Refused, match="not signed by a log that is trusted"):
        telling.opened(data, [TWO.key])
    forged = Signer("allod/00000001", b"3" * 32)
    with pytest.raises(Refused):
        telling.opened(telling.written(forged, [node([])], 7, AT), [ONE.key])


@settings(max_examples=40, deadline=None)
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_file_that_was_changed_is_refused(at: int, byte: int) -> None:
    data = bytearray(telling.written(ONE, [node([(0, -1)] * 3)], 7, AT))
    at %= len(data) - 1
    if data[at] == byte:
        return
    data[at] = byte
    try:
        said = telling.opened(bytes(data), [ONE.key])
    except (Integrity, Refused):
        return
    assert said == telling.opened(telling.written(ONE, [node([(0, -1)] * 3)], 7, AT), [ONE.key])


def test_evidence_of_another_promise_or_another_model_is_not_taken() -> None:
    here = node([(0, 0)])
    here.models = {"b": "tiny-1"}
    part = telling.opened(telling.written(ONE, [node([], "0.2")], 1, AT), [ONE.key]).promises[0]
    with pytest.raises(Invalid, match="promises something else"):
        telling.take(here, ONE.key.name, part, "sha256:" + "1" * 64)
    there = node([(0, 0)] * 9)
    there.models = {"b": "tiny-2"}
    part = telling.opened(telling.written(ONE, [there], 1, AT), [ONE.key]).promises[0]
    with pytest.raises(Invalid, match="answered as tiny-2 there and as tiny-1 here"):
        telling.take(here, ONE.key.name, part, "sha256:" + "1" * 64)
    assert here.state.audits == 1


IMPOSSIBLE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "in the year 3000000": ({"at_ms": 10**17}, {}),
    "more audits than anybody makes": ({"audits": 10**19}, {}),
    "fewer than no audits": ({}, {"n": -5}),
    "wealth beyond all bets": ({}, {"plug_in": (1e308,) * len(floor.GRID)}),
    "wealth below all bets": ({}, {"growth": (-1e308,) * len(floor.GRID)}),
    "rich without an audit": ({}, {"n": 0, "plug_in": (9.0,) * len(floor.GRID)}),
    "a sum beyond its audits": ({}, {"total": 1e308}),
    "squares beyond their audits": ({}, {"squares": 1e308}),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_evidence_no_audits_can_come_to_is_refused_before_it_poisons_a_promise(what: str) -> None:
    there = node([(0, 0)] * 60)
    state, wealth = IMPOSSIBLE[what]
    rung = there.state.rungs[0]
    rung = msgspec.structs.replace(rung, wealth=msgspec.structs.replace(rung.wealth, **wealth))
    there.state = msgspec.structs.replace(there.state, rungs=(rung,) * 2, **state)
    with pytest.raises(Integrity):
        telling.opened(telling.written(ONE, [there], 1, AT), [ONE.key])


def test_evidence_from_after_today_is_not_taken() -> None:
    here, there = served(), served()
    there.state = msgspec.structs.replace(there.state, at_ms=AT + 3 * 86_400_000)
    said = telling.opened(telling.written(ONE, [there], 1, AT), [ONE.key])
    found = joining.join(
        said, "sha256:" + "1" * 64, fleet=served_here(), pack="p", at_ms=AT, find=lambda *_: here,
        record=lambda *_: True,
    )  # fmt: skip
    assert [(one.outcome, one.why[:28]) for one in found] == [("refused", "it tells of audits after tod")]
    assert here.state.audits == 60


def served_here() -> Any:
    """A fleet whose task makes the promise of ``node``."""
    own = CascadeTask(check=("numeric", "agreement"), max_loss=Decimal("0.1"))
    one = Deployment(id="r", engine="scripted", model="m", operator="o")
    tasks = {"t": Task(name="t", cascade=own)}
    named = {name: msgspec.structs.replace(one, id=name) for name in "rbs"}
    operators = {"o": None}
    return SimpleNamespace(tasks=tasks, deployments=named, operators=operators, weights={})


def served() -> states.Standing:
    """A node of that fleet, after 60 audits."""
    one, fleet = node([(0, 0)] * 60), served_here()
    one.policy = rules.policy_of(fleet.tasks["t"], one.who, fleet, "p")
    one.promise = msgspec.structs.replace(one.promise, policy=one.policy)
    return one


@pytest.mark.parametrize(
    "other", [{"alpha": 0.99}, {"least": 1}, {"false_alarms": 0.9}, {"ladder": ("agreement", "json")}]
)
def test_nobody_else_says_what_is_promised_here(other: dict[str, Any]) -> None:
    """Not how sure a bound is, not what a rule checks: a node that has no promise yet would begin with it."""
    there = served()
    for promise, why in (
        (there.promise, None),
        (msgspec.structs.replace(there.promise, **other), "it promises something else"),
    ):
        there.promise = promise
        part = telling.opened(telling.written(ONE, [there], 1, AT), [ONE.key]).promises[0]
        assert telling.why_not(part, served_here(), "p") == why


def test_a_deployment_that_changes_its_name_with_every_answer_breaks_no_promise() -> None:
    """A floor that was shut a thousand times and more is shown, told, and goes on."""
    one, there = node([]), node([(0, 0)])
    for n in range(1_200):
        assert one.changed("b", f"model-{n}") is not None or n == 0
    one.audited((0, 0), AT)
    assert (one.state.shut, one.bound().audits, one.turn(0.5).rule) == (1_199, 1, None)
    assert states.from_bytes(states.to_bytes(one)) == one
    assert there.told("one", tells(one, "1"))
    assert there.bound().change_at_least == -1.0


# --- homes


def audited_home(
    root: Path, region: Region, trap: Trap, minds: Minds, n: int, **own: Any
) -> tuple[World, str]:
    minds.says |= {"tiny-1": right, "pico-2": right, "big-9": right}
    with running(root, region, trap, own={"audit_share": 1, **own}) as inside:
        for k in range(n):
            minds.says["tiny-1"] = wrong if k == 1 else right
            ask(inside, k)
            settled(inside)
        return inside.world, standing(inside).policy


def told(world: World, *args: str, apart: bool = False) -> tuple[int, dict[str, Any]]:
    done = (world.allod if apart else world.here)("eval", "promise", *args, "--json")
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {"stderr": done.stderr}


def test_homes_at_rest_join_with_a_notice_and_the_log_replays_to_the_same_state(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    here, policy = audited_home(tmp_path / "a", region, trap, minds, 3)
    there, same = audited_home(tmp_path / "b", region, trap, minds, 4)
    assert policy == same
    file, key = tmp_path / "told.json", there.paths.log_vkey.read_text().strip()
    code, said = told(there, "--export", str(file))
    assert (code, said["promises"][0]["audits"]) == (0, 4)
    before = path_of(here.paths, TASK, policy).read_bytes()
    code, _ = told(here, "--join", str(file))
    assert code == 2, "a file needs a key to be held against"
    own = here.paths.log_vkey.read_text().strip()
    assert told(here, "--join", str(file), "--key", own)[0] == 4
    assert path_of(here.paths, TASK, policy).read_bytes() == before
    code, said = told(here, "--join", str(file), "--key", key)
    assert (code, said["running"], said["promises"][0]["outcome"]) == (0, False, "joined")
    code, said = told(here, "--join", str(there.root))
    assert said["promises"][0]["outcome"] == "known", "the home tells the same in a file of another digest"
    assert next(every(here.paths)).bound().audits == 7
    code, said = told(here, "--join", str(file), "--key", key)
    assert said["promises"][0]["outcome"] == "known"
    code, said = told(here, "--replay")
    assert (code, said["promises"][0]["log"]) == (0, "equal")
    assert said["promises"][0]["rules"][0]["n"] == 7
    assert said["promises"][0]["audits"]["judged"] == 3
    path_of(here.paths, TASK, policy).write_bytes(before)  # a crash before the new state was on disk
    with running(tmp_path / "a", region, trap, own={"audit_share": 1}) as inside:
        assert next(iter(inside.gateway.promises.standings.values())).bound().audits == 7
    for one in telling.told_folder(here.paths).glob("*.json"):
        one.write_bytes(one.read_bytes().replace(b"audits", b"adits", 1))
    assert told(here, "--replay")[0] == 3, "what was told must be there, as it was"


def test_a_gateway_that_runs_takes_it_in_by_itself_and_goes_on_after_a_restart(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allod.gateway.promise.joining.EVERY_S", 0.05)
    there, _ = audited_home(tmp_path / "b", region, trap, minds, 4)
    other, _ = audited_home(tmp_path / "c", region, trap, minds, 1, max_loss=Decimal("0.2"))
    with running(tmp_path / "a", region, trap, own={"audit_share": 1}) as inside:
        ask(inside, 1)
        settled(inside)
        code, said = told(inside.world, "--join", str(there.root), apart=True)
        assert (code, said["running"], said["promises"][0]["outcome"]) == (0, True, "left")
        until(lambda: standing(inside).bound().audits == 5)
        code, said = told(inside.world, "--join", str(other.root), apart=True)
        assert code == 4
        assert "another policy" in said["error"]["why"], said
        put(incoming(inside.world.paths) / "forged.json", b'{"key": "x", "file": "{}"}')
        until(lambda: list(incoming(inside.world.paths).glob("*.bad")))
        doctor = json.loads(inside.world.here("doctor", "--json").stdout)["findings"]
        assert any("forged.bad" in one["detail"] for one in doctor if one["name"] == "promises")
        ask(inside, 2)
        settled(inside)
        digest = standing(inside).digest
        assert standing(inside).bound().audits == 6
    with running(tmp_path / "a", region, trap, own={"audit_share": 1}) as inside:
        ask(inside, 3)
        assert settled(inside).bound().audits == 7
        inside.gateway.store.flush()
        code, said = told(inside.world, "--replay")
        assert (code, said["promises"][0]["log"]) == (0, "equal")
        assert digest != standing(inside).digest


def test_what_breaks_when_it_is_taken_in_is_in_no_others_way(tmp_path: Path) -> None:
    seen: list[str] = []

    async def join(data: bytes, _: Any) -> None:
        if data == b"bad":
            raise ValueError(data)
        seen.append("joined")

    keys = SimpleNamespace(origin="here")
    gateway = SimpleNamespace(store=SimpleNamespace(keys=keys), defect=lambda _: seen.append("told"))
    promises, said = SimpleNamespace(gateway=gateway, _join=join), SimpleNamespace(origin="there")
    for name in ("bad", "good"):
        (tmp_path / name).write_text(name)
        asyncio.run(Promises._hear(promises, tmp_path / name, name.encode(), said))  # type: ignore[arg-type]
    assert seen == ["told", "joined"]
    assert [path.name for path in tmp_path.iterdir()] == ["bad"], "it is tried again"


def test_a_node_that_has_no_promise_yet_begins_with_what_it_is_told(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    there, policy = audited_home(tmp_path / "b", region, trap, minds, 2)
    with running(tmp_path / "a", region, trap, own={"audit_share": 1}) as inside:
        here: Inside = inside
    code, said = told(here.world, "--join", str(there.root))
    assert (code, said["promises"][0]["outcome"]) == (0, "joined")
    assert told(here.world, "--join", str(here.world.root))[0] == 4, "its own evidence would count twice"
    with running(tmp_path / "a", region, trap, own={"audit_share": 1}) as inside:
        ask(inside, 1)
        one = settled(inside)
        assert (one.policy, one.bound().audits, one.proof.mine.audits) == (policy, 3, 1)


def test_I8_a_state_and_a_log_of_the_version_before_are_gone_on_with() -> None:
    one = node([])
    one.state = floor.begun(one.promise, "1")
    facts = {name: said for name, said in states.begun(one).items() if name != "version"}
    own = {"task": one.task, "policy": one.policy}
    log = [{"id": "r_0", "subject": "promise", "time": "2026-10-01T00:00:00.000Z", "facts": facts | own}]
    for n in range(5):
        one.audited((0, -(n % 2)), states._ms(f"2026-10-01T00:00:0{n}.000Z"))
        said = {"differences": f"0 {-(n % 2)}", "state": one.digest, **own}
        log.append({"id": "r", "subject": "audit", "time": f"2026-10-01T00:00:0{n}.000Z", "facts": said})
    assert states.replayed(log)[one.task, one.policy] == one.proof
    old = json.loads(states.to_bytes(one))
    old["format"] = "allod-promise-1"
    for name in ("own", "others"):
        del old["standing"][name]
    for name in ("escalated", "fallbacks"):
        del old["standing"]["spent"][name]
    read = states.from_bytes(json.dumps(old).encode())
    assert read == one
    assert states.from_bytes(states.to_bytes(read)) == one
    assert floor.version(read.state) == "1"
    newer = node([(0, 0)] * 3)
    with pytest.raises(Invalid, match="does not fit"):
        read.told("y", tells(newer, "1"))
