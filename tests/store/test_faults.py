"""Whatever Redis answers, or does not: "we do not know" is never "no session"."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.embedded import EmbeddedValkey
from gateway.errors import ConfigurationError, StoreUnavailable
from gateway.model import Actor, Device, EndState, Login, Session
from gateway.ports import Reading
from gateway.sessions import Sessions
from gateway.store import records, scripts
from gateway.store.reader import DEADLINE_S, GRACE_S
from gateway.store.redis_store import RedisStore, connect

from .fake_server import SILENCE, Answer, fake_server
from .world import ACTOR, IDLE_MS, PARTITIONS, RULES, SignedIn, World, fresh_key

# A check has to be out within 150 ms; a machine with all cores busy may take as long again.
IN_TIME_S = 0.3

ERRORS = [
    "-LOADING Redis is loading the dataset in memory",
    "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "-READONLY You can't write against a read only replica.",
    "-MOVED 3999 127.0.0.1:6381",
    "-ASK 3999 127.0.0.1:6381",
    "-TRYAGAIN Multiple keys request during rehashing of slot",
    "-CROSSSLOT Keys in request don't hash to the same slot",
    "-CLUSTERDOWN The cluster is down",
    "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "-NOAUTH Authentication required.",
    "-WRONGPASS invalid username-password pair or user is disabled.",
    "-NOPERM this user has no permissions to run the 'mget' command",
    "-OOM command not allowed when used memory > 'maxmemory'.",
    "-MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.",
    "-NOREPLICAS Not enough good replicas to write.",
    "-UNKILLABLE Sorry the script already executed write commands",
    "-EXECABORT Transaction discarded because of previous errors.",
    "-ERR max number of clients reached",
    "-SOMETHING that nobody has heard of",
    "-",
]
NONSENSE = [
    b"$-1\r\n",
    b"_\r\n",
    b":1\r\n",
    b"+OK\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*1\r\n$-1\r\n",
    b"*3\r\n$-1\r\n$-1\r\n$-1\r\n",
    b"%1\r\n+a\r\n+b\r\n",
    b"#t\r\n",
    b",1.5\r\n",
    b"$5\r\n12",
    b"*2\r\n$1\r\n1\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\r\n\r\n",
    b"\x00\xff\x16\x03\x01",
]

Call = Callable[[RedisStore, Session], Awaitable[object]]

CALLS: dict[str, Call] = {
    "read": lambda store, session: store.read(session.key),
    "touch": lambda store, session: store.touch(session.key, 1),
    "update": lambda store, session: store.update(session.key, {"roles": ()}, ACTOR),
    "renew": lambda store, session: store.renew(session.key, fresh_key("ann")[1], 0, ACTOR),
    "end": lambda store, session: store.end(session.key, EndState.REVOKED, ACTOR),
    "end_all": lambda store, session: store.end_all("ann", None, ACTOR),
    "end_device": lambda store, session: store.end_device("ann", "d", ACTOR),
    "sessions_of": lambda store, session: store.sessions_of("ann"),
    "sweep": lambda store, session: store.sweep(),
    "ping": lambda store, session: store.ping(),
    "create": lambda store, session: store.create(
        session.key, Login("ann"), session.device, RULES, Actor("backend")
    ),
}


@asynccontextmanager
async def store_over(answer: Answer) -> AsyncIterator[RedisStore]:
    async with fake_server(answer) as url:
        store = RedisStore(connect(url))
        pretend_open(store)
        yield store
        await store.close()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.split()[0])
async def test_an_error_reply_is_no_answer(error: str) -> None:
    """Each error reply makes each operation say that it does not know."""
    async with store_over(lambda _: f"{error}\r\n".encode()) as store:
        for name, call in CALLS.items():
            with pytest.raises(StoreUnavailable):
                pytest.fail(f"{name} answered {await call(store, some_session())!r}")


@pytest.mark.parametrize("reply", NONSENSE, ids=repr)
async def test_nonsense_is_no_answer(reply: bytes) -> None:
    """A reply of another shape, half a reply or another protocol is never "no session"."""
    async with store_over(lambda _: reply) as store:
        with pytest.raises(StoreUnavailable):
            await in_time(store.read(some_session().key))


@pytest.mark.parametrize("good", ["MGET", "TIME"])
async def test_half_the_replies_are_no_answer(good: str) -> None:
    """Where one command of a read is answered and the next is not, nobody guesses the rest."""
    replies = {b"MGET": b"*2\r\n$-1\r\n$-1\r\n", b"TIME": b"*2\r\n$1\r\n1\r\n$1\r\n1\r\n"}
    async with store_over(
        lambda name: replies[name] if name == good.encode() else SILENCE
    ) as store:
        with pytest.raises(StoreUnavailable):
            await in_time(store.read(some_session().key))


async def test_a_silent_server_is_given_up_in_time() -> None:
    """A read that is never answered fails within 150 ms: the proxy waits for no more than 200."""
    assert DEADLINE_S + GRACE_S <= 0.15
    async with store_over(lambda _: SILENCE) as store:
        with pytest.raises(StoreUnavailable):
            await in_time(store.read(some_session().key))


async def test_a_closed_port_is_no_answer() -> None:
    """Where nobody listens any more, a read fails at once."""
    async with fake_server(lambda _: SILENCE) as url:
        pass
    store = RedisStore(connect(url))
    pretend_open(store)
    with pytest.raises(StoreUnavailable, match="connection"):
        await in_time(store.read(some_session().key))
    await store.close()


async def test_no_reply_is_taken_for_a_later_question(real: World) -> None:
    """Checks that were cancelled or came too late leave no reply behind for the next one."""
    signed = [await real.sign_in(f"user-{number}") for number in range(20)]
    for turn in range(30):
        tasks = [asyncio.create_task(real.store.read(each.key)) for each in signed]
        for _ in range(4 + turn):  # the batch begins in the third turn of the loop
            await asyncio.sleep(0)
        for task in [*tasks[::2], *real.store._reader._batches]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in signed[:3]:
            assert (await real.store.read(each.key)).session == each.session


async def test_a_check_that_fails_unexpectedly_does_not_hang(real: World) -> None:
    """Also where the client raises what nobody expects, a check gets an answer: we do not know."""
    signed = await real.sign_in()

    async def broken(keys: object) -> object:
        raise AttributeError(keys)

    real.store._reader._fetch = broken  # type: ignore[method-assign,assignment]
    handled: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: handled.append(context))
    with pytest.raises(StoreUnavailable):
        await in_time(real.store.read(signed.key))


# --- what is stored, and is not what it should be ---------------------------------------------

GARBAGE = [
    b"",
    b"x",
    b"{}",
    b"[]",
    b"null",
    b"1",
    b'"text"',
    b"{",
    b"\xff\xfe",
    b'{"v":1}',
    b"[1]",
    b"[1,2,0,3,4,null,null,null,null,{}]",
    b'[1,2,0,3,4,"d","h","ann","device",{}]',
    b'[1,2,0,3,4,"d","h","ann","device",[],1,"","",[],"","","","","",""]',
    # As another version had it.
    b'{"c":1,"x":2,"v":2,"d":"d","h":"h","u":"ann","dv":["a","b","c"],"cl":["","","",""],"i":6}',
    b'[1,2,0,4,5,"d","h","ann","device",{},1,"","",[],"","","","","",""]',
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=repr)
async def test_a_record_that_is_none_is_no_answer(world: World, garbage: bytes) -> None:
    """What cannot be read as a record is a fault; and it can be ended all the same."""
    signed = await world.sign_in()
    other = await world.sign_in()
    await world.client.set(world.keys.record(signed.key), garbage, keepttl=True)
    await assert_unknown(world, signed)
    await world.store.end_all("ann", None, ACTOR)
    assert not await world.allows(signed.key)
    assert not await world.allows(other.key)


async def test_no_receipt_for_a_session_that_cannot_be_read(world: World) -> None:
    """In the grace of a renewal it has a second key, which nothing in the garbage leads to."""
    signed, new = await world.sign_in(), fresh_key("ann")[1]
    await world.store.renew(signed.key, new, 60_000, ACTOR)
    await world.client.set(world.keys.record(signed.key), b"garbage", keepttl=True)
    sessions = Sessions(world.store, RULES, PARTITIONS)
    with pytest.raises(StoreUnavailable) as fault:
        await sessions.end(signed.id, ACTOR)
    assert fault.value.kind == "garbage_record"
    assert not await world.allows(signed.key)
    await sessions.end_all("ann", "", ACTOR)
    assert not await world.allows(new)


FORGED: dict[str, dict[str, object]] = {
    "another digest": {"digest": "0" * 22},
    "an older version": {"version": records.VERSION - 1},
    "a later version": {"version": records.VERSION + 1},
    "no user": {"user": ""},
    "a user that is a number": {"user": 7},
    "a line break": {"name": "a\r\nX-Auth-User: root"},
    "a role of two": {"roles": ["a,admin"]},
    "a role that is a number": {"roles": ["a", 7]},
    "roles as text": {"roles": "admin"},
    "no end": {"expires_ms": 0},
    "an end that is a fraction": {"expires_ms": 1.5},
    "an end that is true": {"expires_ms": True},
    "signed in before all time": {"authenticated_ms": -1},
    "no idle time": {"idle_ms": 0},
    "below all levels": {"aal": -1},
    "above all levels": {"aal": 4},
    "metadata as list": {"rare": {"metadata": []}},
    "alerts as text": {"rare": {"alerts": "new_country"}},
    "one of two that it accepts": {"rare": {"accepts": ["de"]}},
    "remembered once": {"rare": {"remember": 1}},
    "what nobody knows": {"rare": {"alert": ["new_country"]}},
}


@pytest.mark.parametrize("forged", list(FORGED.values()), ids=list(FORGED))
async def test_a_record_with_a_wrong_field_is_no_answer(
    world: World, forged: dict[str, object]
) -> None:
    """A record that is wrong in one field never becomes somebody's identity."""
    signed = await world.sign_in()
    await world.forge(signed.key, **forged)
    await assert_unknown(world, signed)


