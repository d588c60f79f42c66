"""A world for system tests: real gateways on temporary homes, real model servers, real sockets.

Nothing here is a mock: the gateway is ``python -m allod up`` in a process of its own (or, for fast tests, the
same application in a thread), the operators are scripted servers that listen and record, the client speaks
HTTP over a socket it can also break.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

from asking import Answer, Stream, call, chat, messages, responses, start, until
from click.testing import CliRunner
from operators import Region, Trap

from allod.gateway.cli import main
from allod.store.database import Database, Request
from allod.store.home import Home as Paths
from allod.store.home import make_home
from allod.store.keys import create_key

__all__ = [
    "Answer",
    "Gateway",
    "Inside",
    "Region",
    "Stream",
    "Trap",
    "World",
    "call",
    "chat",
    "config",
    "deployment",
    "messages",
    "responses",
    "scripted_process",
    "start",
    "until",
]

START_S = 60.0
LAWFUL = {
    "operator": "self",
    "processing": "DE",
    "at_rest": ["DE"],
    "transit": ["DE"],
    "on_premises": True,
    "records_auditable": True,
    "inspectable": True,
    "price": {"input_usd_mtok": 1, "output_usd_mtok": 2},
    "quality": {"default": 0.9},
}
"""Facts that let a deployment see anything."""
FOREIGN = {
    "operator": "us-cloud",
    "processing": "DE",
    "at_rest": ["DE"],
    "transit": ["DE"],
    "on_premises": False,
    "records_auditable": {"value": True, "grade": "contract"},
    "inspectable": False,
    "price": {"input_usd_mtok": 5, "output_usd_mtok": 30},
    "quality": {"default": 0.95},
}
"""Facts of a region in the bloc under an operator controlled from outside."""
OPERATORS = (
    {"id": "self", "own": True, "seat": "DE", "controlled_from": ["DE"], "compelled_by": []},
    {
        "id": "us-cloud",
        "seat": "IE",
        "controlled_from": ["US"],
        "compelled_by": ["US-CLOUD-ACT", "US-FISA-702"],
    },
)
APPS = ({"id": "ward", "classes": ["phi"]}, {"id": "press", "classes": ["public"]})
EVERYTHING = ["text", "image", "tools", "json_schema", "logprobs", "embeddings"]


# --- configuration


def toml_value(value: Any) -> str:
    """Write one TOML value inline."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, Sequence):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return str(value)


def _table(head: str, values: Mapping[str, Any]) -> str:
    return "\n".join([head, *(f"{k} = {toml_value(v)}" for k, v in values.items() if v is not None), ""])


def deployment(name: str, model: str, *, lawful: bool = True, **more: Any) -> dict[str, Any]:
    """Return a deployment: in-process scripted, or a ``compatible`` one when it has a ``base_url``."""
    engine = "compatible" if "base_url" in more else "scripted"
    facts = LAWFUL if lawful else FOREIGN
    return {"id": name, "engine": engine, "model": model, **facts, "takes": EVERYTHING, **more}


def config(
    deployments: Sequence[Mapping[str, Any]],
    *,
    apps: Sequence[Mapping[str, Any]] = APPS,
    tasks: Sequence[Mapping[str, Any]] = (),
    tenant: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    log: Mapping[str, Any] | None = None,
    detect: Mapping[str, Any] | None = None,
    operators: Sequence[Mapping[str, Any]] = OPERATORS,
) -> str:
    """Write a configuration."""
    parts = [_table("[tenant]", {"id": "st-elisabeth", "home": "DE", "bloc": ["EEA"], **(tenant or {})})]
    parts += [_table("[server]", server)] if server else []
    parts += [_table("[log]", log)] if log else []
    parts += [_table("[detect]", detect)] if detect else []
    for kind, items in (("app", apps), ("operator", operators), ("deployment", deployments), ("task", tasks)):
        parts += [_table(f"[[{kind}]]", item) for item in items]
    return "\n".join(parts)


# --- homes and gateways


