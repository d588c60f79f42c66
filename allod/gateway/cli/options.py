"""Options several commands share."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from allod.domain.errors import Invalid
from allod.gateway.toml import nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from allod.domain.fleet import App, Fleet

DEFAULT_APP: Final = "default"


def config_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--config FILE``; where that says air-gapped, the process gets walls as from the home's own."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        callback=_wall,
        help="another configuration than the home's",
    )(function)


def _wall(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:  # noqa: ARG001
    from allod.gateway.cli import Process  # noqa: PLC0415 (it imports this)

    root = ctx.find_root()
    if value is not None and isinstance(root.obj, Process):
        with contextlib.suppress(OSError):
            root.obj.wall(value, root.invoked_subcommand or "")
    return value


def air_gap_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--air-gap``: as ``air_gapped = true`` for this command; it only tightens."""
    return click.option(
        "--air-gap", "air_gap", is_flag=True, help="as if the configuration said air_gapped = true"
    )(function)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="print JSON for a program to read")(function)


def request_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what describes a request: the same for ``ask`` and ``explain``."""
    for option in (
        click.option("--app", "app_id", help="the calling app (default: `default`, or the only one)"),
        click.option("--class", "classes", multiple=True, help="add a data class; may be repeated"),
        click.option("--task", help="a configured task"),
        click.option("--purpose", help="a purpose the app may state"),
        click.option("--model", help="auto, a task, a model or a deployment"),
    ):
        function = option(function)
    return function


def app_named(fleet: Fleet, name: str | None) -> App:
    """Return an app: the one named, else ``default``, else the only one.

    Raises:
        Invalid: there is none of this name, or none can be assumed.

    """
    if name is None:
        if DEFAULT_APP in fleet.apps:
            return fleet.apps[DEFAULT_APP]
        if len(fleet.apps) == 1:
            return next(iter(fleet.apps.values()))
        raise Invalid(
            "no app is named", "there are " + (", ".join(fleet.apps) or "none"), "say --app", param="app"
        )
    app = fleet.apps.get(name)
    if app is None:
        hint = nearest(name, fleet.apps)
        raise Invalid(
            f"there is no app {name!r}{hint}",
            "known: " + ", ".join(fleet.apps),
            "add an [[app]]",
            param="app",
        )
    return app


def now_ms() -> int:
    """UTC milliseconds."""
    return time.time_ns() // 1_000_000
