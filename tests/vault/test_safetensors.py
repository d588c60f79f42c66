from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.vault import safetensors


def write(tensors: dict[str, tuple[str, list[int], bytes]], **metadata: str) -> bytes:
    head: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def read(raw: bytes) -> safetensors.Header:
    fd = os.memfd_create("t")
    try:
        os.write(fd, raw)
        return safetensors.read(fd)
    finally:
        os.close(fd)


SOUND = {
    "w": ("F32", [2, 3], np.arange(6, dtype="<f4").tobytes()),
    "h": ("BF16", [4], bytes(8)),
    "scalar": ("I64", [], bytes(8)),
    "empty": ("F32", [0, 4], b""),
    "u": ("U8", [3], b"abc"),
}


def test_a_sound_file_is_read_in_the_order_of_its_bytes() -> None:
    header = read(write(SOUND, format="pt"))
    assert header.metadata == {"format": "pt"}
    assert [t.name for t in header.tensors if t.size_bytes] == ["w", "h", "scalar", "u"]
    assert {t.name: t.dims for t in header.tensors} == {k: tuple(v[1]) for k, v in SOUND.items()}
    assert sum(t.size_bytes for t in header.tensors) + header.data_offset == header.size_bytes


def test_every_truncation_and_every_added_byte_is_refused() -> None:
    whole = write(SOUND, format="pt")
    for size in range(len(whole)):
        with pytest.raises(Invalid):
            read(whole[:size])
    for extra in (b"\0", b"x" * 8):
        with pytest.raises(Invalid):
            read(whole + extra)


def test_escaped_names_are_equal_to_plain_ones() -> None:
    plain = write({"a": ("U8", [1], b"x")})
    twice = plain.replace(b'{"a"', b'{"\\u0061": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "a"')
    length = len(twice) - 8 - 1
    with pytest.raises(Invalid) as caught:
        read(struct.pack("<Q", length) + twice[8:])
    assert "twice" in caught.value.why


def test_a_header_of_the_largest_size_is_read_within_seconds_and_its_limit_holds() -> None:
    entries = ",".join(
        f'"t{n}":{{"dtype":"U8","shape":[1],"data_offsets":[{n},{n + 1}]}}' for n in range(50_000)
    )
    raw = ("{" + entries + "}").encode()
    began = time.process_time()
    assert len(read(struct.pack("<Q", len(raw)) + raw + bytes(50_000)).tensors) == 50_000
    assert time.process_time() - began < 5
    with pytest.raises(Invalid) as caught:
        read(struct.pack("<Q", safetensors.MAX_HEADER_BYTES + 1) + b"{}")
    assert "allowed" in caught.value.why


BASE = write(SOUND, format="pt")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(BASE)), st.integers(0, 12), st.binary(max_size=12)),
        min_size=1,
        max_size=5,
    )
)
def test_a_changed_file_is_read_whole_or_refused(edits: list[tuple[int, int, bytes]]) -> None:
    raw = bytearray(BASE)
    for at, cut, piece in edits:
        raw[at : at + cut] = piece
    try:
        header = read(bytes(raw))
    except Invalid as error:
        assert error.why  # noqa: PT017
    else:
        assert sum(t.size_bytes for t in header.tensors) + header.data_offset == len(raw)


def test_our_reader_takes_nothing_that_the_json_of_python_reads_otherwise(tmp_path: Path) -> None:
    header = read(BASE)
    length = struct.unpack("<Q", BASE[:8])[0]
    other = json.loads(BASE[8 : 8 + length])
    assert {k for k in other if k != "__metadata__"} == {t.name for t in header.tensors}
    for tensor in header.tensors:
        assert other[tensor.name]["data_offsets"] == [tensor.offset, tensor.offset + tensor.size_bytes]
