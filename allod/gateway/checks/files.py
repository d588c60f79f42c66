"""The files checks go by: read once, at the start, from the configuration's folder, known by their digests.

The digest is part of the task, so of the promise's policy: with another file all is proven anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Invalid
from allod.domain.fleet import CheckFile
from allod.receipts.commitment import digest

if TYPE_CHECKING:
    from allod.domain.fleet import CascadeTask, Fleet

MAX_BYTES: Final = 256 << 10
_KEYS: Final = ("tests", "schema")


def with_files(fleet: Fleet, folder: Path) -> tuple[Fleet, dict[str, str]]:
    """Return a fleet whose tasks name the digests of their files, and the files' texts by digest.

    Raises:
        Invalid: a file is not there, not in the folder, larger than ``MAX_BYTES``, or no text.

    """
    tasks, texts = dict(fleet.tasks), dict[str, str]()
    for name, task in fleet.tasks.items():
        own = task.cascade
        if own is None or (own.tests is None and own.schema is None):
            continue
        read = {key: _read(own, key, name, folder, texts) for key in _KEYS}
        tasks[name] = msgspec.structs.replace(task, cascade=msgspec.structs.replace(own, **read))
    return msgspec.structs.replace(fleet, tasks=tasks), texts


def _read(own: CascadeTask, key: str, task: str, folder: Path, texts: dict[str, str]) -> CheckFile | None:
    named: CheckFile | None = getattr(own, key)
    if named is None:
        return None
    where = f"task.{task}.cascade.{key}"
    root = folder.resolve()
    path = (root / named.name).resolve()
    why = "" if path.is_relative_to(root) else "it is not in the folder of the configuration"
    data = b""
    if not why:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            why = error.strerror or "it cannot be read"
    if len(data) > MAX_BYTES:
        why = f"at most {MAX_BYTES} bytes are read"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text, why = "", why or "it is not UTF-8"
    if why or "\0" in text:
        raise Invalid(
            f"{where}: {named.name} cannot be used", why or "it is no text", "correct it", param=where
        )
    found = CheckFile(named.name, digest(data))
    texts[found.digest] = text
    return found
