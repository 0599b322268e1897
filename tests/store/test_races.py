"""Races against a real server, through connections of their own; each counts what came out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from gateway.embedded import EmbeddedValkey
from gateway.errors import SessionLimitReached, StoreUnavailable
from gateway.model import EndState, SessionKey
from gateway.ports import Confirmation, Fence
from gateway.sessions import Sessions
from gateway.store import MemoryOptions
from gateway.store.redis_store import RedisStore

from .world import (
    ACTOR,
    PARTITIONS,
    RULES,
    SignedIn,
    World,
    fresh_key,
    is_live,
    limited,
    real_world,
)

RecordProperty = Callable[[str, object], None]

TRIALS = 300
CHECKERS = 4
REPLICAS = 3
LAG_S = 0.004  # of one replica behind the others, longer than an end and a look at the registry
LEARN_S = 5.0
SIGN_INS = 100
LIMIT = 5


@pytest.fixture
async def worlds(valkey: EmbeddedValkey) -> AsyncIterator[list[World]]:
    """As many gateways as there are checkers, and one more; all on one server."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(real_world(valkey.url, empty=number == 0))
            for number in range(CHECKERS + 1)
        ]


@pytest.mark.parametrize("way", ["end", "end_all", "end_device", "renew"])
async def test_no_check_revives_what_has_ended(
    worlds: list[World], way: str, record_property: RecordProperty
) -> None:
    """Four checkers read and touch a session that is being ended: not once does it come back."""
    ender, *checkers = worlds
    counts: Counter[str] = Counter()
    trials = TRIALS if way in ("end", "end_all") else TRIALS // 4
    for trial in range(trials):
        signed = await ender.sign_in(f"user-{trial}", "laptop")
        done = asyncio.Event()
        crowd = [asyncio.create_task(check(each.store, signed, done)) for each in checkers]
        for _ in range(trial % 20):
            await asyncio.sleep(0)
        keys = await end(ender.store, signed, way)
        late = [await each.store.read(signed.key) for each in checkers]  # acknowledged: no more
        counts["allowed after the end"] += sum(map(is_live, late))
        done.set()
        counts["checks"] += sum(await asyncio.gather(*crowd))
        await revived(ender, signed, keys, counts)
    show(record_property, way, counts)
    assert counts["checks"] >= trials * CHECKERS
    assert counts["allowed after the end"] == counts["revived"] == counts["left behind"] == 0


async def check(store: RedisStore, signed: SignedIn, done: asyncio.Event) -> int:
    """Check and touch as fast as it goes, and once more after the end."""
    checks = 0
    while True:
        last = done.is_set()
        await store.read(signed.key)
        await store.touch(signed.key, 0)
        checks += 1
        if last:
            return checks


async def end(store: RedisStore, signed: SignedIn, way: str) -> set[SessionKey]:
    """End the session; return the keys that may live on."""
    user = signed.session.user
    if way == "end":
        assert await store.end(signed.key, EndState.REVOKED, ACTOR) == user
    elif way == "end_all":
        assert len(await store.end_all(user, None, ACTOR)) == 1
    elif way == "end_device":
        assert len(await store.end_device(user, "laptop", ACTOR)) == 1
    else:
        _, new = fresh_key(user)
        assert await store.renew(signed.key, new, 0, ACTOR) is not None
        return {new}
    return set()


async def revived(
    world: World, signed: SignedIn, keys: set[SessionKey], counts: Counter[str]
) -> None:
    user = signed.session.user
    counts["trials"] += 1
    counts["revived"] += await world.client.exists(world.keys.record(signed.key))
    counts["revived"] += await world.rest(signed.key) is not None
    digests = {key.digest for key in keys}
    counts["left behind"] += await world.members(user) != digests
    counts["left behind"] += await world.due(user) != digests


@pytest.mark.parametrize("on_limit", ["evict", "deny"])
async def test_parallel_sign_ins_keep_the_limit(
    worlds: list[World], on_limit: str, record_property: RecordProperty
) -> None:
    """Of 100 sign-ins at once exactly five live: the others were evicted, or refused."""
    rules = limited(LIMIT, "evict" if on_limit == "evict" else "deny")
    results = await asyncio.gather(
        *(worlds[n % len(worlds)].sign_in(rules=rules) for n in range(SIGN_INS)),
        return_exceptions=True,
    )
    signed = [each for each in results if isinstance(each, SignedIn)]
    refused = [each for each in results if isinstance(each, SessionLimitReached)]
    evicted = {ended.id for each in signed for ended in each.ended}
    live = {each.key for each in signed if await worlds[0].allows(each.key)}
    show(record_property, on_limit, Counter(live=len(live), evicted=len(evicted),
                                           refused=len(refused)))  # fmt: skip
    expected = (100, 0, 95) if on_limit == "evict" else (5, 95, 0)
    assert (len(signed), len(refused), len(evicted)) == expected
    assert len(live) == LIMIT
    assert await worlds[0].listed() == live
    digests = {key.digest for key in live}
    assert await worlds[0].members() == await worlds[0].due() == digests
    assert evicted.isdisjoint(key.id for key in live)


