from __future__ import annotations

import json
import os
from pathlib import Path

import gguf_writer as w
import pytest
import vault_world as world
from test_safetensors import write

from allod.domain.errors import Integrity, Invalid
from allod.vault import carry, manifest, signature
from allod.vault.intake import Extras
from allod.vault.manifest import Parent, text_digest
from allod.vault.vault import Vault


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return world.vault(tmp_path / "vault")


def blobs(vault: Vault) -> list[str]:
    return sorted(p.name for p in vault.blobs.folder.iterdir()) if vault.blobs.folder.exists() else []


def test_a_folder_of_safetensors_is_taken_whole_and_not_given_to_our_engine(
    vault: Vault, tmp_path: Path
) -> None:
    folder = world.safetensors_model(tmp_path / "m")
    entry = vault.add(folder, "m")
    m = entry.manifest
    assert [f.name for f in m.files][:2] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert (m.architecture, m.quantisation, m.parameters, m.context_tokens) == ("llama", "F32", 8192, 2048)
    assert m.template == text_digest(world.OPEN)
    assert vault.verify("m") == entry
    assert vault.find(entry.digest) == entry
    with pytest.raises(Invalid, match="cannot be loaded here"):
        vault.resolve("m")
    again = vault.add(folder, "again")
    assert again.digest == entry.digest
    (folder / "README.md").write_text("other words\n")
    assert vault.add(folder, "other").digest != entry.digest
    vault.blobs.path(m.files[3].digest).unlink()
    with pytest.raises(Integrity, match="not there"):
        vault.verify("m")


def test_a_gguf_with_its_papers_is_loaded_by_its_own_digest(vault: Vault, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    file = w.tiny(folder / "weights.gguf")
    (folder / "LICENSE").write_text("terms\n")
    entry = vault.add(folder, "m")
    assert entry.digest == vault.add(file, "alone").digest
    assert vault.resolve("m").weights == entry
    assert len(entry.manifest.files) == 2


@pytest.mark.parametrize(
    "foreign", ["evil.py", "pytorch_model.bin", ".git", "archive.zip", "x.so", "a b.txt", "x..json"]
)
def test_anything_that_is_not_allowed_refuses_the_whole_folder(
    vault: Vault, tmp_path: Path, foreign: str
) -> None:
    folder = world.safetensors_model(tmp_path / "m")
    (folder / foreign).write_bytes(b"x")
    with pytest.raises(Invalid):
        vault.add(folder, "m")
    assert not vault.root.exists()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "case"])
def test_links_folders_pipes_and_names_that_fold_are_refused(vault: Vault, tmp_path: Path, kind: str) -> None:
    folder = world.safetensors_model(tmp_path / "m")
    if kind == "link":
        (folder / "notes.txt").symlink_to("/etc/passwd")
    elif kind == "folder":
        (folder / "notes.txt").mkdir()
    elif kind == "pipe":
        os.mkfifo(folder / "notes.txt")
    else:
        (folder / "readme.MD".replace("MD", "md")).write_text("x")
    with pytest.raises(Invalid):
        vault.add(folder, "m")
    assert not vault.root.exists()


def test_an_adapter_in_safetensors_needs_its_base(vault: Vault, tmp_path: Path) -> None:
    base = vault.add(world.safetensors_model(tmp_path / "m"), "m")
    folder = world.lora(tmp_path / "ad")
    with pytest.raises(Invalid, match="one base"):
        vault.add(folder, "ad")
    entry = vault.add(folder, "ad", base="m")
    assert entry.manifest.kind == "adapter"
    assert entry.manifest.base == base.digest
    assert entry.manifest.lineage == (Parent(relation="adapter", name="maker/model", evidence="declared"),)
    whole = {"model.a.weight": ("U8", [4], b"abcd")}
    (folder / "adapter_model.safetensors").write_bytes(write(whole))
    with pytest.raises(Invalid) as caught:
        vault.add(folder, "other", base="m")
    assert "no LoRA tensor" in caught.value.why


