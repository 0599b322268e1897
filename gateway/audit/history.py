"""Events read from Postgres."""

from __future__ import annotations

from ..model import Event
from ..ports import EventQuery
from .chain import Row, time_of
from .database import Database


class PostgresLog:
    """See `ports.EventLog`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, query: EventQuery) -> tuple[Event, ...]:
        where, values = _conditions(query)
        sql = (
            f"SELECT {', '.join(Row._fields)} FROM gateway.session_events "  # noqa: S608
            f"WHERE {' AND '.join(where)} "
            f"ORDER BY recorded_at DESC, number DESC, partition DESC LIMIT {query.limit:d}"
        )
        async with self._database.connection() as connection:
            found = await connection.fetch(sql, *values)
        return tuple(Row(*row).event() for row in found)


def _conditions(query: EventQuery) -> tuple[list[str], list[object]]:
    """Return SQL with numbered places, and the values for these."""
    where: list[str] = ["true"]
    values: list[object] = []

    def add(text: str, *more: object) -> None:
        places = [f"${len(values) + each}" for each in range(1, len(more) + 1)]
        where.append(text.format(*places))
        values.extend(more)

    if query.user:
        add("user_id = {}", query.user)
    if query.session:
        add("session_id = {}", query.session)
    if query.type:
        add("type = {}", query.type)
    if query.from_ms is not None:
        add("recorded_at >= {}", time_of(query.from_ms))
    if query.to_ms is not None:
        add("recorded_at < {}", time_of(query.to_ms))
    if query.before is not None:
        ms, number, partition = query.before
        add("(recorded_at, number, partition) < ({}, {}, {})", time_of(ms), number, partition)
    return where, values
