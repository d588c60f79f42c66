"""``allod models``: what the vault holds; adding a file or pulling one from a hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allod.gateway.cli import out, say
from allod.gateway.cli.options import config_option, json_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from allod.vault.vault import Entry, Vault

MB = 1_000_000


@click.group("models")
def command() -> None:
    """Models by digest: nothing runs that the vault did not verify."""


def _vault() -> Vault:
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.store.home import make_home  # noqa: PLC0415
    from allod.vault.vault import Vault  # noqa: PLC0415

    return Vault(make_home(compose.home_root()).vault)


def _as_json(entry: Entry) -> dict[str, Any]:
    m = entry.manifest
    return {
        "name": m.name,
        "kind": m.kind,
        "digest": m.digest,
        "size_bytes": m.size_bytes,
        "architecture": m.architecture,
        "quantisation": m.quantisation,
        "parameters": m.parameters,
        "context_tokens": m.context_tokens,
        "base": m.base,
        "template": m.template,
        "template_flags": list(m.template_flags),
        "licence": m.licence,
        "maker": m.maker,
        "maker_jurisdiction": m.maker_jurisdiction,
        "shipped": entry.shipped,
    }


def _progress(
    total_bytes: int, doing: str, *, quiet: bool
) -> tuple[Callable[[int], None], Callable[[], None]]:
    """Return what is told bytes and draws a bar, and what ends it; nothing is drawn where nobody looks."""
    if quiet or total_bytes < MB or not sys.stderr.isatty():
        return (lambda _n: None), (lambda: None)
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    bar = Progress(console=Console(stderr=True))
    task = bar.add_task(doing, total=total_bytes)
    bar.start()
    return (lambda n: bar.advance(task, n)), bar.stop


@command.command("list")
@json_option
def listing(as_json: bool) -> None:
    """List the vault."""
    entries = _vault().list()
    if as_json:
        out({"models": [_as_json(e) for e in entries]})
        return
    for entry in entries:
        m = entry.manifest
        place = "shipped" if entry.shipped else "added"
        say(f"{m.name:24} {m.kind:8} {m.size_bytes / MB:10.2f} MB  {place:8} {m.digest}")


@command.command("show")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show all that is known of one model."""
    entry = _as_json(_vault().find(name))
    if as_json:
        out(entry)
        return
    for key, value in entry.items():
        say(f"{key:20} {value if value not in (None, []) else '-'}")


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
    size = file.stat().st_size if file.is_file() else 0
    told, end = _progress(size, f"copying {file.name}", quiet=as_json)
    try:
        entry = _vault().add(
            file,
            name,
            base=base,
            licence=licence,
            maker=maker,
            maker_jurisdiction=maker_jurisdiction,
            progress=told,
        )
    finally:
        end()
    _added(entry, as_json=as_json)


def _added(entry: Entry, *, as_json: bool) -> None:
    if as_json:
        out(_as_json(entry))
        return
    say(f"{entry.manifest.name}\n  {entry.manifest.digest}")
    for flag in entry.manifest.template_flags:
        say(f"  chat template: {flag}")
    say('name it as the `model` of a deployment with engine = "llamacpp"')


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
    there = config_path is not None or config.exists()
    sealed = there and compose.read_config(config).fleet.tenant.air_gapped
    entry = fetch(_vault(), repo, file, revision=revision, name=name, endpoint=endpoint, air_gapped=sealed)
    _added(entry, as_json=as_json)


@command.command("verify")
@click.argument("name", required=False)
@json_option
def verify(name: str | None, as_json: bool) -> None:
    """Read NAME, or everything, again and compare with its manifest."""
    vault = _vault()
    names = [name] if name else [e.manifest.name for e in vault.list()]
    for one in names:
        told, end = _progress(vault.find(one).manifest.size_bytes, f"reading {one}", quiet=as_json)
        try:
            entry = vault.verify(one, told)
        finally:
            end()
        if not as_json:
            say(f"{one}: is what was verified ({entry.digest})")
    if as_json:
        out({"verified": names})
