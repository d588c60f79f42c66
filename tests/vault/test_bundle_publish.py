"""The publisher: keys, roots, thresholds, withdrawal, and the log's word for a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import bundle_world as bw
import msgspec
import pytest

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.gateway import bundling
from allod.receipts.proof import parse_proof
from allod.store.home import load_keys, make_home
from allod.store.store import Store
from allod.vault.bundle import keys, pieces, publish
from allod.vault.bundle.form import Known
from allod.vault.bundle.publish import Expiry, Publisher
from allod.vault.bundle.verify import Opened


@pytest.fixture
def ours(tmp_path: Path) -> Publisher:
    return bw.publisher(tmp_path)


TEXT = (pieces.text("prices", "prices", "1", b"{}"),)


def moved(bundle: Opened) -> Known:
    with bundle:
        return bundle.known_after


def test_private_keys_are_for_their_owner_only(tmp_path: Path, ours: Publisher) -> None:
    folder = ours.key_folders[0]
    assert folder.stat().st_mode & 0o777 == 0o700
    found = keys.load(folder)
    assert [key.role for key in found] == list(keys.ROLES)
    assert all(Path(key.path).stat().st_mode & 0o777 == 0o600 for key in found)
    assert all("BEGIN" not in repr(key) and "private" not in repr(key) for key in found)
    open_to_all = Path(found[0].path)
    open_to_all.chmod(0o644)
    with pytest.raises(Integrity, match="open to others"):
        keys.load(folder)
    open_to_all.chmod(0o600)
    open_to_all.rename(folder / "targets-0000000000000000.pem")
    with pytest.raises(Integrity, match="another key"):
        keys.load(folder)
    (folder / "targets-0000000000000000.pem").rename(folder / "key.pem")
    with pytest.raises(Integrity, match="no key of a publisher"):
        keys.load(folder)
    with pytest.raises(Invalid, match="no role"):
        keys.new(folder, "admin")
    assert keys.load(tmp_path / "nowhere") == ()


def test_a_home_follows_a_publisher_through_rotations_of_every_role(tmp_path: Path, ours: Publisher) -> None:
    ring, known = ours.keyring(proof=False), Known()
    for number, role in enumerate(("bundle", "timestamp", "snapshot", "targets", "root"), 1):
        if role != "bundle":
            old = keys.of(keys.load(*ours.key_folders), role)
            keys.new(ours.key_folders[0], role)
            assert ours.new_root(now_ms=bw.NOW, retired=tuple(key.key_id for key in old)) == number
            for key in old:
                keys.retire(key)
        bw.made(tmp_path / str(number), TEXT, ours)
        known = moved(bw.opened(tmp_path / str(number), ring, known))
        assert (known.root_version, known.channels["stable"].number) == (number, number)
    late = moved(bw.opened(tmp_path / "5", ring))
    assert late.root == known.root, "who begins late follows the whole chain"
    with pytest.raises(Integrity) as caught:
        bw.opened(tmp_path / "4", ring, known)
    assert "rollback" in caught.value.why
    assert len(list((ours.key_folders[0] / keys.RETIRED).iterdir())) == 4


def test_a_root_of_two_keys_needs_both_and_one_can_lie_elsewhere(tmp_path: Path, ours: Publisher) -> None:
    safe = tmp_path / "safe"
    keys.new(safe, "root")
    both = Publisher(ours.folder, (*ours.key_folders, safe))
    assert both.new_root(now_ms=bw.NOW, thresholds={"root": 2}) == 2
    with pytest.raises(Invalid, match="keys of the role root are missing"):
        ours.new_root(now_ms=bw.NOW)
    assert both.new_root(now_ms=bw.NOW) == 3
    bw.made(tmp_path / "b", TEXT, ours)
    moved(bw.opened(tmp_path / "b", ours.keyring(proof=False)))
    with pytest.raises(Invalid, match="would have 1 keys"):
        both.new_root(now_ms=bw.NOW, retired=(keys.of(keys.load(safe), "root")[0].key_id[:16],))
    with pytest.raises(Invalid, match="root would have 1 keys"):
        both.new_root(now_ms=bw.NOW, retired=tuple(k.key_id for k in keys.load(*ours.key_folders)))


def test_what_is_retired_is_named_by_enough_of_its_id(ours: Publisher) -> None:
    for one in ("", "abc", "x" * 16):
        with pytest.raises(Invalid, match="no key id"):
            ours.new_root(now_ms=bw.NOW, retired=(one,))


def test_without_keys_or_a_root_nothing_is_made(tmp_path: Path, ours: Publisher) -> None:
    for path in ours.key_folders[0].glob("timestamp-*"):
        path.unlink()
    with pytest.raises(Invalid, match="keys of the role timestamp are missing"):
        bw.made(tmp_path / "b", TEXT, ours)
    assert not (tmp_path / "b").exists()
    bare = Publisher(tmp_path / "bare", ours.key_folders)
    with pytest.raises(Invalid, match="no root"):
        bw.made(tmp_path / "b", TEXT, bare)
    with pytest.raises(Invalid, match="cannot expire so"):
        Publisher(tmp_path / "bare", ours.key_folders, Expiry(timestamp=0))


def test_what_is_withdrawn_is_vouched_for_no_more(tmp_path: Path, ours: Publisher) -> None:
    bw.made(tmp_path / "1", TEXT, ours)
    ring = ours.keyring(proof=False)
    with ours.alone():
        files = ours.withdraw("stable", 1, now_ms=bw.NOW)
    for path, raw in files.items():
        (tmp_path / "1" / path).write_bytes(raw)
    with pytest.raises(Integrity, match="does not hold: targets"):
        bw.opened(tmp_path / "1", ring)
    assert bw.made(tmp_path / "2", TEXT, ours).bundle.number == 2, "a number is not used again"


def test_only_the_newest_bundles_of_a_channel_stay_vouched_for(
    ours: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "KEPT", 3)
    with ours.alone():
        for number in range(1, 6):
            files = ours.vouch("stable", number, b"%d" % number, now_ms=bw.NOW)
        other = ours.vouch("test", 1, b"x", now_ms=bw.NOW)
    assert files["tuf/targets.json"].count(b"bundle.json") == 3
    assert other["tuf/targets.json"].count(b"bundle.json") == 4
    assert b"stable/2/" not in other["tuf/targets.json"]


def test_expiry_is_counted_from_the_making(tmp_path: Path, ours: Publisher) -> None:
    short = Publisher(ours.folder, ours.key_folders, Expiry(timestamp=2))
    bw.made(tmp_path / "b", TEXT, short)
    ring = msgspec.structs.replace(ours.keyring(proof=False), refuse_stale=False)
    with bw.opened(tmp_path / "b", ring, now_ms=bw.NOW + bw.DAY) as fresh:
        assert fresh.stale == ""
    with bw.opened(tmp_path / "b", ring, now_ms=bw.NOW + 3 * bw.DAY) as stale:
        assert stale.stale.startswith("timestamp expired ")


def test_a_damaged_state_of_the_publisher_is_named(tmp_path: Path, ours: Publisher) -> None:
    bw.made(tmp_path / "1", TEXT, ours)
    (ours.folder / "channels.json").write_text("{}\n")
    with pytest.raises(Integrity, match=r"channels\.json"):
        bw.made(tmp_path / "2", TEXT, ours)
    (ours.folder / "channels.json").write_text('{"stable":{"digest":"","number":9}}')
    assert bw.made(tmp_path / "2", TEXT, ours).bundle.number == 10
    (ours.tuf / "targets.json").write_text("{}")
    with pytest.raises(Integrity, match="targets of this publisher is damaged"):
        bw.made(tmp_path / "3", TEXT, ours)
    with pytest.raises(Integrity, match="taken"):
        ours.record("stable", 10, "sha256:" + "1" * 64)


def test_the_homes_log_shows_the_bundle_and_its_proof_is_checked_offline(
    tmp_path: Path, ours: Publisher
) -> None:
    home = make_home(tmp_path / "home")
    origin, vkey = load_keys(home).origin, load_keys(home).signer.key.vkey()
    head = msgspec.structs.replace(bw.HEAD, source=origin, audience=(bw.HOME,))
    log = bundling.log_of(home, "st-elisabeth", now_ms=bw.NOW)
    made = bw.made(tmp_path / "1", TEXT, ours, head=head, log=log)
    assert made.logged
    ring = ours.keyring((vkey,))
    moved(bw.opened(tmp_path / "1", ring))
    with pytest.raises(Integrity, match="source's log"):
        bw.opened(tmp_path / "1", msgspec.structs.replace(ring, log_vkeys=()))
    shutil.rmtree(tmp_path / "1" / "proof")
    with pytest.raises(Integrity, match="source's log"):
        bw.opened(tmp_path / "1", ring)
    leaf = log.prove("sha256:" + "0" * 64, "stable", 9).leaf
    assert b"st-elisabeth" not in leaf, "the tenant is a pseudonym"


def test_a_bundle_interrupted_after_it_was_logged_is_logged_once(tmp_path: Path, ours: Publisher) -> None:
    home = make_home(tmp_path / "home")
    head = msgspec.structs.replace(bw.HEAD, source=load_keys(home).origin)
    log = bundling.log_of(home, "t", now_ms=bw.NOW)

    class Died(BaseException):
        pass

    def stop(step: str) -> None:
        if step == "metadata":
            raise Died

    with pytest.raises(Died):
        bw.made(tmp_path / "b", TEXT, ours, head=head, log=log, step=stop)
    bw.made(tmp_path / "b", TEXT, ours, head=head, log=log)
    proof = parse_proof((tmp_path / "b" / "proof" / "inclusion.tlog-proof").read_text())
    store = Store.open(home)
    try:
        leaves = [store.reader.leaf(i) for i in range(store.reader.size())]
    finally:
        store.close()
    assert sum(b'"subject":"bundle"' in leaf for leaf in leaves) == 1
    assert leaves[proof.index] == (tmp_path / "b" / "proof" / "leaf.json").read_bytes()


def test_while_a_gateway_writes_the_log_no_proof_can_be_had(tmp_path: Path, ours: Publisher) -> None:
    home = make_home(tmp_path / "home")
    store = Store.open(home)
    try:
        with pytest.raises(Unavailable):
            bundling.log_of(home, "t", now_ms=bw.NOW)
    finally:
        store.close()


def test_what_a_home_gathers_is_checked_before_it_is_signed(tmp_path: Path) -> None:
    from allod.vault.vault import Vault, shipped_folder

    home = make_home(tmp_path / "home")
    vault = Vault(home.vault)
    vault.add(shipped_folder() / "reference-draft.gguf", "carried")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "allod-9.9.9-py3-none-any.whl").write_bytes(b"wheel")
    (wheels / "requirements.lock").write_text("allod==9.9.9 --hash=sha256:" + "0" * 64 + "\n")
    (tmp_path / "log.vkey").write_text(load_keys(home).signer.key.vkey() + "\n")
    wanted = bundling.Wanted(
        models=("carried",),
        packs=("eu-gdpr",),
        prices="shipped",
        revocations="vault",
        trust=(tmp_path / "log.vkey",),
        program=wheels,
    )
    vault.revocations.add("sha256:" + "9" * 64, "stolen", "2026-10-01T00:00:00.000Z")
    found = bundling.gather(home, vault, wanted, now_ms=bw.NOW + 40 * bw.DAY)
    kinds = {one.kind: one for one in found}
    assert {"model", "pack", "prices", "revocations", "trust", "program"} <= kinds.keys()
    assert kinds["program"].version == "9.9.9"
    assert b"stolen" in kinds["revocations"].sources[0].data
    (wheels / "setup.py").write_text("")
    with pytest.raises(Invalid, match="no program update"):
        bundling.gather(home, vault, bundling.Wanted(program=wheels), now_ms=bw.NOW)
    (tmp_path / "prices.json").write_text("{}")
    with pytest.raises((Integrity, Invalid)):
        bundling.gather(home, vault, bundling.Wanted(prices=str(tmp_path / "prices.json")), now_ms=bw.NOW)
    with pytest.raises(Invalid, match="no pack"):
        bundling.gather(home, vault, bundling.Wanted(packs=("nowhere",)), now_ms=bw.NOW)
    vault.revocations.add(vault.find("carried").digest, "bad", "2026-10-01T00:00:00.000Z")
    with pytest.raises(Integrity, match="revoked"):
        bundling.gather(home, vault, bundling.Wanted(models=("carried",)), now_ms=bw.NOW)
