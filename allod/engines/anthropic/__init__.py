"""The driver for the Anthropic Messages API and servers that speak it.

Entry point ``allod.engines``: ``anthropic = "allod.engines.anthropic:make"``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allod.domain.fleet import Deployment
    from allod.engines.contract import Engine, EngineContext


def make(deployment: Deployment, context: EngineContext) -> Engine:
    """Build the driver of one deployment (raises ``Invalid`` when its configuration cannot work)."""
    from allod.engines.anthropic.driver import AnthropicEngine  # noqa: PLC0415 (imported only when used)

    return AnthropicEngine(deployment, context)