class World:
    """One home: its configuration, its keys, its tables, and the commands on it."""

    def __init__(self, root: Path, text: str, environ: Mapping[str, str] | None = None) -> None:
        self.root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.paths: Paths = make_home(root)
        self.write(text)
        self._keys: dict[str, str] = {}
        self.environ = {**os.environ, "ALLOD_HOME": str(root), **(environ or {})}

    def write(self, text: str) -> None:
        """Write the configuration."""
        self.paths.config.write_text(text)

    def key(self, app: str) -> str:
        """Return the app's key, made at first use."""
        if app not in self._keys:
            with contextlib.closing(self.tables()) as tables:
                self._keys[app] = create_key(tables, app, at_ms=time.time_ns() // 1_000_000)
        return self._keys[app]

    def tables(self) -> Database:
        """Open the tables beside whoever else has them open."""
        return Database.lite_file(self.paths.database)

    def request_row(self, receipt: str) -> Request | None:
        with contextlib.closing(self.tables()) as tables:
            return tables.request(receipt)

    def rows(self, receipt: str | None = None) -> list[Any]:
        with contextlib.closing(self.tables()) as tables:
            return tables.rows(receipt=receipt)

    def all_requests(self) -> list[Request]:
        with contextlib.closing(self.tables()) as tables:
            return tables.recent(1_000_000)

    def allod(
        self, *args: str, timeout: float = 60.0, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of Allod on this home."""
        return subprocess.run(
            [sys.executable, "-m", "allod", *args],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            input=stdin,
        )

    def here(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Allod on this home in this very process, without walls: it takes a moment only."""
        with (
            CliRunner().isolation(env=self.environ) as (stdout, stderr, _),
            patch.object(sys, "argv", ["allod", *args]),
        ):
            try:
                main(walls=False)
            except SystemExit as end:
                code = int(end.code or 0)
            sys.stdout.flush()
            sys.stderr.flush()
        said = stdout.getvalue().decode(), stderr.getvalue().decode()
        return subprocess.CompletedProcess(["allod", *args], code, *said)

    @contextlib.contextmanager
    def up(self, *apps: str) -> Iterator[Gateway]:
        """Run a gateway of its own process on this home; keys of ``apps`` are made first."""
        for app in apps:
            self.key(app)
        gateway = Gateway(self)
        try:
            gateway.wait_ready()
            yield gateway
        finally:
            gateway.end()


class Gateway:
    """A running ``python -m allod up``."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stderr_path = world.root.with_suffix(".stderr")
        with self.stderr_path.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "allod", "up", "--json", "--port", "0"],
                env=world.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self.port = 0
        self.notices: list[str] = []

    def wait_ready(self) -> None:
        """Read the line that says where it listens."""
        said = read_json(self.process, START_S)
        self.port = int(said["url"].rsplit(":", 1)[1])
        self.notices = said["notices"]

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text(errors="replace")

    def call(self, path: str, body: Any = None, *, app: str | None = "press", **more: Any) -> Answer:
        return call(self.port, path, body, key=self._key(app), **more)

    def start(self, path: str, body: Any = None, *, app: str | None = "press", **more: Any) -> Stream:
        return start(self.port, path, body, key=self._key(app), **more)

    def chat(self, body: Any, *, app: str | None = "press", **more: Any) -> Answer:
        return self.call("/v1/chat/completions", body, app=app, **more)

    def _key(self, app: str | None) -> str | None:
        return None if app is None else self.world.key(app)

    def receipt(self, name: str, *, app: str = "press", within_s: float = 5.0) -> dict[str, Any]:
        """Get a receipt file once it is final."""
        return json.loads(self.receipt_bytes(name, app=app, within_s=within_s))

    def receipt_bytes(self, name: str, *, app: str = "press", within_s: float = 5.0) -> bytes:
        end = time.monotonic() + within_s
        while True:
            answer = self.call(f"/v1/receipts/{name}", app=app)
            assert answer.status == 200, answer
            if answer.json["status"] != "pending":
                return answer.body
            assert time.monotonic() < end, f"{name} is still pending"
            time.sleep(0.01)

    def leaf(self, name: str, *, app: str = "press") -> dict[str, Any]:
        """Return the terminal leaf of a receipt."""
        return json.loads(self.receipt(name, app=app)["terminal"]["leaf"])

    def rss_bytes(self) -> int:
        """Return the resident set of the process."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """End it as a power cut of the process would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def stop(self) -> int:
        """End it in order; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def end(self) -> None:
        """End it, in order if it will, and let go of its pipe."""
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Inside:
    """A gateway in a thread of this process: the same application and server, for tests that reach in."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.port = 0
        self.application: Any = None
        self.fault: BaseException | None = None
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as fault:  # noqa: BLE001 (whoever started it raises it)
            self.fault = fault
        self._ready.set()

    async def _serve(self) -> None:
        from allod.gateway import running, server

        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        setting = self._setting()
        bound = server.listen("127.0.0.1", 0)
        self.port = bound.getsockname()[1]
        async with running.opened(setting) as (self.application, _):

            async def started() -> None:
                self._ready.set()

            with contextlib.suppress(asyncio.CancelledError):
                await server.serve(self.application, setting.config.server, bound, started=started)

    def _setting(self) -> Any:
        from allod.gateway import compose

        os.environ["ALLOD_HOME"] = str(self.world.root)
        try:
            return compose.setting()
        finally:
            del os.environ["ALLOD_HOME"]

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(START_S)
        if self.fault is not None:
            raise self.fault
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        if self._thread.is_alive() and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(30)

    @property
    def gateway(self) -> Any:
        """The object graph."""
        return self.application._gateway

    def call(self, path: str, body: Any = None, *, app: str | None = "press", **more: Any) -> Answer:
        return call(self.port, path, body, key=None if app is None else self.world.key(app), **more)

    def start(self, path: str, body: Any = None, *, app: str | None = "press", **more: Any) -> Stream:
        return start(self.port, path, body, key=None if app is None else self.world.key(app), **more)

    def chat(self, body: Any, *, app: str | None = "press", **more: Any) -> Answer:
        return self.call("/v1/chat/completions", body, app=app, **more)


@contextlib.contextmanager
def scripted_process() -> Iterator[str]:
    """Run ``allod up --scripted`` in a process of its own; yields its base URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "allod", "up", "--scripted", "--json", "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        yield read_json(process, START_S)["url"]
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def read_json(process: subprocess.Popen[bytes], within_s: float) -> Any:
    """Read the one JSON value a process prints when it is up."""
    assert process.stdout is not None
    end, got = time.monotonic() + within_s, b""
    os.set_blocking(process.stdout.fileno(), False)
    while time.monotonic() < end:
        got += process.stdout.read() or b""
        with contextlib.suppress(ValueError):
            return json.loads(got)
        if process.poll() is not None:
            break
        time.sleep(0.01)
    raise AssertionError(f"not up: exit {process.poll()}, said {got!r}")
