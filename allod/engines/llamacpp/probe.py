"""Attempts the sandbox must refuse, made from inside it: the proof that it stands on this machine."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def _socket(family: int, kind: int = socket.SOCK_STREAM) -> Callable[[], object]:
    return lambda: socket.socket(family, kind).close()


def _reach_unix(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as ours:
        ours.connect(path)


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _trace(target: int) -> None:
    """Peek at a process that is not ours to trace: without a filter the kernel says there is no such one."""
    libc = ctypes.CDLL(None, use_errno=True)
    ctypes.set_errno(0)
    libc.ptrace(2, target, 0, 0)  # PTRACE_PEEKDATA
    if ctypes.get_errno() != errno.ESRCH:
        raise OSError(ctypes.get_errno(), "ptrace")


def _queue_signal(target: int) -> None:
    """Ask whether a signal could be queued for a process (number 0 is none)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.sigqueue(target, 0, None) < 0:
        raise OSError(ctypes.get_errno(), "sigqueue")


def _execute() -> None:
    """Start a program that does not exist: a filter refuses before the kernel has looked for it."""
    with suppress(FileNotFoundError):
        os.execv("/nonexistent", ["nonexistent"])  # noqa: S606 (that it cannot is the point)


def _ring() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(425), ctypes.c_long(4), ctypes.create_string_buffer(120)) < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return f"refused: {os.strerror(error.errno or 0)}"
    return "allowed"


def run(folder: str, outside: str) -> dict[str, str]:
    """Try everything once.

    Args:
        folder: the socket folder, where only a socket may be made.
        outside: a file that exists and is none of the engine's business.

    """
    pair = getattr(socket, "AF_NETLINK", 16)
    attempts: dict[str, Callable[[], object]] = {
        "socket-inet": _socket(socket.AF_INET),
        "socket-inet-datagram": _socket(socket.AF_INET, socket.SOCK_DGRAM),
        "socket-inet6": _socket(socket.AF_INET6),
        "socket-netlink": _socket(pair, socket.SOCK_RAW),
        "socket-packet": _socket(getattr(socket, "AF_PACKET", 17), socket.SOCK_RAW),
        "socket-vsock": _socket(getattr(socket, "AF_VSOCK", 40)),
        "unix-datagram": _socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        "unix-connect": lambda: _reach_unix(outside),
        "io-uring": _ring,
        "fork": _fork,
        "execute": _execute,
        "read-parent-environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "trace-parent": lambda: _trace(os.getppid()),
        "signal-parent": lambda: os.kill(os.getppid(), 0),
        "queue-signal-parent": lambda: _queue_signal(os.getppid()),
        "limit-parent": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CORE),
        "write-file": lambda: Path(folder, "written").write_bytes(b"x"),
        "remove-file": lambda: Path(outside).unlink(),
        "read-outside": lambda: Path(outside).read_bytes(),
    }
    return {name: _outcome(attempt) for name, attempt in attempts.items()}
