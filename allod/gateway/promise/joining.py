"""Evidence of other nodes, taken into the promises of this one: at rest, or by the gateway that runs.

At rest the command writes the notice and the state itself. While a gateway runs it alone writes the log, so
the command leaves what it has verified in ``promises/incoming``, with the key it was verified by; the gateway
verifies it again and takes it in within ``EVERY_S``, or at its next start.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from allod.domain.errors import AllodError, Invalid, Refused
from allod.gateway.promise import state as states
from allod.gateway.promise import telling
from allod.gateway.promise.kept import folder, notices, path_of, put
from allod.receipts.commitment import pseudonym
from allod.receipts.ids import new_id
from allod.receipts.leaves import NoticeFacts
from allod.receipts.notes import parse_vkey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from allod.domain.fleet import Fleet
    from allod.gateway.promise.state import Standing
    from allod.gateway.promise.telling import Telling
    from allod.store.home import Home
    from allod.store.store import Store

EVERY_S: Final = 10.0
"""How often a running gateway looks for what came in."""
_DAY_MS: Final = 86_400_000


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one promise that was told of; ``why`` where it was refused."""

    task: str
    policy: str
    outcome: Literal["joined", "known", "refused", "left"]
    audits: int
    why: str = ""


def join(
    said: Telling,
    digest: str,
    *,
    fleet: Fleet,
    pack: str,
    at_ms: int,
    find: Callable[[str, str], Standing | None],
    record: Callable[[Standing, dict[str, str], str], bool],
) -> list[Outcome]:
    """Take in what a node told, promise by promise; each that is news is recorded, or not taken in.

    Args:
        said, digest: what was told, verified, and the digest of its file, which is kept.
        fleet, pack: as they are here; evidence of another policy is refused.
        at_ms: now, UTC ms.
        find: finds the promise here by task and policy, None where it has not begun.
        record: writes a notice of what enters a promise; False where the log does not take it.

    """
    out = []
    for part in said.promises:
        what, why = _one(said, part, digest, fleet, pack, at_ms, find, record)
        out.append(
            Outcome(task=part.task, policy=part.policy, outcome=what, audits=part.state.audits, why=why)
        )
    return out


def _one(
    said: Telling,
    part: telling.Part,
    digest: str,
    fleet: Fleet,
    pack: str,
    at_ms: int,
    find: Callable[[str, str], Standing | None],
    record: Callable[[Standing, dict[str, str], str], bool],
) -> tuple[Literal["joined", "known", "refused"], str]:
    why = telling.why_not(part, fleet, pack)
    if why is None and part.state.at_ms > at_ms + _DAY_MS:
        why = "it tells of audits after today: a clock is wrong, there or here"
    if why is not None:
        return "refused", why
    standing = find(part.task, part.policy)
    if standing is None:
        standing = telling.begun(part, at_ms)
        if not record(standing, states.begun(standing), "begins at the reference"):
            return "refused", standing.trouble
    before, models = standing.proof, standing.models
    try:
        news = telling.take(standing, said.origin, part, digest)
    except Invalid as error:
        return "refused", f"{error.what}; {error.why}".rstrip("; ")
    if not news:
        return "known", ""
    detail = f"{said.origin} told of {part.state.audits} audits of its own"
    if not record(standing, telling.facts(said.origin, part, digest), detail):
        standing.rest_on(before)
        standing.models = models
        return "refused", standing.trouble
    return "joined", ""


def demand_other(said: Telling, origin: str) -> None:
    """Demand that it is of another node.

    Raises:
        Refused: it is this node's own evidence, which would be counted twice.

    """
    if said.origin == origin:
        raise Refused("this is what this node told itself", f"its log is {origin}", "give another node's")


# --- at rest


def at_rest(
    home: Home, store: Store, data: bytes, said: Telling, *, fleet: Fleet, pack: str, at_ms: int
) -> list[Outcome]:
    """Take it in beside no gateway: ``store`` is the one writer of the home's log.

    Raises:
        Refused: it is of this very node.
        Unavailable, OSError: log or disk do not take it.

    """
    demand_other(said, store.keys.origin)
    digest, find_told = telling.keep(home, data), telling.finder(home)
    tenant = pseudonym(store.keys.secret, "tenant", fleet.tenant.id)
    changed: dict[tuple[str, str], Standing] = {}

    def find(task: str, policy: str) -> Standing | None:
        try:
            body = path_of(home, task, policy).read_bytes()
        except FileNotFoundError:
            return None
        found = states.from_bytes(body)
        states.catch_up(found, notices(store.reader, found.size), find_told)
        return found

    def record(standing: Standing, facts: dict[str, str], detail: str) -> bool:
        own = {"task": standing.task, "policy": standing.policy, "state": standing.digest}
        name = new_id(store.keys.origin, at_ms, os.urandom(10))
        store.append_notice(
            NoticeFacts(
                id=name, at_ms=at_ms, tenant=tenant, subject="promise", detail=detail, facts={**facts, **own}
            )
        )
        standing.noticed = name
        changed[standing.task, standing.policy] = standing
        return True

    out = join(said, digest, fleet=fleet, pack=pack, at_ms=at_ms, find=find, record=record)
    store.flush()
    for key, standing in changed.items():
        put(path_of(home, *key), states.to_bytes(standing))
    return out


# --- left for a gateway that runs


class Left(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was verified and waits for the gateway: the file's text, and the key it was verified by."""

    key: str
    file: str


def incoming(home: Home) -> Path:
    """Return where it waits."""
    return folder(home) / "incoming"


def leave(home: Home, data: bytes, vkey: str) -> None:
    """Leave what was verified for the gateway that runs (raises ``OSError``)."""
    where = incoming(home)
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = telling.digest_of(data).rsplit(":", 1)[-1]
    put(where / f"{name}.json", msgspec.json.encode(Left(key=vkey, file=data.decode())))


def waiting(home: Home) -> list[tuple[Path, bytes, Telling]]:
    """Return what waits, verified again; what is damaged or false is set aside as ``*.bad``."""
    out = []
    for path in sorted(incoming(home).glob("*.json")):
        try:
            left = msgspec.json.decode(path.read_bytes(), type=Left)
            data = left.file.encode()
            out.append((path, data, telling.opened(data, (parse_vkey(left.key),))))
        except (OSError, msgspec.MsgspecError, UnicodeError, AllodError):
            path.replace(path.with_suffix(".bad"))
    return out
