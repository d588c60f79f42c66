"""``allod plan speed``: time per token, time to the first, throughput and energy, with intervals."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from allod.gateway.cli import out, say
from allod.gateway.cli.catalogue_lines import as_data, say_catalogue
from allod.gateway.cli.lines import say_columns, say_folded
from allod.gateway.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allod.planner.catalogue import Device, ModelCard
    from allod.planner.estimate import Estimate
    from allod.planner.pictures import Picture
    from allod.planner.speed.anchors import Anchor
    from allod.planner.speed.speeds import Speed

_FILE = click.Path(path_type=Path)
LOADS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def case_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what describes a machine, a model and a load."""
    for option in (
        click.option("--output-tokens", type=int, default=256, show_default=True, help="tokens of an answer"),
        click.option("--input-tokens", type=int, default=1024, show_default=True, help="tokens of a prompt"),
        click.option("--concurrency", type=int, default=1, show_default=True, help="streams at once"),
        click.option(
            "--engine", default="", help="llama.cpp, ollama, vllm, sglang, trtllm, with its version"
        ),
        click.option(
            "--quant",
            default="",
            help="bf16, fp8, fp4, int4, q4_k_m, ... (default: as published; q4_k_m on llama.cpp)",
        ),
        click.option(
            "--device-facts", type=_FILE, help="a device of your own: a TOML with mem_gb, mem_bw_gbs"
        ),
        click.option("--model-config", "own", type=_FILE, help="the model's own config.json"),
        click.option("--devices", type=int, default=1, show_default=True, help="how many of the device"),
        click.option("--on", "device", default="", help="a device of the catalogue"),
        click.argument("model"),
    ):
        function = option(function)
    return function


class Asked:
    """The case a command asks about, looked up; ``engine`` and ``quant`` have their defaults.

    The precision is what the maker publishes, as ``allod plan fit`` takes it; llama.cpp usually serves a
    4-bit file. ``notes`` tell what of the question was taken otherwise than its names say.

    Raises:
        Invalid: device, model or engine is not known.

    """

    def __init__(
        self, model: str, device: str, device_facts: Path | None, own: Path | None, engine: str, quant: str
    ) -> None:
        from allod.planner.catalogue import find_device, find_model  # noqa: PLC0415 (only when it runs)
        from allod.planner.reserve import engine_named  # noqa: PLC0415
        from allod.planner.speed.names import engine_of  # noqa: PLC0415

        if not device and device_facts is None:
            raise click.UsageError("say --on DEVICE, or --device-facts FILE")
        self.device: Device = find_device(device or "own", device_facts)
        self.model: ModelCard = find_model(model, own)
        server = self.device.device_class.startswith(("datacentre", "rack"))
        self.engine = engine or ("vllm" if server else "llama.cpp")
        engine_named(self.engine)
        stored = self.model.architecture.stored if self.model.architecture is not None else ""
        local = engine_of(self.engine).family == "llama.cpp"
        self.quant = quant or ("q4_k_m" if local else stored or "bf16")
        self.notes: tuple[str, ...] = ()
        if device and device_facts is not None:
            self.notes = (f"{device}: the facts are those of {device_facts.name}, none are the catalogue's",)

    def titles(self, devices: int, concurrency: int, read: int, written: int) -> tuple[str, str]:
        """Return what a prediction is of: at this load, and at all of ``LOADS``."""
        cell = f"{self.model.id}, {self.quant}, {self.engine} on {devices} x {self.device.name}"
        loads = str(concurrency), f"{LOADS[0]} to {LOADS[-1]}"
        one, swept = (f"{cell}; {load} at once, {read} tokens in, {written} out" for load in loads)
        return one, f"{swept}; 80 % interval"

    def noted(self, found: Speed) -> Speed:
        """Return a prediction with the notes on what was asked before its own."""
        import msgspec  # noqa: PLC0415 (only when it runs)

        return msgspec.structs.replace(found, notes=(*self.notes, *found.notes))


