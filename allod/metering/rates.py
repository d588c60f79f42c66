"""Rates, tariffs and exact cost: Decimal USD, never rounded.

A tariff is what one deployment charges at one moment: a ladder of rates by the size of the input. Crossing a
step applies its rates to all tokens of the request (the "cliff" all operators in the price book use).
"""

from __future__ import annotations

import hashlib
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import cached_property
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.fleet import EMBEDDED
from allod.domain.money import ZERO, plain
from allod.metering import hours

if TYPE_CHECKING:
    from allod.domain.fleet import Deployment, Fleet, Price
    from allod.domain.usage import Usage
    from allod.metering.book import Book

FREE: Final = "free"
OWN_HARDWARE: Final = "own-hardware"
CONFIGURED: Final = "configuration"
_EXACT: Final = Context(prec=60, traps=[Inexact, InvalidOperation])
"""Arithmetic that never rounds: it raises instead."""


class Rates(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """USD per million tokens of each disjoint part; every gap is already filled, never with less than due."""

    input_usd_mtok: Decimal
    cached_input_usd_mtok: Decimal
    cache_write_usd_mtok: Decimal
    cache_write_1h_usd_mtok: Decimal
    output_usd_mtok: Decimal
    reasoning_usd_mtok: Decimal

    @cached_property
    def units(self) -> tuple[Decimal, tuple[int, ...]]:
        """An amount in USD of which each rate per token is a whole multiple, and these multiples in order."""
        rates = msgspec.structs.astuple(self)
        exponent = min(0, *(int(rate.as_tuple().exponent) for rate in rates))
        return Decimal((0, (1,), exponent - 6)), tuple(int(_EXACT.scaleb(rate, -exponent)) for rate in rates)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Rates of a request whose input is larger than ``above_tokens`` (the first step: 0)."""

    above_tokens: int
    rates: Rates


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """What one deployment charges at one moment.

    Attributes:
        steps: at least one, by rising ``above_tokens``, the first at 0.
        source: ``configuration``, ``free``, ``own-hardware``, or ``book provider/model`` with its date.
        digest: ``sha256:`` of the price book, or of the rates written in the configuration; where the
            configuration lays hours, dates or a factor over a price, of that digest with all of it.
        valid_until_ms: when this price may change next (a dated or daily condition), else None.

    """

    steps: tuple[Step, ...]
    source: str
    digest: str
    valid_until_ms: int | None = None

    def at(self, total_input_tokens: int) -> Rates:
        """Return the rates of a request of this size."""
        found = self.steps[0].rates
        for step in self.steps[1:]:
            if total_input_tokens > step.above_tokens:
                found = step.rates
        return found

    def ceiling(self, input_tokens: int) -> Rates:
        """Return the highest of each rate among the steps a request of up to this size can reach."""
        reached = [
            step.rates for step in self.steps if step.above_tokens == 0 or input_tokens > step.above_tokens
        ]
        if len(reached) == 1:
            return reached[0]
        return Rates(**{name: max(getattr(r, name) for r in reached) for name in Rates.__struct_fields__})


class Tariffs(msgspec.Struct, frozen=True, kw_only=True):
    """The tariffs of a fleet at one moment: None where a price is unknown; good until ``valid_until_ms``."""

    by_deployment: dict[str, Tariff | None]
    valid_until_ms: int | None

    def hold_at(self, at_ms: int) -> bool:
        """Tell whether these tariffs still apply at this time."""
        return self.valid_until_ms is None or at_ms < self.valid_until_ms


def filled(
    *,
    input_usd_mtok: Decimal,
    output_usd_mtok: Decimal,
    cached_input_usd_mtok: Decimal | None = None,
    cache_write_usd_mtok: Decimal | None = None,
    cache_write_1h_usd_mtok: Decimal | None = None,
    reasoning_usd_mtok: Decimal | None = None,
) -> Rates:
    """Fill the gaps of a price: cached and written input at the input rate, reasoning at the output rate.

    Raises:
        ValueError: a rate is negative or not finite.

    """
    write = input_usd_mtok if cache_write_usd_mtok is None else cache_write_usd_mtok
    out = Rates(
        input_usd_mtok=input_usd_mtok,
        cached_input_usd_mtok=input_usd_mtok if cached_input_usd_mtok is None else cached_input_usd_mtok,
        cache_write_usd_mtok=write,
        cache_write_1h_usd_mtok=write if cache_write_1h_usd_mtok is None else cache_write_1h_usd_mtok,
        output_usd_mtok=output_usd_mtok,
        reasoning_usd_mtok=output_usd_mtok if reasoning_usd_mtok is None else reasoning_usd_mtok,
    )
    for name in Rates.__struct_fields__:
        rate = getattr(out, name)
        if not rate.is_finite() or rate < 0:
            msg = f"{name} is {rate}, not a price"
            raise ValueError(msg)
    return out


def tariff_of(deployment: Deployment, book: Book | None, at_ms: int) -> Tariff | None:
    """Return what a deployment charges at a time, or None: the price is unknown and the request is refused.

    An explicit price wins, then ``free``, then the book; an embedded engine without any of them runs on our
    own hardware and costs nothing per token. An incomplete price (input without output) is unknown. Changes,
    windows and a factor of the configuration lie over that, and the digest covers them with what they lie
    over. Whoever dispatches at this time is charged by this tariff, also if it changes meanwhile.

    Raises:
        ValueError: a configured rate is negative or not finite.

    """
    price = deployment.price
    if price is None:
        if deployment.engine in EMBEDDED:
            return _flat(_nothing(), OWN_HARDWARE)
        return None
    if price.changes or price.windows or price.factor is not None:
        return _scheduled(price, book, at_ms)
    return _plain(price, book, at_ms)


def _plain(price: Price, book: Book | None, at_ms: int) -> Tariff | None:
    if price.input_usd_mtok is not None and price.output_usd_mtok is not None:
        return _flat(_configured(price, price.input_usd_mtok, price.output_usd_mtok), CONFIGURED)
    if price.free:
        return _flat(_nothing(), FREE)
    if price.book is not None and book is not None:
        return book.tariff(price.book, at_ms)
    return None


def _scheduled(price: Price, book: Book | None, at_ms: int) -> Tariff | None:
    """Lay what the configuration says of dates, hours and region over a price."""
    window = hours.window_at(price, at_ms)
    own = window.price if window is not None else None
    tariff = _plain(own or hours.begun(price, at_ms), book, at_ms)
    if tariff is None:
        return None
    factors = [price.factor] if window is None else [window.factor, price.factor]
    steps = tariff.steps
    for factor in factors:
        if factor is not None:
            steps = tuple(Step(above_tokens=s.above_tokens, rates=_times(s.rates, factor)) for s in steps)
    said = [tariff.source] if window is None else [tariff.source, hours.label(window, price.zone)]
    source = ", ".join([*said, *(f"x {plain(factor)}" for factor in factors if factor is not None)])
    rates = (f"{s.above_tokens}:{plain(r)}" for s in steps for r in msgspec.structs.astuple(s.rates))
    text = ";".join([tariff.digest, source, *rates])
    ends = [end for end in (tariff.valid_until_ms, hours.next_change_ms(price, at_ms)) if end is not None]
    return Tariff(
        steps=steps,
        source=source,
        digest="sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        valid_until_ms=min(ends, default=None),
    )


def _times(at: Rates, factor: Decimal) -> Rates:
    return Rates(**{name: _EXACT.multiply(getattr(at, name), factor) for name in Rates.__struct_fields__})


def tariffs_of(fleet: Fleet, book: Book | None, at_ms: int) -> Tariffs:
    """Return the tariffs of all deployments at a time, to be kept until they change."""
    found = {name: tariff_of(deployment, book, at_ms) for name, deployment in fleet.deployments.items()}
    ends = [t.valid_until_ms for t in found.values() if t is not None and t.valid_until_ms is not None]
    return Tariffs(by_deployment=found, valid_until_ms=min(ends, default=None))


def rates_of(
    deployment: Deployment, book: Book | None, at_ms: int, total_input_tokens: int = 0
) -> Rates | None:
    """Return the rates of one request of this size, or None for an unknown price."""
    tariff = tariff_of(deployment, book, at_ms)
    return None if tariff is None else tariff.at(total_input_tokens)


def cost(usage: Usage, at: Rates) -> Decimal:
    """Price every part at its rate: exact USD, the sum of the parts, never rounded."""
    unit, (fresh, read, written, written_1h, output, reasoning) = at.units
    total = usage.input_tokens * fresh + usage.output_tokens * output
    if usage.cache_read_tokens or usage.cache_write_tokens or usage.cache_write_1h_tokens:
        total += usage.cache_read_tokens * read + usage.cache_write_tokens * written
        total += usage.cache_write_1h_tokens * written_1h
    if usage.reasoning_tokens:
        total += usage.reasoning_tokens * reasoning
    return _EXACT.multiply(total, unit)


def reserve(input_tokens: int, max_output_tokens: int, at: Rates) -> Decimal:
    """Price the dearest thing an attempt of up to these sizes can turn out to be, in exact USD.

    With the rates of ``Tariff.ceiling(input_tokens)`` no usage within the sizes costs more.
    """
    dearest_in = max(
        at.input_usd_mtok, at.cached_input_usd_mtok, at.cache_write_usd_mtok, at.cache_write_1h_usd_mtok
    )
    return _exact(
        (input_tokens, dearest_in), (max_output_tokens, max(at.output_usd_mtok, at.reasoning_usd_mtok))
    )


def _exact(*parts: tuple[int, Decimal]) -> Decimal:
    total = ZERO
    for tokens, rate_usd_mtok in parts:
        if tokens:
            total = _EXACT.fma(rate_usd_mtok, tokens, total)
    return _EXACT.scaleb(total, -6)


def _nothing() -> Rates:
    return filled(input_usd_mtok=ZERO, output_usd_mtok=ZERO)


def _configured(price: Price, input_usd_mtok: Decimal, output_usd_mtok: Decimal) -> Rates:
    return filled(
        input_usd_mtok=input_usd_mtok,
        output_usd_mtok=output_usd_mtok,
        cached_input_usd_mtok=price.cached_input_usd_mtok,
        cache_write_usd_mtok=price.cache_write_usd_mtok,
        cache_write_1h_usd_mtok=price.cache_write_1h_usd_mtok,
        reasoning_usd_mtok=price.reasoning_usd_mtok,
    )


def _flat(at: Rates, source: str) -> Tariff:
    text = ";".join([source, *(f"{name}={plain(getattr(at, name))}" for name in Rates.__struct_fields__)])
    digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    return Tariff(steps=(Step(above_tokens=0, rates=at),), source=source, digest=digest)
