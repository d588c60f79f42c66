"""Drill reports of the bank and the telephone company: docs/drills-bank.md and docs/drills-telco.md.

    python examples/drills/run.py [bank] [telco] [--into docs] [--keep FOLDER]

The organisations are those of examples/organisations with what stands beside this file. Their traffic is
made up, 28 days of it; every decision is made by the gateway's own decider and kept in the tables of a home
as a gateway would, so that the drills read records. No gateway runs and no log is written.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from allod.admission.admit import Index, admit
from allod.domain.request import Labels, Sizes
from allod.drills import scenarios
from allod.drills.pages import Page, drill_page
from allod.drills.pages_exit import exit_page
from allod.drills.pages_more import concentration_page, expected_page, matrix_page
from allod.gateway import compose, drilling
from allod.gateway.cli.drill_office import write_pictures
from allod.gateway.drilling_run import Office, Span, odds_of
from allod.receipts.ids import id_prefix, ulid
from allod.routing.question import Health
from allod.store.database import Database, Work
from allod.store.home import load_home, load_keys

HERE = Path(__file__).resolve().parent
ORGANISATIONS = HERE.parent / "organisations"
DAY_MS = 86_400_000
LAST = date(2026, 11, 25)
DAYS = 28
BATCH = 500
HOURLY = (1, 1, 1, 1, 1, 2, 4, 8, 14, 16, 15, 13, 10, 13, 15, 14, 12, 9, 6, 4, 3, 2, 1, 1)
"""How a day's requests are spread over its hours (UTC)."""

TRAFFIC: dict[str, dict[tuple[str, str | None, str | None], tuple[int, int]]] = {
    "bank": {
        ("credit", "score-letter", "credit-decision"): (420, 420),
        ("credit", None, "credit-decision"): (60, 60),
        ("desk", None, "reporting"): (150, 160),
        ("letters", "summary", "correspondence"): (500, 1100),
        ("letters", "translate", "correspondence"): (400, 300),
        ("press", "summary", None): (70, 110),
        ("press", "translate", None): (30, 40),
    },
    "telco": {
        ("care", "answer", "customer-care"): (1500, 2300),
        ("care", "route", "customer-care"): (900, 900),
        ("core", "route", None): (700, 720),
        ("site", "answer", None): (600, 500),
        ("site", None, None): (200, 150),
    },
}
"""Requests a day by app, task and purpose, on the first day and on the last."""

WORLDS = {
    "bank": ("deployment=vault-llm", "operator=nord-cloud", "chip=NVIDIA", "flashpoint-ai-act-conformity"),
    "telco": ("deployment=central", "cn-models", "list=br-lgpd.adequate", "price=3"),
}
EXIT = {"bank": "operator=nord-cloud", "telco": "operator=nord-cloud"}


