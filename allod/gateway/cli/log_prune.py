"""``allod log prune | status``: what of the log is old enough to go, and how the log stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from allod.domain.errors import Invalid
from allod.gateway.cli import out, say
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import config_option, json_option, now_ms

if TYPE_CHECKING:
    from pathlib import Path

    from allod.gateway.compose import Setting
    from allod.store.prunable import Outlook, Rules


@click.command("prune")
@click.option("--dry-run", is_flag=True, help="say what would go, and change nothing")
@config_option
@json_option
def prune(dry_run: bool, config_path: Path | None, as_json: bool) -> None:
    """Delete leaves that are older than the log's published policy ([log] retain_days); the home is at rest.

    A leaf announces it first. Hashes and notices stay, so every proof can still be made; salts and decision
    records of what is pruned go too. What is open, under a legal hold ([log] holds) or, with a quorum, not
    cosigned yet stays. Interrupted, it is finished by the next run.
    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.gateway.cli.log_keys import tenant_of  # noqa: PLC0415
    from allod.store.prune import outlook  # noqa: PLC0415
    from allod.store.prune import prune as carry_out  # noqa: PLC0415

    setting = compose.setting(config_path)
    rules = _rules(setting)
    if dry_run:
        found = outlook(setting.home, rules, now_ms=now_ms())
    else:
        found = carry_out(setting.home, rules, tenant=tenant_of(setting), now_ms=now_ms())
    if as_json:
        out({"dry_run": dry_run, "policy": rules.policy.digest, **msgspec.to_builtins(found)})
    else:
        _tell(found, dry_run=dry_run)


def _tell(found: Outlook, *, dry_run: bool) -> None:
    if found.upto == found.since:
        say_folded("nothing is pruned: ", found.why)
        return
    did = "would be pruned" if dry_run else "are pruned"
    say(f"leaves {found.since} to {found.upto - 1} of {found.size} {did}, up to {found.until}")
    say(f"{found.bytes / 2**20:.1f} MiB of leaves; {found.kept} notices are kept, and every hash")
    say_folded("no more: ", found.why)


def _rules(setting: Setting) -> Rules:
    """Put together what decides (raises Invalid where nothing may be pruned, or a pack demands more)."""
    from allod.gateway import compose  # noqa: PLC0415
    from allod.gateway.retention import judged  # noqa: PLC0415
    from allod.receipts.tlog_policy import k_of_n  # noqa: PLC0415
    from allod.store.home import load_keys  # noqa: PLC0415
    from allod.store.prunable import Rules  # noqa: PLC0415

    log = setting.config.log
    policy = log.retention.policy(load_keys(setting.home).origin)
    if policy is None:
        raise Invalid(
            "nothing is pruned from this log",
            "[log] retain_days says nothing, and without a published policy a log must keep everything",
            "set it and start the gateway once: that publishes it",
            param="log.retain_days",
        )
    judged(log.retention, compose.decider(setting.fleet, setting.packs).policy.packs)
    trust = k_of_n(log.witnesses, log.quorum) if log.quorum else None
    return Rules(policy=policy, holds=log.retention.holds, trust=trust)


@click.command("status")
@config_option
@json_option
def status(config_path: Path | None, as_json: bool) -> None:
    """Show size, keys, pruning policy, minimum index, holds and witnesses of the log."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.gateway.witness_report import standing_of  # noqa: PLC0415
    from allod.receipts.pruning import describe  # noqa: PLC0415
    from allod.store.home import load_keys  # noqa: PLC0415
    from allod.store.pruned import gone_of, plan_of  # noqa: PLC0415
    from allod.store.recovery import read_checkpoint  # noqa: PLC0415

    setting = compose.setting(config_path)
    home, log = setting.home, setting.config.log
    keys, gone = load_keys(home), gone_of(home.log)
    checkpoint = read_checkpoint(home, keys.signer.key)
    said: dict[str, Any] = {
        "origin": keys.origin,
        "size": checkpoint.size if checkpoint is not None else 0,
        "key": keys.signer.key.vkey(),
        **describe(log.retention.policy(keys.origin), gone.record if gone is not None else None),
        "unfinished": plan_of(home.log) is not None,
        "holds": [msgspec.to_builtins(hold) for hold in log.retention.holds],
        "witnesses": [msgspec.to_builtins(one) for one in standing_of(setting)],
        "quorum": log.quorum,
    }
    if as_json:
        out(said)
        return
    say(f"{said['origin']}: {said['size']} leaves, the first that is there is {said['minimum_index']}")
    say(f"key {said['key']}")
    say_folded("pruning: ", said["statement"])
    for hold in log.retention.holds:
        say_folded("hold: ", hold.reason)
    if said["unfinished"]:
        say("a pruning has begun and not ended: run `allod log prune` while the gateway is stopped")
    for one in standing_of(setting):
        say_folded(f"witness {one.name}: ", one.told)
