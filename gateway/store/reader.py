"""Reads of sessions, gathered: all checks that begin in one turn of the loop share a round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from ..errors import StoreUnavailable
from ..model import SessionKey
from ..ports import Reading
from .faults import as_unavailable
from .keys import Keys
from .records import parse

MAX_BATCH = 256

# Proxies give up after 200 ms (Envoy's default); the answer must be out before, whatever happens.
DEADLINE_S = 0.12


class Reader:
    """Answers `read` within `DEADLINE_S`, or raises StoreUnavailable."""

    def __init__(self, client: Redis, keys: Keys, count_error: Callable[[str], None]) -> None:
        self._client = client
        self._keys = keys
        self._count_error = count_error
        self._waiting: dict[SessionKey, asyncio.Future[Reading]] = {}
        self._batches: set[asyncio.Task[None]] = set()

    async def read(self, key: SessionKey) -> Reading:
        """Return what Redis has under `key`, and Redis' time of that answer."""
        future = self._waiting.get(key)
        if future is None:
            loop = asyncio.get_running_loop()
            if not self._waiting:
                loop.call_soon(self._send)
            future = self._waiting[key] = loop.create_future()
        return await asyncio.shield(future)  # another check may wait for the same answer

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, {}
        entries = list(waiting.items())
        for start in range(0, len(entries), MAX_BATCH):
            task = asyncio.create_task(self._read_batch(dict(entries[start : start + MAX_BATCH])))
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)

    async def _read_batch(self, waiting: dict[SessionKey, asyncio.Future[Reading]]) -> None:
        try:
            with as_unavailable(self._count_error):
                async with asyncio.timeout(DEADLINE_S):
                    replies = await self._fetch(list(waiting))
        except StoreUnavailable as error:
            for future in waiting.values():
                _fail(future, error)
            return
        seconds, microseconds = replies[-1]
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        for (key, future), reply in zip(waiting.items(), replies, strict=False):
            self._settle(key, future, reply, now_ms)

    async def _fetch(self, keys: list[SessionKey]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.mget(self._keys.record(key), self._keys.activity(key))
        pipeline.time()
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        failed = next((reply for reply in replies if isinstance(reply, Exception)), None)
        if failed is not None:
            raise failed
        return replies

    def _settle(
        self,
        key: SessionKey,
        future: asyncio.Future[Reading],
        reply: list[bytes | None],
        now_ms: int,
    ) -> None:
        try:
            with as_unavailable(self._count_error):
                record, activity = reply
                reading = Reading(parse(key, record, activity), now_ms)
        except StoreUnavailable as error:
            _fail(future, error)
        else:
            if not future.done():
                future.set_result(reading)

    async def close(self) -> None:
        """Let the batches that are under way finish; each ends by its deadline."""
        if self._batches:
            await asyncio.wait(self._batches)


def _fail(future: asyncio.Future[Reading], error: StoreUnavailable) -> None:
    if not future.done():
        future.set_exception(StoreUnavailable(error.kind))
        future.exception()  # the caller may be gone; then nobody else would fetch it
