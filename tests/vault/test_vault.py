# ruff: noqa: E501 (one case a line)
from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import gguf_writer as w
import pytest
import vault_world as world

from allod.domain.errors import Integrity, Invalid, Refused, Unavailable
from allod.vault import manifest, template
from allod.vault.blobs import Blobs, identity
from allod.vault.pull import pull
from allod.vault.vault import Vault

HERE = Path(__file__).parent


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault", shipped=tmp_path / "none", clock=lambda: 1_700_000_000_000)


def digest(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def leftovers(vault: Vault) -> list[str]:
    return [str(path) for path in vault.root.rglob("*") if path.name.startswith((".incoming", ".pull"))]


def test_added_model_is_found_by_name_and_digest(vault: Vault, tmp_path: Path) -> None:
    file = w.tiny(tmp_path / "My-Model.gguf")
    entry = vault.add(file, maker="Acme", maker_jurisdiction="DE")
    manifest = entry.manifest
    assert manifest.name == "my-model"
    assert entry.digest == digest(file)
    assert (manifest.kind, manifest.architecture, manifest.quantisation) == ("model", "llama", "F32")
    assert (manifest.context_tokens, manifest.licence, manifest.maker) == (512, "CC0-1.0", "Acme")
    assert manifest.added_at == "2023-11-14T22:13:20.000Z"
    assert manifest.template == "sha256:" + hashlib.sha256(w.TEMPLATE.encode()).hexdigest()
    for name in ("my-model", entry.digest):
        model = vault.resolve(name)
        assert model.template == w.TEMPLATE
        assert model.facts.weights == entry.digest
        assert model.facts.maker_jurisdiction == "DE"
    assert vault.list() == (entry,)
    assert vault.verify("my-model") == entry
    assert Path(entry.path).name == entry.digest.removeprefix("sha256:")
    assert Path(entry.path).stat().st_mode & 0o777 == 0o444
    assert vault.root.stat().st_mode & 0o077 == 0


def test_same_file_again_is_no_conflict_and_another_under_its_name_is(vault: Vault, tmp_path: Path) -> None:
    first = vault.add(w.tiny(tmp_path / "a.gguf"), "m")
    assert vault.add(tmp_path / "a.gguf", "m") == first
    assert vault.add(tmp_path / "a.gguf", "other-name").digest == first.digest
    with pytest.raises(Invalid) as caught:
        vault.add(w.tiny(tmp_path / "b.gguf", seed=5), "m")
    assert caught.value.kind == "conflict"
    assert vault.find("m") == first


def test_adapter_belongs_to_one_base(vault: Vault, tmp_path: Path) -> None:
    base = vault.add(w.tiny(tmp_path / "a.gguf"), "base", maker_jurisdiction="DE")
    vault.add(w.tiny(tmp_path / "b.gguf", seed=5), "other")
    file = w.adapter(tmp_path / "l.gguf")
    with pytest.raises(Invalid, match="one base"):
        vault.add(file, "ad")
    with pytest.raises(Invalid, match="only an adapter"):
        vault.add(tmp_path / "b.gguf", "wrong", base="base")
    entry = vault.add(file, "ad", base="base", maker_jurisdiction="DE")
    assert entry.manifest.base == base.digest
    for model in (vault.resolve("ad"), vault.resolve("base", "ad"), vault.resolve(base.digest, entry.digest)):
        assert (model.weights, model.adapter) == (base, entry)
        assert (model.facts.weights, model.facts.adapter) == (base.digest, entry.digest)
        assert model.facts.maker_jurisdiction == "DE"
    with pytest.raises(Invalid, match="does not belong"):
        vault.resolve("other", "ad")
    with pytest.raises(Invalid, match="not an adapter"):
        vault.resolve("base", "other")
    with pytest.raises(Invalid, match="cannot be the base"):
        vault.add(w.adapter(tmp_path / "l2.gguf", seed=9), "ad2", base="ad")


def test_an_adapter_of_unknown_or_other_making_makes_the_jurisdiction_unknown(
    vault: Vault, tmp_path: Path
) -> None:
    vault.add(w.tiny(tmp_path / "a.gguf"), "base", maker_jurisdiction="DE")
    vault.add(w.adapter(tmp_path / "l.gguf"), "ad", base="base", maker_jurisdiction="CN")
    assert vault.resolve("ad").facts.maker_jurisdiction is None
    assert vault.resolve("base").facts.maker_jurisdiction == "DE"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "../a",
        "A",
        "a b",
        "a..b",
        "sha256",
        ".a",
        "a.",
        "x" * 65,
        "n\u00e4me",
        "a\n",
        "-a",
    ],
)
def test_names_that_are_no_names(vault: Vault, tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid):
        vault.add(w.tiny(tmp_path / "a.gguf"), name)
    with pytest.raises(Invalid):
        vault.resolve(name)
    assert not vault.root.exists()


