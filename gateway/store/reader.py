"""Reads of sessions, gathered: all checks that begin in one turn of the loop share a round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from redis.asyncio import Redis

from ..errors import StoreUnavailable
from ..model import SessionKey
from ..ports import Reading
from .faults import as_unavailable
from .keys import Keys
from .values import Stored, fetch

Fetched = TypeVar("Fetched")

MAX_BATCH = 256

# Proxies give up after 200 ms (Envoy's default); the answer must be out before, whatever happens.
# The grace is for a reply that is there already but that a busy loop has not come to yet:
# without it, 1,000 checks at once were refused by the dozen while Redis was well (measured).
DEADLINE_S = 0.11
GRACE_S = 0.03


class Reader:
    """Answers `read` within `DEADLINE_S`, or raises StoreUnavailable."""

    def __init__(self, client: Redis, keys: Keys, count_error: Callable[[str], None]) -> None:
        self._client = client
        self._keys = keys
        self._count_error = count_error
        self.demands_master = False  # until it is known that the server can tell
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
        """Settle every future, also when this fails in a way that nobody thought of."""
        failure = StoreUnavailable("other")
        try:
            with as_unavailable(self._count_error):
                stored, now_ms = await _in_time(self._fetch(list(waiting)))
            for each in stored:
                self._settle(waiting[each.key], each, now_ms)
        except StoreUnavailable as error:
            failure = error
        finally:
            for future in waiting.values():
                _fail(future, failure)

    async def _fetch(self, wanted: list[SessionKey]) -> tuple[list[Stored], int]:
        return await fetch(self._client, self._keys, wanted, from_master=self.demands_master)

    def _settle(self, future: asyncio.Future[Reading], stored: Stored, now_ms: int) -> None:
        try:
            with as_unavailable(self._count_error):
                reading = Reading(stored.session(), now_ms)
        except StoreUnavailable as error:
            _fail(future, error)
        else:
            if not future.done():
                future.set_result(reading)

    async def close(self) -> None:
        """Let the batches that are under way finish; each ends by its deadline."""
        if self._batches:
            await asyncio.wait(self._batches)


async def _in_time(fetch: Coroutine[Any, Any, Fetched]) -> Fetched:
    """Return what `fetch` returns, or raise TimeoutError after the deadline and its grace."""
    task = asyncio.create_task(fetch)
    task.add_done_callback(_take_exception)
    try:
        for limit in (DEADLINE_S, GRACE_S):
            done, _ = await asyncio.wait([task], timeout=limit)
            if done:
                return task.result()
    finally:
        task.cancel()  # redis-py closes the connection of a call that is cancelled
    raise TimeoutError


def _take_exception(task: asyncio.Task[Any]) -> None:
    """A fetch that fails after its deadline has nobody left to tell."""
    if not task.cancelled():
        task.exception()


def _fail(future: asyncio.Future[Reading], error: StoreUnavailable) -> None:
    if not future.done():
        future.set_exception(StoreUnavailable(error.kind))
        future.exception()  # the caller may be gone; then nobody else would fetch it
