"""Writes events to Postgres: each once, at the end of its partition's chain."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import structlog

from ..model import Event
from ..ports import NO_MARK, Mark, Witness, Witnessed
from .chain import LoginRow, Row, login_row, mark_of, ms_of, row_after, time_of
from .database import Connection, Database

_CHAIN = """
SELECT start, start_hash, length, hash FROM gateway.chains WHERE partition = $1 FOR UPDATE
"""
_STORED = """
SELECT recorded_at, number FROM gateway.session_events
WHERE partition = $1 AND recorded_at = ANY($2)
"""

log = structlog.get_logger("gateway.audit")


class PostgresSink:
    """See `ports.Sink`. What is committed twice is there once: the chain's row is the lock."""

    name = "postgres"

    def __init__(self, database: Database, witness: Witness) -> None:
        self._database = database
        self._witness = witness
        self._months: set[date] = set()

    async def take(self, partition: str, events: Sequence[Event]) -> None:
        # Before the chain is read: what was seen of it by now, it must hold.
        witnessed = await self._witness.seen(partition)
        async with self._database.connection() as connection:
            await self._ensure_months(connection, events)
            async with connection.transaction():
                start, head = await self._lock(connection, partition)
                lost = await _contradicted(connection, partition, head, witnessed)
                rows = _chained(head, await _not_stored(connection, partition, events))
                await _append(connection, partition, rows)
        if lost is not None:
            log.error("history_lost", partition=partition, had=str(lost), has=head.length,
                      what="rows that Postgres had acknowledged are gone")  # fmt: skip
            await self._witness.saw_contradiction(partition, lost)
        if witnessed == Witnessed() and start != NO_MARK:  # Redis has lost its memory
            await self._witness.saw_start(partition, start)
        await self._witness.saw_head(partition, mark_of(rows[-1]) if rows else head)

    async def _ensure_months(self, connection: Connection, events: Sequence[Event]) -> None:
        days = {time_of(event.id.ms).date().replace(day=1) for event in events}
        for day in sorted(days - self._months):
            await connection.execute("SELECT gateway.ensure_month($1)", day)
            self._months.add(day)

    async def _lock(self, connection: Connection, partition: str) -> tuple[Mark, Mark]:
        """Return start and head of the chain, which is ours until the transaction ends."""
        found = await connection.fetchrow(_CHAIN, partition)
        if found is None:
            await connection.execute(
                "INSERT INTO gateway.chains (partition) VALUES ($1) ON CONFLICT DO NOTHING",
                partition,
            )
            found = await connection.fetchrow(_CHAIN, partition)
        return Mark(found[0], found[1].hex()), Mark(found[2], found[3].hex())


async def _contradicted(
    connection: Connection, partition: str, head: Mark, witnessed: Witnessed
) -> Mark | None:
    """Return the head that was seen and is not in the chain any more."""
    seen = witnessed.head
    if seen.length == 0 or seen == head:
        return None
    found = await connection.fetchval(
        "SELECT hash FROM gateway.session_events WHERE partition = $1 AND seq = $2",
        partition, seen.length,
    )  # fmt: skip
    return None if found is not None and found.hex() == seen.hash else seen


async def _not_stored(
    connection: Connection, partition: str, events: Sequence[Event]
) -> list[Event]:
    times = {time_of(event.id.ms) for event in events}
    stored = {
        (ms_of(row["recorded_at"]), row["number"])
        for row in await connection.fetch(_STORED, partition, times)
    }
    return [event for event in events if event.id[:2] not in stored]


def _chained(head: Mark, events: Sequence[Event]) -> list[Row]:
    rows: list[Row] = []
    for event in events:
        rows.append(row_after(head, event))
        head = mark_of(rows[-1])
    return rows


async def _append(connection: Connection, partition: str, rows: Sequence[Row]) -> None:
    if not rows:
        return
    await connection.copy_records_to_table(
        "session_events", schema_name="gateway", columns=Row._fields, records=rows
    )
    sign_ins = [sign_in for row in rows if (sign_in := login_row(row)) is not None]
    if sign_ins:
        await connection.copy_records_to_table(
            "login_events", schema_name="gateway", columns=LoginRow._fields, records=sign_ins
        )
    await connection.execute(
        "UPDATE gateway.chains SET length = $2, hash = $3 WHERE partition = $1",
        partition, rows[-1].seq, rows[-1].hash,
    )  # fmt: skip
