"""What a caller says about a request: ``Allod-*`` headers and the same keys in the request's ``metadata``.

Lists are joined, the stricter number wins, and two different single values are a conflict. A label can only
tighten: nothing here removes a class, lowers a floor or raises a limit. Names and values nobody knows are
refused, never ignored: an ignored label is a protection the caller believes in and does not have.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from allod.domain.classes import BASE_CLASSES
from allod.domain.errors import Invalid
from allod.domain.fleet import EFFORTS
from allod.domain.request import Labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from allod.domain.fleet import Effort

NAMES: Final[tuple[str, ...]] = (
    "allod-data-class",
    "allod-purpose",
    "allod-task",
    "allod-min-quality",
    "allod-max-cost",
    "allod-deadline-ms",
    "allod-tier",
    "allod-effort",
    "allod-subject",
    "allod-parent",
)
NOT_SUPPORTED: Final[frozenset[str]] = frozenset({"allod-tier"})
"""Known, but not enforced in this version: refused, so that nobody relies on it."""

MAX_VALUE_CHARS: Final = 1024
MAX_SUBJECT_CHARS: Final = 256
MAX_DEADLINE_MS: Final = 86_400_000
MAX_PARENTS: Final = 8
"""Receipts one request may stem from: so many are named in a leaf whole."""
_PREFIXES: Final = ("allod-", "allod_")
_LOOKS: Final = str.maketrans(
    "\u0430\u0251\u03b1\u0391\u0410\u04cf\u217c\u0131\u01c0\u043e\u03bf\u041e\u039f\u0501", "aaaaallllooood"
)
"""Letters of other scripts that look like those of our prefix."""
_BARE: Final = tuple("allod" + name.split("-")[1] for name in NAMES)
_PREFIX_BYTES: Final = tuple(prefix.encode() for prefix in _PREFIXES)
_NUMBER: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
_RECEIPT: Final = re.compile(r"r_[0-9a-f]{8}_[0-7][0-9A-HJKMNP-TV-Z]{25}", re.ASCII)
_LISTS: Final = frozenset({"allod-data-class", "allod-parent"})


def labels_from(
    headers: Iterable[tuple[bytes, bytes]],
    metadata: Mapping[str, Any] | None,
    classes: frozenset[str] = BASE_CLASSES,
) -> Labels:
    """Join what headers and metadata say; ``classes`` are the data classes there are.

    Raises:
        Invalid: an unknown name or value, two different single values (kind ``conflict``), or a label that is
            known but not enforced (kind ``not_supported``).

    """
    if not headers and not metadata:
        return NO_LABELS
    said: dict[str, list[str]] = {}
    for raw, value in headers:
        name = raw.lower()
        if name.startswith(_PREFIX_BYTES):
            known = _known(name.decode("latin-1"))
            _add(said, known, [_decoded(known, value)])
    for key, value in (metadata or {}).items():
        name_text = key.lower() if isinstance(key, str) else ""
        if name_text.startswith(_PREFIXES) or _passes_for_label(name_text):
            known = _known(name_text)
            _add(said, known, _texts(known, value))
    if not said:
        return NO_LABELS
    return Labels(
        classes=_classes(said.get("allod-data-class", []), classes),
        purpose=_single(said, "allod-purpose"),
        task=_single(said, "allod-task"),
        min_quality=max(_numbers(said, "allod-min-quality", Decimal(1)), default=None),
        max_cost_usd=min(_numbers(said, "allod-max-cost", None), default=None),
        deadline_ms=_deadline(said),
        effort=_effort(said),
        subject=_subject(said),
        parents=_parents(said.get("allod-parent", [])),
    )


def strip_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the metadata without labels, other keys untouched; None where nothing is left to send."""
    if not metadata:
        return None
    left = {key: value for key, value in metadata.items() if not key.lower().startswith(_PREFIXES)}
    return left or None


NO_LABELS: Final = Labels()
"""What callers say who say nothing."""


def _passes_for_label(name: str) -> bool:
    """Tell whether a name reads as one of ours and is written otherwise: other dashes, letters, blanks."""
    if name.isascii() and "allod" not in name[:16]:
        return False
    plain = unicodedata.normalize("NFKC", name).translate(_LOOKS)
    return "".join(c for c in plain.lower() if c.isalnum()).startswith(_BARE)


def _known(name: str) -> str:
    """Return the name of a label that is enforced."""
    if name in NOT_SUPPORTED:
        raise Invalid(
            f"{name} is not supported yet",
            "this version does not enforce it, and a label that is not enforced is refused",
            "leave it out",
            kind="not_supported",
            param=name,
        )
    if name not in NAMES:
        near = get_close_matches(name[:64].replace("_", "-"), NAMES, n=1, cutoff=0.0)
        raise Invalid(
            f"{name[:64]} is not a label",
            "an unknown Allod-* name is refused, not ignored",
            f"did you mean {near[0]}?",
            param=name[:64],
        )
    return name


