"""The token margin as a check: asked for, recorded, proven rung by rung, and kept from who did not ask."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operators import Region
from world import LAWFUL, Inside, Trap, World, chat, config, deployment, messages, until

from allod.assurance.margins import margin
from allod.domain.chat import Chunk, Whole
from allod.gateway.checks import logprobs
from allod.gateway.checks.replaying import decided
from allod.gateway.promise.rules import cascade_of
from allod.routing import floor
from gateway.lineages import ends, log_of
from gateway.promised import TASK, Minds, ask, begun, opened, right, running, settled, standing, wrong

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "reference_model"))
import evaluate

OWN: dict[str, Any] = {"check": ["numeric", "margin"], "margin": [4, 2, 1], "audit_share": Decimal("0.001")}
"""The scripted model's margin is 2 at every token."""


class Listening(Minds):
    """Keeps how many alternatives each model was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.tops: dict[str, set[Any]] = {}

    def route(self, method: str, path: str, body: bytes) -> Any:
        if method == "POST":
            asked = json.loads(body)
            self.tops.setdefault(asked["model"], set()).add(asked.get("top_logprobs"))
        return super().route(method, path, body)


def test_the_base_is_asked_for_log_probabilities_and_the_client_sees_none(tmp_path: Path, trap: Trap) -> None:
    minds = Listening()
    with Region(minds.route) as region, running(tmp_path, region, trap, own=OWN) as inside:
        begun(inside, minds)
        assert standing(inside).promise.ladder == (
            "numeric+margin:4",
            "numeric+margin:2",
            "numeric+margin:1",
            "numeric",
        )
        opened(inside, "numeric+margin:2", rules=2)
        for stream in (False, True):
            taken = inside.start("/v1/chat/completions", chat(TASK, "twice 4", stream=stream), app="ward")
            said = taken.read()
            assert b"8" in said
            assert b"top_logprobs" not in said
            assert b'"logprobs":{' not in said.replace(b" ", b"")
            whole, *steps = ends(inside, taken.receipt)
            assert (whole["floor"]["base_passed"], whole["floor"]["margin"]) == ("numeric", "2.000")
            assert [step["deployment"] for step in steps] == ["small"]
        opened(inside, "numeric+margin:4", rules=1)
        whole = ends(inside, ask(inside, 4).receipt)[0]
        assert (whole["floor"]["base_passed"], whole["floor"]["margin"]) == ("numeric", "2.000")
        assert whole["deployment"] == "large"
    assert minds.tops == {"tiny-1": {2}, "big-9": {None}}


def test_a_caller_gets_the_log_probabilities_they_asked_for_and_no_more(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap, own=OWN) as inside:
        begun(inside, minds)
        opened(inside, "numeric+margin:2", rules=2)
        for top in (0, 1, 3):
            body = chat(TASK, "twice 4", stream=False, logprobs=True, top_logprobs=top)
            said = inside.chat(body, app="ward")
            content = said.json["choices"][0]["logprobs"]["content"]
            assert content
            assert {len(entry["top_logprobs"]) for entry in content} == {top}
            assert ends(inside, said.receipt)[0]["deployment"] == "small"


@pytest.mark.parametrize("stream", [False, True])
def test_other_surfaces_are_told_nothing_of_it_either(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds, stream: bool
) -> None:
    with running(tmp_path, region, trap, own=OWN) as inside:
        begun(inside, minds)
        opened(inside, "numeric+margin:2", rules=2)
        for path, body in (
            ("/v1/responses", {"model": TASK, "input": "twice 4", "stream": stream}),
            ("/v1/messages", messages(TASK, "twice 4", stream=stream)),
        ):
            taken = inside.start(path, body, app="ward")
            said = taken.read()
            assert taken.status == 200, said
            assert b"8" in said
            assert b"-2." not in said, "no log probability"
            whole = ends(inside, taken.receipt)[0]
            assert (whole["deployment"], whole["floor"]["margin"]) == ("small", "2.000")


def test_a_base_streamed_at_once_hides_them_too(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    with running(tmp_path, region, trap, own={**OWN, "stream": "base"}) as inside:
        begun(inside, minds)
        opened(inside, "numeric+margin:4", rules=1)
        taken = inside.start("/v1/chat/completions", chat(TASK, "twice 4", stream=True), app="ward")
        assert b"top_logprobs" not in taken.read()
        said = ends(inside, taken.receipt)[0]["floor"]
        assert (said["check"], said["base_passed"], said["margin"]) == ("failed", "numeric", "2.000")


def test_a_margin_spares_the_second_model_and_without_it_the_second_is_asked(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    own = {**OWN, "check": ["numeric", "agreement", "margin"]}
    with running(tmp_path, region, trap, own=own) as inside:
        begun(inside, minds)
        assert standing(inside).promise.ladder[:2] == (
            "numeric+agreement",
            "numeric+margin:4|agreement",
        )
        opened(inside, "numeric+margin:2|agreement", rules=3)
        ask(inside, 3)
        assert minds.asked == ["tiny-1"]
        minds.asked.clear()
        opened(inside, "numeric+margin:4|agreement", rules=2)
        whole = ends(inside, ask(inside, 3).receipt)[0]
        assert minds.asked == ["tiny-1", "pico-2"]
        assert whole["deployment"] == "other"
        said = whole["floor"]
        assert (said["margin"], said["second_passed"], said["agreement"]) == ("2.000", "numeric", "passed")


def test_each_rung_is_proven_by_audits_before_it_is_used_the_strictest_first(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    """What the base is sure of by 2 or less is wrong: the rung of 4 delivers none of it, and opens alone."""
    own = {**OWN, "check": ["margin"], "key": "numeric", "audit_share": 1, "max_loss": Decimal("0.3")}
    with running(tmp_path, region, trap, own=own) as inside:
        begun(inside, minds, base=wrong)
        for n in range(120):
            ask(inside, n)
            if settled(inside).state.open:
                break
        one = standing(inside)
        assert (one.promise.ladder[0], one.state.open) == ("margin:4", 1)
        inside.gateway.store.flush()
        audits = [leaf["facts"] for leaf in log_of(inside) if leaf.get("subject") == "audit"]
        assert {(facts["differences"], facts["margin"]) for facts in audits} == {("0 -1 -1", "2.000")}
        minds.says["tiny-1"] = right
        for n in range(200):
            ask(inside, n)
            if settled(inside).state.open > 1:
                break
        bounds = floor.bounds(one.promise, standing(inside).state)
        assert all(bound.change_at_least >= -0.3 for bound in bounds if bound.open)


def test_a_base_that_tells_nothing_of_itself_is_not_chosen_nor_allowed_by_name(
    tmp_path: Path, region: Region, trap: Trap
) -> None:
    from allod.domain.errors import Invalid
    from allod.gateway.config import parse

    mute = deployment("mute", "tiny-1", base_url=region.url, takes=["text"])
    tasks = [{"name": TASK, "cascade": {"check": ["margin"], "base": "mute"}}]
    with pytest.raises(Invalid, match="does not take logprobs"):
        parse(config([mute, deployment("large", "big-9", base_url=region.url)], tasks=tasks))


def test_under_pseudonyms_another_operators_margin_is_unknown() -> None:
    own = SimpleNamespace(check=("margin",))
    for ours, covered, wanted in ((True, True, True), (False, True, False), (False, False, True)):
        fleet = SimpleNamespace(
            deployments={"d": SimpleNamespace(takes={"logprobs"})},
            operator_of=lambda _, ours=ours: SimpleNamespace(own=ours),
        )
        asked = SimpleNamespace(app=SimpleNamespace(pseudonymise=covered))
        assert logprobs.wanted(own, fleet, "d", asked) is wanted  # type: ignore[arg-type]


# --- through the real engine


class Sums(Minds):
    """A reference that adds."""

    def route(self, method: str, path: str, body: bytes) -> Any:
        asked = json.loads(body) if method == "POST" else {}
        if asked.get("model") == "big-9":
            text = asked["messages"][-1]["content"]
            asked["messages"] = [{"role": "user", "content": f"{ANSWERS[text]} 0"}]
            self.says["big-9"] = lambda _: ANSWERS[text]
        return super().route(method, path, json.dumps(asked).encode())


ANSWERS = dict(islice(evaluate.unseen("add", 14), 14))


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    own = {
        "check": ["margin"],
        "key": "numeric",
        "margin": [3, 1],
        "audit_share": Decimal("0.001"),
        "base": "ward",
    }
    with Region(Sums().route) as region:
        base = {**LAWFUL, "id": "ward", "engine": "llamacpp", "model": "reference", "context_tokens": 512}
        base |= {"takes": ["text", "logprobs"], "quality": {"default": Decimal("0.6")}}
        best = deployment("large", "big-9", base_url=region.url, quality={"default": Decimal("0.99")})
        root = tmp_path_factory.mktemp("margin") / "home"
        world = World(root, config([base, best], tasks=[{"name": TASK, "cascade": own}]))
        world.key("ward")
        with Inside(world) as one:
            yield one


def test_the_real_engines_margin_decides_and_the_receipt_says_why(embedded: Inside) -> None:
    prompts = list(ANSWERS)
    assert embedded.chat(chat(TASK, prompts[0], stream=False), app="ward", timeout=60).status == 200
    until(lambda: not embedded.gateway.promises._audits)
    opened(embedded, "margin:1", rules=2)
    one = standing(embedded)
    one.promise = msgspec.structs.replace(one.promise, share=0.001)
    kept, fell = 0, 0
    for n, prompt in enumerate(prompts):
        taken = embedded.start(
            "/v1/chat/completions",
            chat(TASK, prompt, stream=bool(n % 2), temperature=0),
            app="ward",
            timeout=60,
        )
        said = taken.read()
        assert b"top_logprobs" not in said
        whole = ends(embedded, taken.receipt)[0]
        sure = Decimal(whole["floor"]["margin"]) >= 1
        assert whole["deployment"] == ("ward" if sure else "large")
        kept, fell = kept + sure, fell + (not sure)
        plan = cascade_of("margin:1", embedded.gateway.fleet.tasks[TASK], one.who, embedded.gateway.fleet)
        assert (decided(plan, whole["floor"]).deliver == "ward") is sure  # I8
        if not sure:
            assert ANSWERS[prompt].encode() in said
    assert kept
    assert fell


# --- the statistic


def entry(token: str, own: float, *others: float) -> dict[str, Any]:
    tops = [
        {"token": token, "logprob": own},
        *({"token": f"o{n}", "logprob": x} for n, x in enumerate(others)),
    ]
    return {"token": token, "logprob": own, "top_logprobs": tops}


def test_a_margin_is_over_the_next_likeliest_and_negative_where_another_was_likelier() -> None:
    said = [entry("4", -0.1, -3.1), entry("2", -2.0, -0.5)]
    assert margin("42", said) == Decimal("-1.500")
    assert margin("42", said, "mean") == Decimal("0.750")
    assert margin(" 42\n", [*said, entry("", -0.1, -0.2)]) == Decimal("-1.500"), "an end mark is no word"
    assert margin("42", [entry("hm", -5.0, -1.0), *said]) == Decimal("-1.500"), "nor is a thought"


@pytest.mark.parametrize(
    "said",
    [
        [],
        [entry("4", -0.1, -3.1)],
        [entry("4", -0.1, -3.1), {"token": "2", "logprob": -0.1}],
        [entry("4", -0.1, -3.1), entry("2", -0.1)],
        [entry("4", -0.1, -3.1), entry("2", float("nan"), -1.0)],
        [entry("4", -0.1, -3.1), entry("2", 5.0, -1.0)],
        [entry("4", -0.1, -3.1), {**entry("2", -0.1, -2.0), "top_logprobs": [None, 3]}],
        ["42", None, 3],
        [entry("1", -0.1, -3.1), entry("2", -0.1, -3.0)],
    ],
)
def test_what_does_not_spell_the_answer_or_says_too_little_is_unknown(said: list[Any]) -> None:
    assert margin("42", said) is None


LEAVES = st.none() | st.booleans() | st.floats() | st.text(max_size=4)
NAMES = st.sampled_from(["token", "bytes", "logprob", "top_logprobs"])
CHOICE = st.dictionaries(st.sampled_from(["logprobs", "index"]), st.none() | st.integers(), max_size=2)


@given(
    st.recursive(LEAVES, lambda kids: st.lists(kids, max_size=3) | st.dictionaries(NAMES, kids, max_size=4))
)
def test_whatever_an_operator_reports_a_margin_is_a_number_or_unknown(said: Any) -> None:
    found = margin("a", said if isinstance(said, list) else [said])
    assert found is None or abs(found) < 10**7


@given(
    raw=st.binary(max_size=60),
    body=st.dictionaries(st.sampled_from(["choices", "logprobs"]), st.lists(CHOICE, max_size=2), max_size=2),
)
def test_whatever_comes_is_hidden_without_a_fault(raw: bytes, body: dict[str, Any]) -> None:
    events = [Chunk(raw=raw, logprobs=body), Whole(raw=raw), Whole(body=body)]
    told = logprobs.hidden(events, {})
    assert len(told) == 3
    assert told[0].logprobs is None  # type: ignore[union-attr]
