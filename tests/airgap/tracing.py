"""The second tracer: strace, an independent program, read into the same form; and the control for both."""

from __future__ import annotations

import re
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from allod.walls.attempts import Attempt
from allod.walls.tracer import Watched, watch

STRACE = shutil.which("strace")
_CALL = re.compile(r"^(\d+)\s+(connect|sendto|sendmsg|sendmmsg|socket|io_uring_setup)\((.*)$", re.MULTILINE)
_V4 = re.compile(r'sa_family=AF_INET, sin_port=htons\((\d+)\), sin_addr=inet_addr\("([^"]+)"\)')
_V6 = re.compile(r'sa_family=AF_INET6, sin6_port=htons\((\d+)\).*?inet_pton\(AF_INET6, "([^"]+)"')
_UNIX = re.compile(r'sa_family=AF_UNIX, sun_path=(@?)"([^"]*)"')
_OTHER = re.compile(r"sa_family=(AF_\w+)")
_SOCKET = re.compile(r"^(AF_\w+|0x[0-9a-f]+)[^,]*, (SOCK_\w+)")

CONTROL = """
import socket, subprocess, sys
def tried(act, *args):
    try:
        act(*args)
    except OSError:
        pass
def stream(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(2)
        one.connect(address)
def datagram(address, how):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", address) if how == "sendto" else one.sendmsg([b"x"], [], 0, address)
if len(sys.argv) > 1:
    tried(stream, socket.AF_INET, ("192.0.2.9", 9))
    sys.exit()
tried(stream, socket.AF_INET, ("192.0.2.1", 80))
tried(stream, socket.AF_INET6, ("2001:db8::1", 443))
tried(datagram, ("192.0.2.2", 53), "sendto")
tried(datagram, ("192.0.2.3", 53), "sendmsg")
tried(socket.getaddrinfo, "model.example", 80)
tried(stream, socket.AF_INET, ("127.0.0.1", 1))
subprocess.run([sys.executable, "-c", open(__file__).read(), "child"], check=False)
"""
CAUGHT = {
    ("connect", "192.0.2.1", 80),
    ("connect", "2001:db8::1", 443),
    ("sendto", "192.0.2.2", 53),
    ("sendmsg", "192.0.2.3", 53),
    ("connect", "127.0.0.1", 1),
    ("connect", "192.0.2.9", 9),
}
"""What the control does that every tracer must see; the last is a child's."""


def read(trace: str) -> tuple[Attempt, ...]:
    """Read strace's account."""
    found: dict[tuple[object, ...], Attempt] = {}
    for pid, call, rest in _CALL.findall(trace):
        one = _attempt(int(pid), call, rest)
        if one is not None:
            found.setdefault((one.call, one.family, one.host, one.port, one.path, one.kind), one)
    return tuple(found.values())


def _attempt(pid: int, call: str, rest: str) -> Attempt | None:
    if call == "socket":
        match = _SOCKET.search(rest)
        if match is None:
            return Attempt(call=call, program="strace", pid=pid, family=-1)
        family, kind = (int(getattr(socket, match[n], 255)) for n in (1, 2))
        return Attempt(call=call, program="strace", pid=pid, family=family, kind=kind)
    found = _address(rest)
    if call == "io_uring_setup":
        found = (0, "", 0, "")
    elif found is None and call == "connect" and "NULL" not in rest:
        found = (-1, "", 0, "")
    if found is None:
        return None  # a send without an address goes where a connect was seen to go
    family, host, port, path = found
    return Attempt(call=call, program="strace", pid=pid, family=family, host=host, port=port, path=path)


def _address(rest: str) -> tuple[int, str, int, str] | None:
    if match := _V4.search(rest):
        return int(socket.AF_INET), match[2], int(match[1]), ""
    if match := _V6.search(rest):
        return int(socket.AF_INET6), match[2], int(match[1]), ""
    if match := _UNIX.search(rest):
        return int(socket.AF_UNIX), "", 0, match[1] + match[2]
    if match := _OTHER.search(rest):
        return int(getattr(socket, match[1], 0 if match[1] == "AF_UNSPEC" else 255)), "", 0, ""
    return None


def by_notice(
    argv: list[str], heard: Callable[[bytes], None] | None = None, errors: int | None = None
) -> Watched:
    """Run under our own tracer."""
    return watch(argv, heard=heard, errors=errors, timeout_s=280)


def by_strace(
    argv: list[str], trace: Path, heard: Callable[[bytes], None] | None = None, errors: int | None = None
) -> Watched:
    """Run under strace, in a network of its own where that is allowed; the attempts are strace's."""
    assert STRACE is not None
    calls = "trace=connect,sendto,sendmsg,sendmmsg,socket,io_uring_setup"
    command = [STRACE, "-f", "-qq", "-s", "0", "-e", calls, "-o", str(trace), *argv]
    seen = watch(command, trace=False, heard=heard, errors=errors, timeout_s=280)
    return msgspec.structs.replace(seen, attempts=read(trace.read_text("utf-8", "replace")))


def control(folder: Path) -> list[str]:
    """Return the command of a program that reaches out."""
    file = folder / "control.py"
    file.write_text(CONTROL)
    return [sys.executable, str(file)]
