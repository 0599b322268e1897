"""Postgres has every event exactly once, in order, and says when it has not."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import asyncpg
import orjson
import pytest
from structlog.testing import capture_logs

from gateway import relay as relay_module
from gateway.audit import DatabaseOptions, PostgresSink, Upkeep
from gateway.audit import migrate as migrate_module
from gateway.audit.chain import time_of
from gateway.audit.migrate import Migration, migrate
from gateway.errors import ConfigurationError, SinkUnavailable
from gateway.ports import EventQuery, Mark, Witnessed
from gateway.store import RedisOutbox
from tests.postgres import Postgres, can_mount

from .harness import (
    History,
    Redis,
    drained,
    events_of,
    fields_of,
    history_at,
    in_order,
    relaying,
)

USERS = [f"user-{number}" for number in range(30)]
OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "history.md"


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with (
        patch.object(relay_module, "_POLL_S", 0.02),
        patch.object(relay_module, "_LONGEST_PAUSE_S", 0.2),
        patch.object(relay_module, "_RETRY_S", (0.01, 0.01, 0.01, 0.01)),
    ):
        yield


async def carried(redis: Redis, history: History) -> RedisOutbox:
    """Carry everything that was written into the history."""
    outbox, sink = sink_of(redis, history)
    async with relaying(outbox, sink):
        await drained(outbox)
    return outbox


def sink_of(redis: Redis, history: History) -> tuple[RedisOutbox, PostgresSink]:
    outbox = redis.outbox()
    outbox.sinks = (PostgresSink.name,)
    return outbox, history.sink(outbox)


# --- exactly once ----------------------------------------------------------------------------


async def test_every_event_is_one_row_in_order_and_every_sign_in_one_more(
    redis: Redis, history: History
) -> None:
    await redis.write(USERS, 5)
    await redis.write(USERS, 5, "session.ended")
    outbox = await carried(redis, history)
    assert in_order(await history.rows(), redis.written)
    logins = await history.sql("SELECT user_id, ip, device_name, email FROM gateway.login_events")
    assert len(logins) == 150
    assert {tuple(row)[1:3] for row in logins} == {("192.0.2.1", "Firefox on Linux")}
    verdicts = await history.verdicts(outbox)
    assert sum(verdict.rows for verdict in verdicts.values()) == 300
    assert not [problem for verdict in verdicts.values() for problem in verdict.problems]


async def test_events_given_again_and_by_several_at_once_are_one_row(
    redis: Redis, history: History
) -> None:
    """Whole batches, parts of them, several at the same time, in any order."""
    await redis.write(["ann"], 40)
    partition = redis.stream("ann")[-3:-1]
    outbox, sink = sink_of(redis, history)
    events = events_of(await outbox.take("postgres", partition))
    await sink.take(partition, events[:10])
    await asyncio.gather(*(sink.take(partition, events[5:30]) for _ in range(8)))
    await asyncio.gather(*(sink.take(partition, [each]) for each in reversed(events[:30])))
    await sink.take(partition, events)
    assert await history.rows() == redis.written
    assert await history.problems(outbox) == []


async def test_an_id_that_redis_gives_a_second_time_loses_no_event(
    redis: Redis, history: History
) -> None:
    """As after a failover to a replica that lacks the last events and whose clock is behind."""
    outbox, sink = sink_of(redis, history)
    await redis.write(["ann"], 3)
    partition = redis.stream("ann")[-3:-1]
    before = events_of(await outbox.take("postgres", partition))
    await sink.take(partition, before)
    other = [event._replace(session=f"{partition}{'0' * 32}") for event in before]
    for events in (other, other, before, other[:1]):
        await sink.take(partition, events)
    assert [number for _, number in await history.rows()] == [0, 1, 2, 0, 1, 2]
    assert await history.problems(outbox) == []
    page = await history.log().page(EventQuery(user="ann"))
    assert len({event.id for event in page}) == 6
    assert {event.session for event in page} == {event.session for event in [*before, *other]}


async def test_an_event_that_postgres_cannot_hold_is_a_dead_letter(
    redis: Redis, history: History
) -> None:
    await redis.write(["ann"], 3)
    await redis.client.xadd(redis.stream("ann"), fields_of("ann", 9) | {"at": str(10**17)})
    await redis.write(["ann"], 3)
    outbox = await carried(redis, history)
    assert await history.rows() == redis.written
    assert len(await redis.dead_letters()) == 1
    assert await history.problems(outbox) == []


async def test_no_text_keeps_a_sign_in_out_of_the_history(redis: Redis, history: History) -> None:
    """A NUL, which Postgres has in no text, is stored as U+FFFD, once, also if it comes again."""
    data = {"n": 0, "user_agent": "a\0\\\0b", "city": "\\u0000", "device": {"name\0": ["\0"]}}
    fields = fields_of("ann", 0) | {"reason": "\0x", "data": orjson.dumps(data).decode()}
    await redis.client.xadd(redis.stream("ann"), fields)
    outbox, sink = sink_of(redis, history)
    partition = redis.stream("ann")[-3:-1]
    await sink.take(partition, events_of(await outbox.take("postgres", partition)))
    outbox = await carried(redis, history)
    assert await redis.dead_letters() == []
    assert [tuple(row) for row in await history.sql(
        "SELECT reason, details->>'user_agent', details->'device'->'name\ufffd'->>0, l.user_agent, "
        "l.city FROM gateway.session_events JOIN gateway.login_events l USING (session_id)"
    )] == [("\ufffdx", "a\ufffd\\\ufffdb", "\ufffd", "a\ufffd\\\ufffdb", "\\u0000")]  # fmt: skip
    assert await history.problems(outbox) == []


# --- while it is away ------------------------------------------------------------------------


async def test_inserts_that_fail_for_want_of_space_lose_nothing(
    redis: Redis, history: History
) -> None:
    """No event is to blame for a full disk: all wait, and all come."""
    await history.sql(
        "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$"
    )
    await history.sql(
        "CREATE TRIGGER no_space BEFORE INSERT ON gateway.session_events "
        "FOR EACH ROW EXECUTE FUNCTION no_space()"
    )
    await redis.write(USERS, 5)
    outbox, sink = sink_of(redis, history)
    async with relaying(outbox, sink) as relay:
        async with asyncio.timeout(10):
            while relay.failures["postgres"] < 20:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert await history.rows() == []
        await history.sql("DROP FUNCTION no_space CASCADE")
        await drained(outbox)
    assert in_order(await history.rows(), redis.written)
    assert await redis.dead_letters() == []


FILL = """
DO $$ DECLARE rows int := 16384; BEGIN
    WHILE rows > 0 LOOP
        BEGIN
            INSERT INTO filler SELECT repeat('x', 500) FROM generate_series(1, rows);
        EXCEPTION WHEN disk_full THEN rows := rows / 2;
        END;
    END LOOP;
