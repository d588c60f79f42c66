"""The inside of ``allod doctor --air-gap``: a whole product from start to end, asked everything, on a copy.

Run as ``python -I -m allod.gateway.gap_trial FOLDER`` inside a watch. It writes one line of JSON for each
thing done; what it and its children tried is for the watch to say, not for it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.gateway import tomlfile
from allod.gateway.cli import bare

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

APP: Final = "allod-doctor"
START_S: Final = 60.0
ANSWER_S: Final = 60.0
LOAD_S: Final = 30.0
STOP_S: Final = 20.0
COMMAND_S: Final = 60.0
DECOYS: Final = {
    "decoy-address": "http://192.0.2.1:9/v1",  # TEST-NET-1 (RFC 5737): nobody is there
    "decoy-name": "http://model.example:80/v1",  # RFC 2606
    "decoy-v6": "http://[2001:db8::1]:80/v1",  # RFC 3849
    "decoy-mapped": "http://[::ffff:192.0.2.1]:80/v1",
}
"""Deployments, on the premises by their own word, that only the connector keeps from being connected to."""
COMMANDS: Final[tuple[tuple[str, ...], ...]] = (
    ("explain", "--app", APP, "--air-gap"),
    ("policy", "show"),
    ("models", "list"),
    ("vault", "list"),
    ("keys", "list"),
    ("receipt", "list"),
    ("doctor",),
    ("models", "pull", "owner/name", "model.gguf"),
)
"""Asked of the command line while the gateway runs; the last must be refused."""
_LOADING: Final = 503


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One line: what was done, and how it went; ``port`` once, where the gateway listens."""

    step: str
    detail: str
    port: int = 0


def trial_configuration(written: Mapping[str, Any], port: int) -> tuple[str, list[str]]:
    """Turn a configuration into that of the trial, on this port; also return what is not as it was.

    The trial has a home of its own, so it cannot use what the real one's key has signed: embedded deployments
    load the shipped model, and changes that took four eyes are not asked for. Decoys and an app that asks
    come in.
    """
    tables = dict(written)
    changed = []
    tenant = dict(tables["tenant"])
    if tenant.pop("four_eyes", False):
        changed.append("four eyes: the trial's configuration is not the one that was approved")
    tenant["air_gapped"] = True
    deployments = []
    for one in tables.get("deployment", ()):
        own = {key: value for key, value in one.items() if key not in {"adapter", "draft"}}
        if one["engine"] == "llamacpp" and (own != dict(one) or one["model"] != "reference"):
            changed.append(f"deployment {one['id']}: the shipped model is loaded instead of yours")
            own["model"] = "reference"
        deployments.append(own)
    here = tenant["home"]
    facts = {
        "engine": "compatible", "model": "decoy", "operator": APP, "processing": here, "at_rest": "none",
        "transit": [here], "on_premises": True, "records_auditable": True, "inspectable": True,
        "price": "free", "retries": 0, "first_token_ms": 1000, "timeout_ms": 2000,
        "takes": ["text", "embeddings"],
    }  # fmt: skip
    deployments += [{"id": name, "base_url": url, **facts} for name, url in DECOYS.items()]
    operator = {"id": APP, "own": True, "seat": here, "controlled_from": [here], "compelled_by": []}
    tables |= {
        "tenant": tenant,
        "server": {"port": port},
        "deployment": deployments,
        "operator": [*tables.get("operator", ()), operator],
        "app": [*tables.get("app", ()), {"id": APP, "classes": ["public"]}],
    }
    return "".join(f"{key} = {tomlfile.value(value)}\n" for key, value in tables.items()), changed


def say(step: str, detail: str, port: int = 0) -> None:
    """Write one line."""
    sys.stdout.write(msgspec.json.encode(Said(step=step, detail=detail, port=port)).decode() + "\n")
    sys.stdout.flush()


def command_line() -> list[str]:
    """Return how to call the command line: without its walls where a filter watches, else as it is."""
    name = "allod.gateway.cli.bare" if bare.watched() else "allod"
    return [sys.executable, "-I", "-m", name]


