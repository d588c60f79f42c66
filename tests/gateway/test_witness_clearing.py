"""A witness's objection: set aside by an operator's act where the others vouch, and never for a real fork."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from world import Gateway, World, chat, config, until

from allod.gateway.witness_clearing import refusal
from allod.receipts.cosignature import Cosigner
from gateway.witness_servers import FLEET, asked, liar, witnesses

CLAIM = "it has seen 900 leaves"


class One(msgspec.Struct, kw_only=True):
    """A witness as it is looked at."""

    name: str
    against: str = ""
    claim: str = ""
    aside: str = ""
    signed: int = 50
    heard: int | None = 40


def objector(name: str = "bad", claim: str = CLAIM) -> One:
    return One(name=name, against=f"{claim}, here are 50", claim=claim, signed=-1, heard=900)


A, B = One(name="a"), One(name="b")
CASES: list[tuple[str, list[One], str | None]] = [
    ("two of three have followed it", [A, B, objector()], None),
    ("a witness alone", [objector()], "0 of 1"),
    ("one of two is no more than half", [A, objector()], "1 of 2"),
    ("two object", [A, B, One(name="c"), objector("also"), objector()], "also objects too"),
    ("the others were behind when it started: they would not know", [One(name="a", heard=39), B, objector()],
     "1 of 3"),
    ("the others have not answered", [One(name="a", heard=None), B, objector()], "1 of 3"),
    ("the others answered and did not cosign since", [One(name="a", signed=39), B, objector()], "1 of 3"),
    ("nobody objects", [A, B, One(name="bad")], "does not object"),
    ("another name", [A, B], "no witness is called bad"),
]  # fmt: skip


@pytest.mark.parametrize(("states", "said"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_when_an_objection_may_be_set_aside(states: list[One], said: str | None) -> None:
    why = refusal(states, "bad", before=40)
    assert (why is None) if said is None else (why is not None and said in why)


def test_a_lying_witness_is_set_aside_by_a_leaf_and_another_claim_objects_again(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config(FLEET))
    key = Cosigner("liar.example", "ed25519", b"w" * 32)
    answers = [(500, b"")]
    with witnesses(tmp_path, world.paths.log_vkey.read_text().strip()) as served, liar(answers) as (port, _):
        lying = {"name": "liar", "key": key.key.vkey(), "url": f"http://127.0.0.1:{port}"}
        asked(world, [*(one.row(0) for one in served), lying], 2)
        with world.up("press") as gateway:
            assert gateway.chat(chat("inner")).status == 200
            answers.append((409, b"999999\n"))
            until(lambda: gateway.chat(chat("inner")).status == 503, 10)
            until(lambda: "999999" in _row(world)["objection"], 10)
            findings = {f["name"]: f for f in json.loads(world.here("doctor", "--json").stdout)["findings"]}
            assert findings["witness liar"]["state"] == "wrong"
            assert "OBJECTS" in findings["witness liar"]["detail"]
            assert findings["witness w0.example-ed25519"]["state"] == "ok"
            assert "cosigned" in findings["witness w0.example-ed25519"]["detail"]
            refused = world.here("log", "witnesses", "--clear", "w0.example-ed25519", "--reason", "x")
            assert refused.returncode == 4, refused
            assert "does not object" in refused.stderr
            words = ("log", "witnesses", "--clear", "liar", "--reason", "its disk was wiped, ticket 4")
            done = world.here(*words)
            assert done.returncode == 0, done
            answered = gateway.chat(chat("inner"))
            assert answered.status == 200
            assert gateway.receipt(answered.receipt)["status"] == "answered"
            leaves = _leaves(gateway)
            assert b'"subject":"witness-set-aside"' in leaves
            assert b'"claim":"it has seen 999999 leaves"' in leaves
            assert b"its disk was wiped, ticket 4" in leaves
            until(lambda: _row(world)["aside"] != "", 5)
            assert "999999" in _row(world)["objection"], "it is still told"
            answers.append((409, b"1000000\n"))
            until(lambda: gateway.chat(chat("inner")).status == 503, 10)
        assert world.here(*words).returncode == 5, "nothing runs: there is nothing to set aside"


def _leaves(gateway: Gateway) -> bytes:
    """Read every entry of the public log: full tiles of 256, and what the last one holds so far."""
    size = int(gateway.call("/log/checkpoint", app=None).body.split(b"\n")[1])
    full, rest = divmod(size, 256)
    names = [f"{n:03}" for n in range(full)] + ([f"{full:03}.p/{rest}"] if rest else [])
    pieces = [gateway.call(f"/log/tile/entries/{name}", app=None) for name in names]
    assert all(one.status == 200 for one in pieces), names
    return b"".join(one.body for one in pieces)


def _row(world: World) -> dict[str, str]:
    rows = json.loads(world.here("log", "witnesses", "--json").stdout)["witnesses"]
    found: dict[str, str] = next(row for row in rows if row["name"] == "liar")
    return found


def test_doctor_says_who_does_not_answer_while_nothing_runs(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config(FLEET))
    key, other = (Cosigner(name, "ed25519", name.encode() * 4) for name in ("w.exampl", "v.exampl"))
    with liar([(400, b"")]) as (port, _):
        rows = [
            {"name": "there", "key": key.key.vkey(), "url": f"http://127.0.0.1:{port}"},
            {"name": "gone", "key": other.key.vkey(), "url": "http://127.0.0.1:9"},
        ]
        asked(world, rows, 2)
        findings = {f["name"]: f for f in json.loads(world.here("doctor", "--json").stdout)["findings"]}
    assert findings["witness there"]["state"] == "ok"
    assert findings["witness there"]["detail"].startswith("answers; never cosigned")
    assert findings["witness gone"]["state"] == "wrong"
    assert "does not answer" in findings["witness gone"]["detail"]
    assert "0 of 2 that are demanded" in findings["quorum"]["detail"]
