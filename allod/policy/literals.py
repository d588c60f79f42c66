"""Words a rule compares with what has known words only: a misspelt one would be compared for ever in vain.

``"UK"`` is no country code, ``"EU"`` arrives here as its countries, ``"hihg"`` is no risk: a forbid that
waits for one of them never forbids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from allod.domain import jurisdiction
from allod.domain.errors import Invalid
from allod.domain.facts import GRADES
from allod.domain.fleet import ENGINES, RISKS
from allod.policy.compiler import Expression
from allod.policy.facts import UNKNOWN_ORIGIN

_TESTS: Final = ("==", "!=", "contains", "containsAll", "containsAny")
_PLACES: Final = jurisdiction.COUNTRIES
_KNOWN: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(("codes", "maker", "home", "bloc", "banned_makers"), _PLACES),
    "origins": _PLACES | {UNKNOWN_ORIGIN},
    "grade": frozenset(GRADES),
    "risk": frozenset(RISKS),
    "engine": frozenset(ENGINES),
}
_CLASSES: Final = {".": {"left": {"Var": "context"}, "attr": "classes"}}


def check_literals(rule_id: str, policy: Expression) -> None:
    """Refuse a rule that compares an attribute with a word it cannot hold.

    Raises:
        Invalid: it does.

    """
    for read, words in _compared(policy["conditions"]):
        attr = read["."]["attr"]
        known = _KNOWN.get(attr)
        for word in words if known is not None else ():
            if known is not None and word not in known:
                places = "country codes; a bloc arrives as its countries"
                raise Invalid(
                    f"rule {rule_id!r} compares {attr} with {word[:64]!r}",
                    f"expected {places if known >= _PLACES else ', '.join(sorted(known))}",
                    "correct the word",
                )


def classes_tested(policy: Expression) -> frozenset[str]:
    """Return the data classes a rule asks for by name."""
    found = (words for read, words in _compared(policy["conditions"]) if read == _CLASSES)
    return frozenset(word for words in found for word in words)


def _compared(node: Any) -> Iterator[tuple[Expression, tuple[str, ...]]]:
    """Go through every comparison of something that is read with words that stand there."""
    below: Iterable[Any] = ()
    if isinstance(node, list):
        below = node
    elif isinstance(node, dict):
        below = node.values()
        for name in _TESTS:
            sides = node.get(name)
            if isinstance(sides, dict) and set(sides) == {"left", "right"}:
                for read, words in (
                    (sides["left"], sides["right"]),
                    (sides["right"], sides["left"]),
                ):
                    if isinstance(read, dict) and "." in read:
                        yield read, tuple(_words(words))
    for item in below:
        yield from _compared(item)


def _words(node: Any) -> Iterator[str]:
    match node:
        case {"Value": str(word)}:
            yield word
        case {"Set": [*items]}:
            for item in items:
                yield from _words(item)
