"""Running code a model wrote against a case's tests: in a child without network, files, programs or time.

The child gives up what the embedded engine's gives up (``engines.llamacpp.sandbox``): a seccomp filter leaves
it no network, no process and no file to write; Landlock, where the kernel has it, no file to read but the
program's own; limits bound processor time, memory and what it may say. Where there is no filter nothing is
run.

Candidate and tests share one interpreter. Code that attacks its own tests there (an object equal to
everything, a patched ``assert``) can forge a verdict; it cannot leave the child. Leaving early, by exit or
signal, is a failure: only the last line of the tests being reached counts.
"""

from __future__ import annotations

import os
import secrets
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

import msgspec

from allod.assurance.checkers import Verdict, code_of
from allod.domain.errors import Unavailable

if TYPE_CHECKING:
    from allod.assurance.cases import Case

CPU_S: Final = 10
WALL_S: Final = 20.0
MEMORY_BYTES: Final = 512 << 20
MAX_CODE_BYTES: Final = 256 << 10
MAX_SAID_BYTES: Final = 4096


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is to run; ``word`` is what it says when the tests were passed."""

    code: str
    tests: str
    word: str
    cpu_s: int
    memory_bytes: int


def unit_test(case: Case, answer: str, cpu_s: int = CPU_S) -> Verdict:
    """Run the answer's code and then the case's tests, which raise where it is wrong.

    Raises:
        Unavailable: this system gives no sandbox, so nothing was run.

    """
    code = code_of(answer)
    if len(code.encode()) > MAX_CODE_BYTES:
        return Verdict(ok=False, why=f"more than {MAX_CODE_BYTES} bytes of code")
    word = secrets.token_hex(16)
    said = _run(Order(code=code, tests=case.tests or "", word=word, cpu_s=cpu_s, memory_bytes=MEMORY_BYTES))
    if said.startswith("no sandbox"):
        raise Unavailable(
            "code is not run without a sandbox",
            said,
            "run the evaluation on Linux with seccomp, or leave the unit_test cases out",
            kind="failed",
        )
    if said == word:
        return Verdict(ok=True, why="the tests pass", read=code[:200])
    return Verdict(ok=False, why=said or "it ended before the tests did", read=code[:200])


def _run(order: Order) -> str:
    """Start a child, hand it the order, and return the one line it says."""
    ours, theirs = os.pipe()
    argv = (sys.executable, "-I", "-m", "allod.assurance.trial", str(theirs))
    child = subprocess.Popen(  # noqa: S603 (our own interpreter)
        argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        pass_fds=(theirs,), env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    assert child.stdin is not None
    try:
        try:
            child.stdin.write(msgspec.json.encode(order))
            child.stdin.close()
        except OSError:
            return "the child ended before it began"
        return _line(ours, time.monotonic() + WALL_S)
    finally:
        child.kill()
        child.wait()
        os.close(ours)


def _line(fd: int, until: float) -> str:
    """Read what is said, up to the end of the pipe, a size or a time."""
    said = b""
    while len(said) < MAX_SAID_BYTES:
        left = until - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            return f"it took more than {WALL_S:g} s"
        piece = os.read(fd, MAX_SAID_BYTES)
        if not piece:
            break
        said += piece
    return said.decode("utf-8", "replace").strip()
