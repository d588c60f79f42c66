"""The price book: list prices of operators, dated, with their source, trusted by digest.

The shipped ``prices.json`` is built by ``tools/prices/build.py``. This room does no I/O: the composition root
reads the bytes and hands them in. Models are decoded one by one when asked for, so that parsing stays fast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from typing import Final, TypeAlias

import msgspec

from allod.domain.errors import Integrity
from allod.metering.rates import Rates, Step, Tariff, filled

FORMAT: Final = "allod-prices-1"
_DAY_MS: Final = 86_400_000
_MINUTE_MS: Final = 60_000

_Rung: TypeAlias = tuple[int, Decimal]
_Ladder: TypeAlias = Decimal | tuple[Decimal, tuple[_Rung, ...]]


class _Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One set of prices in USD per million tokens and when it applies (UTC); the last that applies counts.

    A ladder is a price, or a base price with (above_tokens, price) rungs. ``daily`` is [from, until) of the
    day as ``HH:MM`` and may cross midnight.
    """

    input: _Ladder
    output: _Ladder | None = None
    cached: _Ladder | None = None
    write: _Ladder | None = None
    write_1h: _Ladder | None = None
    reasoning: _Ladder | None = None
    since: date | None = None
    daily: tuple[str, str] | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    as_of: date
    source: str
    licence: str
    models: dict[str, msgspec.Raw]


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed price book.

    Attributes:
        digest: ``sha256:`` of the file's bytes; of books laid over each other, of their digests in order.
        as_of: the day its prices speak of.
        source, licence: where they come from.
        layers: the books it is made of (``over``), first the one that is asked first; empty for one book.

    """

    digest: str
    as_of: date
    source: str
    licence: str
    models: dict[str, msgspec.Raw]
    layers: tuple[Book, ...] = ()

    @classmethod
    def over(cls, books: Iterable[Book]) -> Book | None:
        """Lay books over each other: a model's price stands in the newest that knows it; None for none.

        Of books of one day the earlier given is asked first. A tariff names the digest, day and text of the
        one book that it stands in, so a receipt leads to the file with the very price.
        """
        layers = tuple(sorted(books, key=lambda book: book.as_of, reverse=True))
        if len(layers) < 2:  # noqa: PLR2004 (nothing to lay over)
            return layers[0] if layers else None
        models: dict[str, msgspec.Raw] = {}
        for book in reversed(layers):
            models |= book.models
        named = "\n".join(book.digest for book in layers)
        return cls(
            digest="sha256:" + hashlib.sha256(named.encode()).hexdigest(),
            as_of=layers[0].as_of,
            source="; ".join(dict.fromkeys(book.source for book in layers)),
            licence="; ".join(dict.fromkeys(book.licence for book in layers)),
            models=models,
            layers=layers,
        )

    @classmethod
    def parse(cls, content: bytes) -> Book:
        """Decode a price book.

        Raises:
            Integrity: it is not a price book of this format.

        """
        try:
            file = msgspec.json.decode(content, type=_File)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Integrity("the price book cannot be read", str(error), "rebuild it") from error
        if file.format != FORMAT:
            raise Integrity(
                "the price book has another format", f"got {file.format}, expected {FORMAT}", "rebuild it"
            )
        return cls(
            digest="sha256:" + hashlib.sha256(content).hexdigest(),
            as_of=file.as_of,
            source=file.source,
            licence=file.licence,
            models=file.models,
        )

    def __contains__(self, provider_model: object) -> bool:
        return provider_model in self.models

    def nearest(self, provider_model: str) -> tuple[str, ...]:
        """Return up to three names of the book that look like this one."""
        return tuple(get_close_matches(provider_model, self.models, n=3))

    def tariff(self, provider_model: str, at_ms: int) -> Tariff | None:
        """Return the tariff of ``provider/model`` at a time (UTC ms), or None: the book does not know it.

        Raises:
            Integrity: the entry cannot be read.

        """
        for book in self.layers:
            if provider_model in book:
                return book.tariff(provider_model, at_ms)
        raw = self.models.get(provider_model)
        if raw is None:
            return None
        try:
            entries = msgspec.json.decode(raw, type=tuple[_Prices, ...])
            entry = _applying(entries, at_ms)
            return Tariff(
                steps=_steps(entry),
                source=f"book {provider_model} as of {self.as_of.isoformat()}",
                digest=self.digest,
                valid_until_ms=_next_change(entries, at_ms),
            )
        except (msgspec.MsgspecError, ValueError, IndexError) as error:
            raise Integrity(
                f"the price book's entry {provider_model} cannot be read", str(error), "rebuild it"
            ) from error

    def rates(self, provider_model: str, at_ms: int, total_input_tokens: int) -> Rates | None:
        """Return the rates of one request of this size, or None for an unknown price."""
        tariff = self.tariff(provider_model, at_ms)
        return None if tariff is None else tariff.at(total_input_tokens)


def _applying(entries: tuple[_Prices, ...], at_ms: int) -> _Prices:
    for entry in reversed(entries):
        if _applies(entry, at_ms):
            return entry
    return entries[0]


def _applies(entry: _Prices, at_ms: int) -> bool:
    if entry.since is not None and at_ms < _midnight_ms(entry.since):
        return False
    if entry.daily is None:
        return True
    begin, end = (_minutes(text) * _MINUTE_MS for text in entry.daily)
    now = at_ms % _DAY_MS
    return begin <= now < end if begin <= end else now >= begin or now < end


def _next_change(entries: tuple[_Prices, ...], at_ms: int) -> int | None:
    ends: list[int] = []
    today = at_ms - at_ms % _DAY_MS
    for entry in entries:
        if entry.since is not None:
            ends.append(_midnight_ms(entry.since))
        for text in entry.daily or ():
            of_day = today + _minutes(text) * _MINUTE_MS
            ends.append(of_day if of_day > at_ms else of_day + _DAY_MS)
    return min((end for end in ends if end > at_ms), default=None)


def _midnight_ms(day: date) -> int:
    since_epoch = datetime.combine(day, time(), UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return since_epoch // timedelta(milliseconds=1)


def _minutes(text: str) -> int:
    at = time.fromisoformat(text)
    return at.hour * 60 + at.minute


def _steps(entry: _Prices) -> tuple[Step, ...]:
    named: dict[str, _Ladder | None] = {
        "input_usd_mtok": entry.input,
        "output_usd_mtok": entry.input if entry.output is None else entry.output,
        "cached_input_usd_mtok": entry.cached,
        "cache_write_usd_mtok": entry.write,
        "cache_write_1h_usd_mtok": entry.write_1h,
        "reasoning_usd_mtok": entry.reasoning,
    }
    ladders = {name: ladder for name, ladder in named.items() if ladder is not None}
    starts = {0} | {above for ladder in ladders.values() for above, _ in _rungs(ladder)}
    return tuple(
        Step(
            above_tokens=above,
            rates=filled(**{name: _at(ladder, above) for name, ladder in ladders.items()}),
        )
        for above in sorted(starts)
    )


def _rungs(ladder: _Ladder) -> tuple[_Rung, ...]:
    return ladder[1] if isinstance(ladder, tuple) else ()


def _at(ladder: _Ladder, above: int) -> Decimal:
    if isinstance(ladder, Decimal):
        return ladder
    found = ladder[0]
    for start, price in ladder[1]:
        if above >= start:
            found = price
    return found
