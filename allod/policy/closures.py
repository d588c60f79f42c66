"""Cedar's operators as Python closures, with Cedar's types, short circuits and errors.

Values: ``bool``, ``int`` (64 bits, overflow is an error), ``str``, ``Uid``, ``frozenset`` and ``dict`` for a
record. Elements of a set are held as ``key`` gives them, so that ``true`` and ``1`` stay two things. Each
closure checks the types it was given; Python's own truth is never asked.
Source: Cedar language reference, operators; held equal to cedarpy by a differential test.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

LOW, HIGH = -(2**63), 2**63 - 1


class Uid(NamedTuple):
    """An entity's name: its type with namespace, and its id."""

    type: str
    id: str


class EvaluationError(Exception):
    """A condition could not be evaluated: missing attribute, wrong type, overflow."""


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """Entities as the compiled rules see them: attributes, and ancestors in transitive closure."""

    attrs: Mapping[Uid, Mapping[str, Any]]
    ancestors: Mapping[Uid, frozenset[Uid]]


class Env(msgspec.Struct, frozen=True):
    """One authorisation request with the entities it is judged in: ``attrs``, ``ancestors`` of a store."""

    principal: Uid
    action: Uid
    resource: Uid
    context: dict[str, Any]
    attrs: Mapping[Uid, Mapping[str, Any]]
    ancestors: Mapping[Uid, frozenset[Uid]]


Test = Callable[[Env], Any]


def key(value: Any) -> Any:
    """Return a hashable stand-in that is equal exactly when Cedar's ``==`` says so."""
    kind = type(value)
    if kind is bool:
        return ("#bool", value)
    if kind is dict:
        return ("#record", tuple(sorted((name, key(item)) for name, item in value.items())))
    return value


def value_of(plain: Any) -> Any:
    """Turn a value of Cedar's JSON entity format into one of ours: lists are sets, ``__entity`` a ``Uid``."""
    if isinstance(plain, dict):
        if "__entity" in plain:
            return Uid(plain["__entity"]["type"], plain["__entity"]["id"])
        return {name: value_of(item) for name, item in plain.items()}
    if isinstance(plain, list):
        return frozenset(key(value_of(item)) for item in plain)
    return plain


def store_of(entities: list[dict[str, Any]]) -> Store:
    """Build a store from entities in Cedar's JSON format (``uid``, ``attrs``, ``parents``)."""
    attrs: dict[Uid, Mapping[str, Any]] = {}
    parents: dict[Uid, tuple[Uid, ...]] = {}
    for entity in entities:
        uid = Uid(entity["uid"]["type"], entity["uid"]["id"])
        attrs[uid] = value_of(entity["attrs"])
        parents[uid] = tuple(Uid(parent["type"], parent["id"]) for parent in entity["parents"])
    ancestors: dict[Uid, frozenset[Uid]] = {}
    for uid, direct in parents.items():
        seen: set[Uid] = set()
        todo = list(direct)
        while todo:
            step = todo.pop()
            if step not in seen:
                seen.add(step)
                todo.extend(parents.get(step, ()))
        ancestors[uid] = frozenset(seen)
    return Store(attrs=attrs, ancestors=ancestors)


def _wrong(expected: str) -> EvaluationError:
    return EvaluationError(f"not {expected}")


def truth(value: Any) -> bool:
    """Return a boolean as it is; anything else is an error."""
    if value is True:
        return True
    if value is False:
        return False
    raise _wrong("a boolean")


def _long(value: Any) -> int:
    if type(value) is not int:
        raise _wrong("a long")
    return value


def _members(value: Any) -> frozenset[Any]:
    if type(value) is not frozenset:
        raise _wrong("a set")
    return value


def _entity(value: Any) -> Uid:
    if type(value) is not Uid:
        raise _wrong("an entity")
    return value


def constant(value: Any) -> Test:
    """Return the same value for every request."""
    return lambda _env: value


def every(tests: tuple[Test, ...]) -> Callable[[Env], bool]:
    """``&&`` over a chain: false at the first false, what comes after is not evaluated."""

    def test(env: Env) -> bool:
        for step in tests:
            value = step(env)
            if value is not True:
                return truth(value)
        return True

    return test


def some(tests: tuple[Test, ...]) -> Callable[[Env], bool]:
    """``||`` over a chain: true at the first true, what comes after is not evaluated."""

    def test(env: Env) -> bool:
        for step in tests:
            value = step(env)
            if value is not False:
                return truth(value)
        return False

    return test


def negate(arg: Test) -> Test:
    """``!``."""
    return lambda env: not truth(arg(env))


def choose(condition: Test, then: Test, otherwise: Test) -> Test:
    """``if then else``: only the branch taken is evaluated."""
    return lambda env: then(env) if truth(condition(env)) else otherwise(env)


def equal(left: Test, right: Test) -> Test:
    """``==``, defined between any two values."""
    return lambda env: bool(key(left(env)) == key(right(env)))


