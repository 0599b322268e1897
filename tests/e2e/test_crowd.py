"""Many people at once: everybody is who they are."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import aiohttp

from .client import HOST, Client
from .stack import BackEnd, Session

REQUESTS = 1000
TARGETS = ("/x", "/public/x", "/admin/x", "/readonly/x", "/deep/er/x?y=1")


async def ask(http: aiohttp.ClientSession, client: Client, who: Session | None, target: str) -> Any:
    """Return the status and the user that the application saw (None if it saw nothing)."""
    headers = {"Host": HOST}
    if who is not None:
        headers["Cookie"] = f"__Host-sid={who.token}"
    url = f"http://127.0.0.1:{client.port}{target}"
    async with http.get(url, headers=headers, allow_redirects=False) as response:
        if response.headers.get("X-Application") != "yes":
            return response.status, None
        seen = await response.json()
    users = [value for name, value in seen["headers"] if name.lower() == "x-auth-user"]
    return response.status, users[0] if users else ""


def expected(who: Session | None, admins: set[str], target: str) -> tuple[int, str | None]:
    """Return what this visitor must get."""
    if target.startswith("/public"):
        return 200, None
    if who is None:
        return 401, None
    if target.startswith("/admin") and who.user not in admins:
        return 403, None
    return 200, who.user


async def test_thousand_concurrent_requests_cross_no_identities(
    client: Client, back_end: BackEnd
) -> None:
    people = [back_end.sign_in(roles=("admin",) if n % 4 == 0 else ()) for n in range(20)]
    admins = {person.user for person in people[::4]}
    visitors: list[Session | None] = [*people, None, None]
    asked = list(itertools.islice(itertools.cycle(itertools.product(visitors, TARGETS)), REQUESTS))
    random.shuffle(asked)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        got = await asyncio.gather(*(ask(http, client, *one) for one in asked))
    for (who, target), (status, user) in zip(asked, got, strict=True):
        wanted_status, wanted_user = expected(who, admins, target)
        assert status == wanted_status, target
        if target.startswith("/public"):
            assert user in ("", who and who.user)
        else:
            assert user == wanted_user
