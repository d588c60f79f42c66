"""What a model behind the Messages API accepts, told from its name.

The API has no field that says so, and a wrong guess is a 400. Sources: the provider's documentation pages
"Thinking" (section "Configuring thinking" and "Sampling parameters"), "Adaptive thinking", "Effort" and
"Structured outputs", read in November 2026:

- up to version 4.5 thinking is asked for with a token budget; from 4.6 on it is adaptive, steered by effort,
  and from 4.7 on the budget form is an error;
- the Fable and Mythos families always think: ``disabled`` is an error there;
- from 4.7 on, and in those families, sampling parameters are errors; from 4.5 on ``temperature`` and
  ``top_p`` exclude each other;
- ``output_config.format`` (structured outputs) exists from 4.5 on.

A Claude name without a version is taken for the newest; a name that is not Claude's (a compatible server)
for the oldest form of the protocol, which all of them speak.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from allod.domain.fleet import Effort

Version = tuple[int, int]
NEWEST: Final[Version] = (99, 0)
_ALWAYS_THINKING: Final = ("fable", "mythos")
_EFFORTS_4_6: Final[dict[Effort, str]] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "max",
}
_EFFORTS: Final[dict[Effort, str]] = {**_EFFORTS_4_6, "xhigh": "xhigh"}
BUDGETS: Final[dict[Effort, int]] = {
    "low": 2_048,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 63_999,
}
"""Thinking budgets in tokens per depth, for models of the budget form; never above what the call allows."""
CEILINGS: Final[dict[Effort, int]] = {"low": 4_096, "medium": 16_384, "high": 32_768}
"""Largest budget a caller's own request keeps at a depth; the deeper ones set no ceiling."""
SMALLEST_BUDGET_TOKENS: Final = 1_024


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What one model accepts.

    Attributes:
        thinking: the form in which depth is asked for.
        can_disable: whether thinking can be switched off.
        display: whether ``thinking.display`` is known.
        sampling: whether ``temperature``, ``top_p`` and ``top_k`` are.
        one_sampling: whether ``temperature`` and ``top_p`` exclude each other.
        structured: whether ``output_config.format`` is known.
        efforts: our depth to the operator's, for the adaptive form.

    """

    thinking: Literal["budget", "adaptive"]
    can_disable: bool = True
    display: bool = False
    sampling: bool = True
    one_sampling: bool = False
    structured: bool = False
    efforts: dict[Effort, str] = {}


def traits(model: str) -> Traits:
    """Tell what a model accepts from its name (pure; see the module's text for the rules and sources)."""
    name = model.lower()
    if "claude" not in name:
        return Traits(thinking="budget")
    version = _version(name)
    always = any(family in name for family in _ALWAYS_THINKING)
    modern = always or version >= (4, 7)
    return Traits(
        thinking="adaptive" if always or version >= (4, 6) else "budget",
        can_disable=not always,
        display=modern,
        sampling=not modern,
        one_sampling=version >= (4, 5),
        structured=always or version >= (4, 5),
        efforts=_EFFORTS if modern else _EFFORTS_4_6,
    )


def _version(name: str) -> Version:
    numbers = [int(token) for token in re.split(r"[^a-z0-9]+", name) if token.isdigit() and len(token) <= 2]  # noqa: PLR2004 (longer is a date)
    if not numbers:
        return NEWEST
    return numbers[0], numbers[1] if len(numbers) > 1 else 0
