"""What is remembered of outcomes: a bounded sample of requests that any two nodes can join (I8).

Each request has a fixed rank, drawn from its receipt's hash and raised with time (forward decay, Cormode et
al. 2009, doi:10.1109/ICDE.2009.65; weighted sampling of Efraimidis and Spirakis 2006); the highest ranks are
kept. The state is therefore a function of the *set* of outcomes told, not of their order or of how often each
was told: joining two nodes equals telling one of them everything, and joining twice changes nothing. All
arithmetic is on whole numbers.
"""

from __future__ import annotations

import hashlib
import heapq
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.receipts.commitment import digest as digest_of
from allod.routing.features import BUCKETS, SHAPE_SIZE, Features

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT: Final = "allod-evidence-1"
REQUESTS: Final = 8192
"""Requests remembered (1 to 2 KiB each)."""
HALF_LIFE_DAYS: Final = 90
DAY_MS: Final = 86_400_000
UNITS: Final = 1000
"""Quality is kept in steps of 1/1000."""
MAX_TOKENS: Final = 1_000_000_000
_LONGEST_NAME: Final = 256
_LATEST_MS: Final = 1 << 48
_FRACTION: Final = 20
_MOST_BYTES: Final = 1 << 28
_FEATURE_BYTES: Final = 2 * BUCKETS


Key = tuple[str, int]
"""A request: its receipt and its time (told with another time, it is another request)."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One outcome as the log tells it: which deployment answered what kind of request, and how well.

    Attributes:
        receipt: id of the request. The same request at the same deployment counts once; if told
            differently, the greater (quality, tokens) stands, whatever the order.
        deployment: who answered.
        features: of the request.
        quality: 0..1 (1 is success), None where nobody judged the answer.
        output_tokens: billed length of the answer, None where unknown.
        at_ms: when the *request* came, UTC ms: the same for all its outcomes.

    """

    receipt: str
    deployment: str
    features: Features
    quality: float | None
    output_tokens: int | None = None
    at_ms: int = 0


