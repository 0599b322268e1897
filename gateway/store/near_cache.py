"""What this replica remembers of sessions, and the lease under which it may trust that.

Facts are remembered, never decisions. Memory is trusted only while a heartbeat that was *sent*
less than a lease ago was answered by a master: a server that hangs or a network that drops
packets gives no sign at all, only the lease ends trust then. No I/O here; `link` feeds it in the
order of Redis' own stream.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import partial

from ..model import NOTHING_BESIDES, SessionKey, Standing

# Includes the time that the machine was suspended; CLOCK_MONOTONIC does not, on Linux.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# What an entry takes besides its header lines and roles (measured, 64 bits).
_ENTRY_BYTES = 472
# Of what only some configurations need of a session (`Besides`), empty.
_BESIDES_BYTES = 104
# Of a caller together with the text of its address; browsers' headers are few, and shared.
_CALLER_BYTES = 400
# The same of the profiles' header lines together with the e-mail address, and of each of them.
_PROFILES_BYTES, _PROFILE_BYTES = 90, 41
_EVICTED_AT_ONCE = 16  # a sixteenth: to find the oldest of a dict takes longer the more went before


# Nanoseconds of a clock that nobody sets and that suspending does not stop.
elapsed_ns = partial(time.clock_gettime_ns, _CLOCK)


class NearCache:
    """Live sessions, bounded by entries and by bytes; the oldest go first.

    Only live sessions are kept, so unknown tokens cannot push any out.
    """

    def __init__(
        self,
        *,
        lease_ms: int,
        max_entries: int,
        max_bytes: int,
        clock: Callable[[], int] = elapsed_ns,
    ) -> None:
        self.lease_ms = lease_ms
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: dict[str, Standing] = {}  # by digest
        self._bytes = 0
        self._trusted_until_ms = 0
        self.hits = self.misses = self.untrusted = 0
        self._skew_ms = 0  # Redis' clock minus ours, never too low: entries end early, not late

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """About how much memory the entries take."""
        return self._bytes

    def now_ms(self) -> int:
        """Return the time on our own clock; only for `extend_lease`."""
        return self._clock() // 1_000_000

    def fresh(self) -> bool:
        """Tell whether memory may be trusted now."""
        return self.now_ms() < self._trusted_until_ms

    def recall(self, key: SessionKey) -> tuple[Standing, int] | None:
        """Return the session if it is known, has not ended by itself, and may be trusted."""
        now = self._clock() // 1_000_000
        session = self._entries.get(key.digest)
        if now >= self._trusted_until_ms:
            self.untrusted += 1
            return None
        now += self._skew_ms
        if (
            session is None
            or session.partition != key.partition
            or now >= session.expires_ms  # Redis may push nothing for long after a TTL ran out
            or now >= session.last_seen_ms + session.idle_ms
        ):
            self.misses += 1
            return None
        self.hits += 1
        return session, now

    def extend_lease(self, sent_ms: int, redis_ms: int) -> None:
        """Note that a master, whose clock said `redis_ms`, answered what was sent at `sent_ms`."""
        self._trusted_until_ms = max(self._trusted_until_ms, sent_ms + self.lease_ms)
        self._skew_ms = redis_ms - sent_ms

    def keep(self, session: Standing) -> None:
        """Remember a session that was read in the stream's order."""
        self._drop(session.digest)
        self._entries[session.digest] = session
        self._bytes += _size(session)
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._evict()

    def note_activity(self, key: SessionKey, seen_ms: int) -> None:
        """Note that Redis has a later activity of a session than the one that is remembered."""
        old = self._entries.get(key.digest)
        if old is not None and seen_ms > old.last_seen_ms:
            self._entries[key.digest] = old.seen_at(seen_ms)

    def forget(self, key: SessionKey) -> None:
        """Drop one session."""
        self._drop(key.digest)

    def forget_all(self) -> None:
        """Drop everything and the lease with it: the stream is broken, or Redis was flushed."""
        self._trusted_until_ms = 0
        self._entries.clear()
        self._bytes = 0

    def _drop(self, digest: str) -> None:
        old = self._entries.pop(digest, None)
        if old is not None:
            self._bytes -= _size(old)

    def _evict(self) -> None:
        count = len(self._entries) // _EVICTED_AT_ONCE + 1
        for digest in list(itertools.islice(self._entries, count)):
            self._drop(digest)


def _size(session: Standing) -> int:
    own, besides = _ENTRY_BYTES + len(session.identity), session.besides
    if besides is NOTHING_BESIDES:
        return own
    own += _BESIDES_BYTES + len(besides.claims) + (_CALLER_BYTES if besides.caller else 0)
    if not besides.profiles:
        return own
    blocks = sum(len(each) + _PROFILE_BYTES for each in besides.profiles)
    return own + _PROFILES_BYTES + blocks + len(besides.email)
