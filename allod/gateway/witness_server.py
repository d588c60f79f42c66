"""A witness for other logs over HTTP: C2SP tlog-witness ``add-checkpoint``, and nothing else worth asking."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from asyncio import to_thread
from typing import TYPE_CHECKING, Final

from allod.domain.errors import AllodError, Integrity, Invalid, Unavailable
from allod.gateway.gateway import LOG
from allod.gateway.http import TEXT, Gone, read_body, read_head, respond
from allod.receipts.cosignature import Algorithm, Cosigner, parse_cosigner_skey
from allod.receipts.tlog_policy import parse_policy
from allod.receipts.witness import MAX_REQUEST_BYTES
from allod.store.home import unwritable, write_file
from allod.store.witness_state import WitnessState, busy

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from allod.gateway.http import Receive, Scope, Send
    from allod.receipts.notes import VerifyKey

FILES: Final[dict[Algorithm, str]] = {"ed25519": "ed25519.key", "ml-dsa-44": "ml-dsa-44.key"}
_PRIVATE: Final = 0o077


class WitnessApplication:
    """What uvicorn calls.

    Args:
        state: the witness's memory and keys.
        keys: the lines ``GET /keys`` answers, to be handed out.

    """

    def __init__(self, state: WitnessState, keys: str) -> None:
        self._state, self._keys = state, keys.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        asked = (scope["method"], scope["path"])
        try:
            if asked == ("POST", "/add-checkpoint"):
                await self._add(scope, receive, send)
            elif asked == ("GET", "/keys"):
                await respond(send, 200, self._keys, TEXT)
            elif scope["path"] in {"/add-checkpoint", "/keys"}:
                await respond(send, 405, b"this method is not taken here\n", TEXT)
            else:
                await respond(send, 404, b"a witness takes POST /add-checkpoint\n", TEXT)
        except Gone:
            return

    async def _add(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(receive, read_head(scope["headers"]), MAX_REQUEST_BYTES)
            answer = await to_thread(self._state.add, body)
        except Invalid as fault:
            await respond(send, 413 if fault.kind == "size" else 400, f"{fault.what}\n".encode(), TEXT)
        except AllodError as fault:
            LOG.error("nothing was cosigned: %s", fault.explain())
            status = 503 if isinstance(fault, Unavailable) else 500
            await respond(send, status, b"this witness cannot cosign now\n", TEXT)
        else:
            LOG.info("%s %s", answer.status, answer.why)
            await respond(send, answer.status, answer.body, (b"content-type", answer.kind.encode()))


def make_keys(folder: Path, name: str) -> None:
    """Make a witness's folder and its two keys; those that are there stay (raises Unavailable, Invalid)."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "state").mkdir(mode=0o700, exist_ok=True)
        for algorithm, file in FILES.items():
            if not (folder / file).exists():
                cosigner = Cosigner(name, algorithm, os.urandom(32))
                write_file(folder / file, (cosigner.skey() + "\n").encode(), 0o600)
    except OSError as fault:
        raise unwritable(folder, fault) from fault


def load_cosigners(folder: Path) -> tuple[Cosigner, ...]:
    """Read a witness's keys.

    Raises:
        Unavailable: there are none. Integrity: one is damaged, open to others, or of another name.

    """
    found = []
    for file in FILES.values():
        path = folder / file
        try:
            mode, text = path.stat().st_mode, path.read_text("ascii").strip()
        except FileNotFoundError as fault:
            raise Unavailable(
                f"there is no witness at {folder}",
                f"got no {file}",
                "make one: `allod log witness --name NAME`",
                kind="down",
            ) from fault
        except (OSError, UnicodeDecodeError) as fault:
            raise Integrity(f"{path} cannot be read", str(fault), "restore it from a backup") from fault
        if mode & _PRIVATE:
            raise Integrity(f"{path} is open to others", f"got mode {mode & 0o777:04o}", f"chmod 600 {path}")
        found.append(parse_cosigner_skey(text))
    if len({cosigner.key.name for cosigner in found}) != 1:
        raise Integrity(f"the keys in {folder} have two names", "", "restore them from a backup")
    return tuple(found)


def read_logs(path: Path) -> dict[str, tuple[VerifyKey, ...]]:
    """Read whom to witness: lines ``log VKEY``, several keys of one origin in a row (raises Invalid)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    logs: dict[str, tuple[VerifyKey, ...]] = {}
    for key in parse_policy(data + b"\nquorum none\n").logs:
        logs[key.name] = (*logs.get(key.name, ()), key)
    return logs


def add_log(path: Path, key: VerifyKey) -> None:
    """Witness one more log, or one more key of a log (raises Unavailable)."""
    logs = read_logs(path)
    if key in logs.get(key.name, ()):
        return
    lines = [f"log {one.vkey()}\n" for keys in logs.values() for one in keys]
    try:
        write_file(path, "".join([*lines, f"log {key.vkey()}\n"]).encode())
    except OSError as fault:
        raise unwritable(path, fault) from fault


@contextlib.contextmanager
def opened_witness(folder: Path) -> Generator[tuple[WitnessApplication, tuple[Cosigner, ...]], None, None]:
    """Hold a witness's folder and yield its application.

    Raises:
        Unavailable: it is running already, or is none. Integrity: a key is damaged. Invalid: ``logs`` is.

    """
    cosigners, logs = load_cosigners(folder), read_logs(folder / "logs")
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            raise busy() from fault
        state = WitnessState(folder, logs, cosigners, lambda: int(time.time()))
        keys = "".join(f"{cosigner.key.vkey()}\n" for cosigner in cosigners)
        yield WitnessApplication(state, keys), cosigners
    finally:
        os.close(fd)
