"""Fuzz the readers of the vault: ``python fuzz/run.py [--target NAME] [--seconds N] [--engine E]``.

With atheris (coverage-guided, Linux) where it is installed, else with a plain mutator that knows lengths,
counts and offsets. Each target runs in a process of its own under a limit of memory; over a second of
processor time for one input is a finding. What is found is written to ``fuzz/found/``. Exit 1 for a finding.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import random
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

from targets import SEEDS, TARGETS

HERE = Path(__file__).resolve().parent
FOUND = HERE / "found"
MEMORY_BYTES = 3 << 30
SLOW_S = {"template": 30.0}
EXTREME = (
    0,
    1,
    2,
    7,
    8,
    31,
    32,
    255,
    2**15,
    2**16,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    2**62,
    2**63,
    2**64 - 1,
)


def _number(rng: random.Random, raw: bytearray, at: int) -> None:
    size = rng.choice((1, 2, 4, 8))
    raw[at : at + size] = struct.pack("<Q", rng.choice(EXTREME))[:size]


def _cut(rng: random.Random, raw: bytearray, at: int) -> None:
    del raw[at : at + rng.randrange(1, 40)]


def _double(rng: random.Random, raw: bytearray, at: int) -> None:
    raw[at:at] = raw[at : at + rng.randrange(1, 60)]


def _byte(rng: random.Random, raw: bytearray, at: int) -> None:
    raw[at : at + 1] = bytes([rng.randrange(256)])


def _move(rng: random.Random, raw: bytearray, at: int) -> None:
    other = rng.randrange(len(raw) + 1)
    raw[at:at] = raw[other : other + rng.randrange(1, 60)]


def _digits(rng: random.Random, raw: bytearray, at: int) -> None:
    raw[at:at] = str(rng.choice(EXTREME)).encode()


def _sign(rng: random.Random, raw: bytearray, at: int) -> None:
    raw[at:at] = rng.choice((b'"', b"{", b"}", b"[", b",", b":", b"\\", b"\0", b"{%", b"{{", b"\xff"))


def mutate(rng: random.Random, seed: bytes) -> bytes:
    """Change a seed as hostile files are made: extreme numbers, pieces cut, doubled, moved, overwritten."""
    raw = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        change = rng.choice((_number, _cut, _double, _byte, _move, _digits, _sign))
        change(rng, raw, rng.randrange(len(raw) + 1))
    return bytes(raw)


def keep(target: str, raw: bytes, why: str) -> None:
    """Write an input that was a finding, and say so."""
    FOUND.mkdir(exist_ok=True)
    name = f"{target}-{hashlib.sha256(raw).hexdigest()[:16]}"
    (FOUND / name).write_bytes(raw)
    print(f"{target}: {why}: fuzz/found/{name}", flush=True)


def plain(target: str, seconds: float, seed: int) -> int:
    """Run one target with the plain mutator; return the number of findings."""
    rng, call, seeds = random.Random(seed), TARGETS[target], SEEDS[target]()  # noqa: S311 (no secret)
    end, done, found = time.monotonic() + seconds, 0, 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while time.monotonic() < end:
        raw = mutate(rng, rng.choice(seeds))
        began = time.process_time()
        try:
            call(raw)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a finding)
            keep(target, raw, f"{type(error).__name__}: {str(error)[:200]}")
            found += 1
        if time.process_time() - began > SLOW_S.get(target, 1.0):
            keep(target, raw, "slow")
            found += 1
        done += 1
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{target}: {done} inputs in {seconds:.0f} s, {found} findings, memory {before} -> {after} KiB",
        flush=True,
    )
    return found


def guided(target: str, seconds: float, seed: int) -> None:
    """Run one target under atheris, which ends the process: with 0, or with 77 for a finding."""
    import atheris  # noqa: PLC0415 (an extra, and instrumenting is slow)

    with atheris.instrument_imports(include=["allod.vault", "targets"]):
        for name in [name for name in sys.modules if name.startswith(("allod.vault", "targets"))]:
            del sys.modules[name]
        fresh = importlib.import_module("targets")
    corpus = HERE / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    FOUND.mkdir(exist_ok=True)
    for number, raw in enumerate(SEEDS[target]()):
        (corpus / f"seed-{number}").write_bytes(raw)
    arguments = [
        sys.argv[0], f"-max_total_time={int(seconds)}", f"-seed={seed}", "-max_len=8192",
        "-rss_limit_mb=2048",
        f"-timeout={int(SLOW_S.get(target, 2.0)) + 8}", "-print_final_stats=1", "-verbosity=0",
        f"-artifact_prefix={FOUND}/{target}-", str(corpus),
    ]  # fmt: skip
    atheris.Setup(arguments, lambda raw: fresh.TARGETS[target](bytes(raw)))
    atheris.Fuzz()


def main() -> int:
    """Run the targets one after another, each in a process of its own."""
    parser = argparse.ArgumentParser(description="fuzz the vault's readers")
    parser.add_argument("--target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--engine", choices=("atheris", "plain"))
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    engine = given.engine or ("atheris" if importlib.util.find_spec("atheris") else "plain")
    if given.inside:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES * (8 if engine == "atheris" else 1),) * 2)
        if engine == "atheris":
            guided(given.target, given.seconds, given.seed)
        return 1 if plain(given.target, given.seconds, given.seed) else 0
    bad = 0
    for target in [given.target] if given.target else TARGETS:
        print(f"{target}: {engine}, seed {given.seed}, {given.seconds:.0f} s", flush=True)
        done = subprocess.run(
            [sys.executable, __file__, "--inside", "--target", target, "--seconds", str(given.seconds),
             "--seed", str(given.seed), "--engine", engine],
            check=False, cwd=HERE, env=os.environ | {"PYTHONPATH": str(HERE)},
        )  # fmt: skip
        if done.returncode:
            print(f"{target}: ended with {done.returncode}; 72 is an interruption, anything else a finding")
        bad += done.returncode != 0
    print("fuzz: nothing found" if bad == 0 else f"fuzz: {bad} targets did not end well")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
