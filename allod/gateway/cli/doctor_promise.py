"""What ``allod doctor`` looks at of the promises of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allod.gateway.cli.doctor import Finding
    from allod.gateway.compose import Setting


def promises(setting: Setting) -> Iterator[Finding]:
    """Say of each task with a cascade which rule is in force, and of a closed one why."""
    from allod.gateway.checks.probing import sentence, unable  # noqa: PLC0415
    from allod.gateway.cli.doctor import Finding  # noqa: PLC0415 (it imports this)
    from allod.gateway.cli.eval_promise import standings  # noqa: PLC0415
    from allod.gateway.promise import shown  # noqa: PLC0415
    from allod.gateway.promise.joining import incoming  # noqa: PLC0415

    if all(task.cascade is None for task in setting.fleet.tasks.values()):
        return
    for task, why in unable(setting.fleet, setting.config.check_files).items():
        yield Finding(
            f"checks {task}", "note", sentence(task, why), "correct it, or take the check out of the task"
        )
    bad = sorted(path.name for path in incoming(setting.home).glob("*.bad"))
    if bad:
        yield Finding(
            "promises", "note", f"another node's evidence cannot be read as it was signed: {', '.join(bad)}",
            "join it again, and delete these from promises/incoming",
        )  # fmt: skip
    for one, now in standings(setting):
        if not now:
            continue
        name, closed = f"promise {shown.named(one)}", shown.why_closed(one)
        said = one.bound().statement(one.promise)
        if closed is None:
            yield Finding(name, "ok", f"{shown.rule_of(one)}: {said}")
        elif shown.is_shut(one):
            yield Finding(
                name,
                "note",
                f"closed, {one.who.reference} answers everything: {closed}",
                "see `allod eval promise`",
            )
        else:
            yield Finding(name, "ok", f"{one.who.reference} answers everything, {closed}: {said}")
