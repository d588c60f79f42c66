# ruff: noqa: RUF001 (words of many languages)
"""Languages are told where a text tells them, and guessed nowhere."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.admission.language import UNKNOWN, asked, need_of, taken

TEXTS = {
    "language:de": "Wie hoch ist der Blutdruck, und was wird dem Patienten bei der Aufnahme verabreicht?",
    "language:en": "What is the dose of this drug for the patient, and how is it to be given?",
    "language:fr": "Quelle est la dose pour le patient, et qui est à prévenir dans ce cas ?",
    "language:es": "¿Cuál es la dosis para el paciente y qué más se le da por la noche?",
    "language:it": "Quale è la dose per il paziente, e che cosa gli viene dato alla sera con il cibo?",
    "language:pl": "Jaka jest dawka dla pacjenta i czy jest to do podania na noc, czy nie?",
    "language:el": "Ποια είναι η δόση για τον ασθενή;",
    "language:th": "ผู้ป่วยได้รับยาเท่าไร",
    "language:ja": "患者の投与量はいくらですか",
    "language:ko": "환자의 용량은 얼마입니까",
    "script:Cyrl": "Какова доза для пациента?",
    "script:Hani": "患者的剂量是多少",
    "script:Arab": "ما هي جرعة المريض؟",
    "script:Hebr": "מה המינון למטופל?",
    "script:Deva": "रोगी की खुराक क्या है?",
}


@pytest.mark.parametrize(("need", "text"), TEXTS.items(), ids=TEXTS)
def test_a_text_tells_its_language_or_its_script(need: str, text: str) -> None:
    assert need_of(text) == need
    assert need_of(text, strict=True) == need


@pytest.mark.parametrize(
    "text", ["", "OK", "x = f(y) + 1", "Müller, Meier, Schmidt", "12345 67890", "the", "🙂🙂🙂🙂"]
)
def test_what_tells_nothing_is_unknown(text: str) -> None:
    assert need_of(text) is None
    assert need_of(text, strict=True) == UNKNOWN


def test_the_last_message_of_the_user_is_read() -> None:
    body: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": "You are helpful."},
            {"role": "user", "content": [{"type": "text", "text": "erst"}, {"type": "text", "text": "dann"}]},
            {"role": "assistant", "content": "nothing"},
        ]
    }
    assert asked(body) == "erst dann"
    assert asked({"input": "a text to embed"}) == "a text to embed"
    for odd in ({}, {"messages": None}, {"messages": [1, {"role": "user"}]}, {"input": [1]}):
        assert asked(odd) == ""


def test_who_takes_what() -> None:
    cyrillic, german = ["script:Cyrl"], ["language:de"]
    assert taken(cyrillic, ("uk",), strict=True) == set(cyrillic)
    assert taken(cyrillic, ("de", "en"), strict=False) == set()
    assert taken(german, ("de",), strict=False) == set(german)
    # unknown excludes nobody, unless it must be known
    assert taken(german, None, strict=False) == set(german)
    assert taken(german, None, strict=True) == set()
    assert taken([UNKNOWN], ("de",), strict=True) == set()


@given(st.text(max_size=3000))
def test_any_text_is_told_or_not(text: str) -> None:
    need = need_of(text)
    assert need is None or need.startswith(("language:", "script:"))
