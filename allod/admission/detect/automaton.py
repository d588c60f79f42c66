"""Many literals, one pass (RE2::Set), made so that a failure cannot look like "nothing found".

RE2 answers an exhausted memory budget of its automaton with an empty result. Every text is therefore
followed by a sentinel that is one of the literals: if it is not reported, the pass has failed, and that is
an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import re2

if TYPE_CHECKING:
    from collections.abc import Iterable

SENTINEL: Final = "\x01allod\x01"
MAX_MEMORY_BYTES: Final = 256 << 20
"""An upper bound for the automaton's cache; literals alone need a few megabytes at most."""


class Literals:
    """A set of literals to look for; immutable, safe to use from several threads.

    Args:
        words: the literals.
        fold_case: whether case matters not (simple Unicode folding).
        max_memory_bytes: budget of the automaton.

    """

    __slots__ = ("_automaton", "_sentinel", "words")

    def __init__(
        self, words: Iterable[str], *, fold_case: bool, max_memory_bytes: int = MAX_MEMORY_BYTES
    ) -> None:
        self.words = tuple(dict.fromkeys(words))
        options = re2.Options()
        options.literal = True
        options.case_sensitive = not fold_case
        options.max_mem = max_memory_bytes
        options.log_errors = False
        self._automaton = re2.Set.SearchSet(options)
        for word in self.words:
            self._automaton.Add(word)
        self._sentinel = self._automaton.Add(SENTINEL)
        self._automaton.Compile()

    def found(self, text: str) -> list[int]:
        """Return the indexes in ``words`` of the literals that a text holds, in no order.

        Raises:
            RuntimeError: the automaton could not finish.

        """
        hits: list[int] | None = self._automaton.Match((text + SENTINEL).encode("utf-8", "replace"))
        if hits is None or self._sentinel not in hits:
            raise RuntimeError("the automaton of literals did not finish")
        hits.remove(self._sentinel)
        return hits
