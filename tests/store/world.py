"""A store under test, the server below it, and a clock that can be wound.

Redis has one clock, and no test can set it. So `wind` moves everything that is stored into the
past instead: no production code knows of it, and it works on every server.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal
from unittest.mock import patch

import fakeredis
import orjson

from gateway.credentials import (
    key_of_token,
    new_token,
    partition_of_user,
)
from gateway.lifetime import Lifetime
from gateway.model import Actor, Client, Device, Ended, Login, Session, SessionKey
from gateway.ports import Reading, SignInRules
from gateway.store import link, reader, records
from gateway.store.keys import Keys
from gateway.store.link import Stream
from gateway.store.records import Fields
from gateway.store.redis_store import RedisStore, connect

PARTITIONS = 16
IDLE_MS = 600_000
ABSOLUTE_MS = 3_600_000
RULES = SignInRules(Lifetime(IDLE_MS, ABSOLUTE_MS), 0, "evict", one_per_device=False)
ACTOR = Actor("backend", "because", "req-1")
PATIENCE_S = 10.0
SLACK_MS = 5_000  # what a slow machine may take for one test

_DEVICES = itertools.count(1)


@dataclass(frozen=True)
class SignedIn:
    """What a sign-in gave, with the secret that no key and no value may hold."""

    token: str
    session: Session
    ended: tuple[Ended, ...]

    @property
    def key(self) -> SessionKey:
        return self.session.key

    @property
    def id(self) -> str:
        return self.session.id


class World:
    """One store and its server, seen from outside through a client of its own."""

    def __init__(self, store: RedisStore, client: Any, prefix: str = "gw:") -> None:
        self.store = store
        self.client = client
        self.keys = Keys(prefix)
        self.lost: list[int] = []

    async def sign_in(
        self, user: str = "ann", device: str = "", rules: SignInRules = RULES, **facts: Any
    ) -> SignedIn:
        """Create a session; without `device` it is on one never seen before."""
        token, key = fresh_key(user)
        login = Login(user=user, **{"client": Client(ip="192.0.2.1"), "roles": ("staff",), **facts})
        described = Device(device or f"device-{next(_DEVICES)}", "Firefox on Linux", "desktop")
        created = await self.store.create(key, login, described, rules, ACTOR)
        return SignedIn(token, created.session, created.ended)

    async def copies(self, signed: SignedIn, count: int) -> list[SessionKey]:
        """Store `count` more sessions like this one, faster than by signing in."""
        session, pipeline = signed.session, self.client.pipeline(transaction=False)
        fields = await self.fields(session.key)
        keys = [fresh_key(session.user)[1] for _ in range(count)]
        for key in keys:
            record = as_json(fields._replace(digest=records.short(key)))
            pipeline.set(self.keys.record(key), record, pxat=session.expires_ms)
            rests_until = session.last_seen_ms + session.idle_ms
            pipeline.zadd(self.keys.activities(key.partition), {key.digest: rests_until})
            index = self.keys.index(key.partition, session.user)
            pipeline.zadd(index, {key.digest: session.expires_ms})
        await pipeline.execute()
        return keys

    async def fields(self, key: SessionKey) -> Fields:
        """Return the session's record as it is stored."""
        return Fields(*orjson.loads(await self.client.get(self.keys.record(key))))

    async def forge(self, key: SessionKey, **values: Any) -> None:
        """Write other values into the session's record."""
        forged = as_json((await self.fields(key))._replace(**values))
        await self.client.set(self.keys.record(key), forged, keepttl=True)

    async def allows(self, key: SessionKey) -> bool:
        """Tell whether a check would find the session alive, in memory or in Redis."""
        await self.settle()
        return self.store.recall(key) is not None or is_live(await self.store.read(key))

    async def settle(self) -> None:
        """Wait until the store has heard of everything that was written before."""
        stream = self.stream
        if stream is not None:
            await stream.ask("PING")

    @property
    def stream(self) -> Stream | None:
        """The link's stream, while there is one that is trusted."""
        memory = self.store._memory
        return None if memory is None else memory._link.stream

    async def touch(self, signed: SignedIn, interval_ms: int) -> bool:
        """Tell whether a touch wrote something."""
        touched = await self.store.touch(signed.key, interval_ms)
        return touched is not None and touched.written

    async def listed(self, user: str = "ann") -> set[SessionKey]:
        """Return the keys of the sessions that the store lists."""
        return {session.key for session in await self.store.sessions_of(user)}

    async def wind(self, ms: int) -> None:
        """Let `ms` pass (or, below zero, turn the clock back)."""
        for name in await self.names():
            kind, _, _ = name.removeprefix(self.keys.prefix).partition(":")
            if kind == "s":
                await self._wind_record(SessionKey(name[-36:-34], name[-32:]), ms)
            elif kind in ("u", "a"):
                scored = await self.client.zrange(name, 0, -1, withscores=True)
                await self.client.zadd(name, {member: score - ms for member, score in scored})
            await self._wind_ttl(name, ms)

    async def _wind_record(self, key: SessionKey, ms: int) -> None:
        fields = await self.fields(key)
        await self.forge(
            key,
            created_ms=fields.created_ms - ms,
            expires_ms=fields.expires_ms - ms,
            authenticated_ms=fields.authenticated_ms and fields.authenticated_ms - ms,
        )

    async def _wind_ttl(self, name: str, ms: int) -> None:
        at = await self.client.pexpiretime(name)
        if at > 0:
            await self.client.pexpireat(name, at - ms)

    async def names(self) -> list[str]:
        """Return every key that there is, but those that a store has for itself."""
        names = {name.decode() async for name in self.client.scan_iter(count=1000)}
        return sorted(names - {self.keys.replicas})

    async def without_ttl(self) -> list[str]:
        """Return the keys that would stay for ever, but those that are documented to."""
        names = [name for name in await self.names() if not self._lasts(name)]
        return [name for name in names if await self.client.pttl(name) < 0]

    def _lasts(self, name: str) -> bool:
        return name.startswith(("gw:e:", "gw:x:")) or name in ("gw:partitions", "gw:replicas")

    async def members(self, user: str = "ann") -> set[str]:
        """Return the digests in the user's index, dead or alive."""
        index = self.keys.index(partition_of_user(user, PARTITIONS), user)
        return {member.decode() for member in await self.client.zrange(index, 0, -1)}

    async def due(self, user: str = "ann") -> set[str]:
        """Return the digests that the sweep is to look at: the user's, and nobody's any more."""
        partition = partition_of_user(user, PARTITIONS)
        members = await self.client.zrange(self.keys.activities(partition), 0, -1)
        digests = {member.decode().rstrip("!") for member in members}
        return {digest for digest in digests if await self._owner(partition, digest) in (user, "")}

    async def _owner(self, partition: str, digest: str) -> str:
        key = SessionKey(partition, digest)
        there = await self.client.exists(self.keys.record(key))
        return (await self.fields(key)).user if there else ""

    async def rest(self, key: SessionKey) -> float | None:
        """Return until when the session may rest, as Redis has it."""
        end: float | None = await self.client.zscore(
            self.keys.activities(key.partition), key.digest
        )
        return end

    async def events(self, user: str = "ann") -> list[dict[str, str]]:
        """Return what the outbox of the user's partition holds, oldest first."""
        outbox = self.keys.outbox(partition_of_user(user, PARTITIONS))
        return [_texts(fields) for _, fields in await self.client.xrange(outbox)]

    async def everything(self) -> dict[str, Any]:
        """Return all keys with their values and ends, to show that nothing changed."""
        return {
            name: (await self.dump(name), await self.client.pexpiretime(name))
            for name in await self.names()
        }

    async def dump(self, name: str) -> object:
        kind = await self.client.type(name)
        if kind == b"string":
            return await self.client.get(name)
        if kind == b"zset":
            return await self.client.zrange(name, 0, -1, withscores=True)
        return await self.client.xrange(name)


