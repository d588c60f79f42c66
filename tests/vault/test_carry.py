from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import gguf_writer as w
import msgspec
import pytest
import vault_world as world

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.vault import carry
from allod.vault.collect import collect
from allod.vault.intake import Extras, Trust
from allod.vault.manifest import bytes_digest, text_digest
from allod.vault.vault import Vault


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return world.vault(tmp_path / "vault")


@pytest.fixture
def carried(vault: Vault, tmp_path: Path) -> Path:
    (tmp_path / "report.txt").write_text("fine\n")
    extras = Extras(
        template=world.OPEN, references=carry.references((("evaluation", tmp_path / "report.txt"),))
    )
    vault.add(w.tiny(tmp_path / "h.gguf", template=world.HIDDEN), "h", maker="Acme", maker_jurisdiction="DE",
              extras=extras)  # fmt: skip
    carry.export(vault, "h", tmp_path / "carried", world.KEY)
    return tmp_path / "carried"


def test_what_is_exported_arrives_the_same_and_is_looked_at_anew(
    vault: Vault, carried: Path, tmp_path: Path
) -> None:
    there = world.vault(tmp_path / "there")
    entry = carry.bring_in(there, carried, world.TRUST)
    ours = vault.find("h").manifest
    same = ("digest", "template", "template_replaced", "template_inside", "references", "maker", "lineage")
    assert all(getattr(entry.manifest, key) == getattr(ours, key) for key in same)
    assert there.resolve("h").template == world.OPEN
    assert entry.manifest.signatures[0].signer is not None
    assert carry.bring_in(there, carried, world.TRUST, name="renamed").digest == entry.digest
    onward = carry.export(there, "h", tmp_path / "onward", world.OTHER)
    third = world.vault(tmp_path / "third")
    last = carry.bring_in(third, tmp_path / "onward", Trust(now=world.NOW, keys=(world.OTHER.public_key(),)))
    assert last.digest == onward.digest
    assert entry.manifest.signatures[0].digest in {s.digest for s in last.manifest.signatures}, (
        "kept untouched"
    )


def test_every_file_of_a_carried_folder_is_covered(carried: Path, tmp_path: Path) -> None:
    files = [p for p in carried.rglob("*") if p.is_file()]
    assert len(files) == 7
    for number, path in enumerate(files):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(carried, copy)
        target = copy / path.relative_to(carried)
        raw = target.read_bytes()
        target.write_bytes(raw[:-2] + bytes([raw[-2] ^ 1]) + raw[-1:])
        there = world.vault(tmp_path / f"there-{number}")
        with pytest.raises((Integrity, Invalid)):
            carry.bring_in(there, copy, world.TRUST)
        target.unlink()
        with pytest.raises((Integrity, Invalid)):
            carry.bring_in(there, copy, world.TRUST)
        assert there.list() == ()


def test_anything_more_in_a_carried_folder_is_refused(carried: Path, tmp_path: Path) -> None:
    there = world.vault(tmp_path / "there")

    def refused() -> None:
        with pytest.raises((Integrity, Invalid)):
            carry.bring_in(there, carried, world.TRUST)
        assert there.list() == ()

    for extra in ("files/more.txt", "papers/" + "0" * 64, "more.txt", "files/.git"):
        (carried / extra).write_bytes(b"x")
        refused()
        (carried / extra).unlink()
    (carried / "folder").mkdir()
    refused()
    (carried / "folder").rmdir()
    (carried / "files" / "deep").mkdir()
    refused()
    (carried / "files" / "deep").rmdir()
    (carried / "files" / "link.txt").symlink_to("/etc/passwd")
    refused()
    (carried / "files" / "link.txt").unlink()
    os.mkfifo(carried / "pipe")
    refused()
    (carried / "pipe").unlink()
    (carried / "papers").rename(carried.parent / "elsewhere")
    (carried / "papers").symlink_to(carried.parent / "elsewhere")
    refused()


