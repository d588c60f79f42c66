"""What the log knows of changes and own packs, and what a start adds to it. The log has one writer.

Every start leaves a notice that says which change and which own packs are in force, and every change one of
its own; the newest of them is found from the end of the log backwards, which costs a look at what was logged
since the last start. Nothing else is trusted about the past: a folder ``changes/`` that was put back or
deleted does not fit what the log says, and the gateway does not start.

An approval made while a gateway runs is logged by that gateway's next start, before it serves.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import AllodError, Integrity
from allod.gateway import placing, supply
from allod.gateway.ownpacks import OwnPack, read_folder, widening
from allod.gateway.packs import files_of
from allod.policy.change import digest_of_bytes
from allod.policy.forms import Pack
from allod.policy.pack import BASE, load_pack
from allod.policy.signing import Signature, require
from allod.receipts.canonical import canonical
from allod.receipts.ids import CHANCE_LETTERS, new_id
from allod.receipts.leaves import NoticeFacts
from allod.receipts.tiles import WIDTH
from allod.store.home import write_file

if TYPE_CHECKING:
    from allod.gateway.changes import Change
    from allod.gateway.compose import Setting
    from allod.gateway.packs import Packs
    from allod.store.home import Home
    from allod.store.store import Store

START: Final = "start"
CHANGE: Final = "change"
PACK: Final = "pack"
_NOTICE: Final = b'"kind":"notice"'
_YES: Final = "yes"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What the newest start or change says: digest of the change, four eyes, digest of own packs; or empty.

    ``supply`` is number and digest of the newest switch of what bundles brought (``supply.advance``).

    ``seen`` are the ids of notices about packs that came after it, of a start that did not come to its end:
    the part of an id that is not its time is made of what it says.
    """

    change: str = ""
    four_eyes: bool = False
    own: str = ""
    supply: str = ""
    seen: frozenset[str] = frozenset()

    def facts(self) -> dict[str, str]:
        """Return what the notice of a start says of it; nothing where there is nothing to say."""
        said = {
            "change": self.change,
            "four_eyes": _YES if self.four_eyes else "",
            "own": self.own,
            "supply": self.supply,
        }
        return {name: value for name, value in said.items() if value}


