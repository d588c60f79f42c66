"""Putting a pack in force: the smallest change of the configuration's text, written whole or not at all.

Only the lists ``packs`` and ``shadow`` of ``[tenant]`` are touched; comments and everything else stay as they
are. However the text is written, the change is kept only if the file then says exactly what it should.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import os
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

from allod.domain.errors import Invalid, Unavailable
from allod.policy.pack import BASE
from allod.store.home import sync_folder, unwritable, write_all

if TYPE_CHECKING:
    from pathlib import Path

_TENANT: Final = re.compile(r"""[ \t]*\[[ \t]*(?:tenant|"tenant"|'tenant')[ \t]*\][ \t]*(?:#.*)?""")
_KEY: Final = r"""[ \t]*(?:{0}|"{0}"|'{0}')[ \t]*=[ \t]*\["""
_TOKEN: Final = re.compile(r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#[^\n]*|\]|,|[ \t\r\n]+""")

Span = tuple[int, int]


def enforced(text: str, pack: str) -> str:
    """Return the configuration's text with a pack in force and out of the shadow.

    Raises:
        Invalid: the text is no TOML, or is written in a way that is not changed here; then edit it by hand.

    """
    before = _data(text)
    after = copy.deepcopy(before)
    tenant = after.setdefault("tenant", {})
    packs = list(tenant.get("packs") or [BASE])
    wanted = packs if pack in packs else [*packs, pack]
    new = text
    if wanted != packs or "packs" not in tenant:
        tenant["packs"] = wanted
        new = _with_packs(new, pack, wanted)
    if pack in tenant.get("shadow", ()):
        tenant["shadow"] = [name for name in tenant["shadow"] if name != pack]
        new = _without(new, "shadow", pack)
    if _data(new, or_none=True) != after:
        raise _by_hand(pack, wanted)
    return new


def _data(text: str, *, or_none: bool = False) -> Any:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as fault:
        if or_none:
            return None
        raise Invalid("the configuration is not valid TOML", str(fault), "correct it") from fault


def _by_hand(pack: str, packs: list[str]) -> Invalid:
    listed = ", ".join(f'"{name}"' for name in packs)
    return Invalid(
        "the configuration is written in a way that is not changed automatically",
        "expected a table [tenant] whose lists `packs` and `shadow` are plain lists of strings",
        f"write packs = [{listed}] under [tenant], and take {pack!r} out of shadow, by hand",
    )


def _section(text: str) -> Span | None:
    """Find what is between ``[tenant]`` and the next table."""
    at = start = 0
    found = False
    for line in text.splitlines(keepends=True):
        if found and line.lstrip().startswith("["):
            return start, at
        at += len(line)
        if not found and _TENANT.fullmatch(line.rstrip("\r\n")):
            found, start = True, at
    return (start, at) if found else None


def _array(text: str, key: str) -> tuple[Span, list[Span]] | None:
    """Find a list in the section: what is between its brackets, and the strings in it."""
    section = _section(text)
    if section is None:
        return None
    found = re.compile(_KEY.format(key), re.MULTILINE).search(text, *section)
    while found is not None and not _begins_line(text, found.start()):
        found = re.compile(_KEY.format(key), re.MULTILINE).search(text, found.end(), section[1])
    if found is None:
        return None
    at, elements = found.end(), list[Span]()
    while (token := _TOKEN.match(text, at)) is not None:
        if token[0] == "]":
            return (found.end(), at), elements
        if token[0][0] in "\"'":
            elements.append(token.span())
        at = token.end()
    return None


def _begins_line(text: str, at: int) -> bool:
    return at == 0 or text[at - 1] == "\n"


def _with_packs(text: str, pack: str, packs: list[str]) -> str:
    array = _array(text, "packs")
    newline = "\r\n" if "\r\n" in text else "\n"
    if array is None:
        section = _section(text)
        if section is None:
            raise _by_hand(pack, packs)
        start = section[0]
        missing = "" if start == 0 or text[start - 1] == "\n" else newline
        listed = ", ".join(f'"{name}"' for name in packs)
        return f"{text[:start]}{missing}packs = [{listed}]{newline}{text[start:]}"
    (start, end), elements = array
    if not elements:
        return f'{text[:start]}"{pack}"{text[start:]}'
    last, behind = elements[-1][1], text[elements[-1][1] : end]
    before = text[elements[-2][1] if len(elements) > 1 else start : elements[-1][0]]
    if "\n" not in before:
        return f'{text[:last]}, "{pack}"{text[last:]}'
    indent = before.rpartition("\n")[2]
    line_end = last + len(re.match(r"[^\n]*?(?=\r?\n|\Z)", behind)[0])  # type: ignore[index] # always matches
    trailing = re.match(r"[ \t]*,", behind) is not None
    rest = text[last:line_end] if trailing else "," + text[last:line_end]
    comma = "," if trailing else ""
    return f'{text[:last]}{rest}{newline}{indent}"{pack}"{comma}{text[line_end:]}'


def _without(text: str, key: str, pack: str) -> str:
    while (array := _array(text, key)) is not None:
        (_, end), elements = array
        gone = next((i for i, span in enumerate(elements) if _value(text, span) == pack), None)
        if gone is None:
            return text
        left, right = elements[gone]
        comma = re.compile(r"[ \t]*,[ \t]*").match(text, right, end)
        if comma is not None:
            right = comma.end()
        elif gone > 0 and "\n" not in text[elements[gone - 1][1] : left]:
            left = elements[gone - 1][1]
        text = _cut(text, left, right)
    return text


def _value(text: str, span: Span) -> Any:
    return tomllib.loads(f"x = {text[span[0] : span[1]]}")["x"]


def _cut(text: str, left: int, right: int) -> str:
    """Cut a span, and with it the line that would be blank."""
    start = text.rfind("\n", 0, left) + 1
    stop = text.find("\n", right)
    if stop >= 0 and not text[start:left].strip() and not text[right:stop].strip() and start > 0:
        return text[:start] + text[stop + 1 :]
    return text[:left] + text[right:]


def write_config(path: Path, old: bytes, new: bytes) -> None:
    """Put a new configuration in the place of the old one, whole or not at all; mode and owner stay.

    Raises:
        Unavailable: it was changed meanwhile, is being changed, or cannot be written.

    """
    path = path.resolve()
    fresh = path.with_name(path.name + ".new")
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if file.read() != old or path.read_bytes() != old:
                raise _changed(path)
            about = os.fstat(file.fileno())
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                with contextlib.suppress(PermissionError):  # of another owner: then it becomes ours
                    os.fchown(fd, about.st_uid, about.st_gid)
                os.fchmod(fd, about.st_mode & 0o7777)
                write_all(fd, new, 0)
                os.fsync(fd)
            finally:
                os.close(fd)
            fresh.replace(path)
        sync_folder(path.parent)
    except BlockingIOError as fault:
        raise _changed(path) from fault
    except OSError as fault:
        raise unwritable(path, fault) from fault


def _changed(path: Path) -> Unavailable:
    return Unavailable(
        f"{path} was changed meanwhile", "conflict: somebody else writes it", "look at it and try again"
    )
