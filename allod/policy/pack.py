"""A pack: rules of law as data. A folder of files in, a checked ``Pack`` out; nothing is read from disk.

Layout (DESIGN section 6): ``pack.toml``, ``schema.cedarschema``, ``policies.cedar`` whose rules carry
``@id``, ``@law``, ``@text`` and ``@remedy``, ``facts/*.toml``, ``cases/*.toml``, ``theorems.toml``,
``obligations.toml``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Annotated, Any, Final, Literal, TypeVar

import cedarpy
import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.policy.compiler import Expression, compile_rule
from allod.policy.lint import lint_policy

BASE: Final = "base"
PERMIT: Final = "base.approved"
MAX_FILES: Final = 256
MAX_FILE_BYTES: Final = 1 << 20
_REQUIRED: Final = ("pack.toml", "schema.cedarschema", "policies.cedar", "theorems.toml", "obligations.toml")
_S = TypeVar("_S", bound=msgspec.Struct)


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A text relied on; ``digest`` is the sha256 of the archived copy, empty when it was only cited."""

    citation: str
    url: str = ""
    digest: str = ""
    retrieved: date | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``pack.toml``.

    Attributes:
        valid_until: the first UTC day on which the pack no longer holds; from then on it denies everything.
        reviewer: who signed for its law; empty says that nobody has.
        max_age_days: a fact older than this, or of unknown age, counts as missing.
        classes: data classes the pack adds to those of the base.

    """

    id: str
    version: str
    status: Literal["in-force", "proposal", "repealed"]
    title: str = ""
    valid_from: date | None = None
    valid_until: date | None = None
    reviewer: str = ""
    reviewed_on: date | None = None
    max_age_days: Annotated[int, msgspec.Meta(ge=0)] | None = None
    classes: tuple[str, ...] = ()
    source: tuple[Source, ...] = ()


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: its annotations, its policy in Cedar's JSON form, and the attributes it reads.

    ``reads`` are paths from a variable (``resource.processing``, ``resource.operator.seat``), sorted.
    """

    id: str
    effect: Literal["permit", "forbid"]
    law: str
    text: str
    remedy: str
    policy: Expression
    reads: tuple[str, ...]


class Obligation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an article asks and what becomes of it here; ``enforce`` names its rules."""

    article: str
    mode: Literal["enforce", "evidence", "none"]
    rules: tuple[str, ...] = ()
    note: str = ""


Condition = Literal["process", "rest", "transit", "audit", "operator"]


class Theorem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A claim: kept for such classes means these conditions; losing one of the rules must break it."""

    id: str
    text: str
    classes: str
    holds: tuple[Condition, ...]
    fails_without: tuple[str, ...]


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


def load_pack(files: Mapping[str, bytes]) -> Pack:
    """Check a pack's files, given by path relative to its folder, and build the pack.

    Python files around them (a package that carries the folder) are no part of the pack and are left out.

    Raises:
        Integrity: a file is too large, too many are there, a path leaves the folder, or text is not UTF-8.
        Invalid: anything in them is wrong: a key, a rule without its annotations, a policy that does not fit
            its schema, an unknown operator, a permit beside ``base.approved``, a rule that is not monotone.

    """
    texts = _texts(files)
    for name in _REQUIRED:
        if name not in texts:
            raise Invalid(f"the pack has no {name}", f"got {sorted(texts)}", "add the file", param=name)
    manifest = _parse(texts, "pack.toml", Manifest)
    rules = _rules(texts["policies.cedar"], texts["schema.cedarschema"])
    _check_permits(manifest.id, rules)
    theorems = _parse(texts, "theorems.toml", _Theorems)
    obligations = _parse(texts, "obligations.toml", _Obligations).obligation
    ids = {rule.id for rule in rules}
    for where, named in (
        *((f"theorem {theorem.id!r}", theorem.fails_without) for theorem in theorems.theorem),
        *((f"obligation {duty.article!r}", duty.rules) for duty in obligations),
    ):
        for rule_id in named:
            if rule_id not in ids:
                raise unknown_name(f"{where} names rule", rule_id, ids)
    statutes = {
        row.name: row.citation
        for name in sorted(texts)
        if name.startswith("facts/")
        for row in _parse(texts, name, _Facts).statute
    }
    return Pack(
        id=manifest.id,
        version=manifest.version,
        digest=_digest(files),
        reviewed=bool(manifest.reviewer.strip()),
        manifest=manifest,
        text=texts["policies.cedar"],
        schema=texts["schema.cedarschema"],
        rules=rules,
        cases=_cases(texts),
        theorems=theorems.theorem,
        obligations=obligations,
        statutes=statutes,
    )


def run_lint(pack: Pack) -> tuple[str, ...]:
    """Return what keeps a pack from being monotone in classes and link; empty for one that is."""
    return tuple(finding for rule in pack.rules for finding in lint_policy(rule.id, rule.policy))


def unknown_name(what: str, got: str, known: Iterable[str]) -> Invalid:
    """Return the error for a name that is not known, with the nearest that is."""
    options = sorted(known)
    close = difflib.get_close_matches(got, options, n=1, cutoff=0.0)
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
        if path not in _REQUIRED and not (folder in {"facts", "cases"} and name.endswith(".toml")):
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


def _digest(files: Mapping[str, bytes]) -> str:
    listing = [[path, hashlib.sha256(content).hexdigest()] for path, content in _own(files).items()]
    return "sha256:" + hashlib.sha256(json.dumps(listing, separators=(",", ":")).encode()).hexdigest()


def _parse(texts: Mapping[str, str], name: str, kind: type[_S]) -> _S:
    try:
        return msgspec.convert(tomllib.loads(texts[name]), kind)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
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


def _rules(text: str, schema: str) -> tuple[Rule, ...]:
    """Parse, validate strictly, compile and lint every policy, in the order of the file."""
    try:
        est = json.loads(cedarpy.policies_to_json_str(text))
        problems = cedarpy.validate_policies(text, cedarpy.Schema.from_str(schema)).errors
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
            f"rule {notes['id']!r} could admit more for more classes",
            "; ".join(findings),
            "turn the test round",
        )
    return Rule(
        id=notes["id"],
        effect=policy["effect"],
        law=notes["law"],
        text=notes["text"],
        remedy=notes["remedy"],
        policy=policy,
        reads=tuple(sorted({path for step in policy["conditions"] for path in _reads(step["body"])})),
    )


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
    path = _path(node)
    if path:
        return {path}
    if isinstance(node, list):
        return {found for item in node for found in _reads(item)}
    if isinstance(node, dict):
        return {found for item in node.values() for found in _reads(item)}
    return set()


def _path(node: Any) -> str:
    match node:
        case {"Var": name} if isinstance(name, str):
            return name
        case {".": {"left": left, "attr": attr}} | {"has": {"left": left, "attr": attr}}:
            before = _path(left)
            return f"{before}.{attr}" if before else ""
        case _:
            return ""
