"""``allod plan claims``: published claims, recomputed."""

from __future__ import annotations

from pathlib import Path

import click

from allod.gateway.cli import out, say
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import json_option


@click.command("claims")
@click.option("--html", type=click.Path(path_type=Path), help="write a page with a table")
@json_option
def COMMAND(html: Path | None, as_json: bool) -> None:  # noqa: N802 (the name the group looks for)
    """Recompute published claims about memory, arithmetic and cost: claim, our figure, inputs, verdict."""
    from allod.planner.claims import claims  # noqa: PLC0415 (only when it runs)

    found = claims()
    if html is not None:
        from allod.gateway.cli.plan_money import write  # noqa: PLC0415
        from allod.planner.pictures import Section, page  # noqa: PLC0415

        table = (
            ("claim", "ours", "from", "verdict"),
            *((c.claim, c.ours, c.inputs, c.verdict) for c in found),
        )
        write(html, page("Claims, recomputed", (Section("Claims", (), None, table),)))
    if as_json:
        out({"claims": found})
        return
    for one in found:
        say_folded("claim:   ", one.claim)
        say_folded("ours:    ", one.ours)
        say_folded("from:    ", one.inputs)
        say_folded("verdict: ", one.verdict)
        say()