def test_a_folder_of_somebody_else_or_of_a_revoked_signer_is_refused(carried: Path, tmp_path: Path) -> None:
    there = world.vault(tmp_path / "there")
    with pytest.raises(Integrity, match="does not hold"):
        carry.bring_in(there, carried, Trust(now=world.NOW, keys=(world.OTHER.public_key(),)))
    with pytest.raises(Integrity):
        carry.bring_in(there, carried, Trust(now=world.NOW))
    (carried / "folder.sig").rename(carried / "kept.sig")
    with pytest.raises(Integrity, match="not signed"):
        carry.bring_in(there, carried, world.TRUST)
    (carried / "kept.sig").rename(carried / "folder.sig")
    entry = carry.bring_in(there, carried, world.TRUST)
    signer = entry.manifest.signatures[0].signer
    assert signer is not None
    there.revoke(signer, "the key was stolen")
    with pytest.raises(Integrity) as caught:
        carry.bring_in(there, carried, world.TRUST, name="again")
    assert "stolen" in caught.value.why
    with pytest.raises(Integrity):
        there.resolve("h")


def test_a_manifest_of_other_files_signed_by_a_trusted_key_is_refused(
    vault: Vault, carried: Path, tmp_path: Path
) -> None:
    from allod.vault import signature

    forged = json.loads((carried / "manifest.json").read_text())
    forged["files"][0]["digest"] = "sha256:" + "9" * 64
    (carried / "manifest.json").write_text(json.dumps(forged))
    digests = {str(p.relative_to(carried)): carry.files_of(p.parent)[p.name] for p in carried.rglob("*")
               if p.is_file() and p.parent != carried}  # fmt: skip
    digests |= {n: d for n, d in _top(carried).items() if n != "folder.sig"}
    (carried / "folder.sig").write_bytes(signature.sign("h", digests, world.KEY))
    with pytest.raises(Integrity, match="other files"):
        carry.bring_in(world.vault(tmp_path / "there"), carried, world.TRUST)


def test_a_signed_folder_without_a_manifest_is_no_export(carried: Path, tmp_path: Path) -> None:
    from allod.vault import signature

    (carried / "manifest.json").unlink()
    digests = {
        str(p.relative_to(carried)): bytes_digest(p.read_bytes()) for p in carried.rglob("*") if p.is_file()
    }
    del digests["folder.sig"]
    (carried / "folder.sig").write_bytes(signature.sign("h", digests, world.KEY))
    with pytest.raises(Integrity, match="not an export"):
        carry.bring_in(world.vault(tmp_path / "there"), carried, world.TRUST)


def _top(folder: Path) -> dict[str, str]:
    return {p.name: bytes_digest(p.read_bytes()) for p in folder.iterdir() if p.is_file()}


def test_an_export_is_whole_or_not_there(vault: Vault, tmp_path: Path) -> None:
    entry = vault.add(w.tiny(tmp_path / "a.gguf"), "m")
    (tmp_path / "out").mkdir()
    with pytest.raises(Invalid) as caught:
        carry.export(vault, "m", tmp_path / "out", world.KEY)
    assert caught.value.kind == "conflict"
    blob = Path(entry.path)
    content = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(content[:-1] + b"\1")
    with pytest.raises(Integrity):
        carry.export(vault, "m", tmp_path / "new", world.KEY)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gguf", "out", "vault"]


# -- revocation


def test_what_is_revoked_is_not_resolved_added_or_imported(vault: Vault, tmp_path: Path) -> None:
    file = w.tiny(tmp_path / "a.gguf")
    base = vault.add(file, "m")
    adapter = vault.add(w.adapter(tmp_path / "l.gguf"), "ad", base="m")
    item = vault.revoke(adapter.digest, "planted")
    assert vault.revoke(adapter.digest, "another reason") == item
    assert vault.resolve("m").adapter is None
    for use in (lambda: vault.resolve("ad"), lambda: vault.resolve("m", "ad"), lambda: vault.verify("ad"),
                lambda: vault.add(tmp_path / "l.gguf", "again", base="m")):  # fmt: skip
        with pytest.raises(Integrity) as caught:
            use()
        assert "planted" in caught.value.why
    vault.revoke(text_digest(w.TEMPLATE), "a bad template")
    with pytest.raises(Integrity, match="revoked"):
        vault.resolve("m")
    assert base.manifest.template == text_digest(w.TEMPLATE)
    for junk in ("m", "sha256:" + "x" * 64, ""):
        with pytest.raises(Invalid):
            vault.revoke(junk, "why")
    with pytest.raises(Invalid):
        vault.revoke("sha256:" + "0" * 64, " ")


