"""How witnesses stand, as the running gateway writes it down for whoever looks: `allod doctor`, `allod log`.

Two small files in ``log/``: the gateway writes ``witnesses.json`` when something changes, and reads
``witness-ask.json``, by which an operator asks that a witness's objection be set aside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.money import rfc3339
from allod.store.home import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from allod.gateway.compose import Setting
    from allod.store.home import Home

REPORT: Final = "witnesses.json"
ASK: Final = "witness-ask.json"
_PRIVATE: Final = 0o600


class Witnessed(msgspec.Struct, frozen=True, kw_only=True):
    """One witness: the last size it cosigned (-1: none), when (UTC ms), and what is wrong with it.

    ``objection`` is what it says against this log; ``aside`` why that does not stop requests now.
    """

    name: str
    url: str = ""
    size: int = -1
    at_ms: int = 0
    problem: str = ""
    objection: str = ""
    aside: str = ""

    @property
    def told(self) -> str:
        """One line about it."""
        seen = f"cosigned {self.size} leaves at {rfc3339(self.at_ms)}" if self.size >= 0 else "never cosigned"
        aside = f"; set aside: {self.aside}" if self.aside else ""
        wrong = f"; OBJECTS: {self.objection}{aside}" if self.objection else ""
        problem = f"; {self.problem}" if self.problem and not self.objection else ""
        return f"{seen}{wrong}{problem}"


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator asks: to set one witness's objection aside, and why."""

    id: str
    witness: str
    reason: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it."""

    id: str
    ok: bool
    why: str


class WitnessReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a running gateway knew at a time (UTC ms) of the witnesses of a log of ``size`` leaves."""

    at_ms: int
    size: int
    witnesses: tuple[Witnessed, ...]
    answer: Answer | None = None


def write_report(home: Home, report: WitnessReport) -> None:
    """Write it down (raises OSError)."""
    write_file(home.log / REPORT, msgspec.json.encode(report), _PRIVATE, durable=False)


def read_report(home: Home) -> WitnessReport | None:
    """Read the last one, None if there is none that can be read."""
    try:
        return msgspec.json.decode((home.log / REPORT).read_bytes(), type=WitnessReport)
    except (OSError, msgspec.DecodeError):
        return None


def ask(home: Home, asked: Ask) -> None:
    """Ask the running gateway (raises OSError)."""
    write_file(home.log / ASK, msgspec.json.encode(asked), _PRIVATE, durable=False)


def take_ask(home: Home) -> Ask | None:
    """Take what is asked, so that it is asked once; None if nothing is, or nothing that can be read."""
    path: Path = home.log / ASK
    try:
        data = path.read_bytes()
        path.unlink()
        return msgspec.json.decode(data, type=Ask)
    except (OSError, msgspec.DecodeError):
        return None


def standing_of(setting: Setting) -> tuple[Witnessed, ...]:
    """Return how the configured witnesses stood when a gateway last wrote it down."""
    report = read_report(setting.home)
    known = {one.name: one for one in report.witnesses} if report is not None else {}
    return tuple(
        known.get(one.name, Witnessed(name=one.name, url=one.url)) for one in setting.config.log.witnesses
    )
