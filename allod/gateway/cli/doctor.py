"""``allod doctor``: look for what is wrong, and say what to do."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from allod.domain.errors import AllodError
from allod.gateway.cli import FAILED, out, say
from allod.gateway.cli.options import config_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from allod.gateway.compose import Setting

LOW_DISK_BYTES = 1 << 30
FACTS = ("processing", "at_rest", "transit", "on_premises", "records_auditable", "inspectable")


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at: what, how it stands, what was found, what to do."""

    name: str
    state: Literal["ok", "note", "wrong"]
    detail: str
    remedy: str = ""


@click.command("doctor")
@click.option(
    "--air-gap",
    "air_gap",
    is_flag=True,
    help="show that nothing reaches out, on a copy, watched by the kernel",
)
@config_option
@json_option
def command(air_gap: bool, config_path: Path | None, as_json: bool) -> None:
    """Look at home, configuration, packs, vault, deployments, log and port. Exit code 1 if one is wrong.

    With --air-gap, instead: start a copy of this configuration in a network of nothing but loopback, ask it
    everything, and list every address that it and its children tried. Exit code 1 if one reaches out, 5 if
    this system lets nothing be seen.
    """
    if air_gap:
        from allod.gateway.cli import doctor_airgap  # noqa: PLC0415 (only when it runs)

        doctor_airgap.run(config_path, as_json=as_json)
    findings = list(_findings(config_path))
    wrong = any(f.state == "wrong" for f in findings)
    if as_json:
        out({"ok": not wrong, "findings": findings})
    else:
        for f in findings:
            say(f"{f.state:6} {f.name:28} {f.detail}")
            if f.remedy:
                say(f"{'':35} do: {f.remedy}")
    sys.exit(FAILED if wrong else 0)


def _findings(config_path: Path | None) -> Iterator[Finding]:
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)

    yield Finding("python", "ok", sys.version.split()[0])
    try:
        setting = compose.setting(config_path)
    except AllodError as error:
        yield Finding("home and configuration", "wrong", f"{error.what}: {error.why}", error.remedy)
        return
    yield Finding("home and configuration", "ok", str(setting.home.root))
    free = shutil.disk_usage(setting.home.root).free
    low = free < LOW_DISK_BYTES
    room = f"{free >> 20} MiB free"
    yield Finding(
        "disk", "wrong" if low else "ok", room, "free at least 1 GiB for log and vault" if low else ""
    )
    from allod.gateway.cli import (  # noqa: PLC0415
        doctor_log,
        doctor_promise,
        doctor_routing,
        doctor_speculation,
    )

    looks = (_packs, _supply, _vault, _deployments, doctor_log.witnesses, doctor_log.pruning)
    rests = (doctor_routing.evaluations, doctor_routing.estimates, doctor_routing.tokenizers)
    routing = (*rests, doctor_promise.promises, doctor_speculation.drafts)
    for look in (*looks, *routing, _running):
        yield from _guarded(look, setting)


def _guarded(look: Callable[[Setting], Iterator[Finding]], setting: Setting) -> Iterator[Finding]:
    try:
        yield from look(setting)
    except AllodError as error:
        yield Finding(look.__name__.strip("_"), "wrong", f"{error.what}: {error.why}", error.remedy)


def _packs(setting: Setting) -> Iterator[Finding]:
    from allod.gateway import compose  # noqa: PLC0415
    from allod.policy import run_cases, run_lint  # noqa: PLC0415
    from allod.policy.pack import BASE  # noqa: PLC0415

    decider = compose.decider(setting.fleet, setting.packs, setting.supplied.books)
    base = setting.packs.load(BASE)
    for pack in decider.policy.packs:
        others = [setting.packs.load(name) for name in pack.manifest.requires if name not in {BASE, pack.id}]
        broken = [c for c in run_cases(pack, base, *others) if not c.ok]
        flaws = run_lint(pack)
        if broken or flaws:
            yield Finding(
                f"pack {pack.id}", "wrong", f"{len(broken)} cases fail; {'; '.join(flaws)}", "reinstall it"
            )
        elif not pack.manifest.reviewer:
            yield Finding(
                f"pack {pack.id}",
                "note",
                f"{pack.version}, {len(pack.rules)} rules; no person has reviewed it",
            )
        else:
            yield Finding(f"pack {pack.id}", "ok", f"{pack.version}, reviewed by {pack.manifest.reviewer}")
    for waived in setting.fleet.tenant.relax:
        yield Finding(waived.rule, "note", f"waived by {waived.signer}: {waived.reason}")


def _supply(setting: Setting) -> Iterator[Finding]:
    from allod.domain.money import rfc3339  # noqa: PLC0415
    from allod.gateway.cli.options import now_ms  # noqa: PLC0415

    found = setting.supplied.generation
    if found is None:
        return
    old = found.old(rfc3339(now_ms()))
    if old:
        yield Finding("bundles", "note", old, "bring a newer bundle: `allod bundle import PATH`")
    else:
        yield Finding(
            "bundles", "ok", f"switch {found.serial}, {len(found.items)} items, due {found.expires}"
        )


def _vault(setting: Setting) -> Iterator[Finding]:
    for entry in setting.vault.list():
        name = entry.manifest.name
        try:
            setting.vault.verify(name)
        except AllodError as error:
            yield Finding(f"model {name}", "wrong", f"{error.what}: {error.why}", error.remedy)
        else:
            yield Finding(f"model {name}", "ok", entry.manifest.digest[:23])


def _deployments(setting: Setting) -> Iterator[Finding]:
    for d in setting.fleet.deployments.values():
        unknown = [name for name in FACTS if getattr(d, name) is None]
        name = f"deployment {d.id}"
        if d.id in setting.trouble:
            yield Finding(name, "wrong", setting.trouble[d.id], "see `allod models list`")
        elif d.api_key_env and d.api_key_env not in os.environ:
            yield Finding(name, "note", f"{d.api_key_env} is not set here; `allod up` needs it where it runs")
        elif unknown:
            yield Finding(name, "note", f"unknown: {', '.join(unknown)}; unknown counts as outside")
        else:
            yield Finding(name, "ok", f"{d.engine} {d.model}")


def _running(setting: Setting) -> Iterator[Finding]:
    from allod.gateway import compose, gap  # noqa: PLC0415
    from allod.store.home import Lock  # noqa: PLC0415

    server = setting.config.server
    host = gap.here(server.host)
    if setting.fleet.tenant.air_gapped:
        gap.reachable(compose.addresses(setting), host, server.port)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        listening = probe.connect_ex((host, server.port)) == 0
    try:
        Lock(setting.home).release()
    except AllodError:
        state: Literal["ok", "wrong"] = "ok" if listening else "wrong"
        yield Finding(
            "gateway", state, f"runs, port {server.port} {'answers' if listening else 'does not answer'}"
        )
        return
    if listening:
        remedy = "stop it, or change [server] port"
        yield Finding("gateway", "wrong", f"not running, and another program has port {server.port}", remedy)
        return
    yield Finding("gateway", "note", "not running")
    from allod.store.audit import verify_home  # noqa: PLC0415

    result = verify_home(setting.home, lambda _done, _all: None)
    bad = next((step for step in result.steps if not step.ok), None)
    if bad is None:
        yield Finding("log", "ok", "verifies")
    else:
        yield Finding(
            "log", "wrong", f"{bad.name}: {bad.detail}", "stop, copy this home, and restore it from a backup"
        )
