"""When a part is gone the answer is no, soon, and the door opens again by itself."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from gateway.embedded import EmbeddedValkey
from tests import servers

from .client import PAGE, Client, Reply, cookie
from .stack import BackEnd, Session, Stack, running_stack, start_proxy

DENIED_WITHIN_S = 1.0
BACK_WITHIN_S = 10.0
SILENCE_S = 2.0


@dataclass(frozen=True)
class Breakable:
    """A stack whose store may be stopped."""

    client: Client
    back_end: BackEnd
    valkey: EmbeddedValkey


@pytest.fixture
def breakable(proxy: str) -> Iterator[Breakable]:
    """A stack of its own for the test that breaks it."""
    with (
        EmbeddedValkey(port=servers.free_port()) as valkey,
        running_stack(valkey.url) as stack,
    ):
        program, port = start_proxy(proxy, stack.port_for(proxy), stack.application_port)
        with program:
            yield Breakable(Client(port), stack.back_end, valkey)


def until(wanted: Callable[[Reply], bool], ask: Callable[[], Reply], within_s: float) -> Reply:
    """Ask until the reply is as wanted; every answer must come within the time for a denial."""
    started = time.monotonic()
    while True:
        asked = time.monotonic()
        reply = ask()
        now = time.monotonic()
        assert now - asked < DENIED_WITHIN_S, f"one answer took {now - asked:.2f} s"
        if wanted(reply):
            return reply
        assert now - started < within_s, f"still {reply.status} after {now - started:.2f} s"
        time.sleep(0.02)


def refused(reply: Reply) -> bool:
    return not reply.from_application


def let_in(reply: Reply) -> bool:
    return reply.from_application


def assert_honest(reply: Reply) -> None:
    """We do not know is not "no session": no login page, and the cookie stays."""
    assert reply.status in (503, 403)
    assert reply.header("Set-Cookie") is None
    assert reply.header("Location") is None
    assert reply.header("X-Auth-Reason") == "store_unavailable"


@pytest.fixture(scope="session")
def orphan(proxy: str) -> Iterator[Client]:
    """A proxy whose gateway is not there."""
    application = servers.free_port()
    with servers.start_python("tests.e2e.application", application):
        program, port = start_proxy(proxy, servers.free_port(), application)
        with program:
            yield Client(port)


def assert_unavailable(proxy: str, reply: Reply) -> None:
    """The proxy itself says so; Traefik knows no other words than 500."""
    traefik = proxy == "like-traefik"
    assert reply.status == (500 if traefik else 503)
    assert reply.header("Retry-After") == (None if traefik else "1")
    assert reply.header("Location") is None
    assert reply.header("Set-Cookie") is None
    assert not reply.from_application


@pytest.mark.parametrize("target", ["/x", "/public/x", "/admin", "/app500"])
def test_without_the_gateway_nothing_is_let_in(orphan: Client, proxy: str, target: str) -> None:
    for headers in ((), (cookie("00" + "A" * 43), PAGE)):
        assert_unavailable(proxy, orphan.get(target, *headers))


def test_silent_gateway_lets_nobody_in(proxy: str, stack: Stack) -> None:
    """It takes the connection and never answers: the proxy's own patience ends in a refusal."""
    gateway = servers.free_port()
    with socket.create_server(("127.0.0.1", gateway)):
        program, port = start_proxy(proxy, gateway, stack.application_port)
        with program:
            if proxy == "like-traefik":  # waits for 30 s, and no option changes that
                assert_silent(port)
                return
            started = time.monotonic()
            assert_unavailable(proxy, Client(port).get("/public/x"))
            assert time.monotonic() - started < SILENCE_S


def assert_silent(port: int) -> None:
    """Nothing comes back: a page that is asked for stays closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=SILENCE_S) as connection:
        connection.sendall(b"GET /public/x HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_dead_store_denies_within_a_second_and_heals(breakable: Breakable) -> None:
    known, unread = breakable.back_end.sign_in(), breakable.back_end.sign_in()
    assert breakable.client.get("/x", cookie(known.token)).from_application
    breakable.valkey.stop()
    for session in (known, unread):  # one in the near cache, one not
        assert_honest(ask_until_refused(breakable, session))
    assert breakable.client.get("/public/x").from_application
    breakable.valkey.start()
    again = until_signed_in(breakable.back_end)
    ask_until_let_in(breakable, again)


def test_hanging_store_denies_within_a_second_and_heals(breakable: Breakable) -> None:
    known, unread = breakable.back_end.sign_in(), breakable.back_end.sign_in()
    assert breakable.client.get("/x", cookie(known.token)).from_application
    os.kill(breakable.valkey.pid, signal.SIGSTOP)
    try:
        for session in (known, unread):
            assert_honest(ask_until_refused(breakable, session))
    finally:
        os.kill(breakable.valkey.pid, signal.SIGCONT)
    for session in (known, unread):  # nothing was lost, so both go on
        assert ask_until_let_in(breakable, session).seen.identity("User") == session.user


def ask_until_refused(breakable: Breakable, session: Session) -> Reply:
    return ask_until_refused_by(breakable.client, session)


def ask_until_refused_by(client: Client, session: Session) -> Reply:
    """Ask as a browser would until the gateway stops believing its memory."""
    headers = (cookie(session.token), PAGE)
    return until(refused, lambda: client.get("/x", *headers), DENIED_WITHIN_S)


def ask_until_let_in(breakable: Breakable, session: Session) -> Reply:
    """Ask until the gateway has found its store again."""
    headers = cookie(session.token)
    return until(let_in, lambda: breakable.client.get("/x", headers), BACK_WITHIN_S)


def until_signed_in(back_end: BackEnd) -> Session:
    """Sign in as soon as the gateway has found its store again."""
    deadline = time.monotonic() + BACK_WITHIN_S
    while True:
        try:
            return back_end.sign_in()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
