"""Tokenizer drift: whether a deployment bills more tokens for the same text than it used to.

Nobody announces a new tokenizer, and a price per token hides it. So each deployment gets a baseline learned
from its own traffic: tokens billed as a linear function of what the request's bytes are (``shape``), fitted
on relative errors, times a factor for each group of requests (an application's task), since vocabulary is
not in the shape. After that each request has a residual ``r = ln(billed / expected)``, and two CUSUM tests
(Page, 1954) watch for a lasting rise or fall beyond ``TOLERANCE``, which is left to changes of what is asked.
A group that was not there before first gets its factor and is watched then: new work is no new tokenizer.

Threshold: with residuals of standard deviation s, clipped at ``CLIP`` of them, and k = ``TOLERANCE``, the
chance of a false alarm within N requests is at most N exp(-2 k h / s) (Lundberg's bound for the maximum of
a random walk with drift -k), h in units of s. ``h`` is chosen for ``MONTH`` requests and ``FALSE_ALARMS``. A
rise by d > k is then found after about h s / (d - k) requests, never before ``LEAST_RUN``:
``Watch.found_within``. Residuals that follow one another (one job of one kind) break the bound; the tolerance
and the groups are there for them.

The baseline goes on learning, but only from requests that are two blocks old and that no test suspects; so a
step is not learned before it is found. A rise slower than ``TOLERANCE`` over two blocks is learned and not
found: ``Watch.since_start`` shows it, compared with the first baseline.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

TOLERANCE: Final = 0.12
"""Lasting change of tokens per text, as a logarithm, that is put down to a change of what is asked."""
CLIP: Final = 3.0
MONTH: Final = 10_000_000
FALSE_ALARMS: Final = 0.01
WARM: Final = 150
"""Requests of the first baseline."""
BLOCK: Final = 200
LEAST_TOKENS: Final = 8
"""Reports of fewer tokens say nothing of a tokenizer."""
LEAST_DEVIATION: Final = 0.1
LEAST_RUN: Final = 60
"""Requests that a sum must have been rising for."""
LATELY: Final = 15
"""Requests whose mean must lie beyond the tolerance when a change is found: a burst of odd ones is none."""
GROUP_WARM: Final = 40
GROUP_ERROR: Final = 0.02
"""Standard error of a group's factor, as a logarithm, from which on its requests are watched."""
MOST_GROUPS: Final = 128
REST: Final = ""
"""The group of all that are beyond ``MOST_GROUPS``."""
MEMORY: Final = 5_000.0
"""Requests the baseline remembers: what is older weighs less and less."""
READ_BYTES: Final = 65_536

_DIGITS: Final = b"0123456789"
_SPACES: Final = b" \n\t\r"
_PUNCTUATION: Final = b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_ASCII: Final = bytes(range(128))
_TWO: Final = bytes(range(0xC2, 0xE0))
_THREE: Final = bytes(range(0xE0, 0xF0))
_PRIOR: Final = (12.0, 0.19, 0.6, 0.05, 0.5, 0.6, 0.9, 2.0)
"""Tokens per request, letter, digit, space, mark, and character of 2, 3 and 4 bytes, before any traffic."""
_TRUST: Final = (0.5, 2.0, 1.0, 0.5, 1.0, 1.0, 1.0, 0.5)
"""How many requests' worth the prior counts for, by feature."""
_N: Final = len(_PRIOR)

Shape = tuple[float, ...]
"""One, and the number of ASCII letters, digits, spaces, marks, characters of 2, of 3, of 4 bytes in UTF-8."""


