"""Driver for every server that speaks OpenAI's protocol: one driver, one table of dialects."""

from __future__ import annotations

from allod.engines.openai.driver import OpenAIEngine, make

__all__ = ["OpenAIEngine", "make"]
