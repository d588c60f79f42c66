"""Setting a witness's objection aside without a restart: when it may be done, and the leaf that says so.

A witness that says it has seen more of the log, or another history, stops all requests: that is what a rolled
back or forked log looks like. One that lies, or lost its mind, looks the same from inside. So an objection is
set aside only by an operator's act, only while most of the configured witnesses, none of them objecting, have
followed this very log from before the gateway started, and only for the claim it makes now: another claim, or
the log outgrowing the size it claims, is an objection again. The leaf stays, and so does the line in every
report; the witness's cosignature counts for nothing until it cosigns again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from allod.receipts.ids import new_id
from allod.receipts.leaves import NoticeFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.store.store import Store

SUBJECT: Final = "witness-set-aside"


class Objector(Protocol):
    """What is looked at of a witness.

    ``against`` is its objection or empty, ``claim`` what exactly it claims, ``aside`` the claim that was set
    aside; ``signed`` the last size it cosigned, ``heard`` the size it knew when it was first asked.
    """

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    against: str
    claim: str
    aside: str
    signed: int
    heard: int | None


def refusal(states: Sequence[Objector], name: str, before: int) -> str | None:
    """Return why an objection may not be set aside, None if it may.

    Args:
        states: all configured witnesses.
        name: whose objection.
        before: how many leaves were cosigned when the gateway started.

    """
    state = next((one for one in states if one.name == name), None)
    if state is None:
        return f"no witness is called {name}; there are " + (", ".join(s.name for s in states) or "none")
    if not state.against:
        return f"{name} does not object"
    others = [one.name for one in states if one is not state and one.against]
    if others:
        return f"{', '.join(others)} objects too: two that say so are what a rollback looks like"
    support = supporters(states, before)
    if 2 * len(support) <= len(states):
        return (
            f"{len(support)} of {len(states)} witnesses have followed this log since before the start, more "
            "than half must have: restore the newest home, or take the witness out of [log] witnesses and "
            "start again"
        )
    return None


def supporters(states: Sequence[Objector], before: int) -> list[str]:
    """Return who knew at least ``before`` leaves when first asked, and has cosigned what came after."""
    return [
        one.name
        for one in states
        if not one.against and one.heard is not None and one.heard >= before and one.signed >= one.heard
    ]


def leaf_of(store: Store, state: Objector, support: Sequence[str], *, reason: str, tenant: str, at_ms: int,
            chance: bytes) -> NoticeFacts:  # fmt: skip
    """Say in the log whose objection was set aside, what it claimed, why, and who saw the log go on."""
    return NoticeFacts(
        id=new_id(store.keys.origin, at_ms, chance),
        at_ms=at_ms,
        tenant=tenant,
        subject=SUBJECT,
        detail=reason,
        facts={
            "witness": state.name,
            "claim": state.claim,
            "size": str(store.reader.newest().size),
            "supported_by": ", ".join(support),
        },
    )
