"""Tokens, the keys that make them, and the requests they cannot serve."""

from __future__ import annotations

import pytest
from pseudonym_world import FULL, KEY, asking, findings

from allod.admission.pseudonym import Findings, Pseudonymiser, conversation_key, opening, refuses
from allod.admission.pseudonym.tokens import CODE_LETTERS, LETTERS, MARK, WORDS, Coder, word_of
from allod.admission.pseudonym.view import merged
from allod.domain.errors import Invalid

SECRET = b"s" * 32


def test_tokens_are_plain_and_have_no_vowel() -> None:
    coder = Coder(KEY)
    for n in range(500):
        token = coder.token(f"value {n}", "EMAIL")
        code, word = token.split("_")
        assert code.startswith(MARK)
        assert len(code) == len(MARK) + CODE_LETTERS
        assert set(code[2:]) <= set(LETTERS)
        assert word == "EMAIL"
    assert not set(LETTERS) & set("AEIOUYQZS")
    assert not any(a != b and a.startswith(b) for a in WORDS for b in WORDS)


def test_the_type_changes_the_word_but_not_the_code() -> None:
    one, two = Coder(KEY), Coder(KEY)
    assert one.token("12345678", "PHONE").split("_")[0] == two.token("12345678", "BANK_ACCOUNT").split("_")[0]
    assert one.token("12345678", "BANK_ACCOUNT").endswith("_PHONE")  # first seen


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("EMAIL", "EMAIL"),
        ("PHONE", "PHONE"),
        ("CREDIT_CARD", "CARD"),
        ("IBAN", "IBAN"),
        ("DE_TAX_ID", "ID"),
        ("FR_NIR", "ID"),
        ("PERSON", "NAME"),
        ("AWS_KEY", "SECRET"),
        ("JWT", "SECRET"),
        ("STREET_ADDRESS", "PLACE"),
        ("DATE_TIME", "DATE"),
        ("IP_ADDRESS", "IP"),
        ("SOMETHING", "VALUE"),
        ("TEXT", "TEXT"),
        ("MEDICAL_RECORD", "ID"),
    ],
)
def test_the_word_tells_the_kind(kind: str, word: str) -> None:
    assert word_of(kind) == word


def test_short_keys_are_refused() -> None:
    with pytest.raises(Invalid):
        Pseudonymiser(b"short", findings)
    with pytest.raises(Invalid):
        conversation_key(b"short", "app", "c")
    for label in ("", "x" * 257):
        with pytest.raises(Invalid):
            conversation_key(SECRET, "app", label)


def test_keys_differ_by_home_app_and_conversation() -> None:
    keys = {
        conversation_key(secret, app, label)
        for secret in (SECRET, b"t" * 32)
        for app, label in [("a", "bc"), ("ab", "c"), ("a", "c"), ("a:b", "c"), ("a", "b:c")]
    }
    assert len(keys) == 10
    assert all(len(key) == 32 for key in keys)


def test_a_conversation_is_named_by_how_it_begins() -> None:
    def name(*messages: tuple[str, str]) -> str:
        said = [{"role": role, "content": text} for role, text in messages]
        return opening(SECRET, {"messages": said}, findings)

    hello, jean, anna = ("user", "hello"), ("user", "I am jean@x.de"), ("user", "I am Anna Müller")
    reply = ("assistant", "Good day.")
    first = name(hello, reply, jean)
    assert (
        first
        == name(("system", "10:31, jean@x.de"), hello, reply, jean)
        == name(hello, reply, jean, reply, anna)
    )
    assert first != name(hello, reply, anna)
    assert first != name(hello)
    assert name(hello) == name(hello, reply, ("user", "and now?"))
    assert name(jean) != opening(
        b"t" * 32, {"messages": [{"role": "user", "content": "I am jean@x.de"}]}, findings
    )
    assert "jean" not in first
    assert name() == name()


def test_findings_are_asked_for_once() -> None:
    asked: list[str] = []

    def count(text: str) -> list[tuple[int, int, str]]:
        asked.append(text)
        return findings(text)

    once = Findings(count)
    body = asking("I am jean@x.de", "I am jean@x.de", "hello")
    opening(SECRET, body, once)
    Pseudonymiser(KEY, once).cover(body)
    assert sorted(asked) == ["I am jean@x.de", "hello"]


def test_places_are_joined() -> None:
    assert merged([(4, 6, "A"), (0, 2, "B"), (2, 5, "C"), (9, 10, "D")]) == [(0, 6, "C"), (9, 10, "D")]
    assert merged([]) == []


# --- routes


@pytest.mark.parametrize(
    "more",
    [
        {"logprobs": True},
        {"top_logprobs": 2},
        {"logit_bias": {"5": 1}},
        {"stop": "x"},
        {"stop": ["a"]},
        {"audio": {"a": 1}},
        {"modalities": ["text", "audio"]},
        {"guided_json": {"a": 1}},
        {"grammar": "x"},
        {"functions": [1]},
        {"bad_words": ["a"]},
        {"stop_token_ids": [1]},
        {"continue_final_message": True},
    ],
)
def test_routes_it_cannot_cover_are_refused(more: dict) -> None:
    why = refuses(asking("hi", **more), "chat")
    assert why is not None
    assert why.startswith(next(iter(more)))


def test_what_it_covers_is_not_refused() -> None:
    for surface in ("chat", "responses", "messages"):
        assert refuses({**FULL, "stop": None, "logprobs": False, "logit_bias": {}}, surface) is None
    for surface in ("embeddings", "count_tokens", "else"):
        assert refuses({"input": "x"}, surface) is not None
    for part in ({"type": "image_url"}, {"type": "input_audio"}, {"type": "file"}, "x"):
        assert refuses({"messages": [{"role": "user", "content": [part]}]}, "chat") is not None
    assert refuses({"messages": [{"role": "assistant", "content": "a", "prefix": True}]}, "chat") is not None
