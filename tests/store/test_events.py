"""Every change tells of itself, once, in the same step; and nothing tells a secret."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import orjson
import pytest

from gateway.embedded import EmbeddedValkey
from gateway.errors import StoreUnavailable
from gateway.model import Actor, Client, EndState
from tests import servers

from .world import (
    ACTOR,
    IDLE_MS,
    World,
    fake_world,
    fresh_key,
    kinds,
    limited,
    real_world,
    rules_for,
)

FIELDS = {"type", "id", "user", "at", "by", "reason", "request"}


async def test_a_change_is_one_event(world: World) -> None:
    """Create, update, renew and end leave one event each, with who, whom, when and why."""
    signed = await world.sign_in("ann", "laptop", email="a@example.com", roles=("admin",))
    await world.store.update(signed.key, {"roles": (), "email": "b@example.com"}, ACTOR)
    _, new = fresh_key("ann")
    await world.store.renew(signed.key, new, 60_000, ACTOR)
    await world.store.end(new, EndState.REVOKED, Actor("operator", "stolen", "req-2"))
    events = await world.events()
    assert kinds(events) == ["created", "updated", "renewed", "ended/revoked", "ended/revoked"]
    created, updated, renewed, *ended = events
    assert [event["id"] for event in (created, updated, renewed)] == [signed.id, signed.id, new.id]
    assert [event["id"] for event in ended] == [new.id, signed.id]
    assert {event["user"] for event in events} == {"ann"}
    assert {(event["by"], event["reason"], event["request"]) for event in events[:3]} == {
        ("backend", "because", "req-1")
    }
    assert {(event["by"], event["reason"], event["request"]) for event in ended} == {
        ("operator", "stolen", "req-2")
    }
    assert all(abs(int(event["at"]) - time.time() * 1000) < 10_000 for event in events)
    assert set(created) == FIELDS | {"data"} == set(updated)
    assert set(renewed) == FIELDS | {"previous"}
    assert set(ended[0]) == FIELDS | {"why"}
    assert renewed["previous"] == signed.id
    data = orjson.loads(created["data"])
    assert (data["email"], data["roles"], data["ip"]) == ("a@example.com", ["admin"], "192.0.2.1")
    assert data["device"]["id"] == "laptop"
    assert orjson.loads(updated["data"]) == {"email": "b@example.com", "roles": []}


async def test_a_step_up_is_told_with_the_renewal(world: World) -> None:
    """A renewal by a new sign-in says so, with the level."""
    signed = await world.sign_in("ann")
    _, new = fresh_key("ann")
    await world.store.renew(signed.key, new, 0, ACTOR, aal=2)
    (renewed,) = [event for event in await world.events() if event["type"] == "session.renewed"]
    assert set(renewed) == FIELDS | {"previous", "data"}
    assert orjson.loads(renewed["data"]) == {"aal": 2}


async def test_what_changes_nothing_is_no_event(world: World) -> None:
    """Reads, lists, touches, refused and repeated changes write no event."""
    signed = await world.sign_in(rules=limited(1))
    await world.store.end(signed.key, EndState.REVOKED, ACTOR)
    before = len(await world.events())
    await world.store.read(signed.key)
    await world.store.sessions_of("ann")
    await world.touch(signed, 1)
    await world.store.end(signed.key, EndState.REVOKED, ACTOR)
    await world.store.end_all("ann", None, ACTOR)
    await world.store.update(signed.key, {"name": "x"}, ACTOR)
    await world.store.renew(signed.key, fresh_key("ann")[1], 0, ACTOR)
    await world.store.sweep()
    assert len(await world.events()) == before


async def test_every_end_says_why(world: World) -> None:
    """Each session ends in one event, whichever way: revoked, evicted, replaced, rotated, ..."""
    ids = {}
    for why in ("replaced", "revoked", "rotated"):
        ids[why] = (await world.sign_in(device=why)).session
    await world.sign_in(device="replaced", rules=limited(9, one_per_device=True))
    await world.store.end_device("ann", "revoked", ACTOR)
    await world.store.renew(ids["rotated"].key, fresh_key("ann")[1], 0, ACTOR)
    await world.wind(1000)
    await world.sign_in(rules=limited(1))
    ids["idle"] = (await world.sign_in(rules=rules_for(1000, 50_000))).session
    ids["expired"] = (await world.sign_in(rules=rules_for(900, 900))).session
    await world.wind(1001)
    assert sorted(await world.store.sweep()) == ["expired", "idle"]
    ended = {
        event["id"]: event["why"]
        for event in await world.events()
        if event["type"] == "session.ended"
    }
    assert {why: ended[session.id] for why, session in ids.items()} == {why: why for why in ids}
    counts = Counter(kinds(await world.events()))
    assert counts["ended/evicted"] == 2
    assert sum(n for kind, n in counts.items() if kind.startswith("ended")) == len(ended) == 7


async def test_a_sweep_ends_what_nobody_comes_back_to(world: World) -> None:
    """Sweeps of several replicas end each session that is over once, and no other."""
    over = [await world.sign_in(f"user-{number}") for number in range(30)]
    await world.wind(IDLE_MS // 2)
    busy = [await world.sign_in(f"busy-{number}") for number in range(5)]
    assert await world.touch(over[0], 1)
    await world.wind(IDLE_MS // 2 + 1)
    swept = await asyncio.gather(*(world.store.sweep() for _ in range(4)))
    assert sum(map(len, swept)) == 29
    for each in [over[0], *busy]:
        assert await world.allows(each.key)
        name = world.keys.activities(each.key.partition)
        due = await world.client.zrange(name, 0, 0, withscores=True)
        assert due[0][1] > time.time() * 1000 + IDLE_MS // 4  # not to be looked at in vain
    for each in over[1:]:
        assert not await world.members(each.session.user)
        assert each.key.digest not in await world.due(each.session.user)
    await world.wind(IDLE_MS // 2)
    assert len(await world.store.sweep()) == 6
    assert not [name for name in await world.names() if name.startswith(("gw:u", "gw:a"))]


async def test_a_sweep_finds_an_absolute_end_before_the_idle_one(world: World) -> None:
    """However long a session may rest: touched or not, it ends in one event, and at its end."""
    rules = rules_for(20 * IDLE_MS, IDLE_MS)
    touched, _ = await world.sign_in(rules=rules), await world.sign_in(rules=rules)
    await world.wind(IDLE_MS // 2)
    assert await world.touch(touched, 1)
    reading = await world.store.read(touched.key)
    assert reading.session is not None
    assert reading.now_ms - reading.session.last_seen_ms < IDLE_MS // 4
    assert await world.store.sweep() == ()
    await world.wind(IDLE_MS // 2 + 1)
    assert await world.store.sweep() == ("expired", "expired")
    assert await world.store.sweep() == ()
    assert await world.members() == await world.due() == set()
    assert kinds(await world.events()) == ["created"] * 2 + ["ended/expired"] * 2


async def test_a_session_without_its_record_is_told_of_once(world: World) -> None:
    """The sweep tells of it, without its user; the user's next sign-in does not again."""
    lost, idle = await world.sign_in(), await world.sign_in()
    await world.client.delete(world.keys.record(lost.key))
    await world.wind(IDLE_MS + 1)
    assert len(await world.store.sweep()) == 2
    await world.sign_in()
    ended = [event for event in await world.events() if event["type"] == "session.ended"]
    assert {event["id"] for event in ended} == {lost.id, idle.id}
    assert len(ended) == 2
    assert lost.key.digest not in await world.members()


