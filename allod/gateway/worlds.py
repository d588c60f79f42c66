"""The world a configuration and packs make: as it is, was or would be, and the difference between two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import Invalid
from allod.gateway import compose
from allod.gateway import config as configuration
from allod.gateway.ownpacks import OwnPack, read_note, signature_file, verify_own, widening
from allod.gateway.packs import Packs, files_of
from allod.policy import change as statements
from allod.policy.change import PackRef, State
from allod.policy.difference import digest_of, lines_of, pack_lines
from allod.policy.policy import Policy
from allod.policy.reach import compare
from allod.policy.signing import require
from allod.vault.vault import Vault

if TYPE_CHECKING:
    from allod.gateway.config import Config
    from allod.store.home import Home

MAX_CONFIG_BYTES: Final = 8 << 20
Progress = Callable[[int, int], None]


class World(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration with the packs there are, the law they make, and the home's own packs among them."""

    config: configuration.Config
    packs: Packs
    policy: Policy
    state: State
    own: tuple[OwnPack, ...] = ()


def state_of(config: Config, policy: Policy, day: date) -> State:
    """Return what is in force under a configuration and its law."""
    packs, fleet = policy.digests(day)
    return State(
        configuration=digest_of(config.written),
        packs=tuple(PackRef(id=p.id, version=p.version, digest=p.digest) for p in policy.packs),
        pack_digest=packs,
        fleet_digest=fleet,
        four_eyes=config.fleet.tenant.four_eyes,
    )


def world_of(home: Home, text: bytes, packs: Packs, day: date, *, verified: bool = True) -> World:
    """Build the world of a configuration and packs; own packs must be signed where ``verified``.

    What the home's vault says of weights holds for every world, also for one of the past.

    Raises:
        Invalid, Integrity: see ``config.parse``, ``Policy`` and ``verify_own``.

    """
    try:
        config = configuration.parse(text.decode(), packs.classes)
    except UnicodeDecodeError as error:
        raise Invalid("the configuration is not UTF-8", str(error), "save it as UTF-8") from error
    names = (*config.fleet.tenant.packs, *config.fleet.tenant.shadow)
    own = verify_own(packs, names, config.signers, day) if verified else ()
    fleet, _ = compose.weigh(config.fleet, Vault(home.vault))
    policy = Policy(packs.some(config.fleet.tenant.packs), compose.weighted(fleet, packs))
    return World(config=config, packs=packs, policy=policy, state=state_of(config, policy, day), own=own)


def describe(
    old: World | None, new: World, day: date, why: Mapping[str, str], progress: Progress, lost: str = ""
) -> tuple[str, bool]:
    """Write the difference in words, and tell whether it widens; same worlds, same day, same text.

    ``why`` are the ``widenings`` of that day; ``lost`` says why there is no old world to compare with, if it
    is not for there being none.
    """
    lines = lines_of(old.config.written if old else {}, new.config.written)
    lines += pack_lines(old.policy.packs if old else (), new.policy.packs)
    reach = compare(old.policy, new.policy, day, progress) if old else None
    notes = [f"pack {name} counts as a widening: {told}" for name, told in why.items()]
    notes += [lost] if lost else []
    return statements.words(lines, reach, notes), reach is None or reach.widens or bool(notes)


def widenings(old: World | None, new: World, day: date) -> dict[str, str]:
    """Say of each own pack that was in force in another version why it may allow more."""
    was = {pack.id: pack for pack in old.policy.packs} if old else {}
    found = {}
    for own in new.own:
        why = widening(was.get(own.pack.id), own.pack, new.policy.packs, day)
        if why is not None:
            found[own.pack.id] = why
    return found


def require_signed(new: World, why: Mapping[str, str]) -> None:
    """Demand two signatures under each own pack that widens (raises ``Integrity``)."""
    for own in new.own:
        name = own.pack.id
        require(own.signatures, two=name in why, what=f"pack {name!r}", why=why.get(name, "one is enough"))


def copy_of(world: World) -> dict[str, bytes]:
    """Return the files of every pack a world uses, for ``packs/`` of a change; own ones with signatures."""
    own = {one.pack.id for one in world.own}
    files: dict[str, bytes] = {}
    for name in dict.fromkeys((*(pack.id for pack in world.policy.packs), *sorted(own))):
        folder = world.packs.found[name].folder
        files |= {f"packs/{name}/{path}": data for path, data in files_of(folder).items()}
        if name in own:
            files[f"packs/{name}.sig"] = read_note(signature_file(Path(str(folder))), f"pack {name!r}")
    return files
