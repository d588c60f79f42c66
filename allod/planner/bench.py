"""The entry point of an outside scorer: a row of measurements without its value in, a number in its unit out.

Rows are as ``csv.DictReader`` gives them; every metric of the packaged table is answered for any text, with
``low <= value <= high``, all finite. Where the catalogue knows nothing the facts are assumed from names and
the interval says so by its width; the commands are stricter and refuse (``allod plan speed``).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from allod.domain.errors import Invalid
from allod.planner.speed.case import KV_BYTES, Case
from allod.planner.speed.estimator import Span, spans
from allod.planner.speed.facts import bare, machine_named, subject_named, weight_bytes
from allod.planner.speed.heads import Heads, timed
from allod.planner.speed.intervals import Widths
from allod.planner.speed.rows import case_of, devices_of, head_of, number, text

MIB: Final = float(1 << 20)
GIB: Final = float(1 << 30)
MOST_PER_DEVICE: Final = 256.0
"""Streams a device is loaded with at most where a throughput is quoted at a speed per user."""
Answer = dict[str, float]
LEAN: Final = 0.5
"""Share of the variance of the logarithm by which a value lies below the median: a relative error counts
saying too much without bound and saying too little up to 100 %, and its mean is least one variance below."""
MORE: Final = 0.5
"""Log width added where a figure of throughput rests on several times and on how the source counts."""


def predict(
    row: Mapping[str, Any],
    anchors: Sequence[Mapping[str, Any]] | None = None,
    *,
    heads: Heads | None = None,
    widths: Mapping[str, Widths] | None = None,
) -> Answer:
    """Predict the metric of a row in the row's own unit, with an 80 % interval.

    ``anchors`` are rows with their value, measured on the same cell. ``heads`` and ``widths`` replace the
    packaged fit, for cross-validation.
    """
    metric = text(row, "metric").lower()
    held = [one for one in anchors or () if isinstance(one, Mapping)]
    if metric == "fits":
        return _fits(row)
    if metric == "peak_mem":
        return _anchored(_peak(row), row, held, _peak)
    if metric == "checkpoint_size":
        return _anchored(_checkpoint(row), row, held, _checkpoint)
    found = timed(held)
    kind = head_of(row)

    def span(case: Case) -> Span:
        return spans([case], found, heads, widths)[0]

    if kind in {"step", "first", "prompt"}:
        return _timed(row, kind, span(_placed(row, kind)))
    plain = _mixed(row, metric, span)
    return _anchored(plain, row, held, lambda one: _mixed(one, text(one, "metric").lower(), span))


def _placed(row: Mapping[str, Any], kind: str) -> Case:
    """Return the case; a first token of a local engine is a prompt."""
    case = case_of(row, kind)
    return case_of(row, "prompt") if kind == "first" and case.local else case


def _timed(row: Mapping[str, Any], kind: str, span: Span) -> Answer:
    """Turn milliseconds into the row's metric; the value leans to the smaller side (``LEAN``)."""
    metric = text(row, "metric").lower()
    if metric.endswith("_ms"):
        return _leaning({"value": span.ms, "low": span.low, "high": span.high}, span.sd)
    work = 1e3
    if kind == "prompt":
        work = 1e3 * (number(row, "isl") or 512.0)
    elif "total" in metric:
        work = 1e3 * max(number(row, "concurrency", 1.0), 1.0)
    return _leaning({"value": work / span.ms, "low": work / span.high, "high": work / span.low}, span.sd)


def _leaning(answer: Answer, sd: float) -> Answer:
    value = answer["value"] * math.exp(-LEAN * min(sd, 1.0) ** 2)
    return answer | {"value": min(max(value, answer["low"]), answer["high"])}