END $$
"""


async def test_a_disk_that_is_full_loses_nothing(redis: Redis) -> None:
    """A real one: the database lies on a file system that is full for a while."""
    if not can_mount():
        pytest.skip("no file system can be mounted here; the test above raises the same error")
    with Postgres(small_mb=40) as server:
        await _execute(server.dsn, f"CREATE TABLESPACE small LOCATION '{server.small}'")
        await _execute(server.dsn, "CREATE DATABASE small TABLESPACE small")
        dsn = server.dsn_of("postgres", "small")
        await migrate(dsn, 5)
        async with history_at(dsn) as history:
            outbox, sink = sink_of(redis, history)
            await history.sql("CREATE TABLE filler (text text)")
            await history.sql(FILL)
            with capture_logs() as logs:
                async with relaying(outbox, sink) as relay:
                    await redis.write(USERS, 20)
                    async with asyncio.timeout(20):
                        while relay.failures["postgres"] < 20:  # noqa: ASYNC110
                            await asyncio.sleep(0.02)
                    await history.sql("DROP TABLE filler")
                    await history.sql("CHECKPOINT")
                    await drained(outbox)
            assert any("53100" in str(each.get("why")) for each in logs)
            assert in_order(await history.rows(), redis.written)
            assert await history.problems(outbox) == []
    assert await redis.dead_letters() == []


async def _execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(sql)
    await connection.close()


async def test_postgres_killed_while_events_are_written_has_all_of_them(redis: Redis) -> None:
    with Postgres() as postgres:
        await migrate(postgres.dsn, 5)
        async with history_at(postgres.dsn) as history:
            outbox, sink = sink_of(redis, history)
            async with relaying(outbox, sink):
                for _ in range(5):
                    await redis.write(USERS, 10)
                    await asyncio.sleep(0.05)
                    await asyncio.to_thread(_restart, postgres)
                await drained(outbox)
            assert len(redis.written) == 1500
            assert in_order(await history.rows(), redis.written)
            assert await history.problems(outbox) == []
            assert await redis.dead_letters() == []


def _restart(postgres: Postgres) -> None:
    postgres.kill()
    postgres.start()


async def test_a_relay_killed_at_any_moment_leaves_every_event_once(
    redis: Redis, history: History
) -> None:
    """Killed by cutting it off wherever it is: it says goodbye to nobody."""
    for number in range(20):
        await redis.write(USERS, 4)
        outbox, sink = sink_of(redis, history)
        with patch.object(RedisOutbox, "done", _cut_off(RedisOutbox.done, number)):
            async with relaying(outbox, sink):
                await asyncio.sleep(0.01 * (number % 7))
        for name in await redis.client.keys(f"{redis.prefix}l:*"):
            await redis.client.delete(name)  # time passes
    outbox = await carried(redis, history)
    assert len(redis.written) == 2400
    assert in_order(await history.rows(), redis.written)
    assert await history.problems(outbox) == []


def _cut_off(done: object, number: int) -> object:
    """Return an acknowledgement that ends its caller from the `number`-th call on."""
    calls = iter(range(10**9))

    async def lost(self: RedisOutbox, *args: object, **named: object) -> bool:
        if next(calls) >= number:
            raise asyncio.CancelledError
        assert callable(done)
        kept: bool = await done(self, *args, **named)
        return kept

    return lost


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://127.0.0.1:1/db",
        "postgresql://h/db?sslmode=nonsense",
        "postgresql://{}/nowhere",
        "postgresql://{}/postgres?options=-c%20datestyle=x",
    ],
)
async def test_no_event_is_to_blame_for_a_wrong_address(
    dsn: str, postgres: Postgres, redis: Redis
) -> None:
    """Nor for a database that is not there, or refuses the connection's settings."""
    await redis.write(["ann"])
    partition = redis.stream("ann")[-3:-1]
    async with history_at(dsn.format(f"postgres@127.0.0.1:{postgres.port}")) as history:
        outbox, sink = sink_of(redis, history)
        batch = await outbox.take("postgres", partition)
        with pytest.raises(SinkUnavailable):
            await sink.take(partition, events_of(batch))


