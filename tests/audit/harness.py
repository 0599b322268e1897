"""The outbox in a real Valkey, a history in a real Postgres, and what carries between them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson

from gateway.audit import Database, DatabaseOptions, PostgresLog, PostgresSink
from gateway.audit.verify import Verdict, verify
from gateway.credentials import partition_of_user
from gateway.errors import SinkUnavailable
from gateway.model import Event
from gateway.ports import Batch, Sink
from gateway.relay import Relay
from gateway.store import OutboxLog, RedisOutbox, connect
from gateway.store.redis_store import ignore
from tests.store.world import patient

PARTITIONS = 16
TAKEOVER_MS = 1000
PATIENCE_S = 20.0


class MemorySink:
    """Takes events into a list; can be away, and choke on an event."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.taken: list[Event] = []
        self.calls = 0
        self.away = False
        self.chokes_on = ""  # a user
        self.most = 1000  # events that it takes in one go

    async def take(self, partition: str, events: Sequence[Event]) -> int:
        self.calls += 1
        await asyncio.sleep(0)
        if self.away:
            raise SinkUnavailable("away")
        if self.chokes_on in {event.user for event in events}:
            raise RuntimeError("cannot be taken")
        self.taken += events[: self.most]
        return len(events[: self.most])

    def numbers(self, user: str) -> list[int]:
        return [number_of(event) for event in self.taken if event.user == user]


def number_of(event: Event) -> int:
    number = event.details["n"]
    assert isinstance(number, int)
    return number


@dataclass
class Redis:
    """One prefix of a server, with the events that were written below it."""

    client: Any
    prefix: str
    url: str
    limit: int = 10_000
    written: list[tuple[str, int]] = field(default_factory=list)

    async def write(
        self, users: Iterable[str], each: int = 1, kind: str = "session.created"
    ) -> None:
        """Append `each` events for each user, numbered from where the last ones ended."""
        pipeline = self.client.pipeline(transaction=False)
        for user in users:
            begin = sum(1 for known, _ in self.written if known == user)
            for number in range(begin, begin + each):
                pipeline.xadd(self.stream(user), fields_of(user, number, kind))
                self.written.append((user, number))
        await pipeline.execute()

    def stream(self, user: str) -> str:
        return f"{self.prefix}e:{{{partition_of_user(user, PARTITIONS)}}}"

    def outbox(self, *sinks: Sink, takeover_ms: int = TAKEOVER_MS, batch: int = 50) -> RedisOutbox:
        return RedisOutbox(
            self.client, prefix=self.prefix, partitions=PARTITIONS, limit=self.limit,
            takeover_ms=takeover_ms, count_error=ignore, sinks=[sink.name for sink in sinks],
            batch=batch,
        )  # fmt: skip

    def log(self) -> OutboxLog:
        return OutboxLog(self.client, prefix=self.prefix, partitions=PARTITIONS, count_error=ignore)

    async def dead_letters(self) -> list[dict[str, str]]:
        names = [f"{self.prefix}q:{{{number:02x}}}" for number in range(PARTITIONS)]
        return [
            {key.decode(): value.decode(errors="replace") for key, value in fields.items()}
            for name in names
            for _, fields in await self.client.xrange(name)
        ]


def events_of(batch: Batch) -> list[Event]:
    return [entry.event for entry in batch.entries]


def fields_of(user: str, number: int, kind: str = "session.created") -> dict[str, str]:
    """Return an event as the scripts write it."""
    partition = partition_of_user(user, PARTITIONS)
    data = {"n": number, "ip": "192.0.2.1", "email": f"{user}@example.com", "country": "DE",
            "device": {"id": "laptop", "name": "Firefox on Linux", "type": "desktop"}}  # fmt: skip
    return {
        "type": kind, "id": f"{partition}{random.randbytes(16).hex()}", "user": user,
        "at": "1772355600000", "by": "app", "reason": "", "request": "req-1",
        "data": orjson.dumps(data).decode(),
    }  # fmt: skip


@asynccontextmanager
async def redis_at(url: str, prefix: str, limit: int = 10_000) -> AsyncIterator[Redis]:
    client = patient(connect(url))
    try:
        yield Redis(client, prefix, url, limit)
    finally:
        await client.aclose()


@asynccontextmanager
async def relaying(outbox: RedisOutbox, *sinks: Sink) -> AsyncIterator[Relay]:
    """Run a relay until the end of the block; then it ends as at SIGTERM."""
    relay = Relay(outbox, sinks, outbox.partitions, outbox._takeover_ms)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def drained(outbox: RedisOutbox, within_s: float = PATIENCE_S) -> None:
    """Return when the outbox is empty."""
    async with asyncio.timeout(within_s):
        while (await outbox.survey()).length:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@dataclass
class History:
    """A migrated database of its own."""

    dsn: str
    database: Database

    def sink(self, outbox: RedisOutbox) -> PostgresSink:
        return PostgresSink(self.database, outbox)

    def log(self) -> PostgresLog:
        return PostgresLog(self.database)

    async def sql(self, text: str, *values: Any) -> list[Any]:
        """Do what somebody with all rights could do."""
        connection = await asyncpg.connect(self.dsn)
        try:
            found: list[Any] = await connection.fetch(text, *values)
            return found
        finally:
            await connection.close()

    async def rows(self) -> list[tuple[str, int]]:
        """Return user and number of every row, each partition in the order of its chain."""
        found = await self.sql(
            "SELECT user_id, (details->>'n')::int FROM gateway.session_events "
            "ORDER BY partition, seq"
        )
        return [(row[0], row[1]) for row in found]

    async def verdicts(self, outbox: RedisOutbox) -> dict[str, Verdict]:
        witnessed = {each: await outbox.seen(each) for each in outbox.partitions}
        return {each.partition: each async for each in verify(self.dsn, 5, witnessed)}

    async def problems(self, outbox: RedisOutbox) -> list[str]:
        found = await self.verdicts(outbox)
        return [problem for verdict in found.values() for problem in verdict.problems]


@asynccontextmanager
async def history_at(dsn: str) -> AsyncIterator[History]:
    database = Database(DatabaseOptions(dsn, 5, 3, 4))
    try:
        yield History(dsn, database)
    finally:
        await database.close()


def in_order(rows: Sequence[tuple[str, int]], written: Sequence[tuple[str, int]]) -> bool:
    """Tell whether the rows are exactly what was written, each user's in order."""

    def by_user(pairs: Sequence[tuple[str, int]]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for user, number in pairs:
            found.setdefault(user, []).append(number)
        return found

    return by_user(rows) == by_user(written)