def _unequal(left: Test, right: Test) -> Test:
    return lambda env: bool(key(left(env)) != key(right(env)))


def _order(compare: Callable[[int, int], bool]) -> Callable[[Test, Test], Test]:
    def build(left: Test, right: Test) -> Test:
        return lambda env: compare(_long(left(env)), _long(right(env)))

    return build


def _bounded(value: int) -> int:
    if not LOW <= value <= HIGH:
        raise _wrong("a 64-bit number")
    return value


def _arithmetic(compute: Callable[[int, int], int]) -> Callable[[Test, Test], Test]:
    def build(left: Test, right: Test) -> Test:
        return lambda env: _bounded(compute(_long(left(env)), _long(right(env))))

    return build


def _negative(arg: Test) -> Test:
    return lambda env: _bounded(-_long(arg(env)))


def _contains(left: Test, right: Test) -> Test:
    return lambda env: key(right(env)) in _members(left(env))


def _contains_all(left: Test, right: Test) -> Test:
    def test(env: Env) -> bool:
        whole, part = left(env), right(env)
        if type(whole) is frozenset and type(part) is frozenset:
            return whole >= part
        raise _wrong("two sets")

    return test


def _contains_any(left: Test, right: Test) -> Test:
    def test(env: Env) -> bool:
        one, other = left(env), right(env)
        if type(one) is frozenset and type(other) is frozenset:
            return not one.isdisjoint(other)
        raise _wrong("two sets")

    return test


def _is_empty(arg: Test) -> Test:
    return lambda env: not _members(arg(env))


def within(left: Test, right: Test) -> Test:
    """``in``: an entity is in itself, its ancestors, and a set that holds one of those."""

    def test(env: Env) -> bool:
        entity, group = _entity(left(env)), right(env)
        ancestors = env.ancestors.get(entity, frozenset())
        if type(group) is frozenset:
            groups = [_entity(member) for member in group]
            return any(member == entity or member in ancestors for member in groups)
        return _entity(group) == entity or group in ancestors

    return test


def of_type(left: Test, kind: str) -> Test:
    """``is``."""
    return lambda env: _entity(left(env)).type == kind


def attribute(start: Test, attrs: tuple[str, ...]) -> Test:
    """``.a.b.c`` from where the path starts; a missing entity or attribute is an error."""

    def test(env: Env) -> Any:
        value = start(env)
        try:
            for attr in attrs:
                if type(value) is dict:
                    value = value[attr]
                elif type(value) is Uid:
                    value = env.attrs[value][attr]
                else:
                    raise _wrong("an entity or a record")
        except KeyError:
            raise _wrong("there: " + ".".join(attrs)) from None
        return value

    return test


def has_attribute(left: Test, attr: str) -> Test:
    """``has``; false, not an error, on an entity that does not exist."""

    def test(env: Env) -> bool:
        value = left(env)
        if type(value) is Uid:
            return attr in env.attrs.get(value, {})
        if type(value) is dict:
            return attr in value
        raise _wrong("an entity or a record")

    return test


def like(left: Test, pattern: list[Any]) -> Test:
    """``like``: ``*`` stands for any characters; everything else is literal, case included."""
    pieces = [""]
    for part in pattern:
        if part == "Wildcard":
            pieces.append("")
        else:
            pieces[-1] += part["Literal"]

    def test(env: Env) -> bool:
        text = left(env)
        if type(text) is not str:
            raise _wrong("a string")
        return _matches(text, pieces)

    return test


def _matches(text: str, pieces: list[str]) -> bool:
    """Match pieces with anything between them: first at the start, last at the end; linear."""
    if len(pieces) == 1:
        return text == pieces[0]
    first, last = pieces[0], pieces[-1]
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in pieces[1:-1]:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def make_set(items: tuple[Test, ...]) -> Test:
    """Build the set ``[a, b]``."""
    return lambda env: frozenset(key(item(env)) for item in items)


def make_record(fields: dict[str, Test]) -> Test:
    """Build the record ``{k: a}``."""
    return lambda env: {name: item(env) for name, item in fields.items()}


VARIABLES: Final[dict[str, Test]] = {
    name: operator.attrgetter(name) for name in ("principal", "action", "resource", "context")
}
CHAINS: Final[dict[str, Callable[[tuple[Test, ...]], Test]]] = {"&&": every, "||": some}
BINARY: Final[dict[str, Callable[[Test, Test], Test]]] = {
    "==": equal,
    "!=": _unequal,
    "<": _order(operator.lt),
    "<=": _order(operator.le),
    ">": _order(operator.gt),
    ">=": _order(operator.ge),
    "+": _arithmetic(operator.add),
    "-": _arithmetic(operator.sub),
    "*": _arithmetic(operator.mul),
    "contains": _contains,
    "containsAll": _contains_all,
    "containsAny": _contains_any,
    "in": within,
}
UNARY: Final[dict[str, Callable[[Test], Test]]] = {"!": negate, "neg": _negative, "isEmpty": _is_empty}
