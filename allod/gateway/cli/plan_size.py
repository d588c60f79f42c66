"""``allod plan size``: how many replicas keep a service level, by replaying a trace of arrivals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from allod.domain.errors import Invalid
from allod.gateway.cli import out, say
from allod.gateway.cli.catalogue_lines import as_data, say_catalogue
from allod.gateway.cli.lines import say_columns, say_folded
from allod.gateway.cli.options import config_option, json_option, now_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.planner.catalogue import Device, ModelCard
    from allod.planner.pictures import Picture
    from allod.planner.sizing.replay import Pace
    from allod.planner.sizing.size import Level, Sized
    from allod.planner.sizing.trace import Arrival, Shape

STEPS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
GIB: Final = 1 << 30
HOUR_S: Final = 3600.0
HEADS: Final = (
    "held: requests at once in a replica; fast: share of the requests with their tokens/s; in time: with a "
    "place in time; first: until the first token; busy: time a replica does anything; redrawn: other traces "
    "that keep the level with as many"
)
NAMES: Final = {"expected": "as expected", "slow": "slow end of the interval", "measured": "as measured"}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found, by pace: as expected, and at the slow end of its interval."""

    trace: str
    shape: Shape
    level: Level
    sized: dict[str, Sized]
    paces: dict[str, Pace]
    held: int
    source: str
    usd_month: float | None


@click.command("size")
@click.argument("model", required=False)
@click.option("--on", "device", help="the device of a replica")
@click.option(
    "--devices", type=click.IntRange(1, 1024), default=1, show_default=True, help="devices of a replica"
)
@click.option("--model-config", type=click.Path(path_type=Path), help="the model's own config.json")
@click.option("--device-facts", type=click.Path(path_type=Path), help="a TOML of facts of the device")
@click.option("--quant", default="", help="precision of the weights (default: as published)")
@click.option("--engine", default="vllm", show_default=True, help="engine that serves it")
@click.option("--trace", type=click.Path(path_type=Path), help="CSV: at_s, input_tokens, output_tokens")
@click.option("--from-log", is_flag=True, help="the requests of the home's own ledger")
@click.option(
    "--since", default="30d", show_default=True, help="with --from-log: a day or time, or `30d` ago"
)
@click.option("--rate", type=float, help="no trace: mean requests a second")
@click.option(
    "--peak",
    type=float,
    default=3.0,
    show_default=True,
    help="no trace: the busiest minute of a hundred, over the mean",
)
@click.option("--input-tokens", type=float, default=1000.0, show_default=True, help="no trace: their mean")
@click.option("--output-tokens", type=float, default=300.0, show_default=True, help="no trace: their mean")
@click.option(
    "--hours", type=float, default=1.0, show_default=True, help="no trace: how much traffic to make"
)
@click.option(
    "--tokens-per-second",
    "tokens_s",
    type=float,
    default=50.0,
    show_default=True,
    help="promised to a request",
)
@click.option(
    "--share", type=float, default=0.99, show_default=True, help="share of the requests that get them"
)
@click.option(
    "--wait", "wait_s", type=float, default=1.0, show_default=True, help="seconds until a request has a place"
)
@click.option(
    "--wait-share",
    type=float,
    default=0.99,
    show_default=True,
    help="share of the requests that have it by then",
)
@click.option("--pace", metavar="N:MS,...", help="measured: ms per token with N requests held")
@click.option("--prompt-tokens-per-second", "prompt_s", type=float, help="measured: tokens of prompts read")
@click.option("--held", type=click.IntRange(1, 100_000), help="requests a replica has memory for")
@click.option("--seed", type=int, default=1, show_default=True, help="of made and redrawn traffic")
@click.option("--svg", type=click.Path(path_type=Path), help="write a picture: replicas and what is kept")
@click.option("--html", type=click.Path(path_type=Path), help="write a page with everything")
@config_option
@json_option
def command(svg: Path | None, html: Path | None, as_json: bool, **values: Any) -> None:
    """Find the fewest replicas of MODEL that keep a service level, by replaying a trace.

    Speed is predicted, or said with --pace and --prompt-tokens-per-second. It is replayed as expected and at
    the slow end of its 80 % interval: plan for that one. Erlang's formula is shown as a floor: arrivals in
    bursts need more.
    """
    from allod.gateway.cli.plan_money import write  # noqa: PLC0415 (only when it runs)

    answer = answered(values, quiet=as_json)
    if svg is not None:
        write(svg, picture(answer).svg())
    if html is not None:
        write(html, _page(answer))
    if as_json:
        out(data(answer) | {"catalogue": as_data(*_used(values))})
    else:
        _say(answer)
        say_catalogue(*_used(values))


