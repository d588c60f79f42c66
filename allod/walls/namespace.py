"""A network of one's own with nothing in it but loopback, to try things in: nothing that is sent leaves it.

Made with ``unshare(2)``: directly where the rights suffice, else through a user namespace, which needs none.
Where a system forbids both, or takes the rights inside away again, ``possible`` says so and why.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Final

import msgspec

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_GET_FLAGS, _SET_FLAGS = 0x8913, 0x8914
_IS_UP: Final = 1
_REQUEST: Final = "16sH22x"


class Count(msgspec.Struct, frozen=True):
    """How often the kernel was asked for a way to a place there is none to, since the namespace was made.

    Linux counts this itself (RFC 4293, ``ipSystemStatsOutNoRoutes``): whoever tries to leave a network of
    nothing but loopback is counted, whichever program it is and however it calls.
    """

    v4: int = 0
    v6: int = 0

    @property
    def all(self) -> int:
        """Both families together."""
        return self.v4 + self.v6


def enter() -> None:
    """Move this process into a network with nothing but loopback, and bring that up.

    For a process of a single thread.

    Raises:
        OSError: the system does not allow it; the process may be in a network without loopback then.

    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_NETWORK) != 0:
        if libc.unshare(_NEW_USER | _NEW_NETWORK) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"no network namespace: {os.strerror(code)}")
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
    _raise_loopback()
    strangers = interfaces() - {"lo"}
    if strangers:
        raise OSError(0, f"the new network has more than loopback: {', '.join(sorted(strangers))}")


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            got = fcntl.ioctl(control, _GET_FLAGS, struct.pack(_REQUEST, b"lo", 0))
            flags = struct.unpack(_REQUEST, got)[1]
            fcntl.ioctl(control, _SET_FLAGS, struct.pack(_REQUEST, b"lo", flags | _IS_UP))
        except OSError as error:
            raise OSError(error.errno, f"loopback cannot be brought up: {error.strerror}") from error


def interfaces() -> set[str]:
    """Return the interfaces of this process's network that are up."""
    found = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for line in Path("/proc/self/net/dev").read_text(encoding="ascii", errors="replace").splitlines()[2:]:
            name = line.split(":", 1)[0].strip()
            got = fcntl.ioctl(control, _GET_FLAGS, struct.pack(_REQUEST, name.encode()[:15], 0))
            if struct.unpack(_REQUEST, got)[1] & _IS_UP:
                found.add(name)
    return found


def counted() -> Count:
    """Read the kernel's count for this process's network (raises OSError)."""
    v4 = v6 = 0
    for line in _pairs(Path("/proc/self/net/snmp").read_text(encoding="ascii")):
        if line[0] == "Ip":
            v4 = line[1].get("OutNoRoutes", 0)
    six = Path("/proc/self/net/snmp6")
    if six.exists():
        fields = dict(line.split() for line in six.read_text(encoding="ascii").splitlines())
        v6 = int(fields.get("Ip6OutNoRoutes", 0))
    return Count(v4, v6)


def _pairs(text: str) -> list[tuple[str, dict[str, int]]]:
    """Read ``/proc/net/snmp``: a line of names, then a line of numbers, both begun by the protocol."""
    lines = text.splitlines()
    out = []
    for names, numbers in zip(lines[::2], lines[1::2], strict=True):
        head, *keys = names.replace(":", " ").split()
        out.append((head, dict(zip(keys, (int(n) for n in numbers.split()[1:]), strict=True))))
    return out


def possible() -> str:
    """Try in a child of one's own whether ``enter`` works; returns why not, or nothing."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            enter()
            text = "ok"
        except OSError as error:
            text = error.strerror or str(error)
        except BaseException as error:  # noqa: BLE001 (the child must not go on as its parent)
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode()[:400])
        os._exit(0)
    os.close(write)
    with open(read, "rb") as answer:  # noqa: PTH123 (a descriptor)
        said = answer.read().decode("utf-8", "replace")
    os.waitpid(child, 0)
    return "" if said == "ok" else said or "the attempt ended without a word"
