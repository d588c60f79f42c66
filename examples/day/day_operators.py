"""Scripted deployments on loopback: an OpenAI-compatible server each, that answers what was recorded.

A prompt is known by its text, so the server needs nothing from the gateway but the request a real one would
get. It says the recorded final answer with the recorded numbers of tokens. ``plays`` may be set to another
model while it runs: then that model's answers come under the same name, as after a bad deployment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from decimal import Decimal
from typing import Any, Final, Self

from day_outcomes import Outcomes, prompt_id

PATTERN = r"FINAL ([0-9a-f]{8})"
"""How a final answer stands in a text; the gateway is configured with it."""
_MILLION: Final = Decimal(1_000_000)


class Operator:
    """One deployment's server.

    Args:
        model: the name it answers by.
        outcomes: what was recorded.
        price: USD for a million tokens of input and of output.

    Attributes:
        plays: the model whose answers it gives; ``down``: whether it answers 503 instead.
        port: where it listens. asked: how often it was asked; billed: USD for what it answered.

    """

    def __init__(self, model: str, outcomes: Outcomes, price: tuple[Decimal, Decimal]) -> None:
        self.model, self.plays, self.down = model, model, False
        self.price, self.billed = price, Decimal(0)
        self._outcomes = outcomes
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port, self.asked = 0, 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                status, said = self._answer(await reader.readexactly(_length(head)))
                body = json.dumps(said).encode()
                writer.write(
                    b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                    % (status, len(body), body)
                )
                await writer.drain()
        self._open.discard(writer)
        writer.close()

    def _answer(self, body: bytes) -> tuple[int, dict[str, Any]]:
        if not body:
            return 200, {"object": "list", "data": [{"id": self.model, "object": "model"}]}
        self.asked += 1
        if self.down:
            return 503, {"error": {"message": "down for an hour", "type": "server_error"}}
        asked = json.loads(body)
        found = self._outcomes.answers.get((prompt_id(str(asked["messages"][-1]["content"])), self.plays))
        if found is None:
            return 400, {"error": {"message": "nothing is recorded of this prompt", "type": "invalid"}}
        self.billed += (self.price[0] * found.input_tokens + self.price[1] * found.output_tokens) / _MILLION
        text = f"FINAL {found.key}" if found.key else "I found no final answer."
        message = {"role": "assistant", "content": text}
        usage = {
            "prompt_tokens": found.input_tokens,
            "completion_tokens": found.output_tokens,
            "total_tokens": found.input_tokens + found.output_tokens,
        }
        return 200, {
            "id": f"chatcmpl-{self.asked}",
            "object": "chat.completion",
            "created": 0,
            "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage,
        }


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0
