"""Reports that are kept with a model: whether they are about these very weights.

An audit of one quantisation says nothing of another. A report that names what it is about (an in-toto
statement, bare, in a DSSE envelope or in a Sigstore bundle) must name these weights, or it is refused; one
that names nothing is kept, and marked as claimed only. Whether a report is signed, and by whom, is not judged
here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from allod.domain.errors import Integrity, Invalid
from allod.vault import formats
from allod.vault.form import bytes_of, json_of, list_of, object_of

if TYPE_CHECKING:
    from collections.abc import Collection

STATEMENT: Final = "https://in-toto.io/Statement/"
MAX_SUBJECTS: Final = 10_000
_HEX: Final = re.compile(r"[0-9a-f]{64}")


def subjects(raw: bytes) -> frozenset[str] | None:
    """Return the ``sha256:`` digests that a report says it is about; None where it is no statement.

    Raises:
        Invalid: it is a statement, and a malformed one.

    """
    try:
        value = formats.strict_json(raw, "report.json")
    except Invalid:
        return None
    try:
        return _subjects(value)
    except Integrity as error:
        raise Invalid("this report is malformed", error.why, "ask its author for it again") from error


def _subjects(value: Any) -> frozenset[str] | None:
    if isinstance(value, dict) and "dsseEnvelope" in value:
        value = value["dsseEnvelope"]
    if isinstance(value, dict) and {"payload", "payloadType"} <= value.keys():
        value = json_of(bytes_of(value["payload"], "the payload"), "the statement")
    if not isinstance(value, dict) or not str(value.get("_type")).startswith(STATEMENT):
        return None
    out = set()
    for item in list_of(value.get("subject"), "the list of subjects", MAX_SUBJECTS):
        held = object_of(item, "a subject", ("digest",), item if isinstance(item, dict) else ())
        digests = object_of(held["digest"], "a digest", (), held["digest"])
        if _HEX.fullmatch(str(digests.get("sha256"))):
            out.add(f"sha256:{digests['sha256']}")
    return frozenset(out)


def is_bound(raw: bytes, title: str, digests: Collection[str]) -> bool:
    """Tell whether a report is bound to one of these digests; False where it names nothing.

    Raises:
        Invalid: it is about something else, or malformed.

    """
    about = subjects(raw)
    if about is None:
        return False
    if not about & set(digests):
        raise Invalid(
            f"{title[:120]} is about other weights",
            f"it names {', '.join(sorted(about)[:4]) or 'nothing by sha256'}, these are "
            f"{', '.join(sorted(digests)[:4])}",
            "an audit or evaluation holds for the very file it was made of: leave it out, or have one made",
        )
    return True
