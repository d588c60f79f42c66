"""``[[task]] cascade``: how a task may be answered in steps; ``true``, or a table."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from allod.domain.errors import Invalid
from allod.domain.fleet import CascadeTask
from allod.gateway.toml import Table, nearest

if TYPE_CHECKING:
    from allod.domain.fleet import Fleet, Task

CHECKS: Final = ("json_schema", "json", "numeric", "choice", "agreement")
KEYS: Final = ("numeric", "choice", "json", "exact")
REGEX: Final = "regex:"
_LEAST: Final = Decimal("0.001")
_MOST_LOSS: Final = Decimal("0.5")
_ONE: Final = Decimal(1)
_LONGEST: Final = 500
_TWO: Final = 2


def cascade(t: Table) -> CascadeTask | None:
    """Read ``cascade`` of a task's table; ``false`` and nothing are the same.

    Raises:
        Invalid: a check or key nobody knows, a pattern that is none, a share or loss out of range.

    """
    if not t.has("cascade"):
        return None
    if isinstance(t.raw("cascade"), bool):
        return CascadeTask() if t.raw("cascade") else None
    own = t.sub("cascade")
    assert own is not None
    d = CascadeTask()
    check, key = own.texts("check"), own.text("key")
    loss = own.number("max_loss", _LEAST, _MOST_LOSS)
    share = own.number("audit_share", _LEAST, _ONE)
    read = CascadeTask(
        base=own.text("base"),
        second=own.text("second"),
        reference=own.text("reference"),
        check=d.check if check is None else tuple(_known(one, CHECKS, own.name("check")) for one in check),
        key=None if key is None else _known(key, KEYS, own.name("key")),
        max_loss=d.max_loss if loss is None else loss,
        audit_share=d.audit_share if share is None else share,
        stream=own.choice("stream", ("hold", "base"), d.stream),
        learn=own.flag("learn", d.learn),
    )
    own.done()
    if not read.check:
        raise Invalid(
            f"{own.name('check')} is empty",
            "an answer that nothing checks is not delivered in another's place",
            'name at least one, for example check = ["agreement"]',
            param=own.name("check"),
        )
    return read


def _known(name: str, options: tuple[str, ...], where: str) -> str:
    if name.startswith(REGEX):
        _pattern(name.removeprefix(REGEX), where)
        return name
    if name not in options:
        more = (
            "a token margin is no check before it was calibrated on this task, and nothing here does that yet"
            if name == "logprob_margin"
            else "known: " + ", ".join((*options, REGEX + "PATTERN"))
        )
        raise Invalid(
            f"{where}: {name!r} is not known{nearest(name, options)}", more, "correct it", param=where
        )
    return name


def _pattern(pattern: str, where: str) -> None:
    import re2  # noqa: PLC0415 (native)

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options=options)
    except re2.error as error:
        why = str(error)[:200]
    else:
        why = "" if pattern and len(pattern) <= _LONGEST else f"expected 1 to {_LONGEST} characters"
    if why:
        raise Invalid(f"{where}: {pattern[:80]!r} is no pattern", why, "RE2 syntax", param=where)


def check_names(fleet: Fleet, task: Task) -> None:
    """Refuse a cascade that names deployments that are not there, or one of them twice.

    Raises:
        Invalid: it does, or its second is the same model as its base, which agrees with nobody but itself.

    """
    own = task.cascade
    if own is None:
        return
    where = f"task.{task.name}.cascade"
    named = {role: name for role in ("base", "second", "reference") if (name := getattr(own, role))}
    for role, name in named.items():
        if name not in fleet.deployments:
            raise Invalid(
                f"{where}.{role} is {name!r}, which is not declared{nearest(name, fleet.deployments)}",
                "declared: " + (", ".join(fleet.deployments) or "none"),
                "correct the name",
                param=f"{where}.{role}",
            )
        if task.deployments and name not in task.deployments:
            raise Invalid(
                f"{where}.{role} is {name!r}, which is not among the task's deployments",
                "they are " + ", ".join(task.deployments),
                "add it there, or name another",
                param=f"{where}.{role}",
            )
    if len(set(named.values())) != len(named):
        raise Invalid(f"{where} names a deployment twice", ", ".join(named.values()), "", param=where)
    pair = [fleet.deployments[named[role]].model for role in ("base", "second") if role in named]
    if len(pair) == _TWO and pair[0] == pair[1]:
        raise Invalid(
            f"{where}.second is the same model as the base", pair[0], "name one of another maker", param=where
        )
