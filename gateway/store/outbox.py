"""The relay's side of the outbox: one consumer group for each sink, one holder for a partition."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import ResponseError

from ..ports import Batch, Entry, Mark, Unreadable, Witnessed
from . import events, scripts
from .faults import as_unavailable
from .keys import Keys


@dataclass(slots=True)
class Survey:
    """How it stands with the outbox, over all partitions."""

    length: int = 0
    fullest: float = 0.0  # the fullest partition, 1.0: it drops events
    dropped: int = 0
    dead_letters: int = 0
    foreign_groups: int = 0  # of sinks that are not configured here
    lag_s: dict[str, float] = field(default_factory=dict)


class RedisOutbox:
    """See `ports.Outbox` and `ports.Witness` for what the methods promise."""

    def __init__(
        self,
        client: Redis,
        *,
        prefix: str,
        partitions: int,
        limit: int,
        takeover_ms: int,
        count_error: Callable[[str], None],
        sinks: Sequence[str] = (),
        batch: int = 256,
    ) -> None:
        self._client = client
        self._keys = Keys(prefix)
        self._limit = limit
        self._takeover_ms = takeover_ms
        self.sinks = tuple(sinks)  # all that must have an event before it is removed
        self.keeps_all = False  # for want of another place where events can be read
        self._count_error = count_error
        self._batch = batch
        self._relay = secrets.token_hex(8)
        self._loaded: dict[str, AsyncScript] = {}
        self.partitions = tuple(f"{number:02x}" for number in range(partitions))

    async def close(self) -> None:
        await self._client.aclose()

    async def take(self, sink: str, partition: str) -> Batch:
        keys = [self._keys.outbox(partition), self._keys.holder(partition, sink)]
        entries = await self._run(
            "relay_take", keys, sink, self._relay, self._takeover_ms, self._batch
        )
        with as_unavailable(self._count_error):
            return _batch_of(sink, partition, entries, full=len(entries) == self._batch)

    async def done(
        self, sink: str, partition: str, stream_ids: Sequence[str], *, release: bool
    ) -> bool:
        keys = [self._keys.outbox(partition), self._keys.holder(partition, sink)]
        reply = await self._run(
            "relay_done", keys, sink, self._relay, 0 if release else self._takeover_ms,
            int(self.keeps_all), len(self.sinks), *self.sinks, *stream_ids,
        )  # fmt: skip
        return bool(reply)

    async def bury(self, sink: str, partition: str, stream_id: str, why: str) -> bool:
        keys = [
            self._keys.outbox(partition),
            self._keys.holder(partition, sink),
            self._keys.dead_letters(partition),
            self._keys.dropped(partition),
        ]
        reply = await self._run(
            "relay_bury", keys, sink, self._relay, self._takeover_ms, stream_id, why, self._limit
        )
        return bool(reply)

    async def survey(self) -> Survey:
        """Return how full the outbox is and how far behind its sinks are."""
        total = Survey()
        waiting_ms = [0] * len(self.sinks)
        for partition in self.partitions:
            keys = [
                self._keys.outbox(partition),
                self._keys.dead_letters(partition),
                self._keys.dropped(partition),
            ]
            reply = await self._run("relay_survey", keys, *self.sinks)
            length, dead, dropped, foreign, *waiting = map(int, reply)
            total.length += length
            total.fullest = max(total.fullest, length / self._limit)
            total.dropped += dropped
            total.dead_letters += dead
            total.foreign_groups = max(total.foreign_groups, foreign)
            waiting_ms = [max(pair) for pair in zip(waiting_ms, waiting, strict=True)]
        total.lag_s = {sink: ms / 1000 for sink, ms in zip(self.sinks, waiting_ms, strict=True)}
        return total

    async def seen(self, partition: str) -> Witnessed:
        with as_unavailable(self._count_error):
            found: Any = await self._client.hgetall(self._keys.witness(partition))
            marks = {name.decode(): _mark(value) for name, value in found.items()}
        witnessed = Witnessed(contradicted=marks.get("contradicted"))
        known = {name: marks[name] for name in ("start", "head") if name in marks}
        return witnessed._replace(**known)

    async def saw_head(self, partition: str, head: Mark) -> None:
        await self._run("witness", [self._keys.witness(partition)], head.length, head.hash)

    async def saw_start(self, partition: str, start: Mark) -> None:
        with as_unavailable(self._count_error):
            await self._client.hset(self._keys.witness(partition), "start", str(start))

    async def saw_contradiction(self, partition: str, lost: Mark) -> None:
        name = self._keys.witness(partition)
        with as_unavailable(self._count_error):
            await self._client.hsetnx(name, "contradicted", str(lost))
            await self._client.hset(name, "given_up", str(lost))

    async def _run(self, script: str, keys: Sequence[str], *args: Any) -> Any:
        with as_unavailable(self._count_error):
            if not self._loaded:
                self._loaded = scripts.register_relay(
                    self._client, knows_flags=await self._knows_script_flags()
                )
            return await self._loaded[script](keys=keys, args=args)

    async def _knows_script_flags(self) -> bool:
        try:
            await self._client.eval("#!lua flags=allow-oom\nreturn 1", 0)
        except ResponseError:
            return False  # Redis before version 7
        return True


def _mark(text: bytes) -> Mark:
    length, _, digest = text.decode().partition(":")
    return Mark(int(length), digest)


def _batch_of(sink: str, partition: str, found: Sequence[Any], *, full: bool) -> Batch:
    entries, unreadable, skipped = [], [], []
    for stream_id, fields in _pairs(found):
        if fields is None:
            skipped.append(stream_id.decode())
            continue
        try:
            event, only = events.parse(partition, stream_id, fields)
        except ValueError as error:
            why = f"no event: {type(error).__name__}"
            unreadable.append(Unreadable(stream_id.decode(), why))
            continue
        if only in ("", sink):
            entries.append(Entry(stream_id.decode(), event))
        else:
            skipped.append(stream_id.decode())
    return Batch(tuple(entries), tuple(unreadable), tuple(skipped), full)


def _pairs(entries: Sequence[Any]) -> Iterator[tuple[bytes, Any]]:
    """Return ids and fields. Lua cuts a list at its first nil: {id} of an entry without fields."""
    for entry in entries:
        yield entry[0], entry[1] if len(entry) > 1 else None
