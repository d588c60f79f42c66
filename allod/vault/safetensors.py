"""A bounded reader of safetensors headers: the check before anything else sees the file.

The format is a length (8 bytes, little endian), a JSON object of that length, and the tensors' bytes. The
reader parses that object itself, token by token, because what a JSON library forgives is what a hostile file
needs: duplicate keys, numbers with fractions or exponents, deep nesting, numbers beyond 64 bits. The tensors
must fill the data exactly: no overlap, no gap, no byte before the first or after the last.
"""

from __future__ import annotations

import os
import re
from typing import Final, NoReturn

import msgspec

from allod.domain.errors import Invalid

MAX_HEADER_BYTES: Final = 100_000_000
"""The limit of the format's own reader."""
MAX_TENSORS: Final = 262_144
MAX_DIMS: Final = 8
MAX_NAME_CHARS: Final = 512
MAX_METADATA: Final = 1_024
MAX_METADATA_CHARS: Final = 262_144
METADATA: Final = "__metadata__"
DTYPES: Final[dict[str, int]] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "F4": 4,
}  # fmt: skip
"""Element type -> bits. A type not listed is refused."""
_SPACE: Final = re.compile(rb"[ \t\n\r]*")
_NUMBER: Final = re.compile(rb"(?:0|[1-9][0-9]{0,18})(?![0-9.eE+-])")
_STRING: Final = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\.)*"', re.DOTALL)
_PREFIX: Final = 8
_ESCAPED: Final = 12
"""Bytes that one character may take when it is escaped."""


class Tensor(msgspec.Struct, frozen=True):
    """One tensor: ``offset`` and ``size_bytes`` within the data section."""

    name: str
    dims: tuple[int, ...]
    type: str
    offset: int
    size_bytes: int


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A header that passed every structural check; tensors are in the order of their bytes."""

    size_bytes: int
    data_offset: int
    metadata: dict[str, str]
    tensors: tuple[Tensor, ...]


def refuse(why: str) -> NoReturn:
    """Refuse a file for a structural reason (raises ``Invalid``)."""
    raise Invalid(
        "this file is not a well-formed safetensors file",
        why,
        "obtain the file again from its maker, or convert it anew from the original weights",
    )


class _Cursor:
    """Reads the JSON of a header forward; nothing is allocated but what a token holds."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def peek(self) -> bytes:
        match = _SPACE.match(self.raw, self.at)
        self.at = match.end() if match else self.at
        return self.raw[self.at : self.at + 1]

    def expect(self, char: bytes) -> None:
        if self.peek() != char:
            got = self.raw[self.at : self.at + 1]
            refuse(f"its header holds {got!r} at byte {self.at}, expected {char!r}")
        self.at += 1

    def string(self, limit: int) -> str:
        self.peek()
        match = _STRING.match(self.raw, self.at, self.at + limit * _ESCAPED + 2)
        if match is None:
            refuse(f"its header holds no string of at most {limit} characters at byte {self.at}")
        self.at = match.end()
        try:
            text = msgspec.json.decode(match.group(), type=str)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            refuse(f"a string of its header is broken: {error}")
        if len(text) > limit:
            refuse(f"a string of its header is {len(text)} characters long, allowed are {limit}")
        return text

    def number(self) -> int:
        self.peek()
        match = _NUMBER.match(self.raw, self.at)
        if match is None:
            refuse(f"its header holds no plain whole number at byte {self.at}")
        self.at = match.end()
        return int(match.group())

    def numbers(self, limit: int) -> tuple[int, ...]:
        self.expect(b"[")
        out: list[int] = []
        if self.peek() == b"]":
            self.at += 1
            return ()
        while True:
            out.append(self.number())
            if len(out) > limit:
                refuse(f"a list of its header has over {limit} numbers")
            if self.peek() == b"]":
                self.at += 1
                return tuple(out)
            self.expect(b",")

    def more(self, close: bytes) -> bool:
        """After an element: take the comma (True) or the closing mark (False)."""
        if self.peek() == close:
            self.at += 1
            return False
        self.expect(b",")
        return True


def _metadata(cursor: _Cursor) -> dict[str, str]:
    cursor.expect(b"{")
    out: dict[str, str] = {}
    if cursor.peek() == b"}":
        cursor.at += 1
        return out
    while True:
        key = cursor.string(MAX_NAME_CHARS)
        if key in out:
            refuse(f"the metadata key {key[:80]!r} appears twice")
        cursor.expect(b":")
        out[key] = cursor.string(MAX_METADATA_CHARS)
        if len(out) > MAX_METADATA:
            refuse(f"it has over {MAX_METADATA} metadata keys")
        if not cursor.more(b"}"):
            return out


