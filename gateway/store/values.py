"""Several string values at once, without mistaking what is there for what is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError, RedisError

from ..errors import StoreUnavailable


async def mget_and_time(
    client: Redis, names: Sequence[str], *, from_master: bool = False
) -> tuple[list[Any], int]:
    """Return the value of each name, and Redis' time in ms.

    With `from_master`, raise ReadOnlyError if they come from a replica: after a failover it may
    serve for long what has ended on the new primary.

    A value is bytes, None where there is no key, or the error of that one key: MGET says nil of a
    key that holds no string, so what it did not find is asked for again, one by one. That costs a
    second round trip for what is not there, and none for a live session.
    """
    pipeline = client.pipeline(transaction=False)
    pipeline.mget(names)
    pipeline.time()
    if from_master:
        pipeline.execute_command("HELLO")
    values, (seconds, microseconds), *hello = await pipeline.execute()
    if from_master and [_role(each) for each in hello] != [b"master"]:
        raise ReadOnlyError("this is a replica")
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


def _role(hello: Any) -> object:
    """Return the role from the reply to HELLO: a map, or names and values in turn."""
    fields = hello if isinstance(hello, dict) else dict(zip(hello[::2], hello[1::2], strict=True))
    return fields.get(b"role")


async def mget(client: Redis, names: Sequence[str]) -> list[bytes | None]:
    """Return the value of each name; raise the first error of any."""
    values, _ = await mget_and_time(client, names)
    for value in values:
        if isinstance(value, RedisError):
            raise value
    return values
