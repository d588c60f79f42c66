# ruff: noqa: E501, N815 (one row a line; a test is named after its invariant)
"""The suite of all drivers, on the embedded engine's driver: its child is replaced by a misbehaving server.

The child's place is taken by a relay from a unix socket to the scripted server, so everything of the driver
but the starting of a process is the real thing. Left out are the rows about addresses, names and credentials
from the environment: this driver has none of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from llamacpp_world import tiny_vault

from allod.engines.llamacpp import make, process
from allod.engines.llamacpp.spec import Ready
from allod.vault.vault import Vault
from conformance import Conformance, Rig

STEM = {"id": "chatcmpl-1", "created": 1, "model": "tiny", "system_fingerprint": "b0-unknown"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
KEY = "secret-key"


def event(value: object) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({**STEM, "object": "chat.completion.chunk", "choices": [choice]})


class Relay:
    """Stands where a child would: a unix socket whose bytes go to a TCP port and back."""

    def __init__(self, port: int) -> None:
        self.port, self.folder = port, Path(tempfile.mkdtemp(prefix="allod-relay-", dir="/tmp"))
        self.api_key, self.pid = KEY, 0
        self.ready = Ready(
            weights="sha256:" + "0" * 64, adapter=None, draft=None, template=None, engine_version="0", engine_digest="",
            sandbox="none", files_restricted=False, hold="lease", load_ms=0,
        )  # fmt: skip
        self.ended = asyncio.Event()
        self.server: asyncio.Server | None = None

    @property
    def socket(self) -> str:
        return str(self.folder / "s.sock")

    async def start(self) -> Relay:
        self.server = await asyncio.start_unix_server(self.serve, self.socket)
        return self

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.transport.abort()
            return
        ways = [asyncio.create_task(pipe(reader, far_writer)), asyncio.create_task(pipe(far_reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            far_writer.transport.abort()
            writer.close()

    async def wait(self) -> int:
        await self.ended.wait()
        return -9

    def kill(self) -> None:
        self.ended.set()

    async def close(self) -> None:
        self.ended.set()
        if self.server is not None:
            self.server.close()
        shutil.rmtree(self.folder, ignore_errors=True)


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


class LlamaRig(Rig):
    engine = "llamacpp"
    model = "tiny"
    environ: ClassVar[dict[str, str]] = {"KEY": KEY}
    more = chunk({"content": " more"})
    error = b'{"error":{"message":"Tell me.","type":"server_error","code":500}}'
    error_event = b"data: " + error + b"\n\n"
    misshapen = b'{"object":"chat.completion","choices":[{"index":0,"message":"text"}]}'
    misshapen_event = b'data: {"choices":[{"index":0,"delta":"text"}]}\n\n'
    differs: ClassVar[dict[str, tuple[str | None, ...]]] = {
        "reset": ("truncated", "truncated"),  # a unix socket cannot say that it was reset
    }
    vault: Vault | None = None

    def make(self, deployment, context):
        port = deployment.base_url.split(":")[2].split("/")[0]
        world = msgspec.structs.replace(context, vault=self.vault, state_dir=f"port:{port}")
        return make(msgspec.structs.replace(deployment, base_url=None), world)

    def whole(self):
        choice = {"index": 0, "message": {"role": "assistant", "content": self.TEXT}, "finish_reason": "stop"}
        return msgspec.json.encode({**STEM, "object": "chat.completion", "choices": [choice], "usage": USAGE})

    def events(self):
        return [
            chunk({"role": "assistant", "content": ""}), chunk({"content": "A whole"}), chunk({"content": " answer."}),
            chunk({}, "stop"), event({**STEM, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}),
            b"data: [DONE]\n\n",
        ]  # fmt: skip

    def is_mark(self, event):
        return b"[DONE]" in event


class TestLlamaCpp(Conformance):
    rig: ClassVar[LlamaRig] = LlamaRig()

    test_nothing_listens_is_connect_and_not_sent = None  # the driver starts what listens
    test_I6_a_forbidden_address_gets_no_connection = None  # it connects to no address
    test_a_missing_credential_is_unavailable_and_opens_no_connection = None  # its key is made at the start

    @pytest.fixture(autouse=True)
    def relayed(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
        async def start(_vault, _model, _draft, settings):
            return await Relay(int(settings.state_dir.removeprefix("port:"))).start()

        monkeypatch.setattr(process, "start", start)
        self.rig.vault = tiny_vault(tmp_path)
        yield
        self.rig.vault = None
