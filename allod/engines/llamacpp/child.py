"""The child process of the embedded engine: ``python -m allod.engines.llamacpp.child``.

It reads a specification, shuts itself in, hashes what it was given, loads it and listens on a unix socket.
Nothing it is given is believed: not the parent's word that a file is the right one, not the file's header.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from allod.domain.errors import AllodError, Integrity, Invalid
from allod.engines.llamacpp import build, probe, sandbox
from allod.engines.llamacpp.held import Held, hold
from allod.engines.llamacpp.spec import (
    MAX_LINE_BYTES,
    FileSpec,
    Probed,
    Ready,
    Reason,
    RefusedToLoad,
    Report,
    Spec,
)
from allod.vault import gguf, model
from allod.vault.manifest import text_digest

if TYPE_CHECKING:
    from allod.engines.llamacpp.sandbox import Level

MAX_DETAIL: Final = 400
_SPARE_HTTP_THREADS: Final = 4


class _Loaded(msgspec.Struct, frozen=True, kw_only=True):
    weights: Held
    adapter: Held | None
    draft: Held | None
    template: str | None

    @property
    def all(self) -> tuple[Held, ...]:
        return tuple(held for held in (self.weights, self.adapter, self.draft) if held is not None)


class _Channel:
    """The way back to the parent: what stood at descriptor 1, which becomes the log like descriptor 2."""

    def __init__(self) -> None:
        self.fd = os.dup(1)
        os.dup2(2, 1)

    def send(self, report: Report) -> None:
        line = msgspec.json.encode(report) + b"\n"
        while line:
            line = line[os.write(self.fd, line) :]

    def refuse(self, reason: Reason, error: BaseException) -> NoReturn:
        text = (
            f"{error.what}: {error.why}"
            if isinstance(error, AllodError)
            else f"{type(error).__name__}: {error}"
        )
        self.send(RefusedToLoad(reason=reason, detail=text[:MAX_DETAIL]))
        os._exit(0)


def _read_spec() -> Spec:
    """Read one line of standard input without taking a byte more."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte or len(line) >= MAX_LINE_BYTES:
            raise Invalid("the specification did not come whole")
        line += byte
    return msgspec.json.decode(line, type=Spec)


def _hold(file: FileSpec | None, *, kind: model.Kind, lease: bool) -> tuple[Held | None, str | None]:
    """Hold a file still, compare its digest, check its structure again; also return its template's digest."""
    if file is None:
        return None, None
    held = hold(file.fd, lease=lease)
    if held.digest != file.digest:
        raise Integrity("the file is not what was verified", f"got {held.digest}, expected {file.digest}")
    header = gguf.read(held.fd)
    if model.facts(header).kind != kind:
        raise Integrity("the file is not what was verified", f"it is no {kind}")
    text = header.templates.get("")
    return held, None if text is None else text_digest(text)


def _hold_all(spec: Spec) -> _Loaded:
    lease = "lease" not in spec.without
    weights, template = _hold(spec.weights, kind="model", lease=lease)
    if weights is None or spec.weights is None:
        raise Invalid("the specification names no weights")
    if template != spec.weights.template:
        raise Integrity(
            "the chat template is not what was verified", f"got {template}, expected {spec.weights.template}"
        )
    if spec.chat_template is not None:
        template = text_digest(spec.chat_template)
    return _Loaded(
        weights=weights,
        adapter=_hold(spec.adapter, kind="adapter", lease=lease)[0],
        draft=_hold(spec.draft, kind="model", lease=lease)[0],
        template=template,
    )


def _shut_in(spec: Spec, held: tuple[Held, ...], *, network_gone: bool) -> tuple[Level, bool]:
    """Bound memory, close the doors, and refuse to go on in the open where the tenant is air-gapped."""
    sandbox.limit(spec.memory_bytes, spec.mapped_bytes)
    if "seccomp" in spec.without:
        level: Level = "none"
        files = False
    else:
        level, files = sandbox.close_doors(
            [item.fd for item in held], str(Path(spec.socket).parent), network_gone=network_gone
        )
    if level == "none" and spec.air_gapped:
        raise Integrity(
            "there is no sandbox on this machine", "an air-gapped tenant does not run an engine without"
        )
    return level, files


