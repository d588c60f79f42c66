"""Run public conformance suites against a real gateway: ``make conformance``.

Protocol rows run against the scripted model that obeys tools and schemas, constrained rows also against the
shipped model in the embedded engine. The tools live in a virtual environment of their own,
``.conformance/venv``; the report is ``.conformance/report.json``. Exit 1 if any row failed.

``OPENAI_SPEC`` may name a newer copy of OpenAI's own OpenAPI document (JSON); without it the copy that comes
with llm-comply is used.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import suites
from suites import Row, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
WORK = HERE.parent / ".conformance"
TOOLS = ("llm-comply==0.5.0", "schemathesis==4.32.5", "jsonschema==4.26.0")
START_S = 60
OBEY, REFERENCE = "obey", "reference"
THINKING_ROWS = {
    "openai-chat": ("gpt-5-scripted", "chat-reasoning-summary"),
    "open-responses": ("gpt-5-scripted", "reasoning-summary"),
    "anthropic": ("claude-4-scripted", "anth-thinking-display"),
}


def say(text: str = "") -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def tools() -> Path:
    """Return the folder of the tools' commands, installing what is missing."""
    WORK.mkdir(exist_ok=True)
    (WORK / ".gitignore").write_text("*\n")
    home, stamp = WORK / "venv", WORK / "venv" / "tools.txt"
    if not stamp.exists() or stamp.read_text() != "\n".join(TOOLS):
        say(f"installing {', '.join(TOOLS)} into {home}")
        venv.create(home, with_pip=True, clear=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, *TOOLS], check=True)
        stamp.write_text("\n".join(TOOLS))
    return home / "bin"


@contextlib.contextmanager
def gateway() -> Iterator[Target]:
    """Start ``allod up`` on a free port in a home of its own; stop it at the end."""
    allod = str(Path(sys.executable).parent / "allod")
    with tempfile.TemporaryDirectory(prefix="allod-conformance-") as home:
        config = (HERE / "allod.toml").read_text()
        (Path(home) / "allod.toml").write_text(config)
        environment = {**os.environ, "ALLOD_HOME": home}
        made = subprocess.run(
            [allod, "keys", "create", "suites", "--json"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        with (
            open(Path(home) / "up.err", "w+") as errors,  # noqa: PTH123 (a stream for the child)
            subprocess.Popen(
                [allod, "up", "--port", "0", "--json"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as child,
        ):
            try:
                yield Target(url=_url(child, errors), key=json.loads(made.stdout)["key"])
            finally:
                child.terminate()


def _url(child: subprocess.Popen[str], errors: Any) -> str:
    """Read what ``allod up --json`` says when it listens."""
    told, until = "", time.monotonic() + START_S
    assert child.stdout is not None
    while time.monotonic() < until:
        line = child.stdout.readline()
        told += line
        with contextlib.suppress(ValueError):
            url: str = json.loads(told)["url"]
            return url
        if not line:
            break
    errors.seek(0)
    raise SystemExit(f"the gateway did not start:\n{errors.read()[-2000:]}")


def own_document(target: Target) -> dict[str, Any]:
    """Fetch the gateway's own description."""
    with urlopen(Request(f"{target.url}/openapi.json"), timeout=10) as answer:  # noqa: S310 (our own server)
        found: dict[str, Any] = json.load(answer)
        return found


def official(bin_folder: Path, name: str) -> dict[str, Any]:
    """Read an operator's document out of llm-comply, or the one ``OPENAI_SPEC`` names."""
    named = os.environ.get("OPENAI_SPEC") if name == "openai_chat" else None
    if named:
        path = Path(named)
    else:
        path = next((bin_folder.parent / "lib").glob(f"python*/site-packages/llm_comply/specs/{name}.json"))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def rows(bin_folder: Path, target: Target, wanted: frozenset[str]) -> Iterator[Row]:
    """Run everything, suite by suite."""
    for api in THINKING_ROWS if "llm-comply" in wanted else ():
        yield from (row for row in suites.llm_comply(bin_folder, target, api, OBEY) if not _again(api, row))
        model, test = THINKING_ROWS[api]
        yield from suites.llm_comply(bin_folder, target, api, model, (test,))
    if "compatcanary" in wanted:
        yield from suites.compatcanary(target, OBEY)
        yield from suites.compatcanary(target, REFERENCE)
    if "schemathesis" in wanted:
        yield from suites.schemathesis(
            bin_folder, WORK, target, name="allod", document=own_document(target), paths=suites.OURS,
            model=OBEY, base="", checks=suites.STRICT,
        )  # fmt: skip
        yield from suites.schemathesis(
            bin_folder, WORK, target, name="openai", document=official(bin_folder, "openai_chat"),
            paths=suites.OPENAI, model=OBEY, base="/v1", checks=suites.LENIENT,
        )  # fmt: skip
        yield from suites.schemathesis(
            bin_folder, WORK, target, name="anthropic", document=official(bin_folder, "anthropic"),
            paths=suites.ANTHROPIC, model=OBEY, base="", checks=suites.LENIENT,
        )  # fmt: skip


def _again(api: str, row: Row) -> bool:
    """Tell whether a skipped row is run a second time behind a name the suite knows."""
    return row.status == "skipped" and row.test == THINKING_ROWS[api][1]


def report(found: list[Row], started: datetime) -> int:
    """Print the counts and every row that did not pass, write the report, return the exit code."""
    say()
    say(f"{'suite':<28}{'deployment':<20}{'passed':>8}{'failed':>8}{'skipped':>9}")
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row in found:
        counts.setdefault((row.suite, row.deployment), Counter())[row.status] += 1
    for (suite, deployment), count in counts.items():
        say(f"{suite:<28}{deployment:<20}{count['passed']:>8}{count['failed']:>8}{count['skipped']:>9}")
    total = Counter(row.status for row in found)
    say(f"{'total':<48}{total['passed']:>8}{total['failed']:>8}{total['skipped']:>9}")
    for row in found:
        if row.status != "passed":
            say(f"{row.status}: {row.suite} / {row.deployment} / {row.test}: {row.detail}")
    path = WORK / "report.json"
    body = {
        "started": started.isoformat(timespec="milliseconds"),
        "tools": [*TOOLS, suites.COMPATCANARY],
        "counts": dict(total),
        "rows": [row.plain() for row in found],
    }
    path.write_text(json.dumps(body, indent=1) + "\n")
    say(f"report: {path}")
    return 1 if total["failed"] or not total["passed"] else 0


def main() -> int:
    """Run."""
    everything = ("llm-comply", "compatcanary", "schemathesis")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("suites", nargs="*", help=f"only these of: {', '.join(everything)}")
    wanted = frozenset(parser.parse_args().suites or everything)
    if not wanted <= set(everything):
        parser.error(f"unknown suite; known: {', '.join(everything)}")
    started, bin_folder = datetime.now(UTC), tools()
    found: list[Row] = []
    with gateway() as target:
        say(f"gateway at {target.url}")
        for row in rows(bin_folder, target, wanted):
            say(f"  {row.status:<8}{row.suite} / {row.deployment} / {row.test}")
            found.append(row)
    return report(found, started)


if __name__ == "__main__":
    sys.exit(main())
