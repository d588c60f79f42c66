"""Verify a receipt by the log's public key alone: numbered steps, each with what was got and expected.

What a passed verification says: the signer recorded this request and this end, in this order, in a log whose
root it signed. It does not say that a model really computed the answer; the leaf's evidence level speaks of
that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from allod.domain.errors import AllodError, Integrity
from allod.receipts.commitment import SALT_BYTES, opens
from allod.receipts.file import PENDING, Part, ReceiptFile, read_file, read_leaf
from allod.receipts.ids import id_prefix, is_id
from allod.receipts.lineage import check_lineage
from allod.receipts.merkle import leaf_hash, verify_inclusion
from allod.receipts.notes import parse_note, parse_vkey
from allod.receipts.proof import Proof, parse_proof
from allod.receipts.rotation import KeyRing, follow
from allod.receipts.tlog_policy import TrustPolicy

T = TypeVar("T")
_MONEY: Final = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_STATUS: Final = ("answered", "refused", "aborted", "failed")
_EVIDENCE: Final = ("self-run", "tee-attested", "operator-claims", "simulated")
_BASIS: Final = ("reported", "counted", "reserved")
_REPEATED: Final = (
    "id", "tenant", "app", "request", "classes", "pack", "fleet", "decision", "purpose", "task", "parents",
    "step",
)  # fmt: skip


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One check, counted from 1; ``detail`` says what was found, or got and expected."""

    n: int
    name: str
    ok: bool
    detail: str


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """All checks; ``ok`` only if each passed."""

    ok: bool
    steps: tuple[Step, ...]


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """A body and its salt, to be held against the commitment in a leaf."""

    body: bytes
    salt: bytes


class _Case(msgspec.Struct, kw_only=True):
    """What the steps have established so far."""

    data: bytes
    ring: KeyRing
    policy: TrustPolicy | None = None
    file: ReceiptFile | None = None
    intent: dict[str, Any] | None = None
    terminal: dict[str, Any] | None = None
    proofs: dict[str, Proof] = msgspec.field(default_factory=dict)


def verify(
    data: bytes,
    vkey: str,
    *,
    request: Opening | None = None,
    response: Opening | None = None,
    policy: TrustPolicy | None = None,
    rotations: Sequence[bytes] = (),
) -> Verification:
    """Verify a receipt file; a step that lacks what an earlier one should have established fails.

    Args:
        data: the file.
        vkey: verifier key of its log, which the reader trusts.
        request: the body asked and its salt, if they are to be held against the receipt; response alike.
        policy: which witnesses must have cosigned; without one their lines are named and not believed.
        rotations: notes by which the log's keys changed (``rotation``); keys they lead to count as well.

    Raises:
        Invalid: ``vkey`` is no verifier key. Integrity: ``rotations`` do not hold.
        A bad receipt raises nothing: its steps say so.

    """
    case = _Case(data=data, ring=follow(parse_vkey(vkey), rotations), policy=policy)
    checks: list[tuple[str, Callable[[_Case], str]]] = [
        ("receipt file", _file),
        ("intent leaf", _intent),
        ("checkpoint signature", _checkpoints),
        ("intent in the log", lambda c: _included(c, "intent")),
        ("terminal leaf", _terminal),
        ("terminal in the log", lambda c: _included(c, "terminal")),
        ("terminal binds the intent", _bound),
        ("contents", _contents),
    ]
    if policy is not None:
        checks.append(("witnesses", _witnesses))
    if request is not None:
        checks.append(("request commitment", lambda c: _opened(c, "request", request)))
    if response is not None:
        checks.append(("response commitment", lambda c: _opened(c, "response", response)))
    steps = tuple(_step(n, name, check, case) for n, (name, check) in enumerate(checks, 1))
    return Verification(ok=all(step.ok for step in steps), steps=steps)


def _step(n: int, name: str, check: Callable[[_Case], str], case: _Case) -> Step:
    try:
        return Step(n=n, name=name, ok=True, detail=check(case))
    except AllodError as fault:
        detail = fault.what + (f": {fault.why}" if fault.why else "")
        return Step(n=n, name=name, ok=False, detail=detail)


def _file(case: _Case) -> str:
    file = read_file(case.data)
    origin = case.ring.origin
    if not is_id(file.id) or not file.id.startswith(id_prefix(origin)):
        raise _differs("id", file.id, f"{id_prefix(origin)}... of the log {origin}")
    case.file = file
    return f"{len(case.data)} bytes, receipt {file.id}, {file.status}"


