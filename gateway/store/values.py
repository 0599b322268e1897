"""What is stored of several sessions, without mistaking what is there for what is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError

from ..errors import StoreUnavailable
from ..model import Session, SessionKey
from .keys import Keys
from .records import parse


class Stored(NamedTuple):
    """Record and activity of one session: None where there is none, or the error of that one."""

    key: SessionKey
    record: Any
    activity: Any

    def believed(self) -> Stored:
        """Return this, or raise the error in it."""
        for value in (self.record, self.activity):
            if isinstance(value, Exception):
                raise value
        return self

    def session(self) -> Session | None:
        """Return the session, whether it has rested too long or not; raises what is wrong."""
        self.believed()
        return parse(self.key, self.record, self.activity)


async def fetch(
    client: Redis, keys: Keys, wanted: Sequence[SessionKey], *, from_master: bool = False
) -> tuple[list[Stored], int]:
    """Return what is stored of each session in turn, and Redis' time in ms.

    With `from_master`, raise ReadOnlyError if it comes from a replica: after a failover it may
    serve for long what has ended on the new primary.

    MGET says nil of a key that holds no string, so the records that it did not find are asked for
    again, one by one. That costs a second round trip for what is not there, and none for a live
    session.
    """
    pipeline = client.pipeline(transaction=False)
    pipeline.mget([keys.record(each) for each in wanted])
    for each in wanted:
        pipeline.zscore(keys.activities(each.partition), each.digest)
    pipeline.time()
    if from_master:
        pipeline.execute_command("HELLO")
    records, *replies = await pipeline.execute(raise_on_error=False)
    activities, others = map(_score, replies[: len(wanted)]), replies[len(wanted) :]
    (seconds, microseconds), *hello = map(_believed, others)
    if from_master and [_role(each) for each in hello] != [b"master"]:
        raise ReadOnlyError("this is a replica")
    if len(_believed(records)) != len(wanted):
        raise StoreUnavailable("short_reply")
    missing = [place for place, record in enumerate(records) if record is None]
    if missing:
        for place in missing:
            pipeline.get(keys.record(wanted[place]))
        again = await pipeline.execute(raise_on_error=False)
        for place, record in zip(missing, again, strict=True):
            records[place] = record
    stored = [Stored(*each) for each in zip(wanted, records, activities, strict=True)]
    return stored, int(seconds) * 1000 + int(microseconds) // 1000


def _believed(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply


def _score(reply: Any) -> Any:
    """Return the score as a number: RESP2 brings it as text."""
    return float(reply) if isinstance(reply, bytes) else reply


def _role(hello: Any) -> object:
    """Return the role from the reply to HELLO: a map, or names and values in turn."""
    fields = hello if isinstance(hello, dict) else dict(zip(hello[::2], hello[1::2], strict=True))
    return fields.get(b"role")
