"""Events read from the outbox itself, where nothing else keeps them."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import islice
from typing import Any

from redis.asyncio import Redis

from ..credentials import partition_of_user
from ..model import Event, EventId
from ..ports import EventQuery
from . import events
from .faults import as_unavailable
from .keys import Keys

_CHUNK = 200


class OutboxLog:
    """See `ports.EventLog`. What the bounded outbox has dropped is not found."""

    def __init__(
        self, client: Redis, *, prefix: str, partitions: int, count_error: Callable[[str], None]
    ) -> None:
        self._client = client
        self._keys = Keys(prefix)
        self._partitions = partitions
        self._count_error = count_error

    async def page(self, query: EventQuery) -> tuple[Event, ...]:
        found = [await self._newest(partition, query) for partition in self._asked(query)]
        newest_first = heapq.merge(*found, key=lambda event: event.id, reverse=True)
        return tuple(islice(newest_first, query.limit))

    def _asked(self, query: EventQuery) -> list[str]:
        """Return the partitions in which such events can be."""
        every = [f"{number:02x}" for number in range(self._partitions)]
        wanted = {query.session[:2]} if query.session else set(every)
        if query.user:
            wanted &= {partition_of_user(query.user, self._partitions)}
        return [each for each in every if each in wanted]

    async def _newest(self, partition: str, query: EventQuery) -> list[Event]:
        """Return up to `limit` of the partition's events that are asked for, newest first."""
        found: list[Event] = []
        last, first = _last(partition, query), str(query.from_ms or 0)
        while len(found) < query.limit:
            with as_unavailable(self._count_error):
                entries: Any = await self._client.xrevrange(
                    self._keys.outbox(partition), last, first, _CHUNK
                )
                read = (_event(partition, *entry) for entry in entries)
                found += [event for event in read if event and _matches(event, query)]
            if len(entries) < _CHUNK:
                break
            last = f"({entries[-1][0].decode()}"
        return found[: query.limit]


def _last(partition: str, query: EventQuery) -> str:
    """Return where to begin, as XREVRANGE takes it."""
    ends = [] if query.before is None else [query.before]
    if query.to_ms is not None:
        ends.append(EventId(query.to_ms, 0, ""))
    if not ends:
        return "+"
    end = min(ends)
    if partition < end.partition or end[:2] == (0, 0):  # before 0-0 Redis knows nothing
        return end.stream_id
    return f"({end.stream_id}"


def _event(partition: str, stream_id: bytes, fields: dict[bytes, bytes]) -> Event | None:
    """Return the event, but not what is none, nor what was put back for one sink: a repeat."""
    flat = [text for pair in fields.items() for text in pair]
    try:
        event, only = events.parse(partition, stream_id, flat)
    except ValueError:
        return None
    return None if only else event


def _matches(event: Event, query: EventQuery) -> bool:
    wanted = ((query.user, event.user), (query.session, event.session), (query.type, event.type))
    return all(not one or one == other for one, other in wanted)
