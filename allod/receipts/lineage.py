"""How receipts hang together: parents, the steps of a cascade, answers given again.

A request names in ``parents`` the receipts it stems from. Where its answer was made under another receipt,
``answer_from`` names that one: with ``steps`` a step of its own (each a request with a receipt of its own,
whose parent is this one), without them an earlier request whose answer was kept and given again. What one
leaf says of this is checked when the leaf is (``check_lineage``); what several say of each other, by
``family``, over receipts that verified.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

import msgspec

from allod.domain.errors import Integrity
from allod.domain.money import ZERO, plain
from allod.receipts.ids import is_id

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MONEY: Final = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")
_ROLE: Final = re.compile(r"[a-z][a-z-]{0,15}")
AUDIT: Final = "audit"
"""The step that is made after its request has ended, and so is not in its list."""
_STATUS: Final = frozenset({"answered", "refused", "aborted", "failed"})
_SAME: Final = (
    "deployment", "model", "weights", "adapter", "template", "evidence", "engine", "engine_digest",
    "engine_version", "sandbox",
)  # fmt: skip
"""What is repeated of the receipt an answer is from."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong between receipts; ``receipt`` is the one that says so, ``why`` got and expected."""

    receipt: str
    what: str
    why: str


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """What receipts say of each other.

    Attributes:
        findings: everything that does not fit; empty when they hang together.
        missing: receipts that are named and not there, sorted.
        gaps: per deployment the numbers between the lowest and the highest that are not there, as ranges
            (first, last): answers that were left out, or belong to others.

    """

    findings: tuple[Finding, ...] = ()
    missing: tuple[str, ...] = ()
    gaps: dict[str, tuple[tuple[int, int], ...]] = {}


def check_lineage(leaf: Mapping[str, Any]) -> None:
    """Check what one terminal leaf says of other receipts.

    Raises:
        Integrity: ids of another form or another log, steps and total that do not add up, an answer from
            nowhere, or attempts and a number where the answer is another receipt's.

    """
    prefix = str(leaf.get("id"))[:11]
    parents, steps, origin = leaf.get("parents", []), leaf.get("steps", []), leaf.get("answer_from")
    if not isinstance(parents, list) or not all(isinstance(one, str) for one in parents):
        raise _differs("parents", parents, "a list of receipts")
    named = [one for one in parents if _DIGEST.fullmatch(one) is None]
    if not all(is_id(one) and one.startswith(prefix) for one in named) or leaf.get("id") in named:
        raise _differs("parents", named, "other receipts of this log")
    step = leaf.get("step")
    if step is not None and not (isinstance(step, str) and _ROLE.fullmatch(step) and named):
        raise _differs("step", step, "a word, and the request it is a step of among its parents")
    whole, total = _steps(steps, prefix, leaf.get("id"))
    _check_total(leaf, total if whole else None, steps=bool(steps))
    if origin is None:
        return
    if leaf.get("attempts") != 0 or "seq" in leaf or leaf.get("cost_usd", "0") != "0":
        got = {name: leaf.get(name) for name in ("attempts", "seq", "cost_usd")}
        raise _differs("answer_from", got, "no attempt, no number and no cost under this receipt")
    answered = [entry[0] for entry in steps if entry[2] == "answered"]
    if origin not in (answered if steps else parents) and (whole or not steps):
        raise _differs("answer_from", origin, "a step that answered" if steps else "one of the parents")


def _steps(steps: object, prefix: str, own: object) -> tuple[bool, Decimal]:
    """Check a list of steps; returns whether it is whole, and what they cost together in USD."""
    if not isinstance(steps, list):
        raise _differs("steps", steps, "a list")
    seen: set[object] = {own}
    total, whole = ZERO, True
    for at, entry in enumerate(steps):
        match entry:
            case [str(name), "", "", ""] if at == 0 and _DIGEST.fullmatch(name):
                whole = False
            case [str(name), str(role), str(status), str(cost)] if (
                is_id(name)
                and name.startswith(prefix)
                and name not in seen
                and _ROLE.fullmatch(role)
                and status in _STATUS
                and _MONEY.fullmatch(cost)
            ):
                seen.add(name)
                total += Decimal(cost)
            case _:
                raise _differs("steps", entry, "a receipt of this log once, its role, status and cost")
    return whole, total


