"""What ``allod doctor`` looks at of drafts: which is loaded, and why one that is configured is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allod.gateway.cli.doctor import Finding
from allod.gateway.cli.options import now_ms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allod.gateway.compose import Setting


def drafts(setting: Setting) -> Iterator[Finding]:
    """Tell of each draft whether it is used, and what to do where it is not."""
    from allod.gateway import speculating  # noqa: PLC0415

    for one in speculating.checked(setting, now_ms()):
        detail = f"{one.draft} is {'used' if one.used else 'not loaded'}: {one.why}"
        yield Finding(f"draft {one.deployment}", "ok" if one.used else "note", detail, one.remedy)
