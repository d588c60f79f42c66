"""Where a home keeps what was measured of drafts, and what comes of it: loaded, or not and why.

``planner/speculation/DEPLOYMENT.json``: the newest measurement of a deployment; canonical JSON with its own
digest, written whole or not at all. Whatever is wrong with it speaks against the draft, never against the
model: it is served plain. Each deployment has a file, so that a measurement which holds no more can be taken
away on a disk where nothing can be written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.drafting import DraftSetup
from allod.domain.errors import AllodError, Integrity, Unavailable
from allod.domain.fleet import EMBEDDED
from allod.domain.money import rfc3339
from allod.receipts.canonical import canonical, parse
from allod.receipts.commitment import digest
from allod.store.home import unwritable, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allod.domain.fleet import Deployment, Fleet
    from allod.gateway.compose import Setting
    from allod.store.home import Home

FORMAT: Final = "allod-speculation-1"
SUBJECT: Final = "speculation"
"""Of the notice a measurement leaves in the log."""
MAX_FILE_BYTES: Final = 1 << 20
_AHEAD: Final = timedelta(days=1)
Three = tuple[str, str, str]
"""A value with the bounds of its 95 % interval, as decimal numbers."""


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was measured of prompts of one kind, or of all; numbers are text, tokens/s with the prompt in."""

    kind: str
    prompts: int
    plain_tok_s: str
    draft_tok_s: str
    speed_up: Three | None
    acceptance: Three | None
    drafted: int
    accepted: int


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measurement of a draft beside its model.

    Attributes:
        at: when it ended, RFC 3339. setup: what it holds for.
        prompts: digest of the prompts; rounds: counted ones; max_tokens: of an answer.
        whole: all prompts; kinds: each kind; engine_speed_up: decoding alone, by the engine's clock.
        different: prompts whose answers were not the same; accept_different: that this may be was said.
        sandbox: what shut the children in; memory_bytes: resident at their peak, plain and with the draft.

    """

    deployment: str
    at: str
    setup: DraftSetup
    prompts: str
    rounds: int
    max_tokens: int
    whole: Line
    kinds: tuple[Line, ...]
    engine_speed_up: Three | None
    different: int
    accept_different: bool
    sandbox: str
    memory_bytes: tuple[int, int]
    format: str = FORMAT

    def decided(self) -> tuple[bool, str]:
        """Say whether the draft is to be used by this measurement, and why."""
        from allod.planner.speculation import decide  # noqa: PLC0415 (only where there is a draft)

        low = Decimal("NaN") if self.whole.speed_up is None else Decimal(self.whole.speed_up[1])
        drafted, accept = self.whole.drafted, self.accept_different
        return decide(float(low), self.different, drafted=drafted, accept_different=accept)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with a deployment's draft: used or not, why, what to do, and the measurement if any."""

    deployment: str
    draft: str
    used: bool
    why: str
    remedy: str = ""
    measured: Measured | None = None

    def told(self) -> str:
        """Say it in a sentence."""
        return f"{self.deployment}: draft {self.draft} is {'used' if self.used else 'not loaded'}: {self.why}"


def folder(home: Home) -> Path:
    """Return where a home's measurements lie."""
    return home.root / "planner" / "speculation"


def file_of(home: Home, deployment: str) -> Path:
    """Return the file of a deployment's measurement."""
    return folder(home) / f"{deployment}.json"


@contextlib.contextmanager
def alone(home: Home) -> Iterator[None]:
    """Have one measurement at a time in a home: two would measure each other.

    Raises:
        Unavailable: another one runs, or the home cannot be written.

    """
    path = folder(home) / "lock"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise unwritable(path, fault) from fault
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            why = "two would measure each other"
            raise Unavailable(
                "another measurement runs in this home", why, "wait for it", kind="busy"
            ) from fault
        yield
    finally:
        os.close(fd)


def keep(home: Home, found: Measured) -> None:
    """Write a measurement durably; where that fails the one before is taken away, for it holds no more.

    Raises:
        Unavailable: it cannot be written.

    """
    plain = msgspec.to_builtins(found)
    path = file_of(home, found.deployment)
    try:
        write_file(path, canonical({"digest": digest(canonical(plain)), "measured": plain}), 0o600)
    except OSError as fault:
        forget(home, found.deployment)
        raise unwritable(path, fault) from fault


def forget(home: Home, deployment: str) -> None:
    """Take a deployment's measurement away, if there is one: its draft is not loaded any more."""
    with contextlib.suppress(FileNotFoundError):
        file_of(home, deployment).unlink()


