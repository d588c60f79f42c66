"""A request goes to nobody known not to take its language; what is unknown excludes only if it must."""

from __future__ import annotations

from pathlib import Path

import pytest
from world import Inside, World, chat, config, deployment

GERMAN = "Wie hoch ist der Blutdruck, und was wird dem Patienten bei der Aufnahme verabreicht?"
ENGLISH = "What is the dose of this drug for the patient, and how is it to be given?"
MEASURED = {"value": ["en", "ja"], "grade": "measured", "source": "own cases"}
FLEET = [
    deployment("german", "answer", languages=["de"], quality={"default": 0.8}),
    deployment("global", "echo", languages=MEASURED),
    deployment("silent", "obey", quality={"default": 0.7}),
]
TASKS = [
    {"name": "strict", "require_language": True},
    {"name": "letters", "languages": ["de"]},
]


def test_languages_decide_where_they_are_known(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config(FLEET, tasks=TASKS))
    world.key("ward")
    with Inside(world) as inside:

        def goes_to(model: str, text: str) -> str:
            answer = inside.chat(chat(model, text), app="ward")
            if answer.status == 200:
                return answer.headers["allod-deployment"]
            excluded = answer.json["error"]["allod"]["excluded"]
            return ",".join(sorted({rule["id"] for one in excluded for rule in one["rules"]}))

        assert goes_to("auto", ENGLISH) == "global"
        assert goes_to("auto", GERMAN) == "german"
        assert goes_to("auto", "患者の投与量はいくらですか") == "global"
        assert goes_to("auto", "Какова доза для пациента?") == "silent", "unknown excludes nobody"
        assert goes_to("auto", "OK") == "global", "nor does what cannot be told"
        assert goes_to("strict", GERMAN) == "german"
        assert goes_to("strict", "Какова доза для пациента?") == "capability.language"
        assert goes_to("strict", "OK") == "capability.language"
        assert goes_to("letters", "OK") == "german", "the task says what its requests are in"
        assert goes_to("global", GERMAN) == "capability.language", "pinning bypasses nothing"
    explained = world.here("explain", "--app", "ward", "--task", "letters")
    assert "plan: german then silent" in explained.stdout
    assert "capability.language" in explained.stdout


@pytest.mark.parametrize("wrong", [["German"], ["DE"], ["deu"], "de", [1]])
def test_a_language_is_two_small_letters(tmp_path: Path, wrong: object) -> None:
    world = World(tmp_path / "home", config([deployment("d", "echo", languages=wrong)]))
    done = world.here("explain", "--app", "ward")
    assert done.returncode == 2, done
    assert "languages" in done.stderr