def _mixed(row: Mapping[str, Any], metric: str, span: Callable[[Case], Span]) -> Answer:
    """Return a throughput: tokens of all streams over the time of whole answers, or at a speed per user."""
    at = re.fullmatch(r"tok_s_per_gpu_at_([\d.]+)_tok_s_user", metric)
    if at:
        try:
            speed = float(at[1])
        except ValueError:
            speed = 20.0
        return _at_speed(row, min(max(speed, 1e-3), 1e5), span)
    case = case_of(row, "step")
    step = span(case)
    streams = case.concurrency
    if not case.osl:
        total, wide = 1e3 * streams / step.ms, step.high / step.ms
        return {"value": total, "low": total / wide, "high": total * step.ms / step.low}
    first = span(_placed(row, "first"))
    counted = case.osl + (case.isl if metric == "tok_s_total" else 0.0)

    turns = max(streams / max(case.numbers()["slots"], 1.0), 1.0)

    def rate(one: float, two: float) -> float:
        return 1e3 * streams * counted / max(one + case.osl * two, turns * case.osl * two)

    return {
        "value": rate(first.ms, step.ms),
        "low": rate(first.high, step.high),
        "high": rate(first.low, step.low),
    }


def _at_speed(row: Mapping[str, Any], speed: float, span: Callable[[Case], Span]) -> Answer:
    """Return tokens a second and device where every user still gets ``speed`` tokens a second.

    The load that gives that speed is found by bisection; tokens are counted in and out, as InferenceX does.
    """
    most = MOST_PER_DEVICE * max(devices_of(row)[0], 1)
    low, high = 0.0, math.log(most)
    for _ in range(11):
        middle = (low + high) / 2
        if span(case_of(row, "step", math.exp(middle))).ms <= 1e3 / speed:
            low = middle
        else:
            high = middle
    streams = math.exp(low)
    case = case_of(row, "step", streams)
    share = 1 + (case.isl / case.osl if case.osl else 0.0)
    value = max(streams * speed * share / max(case.n, 1), 1e-3)
    step = span(case)
    wide = 3 * math.log(step.high / step.low) / 2 + MORE
    return {"value": value, "low": value * math.exp(-wide), "high": value * math.exp(wide)}


def _anchored(
    plain: Answer,
    row: Mapping[str, Any],
    held: Sequence[Mapping[str, Any]],
    again: Callable[[Mapping[str, Any]], Answer],
) -> Answer:
    """Shift an answer by what the same metric of the same cell was measured to be, and narrow it."""
    ratios = []
    for one in held:
        value = number(one, "value")
        if value > 0 and text(one, "metric").lower() == text(row, "metric").lower():
            ratios.append(math.log(value / again(one)["value"]))
    if not ratios:
        return plain
    trust = len(ratios) / (len(ratios) + 0.5)
    shift, narrow = trust * sum(ratios) / len(ratios), math.sqrt(1 - 0.7 * trust)
    value = plain["value"] * math.exp(shift)
    return {
        "value": value,
        "low": value * (plain["low"] / plain["value"]) ** narrow,
        "high": value * (plain["high"] / plain["value"]) ** narrow,
    }


def _fits(row: Mapping[str, Any]) -> Answer:
    """Return 1 where a run of this kind starts and answers, 0 where it does not, by the memory plan."""
    verdict = _runs(*_memory_key(row))
    if verdict is None:
        return {"value": 1.0, "low": 0.0, "high": 1.0}
    fits, close = verdict
    return {"value": fits, "low": 0.0 if close else fits, "high": 1.0 if close else fits}


def _memory_key(row: Mapping[str, Any]) -> tuple[str, int, str, str, str, int, int]:
    stated = number(row, "n_devices") > 0
    context = int(min(number(row, "isl") + number(row, "osl"), 9e7)) or 512
    return (
        text(row, "hardware"), devices_of(row)[0] if stated else 0, text(row, "model"), text(row, "quant"),
        text(row, "engine"), max(context, 512), int(min(max(number(row, "concurrency", 1.0), 1.0), 9e5)),
    )  # fmt: skip