def as_json(fields: Fields) -> bytes:
    """Return a record with these fields, whatever they are."""
    return orjson.dumps([*fields])


def fresh_key(user: str) -> tuple[str, SessionKey]:
    """Return a new token for the user, and where its session lives."""
    token = new_token(partition_of_user(user, PARTITIONS))
    key = key_of_token(token, PARTITIONS)
    assert key is not None
    return token, key


def is_live(reading: Reading) -> bool:
    """Tell what a check would say of this reading."""
    session = reading.session
    return session is not None and reading.now_ms < session.idle_expires_ms


def limited(
    limit: int, on_limit: Literal["evict", "deny"] = "evict", *, one_per_device: bool = False
) -> SignInRules:
    """Return the usual rules with a limit."""
    return replace(RULES, max_per_user=limit, on_limit=on_limit, one_per_device=one_per_device)


def rules_for(idle_ms: int, absolute_ms: int) -> SignInRules:
    """Return the usual rules with other clocks."""
    return replace(RULES, lifetime=Lifetime(idle_ms, absolute_ms))


def kinds(events: Iterable[dict[str, str]]) -> list[str]:
    """Return `ended/revoked`, `created`, ...: what the events say, without to whom."""
    return [
        event["type"].removeprefix("session.") + (f"/{event['why']}" if "why" in event else "")
        for event in events
    ]


@asynccontextmanager
async def fake_world(**options: Any) -> AsyncIterator[World]:
    """A store over fakeredis, which runs the same scripts in this process."""
    server = fakeredis.FakeServer()
    clients = [fakeredis.FakeAsyncRedis(server=server, version=(7,)) for _ in range(2)]
    async with _world(clients, options) as world:
        yield world


@asynccontextmanager
async def real_world(url: str, *, empty: bool = True, **options: Any) -> AsyncIterator[World]:
    """A store over a real server, which is emptied first."""
    clients = [patient(connect(url)) for _ in range(2)]
    if empty:
        await clients[1].flushall()
    async with _world(clients, options) as world:
        yield world


def patient(client: Any) -> Any:
    """Return the client with time to spare: a busy machine fails no test that is not about time."""
    pool = client.connection_pool
    pool.timeout = PATIENCE_S
    pool.connection_kwargs |= {
        "socket_timeout": PATIENCE_S,
        "socket_connect_timeout": PATIENCE_S,
    }
    return client


@asynccontextmanager
async def _world(clients: Sequence[Any], options: dict[str, Any]) -> AsyncIterator[World]:
    lost: list[int] = []
    store = RedisStore(clients[0], partitions=PARTITIONS, on_lost_event=lost.append, **options)
    world = World(store, clients[1])
    world.lost = lost
    try:
        with (
            patch.object(reader, "GRACE_S", PATIENCE_S),
            patch.object(link, "GRACE_S", PATIENCE_S),
        ):
            await store.open()
            await _remembering(world)
            yield world
    finally:
        await store.close()
        await clients[1].aclose()


async def _remembering(world: World) -> None:
    """Wait until memory is trusted, if the store has one."""
    async with asyncio.timeout(PATIENCE_S):
        while world.store.near is not None and world.stream is None:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def _texts(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}