def read(home: Home, deployment: str) -> Measured | None:
    """Return a deployment's measurement.

    Raises:
        Integrity: its file is damaged, or is of another deployment.

    """
    path = file_of(home, deployment)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise Integrity(f"{path.name} cannot be read", fault.strerror or "", "measure again") from fault
    if len(raw) > MAX_FILE_BYTES:
        raise Integrity(f"{path.name} is too large", f"at most {MAX_FILE_BYTES} bytes", "measure again")
    whole = parse(raw, what=path.name)
    if not isinstance(whole, dict) or set(whole) != {"digest", "measured"}:
        raise Integrity(f"{path.name} is no measurement", "", "measure again")
    got = digest(canonical(whole["measured"]))
    if got != whole["digest"]:
        raise Integrity(f"{path.name} was changed", f"its digest is {got}", "measure again")
    return _measured(whole["measured"], path.name, deployment)


def _measured(plain: Any, name: str, deployment: str) -> Measured:
    try:
        found = msgspec.convert(plain, Measured)
        three = found.whole.speed_up
        broken = three is None or not all(Decimal(number).is_finite() for number in three)
        broken = broken or datetime.fromisoformat(found.at).tzinfo is None
    except (msgspec.ValidationError, InvalidOperation, ValueError) as fault:
        raise Integrity(f"{name} is no measurement", f"{fault}", "measure again") from None
    if broken or found.format != FORMAT or found.deployment != deployment:
        raise Integrity(f"{name} is no measurement of {deployment}", found.format, "measure again")
    return found


def standing(home: Home, fleet: Fleet, now_ms: int) -> tuple[Standing, ...]:
    """Say of every embedded deployment with a draft whether it is used; reads small files and never fails.

    What can only be known by looking at weights and engine is left to ``checked`` and to the driver.
    """
    wanted = [d for d in fleet.deployments.values() if d.engine in EMBEDDED and d.draft]
    return tuple(_standing(home, one, now_ms) for one in wanted)


def _standing(home: Home, deployment: Deployment, now_ms: int) -> Standing:
    from allod.planner.speculation import MAX_AGE_DAYS  # noqa: PLC0415 (only where there is a draft)

    command = f"allod plan speculate {deployment.id}"
    found = Standing(
        deployment=deployment.id,
        draft=deployment.draft or "",
        used=False,
        why="nothing was measured",
        remedy=f"measure: `{command}`",
    )
    try:
        measured = read(home, deployment.id)
    except AllodError as error:
        return msgspec.structs.replace(found, why=f"{error.what}: {error.why}" if error.why else error.what)
    if measured is None:
        return found
    found = msgspec.structs.replace(found, measured=measured, remedy=f"measure again: `{command}`")
    at, now = datetime.fromisoformat(measured.at), datetime.fromisoformat(rfc3339(now_ms))
    if at - now > _AHEAD:
        return msgspec.structs.replace(found, why=f"it was measured at {measured.at}, which is not yet")
    if now - at > timedelta(days=MAX_AGE_DAYS):
        why = f"the measurement of {measured.at[:10]} is older than {MAX_AGE_DAYS} days"
        return msgspec.structs.replace(found, why=why)
    used, why = measured.decided()
    remedy = "" if used else f"take `draft` out; where something changed, {found.remedy}"
    return msgspec.structs.replace(
        found, used=used, why=f"{why} (measured {measured.at[:10]})", remedy=remedy
    )


def drafts(home: Home, fleet: Fleet, now_ms: int) -> dict[str, DraftSetup]:
    """Return what drivers may load drafts by: what was measured where a measurement speaks for it."""
    found = standing(home, fleet, now_ms)
    return {one.deployment: one.measured.setup for one in found if one.used and one.measured is not None}


def checked(setting: Setting, now_ms: int) -> tuple[Standing, ...]:
    """Say as ``standing`` does, and hold what was measured against weights, engine and machine of now."""
    return tuple(_checked(setting, one) for one in standing(setting.home, setting.fleet, now_ms))


def _checked(setting: Setting, found: Standing) -> Standing:
    from allod.engines.llamacpp.driver import LlamaCpp  # noqa: PLC0415 (only where there is a draft)
    from allod.gateway import compose  # noqa: PLC0415 (it imports this)

    if found.measured is None:
        return found
    deployment = setting.fleet.deployments[found.deployment]
    remedy = f"measure again: `allod plan speculate {found.deployment}`"
    try:
        now = LlamaCpp(deployment, compose.context(setting)).expected()
    except AllodError as error:
        why = f"{error.what}: {error.why}" if error.why else error.what
        return msgspec.structs.replace(found, used=False, why=why, remedy=error.remedy or remedy)
    changed = found.measured.setup.changed(now)
    if not changed:
        return found
    why = f"it was measured with another {', '.join(changed)}"
    return msgspec.structs.replace(found, used=False, why=why, remedy=remedy)


def noted(home: Home, fleet: Fleet, now_ms: int) -> dict[str, str]:
    """Return what the notice of a start says: which drafts may be loaded; nothing where there is none."""
    used = [one for one in standing(home, fleet, now_ms) if one.used]
    return {"drafts": ", ".join(f"{one.deployment} {one.draft}" for one in used)} if used else {}
