"""The physics: what a step and a prompt must take, with few parameters, and which effects cases share.

Step of a served batch (ms): the slower of moving bytes and multiplying, softly joined, plus an overhead for
each layer, an exchange between devices, work for each sequence in the batch, and the prompts of the other
sequences that are read in between. Experts read in a step of B tokens are E(1 - (1 - k/E)^B); a cache of
latent attention is repeated on every tensor-parallel device; sequences beyond the memory wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from allod.planner.speed.fitting import Mean, Plan, Scalar, Term, Values

BOARD: Final = 8.0
MIXED: Final = 1.3
"""How far decoding and the prompts read in the same step overlap: 1 not at all, large wholly."""


def serve_step(x: Mapping[str, Any], v: Values) -> Any:
    """Return ms per output token of a served batch."""
    read = np.where(x["mixture"] > 0, 1 - (1 - x["chosen"]) ** (x["held"] ** v("spread")), 1.0)
    moved = (x["dense_ms"] + x["routed_ms"] * read * v("routed") + x["cache_ms"] * v("cache")) / v("eta")
    counted = x["step_ms"] / v("mu")
    layer = (
        v("layer") + x["mixture"] * v("expert") + x["latent"] * v("latent") + x["indexed"] * v("index")
        + x["linear"] * v("linear")
    )  # fmt: skip
    layer = layer * np.where(x["rack"] > 0, v("rack"), 1.0)
    exchange = v("exchange") * np.log2(np.clip(x["shared"], 1.0, BOARD))
    reading = x["linear_ms"] / (v("prefill") * np.where(x["mixture"] > 0, v("prefill_moe"), 1.0)
                                * np.where(x["latent"] > 0, v("prefill_latent"), 1.0))  # fmt: skip
    others = np.maximum(x["held"] - 1, 0) * reading / x["osl"] * np.where(x["rack"] > 0, 0.15, 1.0)
    decode = np.sqrt(moved**2 + counted**2)
    together = (decode**MIXED + others**MIXED) ** (1 / MIXED)
    return together + x["layers"] * (layer + exchange) * 1e-3 + x["rank"] * v("sequence") * 1e-3


SERVE: Final = Plan(
    name="serve",
    mean=Mean(
        scalars={
            "eta": Scalar(centre=0.6, spread=0.4, groups=("engine", "generation", "quant")),
            "mu": Scalar(centre=0.4, spread=0.5),
            "spread": Scalar(centre=0.9, spread=0.15),
            "routed": Scalar(centre=1.0, spread=0.3),
            "cache": Scalar(centre=1.0, spread=0.5),
            "layer": Scalar(centre=25.0, spread=0.5, groups=("engine", "generation")),
            "expert": Scalar(centre=25.0, spread=0.5, groups=("engine", "generation")),
            "latent": Scalar(centre=8.0, spread=0.7, groups=("engine",)),
            "index": Scalar(centre=30.0, spread=0.7),
            "linear": Scalar(centre=8.0, spread=0.7),
            "rack": Scalar(centre=1.2, spread=0.12),
            "exchange": Scalar(centre=6.0, spread=0.5, groups=("engine",)),
            "prefill": Scalar(
                centre=0.35, spread=0.5, groups=("engine", "generation", "quant"), deviation=0.3
            ),
            "prefill_moe": Scalar(centre=1.0, spread=0.5),
            "prefill_latent": Scalar(centre=1.0, spread=0.5, groups=("generation", "device"), deviation=0.3),
            "sequence": Scalar(centre=12.0, spread=0.6, groups=("engine",)),
        },
        formula=serve_step,
        tail_scale=0.35,
    ),
    terms=(
        Term(sd=0.07, same=("device", "engine")),
        Term(sd=0.09, same=("shape",)),
        Term(sd=0.09, same=("shape", "engine")),
        Term(sd=0.07, near=("batch", "isl", "osl", "n")),
        Term(sd=0.07, same=("engine",), near=("batch", "isl", "osl", "n")),
        Term(sd=0.09, same=("shape", "engine"), near=("batch", "isl", "osl", "n")),
        Term(sd=0.07, same=("shape",), near=("batch", "isl", "osl", "n")),
        Term(sd=0.14, same=("cell", "engine")),
        Term(sd=0.14, same=("cell", "engine"), near=("batch", "isl", "osl", "n")),
        Term(sd=0.3, same=("cell", "engine"), along="reading"),
        Term(sd=0.11, same=("version", "shape", "device")),
    ),
    noise=0.09,
)


def stream_step(x: Mapping[str, Any], v: Values) -> Any:
    """Return ms per token of a local engine: layers of several devices work in turn, so n hardly helps."""
    read = np.where(x["mixture"] > 0, 1 - (1 - x["chosen"]) ** x["held"], 1.0)
    moved = (x["dense_ms"] + x["routed_ms"] * read + x["cache_ms"]) / (
        v("eta") * np.where(x["full"] > 0, v("full") * np.where(x["server"] > 0, v("full_server"), 1.0), 1.0)
    )
    unpacked = np.where(x["full"] > 0, 0.0, x["step_ms"] * v("unpack"))
    layer = v("layer") * np.where(x["mixture"] > 0, v("expert"), 1.0)
    split = v("split") ** np.log2(np.maximum(x["n"], 1))
    return (moved + unpacked) * split + x["layers"] * layer * 1e-3


STREAM: Final = Plan(
    name="stream",
    mean=Mean(
        scalars={
            "eta": Scalar(centre=0.75, spread=0.3, groups=("generation", "vendor", "era"), deviation=0.25),
            "unpack": Scalar(centre=0.3, spread=0.7, groups=("generation",), deviation=0.5),
            "full": Scalar(centre=1.0, spread=0.15),
            "full_server": Scalar(centre=0.8, spread=0.2),
            "layer": Scalar(centre=60.0, spread=0.6, groups=("generation", "era"), deviation=0.25),
            "expert": Scalar(centre=2.0, spread=0.5),
            "split": Scalar(centre=1.02, spread=0.05),
        },
        formula=stream_step,
        tail_scale=0.1,
    ),
    terms=(
        Term(sd=0.06, same=("device",)),
        Term(sd=0.045, same=("shape", "era")),
        Term(sd=0.07, same=("generation",), near=("weights", "bits"), length=1.0),
        Term(sd=0.045, near=("weights", "bandwidth", "bits"), length=1.0),
        Term(sd=0.06, same=("cell",)),
        Term(sd=0.03, same=("device",), near=("n",), length=1.0),
        Term(sd=0.07, same=("backend",)),
        Term(sd=0.06, same=("mixture", "generation")),
    ),
    noise=0.07,
)


def stream_prompt(x: Mapping[str, Any], v: Values) -> Any:
    """Return ms a local engine takes to read one prompt."""
    counted = x["prompt_ms"] / (v("mu") * np.where(x["full"] > 0, v("full"), 1.0)
                                * np.where(x["mixture"] > 0, v("mixture"), 1.0))  # fmt: skip
    moved = (x["dense_ms"] + x["routed_ms"]) / v("eta")
    share = np.maximum(x["n"], 1.0) ** -v("split")
    return np.sqrt((counted * share) ** 2 + moved**2) + x["layers"] * v("layer") * 1e-3


PROMPT: Final = Plan(
    name="prompt",
    mean=Mean(
        scalars={
            "mu": Scalar(centre=0.45, spread=0.5, groups=("generation", "vendor", "era"), deviation=0.3),
            "full": Scalar(centre=1.1, spread=0.3),
            "mixture": Scalar(centre=0.6, spread=0.4),
            "eta": Scalar(centre=0.7, spread=0.3),
            "split": Scalar(centre=0.25, spread=0.5),
            "layer": Scalar(centre=60.0, spread=0.7),
        },
        formula=stream_prompt,
    ),
    terms=(
        Term(sd=0.15, same=("device",)),
        Term(sd=0.1, same=("shape",)),
        Term(sd=0.12, same=("generation",), near=("weights", "bits"), length=1.0),
        Term(sd=0.12, same=("cell",)),
        Term(sd=0.12, same=("shape", "device"), near=("n",)),
        Term(sd=0.12, same=("backend",)),
        Term(sd=0.1, near=("n", "weights")),
    ),
    noise=0.1,
)


def serve_first(x: Mapping[str, Any], v: Values) -> Any:
    """Return ms until the first token in a closed loop: own prompt, those in front, a step, and the queue.

    ``step`` is the predicted ms per output token. The share of time that goes into prompts makes a prompt
    wait for others; a closed loop starts as a burst; sequences beyond the memory wait for whole answers.
    """
    own = x["prompt_ms"] / (v("prefill") * np.where(x["mixture"] > 0, v("prefill_moe"), 1.0)
                            * np.where(x["latent"] > 0, v("prefill_latent"), 1.0))  # fmt: skip
    busy = np.minimum(x["held"] * own / (x["held"] * own + x["osl"] * x["step"]), 0.95)
    behind = (
        v("behind") * np.maximum(x["held"] - 1, 0) ** v("crowd") * own * np.where(x["rack"] > 0, 0.15, 1.0)
    )
    queue = v("queue") * np.maximum(x["batch"] / x["slots"] - 1, 0) * x["osl"] * x["step"]
    return (
        v("base") + own * (1 + v("wait") * busy / (1 - busy)) + behind + v("steps") * x["step"] + queue
        + x["batch"] * v("each") * 1e-3
    )  # fmt: skip


FIRST: Final = Plan(
    name="first",
    mean=Mean(
        scalars={
            "base": Scalar(centre=30.0, spread=0.8, groups=("engine",), deviation=0.4),
            "prefill": Scalar(
                centre=0.35, spread=0.5, groups=("engine", "generation", "quant"), deviation=0.3
            ),
            "prefill_moe": Scalar(centre=0.7, spread=0.5),
            "prefill_latent": Scalar(centre=0.8, spread=0.5, groups=("generation", "device"), deviation=0.3),
            "wait": Scalar(centre=0.5, spread=0.7),
            "behind": Scalar(centre=0.15, spread=0.7, groups=("engine",), deviation=0.3),
            "crowd": Scalar(centre=0.8, spread=0.2),
            "steps": Scalar(centre=2.0, spread=0.7, groups=("engine",), deviation=0.3),
            "queue": Scalar(centre=0.5, spread=0.7),
            "each": Scalar(centre=200.0, spread=1.0, groups=("engine",), deviation=0.4),
        },
        formula=serve_first,
        tail_scale=0.45,
    ),
    terms=(
        Term(sd=0.15, same=("device", "engine")),
        Term(sd=0.15, same=("shape",)),
        Term(sd=0.15, same=("shape", "engine")),
        Term(sd=0.12, near=("batch", "isl", "osl", "n")),
        Term(sd=0.15, same=("engine",), near=("batch", "isl", "osl", "n")),
        Term(sd=0.15, same=("shape", "engine"), near=("batch", "isl", "osl", "n")),
        Term(sd=0.2, same=("cell", "engine")),
        Term(sd=0.2, same=("cell", "engine"), near=("batch", "isl", "osl", "n")),
        Term(sd=0.3, same=("version", "shape", "device")),
        Term(sd=0.3, same=("version", "device", "quant")),
    ),
    noise=0.2,
)
