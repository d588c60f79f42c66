"""``allod policy diff``: two versions of a pack compared, and whether the new one permits more."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from allod.domain.errors import Unavailable
from allod.gateway.cli import FAILED, UNAVAILABLE, out, say
from allod.gateway.cli.options import json_option
from allod.gateway.cli.policy import chosen
from allod.gateway.cli.policy_prove import all_packs, with_required
from allod.gateway.cli.policy_proved import print_counterexample

if TYPE_CHECKING:
    from allod.policy.pack import Pack
    from allod.policy.proof.delta import Delta, Part
    from allod.policy.proof.refine import Widening


@click.command("diff")
@click.argument("old")
@click.argument("new")
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), help="the day of the law (default: today, UTC)")
@click.option("--no-widening", is_flag=True, help="exit code 1 if the new one permits more")
@json_option
def command(old: str, new: str, as_of: datetime | None, no_widening: bool, as_json: bool) -> None:
    """Compare two versions of a pack, each an id or a folder: rules, duties, lists, and what widens.

    A widening is something, on the day or a later one, that the new version permits and the old does not,
    over every request and deployment there could be; it is printed as one of them. Exit code 5 when that
    needs the solver and it is not installed.
    """
    from allod.policy.proof.delta import delta  # noqa: PLC0415 (only when it runs)
    from allod.policy.proof.refine import widens  # noqa: PLC0415

    known = all_packs()
    before, after = chosen((old,), known)[0], chosen((new,), known)[0]
    found = delta(before, after)
    day = datetime.now(UTC).date() if as_of is None else as_of.date()
    missing: Unavailable | None = None
    widening: Widening | None = None
    try:
        widening = widens(with_required(before, known), with_required(after, known), day)
    except Unavailable as error:
        missing = error
    if as_json:
        out(_data(before, after, found, widening, missing))
    else:
        _print(before, after, found)
        _print_widening(widening, missing)
    if missing is not None:
        sys.exit(UNAVAILABLE)
    sys.exit(FAILED if no_widening and widening is not None else 0)


def _data(
    before: Pack, after: Pack, found: Delta, widening: Widening | None, missing: Unavailable | None
) -> dict[str, Any]:
    widens = None if missing is not None else widening is not None
    return {
        "old": {"id": before.id, "version": before.version, "digest": before.digest},
        "new": {"id": after.id, "version": after.version, "digest": after.digest},
        "same": before.digest == after.digest,
        "changes": found,
        "widens": widens,
        "widening": widening,
        "undecided": None if missing is None else missing.explain(),
    }


def _print(before: Pack, after: Pack, found: Delta) -> None:
    say(f"{before.id} {before.version} -> {after.id} {after.version}")
    if before.digest == after.digest:
        say("  the same files")
    elif found.same:
        say("  the files differ, but nothing that they say")
    for name, was, now in found.frame:
        say(f"  {name}: {was} -> {now}")
    kinds = (
        ("rule", found.rules), ("duty", found.duties), ("list", found.lists), ("name", found.names),
        ("theorem", found.theorems), ("case", found.cases),
    )  # fmt: skip
    for kind, part in kinds:
        _print_part(kind, part)


def _print_part(kind: str, part: Part) -> None:
    for name in part.added:
        say(f"  + {kind} {name}")
    for name in part.removed:
        say(f"  - {kind} {name}")
    for one in part.changed:
        say(f"  ~ {kind} {one.id}: {', '.join(name for name, _, _ in one.fields)}")
        for name, was, now in one.fields:
            if was or now:
                say(f"      {name}: {was}")
                say(f"      {' ' * len(name)}> {now}")


def _print_widening(widening: Widening | None, missing: Unavailable | None) -> None:
    if missing is not None:
        say("  whether it widens is not known; take it for a widening")
        for line in missing.explain().splitlines():
            say(f"    {line}")
    elif widening is None:
        say("  it permits nothing that the old version does not, whatever the request and the deployment")
    else:
        against = ", ".join(widening.counterexample.against)
        say(f"  IT WIDENS: on {widening.day} this is permitted, which before was denied by {against}")
        print_counterexample(widening.counterexample)
