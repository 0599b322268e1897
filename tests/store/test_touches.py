"""Activity is noted off the answer's path, seldom, and never later than it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from gateway.errors import StoreUnavailable
from gateway.identity import standing_of
from gateway.model import SessionKey, Standing
from gateway.ports import Touched
from gateway.touches import Touches

from .world import World, fake_world

INTERVAL_MS = 30_000


class FakeStore:
    """Writes down what it is asked to touch, and can be out of reach."""

    def __init__(self) -> None:
        self.touched: list[SessionKey] = []
        self.down = False

    async def touch(self, key: SessionKey, interval_ms: int) -> Touched:
        assert interval_ms == INTERVAL_MS
        await asyncio.sleep(0)
        if self.down:
            raise StoreUnavailable("timeout")
        self.touched.append(key)
        return Touched(1, written=True)


@asynccontextmanager
async def running(store: FakeStore | World) -> AsyncIterator[Touches]:
    inner = store.store if isinstance(store, World) else store
    touches = Touches(cast("Any", inner), INTERVAL_MS)
    task = asyncio.create_task(touches.run())
    yield touches
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def sessions(*users: str) -> list[Standing]:
    async with fake_world() as world:
        return [standing_of((await world.sign_in(user)).session) for user in users]


async def turns() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_only_stale_activity_is_written() -> None:
    """A session seen less than an interval ago costs no write; one seen earlier costs one."""
    ann, bob = await sessions("ann", "bob")
    store = FakeStore()
    async with running(store) as touches:
        for _ in range(5):
            touches.note(ann, ann.last_seen_ms + INTERVAL_MS - 1)
            touches.note(bob, bob.last_seen_ms + INTERVAL_MS)
        await turns()
    assert store.touched == [bob.key]


async def test_an_outage_makes_no_activity_late() -> None:
    """What could not be written during an outage is not written after it as if it were new."""
    ann, bob, cat = await sessions("ann", "bob", "cat")
    store = FakeStore()
    store.down = True
    async with running(store) as touches:
        touches.note(ann, ann.last_seen_ms + INTERVAL_MS)
        touches.note(bob, bob.last_seen_ms + INTERVAL_MS)
        await turns()
        store.down = False
        await turns()
        assert store.touched == []
        touches.note(cat, cat.last_seen_ms + INTERVAL_MS)
        touches.note(ann, ann.last_seen_ms + INTERVAL_MS)
        await turns()
    assert store.touched == [cat.key, ann.key]


async def test_what_is_noted_reaches_the_store() -> None:
    """A session that is noted at each check does not end for rest."""
    async with fake_world() as world, running(world) as touches:
        signed = await world.sign_in()
        for _ in range(30):
            await world.wind(INTERVAL_MS)
            reading = await world.store.read(signed.key)
            assert reading.session is not None
            touches.note(standing_of(reading.session), reading.now_ms)
            await asyncio.sleep(0.02)
        assert await world.allows(signed.key)
