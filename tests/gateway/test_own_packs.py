"""Own packs on real homes: what is not signed by whom it must be is no law, and nothing starts with it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from world import Inside, World

from allod.domain.errors import Integrity, Invalid
from allod.gateway import compose, ownpacks, signers, standing
from allod.policy.signing import PACK, PackStatement, statement
from allod.receipts import notes
from allod.store.store import Store
from gateway.offices import DAY, LOOSE, NOW_MS, STRICT, Office, refuses, rules


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("plain") / "home")


@pytest.fixture
def office(plain: Office, tmp_path: Path) -> Office:
    return plain.copied(tmp_path / "home")


# --- own packs


def test_a_signed_pack_of_the_home_is_law_and_is_logged_once_per_digest(office: Office) -> None:
    office.own(STRICT, "alice")
    office.begin()
    office.begin()
    setting = office.setting()
    eligible = compose.decider(setting.fleet, setting.packs).policy
    assert [pack.id for pack in eligible.packs] == ["base", "house"]
    (leaf,) = office.notices("pack")
    facts = leaf["facts"]
    assert (facts["pack"], facts["version"], facts["widening"]) == ("house", "1.0.0", "no")
    assert (facts["follows"], facts["signer_1"]) == ("none", "alice (author)")
    assert facts["digest"] == eligible.packs[1].digest
    signature = bytes.fromhex(facts["signer_1_r"] + facts["signer_1_s"])
    text = statement(PACK, PackStatement(id="house", version="1.0.0", digest=facts["digest"]))
    key = notes.parse_vkey(office.signers["alice"]["key"])
    note = text.encode() + f"\n\u2014 {key.name} {notes.b64(key.key_id + signature)}\n".encode()
    assert notes.open_note(note, key) == text, "the leaf alone proves who signed for which files"


def test_a_pack_that_is_not_in_force_is_not_read(office: Office) -> None:
    office.pack("this is no policy")
    (office.root / "packs" / "house" / "link").symlink_to("/etc/passwd")
    office.begin()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda o: ownpacks.signature_file(o.root / "packs/house").unlink(), ("not signed",)),
        (lambda o: o.pack(LOOSE), ("another digest", "house")),
        (lambda o: o.pack(version="1.0.1"), ("another version", "1.0.1")),
        (lambda o: (o.root / "packs/house/cases/new.toml").write_text(""), ("another digest",)),
        (lambda o: (o.root / "packs/house.sig").write_bytes(b"x" * 70_000), ("too large",)),
        (lambda o: (o.root / "packs/house.sig").write_bytes(b"\x00"), ("cannot be read",)),
        (lambda o: (o.root / "packs/house/run.py").write_text("raise SystemExit"), ("run.py", "program")),
        (lambda o: (o.root / "packs/house/facts").symlink_to("/etc"), ("facts", "link")),
        (lambda o: os.mkfifo(o.root / "packs/house/cases/pipe.toml"), ("pipe.toml", "device")),
        (lambda o: (o.root / "packs/house/cases/big.toml").write_bytes(b"#" * (2 << 20)), ("too large",)),
        (lambda o: o.signers.pop("alice") and o.write(), ("alice", "not a configured signer")),
        (lambda o: o.signers["alice"].update(expires=DAY) or o.write(), ("alice", "expired")),
        (lambda o: o.signers["alice"].update(revoked=True) or o.write(), ("alice", "revoked")),
        (lambda o: o.signers["alice"].update(revoked=DAY) or o.write(), ("alice", "revoked")),
        (lambda o: o.signers["alice"].update(key=o.signers.pop("bob")["key"]) or o.write(), ("alice",)),
    ],
    ids=lambda value: "" if callable(value) else value[0],
)
def test_what_is_not_exactly_what_a_signer_signed_does_not_start(
    office: Office, spoil: Callable[[Office], Any], words: tuple[str, ...]
) -> None:
    office.own(STRICT, "alice")
    office.begin()
    spoil(office)
    refuses(office, *words)
    assert len(office.notices("pack")) == 1


def test_a_signature_for_another_pack_or_kind_does_not_count(office: Office) -> None:
    office.own(STRICT, "alice")
    digest = "sha256:" + "0" * 64
    for text, words in (
        (statement(PACK, PackStatement(id="other", version="1.0.0", digest=digest)), "another id"),
        (
            statement("allod change approval v1", PackStatement(id="house", version="1.0.0", digest=digest)),
            "no ",
        ),
        ("words\n", "no "),
    ):
        office.sign("alice", text=text)
        refuses(office, words)


def test_one_flipped_bit_of_a_signature_is_found(office: Office) -> None:
    office.own(STRICT, "alice")
    note = office.root / "packs/house.sig"
    whole = note.read_bytes()
    key = notes.parse_vkey(office.signers["alice"]["key"])
    for n in (0, 31, 63):
        text, _, line = whole.decode().rpartition(" ")
        raw = bytearray(notes.unb64(line.strip(), "it"))
        raw[4 + n] ^= 1
        note.write_text(f"{text} {notes.b64(bytes(raw))}\n")
        refuses(office, "alice", "false")
    assert notes.open_note(whole, key)


def test_a_narrower_version_takes_one_signature_and_a_wider_one_two(office: Office) -> None:
    office.own(LOOSE, "alice")
    office.begin()
    office.own(STRICT, "alice", version="1.1.0")
    office.begin()
    office.own(LOOSE, "alice", version="2.0.0")
    refuses(office, "two signatures", "house", "newly permitted")
    office.sign("carol")
    refuses(office, "two signatures", "alice (author), carol (author)")
    office.sign("bob")
    office.begin()
    office.begin()
    office.own(LOOSE, "alice", version="2.0.0")
    refuses(office, "two signatures", "as when it came into force")
    told = [(leaf["facts"]["version"], leaf["facts"]["widening"]) for leaf in office.notices("pack")]
    assert told == [("1.0.0", "no"), ("1.1.0", "no"), ("2.0.0", "yes")]


def test_a_first_version_that_brings_weights_is_no_mere_prohibition(office: Office) -> None:
    folder = office.pack(STRICT)
    (folder / "facts").mkdir()
    percent = [100, 0, 0, 0, 0, 0, 0, 0]
    names = [f"o{n}" for n in range(8)]
    (folder / "facts" / "weights.toml").write_text(
        f'[[weights]]\nid = "house"\nobjectives = {names}\npercent = {percent}\nsource = "s"\n'
    )
    (folder / "policies.cedar").write_text(
        rules(STRICT) + '@id("house.score") @law("House rule 2") @text("A score.") @remedy("None.")\n'
        'forbid (principal is Allod::App, action == Allod::Action::"dispatch", '
        "resource is Allod::Deployment)\n"
        "unless { resource has seal && resource.seal.score >= 100 };\n"
    )
    office.sign("alice")

    office.root.rename(office.root.with_name("spare"))
    for packs in (["base", "eu-csf", "house"], ["base", "house", "eu-csf"]):
        shutil.rmtree(office.root, ignore_errors=True)
        shutil.copytree(office.root.with_name("spare"), office.root)
        office.write(min_seal_score=1, packs=packs)
        with pytest.raises(Invalid, match="weigh sovereignty differently"):
            office.begin()


def test_without_a_prover_every_new_version_needs_two(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.own(LOOSE, "alice")
    office.begin()
    monkeypatch.setitem(sys.modules, "z3", None)
    office.own(STRICT, "alice", version="1.1.0")
    refuses(office, "two signatures", "not proved", "counts as a widening")


@pytest.mark.parametrize("gone", ["accepted", "own"])
def test_a_past_that_was_deleted_or_altered_makes_every_version_a_widening(office: Office, gone: str) -> None:
    office.own(LOOSE, "alice")
    office.begin()
    shutil.rmtree(office.root / "changes" / gone)
    office.own(STRICT, "alice", version="1.1.0")
    refuses(office, "two signatures")


def test_a_wider_version_is_not_smuggled_in_by_leaving_the_pack_out_for_one_start(office: Office) -> None:
    office.own(STRICT, "alice")
    office.begin()
    office.packs = []
    office.write()
    office.begin()
    office.own(LOOSE, "alice", version="2.0.0")
    refuses(office, "two signatures")


def test_a_start_that_died_after_logging_a_pack_logs_it_no_second_time(office: Office) -> None:
    office.own(STRICT, "alice")
    setting = office.setting()
    policy = compose.decider(setting.fleet, setting.packs).policy
    store = Store.open(office.home)
    standing.begin(store, setting, policy.packs, (), "tenant", NOW_MS)  # and no start is logged
    store.close()
    office.begin()
    assert len(office.notices("pack")) == 1


def test_a_running_gateway_refuses_by_the_homes_own_rule_and_does_not_start_with_a_swapped_one(
    tmp_path: Path,
) -> None:
    office = Office(tmp_path / "home")
    office.own('context.classes.contains("public")', "alice")
    world = World(office.root, office.home.config.read_text())
    world.key("press")
    with Inside(world) as gateway:
        answer = gateway.chat({"model": "auto", "messages": [{"role": "user", "content": "hi"}]})
        assert answer.status == 403
        found = {rule["id"] for each in answer.json["error"]["allod"]["excluded"] for rule in each["rules"]}
        assert "house.dpa" in found
    office.pack('context.classes.contains("internal")')
    done = world.here("up", "--port", "0")
    assert done.returncode == 3
    assert "house" in done.stderr
    assert "another digest" in done.stderr
    assert world.here("policy", "verify").returncode == 3


def test_keys_are_private_and_never_written_over(office: Office) -> None:
    path = signers.key_path(office.home, "alice")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Invalid, match="exists"):
        signers.make_key(path, "alice")
    path.chmod(0o644)
    with pytest.raises(Integrity, match="open to others"):
        signers.load_key(path)
    for name in ("", "..", "a/b", "x" * 80, "log\n"):
        with pytest.raises(Invalid):
            signers.key_path(office.home, name)


def test_one_key_under_two_names_is_not_two_signers(office: Office) -> None:
    seed = notes.parse_skey(signers.key_path(office.home, "alice").read_text().strip())
    again = notes.Signer("bob", seed._seed).key.vkey()
    office.signers["bob"]["key"] = again
    office.write()
    with pytest.raises(Invalid, match="twice"):
        office.setting()