@pytest.mark.parametrize("activity", [0, -1, IDLE_MS, 1e12 + 0.5, math.inf, -math.inf], ids=repr)
async def test_activity_that_is_no_time_is_no_answer(world: World, activity: float) -> None:
    """An activity that cannot be read is a fault, neither rest nor life."""
    signed = await world.sign_in()
    activities = world.keys.activities(signed.key.partition)
    await world.client.zadd(activities, {signed.key.digest: activity})
    await assert_unknown(world, signed)


@pytest.mark.parametrize("kind", ["record", "activity"])
async def test_a_key_of_another_type_is_no_answer(world: World, kind: str) -> None:
    """A key of the wrong type is a fault for its own check, and for no other in the same batch."""
    signed, other = await world.sign_in(), await world.sign_in("bob")
    record, activities = world.keys.record(signed.key), world.keys.activities(signed.key.partition)
    name = record if kind == "record" else activities
    await world.client.delete(name)
    await world.client.rpush(name, "x")
    failed, fine = await asyncio.gather(
        world.store.read(signed.key), world.store.read(other.key), return_exceptions=True
    )
    assert isinstance(failed, StoreUnavailable)
    assert isinstance(fine, Reading)
    assert fine.session == other.session
    await assert_unknown(world, signed)


@pytest.mark.parametrize("ending", ["end", "end_all"])
async def test_a_record_of_another_type_can_be_ended(world: World, ending: str) -> None:
    """Revocation removes what is no record too, with the user's other sessions."""
    signed, other = await world.sign_in(), await world.sign_in()
    name = world.keys.record(signed.key)
    await world.client.delete(name)
    await world.client.rpush(name, "x")
    if ending == "end":
        await world.store.end(signed.key, EndState.REVOKED, ACTOR)
    else:
        assert len(await world.store.end_all("ann", None, ACTOR)) == 2
        assert not await world.allows(other.key)
    assert (await world.store.read(signed.key)).session is None


