"""Check the limits of the house on the tree as it stands; print every breach, exit 1 if there is one.

no function over 60 lines          no file over 500 lines
every public thing has a docstring domain imports nothing from outside but msgspec
no `global`                        importing any module opens no socket and writes no file
`import allod` under 150 ms        `allod up` imports no numpy, rich, jinja2 before it needs them
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_FUNCTION_LINES, MAX_FILE_LINES, MAX_IMPORT_MS = 60, 500, 150
PURE = ("domain", "routing", "metering")
PURE_MAY_IMPORT = {"msgspec", "allod", "__future__"}
COMPUTES = {"routing": {"numpy"}}
"""Libraries that only compute, by the pure room that may import them."""
LAZY = ("numpy", "rich", "jinja2", "huggingface_hub", "genai_prices", "psycopg", "xllamacpp")

_PROBE = """
import importlib, pkgutil, socket, sys, builtins, os
def refuse(*a, **k):
    raise RuntimeError("a module opened a socket or wrote a file while it was imported")
import allod
names = [m.name for m in pkgutil.walk_packages(allod.__path__, "allod.") if not m.name.endswith("__main__")]
real_open = builtins.open
def only_read(file, mode="r", *a, **k):
    if set(mode) & set("wax+"):
        refuse()
    return real_open(file, mode, *a, **k)
socket.socket, builtins.open = refuse, only_read
sys.dont_write_bytecode = True
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def source_files() -> list[Path]:
    """Return every Python file that is ours, tests and tools included."""
    folders = ("allod", "tests", "tools", "benchmarks", "conformance", "examples", "fuzz")
    return sorted(p for f in folders for p in (ROOT / f).rglob("*.py"))


def shape(path: Path) -> list[str]:
    """Return the breaches of one file: length, functions, docstrings, `global`, imports of pure rooms."""
    text = path.read_text()
    name = path.relative_to(ROOT)
    tree = ast.parse(text)
    out = []
    if text.count("\n") > MAX_FILE_LINES:
        out.append(f"{name}: {text.count(chr(10))} lines (at most {MAX_FILE_LINES})")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                out.append(f"{name}:{node.lineno} {node.name}: {lines} lines (at most {MAX_FUNCTION_LINES})")
        elif isinstance(node, ast.Global):
            out.append(f"{name}:{node.lineno}: `global`")
    if name.parts[0] == "allod":
        out += [f"{name}:{n.lineno} {n.name}: no docstring" for n in _bare(tree)]
        if name.parts[1] in PURE:
            out += _foreign(tree, str(name), COMPUTES.get(name.parts[1], set()))
    return out


def _bare(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    todo, out = [n for n in tree.body if isinstance(n, kinds)], []
    while todo:
        node = todo.pop()
        if node.name.startswith("_"):
            continue
        overload = any(getattr(d, "id", "") == "overload" for d in node.decorator_list)
        if ast.get_docstring(node) is None and not overload:
            out.append(node)
        if isinstance(node, ast.ClassDef):
            todo += [n for n in node.body if isinstance(n, kinds)]
    return out


def _foreign(tree: ast.Module, name: str, more: set[str]) -> list[str]:
    out = []
    for node in ast.walk(tree):
        roots = []
        if isinstance(node, ast.Import):
            roots = [a.name.split(".")[0] for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            roots = [node.module.split(".")[0]]
        bad = [r for r in roots if r not in PURE_MAY_IMPORT | more and r not in sys.stdlib_module_names]
        out += [f"{name}:{node.lineno}: imports {r}" for r in bad]
    return out


def _python(code: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False, timeout=120
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def imports() -> list[str]:
    """Return breaches that show only when the package is imported."""
    out = []
    code, text = _python(_PROBE)
    if code:
        out.append("importing every module: " + text.splitlines()[-1])
    timing = "import time; t=time.process_time(); import allod; print((time.process_time()-t)*1000)"
    best = min(float(_python(timing)[1]) for _ in range(3))
    if best > MAX_IMPORT_MS:
        out.append(f"import allod: {best:.0f} ms of CPU (at most {MAX_IMPORT_MS})")
    lazy = f"import sys, allod.gateway.server; print([m for m in {LAZY!r} if m in sys.modules])"
    code, text = _python(lazy)
    if code or text != "[]":
        out.append(f"allod up imports before it needs them: {text}")
    return out


def main() -> int:
    """Print every breach and return the exit status."""
    breaches = [b for path in source_files() for b in shape(path)] + imports()
    print("\n".join(breaches) or "limits: all kept")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
