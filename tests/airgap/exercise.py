"""A whole life of the product in air-gap mode, over every documented command; run by a watch, or by strace.

``python exercise.py FOLDER bare|walls [brief]``: ``bare`` leaves the connector's rule as the only wall, so
that a watch sees what would be tried; ``walls`` is the product as it is. Writes one line of JSON for each
command. Commands run in forks of this process, so that importing them is paid once; what serves has a process
of its own.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOSPITAL = ROOT / "examples/hospital/allod.toml"
HOUSE = ROOT / "examples/organisations/hospital/pack"
SHIPPED = ROOT / "allod/vault/shipped"
DECOYS = {
    "elsewhere": "http://192.0.2.7:9/v1",
    "by-name": "http://model.example:80/v1",
    "v6": "http://[2001:db8::1]:80/v1",
    "mapped": "http://[::ffff:192.0.2.7]:80/v1",
}
OPINION = "decoy opinion: 192.0.2.7"
PATIENCE_S = 60.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def tell(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class Failed(Exception):
    """A command did not do what it does."""


class Exercise:
    """One home and the commands on it."""

    def __init__(self, folder: Path, how: str) -> None:
        self.folder, self.how = folder, how
        self.home = folder / "home"
        self.port = free_port()
        self.key = ""
        self.failed: list[str] = []
        os.environ["ALLOD_HOME"] = str(self.home)
        os.chdir(folder)

    # -- the home

    def furnish(self) -> None:
        """Write the hospital's configuration, air-gapped, with signers, decoys and a house pack."""
        self.home.mkdir(mode=0o700)
        text = HOSPITAL.read_text().replace("air_gapped = false", "air_gapped = true")
        text = text.replace("port = 8080", f"port = {self.port}")
        assert "air_gapped = true" in text
        for name, url in DECOYS.items():
            text += (
                f'\n[[deployment]]\nid = "{name}"\nengine = "compatible"\nmodel = "{name}"\n'
                'operator = "self"\n'
                f'base_url = "{url}"\nprocessing = "DE"\nat_rest = ["DE"]\ntransit = ["DE"]\n'
                "on_premises = true\n"
                'records_auditable = true\ninspectable = true\nretries = 0\nprice = "free"\n'
                'first_token_ms = 1000\ntimeout_ms = 2000\ntakes = ["text", "embeddings"]\n'
            )
        (self.home / "allod.toml").write_text(text)
        (self.folder / "letter.txt").write_text("Anna Weber, IBAN DE89 3704 0044 0532 0130 00, ward 3.\n")
        (self.folder / "litellm.yaml").write_text(
            "model_list:\n  - model_name: m\n    litellm_params: {model: ollama/x, api_base: http://127.0.0.1:1}\n"
        )

    # -- commands

    def allod(self, *words: str, status: int | tuple[int, ...] = 0, home: Path | None = None) -> str:
        """Run a command in a fork and return what it printed; its exit status must be one of these."""
        expected = (status,) if isinstance(status, int) else status
        out = self.folder / ".out"
        sys.stdout.flush()
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            self._become(words, out, home)
        got = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        text = out.read_text("utf-8", "replace")
        self.ran(words, got, child, began)
        if got not in expected:
            self.failed.append(f"allod {' '.join(words)}: exit {got}, expected {status}\n{text}")
        return text

    def _become(self, words: tuple[str, ...], out: Path, home: Path | None) -> None:
        code = 70
        try:
            fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            if home is not None:
                os.environ["ALLOD_HOME"] = str(home)
            sys.argv = ["allod", *words]
            from allod.gateway.cli import main

            main(walls=self.how == "walls")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:  # noqa: BLE001 (a fork must not go on as its parent)
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def ran(self, words: tuple[str, ...], status: int, pid: int, began: float) -> None:
        seconds = round(time.monotonic() - began, 2)
        tell({"command": words, "status": status, "pid": pid, "seconds": seconds})

    @contextlib.contextmanager
    def serving(self, *words: str, home: Path | None = None) -> Iterator[int]:
        """Run what serves until it is told to end; yields its port."""
        module = "allod" if self.how == "walls" else "allod.gateway.cli.bare"
        env = dict(os.environ) if home is None else {**os.environ, "ALLOD_HOME": str(home)}
        began = time.monotonic()
        errors = (self.folder / ".errors").open("a+")
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", module, *words, "--json"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=env,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            port = self._listening(process, errors.name)
            tell({"port": port, "command": words})
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(PATIENCE_S)
            process.stdout.close()
            errors.close()
            self.ran(words, status, process.pid, began)

    def _listening(self, process: subprocess.Popen[bytes], errors: str) -> int:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        end, got = time.monotonic() + PATIENCE_S, b""
        while time.monotonic() < end and process.poll() is None:
            got += process.stdout.read() or b""
            with contextlib.suppress(ValueError):
                url = json.loads(got)["url"]
                return int(re.search(r":(\d+)", url.removeprefix("http:"))[1])  # type: ignore[index]
            time.sleep(0.02)
        raise Failed(f"not up: {Path(errors).read_text()[-2000:]}")

    # -- requests

    def ask(self, path: str, body: Any = None, *, status: int | tuple[int, ...] = 200) -> str:
        """Make one request of the gateway; returns the receipt's id."""
        expected = (status,) if isinstance(status, int) else status
        end = time.monotonic() + PATIENCE_S
        while True:
            link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
            raw = None if body is None else json.dumps(body)
            heads = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
            link.request("GET" if body is None else "POST", path, raw, heads)
            answer = link.getresponse()
            text = answer.read().decode("utf-8", "replace")
            link.close()
            if answer.status in expected:
                break
            if answer.status not in {401, 503} or time.monotonic() > end:
                raise Failed(f"{path}: {answer.status} {text[:500]}")
            time.sleep(0.1)
        tell({"request": path, "status": answer.status})
        return answer.getheader("allod-receipt") or ""


