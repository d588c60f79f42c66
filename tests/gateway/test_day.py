"""The tour of a day, small: the real gateway, scripted deployments, the page and the plot."""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parents[2]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def tour(monkeypatch: pytest.MonkeyPatch):
    """Make the example's modules importable by the names they use for each other."""
    monkeypatch.syspath_prepend(str(ROOT / "examples/day"))
    before = set(sys.modules)
    import run

    yield run
    for name in set(sys.modules) - before:
        if name == "run" or name.startswith("day_"):
            del sys.modules[name]


def test_a_small_day_is_lawful_paid_for_once_and_says_that_it_is_simulated(tour, tmp_path: Path) -> None:
    models = (*(role.model for role in tour.ROLES.values()), tour.SMALL)
    outcomes, why = tour.load(tmp_path, models, tour.SEED)
    assert why, "there is nothing recorded in an empty folder"
    hours = tour.day(outcomes, 60, tour.SEED)
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    found = asyncio.run(tour.Played(outcomes, home, hours, quiet=True).page())

    assert len(found.rows) == sum(map(len, hours)) >= 60
    outside = {"frontier", "bloc-deepseek"}
    personal = [row for row in found.rows if row.stream == "sums, personal"]
    assert personal
    assert not {row.by for row in personal} & outside, "I1"
    assert all(row.answered for row in personal), "their reference was never down"
    down = [row for row in found.rows if 17 <= row.at < 18 and row.against == "frontier"]
    assert all(not row.answered for row in down), "nothing was proven, so only the reference may answer"
    assert all(row.rule == "reference" for row in found.rows), "a few audits open nothing"
    assert all(row.right == row.reference_right for row in found.rows if row.answered)
    assert found.billed == found.logged > Decimal(0)  # I4
    assert {one.stream for one in found.moved if one.what == "begun" and one.at < 20} <= {
        row.stream for row in found.rows
    }

    answered = {name: {row.by for row in rows} for name, rows in found.compared}
    spent = {name: sum(row.spent for row in rows) for name, rows in found.compared}
    assert answered["best"] == {"frontier"}
    assert answered["sovereign"] <= {"own-llama", "own-qwen"}
    assert spent["cheapest"] < spent["sovereign"] < spent["best"]

    page = tour.page(found)
    assert "SIMULATED OUTCOMES" in page.split("\n## ")[0]
    assert "replayed" not in page
    inside(tour.plot(found))


def test_recorded_outcomes_are_of_prompts_that_every_model_answered(tour, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is in the extra `dev`")
    from pyarrow import parquet

    text = {"whole": "What  is\n2 + 2?", "half": "What is 2 + 3?"}
    names = {key: tour.load.__globals__["prompt_id"](one) for key, one in text.items()}
    prompts = [{"prompt_id": names[key], "task": "gsm", "prompt": one} for key, one in text.items()]
    rows = [
        {"prompt_id": names[key], "model": model, "quality": quality, "answer_key": said,
         "input_tokens": 9, "output_tokens": 3}
        for key, model, said, quality in (
            ("whole", "a", "4", 1.0), ("whole", "b", None, 0.0), ("half", "a", "5", 1.0),
        )
    ]  # fmt: skip
    parquet.write_table(pa.Table.from_pylist(prompts), tmp_path / "prompts.parquet")
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "outcomes.parquet")
    outcomes, why = tour.load(tmp_path, ("a", "b"), 1)
    assert not why
    assert "zeroeval" in outcomes.said
    assert outcomes.prompts["gsm"] == [text["whole"]]
    assert outcomes.right(names["whole"], "4") == 1.0
    assert outcomes.right(names["whole"], "") == 0.0, "no answer is never right"
    assert outcomes.right(names["whole"], "unheard of") == 0.0


def inside(svg: str) -> None:
    """Hold that a plot is well formed and that nothing of it, text included, is outside its box."""
    root = ET.fromstring(svg)
    wide, high = map(float, root.attrib["viewBox"].split()[2:])
    texts = list(root.iter(f"{SVG}text"))
    assert any("SIMULATED" in (one.text or "") for one in texts)
    for one in texts:
        size = {"title": 12.6, "head": 9.0}.get(one.attrib["class"], 7.4) * len(one.text or "")
        shift = {"start": 0.0, "middle": 0.5, "end": 1.0}[one.attrib["text-anchor"]] * size
        x = float(one.attrib["x"]) - shift
        assert -1 <= x <= x + size <= wide + 6, one.text
        assert 0 < float(one.attrib["y"]) < high, one.text
    for one in root.iter(f"{SVG}polyline"):
        for point in one.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= wide
            assert 0 <= y <= high
    for one in root.iter(f"{SVG}rect"):
        assert float(one.get("x", 0)) + float(one.get("width", 0)) <= wide
        assert float(one.get("height", 0)) >= 0