class Remembered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request with its outcomes by deployment: (deployment, quality in 1/1000, tokens); -1 is unknown."""

    receipt: str
    at_ms: int
    features: Features
    outcomes: tuple[tuple[str, int, int], ...]


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    requests: int
    half_life_days: int
    remembered: tuple[Remembered, ...]


def rank(receipt: str, at_ms: int, half_life_days: int = HALF_LIFE_DAYS) -> int:
    """Return a request's rank: its time in half-lives less log2 of an exponential draw, in steps of 2^-20.

    Both logarithms are taken piecewise linear in whole numbers, so that every machine agrees.
    """
    drawn = int.from_bytes(hashlib.blake2b(receipt.encode(), digest_size=8).digest(), "big") | 1
    # -log2 of a uniform number, then log2 of that: the rank of an exponential variable.
    exponential = (64 << _FRACTION) - _log2(drawn)
    half_lives = (at_ms << _FRACTION) // (half_life_days * DAY_MS)
    return half_lives - (_log2(max(1, exponential)) - (_FRACTION << _FRACTION))


def _log2(number: int) -> int:
    whole = number.bit_length() - 1
    rest = number - (1 << whole)
    return (whole << _FRACTION) + ((rest << _FRACTION) >> whole)


class Evidence:
    """The sample, and its joining."""

    def __init__(self, requests: int = REQUESTS, half_life_days: int = HALF_LIFE_DAYS) -> None:
        if not 1 <= requests <= 1 << 20 or not 1 <= half_life_days <= 36500:  # noqa: PLR2004
            raise Invalid(
                "evidence needs 1 to 1,048,576 requests and 1 to 36,500 days", "", "correct the limits"
            )
        self.requests, self.half_life_days = requests, half_life_days
        self._kept: dict[Key, Remembered] = {}
        self._heap: list[tuple[int, Key]] = []

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, receipt: str, at_ms: int) -> Remembered | None:
        """Return a remembered request, None where there is none."""
        return self._kept.get((receipt, at_ms))

    def learn(self, seen: Seen) -> tuple[Key, ...]:
        """Take in one outcome; returns the requests that were forgotten for it (perhaps its own).

        Raises:
            Invalid: a number out of range, or features of another shape.

        """
        quality = -1 if seen.quality is None else _quality(seen.quality)
        tokens = -1 if seen.output_tokens is None else seen.output_tokens
        _check(seen.receipt, seen.deployment, seen.at_ms, tokens, seen.features)
        return self._join(
            Remembered(
                receipt=seen.receipt, at_ms=seen.at_ms, features=seen.features,
                outcomes=((seen.deployment, quality, tokens),),
            )
        )  # fmt: skip

    def merge(self, other: Evidence) -> tuple[Key, ...]:
        """Join what another node remembers; returns what was forgotten for it.

        Raises:
            Invalid: the other keeps another number of requests, or forgets at another pace.

        """
        if (other.requests, other.half_life_days) != (self.requests, self.half_life_days):
            raise Invalid(
                "evidence of other limits cannot be joined",
                f"got {other.requests} requests and {other.half_life_days} days, "
                f"expected {self.requests} and {self.half_life_days}",
                "set the same limits on all nodes",
            )
        return tuple(lost for one in other.all() for lost in self._join(one))

    def put(self, one: Remembered) -> tuple[Key, ...]:
        """Take in a request as it was remembered elsewhere; returns what was forgotten for it."""
        return self._join(one)

    def all(self) -> tuple[Remembered, ...]:
        """Return what is remembered, ascending by receipt and time."""
        return tuple(self._kept[name] for name in sorted(self._kept))

    def erase(self, receipts: Iterable[str]) -> None:
        """Forget requests for good (a person's erasure); tell every node, or joining brings them back."""
        gone = frozenset(receipts)
        self._kept = {key: one for key, one in self._kept.items() if key[0] not in gone}

    def _join(self, one: Remembered) -> tuple[Key, ...]:
        key = one.receipt, one.at_ms
        known = self._kept.get(key)
        if known is not None:
            self._kept[key] = _joined(known, one)
            return ()
        self._kept[key] = one
        heapq.heappush(self._heap, (rank(one.receipt, one.at_ms, self.half_life_days), key))
        lost = []
        while len(self._kept) > self.requests:
            _, lowest = heapq.heappop(self._heap)
            if self._kept.pop(lowest, None) is not None:
                lost.append(lowest)
        return tuple(lost)

    def to_bytes(self) -> bytes:
        """Write as canonical bytes: equal evidence has equal bytes."""
        kept = _Kept(
            format=FORMAT, requests=self.requests, half_life_days=self.half_life_days, remembered=self.all()
        )
        return msgspec.msgpack.encode(kept, order="deterministic")

    @property
    def digest(self) -> str:
        """``sha256:`` of the canonical bytes."""
        return digest_of(self.to_bytes())

    @classmethod
    def from_bytes(cls, body: bytes) -> Evidence:
        """Read back.

        Raises:
            Integrity: these are not canonical bytes of evidence.

        """
        if len(body) > _MOST_BYTES:
            raise Integrity("the evidence is too large", f"got {len(body)} bytes, at most {_MOST_BYTES}", "")
        try:
            kept = msgspec.msgpack.decode(body, type=_Kept)
            if kept.format != FORMAT:
                raise Integrity(
                    "the evidence has another format", f"got {kept.format}, expected {FORMAT}", ""
                )
            out = cls(kept.requests, kept.half_life_days)
            for one in kept.remembered:
                for deployment, quality, tokens in one.outcomes:
                    _check(one.receipt, deployment, one.at_ms, tokens, one.features)
                    _quality(max(0, quality) / UNITS)
                out._join(one)
        except (msgspec.MsgspecError, Invalid, UnicodeError, RecursionError) as fault:
            raise Integrity(
                "the evidence cannot be read", str(fault), "restore it, or replay it from the log"
            ) from fault
        if out.to_bytes() != body:
            raise Integrity(
                "the evidence is not canonical", "it was written by something else", "replay it from the log"
            )
        return out


def _joined(a: Remembered, b: Remembered) -> Remembered:
    """Join two accounts of a request: of each thing the greater one."""
    outcomes = {name: (quality, tokens) for name, quality, tokens in a.outcomes}
    for name, quality, tokens in b.outcomes:
        outcomes[name] = max(outcomes.get(name, (-1, -1)), (quality, tokens))
    first, second = (_packed(one.features) for one in (a, b))
    return Remembered(
        receipt=a.receipt, at_ms=a.at_ms, features=a.features if first >= second else b.features,
        outcomes=tuple((name, *outcomes[name]) for name in sorted(outcomes)),
    )  # fmt: skip


def _packed(of: Features) -> tuple[str, bytes, bytes, bytes]:
    return of.task, of.buckets, of.counts, of.shape


def _quality(quality: float) -> int:
    if not 0 <= quality <= 1:
        raise Invalid("quality is a number from 0 to 1", f"got {quality}", "correct the outcome")
    return round(quality * UNITS)


def _check(receipt: str, deployment: str, at_ms: int, tokens: int, of: Features) -> None:
    if not 0 < len(receipt) <= _LONGEST_NAME or not 0 < len(deployment) <= _LONGEST_NAME:
        raise Invalid(
            "an outcome names a receipt and a deployment", "empty or over 256 characters", "name both"
        )
    if not 0 <= at_ms < _LATEST_MS or not -1 <= tokens <= MAX_TOKENS or len(of.task) > _LONGEST_NAME:
        raise Invalid(
            "an outcome's time or length is out of range", f"got {at_ms} ms, {tokens} tokens", "correct it"
        )
    check_features(of)


def check_features(of: Features) -> None:
    """Refuse features of another shape, out of order or not finite.

    Raises:
        Invalid: what is wrong with them.

    """
    import numpy as np  # noqa: PLC0415 (heavy)

    fits = len(of.buckets) == 2 * len(of.counts) <= _FEATURE_BYTES and len(of.shape) == 4 * SHAPE_SIZE
    if fits:
        buckets = np.frombuffer(of.buckets, "<u2")
        ascending = bool((buckets[1:] > buckets[:-1]).all()) and (not len(buckets) or buckets[-1] < BUCKETS)
        fits = ascending and 0 not in of.counts and bool(np.isfinite(np.frombuffer(of.shape, "<f4")).all())
    if not fits:
        raise Invalid(
            "these are not features of a request",
            "another shape, order or number",
            "make them with features()",
        )
