"""What a rule may read, as types: the base pack's schema parsed into Python.

Only what that schema uses is understood (records, sets of strings, ``String``, ``Long``, ``Bool``, entity
names, optional attributes); anything else refuses, so that no attribute is ever given a meaning by guess.
Source: Cedar schema syntax, Cedar language reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from allod.domain.errors import Invalid

_TOKEN: Final = re.compile(r"\s*([A-Za-z_][A-Za-z_0-9]*|[{}<>\[\]=;:,?])")
_COMMENT: Final = re.compile(r"//[^\n]*")
_PRIMITIVE: Final = frozenset({"String", "Long", "Bool"})
SET: Final = "Set"


class Type(msgspec.Struct, frozen=True):
    """``kind`` is ``String``, ``Long``, ``Bool``, ``Set`` (of strings), ``Record`` or an entity's name."""

    kind: str
    fields: Mapping[str, Field] = {}


class Field(msgspec.Struct, frozen=True):
    """An attribute: its type, and whether it may be absent."""

    type: Type
    optional: bool


class Shape(msgspec.Struct, frozen=True):
    """Entities of the namespace by name without it, and the context of the one action."""

    entities: Mapping[str, Mapping[str, Field]]
    context: Mapping[str, Field]

    def strings(self) -> int:
        """Count attributes that are one string, nested ones included."""
        records = [*self.entities.values(), self.context]
        return sum(_strings(fields) for fields in records)


def _strings(fields: Mapping[str, Field]) -> int:
    return sum((field.type.kind == "String") + _strings(field.type.fields) for field in fields.values())


def read_shape(schema: str) -> Shape:
    """Parse the schema.

    Raises:
        Invalid: it holds something that is not understood here.

    """
    return _Parser(schema).namespace()


class _Parser:
    """Recursive descent over the tokens of the schema."""

    def __init__(self, schema: str) -> None:
        text = _COMMENT.sub("", schema).rstrip()
        self._tokens: list[str] = []
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._unknown(text[at : at + 30].strip())
            self._tokens.append(match.group(1))
            at = match.end()
        self._at = 0
        self._types: dict[str, Type] = {}
        self._entities: dict[str, Mapping[str, Field]] = {}
        self._context: Mapping[str, Field] = {}

    @staticmethod
    def _unknown(got: str) -> Invalid:
        return Invalid(
            "the prover does not understand the policy schema",
            f"near {got!r}",
            "write it as the base pack does",
        )

    def _next(self) -> str:
        if self._at >= len(self._tokens):
            raise self._unknown("the end")
        self._at += 1
        return self._tokens[self._at - 1]

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _expect(self, *tokens: str) -> None:
        for token in tokens:
            got = self._next()
            if got != token:
                raise self._unknown(got)

    def namespace(self) -> Shape:
        """Read ``namespace Allod { ... }``."""
        self._expect("namespace", "Allod", "{")
        while self._peek() != "}":
            word = self._next()
            if word == "type":
                name = self._next()
                self._expect("=")
                self._types[name] = self._type()
                self._expect(";")
            elif word == "entity":
                self._entity()
            elif word == "action":
                self._action()
            else:
                raise self._unknown(word)
        self._expect("}")
        if self._peek():
            raise self._unknown(self._peek())
        return Shape(self._entities, self._context)

    def _entity(self) -> None:
        name = self._next()
        if self._peek() == "in":
            self._names("in")
        self._expect("=")
        self._entities[name] = self._record()
        self._expect(";")

    def _action(self) -> None:
        if self._next() != "dispatch":
            raise self._unknown("a second action")
        self._expect("appliesTo", "{")
        self._names("principal", ":")
        self._expect(",")
        self._names("resource", ":")
        self._expect(",", "context", ":")
        self._context = self._record()
        self._expect("}", ";")

    def _names(self, *before: str) -> None:
        self._expect(*before, "[")
        while self._next() != "]":
            pass

    def _type(self) -> Type:
        if self._peek() == "{":
            return Type("Record", self._record())
        name = self._next()
        if name == SET:
            self._expect("<", "String", ">")
            return Type(SET)
        if name in _PRIMITIVE or name in self._entities:
            return Type(name)
        if name in self._types:
            return self._types[name]
        raise self._unknown(name)

    def _record(self) -> dict[str, Field]:
        self._expect("{")
        fields: dict[str, Field] = {}
        while self._peek() != "}":
            name = self._next()
            optional = self._peek() == "?"
            if optional:
                self._next()
            self._expect(":")
            fields[name] = Field(self._type(), optional)
            if self._peek() == ",":
                self._next()
        self._expect("}")
        return fields
