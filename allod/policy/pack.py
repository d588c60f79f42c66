"""A pack: rules of law as data. A folder of files in, a checked ``Pack`` out; nothing is read from disk.

Layout (DESIGN section 6): ``pack.toml``, ``policies.cedar`` whose rules carry ``@id``, ``@law``, ``@text``
and ``@remedy``, ``facts/*.toml``, ``cases/*.toml``, ``theorems.toml``, ``obligations.toml``. Only the base
pack brings ``schema.cedarschema``: what a rule may read is one thing for all packs.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, Final, TypeVar

import cedarpy
import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.policy.bounds import demand_bounds
from allod.policy.compiler import Expression, compile_rule
from allod.policy.forms import (
    Case,
    Manifest,
    Name,
    Obligation,
    Pack,
    Rule,
    Source,
    Theorem,
    Weighting,
)
from allod.policy.lint import lint_policy
from allod.policy.lists import PlaceList
from allod.policy.literals import check_literals
from allod.policy.naming import check_facts, check_manifest, check_rule

__all__ = [
    "BASE", "PERMIT", "Case", "Manifest", "Name", "Obligation", "Pack", "Rule", "Source", "Theorem",
    "Weighting", "digest_of_files", "expressions", "load_pack",
    "parsed_schema", "path_of", "run_lint", "unknown_name",
]  # fmt: skip

BASE: Final = "base"
PERMIT: Final = "base.approved"
OBJECTIVES: Final = 8
MAX_FILES: Final = 256
MAX_FILE_BYTES: Final = 1 << 20
_SCHEMA: Final = "schema.cedarschema"
_REQUIRED: Final = ("pack.toml", "policies.cedar", "theorems.toml", "obligations.toml")
_WHOLE_PERCENT: Final = 100
_NOTES: Final = frozenset({"id", "law", "text", "remedy", "since", "until", "verified"})
_S = TypeVar("_S", bound=msgspec.Struct)


class _Theorems(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    monotone: bool = True
    theorem: tuple[Theorem, ...] = ()


class _Obligations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    obligation: tuple[Obligation, ...] = ()


class _Cases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    given: dict[str, Any] = {}
    case: tuple[dict[str, Any], ...] = ()


class _Statute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    citation: str


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    statute: tuple[_Statute, ...] = ()
    list: tuple[PlaceList, ...] = ()
    name: tuple[Name, ...] = ()
    weights: tuple[Weighting, ...] = ()


def load_pack(files: Mapping[str, bytes], schema: str | None = None) -> Pack:
    """Check a pack's files, given by path relative to its folder, and build the pack.

    Python files around them (a package that carries the folder) are no part of the pack and are left out.
    ``schema`` is the base pack's, for every other pack.

    Raises:
        Integrity: a file is too large, too many are there, a path leaves the folder, or text is not UTF-8.
        Invalid: anything in them is wrong: a key, a rule without its annotations, a policy that does not fit
            its schema, an unknown operator, a permit beside ``base.approved``, a rule that is not monotone.

    """
    texts = _texts(files)
    for name in _REQUIRED:
        if name not in texts:
            raise Invalid(f"the pack has no {name}", f"got {sorted(texts)}", "add the file", param=name)
    manifest = _manifest(texts)
    schema = _schema(manifest.id, texts, schema)
    parsed = parsed_schema(schema)
    rules = _rules(texts["policies.cedar"], parsed)
    for rule in rules:
        check_rule(manifest.id, rule, BASE)
    if manifest.status == "skeleton":
        rules = tuple(msgspec.structs.replace(rule, unverified=True) for rule in rules)
    _check_permits(manifest.id, rules)
    theorems = _parse(texts, "theorems.toml", _Theorems)
    obligations = _parse(texts, "obligations.toml", _Obligations).obligation
    _check_names(rules, theorems.theorem, obligations)
    for theorem in theorems.theorem:
        expressions(theorem, parsed)
    facts = [_parse(texts, name, _Facts) for name in sorted(texts) if name.startswith("facts/")]
    lists, names = [one for part in facts for one in part.list], [one for part in facts for one in part.name]
    statutes = check_facts(lists, names, [one for part in facts for one in part.statute])
    return Pack(
        id=manifest.id,
        version=manifest.version,
        digest=_digest(files),
        reviewed=any(c.isalpha() for c in manifest.reviewer),
        manifest=manifest,
        text=texts["policies.cedar"],
        schema=schema,
        rules=rules,
        cases=_cases(texts),
        theorems=theorems.theorem,
        obligations=obligations,
        statutes=statutes,
        lists=tuple(lists),
        names=tuple(names),
        weighting=_weighting([one for part in facts for one in part.weights]),
    )


def parsed_schema(text: str) -> cedarpy.Schema:
    """Parse a schema; once for all that is checked under it, as that takes longer than a check.

    Raises:
        Invalid: it is none.

    """
    try:
        return cedarpy.Schema.from_str(text)
    except (ValueError, RecursionError) as error:
        raise Invalid("policies.cedar or its schema cannot be read", str(error), "correct it") from error


def expressions(theorem: Theorem, schema: cedarpy.Schema) -> tuple[Expression, Expression]:
    """Return ``given`` and ``holds`` of a theorem in Cedar's JSON form, checked under a schema.

    Raises:
        Invalid: one is no expression, or does not fit the schema.

    """
    parts = []
    for name, text in (("given", theorem.given), ("holds", theorem.holds)):
        wrapped = (
            'permit (principal is Allod::App, action == Allod::Action::"dispatch", '
            f"resource is Allod::Deployment) when {{ {text} }};"
        )
        demand_bounds(wrapped, f"theorem {theorem.id!r}: {name}")
        try:
            est = json.loads(cedarpy.policies_to_json_str(wrapped))
            problems = cedarpy.validate_policies(wrapped, schema).errors
        except (ValueError, RecursionError) as error:
            raise Invalid(
                f"theorem {theorem.id!r}: {name} cannot be read", str(error), "correct it"
            ) from error
        if problems:
            raise Invalid(
                f"theorem {theorem.id!r}: {name} does not fit the schema", str(problems[0]), "correct it"
            )
        policies = list(est["staticPolicies"].values())
        if len(policies) != 1 or len(policies[0]["conditions"]) != 1:
            raise Invalid(f"theorem {theorem.id!r}: {name} is no single expression", text, "correct it")
        compile_rule(theorem.id, policies[0])
        parts.append(policies[0]["conditions"][0]["body"])
    return parts[0], parts[1]


def run_lint(pack: Pack) -> tuple[str, ...]:
    """Return what keeps a pack from being monotone in classes and link; empty for one that is."""
    return tuple(finding for rule in pack.rules for finding in lint_policy(rule.id, rule.policy))


def _manifest(texts: Mapping[str, str]) -> Manifest:
    manifest = _parse(texts, "pack.toml", Manifest)
    check_manifest(manifest, BASE)
    start, end = manifest.valid_from, manifest.valid_until
    if start is not None and end is not None and end <= start:
        raise Invalid(
            f"pack {manifest.id!r} ends before it begins", f"from {start} until {end}", "correct it"
        )
    if manifest.status == "repealed" and end is None:
        raise Invalid(f"pack {manifest.id!r} is repealed without a date", "", "say valid_until")
    return manifest


def _schema(pack_id: str, texts: Mapping[str, str], given: str | None) -> str:
    if pack_id == BASE:
        if _SCHEMA not in texts:
            raise Invalid(
                f"the pack has no {_SCHEMA}", "the base pack brings it", "add the file", param=_SCHEMA
            )
        return texts[_SCHEMA]
    if _SCHEMA in texts:
        raise Invalid(
            f"pack {pack_id!r} brings a schema",
            "what a rule may read is in the base pack's",
            f"remove {_SCHEMA}",
        )
    if given is None:
        raise Invalid(
            f"pack {pack_id!r} cannot be read alone", "it needs the base pack's schema", "hand it in"
        )
    return given


def _check_names(
    rules: tuple[Rule, ...], theorems: tuple[Theorem, ...], obligations: tuple[Obligation, ...]
) -> None:
    ids = {rule.id for rule in rules}
    for where, named in (
        *((f"theorem {theorem.id!r}", theorem.fails_without) for theorem in theorems),
        *((f"obligation {duty.article!r}", duty.rules) for duty in obligations),
    ):
        for rule_id in named:
            if rule_id not in ids:
                raise unknown_name(f"{where} names rule", rule_id, ids)
    for duty in obligations:
        if duty.mode == "enforce" and not duty.rules:
            raise Invalid(f"obligation {duty.article!r} is enforced by no rule", "", "name its rules")
        if duty.mode == "evidence" and not duty.export:
            raise Invalid(f"obligation {duty.article!r} is shown by no report", "", "name the export")


def _weighting(found: list[Weighting]) -> Weighting | None:
    """Return the one weighting a pack may bring."""
    if len(found) > 1:
        raise Invalid("the pack brings two weightings", f"got {[one.id for one in found]}", "keep one")
    for one in found:
        if not len(one.objectives) == len(one.percent) == OBJECTIVES or sum(one.percent) != _WHOLE_PERCENT:
            raise Invalid(
                f"the weighting {one.id!r} is not whole",
                f"got {len(one.objectives)} objectives and {sum(one.percent)} percent",
                f"weigh {OBJECTIVES} objectives with {_WHOLE_PERCENT} percent together",
            )
    return found[0] if found else None


def unknown_name(what: str, got: str, known: Iterable[str]) -> Invalid:
    """Return the error for a name that is not known, with the nearest that is."""
    options = sorted(known)
    close = difflib.get_close_matches(got, options, n=1, cutoff=0.5)
    return Invalid(
        f"{what} {got!r}, which is not known",
        "expected one of " + ", ".join(options) if options else "none is known",
        f"did you mean {close[0]!r}?" if close else "add what is missing",
        param=got,
    )


def _texts(files: Mapping[str, bytes]) -> dict[str, str]:
    """Decode the files that belong to the pack; each bound is checked before anything is parsed."""
    kept = _own(files)
    if len(kept) > MAX_FILES:
        raise Integrity("the pack has too many files", f"got {len(kept)}, expected at most {MAX_FILES}")
    texts = {}
    for path, content in kept.items():
        if len(content) > MAX_FILE_BYTES:
            raise Integrity(f"{path} is too large", f"got {len(content)} bytes, expected {MAX_FILE_BYTES}")
        folder, _, name = path.rpartition("/")
        if path not in {*_REQUIRED, _SCHEMA} and not (
            folder in {"facts", "cases"} and name.endswith(".toml")
        ):
            raise Integrity(f"{path!r} has no place in a pack", "expected the layout of a pack", "remove it")
        try:
            texts[path] = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Integrity(f"{path} is not UTF-8 text", str(error), "write it as UTF-8") from error
    return texts


def _own(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {
        path: files[path]
        for path in sorted(files)
        if not path.endswith((".py", ".pyc")) and "__pycache__" not in path.split("/")
    }


def digest_of_files(files: Mapping[str, bytes]) -> str:
    """Return the canonical digest of a pack's files (``Pack.digest``), without judging what is in them."""
    return _digest(files)


