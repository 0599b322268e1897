"""Sessions that somebody else uses: of each fact of one is told once, whoever saw it."""

from __future__ import annotations

import asyncio

import orjson

from gateway.alerts import Action, Alert
from gateway.identity import standing_of
from gateway.model import Caller, SessionKey
from gateway.store import records
from gateway.store.redis_store import MOST_FACTS

from .world import ACTOR, World, fresh_key

AWAY = Caller("203.0.113.1", "curl/8")


def moved(address: str = "203.0.113.1", action: Action = Action.ALERT) -> Alert:
    details = {"changed": "address", "ip": address, "country": "US"}
    return Alert("address_changed", action, f"address_changed address {address}", details)


async def note(world: World, key: SessionKey, *alerts: Alert) -> None:
    session = (await world.store.read(key)).session
    assert session is not None
    await world.store.note_use(standing_of(session), AWAY, alerts)


async def told(world: World) -> list[dict[str, str]]:
    return [each for each in await world.events("ann") if each["type"].startswith("alert.")]


async def test_a_use_from_elsewhere_is_an_event_and_goes_to_the_lists(world: World) -> None:
    signed_in = await world.sign_in("ann")
    await note(world, signed_in.key, moved())
    (event,) = await told(world)
    assert (event["type"], event["id"], event["by"]) == (
        "alert.address_changed", signed_in.id, "gateway",
    )  # fmt: skip
    assert orjson.loads(event["data"]) == {
        "action": "alert", "fact": "address_changed address 203.0.113.1", "ip": "203.0.113.1",
        "country": "US", "changed": "address",
    }  # fmt: skip
    waiting = await world.client.lrange(world.keys.alerts(signed_in.key.partition), 0, -1)
    (alert,) = map(orjson.loads, waiting)
    assert (alert["userId"], alert["sessionId"], alert["ip"]) == ("ann", signed_in.id, AWAY.address)


async def test_fifty_at_once_tell_once(world: World) -> None:
    signed_in = await world.sign_in("ann")
    await asyncio.gather(*(note(world, signed_in.key, moved()) for _ in range(50)))
    assert len(await told(world)) == 1


async def test_a_renewed_session_is_the_same_session(world: World) -> None:
    """What was told of it is told; its grace, too, is the same session."""
    signed_in = await world.sign_in("ann")
    await note(world, signed_in.key, moved())
    _, new = fresh_key("ann")
    assert await world.store.renew(signed_in.key, new, 5000, ACTOR)
    await note(world, new, moved())
    await note(world, signed_in.key, moved())
    assert len(await told(world)) == 1
    await note(world, new, moved("203.0.113.2"))
    assert len(await told(world)) == 2


async def test_another_session_is_another_fact(world: World) -> None:
    for _ in range(2):
        await note(world, (await world.sign_in("ann")).key, moved())
    assert len(await told(world)) == 2


async def test_shadows_and_ended_sessions_leave_no_event(world: World) -> None:
    signed_in = await world.sign_in("ann")
    await note(world, signed_in.key, moved(action=Action.SHADOW))
    session = (await world.store.read(signed_in.key)).session
    assert session is not None
    assert await world.store.end_all("ann", None, ACTOR)
    await world.store.note_use(standing_of(session), AWAY, (moved(),))
    assert await told(world) == []


async def test_whoever_is_another_each_time_is_told_of_a_bounded_number_of_times(
    world: World,
) -> None:
    """And what remembers it ends with the session."""
    signed_in = await world.sign_in("ann")
    for number in range(MOST_FACTS + 5):
        await note(world, signed_in.key, moved(f"203.0.113.{number}"))
    assert len(await told(world)) == MOST_FACTS
    name = world.keys.told(signed_in.key.partition) + records.short(signed_in.key)
    left_ms = await world.client.pttl(name)
    assert 0 < left_ms <= 3_600_000 + 300_000
