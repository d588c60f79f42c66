"""Which evaluations count: for what was evaluated, for so long, and never where something was altered."""

from __future__ import annotations

import contextlib
import json
import threading
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from world import Inside, World, chat, config, deployment

from allod.assurance.evaluation import FORMAT, OLDER, Evaluated, Evaluation, Item
from allod.domain.errors import Integrity, Invalid
from allod.domain.fleet import Weights
from allod.gateway import capabilities, evaluations, uses
from allod.gateway.config import parse
from allod.gateway.uses import Prior
from allod.receipts.commitment import digest
from allod.routing.capability import Published
from allod.routing.record import holds, read_record
from gateway.lineages import log_of

FLEET = [deployment("good", "echo", quality={"default": 0.6}), deployment("weak", "answer")]
TASKS = [{"name": "sums", "min_quality": 0.8}, {"name": "deep", "effort": "high"}]
AT = "2026-11-20T08:00:00.000Z"
TODAY = date(2026, 11, 26)


def world_of(tmp_path: Path) -> World:
    world = World(tmp_path / "home", config(FLEET, tasks=TASKS))
    world.key("ward")
    return world


def evaluated(name: str, **more: Any) -> Evaluated:
    model = {"good": "echo", "weak": "answer"}[name]
    return Evaluated(**{"engine": "scripted", "model": model, "operator": "self", **more})


def items(name: str, right: int, n: int, task: str = "sums", **more: Any) -> tuple[Item, ...]:
    return tuple(
        Item(
            case=f"c{i}", task=task, deployment=name, status="right" if i < right else "wrong", why="", **more
        )
        for i in range(n)
    )


def evaluation(*found: Item, **more: Any) -> Evaluation:
    values: dict[str, Any] = {
        "format": FORMAT, "at": AT, "suite": "sha256:00", "app": "ward", "home": "home", "judge": None,
        "evaluated": {name: evaluated(name) for name in ("good", "weak")}, **more,
    }  # fmt: skip
    return Evaluation(items=found, **values)


def kept(world: World, one: Evaluation) -> str:
    world.paths.root.joinpath("evaluations").mkdir(exist_ok=True)
    return evaluations.keep(world.paths, one).digest


def standing(world: World, days: int = 180, today: date = TODAY, **fleet: Any) -> capabilities.InForce:
    known = parse(world.paths.config.read_text()).fleet
    return capabilities.standing(world.paths, msgspec.structs.replace(known, **fleet), days, today)


def lines(found: capabilities.InForce) -> dict[tuple[str, str], str]:
    return {(line.deployment, line.task): line.why for line in found.lines}


def test_an_evaluation_in_use_decides_and_shows_everywhere(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    name = kept(world, evaluation(*items("good", 117, 120), *items("weak", 90, 120)))
    with Inside(world) as inside:
        before = inside.chat(chat("sums"), app="ward")
        assert before.headers["allod-deployment"] == "weak", "declared 0.9 against 0.6"
    done = world.here("eval", "use", name[7:15], "--by", "Ada", "--json")
    assert json.loads(done.stdout)["by"] == "Ada"
    assert world.here("eval", "use", name).returncode == 2, "it counts already"
    status = json.loads(world.here("eval", "status", "--json").stdout)
    rows = {(row["deployment"], row["task"]): row for row in status["quality"]}
    assert rows["good", "sums"]["basis"] == "measured"
    assert 0.9 < float(rows["good", "sums"]["at_least"]) < float(rows["good", "sums"]["expected"]) < 0.98
    assert rows["good", "default"] == {
        "deployment": "good", "task": "default", "expected": "0.6", "at_least": None, "basis": "declared",
        "cases": "0", "until": None,
    }  # fmt: skip
    explained = json.loads(world.here("explain", "--app", "ward", "--task", "sums", "--json").stdout)
    assert explained["plan"] == ["good"]
    weak = next(c for c in explained["candidates"] if c["deployment"] == "weak")
    rule = weak["rules"][0]
    assert rule["id"] == "quality.floor"
    assert rule["got"].endswith(f"from 120 cases (measured), evaluation {name}")
    assert "expected, at least 0.6" in rule["got"]
    assert rule["required"] == "at least 0.8, with 95 %"
    with Inside(world) as inside:
        answer = inside.chat(chat("sums"), app="ward")
        assert answer.headers["allod-deployment"] == "good"
        assert inside.chat(chat("weak"), app="ward").headers["allod-deployment"] == "weak"
        inside.gateway.store.flush()
        notice = next(leaf for leaf in log_of(inside) if leaf.get("subject") == "capability")
        assert (notice["facts"]["in_use"], notice["facts"]["changed_by"]) == ("1", "Ada")
        row = world.request_row(answer.receipt)
    assert row is not None
    with contextlib.closing(world.tables()) as tables:
        record = tables.record(row.decision)
    assert record is not None
    assert holds(record), "I8"
    good = next(c for c in read_record(record).facts.candidates if c.deployment == "good")
    assert good.evidence is not None
    assert good.evidence.evaluations == (name,)
    again = world.here("policy", "simulate", "--since", "1h", "--json")
    assert again.returncode == 0, again
    assert world.here("eval", "drop", name[7:12]).returncode == 0
    assert uses.uses(world.paths) == ()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"model": "echo-2"}, "another is served now: model echo instead of echo-2"),
        ({"weights": "sha256:aa"}, "another is served now: weights none instead of sha256:aa"),
        ({"template": "sha256:bb"}, "another is served now: template none instead of sha256:bb"),
        ({"operator": "us-cloud"}, "another is served now: operator self instead of us-cloud"),
        ({"changed": True}, "the deployment became another while it was asked"),
    ],
)
def test_an_evaluation_of_something_else_does_not_count(
    tmp_path: Path, changed: dict[str, Any], why: str
) -> None:
    world = world_of(tmp_path)
    told = {"good": evaluated("good", **changed), "weak": evaluated("weak")}
    name = kept(world, evaluation(*items("good", 100, 100), *items("weak", 90, 100), evaluated=told))
    uses.use(world.paths, name, None, "Ada", AT)
    found = standing(world)
    assert lines(found) == {("good", "sums"): why, ("weak", "sums"): ""}
    assert set(found.evidence) == {"weak"}
    exchanged = standing(world, weights={"weak": Weights(weights="sha256:cc")})
    assert "weights sha256:cc instead of none" in lines(exchanged)["weak", "sums"]


