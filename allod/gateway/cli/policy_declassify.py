"""``allod policy declassify``: the signed way down for what detectors find."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from allod.domain.errors import Invalid
from allod.gateway.cli import out, say
from allod.gateway.cli.options import app_named, json_option
from allod.gateway.toml import nearest


@click.command("declassify")
@click.argument("name")
@click.option("--by", required=True, help="a signer of the configuration")
@click.option("--app", "app_id", required=True, help="the application it is for")
@click.option(
    "--type", "types", multiple=True, required=True, help="a type of finding, as `allod classify` names it"
)
@click.option(
    "--until", type=click.DateTime(["%Y-%m-%d"]), required=True, help="the first day it no longer holds"
)
@click.option("--reason", required=True, help="why these need not raise the class; it stands in the log")
@click.option(
    "--key", "key_file", type=click.Path(path_type=Path), help="the private key (default: in the home)"
)
@json_option
def command(
    name: str,
    by: str,
    app_id: str,
    types: tuple[str, ...],
    until: datetime,
    reason: str,
    key_file: Path | None,
    as_json: bool,
) -> None:
    """Sign that findings of these types raise no class in an application's requests until a day.

    It concerns detectors alone: what the application, a task, a label or the tenant says stays. It holds
    from the gateway's next start. Under four eyes a second signer with another role signs the same.
    """
    from allod.admission.detect.model import TYPES  # noqa: PLC0415 (only when it runs)
    from allod.gateway import compose, declassifying  # noqa: PLC0415
    from allod.gateway.signers import key_of  # noqa: PLC0415
    from allod.policy.declassification import Declassification  # noqa: PLC0415

    setting = compose.setting()
    app_named(setting.fleet, app_id)
    for one in types:
        if one not in TYPES:
            raise Invalid(
                f"there is no type of finding {one!r}{nearest(one, TYPES)}",
                "known: " + ", ".join(sorted(TYPES)),
                "see `allod classify`",
                param="type",
            )
    if until.date() <= datetime.now(UTC).date():
        raise Invalid(
            "this declassification would be over already", f"got {until.date()}", "name a later day"
        )
    said = Declassification(
        id=name, app=app_id, types=tuple(sorted(set(types))), reason=reason, until=until.date()
    )
    path = declassifying.sign(setting.home, said, key_of(setting.home, setting.config.signers, by, key_file))
    if as_json:
        out({"declassification": said, "signer": by, "file": str(path)})
        return
    say(f"{by} signed: {', '.join(said.types)} raise nothing for {said.app} until {said.until}")
    say(f"  {path}")
    say("  it holds from the gateway's next start")
