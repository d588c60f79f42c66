"""Run the harness that BENCH_DIR names beside our own, on the same gateways.

It brings its own mock upstream and load generator (``bench.py`` with ``--targets``, ``--url``, ``--pid`` and
``--header``) and prints its own table; its figures are printed as it gives them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import machine
from machine import ROOT, Process

MODELS = ("mock", "mock-n200-d0", "mock-n100-d10")
UPSTREAM = 9400


def run(bench_dir: Path, scratch: Path, config: str, deployment: str, candidates: int, rounds: int) -> int:
    """Start Allod on one core and hand it to the harness; return the harness's exit status."""
    home, port = scratch / "external-home", machine.free_port()
    home.mkdir(mode=0o700)
    text = config.format(port=port)
    for n in range(candidates):
        operator = "self" if n % 2 == 0 else "abroad"
        for model in MODELS:
            text += deployment.format(
                id=f"d{n}-{model}", upstream=UPSTREAM, model=model, operator=operator, n=n
            )
    (home / "allod.toml").write_text(text)
    env = {**os.environ, "ALLOD_HOME": str(home)}
    made = subprocess.run(
        [sys.executable, "-m", "allod", "keys", "create", "bench", "--json"],
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    key = json.loads(made.stdout)["key"]
    allod = Process("allod", [sys.executable, "-m", "allod", "up"], 1, scratch / "external.log", env=env)
    allod.wait_for(port)
    only = ["direct"]
    command = [sys.executable, str(bench_dir / "bench.py"), "--targets", str(bench_dir / "targets.json")]
    if machine.install_nginx():
        only.append("nginx")
    litellm = machine.install_litellm(ROOT / ".bench" / "litellm")
    if litellm is not None:
        only.append("litellm")
        command += ["--set", f"LITELLM={litellm.parent.parent}"]
    command += [
        "--only", ",".join(only), "--rounds", str(rounds), "--cold", "1", "--rt-low", "--rt-sat",
        "--secs", "0.5",
        "--url", f"allod=http://127.0.0.1:{port}", "--pid", f"allod={allod.pid}",
        "--header", f"allod=Authorization: Bearer {key}", "--scratch", str(scratch / "external"),
        "--out", str(scratch / "external.json"),
    ]  # fmt: skip
    print(f"\nexternal harness ({bench_dir.name}):", flush=True)
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        allod.stop()
