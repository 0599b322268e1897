"""One Valkey and one Postgres for a worker; a prefix and a migrated database for a test."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from gateway.audit.migrate import migrate
from gateway.embedded import EmbeddedValkey
from tests import servers
from tests.postgres import Postgres

from . import harness

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(port=servers.free_port()) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server whose database `template1` is migrated: every new one is a copy of it."""
    with Postgres() as server:
        asyncio.run(migrate(server.dsn_of("postgres", "template1"), 5))
        yield server


@pytest.fixture
async def dsn(postgres: Postgres) -> str:
    name = f"t{next(_NUMBERS)}"
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return postgres.dsn_of("postgres", name)


@pytest.fixture
async def redis(valkey: EmbeddedValkey) -> AsyncIterator[harness.Redis]:
    async with harness.redis_at(valkey.url, f"t{next(_NUMBERS)}:") as redis:
        yield redis


@pytest.fixture
async def history(dsn: str) -> AsyncIterator[harness.History]:
    async with harness.history_at(dsn) as history:
        yield history
