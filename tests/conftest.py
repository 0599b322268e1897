"""What holds for every test."""

from __future__ import annotations

import gc
import os
import sys

import pytest
from hypothesis import settings

from tests import servers

# Speed lives in benchmarks: a busy machine fails no property.
settings.register_profile("suite", settings(), deadline=None)
settings.load_profile("suite")

servers.Program.forks = sys.platform == "linux"  # elsewhere libraries may not survive a fork
# No test trusts an authority of this machine; to read all of them costs each Python 0.1 s.
os.environ["SSL_CERT_FILE"] = os.environ["SSL_CERT_DIR"] = os.devnull


# Garbage is looked for rarely, and among what the tests make: never among what was collected.
gc.set_threshold(20_000, 20, 20)


def pytest_collection_finish() -> None:
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait for servers, for leases and for their ends."""
    known = getattr(os, "sched_getaffinity", None)
    return (len(known(0)) if known else os.cpu_count() or 1) + 1
