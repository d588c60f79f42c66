"""Models and a trap for tests of promises, a home that estimates; other modules have their own of these."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from operators import Region
from world import Inside, Trap, World

from gateway import guessing
from gateway.promised import Minds


@pytest.fixture
def minds() -> Minds:
    return Minds()


@pytest.fixture
def region(minds: Minds) -> Iterator[Region]:
    with Region(minds.route) as one:
        yield one


@pytest.fixture
def trap() -> Iterator[Trap]:
    with Trap() as one:
        yield one


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose estimator was fitted once; tests that change it take a copy."""
    world = guessing.home(tmp_path_factory.mktemp("learned"))
    guessing.taught(world, guessing.cases(80))
    with Inside(world) as inside:
        guessing.fitted(inside)
    return world.root


@pytest.fixture
def estimating(learned: Path, tmp_path: Path) -> World:
    """A copy of the home whose estimator was fitted."""
    shutil.copytree(learned, tmp_path / "home")
    one = World(tmp_path / "home", (learned / "allod.toml").read_text())
    one.key("ward")
    return one
