"""The register of a vault in a home: who can write ``vault/`` alone changes nothing unnoticed."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import gguf_writer as w
import msgspec
import pytest

from allod.domain.errors import AllodError, Integrity, Invalid, Unavailable
from allod.receipts.notes import open_note, parse_vkey
from allod.store.home import Home, make_home
from allod.store.rotate import rotate_key
from allod.vault import manifest, register, sealing
from allod.vault.collect import collect
from allod.vault.manifest import File, Manifest
from allod.vault.revocation import Revocation
from allod.vault.vault import Vault

NOW = 1_700_000_000_000
OTHER = "sha256:" + "7" * 64


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def opened(home: Home) -> Vault:
    return Vault(home.vault, shipped=home.root / "none", clock=lambda: NOW)


@pytest.fixture
def vault(home: Home) -> Vault:
    return opened(home)


def entry(vault: Vault, name: str, content: bytes | None = None) -> Manifest:
    """Put a blob in the vault and write a manifest over it; nothing here reads what is in a file."""
    content = content or name.encode()
    digest = vault.blobs.put(content)
    return Manifest(
        name=name,
        kind="model",
        files=(File(name=f"{name}.gguf", digest=digest, size_bytes=len(content)),),
        architecture="llama",
        quantisation="F32",
        parameters=1,
        added_at="",
    )


def saved(home: Home, to: Path) -> Path:
    return Path(shutil.copytree(home.vault, to, dirs_exist_ok=True))


def put_back(home: Home, of: Path) -> None:
    shutil.rmtree(home.vault)
    shutil.copytree(of, home.vault)


def refused(home: Home, text: str) -> Integrity:
    """Check that everything that reads the register says so, a fresh process and one that read before."""
    fresh = opened(home)
    for use in (
        fresh.list,
        lambda: fresh.find("a"),
        lambda: fresh.resolve("a"),
        lambda: fresh.revoke(OTHER, "why"),
        lambda: fresh.keep(entry(fresh, "z")),
        lambda: fresh.remove("a"),
        lambda: collect(fresh),
    ):
        with pytest.raises(Integrity) as caught:
            use()
        assert text in f"{caught.value.what} {caught.value.why}", caught.value.explain()
    return caught.value


# -- what it is


def test_the_note_is_signed_by_the_log_key_and_names_the_register(home: Home, vault: Vault) -> None:
    assert vault.list() == ()
    assert not (home.vault / "manifests.note").exists()
    vault.keep(entry(vault, "a"))
    vault.revoke(OTHER, "planted")
    raw = (home.vault / "manifests.note").read_bytes()
    text = open_note(raw, parse_vkey(home.log_vkey.read_text().strip()))
    said = register.read_text(text)
    assert said.version == 2
    file = home.vault / "register" / f"{said.register.removeprefix('sha256:')}.json"
    held, revoked = register.decode(file.read_bytes())
    assert (list(held), list(revoked)) == (["a"], [OTHER])
    assert oct((home.keys / "vault.anchor").stat().st_mode)[-3:] == "600"
    assert (
        f"version 2\nnote {opened(home).register.read().note}\n" == (home.keys / "vault.anchor").read_text()
    )
    assert opened(home).find("a") == vault.find("a")


def test_the_same_weights_keep_the_first_manifest_and_nothing_is_signed_for_nothing(vault: Vault) -> None:
    first = vault.keep(entry(vault, "a"))
    version = vault.register.read().version
    again = msgspec.structs.replace(first.manifest, maker="Somebody else")
    assert vault.keep(again) == first
    assert vault.commit((again,), revoked=()) == (first,)
    assert vault.register.read().version == version
    assert vault.commit((again,), replace=True)[0].manifest.maker == "Somebody else"
    with pytest.raises(Invalid) as caught:
        vault.keep(entry(vault, "a", b"other weights"))
    assert caught.value.kind == "conflict"


def test_many_manifests_and_revocations_are_one_change(home: Home, vault: Vault) -> None:
    wanted = [entry(vault, name) for name in ("a", "b", "c")]
    broken = msgspec.structs.replace(wanted[2], name="d", files=(msgspec.structs.replace(
        wanted[2].files[0], digest=OTHER),))  # fmt: skip
    with pytest.raises(Integrity, match="not in the vault"):
        vault.commit((*wanted, broken))
    assert vault.list() == ()
    revoked = Revocation(digest=OTHER, reason="planted", at=vault.now())
    made = vault.commit(wanted, revoked=(revoked,))
    assert [item.manifest for item in made] == wanted
    state = opened(home).register.read()
    assert (state.version, set(state.manifests), set(state.revoked)) == (1, {"a", "b", "c"}, {OTHER})
    vault.commit((entry(vault, "a", b"newer"),), replace=True, remove=("b",))
    assert opened(home).find("a").digest == manifest.bytes_digest(b"newer")
    with pytest.raises(Invalid):
        opened(home).find("b")
    wrong = msgspec.structs.replace(wanted[2].files[0], size_bytes=99)
    with pytest.raises(Integrity, match="another size"):
        vault.commit((msgspec.structs.replace(wanted[2], files=(wrong,)),), replace=True)


def test_a_base_that_an_adapter_needs_is_not_removed(vault: Vault) -> None:
    base = vault.keep(entry(vault, "base"))
    adapter = msgspec.structs.replace(entry(vault, "lora"), kind="adapter", base=base.digest)
    vault.keep(adapter)
    with pytest.raises(Invalid, match="needed") as caught:
        vault.remove("base")
    assert caught.value.kind == "conflict"
    renamed = msgspec.structs.replace(base.manifest, name="base-2")
    vault.commit((renamed,), remove=("base",))
    vault.commit((base.manifest,), remove=("base-2",))
    vault.remove("lora")
    assert vault.remove("base") == base.manifest
    assert len(collect(vault).removed) == 2
    with pytest.raises(Invalid):
        vault.remove("base")


# -- what an enemy of the folder does


def test_I5_manifest_and_file_replaced_together_are_found(home: Home, vault: Vault) -> None:
    mine = vault.keep(entry(vault, "a"))
    vault.register.read()
    evil = b"evil weights"
    digest = manifest.bytes_digest(evil)
    vault.blobs.path(digest).write_bytes(evil)
    path = next((home.vault / "register").glob("*.json"))
    stored = json.loads(path.read_bytes())
    stored["manifests"][0]["files"][0] |= {"digest": digest, "size_bytes": len(evil)}
    raw = json.dumps(stored).encode()
    path.write_bytes(raw)  # the register alone
    refused(home, "another digest")
    name = manifest.bytes_digest(raw)
    path.rename(path.with_name(name.removeprefix("sha256:") + ".json"))
    note = home.vault / "manifests.note"
    text = note.read_text()
    before = register.read_text(text.partition("\n\n")[0] + "\n").register
    note.write_text(text.replace(before, name))  # and the note, under its old signature
    refused(home, "false signature")
    note.write_text(text.partition("\n\n")[0].replace(before, name) + "\n")  # and without one
    refused(home, "signature lines")
    stranger = make_home(home.root.parent / "stranger")
    foreign = opened(stranger)
    foreign.keep(entry(foreign, "a", evil))
    shutil.rmtree(home.vault)
    shutil.copytree(stranger.vault, home.vault)  # and under a key of his own
    refused(home, "not signed by this home")
    assert mine.digest != digest


def test_an_older_state_is_not_taken_for_the_newest(home: Home, vault: Vault, tmp_path: Path) -> None:
    vault.keep(entry(vault, "a"))
    before = saved(home, tmp_path / "before")
    vault.revoke(vault.find("a").digest, "planted")
    put_back(home, before)
    assert "version 1" in refused(home, "older state").why
    with pytest.raises(Integrity, match="older state"):
        vault.find("a")


def test_a_removed_revocation_is_found(home: Home, vault: Vault) -> None:
    vault.keep(entry(vault, "a"))
    vault.revoke(vault.find("a").digest, "planted")
    state = vault.register.read()
    raw = register.encode(msgspec.structs.replace(state, revoked={}))
    path = next(p for p in (home.vault / "register").glob("*.json") if json.loads(p.read_bytes())["revoked"])
    path.write_bytes(raw)
    refused(home, "another digest")


def test_a_vault_that_was_emptied_is_not_a_new_one(home: Home, vault: Vault) -> None:
    vault.keep(entry(vault, "a"))
    (home.vault / "manifests.note").unlink()
    refused(home, "is gone")
    shutil.rmtree(home.vault)
    refused(home, "is gone")
    (home.vault / "manifests").mkdir(parents=True)
    (home.vault / "manifests" / "a.json").write_text("{}")  # nor one of an older version
    refused(home, "is gone")
    with pytest.raises(Integrity, match="is gone"):
        sealing.seal(opened(home))


def test_two_states_of_one_version_are_told_apart(home: Home, vault: Vault, tmp_path: Path) -> None:
    """A change that died before the home remembered it must not come back in place of the one that did."""
    vault.keep(entry(vault, "a"))
    first, anchor = saved(home, tmp_path / "first"), (home.keys / "vault.anchor").read_bytes()
    vault.keep(entry(vault, "evil"))
    lost = saved(home, tmp_path / "lost")
    put_back(home, first)
    (home.keys / "vault.anchor").write_bytes(anchor)  # as if the second change had died just before
    opened(home).keep(entry(vault, "b"))
    put_back(home, lost)
    refused(home, "another state")


def test_hidden_keys_do_not_make_a_vault_unsealed(home: Home, vault: Vault) -> None:
    vault.keep(entry(vault, "a"))
    home.log_key.unlink()
    with pytest.raises(AllodError):
        opened(home).list()
    if os.geteuid() != 0:
        home.keys.chmod(0)
        with pytest.raises((Unavailable, Integrity)):
            opened(home).list()
        home.keys.chmod(0o700)


def test_links_in_place_of_note_and_register_are_not_followed(
    home: Home, vault: Vault, tmp_path: Path
) -> None:
    vault.keep(entry(vault, "a"))
    note, folder = home.vault / "manifests.note", home.vault / "register"
    copy = tmp_path / "note"
    copy.write_bytes(note.read_bytes())
    note.unlink()
    note.symlink_to(copy)
    refused(home, "symbolic link")
    note.unlink()
    note.write_bytes(copy.read_bytes())
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    (elsewhere / "precious.json").write_text("{}")
    folder.symlink_to(elsewhere)
    with pytest.raises(Integrity, match="is a link"):
        opened(home).keep(entry(vault, "b"))
    assert (elsewhere / "precious.json").exists()
    assert opened(home).find("a").manifest.name == "a"  # read through it, by its digest


@pytest.mark.parametrize(
    "raw",
    [b"", b"\n\n", b"x" * 200_000, b"\xff\xfe", b"allod.vault/manifests/v1\n\n\xe2\x80\x94 a AAAA\n", b"{}"],
)
def test_a_note_that_is_none_is_refused(home: Home, vault: Vault, raw: bytes) -> None:
    vault.keep(entry(vault, "a"))
    (home.vault / "manifests.note").write_bytes(raw)
    refused(home, "note")


def test_a_checkpoint_of_the_log_is_no_note_of_the_vault(home: Home, vault: Vault) -> None:
    from allod.receipts.checkpoint import sign
    from allod.store.home import load_keys

    vault.keep(entry(vault, "a"))
    checkpoint = sign(load_keys(home).signer, 7, b"\0" * 32)
    (home.vault / "manifests.note").write_bytes(checkpoint)
    refused(home, "not one")


@pytest.mark.parametrize("raw", [b"", b"version 0\n", b"version 1\nnote sha256:00\n", b"\xff"])
def test_a_damaged_memory_of_the_home_refuses(home: Home, vault: Vault, raw: bytes) -> None:
    vault.keep(entry(vault, "a"))
    (home.keys / "vault.anchor").write_bytes(raw)
    refused(home, "damaged")


# -- keys that change


def test_a_rotated_key_still_counts_and_a_revoked_one_does_not(home: Home, vault: Vault) -> None:
    vault.add(w.tiny(home.root / "a.gguf"), "a")
    rotate_key(home, tenant="t", at_ms=NOW)
    assert vault.find("a") == opened(home).find("a")
    vault.keep(entry(vault, "b"))
    rotate_key(home, tenant="t", at_ms=NOW + 1, revoked=True)
    refused(home, "revoked")
    with pytest.raises(Integrity):
        sealing.seal(opened(home))
    done = sealing.seal(opened(home), again=True)
    assert (done.version, list(done.models), list(done.left)) == (3, ["a"], ["b"])  # b is no GGUF file
    assert opened(home).resolve("a").weights.manifest.name == "a"


# -- homes from before


def old_home(home: Home) -> tuple[Path, str]:
    """Take a vault back to what older versions wrote."""
    vault = opened(home)
    held = vault.add(w.tiny(home.root / "a.gguf"), "a").manifest
    folder = home.vault / "manifests"
    folder.mkdir()
    (folder / "a.json").write_bytes(manifest.encode(held))
    shutil.rmtree(home.vault / "register")
    (home.vault / "manifests.note").unlink()
    (home.keys / "vault.anchor").unlink()
    return folder, held.digest


def test_a_home_from_before_is_sealed_once_by_an_explicit_act(home: Home) -> None:
    folder, digest = old_home(home)
    planted = json.loads((folder / "a.json").read_bytes()) | {"name": "planted"}
    planted["files"][0]["digest"] = OTHER
    (folder / "planted.json").write_text(json.dumps(planted))
    (folder / "junk.json").write_text("{")
    (home.vault / "revoked.json").write_text(json.dumps([{"digest": OTHER, "reason": "r", "at": "t"}]))
    assert "allod vault seal" in refused(home, "not signed yet").remedy
    told: list[int] = []
    done = sealing.seal(opened(home), progress=told.append)
    assert (done.version, done.models, done.revoked) == (1, {"a": digest}, 1)
    assert set(done.left) == {"planted", "junk"}
    assert sum(told) == (home.root / "a.gguf").stat().st_size
    assert opened(home).resolve("a").weights.digest == digest
    assert set(opened(home).revocations.read()) == {OTHER}
    assert sorted(p.name for p in folder.iterdir()) == ["junk.json", "planted.json"]
    assert not (home.vault / "revoked.json").exists()
    assert sealing.seal(opened(home)).unchanged
    refused_before = opened(home).register.read().version
    assert refused_before == 1


def test_an_old_list_of_revocations_that_cannot_be_read_stops_the_sealing(home: Home) -> None:
    old_home(home)
    (home.vault / "revoked.json").write_text("[")
    with pytest.raises(Integrity, match="revocations"):
        sealing.seal(opened(home))
    refused(home, "not signed yet")


def test_a_restored_vault_is_signed_again_only_when_told(home: Home, tmp_path: Path) -> None:
    vault = opened(home)
    vault.add(w.tiny(tmp_path / "a.gguf"), "a")
    before = saved(home, tmp_path / "before")
    vault.keep(entry(vault, "b"))
    put_back(home, before)
    with pytest.raises(Integrity):
        sealing.seal(opened(home))
    done = sealing.seal(opened(home), again=True)
    assert (done.version, list(done.models), done.left) == (3, ["a"], {})
    assert opened(home).find("a").manifest.name == "a"


# -- death, disk, many at once


DYING = """
import os, sys
from pathlib import Path
import allod.vault.register as registers, allod.vault.seal as seals
from allod.vault.revocation import Revocation
from allod.vault.vault import Vault
where, count = int(sys.argv[2]), [0]
def step(original):
    def call(*given, **named):
        count[0] += 1
        if count[0] == where:
            os.kill(os.getpid(), 9)
        return original(*given, **named)
    return call