def _entry(cursor: _Cursor, name: str) -> Tensor:
    cursor.expect(b"{")
    dtype: str | None = None
    dims: tuple[int, ...] | None = None
    offsets: tuple[int, ...] | None = None
    while True:
        key = cursor.string(32)
        cursor.expect(b":")
        if key == "dtype" and dtype is None:
            dtype = cursor.string(16)
        elif key == "shape" and dims is None:
            dims = cursor.numbers(MAX_DIMS)
        elif key == "data_offsets" and offsets is None:
            offsets = cursor.numbers(2)
        else:
            refuse(f"{name} has the key {key!r} twice, or a key that is none of the format")
        if not cursor.more(b"}"):
            break
    if dtype is None or dims is None or offsets is None or len(offsets) != 2:  # noqa: PLR2004 (begin, end)
        refuse(f"{name} lacks its type, shape or two offsets")
    return _measured(name, dtype, dims, offsets)


def _measured(name: str, dtype: str, dims: tuple[int, ...], offsets: tuple[int, ...]) -> Tensor:
    """Check the declared bytes of one tensor against its type and shape."""
    if dtype not in DTYPES:
        refuse(f"{name} has the unknown type {dtype!r}")
    begin, end = offsets
    bits = DTYPES[dtype]
    for size in dims:
        bits *= size
        if bits >= 1 << 66:
            refuse(f"{name} declares more elements than any file can hold")
    if bits % 8 or end - begin != bits // 8:
        refuse(f"{name} spans {end - begin} bytes, its type and shape need {bits / 8:g}")
    return Tensor(name, dims, dtype, begin, end - begin)


def _entries(raw: bytes) -> tuple[dict[str, str], list[Tensor]]:
    cursor = _Cursor(raw)
    cursor.expect(b"{")
    metadata: dict[str, str] = {}
    tensors: list[Tensor] = []
    seen: set[str] = set()
    open_ = cursor.peek() != b"}"
    if not open_:
        cursor.at += 1
    while open_:
        name = cursor.string(MAX_NAME_CHARS)
        if name in seen:
            refuse(f"the key {name[:80]!r} appears twice")
        seen.add(name)
        cursor.expect(b":")
        if name == METADATA:
            metadata = _metadata(cursor)
        elif not name or not name.isprintable():
            refuse("a tensor name is empty or unprintable")
        else:
            tensors.append(_entry(cursor, name))
        if len(tensors) > MAX_TENSORS:
            refuse(f"it holds over {MAX_TENSORS} tensors")
        open_ = cursor.more(b"}")
    if raw[cursor.at :].strip(b" "):
        refuse("something else than blanks follows the header's object")
    return metadata, tensors


def _layout(tensors: list[Tensor], data_bytes: int, data_offset: int) -> tuple[Tensor, ...]:
    """Check that the tensors fill the data exactly, each where its element type may begin."""
    if not tensors:
        refuse("it holds no tensor")
    ordered, expected = sorted(tensors, key=lambda t: (t.offset, t.size_bytes)), 0
    for tensor in ordered:
        if tensor.offset != expected:
            fault = "overlaps its neighbour" if tensor.offset < expected else "leaves a hole before it"
            refuse(f"{tensor.name} begins at {tensor.offset}, expected {expected}: it {fault}")
        if (data_offset + tensor.offset) % max(DTYPES[tensor.type] // 8, 1):
            refuse(f"{tensor.name} begins where no element of {tensor.type} may begin: it is not aligned")
        expected += tensor.size_bytes
    if expected > data_bytes:
        refuse(f"its tensors end {expected - data_bytes} bytes after the end of the file")
    if expected < data_bytes:
        refuse(f"{data_bytes - expected} bytes follow the last tensor")
    return tuple(ordered)


def _pread(fd: int, count: int, at: int) -> bytes:
    parts, got = [], 0
    while got < count:
        part = os.pread(fd, count - got, at + got)
        if not part:
            refuse("the file became shorter while it was read")
        parts.append(part)
        got += len(part)
    return b"".join(parts)


def read(fd: int) -> Header:
    """Read and check the header behind a descriptor of a regular file, from its first byte.

    The descriptor's own position is neither used nor moved. Time and memory are bounded by
    ``MAX_HEADER_BYTES``, whatever the file declares.

    Raises:
        Invalid: the file is not a safetensors file this house accepts.

    """
    size_bytes = os.fstat(fd).st_size
    if size_bytes < _PREFIX + 2:
        refuse(f"it is {size_bytes} bytes long, the shortest header is {_PREFIX + 2}")
    length = int.from_bytes(_pread(fd, _PREFIX, 0), "little")
    if length > MAX_HEADER_BYTES:
        refuse(f"its header declares {length} bytes, allowed are {MAX_HEADER_BYTES}")
    if length > size_bytes - _PREFIX:
        refuse(f"its header declares {length} bytes, the file has {size_bytes - _PREFIX} after the length")
    raw = _pread(fd, length, _PREFIX)
    if not raw.startswith(b"{"):
        refuse("its header does not begin with an object")
    metadata, tensors = _entries(raw)
    data_offset = _PREFIX + length
    return Header(
        size_bytes=size_bytes,
        data_offset=data_offset,
        metadata=metadata,
        tensors=_layout(tensors, size_bytes - data_offset, data_offset),
    )
