"""Cut a text into clusters of digits: groups, what separates them, and what hangs on what."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

CLUSTER: Final = re.compile(
    r"[0-9][A-Za-z0-9]*(?:[-./ ()]{1,3}[A-Za-z]{0,3}[0-9][A-Za-z0-9]*)*(?:[- ][A-Z]{1,2}(?![A-Za-z0-9]))?"
)
_GROUP: Final = re.compile(
    r"([0-9]{3,})(?:x|ext)[0-9]{1,6}(?![A-Za-z0-9])|[A-Za-z]{2,12}(?=[0-9]{7,19}(?![A-Za-z0-9]))|[A-Za-z0-9]+"
)
"""A group; of one with a telephone's extension only what stands before it; a word glued to a number apart."""
_LEFT: Final = re.compile(r"(?:(?<![A-Za-z0-9])[A-Z]{1,6}[- ])?[A-Za-z]{0,8}\Z")
_GLUED: Final = re.compile(r"[-/_.:=][A-Za-z0-9]|[@_]")
MIN_CHARS: Final = 5
"""Shorter clusters are nobody's number."""


class Cluster:
    """A cluster of groups: where they are and what separates them."""

    __slots__ = ("end", "groups", "start", "text")

    def __init__(self, text: str, start: int, end: int) -> None:
        self.text, self.start, self.end = text, start, end
        if text[start:end].isdecimal():
            self.groups = [(start, end)]
        else:
            spans = _GROUP.finditer(text, start, end)
            self.groups = [m.span(1) if m.start(1) >= 0 else m.span() for m in spans]

    def apart(self) -> bool:
        """Tell whether it is written digit by digit."""
        return all(end - start == 1 for start, end in self.groups)

    def loose(self, left: int, right: int) -> bool:
        """Tell whether what stands between two places separates numbers and is not part of one."""
        between = self.text[left:right]
        return " " in between.strip("-") or "(" in between or between == "/"

    def tight_left(self, first: int) -> bool:
        """Tell whether the run beginning at a group hangs on something before it."""
        start = self.groups[first][0]
        if first:
            before = self.groups[first - 1][1]
            return before != start and not self.loose(before, start)
        left = self.text[max(0, start - 2) : start]
        return len(left) > 0 and (
            left[-1] in "_@\\" or (left[-1] in "-/." and left[:1].isalnum() and left.isascii())
        )

    def tight_right(self, last: int) -> bool:
        """Tell whether the run ending at a group hangs on something after it."""
        end = self.groups[last][1]
        if last + 1 < len(self.groups):
            return not self.loose(end, self.groups[last + 1][0])
        return _GLUED.match(self.text, end) is not None


def clusters(text: str) -> Iterator[Cluster]:
    """Yield every cluster of groups that hold digits, letters glued to them included."""
    last = 0
    for match in CLUSTER.finditer(text):
        start, end = match.span()
        if end - start < MIN_CHARS - 1 or start < last:
            continue
        if start:
            near = text[start - 1]
            if (
                near.isalpha() or (near in "- " and start > 1 and text[start - 2].isupper())
            ) and near.isascii():
                left = _LEFT.search(text, max(last, start - 15), start)
                start = left.start() if left is not None else start
        last = end
        yield Cluster(text, start, end)