@pytest.mark.parametrize("ending", ["end", "end_all"])
async def test_broken_activities_do_not_stop_a_revocation(world: World, ending: str) -> None:
    """Where the list of activities is none, sessions end all the same, each with its event."""
    signed = [await world.sign_in() for _ in range(2)]
    activities = world.keys.activities(signed[0].key.partition)
    await world.client.delete(activities)
    await world.client.set(activities, "x")
    if ending == "end":
        for each in signed:  # who asks is told that there was none: whether it lived is not known
            assert await world.store.end(each.key, EndState.REVOKED, ACTOR) is None
    else:
        await world.store.end_all("ann", None, ACTOR)
    await world.client.delete(activities)
    assert not [each for each in signed if await world.allows(each.key)]
    assert await world.members() == set()
    assert [event["type"] for event in await world.events()][2:] == ["session.ended"] * 2


async def test_a_sign_in_that_fails_at_broken_activities_leaves_nothing(world: World) -> None:
    await world.client.set(world.keys.activities(fresh_key("ann")[1].partition), "x")
    with pytest.raises(StoreUnavailable):
        await world.sign_in()
    assert not [name for name in await world.names() if name.startswith(world.keys.tracked)]


async def test_a_broken_partition_does_not_stop_the_sweep_of_others(world: World) -> None:
    signed = [await world.sign_in(f"user-{number}") for number in range(20)]
    await world.wind(IDLE_MS)
    broken = min(each.key.partition for each in signed)
    await world.client.delete(world.keys.activities(broken))
    await world.client.set(world.keys.activities(broken), "x")
    with pytest.raises(StoreUnavailable, match="response"):
        await world.store.sweep()
    others = [each.key.partition for each in signed if each.key.partition != broken]
    assert others
    assert not [each for each in others if await world.client.exists(world.keys.activities(each))]


