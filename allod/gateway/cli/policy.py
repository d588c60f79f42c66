"""``allod policy``: the law as code, read, tested, proved, changed and replayed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from allod.gateway.cli import FAILED, out, say
from allod.gateway.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allod.gateway.packs import Packs
    from allod.policy import Pack

COMMANDS: Final = {
    "show": ("policy", "show"),
    "lint": ("policy", "lint"),
    "test": ("policy", "test"),
    "prove": ("policy_prove", "command"),
    "diff": ("policy_diff", "command"),
    "simulate": ("policy_simulate", "simulate"),
    "shadow": ("policy_simulate", "shadow"),
    "enforce": ("policy_simulate", "enforce"),
    "new": ("policy_new", "command"),
    "key": ("policy_change", "key"),
    "sign": ("policy_change", "sign"),
    "verify": ("policy_change", "verify"),
    "propose": ("policy_change", "propose"),
    "approve": ("policy_change", "approve"),
    "changes": ("policy_change", "changes"),
    "declassify": ("policy_declassify", "command"),
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
        module, name = COMMANDS[cmd_name]
        found = getattr(importlib.import_module(f"allod.gateway.cli.{module}"), name)
        return found  # type: ignore[no-any-return] # noqa: RET504


@click.group("policy", cls=Group)
def command() -> None:
    """Read the law that is in force, test and prove it, and see what a change would have done."""


def chosen(names: Iterable[str], packs: Packs | None = None) -> tuple[Pack, ...]:
    """Load the packs named, by id or by folder; without a name every pack there is.

    Raises:
        Invalid: there is no such pack, or it is not what a pack has to be.

    """
    from allod.gateway.packs import files_of, find  # noqa: PLC0415 (only when it runs)
    from allod.policy.pack import BASE, load_pack  # noqa: PLC0415

    known = packs or find()
    wanted = list(names)
    if not wanted:
        return known.all()
    out: list[Pack] = []
    for name in wanted:
        folder = Path(name)
        if (folder / "pack.toml").is_file():
            schema = None if name == BASE else known.load(BASE).schema
            out.append(load_pack(files_of(folder), schema))
        else:
            out.append(known.load(name))
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
            say(f"  note  {note}")


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
    from allod.gateway.packs import find  # noqa: PLC0415
    from allod.policy import run_cases  # noqa: PLC0415
    from allod.policy.pack import BASE  # noqa: PLC0415

    known = find()
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
                say(f"  FAIL  {result.name}: {result.detail}")
    sys.exit(FAILED if failed else 0)


@click.command("show")
@click.argument("packs", nargs=-1)
@json_option
def show(packs: tuple[str, ...], as_json: bool) -> None:
    """List the packs there are; with names or folders, show their rules, sources and duties."""
    loaded = chosen(packs)
    if as_json:
        out({"packs": [described(pack) for pack in loaded]})
    elif packs:
        for pack in loaded:
            _print(pack)
    else:
        width = max(len(pack.id) for pack in loaded)
        say(f"{'pack'.ljust(width)}  version  rules  status     reviewed  law")
        for pack in loaded:
            status = pack.manifest.status.ljust(9)
            reviewed = "yes" if pack.reviewed else "no"
            line = f"{pack.id.ljust(width)}  {pack.version:7}  {len(pack.rules):5}  {status}  {reviewed:8}"
            say(f"{line}  {pack.manifest.title}")


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
    say(f"{pack.id} {pack.version}   {manifest.title}")
    say(f"  {pack.digest}")
    say(f"  status {manifest.status}, jurisdiction {manifest.jurisdiction or 'any'}: {manifest.applies_to}")
    say(
        f"  reviewed by {manifest.reviewer} on {manifest.reviewed_on}"
        if pack.reviewed
        else "  nobody reviewed it"
    )
    for rule in pack.rules:
        say()
        dates = "".join(
            f"   {word} {day}" for word, day in (("from", rule.since), ("until", rule.until)) if day
        )
        say(f"  {rule.id}{dates}" + ("   TEXT NOT VERIFIED" if rule.unverified else ""))
        say(f"    law      {rule.law or '-'}")
        say(f"    demand   {rule.text}")
        say(f"    remedy   {rule.remedy}")
    _print_rest(pack)


def _print_rest(pack: Pack) -> None:
    say()
    say("  duties")
    for duty in pack.obligations:
        by = ", ".join(duty.rules) or " ".join(part for part in (duty.export, duty.column) if part)
        say(
            f"    {duty.article}: {duty.mode}"
            + (f"   {by}" if by else "")
            + (f"   {duty.note}" if duty.note else "")
        )
    for one in pack.lists:
        say()
        say(f"  list {one.id}   {one.text}")
        for row in one.row:
            span = f"{row.since or '...'} to {row.until or '...'}"
            say(f"    {row.place:5} {span:26} {row.source}")
    say()
    say("  sources")
    for source in pack.manifest.source:
        say(f"    {source.citation}   [{source.read}]" + (f"   {source.digest}" if source.digest else ""))
