"""Every event reaches every sink, in order, whatever is away, and then leaves the outbox."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs

from gateway import relay as relay_module
from gateway.delivery import Alarm
from gateway.embedded import EmbeddedValkey
from gateway.errors import SinkUnavailable, StoreUnavailable
from gateway.model import Event
from gateway.store import DeadLetters, RedisOutbox, Survey
from tests import servers

from .harness import (
    PARTITIONS,
    PATIENCE_S,
    TAKEOVER_MS,
    MemorySink,
    Redis,
    drained,
    events_of,
    fields_of,
    in_order,
    number_of,
    redis_at,
    relaying,
)

USERS = [f"user-{number}" for number in range(40)]


def pairs(sink: MemorySink) -> list[tuple[str, int]]:
    return [(event.user, number_of(event)) for event in sink.taken]


async def until(condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def answers(ask: Callable[[], Awaitable[object]], within_s: float = PATIENCE_S) -> None:
    """Return when what it tells is true."""
    async with asyncio.timeout(within_s):
        while not await ask():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with (
        patch.object(relay_module, "_POLL_S", 0.02),
        patch.object(relay_module, "_LONGEST_PAUSE_S", 0.2),
        patch.object(relay_module, "_RETRY_S", (0.01, 0.01, 0.01, 0.01)),
    ):
        yield


async def test_every_event_reaches_every_sink_in_order_and_leaves_the_outbox(redis: Redis) -> None:
    """Also what was written while the relay was at work, and with more than a batch waiting."""
    one, two = MemorySink("one"), MemorySink("two")
    await redis.write(USERS, 10)
    outbox = redis.outbox(one, two, batch=7)
    async with relaying(outbox, one, two) as relay:
        await redis.write(USERS, 5)
        await drained(outbox)
    assert len(redis.written) == 600
    assert in_order(pairs(one), redis.written)
    assert in_order(pairs(two), redis.written)
    assert relay.delivered == {"one": 600, "two": 600}
    assert len({event.id for event in one.taken}) == 600


async def test_a_sink_that_is_away_holds_up_no_other_and_misses_nothing(redis: Redis) -> None:
    """Its events wait; what another has is removed only when both have it."""
    here, away = MemorySink("here"), MemorySink("away")
    away.away = True
    await redis.write(USERS, 3)
    outbox = redis.outbox(here, away)
    async with relaying(outbox, here, away) as relay:
        await until(lambda: len(here.taken) == 120)
        survey = await outbox.survey()
        assert survey.length == 120
        assert survey.lag_s["here"] == 0
        await until(lambda: relay.failures["away"] > 3)
        assert (await outbox.survey()).lag_s["away"] > 0
        away.away = False
        await drained(outbox)
    assert in_order(pairs(away), redis.written)
    assert in_order(pairs(here), redis.written)


async def test_replicas_share_the_work_and_none_is_done_twice(redis: Redis) -> None:
    sinks = [MemorySink(), MemorySink(), MemorySink()]
    outboxes = [redis.outbox(sink, batch=5) for sink in sinks]
    await redis.write(USERS, 20)
    async with (
        relaying(outboxes[0], sinks[0]),
        relaying(outboxes[1], sinks[1]),
        relaying(outboxes[2], sinks[2]),
    ):
        await drained(outboxes[0])
    assert sorted(pair for sink in sinks for pair in pairs(sink)) == sorted(redis.written)
    assert all(sink.taken for sink in sinks)


async def test_what_a_dead_replica_had_taken_is_taken_over_in_order(redis: Redis) -> None:
    """It died between taking and acknowledging: the same events come again, first, same ids."""
    dead, alive = MemorySink(), MemorySink()
    await redis.write(["ann"], 30)
    partition = redis.stream("ann")[-3:-1]
    lost = await redis.outbox(dead, batch=10).take("memory", partition)
    assert [number_of(event) for event in events_of(lost)] == list(range(10))
    outbox = redis.outbox(alive, batch=10)
    assert not await outbox.take("memory", partition)  # it is not yet given up for dead
    async with relaying(outbox, alive):
        await drained(outbox)
    assert alive.numbers("ann") == list(range(30))
    assert [event.id for event in alive.taken[:10]] == [event.id for event in events_of(lost)]


async def test_who_was_given_up_for_dead_acknowledges_and_buries_nothing(redis: Redis) -> None:
    """A replica that was only asleep must not remove what another is at work on."""
    sink = MemorySink()
    await redis.write(["ann"], 5)
    partition = redis.stream("ann")[-3:-1]
    asleep = redis.outbox(sink, takeover_ms=1000)
    batch = await asleep.take("memory", partition)
    await redis.client.delete(f"{redis.prefix}l:{{{partition}}}:memory")  # its time is over
    awake = redis.outbox(sink)
    again = await awake.take("memory", partition)
    assert again == batch
    ids = [entry.stream_id for entry in batch.entries]
    assert not await asleep.done("memory", partition, ids, release=True)
    assert not await asleep.bury("memory", partition, ids[0], "why")
    assert (await awake.survey()).length == 5
    assert await awake.done("memory", partition, ids, release=True)
    assert (await awake.survey()).length == 0
    assert await redis.dead_letters() == []


async def test_an_event_that_cannot_be_taken_becomes_a_dead_letter_and_the_rest_flows(
    redis: Redis,
) -> None:
    sink = MemorySink()
    sink.chokes_on = "mallory"
    await redis.write([*USERS, "mallory"], 4)
    await redis.client.xadd(redis.stream("ann"), {"nonsense": b"\xff"})
    await redis.client.xadd(redis.stream("ann"), {"type": "x"})
    await redis.write(["ann"], 2)
    outbox = redis.outbox(sink)
    async with relaying(outbox, sink) as relay:
        await drained(outbox)
    assert in_order(pairs(sink), [each for each in redis.written if each[0] != "mallory"])
    dead = await redis.dead_letters()
    assert len(dead) == 6 == relay.buried["memory"] == (await outbox.survey()).dead_letters
    assert [each["dead.why"] for each in dead if each.get("user") == "mallory"] == [
        "RuntimeError: cannot be taken"
    ] * 4
    assert {each["dead.sink"] for each in dead} == {"memory"}
    assert {each.get("nonsense") for each in dead} == {None, "\ufffd"}


async def test_a_sink_may_take_a_part_and_gets_the_rest_next(redis: Redis) -> None:
    sink = MemorySink()
    sink.most = 3
    await redis.write(USERS, 8)
    outbox = redis.outbox(sink, batch=10)
    async with relaying(outbox, sink) as relay:
        await drained(outbox)
    assert in_order(pairs(sink), redis.written)
    assert relay.delivered["memory"] == len(redis.written)


async def test_an_event_that_takes_long_to_fail_becomes_a_dead_letter_too(redis: Redis) -> None:
    """All its tries together take longer than the time after which a replica counts as dead."""

    class Slow(MemorySink):
        async def take(self, partition: str, events: Sequence[Event]) -> int:
            if self.chokes_on in {event.user for event in events}:
                await asyncio.sleep(TAKEOVER_MS / 1000 * 0.3)
            return await super().take(partition, events)

    sink = Slow()
    sink.chokes_on = "mallory"
    await redis.write(["mallory", "ann"])
    outbox = redis.outbox(sink)
    async with relaying(outbox, sink):
        await drained(outbox)
    assert [each["user"] for each in await redis.dead_letters()] == ["mallory"]
    assert sink.numbers("ann") == [0]


class Failing(MemorySink):
    """Fails at the first, then is left alone for a moment, then takes all."""

    def __init__(self) -> None:
        super().__init__("failing")
        self.failures = [3600.0, math.inf]

    async def take(self, partition: str, events: Sequence[Event]) -> int:
        if self.failures:
            raise SinkUnavailable("failed", give_up_s=self.failures.pop(0))
        return await super().take(partition, events)


async def test_one_failure_gives_up_the_event_that_failed_and_none_that_was_not_tried(
    redis: Redis,
) -> None:
    """However old they all are: the gateways may have been away for long."""
    sink = Failing()
    old_ms = int((time.time() - 3700) * 1000)
    for number in range(4):
        fields = fields_of("ann", number)
        await redis.client.xadd(redis.stream("ann"), fields, id=f"{old_ms}-{number}")
    outbox = redis.outbox(sink)
    async with relaying(outbox, sink):
        await drained(outbox)
        [letter] = [each async for each in letters_of(redis, sink).all()]
        assert re.fullmatch(r"not delivered for 37\d\d s: failed", letter.why)
        assert sink.numbers("ann") == [1, 2, 3]
        sink.failures = [3600.0]  # what was put back is as old as that
        await letters_of(redis, sink).requeue(letter.id)
        await drained(outbox)
    assert sink.numbers("ann") == [1, 2, 3, 0]
    assert await redis.dead_letters() == []


async def test_a_sink_is_left_alone_for_as_long_as_it_asks(redis: Redis) -> None:
    calls = []

    class Busy(MemorySink):
        async def take(self, partition: str, events: Sequence[Event]) -> int:
            calls.append(asyncio.get_running_loop().time())
            if len(calls) == 1:
                raise SinkUnavailable("busy", pause_s=0.5)
            return await super().take(partition, events)

    sink = Busy()
    await redis.write(["ann"])
    outbox = redis.outbox(sink)
    async with relaying(outbox, sink):
        await drained(outbox)
    assert calls[1] - calls[0] >= 0.5


def letters_of(redis: Redis, *sinks: MemorySink) -> DeadLetters:
    return DeadLetters(
        redis.client, prefix=redis.prefix, partitions=PARTITIONS, limit=redis.limit,
        sinks=[sink.name for sink in sinks],
    )  # fmt: skip


async def test_a_dead_letter_that_was_put_back_goes_to_its_sink_alone_under_its_first_id(
    redis: Redis,
) -> None:
    choking, other = MemorySink("choking"), MemorySink("other")
    choking.chokes_on = "mallory"
    await redis.write(["mallory", "ann"], 2)
    letters = letters_of(redis, choking, other)
    outbox = redis.outbox(choking, other)
    async with relaying(outbox, choking, other):
        await drained(outbox)
        found = [each async for each in letters.all()]
        assert [(each.sink, each.fields["user"], each.why) for each in found] == [
            ("choking", "mallory", "RuntimeError: cannot be taken")
        ] * 2
        assert [await letters.requeue(each.id) for each in found] == ["ok", "ok"]
        await drained(outbox)  # it fails again, and is buried again
        again = [each async for each in letters.all()]
        assert [each._replace(id="") for each in again] == [each._replace(id="") for each in found]
        choking.chokes_on = ""
        assert [await letters.requeue(each.id) for each in again] == ["ok", "ok"]
        await drained(outbox)
    assert choking.numbers("mallory") == other.numbers("mallory") == [0, 1]
    assert {event.id for event in choking.taken} == {event.id for event in other.taken}
    assert [each async for each in letters.all()] == []
    assert await letters.requeue(again[0].id) == "gone"
    assert await letters.requeue("zz-1-1") == "gone"


async def test_no_event_has_to_go_for_a_dead_letter_that_is_put_back(redis: Redis) -> None:
    sink = MemorySink()
    sink.chokes_on = "mallory"
    redis.limit = 3
    await redis.write(["mallory"])
    letters, outbox = letters_of(redis, sink), redis.outbox(sink)
    async with relaying(outbox, sink):
        await drained(outbox)
    await redis.write(["mallory"], 3)
    [found] = [each async for each in letters.all()]
    assert await letters.requeue(found.id) == "full"
    assert [each async for each in letters.all()] == [found]


async def is_acknowledged(outbox: RedisOutbox) -> bool:
    return not any((await outbox.survey()).lag_s.values())


async def test_what_every_sink_has_goes_for_a_dead_letter_that_is_put_back(redis: Redis) -> None:
    """Without Postgres the outbox is full for good: it keeps events for its readers."""
    sink, late = MemorySink(), MemorySink("late")
    sink.chokes_on = "mallory"
    redis.limit = 3
    outbox = redis.outbox(sink)
    outbox.keeps_all = True
    await redis.write(["mallory"])
    async with relaying(outbox, sink):
        await answers(redis.dead_letters)
        sink.chokes_on = ""
        await redis.write(["mallory"], 3)
        await until(lambda: len(sink.taken) == 3)
        await answers(lambda: is_acknowledged(outbox))
        [found] = [each async for each in letters_of(redis, sink).all()]
        # One that never began has none of them.
        assert await letters_of(redis, sink, late).requeue(found.id) == "full"
        assert await letters_of(redis, sink).requeue(found.id) == "ok"
        await until(lambda: len(sink.taken) == 4)
    assert sink.numbers("mallory") == [1, 2, 3, 0]
    assert (await outbox.survey()).length == 3


async def test_nothing_that_is_still_needed_goes_for_a_dead_letter(redis: Redis) -> None:
    sink, away = MemorySink(), MemorySink("away")
    sink.chokes_on, away.away = "mallory", True
    redis.limit = 3
    outbox = redis.outbox(sink, away)
    outbox.keeps_all = True
    await redis.write(["mallory"], 3)
    async with relaying(outbox, sink, away):
        await answers(redis.dead_letters)
        [found, *_] = [each async for each in letters_of(redis, sink, away).all()]
        assert await letters_of(redis, sink, away).requeue(found.id) == "full"
        assert (await outbox.survey()).length == 3


async def test_where_nothing_keeps_events_they_stay_readable_when_all_sinks_have_them(
    redis: Redis,
) -> None:
    sink = MemorySink()
    await redis.write(["ann"], 3)
    outbox = redis.outbox(sink)
    outbox.keeps_all = True
    async with relaying(outbox, sink):
        await until(lambda: len(sink.taken) == 3)
    survey = await outbox.survey()
    assert (survey.length, survey.lag_s) == (3, {"memory": 0})


async def test_an_event_that_fails_now_and_then_is_no_dead_letter(redis: Redis) -> None:
    tries: Counter[object] = Counter()

    class Moody(MemorySink):
        async def take(self, partition: str, events: Sequence[Event]) -> int:
            tries.update(event.id for event in events)
            if any(tries[event.id] < 4 for event in events):
                raise RuntimeError("not now")
            return await super().take(partition, events)

    sink = Moody()
    await redis.write(USERS, 2)
    outbox = redis.outbox(sink)
    async with relaying(outbox, sink):
        await drained(outbox)
    assert in_order(pairs(sink), redis.written)
    assert await redis.dead_letters() == []


@pytest.mark.parametrize("error", [StoreUnavailable("timeout"), TimeoutError()])
async def test_what_may_pass_makes_no_dead_letter_however_often_it_happens(
    redis: Redis, error: Exception
) -> None:
    class Unlucky(MemorySink):
        async def take(self, partition: str, events: Sequence[Event]) -> int:
            self.calls += 1
            if self.calls < 20:
                raise error
            return await super().take(partition, events)

    sink = Unlucky()
    await redis.write(["ann"], 5)
    outbox = redis.outbox(sink)
    async with relaying(outbox, sink):
        await drained(outbox)
    assert sink.numbers("ann") == [0, 1, 2, 3, 4]
    assert await redis.dead_letters() == []


async def test_a_sink_that_hangs_is_given_up_in_time(redis: Redis) -> None:
    """Before another replica would begin with the same."""

    class Hanging(MemorySink):
        async def take(self, partition: str, events: Sequence[Event]) -> int:
            self.calls += 1
            if self.calls == 1:
                await asyncio.sleep(60)
            return await super().take(partition, events)

    sink = Hanging()
    await redis.write(["ann"], 3)
    outbox = redis.outbox(sink)
    async with relaying(outbox, sink) as relay:
        await drained(outbox, 5)
    assert sink.numbers("ann") == [0, 1, 2]
    assert relay.failures["memory"] == 1


async def test_events_wait_for_a_new_sink_and_for_one_that_is_configured_elsewhere(
    redis: Redis,
) -> None:
    """What a sink without a group has not seen, and what another's group has not, stays."""
    old, new = MemorySink("old"), MemorySink("new")
    await redis.write(["ann"], 3)
    both = redis.outbox(old, new)
    async with relaying(both, old):
        await until(lambda: len(old.taken) == 3)
        await asyncio.sleep(0.05)
    assert (await both.survey()).length == 3
    async with relaying(both, new):
        await drained(both)
    only_old = redis.outbox(old)
    await redis.write(["ann"], 2)
    async with relaying(only_old, old):
        await until(lambda: len(old.taken) == 5)
        await asyncio.sleep(0.05)
    survey = await only_old.survey()
    assert (survey.length, survey.foreign_groups) == (2, 1)
    async with relaying(both, new):
        await drained(both)
    assert new.numbers("ann") == old.numbers("ann") == [0, 1, 2, 3, 4]


