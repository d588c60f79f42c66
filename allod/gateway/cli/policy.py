"""``allod policy``: the law as code, read, tested, proved, changed and replayed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from allod.domain.errors import AllodError, Integrity, Invalid
from allod.gateway.cli import FAILED, out, say
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allod.gateway.packs import Packs
    from allod.policy import Pack
    from allod.policy.forms import Obligation

COMMANDS: Final = {
    "show": ("policy", "show", "list the packs, or read the rules, sources and duties of some"),
    "lint": ("policy", "lint", "check packs, and say what is worth knowing about them"),
    "test": ("policy", "test", "decide every worked case of packs"),
    "prove": ("policy_prove", "command", "prove what packs claim of every request there could be"),
    "diff": ("policy_diff", "command", "compare two versions of a pack, and print what widens"),
    "simulate": ("policy_simulate", "simulate", "replay recorded decisions under a change"),
    "shadow": ("policy_simulate", "shadow", "report what packs in shadow would have decided"),
    "enforce": ("policy_simulate", "enforce", "put a pack in force"),
    "new": ("policy_new", "command", "write a skeleton of a pack for a country"),
    "key": ("policy_change", "key", "make a signing key"),
    "sign": ("policy_change", "sign", "sign a pack of your own"),
    "verify": ("policy_change", "verify", "verify signatures and changes"),
    "propose": ("policy_change", "propose", "propose a change; nothing is changed by it"),
    "approve": ("policy_change", "approve", "approve a change that another proposed"),
    "changes": ("policy_change", "changes", "list proposals and approved changes"),
    "declassify": ("policy_declassify", "command", "sign that a finding raises no class in one app"),
}
_MODES: Final = {"enforce": "enforced by   ", "evidence": "shown by      ", "none": "out of reach  "}
_READ: Final = {
    "primary": "read at its official place",
    "copy": "read in a copy",
    "secondary": "not read, only described",
    "none": "not read",
}


class Group(click.Group):
    """Commands of packs, imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands from reading to changing."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        found = getattr(importlib.import_module(f"allod.gateway.cli.{module}"), name)
        return found  # type: ignore[no-any-return] # noqa: RET504

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list without importing a single command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group("policy", cls=Group)
def command() -> None:
    """Read the law that is in force, test and prove it, and see what a change would have done."""