def shape(raw: bytes) -> Shape:
    """Count what a text is made of; of more than ``READ_BYTES`` a prefix is counted and scaled."""
    size = len(raw)
    if size == 0:
        return (1.0,) + (0.0,) * (_N - 1)
    read = raw[:READ_BYTES] if size > READ_BYTES else raw
    scale, length = size / len(read), len(read)
    digits = length - len(read.translate(None, _DIGITS))
    spaces = length - len(read.translate(None, _SPACES))
    marks = length - len(read.translate(None, _PUNCTUATION))
    if read.isascii():
        two = three = four = 0
        letters = length - digits - spaces - marks
    else:
        high = read.translate(None, _ASCII)
        two = len(high) - len(high.translate(None, _TWO))
        three = len(high) - len(high.translate(None, _THREE))
        four = max(0, (len(high) - 2 * two - 3 * three) // 4)
        letters = length - len(high) - digits - spaces - marks
    return (1.0, *(scale * n for n in (letters, digits, spaces, marks, two, three, four)))


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """Normal equations of relative errors: upper half of the matrix by rows, right side, how many."""

    matrix: tuple[float, ...] = (0.0,) * (_N * (_N + 1) // 2)
    right: tuple[float, ...] = (0.0,) * _N
    count: float = 0.0

    def plus(self, other: Sums, keep: float = 1.0) -> Sums:
        """Add another's requests, after what is here was weighed down to ``keep``."""
        return Sums(
            matrix=tuple(keep * a + b for a, b in zip(self.matrix, other.matrix, strict=True)),
            right=tuple(keep * a + b for a, b in zip(self.right, other.right, strict=True)),
            count=keep * self.count + other.count,
        )

    def weights(self) -> tuple[float, ...]:
        """Solve for the tokens of each feature, held near the prior as far as there is little traffic."""
        rows = [[0.0] * (_N + 1) for _ in range(_N)]
        at = 0
        for i in range(_N):
            for j in range(i, _N):
                rows[i][j] = rows[j][i] = self.matrix[at]
                at += 1
            rows[i][_N] = self.right[i]
            trust = _TRUST[i] / max(_PRIOR[i], 0.05) ** 2 * 0.01
            rows[i][i] += trust
            rows[i][_N] += trust * _PRIOR[i]
        return _solve(rows)


def _solve(rows: list[list[float]]) -> tuple[float, ...]:
    """Solve a positive definite system by elimination; ``rows`` has the right side as its last column."""
    for i in range(_N):
        pivot = rows[i][i]
        for j in range(i + 1, _N):
            factor = rows[j][i] / pivot
            if factor:
                rows[j] = [b - factor * a for a, b in zip(rows[i], rows[j], strict=True)]
    out = [0.0] * _N
    for i in reversed(range(_N)):
        known = sum(rows[i][j] * out[j] for j in range(i + 1, _N))
        out[i] = (rows[i][_N] - known) / rows[i][i]
    return tuple(out)


def sums_of(seen: Iterable[tuple[Shape, float, float]]) -> Sums:
    """Sum up requests: shape, tokens expected now, and the logarithm of billed over expected.

    One step of Gauss and Newton towards the least squares of the logarithms, which many small over- and few
    large underestimates do not bend.
    """
    matrix, right, count = [0.0] * (_N * (_N + 1) // 2), [0.0] * _N, 0.0
    for features, tokens, residual in seen:
        count += 1
        row, target = [f / tokens for f in features], 1 + residual
        at = 0
        for i, a in enumerate(row):
            right[i] += a * target
            for b in row[i:]:
                matrix[at] += a * b
                at += 1
    return Sums(matrix=tuple(matrix), right=tuple(right), count=count)


def expected(weights: tuple[float, ...], features: Shape) -> float:
    """Return the tokens a baseline expects, at least one."""
    return max(1.0, sum(w * f for w, f in zip(weights, features, strict=True)))


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """A lasting change that was found.

    Attributes:
        ratio: tokens for the same text after it, over those before; from the requests since it began, so a
            little too far from 1 where residuals vary much.
        began: number of the request at which the test began to rise, counted from 1.
        found: number of the request at which it was found.
        at_ms: when it was found, UTC.

    """

    ratio: float
    began: int
    found: int
    at_ms: int


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One CUSUM: the sum in units of the deviation, how many requests long, and their residuals' sum."""

    sum: float = 0.0
    length: int = 0
    total: float = 0.0

    def step(self, clipped: float, slack: float, residual: float) -> Run:
        """Take one more request."""
        value = self.sum + clipped - slack
        if value <= 0:
            return NOTHING
        return Run(sum=value, length=self.length + 1, total=self.total + residual)


NOTHING: Final = Run()


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """How much more tokens a group takes than its shape says, as a logarithm, from how many requests."""

    count: int = 0
    offset: float = 0.0

    def learned(self, residual: float) -> Group:
        """Take one more residual against shape and present offset."""
        count = self.count + 1
        return Group(count=count, offset=self.offset + residual / min(count, BLOCK))


class Seen(msgspec.Struct, frozen=True):
    """A request that is not learned from yet."""

    group: str
    features: Shape
    tokens: int


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one deployment's tokenizer: immutable, so that it can be replayed and saved.

    Attributes:
        count: requests seen in all.
        first: weights of the first baseline after the last alarm, or None while it warms up.
        weights: those of the current one.
        groups: the factors of groups of requests.
        deviation: standard deviation of the residuals, as a logarithm.
        up, down: the two tests.
        sums: what the baseline was learned from.
        lately: exponentially weighted mean of the residuals, clipped as in the tests.
        held: the requests not yet learned from; while warming up all of them.
        long: exponentially weighted mean of the logarithm of billed over ``first``'s expectation.

    """

    count: int = 0
    first: tuple[float, ...] | None = None
    weights: tuple[float, ...] = _PRIOR
    groups: dict[str, Group] = {}
    deviation: float = 0.0
    up: Run = NOTHING
    down: Run = NOTHING
    sums: Sums = Sums()
    lately: float = 0.0
    held: tuple[Seen, ...] = ()
    long: float = 0.0

    @property
    def threshold(self) -> float:
        """How far a sum may go, in units of ``deviation`` (see the module's text)."""
        return math.log(MONTH / FALSE_ALARMS) * self.deviation / (2 * TOLERANCE)

    def found_within(self, rise: float) -> float:
        """Return after about how many requests a rise (0.2 for a fifth more) is found; infinity for never."""
        over = math.log1p(rise) - TOLERANCE
        if over <= 0 or self.first is None:
            return math.inf
        return max(float(LEAST_RUN), self.threshold * self.deviation / over)

    @property
    def since_start(self) -> float:
        """Tokens for the same text of late, over what the first baseline expects."""
        return math.exp(self.long)

    def tokens(self, features: Shape, group: str = REST) -> float:
        """Return the input tokens that a request is expected to be billed."""
        return expected(self.weights, features) * math.exp(self.groups.get(group, Group()).offset)


def observe(
    watch: Watch, features: Shape, billed_tokens: int, at_ms: int, group: str = REST
) -> tuple[Watch, Alarm | None]:
    """Take in one answered request: its ``shape`` and the input tokens that were billed.

    After an alarm a new baseline is learned from what follows.
    """
    if billed_tokens < LEAST_TOKENS:
        return watch, None
    group = _within(watch.groups, group)
    seen, count = Seen(group, features, billed_tokens), watch.count + 1
    if watch.first is None:
        held = (*watch.held, seen)
        if len(held) < WARM:
            return msgspec.structs.replace(watch, count=count, held=held), None
        return _begin(count, held), None
    known = watch.groups.get(group, Group())
    residual = math.log(billed_tokens / expected(watch.weights, features)) - known.offset
    if known.count < max(GROUP_WARM, (watch.deviation / GROUP_ERROR) ** 2):
        groups = {**watch.groups, group: known.learned(max(-1.0, min(1.0, residual)))}
        return msgspec.structs.replace(watch, count=count, groups=groups), None
    clipped, slack = residual / watch.deviation, TOLERANCE / watch.deviation
    clipped = max(-CLIP, min(CLIP, clipped))
    up, down = watch.up.step(clipped, slack, residual), watch.down.step(-clipped, slack, -residual)
    lately = watch.lately + (clipped * watch.deviation - watch.lately) / LATELY
    for run, sign in ((up, 1), (down, -1)):
        if run.length >= LEAST_RUN and run.sum > watch.threshold and sign * lately > TOLERANCE:
            ratio = math.exp(sign * run.total / run.length)
            alarm = Alarm(ratio=ratio, began=count - run.length + 1, found=count, at_ms=at_ms)
            return Watch(count=count), alarm
    lasting = math.log(billed_tokens / expected(watch.first, features)) - known.offset
    now = msgspec.structs.replace(
        watch,
        count=count,
        up=up,
        down=down,
        lately=lately,
        held=(*watch.held, seen),
        long=watch.long + (lasting - watch.long) / BLOCK,
    )
    return (_learn(now) if len(now.held) >= 3 * BLOCK else now), None


def _within(groups: dict[str, Group], group: str) -> str:
    return group if group in groups or len(groups) < MOST_GROUPS else REST


def _begin(count: int, seen: tuple[Seen, ...]) -> Watch:
    """Make the first baseline, without what lies far off the rest."""
    weights: tuple[float, ...] = _PRIOR
    sums = Sums()
    residuals = [0.0] * len(seen)
    spread = math.inf
    for _ in range(6):
        guesses = [expected(weights, one.features) for one in seen]
        residuals = [math.log(one.tokens / guess) for one, guess in zip(seen, guesses, strict=True)]
        centre = sorted(residuals)[len(residuals) // 2]
        spread = _spread([r - centre for r in residuals])
        sums = sums_of(
            (one.features, guess, max(-1.0, min(1.0, r)))
            for one, guess, r in zip(seen, guesses, residuals, strict=True)
            if abs(r - centre) <= 4 * spread
        )
        weights = sums.weights()
    groups: dict[str, Group] = {}
    for one in seen:
        group = _within(groups, one.group)
        known = groups.get(group, Group())
        r = math.log(one.tokens / expected(weights, one.features)) - known.offset
        groups[group] = known.learned(max(-1.0, min(1.0, r)))
    return Watch(count=count, first=weights, weights=weights, groups=groups, deviation=spread, sums=sums)


def _spread(residuals: list[float]) -> float:
    """Estimate a standard deviation by the larger of two that a few outliers do not move much."""
    ordered = sorted(abs(r) for r in residuals)
    median = ordered[len(ordered) // 2] * 1.4826
    inner = ordered[: max(1, len(ordered) * 95 // 100)]
    trimmed = math.sqrt(sum(r * r for r in inner) / len(inner))
    return max(LEAST_DEVIATION, median, trimmed)


def _learn(watch: Watch) -> Watch:
    """Learn from the oldest block, unless a test suspects a change."""
    block, rest = watch.held[:BLOCK], watch.held[BLOCK:]
    if max(watch.up.sum, watch.down.sum) > watch.threshold / 2:
        return msgspec.structs.replace(watch, held=rest)
    groups, residuals, kept = dict(watch.groups), [], []
    for one in block:
        known, guess = groups.get(one.group, Group()), expected(watch.weights, one.features)
        r = math.log(one.tokens / guess) - known.offset
        residuals.append(r)
        if abs(r) <= 4 * watch.deviation:
            groups[one.group] = known.learned(r)
            kept.append((one.features, guess, r))
    sums = watch.sums.plus(sums_of(kept), max(0.0, 1 - BLOCK / MEMORY))
    spread = max(LEAST_DEVIATION, math.sqrt(0.9 * watch.deviation**2 + 0.1 * _spread(residuals) ** 2))
    return msgspec.structs.replace(
        watch, held=rest, groups=groups, sums=sums, weights=sums.weights(), deviation=spread
    )