async def test_what_the_full_outbox_dropped_stops_nobody(redis: Redis) -> None:
    """Events dropped after they were given out, before they were done."""
    sink = MemorySink()
    await redis.write(["ann"], 6)
    partition = redis.stream("ann")[-3:-1]
    outbox = redis.outbox(sink, batch=4)
    await outbox.take("memory", partition)
    await redis.client.xtrim(redis.stream("ann"), maxlen=3, approximate=False)
    async with relaying(outbox, sink):
        await drained(outbox)
    assert sink.numbers("ann") == [3, 4, 5]


async def test_redis_killed_and_restarted_with_its_log_loses_no_event(tmp_path: Path) -> None:
    """While events are being written and carried; what it acknowledged comes, in order."""
    arguments = ["--appendonly", "yes", "--appendfsync", "always", "--dir", str(tmp_path)]
    valkey = EmbeddedValkey(port=servers.free_port(), arguments=arguments)
    sink = MemorySink()
    with valkey:
        async with redis_at(valkey.url, "gw:") as redis:
            outbox = redis.outbox(sink, batch=5)
            async with relaying(outbox, sink):
                for _ in range(3):
                    await redis.write(USERS, 5)
                    await asyncio.to_thread(_restart, valkey)
                await drained(outbox)
    assert len(redis.written) == 600
    seen = {event.id: (event.user, number_of(event)) for event in sink.taken}
    assert in_order(list(seen.values()), redis.written)


