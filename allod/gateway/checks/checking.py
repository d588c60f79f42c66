"""Runs a task's checks on an answer: the cheapest first, beside the event loop, within a time, to a verdict.

What does not come to a verdict has failed: a check that breaks, takes too long, or finds no sandbox. After
the first failure nothing more is run, as nothing more is needed. Nothing of an answer is logged.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from logging import getLogger
from typing import TYPE_CHECKING, Any, Final

from allod.assurance import arithmetic, citations
from allod.assurance.blocks import written_in
from allod.assurance.checkers import MAX_ANSWER_CHARS, code_of
from allod.assurance.margins import margin
from allod.assurance.sandbox import MAX_CODE_BYTES, NO_SANDBOX
from allod.gateway.cascadefile import COMPILE
from allod.gateway.checks.children import Children
from allod.gateway.checks.logprobs import entries
from allod.gateway.checks.probing import NO, PROBE_S, order_of, probes, slow, wrong
from allod.gateway.promise.answers import (
    NOTHING,
    PROGRAMS,
    Read,
    digest_of,
    fits,
    key_of,
    kind,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from allod.assurance.sandbox import Order
    from allod.domain.fleet import CascadeTask, CheckFile, Fleet
    from allod.engines.run import Answer

LOG: Final = getLogger("allod")
_CHEAPEST: Final = (
    "json_schema", "json", "numeric", "choice", "regex", "arithmetic", "citation", "compile", "sql", "tests",
)  # fmt: skip
_SHORT_CHARS: Final = 16 << 10
"""Up to so many are read on the loop itself."""
_FEW_TOKENS: Final = 1_000
PASSED, FAILED, BROKE, LATE = "passed", "failed", "broke", "late"


class Checking:
    """The checks of a running gateway.

    Args:
        fleet: whose tasks they are.
        texts: of the files checks go by, by digest (``files.with_files``).

    Attributes:
        unable: of each task that has a check which cannot be run here, one word for why.

    """

    def __init__(self, fleet: Fleet, texts: Mapping[str, str]) -> None:
        self._tasks = {name: task.cascade for name, task in fleet.tasks.items() if task.cascade is not None}
        self._texts = texts
        self.children = Children(keep=any(map(slow, self._tasks.values())))
        self.unable: dict[str, str] = {}

    async def begin(self) -> None:
        """See which checks can be run here, and have a child wait for the first."""
        for name, own in self._tasks.items():
            if slow(own):
                why = await self._why_not(own)
                if why:
                    self.unable[name] = why
        if self.children.keeps and not self.unable:
            self.children.warm()

    async def _why_not(self, own: CascadeTask) -> str:
        for word, order in probes(own, self._texts):
            try:
                said = await self.children.run(order, PROBE_S)
            except (OSError, TimeoutError):
                return NO
            why = wrong(word, order, said)
            if why:
                return why
        return ""

    async def close(self) -> None:
        """End the child that waits."""
        await self.children.close()

    # --- an answer

    async def read(
        self, own: CascadeTask, body: dict[str, Any], events: Sequence[Answer], within_s: float | None = None
    ) -> Read:
        """Check an answer to a request.

        Args:
            own: how its task is answered. body: the request, in neutral form. events: the answer.
            within_s: what is left of the request's deadline; ``own.check_s`` holds besides.

        """
        text = text_of(events)
        if text is None or len(text) > MAX_ANSWER_CHARS:
            return NOTHING
        one = _Answer(self, own, body, text, _until(own, within_s))
        await one.check()
        sure = await _sure(own, text, events) if "margin" in own.check else None
        key = await one.key() if all(one.passed.values()) else ""
        return Read(key, one.passed, sure, tuple(one.verdicts))

    async def key(self, own: CascadeTask, body: dict[str, Any], events: Sequence[Answer]) -> str:
        """Return only what an answer is compared by: of a reference's, which nothing is checked of."""
        text = text_of(events)
        if text is None or len(text) > MAX_ANSWER_CHARS:
            return ""
        return await _Answer(self, own, body, text, _until(own, None)).key()

    def text_of_file(self, file: CheckFile | None) -> str:
        """Return what a check's file holds (raises ``KeyError`` where it was not read)."""
        return "" if file is None else self._texts[file.digest]


async def _sure(own: CascadeTask, text: str, events: Sequence[Answer]) -> Decimal | None:
    told = entries(events)
    if len(told) <= _FEW_TOKENS:
        return margin(text, told, own.margin_by)
    return await asyncio.to_thread(margin, text, told, own.margin_by)


def _until(own: CascadeTask, within_s: float | None) -> float:
    seconds = float(own.check_s) if within_s is None else min(float(own.check_s), max(0.0, within_s))
    return time.monotonic() + seconds


