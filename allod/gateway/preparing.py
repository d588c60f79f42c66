"""What is done to a request before anything is decided about it: reduce, scan, cover.

Reduce: a task that names its fields gets those and no others. Scan: detectors raise classes, part by part,
and what a part held is remembered by its digest, so that a conversation that comes back longer is not scanned
anew. Cover: for an application with pseudonyms, the body that may leave to others is made beside its own.
Each fails closed: input that cannot be reduced is refused, a scan that did not finish makes the request
``unscanned``, a body that cannot be covered stays with our own deployments.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from allod.admission.admit import classes_of
from allod.admission.detect import Config, Detector, walk
from allod.admission.detect.model import classes_of as raised_by
from allod.admission.labels import NO_LABELS
from allod.admission.minimum import Fields, reduce
from allod.admission.pseudonym import (
    TOPICS,
    Findings,
    Pseudonymiser,
    Restorer,
    conversation_key,
    opening,
    refuses,
)
from allod.domain.classes import UNSCANNED, expand
from allod.domain.errors import AllodError, Integrity
from allod.domain.fleet import CLEAR_TEXT
from allod.gateway.declassifying import waived
from allod.receipts.handling import Handling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from datetime import date

    from allod.admission.pseudonym import Covered
    from allod.domain.fleet import App, Fleet, Task
    from allod.domain.request import Labels
    from allod.engines.run import Take
    from allod.gateway.config import Detect
    from allod.gateway.declassifying import Standing
    from allod.gateway.surfaces.contract import Parsed

REMEMBERED: Final = 4096
"""Parts of requests whose findings are remembered, by digest."""
SHORT_CHARS: Final = 64
MAX_DEPTH: Final = 64
_ROLE_AND_CONTENT: Final = 2
_SETTINGS: Final = frozenset(
    "model stream temperature top_p n max_tokens max_completion_tokens presence_penalty frequency_penalty "
    "seed reasoning_effort top_k min_p".split()
)
"""Members of a body that hold no text of the caller's, as short scalars."""
UNREADABLE: Final = "UNREADABLE"
"""Counts what no detector can look into: pictures, sound, files."""
INLINE_BYTES: Final = 16_384
"""A longer request is prepared in a thread, so that others do not wait for it."""


