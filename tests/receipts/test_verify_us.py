"""The shipped example verifies by the page's own script, which knows nothing of us, and changes are found."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from allod.receipts.cose import verify_statement
from allod.receipts.notes import parse_vkey
from allod.receipts.tlog_policy import parse_policy
from allod.receipts.verify import Opening, verify

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/verify"
SCRIPT = EXAMPLE / "verify_us.py"
ALONE = "print('allod' in sys.modules)"


def holds(folder: Path) -> bool:
    before, said = sys.argv, io.StringIO()
    sys.argv = ["verify_us.py", str(folder)]
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(str(SCRIPT))
    except Exception:  # noqa: BLE001 (whatever it is, it did not verify)
        return False
    finally:
        sys.argv = before
    return "hold" in said.getvalue()


def test_the_script_is_alone_short_and_on_the_page() -> None:
    text = SCRIPT.read_text()
    done = subprocess.run(
        [sys.executable, "-c", f"import runpy, sys; runpy.run_path({str(SCRIPT)!r}); {ALONE}"],
        capture_output=True, text=True, timeout=60, check=True, cwd=ROOT / "docs",
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "False"
    tree, said = ast.parse(text), set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            said |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = [line for n, line in enumerate(text.splitlines(), 1) if n not in said]
    assert len([line for line in lines if line.strip() and not line.lstrip().startswith("#")]) <= 60
    assert text.rstrip("\n") in (ROOT / "docs/verify-us.md").read_text()


CHANGES = [
    ("receipt.json", rb"answered", b"refused"),
    ("receipt.json", rb"index 18", b"index 17"),
    ("receipt.json", rb"ward-llm", b"cloud-llm"),
    ("receipt.json", rb"\\n42\\n", rb"\\n43\\n"),
    ("request.json", rb"20 mg", b"25 mg"),
    ("response.json", rb"20 mg", b"25 mg"),
    ("salts.json", rb": .[0-9a-f]", b': "x'),
    ("policy", rb"witness university[^\n]*\n", b""),
    ("policy", rb"log [^\n]*\n", b"log allod/0123456789abcdef+135c32b3+AXsv\n"),
    ("log/checkpoint", rb"\n42\n", b"\n41\n"),
    ("log/checkpoint", rb"\n\n.*", b"\n\n"),
    ("log/tile/entries/000.p/42", rb"answered", b"answer3d"),
    ("log/tile/entries/000.p/42", rb"\Z", b"\0\1x"),
]


@pytest.mark.parametrize(("name", "was", "then"), CHANGES)
def test_a_change_is_found_by_the_script(tmp_path: Path, name: str, was: bytes, then: bytes) -> None:
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLE, folder)
    assert holds(folder)
    whole = (folder / name).read_bytes()
    bent = re.sub(was, lambda _: then, whole, count=1, flags=re.DOTALL)
    assert bent != whole
    (folder / name).write_bytes(bent)
    assert not holds(folder)


def test_ours_verifies_the_example_with_its_policy() -> None:
    policy = parse_policy((EXAMPLE / "policy").read_bytes())
    vkey = (EXAMPLE / "key").read_text().strip()
    salts = json.loads((EXAMPLE / "salts.json").read_text())
    opened = {
        name: Opening(body=(EXAMPLE / f"{name}.json").read_bytes(), salt=bytes.fromhex(salts[name]))
        for name in ("request", "response")
    }
    done = verify((EXAMPLE / "receipt.json").read_bytes(), vkey, policy=policy, **opened)
    assert done.ok, [step for step in done.steps if not step.ok]
    said = verify_statement((EXAMPLE / "receipt.cose").read_bytes(), parse_vkey(vkey))
    assert said.leaf == (EXAMPLE / "leaf.json").read_bytes()
    assert policy.logs[0].vkey() == vkey
