"""What the child takes from itself before it loads a file: network, programs, other files, endless memory.

Order matters. The user namespace wants a single thread and clears the death signal, so it comes first; limits
and descriptors are prepared next; the filter comes last, because after it nothing of this can be done.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from allod.engines.llamacpp import landlock, syscalls
from allod.walls import bpf

if TYPE_CHECKING:
    from collections.abc import Iterable

Level = Literal["seccomp+netns", "seccomp", "none"]

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP = 1, 22
_SECCOMP_MODE_FILTER: Final = 2
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_OPEN_FILES: Final = 4_096


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> bool:
    """Ask to be killed when the thread that started us ends; False if ``parent`` is gone already.

    A change of credentials clears the request: call it again after ``unshare_network``.
    """
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


def unshare_network() -> bool:
    """Move into a network namespace of our own that holds nothing but a loopback that is down.

    Done through a user namespace, so no privilege is needed, and whatever privilege there was ends. Returns
    False where the kernel or the administrator does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    if _libc().unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        try:
            Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
        except OSError:
            break  # ids then show as nobody; rights to files are unchanged
    return True


def limit(memory_bytes: int, mapped_bytes: int) -> None:
    """Bound memory, descriptors and core dumps, and forbid growing any file.

    Args:
        memory_bytes: private memory: heap, caches, buffers (RLIMIT_DATA).
        mapped_bytes: files mapped beside it: the weights.

    """
    spaces = memory_bytes + mapped_bytes + (4 << 30)
    _lower(resource.RLIMIT_DATA, memory_bytes)
    _lower(resource.RLIMIT_AS, spaces)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _lower(resource.RLIMIT_FSIZE, 0)


def _lower(what: int, wanted: int) -> None:
    hard = resource.getrlimit(what)[1]
    value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(what, (value, value))


def filter_calls() -> bool:
    """Install the filter of ``syscalls``; False where the machine or the kernel has none."""
    try:
        steps = syscalls.program(platform.machine(), os.getpid())
    except KeyError:
        return False
    buffer = ctypes.create_string_buffer(steps, len(steps))
    program = bpf.Program(len(steps) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    return int(_libc().prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)) == 0


def close_doors(weights: Iterable[int], socket_folder: str, *, network_gone: bool) -> tuple[Level, bool]:
    """Restrict files and calls for good; return the level reached and whether Landlock is in force.

    A network namespace without a filter counts as nothing: the child could still start programs.
    """
    if not bpf.no_new_privileges():
        return "none", False
    files = landlock.restrict(weights, socket_folder)
    if not filter_calls():
        return "none", files
    return ("seccomp+netns" if network_gone else "seccomp"), files
