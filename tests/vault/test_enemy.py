"""The vault attacked from beside it: files exchanged between check and use, sparse files, reports lent."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

import gguf_writer as w
import pytest
import vault_world as world

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.store.home import Home, make_home
from allod.vault import carry, manifest, signature
from allod.vault.collect import collect
from allod.vault.intake import Extras, Trust
from allod.vault.vault import Vault


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@pytest.fixture
def vault(home: Home) -> Vault:
    return Vault(home.vault, shipped=home.root / "none", clock=lambda: 1_700_000_000_000)


def digest(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


# -- sizes that lie


def test_a_sparse_file_that_no_disk_can_hold_is_refused_before_a_byte_is_written(
    vault: Vault, tmp_path: Path
) -> None:
    """It claims half a terabyte more than there is, takes up a few pages, and is sound in structure."""
    state = os.statvfs(tmp_path)
    rows = (state.f_bavail * state.f_frsize + (1 << 39)) // 4096 // 4
    file = tmp_path / "sparse.gguf"
    head = w.assemble(w.model_fields(), [("t", (4096, rows), 0, b"")])
    with file.open("wb") as out:
        out.write(head)
        out.truncate(len(head) + rows * 4096 * 4)
    assert file.stat().st_blocks * 512 < 1 << 20
    with pytest.raises(Unavailable, match="could not be stored") as caught:
        vault.add(file, "m")
    assert (caught.value.kind, "GB left" in caught.value.why) == ("storage", True)
    assert [path for path in vault.root.rglob("*") if path.is_file()] == []


def test_a_hole_in_a_file_is_read_as_the_zeros_it_stands_for(vault: Vault, tmp_path: Path) -> None:
    tensors = [*w.model_tensors(), ("blk.0.ffn_extra.weight", (32, 8192), 0, b"\0" * (32 * 8192 * 4))]
    whole = tmp_path / "whole.gguf"
    whole.write_bytes(w.assemble(w.model_fields(), tensors))
    raw = whole.read_bytes()
    sparse = tmp_path / "sparse.gguf"
    with sparse.open("wb") as out:
        for at in range(0, len(raw), 4096):
            if any(raw[at : at + 4096]):
                out.seek(at)
                out.write(raw[at : at + 4096])
        out.truncate(len(raw))
    assert vault.add(sparse, "m").digest == digest(whole)
    assert vault.add(whole, "n").digest == digest(sparse)


def test_a_hard_link_to_what_was_added_changes_nothing_in_the_vault(vault: Vault, tmp_path: Path) -> None:
    file = w.tiny(tmp_path / "a.gguf")
    os.link(file, tmp_path / "b.gguf")
    entry = vault.add(tmp_path / "b.gguf", "m")
    with file.open("r+b") as out:
        out.seek(-4, os.SEEK_END)
        out.write(b"evil")
    assert vault.verify("m") == entry
    assert Path(entry.path).stat().st_nlink == 1


# -- between check and use


def test_I5_a_file_exchanged_at_any_moment_of_adding_is_not_taken_for_what_was_checked(
    vault: Vault, tmp_path: Path
) -> None:
    """Another thread swaps a sound file for a hidden one and back, all the time, by name and in place."""
    good, evil = w.tiny(tmp_path / "good.gguf"), w.tiny(tmp_path / "evil.gguf", seed=6)
    raw, other = good.read_bytes(), evil.read_bytes()
    assert len(raw) == len(other)
    target, stop, expected = tmp_path / "m.gguf", threading.Event(), digest(good)
    target.write_bytes(raw)

    def swap() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            fresh = tmp_path / f"fresh-{turn}"
            fresh.write_bytes(other if turn % 2 else raw)
            fresh.replace(target)
            with target.open("r+b") as file:
                file.seek(-64, os.SEEK_END)
                file.write((raw if turn % 2 else other)[-64:])

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for number in range(4):
            try:
                entry = vault.add(target, f"m{number}", digest=expected)
            except (Integrity, Invalid):
                continue
            assert Path(entry.path).read_bytes() == raw
    finally:
        stop.set()
        thread.join()
    for entry in vault.list():
        vault.verify(entry.manifest.name)


def test_I5_a_register_exchanged_between_finding_and_opening_opens_only_what_was_found(
    home: Home, vault: Vault, tmp_path: Path
) -> None:
    entry = vault.add(w.tiny(tmp_path / "a.gguf"), "m")
    model = vault.resolve("m")
    w.tiny(tmp_path / "b.gguf", seed=5).replace(Path(entry.path))
    fd = vault.open(model.weights)  # same size: the loader digests what it holds, see tests/engines
    os.close(fd)
    with pytest.raises(Integrity, match="not what was verified"):
        vault.verify("m")
    for path in (home.vault / "register").iterdir():
        path.write_bytes(path.read_bytes().replace(entry.digest.encode(), digest(Path(entry.path)).encode()))
    with pytest.raises(Integrity):
        Vault(home.vault, shipped=tmp_path / "none").resolve("m")
    assert vault.resolve("m").weights == entry  # what was verified once stays what it was


def test_readers_see_signed_states_or_nothing_while_an_enemy_writes(home: Home, vault: Vault) -> None:
    """Whatever is torn or replaced for a moment, a reader sees a state that was signed, or ``Integrity``."""
    note, stop = home.vault / "manifests.note", threading.Event()
    vault.revoke("sha256:" + "0" * 64, "first")

    def enemy() -> None:
        while not stop.is_set():
            raw = note.read_bytes()
            fresh = note.with_name("evil")
            fresh.write_bytes(raw[:-8] + b"AAAAAAA\n")
            fresh.replace(note)
            fresh.write_bytes(raw)
            fresh.replace(note)

    thread = threading.Thread(target=enemy)
    thread.start()
    seen = set()
    try:
        for _ in range(150):
            reader = Vault(home.vault, shipped=home.root / "none")
            try:
                seen.add(tuple(reader.revocations.read()))
            except Integrity:
                continue
    finally:
        stop.set()
        thread.join()
    assert seen <= {("sha256:" + "0" * 64,)}
    assert vault.revocations.read()


def test_a_vault_that_is_a_link_to_another_home_is_refused(tmp_path: Path) -> None:
    mine, theirs = make_home(tmp_path / "mine"), make_home(tmp_path / "theirs")
    Vault(theirs.vault, shipped=tmp_path / "none").revoke("sha256:" + "0" * 64, "x")
    (mine.vault / "blobs" / "sha256").rmdir()
    (mine.vault / "blobs").rmdir()
    mine.vault.rmdir()
    mine.vault.symlink_to(theirs.vault)
    with pytest.raises(Integrity, match="not signed by this home"):
        Vault(mine.vault, shipped=tmp_path / "none").list()


def test_a_blob_folder_that_is_a_link_loses_nothing_of_its_own(
    home: Home, vault: Vault, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    vault.blobs.folder.rename(elsewhere)
    vault.blobs.folder.symlink_to(elsewhere)
    (elsewhere / "precious").write_text("mine")
    (elsewhere / ("a" * 64)).write_text("named like a blob")
    collect(vault)
    assert (elsewhere / "precious").exists()


# -- parts, templates, adapters, reports


def parts(folder: Path, seed: int) -> list[Path]:
    """Write a GGUF model split in two; other seeds have the same shape."""
    folder.mkdir()
    out = []
    for number in range(2):
        split = [
            w.field("split.no", w.U32, number), w.field("split.count", w.U32, 2),
            w.field("split.tensors.count", w.U32, 2),
        ]  # fmt: skip
        fields = [*w.model_fields(), *split] if number == 0 else split
        tensor = (f"t{number}", (32,), 0, bytes([seed]) * 128)
        path = folder / f"m-0000{number + 1}-of-00002.gguf"
        path.write_bytes(w.assemble(fields, [tensor]))
        out.append(path)
    return out


def test_a_foreign_shard_of_the_same_shape_is_told_by_signature_and_digest(
    vault: Vault, tmp_path: Path
) -> None:
    mine, theirs = parts(tmp_path / "mine", 1), parts(tmp_path / "theirs", 2)
    signed = signature.sign("m", {path.name: digest(path) for path in mine}, world.KEY)
    expected = vault.add(tmp_path / "mine", "m").digest
    mine[1].write_bytes(theirs[1].read_bytes())
    trust = Trust(now=world.NOW, keys=(world.KEY.public_key(),))
    with pytest.raises(Integrity, match="not the file that was named"):
        vault.add(tmp_path / "mine", "n", extras=Extras(signature=signed, trust=trust))
    with pytest.raises(Integrity, match="not the model that was named"):
        vault.add(tmp_path / "mine", "n", digest=expected)
    with pytest.raises(Invalid) as caught:
        vault.add(tmp_path / "mine", "m")
    assert caught.value.kind == "conflict"


def audit(*subjects: str) -> bytes:
    listed = [{"name": "weights", "digest": {"sha256": text.removeprefix("sha256:")}} for text in subjects]
    return json.dumps(
        {"_type": "https://in-toto.io/Statement/v1", "subject": listed, "predicate": {}}
    ).encode()


def test_an_audit_of_another_quantisation_is_not_kept_with_these_weights(
    vault: Vault, tmp_path: Path
) -> None:
    mine, other = w.tiny(tmp_path / "q8.gguf"), w.tiny(tmp_path / "q4.gguf", seed=3)
    for name, raw in (
        ("own", audit(digest(other), digest(mine))),
        ("lent", audit(digest(other))),
        ("bare", b"fine"),
    ):
        (tmp_path / f"{name}.json").write_bytes(raw)
    with pytest.raises(Invalid, match=r"lent\.json is about other weights"):
        vault.add(mine, "m", extras=Extras(references=carry.references((("audit", tmp_path / "lent.json"),))))
    assert vault.list() == ()
    given = (("audit", tmp_path / "own.json"), ("evaluation", tmp_path / "bare.json"))
    entry = vault.add(mine, "m", extras=Extras(references=carry.references(given)))
    assert [item.bound for item in entry.manifest.references] == [True, False]
    assert manifest.decode(manifest.encode(entry.manifest), "m") == entry.manifest


def test_weights_that_carry_an_adapter_inside_are_refused(vault: Vault, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    tensors = [*w.model_tensors(), ("blk.0.attn_q.weight.lora_a", (32,), 0, bytes(128))]
    file.write_bytes(w.assemble(w.model_fields(), tensors))
    with pytest.raises(Invalid) as caught:
        vault.add(file, "m")
    assert "lora_a" in caught.value.why


@pytest.mark.parametrize("where", ["gguf", "config"])
def test_a_template_changed_in_one_place_only_is_refused(vault: Vault, tmp_path: Path, where: str) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    inside, beside = (world.HIDDEN, world.OPEN) if where == "gguf" else (world.OPEN, world.HIDDEN)
    w.tiny(folder / "m.gguf", template=inside)
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": beside}))
    with pytest.raises(Invalid):
        vault.add(folder, "m")
    accepted = Extras(accept_templates=(manifest.text_digest(world.HIDDEN),))
    with pytest.raises(Invalid, match="do not make one model") as caught:
        vault.add(folder, "m", extras=accepted)
    assert "differs between" in caught.value.why
