"""``allod doctor --air-gap``: show that nothing reaches out, with every address that was tried."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, NoReturn

from allod.domain.errors import Unavailable
from allod.gateway.cli import DONE, FAILED, UNAVAILABLE, out, say
from allod.gateway.cli.lines import say_folded

if TYPE_CHECKING:
    from pathlib import Path

    from allod.gateway.gap_proof import Proof
    from allod.gateway.gap_trial import Said

_EXIT: Final = {"shown": DONE, "partly": DONE, "broken": FAILED, "not shown": UNAVAILABLE}
_VERDICT: Final = {
    "shown": "SHOWN: nothing reached out",
    "partly": "PARTLY SHOWN: nothing reached out, as far as could be seen here",
    "broken": "BROKEN: something reached out",
    "not shown": "NOT SHOWN: what was seen here shows nothing",
}
_QUIET: Final = frozenset({"unix", "kernel"})


def run(config_path: Path | None, *, as_json: bool) -> NoReturn:
    """Prove it and print the proof; exit code 0 shown (or partly), 1 broken, 5 not shown."""
    from allod.gateway import compose, gap_proof  # noqa: PLC0415 (only when it runs)

    setting = compose.setting(config_path, air_gap=True)

    def told(said: Said) -> None:
        if not as_json:
            say(f"  {said.step:44} {said.detail}")

    try:
        proof = gap_proof.prove(setting, told)
    except OSError as error:
        raise Unavailable(
            "the air gap could not be watched",
            f"{type(error).__name__}: {error}",
            "it needs Linux 5.5, and room in the folder for temporary files",
        ) from error
    if as_json:
        out(proof)
    else:
        _print(proof)
    sys.exit(_EXIT[proof.outcome])


def _print(proof: Proof) -> None:
    say()
    say_folded("  calls     ", proof.watch)
    say_folded("  network   ", proof.network)
    say_folded("  control   ", proof.control)
    if proof.ways is not None:
        say_folded("  kernel    ", f"counted {proof.ways} attempts to leave it")
    say("\n  tried, by the product and its children:")
    rows: dict[tuple[str, str], int] = {}
    for one in proof.seen:
        if one.call != "socket" or one.meaning not in _QUIET:
            rows[one.meaning, one.where] = rows.get((one.meaning, one.where), 0) + one.times
    for (meaning, where), times in sorted(rows.items()):
        say_folded(f"    {meaning:10} ", f"{where}  {times}x")
    if not rows:
        say("    nothing")
    for head, lines in (("shown", proof.shown), ("not shown", proof.missing)):
        say(f"\n  {head}:")
        for line in lines:
            say_folded("    - ", line)
    say(f"\n{_VERDICT[proof.outcome]}")
