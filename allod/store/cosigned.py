"""The last checkpoint of our own log that witnesses cosigned, kept across starts."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from allod.domain.errors import Integrity
from allod.receipts.checkpoint import open_checkpoint
from allod.store.home import write_file
from allod.store.writer import Published

if TYPE_CHECKING:
    from allod.receipts.notes import VerifyKey
    from allod.receipts.tlog_policy import TrustPolicy
    from allod.store.home import Home
    from allod.store.reading import Reader
    from allod.store.store import Store


def demand(store: Store, policy: TrustPolicy) -> None:
    """Have receipts count as a policy says, and take up the last checkpoint that did.

    Args:
        store: just opened.
        policy: known witnesses and their quorum; the log is the store's own.

    """
    store.reader.quorum = policy.demands
    store.reader.cosigned = _kept(store, policy)


def keep(store: Store, published: Published) -> None:
    """Prove by this checkpoint from now on, and after the next start (a copy: its faults are let be)."""
    store.reader.cosigned = published
    with contextlib.suppress(OSError):
        write_file(store.home.cosigned, published.checkpoint, durable=False)


def cosigned_by(home: Home, key: VerifyKey, reader: Reader) -> Published | None:
    """Return the last checkpoint that was cosigned, if the log signed it and it is of this very tree.

    By whom is for the reader of a receipt to judge: the lines are passed on as they are.
    """
    try:
        note = home.cosigned.read_bytes()
        signed = open_checkpoint(note, key)
        same = signed.size <= reader.size() and reader.root(signed.size) == signed.root
    except (OSError, Integrity):
        return None
    return Published(signed.size, note) if same else None


def _kept(store: Store, policy: TrustPolicy) -> Published | None:
    """Return it if the witnesses of a policy cosigned it, enough of them."""
    key = store.keys.signer.key
    found = cosigned_by(store.home, key, store.reader)
    try:
        enough = found is not None and bool(policy.open(found.checkpoint, key).cosigned)
    except Integrity:
        return None
    return found if enough else None
