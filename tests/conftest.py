"""What holds for every test."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Speed lives in benchmarks: a busy machine fails no property.
settings.register_profile("suite", settings(), deadline=None)
settings.load_profile("suite")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait for servers, for leases and for their ends."""
    known = getattr(os, "sched_getaffinity", None)
    return (len(known(0)) if known else os.cpu_count() or 1) + 1
