"""What promises keep, learn and show."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from operators import Region
from world import Inside, Trap, World, chat, config, until

from allod.gateway.promise import state as states
from allod.gateway.promise.kept import every, notices, path_of
from allod.routing.record import holds, read_record
from gateway.lineages import ends, log_of
from gateway.promised import (
    TASK,
    Minds,
    ask,
    begun,
    fleet,
    opened,
    right,
    running,
    settled,
    standing,
    wrong,
)


def test_I8_the_states_are_what_the_logs_notices_lead_to(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap, own={"audit_share": 1}) as inside:
        begun(inside, minds)
        for n in range(6):
            minds.says["tiny-1"] = wrong if n == 2 else (lambda _: None) if n == 3 else right
            ask(inside, n)
            settled(inside)
        minds.named["tiny-1"] = "tiny-1-b"
        minds.says["tiny-1"] = right
        ask(inside, 7)
        one = settled(inside)
        inside.gateway.store.flush()
        said = [leaf for leaf in log_of(inside) if leaf["kind"] == "notice"]
        found = states.replayed(said)
        assert found[TASK, one.policy] == one.proof
        assert one.state.audits == 6
        broken = json.loads(json.dumps(said))
        next(leaf for leaf in broken if leaf["facts"].get("differences") == "0 0")["facts"]["differences"] = (
            "-1 0"
        )
        with pytest.raises(Exception, match="not what the log leads to"):
            states.replayed(broken)


def test_a_restart_goes_on_where_it_was_and_a_lost_file_is_made_up_from_the_log(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap, own={"audit_share": 1}) as inside:
        begun(inside, minds)
        home = inside.world.paths
        ask(inside, 1)
        settled(inside)
        until(lambda: next(every(home)).state.audits == 2)
        old = path_of(home, TASK, standing(inside).policy).read_bytes()
        ask(inside, 2)
        one = settled(inside)
        digest, policy = one.digest, one.policy
    path_of(home, TASK, policy).write_bytes(old)  # a crash before the newest state was on disk
    with running(tmp_path, region, trap, own={"audit_share": 1}) as inside:
        minds.says["big-9"] = lambda _: None
        ask(inside, 3)
        assert standing(inside).digest == digest
        until(lambda: list(notices(inside.gateway.store.reader)))
    path_of(home, TASK, policy).write_bytes(b"{}")
    with running(tmp_path, region, trap, own={"audit_share": 1}) as inside:
        ask(inside, 3)
        assert standing(inside).state.audits == 0, "what cannot be read is proven anew, at the reference"


def test_another_policy_or_model_begins_at_the_reference(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap) as inside:
        begun(inside, minds)
        opened(inside, "numeric+agreement")
        first = standing(inside).policy
    with running(tmp_path, region, trap, own={"max_loss": Decimal("0.2")}) as inside:
        assert ask(inside, 1).status == 200
        assert standing(inside).policy != first
        assert standing(inside).state.open == 0


def test_a_state_that_cannot_be_kept_closes_the_promise(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap, own={"check": ["numeric"]}) as inside:
        begun(inside, minds)
        opened(inside, "numeric")
        folder = path_of(inside.world.paths, TASK, standing(inside).policy).parent
        until(inside.gateway.promises._keeping._writing.done)
        folder.rename(folder.with_name("aside"))
        folder.write_text("in the way")
        inside.gateway.promises._keeping._at.clear()
        ask(inside, 2)
        until(lambda: standing(inside).trouble)
        whole = ends(inside, ask(inside, 3).receipt)[0]
        assert (whole["deployment"], whole["floor"]["why"]) == ("large", "not-kept")
        folder.unlink()
        folder.with_name("aside").rename(folder)


def test_nothing_is_in_the_way_where_no_task_has_a_cascade(
    tmp_path: Path, region: Region, trap: Trap
) -> None:
    world = World(tmp_path / "home", config(fleet(region, trap), tasks=[{"name": TASK}]))
    with Inside(world) as inside:
        assert inside.gateway.strategy_for is None
        assert inside.gateway.promises is None


def test_the_choice_for_other_tasks_costs_microseconds(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap) as inside:
        begun(inside, minds)

        class Other:
            class admitted:  # noqa: N801
                task, pinned, surface = None, (), "chat"

        started = time.thread_time()
        for _ in range(1000):
            assert inside.gateway.promises.strategy_for(Other) is None
        assert time.thread_time() - started < 0.05


def test_I9_erasing_a_request_erases_its_audits_too(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap, own={"audit_share": 1}) as inside:
        begun(inside, minds)
        answer = ask(inside, 4)
        settled(inside)
        inside.gateway.store.flush()
        mine = {
            leaf["id"] for leaf in log_of(inside)
            if leaf["kind"] == "terminal" and answer.receipt in (leaf["id"], *leaf.get("parents", ()))
        }  # fmt: skip
        world = inside.world
    assert len(mine) == 4
    said = world.here("receipt", "erase", answer.receipt, "--json")
    assert said.returncode == 0, said.stderr
    assert {answer.receipt, *json.loads(said.stdout)["steps"]} == mine
    for name in mine:
        row = world.request_row(name)
        assert row is not None
        assert row.request_salt is None


# --- what people are shown


def test_the_commands_say_rule_bound_audits_and_saving(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap, own={"audit_share": 1}) as inside:
        begun(inside, minds)
        for n in range(4):
            ask(inside, n)
            settled(inside)
        world, one = inside.world, standing(inside)
    said = world.here("eval", "promise", "--replay", "--json")
    assert said.returncode == 0, said.stderr + said.stdout
    row = json.loads(said.stdout)["promises"][0]
    assert (row["task"], row["rule"], row["in_force"], row["log"]) == (TASK, "reference", True, "equal")
    assert [rule["n"] for rule in row["rules"]] == [5, 5]
    assert row["why"] == "not proven yet"
    assert row["audits"]["judged"] == row["audits"]["begun"] == 5
    saving = row["saving"]
    assert Decimal(saving["low_usd"]) <= Decimal(saving["usd"]) <= Decimal(saving["high_usd"])
    assert Decimal(saving["usd"]) == pytest.approx(-one.spent.audits_usd, rel=Decimal("0.01"))
    status = json.loads(world.here("eval", "status", "--json").stdout)["promises"]
    assert [(p["task"], p["rule"], p["n"]) for p in status] == [(TASK, "reference", 5)]
    assert status[0]["day"]
    said = " ".join(world.here("eval", "status").stdout.split())
    assert "reference is in force; with 95 % confidence" in said
    assert said.endswith("`allod eval promise`")
    people = world.here("eval", "promise").stdout
    assert "against large" in people
    assert "5 judged of 5" in people
    told = json.loads(world.here("explain", "--app", "ward", "--task", TASK, "--json").stdout)["promise"]
    assert (told["rule"], told["reference"], told["base"], told["second"]) == (
        "reference",
        "large",
        "small",
        "other",
    )
    assert set(told["alternatives"]) == {"large", "small", "small + other", "small + other + large"}
    assert "promise: reference is in force" in world.here("explain", "--app", "ward", "--task", TASK).stdout
    doctor = json.loads(world.here("doctor", "--json").stdout)["findings"]
    found = next(f for f in doctor if f["name"] == f"promise {TASK} with small and other")
    assert found["state"] == "ok"
    assert "large answers everything" in found["detail"]
    path = path_of(world.paths, TASK, one.policy)
    one.state = msgspec.structs.replace(one.state, open=1)
    path.write_bytes(states.to_bytes(one))
    broken = world.here("eval", "promise", "--replay", "--json")
    assert broken.returncode == 3
    assert json.loads(broken.stdout)["promises"][0]["log"].startswith("the log leads to")


@pytest.mark.parametrize(
    ("own", "why"),
    [
        ({"check": ["logprob_margin"]}, "calibrated"),
        ({"check": ["numerical"]}, "numeric"),
        ({"check": []}, "empty"),
        ({"check": ["regex:("]}, "pattern"),
        ({"base": "tiny"}, "not declared"),
        ({"base": "small", "reference": "small"}, "twice"),
        ({"max_loss": Decimal("0.9")}, "0.5"),
        ({"audit_share": 0}, "0.001"),
        ({"bases": "small"}, "unknown key"),
    ],
)
def test_a_cascade_that_means_nothing_is_an_error(
    tmp_path: Path, region: Region, trap: Trap, own: dict[str, Any], why: str
) -> None:
    from allod.domain.errors import Invalid
    from allod.gateway.config import parse

    text = config(fleet(region, trap), tasks=[{"name": TASK, "cascade": {"check": ["agreement"], **own}}])
    with pytest.raises(Invalid) as error:
        parse(text)
    assert why in error.value.explain()


# --- estimates


def test_what_audits_taught_spares_a_base_that_cannot_pay_and_the_receipt_says_why(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    """The base costs nearly what the reference does, and is never right: asking it is thrown away money."""
    own = {"check": ["numeric"], "audit_share": 1, "learn": True, "base": "small"}
    with running(tmp_path, region, trap, own=own) as inside:
        begun(inside, minds, base=wrong)
        for n in range(32):
            ask(inside, n)
            settled(inside)
        opened(inside, "numeric")
        asked = len([name for name in minds.asked if name == "tiny-1"])
        cheap = ends(inside, ask(inside, 3).receipt)[0]["floor"]
        settled(inside)
        assert "why" not in cheap, "it costs so little that one in a hundred would pay"
        assert Decimal(cheap["estimate"]) < Decimal("0.3")
        assert int(cheap["estimate_n"]) >= 30
        assert cheap["rule"] == "numeric"
        inside.gateway.promises._learning._used.evidence.to_bytes()
        from allod.gateway.promise import learning

        real = learning.cost_of
        import allod.gateway.promise.promises as used

        used.cost_of = lambda of, *names: Decimal("0.9") if names[0] == "small" else real(of, *names) * 0 + 1
        try:
            opened(inside, "numeric")
            whole, *steps = ends(inside, ask(inside, 3).receipt)
        finally:
            used.cost_of = real
        assert whole["floor"]["why"] == "estimate"
        assert [one["deployment"] for one in steps] == ["large"]
        said = whole["floor"]
        high, first, reference = (Decimal(said[k]) for k in ("estimate_high", "first_usd", "reference_usd"))
        assert high * reference < first, "what decided can be computed again from the receipt (I8)"
        store = inside.gateway.store
        store.flush()
        digest = store.database.request(whole["id"]).decision
        record = read_record(store.database.record(digest))
        assert record.promise is not None
        assert learning.skips(record.promise)
        assert record.promise["why"] == "estimate"
        assert holds(store.database.record(digest))
        settled(inside)
        assert standing(inside).spent.skipped == 1
        assert len([name for name in minds.asked if name == "tiny-1"]) > asked
        path = tmp_path / "home" / "promises" / "estimator.bin"
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"twice" not in path.read_bytes()
    with running(tmp_path, region, trap, own=own) as inside:
        opened_again = inside.gateway.promises._learning
        opened_again._loaded()
        assert opened_again._counts[TASK, "small"] >= 30


def test_an_estimate_is_read_in_less_than_two_milliseconds(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    from statistics import median

    from allod.gateway.promise.learning import Learning
    from allod.store.home import load_keys

    with running(tmp_path, region, trap) as inside:
        begun(inside, minds)
        learning = Learning(inside.world.paths, inside.gateway.store, load_keys(inside.world.paths).secret)

        class Asked:
            class parsed:  # noqa: N801
                body = chat(TASK, "How many apples are left of 12 when 5 are eaten, and why? " * 12)
                native = None

            class admitted:  # noqa: N801
                task = TASK

        took = []
        for n in range(120):
            started = time.thread_time()
            read = learning.features(Asked)
            learning.estimate(read, "small")
            took.append(time.thread_time() - started)
            learning._loaded()
            learning.learn(f"r_{n}", 1_790_000_000_000 + n, read, {"small": (1.0, 10)}) if n < 60 else None
        assert median(took[60:]) < 0.002, f"{1000 * median(took[60:]):.2f} ms"
