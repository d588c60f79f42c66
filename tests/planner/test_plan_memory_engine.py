"""The embedded engine, started for real: its peak memory against what the planner says."""

import asyncio
import re
from datetime import date
from pathlib import Path

import pytest

from allod.engines.llamacpp import process
from allod.planner.architecture import from_gguf
from allod.planner.catalogue import find_device
from allod.planner.files import held
from allod.planner.memory import Load, fit
from allod.vault.vault import Vault

SHIPPED = Path(process.__file__).parents[2] / "vault/shipped"


async def peak_bytes(folder: Path, name: str, context: int, slots: int) -> int:
    """Start the engine's child, let it warm up, and read the peak of its resident memory."""
    model = Vault(folder, shipped=SHIPPED).resolve(name)
    child = await process.start(
        Vault(folder, shipped=SHIPPED),
        model,
        None,
        process.Settings(
            context_tokens=context, slots=slots, connections=4, threads=1, embeddings=False,
            memory_bytes=8 << 30, load_ms=60_000, air_gapped=False, state_dir="",
        ),
    )  # fmt: skip
    try:
        status = await asyncio.to_thread(Path(f"/proc/{child.pid}/status").read_text)
    finally:
        await child.close()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize(
    ("name", "context", "slots"),
    [
        ("reference", 4096, 1),
        ("reference", 4096, 4),
        ("reference", 32768, 1),
        ("reference", 131072, 1),
        ("reference-draft", 262144, 1),
    ],
)
def test_peak_of_the_real_engine_is_within_10_percent(
    tmp_path: Path, name: str, context: int, slots: int
) -> None:
    file = SHIPPED / f"{name}.gguf"
    measured = asyncio.run(peak_bytes(tmp_path, name, context, slots))
    weights = held(file).weights(file.name)
    need = fit(
        find_device("cpu"), 1, from_gguf(file), weights, "llamacpp", Load(context=context, concurrency=slots),
        as_of=date(2026, 11, 26), memory_bytes=8 << 30,
    ).need  # fmt: skip
    assert need.value == pytest.approx(measured, rel=0.10)
    assert need.low <= measured <= need.high
