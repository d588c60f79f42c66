"""Which drivers there are, and how a deployment gets its own.

Drivers enter by the entry-point group ``allod.engines``, ours and others' alike::

    [project.entry-points."allod.engines"]
    myengine = "my_package.driver:make"

A name of ours cannot be taken by another package. Nothing is imported until a deployment asks for it.
"""

from __future__ import annotations

import difflib
from collections.abc import AsyncGenerator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final, cast

from allod.domain.chat import ChatCall, EmbedCall, Embedded, Event
from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.domain.fleet import Deployment
from allod.engines.contract import Description, Engine, EngineContext, EngineFault, LoadMetrics

GROUP: Final = "allod.engines"
OURS: Final[Mapping[str, str]] = {
    "llamacpp": "allod.engines.llamacpp:make",
    "openai": "allod.engines.openai:make",
    "azure": "allod.engines.openai:make",
    "vllm": "allod.engines.openai:make",
    "sglang": "allod.engines.openai:make",
    "trtllm": "allod.engines.openai:make",
    "ollama": "allod.engines.openai:make",
    "llama-server": "allod.engines.openai:make",
    "mistral": "allod.engines.openai:make",
    "deepseek": "allod.engines.openai:make",
    "compatible": "allod.engines.openai:make",
    "anthropic": "allod.engines.anthropic:make",
    "gemini": "allod.engines.gemini:make",
    "scripted": "allod.engines.scripted:make",
}


def drivers() -> dict[str, EntryPoint]:
    """Return the entry point of every driver, ours and installed ones, by engine name.

    Raises:
        Integrity: if another package claims a name of ours, or two claim the same.

    """
    found = {name: EntryPoint(name=name, value=value, group=GROUP) for name, value in OURS.items()}
    for entry in entry_points(group=GROUP):
        known = found.setdefault(entry.name, entry)
        if known.value != entry.value:
            raise Integrity(
                f"The engine {entry.name!r} is claimed twice.",
                f"{known.value} and {entry.value} both register it in {GROUP}",
                "Uninstall one of the packages.",
            )
    return found


def make_engine(
    deployment: Deployment, context: EngineContext, *, found: Mapping[str, EntryPoint] | None = None
) -> Engine:
    """Make the driver of a deployment.

    A deployment that cannot serve (no credential, a cloud model behind a local name) still gets an engine:
    one that says why (``readiness``) and faults with ``unavailable``.

    Args:
        deployment: what to drive.
        context: the world it is given.
        found: drivers to choose from, ``drivers()`` if None.

    Raises:
        Invalid: for an engine nobody registered.
        Unavailable: for a driver whose package is not installed.

    """
    known = found if found is not None else drivers()
    entry = known.get(deployment.engine)
    if entry is None:
        near = difflib.get_close_matches(deployment.engine, known, n=1)
        raise Invalid(
            f"There is no engine {deployment.engine!r}.",
            f"deployment {deployment.id} names it; known are {', '.join(sorted(known))}",
            f"Write {near[0]!r}." if near else "Install the package that registers it.",
            param="engine",
        )
    try:
        factory = entry.load()
    except ImportError as error:
        raise Unavailable(
            f"The driver for engine {deployment.engine!r} cannot be imported.",
            str(error),
            f"pip install 'allod[{deployment.engine}]'",
            kind="down",
        ) from error
    try:
        return cast("Engine", factory(deployment, context))
    except EngineFault as fault:
        if fault.kind != "unavailable":
            raise
        return Unready(deployment.engine, fault.detail)


def readiness(engine: Engine) -> str | None:
    """Return why an engine cannot serve now, or None (drivers without ``ready`` are always ready)."""
    ready = getattr(engine, "ready", None)
    if ready is None:
        return None
    reason = ready()
    return None if reason is None else str(reason)


class Unready:
    """The engine of a deployment that cannot serve: it says why and never opens a connection."""

    def __init__(self, engine: str, reason: str) -> None:
        self._engine, self._reason = engine, reason

    def describe(self) -> Description:
        """Name the engine; nothing runs."""
        return Description(engine=self._engine, notice=self._reason)

    def ready(self) -> str:
        """Return the reason."""
        return self._reason

    async def chat(self, call: ChatCall) -> AsyncGenerator[Event, None]:  # noqa: ARG002 - the contract
        """Raise ``EngineFault``."""
        raise self._fault()
        yield  # type: ignore[unreachable]  # makes this an asynchronous generator

    async def embed(self, call: EmbedCall) -> Embedded:  # noqa: ARG002 - the contract
        """Raise ``EngineFault``."""
        raise self._fault()

    async def count_tokens(self, call: ChatCall) -> int | None:  # noqa: ARG002 - the contract
        """Raise ``EngineFault``."""
        raise self._fault()

    async def load(self) -> LoadMetrics:
        """Know nothing."""
        return LoadMetrics()

    async def close(self) -> None:
        """Do nothing: nothing is open."""

    def _fault(self) -> EngineFault:
        return EngineFault("unavailable", self._reason, sent=False)
