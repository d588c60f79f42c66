"""What of a log may be pruned: the longest run of whole bundles from the front that nothing keeps.

Every leaf of it is older than the policy says, by the log's own time; the policy has stood in the log long
enough; no request in it is open or under legal hold; where a quorum is demanded, witnesses have cosigned
it. It is hashed up to the signed root before anybody may delete it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.receipts.leaves import leaf_time, ms_of
from allod.receipts.merkle import Frontier, leaf_hash, root
from allod.receipts.pruning import DAY_MS, NOTICE_DAYS, POLICY, Hold, PruningPolicy
from allod.receipts.tiles import WIDTH
from allod.receipts.tlog_policy import TrustPolicy
from allod.store.cosigned import cosigned_by
from allod.store.database import Database
from allod.store.home import Home, load_keys
from allod.store.leafwise import bundle_of
from allod.store.logfiles import LogFiles
from allod.store.pruned import Gone
from allod.store.reading import Reader
from allod.store.recovery import anchor_of, bare_files, find, read_checkpoint, stand
from allod.store.writer import Published

_START: Final = "start"
_NOTICE: Final = b'"kind":"notice"'


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What decides about a pruning besides the leaves.

    Attributes:
        policy: the published one.
        holds: what must stay whatever its age.
        trust: whose cosignatures must cover what goes, or None where no quorum is demanded.

    """

    policy: PruningPolicy
    holds: tuple[Hold, ...] = ()
    trust: TrustPolicy | None = None


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What a pruning takes, or would take.

    Attributes:
        since, upto: the minimum index before and after; equal where nothing goes.
        size: of the log. until: time of the youngest leaf that goes, "" if none.
        bytes: of leaves that leave the disk. kept: notices among them that stay.
        why: why no more goes. finished: whether one that had been interrupted was ended.

    """

    since: int
    upto: int
    size: int
    until: str = ""
    bytes: int = 0
    kept: int = 0
    why: str = ""
    finished: bool = False


class _Timed(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    kind: str
    time: str
    deployment: str | None = None
    seq: int | None = None
    subject: str = ""
    facts: dict[str, str] = {}


class Run(msgspec.Struct, kw_only=True):
    """What is known of the bundles from the minimum index on that may go."""

    edge: Frontier
    numbers: dict[str, int]
    open: set[str]
    notices: list[tuple[int, bytes]]
    intents: int
    terminals: int
    until: str = ""
    end: int = 0


_TIMED: Final = msgspec.json.Decoder(_Timed)


def survey(home: Home, rules: Rules, now_ms: int) -> tuple[Outlook, Run | None, Gone | None]:
    """Read the front of the log up to where it must stay; the caller holds the home's lock.

    Returns what would go, what was read of it (None where nothing goes), and what is gone already.

    Raises:
        Unavailable: the log is not at rest. Integrity: it does not hold.
        Invalid: the policy is not in the log; a receipt under hold is not known.

    """
    key, files = load_keys(home).signer.key, bare_files(home)
    try:
        last = read_checkpoint(home, key)
        anchor = anchor_of(home, find(home), files, last)
        stand(files, anchor)
        size = anchor.tree_size
        first = files.first
        if last is None or last.size != size:
            raise Unavailable(
                "the log is not at rest",
                f"got a checkpoint of {last.size if last else 0} leaves, {size} in the files",
                "start and stop the gateway once: it ends what a crash left",
                kind="storage",
            )
        if not size:
            return Outlook(since=0, upto=0, size=0, why="the log is empty"), None, None
        as_of = min(now_ms, ms_of(_TIMED.decode(files.leaf(size - 1)).time))
        waits = _published_for(files, size, rules.policy, as_of)
        end, why = _limit(home, files, size, rules)
        cutoff = leaf_time(as_of - rules.policy.retain_days * DAY_MS)
        held = [hold.since_ms for hold in rules.holds if hold.since_ms is not None]
        if held and leaf_time(min(held)) < cutoff:
            cutoff, why = leaf_time(min(held)), "a legal hold: " + reasons(rules.holds)
        run, upto, young = _run(files, first, end if waits is None else first, cutoff)
        return (
            Outlook(
                since=first,
                upto=upto,
                size=size,
                until=run.until,
                bytes=files.leaf_end(upto) - files.leaf_end(first),
                kept=len(run.notices),
                why=waits or _said(young, cutoff, why),
            ),
            run if upto > first else None,
            files.gone,
        )
    finally:
        files.close()


def _published_for(files: LogFiles, size: int, policy: PruningPolicy, as_of_ms: int) -> str | None:
    """Return why a policy does not count yet, None if it has stood in the log long enough.

    Every start says it again; a start that does not, or another policy, ends it.

    Raises:
        Invalid: it is not in the log.

    """
    since, started = None, False
    reader = Reader(files, lambda: Published(size, b""))
    for start in range(0, size, WIDTH):
        for _, leaf in reader.noted(start, min(start + WIDTH, size), _NOTICE):
            if _NOTICE not in leaf:
                continue
            said = _TIMED.decode(leaf)
            if said.subject == _START:
                since, started = (None if started else since), True
            elif said.subject == POLICY:
                same = said.facts.get("policy") == policy.digest
                since, started = (since or said.time if same else None), False
    if since is None or started:
        raise Invalid(
            "the pruning policy is not published",
            f"got no leaf of the log that says {policy.digest} since the last start",
            "start the gateway with it: every start logs it, and /log/pruning shows it",
            param="log.retain_days",
        )
    until = ms_of(since) + NOTICE_DAYS * DAY_MS
    if until > as_of_ms:
        return (
            f"the policy stands in the log since {since}: nothing is pruned by it before {leaf_time(until)}"
        )
    return None


def _limit(home: Home, files: LogFiles, size: int, rules: Rules) -> tuple[int, str]:
    """Return the leaf before which everything that goes must lie, and why."""
    end, why = size - 1, "the newest leaf stays"
    if any(hold.since_ms is None and not hold.receipts for hold in rules.holds):
        return files.first, "a legal hold on everything: " + reasons(rules.holds)
    database = Database.lite_file(home.database)
    try:
        for row in database.open_requests(load_keys(home).origin):
            if row.intent_index < end:
                end, why = row.intent_index, f"request {row.receipt} is open"
        for receipt in (name for hold in rules.holds for name in hold.receipts):
            known = database.request(receipt)
            if known is None:
                raise Invalid(
                    f"there is no receipt {receipt} to be held", "", "correct [log] holds", param="log.holds"
                )
            if known.intent_index < end:
                end, why = known.intent_index, f"a legal hold on {receipt}"
    finally:
        database.close()
    if rules.trust is not None:
        covered = _cosigned(home, files, size, rules.trust)
        if covered < end:
            end, why = covered, f"witnesses have cosigned {covered} leaves"
    return end, why


def _cosigned(home: Home, files: LogFiles, size: int, trust: TrustPolicy) -> int:
    """Return how many leaves a quorum has cosigned."""
    key = load_keys(home).signer.key
    found = cosigned_by(home, key, Reader(files, lambda: Published(size, b"")))
    if found is None:
        return 0
    try:
        return found.size if trust.open(found.checkpoint, key).cosigned else 0
    except Integrity:
        return 0


def _run(files: LogFiles, first: int, end: int, cutoff: str) -> tuple[Run, int, int | None]:
    """Read whole bundles below ``end`` while every leaf is older than ``cutoff``; hash them.

    Returns what was read, where it ends, and the first leaf that was too young, if one was.

    Raises:
        Integrity: the leaves are not those the hashes are of: nothing may be deleted.

    """
    gone = files.gone.record if files.gone is not None else None
    run = Run(
        edge=files.pruned_edge(),
        numbers=dict(gone.numbers) if gone else {},
        open=set(),
        notices=list(files.gone.notices.items()) if files.gone else [],
        intents=gone.intents if gone else 0,
        terminals=gone.terminals if gone else 0,
        until=gone.until if gone else "",
    )
    upto, young = first, None
    run.end = files.leaf_end(first)
    for start in range(first, end - WIDTH + 1, WIDTH):
        leaves = bundle_of(files, start, start + WIDTH)
        said = [_TIMED.decode(leaf) for leaf in leaves]
        young = next((i for i, one in enumerate(said, start) if one.time >= cutoff), None)
        if young is not None:
            break
        run.edge.extend([leaf_hash(leaf) for leaf in leaves], [])
        for index, (leaf, one) in enumerate(zip(leaves, said, strict=True), start):
            _add(run, index, leaf, one)
        upto, run.end = start + WIDTH, files.leaf_end(start + WIDTH)
    if upto > first and run.edge.root() != root(upto, files.node):
        raise Integrity(
            "the log does not hold: nothing is pruned",
            f"got another root of the leaves up to {upto} than of their hashes",
            "run `allod log verify`: it names what is wrong",
        )
    return run, upto, young


def _add(run: Run, index: int, leaf: bytes, said: _Timed) -> None:
    run.until = max(run.until, said.time)
    if said.kind == "intent":
        run.intents += 1
        run.open.add(said.id)
    elif said.kind == "terminal":
        run.terminals += 1
        run.open.discard(said.id)
        if said.deployment is not None and said.seq is not None:
            run.numbers[said.deployment] = said.seq
    else:
        run.notices.append((index, leaf))


def _said(young: int | None, cutoff: str, why: str) -> str:
    if young is not None:
        return f"leaf {young} is of {cutoff} or younger"
    return f"{why}; only whole bundles of {WIDTH} go"


def reasons(holds: tuple[Hold, ...]) -> str:
    """Return the reasons of holds in one line."""
    return "; ".join(hold.reason for hold in holds)
