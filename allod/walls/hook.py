"""Refusing, inside the interpreter, what Python code tries: an audit hook (PEP 578) on its socket events.

It sees every library written in Python, ours and others', whatever connector they think they have. It does
not see what C does by itself: the connections and look-ups of uvloop and of database drivers, nor a name that
``socket.connect`` resolves on its way. The kernel's wall (``network``) stands behind it.

A hook cannot be taken away again, so it is put up by a process that serves or runs one command, never by a
library or a test.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Container

LOG: Final = logging.getLogger("allod")
_TO_ADDRESS: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_LOOK_UPS: Final = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
_FAMILIES: Final = frozenset({-1, int(socket.AF_UNIX), int(socket.AF_INET), int(socket.AF_INET6)})
_KIND: Final = 0xF
_MAX_TOLD: Final = 100


class Hook:
    """Refuses what the rule does not allow, and says each address once in the log.

    Args:
        allow: the connector's rule: host (a name or an address) and port.
        resolves: tells whether a name may be looked up.
        listening: literal addresses that may be bound beside loopback.

    """

    def __init__(
        self,
        allow: Callable[[str, int], bool],
        resolves: Callable[[str], bool],
        *,
        listening: Container[str] = (),
    ) -> None:
        self._allow, self._resolves, self._listening = allow, resolves, listening
        self._told: set[str] = set()

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Take one event of the interpreter; raises PermissionError to refuse it."""
        if event[:7] != "socket.":
            return
        if event in _TO_ADDRESS:
            self._address(args[0], args[1])
        elif event in _LOOK_UPS:
            self._name(args[0])
        elif event == "socket.bind":
            self._bind(args[0], args[1])
        elif event == "socket.__new__":
            self._kind(args[1], args[2])

    def _address(self, sock: socket.socket, address: Any) -> None:
        if address is None or sock.family == socket.AF_UNIX:
            return
        if not isinstance(address, tuple) or not self._allow(str(address[0]), int(address[1])):
            self._refuse(f"a connection to {_written(address)}")

    def _name(self, host: Any) -> None:
        if host is None:
            return
        name = host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else str(host)
        if not _literal(name) and not self._resolves(name):
            self._refuse(f"looking up {name[:253]!r}")

    def _bind(self, sock: socket.socket, address: Any) -> None:
        if sock.family == socket.AF_UNIX or not isinstance(address, tuple):
            return
        host = str(address[0])
        if host not in self._listening and not self._allow(host, int(address[1])):
            self._refuse(f"binding {_written(address)}")

    def _kind(self, family: int, kind: int) -> None:
        streams = family in {-1, socket.AF_UNIX} or kind == -1 or kind & _KIND == socket.SOCK_STREAM
        if family not in _FAMILIES or not streams:
            self._refuse(f"a socket of family {family} and kind {kind & _KIND}")

    def _refuse(self, what: str) -> None:
        if what not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(what)
            LOG.error("air gap: refused %s", what)
        raise PermissionError(errno.EPERM, f"air gap: {what} is not allowed")


def _literal(name: str) -> bool:
    try:
        ipaddress.ip_address(name.split("%", 1)[0])
    except ValueError:
        return not name
    return True


def _written(address: Any) -> str:
    return (
        ":".join(str(part) for part in address[:2]) if isinstance(address, tuple) else type(address).__name__
    )


def put_up(hook: Hook) -> None:
    """Have the interpreter ask this hook from now on; it cannot be taken away."""
    sys.addaudithook(hook)
