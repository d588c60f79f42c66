"""What an evaluation found, one item per case and deployment, and the scores it claims from them.

The file of an evaluation is canonical JSON (RFC 8785 profile: no floats, money as strings) and is known by
its digest. Scores are not in it: they are computed from the items whenever it is read, by ``scores``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from allod.assurance.judge import errors
from allod.assurance.scores import Interval, Score, cases_worth, corrected, mean, paired, score
from allod.domain.errors import Integrity
from allod.domain.money import plain
from allod.receipts.canonical import canonical
from allod.receipts.commitment import digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allod.assurance.judge import Errors

FORMAT: Final = "allod-evaluation-2"
OLDER: Final = "allod-evaluation-1"
"""Without labels, and without saying what was evaluated: such evaluations are shown, and never counted."""
FORMATS: Final = frozenset({FORMAT, OLDER})
MAX_BYTES: Final = 1 << 30
NO_TASK: Final = "default"
_LATER: Final = ("evaluated", "effort", "labels")
Status = Literal["right", "wrong", "refused", "failed"]


class Evaluated(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a deployment was when it was asked: an evaluation says nothing of what it is exchanged for.

    Engine, model and operator as configured; digests of what we load ourselves. ``changed`` if it became
    another while it was asked.
    """

    engine: str
    model: str
    operator: str
    weights: str | None = None
    adapter: str | None = None
    template: str | None = None
    changed: bool = False


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One case asked of one deployment.

    ``refused`` is what law or limits kept from it; ``failed`` what it did not answer, which counts as wrong.
    ``repeat`` counts from 0. ``judged`` marks a verdict that is a judge's. ``cost_usd`` holds what the answer
    cost, and ``judge_usd`` what its judgement did, each as plain decimal. ``reasoning_tokens`` are those of
    ``output_tokens`` that were thinking, as far as that is known. ``label`` is a person's verdict on
    the answer a case gives: then ``deployment`` is the judge, and ``status`` what it said of that answer.
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
    label: bool | None = None
    reasoning_tokens: int = 0

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is an answer to: case, deployment and repeat."""
        return self.case, self.deployment, self.repeat


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run over one suite.

    ``evaluated`` says what each deployment was, ``effort`` at which depth all were asked (None: the default),
    ``labels`` what the judge said of answers that a person judged.
    """

    format: str
    at: str
    suite: str
    app: str
    home: str
    judge: str | None
    items: tuple[Item, ...]
    evaluated: dict[str, Evaluated] = {}
    effort: str | None = None
    labels: tuple[Item, ...] = ()

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
    for item in body["items"]:
        del item["label"]
        _without_thinking(item)
    for item in body["labels"]:
        _without_thinking(item)
    if found.format == OLDER:
        for name in _LATER:
            del body[name]
    return canonical(body)


def _without_thinking(item: dict[str, Any]) -> None:
    """Leave out what is younger than the format where it says nothing."""
    if not item["reasoning_tokens"]:
        del item["reasoning_tokens"]


def decode(raw: bytes) -> Evaluation:
    """Read an evaluation.

    Raises:
        Integrity: it is none, or not in canonical form.

    """
    found = read(raw)
    if encode(found) != raw:
        raise Integrity("this is no evaluation", "it is not in the form it was written in", "run it again")
    return found


def read(raw: bytes) -> Evaluation:
    """Read an evaluation whose digest was checked: its form was when it was written.

    Raises:
        Integrity: it is none.

    """
    try:
        found = msgspec.json.decode(raw, type=Evaluation)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Integrity("this is no evaluation", str(error)[:200], "run it again") from None
    if found.format not in FORMATS:
        raise Integrity("this is no evaluation", f"got format {found.format[:40]!r}", "run it again")
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


def judge_errors(found: Evaluation, task: str) -> Errors | None:
    """Measure the judge on the answers of a task that a person judged; None if there are none.

    A judgement that did not come counts as "wrong": that is how it counts for a deployment too.
    """
    pairs = [
        (item.label, item.status == "right")
        for item in found.labels
        if item.label is not None and item.task == task
    ]
    return errors(pairs) if pairs else None


def judged_rate(found: Evaluation, deployment: str, task: str) -> Interval | None:
    """Return the share of a task's judged cases that are right, corrected by the judge's errors.

    None where nothing was judged; from 0 to 1 where the judge was not measured on this task.
    """
    _, judged = _apart(found, deployment, task)
    if not judged:
        return None
    known, seen = judge_errors(found, task), mean(judged)
    if known is None:
        return Interval(value=seen.value, low=0.0, high=1.0)
    return corrected(seen, known.sensitivity, known.specificity)


def counted(found: Evaluation, deployment: str, task: str) -> tuple[float, float]:
    """Return successes and failures that may be counted, in cases.

    Exactly checked cases count each; judged ones at their corrected rate, for as many cases as an exact count
    would need to say as little, and not at all where the judge was not measured on this task.
    """
    exact, judged = _apart(found, deployment, task)
    successes, n = sum(exact), float(len(exact))
    rate = judged_rate(found, deployment, task)
    if rate is not None:
        worth = cases_worth(rate, len(judged))
        successes, n = successes + rate.value * worth, n + worth
    return successes, n - successes


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What answers took in all: how many there were, tokens (visible and thinking apart), milliseconds."""

    answers: int
    output_tokens: int
    reasoning_tokens: int
    total_ms: int


def spent(found: Evaluation, deployment: str, task: str) -> Spent:
    """Return what the answers of a deployment to a task took; those that did not come are left out."""
    mine = [
        i
        for i in found.items
        if i.deployment == deployment and i.task == task and i.status in {"right", "wrong"}
    ]
    thought = sum(min(item.reasoning_tokens, item.output_tokens) for item in mine)
    return Spent(
        answers=len(mine),
        output_tokens=sum(item.output_tokens for item in mine) - thought,
        reasoning_tokens=thought,
        total_ms=sum(item.total_ms for item in mine),
    )


def _apart(found: Evaluation, deployment: str, task: str) -> tuple[list[float], list[float]]:
    """Return the values of a task's cases, those no judge had to do with and the others."""
    mine = [i for i in found.items if i.deployment == deployment and i.task == task]
    judged = {item.case for item in mine if item.judged}
    known = values(mine)
    return [v for c, v in known.items() if c not in judged], [v for c, v in known.items() if c in judged]


def total_cost(items: Iterable[Item]) -> str:
    """Return what answers and judgements cost together, USD."""
    return plain(sum((Decimal(i.cost_usd) + Decimal(i.judge_usd) for i in items), Decimal(0)))
