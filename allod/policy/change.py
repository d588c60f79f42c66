"""Four eyes: a change is proposed by one signer and approved by another with another role. Pure.

Both sign a statement (``signing``): the proposer what is in force before and after, with the digest of the
difference in words, the approver that very proposal. Changes of one home form a chain: each names its number
and the digest of the one before, so that an approval counts for one place in one chain only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Final

import msgspec

from allod.domain.errors import Integrity
from allod.domain.signer import Signer
from allod.policy.difference import Line
from allod.policy.reach import Reach
from allod.policy.signing import Signature, Signed, counted, pair, read_statement

PROPOSAL: Final = "allod change proposal v1"
APPROVAL: Final = "allod change approval v1"
FIRST: Final = "none"
"""What the first change follows."""
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
MAX_WAYS: Final = 400
"""Ways of either kind written out in a difference; the number of all of them is always there."""


class PackRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, order=True):
    """A pack in force, by its canonical digest."""

    id: str
    version: str
    digest: str


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in force: law, facts and who may change them.

    Attributes:
        configuration: ``difference.digest_of`` the configuration.
        packs: in their order.
        pack_digest, fleet_digest: as receipts carried them on the day of the proposal.
        four_eyes: whether the next change must go the same way.

    """

    configuration: str
    packs: tuple[PackRef, ...]
    pack_digest: str
    fleet_digest: str
    four_eyes: bool


class Proposal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the proposer signs.

    Attributes:
        home: origin of the home's log.
        number: 1 for the first change; follows: digest of the proposal before it, or ``none``.
        before: None for the first change.
        file: sha256 of the new configuration, byte for byte.
        difference: sha256 of the difference in words.
        widening: whether anything is newly allowed, or could be.
        proposed: RFC 3339 with milliseconds; by, role: who proposed it, as what.

    """

    home: str
    number: int
    follows: str
    before: State | None
    after: State
    file: str
    difference: str
    widening: bool
    reason: str
    proposed: str
    by: str
    role: str


class Approval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the approver signs: exactly this proposal, at this place of this home's chain."""

    home: str
    number: int
    change: str
    approved: str
    by: str
    role: str


def digest_of_text(text: str) -> str:
    """Return ``sha256:`` of a text in UTF-8."""
    return digest_of_bytes(text.encode())