@pytest.mark.parametrize("grace_ms", [0, 60_000], ids=["at once", "with grace"])
async def test_a_renewal_never_outruns_the_end(
    worlds: list[World], grace_ms: int, record_property: RecordProperty
) -> None:
    """Ended while it is renewed, a session lives on under one key at most, and then it was not."""
    counts: Counter[str] = Counter()
    renewer, ender, *_ = worlds
    for trial in range(TRIALS):
        signed = await renewer.sign_in(f"user-{trial}")
        _, new = fresh_key(signed.session.user)

        async def end_soon(
            signed: SignedIn = signed, after_s: float = trial % 20 / 5e3
        ) -> str | None:
            await asyncio.sleep(after_s)
            return await ender.store.end(signed.key, EndState.REVOKED, ACTOR)

        renewed, ended = await asyncio.gather(
            renewer.store.renew(signed.key, new, grace_ms, ACTOR), end_soon()
        )
        live = await renewer.listed(signed.session.user)
        counts["renewed first" if renewed else "ended first"] += 1
        counts["ended and alive"] += ended is not None and bool(live)
        counts["neither"] += ended is None and live != {new}
    show(record_property, f"grace {grace_ms}", counts)
    assert counts["ended and alive"] == counts["neither"] == 0
    assert counts["renewed first"]
    assert counts["ended first"]


async def test_parallel_renewals_leave_one(
    worlds: list[World], record_property: RecordProperty
) -> None:
    """Of five renewals of one session at once exactly one succeeds."""
    counts: Counter[str] = Counter()
    for trial in range(60):
        signed = await worlds[0].sign_in(f"user-{trial}")
        user = signed.session.user
        news = [fresh_key(user)[1] for _ in worlds]
        results = await asyncio.gather(
            *(
                each.store.renew(signed.key, new, 0, ACTOR)
                for each, new in zip(worlds, news, strict=True)
            )
        )
        counts["succeeded"] += sum(result is not None for result in results)
        counts["live"] += len(await worlds[0].listed(user))
    show(record_property, "renewals", counts)
    assert counts == {"succeeded": 60, "live": 60}


async def test_parallel_updates_lose_nothing(
    worlds: list[World], record_property: RecordProperty
) -> None:
    """Each gateway changes its own field; whatever was acknowledged is there at the end."""
    signed = await worlds[0].sign_in()
    counts: Counter[str] = Counter()
    last: dict[str, object] = {}

    async def write(world: World, field: str, values: list[object]) -> None:
        for value in values:
            try:
                assert await world.store.update(signed.key, {field: value}, ACTOR) is not None
            except StoreUnavailable as error:
                counts[error.kind] += 1
            else:
                counts["acknowledged"] += 1
                last[field] = value

    await asyncio.gather(
        write(worlds[0], "roles", [(f"r{n}",) for n in range(100)]),
        write(worlds[1], "email", [f"{n}@example.com" for n in range(100)]),
        write(worlds[2], "name", [f"Ann {n}" for n in range(100)]),
        write(worlds[3], "metadata", [{"n": n} for n in range(100)]),
    )
    session = (await worlds[0].store.read(signed.key)).session
    show(record_property, "updates", counts)
    assert counts["acknowledged"] + counts["conflict"] == 400
    assert {field: getattr(session, field) for field in last} == last
    updates = [event for event in await worlds[0].events() if event["type"] == "session.updated"]
    assert len(updates) == counts["acknowledged"]


async def test_sign_ins_during_the_end_of_all(
    worlds: list[World], record_property: RecordProperty
) -> None:
    """What had begun when the end of all began is gone; index and due list name what lives."""
    counts: Counter[str] = Counter()
    for trial in range(60):
        user = f"user-{trial}"
        before = [await worlds[0].sign_in(user) for _ in range(3)]
        ended, during = await asyncio.gather(
            worlds[0].store.end_all(user, None, ACTOR),
            asyncio.gather(*(sign_in_soon(each, user, trial) for each in worlds[1:])),
        )
        live = await worlds[0].listed(user)
        gone = {each.id for each in ended}
        counts["survivors"] += sum(each.key in live for each in before)
        counts["both or neither"] += sum((each.id in gone) == (each.key in live) for each in during)
        counts["wrong index"] += await worlds[0].members(user) != {key.digest for key in live}
        counts["wrong due list"] += await worlds[0].due(user) != {key.digest for key in live}
        counts["lived on"] += len(live)
    show(record_property, "sign-ins", counts)
    assert sum(counts.values()) == counts["lived on"]
    assert 0 < counts["lived on"] < 60 * CHECKERS


