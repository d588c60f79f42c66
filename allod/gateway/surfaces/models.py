"""``/v1/models``: what may be asked for, in OpenAI's shape, or Anthropic's when its version header came."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from allod.gateway.surfaces.sse import ENCODE


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One thing the ``model`` field may say: a deployment, a model, a task, or ``auto``.

    ``created_s`` is Unix time in seconds; ``owned_by`` names the operator; limits are in tokens.
    """

    id: str
    created_s: int
    owned_by: str
    display_name: str | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None


def model_list(cards: Sequence[ModelCard], *, anthropic: bool) -> bytes:
    """Write the list; it is always complete (``has_more`` false)."""
    if not anthropic:
        return ENCODE({"object": "list", "data": [_openai(card) for card in cards]})
    return ENCODE(
        {
            "data": [_anthropic(card) for card in cards],
            "first_id": cards[0].id if cards else None,
            "has_more": False,
            "last_id": cards[-1].id if cards else None,
        }
    )


def model(card: ModelCard, *, anthropic: bool) -> bytes:
    """Write one entry."""
    return ENCODE(_anthropic(card) if anthropic else _openai(card))


def _openai(card: ModelCard) -> dict[str, Any]:
    return {"id": card.id, "object": "model", "created": card.created_s, "owned_by": card.owned_by}


def _anthropic(card: ModelCard) -> dict[str, Any]:
    return {
        "type": "model",
        "id": card.id,
        "display_name": card.display_name or card.id,
        "created_at": datetime.fromtimestamp(card.created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "max_input_tokens": card.context_tokens,
        "max_tokens": card.max_output_tokens,
        "capabilities": None,
        "lifecycle": "active",
    }