async def test_a_broken_outbox_does_not_stop_a_revocation(world: World) -> None:
    """Where the event cannot be written the sessions end all the same, and the loss is told."""
    signed = [await world.sign_in() for _ in range(3)]
    outbox = world.keys.outbox(signed[0].key.partition)
    await world.client.delete(outbox)
    await world.client.set(outbox, "x")
    await world.store.end(signed[0].key, EndState.REVOKED, ACTOR)
    await world.store.end_all("ann", None, ACTOR)
    assert not [each for each in signed if await world.allows(each.key)]
    assert sum(world.lost) == 3


# --- the server itself -----------------------------------------------------------------------


async def test_forgotten_scripts_are_loaded_again(world: World) -> None:
    """After SCRIPT FLUSH, as after a failover, every operation works as before."""
    signed = await world.sign_in()
    for _ in range(2):
        await world.client.script_flush()
        assert await world.store.update(signed.key, {"roles": ()}, ACTOR) is not None
    await world.client.script_flush()
    assert await world.store.end(signed.key, EndState.REVOKED, ACTOR) == "ann"


async def test_an_emptied_server_has_no_sessions(world: World) -> None:
    """After FLUSHALL all sessions are gone, and a touch brings none back."""
    signed = await world.sign_in()
    await world.client.flushall()
    assert not await world.touch(signed, 0)
    assert await world.names() == []
    assert not await world.allows(signed.key)


async def test_another_number_of_partitions_is_refused(valkey: EmbeddedValkey, real: World) -> None:
    """A store that would look for users elsewhere does not start, and says what to set."""
    store = RedisStore(connect(valkey.url), partitions=32)
    with pytest.raises(ConfigurationError, match=r"redis\.partitions = 16"):
        await store.open()
    await store.close()
    again = RedisStore(connect(valkey.url), partitions=16)
    await again.open()
    await again.close()


# --- shared ----------------------------------------------------------------------------------


def pretend_open(store: RedisStore) -> None:
    """Get past the opening, so that the operations themselves meet the misbehaving server."""
    store._scripts = scripts.register(store._client, knows_flags=False)


def some_session() -> Session:
    _, key = fresh_key("ann")
    return Session(
        key=key,
        user="ann",
        email="",
        name="",
        roles=(),
        device=Device("d", "", ""),
        client=Login("ann").client,
        created_ms=1,
        expires_ms=2,
        idle_ms=1,
        last_seen_ms=1,
    )


async def in_time(answer: Awaitable[Reading]) -> Reading:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(5):
            return await answer
    finally:
        assert time.perf_counter() - started < IN_TIME_S


async def assert_unknown(world: World, signed: SignedIn) -> None:
    """No question about this session may be answered with "there is none"."""
    with pytest.raises(StoreUnavailable):
        await world.store.read(signed.key)
    with pytest.raises(StoreUnavailable):
        await world.store.sessions_of("ann")
    with pytest.raises(StoreUnavailable):
        await world.store.update(signed.key, {"roles": ()}, ACTOR)
    with pytest.raises(StoreUnavailable):
        await world.store.renew(signed.key, fresh_key("ann")[1], 0, ACTOR)
