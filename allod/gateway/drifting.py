"""Watching tokenizers beside the requests: what is billed for which text, per deployment.

A settled request leaves no more than a reference in a bounded queue; a thread counts what its text is made of
and tells the watch of its deployment (``metering.drift``). What finds no room in the queue is not watched:
nothing ever waits for it. The text itself is gone once it is counted.

Two things are watched of a deployment: ``input``, tokens billed for the text of the request, cached ones in
full, and ``output``, tokens billed for the bytes that were delivered, where the operator's count is all there
is. What was learned lies in ``drift.json`` of the home, written whole every minute and at the end. It decides
one thing only, whether a long request fits a model's context; a damaged file is told, and all begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from allod.domain.money import rfc3339
from allod.gateway.capabilities import evaluated_of
from allod.metering.drift import REST, Alarm, Watch, observe, shape
from allod.receipts.commitment import digest
from allod.receipts.ids import new_id
from allod.receipts.leaves import NoticeFacts
from allod.store.home import write_file

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from pathlib import Path

    from allod.domain.fleet import Fleet
    from allod.gateway.gateway import Gateway
    from allod.store.home import Home

FORMAT: Final = "allod-drift-1"
SUBJECT: Final = "tokenizer"
"""Of the notice a change leaves in the log."""
LOG: Final = logging.getLogger("allod")
MOST_WAITING: Final = 512
CROWDED: Final = 200
"""Waiting requests (a thousand a second) from which on one of ``SHARE`` is watched: they are many anyway."""
SHARE: Final = 4
MOST_BYTES: Final = 262_144
"""Longer requests are not watched: there are enough others, and the queue holds them whole."""
MOST_ALARMS: Final = 32
MOST_LONG: Final = 30.0
"""Logarithm of a factor beyond which no tokenizer changes."""
MAX_FILE_BYTES: Final = 256 << 20
PAUSE_S: Final = 0.2
SAVE_S: Final = 60.0
LATELY_MS: Final = 30 * 86_400_000
_Z95: Final = 1.6448536269514722
_BITS: Final = 6
_CHANCE_BYTES: Final = 10
_TEXT: Final = ("messages", "input", "tools", "functions", "response_format")
"""Members of a neutral body that become tokens."""
Kind = Literal["input", "output"]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A lasting change of what a deployment bills for the same text, and when it was found (UTC ms)."""

    deployment: str
    kind: Kind
    ratio: float
    began: int
    found: int
    at_ms: int

    def told(self) -> str:
        """Say it in one line."""
        change = f"{100 * (self.ratio - 1):+.0f} %"
        return (
            f"{self.deployment} bills {change} {self.kind} tokens for the same text: found on "
            f"{rfc3339(self.at_ms)}, {self.found - self.began + 1} requests after it began"
        )


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one deployment and kind.

    ``about`` names what the deployment was, by digest; ``factor`` is the product of all changes found since
    its first baseline.
    """

    deployment: str
    kind: Kind
    about: str
    watch: Watch = Watch()
    factor: float = 1.0
    alarms: tuple[Found, ...] = ()

    @property
    def since_start(self) -> float:
        """Tokens for the same text of late, over what they were when it was first seen."""
        return self.factor * self.watch.since_start


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    format: str
    kept: tuple[Kept, ...]


class _Settled(NamedTuple):
    deployment: str
    group: str
    body: Mapping[str, Any]
    tokens: int
    out_bytes: int
    out_tokens: int
    at_ms: int


def state_file(home: Home) -> Path:
    """Return where a home keeps what was learned."""
    return home.root / "drift.json"


def read_state(path: Path) -> tuple[tuple[Kept, ...], str]:
    """Return what a file holds, and what is wrong with it: then nothing."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return (), f"it has more than {MAX_FILE_BYTES} bytes"
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return (), ""
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        return (), str(fault)[:200]
    if state.format != FORMAT or not all(_sound(one) for one in state.kept):
        return (), "it holds what no traffic leaves"
    return state.kept, ""


