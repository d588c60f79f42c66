"""Frames of the journal: one record each, in MessagePack behind a length and a checksum.

A frame is ``length u32, checksum u32, kind u8, payload`` (little-endian). The checksum is the CRC-32 of the
payload, seeded with kind and segment number, so that a frame is valid only where it was written.
"""

from __future__ import annotations

import struct
import zlib
from decimal import Decimal
from typing import Any, Final

import msgspec

from allod.domain.usage import AttemptStatus

HEAD: Final = struct.Struct("<IIB")
_PACK: Final = HEAD.pack
_CRC32: Final = zlib.crc32
INTENT: Final = 1
ATTEMPT: Final = 2
TERMINAL: Final = 3
NOTICE: Final = 4
KINDS: Final = (INTENT, ATTEMPT, TERMINAL, NOTICE)
MAX_FRAME_BYTES: Final = 1 << 20


class SubjectMark(msgspec.Struct, frozen=True, array_like=True):
    """Whom a request is about (``subjects``): where the salt is found, the salt, and the tag made with it."""

    lookup: str
    salt: bytes
    tag: bytes


class IntentFrame(msgspec.Struct, frozen=True, array_like=True):
    """An intent leaf with what the log must not hold: app, salts, and the decision record if it is new.

    Frames written before there were subjects end with ``record``.
    """

    receipt: str
    at_ms: int
    leaf: bytes
    app: str
    request_salt: bytes | None
    response_salt: bytes | None
    decision: str
    record: bytes | None
    subject: SubjectMark | None = None


class AttemptFrame(msgspec.Struct, frozen=True, array_like=True):
    """An attempt about to be dispatched, with what it is charged if it is never heard of again."""

    receipt: str
    attempt: int
    deployment: str
    task: str | None
    started_at_ms: int
    reserve_usd: Decimal
    input_tokens: int
    price_digest: str


class TerminalFrame(msgspec.Struct, frozen=True, array_like=True):
    """A terminal leaf with the ledger rows of all its attempts, as the tables take them."""

    receipt: str
    at_ms: int
    leaf: bytes
    status: AttemptStatus
    rows: tuple[tuple[Any, ...], ...]


class NoticeFrame(msgspec.Struct, frozen=True, array_like=True):
    """A notice leaf."""

    leaf: bytes


Frame = IntentFrame | AttemptFrame | TerminalFrame | NoticeFrame
_TYPES: Final[dict[int, type[Frame]]] = {
    INTENT: IntentFrame,
    ATTEMPT: AttemptFrame,
    TERMINAL: TerminalFrame,
    NOTICE: NoticeFrame,
}


class Codec:
    """Writes and reads the frames of one segment (its number seeds the checksums)."""

    def __init__(self, number: int) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = {kind: msgspec.msgpack.Decoder(type_).decode for kind, type_ in _TYPES.items()}
        self._seed = [zlib.crc32(struct.pack("<QB", number, kind)) for kind in range(256)]

    def write(self, kind: int, frame: Frame) -> bytes:
        """Write a frame with its head."""
        payload = self._encode(frame)
        return _PACK(len(payload), _CRC32(payload, self._seed[kind]), kind) + payload

    def read(self, data: bytes, at: int) -> tuple[list[Frame], int]:
        """Return the valid frames from an offset on, and the offset behind the last of them.

        It ends at the first place that holds no valid frame, whether nothing was written there or a write
        did not come whole to the disk; what lies there is for the caller to judge.
        """
        frames: list[Frame] = []
        head, unpack, crc32, last = HEAD.size, HEAD.unpack_from, zlib.crc32, len(data)
        while at + head <= last:
            length, checksum, kind = unpack(data, at)
            start = at + head
            end = start + length
            decode = self._decode.get(kind)
            if decode is None or end > last:
                break
            payload = data[start:end]
            if crc32(payload, self._seed[kind]) != checksum:
                break
            try:
                frames.append(decode(payload))
            except (msgspec.DecodeError, UnicodeDecodeError):
                break
            at = end
        return frames, at
