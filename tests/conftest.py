"""What all system tests share; ``slow`` tests run only when asked for."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Machines are shared and noisy: how long an example takes is not what a property is about.
# In CI the same examples are tried each time; elsewhere new ones.
settings.register_profile("allod", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("allod")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what takes minutes unless ``ALLOD_SLOW=1``, and say so."""
    if os.environ.get("ALLOD_SLOW") == "1":
        return
    skip = pytest.mark.skip(reason="slow: set ALLOD_SLOW=1, or see the make targets")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)
