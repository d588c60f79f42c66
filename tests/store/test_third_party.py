"""Programs that are not ours verify both faces of one leaf, and refuse it changed.

scitt-cose (cbor2 and cryptography only) reads the COSE statement; aics-tlog, which needs Python 3.12, reads
checkpoint, proof, tiles and cosignatures in an environment of its own: ``ALLOD_TLOG_PYTHON`` names its
Python, ``make third-party`` makes it at ``.venv-tlog``.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from store_worlds import Requests, fresh, patient

from allod.receipts.cose import statement_of, verify_statement
from allod.receipts.cosignature import Cosigner
from allod.receipts.notes import parse_note
from allod.store.export import export_tiles
from allod.store.home import load_keys

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("ALLOD_TLOG_PYTHON", ROOT / ".venv-tlog/bin/python"))
needs_tlog = pytest.mark.skipif(
    not PYTHON.exists(),
    reason=f"aics-tlog needs Python 3.12: no {PYTHON} (`make third-party`, or ALLOD_TLOG_PYTHON)",
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A log of some 600 leaves, exported, with one receipt out of its middle."""
    home, store = fresh(tmp_path_factory.mktemp("third") / "home")
    ask = Requests(store)
    receipts = [patient(ask.whole) for _ in range(300)]
    assert store.flush()
    file = store.receipt_file(receipts[140])
    assert isinstance(file, bytes)
    folder = home.root.parent / "tiles"
    export_tiles(store.reader, folder)
    note = store.reader.checkpoint()
    store.close()
    return {
        "file": json.loads(file),
        "raw": file,
        "tiles": folder,
        "signer": load_keys(home).signer,
        "note": note,
    }


def tlog(**asked: Any) -> dict[str, bool]:
    done = subprocess.run(
        [str(PYTHON), str(ROOT / "conformance/tlog_reader.py")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@needs_tlog
def test_aics_tlog_reads_the_proof_and_refuses_a_changed_leaf(log: Any) -> None:
    terminal, vkey = log["file"]["terminal"], log["signer"].key.vkey()
    leaf = terminal["leaf"].encode()
    good = {"proof": terminal["proof"], "vkey": vkey, "leaf": base64.b64encode(leaf).decode()}
    assert tlog(**good) == {"proof": True}
    changed = leaf.replace(b'"answered"', b'"refused"')
    assert tlog(**{**good, "leaf": base64.b64encode(changed).decode()}) == {"proof": False}


@needs_tlog
def test_aics_tlog_walks_the_exported_log_and_finds_an_edited_entry(log: Any, tmp_path: Path) -> None:
    vkey = log["signer"].key.vkey()
    assert tlog(tiles=str(log["tiles"]), vkey=vkey) == {"tiles": True}
    bundle = next((log["tiles"] / "tile/entries").rglob("000"))
    whole = bundle.read_bytes()
    bundle.write_bytes(whole.replace(b'"answered"', b'"answer3d"', 1))
    try:
        assert tlog(tiles=str(log["tiles"]), vkey=vkey) == {"tiles": False}
    finally:
        bundle.write_bytes(whole)


@needs_tlog
def test_aics_tlog_counts_our_ed25519_cosignature(log: Any) -> None:
    witness, vkey = Cosigner("w.example", "ed25519", b"w" * 32), log["signer"].key.vkey()
    line = witness.line(parse_note(log["note"]).text, 1_764_100_000)
    asked = {"vkey": vkey, "witnesses": [witness.key.vkey()]}
    assert tlog(note=(log["note"] + line.encode()).decode(), **asked) == {"checkpoint": True}
    assert tlog(note=log["note"].decode(), **asked) == {"checkpoint": False}


STRICTER = {
    "checkpoint_17_signature_lines", "checkpoint_extension_line", "checkpoint_other_origin",
    "checkpoint_size_0_with_a_root", "checkpoint_size_of_2e63", "proof_index_with_sign",
}  # fmt: skip
"""Vectors we refuse and aics-tlog's functions take: it looks at some of it elsewhere, and has no bounds."""


@needs_tlog
def test_aics_tlog_agrees_on_the_vectors_but_for_what_we_are_stricter_about() -> None:
    folder = ROOT / "conformance/vectors/log"
    found = tlog(vectors=str(folder))
    expected = {name: json.loads((folder / f"{name}.json").read_text())["holds"] for name in found}
    assert len(found) > 50
    differing = {name for name in found if found[name] != expected[name]}
    assert differing == STRICTER
    assert not any(expected[name] for name in differing), "nothing good is refused by either"


def test_scitt_cose_reads_the_statement_and_refuses_a_changed_leaf(log: Any) -> None:
    pytest.importorskip("scitt_cose", reason="scitt-cose is not installed (extra dev)")
    from scitt_cose import extract_receipts, parse_signed_statement, verify_receipt

    signer = log["signer"]
    statement = statement_of(signer, log["raw"])
    public = Ed25519PublicKey.from_public_bytes(signer.key.public)
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    said = parse_signed_statement(statement, public_key_pem=pem)
    leaf = log["file"]["terminal"]["leaf"].encode()
    assert said["issuer"] == signer.key.name
    assert said["subject"] == log["file"]["id"]
    assert verify_statement(statement, signer.key).leaf == leaf
    receipt = extract_receipts(statement)[0]
    good = verify_receipt(receipt, leaf_entry_hex=leaf.hex(), log_public_key_pem=pem)
    assert (good.ok, good.errors) == (True, [])
    changed = leaf.replace(b'"answered"', b'"refused"')
    assert not verify_receipt(receipt, leaf_entry_hex=changed.hex(), log_public_key_pem=pem).ok
