"""What was found about a session's use waits until it can be told, and never without bound."""

from __future__ import annotations

import asyncio
import contextlib
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
WELL = standing_of(make_session(token=b"0b" + b"B" * 43))


class Store:
    """Takes what is told, but for the first `faults` times."""

    def __init__(self, faults: int = 0, kind: str = "timeout") -> None:
        self.faults = faults
        self.kind = kind
        self.told: list[str] = []
        self.ended: list[tuple[str, str]] = []

    async def note_use(
        self, session: Standing, caller: Caller, alerts: tuple[Alert, ...]
    ) -> None:
        del session, caller
        self.faults -= 1
        if self.faults >= 0:
            raise StoreUnavailable(self.kind)
        self.told += [alert.fact for alert in alerts]

    async def end(self, session_id: str, why: str) -> None:
        self.ended.append((session_id, why))


class OneSick(Store):
    """Cannot write what is told of any session but `WELL`."""

    tries = 0

    async def note_use(self, session: Standing, caller: Caller, alerts: tuple[Alert, ...]) -> None:
        self.tries += 1
        if session is not WELL:
            raise StoreUnavailable("timeout")
        await super().note_use(session, caller, alerts)


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
    assert sorted(store.told) == ["a", "b"]


async def test_a_record_that_is_none_holds_up_no_other() -> None:
    store = Store(faults=1, kind="garbage_record")
    found, session = build(store), standing_of(make_session())
    found.note(session, SOMEBODY, (alert("a"), alert("b")))
    await settle(found)
    assert store.told == ["b"]


async def test_a_partition_that_cannot_be_written_holds_up_no_other() -> None:
    """Nor does it end a session that has ended again, each time that something is tried."""
    store = OneSick()
    found, sick = build(store), standing_of(make_session())
    for session in (sick, WELL):
        found.note(session, SOMEBODY, (alert("a", Action.END),))
    found.note(sick, SOMEBODY, (alert("b"),))
    found.note(WELL, SOMEBODY, (alert("b"),))
    with patch.object(sightings, "_RETRY_S", 0.0):
        task = asyncio.create_task(found.run())
        for _ in range(100):
            await asyncio.sleep(0)
        task.cancel()
    assert store.told == ["a", "b"]
    assert sorted(store.ended) == sorted(
        (each.key.id, "address_changed") for each in (sick, WELL)
    )
    assert [(each.session, each.alert.fact) for each in found._waiting] == [(sick, "b")]


async def test_it_waits_only_when_nothing_could_be_done() -> None:
    store = OneSick()
    found, sick = build(store), standing_of(make_session())
    for session in (sick, WELL):
        found.note(session, SOMEBODY, (alert("a"),))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(found.run(), 0.05)
    assert store.told == ["a"]
    assert store.tries == 3  # the sick one, the well one, the sick one again


@pytest.mark.parametrize("faults", [0, 1])
async def test_a_session_ends_although_nothing_can_be_told(faults: int) -> None:
    store = Store(faults)
    found, session = build(store), standing_of(make_session())
    found.note(session, SOMEBODY, (alert("a", Action.END),))
    await settle(found)
    assert store.ended == [(session.key.id, "address_changed")]


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


async def test_no_number_of_facts_keeps_a_session_from_its_end() -> None:
    """A thief who has been somebody else often enough must not be free to be anybody."""
    store = Store()
    found, session = build(store), standing_of(make_session())
    for number in range(200):
        found.note(session, SOMEBODY, (alert(str(number)),))
    for number in range(200):
        found.note(session, SOMEBODY, (alert(f"end {number}", Action.END),))
    await settle(found)
    assert store.ended == [(session.key.id, "address_changed")]