def there() -> Packs:
    """Find every pack there is: shipped, installed, and the home's own, signed or not."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.store.home import Home  # noqa: PLC0415

    return compose.available(Home(compose.home_root()))


def chosen(names: Iterable[str], packs: Packs | None = None) -> tuple[Pack, ...]:
    """Load the packs named, by id or by folder; without a name every pack there is.

    Raises:
        Invalid: there is no such pack, or it is not what a pack has to be.

    """
    from allod.gateway.packs import files_of  # noqa: PLC0415 (only when it runs)
    from allod.policy.pack import BASE, load_pack  # noqa: PLC0415

    known = packs or there()
    out: list[Pack] = []
    for name in list(names) or list(known.found):
        folder = Path(name)
        try:
            if (folder / "pack.toml").is_file() and name not in known.found:
                out.append(load_pack(files_of(folder), known.load(BASE).schema))
            else:
                out.append(known.load(name))
        except (Invalid, Integrity) as error:
            if name not in known.found and not folder.is_dir():
                raise
            raise type(error)(f"pack {name}: {error.what}", error.why, error.remedy) from error
    return tuple(out)


@click.command("lint")
@click.argument("packs", nargs=-1)
@json_option
def lint(packs: tuple[str, ...], as_json: bool) -> None:
    """Check packs, by id or folder: layout, schema, annotations, direction of every test, sources, duties.

    A pack that cannot be loaded is an error (exit code 2). Of one that can, what is worth knowing is listed:
    rules without a source, nobody's review, laws nobody opened.
    """
    loaded = chosen(packs)
    notes = {pack.id: notes_on(pack) for pack in loaded}
    if as_json:
        out({"packs": [{"id": p.id, "version": p.version, "notes": notes[p.id]} for p in loaded]})
        return
    for pack in loaded:
        say(f"{pack.id} {pack.version}: sound, {len(pack.rules)} rules")
        for note in notes[pack.id]:
            say_folded("  note  ", note)


def notes_on(pack: Pack) -> list[str]:
    """Return what is worth knowing about a sound pack."""
    notes = []
    if not pack.reviewed:
        notes.append("no person has reviewed it")
    if pack.manifest.status != "in-force":
        notes.append(f"its status is {pack.manifest.status}")
    if pack.unverified:
        notes.append("rests on texts nobody has opened: " + ", ".join(pack.unverified))
    unread = [s.citation for s in pack.manifest.source if s.read not in {"primary", "copy"}]
    notes += [f"cited, not read: {citation}" for citation in unread]
    enforced = {rule_id for duty in pack.obligations for rule_id in duty.rules}
    idle = [rule.id for rule in pack.rules if rule.law and rule.id not in enforced]
    if idle:
        notes.append("no duty names " + ", ".join(idle))
    bare = [rule.id for rule in pack.rules if not any(rule.id in t.fails_without for t in pack.theorems)]
    if bare:
        notes.append("no theorem needs " + ", ".join(bare))
    return notes


@click.command("test")
@click.argument("packs", nargs=-1)
@json_option
def test(packs: tuple[str, ...], as_json: bool) -> None:
    """Decide every worked case of packs by both engines; each rule needs one it denies and one it lets pass.

    Exit code 1 when a case comes out otherwise.
    """
    from allod.policy import run_cases  # noqa: PLC0415 (only when it runs)
    from allod.policy.pack import BASE  # noqa: PLC0415

    known = there()
    results = {}
    for pack in chosen(packs, known):
        others = [known.load(name) for name in pack.manifest.requires if name not in {BASE, pack.id}]
        results[pack.id] = run_cases(pack, known.load(BASE), *others)
    failed = sum(not result.ok for found in results.values() for result in found)
    if as_json:
        out({"ok": not failed, "packs": results})
    else:
        for name, found in results.items():
            bad = [result for result in found if not result.ok]
            say(f"{name}: {len(found) - len(bad)} of {len(found)} hold")
            for result in bad:
                say_folded("  FAIL  ", f"{result.name}: {result.detail}")
    sys.exit(FAILED if failed else 0)


@click.command("show")
@click.argument("packs", nargs=-1)
@json_option
def show(packs: tuple[str, ...], as_json: bool) -> None:
    """List the packs there are; with names or folders, show their rules, sources and duties.

    In the list, `here` says which of them decide in this home, and which are in shadow.
    """
    known = there()
    loaded, broken = (chosen(packs, known), {}) if packs else _sound(known)
    if as_json:
        wrong = [{"id": name, "what": e.what, "why": e.why} for name, e in broken.items()]
        out({"packs": [described(pack) for pack in loaded], "broken": wrong})
    elif packs:
        for n, pack in enumerate(loaded):
            if n:
                say()
            _print(pack)
    else:
        _list(loaded, _here(known))
        for name, error in broken.items():
            say_folded(f"{name}: ", f"cannot be read: {error.what} ({error.why})")


def _sound(known: Packs) -> tuple[tuple[Pack, ...], dict[str, AllodError]]:
    """Load every pack that can be loaded; of the others say why not."""
    loaded, broken = [], {}
    for name in known.found:
        try:
            loaded.append(known.load(name))
        except AllodError as error:
            broken[name] = error
    return tuple(loaded), broken


def _here(known: Packs) -> dict[str, str]:
    """Return what the home's configuration makes of packs; nothing where there is none to be read."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.policy.pack import BASE  # noqa: PLC0415
    from allod.store.home import Home  # noqa: PLC0415

    try:
        tenant = compose.read_config(Home(compose.home_root()).config, known).fleet.tenant
    except AllodError:
        return {}
    return dict.fromkeys(tenant.shadow, "shadow") | dict.fromkeys((BASE, *tenant.packs), "decides")


def _list(loaded: tuple[Pack, ...], here: dict[str, str]) -> None:
    width = max(len(pack.id) for pack in loaded)
    mark = f"{'here':7}  " if here else ""
    say(f"{'pack'.ljust(width)}  version  {mark}rules  status    law")
    for pack in loaded:
        mark = f"{here.get(pack.id, '-'):7}  " if here else ""
        head = f"{pack.id.ljust(width)}  {pack.version:7}  {mark}{len(pack.rules):5}  "
        say_folded(f"{head}{pack.manifest.status:8}  ", pack.manifest.title)
    say()
    say_folded("reviewed by a person: ", ", ".join(pack.id for pack in loaded if pack.reviewed) or "none yet")


