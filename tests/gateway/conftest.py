"""Models and a trap for tests of promises; other modules here have their own of these names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from operators import Region
from world import Trap

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
