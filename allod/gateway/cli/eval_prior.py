"""``allod eval prior``: published scores as weak priors, each with its audit."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from allod.domain.errors import Invalid
from allod.domain.money import plain, rfc3339
from allod.gateway.cli import out, say
from allod.gateway.cli.eval_use import home, who
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import config_option, json_option, now_ms

if TYPE_CHECKING:
    from allod.domain.fleet import Fleet
    from allod.gateway.toml import Table
    from allod.gateway.uses import Prior
    from allod.routing.capability import Published

CONTAMINATION: Final = ("excluded", "unknown", "suspected", "measured")
MAX_BYTES: Final = 1 << 20
MOST_WITHHELD: Final = 32
_ZERO, _ONE = Decimal(0), Decimal(1)


@click.group("prior")
def command() -> None:
    """Keep published scores: weak priors, each worth what its audit leaves of it."""


@command.command("add")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--by", help="who says so (default: whose process this is)")
@config_option
@json_option
def add(file: Path, by: str | None, config_path: Path | None, as_json: bool) -> None:
    """Add the published scores of FILE ([[prior]] tables in TOML), each with its audit.

    They count from the next start of the gateway on.
    """
    from allod.gateway import compose, uses  # noqa: PLC0415 (only when it runs)

    setting = compose.setting(config_path)
    fresh = read_priors(file, setting.fleet, who(by), rfc3339(now_ms()))
    uses.add_priors(setting.home, fresh)
    if as_json:
        out([shown(one) for one in fresh])
        return
    for one in fresh:
        say_prior(one)


def read_priors(file: Path, fleet: Fleet, by: str, at: str) -> tuple[Prior, ...]:
    """Read the ``[[prior]]`` tables of a file.

    Raises:
        Invalid: the file is no TOML, too large, or a table is wrong; nothing is added then.

    """
    from allod.gateway.toml import Table  # noqa: PLC0415

    raw = file.read_bytes()
    try:
        if len(raw) > MAX_BYTES:
            raise Invalid("the file is too large", f"at most {MAX_BYTES} bytes")
        root = Table(tomllib.loads(raw.decode(), parse_float=Decimal), "")
    except (ValueError, RecursionError) as fault:
        raise Invalid(f"{file.name} is not valid TOML", str(fault)[:200], "correct it") from None
    read = tuple(_prior(t, fleet, by, at) for t in root.list_of("prior", "prior"))
    root.done()
    if not read:
        raise Invalid(f"{file.name} holds no [[prior]]", "", "see docs/evaluation.md")
    return read


def _prior(t: Table, fleet: Fleet, by: str, at: str) -> Prior:
    from allod.gateway.capabilities import evaluated_of  # noqa: PLC0415
    from allod.gateway.toml import nearest  # noqa: PLC0415
    from allod.gateway.uses import Prior  # noqa: PLC0415

    name, task = t.text("deployment"), t.required("task")
    if name is not None and name not in fleet.deployments:
        hint = nearest(name, fleet.deployments)
        raise Invalid(
            f"{t.name('deployment')}: there is no {name!r}{hint}",
            "",
            "correct it",
            param=t.name("deployment"),
        )
    if task != "default" and task not in fleet.tasks:
        hint = nearest(task, fleet.tasks)
        raise Invalid(f"{t.name('task')}: there is no {task!r}{hint}", "", "correct it", param=t.name("task"))
    return Prior(
        task=task,
        published=_published(t),
        by=by,
        at=at,
        deployment=name,
        evaluated=None if name is None else evaluated_of(fleet, fleet.deployments[name]),
    )


def _published(t: Table) -> Published:
    from allod.routing.capability import Published  # noqa: PLC0415

    score, retrieved = t.number("score", _ZERO, _ONE), t.day("retrieved")
    if score is None or retrieved is None:
        missing = "score" if score is None else "retrieved"
        raise Invalid(
            f"{t.name(missing)} is missing", "an audit begins with it", "add it", param=t.name(missing)
        )
    withheld = t.texts("withheld") or ()
    if len(withheld) > MOST_WITHHELD:
        raise Invalid(f"{t.name('withheld')} is too long", f"at most {MOST_WITHHELD}", "shorten it")
    relevance = t.number("relevance", _ZERO, _ONE)
    read = Published(
        benchmark=t.required("benchmark"),
        model=t.required("model"),
        score=score,
        source=t.required("source"),
        retrieved=f"{retrieved}",
        items=t.whole("items", None),
        harness=t.text("harness"),
        label_errors=t.number("label_errors", _ZERO, _ONE),
        contamination=t.choice("contamination", CONTAMINATION, "unknown"),
        withheld=withheld,
        **({} if relevance is None else {"relevance": relevance}),
    )
    t.done()
    return read


@command.command("list")
@json_option
def listing(as_json: bool) -> None:
    """List the published scores in force."""
    from allod.gateway import uses  # noqa: PLC0415 (only when it runs)

    found = uses.priors(home())
    if as_json:
        out([shown(one) for one in found])
        return
    for one in found:
        of, p = one.deployment or f"model {one.published.model}", one.published
        say(
            f"{one.name}  {of}  {one.task}  {p.benchmark} {plain(p.score)}, worth {one.doubt.worth:.1f} cases"
        )
    if not found:
        say("no published score is in force: `allod eval prior add FILE.toml`")


@command.command("show")
@click.argument("name", required=False)
@json_option
def show(name: str | None, as_json: bool) -> None:
    """Show published scores with their audits: what each stands for, what it is worth, and every reason."""
    from allod.gateway import uses  # noqa: PLC0415 (only when it runs)

    found = [one for one in uses.priors(home()) if name is None or one.name.startswith(name)]
    if name is not None and not found:
        raise Invalid(f"there is no score {name!r}", "", "see `allod eval prior list`", param="name")
    if as_json:
        out([shown(one) for one in found])
        return
    for one in found:
        say_prior(one)


@command.command("remove")
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="take all of them out; also where the file is damaged")
@json_option
def remove(name: str | None, every: bool, as_json: bool) -> None:
    """Take the published score NAME out: from the next start of the gateway on."""
    from allod.gateway import uses  # noqa: PLC0415 (only when it runs)

    if every == (name is not None):
        raise Invalid("which score?", "expected a name, or --all alone", param="name")
    uses.remove_prior(home(), name)
    if as_json:
        out({"removed": name, "all": every})
    else:
        say("no published score counts any more" if every else f"{name} counts no more")


def shown(one: Prior) -> dict[str, Any]:
    """Return a published score and its audit, for a program."""
    doubt = one.doubt
    return {
        "name": one.name,
        "deployment": one.deployment,
        "task": one.task,
        "published": one.published,
        "success": round(doubt.success, 4),
        "worth": round(doubt.worth, 2),
        "why": doubt.why,
        "by": one.by,
        "at": one.at,
    }


def say_prior(one: Prior) -> None:
    """Print a published score and its audit."""
    p, doubt = one.published, one.doubt
    say(f"{one.name}  {p.benchmark}: {p.model} {plain(p.score)}")
    say(f"  for         {one.deployment or 'every deployment of this model'}, task {one.task}")
    say_folded(
        "  source      ", f"{p.source}, retrieved {p.retrieved}; harness {p.harness or 'not published'}"
    )
    say(f"  stands for  {doubt.success:.3f} success, worth {doubt.worth:.1f} cases")
    for reason in doubt.why:
        say_folded("    less by   ", reason)
    say(f"  added       {one.at} by {one.by}")
