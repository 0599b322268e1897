"""Signing in many users, straight into the store: the admin API would take minutes."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gateway.errors import StoreUnavailable
from gateway.lifetime import Lifetime
from gateway.model import Actor, Client, Login
from gateway.ports import SignInRules
from gateway.sessions import Sessions
from gateway.store import RedisStore, connect

PARTITIONS = 16
_AT_ONCE = 16
_ATTEMPTS = 5
_RULES = SignInRules(Lifetime(4 * 3_600_000, 30 * 86_400_000), 5, "evict", one_per_device=True)
_CLIENT = Client(
    "203.0.113.7",
    country="DE",
    city="Berlin",
    user_agent="Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 "
    "(KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
)


def login(number: int) -> Login:
    """Return what the application says of one user."""
    return Login(
        user=f"user{number}",
        email=f"user{number}@example.com",
        name=f"Alice Example {number}",
        roles=("user", "staff"),
        client=_CLIENT,
    )


def sign_in(redis_url: str, count: int) -> list[str]:
    """Create the sessions of `count` users; return their tokens."""
    return asyncio.run(_sign_in(redis_url, count))


async def _sign_in(redis_url: str, count: int) -> list[str]:
    store = RedisStore(connect(redis_url), partitions=PARTITIONS)
    await store.open()
    sessions = Sessions(store, _RULES, PARTITIONS)
    users, tokens = iter(range(count)), list[str]()

    async def work() -> None:
        for number in users:
            tokens.append(await _token(sessions, login(number)))

    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
    await store.close()
    return tokens


async def _token(sessions: Sessions, who: Login) -> str:
    """Sign a user in. Once again where no answer came in time: the device still has one session."""
    for _ in range(_ATTEMPTS):
        with suppress(StoreUnavailable):
            return (await sessions.create(who, Actor("bench"))).token
    raise AssertionError("Redis does not answer")
