"""One question of speed, and what the roofline and the shared effects read of it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.planner.speed.facts import Machine, Subject, weight_bytes
from allod.planner.speed.names import Engine, bits_in, kind_of

if TYPE_CHECKING:
    import numpy as np

KV_BYTES: Final = 2.0
RESERVE: Final = 0.88
"""Share of a device's memory that engines give weights and cache."""
LABELS: Final = (
    "engine", "packaged", "era", "version", "backend", "device", "generation", "vendor", "kind", "shape",
    "quant", "cell", "mixture",
)  # fmt: skip
MANY: Final = 1e6
EARLY: Final = 2024
SHORT: Final = 300.0
"""Context of a stream where the source says none: a question and a paragraph."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A machine (``n`` of it), a model in a precision, an engine, and a load.

    ``isl`` and ``osl`` are tokens, 0 where not said. ``parted`` is true where each device attends for its
    own requests (data-parallel attention). ``metric`` is step, first or prompt.
    """

    machine: Machine
    n: int
    subject: Subject
    quant: str
    engine: Engine
    concurrency: float
    isl: float
    osl: float
    parted: bool = False
    year: int = 0
    metric: str = "step"

    @property
    def local(self) -> bool:
        """Whether the engine works as a local one: devices hold layers in turn and do not share a step."""
        return self.engine.local

    @property
    def cell(self) -> str:
        """The cell no validation may split: device, model and precision."""
        return f"{self.machine.id}|{self.subject.id.lower()}|{self.quant.strip().lower()}"

    def labels(self) -> dict[str, str]:
        """Return the groups this case shares effects with."""
        machine = self.machine
        return {
            "engine": self.engine.family,
            "packaged": self.engine.packaged,
            "era": "early" if 0 < self.year <= EARLY else "later",
            "version": f"{self.engine.family} {self.engine.version}",
            "backend": f"{self.engine.backend}/{machine.generation}",
            "device": machine.id,
            "generation": machine.generation,
            "vendor": machine.vendor,
            "kind": machine.kind,
            "shape": self.subject.shape,
            "quant": kind_of(self.quant),
            "cell": self.cell,
            "mixture": "mixture" if self.subject.experts else "dense",
        }

    def numbers(self) -> dict[str, float]:
        """Return what the roofline reads: times of one device at its full rates in ms, counts, flags."""
        machine, subject, batch = self.machine, self.subject, max(self.concurrency, 1.0)
        shared = 1 if self.local else max(self.n, 1)
        rack = machine.rack and self.n > 8 and not self.local  # noqa: PLR2004 (more than one board)
        parted = (self.parted or rack) and not self.local
        total, routed, embedding = weight_bytes(subject, self.quant, gguf=self.local)
        spread = self._cache_spread(shared, parted)
        kind = kind_of(self.quant)
        if self.local and kind.startswith("int"):
            kind = "f16"
        rate = machine.rate(kind) * shared
        context = self.isl + self.osl / 2 or SHORT
        slots = self._slots(total, shared if parted else spread, parted=parted)
        held = min(batch, max(slots, 1.0))
        length = self.isl or 512.0
        chosen = min(subject.experts_per_token / subject.experts, 1.0) if subject.experts else 1.0
        moved = (total - routed - embedding + routed * (1 - (1 - chosen) ** held)) / (
            machine.bandwidth * shared
        )
        linear = 2 * subject.active * length / rate * 1e3
        others = max(held - 1, 0) * linear / 0.25 / (self.osl or 128.0)
        return {
            "reading": others / (others + moved * 1e3 / 0.6 + subject.layers * 0.07),
            "batch": batch,
            "held": held,
            "slots": slots,
            "isl": length,
            "osl": self.osl or 128.0,
            "said": float(self.osl > 0 and self.isl > 0),
            "n": float(max(self.n, 1)),
            "shared": float(shared),
            "rack": float(rack),
            "latent": float(subject.latent),
            "mixture": float(subject.experts > 0),
            "indexed": float(subject.indexed),
            "linear": float(subject.linear),
            "layers": float(subject.layers),
            "dense_ms": (total - routed - embedding) / (machine.bandwidth * shared) * 1e3,
            "routed_ms": routed / (machine.bandwidth * shared) * 1e3,
            "chosen": chosen,
            "cache_ms": held * KV_BYTES * subject.kv_elements(context) / machine.bandwidth / spread * 1e3,
            "step_ms": 2 * subject.active * held / rate * 1e3,
            "prompt_ms": subject.prompt_flops(length) / rate * 1e3,
            "linear_ms": linear,
            "rank": held / (shared if parted else 1),
            "weights": total,
            "bandwidth": machine.bandwidth,
            "active": subject.active,
            "total": subject.total,
            "bits": bits_in(self.quant),
            "full": float(bits_in(self.quant) > 12),  # noqa: PLR2004 (bits)
            "server": float(machine.generation in {"ampere-dc", "hopper", "blackwell"}),
        }

    def _cache_spread(self, shared: int, parted: bool) -> int:
        """Return over how many devices the cache of one sequence is spread: latent attention repeats it."""
        if parted or self.local:
            return shared
        return 1 if self.subject.latent else max(1, min(shared, self.subject.kv_heads))

    def _slots(self, weights: float, spread: int, *, parted: bool) -> float:
        """Return how many sequences the memory holds beside the weights."""
        if self.local:
            return MANY
        room = self.machine.memory * RESERVE * self.n - weights
        room = max(room, 0.02 * self.machine.memory * self.n) / max(self.n, 1)
        one = KV_BYTES * self.subject.kv_elements((self.isl or 1024.0) + 0.75 * (self.osl or 1024.0))
        return min(room * (self.n if parted else spread) / max(one, 1.0), MANY)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Cases as columns: ``numbers`` (floats) and ``labels`` (integers, equal where the text is equal)."""

    numbers: Mapping[str, Any]
    labels: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.numbers["batch"])

    def take(self, index: Any) -> Table:
        """Return some rows."""
        return Table(
            numbers={key: column[index] for key, column in self.numbers.items()},
            labels={key: column[index] for key, column in self.labels.items()},
        )

    def joined(self, other: Table) -> Table:
        """Return these rows and then the others."""
        import numpy as np  # noqa: PLC0415 (only where something is computed)

        return Table(
            numbers={key: np.concatenate([one, other.numbers[key]]) for key, one in self.numbers.items()},
            labels={key: np.concatenate([one, other.labels[key]]) for key, one in self.labels.items()},
        )


def table(cases: Sequence[Case], extra: Mapping[str, Any] | None = None) -> Table:
    """Lay cases out in columns; ``extra`` are columns of numbers computed elsewhere."""
    return columns_of([one.numbers() for one in cases], [one.labels() for one in cases], extra)


def columns_of(
    numbers: Sequence[Mapping[str, float]],
    labels: Sequence[Mapping[str, str]],
    extra: Mapping[str, Any] | None = None,
) -> Table:
    """Lay out rows whose numbers and labels were read before."""
    import numpy as np  # noqa: PLC0415

    columns: dict[str, np.ndarray[Any, Any]] = {
        key: np.array([one[key] for one in numbers], float) for key in numbers[0]
    }
    columns |= {key: np.asarray(column, float) for key, column in (extra or {}).items()}
    return Table(
        numbers=columns,
        labels={key: np.array([zlib.crc32(one[key].encode()) for one in labels], np.int64) for key in LABELS},
    )
