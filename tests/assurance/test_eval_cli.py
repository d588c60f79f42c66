"""``allod eval`` against a real gateway: lawful, receipted, scored, and continued where it was cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from world import World, config, deployment

from allod.gateway import evaluations

CASES = [
    {"prompt": f"{n}", "expected": f"{n}", "checker": "numeric", "task": "sums"} for n in (4, 17, 23, 99)
] + [{"prompt": "polite?", "rubric": "any", "checker": "judge", "task": "manners"}]
FLEET = (
    deployment("echoes", "echo", price={"input_usd_mtok": 1, "output_usd_mtok": 2}),
    deployment("answers", "answer", price="free"),
    deployment("abroad", "answer", lawful=False),
)


def evaluate(world: World, file: Path, *more: str) -> Any:
    """Run the command and read what it prints."""
    done = world.allod("eval", "run", str(file), "--app", "ward", "--json", *more)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def test_an_evaluation_of_real_requests(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config(FLEET))
    file = tmp_path / "cases.jsonl"
    file.write_text("\n".join(map(json.dumps, CASES)))
    with world.up("ward") as gateway:
        world.write(config(FLEET, server={"port": gateway.port}))
        found = evaluate(
            world, file, "--on", "echoes", "--on", "answers", "--on", "abroad", "--judge", "answers"
        )
        before = len(world.all_requests())
        rows = {(row["task"], row["deployment"]): row for row in found["scores"]}
        sums = rows["sums", "echoes"]
        assert sums["success"][0] == 1
        assert sums["success"][1] > 0.39
        assert float(sums["cost_per_success_usd"]) > 0
        assert rows["sums", "answers"]["success"][0] == 0
        assert rows["sums", "answers"]["cost_per_success_usd"] is None
        assert rows["sums", "answers"]["difference"][0] == -1
        abroad = rows["sums", "abroad"]
        assert (abroad["n"], abroad["refused"], abroad["success"]) == (0, 4, None), "law decides here too"
        manners = rows["manners", "echoes"]
        assert manners["n"] == 1
        assert manners["success"][0] == 0, "a judge without a verdict gives no success"
        assert found["simulated"] is True
        # 15 cases asked and 2 answers judged, each with its receipt
        assert before == 17

        shown = world.allod("eval", "show", found["evaluation"][7:15], "--wrong")
        assert "sums" in shown.stdout
        assert "r_" in shown.stdout
        assert "scripted" in shown.stdout
        listed = json.loads(world.allod("eval", "list", "--json").stdout)
        assert [one["evaluation"] for one in listed] == [found["evaluation"]]
        assert not list((world.root / "evaluations").glob("*.part"))
    kept = evaluations.one(world.paths, found["evaluation"])
    path = world.root / "evaluations" / f"{kept.short}.json"
    path.write_bytes(path.read_bytes().replace(b'"wrong"', b'"right"'))
    assert world.allod("eval", "list").returncode == 3


def test_a_run_that_was_cut_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config(FLEET))
    file = tmp_path / "cases.csv"
    file.write_text("prompt,expected,checker\n" + "".join(f"{n},{n},numeric\n" for n in range(6)))
    lost = world.allod("eval", "run", str(file), "--on", "echoes", "--app", "ward")
    assert lost.returncode == 5, lost
    with world.up("ward") as gateway:
        world.write(config(FLEET, server={"port": gateway.port}))
        evaluate(world, file, "--on", "echoes")
        asked = len(world.all_requests())
        whole = next((world.root / "evaluations").glob("*.json"))
        items = json.loads(whole.read_bytes())["items"]
        # as a machine that lost power leaves it: some items, and a line that was cut
        whole.unlink()
        cut = whole.with_name(lost_part(world, file))
        cut.write_text("".join(json.dumps(item) + "\n" for item in items[:4]) + '{"case": "c')
        evaluate(world, file, "--on", "echoes")
        assert len(world.all_requests()) == asked + 2


def lost_part(world: World, file: Path) -> str:
    """Return the name of the part this order writes."""
    from allod.assurance.cases import read_suite
    from allod.receipts.canonical import canonical
    from allod.receipts.commitment import digest

    suite = read_suite(file.read_bytes(), csv_file=True)
    told = digest(canonical(["ward", ["echoes"], "", "", 0, 1]))
    return evaluations.part(world.paths, suite.digest, told).name


def test_what_cannot_be_asked_is_told_before_anything_is(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config(FLEET, server={"port": 1}))
    file = tmp_path / "cases.jsonl"
    file.write_text(json.dumps({"prompt": "?"}))
    assert "line 1" in world.allod("eval", "run", str(file), "--on", "echoes", "--app", "ward").stderr
    file.write_text(json.dumps(CASES[-1]))
    for more in (("--on", "nobody"), ("--on", "echoes"), ("--on", "echoes", "--judge", "nobody")):
        done = world.allod("eval", "run", str(file), "--app", "ward", *more)
        assert done.returncode == 2, done
    assert not (world.root / "evaluations").exists()
