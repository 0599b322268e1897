"""One Valkey for a worker, one key prefix for a test."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.embedded import EmbeddedValkey
from tests import servers

from . import harness

_PREFIXES = itertools.count(1)


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(port=servers.free_port()) as server:
        yield server


@pytest.fixture
def prefix() -> str:
    """Return a key prefix that no other test uses."""
    return f"t{next(_PREFIXES)}:"


@pytest.fixture
async def admin(valkey: EmbeddedValkey, prefix: str) -> AsyncIterator[harness.Admin]:
    """A gateway with the defaults, but without a limit of sessions."""
    async with harness.running(harness.settings(prefix), valkey.url) as running:
        yield running