def described(pack: Pack) -> dict[str, Any]:
    """Return everything a pack says, for a program to read."""
    return {
        "id": pack.id,
        "version": pack.version,
        "digest": pack.digest,
        "reviewed": pack.reviewed,
        "manifest": pack.manifest,
        "rules": [
            {
                "id": rule.id, "effect": rule.effect, "law": rule.law, "text": rule.text,
                "texts": rule.texts, "remedy": rule.remedy, "since": rule.since, "until": rule.until,
                "verified": not rule.unverified, "reads": rule.reads, "lists": rule.lists,
            }
            for rule in pack.rules
        ],
        "obligations": pack.obligations,
        "theorems": pack.theorems,
        "lists": pack.lists,
        "names": pack.names,
    }  # fmt: skip


def _print(pack: Pack) -> None:
    manifest = pack.manifest
    say_folded("", f"{pack.id} {pack.version}   {manifest.title}")
    say(f"  {pack.digest}")
    whose = f"jurisdiction {manifest.jurisdiction or 'any'}"
    say_folded("  ", f"status {manifest.status}, {whose}: {manifest.applies_to}")
    say(
        f"  reviewed by {manifest.reviewer} on {manifest.reviewed_on}"
        if pack.reviewed
        else "  no person has reviewed it"
    )
    for told in _conditions(pack):
        say_folded("  ", told)
    for rule in pack.rules:
        say()
        dates = "".join(
            f"   {word} {day}" for word, day in (("from", rule.since), ("until", rule.until)) if day
        )
        say(f"  {rule.id}{dates}" + ("   TEXT NOT VERIFIED" if rule.unverified else ""))
        say_folded("    law      ", rule.law or "-")
        say_folded("    demand   ", rule.text)
        say_folded("    remedy   ", rule.remedy)
    if pack.obligations:
        say()
        say("  duties")
    for duty in pack.obligations:
        say_folded("    ", duty.article)
        say_folded(f"      {_MODES[duty.mode]}", _duty(duty))
    _print_rest(pack)


def _conditions(pack: Pack) -> list[str]:
    """Return in words on which terms a pack holds and counts facts."""
    manifest, told = pack.manifest, []
    if manifest.valid_from or manifest.valid_until:
        until = f" until {manifest.valid_until}" if manifest.valid_until else ""
        told.append(f"holds from {manifest.valid_from or 'ever'}{until}; outside of it everything is denied")
    if manifest.min_grade != "declared":
        told.append(f"facts about operators that are not our own count from grade {manifest.min_grade} on")
    if manifest.max_age_days is not None:
        told.append(f"facts older than {manifest.max_age_days} days, or of unknown age, do not count")
    if manifest.classes:
        told.append(f"brings the data classes {', '.join(manifest.classes)}")
    return told


def _duty(duty: Obligation) -> str:
    by = ", ".join(duty.rules)
    if duty.export:
        by = f"`allod report {duty.export}`" + (f": {duty.column}" if duty.column else "")
    return "; ".join(part for part in (by, duty.note) if part) or "-"


def _print_rest(pack: Pack) -> None:
    if pack.theorems:
        say()
        say("  claims, for `allod policy prove`")
    for theorem in pack.theorems:
        say_folded("    ", f"{theorem.id}: {theorem.text}")
    for name in pack.names:
        say()
        say_folded(f"  {name.kind} {name.name}   ", name.text)
    for one in pack.lists:
        say()
        say_folded(f"  list {one.id}   ", one.text)
        if one.includes:
            say_folded("    with  ", ", ".join(one.includes))
        for row in one.row:
            span = f"{row.since or '...'} to {row.until or '...'}"
            say_folded(f"    {row.place:5} {span:26} ", row.source)
    say()
    say("  sources")
    for source in pack.manifest.source:
        say_folded("    ", f"{source.citation}   [{_READ[source.read]}]")
        if source.digest:
            say(f"      {source.digest}")
