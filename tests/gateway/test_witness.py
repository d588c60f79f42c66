"""Witnesses through the whole product: asked by a gateway, served by ``allod log witness``, over HTTP."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from world import Gateway, World, chat, config, until

from allod.receipts.checkpoint import sign
from allod.receipts.cosignature import Cosigner, parse_cosigner_key
from allod.receipts.merkle import EMPTY_ROOT
from allod.receipts.notes import parse_note
from allod.receipts.proof import parse_proof
from allod.receipts.tlog_policy import Witness, k_of_n, write_policy
from allod.receipts.verify import verify
from allod.receipts.witness import AddCheckpoint, write_request
from allod.store.home import load_keys
from gateway.witness_servers import FLEET, Served, asked, liar, witnesses


def policy_of(world: World, rows: list[dict[str, str]], k: int) -> str:
    known = [Witness(name=r["name"], key=parse_cosigner_key(r["key"])) for r in rows]
    return write_policy(k_of_n(known, k, [load_keys(world.paths).signer.key]))


def pending(gateway: Gateway, receipt: str) -> bool:
    return gateway.call(f"/v1/receipts/{receipt}", app="press").json["status"] == "pending"


def post(port: int, body: bytes) -> tuple[int, bytes]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        link.request("POST", "/add-checkpoint", body)
        answered = link.getresponse()
        return answered.status, answered.read()
    finally:
        link.close()


def test_a_receipt_is_final_only_with_k_cosignatures_and_verifies_by_policy(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config(FLEET))
    vkey = world.paths.log_vkey.read_text().strip()
    with witnesses(tmp_path, vkey) as (first, second):
        rows = [first.row(0), second.row(1)]  # Ed25519 of one, ML-DSA-44 of the other
        asked(world, rows, 2)
        policy = tmp_path / "policy"
        policy.write_text(policy_of(world, rows, 2))
        with world.up("press") as gateway:
            receipt = gateway.chat(chat("inner")).receipt
            data = gateway.receipt_bytes(receipt)
            names = {s.name for s in parse_note(proof_note(data)).signatures}
            assert names == {load_keys(world.paths).origin, "w0.example", "w1.example"}
            file = tmp_path / "receipt.json"
            file.write_bytes(data)
            done = world.allod("receipt", "verify", str(file), "--policy", str(policy), "--json")
            assert done.returncode == 0, done.stdout
            assert {s["name"] for s in json.loads(done.stdout)["steps"]} >= {"witnesses"}
            second.end()
            lonely = gateway.chat(chat("inner"))
            assert lonely.status == 200, "an answer is not held up by a witness"
            time.sleep(0.3)
            assert pending(gateway, lonely.receipt), "one of two cosigned, two are demanded"
            second.begin()
            assert json.loads(gateway.receipt_bytes(lonely.receipt, within_s=10))["status"] == "answered"
        assert gateway_at_rest(world, receipt).returncode == 0
        only = policy_of(world, [first.row(1)], 1)
        policy.write_text(only)
        refused = world.allod("receipt", "verify", str(file), "--policy", str(policy), "--json")
        assert refused.returncode == 3, "a witness that did not sign must be missed"


def gateway_at_rest(world: World, receipt: str) -> subprocess.CompletedProcess[str]:
    return world.allod("receipt", "get", receipt)


def proof_note(data: bytes) -> bytes:
    return parse_proof(json.loads(data)["terminal"]["proof"]).checkpoint


def test_without_a_quorum_receipts_are_final_at_once_and_say_who_cosigned(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config(FLEET))
    vkey = world.paths.log_vkey.read_text().strip()
    with witnesses(tmp_path, vkey, 1) as (only,):
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            dead = {**only.row(1), "name": "dead", "url": f"http://127.0.0.1:{nobody.getsockname()[1]}"}
            asked(world, [only.row(0), dead], 0)
            with world.up("press") as gateway:
                assert any("dead" in notice for notice in gateway.notices), gateway.notices
                receipt = gateway.chat(chat("inner")).receipt
                assert gateway.receipt(receipt)["status"] == "answered"
                until(lambda: b"w0.example" in proof_note(gateway.receipt_bytes(receipt)))
                data = gateway.receipt_bytes(receipt)
        step = next(s for s in verify(data, vkey).steps if s.name == "checkpoint signature")
        assert step.ok
        assert "cosigned, not verified without a policy: w0.example" in step.detail


def test_a_restored_older_copy_of_the_home_is_named_by_its_witness_and_refused(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config(FLEET))
    vkey = world.paths.log_vkey.read_text().strip()
    with witnesses(tmp_path, vkey, 1) as (only,):
        asked(world, [only.row(0)], 1)
        with world.up("press") as gateway:
            gateway.receipt(gateway.chat(chat("inner")).receipt)
        copy = tmp_path / "snapshot"
        shutil.copytree(world.root, copy)
        with world.up("press") as gateway:
            lost = gateway.chat(chat("inner")).receipt
            gateway.receipt(lost)
        shutil.rmtree(world.root)
        copy.rename(world.root)
        up = world.allod("up", "--json", "--port", "0")
        assert up.returncode == 5, up
        said = json.loads(up.stdout)["error"]
        assert "older copy" in said["why"], said
        assert "w0.example" in said["why"], said
        assert world.allod("log", "verify", "--json").returncode == 0, "by itself the copy looks whole"


def test_a_witness_that_talks_nonsense_counts_for_nothing(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config(FLEET))
    origin = load_keys(world.paths).origin
    key = Cosigner("w.example", "ed25519", b"w" * 32)
    answers = [
        (200, b""),
        (200, b"\x00\xff"),
        (200, f"\u2014 w.example {'A' * 40}\n".encode()),
        (200, key.line(f"{origin}\n0\n{root_line()}\n", 1).encode()),
        (200, b"\n\n\n" + key.line(f"{origin}\n0\n{root_line()}\n", 1).encode()),
        (200, b"x" * 200_000),
        (302, b""),
        (409, b"9" * 5000 + b"\n"),
        (409, b"-1\n"),
        (500, b"oh"),
    ]
    with liar(answers) as (port, heard):
        row = {"key": key.key.vkey(), "url": f"http://127.0.0.1:{port}"}
        asked(world, [row], 1)
        with world.up("press") as gateway:
            receipt = gateway.chat(chat("inner"))
            assert receipt.status == 200
            until(lambda: len(heard) >= len(answers), 30)
            assert pending(gateway, receipt.receipt)


def root_line() -> str:
    return sign(load_signer(), 0, EMPTY_ROOT).decode().split("\n")[2]


def load_signer() -> Any:
    from allod.receipts.notes import Signer

    return Signer("allod/0123456789abcdef", b"x" * 32)


def test_the_witness_over_http_keeps_its_word_across_a_restart(tmp_path: Path) -> None:
    from allod.receipts.merkle import Frontier, consistency, leaf_hash, stored_position
    from allod.receipts.notes import Signer

    log, out, edge, roots = Signer("other.example/log", b"o" * 32), list[bytes](), Frontier(), [EMPTY_ROOT]
    for n in range(9):
        edge.append(leaf_hash(b"%d" % n), out)
        roots.append(edge.root())

    def ask(old: int, new: int, root: bytes | None = None) -> bytes:
        proof = consistency(old, new, lambda lv, n: out[stored_position(lv, n)]) if 0 < old < new else ()
        return write_request(AddCheckpoint(old=old, proof=proof, note=sign(log, new, root or roots[new])))

    served = Served(tmp_path / "w", "w.example")
    served.begin(log.key.vkey())
    try:
        status, lines = post(served.port, ask(0, 4))
        assert status == 200
        assert [len(line.split(b" ")) for line in lines.splitlines()] == [3, 3]
        assert post(served.port, ask(4, 9))[0] == 200
        assert post(served.port, ask(9, 9, bytes(32)))[0] == 409
        assert served._run("--port", "0").returncode == 5, "one process per witness"
        served.end()
        served.begin()
        assert post(served.port, ask(0, 4)) == (409, b"9\n")
        assert post(served.port, b"x" * 400_000)[0] in {400, 413}
        assert list((served.root / "witness/state").glob("*.fork")), "the fork is kept as evidence"
        (record,) = (served.root / "witness/state").glob("*.checkpoint")
        record.write_bytes(record.read_bytes().replace(b"9\n", b"4\n", 1))
        assert post(served.port, ask(4, 9))[0] == 500, "it must not vouch on a damaged memory"
    finally:
        served.end()


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ({"witnesses": [], "quorum": 1}, "quorum"),
        ({"witnesses": [{"key": "x", "url": "http://127.0.0.1"}]}, "verifier key"),
        ({"witnesses": [{"key": "KEY", "url": "ftp://127.0.0.1"}]}, "cannot be asked"),
        ({"witnesses": [{"key": "KEY", "url": "http://a"}, {"name": "b", "key": "KEY", "url": "http://b"}]},
         "twice"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_work_is_refused_at_the_start(
    tmp_path: Path, log: dict[str, Any], said: str
) -> None:
    key = Cosigner("w.example", "ed25519", b"w" * 32).key.vkey()
    rows = [{**row, "key": row["key"].replace("KEY", key)} for row in log["witnesses"]]
    world = World(tmp_path / "home", config(FLEET, log={**log, "witnesses": rows}))
    done = world.allod("up", "--json", "--port", "0")
    assert done.returncode == 2, done
    error = json.loads(done.stdout)["error"]
    assert said in error["what"] + error["why"], error