async def sign_in_soon(world: World, user: str, turns: int) -> SignedIn:
    for _ in range(turns):
        await asyncio.sleep(0)
    return await world.sign_in(user)


@pytest.fixture
async def remembering(valkey: EmbeddedValkey) -> AsyncIterator[list[World]]:
    """Replicas that answer from memory, each with a link of its own, for long enough."""
    async with AsyncExitStack() as stack:
        worlds = [
            await stack.enter_async_context(
                real_world(valkey.url, empty=not number, memory=MemoryOptions(lease_ms=1000))
            )
            for number in range(REPLICAS)
        ]
        await asyncio.sleep(2 * 1.0)  # until the registry is believed
        yield worlds


@pytest.mark.parametrize("way", ["end", "end_all", "end_device", "renew", "update"])
async def test_after_the_receipt_no_memory_allows(
    remembering: list[World], way: str, record_property: RecordProperty
) -> None:
    """In memory everywhere, then changed through any replica: confirmed means gone from all.

    One replica lags: in one process all would else have passed it before anybody counted them.
    """
    counts: Counter[str] = Counter()
    for trial in range(TRIALS):
        signed = await remembering[0].sign_in(f"user-{trial}", "laptop")
        for each in remembering:
            await learn(each, signed.key)
        coordinator = remembering[trial % REPLICAS].store
        lag(remembering[trial // REPLICAS % REPLICAS])
        fence = coordinator.fence()
        await change(coordinator, signed, way, fence)
        confirmation = await coordinator.confirmed(fence)
        counts["complete"] += confirmation == (REPLICAS, REPLICAS, 0, True)
        for each in remembering:
            recalled = each.store.recall(signed.key)
            counts["allowed"] += recalled is not None and recalled[0].roles != ("new",)
    show(record_property, f"receipts: {way}", counts)
    assert (counts["complete"], counts["allowed"]) == (TRIALS, 0)


async def learn(world: World, key: SessionKey) -> None:
    """Have the replica remember a session: on a busy machine its lease may just be over."""
    async with asyncio.timeout(LEARN_S):
        while world.store.recall(key) is None:
            assert await world.allows(key)


async def test_where_none_was_left_to_end_no_memory_allows_either(
    remembering: list[World],
) -> None:
    """The activities were lost: the session counts as over, and yet memories know it."""
    store = remembering[0].store
    for trial in range(5):
        signed = await remembering[0].sign_in(f"user-{trial}")
        for each in remembering:
            await learn(each, signed.key)
        await remembering[0].client.delete(remembering[0].keys.activities(signed.key.partition))
        lag(remembering[-1])
        assert await Sessions(store, RULES, PARTITIONS).end(signed.id, ACTOR) is None
        assert [each.store.recall(signed.key) for each in remembering] == [None] * REPLICAS


async def test_who_asks_to_end_a_session_that_never_was_waits_for_nobody(
    remembering: list[World],
) -> None:
    store = remembering[0].store
    fence = store.fence()
    assert await store.end(fresh_key("ann")[1], EndState.REVOKED, ACTOR, fence) is None
    assert await store.confirmed(fence) == Confirmation()


def lag(world: World) -> None:
    """Let what Redis sends to the replica's stream wait for a moment, as a slow network does."""
    if world.stream is not None:
        transport = world.stream._transport
        transport.pause_reading()
        asyncio.get_running_loop().call_later(LAG_S, transport.resume_reading)


async def change(store: RedisStore, signed: SignedIn, way: str, fence: Fence) -> None:
    user = signed.session.user
    if way == "end":
        assert await store.end(signed.key, EndState.REVOKED, ACTOR, fence) == user
    elif way == "end_all":
        assert len(await store.end_all(user, None, ACTOR, fence)) == 1
    elif way == "end_device":
        assert len(await store.end_device(user, "laptop", ACTOR, fence)) == 1
    elif way == "renew":
        assert await store.renew(signed.key, fresh_key(user)[1], 0, ACTOR, fence) is not None
    else:
        assert await store.update(signed.key, {"roles": ("new",)}, ACTOR, fence) is not None


def show(record_property: RecordProperty, name: str, counts: Counter[str]) -> None:
    """Print the counts (seen with -s, or when the test fails) and keep them in the report."""
    print(f"{name}: {dict(counts)}")  # noqa: T201  (a race without its counts proves nothing)
    for what, count in counts.items():
        record_property(f"{name}: {what}", count)
