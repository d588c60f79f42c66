"""What is fuzzed of bundles: their form, signatures, tars, update metadata and proofs (``targets``)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity
from allod.vault.bundle import envelope, form, layout, logproof, metadata, tar, tree

if TYPE_CHECKING:
    from collections.abc import Callable


def fuzz_carried(raw: bytes) -> None:
    """Read ``bundle.json``; what passes is written back as the same bytes, and its layout can be made."""
    with contextlib.suppress(Integrity):
        bundle = form.decode(raw)
        assert form.encode(bundle) == raw
        layout.sizes(msgspec.structs.replace(bundle, items=tuple(
            layout.item(one.kind, one.name, one.version, one.parts) for one in bundle.items
        )))  # fmt: skip


def fuzz_envelope(raw: bytes) -> None:
    """Verify an envelope over bundle.json; none made at random may hold."""
    try:
        envelope.verify(raw, b"{}", SIGNERS, 1)
    except Integrity:
        return
    raise AssertionError("a random envelope was accepted")


def fuzz_tar(raw: bytes) -> None:
    """List a tar; what passes lies whole within it, and is read by its list."""
    fd = os.memfd_create("fuzz", os.MFD_CLOEXEC)
    os.write(fd, raw)
    try:
        found = tar.Tar(fd, len(raw))
    except Integrity:
        return
    for path, size in found.sizes.items():
        assert tree.place(path) == path
        with found.open(path) as window:
            assert len(window.readall()) == size
    found.close()


def fuzz_update(raw: bytes) -> None:
    """Read the update metadata of a bundle and a log's proof of it; none made at random may hold."""
    for read in (
        lambda: metadata.verify(
            dict.fromkeys(TUF_FILES, raw), CARRIED, b"{}",
            anchor=form.digest_of(raw), known=form.Known(), now_ms=0,
        ),
        lambda: logproof.verify(
            dict.fromkeys(PROOF_FILES, raw), CARRIED, form.digest_of(raw), ()
        ),
    ):  # fmt: skip
        try:
            read()
        except Integrity:
            continue
        raise AssertionError("random metadata was believed")


TUF_FILES: Final = ("tuf/1.root.json", "tuf/timestamp.json", "tuf/snapshot.json", "tuf/targets.json")
PROOF_FILES: Final = (logproof.LEAF, logproof.INCLUSION, logproof.CHECKPOINT)
CARRIED: Final = form.Bundle(
    format=form.FORMAT,
    channel="stable",
    number=1,
    created_at="2026-07-01T00:00:00.000Z",
    source="allod/0123456789abcdef",
    audience=(),
    min_importer="0.1.0",
    items=(
        layout.item(
            "prices",
            "prices",
            "1",
            (
                form.Part(
                    path="prices.json",
                    digest=form.digest_of(b"{}"),
                    size_bytes=2,
                    media_type=form.media_type("prices", "prices.json"),
                ),
            ),
        ),
    ),
    notes="",
)
SIGNERS: Final = {envelope.key_id(bytes(32)): form.Signer(public=bytes(32), name="nobody")}


def _envelope_seed() -> bytes:
    signature = {"keyid": envelope.key_id(bytes(32)), "sig": base64.b64encode(bytes(64)).decode()}
    return json.dumps(
        {"payload": "e30=", "payloadType": envelope.PAYLOAD_TYPE, "signatures": [signature]},
        separators=(",", ":"),
    ).encode()


def _tar_seed() -> bytes:
    files = {"bundle.json": b"{}", "blobs/sha256/" + "a" * 64: bytes(700), "tuf/1.root.json": b"{}"}
    whole = b"".join(
        tar.header(path, len(raw), 0) + raw + tar.padding(len(raw)) for path, raw in files.items()
    )
    return tar.header("index.json", 9 << 30, 0)[:1024] + tar.header("index.json", 0, 0) + whole + tar.END


def _update_seed() -> bytes:
    key = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "00" * 32}}
    roles = {name: {"keyids": ["k"], "threshold": 1} for name in metadata.ROLES}
    signed = {
        "_type": "root", "spec_version": "1.0.31", "version": 1, "expires": "2030-01-01T00:00:00Z",
        "consistent_snapshot": False, "keys": {"k": key}, "roles": roles,
    }  # fmt: skip
    return json.dumps({"signatures": [{"keyid": "k", "sig": "00" * 64}], "signed": signed}).encode()


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "carried": fuzz_carried,
    "envelope": fuzz_envelope,
    "tar": fuzz_tar,
    "update": fuzz_update,
}
SEEDS: Final[dict[str, Callable[[], tuple[bytes, ...]]]] = {
    "carried": lambda: (form.encode(CARRIED),),
    "envelope": lambda: (_envelope_seed(),),
    "tar": lambda: (_tar_seed(),),
    "update": lambda: (_update_seed(), b"c2sp.org/tlog-proof@v1\nindex 0\n\nx\n0\nAAAA\n\n"),
}
