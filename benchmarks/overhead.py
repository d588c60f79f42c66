"""What a gateway adds, side by side: Allod with everything on, nginx, LiteLLM, and no gateway at all.

    python benchmarks/overhead.py [--rounds 5] [--only nginx,litellm,allod] [--json FILE]

One core (1) for the gateway under test, the other (0) for the mock upstream and the load generator; all
gateways stay up and take turns. Every figure is a median over rounds, every comparison the median of the
ratios within one round, with the smallest and the largest. CPU is the scheduler's own account of the
gateway's processes. Where the machine allows it, the short saturated phase and the slow one run in the
real-time class, so that other work does not blur them. Allod decides over 20 candidate deployments per model,
with policy, ledger and receipts on, SQLite, default durability. With BENCH_DIR the external harness found
there measures as well.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import external
import machine
from machine import ROOT, Process

PROMPT = "Summarise the clause for a lawyer in three sentences. " + (
    "The lessee shall keep the premises in good repair and condition. " * 12
)
CANDIDATES = 20
SATURATED_CONNECTIONS, SATURATED_S = 32, 0.6
SETTLE_S = 0.5  # what a gateway still does after a burst for what it answered counts as well
SLOW_PER_S, SLOW_S = 50, 3.0
STREAMS, STREAM_EVENTS, STREAM_EVERY_MS, STREAM_S = 64, 100, 10, 2.2

DEPLOYMENT = """
[[deployment]]
id = "{id}"
engine = "compatible"
base_url = "http://127.0.0.1:{upstream}/v1"
model = "{model}"
operator = "{operator}"
processing = "DE"
at_rest = ["DE"]
transit = ["DE"]
on_premises = true
records_auditable = true
inspectable = true
price = {{ input_usd_mtok = 1.{n}, output_usd_mtok = 2.0 }}
"""
CONFIG = """
[tenant]
home = "DE"
bloc = ["EEA"]
[server]
port = {port}
[[app]]
id = "bench"
[[operator]]
id = "self"
own = true
seat = "DE"
controlled_from = ["DE"]
compelled_by = []
[[operator]]
id = "abroad"
seat = "IE"
controlled_from = ["US"]
compelled_by = ["US-CLOUD-ACT"]
"""
NGINX = """
worker_processes 1; daemon off; pid {scratch}/nginx.pid; error_log {scratch}/nginx.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000; client_body_buffer_size 64k;
  client_body_temp_path {scratch}/t1; proxy_temp_path {scratch}/t2; fastcgi_temp_path {scratch}/t3;
  uwsgi_temp_path {scratch}/t4; scgi_temp_path {scratch}/t5;
  upstream models {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://models; proxy_http_version 1.1; proxy_set_header Connection "";
                 proxy_buffering off; }}
  }}
}}
"""
LITELLM = """
model_list:
{models}
litellm_settings: {{telemetry: false, set_verbose: false}}
"""
MODELS = ("mock", f"mock-{STREAM_EVENTS}-{STREAM_EVERY_MS}")


class Gateway:
    """One line of the table."""

    def __init__(self, name: str, port: int, headers: list[str], process: Process | None) -> None:
        self.name, self.port, self.headers, self.process = name, port, headers, process
        self.rounds: list[dict[str, float]] = []
        self.start_cpu_s: float | None = None

    def pids(self) -> list[int]:
        """Return the processes that are the gateway."""
        return machine.tree(self.process.pid) if self.process else []

    def ask(self) -> bool:
        """Ask once; True when it answered."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        heads = dict(h.split(": ", 1) for h in self.headers)
        try:
            link.request(
                "POST", "/v1/chat/completions", body("mock"), {"content-type": "application/json", **heads}
            )
            return link.getresponse().status == 200  # noqa: PLR2004
        except (OSError, http.client.HTTPException):
            return False
        finally:
            link.close()


def body(model: str, stream: bool = False) -> bytes:
    """Return a request of about 1 KB."""
    data: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a careful assistant."},
            {"role": "user", "content": PROMPT},
        ],
        "temperature": 0.2,
        "max_tokens": 256,
    }
    if stream:
        data |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(data).encode()