def chat(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, **more}


def requests(x: Exercise) -> str:
    """Ask on every surface, streamed and not, everybody and nobody; returns a receipt of an answer."""
    receipt = x.ask("/v1/chat/completions", chat("ward-llm"))
    x.ask("/v1/chat/completions", chat("ward-llm", stream=True))
    x.ask("/v1/messages", chat("ward-llm"))
    x.ask("/v1/messages", chat("ward-llm", stream=True))
    x.ask("/v1/messages/count_tokens", {"model": "ward-llm", "messages": chat("")["messages"]})
    x.ask("/v1/responses", {"model": "ward-llm", "input": "Say hello.", "max_output_tokens": 16})
    x.ask("/v1/responses", {"model": "ward-llm", "input": "hello", "max_output_tokens": 16, "stream": True})
    x.ask("/v1/embeddings", {"model": "ward-llm", "input": "hello"})
    for name in DECOYS:
        for more in ({}, {"stream": True}):
            x.ask("/v1/chat/completions", chat(name, **more), status=503)
        x.ask("/v1/embeddings", {"model": name, "input": "x"}, status=503)
    x.ask("/v1/chat/completions", chat("frankfurt-region"), status=403)
    picture = {"type": "image_url", "image_url": {"url": "http://192.0.2.8/x.png"}}
    x.ask(
        "/v1/chat/completions",
        chat("ward-llm") | {"messages": [{"role": "user", "content": [picture]}]},
        status=(400, 403),
    )
    for path in ("/v1/models", "/readyz", "/healthz", "/metrics", "/log/checkpoint", "/openapi.json"):
        x.ask(path)
    for form in ("", "?format=tlog-proof", "?format=cose"):
        x.ask(f"/v1/receipts/{receipt}{form}")
    return receipt


def while_it_runs(x: Exercise, receipt: str) -> None:
    """Run the commands that speak to a gateway, or live beside one."""
    x.allod("ask", "hello", "--app", "triage", "--max-tokens", "8")
    x.allod("explain", "--app", "triage", "--json")
    x.allod("keys", "create", "press", "--json")
    found = json.loads(x.allod("keys", "list", "--json"))
    rows = found["keys"] if isinstance(found, dict) else found
    x.allod("keys", "revoke", next(one for one in rows if one["app"] == "press")["digest"])
    x.allod("receipt", "list")
    x.allod("receipt", "get", receipt, "--out", "receipt.json")
    x.allod("receipt", "show", receipt)
    x.allod("receipt", "verify", "receipt.json")
    x.allod("log", "checkpoint")
    x.allod("log", "key")
    x.allod("log", "keys")
    x.allod("log", "anchor")
    x.allod("doctor", status=(0, 1))
    x.allod("log", "witnesses")
    cases = [
        {"prompt": "Say hello.", "expected": "hello", "checker": "contains"},
        {"prompt": "Write f.", "tests": "assert f() == 1", "checker": "unit_test"},
    ]
    Path("cases.jsonl").write_text("".join(json.dumps(one) + "\n" for one in cases))
    x.allod("eval", "run", "cases.jsonl", "--on", "ward-llm", "--app", "triage", "--max-tokens", "8")
    listed = x.allod("eval", "list")
    evaluation = (re.findall(r"[0-9a-f]{8,}", listed) or ["none"])[0]
    x.allod("eval", "show", evaluation)
    x.allod("eval", "use", evaluation)
    Path("priors.toml").write_text(
        '[[prior]]\nmodel = "reference"\ntask = "default"\nbenchmark = "B"\nscore = 0.5\n'
        'source = "a report"\nretrieved = 2026-11-01\n'
    )
    x.allod("eval", "prior", "add", "priors.toml")
    for what in ("list", "show"):
        x.allod("eval", "prior", what)
    x.allod("eval", "status")
    x.allod("eval", "promise")
    x.allod("queue", "list")
    for what in ("show", "cancel"):
        x.allod("queue", what, "resp_none", status=2)
    x.allod("eval", "prior", "remove", "--all")
    x.allod("eval", "drop", evaluation)
    x.allod("models", "cost")
    x.allod("models", "pull", "owner/name", "model.gguf", status=4)


