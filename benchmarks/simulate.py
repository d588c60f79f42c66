"""How long `allod policy simulate` takes: a million requests over 20 deployments, on one core.

    python benchmarks/simulate.py [--requests 1000000] [--distinct 1000000] [--only realistic|distinct]

The traffic is generated, the decisions are real: every record is made by the gateway's own ``Decider`` over a
fleet of 20 deployments, half of them lawful for personal data. ``realistic``: eight apps, six tasks, 30 days,
sizes and health as a gateway sees them, so that many requests share a decision. ``distinct``: every request
has a deadline of its own, so that no two records are equal. Both are put into the tables of a home, and each
simulation reads them from there. The clock is that of the process's CPU; wall time stands beside it.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from allod.admission.admit import Index, admit
from allod.domain.fleet import Fleet
from allod.domain.request import Labels, Sizes
from allod.gateway import compose
from allod.gateway.config import parse
from allod.gateway.packs import Packs, find
from allod.gateway.replay import Scenario, packs_with
from allod.gateway.simulation import Simulation
from allod.receipts.commitment import digest
from allod.receipts.ids import id_prefix, ulid
from allod.routing.question import Health
from allod.routing.snapshot import snapshot_of
from allod.store.database import Database, Work

ORIGIN = "allod/00112233445566ff"
DAY_MS = 86_400_000
END_MS = 1_795_608_000_000
DAYS = 30
BATCH = 500
FLOOR_GB = 5

HEAD = """
[tenant]
id = "bench"
home = "DE"
bloc = ["EEA"]
packs = ["base"]
{apps}
[[operator]]
id = "self"
own = true
seat = "DE"
controlled_from = ["DE"]
compelled_by = []

[[operator]]
id = "abroad"
seat = "IE"
controlled_from = ["US"]
compelled_by = ["US-CLOUD-ACT"]
{deployments}{tasks}
"""
APPS = {
    "ward": ["phi"], "lab": ["phi"], "billing": ["personal"], "hr": ["special"],
    "press": ["public"], "legal": ["confidential"], "chat": ["personal"], "web": ["public"],
}  # fmt: skip
TASKS = {"extract": "0.6", "summary": "0.5", "brief": "0.8", "code": "0.7", "translate": "0.55"}
PACK = {
    "pack.toml": 'id = "bench-house"\nversion = "1.0.0"\nstatus = "in-force"\ntitle = "House rules"\n'
    'jurisdiction = ""\napplies_to = "this benchmark"\nrequires = ["base"]\nreviewer = ""\n',
    "policies.cedar": """@id("bench-house.audit")
