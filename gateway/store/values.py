"""Several string values at once, without mistaking what is there for what is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ..errors import StoreUnavailable


async def mget_and_time(client: Redis, names: Sequence[str]) -> tuple[list[Any], int]:
    """Return the value of each name, and Redis' time in ms.

    A value is bytes, None where there is no key, or the error of that one key: MGET says nil of a
    key that holds no string, so what it did not find is asked for again, one by one. That costs a
    second round trip for what is not there, and none for a live session.
    """
    pipeline = client.pipeline(transaction=False)
    pipeline.mget(names)
    pipeline.time()
    values, (seconds, microseconds) = await pipeline.execute()
    if len(values) != len(names):
        raise StoreUnavailable("short_reply")
    missing = [place for place, value in enumerate(values) if value is None]
    if missing:
        for name in missing:
            pipeline.get(names[name])
        again = await pipeline.execute(raise_on_error=False)
        for place, value in zip(missing, again, strict=True):
            values[place] = value
    return values, int(seconds) * 1000 + int(microseconds) // 1000


async def mget(client: Redis, names: Sequence[str]) -> list[bytes | None]:
    """Return the value of each name; raise the first error of any."""
    values, _ = await mget_and_time(client, names)
    for value in values:
        if isinstance(value, RedisError):
            raise value
    return values
