"""Events behind the outbox: builds what carries, keeps and shows them, and watches over it.

A new sink is a line where the relays are made, and its name in `sink_names`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import structlog

from .audit import Database, DatabaseOptions, PostgresLog, PostgresSink, Upkeep
from .config import Settings
from .config.settings import TURN_MARGIN_MS, Events
from .errors import StoreUnavailable
from .ports import EventLog
from .relay import Relay, is_cancelled
from .store import MAX_CONNECTIONS, OutboxLog, RedisOutbox, Survey, connect
from .telemetry import Metrics, OutboxFigures
from .webhooks.sink import WebhookOptions, WebhookSink, name_of

_WATCH_S = 5.0
_REMIND_S = 60.0
_ALARM = 0.5  # of the bound: half of the time until events are dropped is left

# Partitions at once, and events in one go. Beside checks few, because these wait meanwhile; in a
# process that has workers for these many, which takes half the CPU (`python -m bench.events`).
BESIDE_CHECKS, ALONE = (2, 32), (4, 512)
# A receiver is mostly waited for: many at once, but for each a connection, there and to Redis.
_WEBHOOK_LANES = 16

log = structlog.get_logger("gateway.events")


class Delivery:
    """Runs beside the checks, on connections of its own: neither a check nor a change waits."""

    def __init__(self, settings: Settings, redis_url: str, metrics: Metrics) -> None:
        redis, self._settings, self._metrics = settings.redis, settings, metrics
        webhook_lanes = min(_WEBHOOK_LANES, redis.partitions)
        client = connect(
            redis_url, username=redis.username, password=redis.password.get_secret_value(),
            connections=MAX_CONNECTIONS + webhook_lanes * len(settings.events.webhooks),
        )  # fmt: skip
        self._database = _database(settings)
        lanes, batch = ALONE if settings.check.workers > 1 else BESIDE_CHECKS
        self._outbox = RedisOutbox(
            client,
            prefix=redis.prefix,
            partitions=redis.partitions,
            limit=settings.events.outbox_limit,
            takeover_ms=settings.events.takeover,
            count_error=metrics.count_store_error,
            batch=batch,
        )
        self._webhooks = [WebhookSink(each) for each in _webhooks(settings.events)]
        kept = [] if self._database is None else [PostgresSink(self._database, self._outbox)]
        self._outbox.sinks = sink_names(settings)
        self._outbox.keeps_all = self._database is None
        partitions, takeover_ms = self._outbox.partitions, settings.events.takeover
        self._relays = [
            Relay(self._outbox, kept, partitions, takeover_ms, lanes),
            Relay(self._outbox, self._webhooks, partitions, takeover_ms, webhook_lanes),
        ]
        self.log: EventLog = (
            OutboxLog(client, prefix=redis.prefix, partitions=redis.partitions,
                      count_error=metrics.count_store_error)
            if self._database is None else PostgresLog(self._database)
        )  # fmt: skip
        self._alarm = Alarm()

    async def run(self, opened: asyncio.Event) -> None:
        """Carry events until cancelled, from when Redis was found to be the one that is meant."""
        await opened.wait()
        jobs = [self._watch, *(relay.run for relay in self._relays)]
        if self._database is not None:
            retention_s = self._settings.postgres.retention / 1000
            jobs.append(Upkeep(self._database, self._outbox, retention_s).run)
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(_for_ever(job))

    async def close(self) -> None:
        for webhook in self._webhooks:
            await webhook.close()
        if self._database is not None:
            await self._database.close()
        await self._outbox.close()

    async def _watch(self) -> None:
        while not is_cancelled():
            try:
                survey = await self._outbox.survey()
            except StoreUnavailable as error:
                log.warning("outbox_unknown", kind=error.kind)
            else:
                self._alarm.judge(survey)
                self._metrics.outbox = self._figures(survey)
            await asyncio.sleep(_WATCH_S)

    def _figures(self, survey: Survey) -> OutboxFigures:
        return OutboxFigures(
            survey.length, survey.fullest, survey.dropped, survey.dead_letters, survey.lag_s,
            sum((relay.delivered for relay in self._relays), Counter()),
            sum((relay.failures for relay in self._relays), Counter()),
        )  # fmt: skip


class Alarm:
    """Says that events will be lost, long before; and that they are."""

    def __init__(self) -> None:
        self._dropped: int | None = None
        self._told_s = -_REMIND_S

    def judge(self, survey: Survey) -> None:
        if self._dropped is not None and survey.dropped > self._dropped:
            log.error("events_dropped", count=survey.dropped - self._dropped,
                      why="the outbox was full: events.outbox_limit")  # fmt: skip
        self._dropped = survey.dropped
        due = time.monotonic() - self._told_s >= _REMIND_S
        if due and (survey.fullest >= _ALARM or survey.foreign_groups):
            self._told_s = time.monotonic()
            self._tell(survey)

    def _tell(self, survey: Survey) -> None:
        if survey.fullest >= _ALARM:
            log.error("outbox_filling", fullest=round(survey.fullest, 2), lag_s=survey.lag_s,
                      what="at 1.0 the oldest events of the partition are dropped")  # fmt: skip
        if survey.foreign_groups:
            log.warning("outbox_foreign_group", count=survey.foreign_groups,
                        what="of a sink that is not configured here; until it takes its events "
                        "or XGROUP DESTROY removes it, they stay in the outbox")  # fmt: skip


async def _for_ever(job: Callable[[], Awaitable[None]]) -> None:
    """Begin again after a fault of ours: it must not end the checks beside it."""
    while not is_cancelled():
        try:
            await job()
        except Exception:
            log.exception("events_failed")
        await asyncio.sleep(_WATCH_S)


def sink_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of all that must have an event before it leaves the outbox."""
    postgres = (PostgresSink.name,) if settings.postgres.dsn.get_secret_value() else ()
    return (*postgres, *(name_of(each.name) for each in settings.events.webhooks))


def _webhooks(events: Events) -> list[WebhookOptions]:
    return [
        WebhookOptions(
            each.name, each.url, each.keys, frozenset(each.types), each.allow_networks,
            timeout_s=each.timeout / 1000,
            # A turn and one more delivery end before the relay would end them. Below 0 it is one.
            turn_s=(events.takeover / 2 - each.timeout - TURN_MARGIN_MS) / 1000,
            give_up_s=each.give_up / 1000,
        )
        for each in events.webhooks
    ]  # fmt: skip


def _database(settings: Settings) -> Database | None:
    postgres = settings.postgres
    dsn = postgres.dsn.get_secret_value()
    if not dsn:
        return None
    return Database(
        DatabaseOptions(
            dsn, postgres.connections, postgres.connect_timeout / 1000,
            postgres.command_timeout / 1000,
        )
    )  # fmt: skip
