"""The law over HTTP: the hospital of the design, word for word, and a trap nobody may ever touch (I1)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import (
    Answer,
    Gateway,
    Region,
    Trap,
    World,
    call,
    chat,
    config,
    deployment,
    messages,
    responses,
    scripted_process,
)

from allod.engines.scripted.server import route

HOSPITAL = (Path(__file__).parents[2] / "examples/hospital/allod.toml").read_text()
THOSE_THREE = {"residency.4-audit", "residency.5-operator", "compelled.access"}


# --- the last paragraph of DESIGN.md section 12


def stand_in(method: str, path: str, body: bytes) -> Any:
    """Answer for the region, whatever its model is called."""
    return route(method, path, body.replace(b'"gpt-5.5"', b'"answer"'))


@pytest.fixture(scope="module")
def frankfurt() -> Iterator[Region]:
    with Region(stand_in) as region:
        yield region


@pytest.fixture(scope="module")
def hospital(frankfurt: Region, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The example with another port, and a scripted model on the ward."""
    text = HOSPITAL.replace("http://127.0.0.1:9400/v1", frankfurt.url)
    text = text.replace('engine = "llamacpp"', 'engine = "scripted"')
    text = text.replace('model = "reference" ', 'price = "free"\nmodel = "answer" ')
    assert text.count("scripted") >= 2
    root = tmp_path_factory.mktemp("hospital") / "home"
    with World(root, text, {"FRANKFURT_KEY": "the-key"}).up("triage", "press") as up:
        yield up


def excluded(answer: Answer) -> dict[str, set[str]]:
    return {e["deployment"]: {r["id"] for r in e["rules"]} for e in answer.json["error"]["allod"]["excluded"]}


def test_extract_on_phi_is_answered_by_the_ward(hospital: Gateway, frankfurt: Region) -> None:
    before = frankfurt.connections
    answer = hospital.chat(chat("extract"), app="triage")
    assert answer.status == 200
    assert answer.headers["allod-deployment"] == "ward-llm"
    assert answer.headers["allod-jurisdiction"] == "DE"
    leaf = hospital.leaf(answer.receipt, app="triage")
    assert leaf["classes"] == ["personal", "phi", "special"]
    assert leaf["status"] == "answered"
    assert frankfurt.connections == before


def test_pinned_to_frankfurt_it_is_refused_by_those_three(hospital: Gateway, frankfurt: Region) -> None:
    before = frankfurt.connections
    answer = hospital.chat(chat("frankfurt-region"), app="triage", headers={"Allod-Task": "extract"})
    assert answer.status == 403
    assert answer.json["error"]["type"] == "allod_refused"
    assert excluded(answer) == {"frankfurt-region": THOSE_THREE}
    assert frankfurt.connections == before
    leaf = hospital.leaf(answer.receipt, app="triage")
    assert leaf["status"] == "refused"
    assert set(leaf["rules"]) == THOSE_THREE
    assert hospital.world.rows(answer.receipt) == []


def test_the_research_brief_of_triage_is_refused_by_floor_and_law(hospital: Gateway) -> None:
    answer = hospital.chat(chat("research-brief"), app="triage")
    assert answer.status == 403
    assert excluded(answer) == {"ward-llm": {"quality.floor"}, "frankfurt-region": THOSE_THREE}


def test_the_same_from_press_goes_to_frankfurt(hospital: Gateway, frankfurt: Region) -> None:
    frankfurt.clear()
    answer = hospital.chat(chat("research-brief"), app="press")
    assert answer.status == 200
    assert answer.headers["allod-deployment"] == "frankfurt-region"
    (seen,) = frankfurt.seen
    assert dict(seen.headers)[b"authorization"] == b"Bearer the-key"
    assert json.loads(seen.body)["model"] == "gpt-5.5"


