"""``estimate_speed``: what a person or a plan asks: times, throughput and energy, each with its interval."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final

import msgspec

from allod.domain.errors import Invalid
from allod.planner.catalogue import Device, ModelCard
from allod.planner.estimate import Estimate
from allod.planner.memory import MAX_CONTEXT, MAX_DEVICES, held, runs
from allod.planner.quants import precision
from allod.planner.reserve import engine_named
from allod.planner.speed.anchors import Anchor, of_cell
from allod.planner.speed.case import MANY, Case
from allod.planner.speed.energy import watts_of
from allod.planner.speed.estimator import Span, packaged, spans
from allod.planner.speed.facts import machine_of, subject_of
from allod.planner.speed.heads import Point, head_name
from allod.planner.speed.names import engine_of
from allod.planner.speed.neighbours import Neighbour, nearest
from allod.planner.speed.points import points as public_rows
from allod.planner.speed.rows import text

MAX_CONCURRENCY: Final = 100_000
WORDS: Final = {"engine": "this engine", "shape": "this model", "device": "this device"}
TIMES: Final = {
    "serve": "times per output token in serving", "stream": "times per output token of one stream",
    "first": "times to the first token", "prompt": "times to read a prompt",
}  # fmt: skip
"""What the points of a fitted quantity are."""


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction. Times are means over requests in a closed loop of ``concurrency`` streams.

    Attributes:
        tpot_ms: ms between two tokens of one stream.
        ttft_ms: ms from sending to the first token, waiting included.
        out_tok_s: output tokens a second of all streams together.
        energy_j_per_token: joules per output token, of all devices; None where no power is known.
        engines: versions of the engine behind the fit, with the span of days; empty if none was measured.
        nearest: the measured points next to it, empty where none is near.
        notes: what the reader must know (what nobody measured, what does not fit, what waits).

    """

    tpot_ms: Estimate
    ttft_ms: Estimate
    out_tok_s: Estimate
    energy_j_per_token: Estimate | None
    engines: str
    as_of: date
    nearest: tuple[Neighbour, ...]
    anchors: int
    notes: tuple[str, ...]


def estimate_speed(
    device: Device,
    n_devices: int,
    model: ModelCard,
    quant: str,
    engine: str,
    concurrency: float = 1,
    isl: int = 1024,
    osl: int = 256,
    anchors: Iterable[Anchor] = (),
    *,
    check_memory: bool = True,
) -> Speed:
    """Predict the speed of a model on machines.

    ``anchors`` are own measurements; those of the same device, model, precision and engine are used.
    ``isl`` and ``osl`` are tokens in and out of one request.

    Raises:
        Invalid: a number is out of range, the precision is unknown, a fact the roofline needs is not known
            (and what to pass instead), or the model does not fit the machines.

    """
    case = case_for(device, n_devices, model, quant, engine, concurrency, isl, osl)
    notes = _memory_notes(device, n_devices, model, quant, engine, concurrency, isl + osl, check=check_memory)
    points = of_cell(anchors, case)
    step = spans([case], points)[0]
    first_case = msgspec.structs.replace(case, metric="prompt" if case.local else "first")
    first = spans([first_case], points)[0]
    day = _as_of(device, model, points)
    told, first_told = _source([case], points), _source([first_case], points)
    room = _room(case, device, model)
    if case.local:
        notes.extend(_local_notes(case))
    notes.extend(_notes(case, step, first, room))
    tpot = Estimate(value=step.ms, low=step.low, high=step.high, source=told, as_of=day)
    ttft = Estimate(value=first.ms, low=first.low, high=first.high, source=first_told, as_of=day)
    rate = _rate(case, step, first, room, _source([case, first_case], points), day)
    return Speed(
        tpot_ms=tpot,
        ttft_ms=ttft,
        out_tok_s=rate,
        energy_j_per_token=_energy(device, n_devices, rate, day),
        engines=_engines(case),
        as_of=day,
        nearest=tuple(nearest(case)),
        anchors=len(points),
        notes=tuple(notes),
    )


