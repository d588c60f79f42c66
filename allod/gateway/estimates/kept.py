"""The estimator of a home on disk: ``estimates/<16 digits>.bin``, and ``estimator.json``, which names it.

The bytes are written first, then what names them by digest, then older ones go: a crash leaves the old or the
new one, never half of each. What is not what its name says is not used.
"""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import AllodError, Integrity
from allod.receipts.canonical import canonical
from allod.receipts.commitment import digest
from allod.store.home import unwritable, write_file

if TYPE_CHECKING:
    from pathlib import Path

    from allod.routing.estimate import Estimator
    from allod.store.home import Home

FORMAT: Final = "allod-estimates-1"
LEAST: Final = 30
"""Outcomes of a deployment at a task before it is estimated."""
FIT_EVERY: Final = 512
"""Audits told (with ``learn``: outcomes) before weights are fitted anew."""
_SHORT: Final = 16
_MAX_BYTES: Final = 1 << 20


class TaskKnown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of one task.

    Attributes:
        task: its name. requests: cases and audits it was fitted to. outcomes: judged ones, by deployment.
        calibration_error, brier, brier_of_rate: out of fold, as plain decimals (``routing.held_out``); empty
            where there were too few to measure.
        why: why no estimate of it is used; empty where they are.

    """

    task: str
    requests: int
    outcomes: dict[str, int]
    calibration_error: str = ""
    brier: str = ""
    brier_of_rate: str = ""
    why: str = ""

    @property
    def deployments(self) -> tuple[str, ...]:
        """Those with enough outcomes to be estimated."""
        return tuple(name for name, n in self.outcomes.items() if n >= LEAST)


class Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the estimator of a home is.

    Attributes:
        estimator: digest of its bytes; fitted: of what was fitted alone, which decision records name.
        sources: digest of what counted (``gathering.sources_of``).
        day: UTC day of the fit (ISO 8601).
        requests: what it was fitted to; audits: how many of these were audited requests.
        evaluations: digests of the evaluations behind it.
        tasks: by name.

    """

    format: str
    estimator: str
    fitted: str
    sources: str
    day: str
    requests: int
    audits: int
    evaluations: tuple[str, ...]
    tasks: tuple[TaskKnown, ...]

    def task(self, name: str | None) -> TaskKnown | None:
        """Return what is known of a task."""
        return next((one for one in self.tasks if one.task == name), None)

    def said(self) -> tuple[tuple[str, str], ...]:
        """Return what a decision record says of it."""
        return (("day", self.day), ("fitted", self.fitted), ("format", FORMAT))


def folder(home: Home) -> Path:
    """Return where estimates of a home are kept."""
    return home.root / "estimates"


def audits_file(home: Home) -> Path:
    """Return where outcomes of audits are kept."""
    return folder(home) / "audits.bin"


def read(home: Home) -> tuple[Known, Estimator] | str:
    """Read the estimator of a home; returns why there is none (empty where none was fitted yet)."""
    from allod.routing.estimate import Estimator  # noqa: PLC0415 (numpy)

    try:
        known = known_of(home)
        if known is None:
            return ""
        body = _bin(home, known.estimator).read_bytes()
        return known, Estimator.from_bytes(body, known.estimator)
    except OSError as fault:
        return f"the estimator cannot be read: {fault.strerror}"
    except AllodError as fault:
        return f"{fault.what}: {fault.why}" if fault.why else fault.what


def known_of(home: Home) -> Known | None:
    """Return what the estimator of a home is, None where none was fitted.

    Raises:
        Integrity: what says so is damaged.

    """
    path = folder(home) / "estimator.json"
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise Integrity(
            f"{path.name} cannot be read", fault.strerror or "", "the next start fits anew"
        ) from None
    try:
        found = msgspec.json.decode(raw, type=Known) if len(raw) <= _MAX_BYTES else None
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as fault:
        raise Integrity(f"{path.name} is damaged", str(fault)[:200], "the next start fits anew") from None
    if found is None or found.format != FORMAT or canonical(msgspec.to_builtins(found)) != raw:
        raise Integrity(f"{path.name} is damaged", "it is not as it was written", "the next start fits anew")
    return found


def write(home: Home, known: Known, body: bytes) -> None:
    """Keep an estimator.

    Raises:
        Integrity: the bytes are not those it names. Unavailable: it cannot be written.

    """
    if digest(body) != known.estimator:
        raise Integrity("the estimator is not the one it is named for", "", "this is a fault of Allod")
    path = folder(home)
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        write_file(_bin(home, known.estimator), body, 0o600)
        write_file(path / "estimator.json", canonical(msgspec.to_builtins(known)), 0o600)
    except OSError as fault:
        raise unwritable(path, fault) from fault
    _sweep(home, _bin(home, known.estimator).name)


def write_audits(home: Home, body: bytes) -> None:
    """Keep what audits told (raises ``Unavailable``)."""
    path = audits_file(home)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_file(path, body, 0o600)
    except OSError as fault:
        raise unwritable(path, fault) from fault


def remove(home: Home) -> None:
    """Remove the estimator: there is nothing it may be fitted to."""
    with contextlib.suppress(OSError):
        (folder(home) / "estimator.json").unlink(missing_ok=True)
    _sweep(home, "")


def _sweep(home: Home, name: str) -> None:
    for other in folder(home).glob(_SHORT * "[0-9a-f]" + ".bin"):
        if other.name != name:
            with contextlib.suppress(OSError):
                other.unlink()


def _bin(home: Home, name: str) -> Path:
    return folder(home) / f"{name.removeprefix('sha256:')[:_SHORT]}.bin"


def places(value: float) -> str:
    """Write a figure in ten-thousandths."""
    return f"{Decimal(repr(value)).quantize(Decimal('0.0001')):f}"