def home_anchors() -> Path:
    """Return where the home keeps measurements."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)

    return compose.home_root() / "planner" / "anchors.json"


def brought() -> list[Anchor]:
    """Return the measurements that catalogues brought, as if made here; their source says who vouches."""
    from allod.planner.speed.anchors import supplied  # noqa: PLC0415 (only when it runs)

    return supplied()


@click.command("speed")
@case_options
@click.option(
    "--anchor", "anchors", multiple=True, metavar="METRIC=N[,concurrency=N,input=N,output=N]",
    help="a real measurement of this cell (tpot_ms, ttft_ms or tok_s of one stream); may be repeated",
)  # fmt: skip
@click.option("--uncalibrated", is_flag=True, help="leave out the measurements kept in the home")
@click.option("--svg", type=_FILE, help="write the picture")
@click.option("--html", type=_FILE, help="write a page with pictures and tables")
@json_option
def COMMAND(  # noqa: N802 (the name the group looks for)
    model: str,
    device: str,
    devices: int,
    own: Path | None,
    device_facts: Path | None,
    quant: str,
    engine: str,
    concurrency: int,
    input_tokens: int,
    output_tokens: int,
    anchors: tuple[str, ...],
    uncalibrated: bool,
    svg: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Predict how fast MODEL answers on machines, with 80 % intervals.

    A roofline whose efficiencies were fitted on public measured points; the points next to the question are
    named, and what nobody measured is said and widens the interval. Measurements of `allod plan calibrate`
    are used.
    """
    from allod.planner.speed.anchors import read_anchors  # noqa: PLC0415
    from allod.planner.speed.speeds import estimate_speed  # noqa: PLC0415

    asked = Asked(model, device, device_facts, own, engine, quant)
    load = (concurrency, input_tokens, output_tokens)
    held = [] if uncalibrated else [*read_anchors(home_anchors()), *brought()]
    held += [_given(one, asked, devices, load) for one in anchors]

    def speed(streams: int, *, check: bool = True) -> Speed:
        return estimate_speed(
            asked.device,
            devices,
            asked.model,
            asked.quant,
            asked.engine,
            streams,
            *load[1:],
            held,
            check_memory=check,
        )

    found = asked.noted(speed(concurrency))
    head, heads = asked.titles(devices, *load)
    swept = Sweep(heads, lambda: [(n, speed(n, check=False)) for n in LOADS])
    written = _write(head, found, svg, html, swept)
    if as_json:
        about = {"device": asked.device.id, "devices": devices, "model": asked.model.id, "quant": asked.quant}
        loaded = dict(zip(("concurrency", "input_tokens", "output_tokens"), load, strict=True))
        used = {"catalogue": as_data(asked.device, asked.model)}
        out(as_object(found) | about | {"engine": asked.engine} | loaded | used)
        return
    say_folded("", head)
    tell(found)
    say_catalogue(asked.device, asked.model)
    _say_written(written)


def _say_written(paths: Sequence[str]) -> None:
    if paths:
        say(f"written: {', '.join(paths)}")


class Sweep(NamedTuple):
    """The same question at all loads: what it is said to be of, and what answers it."""

    about: str
    answer: Callable[[], Sequence[tuple[int, Speed]]]


def _write(head: str, found: Speed, svg: Path | None, html: Path | None, sweep: Sweep) -> list[str]:
    from allod.gateway.cli.plan_money import write  # noqa: PLC0415 (only when it writes)

    if svg is not None:
        write(svg, _picture(head, found).svg())
    if html is not None:
        write(html, _page(head, found, sweep))
    return [str(path) for path in (svg, html) if path is not None]


def _given(text: str, asked: Asked, devices: int, load: Sequence[int]) -> Anchor:
    from allod.planner.speed.calibrate import Conditions, anchor, by_hand  # noqa: PLC0415

    metric, value, more = by_hand(text)
    where = Conditions(
        device=asked.device.id, devices=devices, model=asked.model.id, quant=asked.quant, engine=asked.engine
    )
    return anchor(
        where,
        metric,
        value,
        more.get("concurrency", load[0]),
        more.get("input", load[1]),
        more.get("output", load[2]),
        datetime.now(UTC).date(),
        "by hand",
    )


