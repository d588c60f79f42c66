"""Tensors of a GGUF or safetensors file as numbers, a piece at a time.

The file passed its structural check before; it is read through a descriptor, at most ``PIECE_BYTES`` at
once, so memory does not grow with the model.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Integrity
from allod.vault import gguf, safetensors

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_BYTES: Final = 16 * 1024 * 1024
Q8_BLOCK: Final = 34
"""A half-float scale and 32 signed bytes."""
_SIZES: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "Q8_0": Q8_BLOCK}


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tensor lies: ``start`` in its file; ``dims`` slowest first."""

    name: str
    dims: tuple[int, ...]
    type: str
    start: int
    size_bytes: int
    fd: int

    @property
    def numeric(self) -> bool:
        """Whether its values can be read here; other types are compared byte by byte only."""
        return self.type in _SIZES


def numpy() -> Any:
    """Import numpy, which no start of the gateway needs."""
    import numpy as np  # noqa: PLC0415 (heavy)

    return np


def tensors(fd: int, name: str) -> dict[str, Tensor]:
    """List the tensors behind a descriptor by name (raises ``Invalid``)."""
    if name.endswith(".safetensors"):
        plain = safetensors.read(fd)
        return {
            t.name: Tensor(name=t.name, dims=t.dims, type=t.type, start=plain.data_offset + t.offset,
                           size_bytes=t.size_bytes, fd=fd)
            for t in plain.tensors
        }  # fmt: skip
    header = gguf.read(fd)
    return {
        t.name: Tensor(name=t.name, dims=t.dims[::-1], type=gguf.TENSOR_TYPES[t.type][0],
                       start=header.data_offset + t.offset, size_bytes=t.size_bytes, fd=fd)
        for t in header.tensors
    }  # fmt: skip


def pieces(tensor: Tensor) -> Iterator[bytes]:
    """Read a tensor's bytes in pieces of whole elements (raises ``Integrity`` where the file got shorter)."""
    unit = _SIZES.get(tensor.type, 1)
    step, at = PIECE_BYTES // unit * unit, 0
    while at < tensor.size_bytes:
        want = min(step, tensor.size_bytes - at)
        part = os.pread(tensor.fd, want, tensor.start + at)
        while part and len(part) < want:
            more = os.pread(tensor.fd, want - len(part), tensor.start + at + len(part))
            if not more:
                break
            part += more
        if len(part) != want:
            raise Integrity("the file became shorter while it was read", tensor.name, "read it again")
        yield part
        at += want


def digest(tensor: Tensor) -> str:
    """Digest the bytes of a tensor."""
    hasher = hashlib.sha256()
    for part in pieces(tensor):
        hasher.update(part)
    return "sha256:" + hasher.hexdigest()


def values(raw: bytes, type_: str) -> Any:
    """Turn bytes of whole elements into an array of float64."""
    np = numpy()
    if type_ == "BF16":
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").astype("f8")
    if type_ == "Q8_0":
        blocks = np.frombuffer(raw, np.dtype([("d", "<f2"), ("q", "i1", (32,))]))
        return (blocks["d"].astype("f8")[:, None] * blocks["q"].astype("f8")).ravel()
    return np.frombuffer(raw, {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[type_]).astype("f8")


def patterns(raw: bytes, type_: str) -> tuple[Any, int]:
    """Return stored bit patterns as unsigned integers, and their width; of Q8_0 the signed bytes alone."""
    np = numpy()
    if type_ == "Q8_0":
        return np.frombuffer(raw, np.dtype([("d", "<f2"), ("q", "u1", (32,))]))["q"].ravel(), 8
    width = _SIZES[type_]
    return np.frombuffer(raw, f"<u{width}"), width * 8