@functools.lru_cache(maxsize=8192)
def _runs(
    hardware: str, n: int, model: str, quant: str, engine: str, context: int, streams: int
) -> tuple[float, bool] | None:
    """Return (1 or 0, whether it is close), None where nothing is known of the machine or the model."""
    from allod.planner.catalogue import find_device, find_model  # noqa: PLC0415 (only for memory)
    from allod.planner.memory import runs  # noqa: PLC0415

    try:
        verdict = runs(
            find_device(bare(hardware)),
            n or None,
            find_model(model),
            quant,
            engine or "vllm",
            context,
            streams,
        )
        if verdict.answer != "not known":
            return float(verdict.fits), verdict.answer == "too close to tell"
    except Invalid:
        pass
    machine, subject = machine_named(hardware), subject_named(model)
    if machine.generation == "unknown" or not machine.memory:
        return None
    weights = weight_bytes(subject, quant or "fp8")[0]
    need = weights + KV_BYTES * subject.kv_elements(context) + 0.6 * GIB
    share = 0.75 if machine.vendor == "Apple" else 0.97
    room = machine.memory * share * max(n, 1)
    known = machine.known and subject.known
    return float(need <= room), not known or 0.85 < need / room < 1.15  # noqa: PLR2004 (a margin of 15 %)


def _peak(row: Mapping[str, Any]) -> Answer:
    """Return the peak memory in the row's unit (MiB unless it says MB, GB or GiB)."""
    unit = {"mb": 1e6, "gb": 1e9, "gib": GIB}.get(text(row, "unit").lower(), MIB)
    hardware, n, model, quant, engine, context, streams = _memory_key(row)
    found = _need(hardware, n, model, quant, engine, context, streams)
    return {key: value / unit for key, value in found.items()}


@functools.lru_cache(maxsize=4096)
def _need(
    hardware: str, n: int, model: str, quant: str, engine: str, context: int, streams: int
) -> Mapping[str, float]:
    from allod.planner.catalogue import find_device, find_model  # noqa: PLC0415 (only for memory)
    from allod.planner.memory import runs  # noqa: PLC0415

    try:
        need = runs(
            find_device(bare(hardware)),
            n or None,
            find_model(model),
            quant,
            engine or "llama.cpp",
            context,
            streams,
        ).need
    except Invalid:
        subject = subject_named(model)
        value = (
            weight_bytes(subject, quant or "q4_k_m")[0] + KV_BYTES * subject.kv_elements(context) * streams
        )
        value = value / max(n, 1) + 0.7 * GIB
        wide = 1.12 if subject.known else 1.5
        return {"value": value, "low": value / wide, "high": value * wide}
    return {
        "value": need.value,
        "low": min(need.low, need.value * 0.96),
        "high": max(need.high, need.value * 1.04),
    }


def _checkpoint(row: Mapping[str, Any]) -> Answer:
    """Return the size of the files of a checkpoint in the row's unit (GiB unless it says otherwise)."""
    from allod.planner.catalogue import find_model  # noqa: PLC0415 (only for memory)
    from allod.planner.memory import checkpoint_bytes  # noqa: PLC0415

    unit = {"mb": 1e6, "mib": MIB, "gb": 1e9, "tb": 1e12}.get(text(row, "unit").lower(), GIB)
    subject, quant = subject_named(text(row, "model")), text(row, "quant") or "bf16"
    value = weight_bytes(subject, quant)[0]
    low, high = value * (0.95 if subject.known else 0.6), value * (1.05 if subject.known else 1.7)
    try:
        arch = find_model(text(row, "model")).architecture
        if arch is not None:
            held = checkpoint_bytes(arch, quant)
            value, low, high = held.value, min(held.low, held.value * 0.97), max(held.high, held.value * 1.03)
    except Invalid:
        pass
    return {"value": value / unit, "low": low / unit, "high": high / unit}
