"""The second opinion: a deployment of our own is asked about a request before the request is decided.

It is a request like any other: admitted, decided, receipted, paid for, with the asking request as its parent.
It is admitted as ``unscanned``, which only a deployment that may see every resident class is allowed. What
was thought of a text is remembered by its digest.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING, Final

import msgspec

from allod.admission import opinion
from allod.admission.admit import admit, classes_of
from allod.admission.sizes import measure
from allod.domain.classes import UNSCANNED, expand
from allod.domain.request import Labels
from allod.gateway import pipeline
from allod.gateway.entry import Ask
from allod.gateway.preparing import texts_of
from allod.gateway.surfaces.chat import ChatSurface
from allod.receipts.commitment import commitment
from allod.receipts.handling import Handling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.domain.fleet import App
    from allod.engines.outbox import Outbox
    from allod.gateway.gateway import Gateway
    from allod.gateway.preparing import Prepared
    from allod.gateway.surfaces.contract import Parsed

REMEMBERED: Final = 4096
OK: Final = 200


class Kept:
    """A client that keeps what it is given."""

    outbox: Outbox | None = None

    def __init__(self) -> None:
        self.status, self.body = 0, b""

    def start(self, status: int, lines: bytes, length: int | None) -> None:  # noqa: ARG002 (nobody reads heads)
        """Note the status."""
        self.status = status

    def write(self, data: bytes, *, more: bool) -> None:  # noqa: ARG002 (it is all kept)
        """Keep bytes."""
        self.body += data


class Opinions:
    """Asks one deployment, and remembers.

    Args:
        deployment: whom to ask; our own.
        required: whether a request without an opinion is ``unscanned``.

    """

    def __init__(self, deployment: str, *, required: bool) -> None:
        self._deployment, self._required = deployment, required
        self._surface = ChatSurface()
        self._known: dict[bytes, frozenset[str]] = {}

    async def heard(
        self,
        gateway: Gateway,
        app: App,
        parsed: Parsed,
        ready: Prepared,
        parent: str,
        subject: str | None = None,
    ) -> Prepared:
        """Return a prepared request with what the opinion adds.

        ``parent`` is its own receipt, ``subject`` whom it is about: so is the question, which is erased with
        it.
        """
        already = expand((*classes_of(app, gateway.fleet), *ready.detected))
        if not opinion.undecided(already):
            return ready
        texts = [text for text in texts_of(parsed) if text]
        said = await self.of(gateway, app, texts, parent, subject) if texts else frozenset()
        if said is None:
            raised, kind = frozenset({UNSCANNED} if self._required else ()), "OPINION_FAILED"
        elif said:
            raised, kind = said, "OPINION"
        else:
            return ready
        data = ready.data or Handling()
        return msgspec.structs.replace(
            ready,
            detected=tuple(sorted({*ready.detected, *raised})),
            data=msgspec.structs.replace(data, detected={**data.detected, kind: 1}),
        )

    async def of(
        self, gateway: Gateway, app: App, texts: Sequence[str], parent: str, subject: str | None = None
    ) -> frozenset[str] | None:
        """Return the classes a request deserves besides those it has; None where there is no opinion."""
        asked = opinion.question(texts)
        if asked is None:
            return None
        key = hashlib.blake2b(msgspec.json.encode(asked), digest_size=16).digest()
        known = self._known.get(key)
        if known is None:
            client = Kept()
            ended = await pipeline.answer(gateway, self._ask(gateway, app, asked, parent, subject), client)
            if ended == "aborted":
                raise asyncio.CancelledError  # whoever asked is gone: nothing more is sent for them
            known = opinion.answer(client.body) if client.status == OK else None
            if known is not None:
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known[key] = known
        return known

    def _ask(
        self, gateway: Gateway, app: App, asked: dict[str, object], parent: str, subject: str | None
    ) -> Ask:
        raw = msgspec.json.encode({**asked, "model": self._deployment})
        parsed = self._surface.parse(raw)
        needs, sizes = measure(parsed.body, raw)
        at_ms = gateway.now_ms()
        admitted = admit(
            index=gateway.index,
            app=app,
            surface="chat",
            model=self._deployment,
            labels=Labels(classes=(UNSCANNED,)),
            needs=needs,
            sizes=sizes,
            stream=False,
            receipt=gateway.fresh_receipt(at_ms),
            received_at_ms=at_ms,
        )
        salts = gateway.chance.draw(64)
        return Ask(
            app=app,
            surface=self._surface,
            parsed=parsed,
            admitted=admitted,
            request=commitment(salts[:32], raw),
            salts=salts,
            started=time.monotonic(),
            subject=subject,
            parents=(parent,),
        )
