"""An engine that plays: deterministic answers and every fault, over HTTP and in-process.

It is a product, not a mock: drills, demonstrations and the tests of every driver use it. Whatever it says is
marked as simulated.
"""

from __future__ import annotations

from allod.engines.scripted.driver import ScriptedEngine, make
from allod.engines.scripted.server import Seen, Server, serve

__all__ = ["ScriptedEngine", "Seen", "Server", "make", "serve"]
