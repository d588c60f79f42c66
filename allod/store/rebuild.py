"""Tables made again from the log, when the newest ones are lost for good.

The log says who asked (by pseudonym), what was decided and what each attempt cost; it does not say the salts,
the decision records, or what a request still open had reserved: those are lost, and a notice in the log says
so. Keys are not in the log at all and must be made anew. Nor does it say whom a request was about: no request
whose frame the journal has let go of can be found by person afterwards. What was erased stays erased
(``subjects``). Requests whose leaves were pruned are not made again: how many is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.domain.usage import LedgerRow, Usage
from allod.receipts.ids import time_of
from allod.receipts.leaves import NoticeFacts, leaf_time, ms_of
from allod.receipts.tiles import WIDTH
from allod.store.database import OPEN, Database, Work, ledger_tuple
from allod.store.home import Home, Lock, load_keys
from allod.store.logfiles import LogFiles
from allod.store.recovery import anchor_of, bare_files, find, read_checkpoint, stand
from allod.store.store import Store

CHUNK = 1000
REBUILT = "rebuilt from the log"


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What was made again, and from which frame to which nothing but the leaves is known.

    ``pruned`` requests ended in leaves that are gone by the log's policy: only what the tables still have of
    them is there.
    """

    requests: int
    rows: int
    lost_from_seq: int
    lost_to_seq: int
    pruned: int = 0


def rebuild_tables(home: Home, *, apps: Mapping[str, str], notice: NoticeFacts) -> Rebuilt:
    """Fill in what the tables lack of the log, and record in the log that this was done.

    Args:
        home: nobody may be using it.
        apps: real name of an app by its pseudonym in the log; one that is not here keeps its pseudonym.
        notice: id, time, tenant and subject of the leaf that records it; its facts are filled in here.

    Raises:
        Invalid: the tables lack nothing.
        Integrity: the log itself does not hold; this does not repair it.
        Unavailable: in use, or no room.

    """
    keys, lock = load_keys(home), Lock(home)
    try:
        done = _fill(home, keys.origin, keys.signer.key, apps)
    finally:
        lock.release()
    store = Store.open(home, clock=lambda: notice.at_ms)
    try:
        facts = {name: str(value) for name, value in msgspec.structs.asdict(done).items()}
        store.append_notice(msgspec.structs.replace(notice, facts={**notice.facts, **facts}))
    finally:
        store.close()
    return done


def _fill(home: Home, origin: str, key: Any, apps: Mapping[str, str]) -> Rebuilt:
    files = bare_files(home)
    database = Database.lite_file(home.database)
    try:
        anchor = anchor_of(home, find(home), files, read_checkpoint(home, key))
        stand(files, anchor)
        applied = database.applied(origin) or 0
        if applied >= anchor.first_seq:
            raise Invalid(
                "the tables lack nothing", f"got frames below {applied}, expected {anchor.first_seq}"
            )
        requests: list[tuple[Any, ...]] = []
        ledger: list[tuple[Any, ...]] = []
        begun: dict[str, tuple[int, dict[str, Any]]] = {}
        made = rows = 0
        for index in range(files.first, anchor.tree_size):
            leaf = msgspec.json.decode(files.leaf(index))
            if leaf["kind"] == "intent":
                begun[leaf["id"]] = (index, leaf)
            elif leaf["kind"] == "terminal":
                known = leaf["id"] in begun
                first, intent = begun.pop(leaf["id"]) if known else _half(files, leaf)
                row = database.request(leaf["id"])
                if row is None or row.status == OPEN:
                    app = apps.get(leaf["app"], leaf["app"])
                    requests.append(_request(origin, app, first, intent, index, leaf["status"]))
                    if not database.rows(receipt=leaf["id"]):
                        ledger.extend(map(ledger_tuple, _rows(leaf, app, intent)))
            if len(requests) >= CHUNK or index + 1 == anchor.tree_size:
                made, rows = made + len(requests), rows + len(ledger)
                database.commit(origin, Work(requests=requests, ledger=ledger, next_seq=applied))
                requests, ledger = [], []
        for first, intent in begun.values():
            app = apps.get(intent["app"], intent["app"])
            requests.append(_request(origin, app, first, intent, None, OPEN))
        database.commit(origin, Work(requests=requests, next_seq=anchor.first_seq), durable=True)
        return Rebuilt(
            requests=made + len(requests),
            rows=rows,
            lost_from_seq=applied,
            lost_to_seq=anchor.first_seq - 1,
            pruned=files.gone.record.terminals if files.gone is not None else 0,
        )
    finally:
        database.close()
        files.close()


def _half(files: LogFiles, leaf: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Find the place of a beginning that was pruned, by its hash in the end; its time is that of the id.

    Raises:
        Integrity: no such leaf was ever there.

    """
    wanted = bytes.fromhex(leaf["intent"].removeprefix("sha256:"))
    for start in range(files.first - WIDTH, -1, -WIDTH):
        hashes = files.leaf_hashes(start, start + WIDTH, files.stored(start, WIDTH))
        if wanted in hashes:
            time = leaf_time(time_of(leaf["id"]))
            return start + hashes.index(wanted), {**leaf, "time": time}
    raise Integrity(f"the end of {leaf['id']} has no beginning in the log", "", "run `allod log verify`")


def _request(
    origin: str, app: str, first: int, intent: dict[str, Any], last: int | None, status: str
) -> tuple[Any, ...]:
    at_ms = ms_of(intent["time"])
    return (intent["id"], origin, app, at_ms, status, first, last, None, None, intent["decision"], None, None)


def _rows(leaf: dict[str, Any], app: str, intent: dict[str, Any]) -> list[LedgerRow]:
    if not leaf["attempts"]:
        return []
    single = [(leaf.get("deployment", ""), leaf["status"], leaf["basis"], leaf["cost_usd"])]
    tried = leaf.get("tried", single)
    tokens = leaf.get("tokens", {}) if len(tried) == 1 else {}
    usage = Usage(**{f"{name}_tokens": count for name, count in tokens.items()})
    return [
        LedgerRow(
            receipt=leaf["id"],
            attempt=n,
            app=app,
            task=leaf.get("task"),
            deployment=deployment,
            started_at_ms=ms_of(intent["time"]),
            status=status,
            basis=basis,
            usage=usage,
            cost_usd=Decimal(cost),
            price_digest=leaf.get("price", ""),
            detail=REBUILT,
        )
        for n, (deployment, status, basis, cost) in enumerate(tried, 1)
        if status
    ]