def _restart(valkey: EmbeddedValkey) -> None:
    valkey.stop()
    valkey.start()


async def test_a_relay_beyond_its_memory_bound_still_empties_the_outbox(redis: Redis) -> None:
    """At maxmemory too: it is what makes room."""
    sink = MemorySink()
    sink.chokes_on = "mallory"
    await redis.write([*USERS, "mallory"], 2)
    outbox = redis.outbox(sink)
    await redis.client.config_set("maxmemory", "1")
    try:
        async with relaying(outbox, sink):
            await drained(outbox)
    finally:
        await redis.client.config_set("maxmemory", "0")
    assert len(sink.taken) == 80
    assert len(await redis.dead_letters()) == 2


def test_the_alarm_comes_long_before_events_are_dropped_and_again_when_they_are() -> None:
    alarm = Alarm()
    with capture_logs() as quiet:
        alarm.judge(Survey(fullest=0.49, dropped=7))
    with capture_logs() as loud:
        alarm.judge(Survey(fullest=0.5, dropped=7))
        alarm.judge(Survey(fullest=0.6, dropped=7))
        alarm.judge(Survey(fullest=1.0, dropped=9))
    assert quiet == []
    assert [(each["event"], each["log_level"]) for each in loud] == [
        ("outbox_filling", "error"),
        ("events_dropped", "error"),
    ]
    assert loud[1]["count"] == 2


async def test_the_survey_tells_how_full_the_fullest_partition_is(redis: Redis) -> None:
    redis.limit = 100
    await redis.write(["ann"], 60)
    outbox: RedisOutbox = redis.outbox()
    survey = await outbox.survey()
    assert (survey.length, survey.fullest, survey.lag_s) == (60, 0.6, {})
