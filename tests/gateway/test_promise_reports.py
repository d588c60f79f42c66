"""Reports of requests that were answered in steps: one request, every disclosure, every cent."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from operators import Region
from world import OPERATORS, Inside, Trap, World, chat, config, until

from allod.evidence import aiact, exposure, gdpr, hipaa, inventory, roi, subject
from allod.evidence import world as reading
from allod.evidence.paper import Report
from allod.evidence.tables import trace_sheet
from allod.gateway.costs import Costs, in_order, leaf_reader
from allod.gateway.evidence import Asked, about, world
from allod.store.costs import settled as settled_rows
from allod.store.extract import Extract
from gateway.promised import TASK, Minds, ask, fleet, opened, right, settled, standing, wrong

CLINIC = {"id": "clinic-it", "seat": "DE", "controlled_from": ["DE"], "compelled_by": []}


@pytest.fixture(scope="module")
def minds() -> Minds:
    return Minds()


@pytest.fixture(scope="module")
def inside(minds: Minds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """Seven requests: by the reference, by the base, escalated, failed, a follow-up, a plain one."""
    own = {"check": ["numeric", "agreement"], "audit_share": 1, "max_loss": Decimal("0.1")}
    with Trap() as trap, Region(minds.route) as region:
        deployments = fleet(region, trap)
        for one in deployments[:2]:
            attested = {"value": True, "grade": "attested"}
            one |= {"operator": "clinic-it", "records_auditable": attested, "inspectable": attested}
        home = tmp_path_factory.mktemp("reports") / "home"
        tasks = [{"name": TASK, "cascade": own}]
        made = World(home, config(deployments, tasks=tasks, operators=(*OPERATORS, CLINIC)))
        made.key("ward")
        minds.says |= dict.fromkeys(("tiny-1", "pico-2", "big-9"), right)
        with Inside(made) as one:
            _traffic(one, minds)
            yield one


def _traffic(one: Inside, minds: Minds) -> None:
    person = {"allod-subject": "anna"}
    for n in (1, 2):
        assert ask(one, n, headers=person).status == 200  # by the reference, audited at the others
    settled(one)
    opened(one, "numeric+agreement")
    assert ask(one, 3, headers=person).status == 200  # by the base, audited at the reference
    settled(one)
    opened(one, "numeric+agreement")
    minds.says["tiny-1"] = wrong
    first = ask(one, 4)  # escalated
    assert first.status == 200
    settled(one)
    opened(one, "numeric+agreement")
    minds.says["big-9"] = lambda _: None
    assert ask(one, 5).status == 502  # nobody may answer
    settled(one)
    minds.says |= {"big-9": right, "tiny-1": right}
    assert ask(one, 6, headers={"allod-parent": first.receipt}).status == 200  # a follow-up, in steps too
    settled(one)
    plain = {"allod-parent": first.receipt}
    assert one.chat(chat("large", "twice 7", stream=False), app="ward", headers=plain).status == 200
    one.gateway.store.flush()
    until(lambda: Extract(one.world.paths).size >= one.gateway.store.reader.newest().size > 40)
    time.sleep(0.3)


REQUESTS = 7


@contextlib.contextmanager
def read(inside: Inside, **more: Any) -> Iterator[reading.World]:
    extract = Extract(inside.world.paths)
    asked = Asked(now_ms=time.time_ns() // 1_000_000 + 1000, **more)
    with contextlib.closing(extract), contextlib.closing(inside.world.tables()) as tables:
        yield world(inside._setting(), extract, tables, asked)


def cells(report: Report, sheet: str) -> list[dict[str, str]]:
    one = next(one for one in report.sheets if one.id == sheet)
    return [dict(zip([c.id for c in one.columns], row, strict=True)) for row in one.rows()]


def paid(inside: Inside) -> Decimal:
    return sum((row.cost_usd for row in inside.world.rows()), Decimal(0))


def test_a_request_in_steps_is_one_request_and_its_cost_is_that_of_the_ledger(inside: Inside) -> None:
    with read(inside) as whole:
        found = reading.survey(whole)
        assert found.total.requests == REQUESTS
        assert found.total.cost_usd == paid(inside)
        assert found.by_status == {"answered": REQUESTS - 1, "failed": 1}
        assert found.steps == len(inside.world.rows()) - 1, "every attempt but that of the plain request"
        assert found.in_flight == 0
        every = [one.end.id for one in whole.every()]
        assert len(every) == len(set(every)) == REQUESTS + found.steps
        assert sum((one.end.cost for one in whole.every()), Decimal(0)) == paid(inside)


def test_every_part_is_in_one_period_wherever_periods_are_cut(inside: Inside) -> None:
    with read(inside) as whole:
        times = sorted({one.received_at_ms for one in whole.every()})
        ids = sorted(one.end.id for one in whole.every())
    for cut in times[1::5]:
        parts: list[str] = []
        cost = Decimal(0)
        for more in ({"until_ms": cut}, {"since_ms": cut}):
            with read(inside, **more) as part:
                parts += [one.end.id for one in part.every()]
                cost += reading.survey(part).total.cost_usd
        assert sorted(parts) == ids
        assert cost == paid(inside)


def test_each_disclosure_to_a_deployment_is_in_the_accounting(inside: Inside) -> None:
    with read(inside) as whole:
        rows = cells(hipaa.disclosures(whole), "hipaa-disclosures")
    sent = [row for row in inside.world.rows() if row.deployment in {"small", "other"}]
    assert len(sent) > REQUESTS
    assert sorted(row["receipt"] for row in rows) == sorted(row.receipt for row in sent)
    assert {row["recipient"] for row in rows} == {"clinic-it (small)", "clinic-it (other)"}


def test_recipients_count_each_request_once_and_cost_what_the_ledger_says(inside: Inside) -> None:
    by = {
        name: sum((r.cost_usd for r in inside.world.rows() if r.deployment == name), Decimal(0))
        for name in ("small", "other", "large")
    }
    with read(inside) as whole:
        record = cells(gdpr.art30(whole), "gdpr-art30")
        assert {row["deployment"]: row["requests"] for row in record} == {
            "small": "6", "other": "6", "large": "7",
        }  # fmt: skip
        use = cells(roi.register(whole), "dora-roi")
        assert {row["operator"]: (row["requests"], Decimal(row["cost_usd"])) for row in use} == {
            f"clinic-it ({name})": ("6", by[name]) for name in ("small", "other")
        }
        known = {row["deployment"]: row for row in cells(inventory.inventory(whole), "model-inventory")}
        assert (known["small"]["requests"], known["small"]["answered"]) == ("6", "6")
        assert (known["large"]["requests"], known["large"]["failed"]) == ("7", "1")
        saw = cells(exposure.exposure(whole), "exposure")
        assert {row["requests"] for row in saw if row["operator"] == "clinic-it"} == {"6"}
        report = gdpr.art30(whole)
        behind = list(trace_sheet(report, whole.chosen()).rows())
        assert sorted(row[2] for row in behind) == sorted(row.receipt for row in inside.world.rows())


def test_the_log_of_a_use_shows_steps_beside_their_request(inside: Inside) -> None:
    with read(inside, task=TASK) as whole:
        rows = cells(aiact.use_log(whole), "ai-act-log")
    mine = [row for row in rows if not row["step"]]
    assert len(mine) == REQUESTS - 1
    assert all(row["step_of"] in {one["receipt"] for one in mine} for row in rows if row["step"])
    assert {row["step"] for row in rows} == {"", "reference", "base", "agreement", "escalation", "audit"}
    total = sum((Decimal(row["total_usd"]) for row in mine), Decimal(0))
    each = sum((Decimal(row["cost_usd"] or 0) for row in rows), Decimal(0))
    assert total == each == sum((r.cost_usd for r in inside.world.rows() if r.task == TASK), Decimal(0))


def test_what_is_told_of_a_person_is_by_request_and_names_all_who_saw_it(inside: Inside) -> None:
    extract = Extract(inside.world.paths)
    with contextlib.closing(extract), contextlib.closing(inside.world.tables()) as tables:
        setting = inside._setting()
        whole = world(setting, extract, tables, Asked(now_ms=time.time_ns() // 1_000_000 + 1000))
        theirs = about(whole, setting, extract, tables, "anna")
        told = subject.Tables(erased=lambda _: False, record=lambda _: None)
        rows = cells(subject.decisions(theirs, told, "anna"), "subject")
        assert len(rows) == 3
        assert all("small" in row["recipients"] and "large" in row["recipients"] for row in rows)
        given = cells(hipaa.disclosures(theirs), "hipaa-disclosures")
        assert len(given) == 6, "two others saw each of the three"


def test_models_cost_counts_callers_requests_and_reconciles_to_the_cent(inside: Inside) -> None:
    extract = Extract(inside.world.paths)
    with contextlib.closing(extract), contextlib.closing(inside.world.tables()) as tables:
        costs = Costs(leaf_reader(extract.reader.leaf))
        for page in settled_rows(tables, extract.origin, 0):
            for one in sorted(page, key=in_order):
                costs.add(one)
    sums = list(costs.sums.values())
    assert sum(one.requests for one in sums) == REQUESTS
    assert sum((one.cost_usd for one in sums), Decimal(0)) == paid(inside)
    assert sum(one.attempts for one in sums) == len(inside.world.rows())
    assert standing(inside).spent.requests == REQUESTS - 2, "one was plain, one failed"


def test_a_step_says_what_it_is_and_a_false_word_is_found(inside: Inside) -> None:
    from allod.receipts.lineage import family

    with read(inside) as whole:
        steps = [one.end for one in whole.every() if one.end.step]
        assert all(one.parents for one in steps)
    from gateway.lineages import log_of

    leaves = {leaf["id"]: leaf for leaf in log_of(inside) if leaf["kind"] == "terminal"}
    assert family(leaves.values()).findings == ()
    victim = next(leaf for leaf in leaves.values() if leaf.get("step") == "escalation")
    false = {**leaves, victim["id"]: {**victim, "step": "base"}}
    assert [one.what for one in family(false.values()).findings] == ["a step was for something else"]
    stray = {**victim, "id": victim["id"][:-1] + ("0" if victim["id"][-1] != "0" else "1")}
    assert "a step its request does not list" in {
        one.what for one in family([*leaves.values(), stray]).findings
    }
    assert msgspec.json.encode(victim)
