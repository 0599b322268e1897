"""Walks the chains and says what does not fit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import asyncpg

from ..errors import ConfigurationError
from ..ports import NO_MARK, Mark, Witnessed
from .chain import LoginRow, Row, hash_of, login_row, mark_of

_SHOWN = 10  # problems of one chain that are worth reading
_ROWS = f"""
SELECT {", ".join(f"e.{name}" for name in Row._fields)}, {", ".join(f"l.{name}" for name in LoginRow._fields)}
FROM gateway.session_events e LEFT JOIN gateway.login_events l USING (partition, recorded_at, number)
WHERE e.partition = $1 ORDER BY e.seq, e.recorded_at
"""  # noqa: S608, E501
_PARTITIONS = """
SELECT partition FROM gateway.chains UNION SELECT partition FROM gateway.session_events
UNION SELECT partition FROM gateway.login_events ORDER BY 1
"""
_SURPLUS = """
SELECT count(*) FROM gateway.login_events l WHERE partition = $1 AND NOT EXISTS (
    SELECT FROM gateway.session_events e WHERE e.type = 'session.created'
    AND (e.partition, e.recorded_at, e.number) = (l.partition, l.recorded_at, l.number))
"""


@dataclass(slots=True)
class Verdict:
    """What was found of one partition's chain. No problems: every row is as it was written."""

    partition: str
    rows: int = 0
    head: Mark = NO_MARK
    problems: list[str] = field(default_factory=list)

    def add(self, problem: str) -> None:
        if len(self.problems) < _SHOWN:
            self.problems.append(problem)


async def verify(
    dsn: str, timeout_s: float, remembered: Mapping[str, Witnessed]
) -> AsyncIterator[Verdict]:
    """Yield a verdict for each partition that has or should have a chain.

    `remembered` must have been read before: what Redis saw, the chains must hold. Raises
    ConfigurationError when Postgres cannot be read.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=timeout_s)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                found = {row[0] for row in await connection.fetch(_PARTITIONS)}
                seen = {name for name, each in remembered.items() if each != Witnessed()}
                for partition in sorted(found | seen):
                    witnessed = remembered.get(partition, Witnessed())
                    yield await _verify_one(connection, partition, witnessed)
        finally:
            await connection.close(timeout=timeout_s)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise ConfigurationError(f"Postgres: {error or type(error).__name__}") from None


async def _verify_one(
    connection: asyncpg.Connection, partition: str, witnessed: Witnessed
) -> Verdict:
    verdict = Verdict(partition)
    start, head = await _ends(connection, partition, verdict)
    seen = {mark.length: mark for mark in (witnessed.start, witnessed.head) if mark.length}
    last = start
    async for record in connection.cursor(_ROWS, partition):
        row = Row(*record[: len(Row._fields)])
        _judge(row, LoginRow(*record[len(Row._fields) :]), last, verdict)
        last = mark_of(row)
        verdict.rows += 1
        if row.seq in seen and seen[row.seq] != last:
            verdict.add(f"row {row.seq} is not the one that Redis saw")
    verdict.head = last
    if last != head:
        verdict.add(f"the chain ends at {last.length}, but its head is {head.length}")
    _compare_ends(start, last, witnessed, verdict)
    surplus = await connection.fetchval(_SURPLUS, partition)
    if surplus:
        verdict.add(f"login_events has {surplus} rows that belong to no sign-in")
    return verdict


async def _ends(
    connection: asyncpg.Connection, partition: str, verdict: Verdict
) -> tuple[Mark, Mark]:
    found = await connection.fetchrow(
        "SELECT start, start_hash, length, hash FROM gateway.chains WHERE partition = $1",
        partition,
    )
    if found is None:
        verdict.add("its row in gateway.chains is missing")
        return NO_MARK, NO_MARK
    return Mark(found[0], found[1].hex()), Mark(found[2], found[3].hex())


def _judge(row: Row, sign_in: LoginRow, last: Mark, verdict: Verdict) -> None:
    try:
        _compare_row(row, sign_in, last, verdict)
    except (ValueError, TypeError, AttributeError) as error:
        verdict.add(f"row {row.seq} holds what no event does ({type(error).__name__})")


def _compare_row(row: Row, sign_in: LoginRow, last: Mark, verdict: Verdict) -> None:
    if row.seq != last.length + 1:
        verdict.add(f"behind row {last.length} comes row {row.seq}")
    elif row.hash != hash_of(bytes.fromhex(last.hash), row):
        verdict.add(f"row {row.seq} ({row.type}, {row.recorded_at:%Y-%m-%d %H:%M}) was changed")
    expected = login_row(row)
    if expected is not None and sign_in != expected:
        verdict.add(f"the sign-in of row {row.seq} is missing from login_events or was changed")


def _compare_ends(start: Mark, last: Mark, witnessed: Witnessed, verdict: Verdict) -> None:
    """Compare with what Redis remembers; it may be behind by what was just written."""
    if witnessed.head.length > last.length:
        verdict.add(f"Redis saw {witnessed.head.length} rows, there are {last.length}")
    if witnessed.contradicted is not None:
        verdict.add(f"rows up to {witnessed.contradicted.length} were lost once: see history_lost")
    if witnessed == Witnessed():
        return
    if start.length > witnessed.start.length:
        verdict.add(f"it begins behind row {start.length}, but Redis saw no removal of these rows")
    if start.length == witnessed.start.length and start != witnessed.start:
        verdict.add("where it begins is not what Redis saw")
