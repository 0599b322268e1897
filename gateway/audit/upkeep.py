"""Makes next month's tables in time, and removes those that are kept no longer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from ..errors import SinkUnavailable, StoreUnavailable
from ..ports import NO_MARK, Mark, Witness, Witnessed
from .database import Connection, Database

_EVERY_S = 3600.0
_RETRY_S = 60.0
_AHEAD = 2  # months
_DROP_S = 600.0  # every row is looked at
_DROP = "SELECT dropped, waiting FROM gateway.drop_old_months($1)"

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
            await self._drop_old_months(connection)

    async def _drop_old_months(self, connection: Connection) -> None:
        """Remove months that are old enough. Redis hears of it first, lest it accuse us."""
        before = datetime.now(UTC) - timedelta(seconds=self._retention_s)
        # With snapshots of its own for each statement: what is locked then must be what was read.
        async with connection.transaction(isolation="read_committed"):
            old = await _starts(connection)
            dropped, waiting = await connection.fetchrow(_DROP, before, timeout=_DROP_S)
            new = await _starts(connection)
            moved = {each: start for each, start in new.items() if start != old.get(each)}
            for partition in moved:
                await self._require_witnessed(partition, old.get(partition, NO_MARK))
            for partition, start in moved.items():
                await self._witness.saw_start(partition, start)
        if dropped:
            log.info("months_removed", months=dropped)
        if waiting:
            log.warning("months_wait", months=waiting, why="a late event is in them, or rows are "
                        "missing: see `gateway audit verify`")  # fmt: skip

    async def _require_witnessed(self, partition: str, start: Mark) -> None:
        """Refuse to hide for ever that rows were removed which Redis saw nobody remove."""
        witnessed = await self._witness.seen(partition)
        if witnessed == Witnessed() or start.length < witnessed.start.length:
            return  # it has lost its memory, or we died after it heard of a removal
        if start != witnessed.start:
            raise SinkUnavailable("start", f"{partition}: see `gateway audit verify`")


async def _starts(connection: Connection) -> dict[str, Mark]:
    found = await connection.fetch("SELECT partition, start, start_hash FROM gateway.chains")
    return {partition: Mark(length, digest.hex()) for partition, length, digest in found}