@law("house rule 1")
@text("Nobody but us serves what is not audited.")
@remedy("have it audited")
forbid (principal is Allod::App, action == Allod::Action::"dispatch", resource is Allod::Deployment)
when { context.classes.containsAny(["public", "personal", "confidential"]) }
unless { resource.attestations.declared.contains("iso27001") };
""",
    "theorems.toml": "monotone = true\n",
    "obligations.toml": "",
    "cases/cases.toml": "",
}
"""A pack that takes candidates away from every request there is."""


def fleet_text(*, audited: int = 5, dearer: bool = False) -> str:
    """Write the configuration: 20 deployments, ten of them ours."""
    apps = "".join(f'[[app]]\nid = "{name}"\nclasses = {classes}\n' for name, classes in APPS.items())
    tasks = "".join(f'[[task]]\nname = "{name}"\nmin_quality = {q}\n' for name, q in TASKS.items())
    out = []
    for n in range(20):
        ours = n % 2 == 0
        rate = Decimal(n + 1) / 10 * (2 if dearer else 1)
        out.append(
            f'[[deployment]]\nid = "d{n:02}"\nengine = "scripted"\nmodel = "answer"\n'
            f'operator = "{"self" if ours else "abroad"}"\nprocessing = "DE"\nat_rest = ["DE"]\n'
            f'transit = ["DE"]\non_premises = {str(ours).lower()}\nrecords_auditable = true\n'
            f"inspectable = {str(ours).lower()}\nseal = [{n % 5},4,4,4,3,3,4,3]\n"
            f"price = {{ input_usd_mtok = {rate}, output_usd_mtok = {rate * 4} }}\n"
            f"quality = {{ default = 0.{50 + 2 * n}, extract = 0.{55 + 2 * n} }}\n"
            + ('attestations = { "iso27001" = true }\n' if n % audited == 0 else "")
        )
    return HEAD.format(apps=apps, deployments="".join(out), tasks=tasks)


class Traffic:
    """Requests and the records of their decisions, by the gateway's own decider."""

    def __init__(self, fleet: Fleet, packs: Packs) -> None:
        self.decider = compose.decider(fleet, packs)
        self.index = Index(fleet)
        self.chance = random.Random(7)  # noqa: S311 (traffic, not a secret)
        self.prefix = id_prefix(ORIGIN)
        self.known: dict[tuple[Any, ...], str] = {}

    def decide(self, app: str, task: str | None, tokens: int, limit: int | None, at_ms: int, health: Health,
               deadline_ms: int | None = None) -> Any:  # fmt: skip
        """Decide about one request."""
        admitted = admit(
            index=self.index, app=self.index.fleet.apps[app], surface="chat", model="auto",
            labels=Labels(task=task, deadline_ms=deadline_ms), needs=("text",),
            sizes=Sizes(body_bytes=0, input_tokens=tokens, max_output_tokens=limit),
            stream=False, receipt="", received_at_ms=at_ms,
        )  # fmt: skip
        return self.decider.decide(admitted, health)

    def row(self, app: str, at_ms: int, decision: str, n: int) -> tuple[Any, ...]:
        """Return the row of one request."""
        receipt = self.prefix + ulid(at_ms, n.to_bytes(10, "big"))
        return (receipt, ORIGIN, app, at_ms, "answered", 2 * n, 2 * n + 1, None, None, decision, None, None)

    def realistic(self, requests: int) -> Iterator[tuple[tuple[Any, ...], tuple[str, bytes] | None]]:
        """Draw requests as a gateway sees them: health moves every two hours, sizes are rounded up."""
        chance, step = self.chance, DAYS * DAY_MS // requests
        apps, tasks = list(APPS), [None, *TASKS]
        health, moved = Health(), -1
        for n in range(requests):
            at_ms = END_MS - DAYS * DAY_MS + n * step
            if at_ms // 7_200_000 != moved:
                moved = at_ms // 7_200_000
                slow = chance.sample(range(20), 6)
                health = Health(latency_ms={f"d{i:02}": 250 << chance.randrange(4) for i in slow})
            app = apps[min(int(chance.expovariate(0.7)), 7)]
            task = tasks[min(int(chance.expovariate(0.6)), 5)]
            tokens = 64 << min(int(chance.expovariate(0.5)), 9)
            limit = chance.choice((None, None, 512, 1024, 4096))
            kind = app, task, tokens, limit, moved
            named = self.known.get(kind)
            if named is not None:
                yield self.row(app, at_ms, named, n), None
                continue
            made = self.decide(app, task, tokens, limit, at_ms, health)
            self.known[kind] = made.record_digest
            yield self.row(app, at_ms, made.record_digest, n), (made.record_digest, made.record)

    def distinct(self, requests: int) -> Iterator[tuple[tuple[Any, ...], tuple[str, bytes]]]:
        """Give every request a deadline of its own: it is written into the record of a like decision."""
        step, marked = DAYS * DAY_MS // requests, b'"deadline_ms":999999999'
        templates: dict[tuple[Any, ...], tuple[str, bytes]] = {}
        apps, tasks = list(APPS), [None, *TASKS]
        for n in range(requests):
            at_ms = END_MS - DAYS * DAY_MS + n * step
            app, task = apps[n % 8], tasks[n // 8 % 6]
            kind = app, task, at_ms // DAY_MS
            if kind not in templates:
                made = self.decide(app, task, 1000, None, at_ms, Health(), deadline_ms=999_999_999)
                assert made.record.count(marked) == 1
                templates[kind] = app, made.record
            record = templates[kind][1].replace(marked, b'"deadline_ms":%d' % (1_000_000 + n))
            name = digest(record)
            yield self.row(app, at_ms, name, n), (name, record)


def fill(database: Database, traffic: Iterator[Any], folder: Path) -> tuple[int, int]:
    """Put traffic into the tables; returns distinct records and their bytes."""
    rows: list[Any] = []
    records: list[Any] = []
    number = size = 0
    for row, record in traffic:
        rows.append(row)
        if record is not None:
            records.append(record)
            number, size = number + 1, size + len(record[1])
        if len(rows) >= BATCH:
            database.commit(ORIGIN, Work(requests=rows, records=records, next_seq=0))
            rows, records = [], []
            if number % 20_000 < BATCH and shutil.disk_usage(folder).free < FLOOR_GB << 30:
                sys.exit(f"less than {FLOOR_GB} GB are free: ask for fewer distinct records")
    database.commit(ORIGIN, Work(requests=rows, records=records, next_seq=0), durable=True)
    return number, size


def simulate(name: str, database: Database, scenario: Scenario) -> None:
    """Run one simulation and print its line."""
    wall, cpu = time.perf_counter(), time.process_time()
    simulation = Simulation(scenario, database)
    done = simulation.run(database.decisions(ORIGIN))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    changes = {one.change: one.requests for one in done.found.changes if one.requests}
    total = done.found.totals
    assert total.replayed == total.requests, done.found.left
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"| {name} | {total.requests:,} | {total.decisions:,} | {cpu:.1f} | {wall:.1f} | "
        f"{cpu / total.decisions * 1e6:.0f} | {peak} | {changes} |",
        flush=True,
    )


