"""``allod vault``, as a person types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import gguf_writer as w
import numpy as np
import pytest
import vault_world as world
from test_safetensors import write

from allod.vault.manifest import text_digest


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "key.pem").write_bytes(world.pem(world.KEY, private=True))
    (tmp_path / "pub.pem").write_bytes(world.pem(world.KEY))
    (tmp_path / "other.pem").write_bytes(world.pem(world.OTHER))
    return tmp_path


def allod(home: Path, *command: object, status: int = 0, name: str = "home") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "allod", "vault", *map(str, command)],
        cwd=home,
        env=os.environ | {"ALLOD_HOME": str(home / name)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_model_is_added_shown_signed_carried_revoked_and_collected(home: Path) -> None:
    w.tiny(home / "m.gguf")
    made = json.loads(
        allod(home, "add", "m.gguf", "--maker", "Acme", "--parent", "quantisation:big", "--json")
    )
    assert made["lineage"][0] == {
        "relation": "quantisation",
        "name": "big",
        "digest": None,
        "evidence": "claimed",
    }
    assert made["digest"] in allod(home, "list")
    assert "quantisation" in allod(home, "show", "m")
    assert json.loads(allod(home, "show", "m", "--bom"))["specVersion"] == "1.6"
    assert "is what was verified" in allod(home, "verify", "m")
    allod(home, "sign", "m", "--key", "key.pem", "--out", "m.sig")
    assert "does not hold" in allod(
        home, "add", "m.gguf", "--name", "n", "--key", "other.pem", "--signature", "m.sig", status=3
    )
    assert "signed by" in allod(
        home, "add", "m.gguf", "--name", "n", "--key", "pub.pem", "--signature", "m.sig"
    )
    allod(home, "export", "m", "out", "--key", "key.pem")
    assert "nobody is trusted" in allod(home, "import", "out", status=2)
    assert made["digest"] in allod(home, "import", "out", "--key", "pub.pem", name="there")
    assert "revoked" in allod(home, "revoke", "m", "--reason", "planted", name="there")
    assert "planted" in allod(home, "verify", "m", status=3, name="there")
    assert "0 blobs" in allod(home, "gc")
    assert "n is out" in allod(home, "remove", "n")
    assert len(json.loads(allod(home, "gc", "--dry-run", "--json"))["removed"]) == 1
    assert "1 blobs" in allod(home, "gc")


def test_a_hidden_template_is_explained_and_replaced(home: Path) -> None:
    w.tiny(home / "h.gguf", template=world.HIDDEN)
    (home / "plain.jinja").write_text(world.OPEN)
    said = allod(home, "add", "h.gguf", status=2)
    assert "deploy" in said
    assert "--template" in said
    (home / "odd.jinja").write_bytes(b"\xff\xfe")
    assert "UTF-8" in allod(home, "add", "h.gguf", "--template", "odd.jinja", status=2)
    made = json.loads(allod(home, "add", "h.gguf", "--template", "plain.jinja", "--json"))
    assert made["template"] == text_digest(world.OPEN)
    assert made["template_replaced"]


def test_a_scan_compares_with_the_parent_and_says_what_it_cannot_see(home: Path) -> None:
    base = np.random.default_rng(1).standard_normal((256, 256)).astype("<f4")
    laden = (base.view("<u4") ^ 1).view("<f4")
    (home / "base.safetensors").write_bytes(write({"a": ("F32", [256, 256], base.tobytes())}))
    (home / "laden.safetensors").write_bytes(write({"a": ("F32", [256, 256], laden.tobytes())}))
    allod(home, "add", "base.safetensors", "--name", "base")
    plain = json.loads(
        allod(home, "scan", "base", "--parent", "base.safetensors", "--bits", "--strict", "--json")
    )
    assert plain["comparison"]["equal"] == ["a"]
    assert "encrypted" in plain["cannot_see"]
    said = allod(home, "scan", "laden.safetensors", "--parent", "base", "--strict", status=3)
    assert "lowest 1 bits alone" in said
    assert "not seen:" in said
    (home / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 64)
    allod(home, "scan", "bad.gguf", status=2)
    allod(home, "scan", "nothing", status=2)
