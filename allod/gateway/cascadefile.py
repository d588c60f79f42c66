"""``[[task]] cascade``: how a task may be answered in steps; ``true``, or a table."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Invalid
from allod.domain.fleet import CascadeTask, CheckFile
from allod.gateway.toml import Table, nearest

if TYPE_CHECKING:
    from allod.domain.fleet import Fleet, Task

FORMS: Final = ("json_schema", "json", "numeric", "choice")
LANGUAGES: Final = ("python", "json", "toml", "xml", "sql")
COMPILE: Final = "compile:"
CHECKS: Final = (
    *FORMS,
    *(COMPILE + one for one in LANGUAGES),
    "arithmetic",
    "citation",
    "sql",
    "tests",
    "agreement",
    "margin",
)
KEYS: Final = ("numeric", "choice", "json", "exact", "sql", "tests")
REGEX: Final = "regex:"
MARGINS: Final = (Decimal(4), Decimal(2), Decimal(1))
"""Nats; what they are worth on a task its audits say."""
_MOST_MARGINS: Final = 5
_MOST_NATS: Final = Decimal(100)
_MOST_COLUMNS: Final = 100
_MOST_SECONDS: Final = 120
_MOST_NAMES: Final = 64
"""Characters; a rule's name, and what is said of checks, must fit in a receipt."""
_LEAST: Final = Decimal("0.001")
_MOST_LOSS: Final = Decimal("0.5")
_ONE: Final = Decimal(1)
_MOST_MARGIN: Final = Decimal(100)
_MOST_FALLBACKS: Final = 4
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
    margin = own.number("switch_margin", _ONE, _MOST_MARGIN)
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
        switch_margin=d.switch_margin if margin is None else margin,
        fallback=own.texts("fallback") or d.fallback,
        tests=_file(own, "tests"),
        schema=_file(own, "schema"),
        columns=own.texts("columns") or (),
        some_rows=own.flag("some_rows", d.some_rows),
        margin=_margins(own),
        margin_by=own.choice("margin_by", ("least", "mean"), d.margin_by),
        check_s=own.whole("check_s", d.check_s, 1, _MOST_SECONDS),
    )
    own.done()
    if not read.check:
        raise Invalid(
            f"{own.name('check')} is empty",
            "an answer that nothing checks is not delivered in another's place",
            'name at least one, for example check = ["agreement"]',
            param=own.name("check"),
        )
    return _fits(read, own)


def _file(own: Table, key: str) -> CheckFile | None:
    """Read the path of a file in the configuration's folder; what it holds is read by ``checks.files``."""
    name = own.text(key)
    if name is None:
        return None
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or "\0" in name or any(one in {"", ".", ".."} for one in parts):
        raise Invalid(
            f"{own.name(key)}: {name[:80]!r} is no path in the configuration's folder",
            "files of checks lie beside it",
            f'write it as {key} = "checks/{parts[-1] or key}"',
            param=own.name(key),
        )
    return CheckFile(name)


def _margins(own: Table) -> tuple[Decimal, ...]:
    raw = own.take("margin", list, "a list of numbers")
    if raw is None:
        return ()
    numbers = [Decimal(one) for one in raw if isinstance(one, int | Decimal) and not isinstance(one, bool)]
    found = [one for one in numbers if one.is_finite() and 0 <= one <= _MOST_NATS]
    exact = all(one == one.quantize(_LEAST) for one in found)
    if len(found) != len(raw) or not exact or not 0 < len(set(found)) == len(found) <= _MOST_MARGINS:
        raise Invalid(
            f"{own.name('margin')} must be 1 to {_MOST_MARGINS} different numbers of nats",
            f"each from 0 to {_MOST_NATS}, of three places at most",
            "for example margin = [4, 2, 1]",
            param=own.name("margin"),
        )
    return tuple(sorted(found, reverse=True))


def _fits(read: CascadeTask, own: Table) -> CascadeTask:
    """Refuse what a check lacks, and what no check asks for; give ``margin`` its rungs."""
    asks = set(read.check)
    sql = bool(asks & {"sql", COMPILE + "sql"})
    wanted = (
        ("tests", read.tests is not None, "tests" in asks, "tests" in asks),
        ("schema", read.schema is not None, "sql" in asks, sql),
        ("columns", bool(read.columns), False, "sql" in asks),
        ("some_rows", read.some_rows, False, "sql" in asks),
        ("margin", bool(read.margin), False, "margin" in asks),
        ("key", read.key in {"sql", "tests"}, False, read.key in asks),
    )
    for key, given, must, may in wanted:
        if must and not given:
            why = f"the check needs the file that {own.name(key)} names"
            raise Invalid(f"{own.name(key)} is missing", why, "name it", param=own.name(key))
        if given and not may:
            why = f"no check of {own.name('check')} goes by it"
            raise Invalid(f"{own.name(key)} is not used", why, "take it out", param=own.name(key))
    named = " ".join("regex" if one.startswith(REGEX) else one for one in read.check)
    if len(named) > _MOST_NAMES:
        why = f"their names have {len(named)} characters, and a receipt has room for {_MOST_NAMES}"
        raise Invalid(f"{own.name('check')} has too many checks", why, "leave some out")
    if len(read.columns) > _MOST_COLUMNS:
        raise Invalid(f"{own.name('columns')} has more than {_MOST_COLUMNS} names", "", "name fewer")
    rungs = (read.margin or MARGINS) if "margin" in asks else ()
    return msgspec.structs.replace(read, margin=rungs)


def _known(name: str, options: tuple[str, ...], where: str) -> str:
    if name.startswith(REGEX):
        _pattern(name.removeprefix(REGEX), where)
        return name
    if name not in options:
        more = (
            "the token margin is called `margin`; on each task it is calibrated by audits"
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
    others = [("fallback", name) for name in own.fallback]
    for role, name in (*named.items(), *others):
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
    if "margin" in own.check and own.base and "logprobs" not in fleet.deployments[own.base].takes:
        raise Invalid(
            f"{where}.base does not take logprobs",
            "how sure it was of its words cannot be known, and the check margin asks that",
            "name another base, or declare takes where it can",
            param=f"{where}.base",
        )
    if len(set(named.values())) != len(named):
        raise Invalid(f"{where} names a deployment twice", ", ".join(named.values()), "", param=where)
    _check_fallback(own, where, named.get("reference"))
    pair = [fleet.deployments[named[role]].model for role in ("base", "second") if role in named]
    if len(pair) == _TWO and pair[0] == pair[1]:
        raise Invalid(
            f"{where}.second is the same model as the base", pair[0], "name one of another maker", param=where
        )


def _check_fallback(own: CascadeTask, where: str, reference: str | None) -> None:
    """Refuse fallbacks that are the reference, too many, or one twice."""
    some = own.fallback
    if reference in some or len(set(some)) != len(some) or len(some) > _MOST_FALLBACKS:
        raise Invalid(
            f"{where}.fallback cannot be",
            f"{', '.join(some)}: the reference, one of them twice, or more than {_MOST_FALLBACKS}",
            "name deployments that answer where the reference cannot",
            param=f"{where}.fallback",
        )
