"""From what a home has to what is fitted: outcomes of evaluations that count, and of audits.

An evaluation counts as it does for quality (``capabilities``): if it is in use, not too old, and about what
is served now. Its exactly checked cases are outcomes, with the words kept of them (``words``); what a judge
said is none, since nobody can correct a single verdict. An audit says whether an answer was the reference's:
that counts as the quality the reference is known to have at the task, another answer as none, so that what
audits teach of a deployment is at most what is known of the reference. What was erased or pruned is left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import AllodError
from allod.gateway import evaluations
from allod.gateway.estimates import words
from allod.gateway.estimates.kept import audits_file, write_audits
from allod.receipts.canonical import canonical
from allod.receipts.commitment import digest
from allod.routing.evidence import Evidence, Seen
from allod.routing.learn import Prior

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date
    from pathlib import Path

    from allod.assurance.evaluation import Item
    from allod.gateway.capabilities import InForce, Line
    from allod.routing.features import Features
    from allod.store.database import Database
    from allod.store.home import Home

MOST_WORTH: Final = 50.0
"""Outcomes a published score may be worth; its audit leaves less."""
_PUBLISHED: Final = "published "
_WRITING_S: Final = 60.0
_DEFAULT: Final = "default"


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to fit to.

    Attributes:
        evidence: requests with outcomes.
        counts: judged outcomes by (task, deployment).
        priors: published scores, as their audits let them in.
        sources: digest of what counts; see ``sources_of``.
        evaluations: digests of those that brought outcomes. audits: how many audited requests did.
        forgotten: cases and audits that were left out because they were erased or pruned.
        trouble: what could not be read, with the reason.

    """

    evidence: Evidence
    counts: dict[tuple[str, str], int]
    priors: tuple[Prior, ...]
    sources: str
    evaluations: tuple[str, ...] = ()
    audits: int = 0
    forgotten: int = 0
    trouble: tuple[str, ...] = ()


def counting(proven: InForce, day: date) -> tuple[Line, ...]:
    """Return what counts on a day: by evaluation, deployment and task."""
    return tuple(one for one in proven.lines if not one.why and (one.until is None or day < one.until))


def sources_of(proven: InForce, day: date) -> str:
    """Name what counts on a day by a digest: what was fitted to something else is not used."""
    said = [[one.source, one.deployment, one.task] for one in counting(proven, day)]
    return digest(canonical(sorted(said)))


def gather(home: Home, proven: InForce, database: Database, day: date) -> Gathered:
    """Read evaluations, their words and audits; what was erased is forgotten on disk as well.

    What cannot be read, or not be written without what was erased, is left out and told (``trouble``).
    """
    evidence, trouble, lost = audits(home), list[str](), 0
    if isinstance(evidence, str):
        trouble.append(evidence)
        evidence = Evidence()
    try:
        lost += _without_erased(home, evidence, database)
    except AllodError as fault:
        trouble.append(f"what was erased is not forgotten on disk: {fault.why}")
    audited, brought = len(evidence), list[str]()
    lines = counting(proven, day)
    for name in dict.fromkeys(one.source for one in lines if not one.source.startswith(_PUBLISHED)):
        pairs = {(one.deployment, one.task) for one in lines if one.source == name}
        try:
            told, gone = _told(home, name, pairs, database)
        except AllodError as fault:
            trouble.append(f"{fault.what}: {fault.why}")
            continue
        lost += gone
        for seen in told:
            evidence.learn(seen)
        brought += [name] if told else []
    return Gathered(
        evidence=evidence, counts=counts_of(evidence), priors=_priors(lines), sources=sources_of(proven, day),
        evaluations=tuple(brought), audits=audited, forgotten=lost, trouble=tuple(trouble),
    )  # fmt: skip


def sweep(home: Home) -> None:
    """Remove what a crash left half written: it may be words of what was erased since.

    Words of evaluations are left for a while, since a command may be writing them.
    """
    late = time.time() - _WRITING_S
    mine = [*audits_file(home).parent.glob("*.new")]
    words_ = [path for path in evaluations.folder(home).glob("*.words.new") if _changed_s(path) < late]
    for path in (*mine, *words_):
        with contextlib.suppress(OSError):
            path.unlink()


