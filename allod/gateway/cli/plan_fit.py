"""``allod plan fit``: does a model fit a machine, by exact bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allod.gateway.cli import out
from allod.gateway.cli.catalogue_lines import as_data, briefly, say_catalogue
from allod.gateway.cli.lines import say_columns, say_folded
from allod.gateway.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.planner.catalogue import ModelCard
    from allod.planner.fits import Placed, Question
    from allod.planner.pictures import Picture

_FILE = click.Path(path_type=Path)
GIB = 1 << 30
DRAWN = 24
ONLY_MEMORY = "memory only: whether the engine runs on a device at all is not asked here"


@click.command("fit")
@click.argument("model", required=False, default="")
@click.option("--on", "device", help="a device (default: every one of the catalogue, the fewest that fit)")
@click.option("--devices", type=int, help="how many of it (default: the fewest that fit)")
@click.option("--context", type=int, help="tokens of a sequence (default: 8192, or what the model has)")
@click.option("--concurrency", type=int, default=1, show_default=True, help="sequences at once")
@click.option("--quant", default="", help="precision: bf16, fp8, fp4, mxfp4, int4, awq, q4_k_m, q8_0, ...")
@click.option("--kv-quant", default="f16", show_default=True, help="precision of the cache")
@click.option("--engine", default="", help="llamacpp, vllm, sglang, trtllm (default: by the precision)")
@click.option("--adapter", "adapters", multiple=True, help="an adapter file, or rank:N; may be repeated")
@click.option("--model-config", "config", type=_FILE, help="the model's own config.json")
@click.option("--file", "file", type=_FILE, help="a GGUF, or a folder of safetensors: exact bytes of headers")
@click.option("--memory", type=float, help="GiB of one device, where the catalogue does not know it")
@click.option("--device-facts", type=_FILE, help="a device of your own: a TOML with mem_gb, mem_bw_gbs, ...")
@click.option("--svg", type=_FILE, help="write the picture")
@click.option("--html", type=_FILE, help="write a page with picture and tables")
@json_option
def COMMAND(  # noqa: N802 (the name the group looks for)
    model: str,
    device: str | None,
    devices: int | None,
    adapters: tuple[str, ...],
    config: Path | None,
    file: Path | None,
    memory: float | None,
    device_facts: Path | None,
    svg: Path | None,
    html: Path | None,
    as_json: bool,
    **load: Any,
) -> None:
    """Tell whether MODEL fits, of exact bytes: weights, cache, state, buffers, adapters.

    ``fits`` is said only where the upper bound of the interval fits. MODEL may be left out with
    --model-config or --file.
    """
    from allod.planner import fits  # noqa: PLC0415 (only when it runs)
    from allod.planner.catalogue import find_device, find_model  # noqa: PLC0415

    for flag, value in (("--devices", devices), ("--memory", memory)):
        if value is not None and not (device or device_facts):
            raise click.UsageError(f"{flag} needs --on or --device-facts: it says something of one device")
    card = find_model(model, config or file) if config or file or model else _nothing()
    asked = fits.question(card, file=file, adapters=adapters, **load)
    if device or device_facts:
        one = find_device(device or "own", device_facts)
        found = (
            [fits.answer(asked, one, devices, memory_gib=memory)]
            if devices is not None
            else [fits.fewest(asked, one, memory_gib=memory)]
        )
    else:
        found = fits.everywhere(asked)
    _write(asked, found, svg, html)
    if as_json:
        used = as_data(card, *(one.device for one in found))
        out({"question": _asked(asked), "answers": [_placed(one) for one in found], "catalogue": used})
    elif device or device_facts:
        _tell(asked, found[0])
        say_catalogue(card, found[0].device)
    else:
        _list(asked, card, found)


def _nothing() -> Any:
    raise click.UsageError("name a MODEL, or pass --model-config or --file")


def _asked(asked: Question) -> dict[str, Any]:
    w = asked.weights
    return {
        "model": asked.model,
        "quant": asked.quant or None,
        "engine": asked.engine,
        "context": asked.load.context,
        "concurrency": asked.load.concurrency,
        "kv_quant": asked.load.kv_quant,
        "weights_bytes": w.total.value,
        "weights_low_bytes": w.total.low,
        "weights_high_bytes": w.total.high,
        "weights_exact": w.exact,
        "params_total": asked.architecture.params_total(),
        "params_active": asked.architecture.params_active(),
        "source": w.source,
        "as_of": asked.as_of.isoformat(),
    }


def _placed(one: Placed) -> dict[str, Any]:
    v = one.verdict
    return {
        "device": one.device.id,
        "devices": one.count,
        "fits": v.fits,
        "answer": v.answer,
        "per_device": {
            "need_bytes": v.need.value,
            "low_bytes": v.need.low,
            "high_bytes": v.need.high,
            "level": v.need.level,
            "have_bytes": v.have_bytes,
            "margin_bytes": v.margin,
            "parts_bytes": v.parts,
        },
        "sequences": v.sequences,
        "max_context": v.max_context,
        "as_of": v.need.as_of.isoformat(),
        "source": f"{v.need.source}; {one.device.source}",
        "notes": list(v.notes),
    }


def _gib(value: float | None) -> str:
    if value is None:
        return "not known"
    return f"{value / GIB:.2f} GiB" if abs(value) >= 0.1 * GIB else f"{value / (1 << 20):.1f} MiB"


def _head(asked: Question) -> str:
    precision = asked.quant or "as in the file"
    return (
        f"{asked.model}, {precision}, {asked.engine}, "
        f"{asked.load.context} tokens x {asked.load.concurrency}, cache {asked.load.kv_quant}"
    )


def _tell(asked: Question, one: Placed) -> None:
    v = one.verdict
    say_folded("", _head(asked))
    say_folded("", f"on {one.count} x {one.device.name}: {v.answer}")
    rows = [(name.replace("_", " "), _gib(value)) for name, value in v.parts.items()]
    say_columns(rows, 1)
    need = f"{_gib(v.need.value)}, {_gib(v.need.low)} to {_gib(v.need.high)} ({v.need.level:.0%})"
    say_folded("needs on the fullest device: ", need)
    if v.have_bytes is not None:
        say_folded("has for the engine:          ", f"{_gib(v.have_bytes)}; margin {_gib(v.margin)}")
        say_folded("sequences of this length:    ", str(v.sequences))
        say_folded("longest context:             ", f"{v.max_context} tokens with this concurrency")
    for note in v.notes:
        say_folded("note: ", note)
    say_folded("from: ", f"{v.need.source}, {v.need.as_of.isoformat()}; device: {one.device.source}")


def _list(asked: Question, card: ModelCard, found: Sequence[Placed]) -> None:
    say_folded("", _head(asked))
    rows = [("device", "answer", "devices", "needs each", "has each", "sequences", "longest")]
    for one in found:
        v = one.verdict
        rows.append((
            one.device.id, v.answer, str(one.count), _gib(v.need.value), _gib(v.have_bytes), str(v.sequences),
            str(v.max_context),
        ))  # fmt: skip
    say_columns(rows, 2)
    say_folded("note: ", ONLY_MEMORY)
    say_folded("from: ", f"{asked.weights.source}, {asked.as_of.isoformat()}; devices by the catalogue")
    for line in briefly((card, *(one.device for one in found))):
        say_folded("catalogue ", line)


def _picture(asked: Question, found: Sequence[Placed]) -> Picture:
    from allod.planner.pictures import Stack, stacks  # noqa: PLC0415 (only when it draws)

    rows = []
    for one in found[:DRAWN]:
        v = one.verdict
        parts = tuple((k.replace("_", " "), x / GIB) for k, x in v.parts.items() if k != "on_host")
        have = "memory not known" if v.have_bytes is None else f"has {v.have_bytes / GIB:.1f} GiB"
        label = f"{one.count} x {one.device.id}: {v.answer} ({have})"
        rows.append(Stack(label, parts, v.need.low / GIB, v.need.high / GIB))
    more = f" {len(found) - DRAWN} more devices are in the table." if len(found) > DRAWN else ""
    about = f"Bytes on the fullest device with the 90 % interval of the whole; {_head(asked)}.{more}"
    return stacks(f"Does {asked.model} fit?", rows, "GiB", about=about)


def _row(one: Placed) -> tuple[str, ...]:
    v = one.verdict
    need, have = _gib(v.need.value), _gib(v.have_bytes)
    return one.device.id, str(one.count), v.answer, need, have, str(v.sequences)


def _write(asked: Question, found: Sequence[Placed], svg: Path | None, html: Path | None) -> None:
    if svg is None and html is None:
        return
    from allod.gateway.cli.plan_money import write  # noqa: PLC0415
    from allod.planner.pictures import Section, page  # noqa: PLC0415

    picture = _picture(asked, found)
    if svg is not None:
        write(svg, picture.svg())
    if html is not None:
        head = ("device", "devices", "answer", "needs each", "has each", "sequences")
        table = (head, *map(_row, found))
        used = [f"Catalogue {line}" for line in briefly(one.device for one in found)]
        foot = (f"{asked.weights.source}; facts of {asked.as_of.isoformat()}", *used)
        sections = (Section("Memory", (f"{_head(asked)}; {ONLY_MEMORY}.",), picture, table),)
        write(html, page(f"Fit of {asked.model}", sections, foot=foot))
