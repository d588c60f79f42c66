"""What a node tells others of its audits: a signed file, its reading, and where what was told is kept.

A file holds, per promise, the evidence of the audits its own node made (nothing it was told by others, or it
would be counted twice), under the signature of that node's log. What was taken in is kept whole in
``promises/told``, by digest: a notice has room for the digest alone, and a replay reads it there.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Integrity, Invalid, Refused
from allod.domain.money import rfc3339
from allod.gateway.promise import state as states
from allod.gateway.promise.kept import folder
from allod.gateway.promise.proof import Told
from allod.gateway.promise.rules import Parties, ladder, policy_of
from allod.receipts.notes import VerifyKey, open_note, parse_note
from allod.routing import floor
from allod.store.home import write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from allod.domain.fleet import Fleet
    from allod.gateway.promise.state import Standing
    from allod.receipts.notes import Signer
    from allod.store.home import Home

FORMAT: Final = "allod-promise-told-1"
MOST_BYTES: Final = 8 << 20
_SHA: Final = "sha256:"


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One promise as a node tells of it.

    ``state`` is of its own audits; ``models`` are the names its deployments answered by.
    """

    task: str
    policy: str
    who: Parties
    promise: floor.Promise
    state: floor.State
    models: dict[str, str]


class Telling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one node tells: the name of its log, when, how many leaves the log had, and its promises."""

    format: str
    origin: str
    at: str
    leaves: int
    promises: tuple[Part, ...]


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    body: str
    note: str


def written(signer: Signer, standings: Iterable[Standing], leaves: int, at_ms: int) -> bytes:
    """Write what a node tells, signed by its log's key."""
    parts = tuple(
        Part(
            task=one.task, policy=one.policy, who=one.who, promise=one.promise, state=one.proof.mine,
            models=one.models,
        )
        for one in standings
    )  # fmt: skip
    said = Telling(format=FORMAT, origin=signer.key.name, at=rfc3339(at_ms), leaves=leaves, promises=parts)
    body = msgspec.json.encode(said, order="deterministic").decode()
    note = signer.sign(_signed(signer.key.name, body)).decode()
    return msgspec.json.encode(_File(body=body, note=note), order="deterministic") + b"\n"


def _signed(origin: str, body: str) -> str:
    return f"{FORMAT}\n{origin}\n{hashlib.sha256(body.encode()).hexdigest()}\n"


def opened(data: bytes, keys: Sequence[VerifyKey]) -> Telling:
    """Read what another node tells, if one of these keys signed it.

    Raises:
        Refused: none of them did.
        Integrity: the signature is false, or this is not such a file.

    """
    file, said = _parsed(data)
    signed = {(line.name, line.key_id) for line in parse_note(file.note.encode()).signatures}
    trusted = next((key for key in keys if (key.name, key.key_id) in signed), None)
    if trusted is None or trusted.name != said.origin:
        names = ", ".join(sorted(f"{name}+{key.hex()}" for name, key in signed))
        raise Refused(
            "this evidence is not signed by a log that is trusted here",
            f"it says it is of {said.origin} and is signed by {names}",
            "get the other node's verifier key by another way, and give it with --key",
        )
    if open_note(file.note.encode(), trusted) != _signed(said.origin, file.body):
        raise Integrity("this evidence is not what was signed", f"by {trusted.name}", "get it again")
    return said


def _parsed(data: bytes) -> tuple[_File, Telling]:
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"{len(data)} bytes")  # noqa: TRY301
        file = msgspec.json.decode(data, type=_File)
        said = msgspec.json.decode(file.body, type=Telling)
        for one in said.promises:
            floor.from_bytes(floor.to_bytes(one.promise, one.state))
        keys = {(one.task, one.policy) for one in said.promises}
    except (msgspec.MsgspecError, ValueError, LookupError, Invalid, RecursionError) as error:
        raise Integrity("this is no evidence of a promise", str(error)[:200], "get it again") from error
    if said.format != FORMAT or len(keys) != len(said.promises):
        raise Integrity("this is no evidence of a promise", f"got {said.format[:40]!r}", "get it again")
    return file, said


# --- taking it in


def why_not(part: Part, fleet: Fleet, pack: str) -> str | None:
    """Say why evidence is not of a promise in force here, None where it is."""
    task, who = fleet.tasks.get(part.task), part.who
    if task is None or task.cascade is None or not who.names <= set(fleet.deployments):
        return "no such promise is made here"
    if policy_of(task, who, fleet, pack) != part.policy:
        return "it is of another policy: law, task or deployments are not the same here"
    rules = ladder(task.cascade, who)
    if not rules or part.promise != states.promise_of(part.task, task.cascade, rules, part.policy):
        return "it promises something else"
    return None


def begun(part: Part, at_ms: int) -> Standing:
    """Begin here the promise another node tells of, with nothing proven."""
    return states.Standing(
        task=part.task, policy=part.policy, who=part.who, promise=part.promise,
        state=floor.start(part.promise, part.state), spent=states.Spent(since_ms=at_ms), models={},
    )  # fmt: skip


def take(standing: Standing, origin: str, part: Part, digest: str) -> bool:
    """Take in what a node told of a promise; returns whether that was news.

    Raises:
        Invalid: it is another promise, or a deployment answered there by another name than here.

    """
    if standing.promise != part.promise:
        raise Invalid("it promises something else", f"{part.promise}", "join nodes of one configuration")
    for name, model in part.models.items():
        here = standing.models.get(name, model)
        if here != model:
            raise Invalid(f"{name} answered as {model} there and as {here} here", "", "audit anew")
    news = standing.told(origin, _told(part, digest))
    if news:
        standing.models = {**part.models, **standing.models}
    return news


def _told(part: Part, digest: str) -> Told:
    return Told(state=part.state, of=floor.digest(part.promise, part.state), digest=digest)


def facts(origin: str, part: Part, digest: str) -> dict[str, str]:
    """Return the facts of the notice about it."""
    return {"told": digest, "by": origin, "audits": f"{part.state.audits}"}


# --- where it is kept


def digest_of(data: bytes) -> str:
    """Return ``sha256:`` of a file."""
    return _SHA + hashlib.sha256(data).hexdigest()


def told_folder(home: Home) -> Path:
    """Return where what was taken in is kept."""
    return folder(home) / "told"


def keep(home: Home, data: bytes) -> str:
    """Keep a file that is taken in, and return its digest (raises ``OSError``)."""
    digest = digest_of(data)
    where = told_folder(home)
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(where / f"{digest.removeprefix(_SHA)}.json", data, 0o600)
    return digest


def finder(home: Home) -> states.Finder:
    """Return what finds, for a replay, what was told; it was verified when it was taken in."""

    def find(digest: str, origin: str, task: str, policy: str) -> Told:
        name = digest.removeprefix(_SHA)
        try:
            data = (told_folder(home) / f"{int(name, 16):064x}.json").read_bytes()
        except (OSError, ValueError) as error:
            raise Integrity(
                "what another node told is not here any more", f"{origin}, {digest}: {error}",
                "restore promises/told of the home from a backup",
            ) from error  # fmt: skip
        _, said = _parsed(data)
        if digest_of(data) != digest or said.origin != origin:
            raise Integrity("what another node told was changed", f"{origin}, {digest}", "restore it")
        part = next((one for one in said.promises if (one.task, one.policy) == (task, policy)), None)
        if part is None:
            raise Integrity("what another node told says nothing of this promise", digest, "")
        return _told(part, digest)

    return find