class Bench:
    """The parties of one run."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        machine.build(scratch)
        self.upstream = machine.free_port()
        self.mock = Process(
            "upstream", [str(scratch / "upstream"), str(self.upstream)], 0, scratch / "up.log"
        )
        self.mock.wait_for(self.upstream)
        (scratch / "whole.json").write_bytes(body("mock"))
        (scratch / "stream.json").write_bytes(body(MODELS[1], stream=True))
        self.gateways: list[Gateway] = [Gateway("direct", self.upstream, [], None)]
        self.real_time = machine.undisturbed([self.mock.pid], on=True)
        machine.undisturbed([self.mock.pid], on=False)

    def add(
        self, name: str, command: list[str], port: int, headers: list[str], env: dict[str, str] | None = None
    ) -> None:
        """Start a gateway and note the CPU it needed until its first answer."""
        environ = {**os.environ, **(env or {})}
        process = Process(name, command, 1, self.scratch / f"{name}.log", env=environ, cwd=self.scratch)
        process.wait_for(port)
        gateway = Gateway(name, port, headers, process)
        until = time.monotonic() + machine.START_LIMIT_S
        while not gateway.ask():
            if time.monotonic() > until:
                sys.exit(f"{name} does not answer:\n{process.log.read_text()[-2000:]}")
            time.sleep(0.05)
        gateway.start_cpu_s = machine.cpu_ns(gateway.pids()) / 1e9
        self.gateways.append(gateway)

    def nginx(self) -> None:
        """Start nginx, which reads no JSON: the limit of what a proxy can be."""
        found, port = machine.install_nginx(), machine.free_port()
        if found is None:
            print("SKIP nginx: it is not installed and cannot be installed here")
            return
        conf = self.scratch / "nginx.conf"
        conf.write_text(NGINX.format(scratch=self.scratch, upstream=self.upstream, port=port))
        self.add("nginx", [found, "-c", str(conf)], port, [])

    def litellm(self) -> None:
        """Start LiteLLM with one worker, no database, and a master key."""
        found, port = machine.install_litellm(ROOT / ".bench" / "litellm"), machine.free_port()
        if found is None:
            print("SKIP litellm: it could not be installed here")
            return
        rows = "\n".join(
            f"  - model_name: {m}\n    litellm_params: {{model: openai/{m}, api_base: "
            f'"http://127.0.0.1:{self.upstream}/v1", api_key: sk-bench}}'
            for m in MODELS
        )
        conf = self.scratch / "litellm.yaml"
        conf.write_text(LITELLM.format(models=rows))
        env = {
            "LITELLM_MASTER_KEY": "sk-bench",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
        }
        command = [
            str(found),
            "--config",
            str(conf),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--num_workers",
            "1",
        ]
        self.add("litellm", command, port, ["Authorization: Bearer sk-bench"], env)

    def allod(self) -> None:
        """Start Allod with 20 candidate deployments, half of them unlawful for the data at hand."""
        home, port = self.scratch / "home", machine.free_port()
        home.mkdir(mode=0o700)
        text = CONFIG.format(port=port)
        for n in range(CANDIDATES):
            operator = "self" if n % 2 == 0 else "abroad"
            for model in MODELS:
                text += DEPLOYMENT.format(
                    id=f"d{n}-{model}", upstream=self.upstream, model=model, operator=operator, n=n
                )
        (home / "allod.toml").write_text(text)
        env = {"ALLOD_HOME": str(home)}
        made = subprocess.run(
            [sys.executable, "-m", "allod", "keys", "create", "bench", "--json"],
            env={**os.environ, **env},
            check=True,
            capture_output=True,
            text=True,
        )
        key = json.loads(made.stdout)["key"]
        self.add("allod", [sys.executable, "-m", "allod", "up"], port, [f"Authorization: Bearer {key}"], env)

    def load(
        self, gateway: Gateway, kind: str, n: float, seconds: float, file: str, quiet: bool
    ) -> dict[str, float]:
        """Run the load generator once; adds ``cpu_us``, the gateway's CPU time."""
        parties = [*gateway.pids(), self.mock.pid]
        quiet = quiet and self.real_time
        if quiet:
            machine.undisturbed(parties, on=True)
        before = machine.cpu_ns(gateway.pids())
        command = ["taskset", "-c", "0", *(["chrt", "-r", "1"] if quiet else []), str(self.scratch / "load")]
        command += [
            kind,
            str(gateway.port),
            "/v1/chat/completions",
            str(n),
            str(seconds),
            str(self.scratch / file),
        ]
        out = subprocess.run([*command, *gateway.headers], check=True, capture_output=True, text=True).stdout
        time.sleep(SETTLE_S)
        after = machine.cpu_ns(gateway.pids())
        if quiet:
            machine.undisturbed(parties, on=False)
        return {**json.loads(out), "cpu_us": (after - before) / 1000}

    def round(self, gateway: Gateway) -> None:
        """Measure one gateway once in every phase."""
        sat = self.load(gateway, "closed", SATURATED_CONNECTIONS, SATURATED_S, "whole.json", quiet=True)
        slow = self.load(gateway, "open", SLOW_PER_S, SLOW_S, "whole.json", quiet=True)
        sse = self.load(gateway, "closed", STREAMS, STREAM_S, "stream.json", quiet=False)
        gateway.rounds.append(
            {
                "requests_s": sat["good"] / sat["seconds"],
                "cpu_us": sat["cpu_us"] / max(1, sat["good"]),
                "p50_us": slow["p50_us"],
                "p99_us": slow["p99_us"],
                "event_cpu_us": sse["cpu_us"] / max(1, sse["events"]),
                "first_us": sse["first_p50_us"],
                "bad": sat["bad"] + slow["bad"] + sse["bad"],
            }
        )

    def close(self) -> None:
        """Stop everything; idempotent."""
        for gateway in self.gateways:
            if gateway.process:
                gateway.process.stop()
                gateway.process = None
        self.mock.stop()


