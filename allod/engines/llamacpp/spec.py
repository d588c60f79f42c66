"""What parent and child say to each other: one line of JSON each way, then nothing but HTTP on the socket.

The specification comes on the child's standard input, which then stays open: its end is the parent's end.
The report goes out on the child's standard output. The key never stands in arguments or environment.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from allod.engines.llamacpp.sandbox import Level

MAX_LINE_BYTES: Final = 512 * 1024
Withheld = Literal["netns", "seccomp", "lease"]
Reason = Literal["integrity", "build", "sandbox", "load", "specification"]


class FileSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An inherited descriptor and what it must hold.

    ``template`` is the digest of the chat template inside, served or not, checked for weights only.
    """

    fd: int
    digest: str
    template: str | None = None


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the child needs to know.

    Attributes:
        parent: process id of the parent; another parent means that it is gone.
        name: model name the engine shows.
        weights, adapter, draft: files to load; the draft is for speculative decoding.
        socket: path of the unix socket to listen on, in a folder of our own.
        api_key: random, demanded of every request but ``/health``.
        context_tokens: of each slot.
        slots: requests decoded at once.
        connections: requests taken at once; each holds a thread while its connection is kept.
        threads: of computation.
        embeddings: whether mean-pooled embeddings are offered beside chat.
        memory_bytes: bound of private memory; ``mapped_bytes`` of mapped files.
        air_gapped: refuse to run without a sandbox.
        without: protections to leave out, for a machine that forbids them and for tests of what then happens.
        chat_template: served instead of the one inside the weights; None serves that one.
        probe: load nothing; try what the sandbox must refuse and report how that went.

    """

    parent: int
    name: str
    socket: str
    api_key: str
    weights: FileSpec | None = None
    adapter: FileSpec | None = None
    draft: FileSpec | None = None
    context_tokens: int = 4096
    slots: int = 2
    connections: int = 8
    threads: int = 2
    embeddings: bool = False
    memory_bytes: int = 2 << 30
    mapped_bytes: int = 0
    air_gapped: bool = False
    without: tuple[Withheld, ...] = ()
    chat_template: str | None = None
    probe: bool = False


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The engine listens. Digests are those of the very bytes it loaded.

    ``files_restricted`` tells whether Landlock is in force, ``hold`` how the weights are kept still.
    """

    weights: str
    adapter: str | None
    draft: str | None
    template: str | None
    engine_version: str
    engine_digest: str
    sandbox: Level
    files_restricted: bool
    hold: str
    load_ms: int


class RefusedToLoad(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """The child loaded nothing: ``integrity``, ``build`` and ``sandbox`` will not mend by trying again."""

    reason: Reason
    detail: str


class Probed(msgspec.Struct, frozen=True, kw_only=True, tag="probed"):
    """What each forbidden attempt came to: ``refused: ...`` or ``allowed``."""

    sandbox: Level
    files_restricted: bool
    attempts: dict[str, str]


Report = Ready | RefusedToLoad | Probed
