"""``allod init``: a home with a log key and an app ``default``, whose key is shown once."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import click

from allod.domain import jurisdiction
from allod.gateway.cli import out, say
from allod.gateway.cli.options import DEFAULT_APP, json_option, now_ms

if TYPE_CHECKING:
    from pathlib import Path


@click.command("init")
@click.option("--country", default="DE", show_default=True, help="ISO 3166-1 code of the organisation's home")
@json_option
def command(country: str, as_json: bool) -> None:
    """Make the home that ALLOD_HOME names (default ~/.allod); what is there already stays."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.store.database import Database  # noqa: PLC0415
    from allod.store.home import make_home, write_file  # noqa: PLC0415
    from allod.store.keys import create_key, list_keys  # noqa: PLC0415

    root = compose.home_root()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = root / "allod.toml"
    if not config.exists():
        write_file(config, _first_config(jurisdiction.check(country, "--country")).encode(), 0o644)
    settled = compose.read_config(config)
    home = make_home(root)
    key: str | None = None
    if DEFAULT_APP in settled.fleet.apps:
        database = Database.lite_file(home.database)
        try:
            if not any(row.app == DEFAULT_APP and not row.revoked_at_ms for row in list_keys(database)):
                key = create_key(database, DEFAULT_APP, at_ms=now_ms())
        finally:
            database.close()
    vkey = home.log_vkey.read_text().strip()
    if as_json:
        out({"home": str(root), "app": DEFAULT_APP, "key": key, "log_vkey": vkey})
    else:
        _tell(root, key, vkey)


def _first_config(country: str) -> str:
    bloc = "EEA" if country in jurisdiction.BLOCS["EEA"] else country
    text = resources.files("allod.gateway").joinpath("first.toml").read_text()
    return text.replace("@COUNTRY@", country).replace("@BLOC@", bloc)


def _tell(root: Path, key: str | None, vkey: str) -> None:
    say(f"home {root}\n  configuration  {root / 'allod.toml'}\n  log key        {vkey}\n")
    if key is None:
        say(
            "app `default` has a key already, or is not configured; make another with `allod keys create APP`"
        )
    else:
        say(f"key of app {DEFAULT_APP}, shown once and stored nowhere:\n\n  {key}\n")
    say('next: `allod up`, then in another terminal `allod ask "Reverse: sky"`')
