"""Answers given again: to the very same request, while the law permits it, with a receipt of its own."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import Inside, Region, World, chat, config, deployment, messages, responses, until

from allod.gateway.kept import KeptAnswers, directives
from allod.receipts.commitment import commitment
from allod.receipts.lineage import family
from allod.receipts.verify import verify
from gateway.lineages import file_of
from gateway.lineages import leaf_of as leaf

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
APPS = (
    {"id": "ward", "classes": ["phi"], "cache_s": 300, "purposes": ["treatment", "billing"]},
    {"id": "twin", "classes": ["phi"], "cache_s": 300},
    {"id": "press", "classes": ["public"]},
    {"id": "cover", "classes": ["personal"], "cache_s": 300, "pseudonymise": True},
    {"id": "brief", "classes": ["public"], "cache_s": 1},
)
TASKS = ({"name": "fresh", "cache_s": 0}, {"name": "kept", "cache_s": 60})
QUICK = {"retries": 0, "first_token_ms": 300, "timeout_ms": 600}
SURFACES = [("/v1/chat/completions", chat), ("/v1/messages", messages), ("/v1/responses", responses)]


@pytest.fixture(scope="module")
def region() -> Iterator[Region]:
    with Region() as one:
        yield one


@pytest.fixture(scope="module")
def inside(region: Region, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    fleet = [
        deployment("sound", "answer", base_url=region.url),
        deployment("echo", "echo", base_url=region.url),
        deployment("caller", "tool", base_url=region.url),
        deployment("half", "truncate", base_url=region.url, **QUICK),
        deployment("stuck", "stall-mid", base_url=region.url, retries=0),
    ]
    world = World(tmp_path_factory.mktemp("kept") / "home", config(fleet, apps=APPS, tasks=TASKS))
    for app in APPS:
        world.key(str(app["id"]))
    with Inside(world) as one:
        yield one


@pytest.fixture(autouse=True)
def _empty(inside: Inside) -> None:
    done = threading.Event()
    loop = inside._loop
    assert loop is not None
    loop.call_soon_threadsafe(lambda: (inside.gateway.kept.clear(), done.set()))
    assert done.wait(5)


def ask(
    inside: Inside, body: Any, *, app: str = "ward", path: str = "/v1/chat/completions", **more: Any
) -> Any:
    return inside.call(path, body, app=app, **more)


def hit(answer: Any) -> bool:
    return bool(answer.headers.get("allod-cache") == "hit")


# --- what a hit is


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "make"), SURFACES, ids=["chat", "messages", "responses"])
def test_the_same_request_is_answered_again_without_anybody_being_asked(
    inside: Inside, region: Region, path: str, make: Any, stream: bool
) -> None:
    body = make("sound", f"again on {path}", stream=stream)
    first = inside.start(path, body, app="ward")
    one = first.read()
    region.clear()
    second = inside.start(path, body, app="ward")
    two = second.read()
    assert region.seen == []
    assert second.status == 200
    assert second.headers["allod-cache"] == "hit"
    assert "allod-cache" not in first.headers
    assert second.headers["allod-cost"] == "0"
    assert second.headers["allod-deployment"] == first.headers["allod-deployment"] == "sound"
    if path.endswith("completions") and not stream:
        assert two == one
    vkey = inside.world.paths.log_vkey.read_text().strip()
    assert all(verify(file_of(inside, r), vkey).ok for r in (first.receipt, second.receipt))
    made, again = leaf(inside, first.receipt), leaf(inside, second.receipt)
    assert (again["status"], again["attempts"], again["cost_usd"]) == ("answered", 0, "0")
    assert again["answer_from"] == made["id"]
    assert again["parents"] == [made["id"]]
    assert "seq" not in again
    assert "tokens" not in again
    assert not family([made, again]).findings
    assert not family([made, again]).missing
    assert family([again]).missing == (made["id"],)
    inside.gateway.store.flush()
    assert inside.world.rows(again["id"]) == []
    row = inside.world.request_row(again["id"])
    assert row is not None
    assert row.response_salt is not None
    assert again["response"] == commitment(row.response_salt, two)


def test_embeddings_are_kept_as_well(inside: Inside, region: Region) -> None:
    body = {"model": "sound", "input": ["a word"]}
    first, region_seen = ask(inside, body, path="/v1/embeddings"), len(region.seen)
    second = ask(inside, body, path="/v1/embeddings")
    assert hit(second)
    assert second.body == first.body
    assert len(region.seen) == region_seen


def test_it_is_off_unless_an_app_or_a_task_asks_for_it(inside: Inside) -> None:
    for model, app, kept in (("sound", "press", False), ("kept", "press", True), ("fresh", "ward", False)):
        answers = [ask(inside, chat(model, "twice"), app=app) for _ in range(2)]
        assert [hit(one) for one in answers] == [False, kept], (model, app)
    assert not hit(
        ask(inside, {"model": "sound", "max_tokens": 5, "messages": []}, path="/v1/messages/count_tokens")
    )


# --- what is the same


VARIANTS: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("text", {"messages": [{"role": "user", "content": "hello  there"}]}, {}),
    ("case", {"messages": [{"role": "user", "content": "Hello there"}]}, {}),
    ("role", {"messages": [{"role": "system", "content": "hello there"}]}, {}),
    ("temperature", {"temperature": 0.5}, {}),
    ("seed", {"seed": 7}, {}),
    ("limit", {"max_tokens": 99}, {}),
    ("user", {"user": "another"}, {}),
    ("model", {"model": "echo"}, {}),
    ("auto", {"model": "auto"}, {}),
    ("stream", {"stream": True}, {}),
    ("format", {"response_format": {"type": "json_object"}}, {}),
    ("class", {}, {"Allod-Data-Class": "confidential"}),
    ("purpose", {}, {"Allod-Purpose": "treatment"}),
    ("other purpose", {}, {"Allod-Purpose": "billing"}),
    ("task", {}, {"Allod-Task": "kept"}),
    ("quality", {}, {"Allod-Min-Quality": "0.5"}),
    ("cost", {}, {"Allod-Max-Cost": "1"}),
    ("effort", {}, {"Allod-Effort": "low"}),
]


def test_whatever_differs_is_another_request(inside: Inside) -> None:
    ask(inside, chat("sound"))
    for name, change, headers in VARIANTS:
        fresh = ask(inside, {**chat("sound"), **change}, headers=headers)
        assert fresh.status == 200, (name, fresh)
        assert not hit(fresh), name
        assert hit(ask(inside, {**chat("sound"), **change}, headers=headers)), name
    assert hit(ask(inside, chat("sound")))
    assert hit(ask(inside, {"messages": chat("sound")["messages"], "model": "sound"}))  # members in any order


def test_no_answer_goes_to_another_app(inside: Inside, region: Region) -> None:
    ask(inside, chat("sound", "shared?"), app="ward")
    region.clear()
    other = ask(inside, chat("sound", "shared?"), app="twin")
    assert not hit(other)
    assert len(region.seen) == 1


@pytest.mark.parametrize(
    ("name", "body", "app", "headers"),
    [
        ("pseudonyms", chat("sound", "x"), "cover", {}),
        ("a person", chat("sound", "x"), "ward", {"Allod-Subject": "patient-17"}),
        ("tools", chat("sound", "x", tools=[TOOL]), "ward", {}),
        ("unscanned", chat("sound", "x"), "ward", {"Allod-Data-Class": "unscanned"}),
    ],
)
def test_some_answers_are_never_kept(
    inside: Inside, name: str, body: Any, app: str, headers: dict[str, str]
) -> None:
    answers = [ask(inside, body, app=app, headers=headers) for _ in range(2)]
    assert [one.status for one in answers] == [200, 200], answers
    assert not any(map(hit, answers)), name
    assert len(inside.gateway.kept) == 0


def test_a_broken_a_refused_and_an_aborted_answer_are_never_kept(inside: Inside, region: Region) -> None:
    for stream in (False, True):
        for _ in range(2):
            broken = inside.start("/v1/chat/completions", chat("half", stream=stream), app="ward")
            broken.read()
            assert "allod-cache" not in broken.headers
    refused = ask(inside, chat("sound"), headers={"Allod-Min-Quality": "0.99"})
    assert refused.status == 403
    gone = inside.start("/v1/chat/completions", chat("stuck", stream=True), app="ward")
    next(gone.events())
    gone.drop()
    until(lambda: leaf(inside, gone.receipt)["status"] == "aborted")
    assert len(inside.gateway.kept) == 0


def test_a_caller_may_forbid_it(inside: Inside) -> None:
    body = chat("sound", "mind the header")
    assert not hit(ask(inside, body, headers={"Cache-Control": "no-store"}))
    assert len(inside.gateway.kept) == 0
    ask(inside, body)
    assert not hit(ask(inside, body, headers={"Cache-Control": "no-cache"}))
    assert not hit(ask(inside, body, headers={"Cache-Control": "max-age=0"}))
    assert not hit(ask(inside, body, headers={"Cache-Control": "max-age=x"}))
    assert not hit(ask(inside, body, headers={"Cache-Control": "NO-STORE, max-age=60"}))
    assert hit(ask(inside, body, headers={"Cache-Control": "max-age=60"}))
    assert hit(ask(inside, body))


# --- law, erasure, time and room


def test_I1_an_answer_is_given_again_only_while_the_law_permits_who_made_it(
    inside: Inside, region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(inside, chat("sound", "lawful"))
    policy = inside.gateway.decider.policy
    asked: list[str] = []
    real = policy.recheck
    monkeypatch.setattr(policy, "recheck", lambda q, name: asked.append(name) or real(q, name))
    assert hit(ask(inside, chat("sound", "lawful")))
    assert asked
    monkeypatch.setattr(policy, "recheck", lambda *_: False)
    region.clear()
    again = ask(inside, chat("sound", "lawful"))
    assert not hit(again)
    assert again.status == 503
    assert region.seen == []
    assert len(inside.gateway.kept) == 0


def test_I1_permission_lost_between_finding_and_giving_refuses(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(inside, chat("sound", "in between"))
    policy = inside.gateway.decider.policy
    said = iter([True, False])
    monkeypatch.setattr(policy, "recheck", lambda *_: next(said))
    again = ask(inside, chat("sound", "in between"))
    assert again.status == 403
    assert leaf(inside, again.receipt)["status"] == "refused"


def test_other_law_or_facts_drop_everything(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    import msgspec

    ask(inside, chat("sound", "under the old law"))
    decider = inside.gateway.decider
    real = decider.decide

    def decide(*args: Any, **kwargs: Any) -> Any:
        made = real(*args, **kwargs)
        law = msgspec.structs.replace(made.eligibility, pack_digest="sha256:" + "0" * 64)
        return msgspec.structs.replace(made, eligibility=law)

    with monkeypatch.context() as patched:
        patched.setattr(decider, "decide", decide)
        assert not hit(ask(inside, chat("sound", "under the old law")))
        assert len(inside.gateway.kept) == 1
    assert not hit(ask(inside, chat("sound", "under the old law")))


def test_other_weights_are_another_answer(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    import msgspec

    ask(inside, chat("sound", "weights"))
    engine = inside.gateway.engines["sound"]
    about = msgspec.structs.replace(engine.describe(), engine_digest="sha256:" + "1" * 64)
    monkeypatch.setattr(type(engine), "describe", lambda _: about)
    assert not hit(ask(inside, chat("sound", "weights")))


def test_an_erased_receipt_answers_nothing_again(inside: Inside) -> None:
    first = ask(inside, chat("sound", "forget me"))
    inside.gateway.store.flush()
    with contextlib.closing(inside.world.tables()) as tables:
        assert tables.erase_salts(first.receipt)
    second = ask(inside, chat("sound", "forget me"))
    assert not hit(second)
    assert hit(ask(inside, chat("sound", "forget me")))


def test_its_time_ends_and_it_leaves_memory_by_itself(inside: Inside) -> None:
    ask(inside, chat("sound", "soon over"), app="brief")
    assert hit(ask(inside, chat("sound", "soon over"), app="brief"))
    until(lambda: len(inside.gateway.kept) == 0, 3)
    assert inside.gateway.kept.size == 0
    assert not hit(ask(inside, chat("sound", "soon over"), app="brief"))


def test_room_is_bounded_and_the_one_used_longest_ago_goes(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = inside.gateway.kept
    ask(inside, chat("sound", "n0"))
    one = kept.size
    assert one > 0
    monkeypatch.setattr(kept, "max_bytes", 8 * one + one // 2)
    for n in range(1, 8):
        ask(inside, chat("sound", f"n{n}"))
    assert hit(ask(inside, chat("sound", "n0")))
    ask(inside, chat("sound", "n8"))
    assert kept.size <= kept.max_bytes
    assert hit(ask(inside, chat("sound", "n0")))
    assert not hit(ask(inside, chat("sound", "n1")))
    monkeypatch.setattr(kept, "max_bytes", one)  # one answer may take an eighth
    ask(inside, chat("sound", "too large"))
    assert not hit(ask(inside, chat("sound", "too large")))


def test_a_client_that_leaves_while_an_answer_is_given_again_is_told_apart(inside: Inside) -> None:
    """The kept answer is made larger than what sockets hold, and the client does not read."""
    import msgspec

    body = chat("echo", "word " * 4000, stream=True)
    first = inside.start("/v1/chat/completions", body, app="ward")
    first.read()
    held = inside.gateway.kept._held
    (name,) = held
    answer, timer = held[name]
    held[name] = msgspec.structs.replace(answer, events=answer.events[1:-8] * 40 + answer.events[-8:]), timer
    again = inside.start("/v1/chat/completions", body, app="ward")
    assert again.headers["allod-cache"] == "hit"
    time.sleep(0.2)
    again.drop()
    ended = leaf(inside, again.receipt)
    assert (ended["status"], ended["reason"]) == ("aborted", "client-gone")
    assert ended["answer_from"] == first.receipt
    assert (ended["attempts"], ended["cost_usd"]) == (0, "0")


def test_nothing_kept_reaches_the_disk(inside: Inside) -> None:
    ask(inside, chat("echo", "zaubernuss-0815"))
    assert hit(ask(inside, chat("echo", "zaubernuss-0815")))
    inside.gateway.store.flush()
    for file in inside.world.root.rglob("*"):
        assert not file.is_file() or b"zaubernuss-0815" not in file.read_bytes()


def test_two_at_once_are_both_answered_and_one_is_kept(inside: Inside) -> None:
    got: list[Any] = []
    threads = [
        threading.Thread(target=lambda: got.append(ask(inside, chat("sound", "at once")))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.status for one in got] == [200] * 6
    assert len(inside.gateway.kept) == 1
    assert hit(ask(inside, chat("sound", "at once")))


bodies = st.fixed_dictionaries(
    {"model": st.sampled_from(["echo", "auto"]), "text": st.sampled_from(["a", "b", "a "])},
    optional={"temperature": st.sampled_from([0, 0.0, 1]), "seed": st.sampled_from([1, 2])},
)


@given(st.lists(st.tuples(st.sampled_from(["ward", "twin"]), bodies, st.booleans()), min_size=1, max_size=12))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_I3_I4_a_hit_is_never_anothers_answer_and_costs_nothing(
    inside: Inside, asked: list[tuple[str, dict[str, Any], bool]]
) -> None:
    for app, drawn, stream in asked:
        more = {k: v for k, v in drawn.items() if k not in {"model", "text"}}
        taken = inside.start(
            "/v1/chat/completions", chat(drawn["model"], drawn["text"], stream=stream, **more), app=app
        )
        taken.read()
        ended = leaf(inside, taken.receipt, app)
        assert ended["status"] == "answered"
        if "allod-cache" in taken.headers:
            made = leaf(inside, ended["answer_from"], app)
            assert made["app"] == ended["app"]
            assert not family([made, ended]).findings
            assert ended["attempts"] == 0
        else:
            assert ended["attempts"] == 1
        if not stream and drawn["model"] == "echo":
            said = json.loads(taken.body)["choices"][0]["message"]["content"]
            assert said == drawn["text"]


@pytest.mark.parametrize(
    ("header", "take", "keep", "age"),
    [
        (None, True, True, None),
        (b"no-cache", False, True, None),
        (b"no-store", False, False, None),
        (b"max-age=5, max-age=3", True, True, 3),
        (b"max-age=-1", False, False, None),
        (b"max-age", False, False, None),
        (b"private, \xff", True, True, None),
        (b"", True, True, None),
    ],
)
def test_cache_control_is_read_as_rfc_9111_says(
    header: bytes | None, take: bool, keep: bool, age: int | None
) -> None:
    said = directives(header)
    assert (said.may_take, said.may_keep, said.max_age_s) == (take, keep, age)


def test_no_room_keeps_nothing() -> None:
    assert len(KeptAnswers(0, bytes(32))) == 0


@pytest.mark.parametrize("app", [{"cache_s": -1}, {"cache_s": True}, {"cache_s": "60"}, {"cache_s": 10**9}])
def test_a_time_that_is_none_is_no_configuration(app: dict[str, Any]) -> None:
    from allod.domain.errors import Invalid
    from allod.gateway.config import parse

    def written(**more: Any) -> str:
        return config([deployment("sound", "answer")], apps=[{"id": "a", "classes": ["public"], **more}])

    assert parse(written()).fleet.apps["a"].cache_s is None
    assert parse(written(cache_s=60)).fleet.apps["a"].cache_s == 60
    with pytest.raises(Invalid, match="cache_s"):
        parse(written(**app))
