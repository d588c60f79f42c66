"""The fenced blocks of an answer, read line by line: linear in its length, whatever it holds."""

from __future__ import annotations

from typing import Final

import msgspec

MAX_BLOCKS: Final = 64
_INDENT: Final = 3
_LEAST: Final = 3
ALIASES: Final = {
    "py": "python", "python3": "python", "sqlite": "sql", "sqlite3": "sql", "postgresql": "sql",
    "postgres": "sql", "mysql": "sql",
}  # fmt: skip


class Block(msgspec.Struct, frozen=True):
    """A fenced block: its language in small letters (empty where none is said), and what is in it."""

    language: str
    text: str


def fenced(answer: str) -> tuple[Block, ...] | None:
    """Return the fenced blocks of an answer (CommonMark, fences of backticks or tildes).

    None where they cannot be told: one is never closed, or there are more than ``MAX_BLOCKS``.
    """
    out: list[Block] = []
    mark, language, lines = "", "", list[str]()
    for line in answer.split("\n"):
        bare = line.lstrip(" ")
        fence = _fence(bare) if len(line) - len(bare) <= _INDENT else ""
        if not mark:
            info = bare[len(fence) :].strip()
            if fence and not (fence[0] == "`" and "`" in info):
                word = info.split(None, 1)[0].strip("{}.").lower() if info else ""
                mark, language, lines = fence, ALIASES.get(word, word), []
        elif fence and fence[0] == mark[0] and len(fence) >= len(mark) and not bare[len(fence) :].strip():
            out.append(Block(language, "\n".join(lines)))
            mark = ""
            if len(out) > MAX_BLOCKS:
                return None
        else:
            lines.append(line)
    return None if mark else tuple(out)


def _fence(line: str) -> str:
    for mark in "`~":
        if line.startswith(mark * _LEAST):
            return line[: len(line) - len(line.lstrip(mark))]
    return ""


def written_in(language: str, answer: str) -> tuple[str, ...]:
    """Return what of an answer is in a language: its blocks, else those of no language, else all of it.

    All of it only where there is no block at all. Empty where nothing is.
    """
    blocks = fenced(answer)
    if blocks is None:
        return ()
    if not blocks:
        return (answer,) if answer.strip() else ()
    mine = tuple(one.text for one in blocks if one.language == language)
    found = mine or tuple(one.text for one in blocks if not one.language)
    return found if all(one.strip() for one in found) else ()
