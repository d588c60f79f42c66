"""One run of the child process, seen from the parent: start, report, end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from allod.engines.llamacpp.spec import (
    MAX_LINE_BYTES,
    FileSpec,
    Probed,
    Ready,
    Reason,
    RefusedToLoad,
    Report,
    Spec,
    Withheld,
)

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from allod.vault.vault import Entry, Model, Vault

SOCKET_NAME: Final = "s.sock"
"""The engine takes a host name for a unix socket only when it ends like this."""
MAX_SOCKET_PATH_BYTES: Final = 100
"""The kernel's own limit is 107."""
_KEPT_LOG_BYTES: Final = 4_096
_END_S: Final = 2.0
_FOLDER: Final = "allod-llm-"
_FINAL: Final[frozenset[Reason]] = frozenset({"integrity", "build", "sandbox", "specification"})


class LoadFault(Exception):
    """The child loaded nothing; ``final`` when another try would end the same way."""

    def __init__(self, reason: str, detail: str, *, final: bool) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.final = reason, detail, final


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How to run one model; see ``Spec`` for the words shared with it. ``load_ms`` bounds the whole start."""

    context_tokens: int
    slots: int
    connections: int
    threads: int
    embeddings: bool
    memory_bytes: int
    load_ms: int
    air_gapped: bool
    state_dir: str
    without: tuple[Withheld, ...] = ()


def socket_folder(state_dir: str) -> Path:
    """Make a new 0700 folder for one socket, in ``state_dir`` if its path is short enough, else in /tmp.

    Folders whose maker is dead are removed on the way.
    """
    roots = [state_dir] if state_dir and Path(state_dir).is_dir() else []
    longest = len(f"/{_FOLDER}{2**22}-{'x' * 8}/{SOCKET_NAME}")
    for root in (*roots, os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp"):  # noqa: S108 (mkdtemp makes it ours)
        if (
            not root
            or len(os.fsencode(root)) + longest > MAX_SOCKET_PATH_BYTES
            or not os.access(root, os.W_OK)
        ):
            continue
        _sweep(Path(root))
        return Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-", dir=root))
    raise LoadFault("socket", "no folder with a short enough path is writable", final=True)


def _sweep(root: Path) -> None:
    for folder in root.glob(_FOLDER + "*"):
        maker = folder.name.removeprefix(_FOLDER).split("-", 1)[0]
        if maker.isdigit() and not _alive(int(maker)):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class Child:
    """A started child that has reported ready."""

    def __init__(
        self, process: Process, ready: Ready, folder: Path, api_key: str, log: asyncio.Task[bytes]
    ) -> None:
        self._process, self._folder, self._log = process, folder, log
        self.ready, self.api_key = ready, api_key

    @property
    def socket(self) -> str:
        """Path of the unix socket it listens on."""
        return str(self._folder / SOCKET_NAME)

    @property
    def pid(self) -> int:
        """Its process id, which is that of its process group too."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait for its end and return its exit status, negative for a signal."""
        return await self._process.wait()

    def kill(self) -> None:
        """Kill its whole group at once."""
        _kill(self._process, signal.SIGKILL)

    async def close(self) -> None:
        """End it and everything it left; idempotent."""
        await _end(self._process, self._folder, self._log)


