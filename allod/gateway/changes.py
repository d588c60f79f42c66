"""Changes of law, facts and signers under four eyes: proposed, approved, placed, and held at the start.

What is in force is what the last approved change says: its copy of configuration and packs is what a new
proposal is compared with, and its signers are who may propose and approve the next. The first change is
signed by the signers of the configuration it brings, as there is nobody before.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import AllodError, Integrity, Invalid, Unavailable
from allod.domain.money import rfc3339
from allod.domain.signer import Signer
from allod.gateway import placing, supply
from allod.gateway.ownpacks import (
    HOME,
    Node,
    own_folder,
    own_packs,
    read_bounded,
    read_folder,
    read_note,
)
from allod.gateway.packs import Found, Packs, find
from allod.gateway.signers import key_of, open_signed, read_signers
from allod.gateway.toml import Table
from allod.gateway.worlds import (
    MAX_CONFIG_BYTES,
    Progress,
    World,
    copy_of,
    describe,
    require_signed,
    state_of,
    widenings,
    world_of,
)
from allod.policy import change as statements
from allod.policy.change import FIRST, Approval, Proposal, digest_of_bytes, digest_of_text
from allod.policy.difference import lines_of
from allod.policy.pack import digest_of_files
from allod.policy.policy import Policy
from allod.policy.signing import Signature, statement
from allod.store.home import load_keys, sync_folder, write_file

if TYPE_CHECKING:
    from allod.gateway.compose import Setting
    from allod.store.home import Home

MAX_REASON: Final = 500
MOST_NAMED: Final = 6
SHORTEST_ID: Final = 6


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change as it lies in a home, with signatures that were verified.

    ``digest`` is that of ``text``, the proposal as signed; ``approval`` and ``approver`` are None while it is
    open.
    """

    path: Path
    digest: str
    text: str
    proposal: Proposal
    proposer: Signature
    approval: Approval | None = None
    approver: Signature | None = None
    approval_digest: str = ""

    @property
    def id(self) -> str:
        """The twelve hex digits it is called by."""
        return self.digest.removeprefix("sha256:")[:12]

    def difference(self) -> str:
        """Return the difference in words that both signed for."""
        return (self.path / placing.DIFFERENCE).read_text()


def chain(home: Home) -> tuple[Change, ...]:
    """Return the approved changes in order, each verified by the signers of the one before.

    Raises:
        Integrity: one is missing, altered, out of order, of another home, or not signed as it must be.

    """
    folders = placing.approved(home)
    if not folders:
        return ()
    origin = load_keys(home).origin
    found: list[Change] = []
    for number, path in folders:
        last = found[-1] if found else None
        signers = signers_before(last, path)
        change = _proposal(path, signers, None)
        _check_place(change, origin, number, last)
        note = read_note(path / placing.APPROVAL, f"change {number}")
        signed = open_signed(note, signers, f"the approval of change {number}")
        approval, approver = statements.verify_approval(signed, change.text, change.proposal, signers)
        found.append(
            msgspec.structs.replace(
                change, approval=approval, approver=approver, approval_digest=digest_of_text(signed.text)
            )
        )
    return tuple(found)


def open_changes(home: Home) -> tuple[tuple[str, Change | AllodError], ...]:
    """Return the open proposals by id; one that does not hold comes as the reason why."""
    approved = chain(home)
    out: list[tuple[str, Change | AllodError]] = []
    folder = placing.folder_of(home) / "open"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith("."):
            continue
        try:
            found: Change | AllodError = _proposal(path, signers_before(_last(approved), path), None)
        except AllodError as error:
            found = error
        out.append((path.name, found))
    return tuple(out)


def signers_before(last: Change | None, path: Path) -> dict[str, Signer]:
    """Return who may sign a change: the signers of the last approved one, else its own."""
    if last is not None:
        signers = _signers_in(last.path)
        if signers:
            return signers
    return _signers_in(path)


