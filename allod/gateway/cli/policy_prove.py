"""``allod policy prove``: theorems over every request and deployment, mutations, and today's fleet."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allod.gateway.cli import FAILED, out, say
from allod.gateway.cli.options import config_option, json_option
from allod.gateway.cli.policy import chosen
from allod.gateway.cli.policy_proved import print_fleet, print_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from allod.domain.fleet import Fleet
    from allod.gateway.packs import Packs
    from allod.policy.pack import Pack
    from allod.policy.proof.enumerate import Enumeration
    from allod.policy.proof.leaning import Lean
    from allod.policy.proof.report import Report


@click.command("prove")
@click.option("--pack", "names", multiple=True, help="a pack by id or folder, on the base; may be repeated")
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), help="the day of the law (default: today, UTC)")
@config_option
@json_option
def command(names: tuple[str, ...], as_of: datetime | None, config_path: Path | None, as_json: bool) -> None:
    """Prove what packs claim of every request and deployment there could be, and try each claim by mutation.

    With --pack: each pack on the base pack and what it requires. Residency per bloc and the air gap are
    proved of the base pack, and hold beside every other that only removes, which is proved too.

    Without --pack: all packs of the configuration together, with its waivers; then its fleet is asked for
    every class and pair of classes, and the facts that the proofs lean on are listed with grade and age.
    Where there is no configuration, every pack there is, each on the base.

    Exit code 1 when a theorem is refuted or says nothing, 5 when the solver is not installed.
    """
    from allod.policy.proof.solver import load  # noqa: PLC0415 (only when it runs)

    load()
    day = datetime.now(UTC).date() if as_of is None else as_of.date()
    told, end = _progress(quiet=as_json)
    try:
        setting = None if names else _configured(config_path)
        if setting is None:
            reports, fleet = _each(names, day, told), None
        else:
            report, fleet = _tenant(*setting, day, told)
            reports = [report]
    finally:
        end()
    _show(reports, fleet, as_json=as_json)
    sys.exit(0 if all(report.ok for report in reports) else FAILED)


def _configured(config_path: Path | None) -> tuple[Fleet, Packs] | None:
    """Return the configured fleet and the packs there are; None where there is no configuration."""
    from allod.gateway import compose  # noqa: PLC0415
    from allod.store.home import Home  # noqa: PLC0415
    from allod.vault.vault import Vault  # noqa: PLC0415

    home = Home(compose.home_root())
    path = config_path or home.config
    if config_path is None and not path.exists():
        return None
    packs = compose.available(home)
    config = compose.read_config(path, packs)
    fleet, _trouble = compose.weigh(config.fleet, Vault(home.vault))
    return compose.weighted(fleet, packs), packs


def all_packs() -> Packs:
    """Return every pack there is: shipped, installed and the home's own."""
    from allod.gateway import compose  # noqa: PLC0415
    from allod.store.home import Home  # noqa: PLC0415

    return compose.available(Home(compose.home_root()))


def _each(names: tuple[str, ...], day: date, told: Callable[[str, int, int], None]) -> list[Report]:
    """Prove packs one by one, each on the base and what it requires.

    Residency per bloc and the air gap are proved of the base pack: they hold beside every other, since that
    packs only remove is proved each time.
    """
    from allod.policy.pack import BASE  # noqa: PLC0415
    from allod.policy.proof.whole import prove_packs  # noqa: PLC0415

    known = all_packs()
    reports = []
    for pack in chosen(names, known):
        together = with_required(pack, known)
        reports.append(
            prove_packs(
                together,
                day,
                of=[pack.id],
                built_in=pack.id == BASE,
                told=lambda done, of, name=pack.id: told(name, done, of),  # type: ignore[misc]
            )
        )
    return reports


def with_required(pack: Pack, known: Packs) -> tuple[Pack, ...]:
    """Return a pack with the base pack and all it requires, base first."""
    from allod.policy.pack import BASE  # noqa: PLC0415

    found: dict[str, Pack] = {} if pack.id == BASE else {BASE: known.load(BASE)}
    waiting = [name for name in pack.manifest.requires if name != pack.id]
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = known.load(name)
            waiting += [more for more in found[name].manifest.requires if more != pack.id]
    return (*found.values(), pack)


def _tenant(
    fleet: Fleet, packs: Packs, day: date, told: Callable[[str, int, int], None]
) -> tuple[Report, tuple[Enumeration, tuple[Lean, ...]]]:
    """Prove the law of the configuration, and enumerate its fleet."""
    from allod.policy import facts  # noqa: PLC0415
    from allod.policy.policy import Policy  # noqa: PLC0415
    from allod.policy.proof.enumerate import enumerate_fleet  # noqa: PLC0415
    from allod.policy.proof.law import law_of  # noqa: PLC0415
    from allod.policy.proof.leaning import fact_names, leans  # noqa: PLC0415
    from allod.policy.proof.whole import prove_packs  # noqa: PLC0415

    law_packs = Policy(packs.some(fleet.tenant.packs), fleet).packs
    relaxed = tuple(waiver.rule for waiver in fleet.tenant.relax)
    report = prove_packs(
        law_packs,
        day,
        relaxed=relaxed,
        tenant_bloc=fleet.tenant.bloc,
        percent=fleet.sovereignty_weights,
        told=lambda done, of: told("theorems", done, of),
    )
    law = law_of(law_packs, day, relaxed, fleet.sovereignty_weights)
    enumeration = enumerate_fleet(law, fleet, lambda done, of: told("fleet", done, of))
    read = {name for proof in report.proofs for name in proof.facts}
    read |= set(fact_names(path for rule in law.rules for path in rule.reads))
    calendar = facts.Calendar(day=day, max_age_days=law.max_age_days, min_grade=law.min_grade)
    return report, (enumeration, leans(fleet, read, calendar))


def _show(
    reports: list[Report], fleet: tuple[Enumeration, tuple[Lean, ...]] | None, *, as_json: bool
) -> None:
    if as_json:
        data: dict[str, Any] = {"ok": all(report.ok for report in reports), "reports": reports}
        if fleet is not None:
            data |= {"fleet": fleet[0], "facts": fleet[1]}
        out(data)
        return
    for report in reports:
        print_report(report, brief=len(reports) > 1)
        say()
    if fleet is not None:
        print_fleet(*fleet)
    claims = sum(len(report.proofs) for report in reports)
    good = sum(proof.status == "proved" for report in reports for proof in report.proofs)
    say(f"{good} of {claims} theorems proved" + ("" if good == claims else ": see above"))


def _progress(*, quiet: bool) -> tuple[Callable[[str, int, int], None], Callable[[], None]]:
    """Return what is told (what, done, of all) and draws a bar, and what ends it."""
    if quiet or not sys.stderr.isatty():
        return (lambda _what, _done, _all: None), (lambda: None)
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    bar = Progress(console=Console(stderr=True), transient=True)
    task = bar.add_task("proving")
    bar.start()
    return (lambda what, done, of: bar.update(task, description=what, completed=done, total=of)), bar.stop
