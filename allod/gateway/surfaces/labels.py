"""``Allod-*`` keys in a request's ``metadata``: read by admission, never sent on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from allod.domain.fleet import Effort

PREFIX: Final = "allod-"
_EFFORTS: Final[Mapping[str, Effort]] = {
    "none": "none",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}


def is_label(key: str) -> bool:
    """Tell whether a metadata key is one of ours, whatever its case."""
    return key[: len(PREFIX)].lower() == PREFIX


def without_labels(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is left of a metadata object when ours are taken out."""
    return {key: value for key, value in metadata.items() if not is_label(key)}


def effort_of(word: str | None) -> Effort | None:
    """Read OpenAI's ``reasoning_effort``; its ``minimal`` counts as ``low``."""
    return None if word is None else _EFFORTS[word]