async def test_without_its_schema_it_takes_nothing_and_says_what_to_do(
    postgres: Postgres, redis: Redis
) -> None:
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute("CREATE DATABASE bare TEMPLATE template0")
    await connection.close()
    await redis.write(["ann"])
    async with history_at(postgres.dsn_of("postgres", "bare")) as history:
        outbox, sink = sink_of(redis, history)
        batch = await outbox.take("postgres", redis.stream("ann")[-3:-1])
        with pytest.raises(SinkUnavailable, match="gateway database migrate"):
            await sink.take(redis.stream("ann")[-3:-1], events_of(batch))


async def test_an_event_of_a_month_that_was_removed_meanwhile_makes_it_anew(
    redis: Redis, history: History
) -> None:
    month = f"{datetime.now(UTC):%Y_%m}"
    await redis.write(["ann"], 2)
    outbox, sink = sink_of(redis, history)
    async with relaying(outbox, sink):
        await drained(outbox)
        await history.sql(f"DROP TABLE gateway.session_events_{month}")
        await history.sql(f"DROP TABLE gateway.login_events_{month}")
        await redis.write(["ann"], 2)
        await drained(outbox)
    assert [number for _, number in await history.rows()] == [2, 3]


async def test_a_value_too_long_for_an_index_holds_up_nobody(
    redis: Redis, history: History
) -> None:
    long = random.Random(1).randbytes(20_000).hex()
    await redis.client.xadd(redis.stream("ann"), fields_of("ann", 9) | {"user": long})
    await redis.write(["ann"], 1)
    await carried(redis, history)
    assert await history.rows() == redis.written
    assert len(await redis.dead_letters()) == 1