def law(x: Exercise) -> None:
    """Run the commands of law and evidence."""
    x.allod("classify", "letter.txt")
    x.allod("policy", "show")
    x.allod("policy", "lint", "base")
    x.allod("policy", "test", "base")
    x.allod("policy", "prove", "--pack", "base", status=(0, 2))
    for name, role in (("alice", "author"), ("bob", "compliance")):
        printed = x.allod("policy", "key", name, "--role", role)
        with (x.home / "allod.toml").open("a") as file:
            file.write("\n" + printed[printed.index("[[signer]]") :])
    shutil.copytree(HOUSE, x.home / "packs/house-hospital")
    x.allod("policy", "sign", str(x.home / "packs/house-hospital"), "--by", "alice")
    x.allod("policy", "verify", str(x.home / "packs/house-hospital"))
    x.allod("policy", "diff", "base", str(x.home / "packs/house-hospital"), status=(0, 1))
    x.allod("policy", "new", "KE", "--out", "ke")
    x.allod("policy", "simulate", "--pack", "eu-nis2", "--since", "1d")
    x.allod("policy", "shadow", "--since", "1d", status=(0, 2))
    x.allod("policy", "enforce", "eu-nis2")
    until = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 20 * 86400))
    x.allod(
        "policy", "declassify", "office", "--by", "alice", "--app", "press", "--type", "EMAIL",
        "--until", until, "--reason", "the office's own address",
    )  # fmt: skip
    said = x.allod("policy", "propose", "--by", "alice", "--reason", "as it is")
    named = re.search(r"proposed as ([0-9a-f]{12})", said)
    assert named, said
    x.allod("policy", "approve", named[1], "--by", "bob")
    x.allod("policy", "changes")
    for kind in ("gdpr-art30", "exposure", "model-inventory"):
        x.allod("report", kind)
    x.allod("import", "litellm", "litellm.yaml", "--out", "imported.toml", status=(0, 2))