def _intent(case: _Case) -> str:
    file = _have(case.file, "the receipt file")
    leaf = read_leaf(file.intent.leaf.encode(), "intent")
    if leaf.get("id") != file.id:
        raise _differs("id", leaf.get("id"), file.id)
    _check_common(leaf)
    case.intent = leaf
    return f"canonical, of {leaf['time']}"


def _checkpoints(case: _Case) -> str:
    file = _have(case.file, "the receipt file")
    said = []
    for name, part in _parts(file):
        proof = parse_proof(part.proof)
        if proof.extra is not None:
            raise Integrity(f"the {name} proof carries extra data", "nothing authenticates it")
        checkpoint = case.ring.open(proof.checkpoint)
        case.proofs[name] = proof
        said.append(f"{name}: size {checkpoint.size}")
    others = _others(case)
    more = f"; cosigned, not verified without a policy: {', '.join(others)}" if others else ""
    return f"signed by {case.ring.origin}; " + ", ".join(said) + ("" if case.policy else more)


def _witnesses(case: _Case) -> str:
    file, policy = _have(case.file, "the receipt file"), _have(case.policy, "the policy")
    said = set()
    for name, _ in _parts(file):
        note = _have(case.proofs.get(name), f"a signed checkpoint for the {name}").checkpoint
        cosigned = policy.open(note, case.ring.signed(note)[1]).cosigned
        said.add(", ".join(c.key.name for c in cosigned) or "none demanded, none there")
    return "; ".join(sorted(said))


def _others(case: _Case) -> list[str]:
    """Name whoever else signed the checkpoints; nothing is verified here."""
    ours = {(one.key.name, one.key.key_id) for one in case.ring.keys}
    lines = (s for proof in case.proofs.values() for s in parse_note(proof.checkpoint).signatures)
    return sorted({s.name for s in lines if (s.name, s.key_id) not in ours})


def _included(case: _Case, name: str) -> str:
    part = dict(_parts(_have(case.file, "the receipt file"))).get(name)
    if part is None:
        raise _pending()
    proof = _have(case.proofs.get(name), f"a signed checkpoint for the {name}")
    checkpoint = case.ring.open(proof.checkpoint)
    hashed = leaf_hash(part.leaf.encode())
    if not verify_inclusion(hashed, proof.index, checkpoint.size, proof.hashes, checkpoint.root):
        raise Integrity(
            f"the {name} leaf is not in the log",
            f"got a path from index {proof.index} that misses the root of size {checkpoint.size}",
        )
    return f"index {proof.index} of {checkpoint.size}, {len(proof.hashes)} hashes"


def _terminal(case: _Case) -> str:
    file = _have(case.file, "the receipt file")
    if file.terminal is None:
        raise _pending() if file.status == PENDING else _differs("status", file.status, PENDING)
    leaf = read_leaf(file.terminal.leaf.encode(), "terminal")
    if leaf.get("id") != file.id:
        raise _differs("id", leaf.get("id"), file.id)
    if leaf.get("status") != file.status or file.status not in _STATUS:
        raise _differs("status", leaf.get("status"), file.status)
    _check_common(leaf)
    case.terminal = leaf
    return f"canonical, {leaf['status']} at {leaf['time']}"


def _bound(case: _Case) -> str:
    file = _have(case.file, "the receipt file")
    intent, terminal = _have(case.intent, "the intent leaf"), _have(case.terminal, "the terminal leaf")
    hashed = "sha256:" + leaf_hash(file.intent.leaf.encode()).hex()
    if terminal.get("intent") != hashed:
        raise _differs("intent", terminal.get("intent"), hashed)
    for name in _REPEATED:
        if terminal.get(name) != intent.get(name):
            raise _differs(name, terminal.get(name), intent.get(name))
    first, last = (_have(case.proofs.get(name), f"the {name} proof").index for name in ("intent", "terminal"))
    if first >= last:
        raise _differs("index of the intent", first, f"one before {last}")
    return f"intent {first} before terminal {last}, one request commitment"


