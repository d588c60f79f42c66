"""Operators that are hostile: what they may see of a pseudonymised app, and what they may answer (I1)."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import LAWFUL, OPERATORS, Inside, Region, World, chat, config, deployment, messages, responses

from allod.admission.pseudonym import Covered, Pseudonymiser, Restorer, conversation_key
from allod.admission.pseudonym.tokens import LETTERS, WORDS
from allod.domain.chat import Chunk, Finished, ToolCallDelta, Whole
from allod.domain.errors import Integrity

MAIL, OTHER_MAIL = "anna.weber@klinik-nord.de", "bo.lind@sjukhus.se"
IBAN = "DE89 3704 0044 0532 0130 00"
VALUES = (MAIL, OTHER_MAIL, IBAN)
TOKEN = re.compile(r"QZ[A-Z]{10}")


def found(text: str) -> list[tuple[int, int, str]]:
    return [(m.start(), m.end(), "EMAIL") for value in VALUES for m in re.finditer(re.escape(value), text)]


def covered(*texts: str, label: str = "one") -> Covered:
    key = conversation_key(b"s" * 32, "office", label)
    body = {"model": "m", "messages": [{"role": "user", "content": text} for text in texts]}
    return Pseudonymiser(key, found).cover(body)


OURS = covered(f"{MAIL} and {IBAN}")
THEIRS = covered(f"{MAIL} and {OTHER_MAIL}", label="two")
CODES, STRANGE = tuple(OURS.table.values), tuple(THEIRS.table.values)


def streamed(text: str, rng: random.Random, *, arguments: bool = False, finish: str = "stop") -> str:
    """Return what a client gets of an answer cut anywhere."""
    restorer, out, at = Restorer(OURS.table), [], 0
    events: list[Any] = []
    while at < len(text):
        step = rng.randint(1, 7)
        piece = text[at : at + step]
        call = ToolCallDelta(index=0, id="c", name="", arguments=piece)
        events.append(Chunk(tool_calls=(call,)) if arguments else Chunk(text=piece))
        at += step
    events += [Chunk(finish=finish), Finished()]
    for event in events:
        got = [one for one in restorer.events((event,)) if isinstance(one, Chunk)]
        out += [one.text + "".join(call.arguments for call in one.tool_calls) for one in got]
    return "".join(out)


def invented(rng: random.Random) -> str:
    return "QZ" + "".join(rng.choice(LETTERS) for _ in range(10))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_answer_however_made_up_or_cut_passes_a_token_or_takes_one_for_another(seed: int) -> None:
    rng = random.Random(seed)
    mine = rng.choice(CODES)
    spoiled = list(mine)
    spoiled[rng.randrange(2, 12)] = rng.choice(LETTERS)
    code = rng.choice(
        (mine, rng.choice(STRANGE), invented(rng), "".join(spoiled), mine[: rng.randint(6, 11)])
    )
    word = rng.choice(("", "_EMAIL", "_NAME", "_" + rng.choice(WORDS)))
    before, after = rng.choice(("", "to ", "(", '"', "é")), rng.choice(("", ".", " and so on", ")", "\n"))
    known = code in CODES
    try:
        got = streamed(before + code + word + after, rng, arguments=rng.random() < 0.3)
    except Integrity:
        assert not known
        return
    assert known, (code, word)
    assert got == before + OURS.table.values[code] + after
    assert OTHER_MAIL not in got


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_token_hidden_in_escapes_is_restored_as_json_or_ends_the_answer(seed: int) -> None:
    rng = random.Random(seed)
    code = rng.choice((*CODES, rng.choice(STRANGE)))
    token = f"{code}_EMAIL"
    hidden = "".join(f"\\u{ord(c):04x}" if rng.random() < 0.4 else c for c in token)
    text = json.dumps({"to": "@"}).replace("@", hidden)
    try:
        got = streamed(text, rng, arguments=True)
    except Integrity:
        assert code not in CODES
        return
    assert json.loads(got) == {"to": OURS.table.values[code]}


@pytest.mark.parametrize("name", [f"call_{CODES[0]}_EMAIL", f"{STRANGE[1]}_EMAIL", CODES[1].lower()])
def test_a_token_in_a_tools_name_ends_the_answer(name: str) -> None:
    call = ToolCallDelta(index=0, id="c", name=name, arguments="{}")
    with pytest.raises(Integrity):
        Restorer(OURS.table).events((Chunk(tool_calls=(call,)),))
    function = {"name": name, "arguments": "{}"}
    message = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": function}]}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    with pytest.raises(Integrity):
        Restorer(OURS.table).whole(Whole(body=body, finish="tool_calls"))


def test_a_token_that_ends_with_the_answer_is_left_out_only_where_the_operator_was_cut_off() -> None:
    for size in range(6, 12):
        rng = random.Random(size)
        begun = "write to " + CODES[0][:size]
        with pytest.raises(Integrity):
            streamed(begun, rng)
        assert streamed(begun, rng, finish="length") == "write to "


@pytest.mark.parametrize(
    "member", ["content", "reasoning_content", "refusal", "annotations", "reasoning_details", "unheard_of"]
)
def test_no_member_of_a_whole_answer_carries_a_strange_token(member: str) -> None:
    said: Any = f"see {STRANGE[1]}_EMAIL"
    value = said if member in {"content", "reasoning_content", "refusal"} else [{"deep": {said: [said]}}]
    message = {"role": "assistant", "content": "x", member: value}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    with pytest.raises(Integrity):
        Restorer(OURS.table).whole(Whole(body=body, finish="stop"))


# --- a fleet of our own and others', with failures, retries and fallbacks

PARTNER = {"id": "partner", "seat": "FR", "controlled_from": ["FR"], "compelled_by": []}
ATTESTED = {"value": True, "grade": "attested"}
ACTS = ("echo", "http-500", "reset", "garbage", "truncate", "usage-missing")
ORDERS = 24


@pytest.fixture(scope="module")
def regions() -> Iterator[tuple[Region, Region]]:
    with Region() as others, Region() as ours:
        yield others, ours


@pytest.fixture(scope="module")
def fleet(regions: tuple[Region, Region], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    others, ours = regions
    theirs = {**LAWFUL, "operator": "partner", "records_auditable": ATTESTED, "inspectable": ATTESTED}
    deployments = [
        *(deployment(f"theirs-{act}", act, base_url=others.url, retries=1, **theirs) for act in ACTS),
        *(deployment(f"own-{act}", act, base_url=ours.url, retries=1) for act in ACTS),
    ]
    rng, names = random.Random(7), [one["id"] for one in deployments]
    tasks = [{"name": f"t{n}", "deployments": rng.sample(names, 4)} for n in range(ORDERS)]
    apps = ({"id": "office", "classes": ["public"], "pseudonymise": True},)
    text = config(deployments, apps=apps, tasks=tasks, operators=(*OPERATORS, PARTNER))
    world = World(tmp_path_factory.mktemp("mixed") / "home", text)
    world.key("office")
    with Inside(world) as up:
        yield up


def test_I1_no_uncovered_byte_reaches_another_operator_over_retries_and_fallbacks(
    fleet: Inside, regions: tuple[Region, Region]
) -> None:
    others, ours = regions
    others.clear()
    ours.clear()
    rng, answered = random.Random(11), 0
    for n in range(ORDERS):
        said = f"Request {n}: write to {MAIL}, then pay {IBAN}; copy {OTHER_MAIL}."
        stream = rng.random() < 0.5
        path, body = rng.choice(
            (
                ("/v1/chat/completions", chat(f"t{n}", said, stream=stream)),
                ("/v1/messages", messages(f"t{n}", said, stream=stream)),
                ("/v1/responses", responses(f"t{n}", said, stream=stream)),
            )
        )
        if rng.random() < 0.2:
            body["metadata"] = {"user_id": MAIL} if path == "/v1/messages" else {"person": MAIL}
        answer = fleet.start(path, body, app="office")
        got = answer.read().decode()
        answered += answer.status == 200
        assert not TOKEN.search(got), got
    for seen in others.seen:
        for secret in (MAIL, OTHER_MAIL, "0532", "klinik-nord", "bo.lind"):
            assert secret.encode() not in seen.body
            assert secret not in str(seen.headers)
        assert TOKEN.search(seen.body.decode())
    clear = [seen for seen in ours.seen if MAIL.encode() in seen.body]
    assert len(others.seen) > ORDERS / 2
    assert clear
    assert answered > ORDERS / 3
