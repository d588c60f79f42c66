"""What witnesses cost the hot path: the same gateway alone, with two witnesses, and with a quorum of both.

    python benchmarks/witnessing.py [--rounds 7] [--json FILE]

The three gateways stay up on core 1 and take turns within each round; witnesses (Ed25519 of one, ML-DSA-44
of the other), mock upstream and load generator share core 0. A witness is asked ten times a second while
requests come, beside them and never before them. Figures are medians over rounds, ratios medians of the
ratios within one round, with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
from machine import Process
from overhead import CONFIG, DEPLOYMENT, SATURATED_CONNECTIONS, Bench, Gateway, ratios, spread

CANDIDATES = 4
SECONDS = 1.5
NAMES = ("alone", "witnessed", "quorum")


class Witnesses(Bench):
    """The parties of one run."""

    def witness(self, n: int, vkeys: list[str]) -> dict[str, str]:
        """Start a witness of these logs; returns its row for a configuration."""
        home, port = self.scratch / f"w{n}", machine.free_port()
        env = {**os.environ, "ALLOD_HOME": str(home)}
        words = [sys.executable, "-m", "allod", "log", "witness"]
        made = subprocess.run(
            [*words, "--name", f"w{n}.example", "--keys", "--json"],
            env=env, check=True, capture_output=True, text=True,
        )  # fmt: skip
        logs = [word for vkey in vkeys for word in ("--log", vkey)]
        process = Process(
            f"w{n}", [*words, "--port", str(port), *logs], 0, self.scratch / f"w{n}.log", env=env
        )
        process.wait_for(port)
        self.others = [*getattr(self, "others", []), process]
        key = json.loads(made.stdout)["keys"][n % 2]
        return {"name": f"w{n}", "key": key, "url": f"http://127.0.0.1:{port}"}

    def home(self, name: str) -> tuple[dict[str, str], str, str, int]:
        """Make a home; returns its environment, key, verifier key and port."""
        folder, port = self.scratch / name, machine.free_port()
        folder.mkdir(mode=0o700)
        env = {"ALLOD_HOME": str(folder)}
        text = CONFIG.format(port=port)
        for n in range(CANDIDATES):
            text += DEPLOYMENT.format(id=f"d{n}", upstream=self.upstream, model="mock", operator="self", n=n)
        (folder / "allod.toml").write_text(text)
        made = subprocess.run(
            [sys.executable, "-m", "allod", "keys", "create", "bench", "--json"],
            env={**os.environ, **env}, check=True, capture_output=True, text=True,
        )  # fmt: skip
        vkey = (folder / "keys" / "log.vkey").read_text().strip()
        return env, json.loads(made.stdout)["key"], vkey, port

    def start(self) -> None:
        """Start the witnesses and all three gateways."""
        homes = {name: self.home(name) for name in NAMES}
        vkeys = [vkey for _, _, vkey, _ in homes.values()]
        rows = [self.witness(n, vkeys) for n in range(2)]
        table = ", ".join("{ " + ", ".join(f'{k} = "{v}"' for k, v in row.items()) + " }" for row in rows)
        for name, (env, key, _, port) in homes.items():
            if name != "alone":
                quorum = 2 if name == "quorum" else 0
                with (self.scratch / name / "allod.toml").open("a") as file:
                    file.write(f"\n[log]\nwitnesses = [{table}]\nquorum = {quorum}\n")
            self.add(name, [sys.executable, "-m", "allod", "up"], port, [f"Authorization: Bearer {key}"], env)

    def round(self, gateway: Gateway) -> None:
        """Measure one gateway once, saturated."""
        out = self.load(gateway, "closed", SATURATED_CONNECTIONS, SECONDS, "whole.json", quiet=False)
        gateway.rounds.append(
            {
                "requests_s": out["good"] / out["seconds"],
                "cpu_us": out["cpu_us"] / max(1, out["good"]),
                "bad": out["bad"],
            }
        )

    def close(self) -> None:
        """Stop everything."""
        for process in getattr(self, "others", []):
            process.stop()
        super().close()


def cosigned(bench: Witnesses, name: str) -> int:
    """Return how many witnesses have cosigned the last checkpoint of a gateway that counts."""
    note = (bench.scratch / name / "log" / "cosigned").read_text()
    return sum(f"— w{n}.example " in note for n in range(2))


def report(bench: Witnesses) -> dict[str, Any]:
    """Print the table; returns the raw figures."""
    by = {g.name: g for g in bench.gateways}
    print(f"{'':12}{'requests/s':>26}{'CPU us/request':>24}{'bad':>6}")
    for name in NAMES:
        g = by[name]
        rate, cpu = [r["requests_s"] for r in g.rounds], [r["cpu_us"] for r in g.rounds]
        print(f"{name:12}{spread(rate, 0):>26}{spread(cpu):>24}{sum(r['bad'] for r in g.rounds):>6.0f}")
    for name in NAMES[1:]:
        for key in ("requests_s", "cpu_us"):
            found = ratios(by[name], by["alone"], key)
            print(f"{name} / alone, {key:12} {spread(found, 3)}, median {statistics.median(found):.3f}")
    print("cosignatures on the last checkpoint:", {name: cosigned(bench, name) for name in NAMES[1:]})
    return {g.name: g.rounds for g in bench.gateways if g.rounds}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="allod-witnessing-") as scratch:
        bench = Witnesses(Path(scratch))
        try:
            bench.start()
            turns = [g for g in bench.gateways if g.name in NAMES]
            for gateway in turns:
                bench.round(gateway)  # warm
                gateway.rounds.clear()
            for n in range(chosen.rounds):
                for gateway in turns[n % 3 :] + turns[: n % 3]:
                    bench.round(gateway)
            found = report(bench)
        finally:
            bench.close()
        if chosen.json:
            chosen.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
