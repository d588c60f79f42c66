"""Asking witnesses to cosign our checkpoints (C2SP tlog-witness), beside the requests and never before them.

A round takes the newest checkpoint and asks every witness that is not still answering an older one. As soon
as the quorum is reached (or, where none is demanded, anybody has cosigned), receipts are proved by the
cosigned checkpoint. A witness that has seen more of this log than there is, or another history of it, is
heard: the home is an older copy or was forked, and no new request is taken while it says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

import msgspec

from allod.domain.errors import AllodError, Integrity, Invalid
from allod.engines.contract import EngineFault
from allod.engines.wire import Wire
from allod.gateway.gateway import LOG
from allod.gateway.witness_clearing import leaf_of, refusal, supporters
from allod.gateway.witness_report import Answer, Ask, Witnessed, WitnessReport, take_ask, write_report
from allod.receipts.checkpoint import number
from allod.receipts.cosignature import Cosignature, cosignatures
from allod.receipts.notes import parse_note
from allod.receipts.tlog_policy import TrustPolicy, k_of_n
from allod.receipts.witness import SIZE, AddCheckpoint, write_request
from allod.store.cosigned import demand, keep
from allod.store.writer import Published

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from allod.gateway.config import LogSettings
    from allod.receipts.tlog_policy import Witness
    from allod.store.store import Store

PAUSE_S: Final = 0.1
"""Between two rounds: each costs a proof, a request and a verification per witness, beside the requests."""
IDLE_S: Final = 0.05
REPORT_S: Final = 1.0
AGAIN_S: Final = 1.0
FIRST_MS: Final = 2000
POLL_S: Final = 0.01
MAX_ANSWER_BYTES: Final = 64 * 1024
_OK, _CONFLICT, _UNPROCESSABLE = 200, 409, 422
_TRIES: Final = 3
_HEADERS: Final = ((b"content-type", b"text/plain; charset=utf-8"),)


class State(msgspec.Struct):
    """One witness as seen from here; ``problem`` is why its last answer was no cosignature.

    ``against`` is its objection, ``claim`` what exactly it claims; ``aside`` the claim an operator set aside,
    ``why`` the reason for that. ``heard`` is the size it knew when it was first asked.
    """

    witness: Witness
    wire: Wire
    known: int = 0
    signed: int = -1
    signed_ms: int = 0
    heard: int | None = None
    lines: str = ""
    problem: str = ""
    against: str = ""
    claim: str = ""
    aside: str = ""
    why: str = ""
    not_before_s: float = 0.0
    asking: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self.witness.name

    def told(self) -> Witnessed:
        """Return how it stands, for whoever looks."""
        return Witnessed(
            name=self.name, url=self.witness.url, size=self.signed, at_ms=self.signed_ms,
            problem=self.problem, objection=self.against, aside=self.why if self.aside else "",
        )  # fmt: skip


class Witnessing:
    """The rounds of one running gateway.

    Args:
        store: whose checkpoints are cosigned.
        settings: witnesses, quorum and time limit.
        allow: the connector's rule (I6).
        tenant: the tenant's pseudonym, for leaves about witnesses.

    Raises:
        Invalid: the URL of a witness cannot be used.

    """

    def __init__(
        self, store: Store, settings: LogSettings, allow: Callable[[str, int], bool], tenant: str
    ) -> None:
        self._store, self._limit_ms, self._tenant = store, settings.witness_ms, tenant
        self._reported_s, self._reported = 0.0, tuple[Witnessed, ...]()
        self.policy: TrustPolicy = k_of_n(settings.witnesses, settings.quorum)
        self.states = [State(w, _wire(w, allow, settings.witness_ms)) for w in settings.witnesses]
        demand(store, self.policy)
        cosigned = store.reader.cosigned
        self._before = cosigned.size if cosigned is not None else store.reader.newest().size

    async def first(self) -> None:
        """Hold one round before anything is served: an older copy of the home must not go on."""
        await self._round(FIRST_MS / 1000)
        self._report(None)

    async def run(self) -> None:
        """Hold rounds until cancelled."""
        while True:
            self._look()
            if self._store.reader.newest().size > self._covered() or self._store.healthy() is not None:
                await self._round(self._limit_ms / 1000)
                await asyncio.sleep(PAUSE_S)
            else:
                await asyncio.sleep(IDLE_S)

    async def close(self) -> None:
        """Leave every witness alone."""
        for state in self.states:
            if state.asking is not None:
                state.asking.cancel()
            await state.wire.close()

    def _look(self) -> None:
        """Now and then write down how witnesses stand, and do what an operator asks."""
        now = time.monotonic()
        if now - self._reported_s < REPORT_S:
            return
        self._reported_s = now
        asked = take_ask(self._store.home)
        self._report(None if asked is None else self._set_aside(asked))

    def _report(self, answer: Answer | None) -> None:
        rows = tuple(state.told() for state in self.states)
        if answer is None and rows == self._reported:
            return
        self._reported = rows
        size = self._store.reader.newest().size
        report = WitnessReport(at_ms=_now_ms(), size=size, witnesses=rows, answer=answer)
        with contextlib.suppress(OSError):
            write_report(self._store.home, report)

    def _set_aside(self, asked: Ask) -> Answer:
        """Set one objection aside if that may be done; the leaf comes first."""
        why = refusal(self.states, asked.witness, self._before)
        if why is not None:
            return Answer(id=asked.id, ok=False, why=why)
        state = next(one for one in self.states if one.name == asked.witness)
        before, state.aside, state.why = state.aside, state.claim, asked.reason
        self._object()
        leaf = leaf_of(
            self._store, state, supporters(self.states, self._before), reason=asked.reason,
            tenant=self._tenant, at_ms=_now_ms(), chance=os.urandom(10),
        )  # fmt: skip
        try:
            self._store.append_notice(leaf)
        except AllodError as fault:
            state.aside = before
            self._object()
            return Answer(id=asked.id, ok=False, why=f"the log cannot take it: {fault.what}")
        LOG.warning("the objection of witness %s was set aside: %s", state.name, asked.reason)
        return Answer(id=asked.id, ok=True, why=f"set aside, and logged: {state.against}")

    def notices(self) -> list[str]:
        """Return one line per witness that does not cosign."""
        return [f"witness {s.witness.name}: {s.problem}" for s in self.states if s.problem]

    def _covered(self) -> int:
        """Return the size that every witness that can be asked now has cosigned."""
        now = time.monotonic()
        sizes = [s.signed for s in self.states if s.not_before_s <= now and s.asking is None]
        return min(sizes, default=self._store.reader.newest().size)

    async def _round(self, limit_s: float) -> None:
        """Ask who is free, and return when all of them have answered or the time is over."""
        published, now = self._store.reader.newest(), time.monotonic()
        asked = []
        for state in self.states:
            free = state.asking is None or state.asking.done()
            if free and state.not_before_s <= now and state.signed < published.size:
                state.asking = asyncio.create_task(self._ask(state, published))
                asked.append(state.asking)
        if asked:
            await asyncio.wait(asked, timeout=limit_s)
        for state in self.states:
            if state.asking is not None and state.asking.done():
                state.asking = None
        self._object()

    async def _ask(self, state: State, published: Published) -> None:
        try:
            cosigned = await self._answered(state, published)
        except (EngineFault, Integrity) as fault:
            self._failed(state, str(fault))
            return
        if cosigned is None:
            return
        state.signed, state.known, state.signed_ms = published.size, published.size, _now_ms()
        state.problem = state.against = state.claim = state.aside = ""
        self._assemble(published)

    async def _answered(self, state: State, published: Published) -> tuple[Cosignature, ...] | None:
        """Ask until the witness cosigns or objects; None when it does not cosign."""
        for _ in range(_TRIES):
            if state.known > published.size:
                claim = f"it has seen {state.known} leaves"
                self._against(state, f"{claim}, here are {published.size}", claim)
                return None
            old, proof = state.known, tuple[bytes, ...]()
            if 0 < old < published.size:
                proof = self._store.reader.consistency(old, published.size)
            request = AddCheckpoint(old=old, proof=proof, note=published.checkpoint)
            status, kind, body = await self._post(state, write_request(request))
            if status == _OK:
                state.heard = old if state.heard is None else state.heard
                return self._taken(state, published, body)
            if status == _CONFLICT and kind == SIZE.encode():
                state.known = number(body.decode("ascii", "replace").removesuffix("\n"), "its known size")
                state.heard = state.known if state.heard is None else state.heard
                if state.known != old:
                    continue
            if status in {_CONFLICT, _UNPROCESSABLE}:
                claim = "it has seen another history of this log"
                self._against(state, f"{claim} (status {status} at {old})", f"{claim} ({old} leaves)")
            else:
                self._failed(
                    state, f"it answered with status {status}: {body[:120].decode('utf-8', 'replace')!r}"
                )
            return None
        self._failed(state, "its known size changes faster than it can be asked")
        return None

    async def _post(self, state: State, body: bytes) -> tuple[int, bytes, bytes]:
        limit = self._limit_ms
        response = await state.wire.request(
            "POST", "/add-checkpoint", _HEADERS, body,
            first_byte_ms=limit, idle_ms=limit, total_ms=limit, max_body_bytes=MAX_ANSWER_BYTES,
        )  # fmt: skip
        kind = (response.header(b"content-type") or b"").split(b";")[0].strip()
        return response.status, kind, await response.read()

    def _taken(self, state: State, published: Published, body: bytes) -> tuple[Cosignature, ...] | None:
        """Verify what a witness signed; only the line of the key we know it by is kept."""
        note = parse_note(published.checkpoint + body)
        if note.text != parse_note(published.checkpoint).text:
            raise Integrity("it answered with more than signature lines")
        cosigned = cosignatures(note, (state.witness.key,))
        if not cosigned:
            self._failed(state, f"it did not sign as {state.witness.key.vkey()[:60]}")
            return None
        wanted = (state.witness.key.name, state.witness.key.key_id)
        rows = [row + "\n" for row in body.decode().split("\n")[:-1]]
        mine = [
            row
            for row, line in zip(rows, note.signatures[1:], strict=True)
            if (line.name, line.key_id) == wanted
        ]
        state.lines = mine[0]
        return cosigned

    def _assemble(self, published: Published) -> None:
        """Put the lines of all who cosigned this very size under it, if they are enough."""
        lines = "".join(s.lines for s in self.states if s.signed == published.size)
        note = published.checkpoint + lines.encode()
        before = self._store.reader.cosigned
        if (before is None or before.size <= published.size) and self.policy.met(self.policy.known(note)):
            keep(self._store, Published(published.size, note))

    def _failed(self, state: State, why: str) -> None:
        if state.problem != why:
            LOG.warning("witness %s does not cosign: %s", state.witness.name, why)
        state.problem, state.not_before_s = why, time.monotonic() + AGAIN_S

    def _against(self, state: State, why: str, claim: str) -> None:
        state.known, state.claim = 0, claim
        state.against = f"witness {state.witness.name} objects: {why}"
        self._failed(state, why)

    def _object(self) -> None:
        """Refuse new requests while a witness says that this is not the log it knows."""
        against = next((s.against for s in self.states if s.against and s.aside != s.claim), None)
        told = "this home is an older copy, or its log was forked: restore the newest home"
        self._store.object_to(None if against is None else f"{against}; {told}")


@contextlib.asynccontextmanager
async def witnessed(
    store: Store, settings: LogSettings, allow: Callable[[str, int], bool], tenant: str
) -> AsyncGenerator[list[str], None]:
    """Have witnesses cosign while this lasts; yields what there is to tell the person who started it.

    ``tenant`` is the tenant's pseudonym.

    Raises:
        Invalid: the URL of a witness cannot be used.

    """
    if not settings.witnesses:
        yield []
        return
    witnessing = Witnessing(store, settings, allow, tenant)
    await witnessing.first()
    rounds = asyncio.create_task(witnessing.run())
    try:
        yield witnessing.notices()
    finally:
        rounds.cancel()
        await asyncio.gather(rounds, return_exceptions=True)
        await witnessing.close()


async def final_file(store: Store, receipt: str, wait_s: float) -> bytes | str | None:
    """Return a receipt file once it counts, or what ``Store.receipt_file`` says after that time."""
    await store.committed(receipt, wait_s)
    file = store.receipt_file(receipt)
    if not store.reader.quorum:
        return file
    until = time.monotonic() + wait_s
    while file == "pending" and time.monotonic() < until:
        await asyncio.sleep(POLL_S)
        file = store.receipt_file(receipt)
    return file


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _wire(witness: Witness, allow: Callable[[str, int], bool], limit_ms: int) -> Wire:
    try:
        return Wire(witness.url, allow_address=allow, max_connections=2, connect_timeout_ms=limit_ms)
    except ValueError as fault:
        raise Invalid(
            f"witness {witness.name} cannot be asked",
            str(fault),
            "give its submission prefix",
            param="log.witnesses",
        ) from fault
