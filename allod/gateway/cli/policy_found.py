"""What ``allod policy simulate`` and ``shadow`` print."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.money import plain, rfc3339
from allod.gateway.cli import say
from allod.gateway.cli.lines import say_folded

if TYPE_CHECKING:
    from allod.gateway.replay import Scenario
    from allod.gateway.simulation import Simulated
    from allod.routing.shadow import ShadowFound

LINES: Final = 12
"""So many lines of each table are printed; ``--json`` has all."""
LINK: Final = "/v1/receipts/"


def as_data(scenario: Scenario, done: Simulated, span: tuple[int, int]) -> dict[str, Any]:
    """Return all a simulation found as JSON data."""
    found = jsonable(done.found)
    return {
        **_head(scenario, span),
        **found,
        "older_format_requests": done.older,
        "repacked_requests": done.repacked,
        "damaged": done.damaged,
        "checked": done.checked,
        "unequal": [{"receipt": one, "link": LINK + one} for one in done.unequal],
        "price_book": done.book,
        "notes": _notes(done),
    }


def _head(scenario: Scenario, span: tuple[int, int]) -> dict[str, Any]:
    packs = [scenario.packs.load(name) for name in dict.fromkeys(scenario.add)]
    return {
        "since": rfc3339(span[0]),
        "until": rfc3339(span[1]),
        "as_of": None if scenario.as_of is None else f"{scenario.as_of}",
        "fleet": "as each decision was made with" if scenario.given is None else "given",
        "packs_added": [
            {"id": pack.id, "version": pack.version, "digest": pack.digest, "reviewed": pack.reviewed}
            for pack in packs
        ],
        "packs_dropped": list(scenario.drop),
    }


def jsonable(value: Any) -> Any:
    """Turn what was found into JSON data: amounts as plain text, receipts with their links."""
    if isinstance(value, msgspec.Struct):
        fields = {name: jsonable(getattr(value, name)) for name in value.__struct_fields__}
        if "receipts" in fields:
            fields["receipts"] = [{"receipt": one, "link": LINK + one} for one in fields["receipts"]]
        return fields
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, tuple | list):
        return [jsonable(item) for item in value]
    return value


def _notes(done: Simulated) -> list[str]:
    found, out = done.found, []
    if any(one.allowed for one in found.deployments):
        out.append(
            "what is newly allowed was never estimated: its cost is that of the fleet and prices at hand, "
            "and it is taken to be up; a widening needs two signatures (`allod policy sign`)"
        )
    if any(one.whole for one in found.uncovered):
        out.append("what nothing serves any more needs an owner before this is enforced")
    if done.repacked:
        out.append(
            f"{done.repacked} requests were decided by other packs than those installed now: "
            "a change may be due to that"
        )
    if done.older:
        out.append(
            f"{done.older} requests have records of the older format, which name no configuration: they were "
            "matched by their fleet digest, and what is newly allowed was estimated by the fleet that matched"
        )
    return out


def tell(scenario: Scenario, done: Simulated, span: tuple[int, int]) -> None:
    """Print what a simulation found."""
    found, head = done.found, _head(scenario, span)
    total = found.totals
    added = ", ".join(f"{one['id']} {one['version']}" for one in head["packs_added"])
    dropped = ", ".join(scenario.drop)
    change = "; ".join(
        text
        for text in (
            added and f"with {added}",
            dropped and f"without {dropped}",
            "over the given fleet" if scenario.given is not None else "",
            "" if scenario.as_of is None else f"as of {scenario.as_of}",
        )
        if text
    )
    say(f"{rfc3339(span[0])} to {rfc3339(span[1])}: {change or 'nothing changed'}")
    say(
        f"{total.requests} requests, {total.decisions} distinct decisions; {total.replayed} requests "
        "replayed" + ("" if change else f", {total.identical} identical")
    )
    if done.checked:
        say(f"{done.checked - len(done.unequal)} of {done.checked} records written again byte for byte")
    say()
    for one in found.changes:
        if one.requests:
            say(f"  {_WORDS[one.change]:46} {one.requests:>10} requests {one.decisions:>8} decisions")
    say()
    say(f"  expected cost     {plain(total.cost_before_usd)} -> {plain(total.cost_after_usd)} USD")
    say(
        f"  served both times {total.both} requests: {plain(total.both_cost_before_usd)} -> "
        f"{plain(total.both_cost_after_usd)} USD, "
        f"quality {_amount(total.quality_before)} -> {_amount(total.quality_after)} "
        f"(known for {total.quality_known})"
    )
    _print_tables(done)
    for note in _notes(done):
        say_folded("  note: ", note)


_WORDS = {
    "denied": "newly denied (nothing may serve it)",
    "allowed": "newly allowed",
    "down": "nothing lawful is up any more",
    "up": "something lawful is up now",
    "choice": "another first choice",
    "fallbacks": "same first choice, other candidates behind it",
    "same": "the same",
}


def _amount(value: Decimal | None) -> str:
    return "unknown" if value is None else plain(value)


def _print_tables(done: Simulated) -> None:
    found = done.found
    lines = [one for one in found.lines if one.change != "same"]
    table(
        "by app, classes and task",
        [
            f"{_WORDS[one.change]}: {kind(one)}: {one.requests} requests, "
            f"{plain(one.cost_before_usd)} -> {plain(one.cost_after_usd)} USD"
            + (f", by {', '.join(one.rules)}" if one.rules else "")
            + examples(one.receipts)
            for one in lines
        ],
    )
    table(
        "by rule",
        [
            f"{one.rule}" + (f" ({one.law})" if one.law else "") + f": takes a candidate from {one.takes} "
            f"requests ({one.refused} refused), gives one back to {one.gives}; "
            f"{', '.join(one.deployments)}" + examples(one.receipts)
            for one in found.rules
        ],
    )
    table(
        "by deployment",
        [
            f"{one.deployment}: first choice {one.first_before} -> {one.first_after}, "
            f"newly denied to {one.denied}, newly allowed to {one.allowed}"
            for one in found.deployments
            if one.denied or one.allowed or one.first_before != one.first_after
        ],
    )
    table(
        "left uncovered",
        [
            f"{kind(one)}: {one.requests} requests" + (", all of this kind" if one.whole else "")
            + examples(one.receipts)
            for one in found.uncovered
        ],
    )  # fmt: skip
    table(
        "cannot be replayed",
        [
            f"{one.reason}: {one.requests} requests, {one.decisions} decisions" + examples(one.receipts)
            for one in found.left
        ],
    )
    table("prices of what is newly allowed", list(found.prices))
    table("records that differ", [f"{LINK}{one}" for one in done.unequal])


def kind(one: Any) -> str:
    """Name app, classes and task."""
    return f"{one.app}, {'+'.join(one.classes)}, {'task ' + one.task if one.task else 'no task'}"


def examples(receipts: tuple[str, ...]) -> str:
    """Write where some receipts are to be had."""
    return f"  [{', '.join(LINK + one for one in receipts)}]" if receipts else ""


def table(title: str, lines: list[str]) -> None:
    """Print the first lines of a table, if it has any."""
    if not lines:
        return
    say()
    say(f"{title}:")
    for line in lines[:LINES]:
        say_folded("  ", line, 6)
    if len(lines) > LINES:
        say(f"  and {len(lines) - LINES} more (--json has all)")


def shadow_data(found: ShadowFound, damaged: int, span: tuple[int, int]) -> dict[str, Any]:
    """Return what records say of shadows as JSON data."""
    return {"since": rfc3339(span[0]), "until": rfc3339(span[1]), "damaged": damaged, **jsonable(found)}


def tell_shadow(found: ShadowFound, damaged: int, span: tuple[int, int]) -> None:
    """Print what records say of shadows."""
    total = found.totals
    say(f"{rfc3339(span[0])} to {rfc3339(span[1])}: {total.requests} requests")
    say(f"  {total.shadowed} with a shadow: {total.same} the same, {total.differing} different")
    say(f"  of these {total.changed} with another first choice or end, {total.refused} newly refused")
    if total.failed:
        say(f"  {total.failed} whose shadow could not be evaluated: it says nothing about them")
    if total.unread or damaged:
        say(f"  {total.unread} whose record is lost or damaged ({damaged} damaged records)")
    table(
        "differences",
        [
            f"{', '.join(one.packs)}: {kind(one)}: {one.requests} requests, "
            f"{_end(one.before)} -> {_end(one.after)}"
            + (f", without {', '.join(one.excluded)}" if one.excluded else "")
            + (f", with {', '.join(one.kept)}" if one.kept else "")
            + (f", by {', '.join(one.rules)}" if one.rules else "")
            + examples(one.receipts)
            for one in found.lines
        ],
    )
    table(
        "not evaluated",
        [
            f"{', '.join(one.packs)}: {one.error}: {one.requests} requests{examples(one.receipts)}"
            for one in found.faults
        ],
    )


def _end(end: tuple[str | None, str | None]) -> str:
    return end[1] or end[0] or "unknown"
