"""The receipts a request stems from: those its caller names, and those whose tool calls it answers.

A caller names receipts with ``Allod-Parent``; each must be its own. A tool call is found again by its id:
when an answer calls a tool, a keyed digest of app and call id is kept in memory beside the answer's receipt,
and a request that carries the result names that receipt. No id and no content is kept, nothing of it is on
the disk: after a restart the parent is absent.

It is absent rather than wrong. Some engines count their calls (``call_0``) instead of naming them: an id that
two answers of one app used names neither from then on. An app's calls are remembered until ``REMEMBERED``
later ones have been made, at most twice as many; an id used again after that would name the later answer.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.admission.labels import MAX_PARENTS
from allod.domain.chat import Chunk, Whole
from allod.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from allod.engines.run import Answer
    from allod.gateway.entry import Ask
    from allod.gateway.gateway import Gateway
    from allod.receipts.leaves import TerminalFacts

REMEMBERED: Final = 4096
"""Calls of one app, before the older half is let go."""
_ALPHABET: Final = re.compile(r"[^a-zA-Z0-9_-]")
"""What one dialect writes as ``_`` in an id: an id is known by what all dialects make of it."""
_OURS: Final = re.compile(r"(?:call|toolu)_([0-9a-f]{8}_[0-7][0-9A-HJKMNP-TV-Z]{25})_[0-9]{1,4}")
"""An id that a surface made of the receipt's own, where the operator gave none."""


class ToolCalls:
    """Which receipt a tool call was made under, per app; in memory only.

    Args:
        secret: 32 random bytes: digests kept here lead nobody back to an id.

    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._apps: dict[str, tuple[dict[bytes, str | None], dict[bytes, str | None]]] = {}

    def note(self, app: str, call: str, receipt: str) -> None:
        """Remember that a call was made; an id that another receipt used belongs to neither."""
        name = self._name(app, call)
        new, old = self._apps.setdefault(app, ({}, {}))
        known = new[name] if name in new else old.get(name, receipt)
        new[name] = receipt if known == receipt else None
        if len(new) >= REMEMBERED:
            self._apps[app] = ({}, new)

    def made_under(self, app: str, call: str) -> str | None:
        """Return the receipt a call was made under, or None where that is not known for sure."""
        name = self._name(app, call)
        new, old = self._apps.get(app, ({}, {}))
        return new[name] if name in new else old.get(name)

    def _name(self, app: str, call: str) -> bytes:
        text = f"{app}\n{_ALPHABET.sub('_', call)}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._secret, digest_size=16).digest()


class NotesCalls:
    """A tap that remembers the tool calls of one answer."""

    def __init__(self, calls: ToolCalls, app: str, receipt: str) -> None:
        self._calls, self._app, self._receipt = calls, app, receipt

    def see(self, items: Sequence[Answer]) -> None:
        """Note the ids of calls before they are delivered: a result may come back at once."""
        for item in items:
            if type(item) is Chunk and not item.tool_calls:
                continue
            for call in ids_in(item):
                self._calls.note(self._app, call, self._receipt)

    def over(self, facts: TerminalFacts) -> None:
        """Leave it at that: a call that was delivered was made, however the answer ended."""


def ids_in(item: Answer) -> Iterable[str]:
    """Return the ids of the tool calls in a piece of an answer, or in a whole one."""
    if isinstance(item, Chunk):
        return [call.id for call in item.tool_calls if call.id]
    if not isinstance(item, Whole):
        return ()
    if item.body is None and b"tool_" not in (item.raw or b""):
        return ()
    try:
        body = item.body if item.body is not None else msgspec.json.decode(item.raw or b"{}")
        return [call for call in _ids(body) if isinstance(call, str) and call]
    except (msgspec.DecodeError, TypeError, AttributeError, KeyError, RecursionError):
        return ()  # what cannot be read as an answer cannot be said in its dialect either


def _ids(body: dict[str, Any]) -> Iterator[Any]:
    """Yield the ids of calls in an OpenAI ``chat.completion`` or an Anthropic ``Message``."""
    for choice in body.get("choices") or ():
        for call in choice["message"].get("tool_calls") or ():
            yield call.get("id")
    content = body.get("content")
    for block in content if isinstance(content, list) else ():
        if block.get("type") == "tool_use":
            yield block.get("id")


def results_in(body: dict[str, Any]) -> list[str]:
    """Return the ids of the calls a request carries new results of: those after the last answer in it."""
    out: list[str] = []
    messages = body.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if message.get("role") == "assistant":
            break
        if message.get("role") == "tool" and isinstance(message.get("tool_call_id"), str):
            out.append(message["tool_call_id"])
    out.reverse()
    return out


def demand_own(gateway: Gateway, app: str, declared: tuple[str, ...]) -> None:
    """Demand that receipts a caller names as parents are its own.

    Raises:
        Invalid: one is not; whether it exists for another app is not said.

    """
    for name in declared:
        if not gateway.owns(app, name):
            raise Invalid(
                f"the parent {name} is no receipt of this app",
                "a request stems from receipts of the app that asks, in this home",
                "name receipts as `Allod-Receipt` gave them to this app",
                param="allod-parent",
            )


def with_calls(gateway: Gateway, ask: Ask) -> Ask:
    """Return a request that may call tools with whose calls it answers, and with a tap for its own."""
    app, receipt = ask.admitted.app, ask.admitted.receipt
    notes = NotesCalls(gateway.tool_calls, app, receipt)
    parents = parents_of(gateway, app, ask.parents, ask.parsed.body)
    return msgspec.structs.replace(ask, parents=parents, taps=(*ask.taps, notes))


def parents_of(
    gateway: Gateway, app: str, declared: tuple[str, ...], body: dict[str, Any]
) -> tuple[str, ...]:
    """Return the receipts a request stems from, at most ``MAX_PARENTS``: first those its caller declared."""
    found = dict.fromkeys(declared)
    for call in results_in(body):
        made = _OURS.fullmatch(call)
        known = gateway.tool_calls.made_under(app, call) if made is None else f"r_{made[1]}"
        if known is not None and (made is None or gateway.owns(app, known)):
            found[known] = None
    return tuple(found)[:MAX_PARENTS]
