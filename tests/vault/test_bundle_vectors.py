"""Every vector of ``conformance/vectors/bundle`` against Allod, each under its own name.

A hostile bundle must be refused by the step that the vector names, so that none passes for another reason.
"""

from __future__ import annotations

import base64
import gzip
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from allod.domain.errors import Integrity
from allod.vault.bundle.form import Keyring, Known, Signer
from allod.vault.bundle.verify import Examined, examine

ROOT = Path(__file__).parents[2] / "conformance"
FOLDER = ROOT / "vectors" / "bundle"
BASE = json.loads((FOLDER / "base.json").read_text())
FILES = [path for path in sorted(FOLDER.glob("*.json")) if path.name != "base.json"]


def keyring(trust: dict[str, Any]) -> Keyring:
    signers = {
        name: Signer(public=bytes.fromhex(one["public"]), name=one["name"])
        for name, one in trust["signers"].items()
    }
    return msgspec.structs.replace(msgspec.convert({**trust, "signers": {}}, Keyring), signers=signers)


def written(given: dict[str, Any], place: Path) -> Path:
    """Write the bundle of a vector as the folder or tar that it is."""
    if "tar_gz" in given:
        place = place.with_suffix(".tar")
        place.write_bytes(gzip.decompress(base64.b64decode(given["tar_gz"])))
        return place
    files = BASE["files"] | given["files"]
    for path in set(files) - set(given["without"]):
        file = place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(files[path]))
    for path, target in given.get("links", {}).items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).symlink_to(target)
    return place


def opened(given: dict[str, Any], place: Path) -> Examined:
    facts = BASE | given
    return examine(
        written(given, place),
        keyring(facts["trust"]),
        msgspec.convert(facts["known"], Known),
        now_ms=facts["now_ms"],
        importer_version=facts["importer_version"],
        origin=facts["origin"],
    )


def refused_by(given: dict[str, Any], place: Path) -> str:
    """Return the step that refuses it, ``content`` where a blob is another one, or empty."""
    done = opened(given, place)
    if done.opened is None:
        assert done.error is not None
        assert done.error.what
        assert not done.steps[-1].ok
        return done.steps[-1].name
    with done.opened as bundle:
        try:
            for part in bundle.bundle.parts:
                bundle.check(part)
        except Integrity:
            return "content"
    return ""


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_vector(path: Path, tmp_path: Path) -> None:
    vector = json.loads(path.read_text())
    assert vector["name"] == path.stem
    assert refused_by(vector["given"], tmp_path / "bundle") == vector["given"]["refused_by"], vector["attack"]
    assert vector["holds"] == (not vector["given"]["refused_by"])


def test_there_are_vectors_and_each_is_in_the_index() -> None:
    assert len(FILES) > 150
    index = (FOLDER / "INDEX.md").read_text()
    assert all(f"| `{path.stem}` |" in index for path in FILES)
    assert sum(json.loads(path.read_text())["holds"] for path in FILES) >= 8


def test_the_vectors_are_what_their_script_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    spec = importlib.util.spec_from_file_location("bundle_vectors", ROOT / "bundle_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bundle_vectors", module)
    spec.loader.exec_module(module)
    made = {vector.name: vector.written() for vector in module.all_vectors()}
    assert made.keys() == {path.stem for path in FILES}
    assert all(json.loads(path.read_text()) == made[path.stem] for path in FILES)
