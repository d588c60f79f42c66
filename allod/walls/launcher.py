"""The inside of ``tracer.watch``: ``python -I -m allod.walls.launcher DESCRIPTOR SPECIFICATION``.

It makes the network, has one of its threads put the filter in force, hands the filter's listener out by the
other, and starts the program from the thread that is filtered: a filter belongs to the thread that took it
and to what that thread starts. Afterwards it says how the program ended and what the kernel counted.
"""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
from typing import Final

import msgspec

from allod.walls import bpf, namespace

MAX_MESSAGE_BYTES: Final = 1 << 20
_NOTIFIED: Final = ("connect", "sendmsg", "sendmmsg", "io_uring_setup")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to start, and how: in a network of its own, traced, or both."""

    argv: tuple[str, ...]
    namespace: bool
    trace: bool


class Begun(msgspec.Struct, frozen=True, kw_only=True, tag="begun"):
    """What could be done before the program is started: nothing said means done."""

    namespace: str
    trace: str


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """How the program ended: its status, negative for a signal, and the kernel's count of its network."""

    status: int
    v4: int
    v6: int


def program(known: bpf.Machine) -> bytes:
    """Build the filter that asks about each call that could reach somewhere.

    ``socket`` is asked about unless for unix sockets, ``sendto`` where it carries an address. A call in the
    numbering of another machine is refused as unknown: it could not be read.
    """
    calls, ask, allow = known.calls, bpf.verdict(bpf.NOTIFY), bpf.verdict(bpf.ALLOW)
    out = bpf.begin(known.audit, bpf.ABSENT)
    unix = bpf.argument(0) + bpf.step(bpf.EQUAL, socket.AF_UNIX, 0, 1)
    out += bpf.only(calls["socket"], unix + allow + ask)
    halves = bpf.argument(4) + bpf.step(bpf.EQUAL, 0, 0, 3)
    halves += bpf.argument(4, high=True) + bpf.step(bpf.EQUAL, 0, 0, 1)
    out += bpf.only(calls["sendto"], halves + allow + ask)
    for name in _NOTIFIED:
        out += bpf.only(calls[name], ask)
    return out + allow


def _enter(order: Order) -> str:
    if not order.namespace:
        return "not asked for"
    why_not = namespace.possible()  # tried in a child: half of it would leave no loopback
    if why_not:
        return why_not
    try:
        namespace.enter()
    except OSError as error:
        return error.strerror or str(error)
    return ""


class _Starter(threading.Thread):
    """The thread that is filtered: installs, waits for the word, starts the program and waits for its end."""

    def __init__(self, order: Order) -> None:
        super().__init__(daemon=True)
        self._order = order
        self.listener: queue.Queue[int | str] = queue.Queue()
        self.go = threading.Event()
        self.status = 127

    def run(self) -> None:
        self.listener.put(self._install())
        self.go.wait()
        try:
            process = subprocess.Popen(self._order.argv)  # noqa: S603 (what the caller of ``watch`` named)
        except OSError as error:
            sys.stderr.write(f"{self._order.argv[0]}: {error.strerror}\n")
            return
        self.status = process.wait()

    def _install(self) -> int | str:
        known = bpf.machine()
        if not self._order.trace:
            return "not asked for"
        if known is None:
            return "its system calls are not known for this machine"
        try:
            return bpf.install(known, program(known), bpf.LISTENER | bpf.SPECULATE)
        except OSError as error:
            return f"no listener for system calls: {error.strerror}"


def main(argv: list[str]) -> None:
    """Start what is ordered and report; ends with the status of the program."""
    order = msgspec.json.decode(argv[2], type=Order)
    with socket.socket(fileno=int(argv[1])) as channel:
        channel.set_inheritable(False)
        alone = _enter(order)
        starter = _Starter(order)
        starter.start()
        listener = starter.listener.get()
        trace, fds = ("", [listener]) if isinstance(listener, int) else (listener, [])
        socket.send_fds(channel, [msgspec.json.encode(Begun(namespace=alone, trace=trace))], fds)
        if (fds and channel.recv(16) != b"go") or (trace and alone):
            return  # nobody would see, and nothing would hold
        starter.go.set()
        starter.join()
        count = namespace.counted() if not alone else namespace.Count()
        channel.sendall(msgspec.json.encode(Ended(status=starter.status, v4=count.v4, v6=count.v6)))


if __name__ == "__main__":
    main(sys.argv)
