"""Alerts on their way from where they were raised to the lists that others read.

The script that raises an alert puts it into a list of the user's slot; from there it goes on, to
every list, at least once: it is taken away only after all of them have it. Its `id` tells repeats.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ..errors import StoreUnavailable
from .faults import as_unavailable
from .keys import Keys

_BATCH = 100
_POLL_S = 1.0
_TURN_MS = 5000  # who dies in its turn keeps the others waiting for so long
_END_TURN = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1])"


@dataclass(frozen=True, slots=True)
class Lists:
    """Where alerts go, and how many each list may hold; then the oldest go."""

    names: Sequence[str]
    most: int


class AlertQueue:
    """Pushes waiting alerts to the lists, for as long as `run` runs. Nobody waits for it."""

    def __init__(
        self,
        client: Redis,
        prefix: str,
        partitions: int,
        lists: Lists,
        *,
        count_error: Callable[[str], None],
        count_pushed: Callable[[int], None],
        count_dropped: Callable[[int], None],
    ) -> None:
        self._client = client
        self._keys = Keys(prefix)
        self._names = [self._keys.alerts(f"{number:02x}") for number in range(partitions)]
        self._lists = lists
        self._count_error = count_error
        self._count_pushed = count_pushed
        self._count_dropped = count_dropped
        self._raised = asyncio.Event()

    def note(self) -> None:
        """Look now: an alert was raised."""
        self._raised.set()

    async def run(self) -> None:
        """Push what waits, at once when an alert was raised here, else every second."""
        while True:
            try:
                async with asyncio.timeout(_POLL_S):
                    await self._raised.wait()
            except TimeoutError:
                pass
            self._raised.clear()
            try:
                await self.push()
            except StoreUnavailable:  # counted; what waits goes on waiting
                await asyncio.sleep(_POLL_S)

    async def push(self) -> int:
        """Push all that waits, unless another replica is about it; return how many."""
        mine = secrets.token_hex(8)
        with as_unavailable(self._count_error):
            if not await self._client.set(self._keys.pushing, mine, nx=True, px=_TURN_MS):
                return 0
            try:
                pushed = await self._push_all()
            except RedisError:
                await self._end_turn(mine)
                raise
            # Not where this is cancelled: nothing is awaited any more then, the turn ends itself.
            await self._end_turn(mine)
        return pushed

    async def _push_all(self) -> int:
        pushed = 0
        while moved := await self._push_batches():
            pushed += moved
            await self._client.pexpire(self._keys.pushing, _TURN_MS)
        return pushed

    async def _end_turn(self, mine: str) -> None:
        ended: Any = self._client.eval(_END_TURN, 1, self._keys.pushing, mine)
        await ended

    async def waiting(self) -> int:
        """Return how many alerts have not been pushed yet."""
        with as_unavailable(self._count_error):
            pipeline = self._client.pipeline(transaction=False)
            for name in self._names:
                pipeline.llen(name)
            return sum(await pipeline.execute())

    async def _push_batches(self) -> int:
        pipeline = self._client.pipeline(transaction=False)
        for name in self._names:
            pipeline.lrange(name, 0, _BATCH - 1)
        batches = await pipeline.execute()
        waiting = [each for batch in batches for each in batch]
        if waiting:
            await self._push_to_lists(waiting)
            taken = self._client.pipeline(transaction=False)
            for name, batch in zip(self._names, batches, strict=True):
                for each in batch:
                    taken.lrem(name, 1, each)
            await taken.execute()
            self._count_pushed(len(waiting))
        return len(waiting)

    async def _push_to_lists(self, alerts: list[bytes]) -> None:
        """The newest first, as LPUSH does; who takes with BRPOP gets them in order."""
        pipeline = self._client.pipeline(transaction=False)
        for name in self._lists.names:
            pipeline.lpush(name, *alerts)
            pipeline.ltrim(name, 0, self._lists.most - 1)
        lengths = (await pipeline.execute())[::2]
        self._count_dropped(sum(max(0, length - self._lists.most) for length in lengths))