def test_what_else_does_not_count_and_why(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    found = evaluation(
        *items("good", 9, 10, "default"), *items("good", 9, 10, "gone"), *items("good", 9, 10, "deep"),
        *items("good", 9, 10, "sums", judged=True),
        *(Item(case="r", task="sums", deployment="weak", status="refused", why="law"),),
    )  # fmt: skip
    name = kept(world, found)
    older = kept(world, msgspec.structs.replace(found, format=OLDER, evaluated={}))
    with pytest.raises(Invalid, match="cannot count"):
        uses.use(world.paths, older, None, "Ada", AT)
    with pytest.raises(Invalid, match="no task"):
        uses.use(world.paths, name, "extract", "Ada", AT)
    uses.use(world.paths, name, None, "Ada", AT)
    assert lines(standing(world)) == {
        ("good", "default"): "",
        ("good", "gone"): "there is no such task in the configuration",
        ("good", "deep"): "it was asked at effort default, the task asks at high",
        ("good", "sums"): "judged by a model whose errors were not measured on this task",
        ("weak", "sums"): "every case was refused it",
    }  # fmt: skip


def test_evaluations_grow_too_old_one_by_one(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    first = kept(world, evaluation(*items("good", 40, 50), at="2026-06-01T00:00:00.000Z"))
    second = kept(world, evaluation(*items("good", 95, 100), at=AT))
    for name in (first, second):
        uses.use(world.paths, name, "sums", "Ada", AT)
    both, later = standing(world).evidence["good"]["sums"]
    assert (both.until, both.cases, both.evaluations) == (date(2026, 11, 28), 150, (first, second))
    assert (later.until, later.cases, later.evaluations) == (date(2027, 5, 19), 100, (second,))
    assert later.low > both.low
    old = standing(world, today=date(2026, 11, 28))
    assert "too old: it counted until 2026-11-28" in old.ignored[0].why
    assert old.evidence["good"]["sums"] == (later,)
    assert standing(world, days=5).evidence == {}


@pytest.mark.parametrize("file", ["use.json", "priors.json"])
@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[1]", b"\xff", b'{"format":"allod-evaluations-in-use-1", "uses":[]}']
)
def test_a_damaged_file_stops_the_start(tmp_path: Path, file: str, raw: bytes) -> None:
    world = world_of(tmp_path)
    folder = world.root / "evaluations"
    folder.mkdir()
    (folder / file).write_bytes(raw)
    with pytest.raises(Integrity, match="damaged"):
        standing(world)


def test_what_stops_the_start_is_exit_3_and_can_be_put_right(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    name = kept(world, evaluation(*items("good", 9, 10)))
    uses.use(world.paths, name, None, "Ada", AT)
    path = world.root / "evaluations" / f"{name[7:23]}.json"
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'"wrong"', b'"right"'))
    assert world.here("up", "--json", "--port", "0").returncode == 3
    assert world.here("explain", "--app", "ward").returncode == 3
    path.unlink()
    gone = world.here("eval", "status")
    assert gone.returncode == 3
    assert f"allod eval drop {name}" in gone.stderr
    assert world.here("eval", "drop", name).returncode == 0
    assert world.here("eval", "status").returncode == 0
    (world.root / "evaluations" / "use.json").write_bytes(b"x")
    assert world.here("eval", "drop", "--all").returncode == 0
    assert world.here("eval", "status").returncode == 0


