"""What evaluations keep of their cases to estimate by: hashed words, under a secret of the home.

``evaluations/<first 16 digits>.words`` lies beside an evaluation whose tasks have ``estimate = true``:
features per case, behind a digest. Whoever has the home's secret can try words against them, so they are
content: they are kept for no other task, never leave the home, and go when a receipt of the case is erased.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.gateway import evaluations
from allod.receipts.commitment import digest
from allod.routing.features import Asked, Features, features
from allod.store.home import unwritable, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from allod.assurance.cases import Case
    from allod.gateway.evaluations import Kept
    from allod.store.home import Home

FORMAT: Final = "allod-words-1"
_KEY_BYTES: Final = 32


class _Words(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    evaluation: str
    cases: dict[str, Features]


def key_of(secret: bytes) -> bytes:
    """Return the key words are hashed with in a home, from its secret."""
    return hashlib.blake2b(secret, digest_size=_KEY_BYTES, person=b"allod-estimate").digest()


def prompt_of(body: Mapping[str, Any]) -> str:
    """Return all that the messages of a neutral request say, in order: what an estimate reads of it."""
    messages = body.get("messages")
    found: list[str] = []
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        parts = content if isinstance(content, list) else [{"text": content}]
        texts = (part.get("text") for part in parts if isinstance(part, dict))
        found += [text for text in texts if isinstance(text, str) and text]
    return "\n".join(found)


def read_prompt(text: str, task: str | None, key: bytes) -> Features:
    """Read what is asked at a task."""
    return features(Asked(text=text, task=task), key)


def read_case(case: Case, task: str, key: bytes) -> Features:
    """Read a case as the request it is asked by."""
    return read_prompt("\n".join(m.content for m in case.conversation if m.content), task, key)


def path_of(home: Home, short: str) -> Path:
    """Return where the words of an evaluation are kept."""
    return evaluations.folder(home) / f"{short}.words"


def keep(home: Home, kept: Kept, cases: Iterable[Case], tasks: Iterable[str], key: bytes) -> int:
    """Keep the words of an evaluation's cases of these tasks; returns of how many (0: nothing was written).

    Raises:
        Unavailable: they cannot be written.

    """
    wanted = frozenset(tasks)
    asked = {item.case: item.task for item in kept.evaluation.items if item.task in wanted}
    read = {case.id: read_case(case, asked[case.id], key) for case in cases if case.id in asked}
    if read:
        _write(home, kept.short, _Words(format=FORMAT, evaluation=kept.digest, cases=read))
    return len(read)


def known(home: Home, name: str) -> dict[str, Features]:
    """Return the words kept for an evaluation, by case; none where none were kept.

    Args:
        home: whose. name: digest of the evaluation.

    Raises:
        Integrity: the file is damaged, or of another evaluation.

    """
    from allod.routing.evidence import check_features  # noqa: PLC0415 (numpy)

    path = path_of(home, name.removeprefix("sha256:")[: evaluations.SHORT])
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as fault:
        raise Integrity(
            f"{path.name} cannot be read", fault.strerror or "", "remove it, or restore it"
        ) from None
    stated, _, body = raw.partition(b"\n")
    try:
        if stated != digest(body).encode():
            raise Integrity(f"{path.name} is damaged", "its digest is another", "remove it, or restore it")
        found = msgspec.msgpack.decode(body, type=_Words)
        for one in found.cases.values():
            check_features(one)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, Invalid) as fault:
        raise Integrity(f"{path.name} is damaged", str(fault)[:200], "remove it, or restore it") from None
    if (found.format, found.evaluation) != (FORMAT, name):
        raise Integrity(f"{path.name} is of another evaluation", found.evaluation, "remove it")
    return found.cases


def forget(home: Home, name: str, cases: Mapping[str, Features], gone: Iterable[str]) -> None:
    """Write what is left of an evaluation's words; nothing left is no file.

    Raises:
        Unavailable: that cannot be written.

    """
    short, lost = name.removeprefix("sha256:")[: evaluations.SHORT], frozenset(gone)
    left = {case: read for case, read in cases.items() if case not in lost}
    if left:
        _write(home, short, _Words(format=FORMAT, evaluation=name, cases=left))
    else:
        path_of(home, short).unlink(missing_ok=True)


def _write(home: Home, short: str, words: _Words) -> None:
    body, path = msgspec.msgpack.encode(words, order="deterministic"), path_of(home, short)
    try:
        write_file(path, digest(body).encode() + b"\n" + body, 0o600)
    except OSError as fault:
        raise unwritable(path, fault) from fault