def answered(values: dict[str, Any], *, quiet: bool) -> Answer:
    """Read the traffic, work out the paces, and size for each.

    Raises:
        Invalid: see ``traffic``, ``paces`` and ``size``.

    """
    from allod.planner.sizing.size import Level, size  # noqa: PLC0415
    from allod.planner.sizing.trace import shape  # noqa: PLC0415

    arrivals, words = traffic(values)
    level = Level(
        tokens_s=values["tokens_s"],
        share=values["share"],
        wait_s=values["wait_s"],
        wait_share=values["wait_share"],
    )
    like = shape(arrivals)
    found, held, source = paces(values, like)
    sized = {}
    for name, pace in found.items():
        with _progress(name, quiet=quiet) as step:
            sized[name] = size(arrivals, level, pace, most_held=held, seed=values["seed"], progress=step)
    return Answer(
        trace=words,
        shape=like,
        level=level,
        sized=sized,
        paces=found,
        held=held,
        source=source,
        usd_month=_usd_month(values),
    )


def traffic(values: dict[str, Any]) -> tuple[Sequence[Arrival], str]:
    """Return the arrivals and where they are from.

    Raises:
        Invalid: none or more than one of --trace, --from-log and --rate; see ``read_trace`` and ``made``.

    """
    from allod.planner.sizing.trace import made, read_trace  # noqa: PLC0415

    said = [name for name in ("trace", "from_log", "rate") if values[name] not in (None, False)]
    if len(said) != 1:
        raise Invalid(
            "it is not clear what traffic is meant",
            f"got {', '.join(said) or 'none'} of --trace, --from-log and --rate",
            "say one: a CSV of arrivals, the home's own ledger, or a mean rate",
        )
    if values["trace"] is not None:
        return read_trace(values["trace"]), str(values["trace"])
    if values["from_log"]:
        return _logged(values), f"this home's ledger since {values['since']}"
    arrivals = made(
        rate_s=values["rate"],
        peak=values["peak"],
        input_tokens=values["input_tokens"],
        output_tokens=values["output_tokens"],
        seconds=values["hours"] * HOUR_S,
        seed=values["seed"],
    )
    return arrivals, f"made: {values['rate']:g}/s, peak {values['peak']:g}, seed {values['seed']}"


def _logged(values: dict[str, Any]) -> Sequence[Arrival]:
    from allod.gateway import compose  # noqa: PLC0415
    from allod.gateway.cli.client import database  # noqa: PLC0415
    from allod.gateway.cli.period import moment_ms  # noqa: PLC0415
    from allod.planner.sizing.trace import MOST_ARRIVALS, Arrival, settled  # noqa: PLC0415
    from allod.store.loads import arrivals  # noqa: PLC0415

    since_ms = moment_ms(values["since"], now_ms(), param="since")
    setting = compose.setting(values["config_path"])
    with database(setting) as tables:
        found = [Arrival(*one) for one in arrivals(tables, since_ms, MOST_ARRIVALS)]
    return settled(found, "the ledger")


def paces(values: dict[str, Any], like: Shape) -> tuple[dict[str, Pace], int, str]:
    """Return the paces to size for, how many requests a replica has memory for, and where that is from.

    Raises:
        Invalid: neither a model with a device nor a measured pace, or a pace that is none.

    """
    if values["pace"]:
        return {"measured": _measured(values)}, values["held"] or STEPS[-1], "as --pace says"
    named = values["model"] or values["model_config"]
    if not (named and (values["device"] or values["device_facts"])):
        raise Invalid(
            "it is not known how fast a replica is",
            "got no model with a device, and no --pace",
            "name MODEL and --on DEVICE, or say --pace and --prompt-tokens-per-second",
        )
    return _predicted(values, like)