def test_two_at_once_lose_no_entry(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    names = [kept(world, evaluation(*items("good", n, 20))) for n in range(12)]
    threads = [
        threading.Thread(target=uses.use, args=(world.paths, name, None, f"{n}", AT))
        for n, name in enumerate(names)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.evaluation for one in uses.uses(world.paths)} == set(names)


def prior(**more: Any) -> Prior:
    values: dict[str, Any] = {
        "benchmark": "B", "model": "echo", "score": "0.95", "items": 1000, "harness": "h", "source": "paper",
        "retrieved": "2026-11-01", "contamination": "excluded", "relevance": "0.9", "label_errors": "0.01",
    }  # fmt: skip
    published = msgspec.convert({**values, **more}, Published)
    return Prior(task="sums", published=published, by="Ada", at=AT)


def test_published_scores_are_weak_priors_with_their_audit(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    file = tmp_path / "priors.toml"
    text = (
        '[[prior]]\nmodel = "echo"\ntask = "sums"\nbenchmark = "B"\nscore = 0.95\nitems = 1000\n'
        'source = "paper"\nretrieved = 2026-11-01\nwithheld = ["prompts"]\n'
    )
    for wrong, said in (
        ("score = 0.95", "score is missing"),
        ("2026-11-01", "TOML"),
        ('"sums"', "there is no"),
    ):
        file.write_text(text.replace(wrong, "" if wrong != '"sums"' else '"soms"'))
        refused = world.here("eval", "prior", "add", str(file))
        assert refused.returncode == 2, refused
        assert said in refused.stderr
    file.write_text(text)
    added = json.loads(world.here("eval", "prior", "add", str(file), "--json").stdout)
    assert added[0]["why"] == [
        "relevance 0.5", "harness not published", "contamination unknown", "not published: prompts",
        "labels not examined",
    ]  # fmt: skip
    assert added[0]["worth"] == pytest.approx(12 * 0.5 * 0.5 * 0.6 * 0.7 * 0.8, abs=0.01)
    assert world.here("eval", "prior", "add", str(file)).returncode == 2, "it is there already"
    assert "less by   harness not published" in world.here("eval", "prior", "show").stdout
    good = standing(world).evidence["good"]["sums"][0]
    assert (good.basis, good.until, good.cases) == ("published", None, 0)
    assert good.low < 0.5, "nobody's floor of 0.8 is met by a publication"
    assert world.here("eval", "prior", "remove", added[0]["name"]).returncode == 0
    assert standing(world).evidence == {}


def test_some_dozens_of_own_cases_outweigh_any_publication(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    uses.add_priors(world.paths, [prior(benchmark=f"B{n}", score="0.99") for n in range(40)])
    before = standing(world).evidence["good"]["sums"][0]
    assert before.value > 0.9
    uses.use(world.paths, kept(world, evaluation(*items("good", 30, 60))), None, "Ada", AT)
    after = standing(world).evidence["good"]["sums"][0]
    assert after.value < 0.7
    assert after.basis == "measured"


def test_a_score_of_a_model_nobody_serves_or_of_another_now_is_told(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    named = msgspec.structs.replace(prior(), deployment="good", evaluated=evaluated("good", model="old"))
    uses.add_priors(
        world.paths, [prior(model="gone"), named, prior(contamination="measured", label_errors="0.5")]
    )
    assert [line.why for line in standing(world).lines] == [
        "no deployment serves this model",
        "another is served now: model echo instead of old",
        "its audit leaves nothing of it",
    ]


def test_with_nothing_measured_records_are_what_they_were(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    with Inside(world) as inside:
        answer = inside.chat(chat("sums"), app="ward")
        inside.gateway.store.flush()
        row = world.request_row(answer.receipt)
        assert row is not None
        record = inside.gateway.store.database.record(row.decision)
        assert not any(leaf.get("subject") == "capability" for leaf in log_of(inside))
    assert b"evidence" not in record
    assert b"expected_tokens" not in record
    assert digest(record) == row.decision