def _add(said: dict[str, list[str]], name: str, values: list[str]) -> None:
    for value in values:
        if not value or len(value) > MAX_VALUE_CHARS:
            raise _bad(name, value, f"1 to {MAX_VALUE_CHARS} characters")
    said.setdefault(name, []).extend(values)


def _decoded(name: str, value: bytes) -> str:
    try:
        return value.decode("ascii").strip()
    except UnicodeDecodeError:
        raise _bad(name, "", "plain ASCII") from None


def _texts(name: str, value: Any) -> list[str]:
    """Metadata values are strings; numbers, and lists of strings for what is a list, are taken as well."""
    if isinstance(value, str):
        return [value.strip()]
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return [str(value)]
    if name in _LISTS and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return [v.strip() for v in value] or [""]
    raise _bad(name, type(value).__name__, "a string")


def _subject(said: dict[str, list[str]]) -> str | None:
    """Read whom a request is about: any printable text, kept salted only."""
    values = said.get("allod-subject")
    if not values:
        return None
    if len(set(values)) > 1:
        raise Invalid(
            "allod-subject is given as two different values",
            "a request is about one person, or about nobody in particular",
            "say it once",
            kind="conflict",
            param="allod-subject",
        )
    if len(values[0]) > MAX_SUBJECT_CHARS or not values[0].isprintable():
        raise Invalid(
            "the value of allod-subject cannot be read",
            f"expected 1 to {MAX_SUBJECT_CHARS} printable characters",
            "correct it",
            param="allod-subject",
        )
    return values[0]


def _classes(values: list[str], known: frozenset[str]) -> tuple[str, ...]:
    found: set[str] = set()
    for value in values:
        names = [name.strip() for name in value.split(",") if name.strip()]
        if not names:
            raise _bad("allod-data-class", value, "at least one class")
        for name in names:
            if name not in known:
                near = get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.5)
                raise Invalid(
                    f"{name[:64]!r} is not a data class",
                    "an unknown class is refused, not ignored",
                    f"did you mean {near[0]}?" if near else f"one of {', '.join(sorted(known))}",
                    param="allod-data-class",
                )
            found.add(name)
    return tuple(sorted(found))


def _parents(values: list[str]) -> tuple[str, ...]:
    """Read receipts, each once, in the order given; whose they are is not known here."""
    found = dict.fromkeys(one.strip() for value in values for one in value.split(",") if one.strip())
    for one in found:
        if _RECEIPT.fullmatch(one) is None:
            raise _bad("allod-parent", one, "receipts as `Allod-Receipt` names them, comma-separated")
    if len(found) > MAX_PARENTS or (values and not found):
        raise _bad("allod-parent", f"{len(found)} receipts", f"1 to {MAX_PARENTS}")
    return tuple(found)


def _single(said: dict[str, list[str]], name: str) -> str | None:
    values = said.get(name)
    if not values:
        return None
    if len(set(values)) > 1:
        raise Invalid(
            f"{name} is given as two different values",
            "header and metadata, or two headers, disagree",
            "say it once",
            kind="conflict",
            param=name,
        )
    if _WORD.fullmatch(values[0]) is None:
        raise _bad(name, values[0], "a name of letters, digits and ._:-")
    return values[0]


def _numbers(said: dict[str, list[str]], name: str, most: Decimal | None) -> list[Decimal]:
    out: list[Decimal] = []
    for value in said.get(name, []):
        if _NUMBER.fullmatch(value) is None or (most is not None and Decimal(value) > most):
            raise _bad(name, value, "a plain decimal number" + ("" if most is None else f" from 0 to {most}"))
        out.append(Decimal(value))
    return out


def _deadline(said: dict[str, list[str]]) -> int | None:
    found = _numbers(said, "allod-deadline-ms", None)
    for value in found:
        if value != value.to_integral_value() or not 1 <= value <= MAX_DEADLINE_MS:
            raise _bad("allod-deadline-ms", str(value), f"whole milliseconds from 1 to {MAX_DEADLINE_MS}")
    return int(min(found)) if found else None


def _effort(said: dict[str, list[str]]) -> Effort | None:
    value = _single(said, "allod-effort")
    for effort in EFFORTS:
        if effort == value:
            return effort
    if value is None:
        return None
    raise _bad("allod-effort", value, f"one of {', '.join(EFFORTS)}")


def _bad(name: str, got: str, expected: str) -> Invalid:
    return Invalid(
        f"the value of {name} cannot be read",
        f"got {got[:64]!r}, expected {expected}",
        "correct it",
        param=name,
    )
