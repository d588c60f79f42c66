"""Covering a request: every value a detector finds becomes a token, wherever it stands.

Two passes over the body. The first asks the detectors about every text, and learns the values; the second
writes, covering each value in all places, also where the detectors lacked the context to see it. What looks
like a token in the caller's own text is covered as any value is, so it comes back as it was. Each text is
then restored again and compared: a request whose round trip is not exact does not leave.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.admission.pseudonym.constraints import demand_room
from allod.admission.pseudonym.known import Findings, Known
from allod.admission.pseudonym.places import walk
from allod.admission.pseudonym.shape import look_alikes
from allod.admission.pseudonym.stream import Channel
from allod.admission.pseudonym.tokens import TOPICS, Coder, Table, word_of
from allod.admission.pseudonym.view import View
from allod.domain.errors import Integrity, Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from allod.admission.pseudonym.view import Span

NOTE: Final = (
    "Words that begin with QZ and end in a kind, as in QZBCDFGHJKLM_NAME, stand for real values that are "
    "withheld. Treat each as the value itself, and copy it letter for letter wherever you use it. Never make "
    "up, shorten, translate or explain one."
)
"""What a model may be told (``note``): copying is more reliable when it knows."""

_PROTOCOL: Final = frozenset(
    """
    system developer user assistant tool function text refusal content type role name id index url title
    object array string number integer boolean null auto none required allowed_tools json_schema json_object
    minimal low medium high xhigh max default standard schema strict description parameters properties items
    enum const format pattern anyOf allOf oneOf additionalProperties thinking signature data ephemeral
    """.split()
)
"""Words of the protocol. They say nothing of anybody, even where somebody's password is one of them."""
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_$][A-Za-z_$.:/-]{0,63}")
"""A word of a program. No detector is asked about one: it would take a parameter ``grace`` for a person, and
the
request could not leave. A value found elsewhere is still found in it."""