def _digest(files: Mapping[str, bytes]) -> str:
    listing = [[path, hashlib.sha256(content).hexdigest()] for path, content in _own(files).items()]
    return "sha256:" + hashlib.sha256(json.dumps(listing, separators=(",", ":")).encode()).hexdigest()


def _parse(texts: Mapping[str, str], name: str, kind: type[_S]) -> _S:
    try:
        return msgspec.convert(tomllib.loads(texts[name]), kind)
    except (ValueError, ArithmeticError, RecursionError) as error:  # of TOML, of numbers, of the form
        raise Invalid(
            f"{name} is not what a pack needs", str(error), "correct the file", param=name
        ) from error


def _cases(texts: Mapping[str, str]) -> tuple[Case, ...]:
    cases = []
    for name in sorted(texts):
        if not name.startswith("cases/"):
            continue
        parsed = _parse(texts, name, _Cases)
        for row in parsed.case:
            try:
                cases.append(msgspec.convert({**row, "given": parsed.given}, Case))
            except msgspec.ValidationError as error:
                raise Invalid(f"{name} has a case that cannot be read", str(error), "correct it") from error
    return tuple(cases)


def _rules(text: str, schema: cedarpy.Schema) -> tuple[Rule, ...]:
    """Parse, validate strictly, compile and lint every policy, in the order of the file."""
    demand_bounds(text, "policies.cedar")
    try:
        est = json.loads(cedarpy.policies_to_json_str(text))
        problems = cedarpy.validate_policies(text, schema).errors
    except (ValueError, RecursionError) as error:
        raise Invalid("policies.cedar or its schema cannot be read", str(error), "correct it") from error
    if est["templates"] or est["templateLinks"]:
        raise Invalid("policies.cedar holds a template", "got a ?slot", "write the policy out")
    policies = est["staticPolicies"]
    ordered = [policies[name] for name in sorted(policies, key=lambda name: int(name.removeprefix("policy")))]
    rules: dict[str, Rule] = {}
    for policy in ordered:
        rule = _rule(policy)
        if rule.id in rules:
            raise Invalid(f"rule {rule.id!r} is there twice", "", "give each rule its own @id")
        rules[rule.id] = rule
    if problems:
        raise Invalid("policies.cedar does not fit its schema", str(problems[0]), "correct it")
    return tuple(rules.values())


