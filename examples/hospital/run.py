"""Start the hospital example in the foreground: the gateway, and a scripted stand-in for the cloud region.

Uses the home ./.allod (or ALLOD_HOME) and makes it if absent. Ctrl-C stops both. A busy port is exit 5.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
APPS = ("triage", "press")
PROMPT = "Extract name, ward, drug and dose as JSON: Anna Weber, ward 3, took 20 mg ramipril."
START_LIMIT_S = 60
UNAVAILABLE = 5


def busy(host: str, port: int) -> bool:
    """Tell whether something already listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def addresses(config: Path) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return (host, port) of the gateway and of the region as the configuration has them."""
    data = tomllib.loads(config.read_text())
    server = data.get("server", {})
    region = next(d for d in data["deployment"] if d["id"] == "frankfurt-region")
    url = urlsplit(region["base_url"])
    return (
        (server.get("host", "127.0.0.1"), int(server.get("port", 8080))),
        (url.hostname or "127.0.0.1", url.port or 80),
    )


def keys(allod: list[str], home: Path) -> dict[str, str]:
    """Return the example's keys; made once, kept readable by the owner only."""
    store = home / "keys" / "example-keys.json"
    if store.exists():
        return dict(json.loads(store.read_text()))
    made = {}
    for app in APPS:
        out = subprocess.run(
            [*allod, "keys", "create", app, "--json"], check=True, capture_output=True, text=True
        )
        made[app] = json.loads(out.stdout)["key"]
    with os.fdopen(os.open(store, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(made, file)
    return made


def ready(address: tuple[str, int], child: subprocess.Popen[bytes]) -> bool:
    """Wait until the child listens; False when it ended or took too long."""
    until = time.monotonic() + START_LIMIT_S
    while child.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(address) == 0:
                return True
        time.sleep(0.05)
    return False


def welcome(url: str, made: dict[str, str], home: Path) -> str:
    """Return what a newcomer reads first: URL, key and three commands."""
    where = home.relative_to(ROOT) if home.is_relative_to(ROOT) else home
    activate = f"export ALLOD_HOME={where} PATH=$PWD/.venv/bin:$PATH"
    return f"""
Allod is up: a hospital with a small model of its own, and a cloud region in Frankfurt (simulated here by a
scripted stand-in) that is controlled from the United States. The model is for teaching and tests.

  URL   {url}/v1
  key   {made["triage"]}   (app triage: its requests are health data)

Try, in another terminal in this folder, after `{activate}`:

  1  A lawful answer, at home, with a receipt:
     allod ask --app triage --task extract "{PROMPT}"

  2  The same, pinned to the cloud region: refused, with the articles named:
     allod ask --app triage --model frankfurt-region "{PROMPT}"

  3  Its receipt, verified offline (ask printed the id):
     allod receipt get RECEIPT > receipt.json && allod receipt verify receipt.json

Ctrl-C stops everything.
"""


def main() -> int:
    """Run until a signal comes or a child ends; return the exit status."""
    home = Path(os.environ.get("ALLOD_HOME") or ROOT / ".allod").resolve()
    config = home / "allod.toml"
    if not config.exists():
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(HERE / "allod.toml", config)
    gateway_at, region_at = addresses(config)
    for at, key in ((gateway_at, "[server] port"), (region_at, "base_url of frankfurt-region")):
        if busy(*at):
            print(
                f"{at[0]}:{at[1]} is in use by another program.\n"
                f"  do:  stop that program, or change {key} in {config} and try again",
                file=sys.stderr,
            )
            return UNAVAILABLE
    env = {**os.environ, "ALLOD_HOME": str(home), "FRANKFURT_KEY": "stand-in-key"}
    allod = [sys.executable, "-m", "allod"]
    os.environ["ALLOD_HOME"] = str(home)
    made = keys(allod, home)
    quiet = {"stdin": subprocess.DEVNULL, "env": env, "cwd": ROOT}
    region = subprocess.Popen(
        [*allod, "up", "--scripted", "--host", region_at[0], "--port", str(region_at[1])],
        stdout=subprocess.DEVNULL,
        **quiet,  # type: ignore[call-overload]
    )
    gateway = subprocess.Popen([*allod, "up"], **quiet)  # type: ignore[call-overload]
    return supervise(region, gateway, region_at, gateway_at, made, home)


def supervise(
    region: subprocess.Popen[bytes],
    gateway: subprocess.Popen[bytes],
    region_at: tuple[str, int],
    gateway_at: tuple[str, int],
    made: dict[str, str],
    home: Path,
) -> int:
    """Greet when both are up; end both when one ends or a signal comes."""
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _frame: stopping.append(n))
    up = ready(region_at, region) and ready(gateway_at, gateway)
    if up:
        print(welcome(f"http://{gateway_at[0]}:{gateway_at[1]}", made, home), flush=True)
    while up and not stopping and region.poll() is None and gateway.poll() is None:
        time.sleep(0.1)
    for child in (gateway, region):
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
    codes = [child.wait(20) for child in (gateway, region)]
    if stopping:
        print("stopped", flush=True)
        return 0
    return next((c for c in codes if c), 1)


if __name__ == "__main__":
    sys.exit(main())
