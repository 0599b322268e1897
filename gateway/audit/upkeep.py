"""Makes next month's tables in time, and removes those that are kept no longer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from ..errors import SinkUnavailable, StoreUnavailable
from ..ports import Mark, Witness
from .database import Connection, Database

_EVERY_S = 3600.0
_RETRY_S = 60.0
_AHEAD = 2  # months

log = structlog.get_logger("gateway.audit")


class Upkeep:
    """Looks once an hour; any number of replicas may. `retention_s` 0 keeps everything."""

    def __init__(self, database: Database, witness: Witness, retention_s: float) -> None:
        self._database = database
        self._witness = witness
        self._retention_s = retention_s

    async def run(self) -> None:
        while True:
            try:
                await self.once()
            except (SinkUnavailable, StoreUnavailable) as error:
                log.warning("upkeep_failed", why=str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                await asyncio.sleep(_EVERY_S)

    async def once(self) -> None:
        async with self._database.connection() as connection:
            for months in range(_AHEAD + 1):
                await connection.execute(
                    "SELECT gateway.ensure_month((now() AT TIME ZONE 'UTC' + "
                    "make_interval(months => $1))::date)",
                    months,
                )
            if not self._retention_s:
                return
            before = datetime.now(UTC) - timedelta(seconds=self._retention_s)
            while await self._drop_oldest_month(connection, before):
                log.info("month_removed")

    async def _drop_oldest_month(self, connection: Connection, before: datetime) -> bool:
        """Remove a month if it is old enough. Redis hears of it first, lest it accuse us."""
        async with connection.transaction():
            starts = await connection.fetch("SELECT * FROM gateway.drop_oldest_month($1)", before)
            for partition, length, digest in starts:
                await self._witness.saw_start(partition, Mark(length, digest.hex()))
        return bool(starts)
