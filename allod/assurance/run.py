"""Asking every case of every deployment, checking the answers, and keeping each as soon as it is known.

Whoever asks is handed in (``Ask``), so that the same code runs against a gateway and in a test. A run that
was interrupted continues: what ``kept`` holds is not asked again, if it is of the same suite.
"""

from __future__ import annotations

import secrets
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from allod.assurance import judge
from allod.assurance.checkers import Verdict, check
from allod.assurance.evaluation import NO_TASK, Item
from allod.assurance.sandbox import unit_test

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from allod.assurance.cases import Case, Message, Suite

MAX_AT_ONCE: Final = 64


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came back for one question.

    ``refused`` says why law or limits kept it away, ``failed`` why it was not answered; else ``text`` is it.
    """

    text: str = ""
    refused: str | None = None
    failed: str | None = None
    receipt: str | None = None
    cost_usd: str = "0"
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    total_ms: int = 0
    simulated: bool = False


class Ask(Protocol):
    """Ask a deployment; may be called by several threads at once."""

    def __call__(self, deployment: str, case: Case, conversation: tuple[Message, ...], /) -> Reply:
        """Ask one conversation for a case, whose task and limits apply."""
        ...


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be asked of whom, and who judges."""

    suite: Suite
    deployments: tuple[str, ...]
    judge: str | None = None
    repeats: int = 1
    at_once: int = 4


def left(order: Order, kept: Iterable[Item]) -> list[tuple[Case, str, int]]:
    """Return what is not answered yet, case by case so that deployments are asked side by side.

    What a person judged comes first, and is for the judge alone.
    """
    done = {item.key for item in kept}
    return [one for one in _every(order) if (one[0].id, one[1], one[2]) not in done]


def _every(order: Order) -> list[tuple[Case, str, int]]:
    judges = () if order.judge is None else (order.judge,)
    cases = order.suite.cases
    labelled = [(case, name, 0) for case in cases if case.labelled for name in judges]
    return labelled + [
        (case, deployment, repeat)
        for repeat in range(order.repeats)
        for case in cases
        if not case.labelled
        for deployment in order.deployments
    ]


def run(order: Order, ask: Ask, kept: Iterable[Item], keep: Callable[[Item], None]) -> tuple[Item, ...]:
    """Ask what is left and return all items in the order of the suite; ``keep`` is told each new one.

    Raises:
        AllodError: a case is wrong, there is no sandbox for its tests, or ``ask`` raised: all that was asked
            before was kept.

    """
    known = {item.key: item for item in kept}
    for item in _asked(order, ask, left(order, known.values())):
        keep(item)
        known[item.key] = item
    place = {case.id: n for n, case in enumerate(order.suite.cases)}
    asked = {name: n for n, name in enumerate(order.deployments)}
    every = [(case.id, name, repeat) for case, name, repeat in _every(order)]
    every.sort(key=lambda one: (place[one[0]], asked.get(one[1], 0), one[2]))
    return tuple(known[key] for key in every)


def _asked(order: Order, ask: Ask, todo: list[tuple[Case, str, int]]) -> Iterator[Item]:
    """Yield items as they come; after a fault none is begun, and those under way are waited for."""
    at_once = max(1, min(order.at_once, MAX_AT_ONCE))
    ahead = iter(todo)
    fault: BaseException | None = None
    with ThreadPoolExecutor(at_once) as pool:
        flying: set[Future[Item]] = set()
        while True:
            while fault is None and len(flying) < at_once and (one := next(ahead, None)) is not None:
                flying.add(pool.submit(_one, order, ask, *one))
            if not flying:
                break
            done, flying = wait(flying, return_when=FIRST_COMPLETED)
            for future in done:
                broken = future.exception()
                if broken is None:
                    yield future.result()
                else:
                    fault = fault or broken
    if fault is not None:
        raise fault


def _one(order: Order, ask: Ask, case: Case, deployment: str, repeat: int) -> Item:
    if case.answer is not None:
        of_judge = Item(
            case=case.id, task=case.task or NO_TASK, deployment=deployment, status="failed", why="",
            label=case.right,
        )  # fmt: skip
        return _judged(order, ask, case, case.answer, of_judge)
    reply = ask(deployment, case, case.conversation)
    item = Item(
        case=case.id,
        task=case.task or NO_TASK,
        deployment=deployment,
        repeat=repeat,
        status="failed",
        why="",
        receipt=reply.receipt,
        cost_usd=reply.cost_usd,
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
        reasoning_tokens=reply.reasoning_tokens,
        total_ms=reply.total_ms,
        simulated=reply.simulated,
    )
    if reply.refused is not None:
        return msgspec.structs.replace(item, status="refused", why=reply.refused[:300])
    if reply.failed is not None:
        return msgspec.structs.replace(item, why=reply.failed[:300])
    if case.checker == "judge":
        return _judged(order, ask, case, reply.text, item)
    verdict = unit_test(case, reply.text) if case.checker == "unit_test" else check(case, reply.text)
    return _with(item, verdict)


def _with(item: Item, verdict: Verdict) -> Item:
    return msgspec.structs.replace(item, status="right" if verdict.ok else "wrong", why=verdict.why[:300])


def _judged(order: Order, ask: Ask, case: Case, answer: str, item: Item) -> Item:
    """Have the judge judge; a judgement that did not come leaves the case failed, never right."""
    asked = judge.question(case, answer, f"answer-{secrets.token_hex(8)}")
    if asked is None or order.judge is None:
        why = "no judge is named" if order.judge is None else "it cannot be shown to a judge safely"
        return msgspec.structs.replace(item, status="failed" if order.judge is None else "wrong", why=why)
    reply = ask(order.judge, case, judge.conversation(asked))
    receipt = reply.receipt if item.label is not None else item.receipt
    item = msgspec.structs.replace(item, judged=True, judge_usd=reply.cost_usd, receipt=receipt)
    verdict = None if reply.refused or reply.failed else judge.read(reply.text)
    if verdict is None:
        why = reply.refused or reply.failed or "the judge gave no verdict"
        return msgspec.structs.replace(item, status="failed", why=f"not judged: {why}"[:300])
    return _with(item, verdict)
