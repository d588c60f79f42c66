"""Server-sent events, cut out of a stream of bytes without touching them (HTML Living Standard, section 9.2).

A line ends with CR LF, LF or CR; an empty line ends an event. Events without a ``data`` field (comments,
keep-alives, ``retry``) are dropped, as the standard says. Everything is bounded.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final, Protocol

from allod.engines.contract import EngineFault

MAX_LINE_BYTES: Final = 1 << 20
MAX_EVENT_BYTES: Final = 4 << 20

_BLANK: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))+")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"
_DONE: Final = b"[DONE]"


class _Body(Protocol):
    """What ``sse_events`` needs of a response."""

    async def next_chunk(self) -> bytes:
        """Return the next bytes of the body, empty at its end."""

    def begun(self) -> None:
        """Say that the first event has come."""


class Splitter:
    """Cuts bytes into complete events; ``feed`` what came, take what is whole.

    An event keeps its bytes and its closing empty line. Only the unfinished rest is held.
    """

    __slots__ = ("_max_event", "_max_line", "_rest", "_start")

    def __init__(
        self, *, max_line_bytes: int = MAX_LINE_BYTES, max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        self._max_line, self._max_event = max_line_bytes, max_event_bytes
        self._rest = bytearray()
        self._start = True

    @property
    def empty(self) -> bool:
        """Whether it has begun and holds nothing."""
        return not (self._rest or self._start)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that ``data`` completes.

        Raises:
            EngineFault: ``oversize`` when a line or an event passes its bound.

        """
        if self._start and data:
            self._start = False
            data = data.removeprefix(_BOM)
        if not self._rest and b"\r" not in data:
            return self._feed_plain(data)
        return self._feed_any(data)

    def flush(self) -> bytes | None:
        """Return what stands after the last empty line as one event when the body has ended, or None."""
        rest = bytes(self._rest).strip(b"\r\n")
        self._rest.clear()
        return self._checked(rest + b"\n\n") if rest else None

    def _feed_plain(self, data: bytes) -> list[bytes]:
        if data.endswith(b"\n\n") and data.find(b"\n\n") == len(data) - 2 and data.startswith(b"data:"):
            if len(data) > self._max_line:
                self._check_size(data)
            return [data]
        parts = data.split(b"\n\n")
        rest = parts.pop()
        events: list[bytes] = []
        for part in parts:
            if part.startswith(b"data") and len(part) < self._max_line:
                events.append(part + b"\n\n")
                continue
            event = self._checked(part + b"\n\n")
            if event is not None:
                events.append(event)
        if rest.strip(b"\n"):
            self._hold(rest)
        return events

    def _feed_any(self, data: bytes) -> list[bytes]:
        rest = self._rest
        from_ = max(0, len(rest) - 3)
        rest += data
        events: list[bytes] = []
        done = 0
        for match in _BLANK.finditer(rest, from_):
            event = self._checked(bytes(rest[done : match.end()]).lstrip(b"\r\n"))
            done = match.end()
            if event is not None:
                events.append(event)
        if done:
            del rest[:done]
        if rest.startswith((b"\r", b"\n")) and not rest.strip(b"\r\n"):
            rest.clear()
        self._check_rest()
        return events

    def _hold(self, rest: bytes) -> None:
        self._rest += rest
        self._check_rest()

    def _check_rest(self) -> None:
        size = len(self._rest)
        if size <= self._max_line:
            return
        last = max(self._rest.rfind(b"\n"), self._rest.rfind(b"\r"))
        if size > self._max_event or size - last > self._max_line:
            raise EngineFault(
                "oversize", f"a line over {self._max_line} or an event over {self._max_event} bytes"
            )

    def _checked(self, event: bytes) -> bytes | None:
        if len(event) > self._max_line:
            self._check_size(event)
        if event.startswith(b"data"):
            return event
        event = event.lstrip(b"\r\n")
        if event.startswith(b"data") or b"\ndata" in event or b"\rdata" in event:
            return event
        return None

    def _check_size(self, event: bytes) -> None:
        if len(event) > self._max_event or max(map(len, _LINE_END.split(event))) > self._max_line:
            raise EngineFault(
                "oversize", f"a line over {self._max_line} or an event over {self._max_event} bytes"
            )


def data_of(event: bytes) -> bytes:
    """Return the data of an event: its ``data`` lines without prefix, joined by LF."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
        return event[6:-2]
    lines: list[bytes] = []
    for line in _LINE_END.split(event):
        if line == b"data":
            lines.append(b"")
        elif line.startswith(b"data:"):
            lines.append(line[6:] if line[5:6] == b" " else line[5:])
    return b"\n".join(lines)


def name_of(event: bytes) -> bytes | None:
    """Return the ``event`` field of an event, or None."""
    for line in _LINE_END.split(event):
        if line.startswith(b"event:"):
            return line[6:].removeprefix(b" ")
    return None


def is_done(event: bytes) -> bool:
    """Tell whether this is OpenAI's end mark ``data: [DONE]``."""
    return event.startswith(b"data: [DONE]") or (_DONE in event[:16] and data_of(event).strip() == _DONE)


async def sse_events(
    response: _Body, *, max_line_bytes: int = MAX_LINE_BYTES, max_event_bytes: int = MAX_EVENT_BYTES
) -> AsyncIterator[bytes]:
    """Yield the complete events of a response's body, raw, closing empty line included.

    Raises:
        EngineFault: ``oversize`` from here; what the response raises passes through.

    """
    splitter = Splitter(max_line_bytes=max_line_bytes, max_event_bytes=max_event_bytes)
    while data := await response.next_chunk():
        events = splitter.feed(data)
        if events:
            response.begun()
        for event in events:
            yield event
    last = splitter.flush()
    if last is not None:
        yield last
