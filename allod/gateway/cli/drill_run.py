"""``allod drill run``: one world, and the record of an exit test."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allod.gateway.cli import INTEGRITY, say
from allod.gateway.cli.drill_office import asked, check_output, deliver, drill_options, jsonable, office

if TYPE_CHECKING:
    from allod.drills.traffic import Traffic
    from allod.gateway.drilling_run import Office, Ran


@click.command("run")
@click.argument("world")
@click.option(
    "--dora", type=click.Path(path_type=Path), help="write the record of an exit test: FILE.json and FILE.md"
)
@click.option("--no-remedies", "bare", is_flag=True, help="do not look for what restores the work")
@drill_options
def run(world: str, dora: Path | None, bare: bool, **options: Any) -> None:
    """Take away what WORLD says, and decide what was asked again.

    WORLD is the name of a world (`allod drill worlds`), a TOML file, a single loss as in operator=us-cloud,
    control=US, region=DE, chip=NVIDIA, family=mistral, list=gdpr.adequate/UY, agreement=dpa, price=3, link,
    or several with + between them. Exit code 3 if a record is damaged.
    """
    from allod.drills.pages import drill_page  # noqa: PLC0415 (only when it runs)
    from allod.gateway.drilling import world_named, worlds_of  # noqa: PLC0415

    ask = asked(options)
    check_output(dora, "--dora")
    for path in () if dora is None else dora_paths(dora):
        check_output(path, "--dora")
    with office(ask, lambda ground: [world_named(world, worlds_of(ground.setting.home))]) as open_office:
        found = world_named(world, worlds_of(open_office.ground.setting.home))
        ran = open_office.run(found, remedies=not bare)
        traffic = open_office.gathered.of(found)
        page = drill_page(ran.drill, ran.restoration, traffic)
        if dora is not None:
            _exit_test(open_office, ran, traffic, dora)
        deliver(ask, page, as_data(ran, traffic))
        if dora is not None and not ask.as_json:
            say(f"written: {', '.join(map(str, dora_paths(dora)))}")
    damaged = traffic.damaged + open_office.ground.damaged
    sys.exit(INTEGRITY if damaged else 0)


def as_data(ran: Ran, traffic: Traffic) -> dict[str, Any]:
    """Return a drill as data for a program."""
    return {
        "generated": traffic.generated,
        "requests": traffic.requests,
        "decisions": traffic.decisions,
        "held": traffic.held,
        "days": traffic.days,
        "records": traffic.records,
        "left": traffic.left,
        "damaged": traffic.damaged,
        "drill": ran.drill,
        "share": ran.drill.share,
        "critical_share": ran.drill.critical_share,
        "restoration": ran.restoration,
    }


def _exit_test(open_office: Office, ran: Ran, traffic: Traffic, path: Path) -> None:
    """Write the record of a test as JSON, then its digest beside it in the Markdown."""
    from allod.drills.pages_exit import exit_page  # noqa: PLC0415 (only when it runs)
    from allod.store.home import write_file  # noqa: PLC0415

    made = open_office.exit_test(ran)
    raw = (json.dumps(jsonable(made), indent=1, ensure_ascii=False) + "\n").encode()
    json_path, text_path = dora_paths(path)
    write_file(json_path, raw)
    text = exit_page(made, traffic).markdown()
    text += f"\nThe whole record is `{json_path.name}`, sha256 `{hashlib.sha256(raw).hexdigest()}`.\n"
    write_file(text_path, text.encode())


def dora_paths(path: Path) -> tuple[Path, Path]:
    """Return where the record and its page go: FILE.json and FILE.md, whichever of the two was named."""
    stem = path.with_suffix("") if path.suffix in {".json", ".md"} else path
    return stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.md")
