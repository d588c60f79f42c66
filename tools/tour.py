"""Run the commands of the README's tour and rewrite their outputs; with --check only compare.

Every fenced block marked ``console`` holds commands (lines beginning with ``$ ``, continued by a trailing
backslash) and what they print. They run one after another in a folder of their own, against the hospital
example on free ports. What differs from run to run (ids, digests, times, ports, keys) is not compared.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"(?ms)^```console\n(.*?)^```$")
EXAMPLE = re.compile(r"(?ms)^```python\n(.*?)^```$")
COMMAND_LIMIT_S = 60
START_LIMIT_S = 90
VARIES = [
    (re.compile(r"r_[0-9a-f]{8}_[0-9A-HJKMNP-TV-Z]{26}"), "RECEIPT"),
    (re.compile(r"ak_[A-Za-z0-9_-]{20,}"), "KEY"),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "DIGEST"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)? ?(ms|s|bytes|B)\b"), "QUANTITY"),
    (re.compile(r"\b(tree|size|index|leaf|leaves) (of )?\d+"), r"\1 N"),
    (re.compile(r"\b\d+ leaves\b"), "N leaves"),
    (re.compile(r"[A-Za-z0-9+/]{40,}={0,2}"), "BASE64"),
]


def normal(text: str) -> str:
    """Replace what differs from run to run."""
    for pattern, word in VARIES:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def commands(block: str) -> list[tuple[str, str]]:
    """Split a block into (command with its continuation lines, output)."""
    out: list[tuple[str, str]] = []
    lines = block.splitlines()
    at = 0
    while at < len(lines):
        command = [lines[at]]
        while command[-1].endswith("\\"):
            at += 1
            command.append(lines[at])
        at += 1
        printed = []
        while at < len(lines) and not lines[at].startswith("$ "):
            printed.append(lines[at])
            at += 1
        out.append(("\n".join(command), "\n".join(printed)))
    return out


class Tour:
    """The example, up on free ports, and a folder in which the commands run."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="allod-tour-"))
        self.home = self.folder / ".allod"
        self.home.mkdir(mode=0o700)
        self.ports = {"8080": str(free_port()), "9400": str(free_port())}
        config = (ROOT / "examples/hospital/allod.toml").read_text()
        config = config.replace("port = 8080", f"port = {self.ports['8080']}").replace(
            ":9400/", f":{self.ports['9400']}/"
        )
        (self.home / "allod.toml").write_text(config)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = {**os.environ, "ALLOD_HOME": ".allod", "PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}
        self.child = subprocess.Popen(
            [sys.executable, str(ROOT / "examples/hospital/run.py")],
            env={**self.env, "ALLOD_HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + START_LIMIT_S
        while time.monotonic() < until and self.child.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(self.ports["8080"]))) == 0:
                    return
            time.sleep(0.1)
        self.child.kill()
        sys.exit("tour: the example did not start:\n" + (self.child.communicate()[0] or ""))

    def run(self, command: str) -> str:
        """Run one command as a reader would type it and return what it prints."""
        text = command.removeprefix("$ ")
        for shown, real in self.ports.items():
            text = text.replace(f":{shown}", f":{real}")
        done = subprocess.run(
            ["bash", "-c", f". ./state 2>/dev/null; {text}\ndeclare -p RECEIPT KEY 2>/dev/null >state"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
        out = done.stdout.rstrip()
        for shown, real in self.ports.items():
            out = out.replace(f":{real}", f":{shown}")
        return out.replace(str(self.folder), "~/allod")

    def example(self, code: str) -> str | None:
        """Run one Python example with a real key; return what went wrong, or None."""
        key = json.loads((self.home / "keys" / "example-keys.json").read_text())["triage"]
        code = re.sub(r"ak_\.\.\.", key, code).replace(":8080", f":{self.ports['8080']}")
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
        if "ModuleNotFoundError" in done.stderr:
            print(f"SKIP an example: {done.stderr.strip().splitlines()[-1]}")
            return None
        return done.stderr if done.returncode else None

    def close(self) -> None:
        """Stop the example and remove the folder."""
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.child.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def main() -> int:
    """Rewrite the README, or with --check report the blocks that are stale."""
    check = "--check" in sys.argv[1:]
    text = README.read_text()
    tour = Tour()
    stale = []

    def redo(match: re.Match[str]) -> str:
        lines = []
        for command, printed in commands(match.group(1)):
            now = tour.run(command)
            if normal(now) != normal(printed):
                stale.append(f"{command}\n--- README\n{printed}\n--- now\n{now}")
            lines.append("\n".join(part for part in (command, now) if part))
        return "```console\n" + "\n".join(lines) + "\n```"

    try:
        fresh = BLOCK.sub(redo, text)
        broken = [fault for code in EXAMPLE.findall(text) if (fault := tour.example(code))]
    finally:
        tour.close()
    if broken:
        print("\n".join(broken))
        return 1
    if check:
        print("\n\n".join(stale) or "tour: the README's outputs are what its commands print")
        return 1 if stale else 0
    if stale:
        README.write_text(fresh)
    print(f"tour: {len(stale)} outputs rewritten" if stale else "tour: nothing changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
