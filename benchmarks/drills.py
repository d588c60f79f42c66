"""How long drills take: a million recorded requests times 20 worlds, and a matrix of every loss.

    python benchmarks/drills.py [--requests 1000000] [--distinct 0] [--keep FOLDER]

Traffic and fleet are those of ``benchmarks/simulate.py``: 20 deployments, every record made by the gateway's
own ``Decider`` and read from the tables of a home; ``realistic`` shares decisions as a gateway's requests do,
``distinct`` gives every request a record of its own (the worst there is). Of the 20 worlds twelve take
deployments away, four change law (list, agreement, attestation, link), four change prices. The process runs
on whatever cores it is given; CPU seconds of the one process stand beside wall time.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import simulate as traffic_of

from allod.gateway import compose
from allod.gateway.config import parse
from allod.gateway.drilling import Ground, world_named
from allod.gateway.drilling_run import Office, Span
from allod.gateway.packs import find
from allod.routing.snapshot import snapshot_of
from allod.store.database import Database
from allod.store.home import Home, make_home

WORLDS = (
    "operator=self", "operator=abroad", "control=US", "seat=IE", "engine=scripted", "region=DE",
    "deployment=d00", "deployment=d02+deployment=d04", "deployment=d18", "family=answer", "chip=NVIDIA",
    "maker-jurisdiction=CN", "list=none", "agreement=dpa", "attestation=iso27001", "link", "price=2",
    "price=0.5", "price=10", "price=3+operator=self",
)  # fmt: skip


def setting_of(folder: Path) -> compose.Setting:
    """Make a home with the benchmark's fleet."""
    os.environ["ALLOD_HOME"] = str(folder / "home")
    home = Home(folder / "home")
    make_home(home.root)
    home.config.write_text(traffic_of.fleet_text())
    return compose.setting()


def drill(name: str, tables: Database, setting: compose.Setting, requests: int) -> None:
    """Gather once, run all worlds, print the line."""
    worlds = [world_named(text, {}) for text in WORLDS]
    day = date.fromordinal(date(1970, 1, 1).toordinal() + traffic_of.END_MS // traffic_of.DAY_MS)
    wall, cpu = time.perf_counter(), time.process_time()
    ground = Ground(setting, _own(), tables, day)
    span = Span(since_ms=0, until_ms=traffic_of.END_MS + 1, now_ms=traffic_of.END_MS)
    office = Office(ground, span, worlds, tables, origin=traffic_of.ORIGIN)
    gathered = time.perf_counter() - wall
    ran = [office.run(world, remedies=False) for world in worlds]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    plain = office.gathered.plain
    assert plain.held == plain.decisions, plain.left
    assert all(one.drill.replayed == requests for one in ran)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"| {name} | {plain.requests:,} | {plain.decisions:,} | {len(plain.groups):,} | {len(worlds)} | "
        f"{gathered:.1f} | {wall:.1f} | {cpu:.1f} | {peak} |",
        flush=True,
    )
    start = time.perf_counter()
    found = office.everything()
    spent = time.perf_counter() - start
    print(f"  every single loss and pair: {len(found.rows)} + {len(found.harmless)} singles, "
          f"{len(found.pairs)} pairs, {spent:.1f} s more", flush=True)  # fmt: skip
    start = time.perf_counter()
    worst = office.run(worlds[0])
    assert worst.restoration is not None
    print(f"  remedies for {worlds[0].id}: {len(worst.restoration.tried)} tried on "
          f"{worst.restoration.looked_at:,} of {worst.restoration.uncovered:,} uncovered requests, "
          f"{time.perf_counter() - start:.1f} s", flush=True)  # fmt: skip


def _own() -> object:
    from allod.drills.own import Own  # noqa: PLC0415 (only here)

    return Own()


def main() -> None:
    """Measure and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--requests", type=int, default=1_000_000)
    arguments.add_argument("--distinct", type=int, default=0, help="also so many requests, none alike")
    arguments.add_argument("--keep", type=Path, help="keep the tables in this folder, and use them again")
    asked = arguments.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="allod-drills-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        setting = setting_of(folder)
        fleet, packs = parse(traffic_of.fleet_text()).fleet, find()
        snapshot = snapshot_of(fleet)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n")
        head = "traffic | requests | distinct | groups | worlds | gathered s | wall s | CPU s | peak MB"
        for name, number in (("realistic", asked.requests), ("distinct", asked.distinct)):
            if not number:
                continue
            path = folder / f"{name}.sqlite"
            there = path.exists()
            tables = Database.lite_file(path)
            tables.keep_configuration(snapshot.digest, snapshot.body)
            if not there:
                traffic_of.fill(tables, getattr(traffic_of.Traffic(fleet, packs), name)(number), folder)
            print(f"| {head} |\n|" + "---|" * 9)
            drill(name, tables, setting, number)
            tables.close()
    finally:
        if asked.keep is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
