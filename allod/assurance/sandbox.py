"""Running what a model wrote: in a child without network, files, programs or time.

Code is run against tests, compiled only, or as SQL over a schema in memory (``querying``).

The child gives up what the embedded engine's gives up (``engines.llamacpp.sandbox``): a seccomp filter leaves
it no network, no process and no file to write; Landlock, where the kernel has it, no file to read but the
program's own; limits bound processor time, memory and what it may say. Where there is no filter nothing is
run. It is killed when the thread that started it ends, however that ends.

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
from typing import TYPE_CHECKING, Final, Literal

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
    """What the child is to do; ``word`` is what it says when all is well.

    Attributes:
        code: what a model wrote. word: 128 random bits, as text.
        cpu_s, memory_bytes: what the child may use.
        kind: run ``code`` and then ``tests``; or only compile it; or ask it of a database.
        tests: they raise where the code is wrong.
        language: of ``code``, for ``compile`` (``compiling.LANGUAGES``).
        schema: script of the database, for ``query``, and for ``compile`` of SQL.
        columns: names the rows must have, in order; empty for any. some: whether there must be a row.

    """

    code: str
    word: str
    cpu_s: int
    memory_bytes: int
    kind: Literal["tests", "compile", "query"] = "tests"
    tests: str = ""
    language: str = ""
    schema: str = ""
    columns: tuple[str, ...] = ()
    some: bool = False


NO_SANDBOX: Final = "no sandbox"
"""What a child says first that gave nothing up: it has run nothing."""
ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}


def command(descriptor: int, *, ready: bool = False) -> tuple[str, ...]:
    """Return how a child is started: it reads its order from standard input and says its line there.

    With ``ready`` it loads all it may need before it reads: for one that waits.
    """
    ahead = ("ready",) if ready else ()
    return (sys.executable, "-I", "-m", "allod.assurance.trial", str(descriptor), *ahead)


def unit_test(case: Case, answer: str, cpu_s: int = CPU_S) -> Verdict:
    """Run the answer's code and then the case's tests, which raise where it is wrong.

    Raises:
        Unavailable: this system gives no sandbox, so nothing was run.

    """
    code = code_of(answer)
    if len(code.encode()) > MAX_CODE_BYTES:
        return Verdict(ok=False, why=f"more than {MAX_CODE_BYTES} bytes of code")
    word = secrets.token_hex(16)
    said = run(Order(code=code, tests=case.tests or "", word=word, cpu_s=cpu_s, memory_bytes=MEMORY_BYTES))
    if said.startswith(NO_SANDBOX):
        raise Unavailable(
            "code is not run without a sandbox",
            said,
            "run the evaluation on Linux with seccomp, or leave the unit_test cases out",
            kind="failed",
        )
    if said == word:
        return Verdict(ok=True, why="the tests pass", read=code[:200])
    return Verdict(ok=False, why=said or "it ended before the tests did", read=code[:200])


def run(order: Order) -> str:
    """Start a child, hand it the order, and return the one line it says."""
    ours, theirs = os.pipe()
    child = subprocess.Popen(  # noqa: S603 (our own interpreter)
        command(theirs), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        pass_fds=(theirs,), env=ENVIRONMENT, start_new_session=True,
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
