"""What an evaluation found, one item per case and deployment, and the scores it claims from them.

The file of an evaluation is canonical JSON (RFC 8785 profile: no floats, money as strings) and is known by
its digest. Scores are not in it: they are computed from the items whenever it is read, by ``scores``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from allod.assurance.scores import Interval, Score, corrected, paired, score
from allod.domain.errors import Integrity
from allod.domain.money import plain
from allod.receipts.canonical import canonical
from allod.receipts.commitment import digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allod.assurance.judge import Errors

FORMAT: Final = "allod-evaluation-1"
MAX_BYTES: Final = 1 << 30
NO_TASK: Final = "default"
Status = Literal["right", "wrong", "refused", "failed"]


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One case asked of one deployment.

    ``refused`` is what law or limits kept from it; ``failed`` what it did not answer, which counts as wrong.
    ``repeat`` counts from 0. ``judged`` marks a verdict that is a judge's. ``cost_usd`` holds what the answer
    cost, and ``judge_usd`` what its judgement did, each as plain decimal.
    """

    case: str
    task: str
    deployment: str
    status: Status
    why: str
    repeat: int = 0
    receipt: str | None = None
    cost_usd: str = "0"
    judge_usd: str = "0"
    input_tokens: int = 0
    output_tokens: int = 0
    total_ms: int = 0
    judged: bool = False
    simulated: bool = False

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is an answer to: case, deployment and repeat."""
        return self.case, self.deployment, self.repeat


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run over one suite."""

    format: str
    at: str
    suite: str
    app: str
    home: str
    judge: str | None
    items: tuple[Item, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of its cases, sorted."""
        return tuple(sorted({item.task for item in self.items}))

    @property
    def deployments(self) -> tuple[str, ...]:
        """The deployments that were asked, in order."""
        return tuple(dict.fromkeys(item.deployment for item in self.items))


def encode(found: Evaluation) -> bytes:
    """Write the canonical form."""
    body: dict[str, Any] = msgspec.to_builtins(found)
    return canonical(body)


def decode(raw: bytes) -> Evaluation:
    """Read an evaluation.

    Raises:
        Integrity: it is none, or not in canonical form.

    """
    try:
        found = msgspec.json.decode(raw, type=Evaluation)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Integrity("this is no evaluation", str(error)[:200], "run it again") from None
    if found.format != FORMAT or encode(found) != raw:
        raise Integrity("this is no evaluation", "it is not in the form it was written in", "run it again")
    return found


def name_of(raw: bytes) -> str:
    """Return the digest an evaluation is known by."""
    return digest(raw)


def values(items: Iterable[Item]) -> dict[str, float]:
    """Return the share of right answers of each case, over its repeats; refused ones are left out."""
    seen: dict[str, list[float]] = {}
    for item in items:
        if item.status != "refused":
            seen.setdefault(item.case, []).append(float(item.status == "right"))
    return {case: sum(found) / len(found) for case, found in seen.items()}


def score_of(found: Evaluation, deployment: str, task: str | None = None) -> Score:
    """Score a deployment on a task, or on all of them."""
    mine = [i for i in found.items if i.deployment == deployment and task in {None, i.task}]
    paid = sum((Decimal(item.cost_usd) for item in mine), Decimal(0))
    repeats = len({item.repeat for item in mine}) or 1
    return score(
        list(values(mine).values()),
        paid / repeats,
        refused=sum(item.status == "refused" for item in mine),
        failed=sum(item.status == "failed" for item in mine),
    )


def difference(
    found: Evaluation, deployment: str, reference: str, task: str | None = None
) -> Interval | None:
    """Return how much better it is than another on the cases both answered; None if there are none."""
    ours, theirs = (
        values(i for i in found.items if i.deployment == name and task in {None, i.task})
        for name in (deployment, reference)
    )
    both = sorted(ours.keys() & theirs.keys())
    return paired([ours[c] for c in both], [theirs[c] for c in both]) if both else None


def judged_rate(found: Evaluation, deployment: str, task: str | None, known: Errors) -> Interval:
    """Correct a deployment's rate by the judge's measured errors; exact checkers need no correction."""
    mine = [i for i in found.items if i.deployment == deployment and task in {None, i.task}]
    seen = score_of(found, deployment, task).success
    if not any(item.judged for item in mine):
        return seen
    return corrected(seen, known.sensitivity, known.specificity)


def total_cost(items: Iterable[Item]) -> str:
    """Return what answers and judgements cost together, USD."""
    return plain(sum((Decimal(i.cost_usd) + Decimal(i.judge_usd) for i in items), Decimal(0)))
