"""Redis absent, gone or hung: every adapter says no, soon, in its own way, until it is back."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.embedded import EmbeddedValkey
from tests import servers

from .harness import ADMIN_TOKEN, IN_DOUBT, Gateway, log_lines, log_of, redis_command, until

PROMISED_MS = 150
BOUND_MS = 400  # the promise holds on a quiet machine; tests share theirs
ASKED = 5
LEASE_S = 0.5  # so long a live session may be allowed from memory


def assert_denied_everywhere(gateway: Gateway, token: str) -> None:
    """Each adapter denies in its own status, in time, and leaves the cookie alone."""
    times = []
    for adapter, status in IN_DOUBT.items():
        for _ in range(ASKED):
            answer = gateway.check(token, adapter)
            assert (answer.status, answer.headers["X-Auth-Reason"]) == (status, "store_unavailable")
            assert answer.headers["Set-Cookie"] is None
            assert answer.headers["Location"] is None
            assert answer.headers["X-Auth-User"] is None
            assert answer.took_ms < BOUND_MS
            times.append(answer.took_ms)
        assert gateway.check(token, adapter, "/public/x").status == 200
    print(f"median {statistics.median(times):.1f} ms, slowest {max(times):.1f} ms")  # noqa: T201


@contextmanager
def started(more: str = "") -> Iterator[tuple[Gateway, EmbeddedValkey, servers.Program]]:
    """A gateway that is ready, and its Redis."""
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        gateway = Gateway(valkey.url, more)
        with gateway.running() as program:
            until(lambda: gateway.ready() == 200, "ready")
            yield gateway, valkey, program


def test_redis_absent_at_the_start() -> None:
    """Without Redis the gateway starts, denies, says why, and is ready by itself once it comes."""
    port = servers.free_port()
    gateway = Gateway(f"redis://127.0.0.1:{port}/0")
    with gateway.running() as program:
        assert gateway.ready() == 503
        assert_denied_everywhere(gateway, "00" + "A" * 43)
        assert gateway.check("not-a-token").status == 401
        assert gateway.admin("POST", "/v1/sessions", {"user": "a"}).status == 503
        said = [line for line in log_lines(log_of(program)) if line["event"] == "redis_unavailable"]
        assert said
        assert {(line["level"], line["kind"]) for line in said} == {("error", "connection")}
        with EmbeddedValkey(port=port):
            until(lambda: gateway.ready() == 200, "ready by itself")
            token = gateway.sign_in()["token"]
            assert {gateway.check(token, adapter).status for adapter in IN_DOUBT} == {200}
        assert program.running


def test_redis_stopped_while_running() -> None:
    """When Redis is gone checks are denied; when it is back sign-ins work again by themselves."""
    with started() as (gateway, valkey, program):
        token = gateway.sign_in()["token"]
        assert gateway.check(token).status == 200
        valkey.stop()
        assert_denied_everywhere(gateway, token)
        assert gateway.ready() == 503
        valkey.start()
        until(lambda: gateway.ready() == 200, "ready again")
        # The new Redis is empty: now "no session" is a fact.
        assert gateway.check(token).status == 401
        assert gateway.check(gateway.sign_in()["token"]).status == 200
        assert program.running


def test_redis_hung_while_running() -> None:
    """A Redis that hangs is as good as none, in time; afterwards the same cookie works."""
    with started() as (gateway, valkey, program):
        token = gateway.sign_in()["token"]
        assert gateway.check(token).status == 200
        os.kill(valkey.pid, signal.SIGSTOP)
        time.sleep(LEASE_S)
        try:
            assert_denied_everywhere(gateway, token)
            assert gateway.ready() == 503
            assert gateway.admin("DELETE", "/v1/sessions/" + "00" + "a" * 32).status == 503
        finally:
            os.kill(valkey.pid, signal.SIGCONT)
        for adapter in IN_DOUBT:
            until(lambda: gateway.check(token, adapter).status == 200, "allowed again")  # noqa: B023
        assert program.running


@pytest.mark.parametrize("password", ["wrong-redis-password", ""])
def test_a_refused_password_is_no_session_of_anybody(password: str) -> None:
    """A Redis that refuses our password is "we do not know", and no password is logged."""
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        redis_command(valkey.port, "CONFIG SET requirepass right-redis-password")
        url = valkey.url.replace("//", f"//:{password}@") if password else valkey.url
        gateway = Gateway(url, '[log]\nlevel = "debug"\n')
        with gateway.running() as program:
            assert gateway.ready() == 503
            assert_denied_everywhere(gateway, "00" + "A" * 43)
            text = log_of(program)
        assert "auth" in {line.get("kind") for line in log_lines(text)}
        assert "redis-password" not in text
        assert ADMIN_TOKEN not in text
