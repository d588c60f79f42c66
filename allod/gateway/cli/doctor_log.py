"""What ``allod doctor`` says of the log's witnesses and of its pruning."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from allod.domain.errors import AllodError
from allod.gateway.cli.doctor import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allod.gateway.compose import Setting
    from allod.gateway.witness_report import Witnessed

LOOK_MS: Final = 2000


def witnesses(setting: Setting) -> Iterator[Finding]:
    """Say of each witness whether it can be reached, what it last cosigned, and whether it objects.

    Where a gateway runs, as it last wrote it down; else each is asked for nothing, to see whether it answers.
    """
    from allod.gateway.witness_report import standing_of  # noqa: PLC0415 (only when it runs)
    from allod.store.home import Lock  # noqa: PLC0415

    log = setting.config.log
    if not log.witnesses:
        yield Finding(
            "witnesses",
            "note",
            "none are configured: nobody else would see a log that was rolled back or forked",
        )
        return
    try:
        Lock(setting.home).release()
        runs = False
    except AllodError:
        runs = True
    rows = standing_of(setting)
    reached = {} if runs else asyncio.run(_look(setting))
    for one in rows:
        yield _finding(one, reached.get(one.name), runs=runs)
    fine = sum(1 for one in rows if one.size >= 0 and not one.objection)
    if log.quorum > fine:
        yield Finding(
            "quorum",
            "wrong",
            f"{fine} of {log.quorum} that are demanded have cosigned: receipts stay pending",
        )


def _finding(one: Witnessed, unreached: str | None, *, runs: bool) -> Finding:
    name, when = f"witness {one.name}", "" if runs else " when a gateway last ran"
    told = f"{one.told}{when}"
    if one.objection and not one.aside:
        remedy = "restore the newest home; if this witness is wrong, see `allod log witnesses --help`"
        return Finding(name, "wrong", told, remedy)
    if unreached is not None:
        wrong = unreached != ""
        state = f"does not answer: {unreached}" if wrong else "answers"
        return Finding(
            name, "wrong" if wrong else "ok", f"{state}; {told}", "check its URL and the network" * wrong
        )
    if one.problem or one.objection or one.size < 0:
        return Finding(name, "note" if one.aside else "wrong", told, "see `allod log witnesses`")
    return Finding(name, "ok", told)


async def _look(setting: Setting) -> dict[str, str]:
    """Return why each witness cannot be reached, empty where any answer came."""
    from allod.engines.contract import EngineFault  # noqa: PLC0415
    from allod.engines.wire import Wire  # noqa: PLC0415
    from allod.gateway import compose  # noqa: PLC0415

    allow, found = compose.addresses(setting).allow, dict[str, str]()
    for one in setting.config.log.witnesses:
        try:
            wire = Wire(one.url, allow_address=allow, max_connections=1, connect_timeout_ms=LOOK_MS)
        except ValueError as fault:
            found[one.name] = str(fault)
            continue
        try:
            response = await wire.request(
                "POST", "/add-checkpoint", (), b"",
                first_byte_ms=LOOK_MS, idle_ms=LOOK_MS, total_ms=LOOK_MS, max_body_bytes=1 << 16,
            )  # fmt: skip
            await response.read()
            found[one.name] = ""
        except EngineFault as fault:
            found[one.name] = fault.detail or str(fault)
        finally:
            await wire.close()
    return found


def pruning(setting: Setting) -> Iterator[Finding]:
    """Say what is pruned, and whether one has begun and not ended."""
    from allod.store.pruned import gone_of, plan_of  # noqa: PLC0415

    folder, retention = setting.home.log, setting.config.log.retention
    gone = gone_of(folder)
    if plan_of(folder) is not None:
        yield Finding(
            "pruning", "wrong", "one has begun and not ended", "stop the gateway, `allod log prune`"
        )
    elif gone is not None:
        yield Finding("pruning", "ok", f"leaves before {gone.record.upto} are pruned, to {gone.record.until}")
    for hold in retention.holds:
        yield Finding("legal hold", "note", hold.reason)
