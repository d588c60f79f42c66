"""Events that differ from an earlier one of the same stream in their text alone.

Nearly all events of a stream do. One that stood the full check serves as the pattern: what begins and ends
like it, with nothing between that could end a JSON string or begin an escape, has the same members with the
same values, and only another text. So it need not be decoded to be known as sound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_PLAIN: Final = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
_PROBE: Final = b"probe of a pattern"
_NEVER: Final = b"\0"
_TRIES: Final = 8
_LONGEST_BYTES: Final = 64 << 10


class Alike:
    """The pattern of one stream; ``choice`` is the index of the choice its text belongs to."""

    __slots__ = ("_head", "_start", "_stop", "_tail", "_tries", "choice")

    def __init__(self) -> None:
        self._head, self._tail = _NEVER, _NEVER
        self._start = self._stop = 0
        self._tries = _TRIES
        self.choice = 0

    def text_of(self, event: bytes) -> str | None:
        """Return the text of an event that fits the pattern, None for any other."""
        if not event.startswith(self._head) or not event.endswith(self._tail):
            return None
        stop = len(event) - self._stop
        if not self._start <= stop <= _LONGEST_BYTES:
            return None
        text = event[self._start : stop]
        return None if text.translate(None, _PLAIN) else text.decode()

    def learn(self, event: bytes, text: str, choice: int, read: Callable[[bytes], str | None]) -> None:
        """Take an event as the pattern if it can be one.

        Args:
            event: one that was decoded in full; it has a text, and nothing else that may differ.
            text: its text.
            choice: whose it is.
            read: the full check: returns the text of an event like this, None where it is not like it.

        """
        if not self._tries:
            return
        self._tries -= 1
        quoted = b'"%b"' % text.encode()
        at = event.find(quoted)
        if at < 0 or quoted[1:-1].translate(None, _PLAIN) or event.find(quoted, at + 1) >= 0:
            return
        head, tail = event[: at + 1], event[at + len(quoted) - 1 :]
        if read(head + _PROBE + tail) != _PROBE.decode():
            return
        self._head, self._tail, self._start, self._stop = head, tail, len(head), len(tail)
        self.choice = choice
