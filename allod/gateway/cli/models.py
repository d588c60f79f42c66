"""``allod models``: the everyday part of ``allod vault``, and pulling from a hub."""

from __future__ import annotations

from pathlib import Path

import click

from allod.gateway.cli import models_cost, vault
from allod.gateway.cli.options import config_option, json_option, now_ms


@click.group("models")
def command() -> None:
    """Models by digest: nothing runs that the vault did not verify."""


command.add_command(models_cost.command)


@command.command("list")
@json_option
def listing(as_json: bool) -> None:
    """List the vault, and below it each draft a deployment names that is not loaded, with the reason."""
    vault.print_list(quiet=as_json)
    if not as_json:
        _drafts()


def _drafts() -> None:
    """Tell of drafts; where there is no home that can be used nothing is told of them."""
    from allod.domain.errors import AllodError  # noqa: PLC0415
    from allod.gateway import compose, speculating  # noqa: PLC0415 (only when it runs)
    from allod.gateway.cli.plan_speculate import say_standing  # noqa: PLC0415

    if not (compose.home_root() / "allod.toml").exists():
        return
    try:
        found = speculating.checked(compose.setting(), now_ms())
    except AllodError:
        return
    for one in found:
        if not one.used:
            say_standing(one)


@command.command("show")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show all that is known of one model."""
    vault.print_entry(name, quiet=as_json)


@command.command("add")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="vault name (default: the file's)")
@click.option("--base", help="for an adapter: the weights it belongs to")
@click.option("--licence")
@click.option("--maker")
@click.option("--maker-jurisdiction", help="ISO 3166-1 code of the maker's country")
@json_option
def add(
    file: Path,
    name: str | None,
    base: str | None,
    licence: str | None,
    maker: str | None,
    maker_jurisdiction: str | None,
    as_json: bool,
) -> None:
    """Check a GGUF FILE byte by byte, and take a copy by digest."""
    vault.add_path(
        file,
        name,
        quiet=as_json,
        base=base,
        licence=licence,
        maker=maker,
        maker_jurisdiction=maker_jurisdiction,
    )


@command.command("pull")
@click.argument("repo")
@click.argument("file")
@click.option(
    "--revision", default="main", show_default=True, help="branch, tag or commit; the commit is pinned"
)
@click.option("--name", help="vault name (default: the file's)")
@click.option("--endpoint", help="another hub than the default")
@config_option
@json_option
def pull(
    repo: str,
    file: str,
    revision: str,
    name: str | None,
    endpoint: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Fetch FILE of REPO from a model hub, show and pin its digest (pip install 'allod[hub]').

    Refused where the configuration says that the tenant is air-gapped.
    """
    from allod.gateway import compose  # noqa: PLC0415
    from allod.vault.pull import pull as fetch  # noqa: PLC0415

    config = config_path or compose.home_root() / "allod.toml"
    vault.sealed("pulling a model")
    there = config_path is not None or config.exists()
    sealed = there and compose.read_config(config).fleet.tenant.air_gapped
    held = vault.open_vault()
    entry = fetch(held, repo, file, revision=revision, name=name, endpoint=endpoint, air_gapped=sealed)
    vault.added(entry, quiet=as_json)


@command.command("verify")
@click.argument("name", required=False)
@json_option
def verify(name: str | None, as_json: bool) -> None:
    """Read NAME, or everything, again and compare with its manifest."""
    vault.verify_all(name, quiet=as_json)
