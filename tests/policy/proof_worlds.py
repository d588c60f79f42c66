"""A configured fleet and a question as values of the prover's variables."""

from __future__ import annotations

import ast
from typing import Any

import z3

from allod.domain.facts import GRADES
from allod.domain.fleet import Fleet
from allod.gateway.packs import find
from allod.policy import Pack, PolicyQuestion, closures, evidence, facts
from allod.policy.facts import DEPLOYMENT_FACTS, EVIDENCE, OPERATOR_FACTS, Calendar
from allod.policy.proof.session import Session
from allod.policy.proof.strings import PLACES, Text, Texts
from allod.policy.proof.world import World

OPTIONAL = {
    "principal.tenant": ("sector", "min_seal"),
    "principal": ("risk", "function"),
    "resource": ("weights", "weights.maker"),
    "context": ("purpose",),
}


_ABSENT: dict[str, Any] = {"principal.risk": "minimal", "resource.weights.maker": ("DE",)}
"""Values of what is not there, which nobody reads: such as the prover would take."""


class NotConfigurable(Exception):
    """The random world holds a place that the configuration refuses."""


def values_of(
    fleet: Fleet,
    q: PolicyQuestion,
    deployment: str,
    lax_age: int | None = None,
    strict_age: int | None = None,
) -> dict[str, Any]:
    """Return every path's value, as the configuration says it.

    What is older than ``lax_age`` days is not there, what is older than ``strict_age`` is stale.
    """
    subject = facts.subjects(fleet)[deployment]
    lax, strict = (Calendar(day=q.day, max_age_days=age) for age in (lax_age, strict_age))
    roots = {
        "principal.tenant": facts.encode_tenant(fleet.tenant, lax),
        "principal": facts.encode_app(fleet.apps[q.app], fleet.tenant, lax),
        "resource.operator": facts.encode_operator(subject, lax),
        "resource": facts.encode_deployment(subject, lax),
    }
    values: dict[str, Any] = {}
    for at, entity in roots.items():
        values[f"{at}.#id"] = entity["uid"]["id"]
        _flatten(values, at, {k: v for k, v in entity["attrs"].items() if k not in {"operator", "tenant"}})
    _flatten(
        values,
        "context",
        facts.encode_context(
            q.classes, q.purpose, fleet.tenant, link_up=q.link_up, pseudonymised=q.pseudonymised
        ),
    )
    for at, bearer in (
        ("resource", subject.deployment), ("resource.operator", subject.operator),
        ("principal", fleet.apps[q.app]), ("principal.tenant", fleet.tenant),
    ):  # fmt: skip
        for kind in EVIDENCE:
            named = getattr(bearer, kind, {})
            plain = evidence.names(named, lambda fact: lax.holds(fact, own=True))
            measured = [n for n in plain["attested"] if named[n].at_least("measured")]
            for grade in GRADES:
                values[f"{at}.{kind}.{grade}"] = tuple(plain.get(grade, measured))
            values[f"stale:{at}.{kind}"] = tuple(
                n for n in plain["declared"] if not strict.holds(named[n], own=True)
            )
    for at, names in (("resource", DEPLOYMENT_FACTS), ("resource.operator", OPERATOR_FACTS)):
        for name in names:
            values[f"stale:{at}.{name}"] = strict.read(subject, name).state == "stale"
            values[f"has:{at}.{name}"] = lax.read(subject, name).usable
    for at, names in OPTIONAL.items():
        for name in names:
            prefix = f"{at}.{name}"
            values[f"has:{prefix}"] = any(p == prefix or p.startswith(prefix + ".") for p in values)
    return values


def _flatten(values: dict[str, Any], at: str, attrs: dict[str, Any]) -> None:
    for name, value in attrs.items():
        if isinstance(value, dict):
            _flatten(values, f"{at}.{name}", value)
        else:
            values[f"{at}.{name}"] = tuple(value) if isinstance(value, list) else value


class Assignment:
    """The values as the solver's: unknown words become fresh ones, each always the same."""

    def __init__(self, session: Session, values: dict[str, Any], *worlds: World) -> None:
        self._session = session
        self._fresh: dict[str, int] = {}
        self._pairs = [
            (_term(variable), self._value(path, variable, values))
            for world in (session.world, *worlds)
            for path, variable in world.made.items()
            if not path.startswith("like:")
        ]
        words = {at: word for word, at in self._fresh.items()}
        for path, variable in session.world.made.items():
            if path.startswith("like:"):
                at, pattern = int(path.split(":")[1]), path.split(":", 2)[2]
                test = closures.like(lambda text: text, ast.literal_eval(pattern))
                self._pairs.append((variable, z3.BoolVal(at in words and bool(test(words[at])))))

    def _number(self, sort: str, word: str) -> int:
        alphabet = self._session.alphabets[sort]
        if word in alphabet.at:
            return alphabet.at[word]
        if sort == "place":
            raise NotConfigurable(word)
        at = self._fresh.setdefault(word, len(alphabet.known) + len(self._fresh))
        assert at < alphabet.width
        return at

    def _value(self, path: str, variable: Any, values: dict[str, Any]) -> Any:
        if isinstance(variable, Text):
            word = values.get(path, "declared" if path.endswith(".grade") else _ABSENT.get(path))
            number = 0 if word is None else self._number(variable.sort, word)
            return z3.BitVecVal(number, variable.term.size())
        if isinstance(variable, Texts):
            words = values.get(path, _ABSENT.get(path, ()))
            bits = sum(1 << self._number(variable.sort, word) for word in words)
            return z3.BitVecVal(bits, variable.term.size())
        if z3.is_bool(variable):
            return z3.BoolVal(bool(values.get(path, False)))
        term = _term(variable)
        return z3.BitVecVal(values.get(path, 0), term.size())

    def all(self, truths: list[Any]) -> list[bool]:
        """Evaluate truths under the assignment, all at once; each must come out."""
        terms = [z3.If(z3.BoolVal(t) if isinstance(t, bool) else t, *_BITS) for t in truths]
        found = z3.simplify(z3.substitute(z3.Concat(z3.BitVecVal(1, 1), *terms), *self._pairs))
        assert z3.is_bv_value(found), found
        return [bit == "1" for bit in bin(found.as_long())[3:]]


_BITS = (z3.BitVecVal(1, 1), z3.BitVecVal(0, 1))


def _term(variable: Any) -> Any:
    if isinstance(variable, Text | Texts):
        return variable.term
    term = variable
    return term.arg(0) if term.num_args() else term  # a bounded number is widened: the variable is inside


def configurable(values: dict[str, Any]) -> bool:
    """Whether every place is one that the configuration takes."""
    names = ("codes", "bloc", "home", "origins", "maker", "banned_makers")
    for path, value in values.items():
        if path.rpartition(".")[2] in names and ":" not in path:
            words = (value,) if isinstance(value, str) else value
            if not all(word in PLACES for word in words):
                return False
    return True


def shipped() -> tuple[Pack, ...]:
    """Return all shipped packs that can be in force together: of those that weigh differently, the first."""
    found: list[Pack] = []
    percent = None
    for pack in find().all():
        if pack.weighting is not None:
            percent = percent or pack.weighting.percent
            if pack.weighting.percent != percent:
                continue
        found.append(pack)
    ids = {pack.id for pack in found}
    return tuple(pack for pack in found if ids.issuperset(pack.manifest.requires))
