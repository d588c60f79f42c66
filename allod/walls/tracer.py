"""Seeing every attempt of a process tree to reach somewhere: seccomp's user notification (Linux 5.5).

The kernel stops each call the filter asks about, wherever in the tree it is made, and tells a listener
outside; that reads the address out of the caller's memory, writes it down and lets the call go on. It needs
no right but to look at processes of one's own, no program but Python, and sees calls made by C as well as by
Python.

It is a watch, not a wall: between the look and the call a hostile program could change the address. The wall
beside it is the network of nothing but loopback; where there is none, calls to elsewhere are refused here.
A call that another filter of the watched program refuses first (as the embedded engine's does) is not seen:
it did not get as far as the network either.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from allod.walls import bpf
from allod.walls.attempts import NOWHERE, UNREADABLE, Address, Attempt, decode, loopback
from allod.walls.launcher import MAX_MESSAGE_BYTES, Begun, Ended, Order
from allod.walls.namespace import Count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_RECEIVE, _ANSWER, _STILL = 0xC0502100, 0xC0182101, 0x40082102
_NOTICE: Final = struct.Struct("=QIIiIQ6Q")
_REPLY: Final = struct.Struct("=QqiI")
_GO_ON: Final = 1
_HEAD: Final = struct.Struct("=QII QQ QQ iI")  # struct msghdr
_MANY_BYTES: Final = 64  # struct mmsghdr
_MAX_ADDRESS: Final = 128
_MAX_MESSAGES: Final = 1024
_MAX_KINDS: Final = 4096
_PROGRAM: Final = 160
START_S: Final = 30.0


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a program from its start to its end.

    Attributes:
        status: its exit status, negative for a signal; None when it was ended (``timeout_s``) or not started.
        namespace: why it did not run in a network of nothing but loopback; empty when it did.
        trace: why its calls were not seen; empty when they were.
        attempts: each attempt once, in the order of their first times.
        count: the kernel's own count of ways that did not exist, or None without a network of its own.
        lost: attempts beyond what is remembered; any make the list incomplete.

    """

    status: int | None
    namespace: str
    trace: str
    attempts: tuple[Attempt, ...]
    count: Count | None
    lost: int = 0


class Listener(threading.Thread):
    """Hears the calls of a filter until nobody is under it any more."""

    def __init__(self, fd: int, *, refuse: bool) -> None:
        super().__init__(daemon=True)
        self._fd, self._refuse = fd, refuse
        machine = bpf.machine()
        self._names = {number: name for name, number in machine.calls.items()} if machine else {}
        self._seen: dict[tuple[str, str, int, str, int, str, int], list[int]] = {}
        self.lost = 0

    def run(self) -> None:
        """Answer until the last watched process is gone."""
        waiting = select.poll()
        waiting.register(self._fd, select.POLLIN)
        while True:
            for _, events in waiting.poll():
                if events & select.POLLIN:
                    self._one()
                elif events & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                    os.close(self._fd)
                    return

    def attempts(self) -> tuple[Attempt, ...]:
        """Return what was seen so far."""
        return tuple(
            Attempt(
                call=c, program=p, family=f, host=h, port=port, path=path, kind=kind, pid=pid, times=times
            )
            for (c, p, f, h, port, path, kind), (pid, times) in tuple(self._seen.items())
        )

    def _one(self) -> None:
        notice = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(self._fd, _RECEIVE, notice)
        except OSError:
            return  # the caller is gone
        number, pid, _, call, _, _, *arguments = _NOTICE.unpack(notice)
        name = self._names.get(call, f"call {call}")
        refusal = self._look(name, pid, arguments)
        with suppress(OSError):
            fcntl.ioctl(self._fd, _STILL, struct.pack("=Q", number))
            flags = 0 if refusal else _GO_ON
            fcntl.ioctl(self._fd, _ANSWER, bytearray(_REPLY.pack(number, 0, -refusal, flags)))

    def _look(self, name: str, pid: int, arguments: list[int]) -> int:
        """Write a call down; returns the error to refuse it with, or 0."""
        if name == "socket":
            self._note(name, pid, Address(family=arguments[0] & 0xFFFFFFFF), kind=arguments[1] & 0xF)
            return 0
        if name == "io_uring_setup":
            self._note(name, pid, Address(family=0))
            return errno.ENOSYS
        try:
            found = _addresses(name, pid, arguments)
        except (OSError, struct.error):
            found = [NOWHERE]
        for address in found:
            self._note(name, pid, address)
        return errno.ENETUNREACH if self._refuse and any(map(_leaves, found)) else 0

    def _note(self, name: str, pid: int, address: Address, *, kind: int = 0) -> None:
        key = (name, self._program(pid), address.family, address.host, address.port, address.path, kind)
        seen = self._seen.get(key)
        if seen is not None:
            seen[1] += 1
        elif len(self._seen) < _MAX_KINDS:
            self._seen[key] = [pid, 1]
        else:
            self.lost += 1

    def _program(self, pid: int) -> str:
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            raw = b""
        text = " ".join(part.decode("utf-8", "replace") for part in raw.split(b"\0") if part)
        return "".join(char if char.isprintable() else "?" for char in text)[:_PROGRAM] or "?"