def _check_total(leaf: Mapping[str, Any], total: Decimal | None, *, steps: bool) -> None:
    said = leaf.get("total_usd")
    if not steps:
        if said is not None:
            raise _differs("total_usd", said, "none without steps")
        return
    if not isinstance(said, str) or _MONEY.fullmatch(said) is None:
        raise _differs("total_usd", said, "a plain decimal without trailing zeros")
    if total is None:
        return
    own = leaf.get("cost_usd", "0")
    expected = plain(total + (Decimal(own) if isinstance(own, str) and _MONEY.fullmatch(own) else ZERO))
    if said != expected:
        raise _differs("total_usd", said, f"{expected}, the sum of its steps")


def family(leaves: Iterable[Mapping[str, Any]]) -> Family:
    """Hold terminal leaves of receipts that verified against each other.

    Args:
        leaves: of one log, in any order, each once or several times.

    """
    by_id: dict[str, Mapping[str, Any]] = {}
    findings: list[Finding] = []
    for leaf in leaves:
        name = str(leaf["id"])
        if name in by_id and by_id[name] != leaf:
            findings.append(
                Finding(receipt=name, what="two ends of one request", why="got two, expected one")
            )
        by_id[name] = leaf
    missing: set[str] = set()
    for name, leaf in by_id.items():
        named = {one for one in leaf.get("parents", []) if is_id(one)}
        named |= {entry[0] for entry in leaf.get("steps", []) if is_id(entry[0])}
        if leaf.get("answer_from"):
            named.add(leaf["answer_from"])
        missing |= named - by_id.keys()
        findings += _of_steps(name, leaf, by_id)
        findings += _of_request(name, leaf, by_id)
        findings += _of_origin(name, leaf, by_id)
    return Family(findings=tuple(findings), missing=tuple(sorted(missing)), gaps=_gaps(by_id.values()))


def _of_steps(name: str, leaf: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Hold the steps a leaf lists against their own receipts, and those that name it against its list."""
    out = []
    listed = {entry[0]: entry for entry in leaf.get("steps", []) if is_id(entry[0])}
    for step, (_, role, status, cost) in listed.items():
        own = by_id.get(step)
        if own is None:
            continue
        said = (own["status"], own.get("cost_usd", "0"))
        if said != (status, cost):
            why = f"got {said}, expected {(status, cost)}"
            out.append(Finding(receipt=name, what=f"step {step} ended otherwise", why=why))
        if own.get("step", role) != role:
            why = f"got {own['step']}, expected {role}"
            out.append(Finding(receipt=step, what="a step was for something else", why=why))
        if name not in own.get("parents", []):
            why = f"got parents {own.get('parents', [])}, expected {name} among them"
            out.append(Finding(receipt=step, what="a step does not name its request", why=why))
    return out


def _of_request(name: str, leaf: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Hold a step against the request it is of: that must list it, unless it was lost before it could."""
    whole = by_id.get(next(iter(leaf.get("parents", [])), ""))
    if leaf.get("step") in {None, AUDIT} or whole is None or whole.get("reason") == "gateway-lost":
        return []
    steps = whole.get("steps", [])
    if any(entry[0] == name or not is_id(entry[0]) for entry in steps):
        return []
    return [Finding(receipt=name, what="a step its request does not list", why=f"{whole['id']} lists others")]


def _of_origin(name: str, leaf: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Hold an answer that is another receipt's against that receipt."""
    own = by_id.get(str(leaf.get("answer_from")))
    if own is None:
        return []
    out = []
    if own["status"] != "answered":
        why = f"got {own['status']}, expected answered"
        out.append(Finding(receipt=name, what=f"an answer from {own['id']}, which has none", why=why))
    if own.get("app") != leaf.get("app"):
        out.append(Finding(receipt=name, what=f"an answer from {own['id']}, of another app", why=""))
    for field in _SAME:
        if own.get(field) != leaf.get(field) and leaf.get("status") == "answered":
            why = f"got {leaf.get(field)!r:.100}, expected {own.get(field)!r:.100}"
            out.append(Finding(receipt=name, what=f"{field} is not that of {own['id']}", why=why))
    return out


def _gaps(leaves: Iterable[Mapping[str, Any]]) -> dict[str, tuple[tuple[int, int], ...]]:
    numbers: dict[str, list[int]] = {}
    for leaf in leaves:
        if "seq" in leaf:
            numbers.setdefault(leaf["deployment"], []).append(leaf["seq"])
    out = {}
    for deployment, given in sorted(numbers.items()):
        given.sort()
        gaps = tuple((a + 1, b - 1) for a, b in pairwise(given) if b > a + 1)
        if gaps:
            out[deployment] = gaps
    return out


def _differs(name: str, got: object, required: object) -> Integrity:
    return Integrity(f"{name} is not what it must be", f"got {got!r:.200}, expected {required!r:.200}")