# --- evidence --------------------------------------------------------------------------------

_OF_ANN = "WHERE user_id = 'ann' AND seq"
TAMPERING = {
    "a changed row": f"UPDATE gateway.session_events SET actor = 'x' {_OF_ANN} = 5",
    "a changed detail": f"UPDATE gateway.session_events SET details = '{{}}' {_OF_ANN} = 5",
    "another time": f"UPDATE gateway.session_events SET at = at + interval '1s' {_OF_ANN} = 5",
    "a microsecond": "UPDATE gateway.session_events SET recorded_at = recorded_at + interval '1us' "
    f"{_OF_ANN} = 5",
    "a detail that is none": f"UPDATE gateway.session_events SET details = '[1]' {_OF_ANN} = 5",
    "a removed row": f"DELETE FROM gateway.session_events {_OF_ANN} = 5",
    "the first removed": f"DELETE FROM gateway.session_events {_OF_ANN} = 1",
    "two exchanged": f"UPDATE gateway.session_events SET seq = 11 - seq {_OF_ANN} IN (5, 6)",
    "the last removed": f"DELETE FROM gateway.session_events {_OF_ANN} = 10",
    "a changed head": "UPDATE gateway.chains SET hash = decode(repeat('ab', 32), 'hex')",
    "a removed head": "DELETE FROM gateway.chains",
    "a dropped month": "DROP TABLE gateway.session_events_{month}",
    "all removed": "DELETE FROM gateway.session_events; DELETE FROM gateway.chains;"
    "DELETE FROM gateway.login_events",
    "a changed sign-in": "UPDATE gateway.login_events SET ip = '203.0.113.9' WHERE user_id = 'ann'"
    " AND number = (SELECT min(number) FROM gateway.login_events WHERE user_id = 'ann')",
    "a removed sign-in": "DELETE FROM gateway.login_events WHERE ctid = (SELECT ctid FROM "
    "gateway.login_events WHERE user_id = 'ann' LIMIT 1)",
    "an invented sign-in": "INSERT INTO gateway.login_events SELECT partition, recorded_at, "
    "number + 1000000, session_id, user_id, at, email, ip, country, city, user_agent, device_id, "
    "device_name, device_type FROM gateway.login_events WHERE user_id = 'ann' LIMIT 1",
    # These make the chain fit again: only what Redis remembers tells.
    "a cut end": f"DELETE FROM gateway.session_events {_OF_ANN} > 7;"
    "DELETE FROM gateway.login_events l WHERE NOT EXISTS (SELECT FROM gateway.session_events e "
    "WHERE (e.partition, e.recorded_at, e.number) = (l.partition, l.recorded_at, l.number));"
    "UPDATE gateway.chains c SET length = 7, hash = (SELECT hash FROM gateway.session_events e "
    "WHERE e.partition = c.partition AND seq = 7)",
    "a cut beginning": "UPDATE gateway.chains c SET start = 3, start_hash = (SELECT hash FROM "
    "gateway.session_events e WHERE e.partition = c.partition AND seq = 3);"
    f"DELETE FROM gateway.session_events {_OF_ANN} < 4;"
    "DELETE FROM gateway.login_events l WHERE NOT EXISTS (SELECT FROM gateway.session_events e "
    "WHERE (e.partition, e.recorded_at, e.number) = (l.partition, l.recorded_at, l.number))",
    # These have retention tell Redis of a removal that nobody ordered.
    "a copy of the head in an old month": "SELECT gateway.ensure_month('2020-01-01');"
    "INSERT INTO gateway.session_events SELECT partition, '2020-01-10', 7, seq, type, session_id, "
    "user_id, at, actor, reason, request_id, details, hash FROM gateway.session_events "
    f"{_OF_ANN} = 10;RETENTION;DELETE FROM gateway.session_events;"
    "DELETE FROM gateway.login_events",
    "a moved beginning, and a row in an old month": "SELECT gateway.ensure_month('2020-01-01');"
    "UPDATE gateway.chains SET start = 8, start_hash = (SELECT hash FROM gateway.session_events "
    f"{_OF_ANN} = 8);DELETE FROM gateway.session_events {_OF_ANN} < 9;"
    f"UPDATE gateway.session_events SET recorded_at = '2020-01-10' {_OF_ANN} = 9;"
    "DELETE FROM gateway.login_events l WHERE NOT EXISTS (SELECT FROM gateway.session_events e "
    "WHERE (e.partition, e.recorded_at, e.number) = (l.partition, l.recorded_at, l.number));"
    "RETENTION",
}