def test_explain_says_the_same_without_a_gateway(hospital: Gateway) -> None:
    refused = hospital.world.allod("explain", "--app", "triage", "--task", "research-brief", "--json")
    assert refused.returncode == 4
    found = {c["deployment"]: c for c in json.loads(refused.stdout)["candidates"]}
    assert {r["id"] for r in found["frankfurt-region"]["rules"]} == THOSE_THREE
    assert [r["id"] for r in found["ward-llm"]["rules"]] == ["quality.floor"]
    assert found["frankfurt-region"]["quality"] is None
    allowed = hospital.world.allod("explain", "--app", "press", "--task", "research-brief", "--json")
    assert allowed.returncode == 0
    assert json.loads(allowed.stdout)["plan"] == ["frankfurt-region"]


def test_the_whole_paragraph_with_the_file_as_it_is_and_the_real_model(tmp_path: Path) -> None:
    """Only the port of the region differs; the ward's model is the one this package ships."""
    with scripted_process() as url:
        text = HOSPITAL.replace("http://127.0.0.1:9400/v1", url)
        with World(tmp_path / "home", text, {"FRANKFURT_KEY": "the-key"}).up("triage", "press") as up:
            asked = "Extract name, ward, drug and dose as JSON: Anna Weber, ward 3, took 20 mg ramipril."
            answer = up.chat(chat("extract", asked), app="triage", timeout=100)
            assert answer.status == 200, answer
            assert answer.headers["allod-deployment"] == "ward-llm"
            assert answer.headers["allod-cost"] == "0"
            assert answer.json["choices"][0]["message"]["content"]
            leaf = up.leaf(answer.receipt, app="triage")
            assert leaf["evidence"] == "self-run"
            assert leaf["weights"].startswith("sha256:")
            assert leaf["template"].startswith("sha256:")
            pinned = up.chat(chat("frankfurt-region", asked), app="triage", headers={"Allod-Task": "extract"})
            assert excluded(pinned) == {"frankfurt-region": THOSE_THREE}
            brief = up.chat(chat("research-brief"), app="triage")
            assert excluded(brief) == {"ward-llm": {"quality.floor"}, "frankfurt-region": THOSE_THREE}
            press = up.chat(chat("research-brief"), app="press")
            assert press.status == 200, press
            assert press.headers["allod-deployment"] == "frankfurt-region"
            far = up.leaf(press.receipt)
            assert far["evidence"] == "simulated"  # the stand-in says so itself
            assert "weights" not in far
            assert up.stop() == 0


def test_without_its_key_the_region_is_unavailable_and_says_so(tmp_path: Path) -> None:
    text = HOSPITAL.replace('engine = "llamacpp"', 'engine = "scripted"')
    with World(tmp_path / "home", text).up("press") as up:
        assert any("FRANKFURT_KEY" in notice for notice in up.notices)
        answer = up.chat(chat("research-brief"), app="press")
        assert answer.status == 503
        assert "FRANKFURT_KEY" in answer.json["error"]["message"]
        assert up.leaf(answer.receipt)["status"] == "failed"


# --- labels


def test_labels_only_tighten(hospital: Gateway) -> None:
    """A class from header or metadata adds to the app's; none can take one away."""
    for label in ("phi", "confidential", "unscanned", "special,internal"):
        answer = hospital.chat(chat("frankfurt-region"), app="press", headers={"Allod-Data-Class": label})
        assert answer.status == 403, label
        body = chat("frankfurt-region", metadata={"allod-data-class": label})
        assert hospital.chat(body, app="press").status == 403, label
    for label in ("public", "internal"):
        answer = hospital.chat(chat("frankfurt-region"), app="triage", headers={"Allod-Data-Class": label})
        assert excluded(answer) == {"frankfurt-region": THOSE_THREE}
        assert {"personal", "phi", "special"} <= set(hospital.leaf(answer.receipt, app="triage")["classes"])


def test_header_and_metadata_are_joined_and_the_stricter_number_wins(hospital: Gateway) -> None:
    body = chat("ward-llm", metadata={"allod-min-quality": "0.5", "allod-data-class": "internal"})
    ok = hospital.chat(body, app="press", headers={"Allod-Min-Quality": "0.1"})
    assert ok.status == 200
    assert hospital.leaf(ok.receipt)["classes"] == ["internal", "public"]
    refused = hospital.chat(body, app="press", headers={"Allod-Min-Quality": "0.9"})
    assert excluded(refused) == {"ward-llm": {"quality.floor"}}


