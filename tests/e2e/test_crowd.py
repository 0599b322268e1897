"""Many people at once: everybody is who they are."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass

import aiohttp

from .client import HOST, Client
from .stack import BackEnd, Session

REQUESTS = 1000
TARGETS = ("/x", "/public/x", "/admin/x", "/readonly/x", "/deep/er/x?y=1")


@dataclass(frozen=True)
class Got:
    """What one visitor got; `user` is None where the application saw nothing."""

    status: int
    reason: str
    user: str | None

    @property
    def in_doubt(self) -> bool:
        """Tell whether the gateway did not know, which is no answer about the visitor."""
        return self.status == 503 or self.reason in ("store_unavailable", "overloaded")


async def ask(http: aiohttp.ClientSession, client: Client, who: Session | None, target: str) -> Got:
    """Send one request as this visitor."""
    headers = {"Host": HOST}
    if who is not None:
        headers["Cookie"] = f"__Host-sid={who.token}"
    url = f"http://127.0.0.1:{client.port}{target}"
    async with http.get(url, headers=headers, allow_redirects=False) as response:
        reason = response.headers.get("X-Auth-Reason", "")
        if response.headers.get("X-Application") != "yes":
            return Got(response.status, reason, None)
        seen = await response.json()
    users = [value for name, value in seen["headers"] if name.lower() == "x-auth-user"]
    return Got(response.status, reason, users[0] if users else "")


def expected(who: Session | None, admins: set[str], target: str) -> Got:
    """Return what this visitor must get."""
    if target.startswith("/public"):
        return Got(200, "", "")
    if who is None:
        return Got(401, "no_session", None)
    if target.startswith("/admin") and who.user not in admins:
        return Got(403, "role_required", None)
    return Got(200, "", who.user)


async def wrong_answers(client: Client, back_end: BackEnd, in_flight: int) -> list[tuple[Got, Got]]:
    """Let a crowd ask, so many at a time; return each wrong answer with the right one."""
    people = [back_end.sign_in(roles=("admin",) if n % 4 == 0 else ()) for n in range(20)]
    admins = {person.user for person in people[::4]}
    visitors: list[Session | None] = [*people, None, None]
    asked = list(itertools.islice(itertools.cycle(itertools.product(visitors, TARGETS)), REQUESTS))
    random.shuffle(asked)
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector) as http:
        got = await asyncio.gather(*(ask(http, client, *one) for one in asked))
    right = [expected(who, admins, target) for who, target in asked]
    return [(one, wanted) for one, wanted in zip(got, right, strict=True) if one != wanted]


async def test_thousand_concurrent_requests_cross_no_identities(
    client: Client, back_end: BackEnd
) -> None:
    """All at once, on a machine of any size: who cannot be served is refused, never mistaken."""
    wrong = await wrong_answers(client, back_end, in_flight=REQUESTS)
    assert [pair for pair in wrong if not pair[0].in_doubt] == []
    assert len(wrong) < REQUESTS / 2


async def test_steady_crowd_is_answered_without_a_fault(client: Client, back_end: BackEnd) -> None:
    assert await wrong_answers(client, back_end, in_flight=32) == []
