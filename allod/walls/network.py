"""Taking the network from this process and from all it starts, by the kernel, for good.

Two parts. A seccomp filter refuses kinds of sockets: what is left is unix sockets, or these and TCP, or these
and UDP for questions to a name server. Landlock (Linux 6.7, interface 4) refuses TCP connections to ports
that are not named. Neither knows addresses: a filter cannot look behind a pointer, and Landlock's rules are
ports. Which address a TCP connection goes to is the connector's rule; what is refused here is all the rest.

Refused beside networks: what would lead around them. Joining another network namespace, taking a descriptor
of another process, tracing or writing to one, io_uring (which opens and connects sockets without these
calls), loading BPF, and data sent with the opening of a TCP connection, which Landlock does not see.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from allod.walls import bpf

if TYPE_CHECKING:
    from collections.abc import Iterable

Left = Literal["unix", "tcp", "names"]
"""What a process may still open: unix sockets; these and TCP; these and UDP."""

_FAST_OPEN: Final = 0x20000000
_FLAGS_AT: Final = {"sendto": 3, "sendmsg": 2, "sendmmsg": 3}
_AROUND: Final = (
    "setns",
    "pidfd_getfd",
    "ptrace",
    "process_vm_writev",
    "bpf",
    "io_uring_enter",
    "io_uring_register",
)
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION: Final = 1
_NETWORK_ABI: Final = 4
_CONNECT_TCP: Final = 2
_PORT_RULE: Final = 2


class Wall(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel enforces from now on.

    Attributes:
        left: what may still be opened, or None where no filter could be put in force (``why``).
        ports: the TCP ports that may be connected to where Landlock is in force, else None.
        why: what is missing and why; empty when nothing is.

    """

    left: Left | None
    ports: tuple[int, ...] | None
    why: str = ""

    @property
    def name(self) -> str:
        """Return the wall in one word, as the log has it: ``seccomp-unix+landlock`` or ``none``."""
        if self.left is None:
            return "none"
        return f"seccomp-{self.left}" + ("" if self.ports is None else "+landlock")

    def told(self) -> str:
        """Say in one line what is enforced."""
        if self.left is None:
            return f"the kernel refuses nothing here: {self.why}"
        kinds = {"unix": "only unix sockets", "tcp": "only unix and TCP sockets", "names": "no raw sockets"}
        ports = "" if self.ports is None else f", TCP connections only to {_listed(self.ports)}"
        return f"the kernel leaves {kinds[self.left]}{ports}" + (f" ({self.why})" if self.why else "")


def _listed(ports: tuple[int, ...]) -> str:
    return "no port" if not ports else "port " + ", ".join(str(port) for port in ports)


def program(known: bpf.Machine, left: Left) -> bytes:
    """Build the filter: everything is allowed but what the module's text names."""
    calls, deny = known.calls, bpf.verdict(bpf.DENY)
    out = bpf.begin(known.audit) + bpf.only(calls["socket"], _sockets(left))
    for name, at in _FLAGS_AT.items():
        test = bpf.argument(at) + bpf.step(bpf.ANY_BIT, _FAST_OPEN, 0, 1)
        out += bpf.only(calls[name], test + deny + bpf.verdict(bpf.ALLOW))
    for name in _AROUND:
        out += bpf.only(calls[name], deny)
    return out + bpf.only(calls["io_uring_setup"], bpf.verdict(bpf.ABSENT)) + bpf.verdict(bpf.ALLOW)


def _sockets(left: Left) -> bytes:
    """Judge one call ``socket(family, kind, protocol)``; unix sockets of every kind are left."""
    allow, deny = bpf.verdict(bpf.ALLOW), bpf.verdict(bpf.DENY)
    out = bpf.argument(0) + bpf.step(bpf.EQUAL, socket.AF_UNIX, 0, 1) + allow
    if left == "unix":
        return out + deny
    kinds = [(socket.SOCK_STREAM, socket.IPPROTO_TCP)]
    if left == "names":
        kinds.append((socket.SOCK_DGRAM, socket.IPPROTO_UDP))
    body = b""
    for kind, protocol in kinds:
        either = bpf.step(bpf.EQUAL, 0, 1, 0) + bpf.step(bpf.EQUAL, protocol, 0, 1) + allow + deny
        body += bpf.argument(1) + bpf.step(bpf.AND, 0xF)
        body += bpf.step(bpf.EQUAL, kind, 0, 1 + len(either) // 8) + bpf.argument(2) + either
    body += deny
    internet = bpf.step(bpf.EQUAL, socket.AF_INET, 2, 0) + bpf.step(bpf.EQUAL, socket.AF_INET6, 1, 0)
    return out + internet + deny + body


def close(left: Left, ports: Iterable[int] | None = ()) -> Wall:
    """Take networks from every thread of this process and from what it starts from now on; not undone.

    Args:
        left: what may still be opened. Sockets that are open stay open, and those accepted on a listening
            socket come into being without the calls that are refused.
        ports: TCP ports that may be connected to; None puts no bound on ports.

    """
    known = bpf.machine()
    if known is None:
        return Wall(left=None, ports=None, why="its system calls are not known for this machine")
    missing = ""
    named = None if ports is None else tuple(sorted(set(ports)))
    if named is not None and not bpf.no_new_privileges():
        named, missing = None, "no_new_privs is refused"
    if named is not None:
        missing = _bound(named)
        named = None if missing else named
    try:
        bpf.install(known, program(known, left), bpf.ALL_THREADS | bpf.SPECULATE)
    except OSError as error:
        return Wall(left=None, ports=named, why=f"no seccomp filter: {error.strerror}")
    return Wall(left=left, ports=named, why=missing)


def _bound(ports: tuple[int, ...]) -> str:
    """Have Landlock refuse TCP connections to other ports; returns why it could not, or nothing."""
    with suppress(OSError):
        if len(list(Path("/proc/self/task").iterdir())) > 1:
            return "ports are not bound: Landlock would hold for one of several threads"
    libc = ctypes.CDLL(None, use_errno=True)
    if _call(libc, _CREATE, None, 0, _VERSION) < _NETWORK_ABI:
        return "ports are not bound: this kernel's Landlock does not know networks"
    attributes = struct.pack("=QQ", 0, _CONNECT_TCP)
    ruleset = _call(libc, _CREATE, attributes, len(attributes), 0)
    if ruleset < 0:
        return "ports are not bound: Landlock is refused"
    try:
        for port in ports:
            if _call(libc, _ADD, ruleset, _PORT_RULE, struct.pack("=QQ", _CONNECT_TCP, port), 0) != 0:
                return f"ports are not bound: Landlock does not take {port}"
        done = _call(libc, _RESTRICT, ruleset, 0) == 0
    finally:
        os.close(ruleset)
    return "" if done else "ports are not bound: Landlock is refused"


def _call(libc: ctypes.CDLL, number: int, *arguments: bytes | int | None) -> int:
    taken = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return int(libc.syscall(ctypes.c_long(number), *taken))