@pytest.mark.parametrize(
    ("headers", "metadata", "code"),
    [
        ({"Allod-Data-Clas": "phi"}, None, None),
        ({"Allod-Data-Class": "phy"}, None, None),
        ({"Allod-Tier": "gold"}, None, "not_supported"),
        ({"Allod-Min-Quality": "much"}, None, None),
        ({"Allod-Deadline-Ms": "0"}, None, None),
        ({"Allod-Effort": "enormous"}, None, None),
        ({"Allod-Task": "no-such-task"}, None, None),
        ({"Allod-Purpose": "a b"}, None, None),
        ({}, {"allod-data-clas": "phi"}, None),
        ({}, {"allod_data_class": "phi"}, None),
        ({}, {"ALLOD-DATA-CLASS": "nonsense"}, None),
        ({"Allod-Task": "extract"}, {"allod-task": "research-brief"}, "conflict"),
    ],
)
def test_an_unknown_label_or_value_is_400_and_goes_nowhere(
    hospital: Gateway, frankfurt: Region, headers: dict[str, str], metadata: Any, code: str | None
) -> None:
    before = len(frankfurt.seen)
    more = {} if metadata is None else {"metadata": metadata}
    answer = hospital.chat(chat("auto", **more), app="press", headers=headers)
    assert answer.status == 400, answer
    if code is not None:
        assert answer.json["error"]["code"] == code
    assert len(frankfurt.seen) == before


def test_labels_and_our_headers_are_stripped_before_dispatch(hospital: Gateway, frankfurt: Region) -> None:
    frankfurt.clear()
    body = chat(
        "frankfurt-region",
        metadata={"allod-data-class": "public", "Allod-Min-Quality": "0.1", "ticket": "4711"},
        store=True,
        user="u1",
    )
    answer = hospital.chat(
        body,
        app="press",
        headers={"Allod-Effort": "none", "X-Other": "secret", "Cookie": "a=b", "X-Api-Key-2": "z"},
    )
    assert answer.status == 200, answer
    (seen,) = frankfurt.seen
    names = {name.lower() for name, _ in seen.headers}
    assert not any(name.startswith(b"allod") for name in names)
    assert not names & {b"x-other", b"cookie", b"x-api-key-2"}
    sent = seen.body.lower()
    assert b"allod" not in sent
    assert b"store" not in json.loads(seen.body)
    key = hospital.world.key("press").encode()
    assert all(key not in value for _, value in seen.headers)


# --- I1: the trap


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    with Trap() as one:
        yield one


@pytest.fixture(scope="module")
def snare(trap: Trap, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Region]]:
    """Everything lawful fails in its own way, everything sound stands under an unlawful operator."""
    with Region() as region:
        quick = {"retries": 1, "first_token_ms": 150, "timeout_ms": 300}
        kinds = ("compatible", "openai", "vllm", "llama-server", "ollama", "anthropic", "gemini", "scripted")
        traps = [
            {**deployment(f"trap-{kind}", "answer", lawful=False, base_url=trap.url), "engine": kind}
            for kind in kinds
        ]
        unknown = {**deployment("trap-unknown", "answer", base_url=trap.url), "processing": None}
        elsewhere = deployment("trap-us", "answer", base_url=trap.url, processing="US")
        unapproved = deployment("trap-unapproved", "answer", base_url=trap.url, approved=False)
        lawful = [
            deployment("fails-500", "http-500", base_url=region.url, **quick),
            deployment("fails-silent", "stall-before", base_url=region.url, **quick),
            deployment("fails-redirect", "redirect", base_url=region.url, **quick),
            deployment("sound", "answer", base_url=region.url),
            deployment("redirects", "redirect", base_url=region.url, **quick),
        ]
        snared = [*traps, unknown, elsewhere, unapproved]
        everyone = [d["id"] for d in (*snared, *lawful[:3])]
        tasks = [
            {"name": "trapped", "deployments": everyone},
            {"name": "saved", "deployments": [*everyone, "sound"]},
        ]
        text = config([*snared, *lawful], tasks=tasks)
        proxy = dict.fromkeys(
            ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"),
            f"http://127.0.0.1:{trap.port}",
        )
        root = tmp_path_factory.mktemp("snare") / "home"
        with World(root, text, {**proxy, "NO_PROXY": "", "no_proxy": ""}).up("ward", "press") as up:
            yield up, region


