"""Tells of sessions that somebody else uses than signed in, off the answer's path."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from .alerts import Action, Alert
from .binding import detailed
from .conditions import Locate, nowhere
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
        self,
        store: SessionStore,
        end: Callable[[str, str], Awaitable[object]],
        locate: Locate = nowhere,
    ) -> None:
        self._store = store
        self._end = end
        self._locate = locate
        self._waiting: deque[_Sighting] = deque()
        self._noted: dict[SessionKey, set[str]] = {}  # what Redis need not be asked again
        self._work = asyncio.Event()

    def note(self, session: Standing, caller: Caller, alerts: tuple[Alert, ...]) -> None:
        """Remember what is to be told; returns at once."""
        for alert in alerts:
            if len(self._waiting) < _MOST_WAITING and self._is_new(session.key, alert):
                self._waiting.append(_Sighting(session, caller, alert))
                self._work.set()

    def _is_new(self, key: SessionKey, alert: Alert) -> bool:
        """Tell whether it was not noted. A session ends once for each type, beyond all bounds."""
        ends = alert.action is Action.END
        fact = alert.type if ends else alert.fact
        facts = self._noted.get(key)
        if facts is None:
            if len(self._noted) >= _MOST_SESSIONS:
                self._noted.clear()
            facts = self._noted[key] = set()
        if fact in facts or (len(facts) >= _MOST_FACTS and not ends):
            return False
        facts.add(fact)
        return True

    async def run(self) -> None:
        """Tell of what waits, for as long as the task lives; what cannot be told waits on."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                if not await self._try_each():
                    await asyncio.sleep(_RETRY_S)

    async def _try_each(self) -> bool:
        """Try all that wait, once; tell whether one of them is done. None holds up the others."""
        before = len(self._waiting)
        undone = 0
        for _ in range(before):
            sighting = self._waiting.popleft()
            if not await self._tell(*sighting):
                self._waiting.append(sighting)
                undone += 1
        return undone < before

    async def _tell(self, session: Standing, caller: Caller, alert: Alert) -> bool:
        """Tell whether nothing is left to do.

        What Redis has no memory for cannot be told, but the session can end; of one that has ended
        nothing more is told.
        """
        full = detailed(alert, session.besides.caller or Caller(), caller, self._locate)
        told = await _is_done(self._store.note_use(session, caller, (full,)))
        if alert.action is not Action.END:
            return told
        return await _is_done(self._end(session.key.id, alert.type))


async def _is_done(work: Awaitable[object]) -> bool:
    """Await it; tell whether it need not be tried again."""
    try:
        await work
    except StoreUnavailable as error:
        return error.kind == "garbage_record"  # of such a session nothing can be told
    return True
