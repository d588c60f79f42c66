"""Estimates for tasks that ask for them (``learn = true``): whether asking the base first would pay.

Audits tell of each deployment whether it said what the reference did; the estimator learns from that, by
task, from hashed words of the prompt. Its only use here is for cost: where it expects the base to be worth
less than it costs, the reference is asked at once. It never spares a check, and delivers nothing by itself:
a wrong estimate costs money, not quality. Only deployments that law and limits left are estimated.

Hashed words are read under a secret of the home and kept in ``promises/estimator.bin``; a request whose
salts are gone (erased, pruned) is forgotten with the next fit. Fitting takes seconds, in a thread.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from logging import getLogger
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import AllodError
from allod.domain.money import ZERO
from allod.gateway.estimates.gathering import counts_of
from allod.gateway.estimates.kept import FIT_EVERY, LEAST
from allod.gateway.estimates.words import key_of
from allod.gateway.preparing import texts_of
from allod.gateway.promise.kept import folder
from allod.store.home import write_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from allod.gateway.entry import Ask
    from allod.routing.estimate import Estimate, Estimator, Seen
    from allod.routing.features import Features
    from allod.store.home import Home
    from allod.store.store import Store

FLUSH_S: Final = 5.0
LOG: Final = getLogger("allod")
_PLACES: Final = Decimal("0.001")


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What was estimated of a request and read from it; all of it stands in the receipt (I8).

    Attributes:
        kept: probability that the base says what the reference would, ``low`` and ``high`` its 90 % interval.
        n: outcomes behind it, weighed by age.
        first_usd: what asking the base (and second) costs; ``reference_usd`` what the reference does.
        skip: whether the reference is asked at once.

    """

    kept: Decimal
    low: Decimal
    high: Decimal
    n: int
    first_usd: Decimal
    reference_usd: Decimal
    skip: bool

    def said(self) -> dict[str, str]:
        """Return it as words for the receipt."""
        return {
            "estimate": f"{self.kept:f}", "estimate_low": f"{self.low:f}", "estimate_high": f"{self.high:f}",
            "estimate_n": f"{self.n}", "first_usd": f"{self.first_usd:f}",
            "reference_usd": f"{self.reference_usd:f}",
        }  # fmt: skip


def gate(one: Estimate, first_usd: Decimal, reference_usd: Decimal) -> Gate:
    """Decide whether asking the base first pays: a pure function of what the receipt says.

    Asking it costs ``first_usd`` and spares ``reference_usd`` where its answer is kept. The upper end of the
    interval is taken: only a base that hardly can pay is left out.
    """
    kept, low, high = (Decimal(repr(float(x))).quantize(_PLACES) for x in (one.success, one.low, one.high))
    return Gate(
        kept=kept, low=low, high=high, n=int(one.n), first_usd=first_usd, reference_usd=reference_usd,
        skip=high * reference_usd < first_usd,
    )  # fmt: skip


def skips(said: Mapping[str, str]) -> bool:
    """Make the decision of a gate again from what the receipt, or the decision record, says of it (I8)."""
    high, first, reference = (Decimal(said[name]) for name in ("estimate_high", "first_usd", "reference_usd"))
    return high * reference < first


class Learning:
    """The estimator of a running gateway; nothing is loaded before a task that learns is asked.

    Args:
        home, store: whose it is; requests whose salts are gone from it are forgotten.
        secret: of the home; hashed words cannot be guessed without it.

    """

    def __init__(self, home: Home, store: Store, secret: bytes) -> None:
        self._path, self._store = folder(home) / "estimator.bin", store
        self._key = key_of(secret)
        self._used: Estimator | None = None
        self._fitted: Estimator | None = None
        self._pending: list[Seen] = []
        self._counts: dict[tuple[str, str], int] = {}
        self._fitting: asyncio.Task[None] | None = None

    def load(self) -> None:
        """Read what is kept; otherwise the first request that needs it waits for that."""
        self._loaded()

    def features(self, ask: Ask) -> Features:
        """Read a request."""
        from allod.routing.features import Asked, features  # noqa: PLC0415 (numpy)

        text = "\n".join(text for text in texts_of(ask.parsed) if text)
        return features(Asked(text=text, task=ask.admitted.task), self._key)

    def estimate(self, read: Features, name: str) -> Estimate | None:
        """Estimate a request at a lawful deployment; None before there is evidence of it at this task."""
        used = self._loaded()
        if self._counts.get((read.task, name), 0) < LEAST:
            return None
        return used.predict(read, (name,))[name]

    def learn(
        self, receipt: str, at_ms: int, read: Features, outcomes: Mapping[str, tuple[float, int | None]]
    ) -> None:
        """Take in what an audit told."""
        from allod.routing.estimate import Seen  # noqa: PLC0415 (numpy)

        used = self._loaded()
        for name, (quality, tokens) in outcomes.items():
            seen = Seen(
                receipt=receipt, deployment=name, features=read, quality=quality, output_tokens=tokens,
                at_ms=at_ms,
            )  # fmt: skip
            used.update(seen)
            self._pending.append(seen)
            self._counts[read.task, name] = self._counts.get((read.task, name), 0) + 1
        if len(self._pending) >= FIT_EVERY and (self._fitting is None or self._fitting.done()):
            self._fitting = asyncio.get_running_loop().create_task(self._fit())

    def _loaded(self) -> Estimator:
        if self._used is None or self._fitted is None:
            body = _read(self._path)
            self._used, self._fitted = _estimator(body), _estimator(body)
            self._counts = counts_of(self._used.evidence)
        return self._used

    async def _fit(self) -> None:
        """Fit anew in a thread, then let what was told meanwhile count too."""
        told, self._pending = self._pending, []
        fresh = await asyncio.to_thread(self._fit_to, told, fit=True)
        for one in self._pending:
            fresh.update(one)
        self._used = fresh

    def _fit_to(self, told: Sequence[Seen], *, fit: bool) -> Estimator:
        assert self._fitted is not None
        for one in told:
            self._fitted.evidence.learn(one)
        evidence, database = self._fitted.evidence, self._store.database
        self._store.flush(FLUSH_S)  # what was asked just now is in no table yet, and is not forgotten for it
        known = {one.receipt: database.request(one.receipt) for one in evidence.all()}
        evidence.erase([name for name, row in known.items() if row is None or row.request_salt is None])
        if fit:
            self._fitted.fit()
        body = self._fitted.to_bytes()
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            write_file(self._path, body, 0o600)
        except OSError as fault:
            LOG.warning("what audits taught cannot be kept: %s", fault.strerror)
        return _estimator(body)

    async def close(self) -> None:
        """Keep what was told."""
        if self._fitting is not None:
            await asyncio.gather(self._fitting, return_exceptions=True)
        if self._pending:
            told, self._pending = self._pending, []
            await asyncio.to_thread(self._fit_to, told, fit=False)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _estimator(body: bytes | None) -> Estimator:
    """Read an estimator; what is not there, or not sound, begins anew and is learned again from audits."""
    from allod.routing.estimate import Estimator as Anew  # noqa: PLC0415 (numpy)

    if body is None:
        return Anew()
    try:
        return Anew.from_bytes(body)
    except AllodError:
        return Anew()


def cost_of(candidates: Sequence[Any], *names: str | None) -> Decimal | None:
    """Return what candidates of a plan are expected to cost together, in USD; None where one is unknown."""
    by = {one.deployment: one.cost_usd for one in candidates}
    known = [by.get(name) for name in names if name is not None]
    return None if None in known else sum((one for one in known if one is not None), ZERO)
