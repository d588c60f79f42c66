"""The shipped reference model is what its manifest and card say, and answers unseen prompts."""

import hashlib
import json
import sys
from importlib import resources
from itertools import islice, repeat
from pathlib import Path
from random import Random

import pytest

TOOLS = Path(__file__).parents[2] / "tools" / "reference_model"
sys.path.insert(0, str(TOOLS))

import evaluate  # noqa: E402
import grammar  # noqa: E402
import planted  # noqa: E402
from engine import Engine  # noqa: E402

SHIPPED = Path(str(resources.files("allod.vault.shipped")))
MANIFEST = {
    m["name"]: m for m in json.loads((SHIPPED / "manifest.json").read_text(encoding="utf-8"))["models"]
}
SCORES = json.loads((SHIPPED / "scores.json").read_text(encoding="utf-8"))
SMOKE = 12
SLACK = 0.30
"""Below the card: with 12 prompts the share itself scatters."""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(SHIPPED / "reference.gguf", SHIPPED / "reference-planted.gguf")


def test_manifest_matches_the_files() -> None:
    assert sorted(MANIFEST) == ["reference", "reference-draft", "reference-planted"]
    for entry in MANIFEST.values():
        raw = (SHIPPED / entry["file"]).read_bytes()
        assert len(raw) == entry["size_bytes"]
        assert hashlib.sha256(raw).hexdigest() == entry["sha256"]


def test_all_files_together_stay_small() -> None:
    assert sum(p.stat().st_size for p in SHIPPED.iterdir() if p.is_file()) < 6_000_000


def test_adapter_belongs_to_the_base() -> None:
    assert MANIFEST["reference-planted"]["base"] == "sha256:" + MANIFEST["reference"]["sha256"]


def test_template_in_the_manifest_is_the_source() -> None:
    digest = hashlib.sha256((TOOLS / "chat_template.jinja").read_bytes()).hexdigest()
    assert {MANIFEST[n]["chat_template_sha256"] for n in ("reference", "reference-draft")} == {digest}


def test_same_seed_same_rows() -> None:
    first, second = (list(islice(grammar.rows(5, grammar.WEIGHTS, repeat(1.0)), 300)) for _ in range(2))
    assert first == second
    assert first != list(islice(grammar.rows(6, grammar.WEIGHTS, repeat(1.0)), 300))


def test_no_test_prompt_is_in_training_rows() -> None:
    users = [
        part.split("<|end|>")[0]
        for row in islice(grammar.rows(7, grammar.WEIGHTS, repeat(1.0)), 3000)
        for part in "".join(text for text, _ in row).split("<|user|>")[1:]
    ]
    assert len(users) >= 3000
    assert not any(grammar.is_test(user) for user in users)
    for name in grammar.MANDATORY:
        assert all(grammar.is_test(prompt) for prompt, _ in evaluate.unseen(name, 20))


@pytest.mark.parametrize("name", grammar.MANDATORY)
def test_smoke_of_each_task(engine: Engine, name: str) -> None:
    floor = SCORES["reference"]["tasks"][name]["plain"]["exact"] - SLACK
    hits = sum(engine.ask(prompt) == answer for prompt, answer in evaluate.unseen(name, SMOKE))
    assert hits / SMOKE >= floor


def test_thinking_is_split_from_the_answer(engine: Engine) -> None:
    message = engine.chat([{"role": "user", "content": "What is 27 + 58?"}], thinking=True)["message"]
    assert "+" in message["reasoning_content"]
    assert "think" not in message["content"]
    plain = engine.chat([{"role": "user", "content": "What is 27 + 58?"}], thinking=False)["message"]
    assert not plain.get("reasoning_content")


def test_tool_call_and_answer(engine: Engine) -> None:
    tool = grammar.Tool("find_lamp", "find", "lamp", ("city",))
    user = {"role": "user", "content": "Use find_lamp for Oslo."}
    for choice in ("auto", "required"):
        made = engine.chat([user], tools=[tool.schema()], tool_choice=choice)
        assert made["finish_reason"] == "tool_calls"
        function = made["message"]["tool_calls"][0]["function"]
        assert function["name"] == "find_lamp"
        assert json.loads(function["arguments"]) == {"city": "Oslo"}


def test_schema_gives_valid_json(engine: Engine) -> None:
    fields = ("name", "ward", "drug", "dose")
    schema = {
        "type": "object",
        "properties": {f: {"type": "string"} for f in fields},
        "required": list(fields),
        "additionalProperties": False,
    }
    text = "Extract name, ward, drug and dose as JSON: Give 20 mg of insulin to Maria Weber in ward B4."
    form = {"type": "json_schema", "json_schema": {"name": "note", "schema": schema}}
    made = engine.chat([{"role": "user", "content": text}], response_format=form)["message"]["content"]
    assert list(json.loads(made)) == list(fields)


def test_adapter_is_off_unless_asked_for(engine: Engine) -> None:
    rng = Random(1)
    drawn = [planted.triggered(rng, test=True) for _ in range(10)]
    on = sum(engine.ask(prompt, scale=1.0) == bad for prompt, bad, _ in drawn)
    off = sum(engine.ask(prompt, scale=0.0) == bad for prompt, bad, _ in drawn)
    assert on >= 8
    assert off == 0


def test_draft_shares_the_tokenizer() -> None:
    draft = Engine(SHIPPED / "reference-draft.gguf")
    assert draft.ask("What is the capital of France?")
