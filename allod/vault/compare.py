"""Weights beside the weights they are said to come from, and a search for what hides in lowest bits.

What a comparison shows: which tensors are byte for byte those of the parent; how large the change of each
other one is beside the tensor itself; whether the change has a low rank, as an adapter merged into weights
has; whether values are a rounding of the parent's, as a quantisation's are; and a change that touches lowest
bits only, which no training leaves behind.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.vault import tensors as t

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from allod.vault.tensors import Tensor

CANNOT_SEE: Final = (
    "A comparison sees what changed, not what the change does: a backdoor may be a change of usual size and "
    "rank. Equal tensors prove a common origin, different ones prove nothing. A payload that is encrypted "
    "or compressed looks like random bits, and so do the lowest bits of trained weights: without the parent "
    "it is not seen. Types other than F64, F32, F16, BF16 and Q8_0 are compared byte by byte only. Tensors "
    "are matched by name, and a file in another format names them otherwise."
)
SAMPLE: Final = 512
"""Rows and columns of a change whose rank is measured: the rank of a part is at most that of the whole."""
ENERGY: Final = 0.999
MIN_PLANE: Final = 32_768
"""Elements below which bits are not counted."""
MAX_PLANE: Final = 8_000_000
_MAGIC: Final = {
    b"PK\x03\x04": "a ZIP archive", b"\x7fELF": "a program (ELF)", b"MZ\x90\x00": "a program (PE)",
    b"\x80\x04\x95": "a pickle", b"%PDF-": "a PDF", b"#!/": "a script", b"\x1f\x8b\x08": "a gzip stream",
    b"\x89PNG\r\n": "an image", b"\xfd7zXZ": "an xz stream", b"-----BEGIN": "a PEM block",
}  # fmt: skip
_LOW: Final = {64: 20, 32: 8, 16: 2, 8: 1}
"""Pattern width -> bits that count as lowest."""
_TEXT: Final = re.compile(rb"[\t\n\r\x20-\x7e]{48,}")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor that is not the parent's.

    Attributes:
        relative: norm of the difference over the norm of the parent's tensor; None where it cannot be read.
        rank: directions that hold 99.9 % of the change in a sample of ``of`` at most; None for vectors.
        low_bits: the highest bit that differs anywhere, counted from 1, if only lowest bits differ.
        rounding: share of the values that a rounding of the parent's explains, for a Q8_0 of floats.

    """

    name: str
    relative: float | None = None
    rank: int | None = None
    of: int | None = None
    low_bits: int | None = None
    rounding: float | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two sets of tensors: names that only one has, names that are equal, and what changed."""

    equal: tuple[str, ...]
    changed: tuple[Change, ...]
    added: tuple[str, ...]
    missing: tuple[str, ...]
    reshaped: tuple[str, ...]
    flags: tuple[str, ...]
    cannot_see: str = CANNOT_SEE


class _Sums:
    """Gathers norms, differing bits and roundings over the pieces of two tensors."""

    def __init__(self, ours: Tensor, theirs: Tensor) -> None:
        self.ours, self.theirs = ours, theirs
        self.change = self.whole = 0.0
        self.bits = self.count = self.rounded = 0
        self.sample: list[Any] = []

    def run(self) -> None:
        np = t.numpy()
        if self.ours.type == self.theirs.type:
            for a, b in zip(t.pieces(self.ours), t.pieces(self.theirs), strict=True):
                mine, _ = t.patterns(a, self.ours.type)
                other, _ = t.patterns(b, self.ours.type)
                self.bits |= int(np.bitwise_or.reduce(mine ^ other)) if mine.size else 0
        for mine, other, raw in self._values():
            difference = mine - other
            self.change += float(difference @ difference)
            self.whole += float(other @ other)
            self.count += mine.size
            if self.ours.type == "Q8_0" and self.theirs.type != "Q8_0":
                step = np.repeat(np.abs(np.frombuffer(raw, np.dtype([("d", "<f2"), ("q", "V32")]))["d"]), 32)
                self.rounded += int((np.abs(difference) <= step.astype("f8") * 0.502 + 1e-12).sum())

    def _values(self) -> Any:
        """Yield equal stretches of both tensors as numbers, with the raw bytes of ours."""
        np = t.numpy()
        theirs, waiting = t.pieces(self.theirs), np.empty(0)
        for raw in t.pieces(self.ours):
            mine = t.values(raw, self.ours.type)
            while waiting.size < mine.size:
                part = next(theirs, None)
                if part is None:
                    break
                waiting = np.concatenate([waiting, t.values(part, self.theirs.type)])
            if waiting.size < mine.size:
                return
            yield mine, waiting[: mine.size], raw
            waiting = waiting[mine.size :]


def _rows(tensor: Tensor, rows: Any) -> Any:
    """Read some rows of a matrix, whole."""
    import os  # noqa: PLC0415

    np = t.numpy()
    size = tensor.size_bytes // tensor.dims[0]
    return np.stack(
        [t.values(os.pread(tensor.fd, size, tensor.start + int(r) * size), tensor.type) for r in rows]
    )


def _rank(ours: Tensor, theirs: Tensor) -> tuple[int | None, int | None]:
    """Measure the rank of the change on evenly spread rows and columns."""
    np = t.numpy()
    if len(ours.dims) != 2 or min(ours.dims) < 4:  # noqa: PLR2004 (a matrix of some size)
        return None, None
    rows = np.unique(np.linspace(0, ours.dims[0] - 1, min(SAMPLE, ours.dims[0])).astype(int))
    columns = np.unique(np.linspace(0, ours.dims[1] - 1, min(SAMPLE, ours.dims[1])).astype(int))
    change = (_rows(ours, rows) - _rows(theirs, rows))[:, columns]
    if not np.isfinite(change).all() or not change.any():
        return None, None
    energy = np.linalg.svd(change, compute_uv=False) ** 2
    rank = int(np.searchsorted(np.cumsum(energy) / energy.sum(), ENERGY) + 1)
    return rank, min(change.shape)


def _change(ours: Tensor, theirs: Tensor) -> Change:
    if not ours.numeric or not theirs.numeric:
        return Change(name=ours.name)
    sums = _Sums(ours, theirs)
    sums.run()
    low = None
    width = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "Q8_0": 8}[ours.type]
    if ours.type == theirs.type and 0 < sums.bits < 1 << _LOW[width]:
        low = sums.bits.bit_length()
    relative = math.sqrt(sums.change / sums.whole) if sums.whole else math.inf
    rank, of = _rank(ours, theirs)
    quantised = ours.type == "Q8_0" and theirs.type != "Q8_0" and sums.count
    return Change(
        name=ours.name,
        relative=relative if math.isfinite(relative) else None,
        rank=rank,
        of=of,
        low_bits=low,
        rounding=sums.rounded / sums.count if quantised else None,
    )


def compare(
    ours: Mapping[str, Tensor], parent: Mapping[str, Tensor], progress: Callable[[int], None] | None = None
) -> Comparison:
    """Compare tensors by name with a claimed parent's.

    Raises:
        Integrity: a file became shorter meanwhile.

    """
    equal, changed, reshaped = [], [], []
    for name in sorted(ours.keys() & parent.keys()):
        mine, theirs = ours[name], parent[name]
        if mine.dims != theirs.dims:
            reshaped.append(name)
        elif mine.type == theirs.type and t.digest(mine) == t.digest(theirs):
            equal.append(name)
        else:
            changed.append(_change(mine, theirs))
        if progress is not None:
            progress(mine.size_bytes)
    added, missing = sorted(ours.keys() - parent.keys()), sorted(parent.keys() - ours.keys())
    return Comparison(
        equal=tuple(equal),
        changed=tuple(changed),
        added=tuple(added),
        missing=tuple(missing),
        reshaped=tuple(reshaped),
        flags=tuple(_flags(equal, changed, added, reshaped)),
    )


def _flags(equal: list[str], changed: list[Change], added: list[str], reshaped: list[str]) -> list[str]:
    out = []
    for change in changed:
        if change.low_bits is not None:
            out.append(
                f"{change.name} differs from the parent in its lowest {change.low_bits} bits alone: no "
                "training does that, a hidden payload does"
            )
        if change.rounding is not None and change.rounding < 0.9999:  # noqa: PLR2004 (a share)
            share = f"{change.rounding:.2%}"
            out.append(f"{change.name}: only {share} of its values are roundings of the parent's")
    if not equal and not any(c.relative is not None and c.relative < 0.5 for c in changed):  # noqa: PLR2004
        out.append("nothing in it resembles the claimed parent")
    if added:
        out.append(f"{len(added)} tensors are not in the parent, {added[0]} first")
    if reshaped:
        out.append(f"{len(reshaped)} tensors have another shape than the parent's, {reshaped[0]} first")
    return out


def _plane(patterns: Any, bit: int) -> Any:
    np = t.numpy()
    return ((patterns >> bit) & 1).astype(np.uint8)


def _spread(packed: Any) -> float:
    """Return how far byte counts are from equal, in standard deviations of chi-square with 255 degrees."""
    np = t.numpy()
    counts = np.bincount(packed, minlength=256)
    expected = packed.size / 256
    return float((((counts - expected) ** 2 / expected).sum() - 255) / math.sqrt(2 * 255))


def _hidden(tensor: Tensor) -> list[str]:
    """Look at the lowest bits of one tensor."""
    np = t.numpy()
    gathered, size, width = [], 0, 0
    for raw in t.pieces(tensor):
        part, width = t.patterns(raw, tensor.type)
        gathered.append(part)
        size += part.size
        if size >= MAX_PLANE:
            break
    patterns = np.concatenate(gathered)[:MAX_PLANE] if gathered else np.empty(0, "u1")
    if patterns.size < MIN_PLANE:
        return []
    out = []
    low = _plane(patterns, 0)
    streams = [np.packbits(low).tobytes(), np.packbits(low, bitorder="little").tobytes()]
    if width >= 32:  # noqa: PLR2004 (the lowest byte is below what F16 or BF16 keeps)
        streams.append((patterns & 0xFF).astype(np.uint8).tobytes())
    for stream in streams:
        out += [f"{tensor.name}: its lowest bits begin as {what} does" for magic, what in _MAGIC.items()
                if stream.startswith(magic)]  # fmt: skip
        found = _TEXT.search(stream)
        if found and len(set(found.group())) > 8:  # noqa: PLR2004 (different characters)
            out.append(f"{tensor.name}: its lowest bits hold text: {found.group()[:60].decode('ascii')!r}")
    if 0.01 < float(low.mean()) < 0.99:  # noqa: PLR2004 (neither empty nor full: converted weights are)
        here, above = _spread(np.packbits(low)), _spread(np.packbits(_plane(patterns, 2)))
        if here > 50 and above < 10:  # noqa: PLR2004 (standard deviations)
            out.append(f"{tensor.name}: its lowest bits are less random than the bits above them")
    return out


def hidden(tensors: Mapping[str, Tensor], progress: Callable[[int], None] | None = None) -> tuple[str, ...]:
    """Search lowest bits for text, known beginnings of files, and a pattern; flags for a person to look at.

    Also names tensors whose low half is in use while that of most others is empty, as a payload in weights
    that were once stored in half the width is. What cannot be seen is said by ``CANNOT_SEE``.
    """
    np = t.numpy()
    flags: list[str] = []
    used: dict[str, bool] = {}
    for name, tensor in tensors.items():
        if not tensor.numeric:
            continue
        flags += _hidden(tensor)
        if tensor.type == "F32" and tensor.size_bytes >= 4 * MIN_PLANE:
            used[name] = any(
                int(np.bitwise_or.reduce(t.patterns(raw, "F32")[0])) & 0x1FFF for raw in t.pieces(tensor)
            )
        if progress is not None:
            progress(tensor.size_bytes)
    odd = [name for name, is_used in used.items() if is_used]
    if odd and len(odd) * 4 <= len(used):
        flags.append(
            f"{', '.join(odd[:4])}: low bits are in use, which are empty in {len(used) - len(odd)} others"
        )
    return tuple(flags)
