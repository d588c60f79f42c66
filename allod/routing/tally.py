"""What a simulation found, added up: by app, classes and task, by rule, by deployment.

Costs and qualities are those expected of the first choice, from the estimates of the records; both sides are
added up exactly, each decision weighed by the number of its requests.
"""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.money import ZERO
from allod.routing.simulate import CHANGES, Change, change_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allod.domain.decision import DecidingRule
    from allod.routing.simulate import Again, End, Past

EXAMPLES: Final = 3
"""So many receipts are named for each line."""
REASONS: Final = 32
OTHERS: Final = "for other reasons"
_EXACT: Final = Context(prec=120, traps=[Inexact, InvalidOperation])
_MEAN: Final = Context(prec=6)

Key = tuple[str, tuple[str, ...], str | None]
"""App, classes and task of a request."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one app, class set and task with one change.

    Attributes:
        requests, decisions: how many, and how many distinct decisions they share.
        cost_before_usd, cost_after_usd: expected cost of the first choice, over the requests that had one.
        quality_before, quality_after: mean expected quality over the requests where it is known on both
            sides, else None.
        rules: rules that take candidates away in these requests; ``receipts``: examples.

    """

    app: str
    classes: tuple[str, ...]
    task: str | None
    change: Change
    requests: int
    decisions: int
    cost_before_usd: Decimal
    cost_after_usd: Decimal
    quality_before: Decimal | None
    quality_after: Decimal | None
    rules: tuple[str, ...]
    receipts: tuple[str, ...]


class RuleLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule does: requests in which it takes a candidate away, or no longer does.

    ``refused`` are those of ``takes`` that nothing serves any more. A candidate may fall to several rules.
    """

    rule: str
    law: str
    takes: int
    refused: int
    gives: int
    deployments: tuple[str, ...]
    receipts: tuple[str, ...]


class DeploymentLine(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment: requests it may not see any more, may see now, and is or was the first choice of."""

    deployment: str
    denied: int
    allowed: int
    first_before: int
    first_after: int


