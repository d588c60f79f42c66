"""The driver for the Gemini API (``generateContent``) and servers that speak it.

Entry point ``allod.engines``: ``gemini = "allod.engines.gemini:make"``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allod.domain.fleet import Deployment
    from allod.engines.contract import Engine, EngineContext


def make(deployment: Deployment, context: EngineContext) -> Engine:
    """Build the driver of one deployment (raises ``Invalid`` when its configuration cannot work)."""
    from allod.engines.gemini.driver import GeminiEngine  # noqa: PLC0415 (imported only when used)

    return GeminiEngine(deployment, context)