def _rule(policy: Expression) -> Rule:
    notes = policy.get("annotations", {})
    missing = [name for name in ("id", "law", "text", "remedy") if notes.get(name) is None]
    if missing or not notes["id"].strip():
        raise Invalid(
            f"a rule ({notes.get('id') or 'without id'}) lacks @{', @'.join(missing or ['id'])}",
            "every rule says what it is, what law it stands on, and what to do",
            'add the annotation; a rule that is not law has @law("")',
        )
    compile_rule(notes["id"], policy)
    findings = lint_policy(notes["id"], policy)
    if findings:
        raise Invalid(
            f"rule {notes['id']!r} could admit more than it may",
            "; ".join(findings),
            "turn the test round",
        )
    check_literals(notes["id"], policy)
    bodies = [step["body"] for step in policy["conditions"]]
    since, until = _dated(notes, "since"), _dated(notes, "until")
    if since is not None and until is not None and until <= since:
        raise Invalid(f"rule {notes['id']!r} ends before it begins", f"{since} to {until}", "correct it")
    return Rule(
        id=notes["id"],
        effect=policy["effect"],
        law=notes["law"],
        text=notes["text"],
        remedy=notes["remedy"],
        policy=policy,
        reads=tuple(sorted({path for body in bodies for path in _reads(body)})),
        lists=tuple(sorted({name for body in bodies for name in _lists(body)})),
        since=since,
        until=until,
        unverified=_verdict(notes),
        texts={name[5:]: text for name, text in notes.items() if name.startswith("text_")},
    )


