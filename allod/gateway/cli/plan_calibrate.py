"""``allod plan calibrate``: one to three real measurements, by hand or by probing, kept in the home."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from allod.gateway.cli import out, say
from allod.gateway.cli.lines import say_columns, say_folded
from allod.gateway.cli.options import config_option, json_option
from allod.gateway.cli.plan_speed import Asked, as_object, case_options, home_anchors, number, rows

if TYPE_CHECKING:
    from allod.planner.speed.anchors import Anchor, Metric
    from allod.planner.speed.calibrate import Conditions
    from allod.planner.speed.speeds import Speed

BY_HAND: Final[tuple[Metric, ...]] = ("tpot_ms", "ttft_ms", "tok_s")


@click.command("calibrate")
@case_options
@click.option("--tpot-ms", type=float, help="measured ms between two tokens of one stream")
@click.option("--ttft-ms", type=float, help="measured ms to the first token")
@click.option("--tok-s", type=float, help="measured tokens a second of one stream")
@click.option(
    "--deployment", help="probe a deployment through the running gateway of this home, as law decides"
)
@click.option("--base-url", help="probe an OpenAI-compatible server on this machine or a private address")
@click.option("--served-model", help="with --base-url: the model's name there (default: MODEL)")
@click.option("--key-env", help="with --base-url: the environment variable that holds its key")
@click.option("--app", "app_id", help="with --deployment: the app that asks")
@click.option(
    "--probes", type=click.IntRange(1, 3), default=2, show_default=True, help="measured pairs of requests"
)
@click.option("--forget", is_flag=True, help="remove the measurements of this cell instead")
@click.option("--yes", is_flag=True, help="send the probes without asking")
@config_option
@json_option
def COMMAND(  # noqa: N802 (the name the group looks for)
    model: str,
    device: str,
    devices: int,
    own: Path | None,
    device_facts: Path | None,
    quant: str,
    engine: str,
    forget: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Keep real measurements of MODEL on a device, and show what they change.

    By hand with --tpot-ms, --ttft-ms or --tok-s, taken under the conditions the other options state; or by
    probing with synthetic public text, one stream, through --deployment or --base-url. They are dated and
    used by every later prediction of the same device, model, precision and engine.
    """
    from allod.planner.speed.anchors import change_anchors, of_cell, read_anchors  # noqa: PLC0415
    from allod.planner.speed.calibrate import Conditions  # noqa: PLC0415

    asked = Asked(model, device, device_facts, own, engine, quant)
    where = Conditions(
        device=asked.device.id, devices=devices, model=asked.model.id, quant=asked.quant, engine=asked.engine
    )
    by_hand = [name for name in BY_HAND if given[name] is not None]
    if sum(map(bool, (by_hand, given["deployment"], given["base_url"], forget))) != 1:
        raise click.UsageError("give measurements, or --deployment, or --base-url, or --forget: one of these")
    load = (given["concurrency"], given["input_tokens"], given["output_tokens"])
    path = home_anchors()
    before = _speed(asked, devices, load, read_anchors(path))
    fresh: list[Anchor] = []
    if not forget:
        fresh = _by_hand(where, load, given) if by_hand else _probed(where, load, given, model)
    notes = {"notes": list(asked.notes)}
    case = _case(asked, devices)

    def change(kept: list[Anchor]) -> list[Anchor]:
        return [one for one in kept if not of_cell([one], case)] if forget else [*kept, *fresh]

    _speed(asked, devices, load, fresh)  # refuses what no prediction could use, before it is kept
    was, now = change_anchors(path, change)
    after = _speed(asked, devices, load, now)
    gone = len(was) + len(fresh) - len(now)
    if as_json:
        kept = [{**as_object(one)} for one in fresh]
        out({"kept": kept, "forgotten": gone, "before": as_object(before), "after": as_object(after)} | notes)
        return
    for note in asked.notes:
        say_folded("note: ", note)
    for one in fresh:
        load_told = f"{one.concurrency:g} at once, {one.isl:g} in, {one.osl:g} out"
        say_folded("kept: ", f"{one.metric} {number(one.value)} at {load_told}; {one.source}, {one.at}")
    if forget:
        say(f"forgotten: {gone}")
    _compare(before, after)


def _by_hand(where: Conditions, load: tuple[int, int, int], given: dict[str, Any]) -> list[Anchor]:
    from allod.planner.speed.calibrate import anchor  # noqa: PLC0415 (only when it runs)

    day = datetime.now(UTC).date()
    return [
        anchor(where, name, given[name], *load, day, "by hand") for name in BY_HAND if given[name] is not None
    ]


def _probed(where: Conditions, load: tuple[int, int, int], given: dict[str, Any], model: str) -> list[Anchor]:
    from allod.gateway.cli.speed_probing import Target, probed  # noqa: PLC0415 (only when it runs)

    target = Target(
        deployment=given["deployment"],
        app=given["app_id"],
        config=given["config_path"],
        base_url=given["base_url"],
        served=given["served_model"] or model,
        key_env=given["key_env"],
    )
    return probed(target, where, load[1], load[2], given["probes"], sure=given["yes"])


def _speed(asked: Asked, devices: int, load: tuple[int, int, int], held: list[Anchor]) -> Speed:
    from allod.planner.speed.speeds import estimate_speed  # noqa: PLC0415 (only when it runs)

    return estimate_speed(
        asked.device, devices, asked.model, asked.quant, asked.engine, *load, held, check_memory=False
    )


def _case(asked: Asked, devices: int) -> Any:
    from allod.planner.speed.speeds import case_for  # noqa: PLC0415 (only when it runs)

    return case_for(asked.device, devices, asked.model, asked.quant, asked.engine, 1, 1024, 256)


def _compare(before: Speed, after: Speed) -> None:
    table = [("", "before", "80 %", "after", "80 %")]
    for (name, one, unit), (_, two, _) in zip(rows(before), rows(after), strict=True):
        if one is None or two is None:
            continue
        table.append((
            name, f"{number(one.value)} {unit}", f"{number(one.low)} to {number(one.high)}",
            f"{number(two.value)} {unit}", f"{number(two.low)} to {number(two.high)}",
        ))  # fmt: skip
    say_columns(table, 1)
    say(f"own measurements used: {after.anchors}")
