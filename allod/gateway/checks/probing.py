"""Which checks can be run here: whether there is a sandbox, and whether the files of a task are sound.

What cannot be run is not tried on every answer: the task is answered by the reference, and everybody is told.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, Literal

from allod.assurance.sandbox import MEMORY_BYTES, NO_SANDBOX, Order, run
from allod.gateway.promise.answers import kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allod.domain.fleet import CascadeTask, Fleet

_CPU_S: Final = 3
_TESTS_CPU_S: Final = 10
_MEMORY_BYTES: Final = 256 << 20
PROBE_S: Final = 10.0
NO: Final = "no-sandbox"
_SAID: Final = {
    NO: "there is no sandbox to compile, run or query answers in (Linux with seccomp)",
    "schema": "the schema its SQL is run over cannot be built by SQLite",
    "tests": "its unit tests are not Python",
}


def slow(own: CascadeTask) -> bool:
    """Say whether a cascade has a check that runs in a child."""
    return any(kind(one) in {"compile", "sql", "tests"} for one in own.check)


def order_of(
    which: Literal["tests", "compile", "query"],
    code: str,
    *,
    tests: str = "",
    language: str = "",
    schema: str = "",
    columns: tuple[str, ...] = (),
    some: bool = False,
) -> Order:
    """Return an order of a gateway: with a new word, and the limits of its kind."""
    large = which == "tests"
    return Order(
        kind=which, code=code, word=secrets.token_hex(16), cpu_s=_TESTS_CPU_S if large else _CPU_S,
        memory_bytes=MEMORY_BYTES if large else _MEMORY_BYTES, tests=tests, language=language, schema=schema,
        columns=columns, some=some,
    )  # fmt: skip


def probes(own: CascadeTask, texts: Mapping[str, str]) -> list[tuple[str, Order]]:
    """Return orders that show whether a task's checks can be run: a word for why not, and the order."""
    schema = "" if own.schema is None else texts.get(own.schema.digest, "no;")
    out = [(NO, order_of("compile", "1", language="json"))]
    if own.schema is not None:
        out.append(("schema", order_of("query", "SELECT 1", schema=schema)))
    if own.tests is not None:
        tests = texts.get(own.tests.digest, "(")
        out.append(("tests", order_of("compile", tests, language="python")))
    return out


def wrong(word: str, order: Order, said: str) -> str:
    """Return why a probe failed by what its child said; empty where it did not."""
    if said.startswith(order.word):
        return ""
    return NO if said.startswith(NO_SANDBOX) or not said else word


def unable(fleet: Fleet, texts: Mapping[str, str]) -> dict[str, str]:
    """Return one word for why, of each task that has a check which cannot be run here; it waits for that."""
    out: dict[str, str] = {}
    for name, task in fleet.tasks.items():
        if task.cascade is None or not slow(task.cascade):
            continue
        for word, order in probes(task.cascade, texts):
            try:
                why = wrong(word, order, run(order))
            except OSError:
                why = NO
            if why:
                out[name] = why
                break
    return out


def sentence(task: str, why: str) -> str:
    """Say it to a person."""
    return f"task {task} is answered by its reference alone: {_SAID[why]}"
