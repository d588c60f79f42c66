"""I6 of the whole product: at start, at first answer, over every documented command, and at stop.

Two accounts that do not know each other: our tracer with the connector as the only wall, so that whatever
would be tried is seen; and strace with every wall up. Both in a network of nothing but loopback, where the
kernel counts ways that do not exist.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from tracing import STRACE, by_notice, by_strace

from allod.gateway.addresses import Addresses
from allod.gateway.cli import program
from allod.walls import namespace
from allod.walls.attempts import REACHES_OUT, meaning
from allod.walls.tracer import Watched

EXERCISE = Path(__file__).parent / "exercise.py"
NOT_RUN: dict[str, str] = {}
"""Documented commands that the exercise does not run, each with its reason."""
pytestmark = pytest.mark.timeout(300)
SLOW = os.environ.get("ALLOD_SLOW") == "1"


class Lived:
    """One life of the product under a watch."""

    def __init__(self, folder: Path, how: str, *, brief: bool = False) -> None:
        self.lines: list[dict[str, Any]] = []
        place = folder / how
        place.mkdir()
        argv = [sys.executable, str(EXERCISE), str(place), how, *(["brief"] if brief else [])]
        with (folder / f"{how}.errors").open("w+b") as errors:
            if how == "bare":
                self.seen: Watched = by_notice(argv, self._heard, errors.fileno())
            else:
                self.seen = by_strace(argv, folder / "trace", self._heard, errors.fileno())
            errors.seek(0)
            self.errors = errors.read().decode("utf-8", "replace")
        self.said = (place / ".errors").read_text() if (place / ".errors").exists() else ""

    def _heard(self, line: bytes) -> None:
        self.lines.append(json.loads(line))

    @property
    def commands(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "status" in line and "command" in line]

    def reached_out(self) -> list[str]:
        ports = {line["port"] for line in self.lines if "port" in line}
        assert ports, self.lines
        named = Addresses(True).names
        return [
            f"{meaning(one, named, ports)}: {one.call} {one.where} by {one.program}"
            for one in self.seen.attempts
            if meaning(one, named, ports) in REACHES_OUT
        ]

    def went_well(self) -> None:
        failed = [line["failed"] for line in self.lines if "failed" in line]
        assert not failed, failed
        assert self.seen.status == 0, (self.seen.status, self.errors[-3000:], self.lines[-3:])


def leaves(command: click.Command, path: tuple[str, ...], parent: click.Context) -> list[tuple[str, ...]]:
    """Return the path of every command below this one."""
    if not isinstance(command, click.Group):
        return [path]
    out = []
    for name in command.list_commands(parent):
        below = command.get_command(parent, name)
        assert below is not None
        out += leaves(below, (*path, name), click.Context(below, parent=parent, info_name=name))
    return out


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    lived = Lived(tmp_path_factory.mktemp("gap"), "bare")
    if lived.seen.trace:
        pytest.skip(f"no tracer here: {lived.seen.trace}")
    return lived


@pytest.fixture(scope="module")
def walled(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    if STRACE is None:
        pytest.skip("no strace on this machine; our own tracer's account stands alone")
    if why := namespace.possible():
        pytest.skip(f"no network of its own here: {why}")
    lived = Lived(tmp_path_factory.mktemp("gap"), "walls", brief=not SLOW)
    if not lived.lines and lived.seen.status:
        pytest.skip(f"strace may not trace here: {lived.errors[:200]}")
    return lived


def test_the_exercise_lives_to_its_end(bare: Lived) -> None:
    bare.went_well()
    assert not bare.seen.lost


def test_I6_nothing_reaches_out_at_start_at_answers_over_every_command_and_at_stop(bare: Lived) -> None:
    assert not bare.reached_out()
    kinds = {(one.call, one.family) for one in bare.seen.attempts}
    assert ("connect", 2) in kinds, "not even loopback was seen: the tracer is blind"
    assert any(one.path.endswith("s.sock") for one in bare.seen.attempts), "the embedded engine was not seen"


def test_I6_the_kernel_counted_no_way_out(bare: Lived) -> None:
    if bare.seen.namespace:
        pytest.skip(f"no network of its own here: {bare.seen.namespace}")
    assert bare.seen.count is not None
    assert bare.seen.count.all == 0


def test_every_documented_command_is_run_or_named_with_its_reason(bare: Lived) -> None:
    ran = [tuple(line["command"]) for line in bare.commands]
    documented = leaves(program, (), click.Context(program))
    left = [path for path in documented if not any(words[: len(path)] == path for words in ran)]
    unnamed = [" ".join(path) for path in left if " ".join(path) not in NOT_RUN]
    assert not unnamed, f"add these to exercise.py, or to NOT_RUN with a reason: {unnamed}"
    for name, reason in NOT_RUN.items():
        assert tuple(name.split()) in left, f"{name} is run, or is no command any more"
        sys.stdout.write(f"not run: allod {name}: {reason}\n")


def test_I6_strace_sees_nothing_reach_out_with_every_wall_up(walled: Lived) -> None:
    walled.went_well()
    assert not walled.reached_out()
    assert any(one.host == "127.0.0.1" for one in walled.seen.attempts)
    assert walled.seen.count is not None
    assert walled.seen.count.all == 0


def test_I6_no_wall_had_anything_to_refuse(walled: Lived) -> None:
    assert "air gap: refused" not in walled.said + walled.errors
