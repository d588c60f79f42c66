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
from allod.admission.detect.parts import Joined, joined
from allod.admission.detect.parts import texts_of as texts_of_parts
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
_SEVERAL: Final = 2
_SETTINGS: Final = frozenset(
    "model stream temperature top_p n max_tokens max_completion_tokens presence_penalty frequency_penalty "
    "seed reasoning_effort top_k min_p".split()
)
"""Members of a body that hold no text of the caller's, as short scalars."""
UNREADABLE: Final = "UNREADABLE"
"""Counts what no detector can look into: pictures, sound, files."""
INLINE_BYTES: Final = 2048
"""A longer request is prepared in a thread, so that others do not wait for it: digits without end cost a
detector a hundred times what prose does."""
SHORT_DIGITS: Final = 5
"""A number of fewer digits is nobody's."""
LONG_DIGITS: Final = 10
"""A setting of more digits may be somebody's number."""


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
        self._detectors: dict[frozenset[str], Detector] = {}
        self._detector = self._without_types(self._without)
        if any(app.pseudonymise for app in fleet.apps.values()):
            self._without_types(frozenset())  # what covers: made now rather than for the first request
        self._fields = {name: Fields(t.fields) for name, t in fleet.tasks.items() if t.fields is not None}
        self._seen: dict[tuple[bytes, frozenset[str], frozenset[str]], _Part] = {}
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

    def _without_types(self, types: frozenset[str]) -> Detector:
        """Return a detector that never sees some types: they hide nothing that stands in their place."""
        known = self._detectors.get(types)
        if known is None:
            limits = Config(known_classes=self._known, max_chars=self._settings.max_chars, without=types)
            known = self._detectors[types] = Detector(limits, time.monotonic)
        return known

    # --- scan

    def _scan(self, app: App, parsed: Parsed, labels: Labels, task: Task | None, day: date) -> Scanned:
        """Scan everything that leaves; what cannot add a class any more is not looked for."""
        own = classes_of(app, self._fleet)
        already = frozenset(expand((*own, *labels.classes, *(task.classes if task is not None else ()))))
        deadline = time.monotonic() + self._settings.max_ms / 1000
        released = waived(self._standing, app.id, day)
        types: Counter[str] = Counter()
        left, whole = self._settings.max_chars, True
        try:
            for text in texts_of(parsed):
                if time.monotonic() > deadline:
                    whole = False
                    break
                if text is None:
                    types[UNREADABLE] += 1
                    whole = whole and self._settings.images == "ignored"
                    continue
                left -= len(text)
                found = self._part(text, already, released, deadline) if left >= 0 else _UNREAD
                types.update(_news(found.types, types) if type(text) is Joined else found.types)
                whole = whole and found.whole
        except Exception as fault:  # noqa: BLE001 (whatever failed, this was not scanned)
            self.defect(fault)
            whole = False
        without = self._without | released
        classes = {
            name
            for kind in types
            if kind not in without and kind != UNREADABLE
            for name in raised_by(kind, self._known)
        }
        if not whole:
            classes.add(UNSCANNED)
        return Scanned(types=dict(types), classes=tuple(sorted(classes - already)))

    def _part(self, text: str, already: frozenset[str], released: frozenset[str], deadline: float) -> _Part:
        """Scan one text; where something released is found, look again for what it stands in front of."""
        digest = _digest(text)
        found = self._scanned(text, digest, already, self._without, deadline)
        if released.isdisjoint(found.types):
            return found
        behind = self._scanned(text, digest, already, self._without | released, deadline)
        return _Part(types={**found.types, **behind.types}, whole=found.whole and behind.whole)

    def _scanned(
        self, text: str, digest: bytes, already: frozenset[str], without: frozenset[str], deadline: float
    ) -> _Part:
        key = (digest, already, without)
        known = self._seen.get(key)
        if known is None:
            scan = self._without_types(without).scan(text, already, deadline)
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
        deadline = time.monotonic() + self._settings.max_ms / 1000
        findings = Findings(lambda text: self._findings(text, deadline), TOPICS)
        try:
            if _is_split(parsed.body, findings):
                return None
            key = conversation_key(self._secret, app.id, opening(self._secret, parsed.body, findings))
            return Covering(Pseudonymiser(key, findings).cover(parsed.body))
        except AllodError:
            return None
        except Exception as fault:  # noqa: BLE001 (whatever failed, nothing may leave uncovered)
            self.defect(fault)
            return None

    def _findings(self, text: str, deadline: float) -> Sequence[tuple[int, int, str]]:
        scan = self._without_types(frozenset()).scan(text, frozenset(), deadline)
        if not scan.complete or time.monotonic() > deadline:
            raise Integrity("a text could not be scanned whole", "it is too long, or took too long")
        return tuple((one.start, one.end, one.type) for one in scan.findings)


def _news(found: dict[str, int], known: Counter[str]) -> dict[str, int]:
    """Return the types found in parts read together that none of what came before held."""
    return {kind: count for kind, count in found.items() if kind not in known}


def _is_split(body: dict[str, Any], findings: Findings) -> bool:
    """Tell whether the parts of a message, read on, hold more than each does: no token could stand for it."""
    for message in body.get("messages", ()):
        content = message.get("content")
        texts = texts_of_parts(content) if isinstance(content, list) else []
        if len(texts) < _SEVERAL:
            continue
        apart = Counter(kind for text in texts for _, _, kind in findings(text))
        if Counter(kind for _, _, kind in findings(joined(texts))) - apart:
            return True
    return False


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()


def _plain_digests(parsed: Parsed) -> list[bytes] | None:
    """Return the digests of a request's texts if it is nothing but plain messages and settings, else None."""
    if not parsed.plain or parsed.native is not None:
        return None
    for key, value in parsed.body.items():
        if key in _SETTINGS:
            if isinstance(value, dict | list) or len(str(value)) > (
                SHORT_CHARS if isinstance(value, str) else LONG_DIGITS
            ):
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
        yield from _strings(parsed.native, _pictures(parsed.body), 0)


def _pictures(body: dict[str, Any]) -> frozenset[bytes]:
    """Return the digests of the pictures that a neutral body shows, which count there already."""
    messages = body.get("messages")
    contents = [message.get("content") for message in messages] if isinstance(messages, list) else []
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return frozenset(_digest(part["image_url"]["url"]) for part in parts if part.get("type") == "image_url")


def _strings(value: Any, pictures: frozenset[bytes], depth: int) -> Iterator[str | None]:
    """Yield every string and long number of a native body, member names too, but for counted pictures."""
    if depth > MAX_DEPTH:
        yield None
    elif isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, pictures, depth + 1)
    elif isinstance(value, dict):
        counted = bool(pictures) and _pictured(value) in pictures
        for key, item in value.items():
            yield key
            if isinstance(item, int | float) and len(str(item)) >= SHORT_DIGITS:
                yield f"{key}: {item}"
            elif not (counted and key == "data"):
                yield from _strings(item, pictures, depth + 1)
    elif isinstance(value, int | float) and len(str(value)) >= SHORT_DIGITS:
        yield str(value)


def _pictured(value: dict[str, Any]) -> bytes:
    """Return the digest of the data URL that a native picture has in the neutral body, or nothing."""
    if value.get("type") != "base64" or not isinstance(value.get("data"), str):
        return b""
    return _digest(f"data:{value.get('media_type')};base64,{value['data']}")


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