def spread(values: list[float], digits: int = 1) -> str:
    """Write a median with the smallest and the largest."""
    if not values:
        return "-"
    low, mid, high = min(values), statistics.median(values), max(values)
    return f"{mid:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def report(gateways: list[Gateway]) -> dict[str, Any]:
    """Print both tables and return their raw figures."""
    by = {g.name: g for g in gateways}
    print(f"\n{'':10}{'requests/s':>26}{'CPU us/request':>24}{'p50 us at 50/s':>24}{'CPU us/event':>20}"
          f"{'first event us':>26}{'peak MB':>9}{'start CPU s':>12}{'bad':>5}")  # fmt: skip
    for g in gateways:
        column = {k: [r[k] for r in g.rounds] for k in g.rounds[0]}
        peak = f"{machine.memory_mb(main_pid(g)):.0f}" if g.process else "-"
        cpu = f"{g.start_cpu_s:.2f}" if g.start_cpu_s is not None else "-"
        print(f"{g.name:10}{spread(column['requests_s'], 0):>26}{spread(column['cpu_us']):>24}"
              f"{spread(column['p50_us'], 0):>24}{spread(column['event_cpu_us']):>20}"
              f"{spread(column['first_us'], 0):>26}{peak:>9}{cpu:>12}{sum(column['bad']):>5.0f}")  # fmt: skip
    if "allod" in by:
        print()
        for name, figure in compare(by):
            print(f"{name:66}{figure}")
    return {g.name: {"rounds": g.rounds, "start_cpu_s": g.start_cpu_s} for g in gateways}


def main_pid(gateway: Gateway) -> int:
    """Return the largest process of a gateway."""
    return max(gateway.pids(), key=machine.memory_mb)


def ratios(a: Gateway, b: Gateway, key: str) -> list[float]:
    """Return a/b round by round."""
    return [x[key] / y[key] for x, y in zip(a.rounds, b.rounds, strict=True) if y[key] > 0]


def compare(by: dict[str, Gateway]) -> list[tuple[str, str]]:
    """Return the figures the project holds itself to."""
    allod, direct = by["allod"], by["direct"]
    added = [(x["p50_us"] - y["p50_us"]) / 1000 for x, y in zip(allod.rounds, direct.rounds, strict=True)]
    rows = [("added median latency at 50 requests/s, ms          (1; reach 0.6)", spread(added, 2))]
    if "nginx" in by:
        nginx = by["nginx"]
        later = [
            (x["first_us"] - y["first_us"]) / 1000 for x, y in zip(allod.rounds, nginx.rounds, strict=True)
        ]
        rows += [
            (
                "CPU per request, saturated, times nginx              (8; reach 6)",
                spread(ratios(allod, nginx, "cpu_us"), 2),
            ),
            (
                "CPU per SSE event, times nginx                     (2; reach 1.5)",
                spread(ratios(allod, nginx, "event_cpu_us"), 2),
            ),
            ("first event later than nginx, ms                     (5; reach 2)", spread(later, 2)),
        ]
    if "litellm" in by:
        rows.append(
            (
                "CPU per request, LiteLLM divided by Allod          (50; reach 80)",
                spread(ratios(by["litellm"], allod, "cpu_us"), 1),
            )
        )
    return rows


def main() -> int:
    """Run and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--only", default="nginx,litellm,allod")
    options.add_argument("--json", type=Path)
    args = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="allod-bench-") as folder:
        bench = Bench(Path(folder))
        try:
            for name in args.only.split(","):
                getattr(bench, name)()
            for gateway in bench.gateways:
                bench.load(gateway, "closed", 16, 1.5, "whole.json", quiet=False)
            for n in range(args.rounds):
                for gateway in (
                    bench.gateways[n % len(bench.gateways) :] + bench.gateways[: n % len(bench.gateways)]
                ):
                    bench.round(gateway)
                print(f"round {n + 1} of {args.rounds}", flush=True)
            raw = report(bench.gateways)
            print(f"\ncommand: python benchmarks/overhead.py --rounds {args.rounds} --only {args.only}")
            print(f"real-time class for the short phases: {'yes' if bench.real_time else 'not allowed here'}")
            if args.json:
                args.json.write_text(json.dumps(raw, indent=1))
            if "BENCH_DIR" in os.environ:
                bench.close()
                harness = Path(os.environ["BENCH_DIR"]).resolve()
                external.run(harness, bench.scratch, CONFIG, DEPLOYMENT, CANDIDATES, args.rounds)
        finally:
            bench.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
