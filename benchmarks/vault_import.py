"""How fast the vault takes a model in, beside SHA-256 alone and beside copying alone.

``python benchmarks/vault_import.py [--gigabytes 2] [--folder DIR]``: the three run in turn on one file of
random bytes, three rounds; medians are printed in MB/s of wall clock. The page cache holds the file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import struct
import tempfile
import time
from pathlib import Path

from allod.vault.vault import Vault

CHUNK = 4 << 20


def gguf(path: Path, size: int) -> None:
    """Write a GGUF file with one tensor of about ``size`` bytes."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    rows = size // (4096 * 4)
    field = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    info = text("t") + struct.pack("<IQQIQ", 2, 4096, rows, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + field + info
    block = os.urandom(CHUNK)
    with path.open("wb") as file:
        file.write(head + bytes(-len(head) % 32))
        left = rows * 4096 * 4
        while left:
            left -= file.write(block[: min(left, CHUNK)])


def hashing(path: Path) -> None:
    """Digest a file."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            hasher.update(chunk)


def copying(path: Path, to: Path) -> None:
    """Copy a file through this process and make it durable."""
    with path.open("rb") as source, to.open("wb") as target:
        while chunk := source.read(CHUNK):
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    to.unlink()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    seconds: dict[str, list[float]] = {"sha256": [], "copy + fsync": [], "vault add": []}
    try:
        path = folder / "big.gguf"
        gguf(path, int(given.gigabytes * 1e9))
        size = path.stat().st_size
        for number in range(3):
            for name, run in (
                ("sha256", lambda: hashing(path)),
                ("copy + fsync", lambda: copying(path, folder / "copy")),
                (
                    "vault add",
                    lambda n=number: Vault(folder / f"v{n}", shipped=folder / "none").add(path, "m"),
                ),
            ):
                began = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - began)
            shutil.rmtree(folder / f"v{number}")
        for name, found in seconds.items():
            rates = ", ".join(f"{size / 1e6 / s:.0f}" for s in found)
            print(f"{name:14} {size / 1e6 / statistics.median(found):7.0f} MB/s   ({rates})")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
