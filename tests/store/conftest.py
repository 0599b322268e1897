"""The two servers that every case of the store runs on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.embedded import EmbeddedValkey
from gateway.store import MemoryOptions
from tests import servers

from .world import World, fake_world, real_world


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedValkey]:
    """A real server for all tests of one worker; each empties it before it begins."""
    with EmbeddedValkey(port=servers.free_port()) as server:
        yield server


@pytest.fixture(params=["fakeredis", "valkey", "near cache"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A store: over the fake, over the real server, and over that with a memory."""
    if request.param == "fakeredis":
        async with fake_world() as built:
            yield built
    else:
        memory = MemoryOptions() if request.param == "near cache" else None
        async with real_world(request.getfixturevalue("valkey").url, memory=memory) as built:
            yield built


@pytest.fixture
async def real(valkey: EmbeddedValkey) -> AsyncIterator[World]:
    """A store over the real server."""
    async with real_world(valkey.url) as built:
        yield built
