"""``allod plan``: what fits where, how fast, at what cost; each subcommand is imported when it is used."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Final

import click

from allod.gateway.cli.catalogue_lines import catalogue_option, reading

if TYPE_CHECKING:
    from pathlib import Path

SUBCOMMANDS: Final = {
    "fit": "exact bytes: does a model fit a device, at which context and concurrency",
    "tiers": "what runs where, from controllers and phones to clusters, with a clean alternative",
    "claims": "published claims, recomputed: the claim, our figure, its inputs, the verdict",
    "speed": "time per token, time to first token, throughput and energy, with intervals",
    "calibrate": "improve the predictions by one to three real measurements",
    "cost": "total cost per month, per million tokens and per task, against two ways to rent",
    "npv": "cash flow and net present value over the years",
    "prices": "the dated price book: history and drift of a model's price",
    "size": "how many machines a service level needs, by replaying a trace",
    "place": "which model on which machine at which site, within the law",
    "speculate": "measure draft against plain on a live deployment",
}


def _module(name: str) -> str:
    return f"allod.gateway.cli.plan_{name}"


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [name for name in SUBCOMMANDS if importlib.util.find_spec(_module(name))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in SUBCOMMANDS or not importlib.util.find_spec(_module(cmd_name)):
            return None
        return importlib.import_module(_module(cmd_name)).COMMAND  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        listed = [(name, SUBCOMMANDS[name]) for name in self.list_commands(ctx)]
        if listed:
            with formatter.section("Commands"):
                formatter.write_dl(listed)


@click.group("plan", cls=_Lazy)
@catalogue_option
@click.pass_context
def command(ctx: click.Context, catalogues: tuple[Path, ...]) -> None:
    """Plan machines: what fits, how fast, at what cost. Every figure carries its interval, day and source.

    Devices, models and grids are those that ship, with what bundles brought to the home and files over them.
    """
    ctx.with_resource(reading(catalogues))
