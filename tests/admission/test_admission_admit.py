"""Admission: what a request may name, and that a caller can only tighten."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.admission.admit import Index, admit
from allod.domain.classes import BASE_CLASSES, expand
from allod.domain.errors import Invalid
from allod.domain.fleet import EFFORTS, App, Deployment, Fleet, Operator, Task, Tenant
from allod.domain.request import Admitted, Labels, Sizes

DEPLOYMENTS = {
    name: Deployment(id=name, engine=engine, model=model, operator="self")
    for name, engine, model in (
        ("ward", "llamacpp", "reference"),
        ("lab", "llamacpp", "reference"),
        ("frankfurt", "openai", "gpt-5.5"),
        ("gpt-5.5", "vllm", "other"),
    )
}
TASKS = {
    "extract": Task(name="extract", min_quality=Decimal("0.9"), classes=("phi",), effort="high"),
    "brief": Task(name="brief", max_cost_usd=Decimal(1), deadline_ms=8000),
}
FLEET = Fleet(
    tenant=Tenant(id="t", home="DE", bloc=("EEA",)),
    apps={},
    operators={"self": Operator(id="self", own=True)},
    deployments=DEPLOYMENTS,
    tasks=TASKS,
)
TRIAGE = App(id="triage", classes=("phi",), purposes=("treatment",), effort="medium")
PRESS = App(id="press", classes=("public",))
PLAIN = App(id="plain")


def admitted(app=PRESS, *, model="auto", labels=None, fleet=FLEET, **more) -> Admitted:
    return admit(
        index=Index(fleet),
        app=app,
        surface="chat",
        model=model,
        labels=labels or Labels(),
        needs=("text",),
        sizes=Sizes(body_bytes=100, input_tokens=50),
        stream=False,
        receipt="r_1",
        received_at_ms=0,
        **more,
    )


def refused(kind, **more) -> Invalid:
    with pytest.raises(Invalid) as caught:
        admitted(**more)
    assert caught.value.kind == kind
    return caught.value


@pytest.mark.parametrize(
    ("model", "task", "pinned"),
    [
        ("auto", None, ()),
        ("extract", "extract", ()),
        ("ward", None, ("ward",)),
        ("reference", None, ("ward", "lab")),
        ("gpt-5.5", None, ("frankfurt", "gpt-5.5")),
    ],
)
def test_model_is_auto_a_task_a_model_or_a_deployment(model, task, pinned) -> None:
    got = admitted(model=model)
    assert (got.model, got.task, got.pinned) == (model, task, pinned)


@pytest.mark.parametrize("model", ["gpt-5", "wardd", "AUTO", "Extract", " auto", "auto\n", "x" * 256])
def test_an_unknown_model_is_404(model) -> None:
    assert refused("model", model=model).param == "model"


def test_an_unknown_model_names_the_nearest() -> None:
    assert "frankfurt" in refused("model", model="frankfrt").remedy


@pytest.mark.parametrize("model", [None, "", 7, ["auto"], {"a": 1}, "x" * 257])
def test_a_model_field_that_is_none_is_400(model) -> None:
    refused("invalid", model=model)


def test_a_task_may_be_labelled_beside_a_pin_but_not_against_another_task() -> None:
    got = admitted(model="ward", labels=Labels(task="extract"))
    assert (got.task, got.pinned) == ("extract", ("ward",))
    assert admitted(model="extract", labels=Labels(task="extract")).task == "extract"
    refused("conflict", model="extract", labels=Labels(task="brief"))
    assert "extract" in refused("invalid", labels=Labels(task="extrakt")).remedy


def test_classes_of_the_app_the_task_and_the_labels_add_up() -> None:
    assert admitted(PRESS).classes == ("public",)
    assert admitted(PRESS, model="extract").classes == ("personal", "phi", "public", "special")
    assert admitted(PRESS, labels=Labels(classes=("special",))).classes == ("personal", "public", "special")
    assert admitted(PLAIN).classes == ("personal",)
    assert admitted(App(id="empty", classes=())).classes == ("personal",)
    refused("invalid", labels=Labels(classes=("secret",)))


def test_purposes_of_an_app_bound_what_it_may_state() -> None:
    assert admitted(TRIAGE, labels=Labels(purpose="treatment")).purpose == "treatment"
    assert admitted(TRIAGE).purpose is None
    assert admitted(PRESS, labels=Labels(purpose="anything")).purpose == "anything"
    assert "treatment" in refused("invalid", app=TRIAGE, labels=Labels(purpose="research")).why


def test_limits_of_task_and_caller_join_to_the_stricter() -> None:
    loose = Labels(min_quality=Decimal("0.5"), max_cost_usd=Decimal(2), deadline_ms=9000)
    strict = Labels(min_quality=Decimal("0.95"), max_cost_usd=Decimal("0.5"), deadline_ms=100)
    assert admitted(model="extract", labels=loose).min_quality == Decimal("0.9")
    assert admitted(model="extract", labels=strict).min_quality == Decimal("0.95")
    got = admitted(model="brief", labels=loose)
    assert (got.max_cost_usd, got.deadline_ms) == (1, 8000)
    got = admitted(model="brief", labels=strict)
    assert (got.max_cost_usd, got.deadline_ms) == (Decimal("0.5"), 100)


def test_effort_is_capped_by_the_app() -> None:
    assert admitted(TRIAGE, model="extract").effort == "medium"
    assert admitted(PRESS, model="extract").effort == "high"
    assert admitted(TRIAGE, labels=Labels(effort="max")).effort == "medium"
    assert admitted(TRIAGE, labels=Labels(effort="low")).effort == "low"
    assert admitted(PRESS, asked_effort="xhigh").effort == "xhigh"
    assert admitted(PRESS, asked_effort="xhigh", labels=Labels(effort="none")).effort == "none"
    assert admitted(PRESS).effort is None


def test_a_tier_is_not_supported() -> None:
    refused("not_supported", labels=Labels(tier="batch"))


classes = st.lists(st.sampled_from(sorted(BASE_CLASSES)), max_size=4).map(tuple)
fractions = st.none() | st.decimals(0, 1, places=3)
labelled = st.builds(
    Labels,
    classes=classes,
    min_quality=fractions,
    max_cost_usd=fractions,
    deadline_ms=st.none() | st.integers(1, 10**6),
    effort=st.none() | st.sampled_from(EFFORTS),
)
apps = st.builds(
    App, id=st.just("a"), classes=st.none() | classes, effort=st.none() | st.sampled_from(EFFORTS)
)
tasks = st.none() | st.builds(
    Task,
    name=st.just("t"),
    min_quality=fractions,
    max_cost_usd=fractions,
    deadline_ms=st.none() | st.integers(1, 10**6),
    classes=classes,
    effort=st.none() | st.sampled_from(EFFORTS),
)


def at_least(value, bound) -> bool:
    return bound is None or (value is not None and value >= bound)


def at_most(value, bound) -> bool:
    return bound is None or (value is not None and value <= bound)


@given(apps, tasks, labelled)
def test_a_label_only_ever_tightens(app, task, labels) -> None:
    fleet = msgspec.structs.replace(FLEET, tasks={"t": task} if task else {})
    model = "t" if task else "auto"
    without, got = (
        admitted(app, model=model, fleet=fleet),
        admitted(app, model=model, labels=labels, fleet=fleet),
    )
    assert set(without.classes) <= set(got.classes)
    assert set(got.classes) == set(without.classes) | set(expand(labels.classes))
    for bound in (without.min_quality, labels.min_quality):
        assert at_least(got.min_quality, bound)
    for bound in (without.max_cost_usd, labels.max_cost_usd):
        assert at_most(got.max_cost_usd, bound)
    for bound in (without.deadline_ms, labels.deadline_ms):
        assert at_most(got.deadline_ms, bound)
    if app.effort is not None and got.effort is not None:
        assert EFFORTS.index(got.effort) <= EFFORTS.index(app.effort)


@given(apps, labelled)
def test_classes_are_always_expanded_and_sorted(app, labels) -> None:
    got = admitted(app, labels=labels).classes
    assert got == expand(got)
    assert got
