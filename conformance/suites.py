"""The suites, each run as its users run it, and what they say as rows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import spec

COMPATCANARY = "compatcanary@0.2.2"
EXAMPLES = 40
TIMEOUT_S = 600
OURS = {
    "/v1/chat/completions": ("post",),
    "/v1/responses": ("post",),
    "/v1/messages": ("post",),
    "/v1/messages/count_tokens": ("post",),
    "/v1/embeddings": ("post",),
    "/v1/models": ("get",),
    "/v1/models/{model}": ("get",),
}
OPENAI = {
    "/chat/completions": ("post",),
    "/responses": ("post",),
    "/embeddings": ("post",),
    "/models": ("get",),
    "/models/{model}": ("get",),
}
ANTHROPIC = {
    "/v1/messages": ("post",),
    "/v1/messages/count_tokens": ("post",),
    "/v1/models": ("get",),
    "/v1/models/{model_id}": ("get",),
}
STRICT = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,ignored_auth"
)
LENIENT = "not_a_server_error,content_type_conformance,response_schema_conformance,ignored_auth"
"""For the operators' own documents: they list almost no status but 200."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A running gateway: base URL without ``/v1``, and a key."""

    url: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One test of one suite against one deployment."""

    suite: str
    deployment: str
    test: str
    status: str
    detail: str = ""

    def plain(self) -> dict[str, str]:
        """Return the row for the report."""
        return asdict(self)


def llm_comply(tools: Path, target: Target, api: str, model: str, only: tuple[str, ...] = ()) -> list[Row]:
    """Run one format of llm-comply."""
    command = [str(tools / "llm-comply"), "--format", api, "-u", f"{target.url}/v1", "-k", target.key]
    command += ["-m", model, "--json"]
    if api == "anthropic":
        command += ["--auth-header", "x-api-key", "--no-bearer", "-H", "anthropic-version:2023-06-01"]
    if only:
        command += ["-f", ",".join(only)]
    suite = f"llm-comply {api}"
    done = _run(command)
    try:
        results = json.loads(done.stdout)["results"]
    except (ValueError, KeyError, TypeError):
        return [_broken(suite, model, done)]
    rows = [_comply_row(suite, model, result) for result in results]
    return rows or [Row(suite=suite, deployment=model, test="any", status="failed", detail="no test ran")]


def _comply_row(suite: str, model: str, result: dict[str, Any]) -> Row:
    told = result.get("errors") or result.get("warnings") or []
    return Row(
        suite=suite,
        deployment=model,
        test=result["id"],
        status=result["status"],
        detail="; ".join(told)[:300],
    )


def compatcanary(target: Target, model: str) -> list[Row]:
    """Run CompatCanary's profile ``modern``; skipped, and said so, where there is no Node."""
    if shutil.which("npx") is None:
        return [
            Row(
                suite="compatcanary",
                deployment=model,
                test="all",
                status="skipped",
                detail="there is no npx here",
            )
        ]
    command = ["npx", "--yes", COMPATCANARY, "scan", "--base-url", f"{target.url}/v1", "--model", model]
    command += ["--profile", "modern", "--format", "json"]
    done = _run(command, OPENAI_API_KEY=target.key)
    words = {"pass": "passed", "warn": "passed", "fail": "failed"}
    try:
        results = json.loads(done.stdout)["results"]
        return [
            Row(
                suite="compatcanary",
                deployment=model,
                test=result["id"],
                status=words[result["status"]],
                detail="" if result["status"] == "pass" else result["summary"],
            )
            for result in results
        ]
    except (ValueError, KeyError, TypeError):
        return [_broken("compatcanary", model, done)]


def schemathesis(
    tools: Path, work: Path, target: Target, *, name: str, document: dict[str, Any],
    paths: dict[str, tuple[str, ...]], model: str, base: str, checks: str,
) -> list[Row]:  # fmt: skip
    """Run schemathesis with valid data over one document; one row per operation."""
    suite = f"schemathesis {name}"
    cut, report = work / f"{name}.json", work / f"{name}-report.json"
    fitted = spec.fit(document, paths, model)
    cut.write_text(json.dumps(fitted))
    report.unlink(missing_ok=True)
    command = [str(tools / "schemathesis"), "run", str(cut), "--url", f"{target.url}{base}"]
    command += [
        "-H",
        f"Authorization: Bearer {target.key}",
        "--mode",
        "positive",
        "--phases",
        "examples,fuzzing",
    ]
    command += ["--max-examples", str(EXAMPLES), "--seed", "1", "--checks", checks, "--continue-on-failure"]
    command += ["--report", "json", "--report-json-path", str(report), "--no-color"]
    if name == "anthropic":
        command += ["-H", "anthropic-version: 2023-06-01"]
    done = _run(command)
    if not report.exists():
        return [_broken(suite, model, done)]
    found = json.loads(report.read_text())
    (work / f"{name}.txt").write_text(done.stdout)
    return _operations(suite, model, fitted, found)


def _operations(suite: str, model: str, document: dict[str, Any], found: dict[str, Any]) -> list[Row]:
    blamed: dict[str, list[str]] = {}
    for entry in [*found.get("failures", []), *found.get("errors", [])]:
        said = str(entry.get("title") or entry.get("message") or json.dumps(entry))[:200]
        for label in entry.get("operations") or [entry.get("label") or "run"]:
            blamed.setdefault(str(label), []).append(said)
    rows = []
    for path, item in document["paths"].items():
        for method in item:
            label = f"{method.upper()} {path}"
            rates = found.get("valid_rates", {}).get(label, {}).values()
            accepted, tried = sum(r["accepted"] for r in rates), sum(sum(r.values()) for r in rates)
            told = blamed.pop(label, [])
            if not told and not accepted:
                told = ["no generated request was accepted, so nothing was shown"]
            status = "failed" if told else "passed"
            detail = "; ".join(told) or f"{accepted} of {tried} requests answered 2xx"
            rows.append(Row(suite=suite, deployment=model, test=label, status=status, detail=detail[:300]))
    rows += [
        Row(suite=suite, deployment=model, test=label, status="failed", detail="; ".join(told)[:300])
        for label, told in blamed.items()
    ]
    return rows


def _run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env={**os.environ, **environment},
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no end within {TIMEOUT_S} s")


def _broken(suite: str, model: str, done: subprocess.CompletedProcess[str]) -> Row:
    said = (done.stderr or done.stdout).strip()[-300:]
    return Row(
        suite=suite, deployment=model, test="run", status="failed", detail=f"exit {done.returncode}: {said}"
    )
