"""Publishers, homes and bundles for tests of what an import does; real keys, metadata, vaults and logs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from allod.store.home import Home, load_keys, make_home
from allod.vault.bundle import create, importing, keys, pieces, publish, trust
from allod.vault.bundle.form import digest_of
from allod.vault.bundle.importing import Import, Imported
from allod.vault.bundle.supply import Supply
from allod.vault.vault import Vault

NOW_MS = 1_795_600_000_000
SCHEMA_PACK = Path(importing.__file__).parents[2] / "policy" / "packs" / "base" / "schema.cedarschema"
VERSION = "0.1.0"
RULE = (
    '@id("{id}.dpa") @law("House rule 1") @text("A data processing agreement.") @remedy("Sign one.")\n'
    'forbid (principal is Allod::App, action == Allod::Action::"dispatch", resource is Allod::Deployment)\n'
    'when {{ context.classes.contains("{on}") }} unless {{ resource.agreements.declared.contains("dpa") }};\n'
)


def pack_files(name: str = "house", version: str = "1.0.0", on: str = "personal") -> dict[str, bytes]:
    """Return the files of a small pack."""
    return {
        "pack.toml": f'id = "{name}"\nversion = "{version}"\nstatus = "in-force"\n'.encode(),
        "policies.cedar": RULE.format(id=name, on=on).encode(),
        "theorems.toml": b"",
        "obligations.toml": b"",
    }


def prices(price: str = "3", *, as_of: str = "2026-11-20", source: str = "contract 7") -> bytes:
    """Return a price book with one model of its own and one that is shipped too."""
    row = [{"input": price, "output": "4"}]
    return json.dumps(
        {
            "format": "allod-prices-1",
            "as_of": as_of,
            "source": source,
            "licence": "ours",
            "models": {"acme/large": row, "anthropic/claude-2": row},
        }
    ).encode()


def catalogue(**more: Any) -> bytes:
    """Return a catalogue of one model."""
    told = {"title": "Large", "context_tokens": 4096, "retires": "2027-01-01", **more}
    return json.dumps(
        {
            "format": "allod-catalogue-1",
            "as_of": "2026-11-20",
            "source": "maker's page",
            "licence": "ours",
            "models": {"large": told},
        }
    ).encode()


def revocations(*digests: str) -> bytes:
    """Return a list of revocations."""
    return json.dumps(
        [{"digest": d, "reason": "backdoor", "at": "2026-11-01T00:00:00.000Z"} for d in digests]
    ).encode()


def pack(name: str = "house", version: str = "1.0.0", on: str = "personal") -> pieces.Content:
    return pieces.pack(name, version, pack_files(name, version, on), None)


def price_book(price: str = "3", **more: str) -> pieces.Content:
    return pieces.text("prices", "list", "2026.11.20", prices(price, **more))


class Publisher:
    """Somebody who makes bundles: a home with keys, a vault, and metadata."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = make_home(root / "home")
        self.vault = Vault(self.home.vault, shipped=root / "none", clock=lambda: NOW_MS)
        self.keys = root / "publisher-keys"
        for role in keys.ROLES:
            keys.new(self.keys, role)
        self.publisher = publish.Publisher(root / "publish", (self.keys,))
        self.publisher.new_root(now_ms=NOW_MS)
        self.made = 0

    @property
    def origin(self) -> str:
        return load_keys(self.home).origin

    def model(self, name: str = "tiny", seed: int = 0, **more: Any) -> pieces.Content:
        """Add a small GGUF file to the vault and carry it."""
        import gguf_writer  # of tests/vault

        file = gguf_writer.tiny(self.root / f"{name}-{seed}.gguf", seed=seed)
        if name in {entry.manifest.name for entry in self.vault.list()}:
            self.vault.remove(name)
        self.vault.add(file, name, licence="mit", **more)
        return pieces.model(self.vault, name)

    def bundle(
        self, *contents: pieces.Content, channel: str = "stable", tar: bool = False, now_ms: int = NOW_MS
    ) -> Path:
        """Make a bundle, the next of its channel."""
        self.made += 1
        out = self.root / f"bundle-{self.made}{'.tar' if tar else ''}"
        head = create.Head(channel=channel, source=self.origin)
        create.create(out, contents, head, self.publisher, None, now_ms=now_ms)
        return out


class Site:
    """A home that takes bundles."""

    def __init__(self, root: Path, *publishers: Publisher, threshold: int = 1) -> None:
        self.root = root
        self.home: Home = make_home(root)
        self.supply = Supply(root)
        ring = publishers[0].publisher.keyring(proof=False)
        trust.keep(self.supply.trust, ring)

    @classmethod
    def copied(cls, other: Site, root: Path) -> Site:
        """Return the same home in another place."""
        shutil.copytree(other.root, root, symlinks=True)
        site = cls.__new__(cls)
        site.root, site.home, site.supply = root, Home(root), Supply(root)
        return site

    @property
    def vault(self) -> Vault:
        return Vault(self.home.vault, shipped=self.root / "none", clock=lambda: NOW_MS)

    def doing(self, now_ms: int = NOW_MS + 1000, **more: Any) -> Import:
        return Import(
            self.home,
            self.vault,
            schema=SCHEMA_PACK.read_text(),
            now_ms=now_ms,
            version=VERSION,
            **more,
        )

    def bring(self, bundle: Path, now_ms: int = NOW_MS + 1000, **more: Any) -> Imported:
        return self.doing(now_ms, **more).run(bundle)

    def items(self) -> dict[tuple[str, str], str]:
        """Return what serves: kind and name -> version."""
        found = self.supply.serving()
        return {} if found is None else {item.key: item.version for item in found.items}

    def models(self) -> dict[str, str]:
        """Return what the vault has names for: name -> digest."""
        return {entry.manifest.name: entry.digest for entry in self.vault.list()}

    def sees(self) -> tuple[dict[tuple[str, str], str], dict[str, str], set[str]]:
        """Return everything a reader sees of a supply, each file read and held against its digest."""
        found = self.supply.serving()
        if found is not None:
            for item in found.items:
                self.supply.files(item)
        return self.items(), self.models(), set(self.vault.revocations.read())


def in_child(work: Callable[[], None]) -> int:
    """Run something in a forked child; returns its wait status (exit 0 if it ended without an error)."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 (the parent tells)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def dying(where: object, name: str, nth: int, *, after: bool) -> Callable[[], int]:
    """Replace a function by one that kills this process at its nth call; returns how often it was called."""
    real, calls = getattr(where, name), 0

    def step(*args: object, **more: object) -> object:
        nonlocal calls
        calls += 1
        if calls == nth and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **more)
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(where, name, step)
    return lambda: calls


def program_folder(folder: Path) -> Path:
    """Write a program update."""
    folder.mkdir()
    (folder / "allod-9.9.9-py3-none-any.whl").write_bytes(b"PK a wheel")
    (folder / "requirements.lock").write_text(f"# made\nallod==9.9.9 \\\n    --hash=sha256:{'0' * 64}\n")
    return folder


def digest_of_bundle(bundle: Path) -> str:
    """Return the digest of a bundle's folder."""
    return digest_of((bundle / "bundle.json").read_bytes())


def nothing(site: Site) -> None:
    """Check that nothing serves here."""
    assert site.supply.serving() is None
    assert site.sees() == ({}, {}, set())