def weights(x: Exercise) -> None:
    """Run the commands of the vault."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    Path("key.pem").write_bytes(private)
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    Path("pub.pem").write_bytes(public)
    draft, there = str(SHIPPED / "reference-draft.gguf"), x.folder / "there"
    x.allod("models", "list")
    x.allod("models", "show", "reference")
    x.allod("models", "verify", "reference")
    for command in ("models", "vault"):
        x.allod(command, "add", draft, "--name", "a", status=4)
    x.allod("models", "add", draft, "--name", "a", home=there)
    x.allod("vault", "add", draft, "--name", "b", home=there)
    x.allod("vault", "list", home=there)
    x.allod("vault", "show", "b", "--bom", home=there)
    x.allod("vault", "scan", "b", home=there)
    x.allod("vault", "verify", "b", home=there)
    x.allod("vault", "sign", "b", "--key", "key.pem", "--out", "b.sig", home=there)
    x.allod("vault", "export", "b", "out", "--key", "key.pem", home=there)
    x.allod("vault", "import", "out", "--key", "pub.pem", status=4)
    x.allod("vault", "import", "out", "--key", "pub.pem", home=x.folder / "other")
    x.allod("vault", "remove", "a", home=there)
    x.allod("vault", "revoke", "b", "--reason", "for the exercise", home=there)
    x.allod("vault", "gc")
    x.allod("vault", "seal", status=(0, 1, 2, 3))


def carriage(x: Exercise) -> None:
    """Run the commands of bundles: a publisher with a network makes one, the air-gapped home takes it in."""
    source = x.folder / "fresh"
    x.allod("bundle", "keys", "init", home=source)
    x.allod("bundle", "keys", "list", home=source)
    x.allod("bundle", "keys", "new", "timestamp", home=source)
    x.allod("bundle", "keys", "root", home=source)
    x.allod("bundle", "keys", "rotate", "snapshot", home=source)
    trust = Path("trust.toml")
    trust.write_text(x.allod("bundle", "keys", "show", "--trust", home=source))
    trust.chmod(0o600)
    x.allod("models", "add", str(SHIPPED / "reference-draft.gguf"), "--name", "carried", home=source)
    what = ("--model", "carried", "--prices", "shipped", "--pack", "eu-gdpr")
    x.allod("bundle", "create", "b.tar", *what, home=source)
    x.allod("bundle", "verify", "b.tar", "--own", home=source)
    x.allod("bundle", "trust", "--from", "trust.toml")
    x.allod("bundle", "import", "b.tar", "--receipt", "arrived.json")
    x.allod("bundle", "status")
    x.allod("bundle", "receipt", "show")
    x.allod(
        "bundle", "receipt", "verify", "arrived.json", "--key", x.allod("log", "key").strip(), home=source
    )
    x.allod("bundle", "rollback")
    x.allod("bundle", "withdraw", "stable", "1", home=source)


def plans(x: Exercise) -> None:
    """Run the planner's commands, which read package data and files they are given, and nothing else."""
    x.allod("plan", "fit", "gpt-oss-20b", "--on", "h100")
    x.allod(
        "plan",
        "fit",
        "--file",
        str(SHIPPED / "reference.gguf"),
        "--on",
        "cpu",
        "--memory",
        "4",
        "--html",
        "f.html",
    )
    x.allod("plan", "tiers", "--svg", "t.svg")
    x.allod("plan", "claims")
    x.allod("plan", "speed", "llama-3.1-8b", "--on", "rtx-4090", "--svg", "s.svg", "--html", "s.html")
    x.allod("plan", "calibrate", "llama-3.1-8b", "--on", "rtx-4090", "--tpot-ms", "7.5")
    beyond = ("--base-url", "http://192.0.2.7:9/v1", "--yes")
    x.allod("plan", "calibrate", "llama-3.1-8b", "--on", "rtx-4090", *beyond, status=4)
    money = ("gpt-oss-120b", "--on", "h100", "--tokens-per-second", "900..1500", "--draws", "500")
    x.allod("plan", "cost", *money, "--country", "DEU", "--html", "c.html", "--svg", "c.svg")
    x.allod("plan", "npv", *money, "--html", "n.html")
    x.allod("plan", "prices")
    x.allod("plan", "prices", "--history", "deepseek-v4-pro", "--svg", "p.svg")
    pace = ("--pace", "1:8,16:14", "--prompt-tokens-per-second", "9000")
    x.allod("plan", "size", "--rate", "1", "--hours", "0.1", *pace, "--html", "z.html")
    site = Path(__file__).parents[2] / "examples" / "placement"
    x.allod("plan", "place", str(site / "bank.toml"), "--config", str(site / "allod.toml"), status=1)
    few = ("--rounds", "3", "--max-tokens", "4", "--svg", "q.svg")
    x.allod("plan", "speculate", "ward-llm", "--draft", "reference-draft", *few)
    x.allod("plan", "speculate")


def drills(x: Exercise) -> None:
    """Take away what others have, and decide again."""
    x.allod("drill", "worlds")
    x.allod("drill", "worlds", "us-operators")
    x.allod("drill", "run", "us-operators", "--since", "1d", "--dora", "exit", "--html", "d.html")
    x.allod("drill", "run", "offline", "--generate", "100", "--svg", "d.svg")
    x.allod("drill", "all", "--since", "1d", "--csv", "d.csv")
    x.allod("drill", "expected", "--since", "1d", "--draws", "1000")
    x.allod("drill", "concentration", "--since", "1d")
    x.allod("drill", "check")
    x.allod("drill", "tick", "forced-alignment/taiwan")


def at_rest(x: Exercise, receipt: str) -> None:
    """Run the commands of a log at rest."""
    x.allod("log", "verify")
    x.allod("log", "status")
    x.allod("log", "prune", "--dry-run", status=(0, 2))
    x.allod("log", "export", "exported")
    x.allod("receipt", "erase", receipt)
    old = re.search(r"\+([0-9a-f]{8})\+", x.allod("log", "key"))
    assert old
    x.allod("log", "rotate")
    x.allod("log", "revoke", old[1])
    x.allod("log", "rebuild", status=(0, 2))
    x.allod("log", "witness", "--name", "witness.example/w", "--keys")
    with x.serving("log", "witness", "--port", "0"):
        pass
    with x.serving("up", "--scripted", "--port", "0"):
        pass


def main() -> None:
    x = Exercise(Path(sys.argv[1]), sys.argv[2])
    brief = sys.argv[3:] == ["brief"]
    x.furnish()
    from allod.gateway import compose, running  # noqa: F401 (what most commands import, once for all forks)

    x.allod("init", "--country", "DE", home=x.folder / "fresh")
    x.key = json.loads(x.allod("keys", "create", "triage", "--json"))["key"]
    with x.serving("up"):
        receipt = requests(x)
        if not brief:
            while_it_runs(x, receipt)
    if not brief:
        weights(x)
        drills(x)
        from allod.gateway.cli import COMMANDS

        if "bundle" in COMMANDS:
            carriage(x)
        law(x)
        plans(x)
        at_rest(x, receipt)
    if x.failed:
        raise Failed("\n".join(x.failed))


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        tell({"failed": str(failed)})
        sys.exit(1)
