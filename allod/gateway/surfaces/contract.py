"""What the gateway asks of every HTTP dialect it speaks.

A surface is a pure translation: bytes to the neutral form on the way in, events to bytes on the way out. It
reads no clock and draws no random number; ids are formed from the receipt id it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from allod.domain.chat import Dialect, Event, UsageReport, Whole
from allod.domain.errors import AllodError
from allod.domain.fleet import Effort
from allod.domain.request import Surface as SurfaceName


class Parsed(msgspec.Struct, frozen=True, kw_only=True):
    """A request after its own dialect's validation.

    Attributes:
        surface: where it came in.
        model: the model field as written.
        stream: whether events are wanted as they come.
        body: the request in neutral form; ``metadata`` and ``store`` are gone from it, because no operator is
            asked to keep anything.
        native: the caller's own body where ``native_dialect`` is not ``openai``, without ``Allod-*`` keys.
        native_dialect: the dialect of ``native`` and of raw answers this surface passes through.
        metadata: the metadata object as sent, for ``Allod-*`` labels, or None.
        max_output_tokens: the caller's limit, or None.
        effort: the reasoning depth the caller asked for in its own words, or None when it said nothing.
        echo: what the surface needs again to write the answer; opaque to everyone else.
        plain: whether all messages are known to be text in plain strings, without a word of tools.
        background: whether the caller does not wait: it asks for the answer later.

    """

    surface: SurfaceName
    model: str
    body: dict[str, Any]
    stream: bool = False
    native: dict[str, Any] | None = None
    native_dialect: Dialect = "openai"
    metadata: Mapping[str, Any] | None = None
    max_output_tokens: int | None = None
    effort: Effort | None = None
    echo: Any = None
    plain: bool = False
    background: bool = False


class StreamRenderer(Protocol):
    """Writes one streamed answer. Every method returns bytes for the wire, possibly none.

    ``feed`` and ``end`` may raise ``Unavailable`` when what the operator sent cannot be said in this dialect
    (a tool call that never got a name); the caller then ends the stream with ``fail``.
    """

    def feed(self, event: Event) -> bytes:
        """Write what one event of the engine means here."""

    def end(self) -> bytes:
        """Write the normal end: only after ``Finished`` was seen."""

    def fail(self, error: AllodError, receipt: str | None) -> bytes:
        """Write the dialect's error event; nothing may follow it."""


class Rejecting(Protocol):
    """Every surface can say no in its own words."""

    def error(self, error: AllodError, receipt: str | None) -> tuple[int, bytes]:
        """Return the HTTP status and the dialect's error object."""


class Surface(Rejecting, Protocol):
    """A dialect in which a model answers: chat, responses, messages."""

    @property
    def name(self) -> SurfaceName:
        """Which surface this is."""

    def parse(self, raw: bytes) -> Parsed:
        """Validate and translate a request body.

        Raises:
            Invalid: with ``param`` as the dialect names the field, and the dialect's own complaint.

        """

    def whole(
        self, parsed: Parsed, answer: Whole, report: UsageReport | None, *, receipt: str, created_s: int
    ) -> bytes:
        """Write a complete answer.

        Bytes that came in this surface's dialect pass untouched. ``created_s`` is Unix time in seconds.

        Raises:
            Unavailable: the operator's answer cannot be said in this dialect.

        """

    def stream(self, parsed: Parsed, *, receipt: str, created_s: int) -> StreamRenderer:
        """Begin a streamed answer (arguments as in ``whole``)."""


class CountingSurface(Rejecting, Protocol):
    """``/v1/messages/count_tokens``."""

    @property
    def name(self) -> SurfaceName:
        """Which surface this is."""

    def parse(self, raw: bytes) -> Parsed:
        """As ``Surface.parse``."""

    def counted(self, input_tokens: int) -> bytes:
        """Write the count."""


def core_of(receipt: str) -> str:
    """Return the part of a receipt id that other ids are formed from (``r_ab12cd34_01J...``)."""
    return receipt.removeprefix("r_")
