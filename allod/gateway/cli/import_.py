"""``allod import``: configurations of other gateways, carried over."""

from __future__ import annotations

import os
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from allod.domain import jurisdiction
from allod.domain.errors import Invalid, Unavailable
from allod.gateway.cli import out, say
from allod.gateway.cli.options import json_option

if TYPE_CHECKING:
    from allod.gateway.litellm import Import


@click.group("import")
def command() -> None:
    """Carry the configuration of another gateway over."""


@command.command("litellm")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", "target", type=click.Path(path_type=Path), help="write it here (never over a file)")
@click.option("--country", default="DE", show_default=True, help="ISO 3166-1 code of the organisation's home")
@json_option
def litellm(file: Path, target: Path | None, country: str, as_json: bool) -> None:
    """Carry a LiteLLM config.yaml over: deployments, fallbacks, names of keys, prices, limits, teams.

    Without --out the configuration goes to the standard output and what must be known about it to the
    standard error. No key of the file is written or shown. Facts the file does not hold are left out, and
    every deployment is refused for resident classes until they are filled in.
    """
    from allod.gateway.litellm import carry_over  # noqa: PLC0415 (only when it runs)
    from allod.gateway.yamlfile import MAX_BYTES, read_yaml  # noqa: PLC0415
    from allod.metering.book import Book  # noqa: PLC0415

    home = jurisdiction.check(country, "--country")
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unavailable(
            f"{file} cannot be read", error.strerror or "", "check the path", kind="down"
        ) from error
    book = Book.parse(resources.files("allod.metering").joinpath("prices.json").read_bytes())
    found = carry_over(
        read_yaml(data, str(file)),
        home=home,
        bloc="EEA" if home in jurisdiction.BLOCS["EEA"] else home,
        environ=os.environ,
        book=book.models,
    )
    if target is not None:
        _write(target, found.toml)
    if as_json:
        report = msgspec.to_builtins(found)
        out({**report, "file": str(target) if target else None})
        return
    if target is None:
        say(found.toml.rstrip("\n"))
    (sys.stderr if target is None else sys.stdout).write(_told(found, target))


def _write(target: Path, text: str) -> None:
    try:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError as error:
        raise Invalid(f"{target} exists", "a configuration is never written over", "name another") from error
    with os.fdopen(fd, "w") as file:
        file.write(text)


def _told(found: Import, target: Path | None) -> str:
    lines = [f"{len(found.deployments)} deployments, {len(found.tasks)} tasks, {len(found.apps)} apps"]
    lines += [f"written to {target}"] if target else []
    lines += ["", "refused for resident classes until these facts are filled in, with evidence:"]
    for one in found.deployments:
        lines.append(f"  {one.id} ({one.host}, operator {one.operator}): {', '.join(one.unknown)}")
        lines += [f"    and {one.cannot}"] if one.cannot else []
    if found.variables:
        lines += ["", "variables to set before `allod up`:"]
        lines += [
            f"  {one.name}: {one.why}" + (f" ({', '.join(one.deployments)})" if one.deployments else "")
            for one in found.variables
        ]
    if found.not_carried:
        lines += ["", "not carried over:"]
        lines += [f"  {one.where}: {one.why}" for one in found.not_carried]
    if found.notes:
        lines += ["", "note:", *(f"  {note}" for note in found.notes)]
    return "\n".join(lines) + "\n"
