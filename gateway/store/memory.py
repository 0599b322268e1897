"""Answering checks from memory: the near cache, the link that feeds it, and the other replicas."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from redis.asyncio import Redis

from ..errors import StoreUnavailable
from ..identity import Stand
from ..model import SessionKey
from ..ports import Reading, Touched
from .keys import Keys
from .link import Endpoint, Link
from .near_cache import NearCache
from .replicas import Replicas


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """How much is remembered here, and how long it may be trusted without a word from Redis."""

    lease_ms: int = 500
    confirm_timeout_ms: int = 1000
    max_entries: int = 500_000
    max_bytes: int = 256 * 1024 * 1024


class Memory:
    """What one replica remembers. Nothing is trusted before `open` and after `close`."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        options: MemoryOptions,
        *,
        stand: Stand,
        count_error: Callable[[str], None],
    ) -> None:
        self.near = NearCache(
            lease_ms=options.lease_ms,
            max_entries=options.max_entries,
            max_bytes=options.max_bytes,
        )
        self.recall = self.near.recall
        self.replicas = Replicas(
            client, keys, secrets.token_hex(6), lease_ms=options.lease_ms,
            confirm_timeout_s=options.confirm_timeout_ms / 1000,
            believes_registry=self._believes_registry, count_error=count_error,
        )  # fmt: skip
        self._link = Link(
            Endpoint.of(client), keys, self.near, self.replicas, stand=stand,
            count_error=count_error,
        )  # fmt: skip
        self._registry_lasts = False
        self._task: asyncio.Task[None] | None = None

    def open(self, *, knows_flags: bool, registry_lasts: bool) -> None:
        """Begin to remember. `registry_lasts`: Redis evicts nothing, so the registry is whole."""
        self._registry_lasts = registry_lasts
        if self._task is None:
            self._task = asyncio.create_task(self._link.run(knows_flags=knows_flags))

    async def close(self) -> None:
        """Trust nothing any more, and say so."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            with suppress(StoreUnavailable):
                await self.replicas.leave()

    async def read(self, key: SessionKey) -> Reading | None:
        """Return what Redis has now, remembered from now on; None if the link cannot be used.

        Raises StoreUnavailable if Redis answers nonsense, or nothing in time.
        """
        stream = self._link.stream
        if stream is None:
            return None
        try:
            return await asyncio.shield(stream.read(key))  # others may wait for the same answer
        except StoreUnavailable as error:
            if error.kind == "connection":
                return None
            raise

    def note_touched(self, key: SessionKey, touched: Touched | None) -> None:
        """Take over what a touch learnt: a later activity, or that there is no such session."""
        if touched is None:
            self.near.forget(key)
        else:
            self.near.note_activity(key, touched.seen_ms)

    def _believes_registry(self) -> bool:
        """A server that has just taken another's place may not know who registered there."""
        return self._registry_lasts and self._link.steady_for(2 * self.near.lease_ms / 1000)
