"""Who answers checks from memory, and which of them have passed a change.

A change writes a fence: a key that every replica sees invalidated in its own stream, with or after
what the change itself invalidated (in 10,000 of 10,000 trials; a PUBLISH from the same script came
before it in 3,000 of 3,000). A replica that sees the fence has dropped the old facts, and says so
on the channel of whoever waits.

Replicas register in a hash with each heartbeat. No clock is compared between machines: who did not
confirm within a lease of *our* clock after the change was made cannot trust its memory any more.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from time import monotonic  # not the loop's time: uvloop's is as old as its turn
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from redis.asyncio import Redis

from ..errors import StoreUnavailable
from ..ports import Confirmation
from .faults import as_unavailable
from .keys import Keys

# How much faster than ours a replica's clock may run, and the timers' own resolution.
DRIFT = 0.01
RESOLUTION_S = 0.002
UNKNOWN = "?"
_DIGITS = 18

_REMOVE_IF_SILENT = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
"""


class _Silence(NamedTuple):
    """What a replica's heartbeats stood at, and since when we have seen no other figure."""

    beats: bytes
    since: float


def bound_s(replica: str) -> float:
    """Return how long after the last sign of life a replica cannot trust its memory any more."""
    lease_ms = replica.rpartition("-")[2]
    return int(lease_ms) / 1000 * (1 + DRIFT) + RESOLUTION_S if _is_number(lease_ms) else 0.0


def _is_number(text: str) -> bool:
    """Tell whether it is one that we may have written; anybody can write to Redis."""
    return text.isascii() and text.isdigit() and len(text) < _DIGITS


class ReplicaFence:
    """One change that replicas are to pass; a change of several steps has passed with its last."""

    def __init__(self, coordinator: str, number: int) -> None:
        self._stem = f"!{coordinator}.{number}."
        self._passed: dict[str, int] = {}
        self._news = asyncio.Event()
        self.steps = 0

    def next_step(self) -> str:
        """Return the end of the key to write with the next step of the change."""
        self.steps += 1
        return f"{self._stem}{self.steps}"

    def undo_step(self) -> None:
        self.steps -= 1

    def acknowledge(self, replica: str, step: int) -> None:
        """Note that `replica` has passed everything up to `step`: its stream keeps the order."""
        self._passed[replica] = max(step, self._passed.get(replica, 0))
        self._news.set()

    def passed_by(self, replicas: frozenset[str]) -> frozenset[str]:
        """Return which of these have passed the last step."""
        return frozenset(each for each in replicas if self._passed.get(each, 0) >= self.steps)

    async def passed_by_all(self, replicas: frozenset[str], until: float) -> None:
        """Return when every one of these has passed the last step, or not before `until`."""
        while self.passed_by(replicas) != replicas and (left := until - monotonic()) > 0:
            self._news.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)


class _NoFence:
    """Stands behind nothing: no replica answers from memory."""

    def next_step(self) -> str:
        return ""

    def undo_step(self) -> None:
        """There was none."""


NO_FENCE = _NoFence()


class Replicas:
    """The registry, and the fences that wait for those in it."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        name: str,
        *,
        lease_ms: int,
        confirm_timeout_s: float,
        believes_registry: Callable[[], bool],
        count_error: Callable[[str], None],
    ) -> None:
        self.name = f"{name}-{lease_ms}"  # so that all know how long each may trust its memory
        self._client = client
        self._keys = keys
        self._confirm_timeout_s = confirm_timeout_s
        self._believes_registry = believes_registry
        self._count_error = count_error
        self._numbers = itertools.count(1)
        self._fences: WeakValueDictionary[int, ReplicaFence] = WeakValueDictionary()
        self._silent: dict[str, _Silence] = {}
        self._longest_s = 0.0  # of the leases that were registered when it was last known

    def fence(self) -> ReplicaFence:
        """Begin a change that replicas are to confirm."""
        number = next(self._numbers)
        fence = self._fences[number] = ReplicaFence(self.name, number)
        return fence

    def acknowledge(self, message: bytes) -> None:
        """Take `<number>.<step>.<replica>`, said on our channel; nonsense is not believed."""
        number, _, rest = message.decode("ascii", "replace").partition(".")
        step, _, replica = rest.partition(".")
        fence = self._fences.get(int(number)) if _is_number(number) else None
        if fence is not None and _is_number(step):
            fence.acknowledge(replica, int(step))

    async def confirmed(self, fence: ReplicaFence) -> Confirmation:
        """Wait until no replica can allow by what it knew before the change, or time is up.

        The registry is read after the change: who joins later begins with an empty memory. Where it
        cannot be believed, the wait is a whole lease, as for one replica that never answers.
        """
        if not fence.steps:
            return Confirmation()
        patience_ends = monotonic() + self._confirm_timeout_s
        live = await self._registered()
        longest_s = max(map(bound_s, live), default=0.0)
        # Where the registry may have gaps, what was once in it counts too.
        self._longest_s = max(self._longest_s, longest_s) if UNKNOWN in live else longest_s
        lapsed_at = monotonic() + max(self._longest_s, bound_s(self.name))
        await fence.passed_by_all(live, until=min(lapsed_at, patience_ends))
        all_lapsed = monotonic() >= lapsed_at
        passed = fence.passed_by(live)
        known = live - {UNKNOWN}
        return Confirmation(
            live=len(known),
            confirmed=len(passed),
            lease_expired=len(known) - len(passed) if all_lapsed else 0,
            complete=all_lapsed or passed == live,
        )

    async def remove_silent(self) -> None:
        """Take out of the registry who was silent, between two calls, for longer than its lease.

        Such a replica trusts nothing any more; if it is not dead, it registers again.
        """
        asked = monotonic()
        with as_unavailable(self._count_error):
            registered: dict[Any, Any] = await self._client.hgetall(self._keys.replicas)
            answered = monotonic()
            silent = {}
            for raw, beats in registered.items():
                name = raw.decode("ascii", "replace")
                known = self._silent.get(name)
                since = known.since if known is not None and known.beats == beats else answered
                silent[name] = _Silence(beats, since)
                if asked - since >= bound_s(name):
                    await self._client.eval(_REMOVE_IF_SILENT, 1, self._keys.replicas, raw, beats)
        self._silent = silent
        self._longest_s = max(map(bound_s, silent), default=self._longest_s)

    async def leave(self) -> None:
        """Say that this replica trusts nothing any more, so that nobody waits for it."""
        with as_unavailable(self._count_error):
            await self._client.hdel(self._keys.replicas, self.name)

    async def _registered(self) -> frozenset[str]:
        """Return who has registered, and one more that never answers if some may be missing."""
        unknown = frozenset() if self._believes_registry() else frozenset({UNKNOWN})
        try:
            with as_unavailable(self._count_error):
                names: list[Any] = await self._client.hkeys(self._keys.replicas)
        except StoreUnavailable:
            return frozenset({UNKNOWN})
        return unknown | {name.decode("ascii", "replace") for name in names}
