"""Notes activity off the answer's path: at most one write per session and interval."""

from __future__ import annotations

import asyncio

from .errors import StoreUnavailable
from .model import SessionKey, Standing
from .ports import SessionStore

_MAX_WAITING = 10_000
_PER_IDLE = 20  # a session ends at most a twentieth of its idle time early


class Touches:
    """Collects the sessions whose last activity is stale; `run` writes them."""

    def __init__(self, store: SessionStore, interval_ms: int) -> None:
        self._store = store
        self._interval_ms = interval_ms
        self._waiting: dict[SessionKey, Standing] = {}
        self._work = asyncio.Event()

    def note(self, session: Standing, now_ms: int) -> None:
        """Remember that `session` was active; returns at once.

        When more wait than fit, this one is noted at its next check.
        """
        rested_ms = now_ms - session.last_seen_ms
        if rested_ms < self._interval_ms and rested_ms * _PER_IDLE < session.idle_ms:
            return
        if len(self._waiting) < _MAX_WAITING:
            self._waiting[session.key] = session
            self._work.set()

    async def run(self) -> None:
        """Write what waits, for as long as the task lives."""
        while True:
            await self._work.wait()
            self._work.clear()
            waiting, self._waiting = self._waiting, {}
            try:
                for session in waiting.values():
                    await self._store.touch(session.key, self._interval(session))
            except StoreUnavailable:
                # The rest is let go: written after a long outage it would count as activity then.
                # A lost touch ends a session early, never late; the next check tries again.
                continue

    def _interval(self, session: Standing) -> int:
        return max(1, min(self._interval_ms, session.idle_ms // _PER_IDLE))
