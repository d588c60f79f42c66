"""Simulation of what real gateways have recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
from world import World, chat, config, deployment

from allod.domain.errors import Invalid, Unavailable
from allod.gateway.cli.period import moment_ms
from allod.routing.record import holds, read_record
from gateway.replays import (
    AUDITED,
    DEPLOYMENTS,
    TASKS,
    changes,
    command,
    counts,
    inside,
    install,
    log_of,
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


# --- nothing changed: nothing changes (I8)


def test_I8_the_traffic_of_a_gateway_is_simulated_byte_for_byte(tmp_path: Path, house: Path) -> None:
    root = tmp_path / "home"
    with inside(root, text_of(shadow=["house"])) as gateway:
        requests = traffic(gateway)
        gateway.world.allod("log", "key")
    assert len(records(root)) > 20
    assert all(holds(record) for record in records(root).values())
    whole(simulated(root, "--check"), requests)


def test_I8_after_the_configuration_has_changed_each_decision_is_made_over_its_own_fleet(
    tmp_path: Path, house: Path
) -> None:
    root = tmp_path / "home"
    with inside(root, text_of()) as gateway:
        requests = traffic(gateway)
    dearer = [
        {**DEPLOYMENTS[0], "price": {"input_usd_mtok": 9, "output_usd_mtok": 9}, "quality": {"default": 0.7}},
        {**DEPLOYMENTS[2], "processing": "US"},
    ]
    with inside(root, config(dearer, tenant={"shadow": ["house"]})) as gateway:
        requests += traffic_of_two(gateway)
    World(root, config([DEPLOYMENTS[0]], apps=[{"id": "other"}]))
    report = simulated(root, "--check")
    whole(report, requests)
    with tables(root) as link:
        assert link.execute("SELECT count(*) FROM configuration").fetchone() == (2,)


def test_a_killed_gateway_has_kept_what_its_decisions_were_made_with(tmp_path: Path) -> None:
    world = World(tmp_path / "home", text_of())
    with world.up("press") as gateway:
        answered = [gateway.chat(chat("home")) for _ in range(3)]
        assert [one.status for one in answered] == [200] * 3
        gateway.kill()
    world.write(text_of(deployments=DEPLOYMENTS[1:3]).replace('"far", "home"', '"far"'))
    with world.up("press"):
        pass
    whole(simulated(world.root, "--check"), 3)


def test_simulation_writes_nothing_and_works_beside_a_running_gateway(tmp_path: Path, house: Path) -> None:
    root = tmp_path / "home"
    with inside(root, text_of()) as gateway:
        requests = traffic(gateway)
        assert gateway.gateway.store.flush()
        before = log_of(root)
        with tables(root) as link:
            rows = counts(link)
        whole(simulated(root, "--check"), requests)
        simulated(root, "--pack", str(house))
        assert command(root, "shadow").exit_code == 0
        assert log_of(root) == before
        with tables(root) as link:
            assert counts(link) == rows
        assert gateway.chat(chat("auto")).status == 200


# --- other packs, another fleet, another day


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Record the traffic of one gateway, once."""
    root = tmp_path_factory.mktemp("past") / "home"
    with inside(root, text_of()) as gateway:
        requests = traffic(gateway)
    return root, requests


def test_a_pack_from_a_folder_is_simulated_before_anybody_has_it(
    past: tuple[Path, int], tmp_path: Path
) -> None:
    root, requests = past
    report = simulated(root, "--pack", str(pack_folder(tmp_path)))
    assert report["totals"]["replayed"] == requests
    assert report["totals"]["identical"] == 0  # another pack digest
    assert report["packs_added"][0]["id"] == "house"
    (rule,) = [one for one in report["rules"] if one["rule"] == "house.audited"]
    assert rule["law"] == "house rule 1"
    assert rule["takes"] > 0
    assert set(rule["deployments"]) == {"cheap", "far", "blind"}
    assert not any(one["allowed"] for one in report["deployments"])  # I2
    assert set(changes(report)) <= {"denied", "choice", "fallbacks", "same"}
    assert changes(report)["denied"] > 0
    receipts = [each for line in report["uncovered"] for each in line["receipts"]]
    world = World(root, root.joinpath("allod.toml").read_text())
    assert receipts
    for each in receipts:
        row = world.request_row(each["receipt"])
        assert row is not None
        assert each["link"] == f"/v1/receipts/{row.receipt}"
        live = read_record(records(root)[row.decision])
        assert live.plan.attempts
        assert live.plan.attempts[0].deployment != "home"
    assert command(root, "simulate", "--pack", str(pack_folder(tmp_path))).exit_code == 0


