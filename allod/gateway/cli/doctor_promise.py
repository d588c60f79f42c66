"""What ``allod doctor`` looks at of the promises of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allod.gateway.cli.doctor import Finding
    from allod.gateway.compose import Setting


def promises(setting: Setting) -> Iterator[Finding]:
    """Say of each task with a cascade which rule is in force, and of a closed one why."""
    from allod.gateway.cli.doctor import Finding  # noqa: PLC0415 (it imports this)
    from allod.gateway.cli.eval_promise import standings  # noqa: PLC0415
    from allod.gateway.promise import shown  # noqa: PLC0415

    if all(task.cascade is None for task in setting.fleet.tasks.values()):
        return
    for one, now in standings(setting):
        if not now:
            continue
        name, closed = f"promise {one.task}", shown.why_closed(one)
        said = one.bound().statement(one.promise)
        if closed is None:
            yield Finding(name, "ok", f"{shown.rule_of(one)}: {said}")
        elif one.state.shut or one.blind or one.trouble:
            yield Finding(
                name,
                "note",
                f"closed, {one.who.reference} answers everything: {closed}",
                "see `allod eval promise`",
            )
        else:
            yield Finding(name, "ok", f"{one.who.reference} answers everything, {closed}: {said}")
