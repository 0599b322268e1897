"""Events that a sink could never take: read them, and put them back when the cause is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, NamedTuple

from redis.asyncio import Redis

from . import scripts
from .faults import as_unavailable
from .keys import Keys

_CHUNK = 200

Requeued = Literal["ok", "gone", "full"]


class DeadLetter(NamedTuple):
    """One of them. `fields` are those of the outbox, as they came: they may be no event."""

    id: str  # partition and place, as `requeue` takes it
    sink: str
    event: str  # the id that the event had
    why: str
    fields: dict[str, str]


class DeadLetters:
    """Raises StoreUnavailable as the store does."""

    def __init__(
        self, client: Redis, *, prefix: str, partitions: int, limit: int, sinks: Sequence[str]
    ) -> None:
        self._client = client
        self._keys = Keys(prefix)
        self._partitions = [f"{number:02x}" for number in range(partitions)]
        self._limit = limit
        self._sinks = sinks  # all that must have an event before it may go for a dead letter
        loaded = scripts.register_relay(client, knows_flags=False)
        self._requeue = loaded["relay_requeue"]

    async def all(self) -> AsyncIterator[DeadLetter]:
        """Yield every one, oldest first in each partition."""
        for partition in self._partitions:
            first = "-"
            while found := await self._chunk(partition, first):
                for stream_id, fields in found:
                    yield _dead_letter(partition, stream_id, fields)
                first = f"({found[-1][0].decode()}"

    async def requeue(self, letter_id: str) -> Requeued:
        """Give one to its sink again. It keeps the id by which repeats are told."""
        partition, _, place = letter_id.partition("-")
        if partition not in self._partitions:
            return "gone"
        names = [self._keys.outbox(partition), self._keys.dead_letters(partition)]
        with as_unavailable(lambda _: None):
            reply: Any = await self._requeue(keys=names, args=[place, self._limit, *self._sinks])
        answer: Requeued = reply.decode()
        return answer

    async def _chunk(self, partition: str, first: str) -> Sequence[Any]:
        with as_unavailable(lambda _: None):
            found: Any = await self._client.xrange(
                self._keys.dead_letters(partition), first, "+", _CHUNK
            )
        return found or ()


def _dead_letter(partition: str, stream_id: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    texts = {name.decode(errors="replace"): value.decode(errors="replace")
             for name, value in fields.items()}  # fmt: skip
    sink, event, why = (texts.pop(f"dead.{name}", "") for name in ("sink", "event", "why"))
    return DeadLetter(f"{partition}-{stream_id.decode()}", sink, f"{partition}-{event}", why, texts)
