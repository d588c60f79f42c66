"""Work that may wait, through a real gateway: taken in, run at its hour, given back, cancelled, erased."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import openai
import pytest
from world import FOREIGN, Inside, Region, Trap, World, config, deployment, responses, until

from allod.routing.defer import choose, read
from allod.store.audit import verify_home
from gateway.queues import (
    FLAT,
    ask,
    background,
    cheap_in,
    content_of_home,
    ended,
    get,
    in_the_past,
    notices,
    queued,
    rows,
)
from gateway.sdk import openai_client

NOW = [
    deployment("near", "answer"),
    deployment("slow", "slow-2000"),
    deployment("down", "http-500", retries=0),
]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Inside]:
    """A fleet without hours: what is asked runs at once."""
    world = World(tmp_path / "home", queued(NOW, {"concurrent": 2}))
    world.key("press")
    world.key("ward")
    with Inside(world) as one:
        yield one
    assert verify_home(world.paths).ok


# --- the shape: OpenAI's own SDK, unchanged


def test_the_sdk_asks_in_the_background_and_fetches_the_answer(gateway: Inside) -> None:
    client = openai_client(gateway, "press")  # type: ignore[arg-type]
    response = client.responses.create(model="near", input="hello", background=True)
    assert (response.status, response.background, response.output_text) == ("queued", True, "")
    name = response.id
    while response.status in {"queued", "in_progress"}:
        time.sleep(0.02)
        response = client.responses.retrieve(name)
    assert (response.status, response.id) == ("completed", name)
    assert "scripted answer" in response.output_text
    assert response.usage is not None
    client.responses.delete(name)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(name)


def test_the_sdk_cancels_what_runs_and_what_has_ended_stays(gateway: Inside) -> None:
    client = openai_client(gateway, "press")  # type: ignore[arg-type]
    slow = client.responses.create(model="slow", input="hello", background=True)
    until(lambda: client.responses.retrieve(slow.id).status == "in_progress")
    assert client.responses.cancel(slow.id).status == "cancelled"
    assert client.responses.cancel(slow.id).status == "cancelled"
    near = client.responses.create(model="near", input="hello", background=True)
    ended(gateway, near.id)
    assert client.responses.cancel(near.id).status == "completed"


def test_the_answer_names_its_receipt_deployment_and_cost(gateway: Inside) -> None:
    asked = ask(gateway)
    assert asked.status == 200
    answer = ended(gateway, asked.json["id"])
    assert answer.receipt == asked.receipt
    assert (answer.headers["allod-deployment"], answer.headers["allod-jurisdiction"]) == ("near", "DE")
    assert answer.headers["allod-cost"] == "0.000038"
    (row,) = gateway.world.rows(asked.receipt)
    assert (row.deployment, row.status) == ("near", "answered")


@pytest.mark.parametrize(
    ("body", "param"),
    [(background(stream=True), "stream"), (background(store=False), "store")],
)
def test_what_cannot_be_kept_so_is_refused(gateway: Inside, body: dict, param: str) -> None:
    answer = ask(gateway, body)
    assert (answer.status, answer.json["error"]["param"]) == (400, param)


def test_without_a_queue_nothing_is_stored_and_background_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config(NOW))
    world.key("press")
    with Inside(world) as gateway:
        answer = ask(gateway)
        assert (answer.status, answer.json["error"]["code"]) == (400, "not_supported")
        assert get(gateway, "resp_00000000_00000000000000000000000000").status == 404
    assert rows(world) == []


def test_ordinary_responses_are_not_kept(gateway: Inside) -> None:
    answer = gateway.call("/v1/responses", responses("near"))
    assert (answer.status, answer.json["store"], answer.json["background"]) == (200, False, False)
    assert get(gateway, answer.json["id"]).status == 404
    assert rows(gateway.world) == []


def test_a_response_is_its_apps_own_whatever_one_does(gateway: Inside) -> None:
    name = ask(gateway, background("slow")).json["id"]
    strangers = [
        gateway.call(f"/v1/responses/{name}", app="ward"),
        gateway.call(f"/v1/responses/{name}/cancel", {}, app="ward"),
        gateway.call(f"/v1/responses/{name}", app="ward", method="DELETE"),
        gateway.call("/v1/responses/resp_nothing", app="ward"),
    ]
    assert [one.status for one in strangers] == [404] * 4
    words = {
        one.json["error"]["message"].replace(name, "ID").replace("resp_nothing", "ID") for one in strangers
    }
    assert len(words) == 1  # nothing tells what exists
    assert ended(gateway, name).json["status"] == "completed"
    assert gateway.call(f"/v1/responses/{name}/input_items").status == 405
    assert gateway.call(f"/v1/responses/{name}?stream=true").status == 400


def test_what_fails_says_so_where_it_is_fetched(gateway: Inside) -> None:
    asked = ask(gateway, background("down"))
    answer = ended(gateway, asked.json["id"])
    assert (answer.status, answer.json["status"]) == (200, "failed")
    assert answer.json["error"]["code"] == "server_error"
    assert answer.json["error"]["allod"]["receipt"] == asked.receipt


def test_a_receipt_waits_with_its_request(tmp_path: Path) -> None:
    world = World(tmp_path / "home", queued())
    world.key("press")
    with Inside(world) as gateway:
        asked = ask(gateway)
        said = gateway.call(f"/v1/receipts/{asked.receipt}")
        assert (said.status, said.json["status"], said.json["terminal"]) == (200, "pending", None)
        assert gateway.call(f"/v1/receipts/{asked.receipt}", app="ward").status in {401, 404}


# --- the law, when it comes and when it runs (I1)


def test_I1_the_law_decides_when_it_comes(tmp_path: Path) -> None:
    with Trap() as trap:
        world = World(tmp_path / "home", queued([deployment("far", "x", lawful=False, base_url=trap.url)]))
        world.key("ward")
        with Inside(world) as gateway:
            answer = ask(gateway, background("far", "of a patient"), app="ward")
            assert (answer.status, answer.json["error"]["type"]) == (403, "allod_refused")
            assert rows(world) == []
            until(lambda: world.request_row(answer.receipt))
        assert world.request_row(answer.receipt).status == "refused"  # type: ignore[union-attr]
        assert b"of a patient" not in content_of_home(world)
        assert trap.touched == 0


def test_I1_the_law_decides_again_when_it_runs(tmp_path: Path) -> None:
    """Lawful when it came; before its hour the fleet changed, and what is left may not see it."""
    with Trap() as trap:
        far = deployment("far", "answer", lawful=False, base_url=trap.url, price={**FLAT, "factor": 0.01})
        lawful = {**cheap_in(5)}
        world = World(tmp_path / "home", queued([deployment("near", "answer", price=lawful), far]))
        world.key("ward")
        with Inside(world) as gateway:
            asked = ask(gateway, background("answer"), app="ward")
            assert (asked.status, asked.json["status"]) == (200, "queued")
        world.write(queued([deployment("near", "answer", price=FLAT, approved=False), far]))
        with Inside(world) as gateway:
            answer = ended(gateway, asked.json["id"], app="ward")
            assert answer.json["status"] == "failed"
            assert {one["deployment"] for one in answer.json["error"]["allod"]["excluded"]} == {"near", "far"}
            assert answer.receipt == asked.receipt
            until(lambda: world.request_row(asked.receipt))
        assert world.request_row(asked.receipt).status == "refused"  # type: ignore[union-attr]
        assert trap.touched == 0


def test_I1_an_unlawful_price_however_low_never_draws_it_there(tmp_path: Path) -> None:
    with Trap() as trap, Region() as near:
        free = deployment("far", "answer", lawful=False, base_url=trap.url, price="free")
        assert FOREIGN["operator"] == free["operator"]
        fleet = [deployment("near", "answer", base_url=near.url), free]
        world = World(tmp_path / "home", queued(fleet, tenant={"objective": "cheapest"}))
        world.key("ward")
        with Inside(world) as gateway:
            answer = ended(gateway, ask(gateway, background("answer"), app="ward").json["id"], app="ward")
            assert answer.headers["allod-deployment"] == "near"
        assert trap.touched == 0


# --- the hour


def test_it_waits_for_the_cheaper_hour_and_says_why(tmp_path: Path) -> None:
    world = World(tmp_path / "home", queued())
    world.key("press")
    with Inside(world) as gateway:
        asked = ask(gateway)
        (row,) = rows(world)
        hour = datetime.fromtimestamp(row.start_at_ms / 1000, UTC)
        wait_h = (row.start_at_ms - row.created_at_ms) / 3_600_000
        assert 4 < wait_h < 5.5, hour
        assert row.deadline_at_ms - row.created_at_ms == 86_400_000
        facts = read(row.deferral or b"")
        start = choose(facts)
        assert start.start_ms == row.start_at_ms
        assert start.cost_usd is not None
        assert start.now_usd is not None
        assert start.cost_usd * 2 == start.now_usd
        assert get(gateway, asked.json["id"]).json["status"] == "queued"
    (leaf,) = notices(world, "deferred")
    assert (leaf["facts"]["receipt"], leaf["facts"]["classes"]) == (asked.receipt, "public")
    with_record = world.tables()
    assert with_record.record(leaf["facts"]["choice"]) == row.deferral  # what it was chosen by is kept (I8)
    with_record.close()


def test_a_short_deadline_does_not_wait(tmp_path: Path) -> None:
    world = World(tmp_path / "home", queued())
    world.key("press")
    with Inside(world) as gateway:
        asked = ask(gateway, headers={"Allod-Deadline-Ms": "600000"})
        assert ended(gateway, asked.json["id"]).json["status"] == "completed"


def test_the_tariff_of_the_hour_it_runs_in_is_charged(tmp_path: Path) -> None:
    """It waits for half the price; the price changes, it is begun at once, and pays what it costs then."""
    world = World(tmp_path / "home", queued())
    world.key("press")
    with Inside(world) as gateway:
        asked = ask(gateway)
    world.write(queued([deployment("near", "answer", price={**FLAT, "factor": 3})]))
    with Inside(world) as gateway:
        answer = ended(gateway, asked.json["id"])
        assert answer.headers["allod-cost"] == "0.000114"


def test_what_is_sold_as_batch_takes_what_waits_and_nothing_else(tmp_path: Path) -> None:
    batch = deployment("batch", "answer", price={**FLAT, "factor": 0.5}, batch_only=True)
    fleet = [batch, deployment("live", "answer")]
    world = World(tmp_path / "home", queued(fleet, tenant={"objective": "cheapest"}))
    world.key("press")
    with Inside(world) as gateway:
        now = gateway.call("/v1/responses", responses("answer"))
        assert now.headers["allod-deployment"] == "live"
        pinned = gateway.call("/v1/responses", responses("batch"))
        assert pinned.status == 403
        (rule,) = pinned.json["error"]["allod"]["excluded"][0]["rules"]
        assert rule["id"] == "capability.interactive"
        later = ended(gateway, ask(gateway, background("answer")).json["id"])
        assert later.headers["allod-deployment"] == "batch"


def test_no_more_than_allowed_run_at_once(tmp_path: Path) -> None:
    with Region() as region:
        slow = deployment("near", "slow-300", base_url=region.url)
        world = World(tmp_path / "home", queued([slow], {"concurrent": 1}))
        world.key("press")
        with Inside(world) as gateway:
            names = [ask(gateway).json["id"] for _ in range(4)]
            most = 0

            def under_way(names: list[str]) -> list[str]:
                return [name for name in names if get(gateway, name).json["status"] == "in_progress"]

            while any(get(gateway, name).json["status"] in {"queued", "in_progress"} for name in names):
                running = under_way(names)
                # one may have ended before the next was looked at: together are only those that still are
                most = max(most, len(running) if len(running) < 2 else 1 + len(under_way(running[:-1])))
            assert most == 1
            assert len(region.seen) == 4


# --- bounds


@pytest.mark.parametrize(
    "bound",
    [{"max_requests": 2}, {"max_requests_per_app": 2}, {"max_bytes": 1900}],
    ids=lambda b: next(iter(b)),
)
def test_a_full_queue_takes_no_more(tmp_path: Path, bound: dict) -> None:
    world = World(tmp_path / "home", queued(queue=bound))
    world.key("press")
    with Inside(world) as gateway:
        answers = [ask(gateway) for _ in range(4)]
        assert [one.status for one in answers] == [200, 200, 503, 503]
        assert answers[-1].headers["retry-after"]
        name = answers[0].json["id"]
        assert gateway.call(f"/v1/responses/{name}", method="DELETE").status == 200
        assert ask(gateway).status == 200


def test_content_goes_when_its_time_is_over(tmp_path: Path) -> None:
    world = World(tmp_path / "home", queued(NOW, {"keep_s": 1}))
    world.key("press")
    with Inside(world) as gateway:
        name = ask(gateway, background(text="a secret of nobody")).json["id"]
        assert ended(gateway, name).json["status"] == "completed"
        until(lambda: get(gateway, name).status == 404, 10, 0.1)
        until(lambda: rows(world) == [], 5, 0.1)
    assert b"a secret of nobody" not in content_of_home(world)


def test_content_is_in_the_home_only_for_its_owner(tmp_path: Path) -> None:
    world = World(tmp_path / "home", queued())
    world.key("press")
    with Inside(world) as gateway:
        ask(gateway, background(text="only here"))
        mode = stat.S_IMODE(world.paths.database.stat().st_mode)
        assert mode == 0o600
        found = [p for p in world.root.rglob("*") if p.is_file() and b"only here" in p.read_bytes()]
        assert found
        for path in found:
            assert path.name.startswith("allod.sqlite")
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


# --- erasure


def test_erasing_a_person_takes_what_waits_about_them(tmp_path: Path) -> None:
    world = World(tmp_path / "home", queued())
    world.key("press")
    with Inside(world) as gateway:
        about = {"Allod-Subject": "anna@example.org"}
        waits = ask(gateway, background(text="about anna"), headers=about)
        other = ask(gateway, background(text="about nobody"))
        erased = gateway.gateway.store.erase_subject("anna@example.org", at_ms=1)
        assert erased.found
        assert get(gateway, waits.json["id"]).status == 404
        until(lambda: len(rows(world)) == 1, 10, 0.1)
        assert get(gateway, other.json["id"]).json["status"] == "queued"
        until(lambda: world.request_row(waits.receipt), 10, 0.05)
        assert world.request_row(waits.receipt).status == "aborted"  # type: ignore[union-attr]
    kept = content_of_home(world)
    assert b"about anna" not in kept
    assert b"anna@example.org" not in kept
    assert b"about nobody" in kept
    assert verify_home(world.paths).ok


def test_erasing_a_person_takes_answers_about_them(tmp_path: Path) -> None:
    world = World(tmp_path / "home", queued(NOW))
    world.key("press")
    with Inside(world) as gateway:
        asked = ask(gateway, background(text="about anna"), headers={"Allod-Subject": "anna"})
        ended(gateway, asked.json["id"])
        gateway.gateway.store.erase_subject("anna", at_ms=1)
        assert get(gateway, asked.json["id"]).status == 404
        row = world.request_row(asked.receipt)
        assert row is not None
        assert (row.request_salt, row.subject) == (None, None)


def test_erasing_a_receipt_takes_its_answer(gateway: Inside) -> None:
    asked = ask(gateway)
    ended(gateway, asked.json["id"])
    gateway.gateway.store.flush()
    assert gateway.gateway.store.erase(asked.receipt)
    assert get(gateway, asked.json["id"]).status == 404


# --- ends that are not answers (I3)


def test_I3_what_is_cancelled_before_its_hour_has_one_end_and_asked_nobody(tmp_path: Path) -> None:
    with Region() as region:
        fleet = [deployment("near", "answer", base_url=region.url, price=cheap_in(5))]
        world = World(tmp_path / "home", queued(fleet))
        world.key("press")
        with Inside(world) as gateway:
            asked = ask(gateway)
            name = asked.json["id"]
            assert gateway.call(f"/v1/responses/{name}/cancel", {}).json["status"] == "cancelled"
            assert gateway.call(f"/v1/responses/{name}/cancel", {}).json["status"] == "cancelled"
            file = until(lambda: gateway.call(f"/v1/receipts/{asked.receipt}").json["terminal"])
            leaf = json.loads(file["leaf"])
            assert (leaf["status"], leaf["reason"]) == ("aborted", "withdrawn")
        assert region.seen == []
        assert [row.status for row in world.all_requests()] == ["aborted"]


def test_I3_what_misses_its_deadline_fails_with_a_notice(tmp_path: Path) -> None:
    world = World(tmp_path / "home", queued())
    world.key("press")
    with Inside(world) as gateway:
        asked = ask(gateway)
    in_the_past(world)
    with Inside(world) as gateway:
        answer = ended(gateway, asked.json["id"])
        assert (answer.json["status"], answer.receipt) == ("failed", asked.receipt)
        assert "deadline" in answer.json["error"]["message"]
        until(lambda: world.request_row(asked.receipt))
    assert world.request_row(asked.receipt).status == "failed"  # type: ignore[union-attr]
    (leaf,) = notices(world, "deadline-missed")
    assert leaf["facts"]["receipt"] == asked.receipt


def test_what_nobody_can_serve_now_waits_until_somebody_can(tmp_path: Path) -> None:
    keyless = deployment("near", "answer", api_key_env="ALLOD_TEST_NEVER_SET")
    world = World(tmp_path / "home", queued([keyless]))
    world.key("press")
    with Inside(world) as gateway:
        asked = ask(gateway)
        assert asked.json["status"] == "queued"
        until(lambda: rows(world)[0].start_at_ms > rows(world)[0].created_at_ms, 10, 0.05)
        assert rows(world)[0].tries == 0
    world.write(queued([deployment("near", "answer")]))
    with Inside(world) as gateway:
        assert ended(gateway, asked.json["id"]).json["status"] == "completed"


def test_a_model_that_is_no_more_when_it_runs_ends_it_as_failed(tmp_path: Path) -> None:
    world = World(tmp_path / "home", queued())
    world.key("press")
    with Inside(world) as gateway:
        asked = ask(gateway)
    world.write(queued([deployment("another", "answer")]))
    with Inside(world) as gateway:
        answer = ended(gateway, asked.json["id"])
        assert answer.json["status"] == "failed"
        until(lambda: world.request_row(asked.receipt))
    assert verify_home(world.paths).ok


def test_an_app_that_is_no_more_leaves_nothing_behind(tmp_path: Path) -> None:
    world = World(tmp_path / "home", queued())
    world.key("press")
    with Inside(world) as gateway:
        asked = ask(gateway)
    world.write(queued([deployment("near", "answer")], apps=({"id": "ward", "classes": ["phi"]},)))
    with Inside(world):
        until(lambda: rows(world)[0].ended_at_ms, 10, 0.05)
    (leaf,) = notices(world, "deferred-dropped")
    assert leaf["facts"]["receipt"] == asked.receipt


def test_taking_the_queue_out_of_the_configuration_deletes_what_is_in_it(tmp_path: Path) -> None:
    world = World(tmp_path / "home", queued())
    world.key("press")
    with Inside(world) as gateway:
        asked = ask(gateway, background(text="not to be kept"))
    assert b"not to be kept" in content_of_home(world)
    world.write(config([deployment("near", "answer")]))
    with Inside(world) as gateway:
        assert rows(world) == []
        until(lambda: world.request_row(asked.receipt))
    assert world.request_row(asked.receipt).status == "aborted"  # type: ignore[union-attr]
    assert b"not to be kept" not in content_of_home(world)
