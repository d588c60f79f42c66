"""What is told at ``/metrics`` of promises, per task: the rule in force, its bound, audits, what it saved.

Labelled by names of the configuration alone. One task has a promise per reference, base and second it was
answered by under the law of now; those proven most are told, at most ``MOST`` of a task, so that the number
of series is bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from allod.gateway.counting import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from allod.gateway.promise.state import Standing

MOST: Final = 8
Labelled = dict[str, str]


def lines(standings: Iterable[Standing]) -> Iterator[str]:
    """Yield the lines of what promises came to, from those in force."""
    every = [(_labels(one), one) for one in _told(standings)]
    yield from gauge(
        "allod_promise_rule",
        "How many rules of the ladder are in force; 0 where the reference answers everything.",
        ((at, 0 if one.turn(0.0).rule is None else one.state.open) for at, one in every),
    )
    yield from gauge(
        "allod_promise_bound",
        "Lower bound, with 95 %, of the change of quality by the rule in force, or by the next to prove.",
        ((at, one.bound().change_at_least) for at, one in every),
    )
    yield from gauge(
        "allod_promise_loss", "The most quality that is promised to be lost.",
        ((at, one.promise.loss) for at, one in every),
    )  # fmt: skip
    yield from gauge(
        "allod_promise_bound_audits", "Audits the bound rests on, those of other nodes included.",
        ((at, one.bound().audits) for at, one in every),
    )  # fmt: skip
    yield from gauge(
        "allod_promise_shut", "How often the promise was shut, by drift or another model.",
        ((at, one.state.shut) for at, one in every),
    )  # fmt: skip
    yield from _counted(every)
    yield from _saved(every)


def _told(standings: Iterable[Standing]) -> list[Standing]:
    by_task: dict[str, list[Standing]] = {}
    for one in standings:
        by_task.setdefault(one.task, []).append(one)
    out: list[Standing] = []
    for _, some in sorted(by_task.items()):
        some.sort(key=lambda one: (-one.state.open, -one.state.audits, one.policy))
        out += some[:MOST]
    return out


def _labels(one: Standing) -> Labelled:
    who = one.who
    return {"task": one.task, "reference": who.reference, "base": who.base or "", "second": who.second or ""}


def _counted(every: list[tuple[Labelled, Standing]]) -> Iterator[str]:
    yield from counter(
        "allod_promise_requests_total",
        "Requests answered under a promise, by whose answer was delivered.",
        (
            ({**at, "by": by}, n)
            for at, one in every
            for by, n in (
                ("rule", one.spent.kept_base),
                ("fallback", one.spent.fallbacks),
                ("reference", one.spent.requests - one.spent.kept_base),
            )
        ),
    )
    yield from counter(
        "allod_promise_escalations_total",
        "Requests that a rule was in force for and the reference was asked all the same.",
        ((at, one.spent.escalated) for at, one in every),
    )
    yield from counter(
        "allod_promise_audits_total", "Audits of this node that were judged.",
        ((at, one.proof.mine.audits) for at, one in every),
    )  # fmt: skip
    yield from counter(
        "allod_promise_audits_missing_total",
        "Audits that were drawn and could not be made or judged, by why.",
        ((({**at, "why": why}), n) for at, one in every for why, n in sorted(one.spent.missing.items())),
    )
    yield from gauge(
        "allod_promise_blind",
        "1 where so many audits are missing that no rule is used.",
        ((at, int(one.blind)) for at, one in every),
    )


def _saved(every: list[tuple[Labelled, Standing]]) -> Iterator[str]:
    known = [(at, saving) for at, one in every if (saving := one.saving()) is not None]
    yield from counter(
        "allod_promise_spent_usd_total",
        "What was paid under a promise, in USD: answers delivered, answers that were not, audits.",
        (
            ({**at, "for": what}, float(usd))
            for at, one in every
            for what, usd in (
                ("answers", one.spent.steps_usd - one.spent.checks_usd),
                ("checks", one.spent.checks_usd),
                ("audits", one.spent.audits_usd),
            )
        ),
    )
    yield from gauge(
        "allod_promise_saved_usd",
        "Saved against the reference alone, after checks and audits: estimate, and a 95 % interval.",
        (
            ({**at, "of": name}, float(usd))
            for at, one in known
            for name, usd in (("estimate", one.saved_usd), ("low", one.low_usd), ("high", one.high_usd))
        ),
    )
