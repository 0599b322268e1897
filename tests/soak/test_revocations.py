"""Long runs: `make soak`. Real processes, real faults, counts that must be zero."""

from __future__ import annotations

import http.client
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import pytest

from gateway.embedded import EmbeddedValkey
from tests import servers
from tests.e2e.client import HOST
from tests.e2e.stack import BackEnd, Session, gateway_toml

pytestmark = pytest.mark.soak

REPLICAS = 3
REVOCATIONS = 10_000
CHAOS_S = 60
TOKEN = "soak"


@dataclass(frozen=True)
class Cluster:
    """Several gateways over one store."""

    valkey: EmbeddedValkey
    checks: list[int]
    back_ends: list[BackEnd]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with ExitStack() as stack:
        valkey = stack.enter_context(EmbeddedValkey())
        checks, back_ends = [], []
        for _ in range(REPLICAS):
            check, pages, admin = (servers.free_port() for _ in range(3))
            config = gateway_toml(check, pages, admin, valkey.url, TOKEN)
            stack.enter_context(servers.start_gateway(config + "[log]\ndenials = false\n"))
            checks.append(check)
            back_ends.append(BackEnd(admin, TOKEN))
        yield Cluster(valkey, checks, back_ends)


@pytest.fixture
def checkers(cluster: Cluster) -> Iterator[list[Checker]]:
    """One connection to each replica."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Checker(port))) for port in cluster.checks]


class Checker:
    """One keep-alive connection to one replica."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)

    def close(self) -> None:
        self._connection.close()

    def status(self, session: Session) -> tuple[int, str]:
        """Return the status and the user of a check."""
        headers = {
            "Host": HOST,
            "X-Original-Method": "GET",
            "X-Original-URI": "/app",
            "X-Forwarded-For": "203.0.113.7",
            "Cookie": f"__Host-sid={session.token}",
        }
        self._connection.request("GET", "/check/auth_request", headers=headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("X-Auth-User", "")


@dataclass
class Load:
    """Clients that check living sessions while something else happens."""

    cluster: Cluster
    sessions: list[Session]
    stopping: threading.Event = field(default_factory=threading.Event)
    checks: int = 0
    foreign: int = 0

    def __enter__(self) -> Load:
        self._threads = [
            threading.Thread(target=self._run, args=(port,)) for port in self.cluster.checks
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, port: int) -> None:
        with closing(Checker(port)) as checker:
            while not self.stopping.is_set():
                session = random.choice(self.sessions)
                status, user = checker.status(session)
                self.checks += 1
                self.foreign += status == 200 and user != session.user


def test_after_the_receipt_no_replica_allows(cluster: Cluster, checkers: list[Checker]) -> None:
    """10,000 revocations under load, each asked of every replica after its receipt: 0 allowed."""
    living = [cluster.back_ends[0].sign_in(user=f"living-{number}") for number in range(50)]
    allowed, receipts = 0, []
    with Load(cluster, living) as load:
        for number in range(REVOCATIONS):
            back_end = cluster.back_ends[number % REPLICAS]
            session = back_end.sign_in(user=f"leaver-{number % 500}")
            assert checkers[number % REPLICAS].status(session)[0] == 200
            receipt = back_end.end(session)
            assert receipt["complete"] is True
            receipts.append(receipt["took_ms"])
            allowed += sum(checker.status(session)[0] == 200 for checker in checkers)
    receipts.sort()
    print(f"\n{REVOCATIONS} revocations, {load.checks} checks beside them, {allowed} allowed, "
          f"receipt p50 {receipts[len(receipts) // 2]} ms, "
          f"p99 {receipts[len(receipts) * 99 // 100]} ms")  # fmt: skip
    assert (allowed, load.foreign) == (0, 0)


def test_faults_never_allow_what_has_ended(cluster: Cluster, checkers: list[Checker]) -> None:
    """While Valkey hangs and comes back at random, ended sessions and strangers stay out."""
    living = [cluster.back_ends[0].sign_in(user=f"living-{number}") for number in range(20)]
    ended = [cluster.back_ends[0].sign_in(user=f"ended-{number}") for number in range(20)]
    for session in ended:
        cluster.back_ends[0].end(session)
    revived, hangs = 0, 0
    with Load(cluster, living) as load:
        deadline = time.monotonic() + CHAOS_S
        while time.monotonic() < deadline:
            os.kill(cluster.valkey.pid, signal.SIGSTOP)
            hangs += 1
            revived += _allowed(checkers, ended, random.uniform(0.05, 1.0))
            os.kill(cluster.valkey.pid, signal.SIGCONT)
            revived += _allowed(checkers, ended, random.uniform(0.05, 1.0))
    print(f"\n{hangs} hangs, {load.checks} checks, {revived} revived, {load.foreign} foreign")
    assert (revived, load.foreign) == (0, 0)
    assert all(checker.status(session)[0] == 200 for checker in checkers for session in living)


def _allowed(checkers: list[Checker], sessions: list[Session], seconds: float) -> int:
    """Ask about ended sessions for a while; return how often one was allowed."""
    deadline, allowed = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        for checker in checkers:
            allowed += checker.status(random.choice(sessions))[0] == 200
    return allowed
