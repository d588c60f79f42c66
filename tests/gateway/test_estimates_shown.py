"""What teaches per-request estimates, and how they are shown."""

from __future__ import annotations

import contextlib
import json
import random
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from operators import Region
from world import Inside, Trap, World, chat, config, until

from allod.domain.fleet import CascadeTask
from allod.gateway import uses
from allod.gateway.estimates import gathering, kept, words
from allod.store.home import load_keys
from gateway.guessing import (
    AT,
    HARD,
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
from gateway.promised import Minds, right, running, standing, wrong

# --- what teaches it


def test_chance_is_not_used(tmp_path: Path) -> None:
    world = home(tmp_path)
    some = cases(80)
    found = evaluation(some)
    chance = random.Random(3)
    items = tuple(
        msgspec.structs.replace(item, status=chance.choice(["right", "wrong"])) for item in found.items
    )
    taught(world, some, items=items)
    with Inside(world) as inside:
        used = fitted(inside)
        assert (
            used.known.tasks[0].why == "out of fold it was no better than the task's own rates, beyond chance"
        )
        assert not planned(inside)
    status = json.loads(world.here("eval", "status", "--json").stdout)["estimates"]
    assert status["known"]["tasks"][0]["why"] == used.known.tasks[0].why


def test_what_a_judge_said_is_no_outcome(tmp_path: Path) -> None:
    world = home(tmp_path)
    some = cases(80)
    found = evaluation(some)
    judged = tuple(msgspec.structs.replace(item, judged=item.deployment == "dear") for item in found.items)
    taught(world, some, items=judged)
    one = setting(world)
    with contextlib.closing(world.tables()) as tables:
        gathered = gathering.gather(one.home, one.proven, tables, datetime.now(UTC).date())
    assert gathered.counts == {(TASK, "cheap"): 80}


def test_audits_teach_what_the_reference_is_known_for(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:

    own = {"audit_share": 1, "learn": True}
    with running(tmp_path, region, trap, own=own, estimate=True) as inside:
        minds.says |= {"tiny-1": right, "pico-2": right, "big-9": right}
        for n in range(4):
            minds.says["pico-2"] = wrong if n == 2 else right
            answer = inside.chat(chat(TASK, f"twice {n}", stream=False), app="ward")
            assert answer.status == 200
            until(lambda n=n: standing(inside).state.audits == n + 1)
        assert inside.gateway.fleet.tasks[TASK].cascade == CascadeTask(
            check=("numeric", "agreement"), audit_share=Decimal(1), max_loss=Decimal("0.1"), learn=True
        )
        where = inside.world.paths
    evidence = gathering.audits(where)
    assert not isinstance(evidence, str)
    told = {name: [] for name in ("small", "other")}  # type: ignore[var-annotated]
    for one in evidence.all():
        for name, quality, _ in one.outcomes:
            told[name].append(quality)
    assert told["small"] == [950] * 4, "the reference is declared to be right at .95"
    assert sorted(told["other"]) == [0, 950, 950, 950]


def test_an_evaluation_keeps_words_only_where_a_task_asks_for_estimates(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}", "expected": f"{n}", "checker": "numeric", "task": TASK} for n in range(4)]
    rows += [{"prompt": "other", "expected": "other", "task": "else"}]
    file = tmp_path / "cases.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    tasks: list[dict[str, Any]] = [{"name": TASK, "estimate": True}, {"name": "else"}]
    own = config(fleet(), tasks=tasks)
    world = World(tmp_path / "home", own)
    with world.up("ward") as gateway:
        world.write(config(fleet(), tasks=tasks, server={"port": gateway.port}))
        done = world.here("eval", "run", str(file), "--app", "ward", "--on", "cheap", "--json")
        assert done.returncode == 0, done
    name = json.loads(done.stdout)["evaluation"]
    read = words.known(world.paths, name)
    assert len(read) == 4
    key = words.key_of(load_keys(world.paths).secret)
    assert words.read_prompt("3", TASK, key) in read.values(), "a case is read as its request is"
    path = words.path_of(world.paths, name[7:23])
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    wrong_file = tmp_path / "others.jsonl"
    wrong_file.write_text(json.dumps(rows[0]))
    assert world.here("eval", "use", name, "--cases", str(wrong_file)).returncode == 2
    assert world.here("eval", "use", name, "--cases", str(file)).returncode == 0
    assert words.known(world.paths, name) == read


# --- what is shown


def test_explain_shows_estimates_and_what_alternatives_would_have_cost(
    estimating: World, tmp_path: Path
) -> None:
    bare = explained(estimating)
    assert bare["plan"] == ["cheap", "dear"]
    assert "--prompt" in bare["estimates"]["why"]
    file = tmp_path / "prompt.txt"
    file.write_text(HARD.format(200, 240))
    said = explained(estimating, "--prompt-file", str(file))
    assert said["plan"] == ["dear", "cheap"]
    assert said["estimates"]["used"] is True
    assert said["estimates"]["day"] == kept.known_of(estimating.paths).day  # type: ignore[union-attr]
    guesses = {one["deployment"]: one["estimate"] for one in said["candidates"]}
    assert set(guesses["cheap"]) == {"success", "low", "high", "output_tokens", "n"}
    assert guesses["abroad"] is None
    costs = {one["deployment"]: one for one in said["alternatives"]}
    assert set(costs) == {"cheap", "dear"}, "whom the law left out has no price"
    for name, one in costs.items():
        success = Decimal(guesses[name]["success"])
        expected = Decimal(one["request_usd"]) / success
        assert abs(Decimal(one["success_usd"]) - expected) < expected / 1000
    assert said["estimates"]["task"]["outcomes"] == {"cheap": 80, "dear": 80}
    text = estimating.here("explain", "--app", "ward", "--task", TASK, "--prompt-file", str(file)).stdout
    assert "would have cost" in text
    assert "estimated for" in text
    assert "with 90 %" in text
    assert HARD.format(200, 240) not in text
    both = estimating.here("explain", "--task", TASK, "--prompt", "x", "--prompt-file", str(file))
    assert both.returncode == 2


def test_eval_status_shows_what_the_estimator_knows(estimating: World) -> None:
    known = json.loads(estimating.here("eval", "status", "--json").stdout)["estimates"]["known"]
    (task,) = known["tasks"]
    assert task["outcomes"] == {"cheap": 80, "dear": 80}
    assert float(task["brier"]) < float(task["brier_of_rate"])
    assert 0 < float(task["calibration_error"]) < 0.3
    text = estimating.here("eval", "status").stdout
    assert f"fitted {known['day']}" in text
    assert "outcomes of cheap 80, dear 80" in text
    assert AT[:4] in text


def test_the_doctor_says_whether_estimates_are_used(estimating: World) -> None:
    found = json.loads(estimating.here("doctor", "--json").stdout)["findings"]
    one = next(finding for finding in found if finding["name"] == f"estimates {TASK}")
    assert one["state"] == "ok"
    uses.drop(estimating.paths, None)
    found = json.loads(estimating.here("doctor", "--json").stdout)["findings"]
    one = next(finding for finding in found if finding["name"] == f"estimates {TASK}")
    assert one["state"] == "note"
    assert "other evaluations count now" in one["detail"]


def test_without_a_task_that_asks_nothing_is_loaded(tmp_path: Path) -> None:
    world = home(tmp_path, tasks=[{"name": TASK}])
    taught(world, cases(40))
    assert not list((world.root / "evaluations").glob("*.words"))
    with Inside(world) as inside:
        assert inside.gateway.estimates is None
        assert served(inside, HARD.format(1, 2)) == "cheap"
    assert not (world.root / "estimates").exists()
    assert json.loads(world.here("eval", "status", "--json").stdout)["estimates"] is None


def test_a_gateway_that_stops_while_it_fits_keeps_nothing_half(tmp_path: Path) -> None:
    world = home(tmp_path)
    taught(world, cases(200))
    begun = time.monotonic()
    with Inside(world) as inside:
        until(lambda: inside.gateway.estimates._fitting is not None)
    assert time.monotonic() - begun < 30
    assert not list((world.root / "estimates").glob("*.new"))
    assert kept.read(world.paths) == "" or not isinstance(kept.read(world.paths), str)
