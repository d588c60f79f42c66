"""Does a draft pay? Paired timings of the same prompts with and without it, and what follows from them.

Each prompt is answered both ways twice in every round, one right after the other, so that what else the
machine does meets both alike; what counts is log(plain / draft) of the time of a token. Two things make it
differ from chance: which prompts were taken, and in which round; an own engine is loaded anew for each pass,
for where a process lands among the processors and in memory stays with it for its life. The interval adds
both: half its width is the root of the summed squares of Student's intervals (W. S. Gosset, "The probable
error of a mean", Biometrika 6, 1908) over the prompts' means and over the rounds' means, on the log scale.
What is neither is in both, so it is rather too wide. It holds for prompts of kinds like those measured.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Invalid
from allod.domain.probability import beta_quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

LEAST_SPEED_UP: Final = 1.1
"""A draft costs memory and brings another file into the engine: below this it is not worth either."""
CONFIDENCE: Final = 0.95
LEAST_PROMPTS: Final = 5
LEAST_ROUNDS: Final = 3
_SOME: Final = 2
"""There is no deviation of one."""
MAX_AGE_DAYS: Final = 90
"""Kernels, firmware and neighbours change without a digest of ours: a measurement is made anew by then."""


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """One answer: seconds from asking to its end, its tokens, and what the engine says of drafting.

    ``engine_tok_s`` is the engine's own decoding speed, tokens/s; None where it tells none. ``drafted`` and
    ``accepted`` are tokens proposed by the draft and kept by the model.
    """

    text: str
    seconds: float
    tokens: int
    engine_tok_s: float | None = None
    drafted: int = 0
    accepted: int = 0

    @property
    def per_token(self) -> float:
        """Seconds of a token; the prompt's share is in it."""
        return self.seconds / self.tokens


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt in one round, answered both ways."""

    prompt: int
    kind: str
    round: int
    plain: Timed
    draft: Timed

    @property
    def log_ratio(self) -> float:
        """Natural logarithm of how many times as fast a token came with the draft."""
        return math.log(self.plain.per_token / self.draft.per_token)


class Ratio(msgspec.Struct, frozen=True):
    """A ratio with its 95 % interval."""

    value: float
    low: float
    high: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Prompts of one kind, or all of them.

    ``plain_tok_s`` and ``draft_tok_s`` are tokens by seconds, prompts included, of everything measured.
    The interval of ``speed_up`` is over prompts and rounds for all of them, and over rounds for a kind, which
    has too few prompts to speak for others. ``acceptance`` is None where nothing was drafted, or nobody
    tells; of a kind it is what these prompts gave, without an interval.
    """

    kind: str
    prompts: int
    plain_tok_s: float
    draft_tok_s: float
    speed_up: Ratio | None
    acceptance: Ratio | None
    drafted: int
    accepted: int


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a measurement found: all prompts, each kind, and prompts whose answers differ."""

    whole: Row
    kinds: tuple[Row, ...]
    rounds: int
    different: tuple[int, ...]
    engine_speed_up: Ratio | None

    @property
    def speed_up(self) -> Ratio:
        """The speed-up over all prompts."""
        assert self.whole.speed_up is not None
        return self.whole.speed_up


def evaluate(pairs: Sequence[Pair]) -> Found:
    """Find what pairs say; prompts that were ever answered without a token are left out.

    Raises:
        Invalid: fewer than 5 prompts or 3 rounds are left, or a time is not above zero.

    """
    mute = {one.prompt for one in pairs if not (one.plain.tokens > 0 and one.draft.tokens > 0)}
    useful = [one for one in pairs if one.prompt not in mute]
    prompts, rounds = {one.prompt for one in useful}, {one.round for one in useful}
    if len(prompts) < LEAST_PROMPTS or len(rounds) < LEAST_ROUNDS:
        raise Invalid(
            "too little was measured to say anything",
            f"got {len(prompts)} prompts that were answered, in {len(rounds)} rounds; "
            f"expected at least {LEAST_PROMPTS} in {LEAST_ROUNDS}",
            "give more prompts that the model answers, or more rounds",
        )
    if any(not (0 < t.seconds < math.inf) for one in useful for t in (one.plain, one.draft)):
        raise Invalid("a time was measured that is none", "expected seconds above zero", "measure again")
    kinds = dict.fromkeys(one.kind for one in useful)
    differ = {one.prompt for one in pairs if one.plain.text != one.draft.text}
    return Found(
        whole=_row("all", useful, _crossed(useful), acceptance(useful)),
        kinds=tuple(_of_kind(kind, [one for one in useful if one.kind == kind]) for kind in kinds),
        rounds=len(rounds),
        different=tuple(sorted(differ)),
        engine_speed_up=_engine(useful),
    )


def decide(
    low: float, different: int, *, drafted: int | None = None, accept_different: bool = False
) -> tuple[bool, str]:
    """Say whether a draft is to be used, and why: the interval's lower bound must be above 1.1.

    Args:
        low: lower bound of the speed-up; one that is no number counts as none.
        different: prompts whose answers differ.
        drafted: tokens the draft proposed; an engine says nothing of a draft it cannot use, and drafts none.
            None where nobody tells.
        accept_different: whether somebody said that this may be.

    """
    if drafted == 0:
        return (
            False,
            "not one token was drafted: another vocabulary, or the engine cannot use it",
        )
    if not low > LEAST_SPEED_UP:
        return False, f"the lower bound of its speed-up, {low:.2f}, is not above {LEAST_SPEED_UP}"
    if different and not accept_different:
        return False, f"the answers to {different} prompts are not the same with it"
    return True, f"the lower bound of its speed-up, {low:.2f}, is above {LEAST_SPEED_UP}"


@lru_cache(maxsize=256)
def student(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Return the two-sided quantile of Student's t, by the beta distribution (DLMF 8.17, with x = f/(f+t^2)).

    ``freedom`` is degrees of freedom, at least 1.
    """
    x = beta_quantile(1 - confidence, freedom / 2, 0.5)
    return math.sqrt(freedom * (1 - x) / x)


