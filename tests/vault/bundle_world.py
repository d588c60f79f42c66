"""A publisher, items and homes for the tests of bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf_writer as w
import vault_world as world

from allod.vault.bundle import create, keys, pieces, verify
from allod.vault.bundle.create import Head, Made
from allod.vault.bundle.form import Keyring, Known
from allod.vault.bundle.pieces import Content
from allod.vault.bundle.publish import Publisher

NOW = 1_793_000_000_000
DAY = 86_400_000
SOURCE, HOME = "allod/0123456789abcdef", "allod/1111111111111111"
HEAD = Head(channel="stable", source=SOURCE)


def publisher(place: Path, *, now_ms: int = NOW) -> Publisher:
    """Make a publisher with one key for each role and a first root."""
    folder = place / "keys" / "bundle"
    for role in keys.ROLES:
        keys.new(folder, role)
    ours = Publisher(place / "publish", (folder,))
    ours.new_root(now_ms=now_ms)
    return ours


def content(place: Path) -> tuple[Content, ...]:
    """Make a model, a pack and a price book."""
    vault = world.vault(place / "house" / "vault")
    vault.add(w.tiny(place / "tiny.gguf"), "tiny", maker="Acme", maker_jurisdiction="DE")
    return (
        pieces.model(vault, "tiny"),
        pieces.pack("ward", "1", {"pack.toml": b'id = "ward"\n', "policies.cedar": b"// none\n"}, b"note\n"),
        pieces.text("prices", "prices", "2026-10-01", b'{"as_of":"2026-10-01"}'),
    )


def made(out: Path, contents: tuple[Content, ...], ours: Publisher, **given: Any) -> Made:
    """Make a bundle without a log's proof."""
    given = {"now_ms": NOW} | given
    return create.create(out, contents, given.pop("head", HEAD), ours, given.pop("log", None), **given)


def opened(path: Path, ring: Keyring, known: Known | None = None, *, now_ms: int = NOW) -> verify.Opened:
    """Open a bundle as a home does."""
    return verify.open_bundle(
        path, ring, known or Known(), now_ms=now_ms, importer_version="0.1.0", origin=HOME
    )
