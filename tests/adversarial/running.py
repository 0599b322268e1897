"""Runs all cases against one proxy. What is right is known here, and not learned from the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from gateway.conformance.cases import CASES, Case, Must, Who
from gateway.conformance.place import Place
from gateway.conformance.sender import Server
from gateway.conformance.suite import Result, Suite
from gateway.conformance.verdict import Known, Outcome, Verdict
from tests import servers
from tests.e2e.client import HOST
from tests.e2e.stack import BackEnd, Stack, start_proxy

from .user_data import USERS, User

AT_ONCE = 32
RETRIES = 3
_KEPT = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


@dataclass(frozen=True)
class SignedIn:
    """A live session, and what an application must see of it."""

    token: str
    identity: frozenset[tuple[str, str]]


def sign_in(back_end: BackEnd, user: User) -> SignedIn | None:
    """Create a session; None if the gateway refuses what the user is called."""
    status, answer = back_end.call("POST", "/v1/sessions", user.asked())
    if status in (400, 422):
        return None
    assert status == 201, (status, answer)
    values = {
        "USER": user.user,
        "EMAIL": user.email,
        "NAME": user.name,
        "ROLES": ",".join(user.roles),
        "SESSION": answer["id"],
        "DEVICE": answer["device"]["id"],
    }
    pairs = ((f"X-AUTH-{name}", quote(value, safe=_KEPT)) for name, value in values.items())
    return SignedIn(answer["token"], frozenset((name, value) for name, value in pairs if value))


def place_of(token: str) -> Place:
    """Return the end-to-end tests' installation, as an operator would describe it."""
    return Place(HOST, "/admin", "/public", "/x", f"__Host-sid={token}")


def known_of(member: SignedIn) -> Known:
    """Return what is right, for somebody who may not open /admin."""
    identity = {Who.STRANGER: frozenset[tuple[str, str]](), Who.MEMBER: member.identity}
    return Known(place_of(member.token), exact=True, harmless=(), secret=None,
                 identity=identity, shut_out=True)  # fmt: skip


def start(proxy: str, stack: Stack, application: int) -> tuple[servers.Program, int]:
    """Start a proxy with its shipped configuration in front of an application; return its port."""
    return start_proxy(proxy, stack.port_for(proxy), application)


def run_all(port: int, back_end: BackEnd, cases: Sequence[Case] = CASES) -> list[Result]:
    """Run every case, and every kind of user, through the proxy on this port."""
    return asyncio.run(_run_all(port, back_end, cases))


async def _run_all(port: int, back_end: BackEnd, cases: Sequence[Case]) -> list[Result]:
    member = sign_in(back_end, User("member"))
    assert member is not None
    results = await _run(port, member, cases)
    for what, user in USERS.items():
        results.append(await _run_user(port, back_end, what, user))
    return results


async def _run(port: int, member: SignedIn, cases: Sequence[Case]) -> list[Result]:
    """Run cases; ask again what a busy machine left open ("we do not know" is no refusal)."""
    known = known_of(member)
    suite = Suite(known.place, Server("127.0.0.1", port).send, cases, at_once=AT_ONCE)
    found = {result.case: result for result in await suite.run(known)}
    for _ in range(RETRIES):
        unjudged = [c for c, r in found.items() if r.verdict.outcome is Outcome.UNJUDGED]
        if not unjudged:
            break
        again = await replace(suite, cases=unjudged, at_once=1).run(known)
        found |= {result.case: result for result in again}
    return list(found.values())


async def _run_user(port: int, back_end: BackEnd, what: str, user: User) -> Result:
    """Sign somebody in whose name is an attack; what gets in must arrive as it is, and alone."""
    case = Case("user-data", what, Must.IDENTITY, "{S}", only=Who.MEMBER)
    shown = replace(case, lines=(f"POST /v1/sessions {user.differs()}",))
    member = await asyncio.to_thread(sign_in, back_end, user)
    if member is None:
        return Result(shown, Verdict(Outcome.HELD, "refused at the sign-in"), "not signed in")
    [result] = await _run(port, member, [case])
    return replace(result, case=shown)


def red(results: Sequence[Result]) -> list[str]:
    """Return every case that did not hold, and why; what could not be judged has not held."""
    return [
        f"{result.case.name}: {result.verdict.outcome}: {result.verdict.why}"
        for result in results
        if result.verdict.outcome is not Outcome.HELD
    ]