def interval(logs: Sequence[float]) -> Ratio | None:
    """Return the geometric mean of ratios given as logarithms, with its interval; None for fewer than two."""
    return None if len(logs) < _SOME else _ratio(fmean(logs), _reach(logs))


def acceptance(pairs: Iterable[Pair]) -> Ratio | None:
    """Return which part of the drafted tokens was kept; None where nothing was drafted.

    The interval is that of a ratio of sums over prompts, linearised (W. G. Cochran, "Sampling Techniques",
    chapter 6), cut to [0, 1].
    """
    sums: dict[int, list[int]] = {}
    for one in pairs:
        drafted, kept = sums.setdefault(one.prompt, [0, 0])
        sums[one.prompt] = [drafted + one.draft.drafted, kept + one.draft.accepted]
    drafted, kept, n = sum(d for d, _ in sums.values()), sum(k for _, k in sums.values()), len(sums)
    if not drafted:
        return None
    value = kept / drafted
    if n < _SOME:
        return Ratio(value, 0.0, 1.0)
    spread = math.sqrt(n / (n - 1) * sum((k - value * d) ** 2 for d, k in sums.values())) / drafted
    reach = student(n - 1) * spread
    return Ratio(value, max(0.0, value - reach), min(1.0, value + reach))


def _reach(logs: Sequence[float]) -> float:
    return student(len(logs) - 1) * stdev(logs) / math.sqrt(len(logs))


def _ratio(middle: float, reach: float) -> Ratio:
    return Ratio(math.exp(middle), math.exp(middle - reach), math.exp(middle + reach))


def _log_ratio(pair: Pair) -> float:
    return pair.log_ratio


def _crossed(pairs: Sequence[Pair], log_ratio: Callable[[Pair], float] = _log_ratio) -> Ratio | None:
    """Return the speed-up over prompts and rounds, for prompts and rounds like them."""
    by_prompt: dict[int, list[float]] = {}
    by_round: dict[int, list[float]] = {}
    for one in pairs:
        by_prompt.setdefault(one.prompt, []).append(log_ratio(one))
        by_round.setdefault(one.round, []).append(log_ratio(one))
    if min(len(by_prompt), len(by_round)) < _SOME:
        return None
    prompts, rounds = ([fmean(logs) for logs in by.values()] for by in (by_prompt, by_round))
    return _ratio(fmean(prompts), math.hypot(_reach(prompts), _reach(rounds)))


def _of_kind(kind: str, pairs: Sequence[Pair]) -> Row:
    """Describe one kind: its interval is over rounds, so it holds for these very prompts."""
    by_round: dict[int, list[float]] = {}
    for one in pairs:
        by_round.setdefault(one.round, []).append(one.log_ratio)
    kept = acceptance(pairs)
    alone = None if kept is None else Ratio(kept.value, kept.value, kept.value)
    return _row(kind, pairs, interval([fmean(logs) for logs in by_round.values()]), alone)


def _row(kind: str, pairs: Sequence[Pair], speed_up: Ratio | None, kept: Ratio | None) -> Row:
    return Row(
        kind=kind,
        prompts=len({one.prompt for one in pairs}),
        plain_tok_s=sum(p.plain.tokens for p in pairs) / sum(p.plain.seconds for p in pairs),
        draft_tok_s=sum(p.draft.tokens for p in pairs) / sum(p.draft.seconds for p in pairs),
        speed_up=speed_up,
        acceptance=kept,
        drafted=sum(one.draft.drafted for one in pairs),
        accepted=sum(one.draft.accepted for one in pairs),
    )


def _engine(pairs: Sequence[Pair]) -> Ratio | None:
    """Return the speed-up of decoding alone, by the engine's own clock; None where it tells none."""

    def log_ratio(one: Pair) -> float:
        assert one.plain.engine_tok_s is not None
        assert one.draft.engine_tok_s is not None
        return math.log(one.draft.engine_tok_s / one.plain.engine_tok_s)

    told = [one for one in pairs if one.plain.engine_tok_s and one.draft.engine_tok_s]
    return _crossed(told, log_ratio) if len(told) == len(pairs) else None
