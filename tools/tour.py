"""Run the commands of the tours and rewrite their outputs; with --check only compare.

Every fenced block marked ``console`` holds commands (lines beginning with ``$ ``, continued by a trailing
backslash) and what they print. They run one after another in a folder of their own. The README's run against
the hospital example, which is up; those of docs/compliance.md begin with the organisations' files and start
what they need: a command that ends with ``&`` is a server, shown is what it prints until it listens, and
``kill %N`` ends it, as in a shell. Ports are free ones and are shown as those of the files. What differs from
run to run (ids, digests, times, days, ports, keys) is not compared.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(?ms)^```console\n(.*?)^```$")
EXAMPLE = re.compile(r"(?ms)^```python\n(.*?)^```$")
COMMAND_LIMIT_S = 60
START_LIMIT_S = 90
PORTS = ("8080", "9400", "9402")
KEPT = "ALLOD_HOME RECEIPT KEY ID"
"""Variables that a command leaves for those after it."""
VARIES = [
    (re.compile(r"r_[0-9a-f]{8}_[0-9A-HJKMNP-TV-Z]{26}"), "RECEIPT"),
    (re.compile(r"ak_[A-Za-z0-9_-]{20,}"), "KEY"),
    (re.compile(r"\+[0-9a-f]{8}\+[A-Za-z0-9+/]{40,}={0,2}"), "+KEY"),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "DIGEST"),
    (re.compile(r"\bk[0-9a-f]{10}\b"), "ROW"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\b20\d\d-\d\d-\d\d\b"), "DAY"),
    (re.compile(r"\b\d+(\.\d+)? ?(ms|s|bytes|B)\b"), "QUANTITY"),
    (re.compile(r"\b(tree|size|index|leaf|leaves) (of )?\d+"), r"\1 N"),
    (re.compile(r"\b\d+ leaves\b"), "N leaves"),
    (re.compile(r"\b\d+ questions over \d+ days\b"), "N questions over N days"),
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


class Shell:
    """A folder in which commands run as a reader would type them, with what is running in the background."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="allod-tour-"))
        self.ports = {shown: str(free_port()) for shown in PORTS}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
        self.jobs: dict[int, subprocess.Popen[str]] = {}

    def real(self, text: str) -> str:
        """Put the ports of this run in place of those shown."""
        for shown, real in self.ports.items():
            text = re.sub(rf"(?<=[: ]){shown}\b", real, text)
        return text

    def shown(self, text: str) -> str:
        """Put back the ports and the folder a reader sees."""
        for shown, real in self.ports.items():
            text = re.sub(rf"(?<=[: ]){real}\b", shown, text)
        return text.replace(str(self.folder), "~/allod").rstrip()

    def run(self, command: str) -> str:
        """Run one command and return what it prints."""
        text = self.real(command.removeprefix("$ "))
        if text.endswith(" &"):
            return self.shown(self._start(text.removesuffix(" &")))
        if text.startswith("kill %"):
            return self._end(int(text.removeprefix("kill %")))
        done = subprocess.run(
            ["bash", "-c", f". ./state 2>/dev/null; {text}\ndeclare -p {KEPT} 2>/dev/null >state"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
        return self.shown(done.stdout)

    def _start(self, text: str) -> str:
        """Start a server and return what it says until it listens."""
        child = subprocess.Popen(
            ["bash", "-c", f". ./state 2>/dev/null; exec env {text}"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self.jobs[max(self.jobs, default=0) + 1] = child
        assert child.stdout is not None
        said, pipe, until = b"", child.stdout.fileno(), time.monotonic() + START_LIMIT_S
        while b"http://" not in said and time.monotonic() < until:
            if select.select([pipe], [], [], 0.5)[0]:
                more = os.read(pipe, 4096)
                said += more
                if not more:
                    break
        threading.Thread(target=child.stdout.read, daemon=True).start()
        return said.decode()

    def _end(self, number: int) -> str:
        """End a server that runs in the background."""
        child = self.jobs.pop(number, None)
        if child is None:
            return f"kill: %{number}: no such job"
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        return ""

    def close(self) -> None:
        """End what runs and remove the folder."""
        for number in list(self.jobs):
            self._end(number)
        shutil.rmtree(self.folder, ignore_errors=True)


class Hospital(Shell):
    """The hospital example, up on free ports: the README's."""

    def __init__(self) -> None:
        super().__init__()
        self.home = self.folder / ".allod"
        self.home.mkdir(mode=0o700)
        config = (ROOT / "examples/hospital/allod.toml").read_text()
        config = config.replace("port = 8080", f"port = {self.ports['8080']}")
        (self.home / "allod.toml").write_text(self.real(config))
        self.env["ALLOD_HOME"] = ".allod"
        self.jobs[1] = subprocess.Popen(
            [sys.executable, str(ROOT / "examples/hospital/run.py")],
            env={**self.env, "ALLOD_HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._wait(self.jobs[1])

    def _wait(self, child: subprocess.Popen[str]) -> None:
        until = time.monotonic() + START_LIMIT_S
        while time.monotonic() < until and child.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(self.ports["8080"]))) == 0:
                    return
            time.sleep(0.1)
        child.kill()
        sys.exit("tour: the example did not start:\n" + (child.communicate()[0] or ""))

    def example(self, code: str) -> str | None:
        """Run one Python example with a real key; return what went wrong, or None."""
        key = json.loads((self.home / "keys" / "example-keys.json").read_text())["triage"]
        code = self.real(re.sub(r"ak_\.\.\.", key, code))
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


class Organisations(Shell):
    """The organisations' files, copied; nothing runs yet."""

    def __init__(self) -> None:
        super().__init__()
        self.env.pop("ALLOD_HOME", None)
        place = self.folder / "examples/organisations"
        shutil.copytree(ROOT / "examples/organisations", place)
        for file in place.glob("*/allod.toml"):
            text = file.read_text().replace("[[app]]", f"[server]\nport = {self.ports['8080']}\n\n[[app]]", 1)
            file.write_text(self.real(text))


DOCUMENTS: dict[str, type[Shell]] = {"README.md": Hospital, "docs/compliance.md": Organisations}


def redone(name: str, *, check: bool) -> tuple[list[str], list[str]]:
    """Run one document's commands; return (stale outputs, broken examples). ``check`` rewrites nothing."""
    document = ROOT / name
    text = document.read_text()
    shell = DOCUMENTS[name]()
    stale = []

    def redo(match: re.Match[str]) -> str:
        lines = []
        for command, printed in commands(match.group(1)):
            now = shell.run(command)
            if normal(now) != normal(printed):
                stale.append(f"{name}: {command}\n--- written\n{printed}\n--- now\n{now}")
            lines.append("\n".join(part for part in (command, now) if part))
        return "```console\n" + "\n".join(lines) + "\n```"

    try:
        fresh = BLOCK.sub(redo, text)
        codes = EXAMPLE.findall(text) if isinstance(shell, Hospital) else []
        broken = [fault for code in codes if (fault := shell.example(code))]  # type: ignore[attr-defined]
    finally:
        shell.close()
    if stale and not check and not broken:
        document.write_text(fresh)
    return stale, broken


def main() -> int:
    """Rewrite the documents (all, or those named), or with --check report the blocks that are stale."""
    check = "--check" in sys.argv[1:]
    names = [name for name in sys.argv[1:] if name != "--check"] or list(DOCUMENTS)
    with ThreadPoolExecutor(len(names)) as pool:
        results = list(pool.map(lambda name: redone(name, check=check), names))
    stale = [one for found, _ in results for one in found]
    broken = [one for _, found in results for one in found]
    if broken:
        print("\n".join(broken))
        return 1
    if check:
        print("\n\n".join(stale) or f"tour: the outputs of {', '.join(names)} are what their commands print")
        if stale:
            print("\ntour: `make tour` rewrites them; a law or fact may also have begun or ended meanwhile")
        return 1 if stale else 0
    print(f"tour: {len(stale)} outputs rewritten" if stale else "tour: nothing changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