def test_files_that_are_no_manifests_are_left_alone(vault: Vault, tmp_path: Path) -> None:
    entry = vault.add(w.tiny(tmp_path / "a.gguf"), "m")
    for name in ("Upper.json", ".hidden.json", "x..y.json", "notes.txt"):
        (vault.root / "register" / name).write_text("anything")
    (vault.root / "manifests").mkdir()
    (vault.root / "manifests" / "n.json").write_text("anything")
    assert vault.list() == (entry,)
    assert vault.resolve(entry.digest).weights == entry


def test_what_is_not_there(vault: Vault) -> None:
    for name in ("absent", "sha256:" + "0" * 64):
        with pytest.raises(Invalid) as caught:
            vault.resolve(name)
        assert caught.value.kind == "model"
    assert vault.list() == ()


def test_links_pipes_devices_and_folders_are_refused_without_waiting(vault: Vault, tmp_path: Path) -> None:
    real = w.tiny(tmp_path / "real.gguf")
    (tmp_path / "link.gguf").symlink_to(real)
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "folder.gguf").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "sock.gguf"))
        for name in ("link", "pipe", "folder", "sock", "absent"):
            with pytest.raises(Invalid):
                vault.add(tmp_path / f"{name}.gguf", "m")
    with pytest.raises(Invalid):
        vault.add("/dev/zero", "m")
    assert not vault.root.exists()


def test_a_refused_file_leaves_nothing(vault: Vault, tmp_path: Path) -> None:
    bomb = w.tiny(tmp_path / "bomb.gguf", template="{% for i in range(1000000000) %}{% endfor %}")
    with pytest.raises(Invalid, match="template"):
        vault.add(bomb, "bomb")
    hidden = w.field("tokenizer.chat_template.tool_use", w.STRING, "{{ 'a' * 100000000 }}")
    with pytest.raises(Invalid, match="template"):
        vault.add(w.tiny(tmp_path / "variant.gguf", extra=(hidden,)), "variant")
    (tmp_path / "junk.gguf").write_bytes(b"junk" * 100)
    with pytest.raises(Invalid):
        vault.add(tmp_path / "junk.gguf", "junk")
    assert not vault.root.exists()


def test_a_wrong_expected_digest_keeps_nothing(vault: Vault, tmp_path: Path) -> None:
    with pytest.raises(Integrity):
        vault.add(w.tiny(tmp_path / "a.gguf"), "m", digest="sha256:" + "0" * 64)
    assert vault.list() == ()
    assert [path for path in vault.root.rglob("*") if path.is_file()] == []


def test_a_file_that_changes_while_it_is_read_is_refused(vault: Vault, tmp_path: Path) -> None:
    file = tmp_path / "big.gguf"
    tensors = [*w.model_tensors(), ("blk.0.ffn_extra.weight", (32, 40_000), 0, b"\0" * (32 * 40_000 * 4))]
    file.write_bytes(w.assemble(w.model_fields(), tensors))
    told: list[int] = []

    def overwrite(count: int) -> None:
        if not told:
            with file.open("r+b") as writer:
                writer.seek(-4, os.SEEK_END)
                writer.write(b"xxxx")
        told.append(count)

    with pytest.raises(Integrity, match="changed while"):
        vault.add(file, "m", progress=overwrite)
    assert len(told) > 1
    assert leftovers(vault) == []
    assert vault.list() == ()


def test_I5_a_blob_swapped_after_the_check_is_found(vault: Vault, tmp_path: Path) -> None:
    entry = vault.add(w.tiny(tmp_path / "a.gguf"), "m")
    blob = Path(entry.path)
    other = w.tiny(tmp_path / "b.gguf", seed=7)
    assert other.stat().st_size == blob.stat().st_size
    other.replace(blob)
    with pytest.raises(Integrity, match="not what was verified"):
        vault.verify("m")
    blob.unlink()
    blob.write_bytes(b"short")
    for check in (vault.verify, vault.resolve):
        with pytest.raises(Integrity) as caught:
            check("m")
        assert "bytes" in caught.value.why
    blob.unlink()
    with pytest.raises(Integrity, match="not there"):
        vault.resolve("m")
    blob.symlink_to(tmp_path / "a.gguf")
    with pytest.raises(Integrity, match="not there"):
        vault.resolve("m")


