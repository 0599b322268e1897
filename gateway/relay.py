"""Carries events from the outbox to the sinks: at least once, in order, whatever is away.

Each sink has its own pace: one that is away holds up no other. A partition is worked on by one
replica at a time, for one turn; then whoever comes first has the next. So the replicas share the
work without an arrangement, and a dead one's share is free after `events.takeover`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Sequence

import structlog

from .errors import SinkUnavailable, StoreUnavailable
from .ports import Batch, Entry, Outbox, Sink

TRIES = 5  # of an event that a sink fails at, before it becomes a dead letter
_BATCHES = 16  # in one turn
_POLL_S = 0.5
_LONGEST_PAUSE_S = 5.0
_REMIND_S = 60.0
_RETRY_S = (0.05, 0.1, 0.2, 0.4)

log = structlog.get_logger("gateway.relay")


class _NotHeld(Exception):
    """Another replica has the partition by now: what was not acknowledged is its to do."""


class Relay:
    """Runs until it is cancelled; never raises for what a sink or Redis does."""

    def __init__(
        self,
        outbox: Outbox,
        sinks: Sequence[Sink],
        partitions: Sequence[str],
        takeover_ms: int,
        lanes: int = 4,
    ) -> None:
        self._outbox = outbox
        self._sinks = sinks
        self._partitions = partitions
        self._lanes = lanes  # partitions of one sink that are worked on at once
        self._limit_s = takeover_ms / 2000  # so that nobody else begins while a sink is at work
        self.delivered: Counter[str] = Counter()
        self.buried: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for sink in self._sinks:
                for lane in range(self._lanes):
                    partitions = self._partitions[lane :: self._lanes]
                    group.create_task(self._keep_moving(sink, partitions))

    async def _keep_moving(self, sink: Sink, partitions: Sequence[str]) -> None:
        trouble = _Trouble(sink.name)
        while not is_cancelled():
            try:
                more = await self._round(sink, partitions)
            except (SinkUnavailable, StoreUnavailable) as error:
                self.failures[sink.name] += 1
                await trouble.pause(error)
            except Exception as error:
                self.failures[sink.name] += 1
                log.exception("relay_failed", sink=sink.name)
                await trouble.pause(error)
            else:
                trouble.is_over()
                # Otherwise what comes gathers: one event costs a turn as much as a hundred do.
                await asyncio.sleep(0 if more else _POLL_S)

    async def _round(self, sink: Sink, partitions: Sequence[str]) -> bool:
        """Give each partition a turn, in a new order each time; tell whether one has more."""
        return any(
            [await self._turn(sink, each) for each in random.sample(partitions, len(partitions))]
        )

    async def _turn(self, sink: Sink, partition: str) -> bool:
        for number in range(_BATCHES):
            batch = await self._outbox.take(sink.name, partition)
            if not batch:
                return False
            last = not batch.full or number == _BATCHES - 1
            try:
                await self._give(sink, partition, batch, release=last)
            except _NotHeld:
                return False
            except BaseException:
                with contextlib.suppress(StoreUnavailable):
                    await self._outbox.done(sink.name, partition, (), release=True)
                raise
            if last or is_cancelled():
                return batch.full
        return True

    async def _give(self, sink: Sink, partition: str, batch: Batch, *, release: bool) -> None:
        """Return when the sink has the batch and that is noted."""
        for unreadable in batch.unreadable:
            await self._bury(sink, partition, unreadable.stream_id, unreadable.why)
        done, left = list(batch.skipped), batch.entries
        while left:
            taken = await self._take_or_bury(sink, partition, left)
            done += [each.stream_id for each in left[:taken]]
            left = left[taken:]
            if left:
                await self._done(sink, partition, done)
                done = []
        await self._done(sink, partition, done, release=release)

    async def _take_or_bury(self, sink: Sink, partition: str, entries: Sequence[Entry]) -> int:
        """Return how many, from the first on, the sink has or is never to have."""
        try:
            return await self._take(sink, partition, entries)
        except SinkUnavailable as error:
            waited_s = _waited_s(entries[0])
            if waited_s <= error.give_up_s:
                raise
            why = f"not delivered for {waited_s:.0f} s: {error}"
            await self._bury(sink, partition, entries[0].stream_id, why)
            return 1
        except Exception:  # noqa: BLE001  (whose fault it is shows when they come one by one)
            for entry in entries:
                why = await self._try(sink, partition, entry)
                if why:
                    await self._bury(sink, partition, entry.stream_id, why)
                else:
                    await self._done(sink, partition, [entry.stream_id])
            return len(entries)

    async def _take(self, sink: Sink, partition: str, entries: Sequence[Entry]) -> int:
        try:
            async with asyncio.timeout(self._limit_s):
                taken = await sink.take(partition, [each.event for each in entries])
        except TimeoutError:
            raise SinkUnavailable("timeout") from None
        except StoreUnavailable as error:  # it needs Redis too: no fault of an event
            raise SinkUnavailable(error.kind, str(error)) from error
        if taken < 1:
            raise SinkUnavailable("nothing_taken")
        self.delivered[sink.name] += taken
        return taken

    async def _try(self, sink: Sink, partition: str, entry: Entry) -> str:
        """Return why the event cannot be taken, after several tries; "" when it was taken."""
        why = ""
        for pause_s in (0.0, *_RETRY_S[: TRIES - 1]):
            await asyncio.sleep(pause_s)
            await self._done(sink, partition, ())  # go on holding it: each try may take long
            try:
                await self._take(sink, partition, (entry,))
            except SinkUnavailable:
                raise
            except Exception as error:  # noqa: BLE001
                why = f"{type(error).__name__}: {error}"[:500]
            else:
                return ""
        return why

    async def _done(
        self, sink: Sink, partition: str, stream_ids: Sequence[str], *, release: bool = False
    ) -> None:
        if not await self._outbox.done(sink.name, partition, stream_ids, release=release):
            raise _NotHeld

    async def _bury(self, sink: Sink, partition: str, stream_id: str, why: str) -> None:
        if not await self._outbox.bury(sink.name, partition, stream_id, why):
            raise _NotHeld
        self.buried[sink.name] += 1
        log.error("dead_letter", sink=sink.name, partition=partition, entry=stream_id, why=why)


def _waited_s(entry: Entry) -> float:
    """Return for how long it has been in the outbox: since it was put back, if it was."""
    return time.time() - int(entry.stream_id.partition("-")[0]) / 1000


def is_cancelled() -> bool:
    """Tell whether this task was cancelled: redis-py swallows that now and then (measured)."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Trouble:
    """Tells once that a sink is away, now and then that it still is, and waits ever longer."""

    def __init__(self, sink: str) -> None:
        self._sink = sink
        self._pause_s = 0.0
        self._told_s = 0.0

    async def pause(self, error: Exception) -> None:
        now_s = asyncio.get_running_loop().time()
        if not self._pause_s or now_s - self._told_s > _REMIND_S:
            self._told_s = now_s
            log.error("sink_unavailable", sink=self._sink, why=str(error) or type(error).__name__,
                      what="its events wait in the outbox")  # fmt: skip
        self._pause_s = min(max(0.1, 2 * self._pause_s), _LONGEST_PAUSE_S)
        asked_s = error.pause_s if isinstance(error, SinkUnavailable) else 0.0
        await asyncio.sleep(max(asked_s, self._pause_s * random.uniform(0.5, 1.0)))  # noqa: S311

    def is_over(self) -> None:
        if self._pause_s:
            log.info("sink_answers", sink=self._sink)
        self._pause_s = 0.0
