"""What proving comes to, as data: theorems, mutants, counterexamples, what they lean on."""

from __future__ import annotations

from datetime import date
from typing import Literal

import msgspec

How = Literal["deleted", "negated"]
Status = Literal["proved", "refuted", "says-nothing", "undecided"]


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A theorem to be proved; ``pack`` says where it is from, ``built-in`` if every law must satisfy it."""

    id: str
    text: str
    pack: str = "built-in"
    given: str = ""
    holds: str = ""
    fails_without: tuple[str, ...] = ()


class Counterexample(msgspec.Struct, frozen=True, kw_only=True):
    """A concrete request and deployment, by the configuration's names, and what both keys said of it.

    Attributes:
        facts: name and value of everything some rule or claim read.
        then: what is different in the second of two requests, where a theorem compares two.
        against: rules that decide against the request (``then`` request) that is denied.

    """

    facts: dict[str, str]
    then: dict[str, str] = {}
    against: tuple[str, ...] = ()


class Mutant(msgspec.Struct, frozen=True, kw_only=True):
    """A theorem without a rule, or with it turned round; ``broken`` by a counterexample, found and judged."""

    rule: str
    how: How
    broken: bool


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """How one theorem came out.

    Attributes:
        reason: why it says nothing, or is undecided; empty for one that is proved.
        rules: rules that together suffice; without any one of them the rest does not.
        facts: facts of the configuration those rules and the theorem read (``deployment.processing``).
        mutants: two for each rule it claims to need, deleted and negated.
        day: where it is not the report's: the day on which what it needs applies.

    """

    id: str
    text: str
    pack: str
    status: Status
    reason: str = ""
    rules: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    mutants: tuple[Mutant, ...] = ()
    counterexample: Counterexample | None = None
    day: date | None = None


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What these packs demand of others for a class: proved, with the rules that do it."""

    data_class: str
    agreement: str
    rules: tuple[str, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All proofs of a set of packs on a day.

    Attributes:
        packs: id and version of each, in order; ``unreviewed`` are those nobody signed for, ``unverified``
            rules whose law nobody opened.
        relaxed: waived rules, which no proof counts on.
        demands: what each pack demands of facts, beyond the ordinary, for them to count.
        needs: which class needs which agreement, unless the operator is the tenant's own.
        untested: rules of the packs on which no theorem and no case depends.
        idle: rules that can never decide against anything; ``shadowed`` those that never decide alone.
        assumptions: what the encoder and the configuration guarantee, and the proofs take for granted.

    """

    packs: tuple[tuple[str, str], ...]
    day: date
    proofs: tuple[Proof, ...]
    relaxed: tuple[str, ...] = ()
    demands: tuple[tuple[str, str], ...] = ()
    needs: tuple[Need, ...] = ()
    untested: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    shadowed: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    unreviewed: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything is proved, and says something."""
        return all(proof.status == "proved" for proof in self.proofs)
