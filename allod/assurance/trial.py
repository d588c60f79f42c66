"""The inside of ``sandbox``: ``python -I -m allod.assurance.trial DESCRIPTOR``, the order on standard input.

Says one line on the descriptor: the word of the order when the tests were reached and passed, else what went
wrong, by type and line only, so that no file's content leaves in a message.
"""

from __future__ import annotations

import importlib
import os
import resource
import select
import sys
import traceback
from types import ModuleType
from typing import Final

import msgspec

from allod.assurance.sandbox import MAX_SAID_BYTES, NO_SANDBOX, Order
from allod.engines.llamacpp import sandbox

_CODE, _TESTS = "<code>", "<tests>"
_NAME: Final = "candidate"
_NOWHERE: Final = "/proc/self"
"""Where an engine would make its socket: a folder in which nothing can be made."""


def _line_of(error: BaseException, file: str) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return lines[-1] if lines else None


def _run(order: Order) -> str:
    """Run code and tests in one namespace and say how it went."""
    module = ModuleType(_NAME)
    sys.modules[_NAME] = module
    stage = _CODE
    try:
        exec(compile(order.code, _CODE, "exec"), module.__dict__)  # noqa: S102 (that is what the sandbox is for)
        stage = _TESTS
        exec(compile(order.tests, _TESTS, "exec"), module.__dict__)  # noqa: S102
    except BaseException as error:  # noqa: BLE001 (an exit is a failure too)
        where = _line_of(error, stage)
        place = "the code" if stage == _CODE else "the tests"
        return f"{type(error).__name__[:60]} in {place}" + (f", line {where}" if where else "")
    return order.word


def _compile(order: Order) -> str:
    """Say whether the code is of its language."""
    from allod.assurance.compiling import compiled  # noqa: PLC0415 (SQLite, expat)

    return compiled(order.language, order.code, order.schema) or order.word


def _query(order: Order) -> str:
    """Ask the code of the database; after the word comes the digest of all rows it found."""
    from allod.assurance.querying import Broken, opened, queried, statements  # noqa: PLC0415 (SQLite)

    try:
        found = statements(order.code)
        database = opened(order.schema)
        results = [queried(database, one) for one in found]
    except Broken as error:
        return error.why
    except (RecursionError, MemoryError):
        return "nested too deeply, or too large"
    last = results[-1]
    if order.columns and tuple(map(str.lower, last.columns)) != tuple(map(str.lower, order.columns)):
        return "other columns"
    if order.some and not last.count:
        return "no rows"
    return f"{order.word} {last.digest}"


_KINDS: Final = {"tests": _run, "compile": _compile, "query": _query}


def _close(order: Order, descriptor: int) -> str | None:
    """Give up everything that is not needed; returns why it could not be."""
    network_gone = sandbox.unshare_network()
    sandbox.die_with(os.getppid())
    if _unheard(descriptor):  # whoever asked was gone before: nobody would end this one
        os._exit(1)
    sandbox.limit(order.memory_bytes, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (order.cpu_s, order.cpu_s + 1))
    level, _ = sandbox.close_doors((), _NOWHERE, network_gone=network_gone)
    return f"{NO_SANDBOX}: the system gives no seccomp filter" if level == "none" else None


def _unheard(descriptor: int) -> bool:
    asked = select.poll()
    asked.register(descriptor, 0)
    return any(events & select.POLLERR for _, events in asked.poll(0))


def main(descriptor: int) -> None:
    """Read the order, close the doors, run, and say one line."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    said = _close(order, descriptor) or _KINDS[order.kind](order)
    os.write(descriptor, said.encode("utf-8", "replace")[:MAX_SAID_BYTES])
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[2:]:
        importlib.import_module("allod.assurance.compiling")
    main(int(sys.argv[1]))