class Accepted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An own pack as it was last in force; ``two`` if it took two signatures."""

    digest: str
    two: bool


def newest(store: Store) -> Standing:
    """Find what the log says stands.

    Raises:
        Unavailable: the log does not come to rest.

    """
    store.flush()
    reader = store.reader
    size = reader.size()
    seen: set[str] = set()
    brought = ""
    for n in range((size - 1) // WIDTH, -1, -1):
        for _, leaf in reversed(reader.noted(n * WIDTH, min(n * WIDTH + WIDTH, size), _NOTICE)):
            if _NOTICE not in leaf:
                continue
            notice = msgspec.json.decode(leaf)
            if notice.get("kind") != "notice":
                continue
            if notice["subject"] in (START, CHANGE):
                facts = notice["facts"]
                return Standing(
                    change=facts.get("change", ""),
                    four_eyes=facts.get("four_eyes") == _YES,
                    own=facts.get("own", ""),
                    supply=brought or facts.get("supply", ""),
                    seen=frozenset(seen),
                )
            if notice["subject"] == PACK:
                seen.add(notice["id"])
            if notice["subject"] == supply.SUBJECT:
                brought = brought or notice["facts"].get("switch", "")
    return Standing(supply=brought, seen=frozenset(seen))


def log_changes(store: Store, approved: tuple[Change, ...], tenant: str, now_ms: int) -> Standing:
    """Log every approved change that is not in the log yet, and return what stands then.

    Args:
        store: open.
        approved: ``changes.chain``, verified.
        tenant: the tenant's pseudonym.
        now_ms: UTC milliseconds.

    Raises:
        Integrity: the log knows a change that is not there any more.

    """
    known = newest(store)
    digests = [change.digest for change in approved]
    if known.change and known.change not in digests:
        raise Integrity(
            "the log knows a change that changes/ does not have",
            f"got {digests[-1] if digests else 'no change'}, the log says {known.change}",
            "restore changes/ and the configuration from the backup of this home",
        )
    done = digests.index(known.change) + 1 if known.change else 0
    for change in approved[done:]:
        four_eyes = change.proposal.after.four_eyes
        known = msgspec.structs.replace(known, change=change.digest, four_eyes=four_eyes)
        store.append_notice(
            NoticeFacts(
                id=_id(store, now_ms, change.digest),
                at_ms=now_ms,
                tenant=tenant,
                subject=CHANGE,
                detail=change.proposal.reason,
                facts={**_said(change), **known.facts()},
            )
        )
    return known


def begin(
    store: Store,
    setting: Setting,
    law: tuple[Pack, ...],
    approved: tuple[Change, ...],
    tenant: str,
    now_ms: int,
) -> Standing:
    """Bring the log forward to what starts now, before anything is served; returns what the start shall say.

    Args:
        store: open, of this home.
        setting: what starts; law: the packs in force.
        approved: ``changes.enforce``.
        tenant: the tenant's pseudonym.
        now_ms: UTC milliseconds.

    Raises:
        Integrity: see ``log_changes``, ``supply.advance`` and ``accept``.

    """
    known = log_changes(store, approved, tenant, now_ms)
    logged = supply.advance(store, known.supply, setting.home, tenant, now_ms)
    known = msgspec.structs.replace(known, supply=logged)
    names = {pack.id for pack in law}
    own = tuple(one for one in setting.own if one.pack.id in names)
    return accept(store, known, own, law, setting.packs, tenant, now_ms)


def accept(
    store: Store,
    known: Standing,
    own: tuple[OwnPack, ...],
    law: tuple[Pack, ...],
    packs: Packs,
    tenant: str,
    now_ms: int,
) -> Standing:
    """Accept the home's own packs in force: a new version is logged once, a widening needs two signatures.

    Args:
        store: open; known: from ``log_changes``.
        own: those in force, verified (``ownpacks.verify_own``); law: all packs in force.
        packs: where their files are; tenant: the tenant's pseudonym.
        now_ms: UTC milliseconds.

    Raises:
        Integrity: a pack that widens against the version that was in force before bears one signature.

    """
    if not own and not known.own:
        return known
    home = store.home
    day = datetime.fromtimestamp(now_ms // 1000, UTC).date()
    listing, lost = _listing(home, known.own)
    for one in own:
        pack, was = one.pack, listing.get(one.pack.id)
        if was is not None and was.digest == pack.digest:
            require(one.signatures, two=was.two, what=f"pack {pack.id!r}", why="as when it came into force")
            continue
        why = lost or _why(home, was, pack, law, day)
        require(one.signatures, two=why is not None, what=f"pack {pack.id!r}", why=why or "nothing widens")
        _keep(home, pack.digest, files_of(packs.found[pack.id].folder))
        notice = _id(store, now_ms, f"{pack.id} {pack.digest} {was}")
        if not any(seen[-CHANCE_LETTERS:] == notice[-CHANCE_LETTERS:] for seen in known.seen):
            store.append_notice(
                NoticeFacts(
                    id=notice,
                    at_ms=now_ms,
                    tenant=tenant,
                    subject=PACK,
                    detail=why or "",
                    facts=_pack_facts(one, was, why),
                )
            )
        listing[pack.id] = Accepted(digest=pack.digest, two=why is not None)
    return msgspec.structs.replace(known, own=_write_listing(home, listing))


def _said(change: Change) -> dict[str, str]:
    """Say of a change who signed it and what it replaced; R and S are the halves of Ed25519 signatures."""
    proposal, approval = change.proposal, change.approval
    assert approval is not None
    assert change.approver is not None
    old = proposal.before
    facts = {
        "number": str(proposal.number),
        "follows": proposal.follows,
        "difference": proposal.difference,
        "widening": _YES if proposal.widening else "no",
        "proposed": proposal.proposed,
        "approved": approval.approved,
        "approval": change.approval_digest,
        **_signature("proposer", change.proposer),
        **_signature("approver", change.approver),
        "configuration": proposal.after.configuration,
        "packs": proposal.after.pack_digest,
        "fleet": proposal.after.fleet_digest,
    }
    if old is not None:
        facts |= {
            "configuration_before": old.configuration,
            "packs_before": old.pack_digest,
            "fleet_before": old.fleet_digest,
        }
    return facts


def _pack_facts(own: OwnPack, was: Accepted | None, why: str | None) -> dict[str, str]:
    facts = {
        "pack": own.pack.id,
        "version": own.pack.version,
        "digest": own.pack.digest,
        "follows": was.digest if was else "none",
        "widening": "no" if why is None else _YES,
    }
    for n, signature in enumerate(own.signatures[:8], 1):
        facts |= _signature(f"signer_{n}", signature)
    return facts


def _signature(name: str, signature: Signature) -> dict[str, str]:
    data = signature.signature
    return {name: signature.who, f"{name}_r": data[:32].hex(), f"{name}_s": data[32:].hex()}


def _id(store: Store, at_ms: int, of: str) -> str:
    return new_id(store.keys.origin, at_ms, bytes.fromhex(digest_of_bytes(of.encode())[7:27]))


def _listing(home: Home, digest: str) -> tuple[dict[str, Accepted], str]:
    """Read what own packs were last accepted; where the log says otherwise, why nothing is known of them."""
    if not digest:
        return {}, ""
    path = placing.folder_of(home) / "own" / f"{digest.removeprefix('sha256:')}.json"
    try:
        data = path.read_bytes()
    except OSError:
        return {}, "what was in force before is not kept here any more"
    if digest_of_bytes(data) != digest:
        return {}, "what is kept of the versions in force before was altered"
    return msgspec.json.decode(data, type=dict[str, Accepted]), ""


def _write_listing(home: Home, listing: Mapping[str, Accepted]) -> str:
    data = canonical(msgspec.to_builtins(dict(listing)))
    digest = digest_of_bytes(data)
    folder = placing.folder_of(home) / "own"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{digest.removeprefix('sha256:')}.json"
    if not path.is_file():
        write_file(path, data)
    return digest


def _why(home: Home, was: Accepted | None, pack: Pack, law: tuple[Pack, ...], day: date) -> str | None:
    """Say why a pack may allow more than the version in force before; None if it cannot."""
    if was is None:
        return widening(None, pack, law, day)
    try:
        schema = next(one.schema for one in law if one.id == BASE)
        before = load_pack(read_folder(_kept(home, was.digest)), schema)
    except AllodError as error:
        return f"the version in force before cannot be read any more: {error.what}"
    if before.digest != was.digest:
        return "what is kept of the version in force before was altered"
    return widening(before, pack, law, day)


def _kept(home: Home, digest: str) -> Path:
    return placing.folder_of(home) / "accepted" / digest.removeprefix("sha256:")


def _keep(home: Home, digest: str, files: Mapping[str, bytes]) -> None:
    """Keep a version that is about to be accepted, to compare the next one with."""
    target = _kept(home, digest)
    if target.is_dir():
        return
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    placing.write_folder(fresh, files)
    fresh.rename(target)
