"""The connections to Postgres, and the one place where its faults become SinkUnavailable."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from ..errors import SinkUnavailable
from .migrate import LATEST

Connection = Any  # asyncpg has no types of its own
_CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """How to reach Postgres, in plain values."""

    dsn: str = field(repr=False)  # it may hold a password
    connections: int
    connect_timeout_s: float
    command_timeout_s: float


class Database:
    """A pool that connects when it is first used, so that Postgres may be away at the start."""

    def __init__(self, options: DatabaseOptions) -> None:
        self._options = options
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        logging.getLogger("asyncpg").setLevel(logging.ERROR)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection to a database with our schema. Raises SinkUnavailable.

        Whatever goes wrong on the way to it is no event's fault, a wrong address for one.
        """
        try:
            pool = await self._opened()
            lent = await pool.acquire(timeout=self._options.connect_timeout_s)
        except SinkUnavailable:
            raise
        except Exception as error:
            raise SinkUnavailable("connection", str(error) or type(error).__name__) from error
        try:
            with as_unavailable():
                yield lent
        except BaseException:
            lent.terminate()  # to make it fit for use would wait for whatever hangs once more
            raise
        finally:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await pool.release(lent)

    async def close(self) -> None:
        if self._pool is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def _opened(self) -> asyncpg.Pool:
        async with self._opening:
            if self._pool is None:
                options = self._options
                self._pool = await asyncpg.create_pool(
                    options.dsn,
                    min_size=0,
                    max_size=options.connections,
                    timeout=options.connect_timeout_s,
                    command_timeout=options.command_timeout_s,
                    server_settings={"application_name": "session-gateway"},
                    init=_require_schema,
                )
            return self._pool


async def _require_schema(connection: asyncpg.Connection) -> None:
    try:
        found = await connection.fetchval("SELECT max(number) FROM gateway.migrations")
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        found = None
    if (found or 0) < LATEST:
        raise SinkUnavailable("schema", "run `gateway database migrate`")


@contextmanager
def as_unavailable() -> Iterator[None]:
    """Let faults of one event's values through; every other fault is Postgres' and may pass.

    Class 22 of SQLSTATE is "data exception": a text that Postgres cannot hold, for one; class 54 is
    "program limit exceeded": a value too long for an index. All else (gone, full, read-only, no
    right, no table) would meet any event.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "").startswith(("22", "54")):
            raise
        raise SinkUnavailable(error.sqlstate or "postgres", str(error)) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        if isinstance(error, ValueError):  # asyncpg itself could not encode a value
            raise
        raise SinkUnavailable("connection", str(error) or type(error).__name__) from error