def _changed_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return math.inf


def audits(home: Home) -> Evidence | str:
    """Return what audits told, or why it cannot be read."""
    path = audits_file(home)
    try:
        return Evidence.from_bytes(path.read_bytes())
    except FileNotFoundError:
        return Evidence()
    except OSError as fault:
        return f"{path.name} cannot be read: {fault.strerror}"
    except AllodError as fault:
        return f"{path.name}: {fault.what}: {fault.why}"


def counts_of(evidence: Evidence) -> dict[tuple[str, str], int]:
    """Count judged outcomes by (task, deployment)."""
    counts: dict[tuple[str, str], int] = {}
    for one in evidence.all():
        for name, quality, _ in one.outcomes:
            if quality >= 0:
                at = one.features.task, name
                counts[at] = counts.get(at, 0) + 1
    return counts


def erased(database: Database, receipt: str) -> bool:
    """Tell whether a request was erased or pruned, or was never one of this home."""
    row = database.request(receipt)
    return row is None or row.request_salt is None


def nothing() -> Evidence:
    """Return evidence of nothing."""
    return Evidence()


def _without_erased(home: Home, evidence: Evidence, database: Database) -> int:
    gone = [one.receipt for one in evidence.all() if erased(database, one.receipt)]
    if gone:
        evidence.erase(gone)
        write_audits(home, evidence.to_bytes())
    return len(gone)


def _told(home: Home, name: str, pairs: set[tuple[str, str]], database: Database) -> tuple[list[Seen], int]:
    """Return the outcomes of one evaluation, and of how many cases the words were forgotten."""
    read = words.known(home, name)
    if not read:
        return [], 0
    whole = evaluations.one(home, name).evaluation
    at_ms = int(datetime.fromisoformat(whole.at).timestamp() * 1000)
    by_case: dict[str, list[Item]] = {}
    for item in whole.items:
        if item.case in read:
            by_case.setdefault(item.case, []).append(item)
    gone = [
        case
        for case, items in by_case.items()
        if any(item.receipt is not None and erased(database, item.receipt) for item in items)
    ]
    if gone:
        words.forget(home, name, read, gone)
    short = name.removeprefix("sha256:")[: evaluations.SHORT]
    told = list[Seen]()
    for case, items in by_case.items():
        if case not in gone:
            told += _case(f"{short}.{_mark(case)}", at_ms, read[case], items, pairs)
    return told, len(gone)


def _case(
    named: str, at_ms: int, read: Features, items: Iterable[Item], pairs: set[tuple[str, str]]
) -> list[Seen]:
    """Return what one case says of each deployment: the share of right answers, and their mean length."""
    by: dict[str, list[Item]] = {}
    for item in items:
        if (item.deployment, item.task) in pairs and item.task == read.task and item.status != "refused":
            by.setdefault(item.deployment, []).append(item)
    out = []
    for deployment, mine in sorted(by.items()):
        judged = any(item.judged for item in mine)
        lengths = [item.output_tokens for item in mine if item.status in {"right", "wrong"}]
        out.append(
            Seen(
                receipt=named, deployment=deployment, features=read, at_ms=at_ms,
                quality=None if judged else sum(item.status == "right" for item in mine) / len(mine),
                output_tokens=round(sum(lengths) / len(lengths)) if any(lengths) else None,
            )
        )  # fmt: skip
    return out


def _mark(case: str) -> str:
    return hashlib.blake2b(case.encode(), digest_size=12).hexdigest()


def _priors(lines: Iterable[Line]) -> tuple[Prior, ...]:
    return tuple(
        Prior(
            deployment=one.deployment, task="" if one.task == _DEFAULT else one.task, score=one.success,
            worth=min(MOST_WORTH, one.worth), source=one.source,
        )
        for one in lines
        if one.source.startswith(_PUBLISHED) and one.success is not None and one.worth > 0
    )  # fmt: skip
