"""What a watched program tried: decoded addresses, and what each of them means for an air gap.

Shapes of addresses are those of Linux on little-endian machines: the family as 16 bits in the machine's
order, ports and addresses in the network's (``sockaddr_in``, ``sockaddr_in6``, ``sockaddr_un``).
"""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Container

Meaning = Literal["kernel", "unix", "loopback", "named", "resolver", "stranger", "outside", "unreadable"]
"""``stranger`` is a loopback port nobody named, ``resolver`` a local service that asks the network for us."""
REACHES_OUT: Final[frozenset[Meaning]] = frozenset({"resolver", "stranger", "outside", "unreadable"})

UNREADABLE: Final = -1
_NETLINK: Final = 16
_FAMILIES: Final = {
    0: "unspecified",
    1: "unix",
    2: "IPv4",
    10: "IPv6",
    16: "netlink",
    17: "packet",
    40: "vsock",
}
_RAW: Final = 3
_KIND: Final = 0xF
_RESOLVERS: Final = re.compile(r"systemd/resolve|/avahi|mdns|/nslcd|lwresd", re.ASCII)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One call of one program, or the same call many times.

    Attributes:
        call: ``connect``, ``sendto``, ``sendmsg``, ``sendmmsg``, ``socket`` or ``io_uring_setup``.
        program: its command line, shortened; ``pid`` of the first time.
        family: the address family's number, -1 when the address could not be read.
        host, port: for IPv4 and IPv6. ``path`` for unix sockets (``@`` begins an abstract one).
        kind: of the socket that was asked for (``SOCK_*``), for ``socket`` only.
        times: how often.

    """

    call: str
    program: str
    pid: int
    family: int
    host: str = ""
    port: int = 0
    path: str = ""
    kind: int = 0
    times: int = 1

    @property
    def where(self) -> str:
        """Return the address as a person writes it."""
        if self.family in {socket.AF_INET, socket.AF_INET6} and self.host:
            return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        if self.call == "io_uring_setup":
            return "an io_uring (refused)"
        if self.family == UNREADABLE:
            return "an address that could not be read"
        name = _FAMILIES.get(self.family, f"family {self.family}")
        return self.path or (f"{name} socket of kind {self.kind}" if self.call == "socket" else name)


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded socket address."""

    family: int
    host: str = ""
    port: int = 0
    path: str = ""


NOWHERE: Final = Address(family=UNREADABLE)


def decode(raw: bytes) -> Address:
    """Decode a socket address; what is too short for its family is ``NOWHERE``."""
    try:
        family = struct.unpack_from("<H", raw)[0]
        if family == socket.AF_INET:
            port, packed = struct.unpack_from("!H4s", raw, 2)
            return Address(family=family, host=str(ipaddress.IPv4Address(packed)), port=port)
        if family == socket.AF_INET6:
            port, packed = struct.unpack_from("!H4x16s", raw, 2)
            return Address(family=family, host=str(ipaddress.IPv6Address(packed)), port=port)
    except struct.error:
        return NOWHERE
    if family == socket.AF_UNIX:
        name = raw[2:]
        text = "@" + name[1:].rstrip(b"\0").decode("utf-8", "replace") if name[:1] == b"\0" else ""
        return Address(family=family, path=text or name.split(b"\0", 1)[0].decode("utf-8", "replace"))
    return Address(family=family)


def meaning(one: Attempt, named: Callable[[str, int], bool], ports: Container[int]) -> Meaning:
    """Say what an attempt means in air-gap mode.

    Args:
        one: the attempt.
        named: tells whether host and port are among the addresses the configuration names.
        ports: on loopback: the gateway's own and those of configured deployments.

    """
    if one.family == UNREADABLE:
        return "unreadable"
    if one.call == "io_uring_setup":
        return "kernel"  # the watch refuses it: what goes through such a ring is seen by no watch on calls
    if one.call == "socket":
        return _of_socket(one)
    if one.family in {socket.AF_INET, socket.AF_INET6}:
        if loopback(one.host):
            return "loopback" if one.port in ports else "stranger"
        return "named" if named(one.host, one.port) else "outside"
    return _of_other(one)


def _of_other(one: Attempt) -> Meaning:
    if one.family == socket.AF_UNIX:
        return "resolver" if _RESOLVERS.search(one.path) else "unix"
    return "kernel" if one.family in {0, _NETLINK} else "outside"


def _of_socket(one: Attempt) -> Meaning:
    """Judge a socket that goes nowhere yet: raw ones and foreign families are for reaching out."""
    if one.family == _NETLINK:
        return "kernel"
    known = one.family in {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}
    return "unix" if known and one.kind & _KIND != _RAW else "outside"


def loopback(host: str) -> bool:
    """Tell whether an address is this machine's loopback; an IPv4 address inside IPv6 counts as itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    inner = getattr(address, "ipv4_mapped", None)
    return (inner or address).is_loopback