PATHS = {
    "/v1/chat/completions": chat,
    "/v1/messages": messages,
    "/v1/responses": responses,
    "/v1/messages/count_tokens": lambda model, text="hi", stream=False: chat(model, text),
    "/v1/embeddings": lambda model, text="hi", stream=False: {"model": model, "input": text},
}
TRAPS = ("compatible", "openai", "vllm", "llama-server", "ollama", "anthropic", "gemini", "scripted")
MODELS = (
    "auto",
    "trapped",
    "saved",
    "answer",
    "sound",
    "trap-unknown",
    "trap-us",
    *(f"trap-{kind}" for kind in TRAPS),
)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(sorted(PATHS)),
    model=st.sampled_from(MODELS),
    stream=st.booleans(),
    app=st.sampled_from(["ward", "press"]),
    label=st.sampled_from([None, "phi", "confidential", "unscanned"]),
    task=st.sampled_from([None, "trapped", "saved"]),
)
def test_I1_no_byte_reaches_what_the_law_forbids(
    snare: tuple[Gateway, Region],
    trap: Trap,
    path: str,
    model: str,
    stream: bool,
    app: str,
    label: str | None,
    task: str | None,
) -> None:
    if app == "press" and label is None:
        label = "phi"
    gateway, _ = snare
    headers = {} if label is None else {"Allod-Data-Class": label}
    if task is not None and model not in ("trapped", "saved"):
        headers["Allod-Task"] = task
    answer = gateway.call(path, PATHS[path](model, stream=stream), app=app, headers=headers)
    assert answer.status in {200, 400, 403, 502, 503, 504}, answer
    if answer.status == 200:
        assert not answer.headers["allod-deployment"].startswith("trap")
    assert trap.touched == 0, f"the trap was touched: {trap.bytes!r}"


def test_I1_every_combination_of_surface_and_unlawful_deployment_is_refused(
    snare: tuple[Gateway, Region], trap: Trap
) -> None:
    gateway, _ = snare
    for (path, make), kind in itertools.product(PATHS.items(), TRAPS):
        answer = gateway.call(path, make(f"trap-{kind}"), app="ward")
        assert answer.status == 403, (path, kind, answer)
        assert answer.headers["allod-receipt"]
    for name, rule in (
        ("trap-unknown", "residency.0-complete"),
        ("trap-us", "residency.1-process"),
        ("trap-unapproved", "base.approved"),
    ):
        answer = gateway.chat(chat(name), app="ward")
        assert answer.status == 403
        assert rule in str(answer.json), answer
    assert trap.touched == 0


def test_an_unapproved_deployment_serves_not_even_what_is_public(
    snare: tuple[Gateway, Region], trap: Trap
) -> None:
    assert snare[0].chat(chat("trap-unapproved"), app="press").status == 403
    assert trap.touched == 0


def test_a_redirect_is_not_followed_and_no_proxy_variable_is_read(
    snare: tuple[Gateway, Region], trap: Trap
) -> None:
    gateway, region = snare
    region.clear()
    answer = gateway.chat(chat("redirects"), app="ward")
    assert answer.status == 502
    assert [seen.path for seen in region.seen] == ["/v1/chat/completions"]
    assert gateway.chat(chat("sound"), app="ward").status == 200
    assert trap.touched == 0


def test_without_a_key_nothing_is_answered_but_health_log_and_description(
    snare: tuple[Gateway, Region],
) -> None:
    gateway, _ = snare
    for path in PATHS:
        assert call(gateway.port, path, {"model": "sound"}).status == 401
    for path in ("/v1/models", "/v1/models/sound", "/v1/receipts/r_00000000_01ARZ3NDEKTSV4RRFFQ69G5FAV"):
        assert call(gateway.port, path).status == 401
    for path in ("/healthz", "/readyz", "/log/checkpoint"):
        assert call(gateway.port, path).status == 200
