"""A bounded reader of GGUF headers: the check before any engine sees a file.

Written against the format description of the GGUF project (versions 2 and 3, little endian). It never
allocates by a length that a file merely declares, reads at most ``MAX_HEADER_BYTES``, and is strict where an
engine has been careless: what is refused here never reaches C++ code. The rules on vocabulary arrays, special
tokens and tensor sizes answer published memory-safety reports (CVE-2025-53630, CVE-2026-27940,
CVE-2026-33298, and the loader reports collected in lmstudio-bug-tracker 2289).
"""

from __future__ import annotations

import math
import os
import struct
from typing import Final, NoReturn

import msgspec

from allod.domain.errors import Invalid

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
MAX_HEADER_BYTES: Final = 100 * 1024 * 1024
MAX_FIELDS: Final = 8_192
MAX_TENSORS: Final = 65_536
MAX_KEY_BYTES: Final = 1_024
MAX_NAME_BYTES: Final = 63
"""One less than the engine's fixed buffer, whose last byte is a NUL."""
MAX_KEPT_BYTES: Final = 4_096
"""Strings longer than this are skipped, not kept; templates have a limit of their own."""
MAX_TEMPLATE_BYTES: Final = 1024 * 1024
MAX_STRING_ELEMENTS: Final = 2_000_000
"""Over all string arrays of a file: the largest vocabularies with their merges hold about 800 000."""
MIN_ALIGNMENT: Final = 8
MAX_ALIGNMENT: Final = 4_096
MAX_DIMS: Final = 4
TEMPLATE_KEY: Final = "tokenizer.chat_template"

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_SCALARS: Final[dict[int, struct.Struct]] = {
    U8: struct.Struct("<B"), I8: struct.Struct("<b"), U16: struct.Struct("<H"), I16: struct.Struct("<h"),
    U32: struct.Struct("<I"), I32: struct.Struct("<i"), F32: struct.Struct("<f"), BOOL: struct.Struct("<B"),
    U64: struct.Struct("<Q"), I64: struct.Struct("<q"), F64: struct.Struct("<d"),
}  # fmt: skip
_U32: Final = _SCALARS[U32]
_U64: Final = _SCALARS[U64]
_WINDOW_BYTES: Final = 1024 * 1024

TENSOR_TYPES: Final[dict[int, tuple[str, int, int]]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8),
    28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
"""Type number -> (name, elements per block, bytes per block). A type not listed is refused, as are the two
that exist only inside an engine (Q8_1, Q8_K)."""


class Tensor(msgspec.Struct, frozen=True):
    """One tensor: ``offset`` and ``size_bytes`` within the data section."""

    name: str
    dims: tuple[int, ...]
    type: int
    offset: int
    size_bytes: int


class Array(msgspec.Struct, frozen=True):
    """What is kept of an array: its element type and count, never its elements."""

    type: int
    count: int


Value = int | float | bool | str | Array | None
"""None stands for a string too long to keep."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A header that passed every structural check.

    Attributes:
        version: 2 or 3.
        size_bytes: size of the whole file.
        alignment: of tensors, bytes.
        data_offset: where the data section begins.
        fields: metadata by key; ``types`` holds the declared value type of each.
        tensors: in file order.

    """

    version: int
    size_bytes: int
    alignment: int
    data_offset: int
    fields: dict[str, Value]
    types: dict[str, int]
    tensors: tuple[Tensor, ...]

    def text(self, key: str) -> str | None:
        """Return a string field, or None where it is absent or of another type."""
        value = self.fields.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        """Return an integer field, or None where it is absent or of another type."""
        value = self.fields.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def templates(self) -> dict[str, str]:
        """Chat templates by variant name; the plain one has the empty name."""
        out: dict[str, str] = {}
        for key, value in self.fields.items():
            if isinstance(value, str) and (key == TEMPLATE_KEY or key.startswith(TEMPLATE_KEY + ".")):
                out[key[len(TEMPLATE_KEY) + 1 :]] = value
        return out


def refuse(why: str) -> NoReturn:
    """Refuse a file for a structural reason (raises ``Invalid``)."""
    raise Invalid(
        "this file is not a well-formed GGUF model",
        why,
        "obtain the file again from its maker, or convert it anew from the original weights",
    )