class Uncovered(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one kind that were served and would be refused; ``whole``: none of this kind is served."""

    app: str
    classes: tuple[str, ...]
    task: str | None
    requests: int
    whole: bool
    rules: tuple[str, ...]
    receipts: tuple[str, ...]


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions that could not be made again, and why; nothing is guessed about them."""

    reason: str
    requests: int
    decisions: int
    receipts: tuple[str, ...]


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests and distinct decisions there are of one change."""

    change: Change
    requests: int
    decisions: int


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """All requests together.

    Attributes:
        replayed: requests whose decision was made again, of ``requests``; ``decisions`` are distinct.
        identical: requests decided again under the same digests, with the same law and the same choice.
        both: requests served before and after; the costs and mean qualities are theirs (qualities only
            where both are known: ``quality_known`` requests).
        cost_before_usd, cost_after_usd: over all that are served, before or after.

    """

    requests: int
    decisions: int
    replayed: int
    identical: int
    cost_before_usd: Decimal
    cost_after_usd: Decimal
    both: int
    both_cost_before_usd: Decimal
    both_cost_after_usd: Decimal
    quality_known: int
    quality_before: Decimal | None
    quality_after: Decimal | None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulation found; lists are sorted by what weighs most."""

    totals: Totals
    changes: tuple[Changed, ...]
    lines: tuple[Line, ...]
    rules: tuple[RuleLine, ...]
    deployments: tuple[DeploymentLine, ...]
    uncovered: tuple[Uncovered, ...]
    left: tuple[Left, ...]
    prices: tuple[str, ...]


class _Sum:
    """Requests and decisions, both sides' cost and quality, rules and examples."""

    __slots__ = ("after", "before", "decisions", "known", "quality", "receipts", "requests", "rules")

    def __init__(self) -> None:
        self.requests = self.decisions = self.known = 0
        self.before = self.after = ZERO
        self.quality = (ZERO, ZERO)
        self.rules: dict[str, None] = {}
        self.receipts: list[str] = []

    def add(self, before: End, after: End, requests: int, receipt: str) -> None:
        self.requests += requests
        self.decisions += 1
        if before.cost_usd is not None:
            self.before = _EXACT.fma(before.cost_usd, requests, self.before)
        if after.cost_usd is not None:
            self.after = _EXACT.fma(after.cost_usd, requests, self.after)
        if before.quality is not None and after.quality is not None:
            self.known += requests
            self.quality = (
                _EXACT.fma(before.quality, requests, self.quality[0]),
                _EXACT.fma(after.quality, requests, self.quality[1]),
            )
        if len(self.receipts) < EXAMPLES:
            self.receipts.append(receipt)

    def means(self) -> tuple[Decimal | None, Decimal | None]:
        if not self.known:
            return None, None
        return _MEAN.divide(self.quality[0], self.known), _MEAN.divide(self.quality[1], self.known)


class _Rule:
    __slots__ = ("deployments", "gives", "law", "receipts", "refused", "takes")

    def __init__(self, law: str) -> None:
        self.law, self.takes, self.refused, self.gives = law, 0, 0, 0
        self.deployments: dict[str, None] = {}
        self.receipts: list[str] = []

    def note(self, deployments: Iterable[str], receipt: str) -> None:
        self.deployments.update(dict.fromkeys(deployments))
        if len(self.receipts) < EXAMPLES:
            self.receipts.append(receipt)


class Tally:
    """Adds up decisions made again."""

    def __init__(self) -> None:
        self._lines: dict[tuple[Key, Change], _Sum] = {}
        self._rules: dict[str, _Rule] = {}
        self._deployments: dict[str, list[int]] = {}
        self._left: dict[str, tuple[list[int], list[str]]] = {}
        self._served: dict[Key, int] = {}
        self._both = _Sum()
        self._prices: set[str] = set()
        self._identical = self._requests = self._decisions = self._replayed = 0

    def add(self, past: Past, again: Again, requests: int, receipt: str, *, identical: bool) -> Change:
        """Add one decision that so many requests share; ``receipt`` is one of them.

        Raises:
            Integrity: its estimates are no numbers; nothing was added then.

        """
        change, before, after = change_of(again)
        key = past.asked.app, past.asked.classes, past.facts.task
        line = self._lines.get((key, change))
        if line is None:
            line = self._lines[key, change] = _Sum()
        line.add(before, after, requests, receipt)
        self._count(requests)
        self._replayed += requests
        if identical:
            self._identical += requests
        if before.outcome == after.outcome == "served":
            self._both.add(before, after, requests, receipt)
        if after.outcome == "served":
            self._served[key] = self._served.get(key, 0) + requests
        self._first(before.first, 2, requests)
        self._first(after.first, 3, requests)
        if again.unlawful or again.lawful or again.lost:
            self._law(again, line, requests, receipt, refused=change == "denied")
        return change

    def leave(self, reason: str, requests: int, receipt: str) -> None:
        """Add one decision that cannot be made again; of very many reasons the last are put together."""
        if len(self._left) >= REASONS and reason not in self._left:
            reason = OTHERS
        counts, receipts = self._left.setdefault(reason, ([0, 0], []))
        counts[0] += requests
        counts[1] += 1
        if len(receipts) < EXAMPLES:
            receipts.append(receipt)
        self._count(requests)

    def found(self) -> Found:
        """Return what was found so far."""
        lines = [_line(key, change, one) for (key, change), one in self._lines.items()]
        lines.sort(key=lambda one: (CHANGES.index(one.change), -one.requests, one.app, one.classes))
        return Found(
            totals=self._totals(),
            changes=tuple(self._changed(change) for change in CHANGES),
            lines=tuple(lines),
            rules=tuple(sorted(map(_rule_line, self._rules.items()), key=_weight)),
            deployments=tuple(
                DeploymentLine(
                    deployment=name, denied=n[0], allowed=n[1], first_before=n[2], first_after=n[3]
                )
                for name, n in sorted(self._deployments.items())
            ),
            uncovered=tuple(
                Uncovered(
                    app=one.app, classes=one.classes, task=one.task, requests=one.requests,
                    whole=not self._served.get((one.app, one.classes, one.task)), rules=one.rules,
                    receipts=one.receipts,
                )
                for one in lines
                if one.change == "denied"
            ),
            left=tuple(
                Left(reason=reason, requests=n[0], decisions=n[1], receipts=tuple(receipts))
                for reason, (n, receipts) in sorted(self._left.items())
            ),
            prices=tuple(sorted(self._prices)),
        )  # fmt: skip

    def _count(self, requests: int) -> None:
        self._requests += requests
        self._decisions += 1

    def _first(self, name: str | None, place: int, requests: int) -> None:
        if name is not None:
            self._of(name)[place] += requests

    def _of(self, deployment: str) -> list[int]:
        return self._deployments.setdefault(deployment, [0, 0, 0, 0])

    def _law(self, again: Again, line: _Sum, requests: int, receipt: str, *, refused: bool) -> None:
        takes: dict[str, list[str]] = {}
        laws: dict[str, str] = {}
        for name, rules in dict((*again.lost, *again.unlawful)).items():
            self._taken(name, rules, takes, laws)
        for name, _ in again.unlawful:
            self._of(name)[0] += requests
        for rule_id, names in takes.items():
            rule = self._rules.setdefault(rule_id, _Rule(laws[rule_id]))
            rule.takes += requests
            rule.refused += requests if refused else 0
            rule.note(names, receipt)
            line.rules[rule_id] = None
        gives: dict[str, list[str]] = {}
        for name, rules in again.lawful:
            self._of(name)[1] += requests
            self._taken(name, rules, gives, laws)
        for rule_id, names in gives.items():
            rule = self._rules.setdefault(rule_id, _Rule(laws[rule_id]))
            rule.gives += requests
            rule.note(names, receipt)
        self._prices |= again.prices

    @staticmethod
    def _taken(
        name: str, rules: Iterable[DecidingRule], names: dict[str, list[str]], laws: dict[str, str]
    ) -> None:
        for rule in rules:
            names.setdefault(rule.id, []).append(name)
            laws[rule.id] = rule.law

    def _changed(self, change: Change) -> Changed:
        of = [one for (_, known), one in self._lines.items() if known == change]
        return Changed(
            change=change,
            requests=sum(one.requests for one in of),
            decisions=sum(one.decisions for one in of),
        )

    def _totals(self) -> Totals:
        both = self._both
        quality_before, quality_after = both.means()
        before = after = ZERO
        for one in self._lines.values():
            before, after = _EXACT.add(before, one.before), _EXACT.add(after, one.after)
        return Totals(
            requests=self._requests,
            decisions=self._decisions,
            replayed=self._replayed,
            identical=self._identical,
            cost_before_usd=before,
            cost_after_usd=after,
            both=both.requests,
            both_cost_before_usd=both.before,
            both_cost_after_usd=both.after,
            quality_known=both.known,
            quality_before=quality_before,
            quality_after=quality_after,
        )


def _line(key: Key, change: Change, one: _Sum) -> Line:
    before, after = one.means()
    return Line(
        app=key[0],
        classes=key[1],
        task=key[2],
        change=change,
        requests=one.requests,
        decisions=one.decisions,
        cost_before_usd=one.before,
        cost_after_usd=one.after,
        quality_before=before,
        quality_after=after,
        rules=tuple(one.rules),
        receipts=tuple(one.receipts),
    )


def _weight(one: RuleLine) -> tuple[int, int, str]:
    return -one.takes, -one.gives, one.rule


def _rule_line(item: tuple[str, _Rule]) -> RuleLine:
    rule_id, one = item
    return RuleLine(
        rule=rule_id,
        law=one.law,
        takes=one.takes,
        refused=one.refused,
        gives=one.gives,
        deployments=tuple(one.deployments),
        receipts=tuple(one.receipts),
    )