def propose(
    home: Home,
    *,
    by: str,
    reason: str,
    now_ms: int,
    config: Path | None = None,
    packs: tuple[Path, ...] = (),
    key: Path | None = None,
    progress: Progress = lambda _n, _of: None,
) -> Change:
    """Write and sign a proposal: this configuration and these packs, in place of what is in force.

    Args:
        home: whose change it is.
        by: id of a signer; reason: one line or more, for the log.
        now_ms: UTC milliseconds.
        config: the new configuration, or None for the home's file as it is now.
        packs: folders of own packs with their signatures beside them, added to or replacing the home's.
        key: the proposer's private key, or None for the one in the home.
        progress: told (days done, days in all) of asking who may be sent what.

    Raises:
        Invalid: nothing changes, no reason, no such signer, or configuration or packs are wrong.
        Integrity: signatures or what was approved before do not hold; the next change could not be approved.

    """
    if not reason.strip() or len(reason) > MAX_REASON:
        raise Invalid("a change needs a reason", f"expected 1 to {MAX_REASON} characters", "say --reason")
    day = _day(now_ms)
    with placing.locked(home):
        approved = chain(home)
        last = _last(approved)
        text = _config_bytes(config or home.config)
        new = _new(home, text, packs, last, day)
        old, lost = before(home, last, day)
        signers = (_signers_in(last.path) if last else {}) or new.config.signers
        signing = key_of(home, signers, by, key)
        why = widenings(old, new, day)
        require_signed(new, why)
        difference, widens = describe(old, new, day, why, progress, lost)
        proposal = Proposal(
            home=load_keys(home).origin,
            number=len(approved) + 1,
            follows=last.digest if last else FIRST,
            before=last.proposal.after if last else None,
            after=new.state,
            file=digest_of_bytes(text),
            difference=digest_of_text(difference),
            widening=widens,
            reason=reason,
            proposed=rfc3339(now_ms),
            by=by,
            role=signers[by].role,
        )
        said = statement(statements.PROPOSAL, proposal)
        statements.verify_proposal(open_signed(signing.sign(said), signers, "the proposal"), signers, day)
        path = _write(home, said, signing.sign(said), text, difference, new)
        return _proposal(path, signers, day)


def _new(home: Home, text: bytes, packs: tuple[Path, ...], last: Change | None, day: date) -> World:
    """Build the world that is proposed; it must differ, and leave somebody to approve the next change."""
    new = world_of(home, text, _overlaid(home, packs), day)
    if new.state.four_eyes:
        statements.require_pair(new.config.signers.values(), day, "the new configuration")
    if last is not None and not statements.against(new.state, last.proposal.after):
        raise Invalid("nothing changes", "got what was approved last", "change something, then propose it")
    return new


def approve(
    home: Home,
    name: str,
    *,
    by: str,
    now_ms: int,
    key: Path | None = None,
    progress: Progress = lambda _n, _of: None,
) -> Change:
    """Approve an open proposal and put it into place; everything it says is found out anew first.

    ``name`` is its id or at least six digits of its beginning. Of two approvals at once one wins.

    Raises:
        Invalid: there is no such proposal, it is approved already, or another change came before it.
        Integrity: its content is not what was signed, its difference is not what it would do, a signature
            does not hold, or the approver is not a second pair of eyes.

    """
    day = _day(now_ms)
    with placing.locked(home):
        approved = chain(home)
        last = _last(approved)
        path = _named(home, name, approved)
        signers = signers_before(last, path)
        change = _proposal(path, signers, day)
        proposal = change.proposal
        if (proposal.number, proposal.follows) != (len(approved) + 1, last.digest if last else FIRST):
            raise Invalid(
                f"proposal {change.id} is overtaken",
                f"change {len(approved)} was approved since it was made as number {proposal.number}",
                "propose it again",
                kind="conflict",
            )
        _check_place(change, load_keys(home).origin, len(approved) + 1, last)
        _recheck(home, change, last, day, progress)
        signing = key_of(home, signers, by, key)
        approval = Approval(
            home=proposal.home,
            number=proposal.number,
            change=change.digest,
            approved=max(rfc3339(now_ms), proposal.proposed),
            by=by,
            role=signers[by].role,
        )
        said = statement(statements.APPROVAL, approval)
        note = signing.sign(said)
        signed = open_signed(note, signers, "the approval")
        _, approver = statements.verify_approval(signed, change.text, proposal, signers, day)
        write_file(path / placing.APPROVAL, note)
        final = placing.commit(home, path, proposal.number)
        return msgspec.structs.replace(
            change, path=final, approval=approval, approver=approver, approval_digest=digest_of_text(said)
        )


