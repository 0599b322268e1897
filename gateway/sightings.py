"""Tells of sessions that somebody else uses than signed in, off the answer's path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from .alerts import Action, Alert
from .errors import StoreUnavailable
from .model import Caller, SessionKey, Standing
from .ports import SessionStore

_MOST_FACTS = 50  # of one session: whoever holds it can be somebody else with every request
_MOST_SESSIONS = 10_000
_MOST_WAITING = 10_000
_RETRY_S = 1.0


class _Sighting(NamedTuple):
    session: Standing
    caller: Caller
    alert: Alert


class Sightings:
    """Collects what `binding` has found; `run` writes it, and ends sessions where that follows.

    `end` gets a session's id and why.
    """

    def __init__(
        self, store: SessionStore, end: Callable[[str, str], Awaitable[object]]
    ) -> None:
        self._store = store
        self._end = end
        self._waiting: list[_Sighting] = []
        self._noted: dict[SessionKey, set[str]] = {}  # what Redis need not be asked again
        self._work = asyncio.Event()

    def note(self, session: Standing, caller: Caller, alerts: tuple[Alert, ...]) -> None:
        """Remember what is to be told; returns at once."""
        for alert in alerts:
            if len(self._waiting) < _MOST_WAITING and self._is_new(session.key, alert.fact):
                self._waiting.append(_Sighting(session, caller, alert))
                self._work.set()

    def _is_new(self, key: SessionKey, fact: str) -> bool:
        facts = self._noted.get(key)
        if facts is None:
            if len(self._noted) >= _MOST_SESSIONS:
                self._noted.clear()
            facts = self._noted[key] = set()
        if fact in facts or len(facts) >= _MOST_FACTS:
            return False
        facts.add(fact)
        return True

    async def run(self) -> None:
        """Tell of what waits, for as long as the task lives; what cannot be told waits on."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                try:
                    await self._tell(*self._waiting[0])
                except StoreUnavailable as error:
                    if error.kind != "garbage_record":  # of such a session nothing can be told
                        await asyncio.sleep(_RETRY_S)
                        continue
                del self._waiting[0]

    async def _tell(self, session: Standing, caller: Caller, alert: Alert) -> None:
        """Without memory in Redis nothing can be told, but a session can end."""
        try:
            await self._store.note_use(session, caller, (alert,))
        finally:
            if alert.action is Action.END:
                await self._end(session.key.id, alert.type)
