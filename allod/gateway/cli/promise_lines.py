"""How ``allod explain`` shows a task's promise: its rule, its bound, and what each alternative would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allod.gateway.cli import say
from allod.gateway.cli.lines import say_folded

if TYPE_CHECKING:
    from allod.gateway.decide import Decider, Decision
    from allod.store.home import Home


def promise_of(home: Home, decider: Decider, decision: Decision) -> dict[str, Any] | None:
    """Return what a request's task promises, None where it has no cascade (which costs nothing to say)."""
    task = decider.fleet.tasks.get(decision.question.task or "")
    if task is None or task.cascade is None:
        return None
    from allod.gateway.promise.shown import explained  # noqa: PLC0415 (only where there is one)

    return explained(home, decider, decision)


def print_promise(said: dict[str, Any] | None) -> None:
    """Print it."""
    if said is None:
        return
    say()
    why = f"   ({said['why']})" if said.get("why") else ""
    say_folded("  promise: ", f"{said['rule']} is in force, against {said['reference']}{why}")
    say_folded("    checks: ", f"{', '.join(said['checks'])}; answers are compared by {said['key']}")
    rules = [one for one in said["rules"] if isinstance(one, dict)]
    for one in rules:
        day = f", {one['day']}" if one["day"] else ""
        mark = "open" if one["open"] else "not proven"
        bound = f"change of quality at least {one['change_at_least']} with {one['confidence']}"
        say_folded(f"    {one['rule']}: ", f"{mark}; {bound} from {one['n']} audits{day}")
    if said.get("saving"):
        saved = said["saving"]
        between = f"{saved['low_usd']} to {saved['high_usd']} with {saved['confidence']}"
        say_folded("    saved: ", f"{saved['usd']} USD ({between}) after checks and audits")
    for way, cost in said["alternatives"].items():
        say_folded(f"    {way}: ", f"{cost} USD expected")
