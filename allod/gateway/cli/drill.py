"""``allod drill``: take something away, decide again, and see what stops, what it costs, what restores it."""

from __future__ import annotations

import importlib
from typing import Final

import click

from allod.gateway.cli.catalogue_lines import reading

SUBCOMMANDS: Final = {
    "run": ("drill_run", "run", "one world: what stops, what it costs, what restores it; an exit test"),
    "all": ("drill_many", "everything", "every single loss, and every pair among the worst ten"),
    "expected": ("drill_odds", "expected", "what a year of disruption may cost, and which hedges lower it"),
    "concentration": ("drill_many", "concentration", "on whom the work rests, and what would lower that"),
    "worlds": ("drill_many", "worlds", "list the worlds there are, or show one"),
    "check": ("drill_odds", "check", "odds that contradict each other, worlds and remedies that are wrong"),
    "tick": ("drill_odds", "tick", "note that an early sign was seen, dated"),
}


class Group(click.Group):
    """Drills, imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands from one world to all odds."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        if cmd_name not in SUBCOMMANDS:
            return None
        module, name, _ = SUBCOMMANDS[cmd_name]
        return getattr(importlib.import_module(f"allod.gateway.cli.{module}"), name)  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list without importing a single command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in SUBCOMMANDS.items()])


@click.group("drill", cls=Group)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Take any provider, country, chip or model away, and see what stops, what it costs, what restores it.

    Recorded requests are decided again by the functions that decide; nothing is sent, and but for ticks and
    the files you name nothing is written.
    """
    ctx.with_resource(reading())
