"""Packs in shadow: evaluated live beside those in force, never deciding, never sent anything.

Evaluated once per kind of request, when its decision is made; a remembered decision costs nothing more. What
goes wrong in a shadow is written into the record as an error and changes nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import AllodError
from allod.routing.plan import plan
from allod.routing.shadow import Shadowed, difference

if TYPE_CHECKING:
    from allod.domain.decision import Eligibility, Plan
    from allod.domain.fleet import Fleet
    from allod.policy.policy import Policy, PolicyQuestion
    from allod.routing.question import Question

MAX_ERROR_CHARS: Final = 200


class Shadow:
    """The packs in shadow over a fleet.

    Args:
        packs: ids of the packs in shadow.
        policy: law with these in force as well; or why there is none.

    Attributes:
        error: why there is none, or empty.

    """

    def __init__(self, packs: tuple[str, ...], policy: Policy | BaseException) -> None:
        self.packs = packs
        self._policy = policy if not isinstance(policy, BaseException) else None
        self.error = told(policy) if isinstance(policy, BaseException) else ""

    @property
    def fleet(self) -> Fleet | None:
        """The fleet as it is with the shadow in force, or None if law cannot be made of it."""
        return None if self._policy is None else self._policy.fleet

    def eligible(self, asked: PolicyQuestion) -> Eligibility:
        """Return who might see the request with the shadow in force (raises as ``Policy.eligible``)."""
        assert self._policy is not None
        return self._policy.eligible(asked)

    def compare(self, asked: PolicyQuestion, law: Eligibility, question: Question, live: Plan) -> Shadowed:
        """Decide again with the shadow and return the difference; whatever fails becomes its ``error``."""
        if self._policy is None:
            return self.failed(self.error)
        try:
            other = self.eligible(asked)
            beside = msgspec.structs.replace(question, eligibility=other, fleet=self._policy.fleet)
            return difference(self.packs, (law, live), (other, plan(beside)))
        except Exception as fault:  # noqa: BLE001 (a shadow must not touch what it stands beside)
            return self.failed(told(fault))

    def failed(self, error: str) -> Shadowed:
        """Return what a record says of a shadow that could not be evaluated."""
        return Shadowed(packs=self.packs, error=error)


def told(fault: BaseException) -> str:
    """Name a fault in ASCII and without content: our own errors by what they say, others by their type."""
    text = type(fault).__name__
    if isinstance(fault, AllodError):
        text = f"{text}: {fault.what}"
    return text.encode("ascii", "backslashreplace").decode("ascii")[:MAX_ERROR_CHARS]