os.fsync = step(os.fsync)
Path.replace = step(Path.replace)
Path.open = step(Path.open)
os.open = step(os.open)
vault = Vault(sys.argv[1], shipped="/nonexistent")
kept = vault.find("a").manifest
count[0] = 0
vault.commit((), remove=("a",), revoked=(Revocation(digest="sha256:" + "7" * 64, reason="r", at="t"),))
count[0] = -1000
print("done")
"""


def test_death_at_any_step_leaves_the_old_state_or_the_new_one(home: Home, tmp_path: Path) -> None:
    vault = opened(home)
    vault.keep(entry(vault, "a"))
    shutil.copytree(home.root, tmp_path / "clean")
    seen, where = set(), 0
    while "done" not in seen:
        where += 1
        shutil.rmtree(home.root)
        shutil.copytree(tmp_path / "clean", home.root)
        done = subprocess.run(
            [sys.executable, "-c", DYING, home.vault, str(where)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == (0 if done.stdout else -9), done.stderr
        state = opened(home).register.read()
        assert (set(state.manifests), set(state.revoked)) in (({"a"}, set()), (set(), {OTHER}))
        seen.add(done.stdout.strip() or ("new" if state.revoked else "old"))
        remembered = opened(home).register.seal
        assert remembered is not None
        anchor = remembered.anchor()
        assert anchor is not None
        assert anchor.version == state.version  # a note that was not remembered yet is now
        fresh = opened(home)
        fresh.revoke(OTHER, "again")
        assert OTHER in opened(home).revocations.read()
    assert seen == {"old", "new", "done"}
    assert where > 8


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
from allod.domain.errors import Unavailable
from allod.vault.vault import Vault
try:
    Vault(sys.argv[1], shipped="/nonexistent").revoke("sha256:" + "7" * 64, "why")
except Unavailable as error:
    print(error.kind)
"""