def run(home: Path) -> None:
    """Go through a whole life of the product in this home; a gateway that does not start ends it."""
    os.environ["ALLOD_HOME"] = str(home)
    key = _json(_call("keys", "create", APP, "--json")).get("key", "")
    say("allod keys create", "made a key" if key else "no key was made")
    with _up(home) as port:
        if not port:
            return
        for name in _deployments(home):
            say(f"ask {name}", _ask(port, key, "/v1/chat/completions", _chat(name)))
        for step, path, body in _requests():
            say(step, _ask(port, key, path, body))
        for words in COMMANDS:
            say(f"allod {' '.join(words)}", f"exit {_call(*words).returncode}")
        os.environ["ALLOD_KEY"] = key
        say("allod ask", f"exit {_call('ask', 'hello', '--app', APP, '--max-tokens', '8').returncode}")
    for words in (("log", "verify"), ("log", "checkpoint")):
        say(f"allod {' '.join(words)}", f"exit {_call(*words).returncode}")


def _deployments(home: Path) -> list[str]:
    return [str(one) for one in json.loads((home / "deployments.json").read_text())]


def _call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 (our own command line)
        [*command_line(), *words], capture_output=True, text=True, timeout=COMMAND_S, check=False
    )


def _json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def _up(home: Path) -> Iterator[int]:
    """Run the gateway; yields its port (0: it did not start, and every request then fails)."""
    with (home / "stderr").open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 (our own command line)
            [*command_line(), "up", "--air-gap", "--json", "--host", "127.0.0.1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
    try:
        port = _listening(process)
        say("allod up --air-gap", f"listens on port {port}" if port else _reason(home), port)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        say("stop", f"exit {status}")


def _reason(home: Path) -> str:
    said = (home / "stderr").read_text("utf-8", "replace").strip().splitlines()
    return "did not start: " + (said[-1][:200] if said else "it said nothing")


def _listening(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    got, end = b"", time.monotonic() + START_S
    os.set_blocking(process.stdout.fileno(), False)
    while time.monotonic() < end and process.poll() is None:
        got += process.stdout.read() or b""
        with contextlib.suppress(ValueError):
            return int(json.loads(got)["url"].rsplit(":", 1)[1])
        time.sleep(0.02)
    return 0


def _chat(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, **more}


def _requests() -> list[tuple[str, str, dict[str, Any] | None]]:
    """Return one request for every surface, answered by whom the plan chooses."""
    return [
        ("chat, streamed", "/v1/chat/completions", _chat("auto", stream=True)),
        ("messages", "/v1/messages", _chat("auto")),
        ("messages, streamed", "/v1/messages", _chat("auto", stream=True)),
        (
            "count tokens",
            "/v1/messages/count_tokens",
            {"model": "auto", "messages": _chat("auto")["messages"]},
        ),
        ("responses", "/v1/responses", {"model": "auto", "input": "Say hello.", "max_output_tokens": 16}),
        ("embeddings", "/v1/embeddings", {"model": "auto", "input": "hello"}),
        ("models", "/v1/models", None),
        ("ready", "/readyz", None),
        ("checkpoint", "/log/checkpoint", None),
        ("pruning", "/log/pruning", None),
    ]


def _ask(port: int, key: str, path: str, body: dict[str, Any] | None) -> str:
    """Ask until it is no longer for a model that is being loaded; then read the receipt, if there is one."""
    end = time.monotonic() + (LOAD_S if body is not None and "decoy" not in str(body["model"]) else 0)
    while True:
        status, receipt, said = _once(port, key, path, body)
        if status != _LOADING or time.monotonic() > end or "allowed ones" in said:
            break
        time.sleep(0.2)
    if not receipt:
        return f"status {status}" + (f": {said}" if status == 0 else "")
    found, _, _ = _once(port, key, f"/v1/receipts/{receipt}", None)
    return f"status {status}, receipt {found}"


def _once(port: int, key: str, path: str, body: dict[str, Any] | None) -> tuple[int, str, str]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    try:
        heads = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        link.request(
            "GET" if body is None else "POST", path, None if body is None else json.dumps(body), heads
        )
        answer = link.getresponse()
        text = answer.read().decode("utf-8", "replace")
        return answer.status, answer.getheader("allod-receipt") or "", text[:2000]
    except (OSError, http.client.HTTPException) as error:
        return 0, "", f"{type(error).__name__}: {error}"
    finally:
        link.close()


if __name__ == "__main__":
    run(Path(sys.argv[1]))