def test_I5_a_template_that_differs_from_its_manifest_is_found(vault: Vault, tmp_path: Path) -> None:
    entry = vault.add(w.tiny(tmp_path / "a.gguf"), "m")
    world.forge(vault, "m", {"template": "sha256:" + "1" * 64})
    with pytest.raises(Integrity, match="chat template"):
        vault.resolve("m")
    assert entry.manifest.template != "sha256:" + "1" * 64


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../m"},
        {"files": []},
        {"files": [{"name": "a", "digest": "sha256:../../etc/passwd", "size_bytes": 1}]},
        {"files": [{"name": "a", "digest": "md5:" + "0" * 32, "size_bytes": 1}]},
        {"kind": "adapter"},
        {"base": "sha256:" + "0" * 64},
        {"format": 3},
        {"format": 0},
        {"surprise": 1},
        {"kind": "program"},
    ],
)
def test_a_forged_manifest_is_refused(vault: Vault, tmp_path: Path, change: dict[str, object]) -> None:
    vault.add(w.tiny(tmp_path / "a.gguf"), "m")
    world.forge(vault, "m", change)
    for check in (vault.resolve, vault.verify, vault.find):
        with pytest.raises(Integrity):
            check("m")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff", b"{}" * 40_000, b"[" * 60_000])
def test_a_broken_register_is_refused(vault: Vault, tmp_path: Path, raw: bytes) -> None:
    vault.add(w.tiny(tmp_path / "a.gguf"), "m")
    world.place(vault, raw)
    for check in (vault.resolve, vault.verify, vault.find):
        with pytest.raises(Integrity):
            check("m")
    path = vault.root / "manifests.note"
    path.write_bytes(raw)
    with pytest.raises(Integrity):
        vault.resolve("m")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Integrity):
        vault.resolve("m")


def test_shipped_models_are_known_by_the_package_and_their_names_are_taken(tmp_path: Path) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    file = w.tiny(shipped / "ref.gguf")
    line = {
        "name": "ref", "file": "ref.gguf", "sha256": digest(file).removeprefix("sha256:"), "size_bytes": file.stat().st_size,
        "kind": "model", "base": None, "architecture": "llama", "parameters": 1, "quantisation": "F32", "context_tokens": 512,
        "chat_template_sha256": hashlib.sha256(w.TEMPLATE.encode()).hexdigest(), "licence": "CC0-1.0", "maker": "Us",
        "maker_jurisdiction": None, "description": "for tests",
    }  # fmt: skip
    (shipped / "manifest.json").write_text(json.dumps({"models": [line]}))
    vault = Vault(tmp_path / "vault", shipped=shipped)
    assert [entry.shipped for entry in vault.list()] == [True]
    assert vault.resolve("ref").template == w.TEMPLATE
    vault.verify("ref")
    vault.add(w.adapter(tmp_path / "l.gguf"), "ad", base="ref")
    assert vault.resolve("ad").weights.shipped
    with pytest.raises(Invalid) as caught:
        vault.add(w.tiny(tmp_path / "x.gguf", seed=3), "ref")
    assert caught.value.kind == "conflict"
    file.write_bytes(file.read_bytes()[:-4] + b"\1\2\3\4")
    with pytest.raises(Integrity):
        vault.verify("ref")
    (shipped / "manifest.json").write_text("{}")
    with pytest.raises(Integrity):
        vault.list()


