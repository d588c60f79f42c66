"""``allod bundle``, as a publisher and a verifier type it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from allod.vault.vault import shipped_folder


def allod(home: Path, *command: object, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "allod", *map(str, command)],
        cwd=home.parent,
        env=os.environ | {"ALLOD_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def home(tmp_path: Path) -> Path:
    allod(tmp_path / "source", "init")
    return tmp_path / "source"


def test_a_bundle_is_made_verified_and_believed_by_a_home_that_was_told_of_its_publisher(home: Path) -> None:
    refused = allod(home, "bundle", "create", "b", "--prices", "shipped", status=2)
    assert "allod bundle keys init" in refused
    made = json.loads(allod(home, "bundle", "keys", "init", "--json"))
    assert [one["role"] for one in made["made"]] == ["root", "timestamp", "snapshot", "targets", "bundle"]
    assert json.loads(allod(home, "bundle", "keys", "init", "--json"))["made"] == []
    shipped = allod(home, "bundle", "create", "b", "--model", "reference", "--prices", "shipped", status=2)
    assert "every home has it" in shipped, "no home could take it in: the name is its own"
    allod(home, "vault", "add", str(shipped_folder() / "reference-draft.gguf"), "--name", "carried")
    said = allod(
        home, "bundle", "create", "b", "--model", "carried", "--prices", "shipped", "--pack", "eu-gdpr"
    )
    assert "stable 1, sha256:" in said
    assert "its digest is in the log" in said
    assert "the bundle holds" in allod(home, "bundle", "verify", "b", "--own")
    (home.parent / "trust.toml").write_text(allod(home, "bundle", "keys", "show", "--trust"))
    (home.parent / "trust.toml").chmod(0o600)
    told = json.loads(allod(home, "bundle", "verify", "b", "--trust", "trust.toml", "--json"))
    assert told["ok"]
    assert told["content"] == "holds"
    assert [step["name"] for step in told["steps"]][:3] == ["names", "form", "envelope"]
    blob = max((home.parent / "b" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    raw = bytearray(blob.read_bytes())
    raw[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(raw)
    assert "not what was signed" in allod(home, "bundle", "verify", "b", "--trust", "trust.toml", status=3)
    quick = json.loads(allod(home, "bundle", "verify", "b", "--trust", "trust.toml", "--quick", "--json"))
    assert (quick["ok"], quick["content"]) == (True, "not read")


def test_keys_are_rotated_and_bundles_withdrawn_and_meant_for_somebody(home: Path) -> None:
    allod(home, "bundle", "keys", "init")
    rotated = json.loads(allod(home, "bundle", "keys", "rotate", "timestamp", "--json"))
    assert rotated["version"] == 2
    assert len(rotated["retired"]) == 1
    assert "not rotated in one step" in allod(home, "bundle", "keys", "rotate", "bundle", status=2)
    allod(home, "bundle", "keys", "new", "root", "--into", "safe")
    root = json.loads(
        allod(home, "bundle", "keys", "root", "--keys", "safe", "--threshold", "root=2", "--json")
    )
    assert root["version"] == 3
    assert "are missing" in allod(home, "bundle", "keys", "root", status=2)
    assert "in force" in allod(home, "bundle", "keys", "list")
    other = "allod/2222222222222222"
    allod(home, "bundle", "create", "b.tar", "--prices", "shipped", "--for", other, "--channel", "test")
    said = allod(home, "bundle", "verify", "b.tar", "--own", status=4)
    assert "for another home" in said
    assert "NOT to be imported" in said
    allod(home, "bundle", "withdraw", "test", "1")
    assert (
        json.loads(allod(home, "bundle", "create", "c", "--prices", "shipped", "--json"))["bundle"]["number"]
        == 1
    )
    assert "no bundle at" in allod(home, "bundle", "verify", "nowhere", "--own", status=2)
    assert "nothing is to go in" in allod(home, "bundle", "create", "d", status=2)
