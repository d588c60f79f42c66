"""How depth is asked of a Gemini model, told from its name.

Sources: the provider's pages "Gemini thinking" and "Thought signatures", November 2026:

- series 2.5 takes ``thinkingBudget`` in tokens; 0 switches off, but not on the Pro model, whose least is 128;
- from series 3 on it is ``thinkingLevel``; none switches off, ``minimal`` (on Flash) or ``low`` is the least;
  the two settings exclude each other, and from series 3 on a tool call goes back with its thought signature;
- older models do not think and refuse the setting.

A Gemini name without a version is taken for the newest, another name for one that takes a budget.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from allod.domain.fleet import Effort

BUDGETS: Final[dict[Effort, int]] = {
    "low": 1_024,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 24_576,
    "max": 24_576,
}
"""Thinking budgets in tokens per depth; 24,576 is the largest every thinking model of series 2.5 takes."""
LEAST_PRO_BUDGET_TOKENS: Final = 128
_LEVELS: Final[dict[Effort, str]] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
_SERIES: Final = re.compile(r"gemini-(\d+)(?:\.(\d+))?")


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is told to think.

    Attributes:
        config: ``thinkingConfig`` to send, None where the model refuses any.
        off: whether the model does not think when told not to.
        signatures: whether its tool calls must go back with a thought signature.

    """

    config: dict[str, Any] | None
    off: bool = True
    signatures: bool = False


def thinking(model: str, effort: Effort | None, max_output_tokens: int, most: int | None = None) -> Thinking:
    """Tell ``thinkingConfig`` for a model and a depth; budgets leave a quarter of the limit to the answer.

    ``most`` stands in the place of the budget of the depth.
    """
    name = model.lower()
    wanted = effort if effort != "none" else None
    if "gemini" in name:
        found = _SERIES.search(name)
        series = (int(found[1]), int(found[2] or 0)) if found else (99, 0)
        if series >= (3, 0):
            return _level(name, series, wanted)
        if series < (2, 5):
            return Thinking(config=None)
    least = LEAST_PRO_BUDGET_TOKENS if "gemini" in name and "pro" in name else 0
    budget = least
    if wanted is not None:
        budget = max(least, min(most or BUDGETS[wanted], max_output_tokens - max_output_tokens // 4))
    shown = {"includeThoughts": True} if wanted is not None else {}
    return Thinking(config={"thinkingBudget": budget, **shown}, off=least == 0)


def _level(name: str, series: tuple[int, int], wanted: Effort | None) -> Thinking:
    pro = "pro" in name
    level = _LEVELS[wanted] if wanted is not None else "low" if pro else "minimal"
    if pro and series == (3, 0) and level == "medium":
        level = "high"  # the first Pro of the series knows only two levels
    shown = {"includeThoughts": True} if wanted is not None else {}
    return Thinking(config={"thinkingLevel": level, **shown}, off=False, signatures=True)
