"""What cannot be replayed is counted, never guessed; and how decisions are read from the tables."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from pathlib import Path

import msgspec
import pytest
from world import World, chat

from allod.gateway import compose
from allod.gateway.cli import INTEGRITY
from allod.receipts.commitment import digest
from allod.routing.record import OLDER, Recorded, read_record, write_record
from allod.store.database import Database
from gateway.replays import (
    DEPLOYMENTS,
    changes,
    command,
    inside,
    install,
    pack_folder,
    records,
    simulated,
    tables,
    text_of,
    traffic,
    traffic_of_two,
    whole,
)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install(tmp_path, monkeypatch)


def test_a_fleet_that_was_not_kept_cannot_be_replayed(tmp_path: Path) -> None:
    root = tmp_path / "home"
    with inside(root, text_of()) as gateway:
        requests = traffic(gateway)
    changed = text_of(deployments=DEPLOYMENTS[:3])
    World(root, changed)
    with tables(root) as link:
        link.execute("DELETE FROM configuration")
        link.commit()
    report = simulated(root)
    assert report["totals"]["replayed"] == 0
    assert [(one["reason"], one["requests"]) for one in report["left"]] == [
        ("the fleet it was decided with was not kept", requests)
    ]
    assert changes(report) == {}
    # over a fleet that is given, what was decided is still compared with what would be
    report = simulated(root, "--config", str(root / "allod.toml"))
    assert report["totals"]["replayed"] == requests


def test_a_damaged_configuration_is_an_integrity_fault(tmp_path: Path) -> None:
    root = tmp_path / "home"
    with inside(root, text_of()) as gateway:
        traffic_of_two(gateway)
    World(root, text_of(deployments=DEPLOYMENTS[:3]))
    with tables(root) as link:
        link.execute("UPDATE configuration SET body = replace(body, 'answer', 'anzwer')")
        link.commit()
    report = simulated(root, code=INTEGRITY)
    assert report["totals"]["replayed"] == 0


def test_records_that_are_lost_or_damaged_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "home"
    with inside(root, text_of(shadow=[])) as gateway:
        requests = traffic(gateway)
    kept = records(root)
    first, second = list(kept)[:2]
    with tables(root) as link:
        link.execute("DELETE FROM decision_record WHERE digest = ?", (first,))
        link.execute("UPDATE decision_record SET body = ? WHERE digest = ?", (kept[second] + b" ", second))
        link.commit()
    report = simulated(root, code=INTEGRITY)
    assert report["damaged"] == 1
    assert sorted(one["reason"].split(":")[0].split(" (")[0] for one in report["left"]) == [
        "the decision record is damaged",
        "the decision record is not in the tables",
    ]
    left = sum(one["requests"] for one in report["left"])
    assert report["totals"]["replayed"] == requests - left
    assert command(root, "shadow").exit_code == INTEGRITY


def _pinned_last(record: Recorded) -> tuple[bool, int]:
    return len(record.facts.candidates) == 1, -len(record.plan.attempts)


def test_a_record_of_nonsense_ends_nothing(tmp_path: Path) -> None:
    """Whoever can write the tables can write such a record, and its digest."""
    root = tmp_path / "home"
    with inside(root, text_of()) as gateway:
        requests = traffic(gateway)
    with tables(root) as link:
        found = [
            (name, body)
            for name, body in link.execute("SELECT digest, body FROM decision_record ORDER BY digest")
            if read_record(body).plan.attempts
        ]
        found.sort(key=lambda one: _pinned_last(read_record(one[1])))
        wrong = {
            0: lambda data: data["facts"]["candidates"][0].update(cost_usd="NaN", law=[]),
            1: lambda data: data["flags"].update(day="soon"),
            2: lambda data: data["plan"].update(attempts=[]),
            3: lambda data: data["asked"].update(app="nobody"),
            4: lambda data: data.update(configuration="sha256:00"),
            5: lambda data: data["asked"].update(classes=["no-class"]),
            -1: lambda data: data["facts"]["candidates"][0].update(cost_usd="NaN", law=[]),
        }
        for n, change in wrong.items():
            name, body = found[n]
            data = json.loads(body)
            change(data)
            again = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
            link.execute("INSERT INTO decision_record VALUES (?, ?)", (digest(again), again))
            link.execute("UPDATE request SET decision = ? WHERE decision = ?", (digest(again), name))
        link.commit()
    report = simulated(root, "--pack", str(pack_folder(tmp_path)), code=INTEGRITY)
    assert report["totals"]["requests"] == requests
    assert {one["reason"].split(" (")[0] for one in report["left"]} == {
        "the decision record holds what no decision can be made of",
        "an estimate is no number",
        "the decision record names no day",
        "the recorded decision does not hold",
        "there is no app 'nobody'",
        "the fleet it was decided with was not kept",
        "the question names data class 'no-class', which is not known",
    }


def test_I8_check_finds_a_record_of_which_a_word_was_changed(tmp_path: Path, house: Path) -> None:
    """Also in what no decision depends on: the words of the plan, and what the shadow said."""
    root = tmp_path / "home"
    with inside(root, text_of(shadow=["house"])) as gateway:
        traffic(gateway)
    changed = []
    with tables(root) as link:
        found = list(link.execute("SELECT digest, body FROM decision_record ORDER BY digest LIMIT 2"))
        for (name, body), (part, key) in zip(found, (("plan", "why"), ("shadow", "first")), strict=True):
            data = json.loads(body)
            data[part][key] = "otherwise"
            again = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
            link.execute("INSERT INTO decision_record VALUES (?, ?)", (digest(again), again))
            link.execute("UPDATE request SET decision = ? WHERE decision = ?", (digest(again), name))
            changed += list(
                link.execute("SELECT min(receipt) FROM request WHERE decision = ?", (digest(again),))
            )
        link.commit()
    assert simulated(root)["unequal"] == []
    report = simulated(root, "--check", code=INTEGRITY)
    assert {one["receipt"] for one in report["unequal"]} == {receipt for (receipt,) in changed}


def older(root: Path) -> None:
    """Turn every record into the older format, as homes have it today."""
    with tables(root) as link:
        for name, body in list(link.execute("SELECT digest, body FROM decision_record")):
            now = read_record(body)
            flags = {flag: value for flag, value in now.flags.items() if flag != "pseudonymised"}
            again = write_record(
                msgspec.structs.replace(now, format=OLDER, flags=flags, configuration=None, shadow=None)
            )
            link.execute("INSERT OR IGNORE INTO decision_record VALUES (?, ?)", (digest(again), again))
            link.execute("UPDATE request SET decision = ? WHERE decision = ?", (digest(again), name))
            link.execute("DELETE FROM decision_record WHERE digest = ?", (name,))
        link.execute("DELETE FROM configuration")
        link.commit()


def test_records_of_the_older_format_are_replayed_over_the_fleet_of_their_digest(
    tmp_path: Path, house: Path
) -> None:
    root = tmp_path / "home"
    with inside(root, text_of()) as gateway:
        requests = traffic(gateway)
    older(root)
    report = simulated(root, "--check")
    whole(report, requests)
    assert report["older_format_requests"] == requests
    assert any("older format" in note for note in report["notes"])
    assert changes(simulated(root, "--pack", "house"))["denied"] > 0
    World(root, text_of(deployments=DEPLOYMENTS[:3]))
    assert simulated(root)["totals"]["replayed"] == 0
    assert command(root, "shadow").exit_code == 0


def test_tables_of_the_version_before_learn_to_keep_configurations(tmp_path: Path) -> None:
    root = tmp_path / "home"
    with inside(root, text_of()) as gateway:
        requests = traffic_of_two(gateway)
    with tables(root) as link:
        link.execute("DROP TABLE configuration")
        link.execute("DELETE FROM migration WHERE version >= 3")
        link.commit()
    with inside(root, text_of()) as gateway:
        pass
    whole(simulated(root, "--check"), requests)


def test_decisions_are_counted_by_record_and_span(tmp_path: Path) -> None:
    root = tmp_path / "home"
    with inside(root, text_of()) as gateway:
        for _ in range(5):
            gateway.chat(chat("home"))
        time.sleep(0.01)
        gateway.chat(chat("far"), app="ward")
        origin = gateway.gateway.store.keys.origin
    with contextlib.closing(Database.lite_file(root / "allod.sqlite")) as database:
        found = list(database.decisions(origin))
        assert sum(one.requests for one in found) == 6
        assert all(one.body is not None and digest(one.body) == one.digest for one in found)
        last = max(one.at_ms for one in found)
        assert sum(one.requests for one in database.decisions(origin, since_ms=last)) >= 1
        assert sum(one.requests for one in database.decisions(origin, until_ms=last)) == 6 - sum(
            one.requests for one in database.decisions(origin, since_ms=last)
        )
        assert list(database.decisions("allod/0000000000000000")) == []
        one, two = database.decisions(origin), database.decisions(origin)
        assert next(one).digest == next(two).digest  # two at once do not disturb each other
        one.close()
        assert len(list(two)) == len(found) - 1
        with contextlib.closing(sqlite3.connect(root / "allod.sqlite")) as link:
            assert link.execute("SELECT count(*) FROM sqlite_master WHERE name = 'decided'").fetchone() == (
                0,
            )


def test_few_decisions_are_found_among_many_records(tmp_path: Path) -> None:
    root = tmp_path / "home"
    with inside(root, text_of()) as gateway:
        requests = traffic(gateway)
        origin = gateway.gateway.store.keys.origin
    with tables(root) as link:
        bodies = [b"%d" % n for n in range(3000)]
        link.executemany("INSERT INTO decision_record VALUES (?, ?)", [(digest(b), b) for b in bodies])
        link.commit()
    with contextlib.closing(Database.lite_file(root / "allod.sqlite")) as database:
        found = list(database.decisions(origin))
    assert sum(one.requests for one in found) == requests
    assert all(one.body is not None and digest(one.body) == one.digest for one in found)
    whole(simulated(root, "--check"), requests)


def test_the_decider_names_the_configuration_it_decides_with(tmp_path: Path) -> None:
    fleet = compose.read_config(World(tmp_path / "home", text_of()).paths.config).fleet
    decider = compose.decider(fleet)
    cheaper = msgspec.structs.replace(
        fleet,
        tasks={n: msgspec.structs.replace(t, min_quality=None) for n, t in fleet.tasks.items()},
    )
    assert decider.snapshot.digest != compose.decider(cheaper).snapshot.digest
    assert decider.policy.digests(decider.day(0)) == compose.decider(cheaper).policy.digests(decider.day(0))
