"""Sessions, requests and a store that keeps to its contract, for tests of the rules."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from gateway.authorizer import Authorizer
from gateway.conditions import Locate, nowhere
from gateway.credentials import key_of_token
from gateway.errors import StoreUnavailable
from gateway.identity import Stand, standing_of
from gateway.model import CheckRequest, Client, Device, Session, SessionKey, Standing
from gateway.policy import Policy
from gateway.ports import Reading, SessionStore
from gateway.rules import RuleSpec

T = TypeVar("T")

NOW_MS = 1_800_000_000_000
MINUTE_MS = 60_000
PARTITIONS = 16
COOKIE = "__Host-sid"
TOKEN = b"0a" + b"Ab_-" * 10 + b"xyz"


def key_of(token: bytes) -> SessionKey:
    """Return the key of a token that is known to be well-formed."""
    key = key_of_token(token.decode(), PARTITIONS)
    assert key is not None
    return key


def make_session(
    *,
    token: bytes = TOKEN,
    user: str = "ada",
    email: str = "ada@example.com",
    name: str = "Ada Lovelace",
    roles: tuple[str, ...] = ("member", "staff"),
    device_id: str = "laptop-1",
    expires_ms: int = NOW_MS + 60 * MINUTE_MS,
    last_seen_ms: int = NOW_MS,
    idle_ms: int = 15 * MINUTE_MS,
    aal: int = 1,
    authenticated_ms: int = NOW_MS - MINUTE_MS,
    alerts: tuple[str, ...] = (),
) -> Session:
    """Return a session that lives at NOW_MS unless it is told otherwise."""
    return Session(
        key=key_of(token),
        user=user,
        email=email,
        name=name,
        roles=roles,
        device=Device(device_id, "Chrome on macOS", "desktop"),
        client=Client(ip="192.0.2.7"),
        created_ms=NOW_MS - MINUTE_MS,
        expires_ms=expires_ms,
        idle_ms=idle_ms,
        last_seen_ms=last_seen_ms,
        aal=aal,
        authenticated_ms=authenticated_ms,
        alerts=alerts,
    )


class FakeStore:
    """Only what a check asks of a store. `fault` is raised instead of an answer to `read`."""

    def __init__(self, *sessions: Session, stand: Stand = standing_of) -> None:
        self.stand = stand
        self.sessions = {session.key: session for session in sessions}
        self.remembers = False
        self.fault: Exception | None = None
        self.asked: list[SessionKey] = []

    def recall(self, key: SessionKey) -> tuple[Standing, int] | None:
        trusted = self.remembers and self.fault is None
        session = self.sessions.get(key) if trusted else None
        if session is None or session.idle_expires_ms <= NOW_MS:
            return None
        return self.stand(session), NOW_MS

    async def read(self, key: SessionKey) -> Reading:
        self.asked.append(key)
        if self.fault is not None:
            raise self.fault
        return Reading(self.sessions.get(key), NOW_MS)

    def as_store(self) -> SessionStore:
        """Return this as the whole port; whatever else is called fails the test."""
        store: Any = self
        return store  # type: ignore[no-any-return]


def unavailable() -> StoreUnavailable:
    return StoreUnavailable("timeout", "no answer within 100 ms")


def make_authorizer(
    rules: list[RuleSpec],
    store: FakeStore,
    activity: list[Standing] | None = None,
    *,
    stand: Stand = standing_of,
    unknown_per_second: int = 0,
    locate: Locate = nowhere,
) -> Authorizer:
    noted = [] if activity is None else activity
    return Authorizer(
        Policy(rules, locate=locate),
        store.as_store(),
        cookie_name=COOKIE,
        partitions=PARTITIONS,
        stand=stand,
        on_activity=lambda session, now_ms: noted.append(session),
        unknown_per_second=unknown_per_second,
    )


def make_request(
    target: str = "/",
    *,
    method: str = "GET",
    host: str = "app.example.com",
    cookies: tuple[bytes, ...] = (),
) -> CheckRequest:
    return CheckRequest(
        method=method,
        target=target,
        host=host,
        scheme="https",
        address="192.0.2.7",
        cookies=[each.decode("utf-8", "surrogateescape") for each in cookies],
        navigation=False,
    )


def cookie(token: bytes = TOKEN) -> bytes:
    return COOKIE.encode() + b"=" + token


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never waits; far cheaper than an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise AssertionError("the check waited for something")