def test_simulated_denials_are_those_of_the_gateway_that_enforces_the_pack(
    past: tuple[Path, int], tmp_path: Path, house: Path
) -> None:
    """Ask the same of a gateway with the pack in force: the same first choices, the same refusals."""
    root, requests = past
    report = simulated(root, "--pack", "house")
    other = tmp_path / "other"
    with inside(other, text_of(packs=["base", "house"])) as gateway:
        assert traffic(gateway) == requests
    first = dict.fromkeys(("home", "cheap", "far", "blind"), 0)
    refused = 0
    with tables(other) as link:
        for body, count in link.execute(
            "SELECT body, count(*) FROM request JOIN decision_record ON digest = decision GROUP BY decision"
        ):
            made = read_record(body).plan
            refused += 0 if made.attempts or made.resting else count
            if made.attempts:
                first[made.attempts[0].deployment] += count
    told = {one["deployment"]: one["first_after"] for one in report["deployments"]}
    assert {name: n for name, n in first.items() if n} == {name: n for name, n in told.items() if n}
    before = simulated(root)
    refused_before = requests - sum(one["first_before"] for one in before["deployments"])
    assert refused == refused_before + changes(report).get("denied", 0)


def test_taking_a_pack_out_allows_and_estimates_by_named_prices(tmp_path: Path, house: Path) -> None:
    root = tmp_path / "home"
    with inside(root, text_of(packs=["base", "house"])) as gateway:
        requests = traffic(gateway)
    report = simulated(root, "--without", "house")
    assert report["totals"]["replayed"] == requests
    assert changes(report)["choice"] + changes(report)["allowed"] > 0
    assert {one["rule"]: one["gives"] > 0 for one in report["rules"]} == {"house.audited": True}
    assert all(one.startswith("sha256:") for one in report["prices"])
    assert len(report["prices"]) == 2  # cheap and far; blind has no price, and is not chosen
    assert any("never estimated" in note for note in report["notes"])
    # the newly allowed are estimated as a gateway without the pack estimates them
    with inside(tmp_path / "plain", text_of()) as gateway:
        traffic(gateway)
    fresh = simulated(tmp_path / "plain")
    assert report["totals"]["cost_after_usd"] == fresh["totals"]["cost_before_usd"]


def test_a_newer_version_takes_the_place_of_the_one_in_force(tmp_path: Path, house: Path) -> None:
    root = tmp_path / "home"
    with inside(root, text_of(packs=["base", "house"])) as gateway:
        requests = traffic(gateway)
    milder = AUDITED.replace('["public", "personal"]', '["personal"]')
    report = simulated(root, "--pack", str(pack_folder(tmp_path / "two", "house", milder, version="2.0.0")))
    assert report["packs_added"][0]["version"] == "2.0.0"
    assert report["totals"]["replayed"] == requests
    assert report["repacked_requests"] == 0  # the installed one is still that of the decisions
    assert {line["app"] for line in report["lines"] if line["change"] in {"choice", "allowed"}} == {"press"}


def test_what_is_due_to_another_installed_version_is_said(tmp_path: Path, house: Path) -> None:
    root = tmp_path / "home"
    with inside(root, text_of(packs=["base", "house"])) as gateway:
        requests = traffic(gateway)
    pack_folder(tmp_path, version="1.0.1")  # the installed one
    report = simulated(root)
    assert report["repacked_requests"] == requests
    assert report["totals"]["identical"] == 0
    assert changes(report) == {"same": requests}
    assert any("other packs" in note for note in report["notes"])