def enforce(setting: Setting, policy: Policy, day: date) -> tuple[Change, ...]:
    """Hold what is about to start against what was approved last; returns the approved changes.

    It must be the same where four eyes are on, by the configuration or by the last approved change: turning
    them off is a change too.

    Raises:
        Integrity: it is not the same, nothing was ever approved, or an approved change does not hold.

    """
    approved = chain(setting.home)
    last = _last(approved)
    if last is None:
        if setting.config.fleet.tenant.four_eyes:
            raise Integrity(
                "four eyes are on and nothing has been approved yet",
                "got no approved change, expected one that says what is in force",
                "`allod policy propose --by SIGNER --reason TEXT`, then `allod policy approve ID --by OTHER`",
            )
        return approved
    if not (setting.config.fleet.tenant.four_eyes or last.proposal.after.four_eyes):
        return approved
    differs = statements.against(state_of(setting.config, policy, day), last.proposal.after)
    if differs:
        lines = [line.text() for line in lines_of(_data(last.path), setting.config.written)]
        more = [f"... and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else []
        laws = [text for text in differs if text.startswith(("pack", "the order"))]
        raise Integrity(
            "what is in place is not what was approved",
            "; ".join([*lines[:MOST_NAMED], *more, *laws]),
            f"put back what change {last.proposal.number} says ({last.path}), or have this one approved",
        )
    return approved


def before(home: Home, last: Change | None, day: date) -> tuple[World | None, str]:
    """Return the world the last approved change put in force, from its own copy, and why there is none.

    There is none before the first change, and where this version of Allod can no longer read what an older
    one wrote: then nothing can be compared, and the change counts as a widening.

    Raises:
        Integrity: the copy is not what was signed.

    """
    if last is None:
        return None, ""
    text = _config_bytes(last.path / placing.CONFIGURATION)
    _same(f"configuration kept with change {last.proposal.number}", digest_of_bytes(text), last.proposal.file)
    for pack in last.proposal.after.packs:
        digest = digest_of_files(read_folder(last.path / "packs" / pack.id))
        _same(f"pack {pack.id!r} kept with change {last.proposal.number}", digest, pack.digest)
    try:
        found = Packs(own_packs(last.path / "packs"))
        return world_of(home, text, found, day, verified=False), ""
    except Invalid as error:
        return None, f"what change {last.proposal.number} says cannot be read any more: {error.what}"


def _recheck(home: Home, change: Change, last: Change | None, day: date, progress: Progress) -> None:
    """Find out anew what a proposal would put in place, and demand that it is what was signed."""
    path, proposal = change.path, change.proposal
    text = _config_bytes(path / placing.CONFIGURATION)
    told = read_bounded(path / placing.DIFFERENCE, MAX_CONFIG_BYTES)
    own = {name: path / "packs" / name for name in placing.own_files(path)}
    mine = (Found(id=name, origin=HOME, folder=Node(folder)) for name, folder in own.items())
    packs = find(*supply.packs(home), *mine)
    _same(f"configuration of {change.id}", digest_of_bytes(text), proposal.file)
    _same(f"difference of {change.id}", digest_of_bytes(told), proposal.difference)
    new = world_of(home, text, packs, day)
    if set(own) != {one.pack.id for one in new.own}:
        raise Integrity(
            f"{change.id} carries other packs than it puts in force",
            f"got {sorted(own)}, expected {sorted(one.pack.id for one in new.own)}",
            "propose it again",
        )
    old, lost = before(home, last, day)
    if new.state.four_eyes:
        statements.require_pair(new.config.signers.values(), day, "the new configuration")
    differs = statements.against(new.state, proposal.after)
    if differs or new.state.four_eyes != proposal.after.four_eyes:
        raise Integrity(
            f"{change.id} would not put in place what was signed", "; ".join(differs), "propose it again"
        )
    proposed = statements.day_of(proposal.proposed, change.id)
    why = widenings(old, new, day)
    require_signed(new, why)
    then = why if proposed == day else widenings(old, new, proposed)
    again, widens = describe(old, new, proposed, then, progress, lost)
    if digest_of_text(again) != proposal.difference or widens != proposal.widening:
        raise Integrity(
            f"the difference of {change.id} is not what it would do",
            "it was written for other packs, other verified weights or another version of Allod, or by hand",
            "propose it again",
        )


def _overlaid(home: Home, folders: tuple[Path, ...]) -> Packs:
    own = {found.id: found for found in own_packs(own_folder(home))}
    for folder in folders:
        node = Node(folder)
        try:
            named = tomllib.loads(node.joinpath("pack.toml").read_bytes().decode())["id"]
        except (OSError, KeyError, ValueError, RecursionError) as error:
            raise Invalid(f"{folder} is no pack", f"pack.toml: {error}", "name a pack's folder") from error
        own[str(named)] = Found(id=str(named), origin=HOME, folder=node)
    return find(*supply.packs(home), *own.values())


def _write(home: Home, said: str, note: bytes, text: bytes, difference: str, new: World) -> Path:
    """Write a proposal beside, then give it its name: it is there whole or not at all."""
    name = digest_of_text(said).removeprefix("sha256:")[:12]
    folder = placing.folder_of(home) / "open"
    fresh, final = folder / f".{name}.new", folder / name
    shutil.rmtree(fresh, ignore_errors=True)
    files = {
        placing.PROPOSAL: note,
        placing.CONFIGURATION: text,
        placing.DIFFERENCE: difference.encode(),
        **copy_of(new),
    }
    placing.write_folder(fresh, files)
    fresh.rename(final)
    sync_folder(folder)
    return final


def _proposal(path: Path, signers: Mapping[str, Signer], day: date | None) -> Change:
    """Read the proposal in a folder, whose name must be that of the proposal."""
    signed = open_signed(read_note(path / placing.PROPOSAL, f"proposal {path.name}"), signers, "the proposal")
    proposal, proposer = statements.verify_proposal(signed, signers, day)
    digest = digest_of_text(signed.text)
    change = Change(path=path, digest=digest, text=signed.text, proposal=proposal, proposer=proposer)
    if path.name.rpartition("-")[2] != change.id:
        raise Integrity(f"{path} holds another proposal", f"got {change.id}", "restore it from a backup")
    return change


def _check_place(change: Change, origin: str, number: int, last: Change | None) -> None:
    proposal = change.proposal
    got = (proposal.home, proposal.number, proposal.follows, proposal.before)
    expected = (origin, number, last.digest if last else FIRST, last.proposal.after if last else None)
    if got != expected:
        raise Integrity(
            f"change {change.id} is not of this place",
            f"got {got[:3]}, expected {expected[:3]}",
            "a change counts once, in the home it was made for",
        )


def _named(home: Home, name: str, approved: tuple[Change, ...]) -> Path:
    if any(len(name) >= SHORTEST_ID and change.id.startswith(name) for change in approved):
        raise Invalid(f"change {name} is approved already", "got a second approval", "", kind="conflict")
    folder = placing.folder_of(home) / "open"
    known = [path for path in folder.iterdir() if not path.name.startswith(".")]
    hit = [path for path in known if len(name) >= SHORTEST_ID and path.name.startswith(name)]
    if len(hit) != 1:
        raise Invalid(
            f"{len(hit)} open proposals are called {name[:40]!r}",
            "open: " + (", ".join(sorted(path.name for path in known)) or "none"),
            "see `allod policy changes`",
            param="id",
        )
    return hit[0]


def _signers_in(path: Path) -> dict[str, Signer]:
    tables = _data(path).get("signer", [])
    try:
        return read_signers(Table(table, f"signer.{n}") for n, table in enumerate(tables, 1))
    except (TypeError, Invalid) as error:
        raise Integrity(f"the signers of {path} cannot be read", str(error), "restore it") from error


def _data(path: Path) -> dict[str, Any]:
    """Return the tables of the configuration a change brings."""
    try:
        text = _config_bytes(path / placing.CONFIGURATION).decode()
        return tomllib.loads(text, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise Integrity(f"the configuration in {path} cannot be read", str(error), "restore it") from error


def _config_bytes(path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_CONFIG_BYTES, follow=True)
    except FileNotFoundError as fault:
        raise Unavailable(
            f"there is no configuration at {path}", "got no file", "check the path", kind="down"
        ) from fault


def _same(what: str, got: str, signed: str) -> None:
    if got != signed:
        raise Integrity(
            f"the {what} was altered", f"got {got}, signed {signed}", "restore changes/ from a backup"
        )


def _last(approved: tuple[Change, ...]) -> Change | None:
    return approved[-1] if approved else None


def _day(now_ms: int) -> date:
    return datetime.fromtimestamp(now_ms // 1000, UTC).date()
