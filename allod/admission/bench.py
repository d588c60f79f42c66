"""Entry points for an outside scorer: spans, and classes of a message.

allod.admission.bench:detect(text) -> [(start, end, type)]
allod.admission.bench:classes(text, label=None) -> set
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from allod.admission.detect import Detector
from allod.domain.classes import BASE_CLASSES, UNSCANNED, expand

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_CLASSES: Final = ("personal",)
"""The tenant of the benchmark: DESIGN's example, ``default_classes = ["personal"]``, base pack alone."""
_WORDS: Final = ("MARKING_", "HEALTH", "SPECIAL_CATEGORY", "INSIDER_INFORMATION", "TRADE_SECRET")


@lru_cache(maxsize=1)
def detector() -> Detector:
    """Return the detector that both entry points use, made at its first use."""
    return Detector()


def detect(text: str) -> list[tuple[int, int, str]]:
    """Return (start, end, type) of every identifier, contact, name and secret, in order of their place.

    Offsets are characters of ``text``, end exclusive. Markings and vocabulary, which raise classes but
    identify nobody, are left to ``classes``.
    """
    return [(f.start, f.end, f.type) for f in detector().scan(text).findings if not f.type.startswith(_WORDS)]


def classes(text: str, label: str | Iterable[str] | None = None) -> set[str]:
    """Return the expanded classes of a message: the tenant's default, the label and what was detected.

    ``label`` is a class or several (also comma-separated). Nothing is ever taken away: with the label
    ``public`` the default still holds, and a scan that did not finish adds ``unscanned``.

    Raises:
        ValueError: the label names no class.

    """
    said = [label] if isinstance(label, str) else list(label or ())
    names = {part.strip() for entry in said for part in entry.split(",") if part.strip()}
    unknown = names - BASE_CLASSES
    if unknown:
        raise ValueError(f"{min(unknown)!r} is not a data class")
    scan = detector().scan(text)
    extra = () if scan.complete else (UNSCANNED,)
    return set(expand((*DEFAULT_CLASSES, *names, *scan.classes, *extra)))