def rows(found: Speed) -> list[tuple[str, Estimate | None, str]]:
    """Return the figures of a prediction with their units."""
    return [
        ("time per output token", found.tpot_ms, "ms"),
        ("time to first token", found.ttft_ms, "ms"),
        ("output, all streams", found.out_tok_s, "tok/s"),
        ("energy per output token", found.energy_j_per_token, "J"),
    ]


def number(value: float) -> str:
    """Return a number with three digits that count."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"  # noqa: PLR2004 (thousands have commas)


def _cells(found: Speed) -> list[tuple[str, str, str]]:
    out_rows = []
    for name, one, unit in rows(found):
        if one is None:
            out_rows.append((name, "not known", "no power of this device is in the catalogue"))
        else:
            text = f"{number(one.low)} to {number(one.high)} {unit} ({one.level:.0%})"
            out_rows.append((name, f"{number(one.value)} {unit}", text))
    return out_rows


def tell(found: Speed) -> None:
    """Print a prediction for a person."""
    say_columns(_cells(found), 3)
    for one in found.nearest:
        say_folded(
            "measured near it: ", f"{number(one.ms)} ms  {one.what}, {one.engine}, {one.as_of} ({one.id})"
        )
    if not found.nearest:
        say("measured near it: none")
    if found.anchors:
        say(f"own measurements used: {found.anchors}")
    for note in found.notes:
        say_folded("note: ", note)
    say_folded("engine versions behind it: ", found.engines or "none measured")
    say_folded("from: ", f"{found.out_tok_s.source}; facts of {found.as_of}")
    if found.energy_j_per_token is not None:
        say_folded("energy: ", found.energy_j_per_token.source)


def as_object(found: Speed | Anchor) -> dict[str, Any]:
    """Return a prediction as builtins."""
    import msgspec  # noqa: PLC0415 (only when it runs)

    built: dict[str, Any] = msgspec.to_builtins(found)
    return built


def _picture(head: str, found: Speed) -> Picture:
    from allod.planner.pictures import Bar, bars  # noqa: PLC0415 (only when it draws)

    step = found.tpot_ms
    drawn = [Bar("predicted", step.value, step.low, step.high, "own")]
    drawn += [Bar(f"measured: {one.what} ({one.as_of})", one.ms, kind="plain") for one in found.nearest]
    return bars(
        "Time per output token", drawn, "ms", about=f"{head}; 80 % interval, and the nearest measured points"
    )


def _page(head: str, found: Speed, sweep: Sweep) -> str:
    from allod.planner.pictures import Line, Section, lines, page  # noqa: PLC0415 (only when it draws)

    answers = sweep.answer()

    def drawn(title: str, unit: str, figure: Callable[[Speed], Estimate]) -> Picture:
        points = tuple((float(n), figure(one).value) for n, one in answers)
        band = tuple((float(n), figure(one).low, figure(one).high) for n, one in answers)
        series = [Line("predicted", points, band, "own")]
        return lines(
            title, series, x_unit="streams at once", y_unit=unit, about=sweep.about, log_x=True, log_y=True
        )

    table = (("figure", "value", "80 % interval"), *_cells(found))
    near = tuple(
        (one.what, f"{number(one.ms)} ms", one.engine, str(one.as_of), one.id) for one in found.nearest
    )
    head_row = ("what", "time", "engine", "day", "point")
    sections = (
        Section("Prediction", (head, *found.notes), _picture(head, found), table),
        Section("Time per token by load", (), drawn("Time per output token", "ms", lambda one: one.tpot_ms)),
        Section("Throughput by load", (), drawn("Output of all streams", "tok/s", lambda one: one.out_tok_s)),
        Section(
            "Measured next to it",
            () if near else ("none",),
            None,
            (head_row, *near) if near else (),
        ),
    )
    foot = (f"{found.out_tok_s.source}; engine versions: {found.engines or 'none measured'}; {found.as_of}",)
    return page("Speed", sections, foot=foot)