def _leaves(address: Address) -> bool:
    if address.family in {socket.AF_INET, socket.AF_INET6}:
        return not loopback(address.host)
    return address.family == UNREADABLE


def _addresses(name: str, pid: int, arguments: list[int]) -> list[Address]:
    """Read the addresses of a call out of its caller's memory (raises OSError, struct.error)."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 (unbuffered)

        def read(at: int, size: int) -> bytes:
            return os.pread(memory.fileno(), size, at)

        if name == "connect":
            return [decode(read(arguments[1], min(arguments[2] & 0xFFFFFFFF, _MAX_ADDRESS)))]
        if name == "sendto":
            return [decode(read(arguments[4], min(arguments[5] & 0xFFFFFFFF, _MAX_ADDRESS)))]
        count = 1 if name == "sendmsg" else min(arguments[2] & 0xFFFFFFFF, _MAX_MESSAGES)
        out = []
        for n in range(count):
            at, size, *_ = _HEAD.unpack(read(arguments[1] + n * _MANY_BYTES, _HEAD.size))
            if at:
                out.append(decode(read(at, min(size, _MAX_ADDRESS))))
        return out


def watch(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    namespace: bool = True,
    trace: bool = True,
    timeout_s: float = 120.0,
    heard: Callable[[bytes], None] | None = None,
    errors: int | None = None,
) -> Watched:
    """Run a program to its end in a network of nothing but loopback, and see what it and its children try.

    Args:
        argv: the program; its standard input is empty.
        env: its environment; None passes ours on.
        namespace, trace: what is wanted; what the system does not allow is said in the result. Without a
            namespace, calls to elsewhere than loopback are refused by the tracer. With neither the program
            is not started.
        timeout_s: after so many seconds its whole process group is killed.
        heard: told each line of its standard output.
        errors: a descriptor for its standard error; None discards it.

    Raises:
        OSError: the watch could not be begun at all.

    """
    ours, theirs = socket.socketpair()
    order = Order(argv=tuple(argv), namespace=namespace, trace=trace)
    with ours, theirs:
        process = subprocess.Popen(  # noqa: S603 (this very interpreter)
            [sys.executable, "-I", "-m", "allod.walls.launcher", str(theirs.fileno()),
             msgspec.json.encode(order).decode()],
            pass_fds=(theirs.fileno(),), env=None if env is None else dict(env), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if errors is None else errors,
        )  # fmt: skip
        theirs.close()
        timer = threading.Timer(timeout_s, _end, [process])
        timer.start()
        try:
            return _attend(process, ours, heard)
        finally:
            timer.cancel()
            _end(process)
            process.wait()


def _attend(
    process: subprocess.Popen[bytes], channel: socket.socket, heard: Callable[[bytes], None] | None
) -> Watched:
    channel.settimeout(START_S)
    said, fds, _, _ = socket.recv_fds(channel, MAX_MESSAGE_BYTES, 1)
    if not said:
        raise OSError(errno.EIO, "the watched program was not started")
    begun = msgspec.json.decode(said, type=Begun)
    listener = None
    if fds:
        listener = Listener(fds[0], refuse=bool(begun.namespace))
        listener.start()
        channel.sendall(b"go")
    reader = threading.Thread(target=_read, args=(process, heard), daemon=True)
    reader.start()
    channel.settimeout(None)
    said = channel.recv(MAX_MESSAGE_BYTES)
    ended = msgspec.json.decode(said, type=Ended) if said else None
    _end(process)  # whatever the program left running would keep reader and listener waiting
    process.wait()
    reader.join(START_S)
    if listener is not None:
        listener.join(START_S)
    count = None if ended is None or begun.namespace else Count(ended.v4, ended.v6)
    return Watched(
        status=None if ended is None else ended.status,
        namespace=begun.namespace,
        trace=begun.trace,
        attempts=() if listener is None else listener.attempts(),
        count=count,
        lost=0 if listener is None else listener.lost,
    )


def _read(process: subprocess.Popen[bytes], heard: Callable[[bytes], None] | None) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if heard is not None:
                heard(line)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the watched program's process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