def home_of(name: str, root: Path) -> Path:
    """Make the home of an organisation: its configuration with what the drills add, its pack, signed."""
    home = root / name
    (home / "packs").mkdir(parents=True)
    source = ORGANISATIONS / name
    shutil.copytree(source / "pack", home / "packs" / f"house-{name}")
    text = (source / "allod.toml").read_text() + (HERE / name / "more.toml").read_text()
    shutil.copy(HERE / name / "drills.toml", home / "drills.toml")
    environ = {**os.environ, "ALLOD_HOME": str(home)}
    allod = [sys.executable, "-m", "allod"]
    (home / "allod.toml").write_text(text)
    signer = subprocess.run(
        [*allod, "policy", "key", "alice", "--role", "author"],
        env=environ, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    (home / "allod.toml").write_text(text + "\n" + "\n".join(signer.splitlines()[1:]) + "\n")
    pack = str(home / "packs" / f"house-{name}")
    signed = subprocess.run(
        [*allod, "policy", "sign", pack, "--by", "alice"], env=environ, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if signed.returncode:
        sys.exit(signed.stderr)
    return home


def requests(name: str) -> Iterator[tuple[int, str, str | None, str | None, int]]:
    """Draw requests: (time, app, task, purpose, input tokens), day by day."""
    chance = random.Random(f"drills {name}")  # noqa: S311 (traffic, not a secret)
    start = (
        int(datetime(LAST.year, LAST.month, LAST.day, tzinfo=UTC).timestamp() * 1000) - (DAYS - 1) * DAY_MS
    )
    for n in range(DAYS):
        working = (start // DAY_MS + n + 3) % 7 < 5  # noqa: PLR2004 (Monday to Friday)
        for (app, task, purpose), (first, last) in TRAFFIC[name].items():
            mean = first + (last - first) * n / (DAYS - 1)
            for _ in range(int(mean * (1.0 if working else 0.25) * chance.uniform(0.9, 1.1))):
                hour = chance.choices(range(24), HOURLY)[0]
                at_ms = start + n * DAY_MS + hour * 3_600_000 + chance.randrange(3_600_000)
                yield at_ms, app, task, purpose, 128 << min(int(chance.expovariate(0.7)), 6)


def fill(name: str, setting: compose.Setting, tables: Database, origin: str) -> int:
    """Decide about every request and keep the records; returns how many there are."""
    decider = compose.decider(setting.fleet, setting.packs)
    index = Index(setting.fleet, decider.policy.classes)
    tables.keep_configuration(decider.snapshot.digest, decider.snapshot.body)
    latency = {"vault-llm": 2400, "nord-mistral": 1500, "central": 2400, "montevideo": 1300, "helsinki": 1600}
    known = {name for name in latency if name in setting.fleet.deployments}
    health = Health(latency_ms={one: latency[one] for one in known})
    rows: list[Any] = []
    records: dict[str, bytes] = {}
    prefix, number = id_prefix(origin), 0
    for at_ms, app, task, purpose, tokens in sorted(requests(name), key=lambda one: one[0]):
        admitted = admit(
            index=index, app=setting.fleet.apps[app], surface="chat", model="auto",
            labels=Labels(task=task, purpose=purpose), needs=("text",),
            sizes=Sizes(body_bytes=0, input_tokens=tokens, max_output_tokens=None),
            stream=False, receipt="", received_at_ms=at_ms,
        )  # fmt: skip
        made = decider.decide(admitted, health)
        receipt = prefix + ulid(at_ms, number.to_bytes(10, "big"))
        rows.append(
            (receipt, origin, app, at_ms, "answered", 2 * number, 2 * number + 1, None, None,
             made.record_digest, None, None)
        )  # fmt: skip
        records[made.record_digest] = made.record
        number += 1
        if len(rows) >= BATCH:
            tables.commit(origin, Work(requests=rows, records=list(records.items()), next_seq=0))
            rows, records = [], {}
    tables.commit(origin, Work(requests=rows, records=list(records.items()), next_seq=0), durable=True)
    return number


def report(name: str, home: Path, into: Path) -> Path:
    """Run the drills and write the report; returns its path."""
    os.environ["ALLOD_HOME"] = str(home)
    setting = compose.setting()
    origin = load_keys(load_home(home)).origin
    now_ms = int(datetime(LAST.year, LAST.month, LAST.day, tzinfo=UTC).timestamp() * 1000) + DAY_MS
    span = Span(since_ms=now_ms - DAYS * DAY_MS, until_ms=now_ms, now_ms=now_ms)
    tables = Database.lite_file(setting.home.database)
    try:
        number = fill(name, setting, tables, origin)
        ground = drilling.Ground(setting, drilling.own_of(setting.home), tables, LAST)
        known = drilling.worlds_of(setting.home)
        odds = odds_of(ground)
        every = {one: drilling.world_named(one, known) for one in (*WORLDS[name], EXIT[name], *known)}
        office = Office(ground, span, list(every.values()), tables, origin=origin)
        who, critical = setting.fleet.tenant.id, office.setting.critical
        plain = office.gathered.plain
        pages: list[Page] = [matrix_page(office.everything(), plain, critical, who)]
        for one in WORLDS[name]:
            ran = office.run(every[one])
            pages.append(drill_page(ran.drill, ran.restoration, office.gathered.of(every[one])))
        year, _ = office.expected(odds, (), draws=20_000, seed=20_261_101)
        pages.append(expected_page(year, odds, (), scenarios.contradictions(odds), plain, who))
        pages.append(concentration_page(office.concentration(), plain, who))
        ran = office.run(every[EXIT[name]])
        pages.append(exit_page(office.exit_test(ran), plain))
    finally:
        tables.close()
    return write(name, pages, number, into)


def write(name: str, pages: list[Page], number: int, into: Path) -> Path:
    """Write the pages as one Markdown file with its pictures beside it."""
    (into / "drills").mkdir(parents=True, exist_ok=True)
    for old in (into / "drills").glob(f"{name}-*.svg"):
        old.unlink()
    titles = {"bank": "A bank", "telco": "A telephone company"}
    head = (
        f"# {titles[name]}: what could be taken away\n\n"
        f"Made by `python examples/drills/run.py {name}` ([how to read it](drills.md)). The organisation and "
        f"its {number:,} requests of {DAYS} days up to {LAST} are made up; every decision was made by the "
        "gateway's own decider and decided again here. The laws are real, the odds are judgements, and "
        "amounts of money rest on assumptions where the text says so.\n\n"
    )
    parts = [head]
    for n, page in enumerate(pages):
        names = write_pictures(page, into / "drills" / f"{name}-{n + 1}.svg")
        images = {title: f"drills/{file}" for title, file in names.items()}
        own = page is pages[0] or page is pages[-3]  # what it was made on, and the odds of a year, once
        parts.append(page.markdown(images, level=2, foot=own) + "\n")
    path = into / f"drills-{name}.md"
    path.write_text("".join(parts))
    return path


def main() -> None:
    """Make the reports that are asked for."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("names", nargs="*", default=[], help="bank, telco (default: both)")
    arguments.add_argument("--into", type=Path, default=HERE.parents[1] / "docs")
    arguments.add_argument("--keep", type=Path, help="keep the homes in this folder")
    asked = arguments.parse_args()
    root = asked.keep or Path(tempfile.mkdtemp(prefix="allod-drills-"))
    try:
        for name in asked.names or ("bank", "telco"):
            print("written:", report(name, home_of(name, root), asked.into), flush=True)
    finally:
        if asked.keep is None:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
