"""The command ``allod``: every command in a module of its own, imported when it is used.

Exit codes: 0 done, 1 failed, 2 usage, 3 integrity, 4 refused by policy, 5 unavailable.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import msgspec

from allod import __version__
from allod.domain.errors import AllodError, Integrity, Invalid, Refused, Unavailable

COMMANDS: Final = {
    "init": "make a home: folders, log key, an app `default` with its key",
    "up": "run the gateway, or with --scripted a simulated model server",
    "ask": "ask the running gateway one question",
    "classify": "find what is sensitive in a text, and the data classes it raises",
    "policy": "read, test, prove, change and replay the law in force",
    "plan": "what to own and where: memory, speed, cost, each with its interval",
    "report": "evidence for regulators, out of the log",
    "import": "bring a configuration of another gateway",
    "explain": "show every candidate, every deciding rule and the plan, without a gateway",
    "drill": "take a provider, country, chip or model away: what stops, what it costs, what restores it",
    "eval": "which deployment is good enough for which task, on your own examples",
    "keys": "make, list and revoke the keys of apps",
    "models": "the vault's models: add, pull, list, verify",
    "vault": "weights by digest: add, scan, sign, carry, revoke, collect",
    "bundle": "carry models, packs and prices to a disconnected site, signed; import what came",
    "log": "verify the log at rest, show its checkpoint",
    "receipt": "list, get, show and verify receipts",
    "queue": "what waits for a cheaper hour: list, show, cancel",
    "doctor": "look for what is wrong, and say what to do",
}
DONE, FAILED, USAGE, INTEGRITY, REFUSED, UNAVAILABLE = range(6)


def exit_code(error: AllodError) -> int:
    """Return the exit code of an error."""
    if isinstance(error, Integrity):
        return INTEGRITY
    if isinstance(error, Refused):
        return REFUSED
    if isinstance(error, Unavailable):
        return UNAVAILABLE
    return USAGE if isinstance(error, Invalid) else FAILED


class Lazy(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands in the order a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(
            f"allod.gateway.cli.{'import_' if cmd_name == 'import' else cmd_name}"
        )
        return module.command  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list without importing a single command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


class Process:
    """The process a command has to itself: it may put up walls that nothing takes away again."""

    def __init__(self) -> None:
        self.walled = False

    def wall(self, config: Path, command: str) -> None:
        """Put the walls of the air gap up around a command, if this configuration says so; once is enough."""
        if self.walled or not config.is_file() or b"air_gapped" not in config.read_bytes():
            return
        from allod.gateway import gap  # noqa: PLC0415 (only where there is one)

        self.walled = gap.before_command(config, command)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="allod")
@click.pass_context
def program(ctx: click.Context) -> None:
    """Allod: an operating layer for AI that your organisation owns.

    ALLOD_HOME names the state folder (default ~/.allod).
    """
    if isinstance(ctx.obj, Process):
        home = Path(os.environ.get("ALLOD_HOME") or Path.home() / ".allod").expanduser()
        with contextlib.suppress(OSError):
            ctx.obj.wall(home / "allod.toml", ctx.invoked_subcommand or "")


def out(value: Any) -> None:
    """Print one JSON value for a program to read; money and times are strings already."""
    sys.stdout.write(json.dumps(msgspec.to_builtins(value), indent=1, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say(text: str = "") -> None:
    """Print a line for a person to read."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def fail(error: AllodError, *, as_json: bool) -> NoReturn:
    """Print an error and end with its exit code."""
    if as_json:
        kind = error.kind if isinstance(error, Refused) and error.kind else type(error).__name__.lower()
        out({"error": {"kind": kind, "what": error.what, "why": error.why, "remedy": error.remedy}})
    else:
        sys.stderr.write(error.explain() + "\n")
    sys.exit(exit_code(error))


def main(*, walls: bool = True) -> NoReturn:
    """Run the command line; every error of Allod explains itself and sets the exit code.

    Without ``walls`` nothing but the connector's rule keeps an air gap, so that a watch sees what is tried.
    """
    try:
        program(standalone_mode=False, obj=Process() if walls else None)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE)
    except AllodError as error:
        fail(error, as_json="--json" in sys.argv)
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as error:
        what, remedy = f"{error.strerror or error}: {error.filename or ''}", "check the path and its rights"
        if "--json" in sys.argv:
            out({"error": {"kind": "failed", "what": what, "why": "", "remedy": remedy}})
        else:
            sys.stderr.write(f"{what}\n  do:  {remedy}\n")
        sys.exit(FAILED)
    sys.exit(DONE)