def _sound(one: Kept) -> bool:
    """Tell whether numbers can be computed with: as many as there are features, all of them finite."""
    watch, fresh = one.watch, Watch()
    vectors = [watch.weights, watch.first or fresh.weights, *(seen.features for seen in watch.held)]
    fits = {len(vector) for vector in vectors} == {len(fresh.weights)}
    fits = fits and len(watch.sums.matrix) == len(fresh.sums.matrix)
    fits = fits and len(watch.sums.right) == len(fresh.sums.right)
    known = [x for vector in (*vectors, watch.sums.matrix, watch.sums.right) for x in vector]
    known += [watch.deviation, watch.lately, watch.long, one.factor, watch.up.sum, watch.down.sum]
    finite = all(map(math.isfinite, known)) and all(seen.tokens > 0 for seen in watch.held)
    learned = watch.first is None or watch.deviation > 0
    return fits and finite and learned and one.factor > 0 and abs(watch.long) < MOST_LONG


def text_of(body: Mapping[str, Any]) -> bytes:
    """Return what of a neutral request becomes tokens, as bytes to count."""
    return msgspec.json.encode({name: body[name] for name in _TEXT if name in body})


class Drift:
    """The watches of a running gateway.

    Args:
        home: where what was learned lies.
        fleet: whose deployments are watched; what is known of others, or of what they were, is let go.
        alarm: told of each change that is found, on the thread that found it.
        defect: told of a fault of ours.

    Attributes:
        damaged: why what the file held could not be used, or empty.

    """

    def __init__(
        self,
        home: Home,
        fleet: Fleet,
        alarm: Callable[[Found], None],
        defect: Callable[[BaseException], None],
    ) -> None:
        self._path, self._alarm, self._defect = state_file(home), alarm, defect
        self.name = self._path.name
        self._about = {
            name: digest(msgspec.json.encode(evaluated_of(fleet, one)))
            for name, one in fleet.deployments.items()
        }
        known, self.damaged = read_state(self._path)
        self._kept: dict[tuple[str, Kind], Kept] = {
            (one.deployment, one.kind): one for one in known if self._about.get(one.deployment) == one.about
        }
        contexts = {
            d.id: d.context_tokens for d in fleet.deployments.values() if d.context_tokens is not None
        }
        self._contexts = contexts
        self.long_tokens = min(contexts.values(), default=1 << 62) // 4
        """Requests estimated shorter than this fit every context, whatever a tokenizer makes of them."""
        self._waiting: deque[_Settled] = deque()
        self._stop = threading.Event()
        self._changed, self.dropped, self._turn = False, 0, 0
        self._thread: threading.Thread | None = None

    # --- on the event loop

    def note(
        self,
        deployment: str,
        group: str,
        body: Mapping[str, Any],
        tokens: int,
        out_bytes: int,
        out_tokens: int,
        at_ms: int,
    ) -> None:
        """Leave one settled request to be counted; of a crowd a share, and what finds no room is let go."""
        waiting = len(self._waiting)
        if waiting >= CROWDED:
            self._turn = (self._turn + 1) % SHARE
            if self._turn:
                return
        if waiting < MOST_WAITING:
            self._waiting.append(_Settled(deployment, group, body, tokens, out_bytes, out_tokens, at_ms))
        else:
            self.dropped += 1

    def expected_tokens(self, body: Mapping[str, Any], group: str) -> tuple[tuple[str, int], ...]:
        """Return, per deployment with a context and a learned tokenizer, what input is unlikely to exceed.

        One-sided with 95 %, from the deviation its traffic showed; rounded up to six significant bits, so
        that like requests share a plan.
        """
        known = [(name, self._kept.get((name, "input"))) for name in self._contexts]
        learned = [
            (name, one.watch) for name, one in known if one is not None and one.watch.first is not None
        ]
        if not learned:
            return ()
        features = shape(text_of(body))
        out = [
            (name, _rounded(watch.tokens(features, group) * math.exp(_Z95 * watch.deviation)))
            for name, watch in learned
        ]
        return tuple(sorted(out))

    @property
    def kept(self) -> tuple[Kept, ...]:
        """All that is known, by deployment and kind."""
        return tuple(self._kept[key] for key in sorted(self._kept))

    # --- on the thread

    def start(self) -> None:
        """Begin to watch."""
        self._thread = threading.Thread(target=self._run, name="allod-drift", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Count what waits, and write down what was learned."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._work()
        self._save()

    def _run(self) -> None:
        left = SAVE_S
        while not self._stop.wait(PAUSE_S):
            self._work()
            left -= PAUSE_S
            if left <= 0:
                left = SAVE_S
                self._save()

    def _work(self) -> None:
        while self._waiting:
            one = self._waiting.popleft()
            try:
                self._observe(one)
            except Exception as fault:  # noqa: BLE001 (a request that cannot be counted is not watched)
                self._defect(fault)

    def _observe(self, one: _Settled) -> None:
        if one.tokens:
            self._tell(one, "input", shape(text_of(one.body)), one.tokens)
        if one.out_bytes:
            self._tell(
                one, "output", (1.0, float(one.out_bytes), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), one.out_tokens
            )

    def _tell(self, one: _Settled, kind: Kind, features: tuple[float, ...], tokens: int) -> None:
        key = (one.deployment, kind)
        kept = self._kept.get(key) or Kept(
            deployment=one.deployment, kind=kind, about=self._about[one.deployment]
        )
        watch, alarm = observe(kept.watch, features, tokens, one.at_ms, one.group or REST)
        self._kept[key] = msgspec.structs.replace(kept, watch=watch)
        self._changed = True
        if alarm is not None:
            self._found(key, alarm)

    def _found(self, key: tuple[str, Kind], alarm: Alarm) -> None:
        kept = self._kept[key]
        found = Found(
            deployment=kept.deployment, kind=kept.kind, ratio=alarm.ratio, began=alarm.began,
            found=alarm.found, at_ms=alarm.at_ms,
        )  # fmt: skip
        alarms = (*kept.alarms, found)[-MOST_ALARMS:]
        self._kept[key] = msgspec.structs.replace(kept, factor=kept.factor * alarm.ratio, alarms=alarms)
        self._save()
        self._alarm(found)

    def _save(self) -> None:
        if not self._changed:
            return
        self._changed = False
        try:
            # piece by piece: encoding keeps the interpreter to itself
            kept = b",".join(map(msgspec.json.encode, self.kept))
            write_file(
                self._path, b'{"format":"%s","kept":[%s]}' % (FORMAT.encode(), kept), 0o600, durable=False
            )
        except OSError as fault:
            self._defect(fault)


@contextlib.asynccontextmanager
async def watched(gateway: Gateway, home: Home) -> AsyncGenerator[list[str], None]:
    """Watch the tokenizers of a gateway while it runs; yields what is to be told at the start."""
    loop = asyncio.get_running_loop()

    def alarm(found: Found) -> None:
        LOG.warning("%s", found.told())
        loop.call_soon_threadsafe(gateway.counters.alarm, found.deployment, found.kind)
        name = new_id(gateway.store.keys.origin, found.at_ms, os.urandom(_CHANCE_BYTES))
        gateway.store.append_notice(
            NoticeFacts(
                id=name, at_ms=found.at_ms, tenant=gateway.tenant_pseudonym, subject=SUBJECT,
                detail=found.told(), facts=facts_of(found),
            )
        )  # fmt: skip

    drift = await asyncio.to_thread(Drift, home, gateway.fleet, alarm, gateway.defect)
    gateway.drift = drift
    drift.start()
    try:
        yield [f"{drift.name} cannot be used, and begins anew: {drift.damaged}"] if drift.damaged else []
    finally:
        gateway.drift = None
        await asyncio.to_thread(drift.close)


def _rounded(tokens: float) -> int:
    """Round up to ``_BITS`` significant bits: by 3 % at most."""
    whole = math.ceil(tokens)
    shift = max(0, whole.bit_length() - _BITS)
    return -(-whole >> shift) << shift


def facts_of(found: Found) -> dict[str, str]:
    """Say in the log what was found."""
    return {
        "deployment": found.deployment,
        "kind": found.kind,
        "ratio": f"{found.ratio:.3f}",
        "began": f"{found.began}",
        "found": f"{found.found}",
    }