def case_for(
    device: Device, n: int, model: ModelCard, quant: str, engine: str, concurrency: float, isl: int, osl: int
) -> Case:
    """Return the case of a question, checked.

    Raises:
        Invalid: a number is out of range, or a fact that is needed is not known.

    """
    for name, value, high in (
        ("devices", n, MAX_DEVICES), ("concurrency", concurrency, MAX_CONCURRENCY),
        ("input_tokens", isl, MAX_CONTEXT), ("output_tokens", osl, MAX_CONTEXT),
    ):  # fmt: skip
        if isinstance(value, bool) or not math.isfinite(value) or not 1 <= value <= high:
            raise Invalid(
                f"{name} is {value}",
                f"expected a number from 1 to {high}",
                "give a number of that range",
                param=name,
            )
    if device.mem_bw_bytes_s is None:
        raise Invalid(
            f"the memory bandwidth of {device.id} is not known",
            "what decoding takes is set by it, and the catalogue has no verified figure",
            "pass --device-facts FILE, a TOML with mem_gb and mem_bw_gbs",
            param="device",
        )
    if not engine.strip():
        raise Invalid("no engine is named", "", "name one: llama.cpp, vllm, sglang, trtllm", param="engine")
    precision(quant, model.architecture)
    return Case(
        machine=machine_of(device),
        n=int(n),
        subject=subject_of(model),
        quant=quant,
        engine=engine_of(engine),
        concurrency=float(concurrency),
        isl=float(isl),
        osl=float(osl),
    )


def _memory_notes(
    device: Device,
    n: int,
    model: ModelCard,
    quant: str,
    engine: str,
    concurrency: float,
    context: int,
    *,
    check: bool,
) -> list[str]:
    """Return notes about memory; a model that does not fit has no speed."""
    if not check:
        return []
    if model.architecture is None:
        return ["whether it fits is not known: the model's architecture is not in the catalogue"]
    known = _reserving(engine)
    verdict = runs(device, n, model, quant, known, min(context, MAX_CONTEXT), int(concurrency))
    if verdict.answer == "does not fit":
        have = verdict.have_bytes or 0.0
        raise Invalid(
            f"{model.id} at {quant} does not fit {n} x {device.id}",
            f"the fullest device needs {verdict.need.value / 1e9:.1f} GB and has {have / 1e9:.1f} GB for it",
            "see `allod plan fit`: take more devices, fewer bits or a shorter context",
            param="devices",
        )
    if verdict.answer != "fits":
        return [f"whether it fits: {verdict.answer}"]
    return list(verdict.notes)


def _reserving(engine: str) -> str:
    """Return the name by which the memory plan knows an engine; one unknown to it reserves as vLLM does."""
    family = engine_of(engine).family
    if family in {"llama.cpp", "vllm", "sglang", "trtllm", "mlx", "ds4"}:
        return family
    try:
        return engine_named(engine).family
    except Invalid:
        return "vllm"


def _room(case: Case, device: Device, model: ModelCard) -> float:
    """Return how many sequences are held at once, by the upper bound as ``allod plan fit`` counts them.

    Where the plan of memory cannot tell (a model known by its size only), it is the roofline's own count.
    """
    slots = case.numbers()["slots"]
    if case.local or case.concurrency <= 1 or model.architecture is None:
        return slots
    context = min(int(case.isl + case.osl), MAX_CONTEXT)
    found = _sequences(device, case.n, model, case.quant, _reserving(case.engine.text), context)
    return slots if found is None else float(found)


@functools.lru_cache(maxsize=256)
def _sequences(device: Device, n: int, model: ModelCard, quant: str, engine: str, context: int) -> int | None:
    return held(device, n, model, quant, engine, context).sequences


