"""The two files that say which evaluations and published scores count in a home.

``evaluations/use.json`` names evaluations by digest, ``evaluations/priors.json`` holds published scores with
their audits; of each entry it is written who made it and when. Both are canonical JSON, written whole or not
at all, by one at a time, and what is not in that form is not read.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from allod.assurance.evaluation import OLDER, Evaluated
from allod.domain.errors import AllodError, Integrity, Invalid
from allod.gateway import evaluations
from allod.receipts.canonical import canonical
from allod.receipts.commitment import digest
from allod.routing.capability import Doubt, Published, audit
from allod.store.home import unwritable, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from allod.store.home import Home

USES_FORMAT: Final = "allod-evaluations-in-use-1"
PRIORS_FORMAT: Final = "allod-priors-1"
MAX_USES: Final = 256
MAX_PRIORS: Final = 1024
MAX_FILE_BYTES: Final = 4 << 20
SHORT: Final = 12


class Use(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An evaluation that counts, for all of its tasks or for one; who said so, and when (RFC 3339)."""

    evaluation: str
    by: str
    at: str
    task: str | None = None


class Prior(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published score that counts as a weak prior, with its audit.

    ``deployment`` None means every deployment of the model that was scored; ``evaluated`` is what a named one
    was when the score was added.
    """

    task: str
    published: Published
    by: str
    at: str
    deployment: str | None = None
    evaluated: Evaluated | None = None

    @property
    def name(self) -> str:
        """The first digits of its digest."""
        return digest(canonical(plain_of(self))).removeprefix("sha256:")[:SHORT]

    @property
    def doubt(self) -> Doubt:
        """What it is worth after its audit."""
        return audit(self.published)


class _Uses(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    uses: tuple[Use, ...]


class _Priors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    priors: tuple[Prior, ...]


def uses_file(home: Home) -> Path:
    """Return the file that names the evaluations in use."""
    return evaluations.folder(home) / "use.json"


def priors_file(home: Home) -> Path:
    """Return the file of published scores."""
    return evaluations.folder(home) / "priors.json"


T = TypeVar("T", _Uses, _Priors)


def uses(home: Home) -> tuple[Use, ...]:
    """Return the evaluations in use.

    Raises:
        Integrity: the file is damaged.

    """
    found = _read(uses_file(home), _Uses, USES_FORMAT, "drop all of them: `allod eval drop --all`")
    return () if found is None else found.uses


def priors(home: Home) -> tuple[Prior, ...]:
    """Return the published scores in force.

    Raises:
        Integrity: the file is damaged.

    """
    found = _read(priors_file(home), _Priors, PRIORS_FORMAT, "remove all: `allod eval prior remove --all`")
    return () if found is None else found.priors


def use(home: Home, name: str, task: str | None, by: str, at: str) -> Use:
    """Let an evaluation count, for all of its tasks or for one.

    Raises:
        Invalid: there is no such evaluation, it has no such task, does not say what was evaluated, or counts
            already.
        Integrity, Unavailable: its file, or that of the uses.

    """
    kept = evaluations.one(home, name)
    if kept.evaluation.format == OLDER:
        raise Invalid(
            "this evaluation cannot count", "it does not say what was evaluated", "run it again", param="name"
        )
    if task is not None and task not in kept.evaluation.tasks:
        raise Invalid(
            f"this evaluation has no task {task!r}",
            f"it has {', '.join(kept.evaluation.tasks)}",
            param="task",
        )
    fresh = Use(evaluation=kept.digest, task=task, by=by, at=at)
    with _alone(home):
        before = uses(home)
        if any(one.evaluation == fresh.evaluation and one.task in {None, task} for one in before):
            raise Invalid("this evaluation counts already", kept.digest, "see `allod eval status`")
        if len(before) >= MAX_USES:
            raise Invalid("too many evaluations are in use", f"at most {MAX_USES}", "drop old ones")
        _write(uses_file(home), _Uses(format=USES_FORMAT, uses=(*before, fresh)))
    return fresh


def drop(home: Home, name: str | None, task: str | None = None) -> tuple[Use, ...]:
    """Let an evaluation count no more; without a name none. Returns what counted before.

    Works where the evaluation itself is gone, and with no name where the file is damaged.

    Raises:
        Invalid: none of this name is in use.

    """
    with _alone(home):
        if name is None:
            with contextlib.suppress(FileNotFoundError):
                uses_file(home).unlink()
            return ()
        before, begun = uses(home), name.removeprefix("sha256:")
        gone = [
            one
            for one in before
            if begun
            and one.evaluation.removeprefix("sha256:").startswith(begun)
            and (task is None or one.task == task)
        ]
        if not gone or len({one.evaluation for one in gone}) > 1:
            known = ", ".join(sorted({one.evaluation[7:23] for one in before})) or "none"
            raise Invalid(
                f"there is no evaluation {name!r} in use", f"in use: {known}", "see `allod eval status`"
            )
        _write(uses_file(home), _Uses(format=USES_FORMAT, uses=tuple(o for o in before if o not in gone)))
    return tuple(gone)


def add_priors(home: Home, fresh: Iterable[Prior]) -> None:
    """Let published scores count.

    Raises:
        Invalid: one is there already, or there are too many.

    """
    with _alone(home):
        known = {one.name: one for one in priors(home)}
        for one in fresh:
            if any(_same(one, other) for other in known.values()):
                raise Invalid(
                    "this published score is there already", one.name, "see `allod eval prior list`"
                )
            known[one.name] = one
        if len(known) > MAX_PRIORS:
            raise Invalid("too many published scores", f"at most {MAX_PRIORS}", "remove old ones")
        _write(priors_file(home), _Priors(format=PRIORS_FORMAT, priors=tuple(known.values())))


def _same(one: Prior, other: Prior) -> bool:
    return (one.task, one.deployment, one.published) == (other.task, other.deployment, other.published)


def remove_prior(home: Home, name: str | None) -> None:
    """Take a published score out by the first digits of its name; without a name all of them.

    Raises:
        Invalid: there is none, or more than one.

    """
    with _alone(home):
        if name is None:
            with contextlib.suppress(FileNotFoundError):
                priors_file(home).unlink()
            return
        before = priors(home)
        gone = [one for one in before if one.name.startswith(name)]
        if len(gone) != 1:
            known = ", ".join(one.name for one in before) or "none"
            raise Invalid(
                f"there is no published score {name!r}", f"known: {known}", "see `allod eval prior list`"
            )
        _write(
            priors_file(home), _Priors(format=PRIORS_FORMAT, priors=tuple(o for o in before if o not in gone))
        )


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Have others who change the same files wait."""
    folder = evaluations.folder(home)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as fault:
        raise unwritable(folder, fault) from fault
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _read(path: Path, kind: type[T], form: str, remedy: str) -> T | None:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise Integrity(f"{path.name} cannot be read", str(fault), "restore it, or " + remedy) from None
    try:
        found = msgspec.json.decode(raw, type=kind) if len(raw) <= MAX_FILE_BYTES else None
        sound = found is not None and found.format == form and canonical(plain_of(found)) == raw
        why = "it is not in the form it was written in"
    except (msgspec.MsgspecError, ValueError, ArithmeticError, AllodError) as fault:
        found, sound, why = None, False, str(fault)[:200]
    if not sound:
        raise Integrity(f"{path.name} is damaged", why, "restore it, or " + remedy)
    return found


def _write(path: Path, value: _Uses | _Priors) -> None:
    try:
        write_file(path, canonical(plain_of(value)), 0o600)
    except OSError as fault:
        raise unwritable(path, fault) from fault


def plain_of(value: Any) -> Any:
    """Return what has a canonical form: decimals as text."""
    if isinstance(value, msgspec.Struct):
        return {name: plain_of(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, tuple):
        return [plain_of(one) for one in value]
    return value
