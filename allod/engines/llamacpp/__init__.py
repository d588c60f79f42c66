"""The embedded engine: llama.cpp in a child process without network, spoken to over a unix socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allod.domain.fleet import Deployment
    from allod.engines.contract import EngineContext
    from allod.engines.llamacpp.driver import LlamaCpp


def make(deployment: Deployment, context: EngineContext) -> LlamaCpp:
    """Make the driver (the factory named in ``allod.engines``); nothing is loaded until ``start`` or a call.

    Raises:
        EngineFault: ``unavailable`` when the context carries no vault.

    """
    from allod.engines.llamacpp.driver import LlamaCpp  # noqa: PLC0415 (the child imports this package too)

    return LlamaCpp(deployment, context)
