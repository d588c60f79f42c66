"""How sure a model was of the words of its answer: the token margin, from the log probabilities it reports.

A token's margin is its log probability less that of the likeliest other one that was reported, in nats; it is
negative where another was likelier. The answer's is the least of them, or their mean. It is a number of the
model about itself: which value goes with being right is proven by audits, on each task, or not at all.

Log probabilities count only if their tokens spell the answer, so that what was left out does not look sure.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

By = Literal["least", "mean"]
ALTERNATIVES: Final = 2
"""So many likeliest tokens must be asked for."""
MAX_TOKENS: Final = 65_536
MOST: Final = Decimal(100)
_PLACES: Final = Decimal("0.001")


def margin(text: str, entries: Sequence[Any], by: By = "least") -> Decimal | None:
    """Return an answer's margin in nats, to three places and at most ``MOST``; None where it is not known.

    Args:
        text: the answer. entries: of OpenAI's ``logprobs.content``, as reported, nothing of it trusted.
        by: the least of the tokens' margins, or their mean.

    """
    own = _of_the_answer(text.strip(), entries) if len(entries) <= MAX_TOKENS else None
    if not own:
        return None
    found = [_one(entry) for entry in own]
    known = [one for one in found if one is not None]
    if len(known) != len(found):
        return None
    value = min(known) if by == "least" else sum(known) / len(known)
    return min(MOST, Decimal(repr(value)).quantize(_PLACES))


def _of_the_answer(text: str, entries: Sequence[Any]) -> list[Any] | None:
    """Return the entries whose tokens spell the answer: the last ones, as thoughts may come before it."""
    wanted, left = text.encode("utf-8", "surrogatepass"), list(entries)
    while left and not _bytes(left[-1]).strip():
        left.pop()
    tail: list[Any] = []
    spelled, size = list[bytes](), 0
    for entry in reversed(left):
        piece = _bytes(entry)
        tail.append(entry)
        spelled.append(piece)
        size += len(piece)
        if size >= len(wanted):
            break
    said = b"".join(reversed(spelled)).strip()
    return tail if wanted and said == wanted else None


def _bytes(entry: Any) -> bytes:
    if not isinstance(entry, dict):
        return b"\xff"
    raw, token = entry.get("bytes"), entry.get("token")
    if isinstance(raw, list) and all(isinstance(one, int) and 0 <= one <= 255 for one in raw):  # noqa: PLR2004
        return bytes(raw)
    return token.encode("utf-8", "surrogatepass") if isinstance(token, str) else b"\xff"


def _one(entry: Any) -> float | None:
    """Return a token's margin; None where too little was reported of it."""
    chosen, others = entry.get("logprob"), entry.get("top_logprobs")
    if not _number(chosen) or not isinstance(others, list) or len(others) < ALTERNATIVES:
        return None
    rest: list[float] = []
    seen = False
    for one in others:
        value = one.get("logprob") if isinstance(one, dict) else None
        if value is None or not _number(value):
            return None
        if not seen and one.get("token") == entry.get("token"):
            seen = True
        else:
            rest.append(float(value))
    return float(chosen) - max(rest)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e6 < value <= 1e-6  # noqa: PLR2004
