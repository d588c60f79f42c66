"""Classic BPF as the kernel's seccomp takes it: single steps, known machines, and putting it in force.

A program sees the machine, the number and the six arguments of a call, and no memory behind pointers
(``linux/seccomp.h``, ``struct seccomp_data``). Both machines known here are little endian.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final

import msgspec

ALLOW: Final = 0x7FFF0000
NOTIFY: Final = 0x7FC00000
ERRNO: Final = 0x00050000
KILL: Final = 0x80000000
DENY: Final = ERRNO | errno.EPERM
ABSENT: Final = ERRNO | errno.ENOSYS

LOAD: Final = 0x20  # a 32-bit word of the call's description
AND: Final = 0x54
EQUAL: Final = 0x15
AT_LEAST: Final = 0x35
ANY_BIT: Final = 0x45
RETURN: Final = 0x06
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16
_X32_BIT: Final = 0x40000000
_STEP_BYTES: Final = 8
_SET_FILTER: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
ALL_THREADS, SPECULATE, LISTENER = 1, 4, 8
"""Flags of the call ``seccomp`` (``SECCOMP_FILTER_FLAG_*``)."""


class Machine(msgspec.Struct, frozen=True):
    """One machine: its audit number, and the numbers of ``seccomp`` and of calls to do with networks."""

    audit: int
    seccomp: int
    calls: dict[str, int]


_SAME: Final = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "pidfd_getfd": 438}
"""Calls since Linux 5.1 have one number everywhere."""
MACHINES: Final[dict[str, Machine]] = {
    "x86_64": Machine(0xC000003E, 317, {
        "socket": 41, "connect": 42, "sendto": 44, "sendmsg": 46, "sendmmsg": 307, "setns": 308,
        "ptrace": 101, "process_vm_writev": 311, "bpf": 321, **_SAME,
    }),
    "aarch64": Machine(0xC00000B7, 277, {
        "socket": 198, "connect": 203, "sendto": 206, "sendmsg": 211, "sendmmsg": 269, "setns": 268,
        "ptrace": 117, "process_vm_writev": 271, "bpf": 280, **_SAME,
    }),
}  # fmt: skip


class Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def machine() -> Machine | None:
    """Return the machine this runs on, or None when its call numbers are not known here."""
    return MACHINES.get(platform.machine()) if platform.system() == "Linux" else None


def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Write one step."""
    return struct.pack("<HBBI", code, if_true, if_false, value)


def argument(index: int, *, high: bool = False) -> bytes:
    """Load the low (or high) half of an argument."""
    return step(LOAD, _ARGUMENTS + 8 * index + 4 * high)


def only(number: int, body: bytes) -> bytes:
    """Run ``body`` for one call number; it must return, the number is loaded before."""
    return step(EQUAL, number, 0, len(body) // _STEP_BYTES) + body


def verdict(value: int) -> bytes:
    """End with a verdict."""
    return step(RETURN, value)


def begin(audit: int, foreign: int = KILL) -> bytes:
    """Begin a program: give calls in another machine's numbering ``foreign``, then load the number."""
    out = step(LOAD, _MACHINE) + step(EQUAL, audit, 1, 0) + verdict(foreign) + step(LOAD, _NUMBER)
    if audit == MACHINES["x86_64"].audit:
        out += step(AT_LEAST, _X32_BIT, 0, 1) + verdict(foreign)
    return out


def no_new_privileges() -> bool:
    """Give up every gain of rights by starting a program; needed to put a filter in force."""
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) == 0


def install(known: Machine, steps: bytes, flags: int) -> int:
    """Put a program in force for good; returns a listener's descriptor with ``LISTENER``, else 0.

    Raises:
        OSError: the kernel or a filter above does not allow it.

    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not no_new_privileges():
        raise OSError(errno.EPERM, "no_new_privs")
    buffer = ctypes.create_string_buffer(steps, len(steps))
    program = Program(len(steps) // _STEP_BYTES, ctypes.cast(buffer, ctypes.c_void_p))
    done = int(
        libc.syscall(
            ctypes.c_long(known.seccomp),
            ctypes.c_long(_SET_FILTER),
            ctypes.c_long(flags),
            ctypes.byref(program),
        )
    )
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    if done > 0 and not flags & LISTENER:
        raise OSError(errno.ESRCH, f"thread {done} has filters of its own")
    return done