def test_a_hidden_template_is_refused_replaced_or_accepted_by_its_digest(
    vault: Vault, tmp_path: Path
) -> None:
    file = w.tiny(tmp_path / "h.gguf", template=world.HIDDEN)
    with pytest.raises(Invalid) as caught:
        vault.add(file, "h")
    assert "deploy" in caught.value.why
    assert not vault.root.exists()
    replaced = vault.add(file, "replaced", extras=Extras(template=world.OPEN))
    m = replaced.manifest
    assert m.template == text_digest(world.OPEN)
    assert (m.template_replaced, m.template_inside) == (True, text_digest(world.HIDDEN))
    model = vault.resolve("replaced")
    assert model.template == world.OPEN
    assert model.facts.template == text_digest(world.OPEN)
    accepted = vault.add(file, "accepted", extras=Extras(accept_templates=(text_digest(world.HIDDEN),)))
    assert accepted.manifest.template_accepted
    assert accepted.manifest.template_flags
    with pytest.raises(Invalid):
        vault.add(file, "no", extras=Extras(template=world.HIDDEN))
    with pytest.raises(Invalid):
        vault.add(file, "no", extras=Extras(template="{% for i in range(1000000000) %}{% endfor %}"))
    vault.blobs.path(text_digest(world.OPEN)).unlink()
    with pytest.raises(Integrity):
        vault.resolve("replaced")


def test_a_harmful_template_inside_is_refused_even_where_another_is_served(
    vault: Vault, tmp_path: Path
) -> None:
    bomb = w.tiny(tmp_path / "b.gguf", template="{% for i in range(1000000000) %}{% endfor %}")
    with pytest.raises(Invalid, match="template"):
        vault.add(bomb, "b", extras=Extras(template=world.OPEN))


def signed(folder: Path, key: object = world.KEY) -> bytes:
    return signature.sign("m", carry.files_of(folder), key)  # type: ignore[arg-type]


def test_with_a_trusted_signer_exactly_the_signed_files_enter(vault: Vault, tmp_path: Path) -> None:
    folder = world.safetensors_model(tmp_path / "m")
    trusting = Extras(trust=world.TRUST)
    with pytest.raises(Integrity, match="not signed"):
        vault.add(folder, "m", extras=trusting)
    raw = signed(folder)
    (folder / "model.sig").write_bytes(raw)
    entry = vault.add(folder, "m", extras=trusting)
    made = entry.manifest.signatures[0]
    assert made.signer is not None
    assert vault.blobs.read(made.digest, 1 << 20) == raw, "kept untouched"
    assert "model.sig" not in {f.name for f in entry.manifest.files}
    before = blobs(vault)
    (folder / "notes.txt").write_text("more\n")
    with pytest.raises(Integrity) as caught:
        vault.add(folder, "n", extras=trusting)
    assert "notes.txt" in caught.value.why
    (folder / "notes.txt").unlink()
    (folder / "README.md").write_text("changed\n")
    with pytest.raises(Integrity, match="not the file that was named"):
        vault.add(folder, "n", extras=trusting)
    (folder / "README.md").unlink()
    with pytest.raises(Integrity, match="not those that were signed"):
        vault.add(folder, "n", extras=trusting)
    (folder / "README.md").write_text("words\n")
    (folder / "model.sig").write_bytes(signed(folder, world.OTHER))
    with pytest.raises(Integrity, match="does not hold"):
        vault.add(folder, "n", extras=trusting)
    assert blobs(vault) == before
    assert len(vault.list()) == 1


def test_a_signature_without_a_trusted_signer_is_kept_and_not_called_verified(
    vault: Vault, tmp_path: Path
) -> None:
    folder = world.safetensors_model(tmp_path / "m")
    (folder / "model.sig").write_bytes(b"anything at all")
    entry = vault.add(folder, "m")
    assert entry.manifest.signatures[0].signer is None


def test_reports_are_kept_by_digest_and_lineage_is_written(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text("{}")
    papers = carry.references((("audit", tmp_path / "audit.json"),))
    parent = Parent(relation="quantisation", name="big", digest="sha256:" + "1" * 64)
    entry = vault.add(w.tiny(tmp_path / "a.gguf"), "m", extras=Extras(references=papers, parents=(parent,)))
    assert vault.find("m").manifest.lineage == (parent,)
    assert vault.blobs.read(entry.manifest.references[0].digest, 100) == b"{}"
    assert entry.manifest.references[0].digest in entry.manifest.blobs


def test_manifests_of_the_first_format_are_read_as_they_stand(vault: Vault, tmp_path: Path) -> None:
    entry = vault.add(w.tiny(tmp_path / "a.gguf"), "m")
    old = json.loads(manifest.encode(entry.manifest))
    for key in [key for key in old if key.startswith("template_") and key != "template_flags"]:
        del old[key]
    for key in ("lineage", "signatures", "references"):
        del old[key]
    old["format"] = 1
    old["files"][0]["name"] = "My Model (final).gguf"
    world.place(vault, json.dumps({"manifests": [old], "revoked": []}).encode())
    assert vault.resolve("m").weights.digest == entry.digest
    assert vault.verify("m").manifest.format == 1
    old["files"] *= 2
    world.place(vault, json.dumps({"manifests": [old], "revoked": []}).encode())
    with pytest.raises(Integrity):
        vault.find("m")