def _rate(case: Case, step: Span, first: Span, room: float, told: str, day: date) -> Estimate:
    """Return output tokens a second of all streams; the logarithms of both times add by their shares.

    Streams beyond what the memory holds (``room``) wait, and add nothing; nor do those beyond what the
    roofline counts at once, since its step is of no more.
    """
    answer = case.osl * step.ms
    turns = max(case.concurrency / max(min(room, case.numbers()["slots"]), 1.0), 1.0)
    whole = max(first.ms + answer, turns * answer)
    share = min(answer * turns / whole, 1.0)
    value = 1e3 * case.concurrency * case.osl / whole

    def wide(one: Span) -> tuple[float, float]:
        return math.log(one.ms / one.low), math.log(one.high / one.ms)

    (down, up), (before, after) = wide(step), wide(first)
    fast = math.hypot(share * down, (1 - share) * before)
    slow = math.hypot(share * up, (1 - share) * after)
    return Estimate(
        value=value, low=value * math.exp(-slow), high=value * math.exp(fast), source=told, as_of=day
    )


def _energy(device: Device, n: int, rate: Estimate, day: date) -> Estimate | None:
    watts = watts_of(device)
    if watts is None:
        return None
    value = n * watts.value / rate.value
    less = math.hypot(math.log(watts.value / watts.low), math.log(rate.high / rate.value))
    more = math.hypot(math.log(watts.high / watts.value), math.log(rate.value / rate.low))
    return Estimate(
        value=value,
        low=value * math.exp(-less),
        high=value * math.exp(more),
        source=f"{n} x {watts.value:.0f} W ({watts.source}) over the throughput",
        as_of=day,
    )


def _own_points(case: Case) -> list[Point]:
    own = packaged().points[head_name(case)]
    return [one for one in own if one.case.engine.family == case.engine.family]


def _as_of(device: Device, model: ModelCard, points: Sequence[Point]) -> date:
    days = [device.as_of, model.as_of]
    days += [date.fromisoformat(str(one.row["at"])) for one in points]
    return max(days)


def _source(cases: Sequence[Case], points: Sequence[Point]) -> str:
    held_points = packaged().points
    fitted = " and ".join(f"{len(held_points[name])} {TIMES[name]}" for name in map(head_name, cases))
    own = f", {len(points)} own measurement{'s' * (len(points) > 1)}" if points else ""
    return f"roofline fitted on {fitted}, among {len(public_rows())} public rows{own}"


def _engines(case: Case) -> str:
    """Return the versions of the engine that were measured, and when."""
    own = _own_points(case)
    if not own:
        return ""
    named = [f"{one.case.engine.backend} {one.case.engine.version}".strip() for one in own]
    versions = sorted({one for one in named if one and one != "nan"})
    days = sorted({text(one.row, "as_of") for one in own})
    listed = ", ".join(versions[:6]) or "version not stated"
    listed += ", ..." if len(versions) > 6 else ""  # noqa: PLR2004 (as many as a line holds)
    return f"{case.engine.family} ({listed}), measured to {days[-1]}"


def _notes(case: Case, step: Span, first: Span, room: float) -> list[str]:
    new = tuple(dict.fromkeys((*step.new, *first.new)))
    out = [f"nobody measured {WORDS[one]} in the public points: the interval is wider" for one in new]
    if room < min(case.concurrency, MANY):
        out.append(
            f"memory holds {max(room, 1):.0f} of {case.concurrency:g} sequences at once; the others wait"
        )
    slots = case.numbers()["slots"]
    if slots < min(case.concurrency, room) and slots < MANY:
        out.append(
            f"the speed is of about {max(slots, 1):.0f} sequences at once, each divided among the devices; "
            f"memory holds {room:.0f} if each device attends for its own"
        )
    if not case.subject.known:
        out.append("the model's architecture is not known: a usual shape of its size is assumed")
    return out


def _local_notes(case: Case) -> list[str]:
    if case.concurrency > 1:
        return ["a local engine was measured with one stream; several at once are by the formula alone"]
    return []
