from __future__ import annotations

import pytest
from policy_worlds import base_files, hospital

from allod.policy import Pack, Policy, load_pack


@pytest.fixture(scope="session")
def base() -> Pack:
    return load_pack(base_files())


@pytest.fixture
def policy(base: Pack) -> Policy:
    return Policy((base,), hospital())
