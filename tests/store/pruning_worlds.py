"""A log with old requests, a policy that has stood in it long enough, and newer requests behind."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from store_worlds import AT, Requests, fresh

from allod.receipts.canonical import canonical
from allod.receipts.ids import new_id
from allod.receipts.leaves import NoticeFacts
from allod.receipts.pruning import DAY_MS, Hold, PruningPolicy, policy_leaf
from allod.store.audit import verify_home
from allod.store.home import Home
from allod.store.prunable import Outlook, Rules
from allod.store.prune import prune
from allod.store.store import Store
from allod.store.writer import Settings

YEAR_LATER = AT + 400 * DAY_MS
NOW = YEAR_LATER + 20 * DAY_MS
DAYS = 365
ROOMY = Settings(gather_s=0.001, segment_bytes=8 << 20)


_MADE: dict[tuple[Any, ...], tuple[Home, list[str], list[str]]] = {}


def policy_of(store: Store, **more: object) -> PruningPolicy:
    return PruningPolicy(**{"origin": store.keys.origin, "retain_days": DAYS, **more})  # type: ignore[arg-type]


def rules(home: Home, *holds: Hold, **more: object) -> Rules:
    from allod.store.home import load_keys

    origin = load_keys(home).origin
    policy = PruningPolicy(**{"origin": origin, "retain_days": DAYS, **more})  # type: ignore[arg-type]
    return Rules(policy=policy, holds=holds)


def note(store: Store, subject: str, at_ms: int, **facts: str) -> None:
    name = new_id(store.keys.origin, at_ms, os.urandom(10))
    store.append_notice(NoticeFacts(id=name, at_ms=at_ms, tenant="p_t", subject=subject, facts=facts))


def publish(store: Store, at_ms: int, **more: object) -> None:
    """What a start of the gateway logs."""
    note(store, "start", at_ms)
    name = new_id(store.keys.origin, at_ms, os.urandom(10))
    store.append_notice(policy_leaf(policy_of(store, **more), id=name, at_ms=at_ms, tenant="p_t"))


def later(load: Requests, at_ms: int, record: bytes | None = None) -> str:
    """A whole request at a later time."""
    from allod.receipts.ids import id_prefix, ulid

    name = id_prefix(load.store.keys.origin) + ulid(at_ms, os.urandom(10))
    receipt = load.begin(record=record, id=name, at_ms=at_ms)
    load.attempt(receipt)
    load.end(receipt, (load.row(receipt, started_at_ms=at_ms),), at_ms=at_ms + 5)
    return receipt


def aged(root: Path, requests: int = 400, **more: object) -> tuple[Home, list[str], list[str]]:
    """Return a home at rest, its old receipts and its young ones; made once of each kind, then copied."""
    key = (requests, *sorted(more.items()))
    if key not in _MADE:
        folder = Path(tempfile.mkdtemp(prefix="allod-aged-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _MADE[key] = _make(folder / "home", requests, **more)
    made, old, young = _MADE[key]
    shutil.copytree(made.root, root)
    return Home(root), list(old), list(young)


def _make(root: Path, requests: int, **more: object) -> tuple[Home, list[str], list[str]]:
    home, store = fresh(root, ROOMY)
    load = Requests(store)
    note(store, "start", AT)
    old = [load.whole() for _ in range(requests)]
    publish(store, YEAR_LATER, **more)
    young = [later(load, NOW - DAY_MS + n, canonical({"young": n})) for n in range(20)]
    store.close()
    return home, old, young


def leaf_of(file: bytes, part: str) -> bytes:
    text: str = msgspec.json.decode(file)[part]["leaf"]
    return text.encode()


def carry_out(home: Home, *holds: Hold, **more: object) -> Outlook:
    return prune(home, rules(home, *holds, **more), tenant="p_t", now_ms=NOW)


def step_of(home: Home, name: str) -> str:
    return next(step.detail for step in verify_home(home).steps if step.name == name)
