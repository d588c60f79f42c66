"""What is read of an answer: its text, whether it has the form asked for, and the key it is compared by.

An answer that was cut short, calls a tool, refuses, or is longer than is read has no text: it passes nothing
and equals nothing. Keys are digests, so that nothing here keeps what was said.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.assurance.cases import Case
from allod.assurance.checkers import MAX_ANSWER_CHARS, check, json_of, last_number, normal, valid_against
from allod.domain.chat import Chunk, Whole
from allod.domain.errors import Invalid
from allod.gateway.cascadefile import COMPILE, REGEX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from allod.domain.fleet import CascadeTask
    from allod.engines.run import Answer
    from allod.routing.cascade import Program

PROGRAMS: Final[dict[str, Program]] = {
    "json_schema": "schema",
    "json": "json",
    "numeric": "numeric",
    "choice": "label",
    "regex": "regex",
    "compile": "compile",
    "arithmetic": "arithmetic",
    "citation": "citation",
    "sql": "sql",
    "tests": "tests",
}
"""The kinds of check of ``routing.cascade`` that configured checks stand for."""
FORMS: Final = frozenset({"json_schema", "json", "numeric", "choice", "regex"})
"""Kinds that are told from the text at once."""
KEYED: Final = {
    "json_schema": "json", "json": "json", "compile:json": "json", "numeric": "numeric", "choice": "choice",
    "sql": "sql", "tests": "tests", "arithmetic": "numeric",
}  # fmt: skip
_OVER: Final = frozenset({"stop", None})


class Read(msgspec.Struct, frozen=True):
    """What was read of an answer.

    Attributes:
        key: what it is compared by, a digest; empty for none.
        passed: by kind, whether it passed each program; one that is missing was not run.
        margin: its token margin in nats, None where it is not known.
        verdicts: (check as configured, without pattern, and what came of it), in the order they were run.

    """

    key: str
    passed: dict[str, bool]
    margin: Decimal | None = None
    verdicts: tuple[tuple[str, str], ...] = ()


NOTHING: Final = Read("", {})


def text_of(events: Sequence[Answer]) -> str | None:
    """Return the text of an answer, None where there is not one whole text."""
    pieces: list[str] = []
    for event in events:
        if isinstance(event, Chunk):
            if event.tool_calls or event.refusal or event.choice or event.finish not in _OVER:
                return None
            pieces.append(event.text)
        elif isinstance(event, Whole):
            return _whole(event)
        elif isinstance(event, int):
            return None
    return "".join(pieces) or None


def _whole(one: Whole) -> str | None:
    if one.finish not in _OVER:
        return None
    body = one.body
    try:
        if body is None:
            body = msgspec.json.decode(one.raw or b"")
            if one.dialect == "anthropic":
                parts = body["content"]
                whole = body["stop_reason"] in {"end_turn", "stop_sequence"}
                return "".join(p["text"] for p in parts if p["type"] == "text") if whole else None
        choices = body["choices"]
        first = choices[0]
        message = first["message"]
        if len(choices) != 1 or message.get("tool_calls") or message.get("refusal"):
            return None
        content = message["content"]
        return content if isinstance(content, str) and first.get("finish_reason") == "stop" else None
    except (msgspec.MsgspecError, LookupError, TypeError, AttributeError):
        return None


def schema_of(body: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema a request asks its answer to have, None for none."""
    asked = body.get("response_format")
    named = asked.get("json_schema") if isinstance(asked, dict) else None
    schema = named.get("schema") if isinstance(named, dict) else None
    return schema if isinstance(schema, dict) else None


def checkable(own: CascadeTask, body: dict[str, Any], needs: tuple[str, ...]) -> str | None:
    """Return why an answer to a request cannot be checked, None where it can be."""
    if "tools" in needs:
        return "tools"
    if body.get("n") not in (None, 1):
        return "choices"
    if "json_schema" in own.check and schema_of(body) is None:
        return "no-schema"
    return None


def read(own: CascadeTask, body: dict[str, Any], events: Sequence[Answer]) -> Read:
    """Read the form of an answer to a request; what else is configured is not looked at (``checks``)."""
    text = text_of(events)
    if text is None or len(text) > MAX_ANSWER_CHARS:
        return NOTHING
    passed: dict[str, bool] = {}
    for one in own.check:
        if kind(one) in FORMS:
            of = PROGRAMS[kind(one)]
            passed[of] = passed.get(of, True) and fits(one, body, text)
    return Read(digest_of(key_of(own, body), text), passed)


def kind(name: str) -> str:
    """Return a check's or key's kind: what stands before its pattern or language."""
    if name.startswith(COMPILE):
        return "compile"
    return "regex" if name.startswith(REGEX) else name


def key_of(own: CascadeTask, body: dict[str, Any]) -> str:
    """Return by what two answers to a request are compared.

    Of checks that have a key of their own the first counts; arithmetic is compared by the number it ends in.
    """
    if own.key is not None:
        return own.key
    for one in own.check:
        if one in KEYED or kind(one) == "regex":
            return KEYED.get(one, one)
    return "exact" if body.get("response_format") in (None, {"type": "text"}) else "json"


def digest_of(key: str, text: str) -> str:
    """Return the digest of what an answer says by a key of its text; empty where it says nothing."""
    said = _said(key, text)
    return "" if said is None else hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()


def fits(name: str, body: dict[str, Any], text: str) -> bool:
    """Say whether a text has the form of a check of ``FORMS``."""
    return _passes(name, schema_of(body), text)


def _passes(name: str, schema: dict[str, Any] | None, text: str) -> bool:
    if name == "json_schema":
        try:
            return schema is not None and valid_against(schema, json_of(text)) is None
        except (ValueError, Invalid):
            return False
    return _said(name, text) is not None


def _said(name: str, text: str) -> str | None:
    """Return what an answer says by a key; None where it says nothing."""
    match kind(name):
        case "numeric":
            found = last_number(text)
            return None if found is None else f"{found.normalize():f}"
        case "choice":
            return check(Case(checker="choice"), text).read or None
        case "json":
            try:
                return json.dumps(json_of(text), sort_keys=True, separators=(",", ":"))
            except (ValueError, RecursionError):
                return None
        case "regex":
            found_text = check(Case(checker="regex", pattern=name.removeprefix(REGEX)), text)
            return found_text.read if found_text.ok else None
        case _:
            return normal(text, ignore_case=True) or None