def test_the_models_of_this_package_verify(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    entries = vault.list()
    if not entries:
        pytest.skip("this checkout ships no model yet")
    for entry in entries:
        assert vault.verify(entry.manifest.name) == entry
        assert vault.resolve(entry.manifest.name).facts.verified
    assert not vault.root.exists()


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
from allod.domain.errors import Unavailable
from allod.vault.vault import Vault
try:
    Vault(sys.argv[1], shipped="/nonexistent").add(sys.argv[2], "m")
except Unavailable as error:
    print(error.kind)
"""


@pytest.mark.parametrize("room", [0, 100, 100_000])
def test_a_full_disk_leaves_no_half_blob(vault: Vault, tmp_path: Path, room: int) -> None:
    file = w.tiny(tmp_path / "a.gguf")
    done = subprocess.run(
        [sys.executable, "-c", FULL, vault.root, file, str(room)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "storage", done.stderr
    assert [path for path in vault.root.rglob("*") if path.is_file()] == []
    vault.add(file, "m")
    vault.verify("m")


def test_a_disk_that_fills_up_before_the_manifest_leaves_no_name(vault: Vault, tmp_path: Path) -> None:
    file = w.tiny(tmp_path / "a.gguf", seed=3)
    room = file.stat().st_size
    vault.root.mkdir()
    (vault.root / "register").write_text("in the way")
    with pytest.raises(Unavailable) as caught:
        vault.add(file, "m")
    assert caught.value.kind == "storage"
    (vault.root / "register").unlink()
    assert vault.list() == ()
    assert vault.add(file, "m").manifest.size_bytes == room


KILLED = """
import os, sys
from pathlib import Path
import allod.vault.blobs as blobs, allod.vault.register as registers, allod.vault.vault as vaults
where, count = sys.argv[3], [0]
def dying(name, original):
    def call(*given, **named):
        count[0] += 1
        if f"{name}" == where:
            os.kill(os.getpid(), 9)
        return original(*given, **named)
    return call
os.fchmod = dying("after-copy", os.fchmod)
os.fsync = dying("before-sync", os.fsync)
Path.rename = dying("before-rename", Path.rename)
registers.Register._commit = dying("before-manifest", registers.Register._commit)
Path.replace = dying("before-note", Path.replace)
registers.sync_folder = dying("after-manifest", registers.sync_folder)
vaults.Vault(sys.argv[1], shipped="/nonexistent").add(sys.argv[2], "m")
"""


@pytest.mark.parametrize(
    "where",
    ["after-copy", "before-sync", "before-rename", "before-manifest", "before-note", "after-manifest"],
)
def test_death_at_any_step_leaves_the_whole_or_nothing(vault: Vault, tmp_path: Path, where: str) -> None:
    file = w.tiny(tmp_path / "a.gguf")
    done = subprocess.run([sys.executable, "-c", KILLED, vault.root, file, where], timeout=60, check=False)
    assert done.returncode == -9
    for entry in vault.list():
        vault.verify(entry.manifest.name)
    vault.add(file, "m")
    vault.verify("m")
    blobs = [path.name for path in (vault.root / "blobs" / "sha256").iterdir()]
    assert blobs == [digest(file).removeprefix("sha256:")]


def _add(root: str, file: str, name: str) -> str:
    try:
        return Vault(root, shipped="/nonexistent").add(file, name).digest
    except Invalid as error:
        return error.kind


def test_many_adders_at_once(vault: Vault, tmp_path: Path) -> None:
    same, other = w.tiny(tmp_path / "a.gguf"), w.tiny(tmp_path / "b.gguf", seed=8)
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        jobs = [(str(vault.root), str(same), "m")] * 4 + [(str(vault.root), str(other), "m")] * 2
        results = pool.starmap(_add, jobs)
    won = vault.find("m").digest
    assert won in {digest(same), digest(other)}
    assert set(results) <= {won, "conflict"}
    assert results.count(won) == (4 if won == digest(same) else 2)
    vault.verify("m")
    assert leftovers(vault) == []


def test_an_adder_who_is_done_does_not_take_away_the_copy_of_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, file = tmp_path / "blobs", tmp_path / "f"
    file.write_bytes(b"content")
    fd = os.open(file, os.O_RDONLY)
    blobs, later = Blobs(folder, folder), []

    def another_begins(_: Path) -> None:
        later.append(blobs._incoming(identity(fd)))

    monkeypatch.setattr("allod.vault.blobs.sync_folder", another_begins)
    blobs.take(fd, lambda _fd, _digest: None)
    path, out = later[0]
    assert os.path.samestat(os.fstat(out), path.lstat())


def test_the_file_of_an_adder_at_work_is_not_swept_away(tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    blobs = Blobs(folder, folder)
    folder.mkdir()
    (folder / ".incoming-dead").write_bytes(b"x")
    file = tmp_path / "f"
    file.write_bytes(b"content")
    fd = os.open(file, os.O_RDONLY)

    def meanwhile(_fd: int, _digest: str) -> None:
        Blobs(folder, folder).sweep()
        assert len(list(folder.glob(".incoming-*"))) == 1

    got, size = blobs.take(fd, meanwhile)
    os.close(fd)
    assert size == 7
    assert blobs.path(got).read_bytes() == b"content"
    assert [path.name for path in folder.iterdir()] == [got.removeprefix("sha256:")]


def test_memory_of_adding_does_not_grow_with_the_file(tmp_path: Path) -> None:
    tensors = [*w.model_tensors(), ("blk.0.ffn_extra.weight", (32, 800_000), 0, b"\0" * (32 * 800_000 * 4))]
    file = tmp_path / "large.gguf"
    file.write_bytes(w.assemble(w.model_fields(), tensors))
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from allod.vault.vault import Vault
        vault = Vault(sys.argv[1], shipped="/nonexistent")
        vault.add(sys.argv[2], "m")
        vault.verify("m")
        print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "vault", file],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert file.stat().st_size > 100_000_000
    assert int(done.stdout) < 90_000  # KiB


def test_importing_the_vault_brings_no_template_engine() -> None:
    program = "import sys, allod.vault.vault; print('jinja2' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_pulling_is_refused_in_air_gap_mode_before_anything_else(vault: Vault) -> None:
    with pytest.raises(Refused):
        pull(vault, "owner/name", "model.gguf", air_gapped=True)
    assert not vault.root.exists()


def test_manifests_round_trip(vault: Vault, tmp_path: Path) -> None:
    entry = vault.add(w.tiny(tmp_path / "a.gguf"), "m")
    assert manifest.decode(manifest.encode(entry.manifest), "m") == entry.manifest
    assert template.check(w.TEMPLATE) == entry.manifest.template_flags