class _Cursor:
    """Reads forward through a descriptor in windows; every length is checked against what is left."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        self.fd = fd
        self.limit = min(size_bytes, MAX_HEADER_BYTES)
        self.capped = size_bytes > MAX_HEADER_BYTES
        self.window, self.start, self.at = b"", 0, 0
        self.string_elements = 0

    @property
    def position(self) -> int:
        return self.start + self.at

    def left(self) -> int:
        return self.limit - self.position

    def need(self, count: int, what: str) -> None:
        if count > self.left():
            bound = f"the {MAX_HEADER_BYTES} byte limit of a header" if self.capped else "the end of the file"
            refuse(f"{what} needs {count} bytes at offset {self.position}, beyond {bound}")

    def _fill(self, count: int) -> None:
        """Make at least ``count`` bytes available in the window; the caller has checked ``need``."""
        position = self.position
        want = min(max(count, _WINDOW_BYTES), self.limit - position)
        parts, got = [], 0
        while got < want:
            part = os.pread(self.fd, min(_WINDOW_BYTES, want - got), position + got)
            if not part:
                refuse("the file became shorter while it was read")
            parts.append(part)
            got += len(part)
        self.window, self.start, self.at = b"".join(parts), position, 0

    def take(self, count: int, what: str) -> bytes:
        self.need(count, what)
        if self.at + count > len(self.window):
            self._fill(count)
        out = self.window[self.at : self.at + count]
        self.at += count
        return out

    def skip(self, count: int, what: str) -> None:
        self.need(count, what)
        if self.at + count <= len(self.window):
            self.at += count
        else:
            self.window, self.start, self.at = b"", self.position + count, 0

    def u32(self, what: str) -> int:
        return int(_U32.unpack(self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(_U64.unpack(self.take(8, what))[0])

    def skip_strings(self, count: int, what: str) -> None:
        """Pass over ``count`` strings in one tight loop."""
        self.string_elements += count
        if self.string_elements > MAX_STRING_ELEMENTS:
            refuse(f"its string arrays hold over {MAX_STRING_ELEMENTS} elements")
        self.need(count * 8, what)
        done = 0
        while done < count:
            if len(self.window) - self.at < _U64.size:
                self.need(_U64.size, what)
                self._fill(_U64.size)
            window, at, end = self.window, self.at, len(self.window) - 8
            unpack = _U64.unpack_from
            while at <= end and done < count:
                at += 8 + unpack(window, at)[0]
                done += 1
            over = at - len(window)
            self.at = min(at, len(window))
            if over > 0:
                self.skip(over, what)


def _string(cursor: _Cursor, what: str, limit: int) -> str | None:
    """Read a string; None when it is longer than ``limit`` and was passed over."""
    count = cursor.u64(f"the length of {what}")
    if count > limit:
        cursor.skip(count, what)
        return None
    raw = cursor.take(count, what)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        refuse(f"{what} is not UTF-8")


def _key(cursor: _Cursor) -> str:
    count = cursor.u64("the length of a key")
    if not 0 < count <= MAX_KEY_BYTES:
        refuse(f"a key is {count} bytes long, allowed are 1 to {MAX_KEY_BYTES}")
    raw = cursor.take(count, "a key")
    if not raw.isascii() or not raw.decode("ascii").isprintable() or b" " in raw:
        refuse("a key holds something else than printable ASCII")
    return raw.decode("ascii")


def _array(cursor: _Cursor, key: str) -> Array:
    kind = cursor.u32(f"the element type of {key}")
    count = cursor.u64(f"the element count of {key}")
    if kind == ARRAY:
        refuse(f"{key} is an array of arrays, which no engine reads")
    if kind == STRING:
        cursor.skip_strings(count, key)
    elif kind in _SCALARS:
        cursor.skip(count * _SCALARS[kind].size, key)
    else:
        refuse(f"{key} has elements of unknown type {kind}")
    return Array(kind, count)


def _value(cursor: _Cursor, key: str, kind: int) -> Value:
    if kind in _SCALARS:
        scalar = _SCALARS[kind]
        value = scalar.unpack(cursor.take(scalar.size, key))[0]
        if kind in {F32, F64} and not math.isfinite(value):
            refuse(f"{key} is not a finite number")
        if kind != BOOL:
            return value  # type: ignore[no-any-return]
        if value not in {0, 1}:
            refuse(f"{key} is a boolean of value {value}")
        return bool(value)
    if kind == STRING:
        template = key == TEMPLATE_KEY or key.startswith(TEMPLATE_KEY + ".")
        text = _string(cursor, key, MAX_TEMPLATE_BYTES if template else MAX_KEPT_BYTES)
        if template and text is None:
            refuse(f"{key} is longer than {MAX_TEMPLATE_BYTES} bytes")
        if text is not None and "\0" in text:
            refuse(f"{key} holds a NUL: an engine in C reads less of it than was checked")
        return text
    if kind == ARRAY:
        return _array(cursor, key)
    refuse(f"{key} has the unknown value type {kind}")


def _fields(cursor: _Cursor, count: int) -> tuple[dict[str, Value], dict[str, int]]:
    fields: dict[str, Value] = {}
    types: dict[str, int] = {}
    for _ in range(count):
        key = _key(cursor)
        if key in fields:
            refuse(f"the key {key} appears twice")
        types[key] = cursor.u32(f"the type of {key}")
        fields[key] = _value(cursor, key, types[key])
    return fields, types


def _tensor(cursor: _Cursor, alignment: int) -> Tensor:
    name = _string(cursor, "a tensor name", MAX_NAME_BYTES)
    if not name or not name.isprintable():
        refuse(f"a tensor name is empty, unprintable or longer than {MAX_NAME_BYTES} bytes")
    rank = cursor.u32(f"the rank of {name}")
    if not 1 <= rank <= MAX_DIMS:
        refuse(f"{name} has {rank} dimensions, allowed are 1 to {MAX_DIMS}")
    dims = tuple(cursor.u64(f"the dimensions of {name}") for _ in range(rank))
    kind = cursor.u32(f"the type of {name}")
    offset = cursor.u64(f"the offset of {name}")
    if kind not in TENSOR_TYPES:
        refuse(f"{name} has the unknown tensor type {kind}")
    label, block, block_bytes = TENSOR_TYPES[kind]
    if 0 in dims:
        refuse(f"{name} has an empty dimension")
    if dims[0] % block:
        refuse(f"{name} has rows of {dims[0]} elements, {label} needs a multiple of {block}")
    elements = 1
    for size in dims:
        elements *= size
        if elements >= 1 << 62:
            refuse(f"{name} declares more elements than any file can hold")
    if offset % alignment:
        refuse(f"{name} begins at {offset}, not a multiple of {alignment}")
    return Tensor(name, dims, kind, offset, elements // block * block_bytes)


def _alignment(fields: dict[str, Value], types: dict[str, int]) -> int:
    if "general.alignment" not in fields:
        return 32
    value = fields["general.alignment"]
    if types["general.alignment"] != U32 or not isinstance(value, int):
        refuse("general.alignment is not an unsigned 32-bit number")
    if not MIN_ALIGNMENT <= value <= MAX_ALIGNMENT or value & (value - 1):
        refuse(
            f"general.alignment is {value}, allowed are powers of two from {MIN_ALIGNMENT} to {MAX_ALIGNMENT}"
        )
    return value


def _zeros(fd: int, start: int, end: int, what: str) -> None:
    """Check that padding (always under one alignment) carries nothing."""
    if end > start and os.pread(fd, end - start, start).strip(b"\0"):
        refuse(f"the padding {what} is not empty")


def _layout(fd: int, tensors: tuple[Tensor, ...], data_offset: int, size_bytes: int, alignment: int) -> None:
    """Check that tensors fill the data section without overlap, hole or tail."""
    if not tensors:
        refuse("it holds no tensor")
    if len({tensor.name for tensor in tensors}) != len(tensors):
        refuse("a tensor name appears twice")
    expected = 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        if tensor.offset != expected:
            fault = "overlaps its neighbour" if tensor.offset < expected else "leaves a hole before it"
            refuse(f"{tensor.name} begins at {tensor.offset}, expected {expected}: it {fault}")
        end = tensor.offset + tensor.size_bytes
        if data_offset + end > size_bytes:
            refuse(f"{tensor.name} ends {data_offset + end - size_bytes} bytes after the end of the file")
        expected = end + (-end) % alignment
        _zeros(fd, data_offset + end, min(data_offset + expected, size_bytes), f"after {tensor.name}")
    if size_bytes > data_offset + expected:
        refuse(f"{size_bytes - data_offset - expected} bytes follow the last tensor")


def _open_size(fd: int) -> int:
    size = os.fstat(fd).st_size
    if size < 24:  # noqa: PLR2004 (magic, version and two counts)
        refuse(f"it is {size} bytes long, the fixed part of a header is 24")
    return size


def read(fd: int) -> Header:
    """Read and check the header behind a descriptor of a regular file, from its first byte.

    The descriptor's own position is neither used nor moved. Time and memory are bounded by
    ``MAX_HEADER_BYTES`` and the element limits above, whatever the file declares.

    Raises:
        Invalid: the file is not a GGUF file this house accepts; ``why`` says at which byte or key.

    """
    size_bytes = _open_size(fd)
    cursor = _Cursor(fd, size_bytes)
    magic = cursor.take(4, "the magic number")
    if magic != MAGIC:
        refuse(f"it begins with {magic.hex()}, a GGUF file with {MAGIC.hex()}")
    version = cursor.u32("the version")
    if version not in VERSIONS:
        refuse(f"its version is {version}; versions {VERSIONS[0]} and {VERSIONS[1]}, little endian, are read")
    tensor_count, field_count = cursor.u64("the tensor count"), cursor.u64("the key count")
    if tensor_count > MAX_TENSORS or field_count > MAX_FIELDS:
        refuse(f"it declares {tensor_count} tensors (limit {MAX_TENSORS}), {field_count} keys ({MAX_FIELDS})")
    fields, types = _fields(cursor, field_count)
    alignment = _alignment(fields, types)
    tensors = tuple(_tensor(cursor, alignment) for _ in range(tensor_count))
    end = cursor.position
    data_offset = end + (-end) % alignment
    if data_offset > size_bytes:
        refuse("the file ends with its header")
    _zeros(fd, end, data_offset, "after the header")
    _layout(fd, tensors, data_offset, size_bytes, alignment)
    return Header(
        version=version, size_bytes=size_bytes, alignment=alignment, data_offset=data_offset,
        fields=fields, types=types, tensors=tensors,
    )  # fmt: skip
