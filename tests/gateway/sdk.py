"""What the SDK tests share: one fleet, one tool, one schema, clients of both SDKs."""

from __future__ import annotations

import anthropic
import openai
from world import Gateway, deployment

APPS = ({"id": "ward", "classes": ["phi"]}, {"id": "press", "classes": ["public"]})
TASKS = ({"name": "careful", "min_quality": 0.95, "objective": "best"},)
_LOW = {"default": 0.5}
_QUICK = {"retries": 0, "first_token_ms": 300, "timeout_ms": 600}
DEPLOYMENTS = [
    deployment("best", "obey", quality={"default": 0.99}),
    *(deployment(f"our-{name}", name, quality=_LOW) for name in ("answer", "echo", "obey", "tool", "think")),
    deployment("text-only", "answer", quality=_LOW, takes=["text"]),
    deployment("foreign", "answer", lawful=False, quality=_LOW),
    deployment("broken", "http-500", quality=_LOW, **_QUICK),
    deployment("half", "truncate", quality=_LOW, **_QUICK),
    deployment("silent", "stall-before", quality=_LOW, **_QUICK),
    deployment("keyless", "answer", quality=_LOW, api_key_env="ALLOD_TEST_NEVER_SET"),
]
TOOL = {
    "type": "function",
    "function": {
        "name": "dose",
        "description": "look up a dose",
        "parameters": {
            "type": "object",
            "properties": {"patient": {"type": "string"}},
            "required": ["patient"],
            "additionalProperties": False,
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "ward": {"type": "integer"}},
    "required": ["name", "ward"],
    "additionalProperties": False,
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def openai_client(gateway: Gateway, app: str, key: str | None = None) -> openai.OpenAI:
    """Return the OpenAI SDK's client of an app, without retries of its own."""
    return openai.OpenAI(
        base_url=f"http://127.0.0.1:{gateway.port}/v1",
        api_key=key or gateway.world.key(app),
        max_retries=0,
        timeout=30,
    )


def anthropic_client(gateway: Gateway, app: str, key: str | None = None) -> anthropic.Anthropic:
    """Return the Anthropic SDK's client of an app, without retries of its own."""
    return anthropic.Anthropic(
        base_url=f"http://127.0.0.1:{gateway.port}",
        api_key=key or gateway.world.key(app),
        max_retries=0,
        timeout=30,
    )
