"""Small fleets and questions for the tests of routing; the law is scripted, the rest is real."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from allod.domain.decision import DecidingRule, Eligibility, Exclusion
from allod.domain.facts import Fact
from allod.domain.fleet import App, Deployment, Fleet, Operator, Price, Task, Tenant
from allod.domain.request import Admitted, Sizes
from allod.metering.rates import tariffs_of
from allod.routing.question import Health, Question, question_of

AT = 1_795_608_000_000  # 2026-11-25T12:00Z
LAW = DecidingRule(
    id="residency.5-operator", law="GDPR Art 48", got="US", required="EEA", source="DPA", remedy="move it"
)


def price(input_usd: str, output_usd: str) -> Price:
    return Price(input_usd_mtok=Decimal(input_usd), output_usd_mtok=Decimal(output_usd))


def deployment(name: str, **more: Any) -> Deployment:
    values: dict[str, Any] = {
        "engine": "vllm",
        "model": f"model-of-{name}",
        "operator": "self",
        "price": price("1", "2"),
        "quality": {"default": Decimal("0.8")},
        **more,
    }
    seal = values.get("seal")
    if isinstance(seal, tuple):
        values["seal"] = Fact(value=seal)
    return Deployment(id=name, **values)


def fleet(*deployments: Deployment, tasks: tuple[Task, ...] = (), objective: Any = "sovereign") -> Fleet:
    return Fleet(
        tenant=Tenant(id="t", home="DE", bloc=("EEA",), objective=objective),
        apps={"app": App(id="app")},
        operators={"self": Operator(id="self", own=True)},
        deployments={one.id: one for one in deployments},
        tasks={one.name: one for one in tasks},
    )


def lawful(of: Fleet, unlawful: tuple[str, ...] = ()) -> Eligibility:
    return Eligibility(
        kept=tuple(name for name in of.deployments if name not in unlawful),
        excluded=tuple(
            Exclusion(deployment=name, rules=(LAW,)) for name in of.deployments if name in unlawful
        ),
        conditions={},
        relaxed=(),
        pack_digest="sha256:packs",
        fleet_digest="sha256:fleet",
    )


def question(
    of: Fleet,
    *,
    unlawful: tuple[str, ...] = (),
    health: Health | None = None,
    sizes: Sizes | None = None,
    **more: Any,
) -> Question:
    values: dict[str, Any] = {
        "receipt": "r_1", "received_at_ms": AT, "app": "app", "surface": "chat", "classes": ("personal",),
        "purpose": None, "task": None, "model": "auto", "pinned": (), "needs": ("text",),
        "sizes": sizes or Sizes(body_bytes=400, input_tokens=100), "min_quality": None, "max_cost_usd": None,
        "deadline_ms": None, "effort": None, "tier": None, "stream": False, **more,
    }  # fmt: skip
    return question_of(
        Admitted(**values), lawful(of, unlawful), of, tariffs_of(of, None, AT), health or Health()
    )