class _Answer:
    """One answer under its checks."""

    def __init__(
        self, checking: Checking, own: CascadeTask, body: dict[str, Any], text: str, until: float
    ) -> None:
        self._checking, self._own, self._body, self._text = checking, own, body, text
        self._until = until
        self._rows: str | None = None
        self.passed: dict[str, bool] = {}
        self.verdicts: list[tuple[str, str]] = []

    async def check(self) -> None:
        """Run what is configured, the cheapest first, up to the first failure."""
        mine = [one for one in self._own.check if kind(one) in PROGRAMS]
        for name in sorted(mine, key=lambda one: _CHEAPEST.index(kind(one))):
            verdict = await self._verdict(name)
            of = PROGRAMS[kind(name)]
            self.passed[of] = self.passed.get(of, True) and verdict == PASSED
            self.verdicts.append((name if kind(name) != "regex" else "regex", verdict))
            if verdict != PASSED:
                return

    async def _verdict(self, name: str) -> str:
        try:
            async with asyncio.timeout(self._left()):
                return PASSED if await self._passes(name) else FAILED
        except TimeoutError:
            return LATE
        except _NoSandbox:
            return NO
        except Exception as fault:  # noqa: BLE001 (a check that breaks has failed)
            LOG.error("check %s broke: %s", kind(name), type(fault).__name__)  # noqa: TRY400 (no content)
            return BROKE

    def _left(self) -> float:
        return max(0.0, self._until - time.monotonic())

    async def _passes(self, name: str) -> bool:
        match kind(name):
            case "arithmetic":
                found = await self._beside(arithmetic.checked, self._text)
                passed = not found.wrong and found.right > 0
            case "citation":
                cited = await self._beside(citations.checked, self._text, documents_of(self._body))
                passed = not cited.wrong
            case "compile":
                passed = await self._compiles(name.removeprefix(COMPILE))
            case "sql":
                passed = bool(await self._found())
            case "tests":
                passed = await self._tested()
            case _:
                passed = await self._beside(fits, name, self._body, self._text)
        return bool(passed)

    async def _tested(self) -> bool:
        code = await self._beside(code_of, self._text)
        if len(code.encode("utf-8", "replace")) > MAX_CODE_BYTES:
            return False
        tests = self._checking.text_of_file(self._own.tests)
        return await self._said(order_of("tests", code, tests=tests)) is not None

    async def _beside(self, what: Any, *arguments: Any) -> Any:
        """Call what reads text: at once where that is short, else in a thread."""
        size = len(self._text)
        if what is citations.checked:
            size += sum(map(len, arguments[1]))
        return what(*arguments) if size <= _SHORT_CHARS else await asyncio.to_thread(what, *arguments)

    async def _compiles(self, language: str) -> bool:
        schema = self._checking.text_of_file(self._own.schema) if language == "sql" else ""
        texts = await self._beside(written_in, language, self._text)
        for one in texts:
            if len(one.encode("utf-8", "replace")) > MAX_CODE_BYTES:
                return False
            if await self._said(order_of("compile", one, language=language, schema=schema)) is None:
                return False
        return bool(texts)

    async def _found(self) -> str:
        """Return the digest of the rows the answer's SQL finds, empty where it may not be run or fails."""
        if self._rows is None:
            own, self._rows = self._own, ""
            texts = await self._beside(written_in, "sql", self._text)
            schema, rows = self._checking.text_of_file(own.schema), []
            for one in texts:
                order = order_of("query", one, schema=schema, columns=own.columns, some=own.some_rows)
                said = await self._said(order)
                if said is None:
                    return ""
                rows.append(said)
            self._rows = " ".join(rows)
        return self._rows

    async def _said(self, order: Order) -> str | None:
        """Return what a child says besides that all is well, None where it is not."""
        said = await self._checking.children.run(order, self._left())
        if said.startswith(NO_SANDBOX):
            raise _NoSandbox
        word, _, rest = said.partition(" ")
        return rest if word == order.word else None

    async def key(self) -> str:
        """Return what the answer is compared by; empty where it says nothing by it."""
        name = key_of(self._own, self._body)
        if name == "tests":
            return _digest("tests")
        try:
            if name == "sql":
                async with asyncio.timeout(self._left()):
                    found = await self._found()
                return _digest(found) if found else ""
            return str(await self._beside(digest_of, name, self._text))
        except Exception as fault:  # noqa: BLE001 (what cannot be read says nothing)
            LOG.error("key %s broke: %s", kind(name), type(fault).__name__)  # noqa: TRY400 (no content)
            return ""


class _NoSandbox(Exception):
    pass


def _digest(said: str) -> str:
    return hashlib.sha256(said.encode()).hexdigest()


def documents_of(body: dict[str, Any]) -> list[str]:
    """Return the texts a request brings: all messages but the assistant's own."""
    out: list[str] = []
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else []:
        if not isinstance(message, dict) or message.get("role") == "assistant":
            continue
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        for part in parts:
            text = part.get("text") if isinstance(part, dict) else None
            if isinstance(text, str):
                out.append(text)
    return out
