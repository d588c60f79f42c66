"""Answers in pieces: whatever the cuts, values come back exactly, and nothing uncertain passes."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pseudonym_world import Stream, asking, findings, pieces, pseudonymiser, received, sentence

from allod.admission.pseudonym import Restorer
from allod.admission.pseudonym.stream import Channel
from allod.admission.pseudonym.tokens import CODE_LETTERS, MARK, Coder
from allod.domain.chat import Chunk, Finished, ToolCallDelta, UsageReport, Whole
from allod.domain.errors import Integrity
from allod.domain.usage import Usage

CODER = Coder(b"k" * 32)
TOKEN = CODER.token("jean@x.de", "EMAIL")
CODE = TOKEN[: len(MARK) + CODE_LETTERS]
QUOTED = CODER.token('Ann "Q"\n\\Lee', "PERSON")
VALUES = CODER.values


def restored(text: str, mode: str = "text", *, size: int | None = None, cut: bool = False) -> str:
    channel = Channel(VALUES, mode)
    step = size or max(1, len(text))
    out = "".join(channel.feed(text[at : at + step]) for at in range(0, len(text), step))
    return out + channel.end(cut=cut)


def random_chunkings(count: int, seed: int) -> int:
    draw = random.Random(seed)
    done = 0
    while done < count:
        stream = Stream(draw)
        covered = pseudonymiser().cover(stream.request())
        for _ in range(5):
            chunks = stream.chunks(covered.body, draw)
            got = received(Restorer(covered.table), chunks, draw)
            for key, text in stream.wanted.items():
                if key[1].isdigit():
                    assert json.loads(got.get(key, "")) == json.loads(text)
                else:
                    assert got.get(key, "") == text
            done += 1
    return done


def test_every_random_chunking_restores_exactly() -> None:
    assert random_chunkings(2_000, 1) >= 2_000


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_one_of_100_000_random_chunkings_restores_exactly() -> None:
    """The same, as often as the issue asks for."""
    assert random_chunkings(100_000, 2) >= 100_000


@given(st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_the_cuts_decide_nothing(seed: int) -> None:
    """Damaged text too: every way to cut it gives the same answer, or the same refusal."""
    draw = random.Random(seed)
    covered = pseudonymiser().cover(asking(sentence(draw)))
    letters = list(covered.body["messages"][0]["content"])
    for _ in range(draw.randint(0, 3)):
        letters.insert(draw.randint(0, len(letters)), draw.choice('QZqzBb s_-\\"N1é'))
        if letters and draw.random() < 0.7:
            del letters[draw.randrange(len(letters))]
    text = "".join(letters)

    def outcome(parts: list[str], mode: str) -> str:
        channel = Channel(covered.table.values, mode)
        try:
            return "".join(map(channel.feed, parts)) + channel.end()
        except Integrity:
            return "\0refused"

    for mode in ("text", "json"):
        whole = outcome([text], mode)
        for _ in range(4):
            assert outcome(pieces(text, draw, 3), mode) == whole


@pytest.mark.parametrize("size", [None, 1, 2, 5])
@pytest.mark.parametrize(
    "written",
    [
        TOKEN,
        TOKEN.lower(),
        TOKEN.title(),
        TOKEN.replace("_", " "),
        TOKEN.replace("_", "\\_"),
        TOKEN.replace("_", "-"),
        TOKEN.replace("_", ""),
        TOKEN.lower().replace("_", " "),
        CODE,
        CODE.lower(),
        CODE + "_NAME",
        CODE + "_id",
        CODE[:4] + " " + CODE[4:8] + " " + CODE[8:],
        CODE[:6] + "-" + CODE[6:] + "_EMAIL",
        "_".join(CODE) + "_EMAIL",
        " ".join(CODE),
        CODE[:2] + "\\_" + CODE[2:],
        CODE[:5] + "\u00a0" + CODE[5:],
        CODE[:5] + "\u200b" + CODE[5:],
        CODE[:3].lower() + CODE[3:],
    ],
)
def test_what_models_make_of_a_token_is_still_the_token(written: str, size: int | None) -> None:
    for before, after in [
        ("", ""),
        ("[", "]"),
        ("**", "**"),
        ('"', '"'),
        ("<", ">"),
        ("`", "`."),
        ("(to ", ")"),
        ("é", "é y"),
    ]:
        assert restored(before + written + after, size=size) == before + "jean@x.de" + after
    for after in ["'s", ", ", "\n", "é", "。", ": ok", "_", "__ ", "-", " and"]:
        assert restored(f"to {written}{after}", size=size) == f"to jean@x.de{after}"


def test_the_users_grammar_may_be_glued_to_it() -> None:
    assert restored(f"{CODE}s") == "jean@x.des"
    assert restored(f"{TOKEN}s und {TOKEN}n") == "jean@x.des und jean@x.den"
    assert restored(f"{TOKEN}{TOKEN}") == "jean@x.dejean@x.de"
    assert restored(f"user_{TOKEN}_2024.pdf") == "user_jean@x.de_2024.pdf"
    assert restored(f"user{TOKEN}") == "userjean@x.de"
    assert restored(f"{CODE} name") == "jean@x.de name"  # a word of the model's own
    assert restored(f"{CODE.lower()} name.") == "jean@x.de."  # the token's own word, in its case


CHANGED = "B" if CODE[7] != "B" else "C"


@pytest.mark.parametrize("word", ["EMAIL", "NAME", "ID"])
def test_no_single_slip_passes_and_none_becomes_another_person(word: str) -> None:
    """Every letter left out, doubled or exchanged: the value, or no answer."""
    token, others = f"{CODE}_{word}", ["Lee", "Anna"]
    coder = Coder(b"k" * 32)
    for other in ["jean@x.de", *others]:
        coder.token(other, "PERSON")
    slips = {
        token[:at] + with_ + token[at + 1 :]
        for at in range(len(token))
        for with_ in ("", "B", "k", "a", "7", "-")
    }
    slips |= {token[:at] + token[at] + token[at:] for at in range(len(token))}
    passed = []
    for slip in sorted(slips):
        channel = Channel(coder.values)
        try:
            out = channel.feed(f"to {slip} now") + channel.end()
        except Integrity:
            continue
        assert not any(other in out for other in others)
        if "jean@x.de" not in out:
            passed.append(slip)
    assert passed == []


@pytest.mark.parametrize("size", [None, 1, 3])
@pytest.mark.parametrize(
    "written",
    [
        CODE[:7] + CHANGED + CODE[8:] + "_EMAIL",  # another letter: perhaps another person
        CODE[:11] + "_EMAIL",
        CODE[:8] + ".",
        CODE[:6],
        CODE[:4] + " ",
        CODE[:4],  # shortened
        CODE + "B",
        CODE.lower() + "b",
        TOKEN + "S",
        TOKEN + "1",
        CODE + "7",  # lengthened
        CODE + "_COURRIEL",
        CODE + "_2024.pdf",
        "X" + TOKEN,
        "x" + TOKEN.lower(),
        "5" + TOKEN,
        CODE + "g_NAME",
        CODE[0] + CODE[2:] + "_NAME",
        CODE[:2] + "a" + CODE[3:] + "_NAME",
        CODE.lower() + "_courriel",  # another word
        MARK + "XXXXXXXXXX_NAME",
        "QZBCDFGHJKLM_NAME",
        "qzbcdfghjklm",
        "QZBCDF",  # made up
        "QZ BCDF GHJK LM",
        " ".join(CODE[:9]) + " " + CHANGED + " " + CODE[11:],
    ],
)
def test_what_cannot_be_told_ends_the_answer(written: str, size: int | None) -> None:
    for before, after in [("", ""), ("to ", " at once"), ("(", ")"), ("\n", "\n")]:
        for mode in ("text", "json"):
            with pytest.raises(Integrity) as caught:
                restored(before + written + after, mode, size=size)
            assert "jean" not in caught.value.explain()
            assert written.strip() not in caught.value.explain()


@pytest.mark.parametrize(
    "text",
    [
        "QZSS and QZ8501 fly; a quiz, Q&A, q. Iraqz qz",
        "QZ",
        "q",
        "Qatar",
        "Q Z",
        "quiz" * 50,
        "Aa+QZa9/bcdfqz0",
        "SGVsbG8gUVo=",
        "q" * 300,
        "qzu" * 200,
        "\\" * 9,
        "Q\\",
        "q_",
        "QZ_",
        "QZ-S",
    ],
)
def test_ordinary_text_passes(text: str) -> None:
    for size in (None, 1, 2):
        for mode in ("text", "json", "auto"):
            if mode == "text" or "\\" not in text:
                assert restored(text, mode, size=size) == text


def test_only_the_beginning_of_a_token_is_held_back() -> None:
    channel = Channel(VALUES)
    assert channel.feed("Dear reader, this is it: " + CODE[:7]) == "Dear reader, this is it: "
    assert channel.held == 7
    assert channel.feed(CODE[7:]) == "jean@x.de"  # its word is not waited for
    assert channel.held == 0
    assert channel.feed("_EMA") == ""
    assert channel.feed("IL and more") == " and more"
    for piece in ["The ", "plan ", "is ", "none, ", "I ", "email "]:
        assert channel.feed(piece) == piece


def test_an_answer_cut_at_its_limit_loses_the_beginning_of_a_token() -> None:
    for size in range(2, len(CODE)):
        assert restored("Write to " + CODE[:size], cut=True) == "Write to "
    for size in range(len(CODE), len(TOKEN)):
        assert restored("Write to " + TOKEN[:size], cut=True) in ("Write to jean@x.de", "Write to jean@x.de_")
    with pytest.raises(Integrity):
        restored("Write to QZBCDF and", cut=True)
    with pytest.raises(Integrity):
        restored(TOKEN[:-2])
    assert restored("Q", cut=True) == "Q"


def test_json_stays_json_however_escapes_are_cut() -> None:
    arguments = json.dumps({"to": f"é\n{QUOTED}\t\\{TOKEN}", "n": "日"})
    wanted = {"to": 'é\nAnn "Q"\n\\Lee\t\\jean@x.de', "n": "日"}
    for size in (None, 1, 2, 3, 5, 7):
        assert json.loads(restored(arguments, "json", size=size)) == wanted


def test_letters_written_as_escapes_are_letters() -> None:
    escaped = "".join(f"\\u{ord(c):04x}" for c in TOKEN)
    for text in (
        f'{{"to": "{escaped}"}}',
        f'{{"to": "\\u0051{TOKEN[1:]}"}}',
        f'{{"to": "{CODE}\\u005fEMAIL"}}',
    ):
        for size in (None, 1, 4):
            assert json.loads(restored(text, "json", size=size)) == {"to": "jean@x.de"}
    kept = r'{"p": "C:\\u0051Zbcdfg"}'  # a backslash and a u, not an escape
    assert json.loads(restored(kept.replace("Zbcdfg", ""), "json", size=1)) == {"p": r"C:\u0051"}


def test_a_made_up_token_behind_an_escape_is_seen() -> None:
    for text in (r'{"a": "x\nQZBCDFGHJKLM"}', r'{"a": "x\u00e9QZBCDFGHJKLM"}', r'{"a": "\tqzbcdfgh"}'):
        for size in (None, 1):
            with pytest.raises(Integrity):
                restored(text, "json", size=size)


def test_content_that_is_json_is_written_as_json() -> None:
    for size in (None, 1, 3):
        assert json.loads(restored(f'{{"a": "{QUOTED}"}}', "auto", size=size)) == {"a": 'Ann "Q"\n\\Lee'}
        assert json.loads(restored(f'\n [ "{QUOTED}"]', "auto", size=size)) == ['Ann "Q"\n\\Lee']
        assert restored(f"He is {QUOTED}.", "auto", size=size) == 'He is Ann "Q"\n\\Lee.'
        assert restored(f"[1] is {QUOTED}.", "auto", size=size) == '[1] is Ann "Q"\n\\Lee.'
        # prose that opens like JSON cannot be told from it while it comes: it is written as JSON
        assert restored(f'["{QUOTED}", he said', "auto", size=size) == '["Ann \\"Q\\"\\n\\\\Lee", he said'


# --- events


def restorer(text: str = "jean@x.de") -> tuple[Restorer, str]:
    covered = pseudonymiser().cover(asking(text))
    return Restorer(covered.table), covered.body["messages"][0]["content"]


def test_bytes_with_tokens_in_them_never_pass() -> None:
    one, token = restorer()
    raw = b'data: {"choices":[{"index":0,"delta":{"content":"' + token.encode() + b'"}}]}\n\n'
    events = one.events(
        [
            Chunk(raw=b"data: {}\n\n"),
            Chunk(text=token, raw=raw),
            Chunk(text="!", raw=raw, logprobs={"content": [token]}),
            UsageReport(usage=Usage(), raw=b"data: usage\n\n", block={"x": 1}),
            Finished(model="m", raw=b"data: [DONE]\n\n"),
        ]
    )
    assert [getattr(event, "raw", None) for event in events] == [None] * len(events)
    assert [event.text for event in events if isinstance(event, Chunk)] == ["", "jean@x.de", "!"]
    assert all(event.logprobs is None for event in events if isinstance(event, Chunk))
    assert events[-1] == Finished(model="m")


def test_what_waits_at_the_end_comes_before_it() -> None:
    one, _ = restorer()
    assert one.events([Chunk(text="q")]) == ()
    assert one.events([Chunk(finish="stop")]) == (Chunk(text="q", finish="stop"),)
    assert one.events([Chunk(text="Q", choice=3)]) == ()
    assert one.events([Finished()]) == (Chunk(text="Q", choice=3), Finished())
    delta = ToolCallDelta(index=1, id="c", name="f", arguments='{"a":"q')
    (first,) = one.events([Chunk(tool_calls=(delta,))])
    assert first.tool_calls == (ToolCallDelta(index=1, id="c", name="f", arguments='{"a":"'),)
    (last,) = one.events([Chunk(finish="length")])
    assert last.tool_calls == (ToolCallDelta(index=1, arguments="q"),)


def test_names_of_tools_are_called_as_they_are() -> None:
    one, token = restorer()
    plain = ToolCallDelta(index=0, id="call_1", name="find_quiz", arguments="")
    assert one.events([Chunk(tool_calls=(plain,))]) == (Chunk(tool_calls=(plain,)),)
    with pytest.raises(Integrity):
        one.events([Chunk(tool_calls=(ToolCallDelta(index=0, name=f"mail_{token}"),))])


def test_an_empty_table_hands_everything_on_as_it_came() -> None:
    covered = pseudonymiser().cover(asking("nothing to see"))
    assert len(covered.table) == 0
    events = (Chunk(text="QZBCDFGHJKLM", raw=b"x"), Whole(raw=b"{}"), Finished(raw=b"y"))
    one = Restorer(covered.table)
    assert one.events(events) == events
    assert one.whole(events[1]) is events[1]


def whole_answer(message: dict, finish: str = "stop") -> dict:
    return {
        "id": "x",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": {"content": []}}],
    }


def test_a_whole_answer_is_restored_in_all_of_it() -> None:
    covered = pseudonymiser().cover(asking('jean@x.de is Ann "Q" Lee'))
    mail, name = covered.body["messages"][0]["content"].split(" is ")
    message = {
        "role": "assistant",
        "content": f'{{"who": "{name}"}}',
        "refusal": f"not {mail}",
        "reasoning_content": mail,
        "annotations": [{"type": "url_citation", "url_citation": {"title": name, "start_index": 0}}],
        "thinking_blocks": [{"type": "thinking", "thinking": mail, "signature": "QZBCDFGHJKLM"}],
        "tool_calls": [
            {
                "id": "call_QZBCDFGH",
                "type": "function",
                "function": {"name": "f", "arguments": json.dumps({name: [mail, name, 1.50]})},
            }
        ],
    }
    raw = json.dumps(whole_answer(message)).encode()
    answer = Restorer(covered.table).whole(Whole(raw=raw, finish="stop"))
    assert answer.raw is None
    assert answer.body is not None
    choice = answer.body["choices"][0]
    said = choice["message"]
    assert choice["logprobs"] is None
    assert json.loads(said["content"]) == {"who": 'Ann "Q" Lee'}
    assert (said["refusal"], said["reasoning_content"]) == ("not jean@x.de", "jean@x.de")
    assert said["annotations"][0]["url_citation"]["title"] == 'Ann "Q" Lee'
    assert said["thinking_blocks"] == [
        {"type": "thinking", "thinking": "jean@x.de", "signature": "QZBCDFGHJKLM"}
    ]
    assert said["tool_calls"][0]["id"] == "call_QZBCDFGH"
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {
        'Ann "Q" Lee': ["jean@x.de", 'Ann "Q" Lee', 1.5]
    }


def test_parts_and_cut_answers_whole() -> None:
    one, token = restorer()
    parts = {
        "role": "assistant",
        "content": [{"type": "text", "text": token}, {"type": "thinking", "thinking": [token]}],
    }
    answer = one.whole(Whole(body=whole_answer(parts)))
    assert "jean@x.de" in json.dumps(answer.body)
    assert token not in json.dumps(answer.body)
    cut = one.whole(Whole(body=whole_answer({"role": "assistant", "content": "to " + token[:8]}, "length")))
    assert cut.body is not None
    assert cut.body["choices"][0]["message"]["content"] == "to "
    with pytest.raises(Integrity):
        one.whole(Whole(body=whole_answer({"role": "assistant", "content": "to " + token[:8]})))


@pytest.mark.parametrize(
    "answer",
    [
        Whole(raw=b"{", finish="stop"),
        Whole(raw=b"[]"),
        Whole(raw=b"{}"),
        Whole(body={"choices": [{}]}),
        Whole(),
        Whole(raw=b'{"content": []}', dialect="anthropic"),
        Whole(body={"choices": [{"message": {"tool_calls": [1]}}]}),
    ],
)
def test_a_whole_answer_nobody_can_read_does_not_pass(answer: Whole) -> None:
    with pytest.raises(Integrity):
        restorer()[0].whole(answer)


def test_an_operator_cannot_make_it_keep_endless_texts() -> None:
    one, _ = restorer()
    endless = [Chunk(tool_calls=(ToolCallDelta(index=index, arguments="{"),)) for index in range(10_000)]
    with pytest.raises(Integrity):
        one.events(endless)


def test_time_does_not_grow_with_hostile_text() -> None:
    """What looks like a token again and again is not scanned again and again."""
    for text in (
        "q" * 50_000,
        "qzu" * 20_000,
        "Q_-" * 20_000,
        "QZ\\" * 20_000,
        "\\" * 50_000,
        "\\u005" * 10_000,
        "QZWW " * 10_000,
    ):
        for mode in ("text", "json"):
            Channel(VALUES, mode).feed(text)
    assert findings("") == []