class Covered(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may leave.

    Attributes:
        body: the neutral body, a copy; texts carry tokens.
        table: what the answer is restored with.
        kinds: how many different values of each type were covered; the only part that may be recorded.
        grown_bytes: by how much the texts grew (UTF-8), for who reserves by size; may be negative.

    """

    body: dict[str, Any]
    table: Table
    kinds: dict[str, int]
    grown_bytes: int


class Pseudonymiser:
    """Covers the requests of one conversation.

    Args:
        key: the conversation's (``conversation_key``), 32 bytes or more.
        findings_of: the places of a text to cover (start, end exclusive, type). It must raise where it could
            not look at all of the text.
        passes: types that stay as they are; by default those that name a topic, and always protective
        markings. note: whether the model is told what tokens are, in a system message before all others.

    Raises:
        Invalid: the key is too short.

    """

    def __init__(
        self,
        key: bytes,
        findings_of: Callable[[str], Sequence[Span]],
        *,
        passes: frozenset[str] = TOPICS,
        note: bool = False,
    ) -> None:
        Coder(key)
        self._key, self._note = key, note
        self._findings = findings_of if isinstance(findings_of, Findings) else Findings(findings_of, passes)

    def cover(self, body: Mapping[str, Any]) -> Covered:
        """Return a copy of a neutral body without the values found in it.

        Raises:
            Invalid: a value stands where no token can (a tool's name, a key, an enumeration), a schema leaves
                a token no room, a part is not text (kind ``not_supported``), or there are too many values
                (kind ``size``).
            Integrity: the round trip is not exact, or a detector names places that are not there.

        """
        scan = _Scan(self._findings)
        walk(body, _Reading(scan))
        scan.learn()
        writing = _Writing(scan, Coder(self._key))
        covered = walk(body, writing)
        table = writing.coder.table()
        if len(table):
            demand_room(covered, table, dated=any(word_of(kind) == "DATE" for kind in writing.counts()))
            if self._note and isinstance(covered.get("messages"), list):
                covered["messages"].insert(0, {"role": "system", "content": NOTE})
        return Covered(body=covered, table=table, kinds=writing.counts(), grown_bytes=writing.grown_bytes)


class _Scan:
    """What is found in the texts of one request."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._views: dict[str, View] = {}
        self._values: dict[str, str] = {}
        self._known = Known({})

    def view(self, text: str) -> View:
        view = self._views.get(text)
        if view is None:
            view = self._views[text] = View(text)
        return view

    def note(self, text: str) -> None:
        """Learn the values of a text."""
        view = self.view(text)
        said = view.text
        for start, end, kind in view.clip(self._findings(said)):
            self._values.setdefault(said[start:end], kind)

    def learn(self) -> None:
        """Close the learning: from now on every place of every value is found."""
        self._known = Known(self._values)

    def spans(self, text: str, *, ask: bool = True) -> tuple[View, list[Span]]:
        """Return every place to be covered, in order and apart; without asking detectors unless ``ask``."""
        view = self.view(text)
        said = view.text
        found = [*(self._findings(said) if ask else ()), *self._known.find(said)]
        found += [(start, end, "TEXT") for start, end in look_alikes(said)]
        if not found:
            return view, []
        return view, [
            (start, end, self._values.get(said[start:end], kind)) for start, end, kind in view.clip(found)
        ]


class _Reading:
    """The first pass: changes nothing, learns everything."""

    def __init__(self, scan: _Scan) -> None:
        self._scan = scan

    def text(self, text: str, path: str) -> str:  # noqa: ARG002
        self._scan.note(text)
        return text

    arguments = text

    def fixed(self, text: str, path: str) -> None:
        """Leave it for the second pass."""

    def identifier(self, text: str, path: str) -> str:  # noqa: ARG002
        return text

    def end_user(self, text: str) -> str:
        return text


class _Writing:
    """The second pass."""

    def __init__(self, scan: _Scan, coder: Coder) -> None:
        self._scan, self.coder = scan, coder
        self._kinds: dict[str, str] = {}
        self._written: dict[str, str] = {}
        self.grown_bytes = 0

    def counts(self) -> dict[str, int]:
        """Return how many different values there are of each type, sorted."""
        kinds = list(self._kinds.values())
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    def text(self, text: str, path: str) -> str:
        view, spans = self._scan.spans(text)
        return self._write(text, view, spans, path) if spans else text

    def arguments(self, text: str, path: str) -> str:
        view, spans = self._scan.spans(text)
        if view.keyed(spans):
            raise _immovable(path)
        return self._write(text, view, spans, path) if spans else text

    def fixed(self, text: str, path: str) -> None:
        if text not in _PROTOCOL and self._scan.spans(text, ask=_PLAIN_NAME.fullmatch(text) is None)[1]:
            raise _immovable(path)

    def identifier(self, text: str, path: str) -> str:  # noqa: ARG002
        return self.coder.alias(text) if self._scan.spans(text)[1] else text

    def end_user(self, text: str) -> str:
        return self.coder.alias(text)

    def _write(self, text: str, view: View, spans: list[Span], path: str) -> str:
        known = self._written.get(text)
        if known is None:
            tokens = []
            for start, end, kind in spans:
                value = view.text[start:end]
                self._kinds.setdefault(value, kind)
                tokens.append(self.coder.token(value, kind))
            known = self._written[text] = view.written(spans, tokens)
            self._demand_exact(text, known, is_json=view.literals is not None, path=path)
        self.grown_bytes += len(known.encode("utf-8", "replace")) - len(text.encode("utf-8", "replace"))
        return known

    def _demand_exact(self, text: str, covered: str, *, is_json: bool, path: str) -> None:
        """Restore what was just covered, and compare."""
        channel = Channel(self.coder.values, "json" if is_json else "text")
        back = channel.feed(covered)
        back += channel.end()
        if back == text or (is_json and _said(back) == _said(text)):
            return
        raise Integrity(
            "this request cannot be pseudonymised",
            f"{path} would not come back as it was",
            "report this: it is a fault of Allod, and it failed closed",
        )


def _said(text: str) -> Any:
    """Return what JSON text says, numbers as they are written."""
    return json.loads(text, parse_int=str, parse_float=str)


def _immovable(path: str) -> Invalid:
    return Invalid(
        "this request cannot be pseudonymised",
        f"{path} holds a value that must be covered, in a name, a key or a choice, which takes no pseudonym",
        "move it into a text, or use an app that does not pseudonymise",
        kind="not_supported",
        param=path,
    )
