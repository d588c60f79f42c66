"""Whether a text is of a language: by its own compiler or parser, never run. Called inside the sandbox.

Python: ``compile`` (grammar, and what the compiler itself refuses, of the interpreter Allod runs on). JSON:
one value, no member twice. TOML and XML: their parsers; an XML document with a document type is refused, as
entities are its bombs. SQL: SQLite's grammar by ``EXPLAIN``; names are resolved only where a schema is given.
"""

from __future__ import annotations

import json
import sqlite3
import tomllib
import warnings
from typing import TYPE_CHECKING, Any, Final
from xml.parsers import expat

from allod.assurance.querying import Broken, opened, prepared, statements

if TYPE_CHECKING:
    from collections.abc import Callable

_UNKNOWN: Final = ("no such table", "no such column", "no such function", "unable to use function")


def compiled(language: str, text: str, schema: str = "") -> str:
    """Return what is wrong with a text, by kind and line only; empty for nothing.

    Raises:
        KeyError: a language nobody here compiles.

    """
    wrong = LANGUAGES[language]
    try:
        return wrong(text, schema)
    except (RecursionError, MemoryError):
        return "nested too deeply, or too large"


def _python(text: str, _: str) -> str:
    warnings.simplefilter("ignore")
    try:
        compile(text, "<answer>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        return type(error).__name__ + line
    return ""


def _json(text: str, _: str) -> str:
    try:
        json.loads(text, object_pairs_hook=_unique, parse_constant=_none)
    except ValueError as error:
        return f"not JSON, line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "not JSON"
    return ""


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a member is named twice")


def _none(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _toml(text: str, _: str) -> str:
    try:
        tomllib.loads(text)
    except ValueError:
        return "not TOML"
    return ""


def _xml(text: str, _: str) -> str:
    parser = expat.ParserCreate()

    def doctype(*_: object) -> None:
        raise ValueError("a document type")

    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(text.encode(), True)
    except ValueError:
        return "XML with a document type"
    except expat.ExpatError as error:
        return f"not XML, line {error.lineno}"
    return ""


def _sql(text: str, schema: str) -> str:
    try:
        database = opened(schema)
        found = statements(text)
        for one in found:
            try:
                prepared(database, one)
            except sqlite3.Error as error:
                if schema or not str(error).startswith(_UNKNOWN):
                    return "not SQL of SQLite" if not schema else "not SQL of SQLite over this schema"
    except Broken as error:
        return error.why
    return ""


LANGUAGES: Final[dict[str, Callable[[str, str], str]]] = {
    "python": _python, "json": _json, "toml": _toml, "xml": _xml, "sql": _sql,
}  # fmt: skip