def _measured(values: dict[str, Any]) -> Pace:
    from allod.planner.sizing.replay import Pace  # noqa: PLC0415

    try:
        points = tuple(
            (int(n), float(ms) / 1000)
            for n, _, ms in (one.partition(":") for one in values["pace"].split(","))
        )
    except ValueError as error:
        raise Invalid(
            "--pace is no pace", str(error), "write it as 1:8,16:12.5,64:30", param="pace"
        ) from error
    if values["prompt_s"] is None:
        raise Invalid(
            "how fast prompts are read is not known",
            "a measured pace needs both",
            "say --prompt-tokens-per-second",
            param="prompt_s",
        )
    return Pace(token_s=points, prompt_tokens_s=values["prompt_s"])


def _predicted(values: dict[str, Any], like: Shape) -> tuple[dict[str, Pace], int, str]:
    from allod.planner.catalogue import find_device, find_model  # noqa: PLC0415
    from allod.planner.memory import held as held_by  # noqa: PLC0415
    from allod.planner.sizing.replay import Pace  # noqa: PLC0415
    from allod.planner.speed.speeds import estimate_speed  # noqa: PLC0415

    device = find_device(values["device"] or "own", values["device_facts"])
    card = find_model(values["model"] or "", values["model_config"])
    stored = card.architecture.stored if card.architecture is not None else ""
    quant = values["quant"] or stored or "bf16"
    how = (device, values["devices"], card, quant, values["engine"])
    read, written = max(1, round(like.input_mean)), max(1, round(like.output_mean))
    verdict = held_by(*how, read + written)
    if not verdict.fits:
        known = verdict.have_bytes is not None
        why = f"its memory: {verdict.answer}" if known else "the memory of the device is not known"
        raise Invalid(
            f"{card.id} in {quant} cannot be planned on {values['devices']} x {device.name}",
            f"{why}; it needs {verdict.need.high / GIB:.1f} GiB on the fullest device",
            "take more devices, a larger one or a smaller precision: see `allod plan fit`",
        )
    held = min(verdict.sequences or 1, values["held"] or STEPS[-1])
    speeds = [(n, estimate_speed(*how, n, read, written)) for n in STEPS if n <= held]
    first = speeds[0][1].ttft_ms
    found = {
        "expected": Pace(
            token_s=tuple((n, one.tpot_ms.value / 1000) for n, one in speeds),
            prompt_tokens_s=read * 1000 / first.value,
        ),
        "slow": Pace(
            token_s=tuple((n, one.tpot_ms.high / 1000) for n, one in speeds),
            prompt_tokens_s=read * 1000 / first.high,
        ),
    }
    tpot = speeds[0][1].tpot_ms
    what = f"{card.id}, {quant}, {values['engine']} on {values['devices']} x {device.id}"
    return found, held, f"{what}: {tpot.source}, {tpot.as_of}"


def _used(values: dict[str, Any]) -> list[Device | ModelCard]:
    """Return the rows of the catalogue that were looked up; a measured pace needs no model."""
    from allod.planner.catalogue import find_device, find_model  # noqa: PLC0415

    found: list[Device | ModelCard] = [find_device(values["device"])] if values["device"] else []
    return found if values["pace"] or not values["device"] else [*found, find_model(values["model"])]


def _usd_month(values: dict[str, Any]) -> float | None:
    """Return what a replica costs a month, if the catalogue knows it."""
    if not (values["device"] or values["device_facts"]):
        return None
    from allod.planner.catalogue import find_device, usd_month  # noqa: PLC0415

    known = usd_month(find_device(values["device"] or "own", values["device_facts"]))
    return None if known is None else known[0] * int(values["devices"])