class Covering:
    """The body that may leave to others, and the way back of its answer."""

    def __init__(self, covered: Covered) -> None:
        self.body, self.kinds = covered.body, covered.kinds
        self._table = covered.table

    def taking(self, take: Take) -> Take:
        """Return what takes an answer to it: every event is restored before it is handed on."""
        restorer = Restorer(self._table)

        def restored(items: Sequence[Any]) -> Awaitable[None] | None:
            events = restorer.events(items)
            return take(events) if events else None

        return restored


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A request ready to be admitted.

    Attributes:
        parsed: the request, reduced where its task says so; None for as it came.
        detected: classes to add, sorted.
        needs: what it needs besides what its body shows.
        data: what was found and done, for the receipt; None for nothing.
        covering: for an application with pseudonyms, what may leave to others.

    """

    parsed: Parsed | None = None
    detected: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    data: Handling | None = None
    covering: Covering | None = None


AS_IT_CAME: Final = Prepared()


class Preparation:
    """Prepares the requests of one gateway.

    Args:
        fleet: the fleet; ``classes`` the data classes its packs and the base know.
        detect: the configuration's ``[detect]``.
        standing: declassifications in force.
        secret: the home's, from which the keys of conversations are made.
        defect: told of a fault of ours.

    """

    def __init__(
        self,
        fleet: Fleet,
        classes: frozenset[str],
        detect: Detect,
        standing: tuple[Standing, ...],
        secret: bytes,
        defect: Callable[[BaseException], None],
    ) -> None:
        self._fleet, self._settings, self._standing, self._secret = fleet, detect, standing, secret
        self.defect = defect
        self._known = classes
        self._without = frozenset(detect.without) | (frozenset() if detect.names else frozenset({"PERSON"}))
        self._detector = Detector(Config(known_classes=classes, max_chars=detect.max_chars), time.monotonic)
        self._fields = {name: Fields(t.fields) for name, t in fleet.tasks.items() if t.fields is not None}
        self._seen: dict[tuple[bytes, frozenset[str]], _Part] = {}
        self._clean: dict[str, set[bytes]] = {
            name: set() for name, app in fleet.apps.items() if detect.enabled and not app.pseudonymise
        }

    def prepare(
        self, app: App, parsed: Parsed, labels: Labels, task: Task | None, day: date
    ) -> Prepared | None:
        """Prepare one request, or say with None that it may go as it came.

        A long one is better prepared in a thread.

        Raises:
            Invalid: its task names fields and its input cannot be reduced to them.

        """
        clean = self._clean.get(app.id) if task is None and labels is NO_LABELS else None
        digests = _plain_digests(parsed) if clean is not None else None
        if clean is not None and digests is not None and clean.issuperset(digests):
            return None
        ready = self._prepare(app, parsed, labels, task, day)
        if clean is not None and digests is not None and ready.data is None and not ready.detected:
            if len(clean) >= REMEMBERED:
                clean.clear()
            clean.update(digests)
        return ready

    def _prepare(self, app: App, parsed: Parsed, labels: Labels, task: Task | None, day: date) -> Prepared:
        dropped: dict[str, int] = {}
        if task is not None and task.name in self._fields:
            less = reduce(parsed.body, self._fields[task.name], unstructured=task.unstructured)
            parsed = msgspec.structs.replace(parsed, body=less.body, native=None, plain=False)
            dropped = less.dropped
        found = self._scan(app, parsed, labels, task, day) if self._settings.enabled else _NOTHING
        needs: tuple[str, ...] = ()
        covering = None
        if app.pseudonymise:
            covering = self._cover(app, parsed)
            needs = () if covering is not None else (CLEAR_TEXT,)
        kinds = covering.kinds if covering is not None else {}
        data = None
        if dropped or found.types or kinds:
            data = Handling(
                covered=kinds,
                detected=found.types,
                detector=self._detector.version,
                dropped=dropped,
            )
        return Prepared(parsed=parsed, detected=found.classes, needs=needs, data=data, covering=covering)

    # --- scan

    def _scan(self, app: App, parsed: Parsed, labels: Labels, task: Task | None, day: date) -> Scanned:
        """Scan everything that leaves; what cannot add a class any more is not looked for."""
        own = classes_of(app, self._fleet)
        already = frozenset(expand((*own, *labels.classes, *(task.classes if task is not None else ()))))
        deadline = time.monotonic() + self._settings.max_ms / 1000
        types: Counter[str] = Counter()
        left, whole = self._settings.max_chars, True
        try:
            for text in texts_of(parsed):
                if text is None:
                    types[UNREADABLE] += 1
                    whole = whole and self._settings.images == "ignored"
                    continue
                left -= len(text)
                found = self._part(text, already, deadline) if left >= 0 else _UNREAD
                types.update(found.types)
                whole = whole and found.whole
        except Exception as fault:  # noqa: BLE001 (whatever failed, this was not scanned)
            self.defect(fault)
            whole = False
        without = self._without | waived(self._standing, app.id, day)
        classes = {
            name
            for kind in types
            if kind not in without and kind != UNREADABLE
            for name in raised_by(kind, self._known)
        }
        if not whole:
            classes.add(UNSCANNED)
        return Scanned(types=dict(types), classes=tuple(sorted(classes - already)))

    def _part(self, text: str, already: frozenset[str], deadline: float) -> _Part:
        key = (_digest(text), already)
        known = self._seen.get(key)
        if known is None:
            scan = self._detector.scan(text, already, deadline)
            known = _Part(types=scan.types, whole=scan.complete)
            if scan.complete:  # what did not finish may finish next time
                if len(self._seen) >= REMEMBERED:
                    self._seen.clear()
                self._seen[key] = known
        return known

    # --- cover

    def _cover(self, app: App, parsed: Parsed) -> Covering | None:
        """Cover a request for others; None where that cannot be done."""
        if refuses(parsed.body, parsed.surface) is not None:
            return None
        findings = Findings(self._findings, TOPICS)
        try:
            key = conversation_key(self._secret, app.id, opening(self._secret, parsed.body, findings))
            return Covering(Pseudonymiser(key, findings).cover(parsed.body))
        except AllodError:
            return None
        except Exception as fault:  # noqa: BLE001 (whatever failed, nothing may leave uncovered)
            self.defect(fault)
            return None

    def _findings(self, text: str) -> Sequence[tuple[int, int, str]]:
        scan = self._detector.scan(text, frozenset(), time.monotonic() + self._settings.max_ms / 1000)
        if not scan.complete:
            raise Integrity("a text could not be scanned whole", "it is too long, or took too long")
        return tuple((one.start, one.end, one.type) for one in scan.findings)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _plain_digests(parsed: Parsed) -> list[bytes] | None:
    """Return the digests of a request's texts if it is nothing but plain messages and settings, else None."""
    if not parsed.plain or parsed.native is not None:
        return None
    for key, value in parsed.body.items():
        if key in _SETTINGS:
            if isinstance(value, dict | list) or (isinstance(value, str) and len(value) > SHORT_CHARS):
                return None
        elif key != "messages":
            return None
    digests = []
    for message in parsed.body.get("messages", ()):
        text = message.get("content")
        if len(message) != _ROLE_AND_CONTENT or type(text) is not str:
            return None
        digests.append(_digest(text))
    return digests


def texts_of(parsed: Parsed) -> Iterator[str | None]:
    """Yield everything that leaves: of the neutral body, and what only the caller's own body has besides."""
    for _, text in walk(parsed.body):
        yield text
    if parsed.native is not None:
        yield from _strings(parsed.native, 0)


def _strings(value: Any, depth: int) -> Iterator[str | None]:
    """Yield every string of a native body, member names too; inline pictures the neutral body counts."""
    if depth > MAX_DEPTH:
        yield None
    elif isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, depth + 1)
    elif isinstance(value, dict):
        inline = value.get("type") == "base64" and str(value.get("media_type", "")).startswith("image/")
        for key, item in value.items():
            yield key
            if not (inline and key == "data"):
                yield from _strings(item, depth + 1)


class _Part(NamedTuple):
    """What was found in one text: how many of each type, and whether all of it was looked at."""

    types: dict[str, int]
    whole: bool


class Scanned(NamedTuple):
    """What was found in a request: how many of each type, and the classes to add, sorted."""

    types: dict[str, int]
    classes: tuple[str, ...]


_NOTHING: Final = Scanned({}, ())
_UNREAD: Final = _Part({UNREADABLE: 1}, whole=False)
