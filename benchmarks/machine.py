"""What the benchmarks need of a Linux machine: processes on cores, their CPU time and memory, C programs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
START_LIMIT_S = 120


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def build(scratch: Path) -> None:
    """Compile the mock upstream and the load generator."""
    for name in ("upstream", "load"):
        subprocess.run(["cc", "-O2", "-o", str(scratch / name), str(HERE / f"{name}.c")], check=True)


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        children.setdefault(int(text.rsplit(")", 1)[1].split()[1]), []).append(int(stat.parent.name))
    out, todo = [], [pid]
    while todo:
        out.append(todo.pop())
        todo += children.get(out[-1], [])
    return out


def cpu_ns(pids: list[int]) -> int:
    """Return the CPU time of all threads of these processes, from the scheduler, in nanoseconds."""
    total = 0
    for pid in pids:
        for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(stat.read_text().split()[0])
            except (OSError, IndexError):
                continue
    return total


def memory_mb(pid: int, field: str = "VmHWM") -> float:
    """Return peak (``VmHWM``) or present (``VmRSS``) resident memory of one process in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def undisturbed(pids: list[int], on: bool) -> bool:
    """Put processes into the real-time class, or back; False where that is not allowed."""
    kind, priority = (os.SCHED_RR, 1) if on else (os.SCHED_OTHER, 0)
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*"):
            try:
                os.sched_setscheduler(int(task.name), kind, os.sched_param(priority))
            except ProcessLookupError:
                continue
            except PermissionError:
                return False
    return True


class Process:
    """A server on one core."""

    def __init__(self, name: str, command: list[str], core: int, log: Path, **extra: Any) -> None:
        self.name, self.log = name, log
        with log.open("w") as out:
            self.child = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **extra,
            )
        self.pid = self.child.pid

    def wait_for(self, port: int) -> None:
        """Wait until it listens, or end the benchmark with its log."""
        until = time.monotonic() + START_LIMIT_S
        while time.monotonic() < until and self.child.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.005)
        sys.exit(f"{self.name} did not start:\n{self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        """End it and all its children; idempotent."""
        if self.child.poll() is not None:
            return
        for pid in tree(self.pid):
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def install_nginx() -> str | None:
    """Return the path of nginx, installing it where the machine lets us; else None."""
    if shutil.which("nginx") is None and shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update"], check=False, **quiet)  # type: ignore[call-overload]
        subprocess.run(["apt-get", "install", "-y", "nginx-light"], check=False, **quiet)  # type: ignore[call-overload]
    return shutil.which("nginx")


def install_litellm(folder: Path) -> Path | None:
    """Return the LiteLLM command in an environment of its own, installing it once; else None."""
    command = folder / "bin" / "litellm"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        done = subprocess.run([str(folder / "bin/pip"), "install", "-q", "litellm[proxy]"], check=False)
        if done.returncode:
            return None
    return command