def _kill(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


async def _end(process: Process, folder: Path, log: asyncio.Task[bytes]) -> None:
    if process.returncode is None:
        _kill(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(_END_S):
                await process.wait()
        except TimeoutError:
            _kill(process, signal.SIGKILL)
            await process.wait()
    log.cancel()
    shutil.rmtree(folder, ignore_errors=True)


async def _drain(stream: asyncio.StreamReader) -> bytes:
    """Read the log until it ends, keeping only its first lines: later ones could speak of requests."""
    kept = b""
    while chunk := await stream.read(65536):
        if len(kept) < _KEPT_LOG_BYTES:
            kept += chunk[: _KEPT_LOG_BYTES - len(kept)]
    return kept


def _said(log: bytes) -> str:
    """Return the last error line of a log as printable ASCII: a hostile file may have written it."""
    lines = log.decode("ascii", "replace").splitlines()
    errors = [line for line in lines if " E " in line] or lines
    text = errors[-1] if errors else ""
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)[:200]


def _files(vault: Vault, model: Model | None, draft: Entry | None) -> tuple[dict[str, FileSpec], int]:
    """Open what is to be loaded; the caller closes the descriptors. Returns them with their size in bytes."""
    out: dict[str, FileSpec] = {}
    size = 0
    try:
        if model is not None:
            for key, entry in (("weights", model.weights), ("adapter", model.adapter), ("draft", draft)):
                if entry is not None:
                    template = entry.manifest.template_carried if key == "weights" else None
                    out[key] = FileSpec(fd=vault.open(entry), digest=entry.digest, template=template)
                    size += entry.manifest.size_bytes
    except BaseException:
        _close(out)
        raise
    return out, size


def _close(files: dict[str, FileSpec]) -> None:
    for file in files.values():
        with contextlib.suppress(OSError):
            os.close(file.fd)


async def _spawn(files: dict[str, FileSpec]) -> Process:
    """Start the interpreter isolated: no inherited environment, its own session, no other descriptors."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-m", "allod.engines.llamacpp.child",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        pass_fds=tuple(file.fd for file in files.values()), env={"LANG": "C.UTF-8"}, cwd="/",
        start_new_session=True, limit=MAX_LINE_BYTES,
    )  # fmt: skip


async def _report(process: Process, spec: Spec) -> Report | None:
    """Hand over the specification and read the report; None when the child died without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(ConnectionError):
        process.stdin.write(msgspec.json.encode(spec) + b"\n")
        await process.stdin.drain()
    try:
        line = await process.stdout.readline()
        return msgspec.json.decode(line, type=Report) if line else None
    except (ValueError, msgspec.DecodeError) as error:
        raise LoadFault("specification", "the child reported something unreadable", final=True) from error


async def _converse(
    settings: Settings, spec: Spec, files: dict[str, FileSpec], folder: Path
) -> tuple[Report, Child | None]:
    """Start a child, wait for its report within the limit, and keep it only if it is ready."""
    try:
        process = await _spawn(files)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        _close(files)
    assert process.stderr is not None
    log = asyncio.create_task(_drain(process.stderr))
    kept: Child | None = None
    try:
        try:
            async with asyncio.timeout(settings.load_ms / 1000):
                report = await _report(process, spec)
        except TimeoutError:
            raise LoadFault("load", f"not loaded within {settings.load_ms} ms", final=False) from None
        if report is None:
            status = await process.wait()
            raise LoadFault("load", f"the child ended with status {status}: {_said(await log)}", final=False)
        if isinstance(report, RefusedToLoad):
            await process.wait()
            heard = f" ({_said(await log)})" if report.reason == "load" else ""
            raise LoadFault(report.reason, report.detail + heard, final=report.reason in _FINAL)
        if isinstance(report, Ready):
            kept = Child(process, report, folder, spec.api_key, log)
        return report, kept
    finally:
        if kept is None:
            _kill(process, signal.SIGKILL)
            await process.wait()
            await _end(process, folder, log)


async def start(vault: Vault, model: Model, draft: Entry | None, settings: Settings) -> Child:
    """Start a child for a model.

    Raises:
        LoadFault: refused, failed, died or took too long; nothing is left running.
        Integrity: a file is absent or of another size than verified.

    """
    folder = socket_folder(settings.state_dir)
    try:
        files, size = _files(vault, model, draft)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    spec = Spec(
        parent=os.getpid(),
        name=model.name,
        socket=str(folder / SOCKET_NAME),
        api_key=secrets.token_hex(32),
        context_tokens=settings.context_tokens,
        slots=settings.slots,
        connections=settings.connections,
        threads=settings.threads,
        embeddings=settings.embeddings,
        memory_bytes=settings.memory_bytes,
        mapped_bytes=size,
        air_gapped=settings.air_gapped,
        without=settings.without,
        chat_template=model.template if model.weights.manifest.template_replaced else None,
        weights=files.get("weights"),
        adapter=files.get("adapter"),
        draft=files.get("draft"),
    )
    report, child = await _converse(settings, spec, files, folder)
    if child is None:
        raise LoadFault("specification", f"the child answered {type(report).__name__}", final=True)
    return child


async def probe(outside: Path, *, state_dir: str = "", without: tuple[Withheld, ...] = ()) -> Probed:
    """Start a child that loads nothing and tries what the sandbox must refuse.

    ``outside`` is an existing file that is none of the engine's business; a failing sandbox may remove it.

    Raises:
        LoadFault: the child did not report.

    """
    folder = socket_folder(state_dir)
    settings = Settings(
        context_tokens=1, slots=1, connections=1, threads=1, embeddings=False, memory_bytes=1 << 30,
        load_ms=30_000, air_gapped=False, state_dir=state_dir, without=without,
    )  # fmt: skip
    spec = Spec(
        parent=os.getpid(),
        name=str(outside),
        socket=str(folder / SOCKET_NAME),
        api_key="",
        without=without,
        probe=True,
    )
    report, _ = await _converse(settings, spec, {}, folder)
    if not isinstance(report, Probed):
        raise LoadFault("specification", f"the child answered {type(report).__name__}", final=True)
    return report
