"""Rows of measured points, as ``csv.DictReader`` gives them, as cases and times; any text is met."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from allod.planner.speed.case import Case
from allod.planner.speed.facts import machine_named, subject_named
from allod.planner.speed.names import engine_of

MAX_TEXT: Final = 300
DEFAULT_NODE: Final = 8
PROMPT: Final = 512.0


def text(row: Mapping[str, Any], key: str) -> str:
    """Return a cell as text, short; empty where it is missing."""
    value = row.get(key)
    return "" if value is None else str(value)[:MAX_TEXT].strip()


def number(row: Mapping[str, Any], key: str, default: float = 0.0) -> float:
    """Return a cell as a finite, non-negative number, else the default."""
    try:
        value = float(text(row, key).replace(",", ""))
    except ValueError:
        return default
    return value if math.isfinite(value) and value >= 0 else default


def devices_of(row: Mapping[str, Any]) -> tuple[int, bool]:
    """Return (devices that really serve, whether attention is data-parallel).

    The InferenceX sample multiplies the parallel degree by the expert degree, although experts live on the
    same devices: ``tp=64 ep=8`` of a recipe ``tp8_ep8`` is eight devices. So a degree that is the square of
    the expert degree means the expert degree.
    """
    stated = number(row, "n_devices", 0.0)
    degrees = {key: int(value) for key, value in re.findall(r"\b(tp|dp|ep)=(\d{1,5})", text(row, "notes"))}
    tensor, data, expert = (degrees.get(key, 1) for key in ("tp", "dp", "ep"))
    n = int(min(max(stated, 0), 100_000))
    if expert > 1 and max(tensor, data) == expert * expert:
        n = expert
    if n < 1:
        n = DEFAULT_NODE if text(row, "phase") == "serve" else 1
    return n, data > 1


def case_of(row: Mapping[str, Any], metric: str = "step", concurrency: float | None = None) -> Case:
    """Return the case a row asks about."""
    n, parted = devices_of(row)
    load = number(row, "concurrency", 1.0) if concurrency is None else concurrency
    isl = number(row, "isl")
    if metric == "prompt" and not isl:
        isl = PROMPT
    return Case(
        machine=machine_named(text(row, "hardware")),
        n=n,
        subject=subject_named(text(row, "model")),
        quant=text(row, "quant") or "fp8",
        engine=engine_of(text(row, "engine") or ("vllm" if text(row, "phase") == "serve" else "llama.cpp")),
        concurrency=min(max(load, 1.0), 1e6),
        isl=min(isl, 1e8),
        osl=min(number(row, "osl"), 1e8),
        parted=parted,
        year=_year(row),
        metric=metric,
    )


def _year(row: Mapping[str, Any]) -> int:
    """Return the year of the engine: its version where that is a day, else when the point was taken."""
    found = re.search(r"\b(20\d\d)\b", text(row, "engine")) or re.search(r"\b(20\d\d)\b", text(row, "date"))
    return int(found[1]) if found else 0


def head_of(row: Mapping[str, Any]) -> str:
    """Return which quantity the row's metric is about: step, first, prompt, or empty for another kind."""
    metric, phase = text(row, "metric").lower(), text(row, "phase").lower()
    if metric == "ttft_ms":
        local = engine_of(text(row, "engine") or "vllm").local
        return "prompt" if local or phase == "prefill" else "first"
    if metric in {"tok_s", "tok_s_total"} and phase == "prefill":
        return "prompt"
    if metric in {"tok_s", "tpot_ms", "itl_ms"} or (metric.endswith("tok_s_total") and phase == "decode"):
        return "step"
    if "tok_s" in metric:
        return "mixed"
    return ""


def log_ms(row: Mapping[str, Any]) -> float | None:
    """Return the logarithm of the time in ms that the row's value means, None where it means none."""
    value, head, metric = number(row, "value"), head_of(row), text(row, "metric").lower()
    if value <= 0 or head not in {"step", "first", "prompt"}:
        return None
    if metric.endswith("_ms"):
        return math.log(value)
    if head == "prompt":
        return math.log(1e3 * (number(row, "isl") or PROMPT) / value)
    streams = max(number(row, "concurrency", 1.0), 1.0) if "total" in metric else 1.0
    return math.log(1e3 * streams / value)