def test_a_full_disk_leaves_the_state_as_it_was(home: Home, vault: Vault) -> None:
    vault.keep(entry(vault, "a"))
    done = subprocess.run(
        [sys.executable, "-c", FULL, home.vault, "100"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "storage", done.stderr
    assert opened(home).register.read().version == 1
    assert [p.name for p in (home.vault / "register").iterdir() if p.name.startswith(".")] == []


def _revoke(root: str, number: int) -> int:
    vault = Vault(root, shipped="/nonexistent")
    for part in range(4):
        vault.revoke(f"sha256:{number:032x}{part:032x}", "why")
        vault.list()
    return number


def test_many_writers_and_readers_lose_nothing(home: Home, vault: Vault) -> None:
    vault.keep(entry(vault, "a"))
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.starmap(_revoke, [(str(home.vault), n) for n in range(6)]) == list(range(6))
    state = opened(home).register.read()
    assert (state.version, len(state.revoked)) == (25, 24)
    assert len(list((home.vault / "register").iterdir())) == 2


def test_reading_a_hundred_models_is_quick(home: Home, vault: Vault) -> None:
    vault.commit([entry(vault, f"m{number}", b"same") for number in range(100)])
    fresh = opened(home)
    began = time.process_time()
    for number in range(100):
        fresh.find(f"m{number}")
    assert time.process_time() - began < 0.25  # seconds; measured: a tenth of it