def _contents(case: _Case) -> str:
    leaf = _have(case.terminal, "the terminal leaf")
    for name in ("response", "weights", "adapter", "template", "engine_digest", "excluded_digest", "price"):
        if name in leaf and not _is(_DIGEST, leaf[name]):
            raise _differs(name, leaf[name], "sha256: and 64 hex digits")
    evidence = leaf.get("evidence")
    if evidence is not None and evidence not in _EVIDENCE:
        raise _differs("evidence", evidence, " | ".join(_EVIDENCE))
    claimed = [name for name in ("weights", "adapter", "template") if name in leaf]
    if claimed and evidence != "self-run":
        raise _differs(", ".join(claimed), f"a digest with evidence {evidence}", "self-run")
    if "cost_usd" in leaf and not _is(_MONEY, leaf["cost_usd"]):
        raise _differs("cost_usd", leaf["cost_usd"], "a plain decimal without trailing zeros")
    if leaf.get("basis") not in (None, *_BASIS):
        raise _differs("basis", leaf.get("basis"), " | ".join(_BASIS))
    if "seq" in leaf and not (_natural(leaf["seq"]) and leaf["seq"] > 0 and leaf.get("deployment")):
        raise _differs("seq", leaf["seq"], "a number from 1, of a deployment")
    if not _natural(leaf.get("attempts")) or not all(map(_natural, _object(leaf, "tokens").values())):
        raise _differs("attempts and tokens", (leaf.get("attempts"), leaf.get("tokens")), "natural numbers")
    if leaf["status"] == "answered" and not (leaf.get("deployment") and leaf.get("evidence")):
        raise _differs("deployment and evidence", None, "both, in an answered receipt")
    _check_excluded(leaf)
    _check_tried(leaf)
    check_lineage(leaf)
    cost = f", {leaf['cost_usd']} USD ({leaf.get('basis', 'nothing tried')})" if "cost_usd" in leaf else ""
    other = f", the answer of {leaf['answer_from']}" if "answer_from" in leaf else ""
    return f"{leaf['status']}, {leaf['attempts']} attempts{cost}{other}, evidence {evidence or 'none'}"


def _opened(case: _Case, name: str, opening: Opening) -> str:
    leaf = _have(case.terminal if name == "response" else case.intent, "the leaf")
    if len(opening.salt) != SALT_BYTES or not opens(str(leaf.get(name)), opening.salt, opening.body):
        raise Integrity(
            f"the {name} is another one", f"got {len(opening.body)} bytes the commitment is not to"
        )
    return f"{len(opening.body)} bytes"


def _check_common(leaf: dict[str, Any]) -> None:
    for name in ("request", "pack", "fleet", "decision"):
        if not _is(_DIGEST, leaf.get(name)):
            raise _differs(name, leaf.get(name), "sha256: and 64 hex digits")
    if not _is(_TIME, leaf.get("time")):
        raise _differs("time", leaf.get("time"), "RFC 3339 in UTC with milliseconds")
    classes = leaf.get("classes")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise _differs("classes", classes, "a list of names")
    for name in ("tenant", "app"):
        if not isinstance(leaf.get(name), str) or not leaf[name]:
            raise _differs(name, leaf.get(name), "a pseudonym")


def _check_excluded(leaf: dict[str, Any]) -> None:
    rules, excluded = leaf.get("rules", []), leaf.get("excluded", [])
    if not isinstance(rules, list) or not isinstance(excluded, list):
        raise _differs("rules and excluded", (rules, excluded), "lists")
    for entry in excluded:
        match entry:
            case [str(), [*numbers]] if all(_natural(n) and n < len(rules) for n in numbers):
                continue
        raise _differs("excluded", entry, f"a deployment and indices below {len(rules)}")


def _check_tried(leaf: dict[str, Any]) -> None:
    tried = leaf.get("tried", [])
    if not isinstance(tried, list):
        raise _differs("tried", tried, "a list")
    cut = False
    for entry in tried:
        match entry:
            case [str(name), "", "", ""] if _is(_DIGEST, name) and not cut:
                cut = True
            case [str(), status, basis, cost] if status in _STATUS and basis in _BASIS and _is(_MONEY, cost):
                continue
            case _:
                raise _differs("tried", entry, "deployment, status, basis and cost")
    if tried and not cut and len(tried) != leaf["attempts"]:
        raise _differs("tried", f"{len(tried)} attempts", leaf["attempts"])


def _object(leaf: dict[str, Any], name: str) -> dict[str, Any]:
    value = leaf.get(name, {})
    if not isinstance(value, dict):
        raise _differs(name, value, "an object")
    return value


def _natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _parts(file: ReceiptFile) -> list[tuple[str, Part]]:
    return [("intent", file.intent)] + ([("terminal", file.terminal)] if file.terminal else [])


def _have(value: T | None, what: str) -> T:
    if value is None:
        raise Integrity(f"{what} did not hold", "an earlier step failed")
    return value


def _differs(name: str, got: object, required: object) -> Integrity:
    return Integrity(f"{name} is not what it must be", f"got {got!r:.200}, expected {required!r:.200}")


def _pending() -> Integrity:
    return Integrity("there is no terminal leaf yet", f"got {PENDING}, expected one of {', '.join(_STATUS)}")