def digest_of_bytes(data: bytes) -> str:
    """Return ``sha256:`` of bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def day_of(time: str, what: str) -> date:
    """Return the UTC day of an RFC 3339 time (raises ``Integrity``)."""
    try:
        if not _TIME.fullmatch(time):
            raise ValueError  # noqa: TRY301
        return datetime.fromisoformat(time).astimezone(UTC).date()
    except (ValueError, OverflowError) as fault:
        raise Integrity(f"{what} has no time that can be read", f"got {time[:40]!r}") from fault


def verify_proposal(
    signed: Signed, signers: Mapping[str, Signer], day: date | None = None
) -> tuple[Proposal, Signature]:
    """Read a proposal and return it with its proposer's signature.

    ``signers`` are those in force before it. ``day`` is the UTC day on which they must hold; None takes that
    of the proposal itself, for one that was approved in the past.

    Raises:
        Integrity: it cannot be read, or the proposer it names did not sign as what it says.

    """
    proposal = read_statement(signed.text, PROPOSAL, Proposal, "the proposal")
    what = f"proposal {proposal.number}"
    made = day_of(proposal.proposed, what)
    found = counted(signed, signers, day or made, what)
    return proposal, _by(found, proposal.by, proposal.role, what)


def verify_approval(
    signed: Signed,
    proposal_text: str,
    proposal: Proposal,
    signers: Mapping[str, Signer],
    day: date | None = None,
) -> tuple[Approval, Signature]:
    """Read the approval of a proposal and return it with its approver's signature.

    Raises:
        Integrity: it is of another proposal, place or home, comes before the proposal, is not signed by whom
            it names, or its approver is the proposer or has the proposer's role.

    """
    approval = read_statement(signed.text, APPROVAL, Approval, "the approval")
    what = f"the approval of change {proposal.number}"
    expected = (proposal.home, proposal.number, digest_of_text(proposal_text))
    got = (approval.home, approval.number, approval.change)
    if got != expected:
        raise Integrity(
            f"{what} is of another change", f"got {got}, expected {expected}", "have this one approved"
        )
    made = day_of(approval.approved, what)
    if approval.approved < proposal.proposed:
        raise Integrity(
            f"{what} is older than its proposal", f"got {approval.approved}, proposed {proposal.proposed}"
        )
    found = counted(signed, signers, day or made, what)
    signature = _by(found, approval.by, approval.role, what)
    proposer = Signature(signer=proposal.by, role=proposal.role, signature=b"")
    if pair((proposer, signature)) is None:
        raise Integrity(
            f"{what} does not bring a second pair of eyes",
            f"proposed by {proposer.who}, approved by {signature.who}",
            "have it approved by another signer with another role",
        )
    return approval, signature


def require_pair(signers: Iterable[Signer], day: date, where: str) -> None:
    """Demand that two signers of different roles hold on a day: else no change could ever be approved again.

    Raises:
        Integrity: there are not.

    """
    able = [signer for signer in signers if signer.against(day) is None]
    if len({signer.id for signer in able}) < 2 or len({signer.role for signer in able}) < 2:  # noqa: PLR2004
        raise Integrity(
            f"{where} leaves nobody to approve the next change",
            f"got {', '.join(f'{s.id} ({s.role})' for s in able) or 'no signer'} on {day}",
            "name at least two [[signer]] with different roles and keys that hold",
        )


def against(now: State, approved: State) -> tuple[str, ...]:
    """Say what of the present state is not what was approved, coarsely; empty if nothing is."""
    found = []
    if now.configuration != approved.configuration:
        found.append(f"the configuration: got {now.configuration}, approved {approved.configuration}")
    old, new = {p.id: p for p in approved.packs}, {p.id: p for p in now.packs}
    found += [
        f"pack {name}: got {_ref(new.get(name))}, approved {_ref(old.get(name))}"
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    ]
    if not found and now.packs != approved.packs:
        found.append(f"the order of packs: got {list(new)}, approved {list(old)}")
    return tuple(found)


def words(lines: Iterable[Line], reach: Reach | None, notes: Iterable[str] = ()) -> str:
    """Write the difference for the two who sign: what is written differently, and who may be sent what.

    ``reach`` is None where there is nothing to compare with; ``notes`` say what could not be examined.
    """
    out = [line.text() for line in lines] or ["nothing is written differently"]
    out.append("")
    if reach is None:
        out.append("who may be sent what: nothing to compare with, this is the first change")
    else:
        asked = f"{reach.questions} questions over {len(reach.days)} days from {reach.days[0]}"
        out += _ways("newly allowed", [way.text() for way in reach.opened])
        out += _ways("no longer allowed", [way.text() for way in reach.closed])
        out.append(f"asked: {asked}" + ("; later days were not asked" if reach.partial else ""))
    out += [f"note: {note}" for note in notes]
    return "\n".join(out) + "\n"


def _ways(title: str, ways: list[str]) -> list[str]:
    more = [f"  ... and {len(ways) - MAX_WAYS} more"] if len(ways) > MAX_WAYS else []
    return [f"{title}: {len(ways) or 'nothing'}", *(f"  {way}" for way in ways[:MAX_WAYS]), *more]


def _ref(pack: PackRef | None) -> str:
    return "none" if pack is None else f"{pack.version} {pack.digest}"


def _by(found: tuple[Signature, ...], signer: str, role: str, what: str) -> Signature:
    for signature in found:
        if signature.signer == signer:
            if signature.role != role:
                raise Integrity(
                    f"{what} was signed as {role!r}",
                    f"{signer} is {signature.role!r} by the configuration in force",
                    "have it signed anew",
                )
            return signature
    raise Integrity(
        f"{what} is not signed by {signer}",
        f"got signatures of {', '.join(s.who for s in found)}",
        "have it signed by whom it names",
    )
