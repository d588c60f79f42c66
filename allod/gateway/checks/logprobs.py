"""Asking a base how sure it was of its words, and keeping that from whoever did not ask for it.

A deployment is asked for log probabilities only where its task has the check ``margin``, it takes
``logprobs``, and no pseudonyms stand between: a name that was covered has no probability of its own. What
reaches the client is what they asked for; the step's receipt commits to what the deployment was asked and
answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.assurance.margins import ALTERNATIVES
from allod.domain.chat import Chunk, Whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from allod.domain.fleet import CascadeTask, Fleet
    from allod.engines.run import Answer
    from allod.gateway.entry import Ask

NEED: Final = "logprobs"
_MARK: Final = b'"logprobs"'


def wanted(own: CascadeTask, fleet: Fleet, deployment: str, ask: Ask) -> bool:
    """Say whether a deployment is asked for log probabilities of its answer to a request."""
    if "margin" not in own.check:
        return False
    one = fleet.deployments[deployment]
    covered = ask.app.pseudonymise and not fleet.operator_of(one).own
    return NEED in one.takes and not covered


def asking(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body that asks for them too."""
    top = max(ALTERNATIVES, _top(body) or 0)
    return {**body, "logprobs": True, "top_logprobs": top}


def _top(body: dict[str, Any]) -> int | None:
    """Return how many alternatives the caller asked for, None where for no log probabilities at all."""
    if not body.get("logprobs"):
        return None
    top = body.get("top_logprobs")
    return top if isinstance(top, int) and not isinstance(top, bool) else 0


def entries(events: Iterable[Answer]) -> list[Any]:
    """Return what was reported of an answer's tokens, in order; nothing of it is trusted."""
    out: list[Any] = []
    for event in events:
        if isinstance(event, Chunk):
            out += _content(event.logprobs)
        elif isinstance(event, Whole):
            choices = _body(event).get("choices")
            first = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
            out += _content(first.get("logprobs") if isinstance(first, dict) else None)
    return out


def _body(one: Whole) -> dict[str, Any]:
    if one.body is not None:
        return one.body
    try:
        found = msgspec.json.decode(one.raw or b"")
    except (msgspec.MsgspecError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _content(said: Any) -> list[Any]:
    found = said.get("content") if isinstance(said, dict) else None
    return found if isinstance(found, list) else []


def hidden(events: Sequence[Answer], body: dict[str, Any]) -> list[Answer]:
    """Return an answer as its caller asked for it.

    Args:
        events: with more log probabilities than that. body: the caller's own request.

    """
    top = _top(body)
    return list(events) if top is not None and top >= ALTERNATIVES else [_hidden(one, top) for one in events]


def _hidden(event: Answer, top: int | None) -> Answer:
    if isinstance(event, Chunk) and (
        event.logprobs is not None or (event.raw is not None and _MARK in event.raw)
    ):
        raw = event.raw if event.raw is None or event.dialect != "openai" else _line(event.raw, top)
        return msgspec.structs.replace(event, logprobs=_cut(event.logprobs, top), raw=raw)
    if isinstance(event, Whole) and event.dialect == "openai":
        body = _body(event)
        if isinstance(body.get("choices"), list):
            return msgspec.structs.replace(event, body=_without(body, top), raw=_again(event, body, top))
    return event


def _again(one: Whole, body: dict[str, Any], top: int | None) -> bytes | None:
    return None if one.raw is None else msgspec.json.encode(_without(body, top))


def _line(raw: bytes, top: int | None) -> bytes | None:
    """Write an event of a stream again; None, so that it is written from its fields, where it is none."""
    data = b"".join(
        line.removeprefix(b"data:").strip() for line in raw.splitlines() if line.startswith(b"data:")
    )
    try:
        body = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    return b"data: " + msgspec.json.encode(_without(body, top)) + b"\n\n"


def _without(body: dict[str, Any], top: int | None) -> dict[str, Any]:
    choices = body.get("choices")
    if not isinstance(choices, list):
        return body
    told = [
        {**one, "logprobs": _cut(one.get("logprobs"), top)} if isinstance(one, dict) else one
        for one in choices
    ]
    return {**body, "choices": told}


def _cut(said: Any, top: int | None) -> Any:
    """Return log probabilities with so many alternatives; None where the caller asked for none."""
    if top is None or not isinstance(said, dict):
        return None
    return {**said, "content": [_fewer(one, top) for one in _content(said)]}


def _fewer(one: Any, top: int) -> Any:
    others = one.get("top_logprobs") if isinstance(one, dict) else None
    return {**one, "top_logprobs": others[:top]} if isinstance(others, list) else one
