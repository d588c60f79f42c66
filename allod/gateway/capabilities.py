"""What evaluations and published scores make of a fleet: which of them count, and for how much.

They decide about routing: where a file of theirs is damaged, or an evaluation in use is gone or changed,
nothing starts (exit code 3). They cannot make a deployment lawful: they move quality alone.

An evaluation counts for what was evaluated. Where a deployment has other weights now, another template,
another model or operator, or its task another depth, it does not count, and ``standing`` says why.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from allod.assurance import evaluation as forms
from allod.assurance.evaluation import NO_TASK, Evaluated, Evaluation
from allod.domain.errors import Integrity
from allod.domain.fleet import EFFORTS, CapabilityEvidence, DepthEvidence, Fleet
from allod.gateway import evaluations
from allod.gateway.uses import Prior, Use, plain_of, priors, uses
from allod.receipts.canonical import canonical
from allod.receipts.commitment import digest
from allod.routing.capability import Finding, Published, evidence
from allod.routing.depth import AtDepth, depth_evidence
from allod.routing.record import read_record
from allod.routing.snapshot import read_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from allod.domain.fleet import Deployment, Effort, Task
    from allod.store.database import Database
    from allod.store.home import Home

SUBJECT: Final = "capability"
"""Of the notice a start leaves in the log of what is in force."""
_LEAST_WORTH: Final = 0.01
"""Cases; what counts for less counts for nothing."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """How one evaluation or publication in force stands with one deployment and task.

    ``why`` says why it does not count; empty where it does. ``worth`` is in cases.
    """

    source: str
    deployment: str
    task: str
    why: str
    worth: float = 0.0
    success: float | None = None
    at: str = ""
    until: date | None = None


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """All that is in force: as written, how each stands, and what the fleet carries of it."""

    uses: tuple[Use, ...] = ()
    priors: tuple[Prior, ...] = ()
    lines: tuple[Line, ...] = ()
    evidence: dict[str, dict[str, tuple[CapabilityEvidence, ...]]] = {}
    depths: dict[str, dict[str, tuple[DepthEvidence, ...]]] = {}

    @property
    def ignored(self) -> tuple[Line, ...]:
        """What is in force and does not count."""
        return tuple(line for line in self.lines if line.why)

    def notice(self) -> dict[str, str]:
        """Say in the log what counts: digests, and who changed it last; nothing where nothing is in force."""
        if not self.uses and not self.priors:
            return {}
        entries = [(one.at, one.by) for one in self.uses] + [(one.at, one.by) for one in self.priors]
        at, by = max(entries)
        return {
            "evaluations": digest(canonical([plain_of(one) for one in self.uses])),
            "in_use": f"{len(self.uses)}",
            "priors": digest(canonical([plain_of(one) for one in self.priors])),
            "published": f"{len(self.priors)}",
            "ignored": f"{len(self.ignored)}",
            "changed_by": by,
            "changed_at": at,
        }


def evaluated_of(fleet: Fleet, deployment: Deployment) -> Evaluated:
    """Say what a deployment of a fleet is, as an evaluation has to name it."""
    known = fleet.weights.get(deployment.id)
    return Evaluated(
        engine=deployment.engine,
        model=deployment.model,
        operator=deployment.operator,
        weights=None if known is None else known.weights,
        adapter=None if known is None else known.adapter,
        template=None if known is None else known.template,
    )


def evaluated_by(
    tables: Database, deployment: str, receipts: tuple[str, ...], wait: Callable[[], bool]
) -> Evaluated | None:
    """Say what a deployment was when it was asked: as the fleets say that these requests were decided with.

    ``wait`` is called while a receipt is not in the tables yet, and says whether to look again.

    Returns None where no decision is known of any.

    Raises:
        Integrity: a decision record or a configuration is damaged.

    """
    seen = [_evaluated(tables, deployment, receipt, wait) for receipt in receipts]
    known = [one for one in seen if one is not None]
    if not known:
        return None
    return (
        known[0] if all(one == known[0] for one in known) else msgspec.structs.replace(known[0], changed=True)
    )


def _evaluated(tables: Database, deployment: str, receipt: str, wait: Callable[[], bool]) -> Evaluated | None:
    while (row := tables.request(receipt)) is None:
        if not wait():
            return None
    record = tables.record(row.decision)
    named = None if record is None else read_record(record).configuration
    body = None if named is None else tables.configuration(named)
    if named is None or body is None:
        return None
    fleet = read_snapshot(body, named)
    return None if deployment not in fleet.deployments else evaluated_of(fleet, fleet.deployments[deployment])


def standing(home: Home, fleet: Fleet, max_age_days: int, today: date) -> InForce:
    """Read what is in force and hold it against a fleet.

    Raises:
        Integrity: a file is damaged, or an evaluation in use is gone or changed.

    """
    found, published = uses(home), priors(home)
    lines: list[Line] = []
    findings: dict[tuple[str, str], list[Finding]] = {}
    scores: dict[tuple[str, str], list[Published]] = {}
    at_depths: dict[tuple[str, str], list[AtDepth]] = {}
    seen: set[tuple[str, str, str]] = set()
    for one in found:
        whole = _evaluation(home, one.evaluation)
        until = _made(whole) + timedelta(days=max_age_days)
        for name, task in dict.fromkeys((item.deployment, item.task) for item in whole.items):
            if one.task not in {None, task} or (one.evaluation, name, task) in seen:
                continue
            seen.add((one.evaluation, name, task))
            line, finding = _held(one.evaluation, whole, fleet, name, task, until, today)
            lines.append(line)
            if finding is not None:
                at = _at_depth(fleet, whole, name, task, finding)
                at_depths.setdefault((name, task), []).extend(at)
                if all(each.effort == _least_depth(fleet.tasks[task]) for each in at):
                    findings.setdefault((name, task), []).append(finding)
    for prior in published:
        for line in _published(prior, fleet):
            lines.append(line)
            if not line.why:
                scores.setdefault((line.deployment, line.task), []).append(prior.published)
    return InForce(
        uses=found,
        priors=published,
        lines=tuple(lines),
        evidence=_carried(fleet, findings, scores, today),
        depths=_at_depths(at_depths, today),
    )


def _at_depths(
    found: dict[tuple[str, str], list[AtDepth]], today: date
) -> dict[str, dict[str, tuple[DepthEvidence, ...]]]:
    out: dict[str, dict[str, tuple[DepthEvidence, ...]]] = {}
    for (name, task), each in sorted(found.items()):
        known = depth_evidence(each, today)
        if known:
            out.setdefault(name, {})[task] = known
    return out


def measured(fleet: Fleet, known: InForce) -> Fleet:
    """Return the fleet with what is in force; the very same where there is nothing."""
    if not known.evidence and not known.depths:
        return fleet
    deployments = {
        name: msgspec.structs.replace(
            one, capability=known.evidence.get(name, {}), depths=known.depths.get(name, {})
        )
        if name in known.evidence or name in known.depths
        else one
        for name, one in fleet.deployments.items()
    }
    return msgspec.structs.replace(fleet, deployments=deployments)


def _evaluation(home: Home, name: str) -> Evaluation:
    """Read an evaluation in use, by its whole digest."""
    path = evaluations.folder(home) / f"{name.removeprefix('sha256:')[: evaluations.SHORT]}.json"
    try:
        raw = path.read_bytes()
    except OSError as fault:
        raise Integrity(
            f"evaluation {name} is in use, and cannot be read",
            str(fault),
            f"restore it, or `allod eval drop {name}`",
        ) from None
    if forms.name_of(raw) != name:
        raise Integrity(
            f"evaluation {name} is in use, and was changed",
            f"its digest is {forms.name_of(raw)}",
            f"restore it, or `allod eval drop {name}`",
        )
    return forms.read(raw)


def _made(whole: Evaluation) -> date:
    try:
        return date.fromisoformat(whole.at[:10])
    except ValueError as fault:
        raise Integrity("an evaluation does not say when it was made", str(fault), "run it again") from None


def _held(
    name: str, whole: Evaluation, fleet: Fleet, deployment: str, task: str, until: date, today: date
) -> tuple[Line, Finding | None]:
    line = Line(source=name, deployment=deployment, task=task, why="", at=whole.at, until=until)
    successes, failures = forms.counted(whole, deployment, task)
    worth = successes + failures
    why = _changed(fleet, deployment, whole.evaluated.get(deployment)) or _elsewhere(fleet, task, whole)
    if not why and until <= today:
        why = f"too old: it counted until {until} (evaluation.max_age_days)"
    if not why and worth < _LEAST_WORTH:
        why = _worthless(whole, deployment, task)
    line = msgspec.structs.replace(line, worth=worth, success=successes / worth if worth else None, why=why)
    if why:
        return line, None
    return line, Finding(successes=successes, failures=failures, evaluation=name, at=whole.at, until=until)


def _worthless(whole: Evaluation, deployment: str, task: str) -> str:
    mine = [i for i in whole.items if i.deployment == deployment and i.task == task]
    if all(item.status == "refused" for item in mine):
        return "every case was refused it"
    if forms.judge_errors(whole, task) is None:
        return "judged by a model whose errors were not measured on this task"
    return "judged by a model that, by its errors, tells nothing"


def _changed(fleet: Fleet, deployment: str, then: Evaluated | None) -> str:
    """Say why what is served now is not what was evaluated; empty where it is."""
    if deployment not in fleet.deployments:
        return "there is no such deployment any more"
    if then is None:
        return "it does not say what was evaluated"
    if then.changed:
        return "the deployment became another while it was asked"
    now = evaluated_of(fleet, fleet.deployments[deployment])
    other = [
        f"{field} {getattr(now, field) or 'none'} instead of {getattr(then, field) or 'none'}"
        for field in Evaluated.__struct_fields__
        if getattr(now, field) != getattr(then, field)
    ]
    return "another is served now: " + "; ".join(other) if other else ""


def _at_depth(
    fleet: Fleet, whole: Evaluation, deployment: str, task: str, finding: Finding
) -> tuple[AtDepth, ...]:
    """Say at which depth something was found, where the task leaves open which it is; else nothing."""
    known, asked = fleet.tasks.get(task), whole.effort or EFFORTS[0]
    effort = next((one for one in EFFORTS if one == asked), None)
    if known is None or not known.efforts or effort is None:
        return ()
    took = forms.spent(whole, deployment, task)
    at = AtDepth(
        effort=effort,
        finding=finding,
        answers=took.answers,
        output_tokens=took.output_tokens,
        reasoning_tokens=took.reasoning_tokens,
        total_ms=took.total_ms,
    )
    return (at,)


def _elsewhere(fleet: Fleet, task: str, asked: Evaluation | None) -> str:
    """Say why no request is for what was asked: no such task, or another depth."""
    if task != NO_TASK and task not in fleet.tasks:
        return "there is no such task in the configuration"
    open_depths = () if task == NO_TASK else fleet.tasks[task].efforts
    if asked is not None and (asked.effort or EFFORTS[0]) in open_depths:
        return ""
    wanted = None if task == NO_TASK else _least_depth(fleet.tasks[task])
    if asked is not None and (wanted or "none") != (asked.effort or "none"):
        return f"it was asked at effort {asked.effort or 'default'}, the task asks at {wanted or 'default'}"
    return ""


def _least_depth(task: Task) -> Effort | None:
    """Return the least depth a request of a task is asked at: what was shown there holds at more, too."""
    return min(task.efforts, key=EFFORTS.index) if task.efforts else task.effort


def _published(prior: Prior, fleet: Fleet) -> Iterator[Line]:
    """Hold a published score against each deployment it is of."""
    name, doubt = f"published {prior.name}", prior.doubt
    why = _elsewhere(fleet, prior.task, None)
    if not why and doubt.worth < _LEAST_WORTH:
        why = "its audit leaves nothing of it"
    if prior.deployment is not None:
        names = [prior.deployment]
        why = why or _changed(fleet, prior.deployment, prior.evaluated)
    else:
        names = [d.id for d in fleet.deployments.values() if d.model == prior.published.model]
    if not names:
        yield Line(
            source=name,
            deployment=prior.published.model,
            task=prior.task,
            why="no deployment serves this model",
        )
    for one in names:
        yield Line(
            source=name, deployment=one, task=prior.task, why=why, worth=doubt.worth, success=doubt.success,
            at=prior.at,
        )  # fmt: skip


def _carried(
    fleet: Fleet,
    findings: dict[tuple[str, str], list[Finding]],
    scores: dict[tuple[str, str], list[Published]],
    today: date,
) -> dict[str, dict[str, tuple[CapabilityEvidence, ...]]]:
    out: dict[str, dict[str, tuple[CapabilityEvidence, ...]]] = {}
    for name, task in sorted({*findings, *scores}):
        declared = fleet.deployments[name].quality
        known = evidence(
            declared.get(task, declared.get(NO_TASK)),
            scores.get((name, task), ()),
            findings.get((name, task), ()),
            today,
        )
        if known:
            out.setdefault(name, {})[task] = known
    return out
