"""What a receipt says of checks, as a cascade reads it: whose answer was delivered can be told again (I8).

``floor`` of a receipt, and the notice of an audit, say of base and second which checks passed
(``base_passed``, ``second_passed``) and failed (``base_failed``, ``second_failed``, as ``check=why``, or
``answer=why`` where there was none to check), the base's token ``margin`` as it was compared, and whether the
second's answer was the base's (``agreement``). That and the rule decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allod.domain.errors import Integrity
from allod.gateway.promise.answers import PROGRAMS, kind
from allod.routing.cascade import Answered, step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allod.routing.cascade import Cascade, Next

NO_ANSWER = "answer"
_WHO = ("base", "second")


def answered(rule: Cascade, said: Mapping[str, str]) -> tuple[Answered, ...]:
    """Read what is said of the answers that were looked at, in the order of the rule's steps.

    Raises:
        Integrity: it names a check there is none of, or a margin that is none.

    """
    out: list[Answered] = []
    for who, one in zip(_WHO, rule.steps, strict=False):
        told = [(check, True) for check in said.get(f"{who}_passed", "").split()]
        told += [(each.partition("=")[0], False) for each in said.get(f"{who}_failed", "").split()]
        sure, agrees = said.get("margin") if who == "base" else None, said.get("agreement")
        if not told and sure is None and agrees is None:
            continue
        if (NO_ANSWER, False) in told:
            out.append(Answered(deployment=one.deployment, failed=True))
            continue
        passed: dict[str, bool] = {}
        try:
            for check, ok in told:
                passed[PROGRAMS[kind(check)]] = passed.get(PROGRAMS[kind(check)], True) and ok
            margin = None if sure in (None, "unknown") else float(sure or "")
        except (KeyError, ValueError) as error:
            what = "a receipt says something of checks that cannot be read"
            raise Integrity(
                what, str(error)[:80], "it is of another Allod, or not what was written"
            ) from None
        key = "base" if who == "base" or agrees == "passed" else who
        out.append(Answered(deployment=one.deployment, key=key, passed=passed, margin=margin))
    return tuple(out)


def decided(rule: Cascade, said: Mapping[str, str]) -> Next:
    """Return what a rule does after what a receipt says of checks (raises ``Integrity`` as ``answered``)."""
    return step(rule, answered(rule, said))
