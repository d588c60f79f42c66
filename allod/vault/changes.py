"""What a change of a vault's register may do: computed on the state that is there, under its lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from allod.domain.errors import Invalid
from allod.vault import revocation

if TYPE_CHECKING:
    from collections.abc import Collection

    from allod.vault.manifest import Manifest
    from allod.vault.register import State
    from allod.vault.revocation import Revocation


def applied(
    state: State,
    manifests: Collection[Manifest],
    revoked: Collection[Revocation],
    removed: Collection[str],
    *,
    shipped: Collection[str],
    replace: bool,
) -> State:
    """Return the next state, or the same where nothing changes; arguments and errors as ``Vault.commit``."""
    held = dict(state.manifests)
    gone = [_removed(held, name) for name in removed]
    for item in manifests:
        before = held.get(item.name)
        if item.name in shipped:
            raise _taken(item, "it is a shipped model")
        if before is not None and not replace:
            if before.digest != item.digest:
                raise _taken(item, f"it stands for {before.digest}, this file is {item.digest}")
            continue
        held[item.name] = item
    for one in gone:
        _check_needless(held, one)
    listed = revocation.joined(state, revoked)
    if held == state.manifests and listed == state.revoked:
        return state
    return msgspec.structs.replace(state, manifests=held, revoked=listed)


def _removed(held: dict[str, Manifest], name: str) -> Manifest:
    gone = held.pop(name, None)
    if gone is None:
        raise Invalid(f"the vault holds no {name} of its own", "shipped ones are the package's", kind="model")
    return gone


def _check_needless(held: dict[str, Manifest], gone: Manifest) -> None:
    """Refuse to remove a base that an adapter still belongs to, where no other name stands for it."""
    if any(item.digest == gone.digest for item in held.values()):
        return
    needing = sorted(item.name for item in held.values() if item.base == gone.digest)
    if needing:
        raise Invalid(
            f"{gone.name} is needed",
            f"{', '.join(needing[:8])} belongs to it",
            "remove what needs it first",
            kind="conflict",
        )


def _taken(item: Manifest, why: str) -> Invalid:
    return Invalid(f"the name {item.name} is taken", why, "choose another name", kind="conflict")