@pytest.mark.parametrize("raw", [b"", b"{", b'[{"digest": "x"}]', b"\xff"])
def test_a_list_of_revocations_that_cannot_be_read_refuses_everything(
    vault: Vault, tmp_path: Path, raw: bytes
) -> None:
    vault.add(w.tiny(tmp_path / "a.gguf"), "m")
    vault.revoke("sha256:" + "1" * 64, "why")
    world.place(vault, b'{"manifests": [], "revoked": ' + raw + b"}")
    for use in (lambda: vault.resolve("m"), lambda: vault.add(tmp_path / "a.gguf", "n"),
                lambda: vault.revoke("sha256:" + "0" * 64, "why")):  # fmt: skip
        with pytest.raises(Integrity):
            use()


# -- collection


def test_only_what_no_manifest_names_is_collected(vault: Vault, carried: Path, tmp_path: Path) -> None:
    vault.add(world.safetensors_model(tmp_path / "m"), "m")
    before = {p.name for p in vault.blobs.folder.iterdir()}
    assert collect(vault).removed == ()
    orphan = vault.blobs.put(b"nobody wants this")
    assert collect(vault, pretend=True).removed == (orphan,)
    assert vault.blobs.path(orphan).exists()
    done = collect(vault)
    assert (done.removed, done.freed_bytes) == ((orphan,), 17)
    assert {p.name for p in vault.blobs.folder.iterdir()} == before
    vault.remove("m")
    gone = collect(vault)
    assert len(gone.removed) == 7
    vault.verify("h")
    vault.resolve("h")


def test_what_is_open_is_not_collected(vault: Vault) -> None:
    orphan = vault.blobs.put(b"in use")
    with vault.blobs.path(orphan).open("rb"):
        done = collect(vault)
        assert (done.removed, done.in_use) == ((), (orphan,))
    assert collect(vault).removed == (orphan,)


def test_nothing_is_collected_while_something_is_added_or_a_manifest_is_broken(
    vault: Vault, tmp_path: Path
) -> None:
    vault.add(w.tiny(tmp_path / "a.gguf"), "m")
    orphan = vault.blobs.put(b"x")
    with vault.writing(), pytest.raises(Unavailable) as caught:
        collect(vault)
    assert caught.value.kind == "busy"
    world.place(vault, b"{")
    with pytest.raises(Integrity):
        collect(vault)
    assert vault.blobs.path(orphan).exists()


# -- the bill of materials


def test_bills_of_materials_are_valid_cyclonedx(vault: Vault, tmp_path: Path) -> None:
    validators = pytest.importorskip(
        "cyclonedx.validation.json", reason="cyclonedx-python-lib with its schemas is not installed"
    )
    from cyclonedx.schema import SchemaVersion

    from allod.vault import bom
    from allod.vault.manifest import Parent

    check = validators.JsonStrictValidator(SchemaVersion.V1_6)
    plain = vault.add(w.tiny(tmp_path / "a.gguf"), "a").manifest
    folder = world.safetensors_model(tmp_path / "m")
    (folder / "model.sig").write_bytes(b"{}")
    parents = (
        Parent(relation="fine-tune", name="big", digest="sha256:" + "1" * 64),
        Parent(relation="merge", name="x"),
    )
    full = vault.add(folder, "m", maker="Acme", licence="Apache-2.0", maker_jurisdiction="DE",
                     extras=Extras(parents=parents)).manifest  # fmt: skip
    adapter = vault.add(w.adapter(tmp_path / "l.gguf"), "ad", base="a").manifest
    shipped = Vault(tmp_path / "none").list()
    for m in (plain, full, adapter, *(entry.manifest for entry in shipped)):
        raw = bom.encode(m, version="0.1")
        assert check.validate_str(raw.decode()) is None, (m.name, check.validate_str(raw.decode()))
        assert raw == bom.encode(m, version="0.1")
        value = json.loads(raw)["metadata"]["component"]
        found = {item["name"]: item["value"] for item in value["properties"]}
        assert found.get("allod:chat_template_sha256") == (m.template and m.template.removeprefix("sha256:"))
        assert len(value["components"]) == len(m.files)
    broken = json.loads(bom.encode(full, version="0.1"))
    broken["metadata"]["component"]["type"] = "a-model"
    assert check.validate_str(json.dumps(broken)) is not None
    assert msgspec.json.decode(bom.encode(full, version="0.1"))["specVersion"] == "1.6"