@pytest.mark.parametrize("what", TAMPERING)
async def test_tampering_is_found(what: str, redis: Redis, history: History) -> None:
    await redis.write(["ann"], 10)
    outbox = await carried(redis, history)
    assert await history.problems(outbox) == []
    for statement in TAMPERING[what].split(";"):
        if statement == "RETENTION":
            with suppress(SinkUnavailable):
                await Upkeep(history.database, outbox, 86_400 * 62).once()
        else:
            await history.sql(statement.replace("{month}", f"{datetime.now(UTC):%Y_%m}"))
    assert await history.problems(outbox) != []


async def test_a_history_that_went_back_is_noticed_and_never_forgotten(
    redis: Redis, history: History
) -> None:
    """A restored backup, say. What comes then is kept, and the loss stays known."""
    await redis.write(["ann"], 10)
    await carried(redis, history)
    for statement in TAMPERING["a cut end"].split(";"):
        await history.sql(statement)
    await redis.write(["ann"], 20)
    with capture_logs() as logs:
        outbox = await carried(redis, history)
    assert [each["event"] for each in logs if each["log_level"] == "error"] == ["history_lost"]
    assert await history.problems(outbox) == ["rows up to 10 were lost once: see history_lost"]
    assert len(await history.rows()) == 27


async def test_a_chain_that_redis_has_forgotten_is_still_verified_in_itself(
    redis: Redis, history: History
) -> None:
    await redis.write(["ann"], 10)
    await carried(redis, history)
    await redis.client.delete(*await redis.client.keys(f"{redis.prefix}h:*"))
    await redis.write(["ann"], 1)
    outbox = await carried(redis, history)
    assert await history.problems(outbox) == []
    await history.sql(TAMPERING["a changed row"])
    assert len(await history.problems(outbox)) == 1


async def test_the_witness_takes_no_shorter_chain_for_the_head(redis: Redis) -> None:
    """Two relays tell of their work in any order."""
    outbox = redis.outbox()
    long, short = Mark(20, "aa" * 32), Mark(10, "bb" * 32)
    await outbox.saw_head("00", long)
    await outbox.saw_head("00", short)
    assert await outbox.seen("00") == Witnessed(head=long)
    await outbox.saw_contradiction("00", long)
    await outbox.saw_head("00", short)
    assert await outbox.seen("00") == Witnessed(head=short, contradicted=long)


# --- months ----------------------------------------------------------------------------------


async def test_months_are_made_in_time_and_old_ones_removed_with_an_honest_chain(
    redis: Redis, history: History
) -> None:
    now = datetime.now(UTC)
    for days in (100, 70, 40, 0):
        ms = int((now - timedelta(days=days)).timestamp() * 1000)
        await redis.client.xadd(redis.stream("ann"), fields_of("ann", days), id=f"{ms}-0")
    outbox = await carried(redis, history)
    await Upkeep(history.database, outbox, 0).once()
    assert [number for _, number in await history.rows()] == [100, 70, 40, 0]
    await Upkeep(history.database, outbox, 86_400 * 62).once()
    kept = [number for _, number in await history.rows()]
    assert kept in ([40, 0], [70, 40, 0])
    assert await history.problems(outbox) == []
    ahead = time_of(int((now + timedelta(days=45)).timestamp() * 1000))
    tables = {row[0] for row in await history.sql("SELECT relname::text FROM pg_class")}
    assert f"session_events_{ahead:%Y_%m}" in tables
    assert f"login_events_{now - timedelta(days=100):%Y_%m}" not in tables
    await redis.write(["ann"], 3)
    await carried(redis, history)
    assert await history.problems(outbox) == []


