"""Who takes part in a task's cascade, given what was proven: proof is not thrown away for a small saving.

``rules.parties`` takes the cheapest. Prices and qualities move, and each other base or second is another
promise, which begins at the reference. So whoever was chosen automatically stays, as long as they are lawful,
up, and not more than ``switch_margin`` times as dear as the cheapest; and whoever was proven most comes back
when they are so again. It is a function of the promises there are and of the candidates, and remembers
nothing: a restart chooses the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allod.gateway.promise.rules import cost_per_solved, may_try, parties

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from decimal import Decimal

    from allod.domain.decision import Candidate
    from allod.domain.fleet import CascadeTask, Fleet, Task
    from allod.gateway.promise.rules import Parties
    from allod.gateway.promise.state import Standing


def choose(
    task: Task,
    candidates: Sequence[Candidate],
    fleet: Fleet,
    known: Iterable[Standing] = (),
    down: Container[str] = (),
) -> Parties | None:
    """Choose reference, base and second of a request; None where law and limits leave nobody.

    Args:
        task: it has a cascade.
        candidates: of the plan.
        fleet: what there is.
        known: promises of this task that are in force.
        down: deployments that cannot serve now. A reference is the reference all the same, as is whoever is
            named; a base or second that was chosen automatically gives way to one that is up.

    """
    own = task.cascade
    assert own is not None
    first = parties(task, candidates, fleet)
    if first is None or first.base is None or (own.base and (own.second or first.second is None)):
        return first
    fixed = {own.base, own.second, first.reference}
    up = [one for one in candidates if one.deployment in fixed or one.deployment not in down]
    best = first if len(up) == len(candidates) else parties(task, up, fleet)
    if best is None or best.base is None or (best.second is None) != (first.second is None):
        best, up = first, list(candidates)  # who is left cannot do what was promised
    by = {one.deployment: one for one in up if may_try(one)}
    most = {
        name: cost_per_solved(by[name])[1] * own.switch_margin for name in (best.base, best.second) if name
    }
    rivals = [one for one in known if _may_stay(one.who, best, own, by, most)]
    return max(rivals, key=_proven).who if rivals else best


def _may_stay(
    who: Parties,
    best: Parties,
    own: CascadeTask,
    by: Mapping[str, Candidate],
    most: Mapping[str, Decimal],
) -> bool:
    """Tell whether those who made a promise before may go on with it."""
    if who.reference != best.reference or (who.second is None) != (best.second is None):
        return False
    pairs = ((who.base, own.base, best.base), (who.second, own.second, best.second))
    for name, named, cheapest in pairs:
        if name is None or cheapest is None:
            continue
        one = by.get(name)
        if one is None or (named is not None and name != named):
            return False
        if named is None and not (one.quality and cost_per_solved(one)[1] <= most[cheapest]):
            return False
    return True


def _proven(one: Standing) -> tuple[int, int, int]:
    """Order promises by what is proven: rules open, audits of the strictest, and who was first."""
    return one.state.open, one.state.rungs[0].wealth.n, -one.spent.since_ms