def test_another_fleet_is_simulated_with_all_that_is_recorded(past: tuple[Path, int], tmp_path: Path) -> None:
    root, requests = past
    other = tmp_path / "other.toml"
    other.write_text(
        config(
            [
                DEPLOYMENTS[0],
                {**DEPLOYMENTS[1], "price": {"input_usd_mtok": 50, "output_usd_mtok": 50}},
                deployment("new", "answer", quality={"default": 0.99}, seal=[4] * 8),
            ],
            tasks=TASKS[:2],
        )
    )
    report = simulated(root, "--config", str(other))
    left = {one["reason"]: one["requests"] for one in report["left"]}
    assert list(left) == ["there is no task 'listed'"]
    assert report["totals"]["replayed"] == requests - sum(left.values())
    assert {one["deployment"] for one in report["deployments"]} >= {"new", "home"}
    assert next(o for o in report["deployments"] if o["deployment"] == "new")["first_after"] > 0
    assert "fleet.removed" in {one["rule"] for one in report["rules"]}
    same = tmp_path / "same.toml"
    same.write_text((root / "allod.toml").read_text())
    report = simulated(root, "--config", str(same))
    assert changes(report) == {"same": requests}
    assert report["totals"]["identical"] == requests


def test_another_configuration_only_tightens_what_was_recorded(
    past: tuple[Path, int], tmp_path: Path
) -> None:
    """An app whose own class falls away keeps the recorded one; a class that is added counts."""
    root, requests = past
    other = tmp_path / "other.toml"
    lower = [{"id": "ward", "classes": ["public"]}, {"id": "press", "classes": ["public"]}]
    other.write_text(config(DEPLOYMENTS, tasks=TASKS, apps=lower))
    assert changes(simulated(root, "--config", str(other))) == {"same": requests}
    higher = [{"id": "ward", "classes": ["phi"]}, {"id": "press", "classes": ["phi"]}]
    other.write_text(config(DEPLOYMENTS, tasks=TASKS, apps=higher))
    report = simulated(root, "--config", str(other))
    assert changes(report)["denied"] > 0
    assert {one["app"] for one in report["lines"] if one["change"] != "same"} == {"press"}
    other.write_text(config(DEPLOYMENTS, tasks=TASKS, apps=higher[:1]))
    report = simulated(root, "--config", str(other))
    assert [one["reason"] for one in report["left"]] == ["there is no app 'press'"]


def test_facts_are_read_as_of_the_day_of_the_decision_or_the_one_named(tmp_path: Path) -> None:
    root = tmp_path / "home"
    lapses = {**DEPLOYMENTS[0], "transit": {"value": ["DE"], "grade": "contract"}}
    text = text_of([lapses, DEPLOYMENTS[2]]).replace(
        '"grade" = "contract"', '"grade" = "contract", "expires" = 2099-01-01', 1
    )
    with inside(root, text) as gateway:
        answer = gateway.chat(chat("home"), app="ward")
        assert answer.status == 200
    assert changes(simulated(root)) == {"same": 1}
    report = simulated(root, "--as-of", "2099-01-01")
    assert changes(report) == {"denied": 1}
    assert "residency.0-complete" in report["uncovered"][0]["rules"]
    assert changes(simulated(root, "--as-of", "2098-12-31")) == {"same": 1}


def test_the_span_is_that_of_the_requests(past: tuple[Path, int]) -> None:
    root, requests = past
    assert simulated(root, "--since", "1h")["totals"]["requests"] == requests
    assert simulated(root, "--since", "2026-01-01", "--until", "2026-01-02")["totals"]["requests"] == 0
    for wrong in ("yesterday", "30", "2026-13-01", "2026-11-01T08:00", ""):
        result = command(root, "simulate", "--since", wrong)
        assert isinstance(result.exception, Invalid), wrong
    now = 1_795_608_000_000
    assert moment_ms("30d", now, param="") == now - 30 * 86_400_000
    assert moment_ms("2026-11-25T13:00:00+01:00", now, param="") == now
    assert moment_ms("999999w", now, param="") == 0


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["--pack", "hose"], "no"),
        (["--without", "base"], "leaves out the base pack"),
        (["--without", "nothing"], "nothing"),
        (["--as-of", "soon"], "no day"),
        (["--pack", "/"], "is no pack"),
        (["--config", "/nowhere.toml"], "no configuration"),
    ],
)
def test_a_wrong_question_is_said_to_be_one(past: tuple[Path, int], args: list[str], what: str) -> None:
    result = command(past[0], "simulate", *args)
    assert isinstance(result.exception, Invalid | Unavailable)
    assert what in str(result.exception)
