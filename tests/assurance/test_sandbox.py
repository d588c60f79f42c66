"""Code a model wrote is run where it can do no harm, and its verdict is that of the tests."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from allod.assurance.cases import Case
from allod.assurance.checkers import Verdict
from allod.assurance.sandbox import unit_test

pytestmark = pytest.mark.skipif(
    platform.system() != "Linux", reason="the sandbox is Linux's seccomp: nothing is run elsewhere"
)
TESTS = "assert add(2, 3) == 5\nassert add(-1, 1) == 0\n"


def tried(code: str, tests: str = TESTS, cpu_s: int = 10) -> Verdict:
    """Run code against tests."""
    return unit_test(Case(prompt="?", checker="unit_test", tests=tests), code, cpu_s)


def test_right_code_passes_and_wrong_code_is_told_where() -> None:
    right = tried("Sure:\n```python\ndef add(a, b):\n    return a + b\n```")
    assert right.ok, right.why
    wrong = tried("def add(a, b):\n    return a - b\n")
    assert (wrong.ok, wrong.why) == (False, "AssertionError in the tests, line 1")
    assert tried("def add(a, b):\n  return (a\n").why.startswith("SyntaxError in the code")
    assert not tried("").ok


@pytest.mark.parametrize("way", ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit"])
def test_leaving_early_is_no_success(way: str) -> None:
    assert not tried(f"{way}\n").ok
    assert not tried(f"def add(a, b):\n    {way}\n").ok


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        "import subprocess; subprocess.run(['/bin/true'], check=True)",
        "import os; os.fork()",
        "import os; os.kill(os.getppid(), 9)",
        "open('{there}/made', 'w').write('x')",
        "import os; os.remove('{there}/kept')",
        "import os; os.rename('{there}/kept', '{there}/moved')",
        "import os; os.symlink('{there}/kept', '{there}/link')",
        "import os; os.execv('/bin/true', ['true'])",
        "bytearray(2 << 30)",
    ],
)
def test_what_it_may_not_do_raises(attempt: str, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    attempt = attempt.replace("{there}", str(tmp_path))
    # were the attempt to succeed, the tests would pass and this would fail
    verdict = tried(f"def add(a, b):\n    return a + b\n{attempt}\n")
    assert not verdict.ok, attempt
    assert "in the code" in verdict.why
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept"]


def test_a_loop_ends_and_noise_is_not_kept() -> None:
    assert not tried("while True: pass", cpu_s=1).ok
    loud = tried("print('x' * 10_000_000)\ndef add(a, b): return a + b")
    assert loud.ok, loud.why


def test_a_message_carries_no_content() -> None:
    verdict = tried("raise ValueError(open('/etc/hostname').read())")
    assert verdict.why.split(" in ")[0] in {"ValueError", "PermissionError"}
    assert len(verdict.why) < 60