async def test_no_secret_is_stored(world: World) -> None:
    """No key and no value of any kind holds a token, or enough of one to try."""
    tokens = [(await world.sign_in(device="d", rules=limited(2))).token for _ in range(3)]
    token, new = fresh_key("ann")
    await world.store.renew((await world.store.sessions_of("ann"))[0].key, new, 60_000, ACTOR)
    await world.store.update(new, {"name": "Ann"}, ACTOR)
    await world.store.end_all("ann", None, ACTOR)
    stored = repr([(name, await world.dump(name)) for name in await world.names()])
    assert "session.ended" in stored
    for secret in [*tokens, token]:
        assert secret[2:] not in stored
        assert secret[2:18] not in stored


async def test_a_user_id_is_in_no_key(world: World) -> None:
    """Ids reach a key only as a digest: they are personal, and may hold anything."""
    await world.sign_in("ann@example.com", client=Client())
    await world.store.end_all("ann@example.com", None, ACTOR)
    await world.sign_in("ann@example.com")
    assert not [name for name in await world.names() if "ann" in name]


async def test_every_key_ends(world: World) -> None:
    """Every key but the documented ones has a TTL, after every operation."""
    signed = await world.sign_in()
    assert await world.without_ttl() == []
    await world.wind(60_000)
    await world.touch(signed, 1)
    await world.store.update(signed.key, {"roles": ()}, ACTOR)
    assert await world.without_ttl() == []
    for grace in (0, 5_000):
        _, new = fresh_key("ann")
        await world.store.renew(signed.key, new, grace, ACTOR)
        assert await world.without_ttl() == []
        signed = await world.sign_in(device="d", rules=limited(2, one_per_device=True))
    await world.wind(5_001)
    await world.store.sweep()
    await world.store.end_device("ann", "d", ACTOR)
    assert await world.without_ttl() == []
    await world.wind(100 * 24 * 3_600_000)
    assert {name.split(":")[1] for name in await world.names()} == {"e", "partitions"}


