"""``allod eval promise --export`` and ``--join``: nodes that audited apart put their evidence together."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from allod.domain.errors import Invalid, Refused, Unavailable
from allod.gateway.cli import out, say
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import now_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.gateway.compose import Setting
    from allod.gateway.promise.joining import Outcome
    from allod.gateway.promise.state import Standing
    from allod.gateway.promise.telling import Telling
    from allod.receipts.notes import VerifyKey


def export(setting: Setting, rows: Sequence[Standing], path: Path, *, as_json: bool) -> None:
    """Write the evidence of this node's own audits, signed by its log's key.

    Raises:
        Invalid: no promise is made, or there is such a file.

    """
    from allod.gateway.promise.telling import digest_of  # noqa: PLC0415 (only when it runs)

    if not rows:
        raise Invalid("there is no promise to export", "none is in force here", "", param="export")
    data = told_by(setting, rows)
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise Invalid(
            f"{path} cannot be written", f"{error.strerror}", "name a file that is not there", param="export"
        ) from error
    if as_json:
        said = [{"task": one.task, "policy": one.policy, "audits": one.proof.mine.audits} for one in rows]
        out({"file": f"{path}", "digest": digest_of(data), "promises": said})
    else:
        say(f"{len(rows)} promises written to {path}; the other node joins it with this log's verifier key:")
        say(f"  allod eval promise --join {path.name} --key '{setting.home.log_vkey.read_text().strip()}'")


def told_by(setting: Setting, rows: Sequence[Standing]) -> bytes:
    """Return what a home tells of its own audits."""
    from allod.gateway.promise.telling import written  # noqa: PLC0415
    from allod.store.extract import Extract  # noqa: PLC0415
    from allod.store.home import load_keys  # noqa: PLC0415

    with contextlib.closing(Extract(setting.home)) as log:
        return written(load_keys(setting.home).signer, rows, log.size, now_ms())


def join(setting: Setting, source: Path, keys: Sequence[str], *, as_json: bool) -> None:
    """Take in what another node told: a file with its log's key, or a home on this machine.

    Raises:
        Refused: the key is not trusted, it is this node's own, or of no promise in force here.
        Integrity: it is damaged. Invalid: it cannot be read.

    """
    from allod.gateway.promise.telling import opened  # noqa: PLC0415
    from allod.receipts.notes import parse_vkey  # noqa: PLC0415

    trusted = [parse_vkey(one) for one in keys]
    data, own = _read(source)
    if own is not None and not trusted:
        trusted = [own]
    if not trusted:
        raise Invalid(
            "whom to trust?", "a file of another node needs that node's verifier key",
            '--key "$(cat log.vkey)", got by another way than the file', param="key",
        )  # fmt: skip
    said = opened(data, trusted)
    signer = next(one for one in trusted if one.name == said.origin)
    found, left = _taken(setting, data, said, signer)
    if found and all(one.outcome == "refused" for one in found):
        raise Refused(
            "nothing was joined", "; ".join(f"{one.task}: {one.why}" for one in found),
            "give both nodes one law, one fleet and one configuration of the task",
        )  # fmt: skip
    _say(said, found, left=left, as_json=as_json)


def _read(source: Path) -> tuple[bytes, VerifyKey | None]:
    """Return what a file says, or what the home in a folder tells, with that home's key."""
    from allod.gateway.promise.kept import every  # noqa: PLC0415
    from allod.gateway.promise.telling import MOST_BYTES, written  # noqa: PLC0415
    from allod.store.extract import Extract  # noqa: PLC0415
    from allod.store.home import load_home, load_keys  # noqa: PLC0415

    try:
        if not source.is_dir():
            with source.open("rb") as file:
                return file.read(MOST_BYTES + 1), None
    except OSError as error:
        raise Invalid(f"{source} cannot be read", f"{error.strerror}", "", param="join") from error
    home = load_home(source)
    signer = load_keys(home).signer
    with contextlib.closing(Extract(home)) as log:
        return written(signer, every(home), log.size, now_ms()), signer.key


def _taken(setting: Setting, data: bytes, said: Telling, signer: VerifyKey) -> tuple[list[Outcome], bool]:
    """Take it in at rest, or leave it for the gateway that runs; returns which."""
    from allod.gateway import compose  # noqa: PLC0415
    from allod.gateway.promise import joining, telling  # noqa: PLC0415
    from allod.store.home import load_keys, unwritable  # noqa: PLC0415
    from allod.store.store import Store  # noqa: PLC0415

    joining.demand_other(said, load_keys(setting.home).origin)
    decider = compose.decider(setting.fleet, setting.packs, setting.supplied.books)
    pack, _ = decider.policy.digests(datetime.now(UTC).date())
    try:
        store = Store.open(setting.home)
    except Unavailable as busy:
        if busy.kind != "busy":
            raise
        found = []
        for part in said.promises:
            why = telling.why_not(part, setting.fleet, pack)
            found.append(
                joining.Outcome(
                    task=part.task, policy=part.policy, outcome="left" if why is None else "refused",
                    audits=part.state.audits, why=why or "",
                )
            )  # fmt: skip
        try:
            if any(one.outcome == "left" for one in found):
                joining.leave(setting.home, data, signer.vkey())
        except OSError as fault:
            raise unwritable(setting.home.root, fault) from fault
        return found, True
    with contextlib.closing(store):
        fleet, now = setting.fleet, now_ms()
        try:
            found = joining.at_rest(setting.home, store, data, said, fleet=fleet, pack=pack, at_ms=now)
        except OSError as fault:
            raise unwritable(setting.home.root, fault) from fault
        return found, False


def _say(said: Telling, found: Sequence[Outcome], *, left: bool, as_json: bool) -> None:
    if as_json:
        out({"by": said.origin, "at": said.at, "running": left, "promises": found})
        return
    say(f"told by {said.origin} at {said.at}")
    words = {"joined": "joined", "known": "known already", "refused": "refused", "left": "left"}
    for one in found:
        why = f": {one.why}" if one.why else ""
        say_folded(f"  {one.task}  ", f"{words[one.outcome]} ({one.audits} audits){why}")
    if left and any(one.outcome == "left" for one in found):
        say("a gateway is running: it takes this in within seconds, `allod eval promise` shows it then")