def _progress(name: str, *, quiet: bool) -> Any:
    import contextlib  # noqa: PLC0415

    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    @contextlib.contextmanager
    def running() -> Any:
        console = Console(stderr=True)
        console.quiet = quiet or not console.is_terminal
        with Progress(console=console, transient=True) as bar:
            row = bar.add_task(f"replaying, {NAMES[name]}", total=None)
            yield lambda n, of: bar.update(row, completed=n, total=of)

    return running()


def _say(answer: Answer) -> None:
    like, level = answer.shape, answer.level
    say_folded(
        "traffic: ",
        f"{answer.trace}: {like.n:,} requests in {like.seconds / HOUR_S:.2f} h, {like.rate_s:.3g}/s, "
        f"{like.input_mean:,.0f} tokens in and {like.output_mean:,.0f} out; the busiest second is "
        f"{like.peak_1s:.1f} times the mean, the busiest minute {like.peak_60s:.1f} times; variance over "
        f"mean of the minutes is {like.dispersion:.1f} (even chance: 1)",
        2,
    )
    say_folded(
        "promised: ",
        f"{level.tokens_s:g} tokens/s to {level.share:.1%} of the requests, a place within "
        f"{level.wait_s:g} s to {level.wait_share:.1%}",
        2,
    )
    say()
    say_columns(table(answer), 1)
    say()
    say_folded("  ", HEADS, 4)
    worst = list(answer.sized.values())[-1]
    say_folded(
        "  ",
        f"plan for {worst.replicas}: Erlang's formula says {worst.floor}, which is a floor and no plan",
        4,
    )
    if answer.usd_month is not None:
        say_folded(
            "  ",
            f"USD {worst.replicas * answer.usd_month:,.0f} a month at the catalogue's rate, without staff",
            4,
        )
    say_folded("  speed: ", answer.source, 4)


def table(answer: Answer) -> list[tuple[str, ...]]:
    """Return what each pace asks for, as rows of text."""
    rows: list[tuple[str, ...]] = [
        ("speed", "replicas", "held", "Erlang", "fast", "in time", "wait p99", "first p99", "busy", "redrawn")
    ]
    for name, one in answer.sized.items():
        rows.append(
            (
                NAMES[name],
                str(one.replicas),
                str(one.slots),
                str(one.floor),
                f"{one.fast:.1%}",
                f"{one.admitted:.1%}",
                f"{one.wait_p99_s:.2f} s",
                f"{one.first_p99_s:.2f} s",
                f"{one.busy:.0%}",
                f"{one.passes:.0%} of {one.draws}",
            )
        )
    return rows


def data(answer: Answer) -> dict[str, Any]:
    """Return everything for a program to read; seconds, tokens per second, USD."""
    built = msgspec.to_builtins(answer)
    assert isinstance(built, dict)
    return built


def picture(answer: Answer) -> Picture:
    """Draw how many replicas each pace asks for, beside the floor."""
    from allod.planner.pictures import Bar, bars  # noqa: PLC0415

    rows = []
    for name, one in answer.sized.items():
        rows.append(Bar(f"Erlang's floor, {NAMES[name]}", float(one.floor), kind="plain"))
        rows.append(Bar(f"replayed, {NAMES[name]}", float(one.replicas), kind="own"))
    level = answer.level
    about = f"{level.tokens_s:g} tokens/s for {level.share:.0%}, a place within {level.wait_s:g} s"
    return bars("Replicas that keep the service level", rows, "replicas", about=about)


def _page(answer: Answer) -> str:
    from allod.planner.pictures import Section, page  # noqa: PLC0415

    like = answer.shape
    texts = (
        f"{like.n:,} requests in {like.seconds / HOUR_S:.2f} hours: {answer.trace}.",
        f"The busiest minute is {like.peak_60s:.1f} times the mean, the busiest second {like.peak_1s:.1f}.",
        "Erlang's formula takes arrivals for even chance; it is a floor.",
    )
    worst = list(answer.sized.values())[-1]
    sections = [
        Section("Traffic", texts),
        Section("Replicas", (f"{HEADS}.",), picture(answer), tuple(table(answer))),
    ]
    return page(f"Plan for {worst.replicas} replicas", sections, foot=[f"Speed: {answer.source}."])


COMMAND = command
