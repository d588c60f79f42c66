"""Work that may wait, and a gateway that dies: nothing is lost, run twice under one receipt, or left open."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
from world import Region, World, deployment, until

from allod.gateway.background import Came
from allod.store.audit import verify_home
from gateway.queues import ask, background, change, ended, get, notices, queued, rows


def world_of(tmp_path: Path, region: Region, model: str, **more: Any) -> World:
    fleet = [deployment("near", model, base_url=region.url, retries=0, **more)]
    return World(tmp_path / "home", queued(fleet))


def leaves(world: World) -> dict[str, list[dict[str, Any]]]:
    """Return the leaves of each receipt of a home at rest."""
    out: dict[str, list[dict[str, Any]]] = {}
    text = (world.paths.log / "entries").read_bytes().decode("utf-8", "replace")
    at = 0
    while (at := text.find('{"', at)) >= 0:
        try:
            leaf, end = json.JSONDecoder().raw_decode(text, at)
        except ValueError:
            at += 2
            continue
        if leaf.get("kind") in {"intent", "terminal"}:
            out.setdefault(leaf["id"], []).append(leaf)
        at = end
    return out


def test_what_waits_survives_kill_9(tmp_path: Path) -> None:
    world = World(tmp_path / "home", queued())
    with world.up("press") as gateway:
        asked = ask(gateway)
        gateway.kill()
    with world.up() as gateway:
        assert get(gateway, asked.json["id"]).json["status"] == "queued"
        assert gateway.stop() == 0
    assert [row.status for row in rows(world)] == ["queued"]
    assert verify_home(world.paths).ok


def test_I3_one_in_flight_at_a_crash_fails_and_is_run_again_under_a_new_receipt(tmp_path: Path) -> None:
    with Region() as region:
        world = world_of(tmp_path, region, "slow-1500")
        with world.up("press") as gateway:
            asked = ask(gateway)
            region.wait_seen(1)
            gateway.kill()
        with world.up() as gateway:
            answer = ended(gateway, asked.json["id"])
            assert answer.json["status"] == "completed"
            assert answer.json["id"] == asked.json["id"]
            assert answer.receipt != asked.receipt
            first = gateway.leaf(asked.receipt)
            last = gateway.leaf(answer.receipt)
            assert (first["status"], first["reason"]) == ("failed", "gateway-lost")
            assert (last["status"], last["parents"]) == ("answered", [asked.receipt])
            assert len(region.seen) == 2
    for one in (asked.receipt, answer.receipt):
        assert [leaf["kind"] for leaf in leaves(world)[one]] == ["intent", "terminal"]
    assert [row.basis for row in world.rows(asked.receipt)] == ["reserved"]
    assert verify_home(world.paths).ok


def test_I3_one_in_flight_when_the_gateway_stops_is_run_again(tmp_path: Path) -> None:
    with Region() as region:
        world = world_of(tmp_path, region, "slow-1500")
        with world.up("press") as gateway:
            asked = ask(gateway)
            region.wait_seen(1)
            assert gateway.stop() == 0
        (row,) = rows(world)
        assert row.ended_at_ms is None
        with world.up() as gateway:
            answer = ended(gateway, asked.json["id"])
            assert answer.json["status"] == "completed"
            first, last = gateway.leaf(asked.receipt), gateway.leaf(answer.receipt)
            assert (first["status"], first["reason"]) == ("aborted", "gateway-stopped")
            assert last["parents"] == [asked.receipt]
    assert verify_home(world.paths).ok


def test_after_a_crash_nothing_is_run_again_past_its_deadline(tmp_path: Path) -> None:
    with Region() as region:
        world = world_of(tmp_path, region, "slow-1500")
        with world.up("press") as gateway:
            asked = ask(gateway)
            region.wait_seen(1)
            gateway.kill()
        change(world, "UPDATE deferred SET deadline_at_ms = ?", time.time_ns() // 1_000_000 - 1)
        with world.up() as gateway:
            answer = ended(gateway, asked.json["id"])
            assert (answer.json["status"], answer.receipt) == ("failed", asked.receipt)
            assert len(region.seen) == 1
            assert gateway.stop() == 0
    assert list(leaves(world)) == [asked.receipt]  # its end by recovery is its only end
    (leaf,) = notices(world, "deadline-missed")
    assert leaf["facts"]["receipt"] == asked.receipt
    assert verify_home(world.paths).ok


def test_what_kills_the_gateway_each_time_is_not_run_for_ever(tmp_path: Path) -> None:
    with Region() as region:
        world = world_of(tmp_path, region, "slow-1500")
        with world.up("press") as gateway:
            asked = ask(gateway)
            region.wait_seen(1)
            gateway.kill()
        change(world, "UPDATE deferred SET tries = 3")
        with world.up() as gateway:
            answer = ended(gateway, asked.json["id"])
            assert "too often" in answer.json["error"]["message"]
            assert len(region.seen) == 1


def test_a_claim_without_a_leaf_is_run_under_the_same_receipt(tmp_path: Path) -> None:
    """Death between the claim and the intent: nothing left, so the receipt is as good as new."""
    world = World(tmp_path / "home", queued())
    with world.up("press") as gateway:
        asked = ask(gateway)
        gateway.kill()
    change(world, "UPDATE deferred SET status = 'in_progress', tries = 1")
    with world.up() as gateway:
        answer = ended(gateway, asked.json["id"])
        assert (answer.json["status"], answer.receipt) == ("completed", asked.receipt)
        assert "parents" not in gateway.leaf(asked.receipt)
    assert verify_home(world.paths).ok


def test_an_answer_lost_between_its_end_and_the_table_is_asked_for_again(tmp_path: Path) -> None:
    """The receipt stays answered, and paid for; the caller still gets an answer."""
    with Region() as region:
        world = world_of(tmp_path, region, "answer")
        with world.up("press") as gateway:
            asked = ask(gateway)
            ended(gateway, asked.json["id"])
            gateway.receipt(asked.receipt)
            assert gateway.stop() == 0
        held = {row.id: row for row in rows(world)}[asked.receipt]
        request = msgspec.msgpack.encode(Came(raw=json.dumps(background()).encode()))
        change(
            world,
            "UPDATE deferred SET status = 'in_progress', ended_at_ms = NULL, request = ? WHERE id = ?",
            request,
            held.id,
        )
        with world.up() as gateway:
            answer = ended(gateway, asked.json["id"])
            assert answer.json["status"] == "completed"
            assert gateway.leaf(answer.receipt)["parents"] == [asked.receipt]
            assert gateway.leaf(asked.receipt)["status"] == "answered"
        assert len(region.seen) == 2
    assert verify_home(world.paths).ok


def test_the_command_lists_shows_and_cancels_without_and_beside_a_gateway(tmp_path: Path) -> None:
    world = World(tmp_path / "home", queued())
    with world.up("press") as gateway:
        names = [ask(gateway).json["id"] for _ in range(2)]
        listed = json.loads(world.allod("queue", "list", "--json").stdout)
        assert {one["response"] for one in listed["requests"]} == set(names)
        assert {one["status"] for one in listed["requests"]} == {"queued"}
        shown = json.loads(world.allod("queue", "show", names[0], "--json").stdout)
        assert shown["choice"]["spans"]
        assert "hello there" not in json.dumps(shown)  # never content
        assert world.allod("queue", "cancel", names[0]).returncode == 0
        until(lambda: get(gateway, names[0]).json["status"] == "cancelled", 10, 0.1)
        assert gateway.stop() == 0
    assert "queued" in world.allod("queue", "list").stdout
    assert world.allod("queue", "cancel", names[1]).returncode == 0
    assert world.allod("queue", "cancel", names[1]).returncode == 1
    assert world.allod("queue", "show", "resp_nothing").returncode == 2
    with world.up() as gateway:
        answer = ended(gateway, names[1])
        assert answer.json["status"] == "cancelled"
        assert gateway.leaf(answer.receipt)["reason"] == "withdrawn"
