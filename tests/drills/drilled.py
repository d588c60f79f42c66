"""Decision records made of random facts, fleets that go with them, and traffic gathered from both."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import strategies as st

from allod.domain.decision import DecidingRule, Estimated
from allod.domain.facts import Fact
from allod.domain.fleet import App, CapabilityEvidence, Deployment, Fleet, Operator, Tenant
from allod.drills.assume import assumptions
from allod.drills.fate import Setting
from allod.drills.losses import effect, profile
from allod.drills.traffic import Gathering
from allod.drills.worlds import Lose, World
from allod.receipts.commitment import digest
from allod.routing.depth import DepthFacts
from allod.routing.plan import decide
from allod.routing.question import DecisionFacts, DeploymentFacts
from allod.routing.record import FORMAT, Recorded, write_record
from allod.store.database import Decided

NAMES = ("a", "b", "c", "d", "e")
OPERATORS = {"a": "one", "b": "one", "c": "two", "d": "two", "e": "three"}
RULE = DecidingRule(
    id="residency.5-operator", law="", got="US", required="EEA", source="operator", remedy="another"
)
CONFIGURATION = "sha256:" + "0" * 64
DAY = date(2026, 11, 1)


def fleet() -> Fleet:
    operators = {
        "one": Operator(
            id="one", own=True, seat=Fact(value="DE"), controlled_from=Fact(value=("DE",)),
        ),
        "two": Operator(
            id="two", seat=Fact(value="IE"), controlled_from=Fact(value=("US",)),
            agreements={"dpa": Fact(value=True, grade="contract")},
        ),
        "three": Operator(id="three"),
    }  # fmt: skip
    deployments = {
        name: Deployment(
            id=name, engine="vllm" if name in "ab" else "openai", model=f"model-{name}",
            operator=OPERATORS[name], processing=Fact(value="DE"),
            chip=Fact(value="NVIDIA") if name in "ac" else None,
        )
        for name in NAMES
    }  # fmt: skip
    return Fleet(
        tenant=Tenant(id="t", home="DE", bloc=("EEA",)),
        apps={"app": App(id="app", critical=True), "web": App(id="web")},
        operators=operators,
        deployments=deployments,
    )


FLEET = fleet()
PROFILES = {name: profile(one, FLEET) for name, one in FLEET.deployments.items()}


def setting(**more: Any) -> Setting:
    fields: dict[str, Any] = {
        "profiles": PROFILES, "critical": frozenset({"app"}), "assume": assumptions(), "day": DAY,
    }  # fmt: skip
    return Setting(**{**fields, **more})


DEPTHS: Any = ("low", "high")
_share = st.integers(0, 20).map(lambda n: Decimal(n) / 20)
_usd = st.integers(0, 50).map(lambda n: Decimal(n) / 1000)


@st.composite
def candidates(draw: Any, name: str) -> DeploymentFacts:
    if draw(st.integers(0, 4)) == 0:
        return DeploymentFacts(deployment=name, law=(RULE,))
    quality = draw(st.none() | _share)
    evidence = estimate = None
    if quality is not None and draw(st.booleans()):
        evidence = CapabilityEvidence(
            value=quality, low=max(Decimal(0), quality - Decimal("0.1")),
            high=min(Decimal(1), quality + Decimal("0.1")), basis="measured", cases=Decimal(40),
        )  # fmt: skip
    if quality is not None and draw(st.booleans()):
        success = draw(_share)
        estimate = Estimated(
            success=success, low=max(Decimal(0), success - Decimal("0.1")),
            high=min(Decimal(1), success + Decimal("0.1")), output_tokens=100, n=9,
        )  # fmt: skip
    cost = draw(st.none() | _usd)
    depths = ()
    if evidence is not None:
        names = draw(st.lists(st.sampled_from(DEPTHS), unique=True, max_size=2))
        depths = tuple(
            DepthFacts(
                effort=effort, evidence=msgspec.structs.replace(evidence, value=draw(_share)),
                output_tokens=100, reasoning_tokens=50, cost_usd=draw(_usd), total_ms=900,
            )
            for effort in DEPTHS
            if effort in names
        )  # fmt: skip
    return DeploymentFacts(
        deployment=name,
        depths=depths,
        takes=draw(st.sampled_from(((), ("interactive",)))),
        context_tokens=draw(st.none() | st.just(200)),
        listed=draw(st.integers(0, 9)) > 0,
        quality=quality,
        cost_usd=cost,
        reserve_usd=None if cost is None else cost * 2,
        price=None if cost is None else "own",
        sovereignty=draw(st.none() | st.integers(0, 4).map(Decimal)),
        latency_ms=draw(st.none() | st.sampled_from((250, 1000, 4000))),
        resting=draw(st.integers(0, 6)) == 0,
        unready=draw(st.sampled_from((None, None, None, "no credential"))),
        evidence=evidence,
        estimate=estimate,
    )


@st.composite
def facts(draw: Any) -> DecisionFacts:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=0, max_size=5))
    return DecisionFacts(
        task=draw(st.sampled_from((None, "extract"))),
        needs=draw(st.sampled_from((("text",), ("text",), ("text", "interactive")))),
        efforts=draw(st.sampled_from(((), DEPTHS))),
        input_tokens=draw(st.sampled_from((128, 1024))),
        min_quality=draw(st.none() | _share),
        max_cost_usd=draw(st.none() | st.just(Decimal("0.05"))),
        deadline_ms=draw(st.none() | st.just(2000)),
        effort=None,
        objective=draw(st.sampled_from(("sovereign", "cheapest", "best"))),
        ordered=draw(st.booleans()),
        candidates=tuple(draw(candidates(name)) for name in names),
    )


def record(of: DecisionFacts, app: str = "app", day: str = "2026-10-20") -> bytes:
    return write_record(
        Recorded(
            format=FORMAT,
            asked={
                "app": app, "surface": "chat", "classes": ("personal",), "purpose": None, "pinned": (),
                "max_output_tokens": None, "choices": 1,
            },
            flags={"link_up": True, "air_gapped": False, "day": day, "pseudonymised": False},
            packs="sha256:" + "1" * 64,
            fleet="sha256:" + "2" * 64,
            facts=of,
            plan=decide(of),
            configuration=CONFIGURATION,
        )
    )  # fmt: skip


def decided(body: bytes, requests: int = 1, n: int = 0) -> Decided:
    return Decided(digest(body), requests, f"r_{n}", 1_792_000_000_000 + n, body)


traffics = st.lists(st.tuples(facts(), st.integers(1, 9), st.sampled_from(("app", "web"))), max_size=8)


def gathered(drawn: Any, priced: Any = None) -> Gathering:
    gathering = Gathering(priced)
    for n, (of, requests, app) in enumerate(drawn):
        gathering.add(decided(record(of, app), requests, n))
    return gathering


def losing(**lose: Any) -> World:
    return World(id="w", lose=Lose(**lose))


def at(world: World) -> Any:
    found = effect(world, FLEET, PROFILES)
    return lambda _configuration: found
