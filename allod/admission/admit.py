"""Admission: from a caller, its labels and its model field to what the rest of the line decides with."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec.structs import replace

from allod.admission.labels import NO_LABELS
from allod.domain.classes import BASE_CLASSES, expand
from allod.domain.errors import Invalid
from allod.domain.fleet import EFFORTS
from allod.domain.request import Admitted

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from allod.domain.fleet import App, Effort, Fleet, Task
    from allod.domain.request import Labels, Sizes, Surface

AUTO: Final = "auto"
MAX_MODEL_CHARS: Final = 256
ALIKE: Final = 1024
"""So many kinds of requests without labels are remembered."""
T = TypeVar("T", int, "Decimal")


class Index:
    """What admission looks up of one fleet: what each model name means, and requests like those it has seen.

    Args:
        fleet: the fleet.
        classes: the data classes there are: those of the base and of the packs in force.

    """

    def __init__(self, fleet: Fleet, classes: frozenset[str] = BASE_CLASSES) -> None:
        pinned: dict[str, list[str]] = {}
        for deployment in fleet.deployments.values():
            for name in {deployment.model, deployment.id}:
                pinned.setdefault(name, []).append(deployment.id)
        self.fleet, self.classes = fleet, classes
        self.names: dict[str, tuple[str | None, tuple[str, ...]]] = {
            **{name: (None, tuple(ids)) for name, ids in pinned.items()},
            **{name: (name, ()) for name in fleet.tasks},
            AUTO: (None, ()),
        }
        self.alike: dict[tuple[Any, ...], Admitted] = {}

    def knows(self, app: App) -> bool:
        """Tell whether this very app is of the fleet, so that its requests are alike."""
        return self.fleet.apps.get(app.id) is app


def admit(
    *,
    index: Index,
    app: App,
    surface: Surface,
    model: object,
    labels: Labels,
    needs: tuple[str, ...],
    sizes: Sizes,
    stream: bool,
    receipt: str,
    received_at_ms: int,
    asked_effort: Effort | None = None,
    detected: tuple[str, ...] = (),
) -> Admitted:
    """Join caller, task, app and detectors into one admitted request.

    Classes only add up, the higher floor and the lower limits win, and effort is capped by the app. ``index``
    is what is known of the fleet, ``model`` the model field as received; ``asked_effort`` is the depth the
    request's own body asks for, if any: the label comes before it, and it before the task's. ``detected`` are
    the classes that detectors found.

    Raises:
        Invalid: kind ``model`` for a model nobody knows, ``conflict`` for two different tasks,
            ``not_supported`` for a tier, ``invalid`` for an unknown class, task or purpose.

    """
    if labels is not NO_LABELS or not isinstance(model, str) or not index.knows(app):
        return _admit(
            index, app, surface, model, labels, needs, sizes, stream, receipt, received_at_ms, asked_effort,
            detected,
        )  # fmt: skip
    asked = (app.id, surface, model, needs, asked_effort, stream, detected)
    alike = index.alike.get(asked)
    if alike is not None:
        return replace(alike, receipt=receipt, received_at_ms=received_at_ms, sizes=sizes)
    first = _admit(
        index, app, surface, model, labels, needs, sizes, stream, receipt, received_at_ms, asked_effort,
        detected,
    )  # fmt: skip
    if len(index.alike) >= ALIKE:
        index.alike.clear()
    first = index.alike[asked] = replace(first, kind=kind_of(first))
    return first


def task_named(index: Index, model: object, labels: Labels) -> Task | None:
    """Return the task a request is for, by its label or its model field, or None.

    Raises:
        Invalid: as ``admit``, for the model and the task.

    """
    known = index.names.get(model) if isinstance(model, str) and labels.task is None else None
    if known is not None and known[0] is None:
        return None
    return _task(index.fleet, labels.task, _resolve(index, model)[1])


def kind_of(admitted: Admitted) -> tuple[Any, ...]:
    """Return what of an admitted request a decision depends on, besides sizes, health and day."""
    return (
        admitted.app, admitted.surface, admitted.classes, admitted.purpose, admitted.task, admitted.pinned,
        admitted.needs, admitted.min_quality, admitted.max_cost_usd, admitted.deadline_ms, admitted.effort,
        admitted.efforts,
    )  # fmt: skip


def _admit(
    index: Index,
    app: App,
    surface: Surface,
    model: object,
    labels: Labels,
    needs: tuple[str, ...],
    sizes: Sizes,
    stream: bool,
    receipt: str,
    received_at_ms: int,
    asked_effort: Effort | None,
    detected: tuple[str, ...],
) -> Admitted:
    if labels.tier is not None:
        raise Invalid("allod-tier is not supported yet", kind="not_supported", param="allod-tier")
    name, named_task, pinned = _resolve(index, model)
    task = _task(index.fleet, labels.task, named_task)
    _check_purpose(app, labels.purpose)
    effort, efforts = depth_of(app, task, labels.effort or asked_effort)
    return Admitted(
        receipt=receipt,
        received_at_ms=received_at_ms,
        app=app.id,
        surface=surface,
        classes=_classes(index, app, task, labels, detected),
        purpose=labels.purpose,
        task=None if task is None else task.name,
        model=name,
        pinned=pinned,
        needs=tuple(sorted(set(needs))),
        sizes=sizes,
        min_quality=_stricter(max, task.min_quality if task else None, labels.min_quality),
        max_cost_usd=_stricter(min, task.max_cost_usd if task else None, labels.max_cost_usd),
        deadline_ms=_stricter(min, task.deadline_ms if task else None, labels.deadline_ms),
        effort=effort,
        efforts=efforts,
        tier=None,
        stream=stream,
    )


def _resolve(index: Index, model: object) -> tuple[str, str | None, tuple[str, ...]]:
    """Read the model field as (name, task it names, deployments it pins)."""
    if not isinstance(model, str) or not 0 < len(model) <= MAX_MODEL_CHARS:
        raise Invalid(
            "no model is named",
            f"got {type(model).__name__}, expected a name of up to {MAX_MODEL_CHARS} characters",
            "say auto, a task, a model or a deployment",
            param="model",
        )
    known = index.names.get(model)
    if known is not None:
        return model, *known
    near = get_close_matches(model, sorted(index.names), n=1, cutoff=0.5)
    raise Invalid(
        f"there is no model {model[:64]!r}",
        "it is not auto, a task, a model name or a deployment id",
        f"did you mean {near[0]}?" if near else "list them with GET /v1/models",
        kind="model",
        param="model",
    )


def _task(fleet: Fleet, label: str | None, named: str | None) -> Task | None:
    if label is not None and named is not None and label != named:
        raise Invalid(
            "two different tasks are named",
            f"allod-task says {label}, model says {named}",
            "say it once",
            kind="conflict",
            param="allod-task",
        )
    name = named or label
    if name is None:
        return None
    task = fleet.tasks.get(name)
    if task is None:
        near = get_close_matches(name, sorted(fleet.tasks), n=1, cutoff=0.5)
        raise Invalid(
            f"there is no task {name[:64]!r}",
            "an unknown task is refused, not ignored",
            f"did you mean {near[0]}?" if near else "name one of the configuration's tasks",
            param="allod-task",
        )
    return task


def _check_purpose(app: App, purpose: str | None) -> None:
    if purpose is not None and app.purposes and purpose not in app.purposes:
        raise Invalid(
            f"the purpose {purpose[:64]!r} is not one of app {app.id}",
            f"it may say {', '.join(app.purposes)}",
            "state one of these, or add it to the app",
            param="allod-purpose",
        )


def _classes(
    index: Index, app: App, task: Task | None, labels: Labels, detected: tuple[str, ...]
) -> tuple[str, ...]:
    """Join the classes of app, task, labels and detectors, and expand them."""
    unknown = {*labels.classes, *detected} - index.classes
    if unknown:
        raise Invalid(f"{min(unknown)[:64]!r} is not a data class", param="allod-data-class")
    own = classes_of(app, index.fleet)
    return expand((*own, *(task.classes if task else ()), *labels.classes, *detected))


def classes_of(app: App, fleet: Fleet) -> tuple[str, ...]:
    """Return the classes an app's requests have at least; an app without any has the tenant's."""
    return app.classes or fleet.tenant.default_classes


def _stricter(pick: Callable[[T, T], T], ours: T | None, theirs: T | None) -> T | None:
    if ours is None or theirs is None:
        return theirs if ours is None else ours
    return pick(ours, theirs)


def depth_of(app: App, task: Task | None, asked: Effort | None) -> tuple[Effort | None, tuple[Effort, ...]]:
    """Return (depth, depths to choose among): a caller's depth comes before the task's, the app caps both.

    Where the task leaves the choice open, what the caller asks for is the most it may be, and the depth that
    is returned is for deployments of which none was measured: what the caller asked for as far as it is among
    them, else the first of them. A cap below all of them is the depth.
    """
    offered = () if task is None else task.efforts
    if not offered:
        wanted = asked or (None if task is None else task.effort)
        return _shallower(wanted, app.effort) if wanted is not None else None, ()
    cap = app.effort if asked is None else _shallower(asked, app.effort)
    within = offered if cap is None else tuple(e for e in offered if _shallower(e, cap) == e)
    if len(within) < 2:  # noqa: PLR2004 (nothing to choose)
        return (within[0] if within else cap), ()
    if asked is not None:
        return max(within, key=EFFORTS.index), within
    return None if within[0] == EFFORTS[0] else within[0], within


def _shallower(wanted: Effort, most: Effort | None) -> Effort:
    return wanted if most is None else EFFORTS[min(EFFORTS.index(wanted), EFFORTS.index(most))]