async def dropped(world: World) -> int:
    counts = [await world.client.get(world.keys.dropped(f"{number:02x}")) for number in range(16)]
    return sum(int(count or 0) for count in counts)


@pytest.mark.parametrize("limit", [1, 5])
@pytest.mark.parametrize("server", ["fakeredis", "valkey"])
async def test_a_full_outbox_counts_what_it_drops(
    server: str, limit: int, valkey: EmbeddedValkey
) -> None:
    """At its bound the oldest events make room, and each is counted."""
    built = (
        fake_world(outbox_limit=limit)
        if server == "fakeredis"
        else real_world(valkey.url, outbox_limit=limit)
    )
    async with built as world:
        signed = [await world.sign_in() for _ in range(4)]
        assert await dropped(world) == max(0, 4 - limit)
        await world.store.end_all("ann", None, ACTOR)
        assert await dropped(world) == 8 - limit
        assert len(await world.events()) == limit
        last = [event["id"] for event in await world.events()][-4:]
        assert set(last) <= {each.id for each in signed}
        assert set(kinds((await world.events())[-4:])) == {"ended/revoked"}
        assert world.lost == []


# --- memory ----------------------------------------------------------------------------------


async def test_a_full_server_refuses_sign_ins_and_ends_sessions() -> None:
    """At maxmemory a sign-in fails and changes nothing; every way to end still works."""
    arguments = ["--maxmemory", "0", "--maxmemory-policy", "noeviction"]
    with EmbeddedValkey(port=servers.free_port(), arguments=arguments) as valkey:
        async with real_world(valkey.url) as world:
            signed = [await world.sign_in(device=f"d{number}") for number in range(6)]
            await world.client.script_flush()  # they can be loaded although memory is out
            await world.client.config_set("maxmemory", "1")
            before = await world.everything()
            with pytest.raises(StoreUnavailable, match="out_of_memory"):
                await world.sign_in(rules=limited(2))
            with pytest.raises(StoreUnavailable, match="out_of_memory"):
                await world.store.renew(signed[0].key, fresh_key("ann")[1], 0, ACTOR)
            with pytest.raises(StoreUnavailable, match="out_of_memory"):
                await world.store.update(signed[0].key, {"roles": ()}, ACTOR)
            assert await world.everything() == before
            assert await world.listed() == {each.key for each in signed}

            assert await world.store.end(signed[0].key, EndState.REVOKED, ACTOR) == "ann"
            assert len(await world.store.end_device("ann", "d1", ACTOR)) == 1
            assert len(await world.store.end_all("ann", signed[5].key, ACTOR)) == 3
            assert await world.listed() == {signed[5].key}
            assert kinds(await world.events()).count("ended/revoked") + sum(world.lost) == 5

            # A gateway that starts while memory is out must open, or nobody could revoke.
            async with real_world(valkey.url, empty=False) as again:
                assert await again.listed() == {signed[5].key}
                assert len(await again.store.end_all("ann", None, ACTOR)) == 1
