"""What was found about a session's use waits until it can be told, and never without bound."""

from __future__ import annotations

import asyncio
from unittest.mock import patch

import pytest

from gateway import sightings
from gateway.alerts import Action, Alert
from gateway.errors import StoreUnavailable
from gateway.identity import standing_of
from gateway.model import Caller, SessionKey, Standing
from gateway.sightings import Sightings

from .samples import make_session

SOMEBODY = Caller("203.0.113.1")


class Store:
    """Takes what is told, but for the first `faults` times."""

    def __init__(self, faults: int = 0, kind: str = "timeout") -> None:
        self.faults = faults
        self.kind = kind
        self.told: list[str] = []
        self.ended: list[tuple[str, str]] = []

    async def note_use(self, _: Standing, __: Caller, alerts: tuple[Alert, ...]) -> None:
        self.faults -= 1
        if self.faults >= 0:
            raise StoreUnavailable(self.kind)
        self.told += [alert.fact for alert in alerts]

    async def end(self, session_id: str, why: str) -> None:
        self.ended.append((session_id, why))


def alert(fact: str, action: Action = Action.ALERT) -> Alert:
    return Alert("address_changed", action, fact, {})


async def settle(found: Sightings) -> None:
    with patch.object(sightings, "_RETRY_S", 0.0):
        task = asyncio.create_task(found.run())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not found._waiting
        task.cancel()


def build(store: Store) -> Sightings:
    return Sightings(store, store.end)  # type: ignore[arg-type]


async def test_what_could_not_be_told_is_told_later_and_once() -> None:
    store = Store(faults=3)
    found, session = build(store), standing_of(make_session())
    for _ in range(5):
        found.note(session, SOMEBODY, (alert("a"), alert("b")))
    await settle(found)
    found.note(session, SOMEBODY, (alert("a"),))
    await settle(found)
    assert store.told == ["a", "b"]


async def test_a_record_that_is_none_holds_up_no_other() -> None:
    store = Store(faults=1, kind="garbage_record")
    found, session = build(store), standing_of(make_session())
    found.note(session, SOMEBODY, (alert("a"), alert("b")))
    await settle(found)
    assert store.told == ["b"]


@pytest.mark.parametrize("faults", [0, 1])
async def test_a_session_ends_although_nothing_can_be_told(faults: int) -> None:
    store = Store(faults)
    found, session = build(store), standing_of(make_session())
    found.note(session, SOMEBODY, (alert("a", Action.END),))
    await settle(found)
    assert (session.key.id, "address_changed") in store.ended


async def test_waiting_and_remembering_have_bounds() -> None:
    store = Store()
    found, session = build(store), standing_of(make_session())
    for number in range(200):
        found.note(session, SOMEBODY, (alert(str(number)),))
    assert len(found._waiting) == 50
    for number in range(20_000):
        key = SessionKey("00", f"{number:032x}")
        found.note(Standing(*key, (), 0, 0, 0, b""), SOMEBODY, (alert("a"),))
    assert len(found._waiting) == 10_000
    assert len(found._noted) <= 10_000
