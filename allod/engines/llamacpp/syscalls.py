"""System calls the sandbox names, by machine, and the filter program that refuses them.

The filter is classic BPF as the kernel's seccomp takes it: it sees the machine, the number and the first
arguments of a call, no memory behind pointers. It is a list of refusals, not of permissions: the engine and
the interpreter under it may compute, read what they hold, and answer on a unix socket; what opens a network,
starts a program, changes a file or reaches another process is refused with ``EPERM``.
"""

from __future__ import annotations

import os
import socket
from typing import Final

import msgspec

from allod.walls import bpf

ALLOW, ERRNO, KILL = bpf.ALLOW, bpf.ERRNO, bpf.KILL
"""Verdicts of the filter."""
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


def _verdict(keep_if: bytes) -> bytes:
    """Allow when the comparison before skips one step, refuse otherwise."""
    return keep_if + bpf.verdict(bpf.DENY) + bpf.verdict(bpf.ALLOW)


def _conditions(calls: dict[str, int], pid: int) -> bytes:
    """Refuse by argument: networks, processes, signals to and limits of others, files opened for writing."""
    unix = bpf.argument(0) + bpf.step(bpf.EQUAL, socket.AF_UNIX, 0, 3)
    stream = bpf.argument(1) + bpf.step(bpf.AND, 0xF)
    stream += _verdict(bpf.step(bpf.EQUAL, socket.SOCK_STREAM, 1, 0))
    out = bpf.only(calls["socket"], unix + stream)
    out += bpf.only(
        calls["socketpair"], bpf.argument(0) + _verdict(bpf.step(bpf.EQUAL, socket.AF_UNIX, 1, 0))
    )
    out += bpf.only(calls["clone"], bpf.argument(0) + _verdict(bpf.step(bpf.ANY_BIT, _CLONE_THREAD, 1, 0)))
    for name in ("kill", "tgkill"):
        out += bpf.only(calls[name], bpf.argument(0) + _verdict(bpf.step(bpf.EQUAL, pid, 1, 0)))
    own = bpf.argument(0) + bpf.step(bpf.EQUAL, pid, 2, 0) + bpf.step(bpf.EQUAL, 0, 1, 0)
    out += bpf.only(calls["prlimit64"], own + bpf.verdict(bpf.DENY) + bpf.verdict(bpf.ALLOW))
    for name, index in (("open", 1), ("openat", 2)):
        if name in calls:
            test = bpf.step(bpf.ANY_BIT, _WRITE_FLAGS, 0, 1)
            out += bpf.only(
                calls[name], bpf.argument(index) + test + bpf.verdict(bpf.DENY) + bpf.verdict(bpf.ALLOW)
            )
    return out


def program(machine: str, pid: int) -> bytes:
    """Build the filter for a machine and the process it will run in.

    Raises:
        KeyError: no call numbers are known for this machine.

    """
    known = MACHINES[machine]
    out = bpf.begin(known.audit)
    out += _conditions(known.calls, pid)
    for name, number in known.calls.items():
        if name not in _CONDITIONAL:
            out += bpf.only(number, bpf.verdict(bpf.ABSENT if name in _FALLS_BACK else bpf.DENY))
    return out + bpf.verdict(bpf.ALLOW)
