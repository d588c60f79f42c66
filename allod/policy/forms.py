"""What a pack is made of, once it is read: manifest, rules, lists, cases, theorems, duties."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

import msgspec

from allod.domain.facts import Grade
from allod.policy.compiler import Expression
from allod.policy.lists import PlaceList


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A text relied on, and how; ``digest`` is the sha256 of what was read, empty when only cited.

    ``read`` is ``primary`` where the official text was opened, ``copy`` where it was opened at another place
    (``note`` says where), ``secondary`` where only a description of it was, ``none`` where nothing was.
    """

    citation: str
    url: str = ""
    digest: str = ""
    retrieved: date | None = None
    read: Literal["primary", "copy", "secondary", "none"] = "none"
    note: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``pack.toml``.

    Attributes:
        status: ``proposal`` is not law yet; ``skeleton`` rests on texts nobody has opened.
        jurisdiction: whose law it is; ``applies_to`` says to whom, in a sentence.
        requires: packs that must be in force beside it.
        valid_from, valid_until: the first UTC day on which the pack holds, and the first on which it does no
            longer; outside of them it denies everything. The law's own dates are those of its rules.
        reviewer: who signed for its law; empty says that nobody has.
        max_age_days: a fact older than this, or of unknown age, counts as missing.
        min_grade: a fact about an operator that is not our own counts as missing below it.
        classes: data classes the pack adds to those of the base.

    """

    id: str
    version: str
    status: Literal["in-force", "proposal", "repealed", "skeleton"]
    title: str = ""
    jurisdiction: str = ""
    applies_to: str = ""
    requires: tuple[str, ...] = ()
    valid_from: date | None = None
    valid_until: date | None = None
    reviewer: str = ""
    reviewed_on: date | None = None
    max_age_days: Annotated[int, msgspec.Meta(ge=0)] | None = None
    min_grade: Grade = "declared"
    classes: tuple[str, ...] = ()
    source: tuple[Source, ...] = ()


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: its annotations, its policy in Cedar's JSON form, and the attributes it reads.

    ``reads`` are paths from a variable (``resource.processing``, ``resource.operator.seat``), sorted;
    ``lists`` the ids of the lists it reads. Before ``since`` and from ``until`` on the rule does not apply.
    ``unverified``: nobody opened the text it stands on. ``texts`` are translations of ``text`` by language.
    """

    id: str
    effect: Literal["permit", "forbid"]
    law: str
    text: str
    remedy: str
    policy: Expression
    reads: tuple[str, ...]
    lists: tuple[str, ...] = ()
    since: date | None = None
    until: date | None = None
    unverified: bool = False
    texts: dict[str, str] = {}

    def applies_on(self, day: date) -> bool:
        """Tell whether the rule applies on this UTC day."""
        return (self.since is None or self.since <= day) and (self.until is None or day < self.until)


class Obligation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an article asks and what becomes of it here.

    ``enforce`` names its rules, ``evidence`` the report that shows it (``export``) and where (``column``).
    ``keep_days`` is for how long it wants records kept: no log is pruned sooner while the pack is in force.
    """

    article: str
    mode: Literal["enforce", "evidence", "none"]
    rules: tuple[str, ...] = ()
    export: str = ""
    column: str = ""
    note: str = ""
    keep_days: int = 0


class Theorem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A claim over every request and deployment: permitted and ``given`` implies ``holds``.

    Both are Cedar expressions over ``principal``, ``resource`` and ``context``. Losing one of the rules named
    in ``fails_without`` must break it.
    """

    id: str
    text: str
    given: str
    holds: str
    fails_without: tuple[str, ...]


class Name(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name of evidence that the pack's rules demand."""

    name: str
    kind: Literal["agreement", "attestation"]
    text: str


class Weighting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the eight objectives of a sovereignty vector weigh, in percent."""

    id: str
    objectives: tuple[str, ...]
    percent: tuple[Annotated[int, msgspec.Meta(ge=0, le=100)], ...]
    source: str = ""


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worked example: the file's ``given`` world with some keys set or unset, a question, the answer.

    ``rules`` are exactly the deciding rules of a denial, in rule order; ``covers`` names the rule that an
    allow shows to be satisfiable. Keys of ``set`` are paths such as ``deployment.processing``.
    """

    name: str
    decision: Literal["allow", "deny"]
    classes: tuple[str, ...]
    rules: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    set: dict[str, Any] = {}
    unset: tuple[str, ...] = ()
    day: date = date(2026, 11, 1)
    link_up: bool = True
    pseudonymised: bool = False
    purpose: str | None = None
    given: dict[str, Any] = {}


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """A pack that passed every check of ``load_pack``.

    ``digest`` is ``sha256:`` over the canonical list of its files; ``reviewed`` is False until somebody's
    name stands in the manifest; ``statutes`` maps a statute's name to its citation.
    """

    id: str
    version: str
    digest: str
    reviewed: bool
    manifest: Manifest
    text: str
    schema: str
    rules: tuple[Rule, ...]
    cases: tuple[Case, ...]
    theorems: tuple[Theorem, ...]
    obligations: tuple[Obligation, ...]
    statutes: dict[str, str]
    lists: tuple[PlaceList, ...] = ()
    names: tuple[Name, ...] = ()
    weighting: Weighting | None = None

    @property
    def unverified(self) -> tuple[str, ...]:
        """Rules whose law nobody has opened, sorted; of a skeleton all of them."""
        return tuple(sorted(rule.id for rule in self.rules if rule.unverified))