def months_ago(months: int, day: int) -> datetime:
    """Return a day of a month that has passed."""
    this = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(months):
        this = (this - timedelta(days=1)).replace(day=1)
    return this.replace(day=day)


async def write_on(redis: Redis, number: int, day: datetime, first: datetime | None = None) -> None:
    """Append an event of ann; with `first` it is a dead letter from then that was put back."""
    late = {"dead.sink": "postgres", "dead.event": f"{_ms(first)}-0"} if first else {}
    fields = late | fields_of("ann", number)
    await redis.client.xadd(redis.stream("ann"), fields, id=f"{_ms(day)}-0")


def _ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)


async def keep_since(day: datetime, redis: Redis, history: History) -> list[str]:
    """Remove what is older; return what the log says."""
    outbox = redis.outbox()
    age = datetime.now(UTC) - day
    with capture_logs() as logs:
        await Upkeep(history.database, outbox, age.total_seconds()).once()
    return [each["event"] for each in logs]


async def test_a_month_with_a_late_event_waits_for_the_months_between(
    redis: Redis, history: History
) -> None:
    """A letter of the first month was put back in the second: its place is among that month's."""
    await write_on(redis, 0, months_ago(5, 28))
    await write_on(redis, 1, months_ago(4, 3))
    await write_on(redis, 2, months_ago(4, 4), first=months_ago(5, 27))
    await write_on(redis, 3, months_ago(4, 5))
    await write_on(redis, 4, months_ago(3, 5))
    outbox = await carried(redis, history)
    assert await history.problems(outbox) == []
    assert await keep_since(months_ago(4, 2), redis, history) == ["months_wait"]
    assert [number for _, number in await history.rows()] == [0, 1, 2, 3, 4]
    assert await history.problems(outbox) == []
    assert await keep_since(months_ago(3, 2), redis, history) == ["months_removed"]
    assert [number for _, number in await history.rows()] == [4]
    assert await history.problems(outbox) == []


async def test_a_late_event_in_the_last_due_month_holds_up_no_older_one(
    redis: Redis, history: History
) -> None:
    await write_on(redis, 0, months_ago(5, 1))
    await write_on(redis, 1, months_ago(4, 1))
    await write_on(redis, 2, months_ago(3, 1))
    await write_on(redis, 3, months_ago(3, 2), first=months_ago(4, 2))
    outbox = await carried(redis, history)
    said = await keep_since(months_ago(3, 2), redis, history)
    assert said == ["months_removed", "months_wait"]
    assert [number for _, number in await history.rows()] == [1, 2, 3]
    assert await history.problems(outbox) == []


async def test_an_old_month_that_lacks_a_row_is_kept_as_evidence(
    redis: Redis, history: History
) -> None:
    for number in range(4):
        await write_on(redis, number, months_ago(4, 1 + number))
    outbox = await carried(redis, history)
    await history.sql("DELETE FROM gateway.session_events WHERE seq = 2")
    assert await keep_since(months_ago(3, 2), redis, history) == ["months_wait"]
    assert "behind row 1 comes row 3" in await history.problems(outbox)


async def test_empty_months_are_removed_with_all_the_others(
    redis: Redis, history: History
) -> None:
    for months in (6, 5, 3):
        await history.sql("SELECT gateway.ensure_month($1)", months_ago(months, 1))
    await write_on(redis, 0, months_ago(4, 1))
    await carried(redis, history)
    assert await keep_since(months_ago(2, 2), redis, history) == ["months_removed"]
    tables = {row[0] for row in await history.sql("SELECT relname::text FROM pg_class")}
    old = {f"{kind}_events_{months_ago(months, 1):%Y_%m}" for months in (6, 5, 4, 3)
           for kind in ("session", "login")}  # fmt: skip
    assert not old & tables