def scenarios(fleet: Fleet, other: Fleet, packs: Packs, with_pack: Packs) -> dict[str, Scenario]:
    """Return what is simulated, by name."""
    same = Scenario(packs=packs, installed=packs, today=fleet)
    return {
        "nothing changed": same,
        "a pack that touches every request": msgspec.structs.replace(
            same, packs=with_pack, add=("bench-house",)
        ),
        "another fleet (all prices doubled)": msgspec.structs.replace(same, given=other),
    }


def run(name: str, traffic: Iterator[Any], folder: Path, fleet: Fleet, each: dict[str, Scenario]) -> None:
    """Fill a home with traffic, unless it is there, and simulate."""
    path = folder / f"{name}.sqlite"
    there = path.exists()
    database = Database.lite_file(path)
    snapshot = snapshot_of(fleet)
    database.keep_configuration(snapshot.digest, snapshot.body)
    if not there:
        start = time.perf_counter()
        number, size = fill(database, traffic, folder)
        print(
            f"\n{name}: {number:,} distinct records, {size / number / 1024:.1f} KB each, "
            f"{size / 2**30:.1f} GB, made in {time.perf_counter() - start:.0f} s\n",
            flush=True,
        )
    print("| simulation | requests | distinct | CPU s | wall s | CPU us per decision | peak MB | changes |")
    print("|---|---|---|---|---|---|---|---|")
    for told, scenario in each.items():
        simulate(told, database, scenario)
    database.close()


def main() -> None:
    """Measure and print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--requests", type=int, default=1_000_000)
    arguments.add_argument("--distinct", type=int, default=1_000_000)
    arguments.add_argument("--only", choices=("realistic", "distinct"))
    arguments.add_argument("--keep", type=Path, help="keep the tables in this folder, and use them again")
    asked = arguments.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="allod-simulate-"))
    try:
        house = folder / "bench-house"
        for name, text in PACK.items():
            (house / name).parent.mkdir(parents=True, exist_ok=True)
            (house / name).write_text(text)
        packs = find()
        with_pack, _ = packs_with(packs, [str(house)])
        fleet, other = parse(fleet_text()).fleet, parse(fleet_text(dearer=True)).fleet
        each = scenarios(fleet, other, packs, with_pack)
        if asked.only != "distinct":
            run("realistic", Traffic(fleet, packs).realistic(asked.requests), folder, fleet, each)
        if asked.only != "realistic":
            run("distinct", Traffic(fleet, packs).distinct(asked.distinct), folder, fleet, each)
    finally:
        if asked.keep is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
