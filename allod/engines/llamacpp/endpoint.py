"""The child's HTTP side as the driver uses it: llama-server's protocol over a unix socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.engines.contract import EngineContext, EngineFault
from allod.engines.openai.driver import PROBE_MS, OpenAIEngine
from allod.engines.wire import Wire

if TYPE_CHECKING:
    from allod.domain.chat import ChatCall
    from allod.domain.fleet import Deployment
    from allod.engines.llamacpp.process import Child

HEALTH_MS: Final = 5_000
SIDE_CONNECTIONS: Final = 4
"""For questions about load, tokens and health, which must not wait behind answers."""
_BASE_URL: Final = "http://localhost/v1"
_KEY: Final = "ALLOD_ENGINE_KEY"
_OURS: Final = frozenset({"lora", "id_slot", "cache_prompt"})
"""Fields of the protocol that choose adapters and slots: never the caller's to set."""
_MAX_SIDE_BYTES: Final = 16 << 20


def _nowhere(_host: str, _port: int) -> bool:
    """No address is ever connected to: the wire has a unix socket."""
    return False


def _wire(child: Child, connections: int) -> Wire:
    return Wire(_BASE_URL, allow_address=_nowhere, max_connections=connections, unix_socket=child.socket)


class Endpoint(OpenAIEngine):
    """A running child: the adapter and the depth are said in every request.

    Args:
        deployment: its limits are kept.
        child: what listens.
        name: the model name the child was given.
        connections: answers at once; the child has a thread for each.

    """

    def __init__(self, deployment: Deployment, child: Child, name: str, connections: int) -> None:
        inner = msgspec.structs.replace(
            deployment, engine="llama-server", base_url=_BASE_URL, model=name, api_key_env=_KEY
        )
        world = EngineContext(environ={_KEY: child.api_key}, allow_address=_nowhere, state_dir="")
        super().__init__(inner, world, wire=_wire(child, connections))
        self._side = _wire(child, SIDE_CONNECTIONS)
        self._lora = [{"id": 0, "scale": 1.0}] if child.ready.adapter is not None else []

    def own(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body with our choice of adapter in place of any other."""
        out = {key: value for key, value in body.items() if key not in _OURS}
        if self._lora:
            out["lora"] = self._lora
        return out

    async def count_tokens(self, call: ChatCall) -> int | None:
        """Count the rendered conversation with the engine's own tokenizer, at the depth it will have."""
        given = {key: call.body[key] for key in ("messages", "tools", "tool_choice") if call.body.get(key)}
        given["chat_template_kwargs"] = {"enable_thinking": (call.effort or "none") != "none"}
        prompt = await self._ask("/apply-template", given)
        if not isinstance(prompt, dict) or not isinstance(prompt.get("prompt"), str):
            return None
        asked = {"content": prompt["prompt"], "add_special": True, "parse_special": True}
        tokens = await self._ask("/tokenize", asked)
        found = tokens.get("tokens") if isinstance(tokens, dict) else None
        return len(found) if isinstance(found, list) else None

    async def healthy(self) -> bool:
        """Ask whether it answers at all."""
        try:
            return (await self._beside("GET", "/health", b"", HEALTH_MS))[0] > 0
        except EngineFault:
            return False

    async def close(self) -> None:
        """Close all connections."""
        await self._side.close()
        await super().close()

    async def _probe(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        return await self._beside(method, path, body, PROBE_MS)

    async def _beside(self, method: str, path: str, body: bytes, limit_ms: int) -> tuple[int, bytes]:
        """Ask a question beside the answers under way, on connections of its own."""
        response = await self._side.request(
            method, path, self._headers, body, first_byte_ms=limit_ms, idle_ms=limit_ms, total_ms=limit_ms,
            max_body_bytes=_MAX_SIDE_BYTES, from_root=True,
        )  # fmt: skip
        try:
            return response.status, await response.read()
        finally:
            response.abort()
