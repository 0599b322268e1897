"""Writes events to Postgres: each once, at the end of its partition's chain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import NamedTuple

import structlog

from ..errors import SinkUnavailable
from ..model import Event, EventId
from ..ports import NO_MARK, Mark, Witness, Witnessed
from .chain import LoginRow, Row, login_row, mark_of, ms_of, rows_after, storable, time_of
from .database import Connection, Database

_CHAIN = """
SELECT start, start_hash, length, hash FROM gateway.chains WHERE partition = $1 FOR UPDATE
"""
_NEWEST = """
SELECT recorded_at FROM gateway.session_events
WHERE partition = $1 ORDER BY recorded_at DESC LIMIT 1
"""
_STORED = """
SELECT recorded_at, number, type, session_id, at FROM gateway.session_events
WHERE partition = $1 AND recorded_at = ANY($2)
"""
_DAY_MS = 86_400_000
_Facts = tuple[str, str, int]  # type, session, time
_NEXT_LIFE = 2**40  # more numbers than Redis gives out in a millisecond

log = structlog.get_logger("gateway.audit")


class _Written(NamedTuple):
    """Where a chain begins and ends now; what it should have held, and its length before."""

    start: Mark
    head: Mark
    lost: Mark | None
    length: int


class PostgresSink:
    """See `ports.Sink`. What is committed twice is there once: the chain's row is the lock."""

    name = "postgres"

    def __init__(self, database: Database, witness: Witness) -> None:
        self._database = database
        self._witness = witness
        self._months: set[date] = set()

    async def take(self, partition: str, events: Sequence[Event]) -> int:
        # Before the chain is read: what was seen of it by now, it must hold.
        witnessed = await self._witness.seen(partition)
        try:
            async with self._database.connection() as connection:
                await self._ensure_months(connection, events)
                written = await _write(connection, partition, events, witnessed)
        except SinkUnavailable:
            self._months.clear()  # one may have been removed meanwhile
            raise
        await self._testify(partition, written, witnessed)
        return len(events)

    async def _testify(self, partition: str, written: _Written, witnessed: Witnessed) -> None:
        """Have the witness remember what the chain is now."""
        start, head, lost, length = written
        if lost is not None:
            log.error("history_lost", partition=partition, had=str(lost), has=length,
                      what="rows that Postgres had acknowledged are gone")  # fmt: skip
            await self._witness.saw_contradiction(partition, lost)
        if witnessed == Witnessed() and start != NO_MARK:  # Redis has lost its memory
            await self._witness.saw_start(partition, start)
        await self._witness.saw_head(partition, head)

    async def _ensure_months(self, connection: Connection, events: Sequence[Event]) -> None:
        days = {event.id.ms // _DAY_MS for event in events}
        months = {time_of(day * _DAY_MS).date().replace(day=1) for day in days}
        for month in sorted(months - self._months):
            await connection.execute("SELECT gateway.ensure_month($1)", month)
            self._months.add(month)


async def _write(
    connection: Connection, partition: str, events: Sequence[Event], witnessed: Witnessed
) -> _Written:
    """Append what is new to the chain, in one transaction."""
    events = [storable(event) for event in events]
    async with connection.transaction():
        start, head = await _lock(connection, partition)
        lost = await _contradicted(connection, partition, head, witnessed)
        rows = rows_after(head, await _not_stored(connection, partition, events))
        await _append(connection, partition, rows)
    return _Written(start, mark_of(rows[-1]) if rows else head, lost, head.length)


async def _lock(connection: Connection, partition: str) -> tuple[Mark, Mark]:
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
    """Return those that are new; mostly all are younger than what is there."""
    newest = await connection.fetchval(_NEWEST, partition)
    stored: dict[tuple[int, int], _Facts] = {}
    if newest is not None and ms_of(newest) >= min(event.id.ms for event in events):
        times = {time_of(event.id.ms) for event in events}
        for row in await connection.fetch(_STORED, partition, times):
            recorded_at, number, kind, session, at = row
            stored[ms_of(recorded_at), number] = (kind, session, ms_of(at))
    return list(_without(stored, events))


def _without(stored: dict[tuple[int, int], _Facts], events: Sequence[Event]) -> Iterator[Event]:
    """Yield what is not stored. Another event may have had the id of one of them.

    That is so when Redis has lost its memory, or failed over, and its clock was put back.
    """
    for event in events:
        ms, number, partition = event.id
        facts = (event.type, event.session, event.at_ms)
        while stored.get((ms, number), facts) != facts:
            number += _NEXT_LIFE
        if (ms, number) not in stored:
            stored[ms, number] = facts
            same = number == event.id.number
            yield event if same else event._replace(id=EventId(ms, number, partition))


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