async def test_a_long_reader_stalls_neither_the_history_nor_new_months(
    redis: Redis, history: History
) -> None:
    """As a verification reads all: retention gives up, changes nothing, and is done later."""
    await write_on(redis, 0, months_ago(5, 1))
    outbox = await carried(redis, history)
    reader = await asyncpg.connect(history.dsn)
    async with reader.transaction(isolation="repeatable_read", readonly=True):
        await reader.fetch("SELECT FROM gateway.session_events, gateway.login_events")
        await history.sql("SELECT gateway.ensure_month($1)", months_ago(1, 1))
        dropping = asyncio.create_task(keep_since(months_ago(2, 2), redis, history))
        await redis.write(["ann"], 2)
        async with asyncio.timeout(3):
            await carried(redis, history)
        with pytest.raises(SinkUnavailable, match="lock timeout"):
            await dropping
        assert len(await history.rows()) == 3
    await reader.close()
    assert await history.problems(outbox) == []
    assert await keep_since(months_ago(2, 2), redis, history) == ["months_removed"]
    assert [number for _, number in await history.rows()] == [0, 1]
    assert await history.problems(outbox) == []


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York", "Pacific/Auckland"])
async def test_months_are_those_of_utc_whatever_the_settings_of_the_caller(
    zone: str, dsn: str, history: History
) -> None:
    name = dsn.rpartition("/")[2]
    await history.sql(f"ALTER DATABASE {name} SET datestyle = 'SQL, DMY'")
    await history.sql(f"ALTER DATABASE {name} SET timezone = '{zone}'")
    for month in (1, 2, 3, 4):
        await history.sql("SELECT gateway.ensure_month($1)", datetime(2020, month, 1, tzinfo=UTC))
    await history.sql(f"ALTER DATABASE {name} SET datestyle = 'ISO'")
    await history.sql(f"ALTER DATABASE {name} SET timezone = 'UTC'")
    bounds = await history.sql("SELECT pg_get_expr(relpartbound, oid) FROM pg_class "
                               "WHERE relispartition AND relname LIKE 'login_events%2020_0_' "
                               "AND relkind = 'r' ORDER BY relname")  # fmt: skip
    assert [row[0] for row in bounds] == [
        f"FOR VALUES FROM ('2020-0{month}-01 00:00:00+00') TO ('2020-0{month + 1}-01 00:00:00+00')"
        for month in (1, 2, 3, 4)
    ]
    await history.sql(f"ALTER DATABASE {name} SET datestyle = 'SQL, DMY'")
    await history.sql(f"ALTER DATABASE {name} SET timezone = '{zone}'")
    march = datetime(2020, 3, 1, tzinfo=UTC)
    for before, dropped in ((march - timedelta(seconds=1), "2020_01"), (march, "2020_02")):
        found = await history.sql("SELECT * FROM gateway.drop_old_months($1)", before)
        assert found == [([dropped], [])]


# --- rights ----------------------------------------------------------------------------------


