"""From what was gathered to an estimator that may be used: fitted, measured out of fold, and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from allod.gateway.estimates.kept import FORMAT, LEAST, Known, TaskKnown, places, write
from allod.receipts.commitment import digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from allod.gateway.estimates.gathering import Gathered
    from allod.routing.estimate import Estimator
    from allod.routing.held_out import Worth
    from allod.store.home import Home

UNMEASURED = "too few cases to measure it out of fold"


class Fit(msgspec.Struct, frozen=True):
    """An estimator and what is known of it."""

    known: Known
    estimator: Estimator


def fit(gathered: Gathered, day: str, between: Callable[[], None] = lambda: None) -> Fit | None:
    """Fit to what was gathered, and measure out of fold what that is worth: seconds.

    ``between`` is called now and then: what it raises ends it.

    Returns:
        None where there is no judged outcome.

    """
    from allod.routing.estimate import Estimator  # noqa: PLC0415 (numpy)
    from allod.routing.held_out import worth  # noqa: PLC0415

    if not gathered.counts:
        return None
    measured = {one.task: one for one in worth(gathered.evidence, gathered.priors, between)}
    between()
    estimator = Estimator(gathered.evidence, gathered.priors)
    estimator.fit()
    body = estimator.to_bytes()
    requests: dict[str, int] = {}
    for one in gathered.evidence.all():
        requests[one.features.task] = requests.get(one.features.task, 0) + 1
    tasks = sorted({task for task, _ in gathered.counts})
    return Fit(
        Known(
            format=FORMAT,
            estimator=digest(body),
            fitted=estimator.fitted_digest or "",
            sources=gathered.sources,
            day=day,
            requests=len(gathered.evidence),
            audits=gathered.audits,
            evaluations=gathered.evaluations,
            tasks=tuple(_known(task, requests[task], gathered, measured.get(task)) for task in tasks),
        ),
        Estimator.from_bytes(body),
    )


def keep(home: Home, made: Fit) -> None:
    """Keep it (raises ``Unavailable``)."""
    write(home, made.known, made.estimator.to_bytes())


def _known(task: str, requests: int, gathered: Gathered, measured: Worth | None) -> TaskKnown:
    outcomes = {name: n for (of, name), n in sorted(gathered.counts.items()) if of == task}
    if measured is None:
        return TaskKnown(task=task, requests=requests, outcomes=outcomes, why=UNMEASURED)
    why = "" if measured.tells else "out of fold it was no better than the task's own rates, beyond chance"
    if not why and max(outcomes.values()) < LEAST:
        why = f"no deployment has {LEAST} outcomes"
    return TaskKnown(
        task=task,
        requests=requests,
        outcomes=outcomes,
        calibration_error=places(measured.calibration_error),
        brier=places(measured.brier),
        brier_of_rate=places(measured.brier_of_rate),
        why=why,
    )