def _end_with_parent() -> None:
    """Wait for the end of standard input in a thread of its own; the parent never writes to it again."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def _parameters(spec: Spec, loaded: _Loaded) -> Any:
    """Fill the engine's parameters; everything that could reach outside is set, whatever its default."""
    import xllamacpp as engine  # noqa: PLC0415 (only after the doors are closed)

    given = engine.CommonParams()
    given.model.path = loaded.weights.path
    given.model_alias = {spec.name}
    given.hostnames, given.port = [spec.socket], 0
    given.api_keys = [spec.api_key]
    given.n_ctx, given.n_parallel, given.fit_params = spec.context_tokens * spec.slots, spec.slots, False
    given.kv_unified = False
    given.n_threads_http = spec.connections + _SPARE_HTTP_THREADS
    for threads in (given.cpuparams, given.cpuparams_batch):
        threads.n_threads, threads.poll = spec.threads, 0
    given.cache_ram_mib = 0
    given.ui, given.ui_mcp_proxy, given.server_tools, given.mcp_servers_config = False, False, [], ""
    given.endpoint_slots, given.endpoint_props, given.endpoint_metrics = True, False, True
    given.models_autoload, given.offline, given.slot_save_path, given.media_path = False, True, "", ""
    given.cors_origins, given.ctx_shift, given.use_jinja = "", False, True
    given.verbosity, given.warmup = 1, True
    if spec.chat_template is not None:
        given.chat_template = spec.chat_template
    if spec.embeddings:
        given.embedding = True
        given.pooling_type = engine.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    if loaded.adapter is not None:
        given.lora_adapters = [engine.CommonAdapterLoraInfo(loaded.adapter.path, 1.0)]
        given.lora_init_without_apply = True
    if loaded.draft is not None:
        kinds = engine.common_speculative_type
        given.speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
        given.speculative.draft.mparams.path = loaded.draft.path
        given.speculative.draft.cpuparams.n_threads = spec.threads
        given.speculative.draft.cpuparams.poll = 0
    return given


def _own_signals() -> None:
    """Take back the handlers the engine installed: a terminal's interrupt is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _probe(spec: Spec, channel: _Channel, *, network_gone: bool) -> NoReturn:
    """Try the sandbox; the file that must stay out of reach is one beside the socket folder."""
    level, files = _shut_in(spec, (), network_gone=network_gone)
    attempts = probe.run(str(Path(spec.socket).parent), spec.name)
    interfaces = ",".join(sorted(name for _, name in socket.if_nameindex())) if level == "none" else ""
    if interfaces:
        attempts["interfaces"] = interfaces
    channel.send(Probed(sandbox=level, files_restricted=files, attempts=attempts))
    os._exit(0)


def _serve(spec: Spec, channel: _Channel) -> None:
    started = time.monotonic()
    reason: Reason = "build"
    network_gone = "netns" not in spec.without and sandbox.unshare_network()
    if not sandbox.die_with(spec.parent):
        os._exit(0)
    try:
        if spec.probe:
            _probe(spec, channel, network_gone=network_gone)
        engine_build = build.installed()
        reason = "integrity"
        loaded = _hold_all(spec)
        reason = "sandbox"
        level, files = _shut_in(spec, loaded.all, network_gone=network_gone)
        reason = "load"
        _end_with_parent()
        server = _load(spec, loaded)
    except (AllodError, OSError, MemoryError, RuntimeError, ValueError, TypeError) as error:
        channel.refuse(reason, error)
    _own_signals()
    channel.send(
        Ready(
            weights=loaded.weights.digest,
            adapter=None if loaded.adapter is None else loaded.adapter.digest,
            draft=None if loaded.draft is None else loaded.draft.digest,
            template=loaded.template,
            engine_version=engine_build.version,
            engine_digest=engine_build.digest,
            sandbox=level,
            files_restricted=files,
            hold=loaded.weights.hold,
            load_ms=int((time.monotonic() - started) * 1000),
        )
    )
    while True:
        signal.pause()
        assert server is not None


def _load(spec: Spec, loaded: _Loaded) -> Any:
    """Construct the server: from here on foreign code runs on the files."""
    parameters = _parameters(spec, loaded)
    import xllamacpp as engine  # noqa: PLC0415

    return engine.Server(parameters)


def main() -> None:
    """Run the child until its parent ends or tells it to."""
    channel = _Channel()
    try:
        spec = _read_spec()
        Path(spec.socket).unlink(missing_ok=True)
    except (AllodError, OSError, msgspec.DecodeError) as error:
        channel.refuse("specification", error)
    _serve(spec, channel)


if __name__ == "__main__":
    main()