async def test_the_rights_in_the_documents_suffice_and_change_no_row(
    postgres: Postgres, dsn: str, redis: Redis, history: History
) -> None:
    grants, for_retention = re.findall(r"```text\n(.*?)```", OPERATIONS.read_text(), re.DOTALL)
    await history.sql("DO $$ BEGIN DROP ROLE IF EXISTS history_writer, history_reader; END $$")
    for statement in filter(str.strip, grants.split(";")):
        await history.sql(statement)
    database = dsn.rpartition("/")[2]
    await write_on(redis, 0, months_ago(5, 1))
    await redis.write(USERS, 2)
    try:
        async with history_at(postgres.dsn_of("history_writer", database)) as writer:
            outbox = await carried(redis, writer)
            await Upkeep(writer.database, outbox, 0).once()
            assert len(await writer.log().page(EventQuery())) == 50
            for forbidden in ("UPDATE gateway.session_events SET actor = ''",
                              "DELETE FROM gateway.login_events",
                              "TRUNCATE gateway.session_events",
                              "SELECT gateway.drop_old_months(now())",
                              "DROP TABLE gateway.session_events"):  # fmt: skip
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await writer.sql(forbidden)
            await history.sql(for_retention)
            assert await keep_since(months_ago(4, 2), redis, writer) == ["months_removed"]
            await _do_its_worst(writer)
            assert len(await writer.rows()) == 60
        async with history_at(postgres.dsn_of("history_reader", database)) as reader:
            assert await reader.problems(outbox) == []
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.sql("UPDATE gateway.chains SET length = 0")
    finally:
        await history.sql("DROP OWNED BY history_writer, history_reader")
        await history.sql("DROP ROLE history_writer, history_reader")


async def _do_its_worst(writer: History) -> None:
    """Try to remove what is young, and to make tables without end."""
    await writer.sql("SELECT gateway.ensure_month($1)", months_ago(1, 1))
    for before in ("infinity", None):
        removed = await writer.sql("SELECT * FROM gateway.drop_old_months($1::text::timestamptz)",
                                   before)  # fmt: skip
        assert removed == [([], [])]
    ahead = datetime.now(UTC) + timedelta(days=95)
    for day in ("1969-12-31", f"{ahead:%Y-%m-%d}", "3000-01-01", "infinity", "0044-03-15 BC", None):
        with pytest.raises(asyncpg.DatetimeFieldOverflowError):
            await writer.sql("SELECT gateway.ensure_month($1::text::date)", day)


async def test_an_event_of_a_month_that_has_not_come_holds_up_nobody(
    redis: Redis, history: History
) -> None:
    await redis.write(["ann"], 1)
    far = datetime.now(UTC) + timedelta(days=400)
    await write_on(redis, 9, datetime.now(UTC) + timedelta(milliseconds=50), first=far)
    await asyncio.sleep(0.1)
    await redis.write(["ann"], 1)
    await carried(redis, history)
    assert await history.rows() == redis.written
    assert len(await redis.dead_letters()) == 1


def test_no_traceback_shows_the_password() -> None:
    assert "s3cret" not in repr(DatabaseOptions("postgresql://gateway:s3cret@h/db", 1, 1, 1))


# --- migrations ------------------------------------------------------------------------------


async def test_migrations_are_applied_once_also_by_several_at_once(postgres: Postgres) -> None:
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute("CREATE DATABASE fresh TEMPLATE template0")
    await connection.close()
    dsn = postgres.dsn_of("postgres", "fresh")
    applied = await asyncio.gather(*(migrate(dsn, 5) for _ in range(5)))
    assert sorted(applied) == [[], [], [], [], ["0001_history.sql"]]


async def test_a_database_of_another_version_is_refused(dsn: str) -> None:
    await migrate(dsn, 5)
    changed = Migration(1, "0001_history.sql", "SELECT 1")
    with (
        patch.object(migrate_module, "MIGRATIONS", (changed,)),
        pytest.raises(ConfigurationError, match="is not what was applied"),
    ):
        await migrate(dsn, 5)
    with (
        patch.object(migrate_module, "MIGRATIONS", ()),
        pytest.raises(ConfigurationError, match="does not know"),
    ):
        await migrate(dsn, 5)


async def test_a_faulty_migration_leaves_nothing_behind(dsn: str, history: History) -> None:
    faulty = Migration(2, "0002_faulty.sql", "CREATE TABLE gateway.half (); SELECT 1 / 0")
    with (
        patch.object(migrate_module, "MIGRATIONS", (*migrate_module.MIGRATIONS, faulty)),
        pytest.raises(ConfigurationError, match="division by zero"),
    ):
        await migrate(dsn, 5)
    assert await history.sql("SELECT number FROM gateway.migrations") == [(1,)]
    assert await history.sql("SELECT 1 FROM pg_class WHERE relname = 'half'") == []
