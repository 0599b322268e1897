"""The same question has the same answer, whether Postgres or only the outbox keeps the events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.model import Event, EventId
from gateway.ports import EventLog, EventQuery

from .harness import History, Redis, events_of

USERS = [f"user-{number}" for number in range(8)]


async def filled(redis: Redis, history: History) -> tuple[list[Event], list[EventLog]]:
    """Return the same events in both logs, newest first."""
    await redis.write(USERS, 4)
    await redis.write(USERS, 3, "session.ended")
    outbox = redis.outbox()
    sink = history.sink(outbox)
    events: list[Event] = []
    for partition in outbox.partitions:
        batch = await outbox.take("postgres", partition)
        if batch.entries:
            await sink.take(partition, events_of(batch))
        events += events_of(batch)
    return sorted(events, key=lambda event: event.id, reverse=True), [redis.log(), history.log()]


def expected(events: Sequence[Event], query: EventQuery) -> tuple[Event, ...]:
    return tuple(
        event for event in events
        if query.user in ("", event.user) and query.session in ("", event.session)
        and query.type in ("", event.type)
        and (query.from_ms is None or event.id.ms >= query.from_ms)
        and (query.to_ms is None or event.id.ms < query.to_ms)
        and (query.before is None or event.id < query.before)
    )[: query.limit]  # fmt: skip


async def test_both_answer_every_question_alike(redis: Redis, history: History) -> None:
    events, logs = await filled(redis, history)
    middle = events[len(events) // 2]
    between = EventId(middle.id.ms, middle.id.number, "08")
    for query in (
        EventQuery(),
        EventQuery(limit=200),
        EventQuery(user="user-3"),
        EventQuery(user="nobody"),
        EventQuery(session=middle.session),
        EventQuery(session=middle.session, user="somebody else"),
        EventQuery(type="session.ended", limit=5),
        EventQuery(from_ms=middle.id.ms, limit=200),
        EventQuery(to_ms=middle.id.ms, limit=200),
        EventQuery(from_ms=middle.id.ms, to_ms=middle.id.ms + 1, limit=200),
        EventQuery(from_ms=0, to_ms=0),
        EventQuery(before=middle.id, limit=200),
        EventQuery(before=between, limit=200),
        EventQuery(before=between, to_ms=middle.id.ms - 1, user="user-1"),
    ):
        for log in logs:
            assert await log.page(query) == expected(events, query), (log, query)


async def test_page_after_page_shows_every_event_once(redis: Redis, history: History) -> None:
    events, logs = await filled(redis, history)
    for log in logs:
        seen: list[Event] = []
        query = EventQuery(limit=5)
        while page := await log.page(query):
            seen += page
            query = replace(query, before=page[-1].id)
        assert seen == events


@pytest.mark.parametrize("limit", [1, 2, 199, 200])
async def test_a_rare_event_is_found_behind_many_others(redis: Redis, limit: int) -> None:
    """The outbox is read in pieces; what is asked for may be in the last one."""
    await redis.write(["ann"], 1, "session.renewed")
    await redis.write(["ann"], 450)
    found = await redis.log().page(EventQuery(type="session.renewed", limit=limit))
    assert [event.type for event in found] == ["session.renewed"]


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["00", "05", "0f"])))
)
def test_ids_order_by_time_then_number_then_partition(ids: list[tuple[int, int, str]]) -> None:
    """As Postgres orders the columns."""
    assert sorted(EventId(*each) for each in ids) == [EventId(*each) for each in sorted(ids)]
