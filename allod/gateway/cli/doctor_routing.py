"""What ``allod doctor`` looks at of what routing rests on: evaluations, published scores, tokenizers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allod.gateway.cli.doctor import Finding
from allod.gateway.cli.options import now_ms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allod.gateway.compose import Setting


def evaluations(setting: Setting) -> Iterator[Finding]:
    """Tell which evaluations and published scores in force do not count, and why."""
    proven = setting.proven
    for line in proven.ignored:
        yield Finding(
            f"quality {line.deployment}",
            "note",
            f"{line.source} does not count for task {line.task}: {line.why}",
            "evaluate it again, or take it out: `allod eval drop`, `allod eval prior remove`",
        )
    counting = [line for line in proven.lines if not line.why]
    if counting:
        yield Finding("quality", "ok", f"{len(counting)} figures rest on evaluations or published scores")


def estimates(setting: Setting) -> Iterator[Finding]:
    """Tell of each task that asks for estimates whether its requests are planned by them, and why not."""
    from allod.gateway.cli import estimate_lines  # noqa: PLC0415

    said = estimate_lines.status(setting)
    if said is None:
        return
    known = {} if said["known"] is None else {one["task"]: one for one in said["known"]["tasks"]}
    for task in said["tasks"]:
        one = known.get(task)
        why = said["why"] or ("there is no evidence of it" if one is None else one["why"])
        if not why and one is not None:
            error = f"calibration error {one['calibration_error']} out of fold"
            yield Finding(f"estimates {task}", "ok", f"fitted {said['known']['day']}, {error}")
            continue
        yield Finding(
            f"estimates {task}",
            "note",
            f"requests are planned by the task's own figures: {why}",
            "see `allod eval status`; evaluate its deployments on more cases",
        )


def tokenizers(setting: Setting) -> Iterator[Finding]:
    """Tell which deployment lately began to bill other tokens for the same text."""
    from allod.gateway.drifting import LATELY_MS, read_state, state_file  # noqa: PLC0415

    kept, damaged = read_state(state_file(setting.home))
    if damaged:
        yield Finding(
            "tokenizers",
            "note",
            f"{state_file(setting.home).name} cannot be used: {damaged}",
            "nothing: tokenizers are learned anew from the next start on",
        )
    now = now_ms()
    for one in kept:
        for found in one.alarms:
            if now - found.at_ms < LATELY_MS:
                yield Finding(
                    f"tokenizer {one.deployment}",
                    "note",
                    found.told(),
                    "compare the operator's announcements, and `allod models cost`",
                )
