"""Leaves written from forms: what like requests share is encoded once, the rest is filled in.

A form is made from the leaf of one request with marks in the places that differ. What it writes is, byte for
byte, what ``intent_leaf`` and ``terminal_leaf`` write for the same facts (held equal by a property test);
where a form does not fit, those two write the leaf.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.money import plain
from allod.domain.usage import Usage
from allod.receipts.leaves import (
    MAX_INTENT_BYTES,
    MAX_LEAF_BYTES,
    IntentFacts,
    TerminalFacts,
    intent_leaf,
    leaf_time,
    terminal_leaf,
    whole_terminal,
)
from allod.receipts.tokens import tokens_json

if TYPE_CHECKING:
    from collections.abc import Sequence

ID_CHARS: Final = 37
COMMITMENT_CHARS: Final = 71
_ID: Final = "~id" + "~" * (ID_CHARS - 3)
_REQUEST: Final = "~request" + "~" * (COMMITMENT_CHARS - 8)
_RESPONSE: Final = "~response" + "~" * (COMMITMENT_CHARS - 9)
_HASH: Final = b"\xfa" * 32
_NEVER_MS: Final = 253_402_300_799_999
_COST: Final = Decimal("987654321.123456789")
_SEQ: Final = 876_543_210_123_456
_TOKENS: Final = Usage(input_tokens=987_654_321, output_tokens=123_456_789)


class IntentForm:
    """The form of intent leaves that differ in id, time and commitment alone.

    Args:
        facts: of any one of them.

    """

    __slots__ = ("_parts", "facts")

    def __init__(self, facts: IntentFacts) -> None:
        self.facts = msgspec.structs.replace(facts, id=_ID, at_ms=_NEVER_MS, request=_REQUEST)
        written, leaf = intent_leaf(self.facts)
        fits = written is self.facts and len(leaf) <= MAX_INTENT_BYTES
        self._parts = _cut(leaf, (_ID, _REQUEST, leaf_time(_NEVER_MS))) if fits else None

    def fill(self, receipt: str, at_ms: int, request: str) -> tuple[IntentFacts, bytes]:
        """Return facts as written and leaf, as ``intent_leaf`` does."""
        facts = msgspec.structs.replace(self.facts, id=receipt, at_ms=at_ms, request=request)
        parts = self._parts
        if parts is None or len(receipt) != ID_CHARS or len(request) != COMMITMENT_CHARS:
            return intent_leaf(facts)
        leaf = f"{parts[0]}{receipt}{parts[1]}{request}{parts[2]}{leaf_time(at_ms)}{parts[3]}"
        return facts, leaf.encode()


class TerminalForm:
    """The form of terminal leaves of answers: like but for id, time, commitments, tokens, number and cost.

    Args:
        intent: facts of the intent of any one of them.
        facts: of its end; ``response``, ``usage`` and ``cost_usd`` are to be known.

    """

    __slots__ = ("_parts", "facts")

    def __init__(self, intent: IntentFacts, facts: TerminalFacts) -> None:
        self.facts = msgspec.structs.replace(
            facts, id=_ID, at_ms=_NEVER_MS, response=_RESPONSE, usage=_TOKENS, cost_usd=_COST
        )
        begun = msgspec.structs.replace(intent, id=_ID, request=_REQUEST)
        numbered = msgspec.structs.replace(self.facts, seq=_SEQ)
        leaf = terminal_leaf(begun, _HASH, numbered)
        whole = leaf == whole_terminal(begun, "sha256:" + _HASH.hex(), numbered)
        marks = (
            plain(_COST), _ID, _HASH.hex(), _REQUEST, _RESPONSE, f'"seq":{_SEQ}', leaf_time(_NEVER_MS),
            tokens_json(_TOKENS),
        )  # fmt: skip
        self._parts = _cut(leaf, marks) if whole else None

    def of(
        self, *, receipt: str, at_ms: int, response: str, usage: Usage, cost_usd: Decimal
    ) -> TerminalFacts:
        """Return the facts of one of these ends."""
        return msgspec.structs.replace(
            self.facts, id=receipt, at_ms=at_ms, response=response, usage=usage, cost_usd=cost_usd
        )

    def fill(
        self, intent: IntentFacts, intent_hash: bytes, facts: TerminalFacts, seq: int | None = None
    ) -> bytes:
        """Return the leaf as ``terminal_leaf`` does, of facts that ``of`` returned, with this number."""
        p, response, usage, cost = self._parts, facts.response, facts.usage, facts.cost_usd
        if (
            p is None or response is None or usage is None or cost is None or seq is None
            or len(facts.id) != ID_CHARS or len(intent.request) + len(response) != 2 * COMMITMENT_CHARS
        ):  # fmt: skip
            return terminal_leaf(intent, intent_hash, msgspec.structs.replace(facts, seq=seq))
        leaf = (
            f"{p[0]}{plain(cost)}{p[1]}{facts.id}{p[2]}{intent_hash.hex()}{p[3]}{intent.request}{p[4]}"
            f'{response}{p[5]}"seq":{seq}{p[6]}{leaf_time(facts.at_ms)}{p[7]}{tokens_json(usage)}{p[8]}'
        ).encode()
        if len(leaf) <= MAX_LEAF_BYTES:
            return leaf
        return terminal_leaf(intent, intent_hash, msgspec.structs.replace(facts, seq=seq))


def _cut(leaf: bytes, marks: Sequence[str]) -> tuple[str, ...] | None:
    """Cut a leaf at its marks, which must stand there once each and in this order; None if they do not."""
    parts: list[str] = []
    rest = leaf.decode()
    for mark in marks:
        if rest.count(mark) != 1 or any(mark in part for part in parts):
            return None
        part, _, rest = rest.partition(mark)
        parts.append(part)
    return (*parts, rest)