def _dated(notes: Mapping[str, str], name: str) -> date | None:
    if name not in notes:
        return None
    try:
        return date.fromisoformat(notes[name])
    except ValueError as error:
        raise Invalid(f"rule {notes['id']!r}: @{name} is no date", str(error), "write 2027-01-31") from error


def _verdict(notes: Mapping[str, str]) -> bool:
    """Read ``@verified``, and refuse an annotation nobody reads: a misspelt one would be ignored."""
    unknown = [name for name in notes if name not in _NOTES and not name.startswith("text_")]
    if unknown:
        raise Invalid(
            f"rule {notes['id']!r} carries @{unknown[0]}", "it is not known", "correct the annotation"
        )
    if notes.get("verified", "no") != "no":
        raise Invalid(
            f"rule {notes['id']!r}: @verified says only no", "a person signs in pack.toml", "leave it out"
        )
    return "verified" in notes


def _check_permits(pack_id: str, rules: tuple[Rule, ...]) -> None:
    """One permit in the world, ``base.approved`` in ``base``: every other pack only takes away."""
    permits = [rule.id for rule in rules if rule.effect == "permit"]
    expected = [PERMIT] if pack_id == BASE else []
    if permits != expected:
        raise Invalid(
            f"pack {pack_id!r} has the wrong permits",
            f"got {permits}, expected {expected}",
            "a pack adds forbids only" if pack_id != BASE else "keep the one permit",
        )


def _reads(node: Any) -> set[str]:
    """Collect attribute paths; of a path only its longest form, ``has`` included."""
    path = path_of(node)
    if path:
        return {path}
    if isinstance(node, list):
        return {found for item in node for found in _reads(item)}
    if isinstance(node, dict):
        return {found for item in node.values() for found in _reads(item)}
    return set()


def _lists(node: Any) -> set[str]:
    """Collect the ids of lists named below."""
    match node:
        case {"__entity": {"type": "Allod::List", "id": name}}:
            return {name}
        case [*items]:
            return {found for item in items for found in _lists(item)}
        case {**parts}:
            return {found for item in parts.values() for found in _lists(item)}
        case _:
            return set()


def path_of(node: Any) -> str:
    """Return the dotted path of attributes from a variable, or an empty text for anything else."""
    match node:
        case {"Var": name} if isinstance(name, str):
            return name
        case {".": {"left": left, "attr": attr}} | {"has": {"left": left, "attr": attr}}:
            before = path_of(left)
            return f"{before}.{attr}" if before else ""
        case _:
            return ""
