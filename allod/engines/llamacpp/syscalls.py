"""System calls the sandbox names, by machine, and the filter program that refuses them.

The filter is classic BPF as the kernel's seccomp takes it: it sees the machine, the number and the first
arguments of a call, no memory behind pointers. It is a list of refusals, not of permissions: the engine and
the interpreter under it may compute, read what they hold, and answer on a unix socket; what opens a network,
starts a program, changes a file or reaches another process is refused with ``EPERM``.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Final

import msgspec

ALLOW: Final = 0x7FFF0000
KILL: Final = 0x80000000
ERRNO: Final = 0x00050000
_DENY: Final = ERRNO | errno.EPERM
_ABSENT: Final = ERRNO | errno.ENOSYS
"""For calls with arguments behind pointers and an older sibling, to which the caller then falls back."""

_LOAD: Final = 0x20  # a 32-bit word of the call's description
_AND: Final = 0x54
_EQUAL: Final = 0x15
_AT_LEAST: Final = 0x35
_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16
_X32_BIT: Final = 0x40000000
_CLONE_THREAD: Final = 0x00010000
_WRITE_FLAGS: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Machine(msgspec.Struct, frozen=True):
    """One machine: its audit number and its call numbers by name (a name it does not have is absent)."""

    audit: int
    calls: dict[str, int]


_NEWER: Final = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_open": 434, "clone3": 435, "openat2": 437, "pidfd_getfd": 438, "process_madvise": 440,
    "mount_setattr": 442, "fchmodat2": 452,
}  # fmt: skip
"""Calls since Linux 5.1 have one number everywhere."""

_X86_64: Final = {
    "open": 2, "socket": 41, "connect": 42, "socketpair": 53, "clone": 56, "fork": 57, "vfork": 58,
    "execve": 59, "kill": 62, "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84,
    "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91, "chown": 92,
    "fchown": 93, "lchown": 94, "ptrace": 101, "syslog": 103, "rt_sigqueueinfo": 129, "mknod": 133,
    "personality": 135, "modify_ldt": 154, "pivot_root": 155, "adjtimex": 159, "chroot": 161, "acct": 163,
    "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169,
    "sethostname": 170, "iopl": 172, "ioperm": 173, "init_module": 175, "delete_module": 176, "quotactl": 179,
    "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "tkill": 200, "clock_settime": 227, "tgkill": 234,
    "utimes": 235, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "openat": 257,
    "mkdirat": 258, "mknodat": 259, "fchownat": 260, "unlinkat": 263, "renameat": 264, "linkat": 265,
    "symlinkat": 266, "fchmodat": 268, "unshare": 272, "utimensat": 280, "rt_tgsigqueueinfo": 297,
    "perf_event_open": 298, "prlimit64": 302, "name_to_handle_at": 303, "open_by_handle_at": 304,
    "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
    "finit_module": 313, "renameat2": 316, "kexec_file_load": 320, "bpf": 321, "execveat": 322,
    "userfaultfd": 323, **_NEWER,
}  # fmt: skip

_AARCH64: Final = {
    "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "mknodat": 33, "mkdirat": 34, "unlinkat": 35,
    "symlinkat": 36, "linkat": 37, "renameat": 38, "umount2": 39, "mount": 40, "pivot_root": 41,
    "truncate": 45, "ftruncate": 46, "chroot": 51, "fchmod": 52, "fchmodat": 53, "fchownat": 54,
    "fchown": 55, "openat": 56, "quotactl": 60, "utimensat": 88, "acct": 89, "personality": 92,
    "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106, "clock_settime": 112,
    "syslog": 116, "ptrace": 117, "kill": 129, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138,
    "reboot": 142, "sethostname": 161, "settimeofday": 170, "adjtimex": 171, "socket": 198, "socketpair": 199,
    "connect": 203, "add_key": 217, "request_key": 218, "keyctl": 219, "clone": 220, "execve": 221,
    "swapon": 224, "swapoff": 225, "rt_tgsigqueueinfo": 240, "perf_event_open": 241,
    "prlimit64": 261, "name_to_handle_at": 264, "open_by_handle_at": 265, "setns": 268,
    "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
    "finit_module": 273, "renameat2": 276, "bpf": 280, "execveat": 281, "userfaultfd": 282,
    "kexec_file_load": 294, **_NEWER,
}  # fmt: skip

MACHINES: Final[dict[str, Machine]] = {
    "x86_64": Machine(0xC000003E, _X86_64),
    "aarch64": Machine(0xC00000B7, _AARCH64),
}
_CONDITIONAL: Final = frozenset(
    {"socket", "socketpair", "clone", "kill", "tgkill", "prlimit64", "open", "openat"}
)
_FALLS_BACK: Final = frozenset({"clone3", "openat2"})


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _argument(index: int) -> bytes:
    """Load the low half of an argument (both machines are little endian)."""
    return _step(_LOAD, _ARGUMENTS + 8 * index)


def _unless(number: int, body: bytes) -> bytes:
    """Run ``body`` for one call number only; the number is loaded before and after."""
    return _step(_EQUAL, number, 0, len(body) // 8) + body


def _verdict(keep_if: bytes) -> bytes:
    """Allow when the comparison before skips one step, refuse otherwise."""
    return keep_if + _step(_RETURN, _DENY) + _step(_RETURN, ALLOW)


def _conditions(calls: dict[str, int], pid: int) -> bytes:
    """Refuse by argument: networks, processes, signals to and limits of others, files opened for writing."""
    unix = _argument(0) + _step(_EQUAL, socket.AF_UNIX, 0, 3)
    stream = _argument(1) + _step(_AND, 0xF)
    out = _unless(calls["socket"], unix + stream + _verdict(_step(_EQUAL, socket.SOCK_STREAM, 1, 0)))
    out += _unless(calls["socketpair"], _argument(0) + _verdict(_step(_EQUAL, socket.AF_UNIX, 1, 0)))
    out += _unless(calls["clone"], _argument(0) + _verdict(_step(_ANY_BIT, _CLONE_THREAD, 1, 0)))
    for name in ("kill", "tgkill"):
        out += _unless(calls[name], _argument(0) + _verdict(_step(_EQUAL, pid, 1, 0)))
    own = _argument(0) + _step(_EQUAL, pid, 2, 0) + _step(_EQUAL, 0, 1, 0)
    out += _unless(calls["prlimit64"], own + _step(_RETURN, _DENY) + _step(_RETURN, ALLOW))
    for name, index in (("open", 1), ("openat", 2)):
        if name in calls:
            test = _step(_ANY_BIT, _WRITE_FLAGS, 0, 1)
            out += _unless(
                calls[name], _argument(index) + test + _step(_RETURN, _DENY) + _step(_RETURN, ALLOW)
            )
    return out


def program(machine: str, pid: int) -> bytes:
    """Build the filter for a machine and the process it will run in.

    Raises:
        KeyError: no call numbers are known for this machine.

    """
    known = MACHINES[machine]
    out = _step(_LOAD, _MACHINE) + _step(_EQUAL, known.audit, 1, 0) + _step(_RETURN, KILL)
    out += _step(_LOAD, _NUMBER)
    if machine == "x86_64":
        out += _step(_AT_LEAST, _X32_BIT, 0, 1) + _step(_RETURN, KILL)
    out += _conditions(known.calls, pid)
    for name, number in known.calls.items():
        if name not in _CONDITIONAL:
            out += _unless(number, _step(_RETURN, _ABSENT if name in _FALLS_BACK else _DENY))
    return out + _step(_RETURN, ALLOW)
