"""Long runs: `make soak`. Real processes, real faults, counts that must be zero."""

from __future__ import annotations

import http.client
import os
import random
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.embedded import EmbeddedValkey
from tests import servers
from tests.e2e.client import HOST
from tests.e2e.stack import BackEnd, Session, gateway_toml
from tests.service.harness import until
from tests.service.test_near_cache import (
    FRESH_S,
    FROM_REDIS,
    SILENT_S,
    TO_REDIS,
    Replica,
    Wire,
    started,
    stopped,
    tell,
)

pytestmark = pytest.mark.soak

REPLICAS = 3
REVOCATIONS = 10_000
CHAOS_S = 60
ENDERS = 4  # threads that end sessions while faults come and go
CHURNED = 60_000  # sign-ins: a day of one every 1.4 s
CHURNERS = 4
CHURN_USERS = 5000
MAX_ENTRIES = 1000
SAMPLES = 40  # of the memory that a gateway takes while sessions come and go
FLAT_KIB = 4096  # what the second half of them may be above the first
TOKEN = "soak"


@dataclass(frozen=True)
class Cluster:
    """Several gateways over one store."""

    valkey: EmbeddedValkey
    checks: list[int]
    back_ends: list[BackEnd]
    pids: list[int]


@contextmanager
def running(valkey: EmbeddedValkey, urls: Sequence[str]) -> Iterator[Cluster]:
    """Run a replica for each address of the store, until the end of the block."""
    cluster = Cluster(valkey, [], [], [])
    with ExitStack() as stack:
        for url in urls:
            check, pages, admin = (servers.free_port() for _ in range(3))
            config = gateway_toml(check, pages, admin, url, TOKEN) + "[log]\ndenials = false\n"
            cluster.pids.append(stack.enter_context(servers.start_gateway(config)).pid)
            cluster.checks.append(check)
            cluster.back_ends.append(BackEnd(admin, TOKEN))
        for back_end in cluster.back_ends:
            until(lambda: confirmed_by_all(revoke_nothing(back_end)), "settled")  # noqa: B023
        yield cluster


def revoke_nothing(back_end: BackEnd) -> Any:
    return back_end.call("DELETE", "/v1/users/nobody/sessions")[1]


def confirmed_by_all(receipt: Any) -> bool:
    """Tell whether every replica has confirmed, so that none had to be waited for."""
    return bool(
        receipt["replicas"] == {"live": REPLICAS, "confirmed": REPLICAS, "lease_expired": 0}
        and receipt["complete"]
    )


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with EmbeddedValkey() as valkey, running(valkey, [valkey.url] * REPLICAS) as cluster:
        yield cluster


@pytest.fixture
def exposed() -> Iterator[tuple[Wire, Cluster]]:
    """A cluster whose first replica is behind a wire that can fail."""
    with (
        EmbeddedValkey() as valkey,
        Wire(valkey.port) as wire,
        running(valkey, [wire.url, *[valkey.url] * (REPLICAS - 1)]) as cluster,
    ):
        yield wire, cluster


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
    ended: set[Session] = field(default_factory=set)  # those of `sessions` that have a receipt
    stopping: threading.Event = field(default_factory=threading.Event)
    checks: int = 0
    foreign: int = 0
    revived: int = 0

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
                over = session in self.ended
                status, user = checker.status(session)
                self.checks += 1
                self.revived += over and status == 200
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
            assert confirmed_by_all(receipt), receipt
            receipts.append(receipt["took_ms"])
            allowed += sum(checker.status(session)[0] == 200 for checker in checkers)
    print(f"\n{REVOCATIONS} revocations, {load.checks} checks beside them, {allowed} allowed, "
          f"{percentiles(receipts)}")  # fmt: skip
    assert (allowed, load.foreign) == (0, 0)


def percentiles(took_ms: list[float]) -> str:
    took_ms = sorted(took_ms)
    return (
        f"receipt p50 {took_ms[len(took_ms) // 2]} ms, p99 {took_ms[len(took_ms) * 99 // 100]} ms"
    )


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


# --- every fault, at random ------------------------------------------------------------------


def hang_redis(cluster: Cluster, _: Wire) -> None:
    with stopped(cluster.valkey.pid):
        time.sleep(random.uniform(0.05, 1.2))


def stall_replica(cluster: Cluster, _: Wire) -> None:
    with stopped(random.choice(cluster.pids)):
        time.sleep(random.uniform(0.05, 1.5))


def kill_links(cluster: Cluster, _: Wire) -> None:
    tell(cluster.valkey, "CLIENT", "KILL", "TYPE", random.choice(["normal", "pubsub"]))


def black_hole(_: Cluster, wire: Wire) -> None:
    wire.hold(*random.choice([(TO_REDIS,), (FROM_REDIS,), (TO_REDIS, FROM_REDIS)]))
    time.sleep(random.uniform(0.05, 2.0))
    wire.release()


def half_open(_: Cluster, wire: Wire) -> None:
    wire.lose_connections()


FAULTS: tuple[Callable[[Cluster, Wire], None], ...] = (
    hang_redis, stall_replica, kill_links, black_hole, half_open,
)  # fmt: skip


class Enders:
    """Sign users in, have every replica remember them, and end them; over and over."""

    def __init__(self, cluster: Cluster, load: Load) -> None:
        self._cluster = cluster
        self._load = load
        self.counts: Counter[str] = Counter()
        self.took_ms: list[float] = []

    def run(self, until_s: float) -> None:
        """End sessions until it is so late."""
        with ExitStack() as stack:
            checkers = [stack.enter_context(closing(Checker(p))) for p in self._cluster.checks]
            while time.monotonic() < until_s:
                self._end_one(checkers)

    def _end_one(self, checkers: list[Checker]) -> None:
        session = self._sign_in()
        if session is None:
            self.counts["no sign-in"] += 1
            return
        self.counts["in memory"] += sum(each.status(session)[0] == 200 for each in checkers)
        back_end = random.choice(self._cluster.back_ends)
        status, receipt = back_end.call("DELETE", f"/v1/sessions/{session.id}")
        if status != 200 or not receipt["complete"]:
            self.counts["incomplete" if status == 200 else "not known"] += 1
            return
        self.counts["allowed"] += sum(each.status(session)[0] == 200 for each in checkers)
        self.counts["ended"] += 1
        self.counts["waited a lease"] += receipt["replicas"]["lease_expired"] > 0
        self.took_ms.append(receipt["took_ms"])
        self._load.ended.add(session)
        self._load.sessions.append(session)

    def _sign_in(self) -> Session | None:
        user = f"leaver-{random.randrange(500)}"
        back_end = random.choice(self._cluster.back_ends)
        status, answer = back_end.call("POST", "/v1/sessions", {"user": user})
        return Session(user, answer["id"], answer["token"]) if status == 201 else None


def test_no_fault_allows_after_a_receipt(exposed: tuple[Wire, Cluster]) -> None:
    """Whatever fails meanwhile: what has a complete receipt is allowed by nobody, ever again."""
    wire, cluster = exposed
    living = [cluster.back_ends[0].sign_in(user=f"living-{number}") for number in range(20)]
    happened: Counter[str] = Counter()
    deadline = time.monotonic() + CHAOS_S
    with Load(cluster, list(living)) as load, ThreadPoolExecutor(ENDERS) as threads:
        enders = Enders(cluster, load)
        work = [threads.submit(enders.run, deadline) for _ in range(ENDERS)]
        while time.monotonic() < deadline:
            fault = random.choice(FAULTS)
            fault(cluster, wire)
            happened[fault.__name__] += 1
            time.sleep(random.uniform(0.0, 1.0))
        for each in work:
            each.result()
        until(lambda: all_allowed(cluster, living), "all is well again", SILENT_S + 2 * FRESH_S)
    print(f"\n{dict(happened)}, {load.checks} checks, {load.revived} revived, "
          f"{load.foreign} foreign, {dict(enders.counts)}, "
          f"{percentiles(enders.took_ms)}")  # fmt: skip
    assert (enders.counts["allowed"], load.revived, load.foreign) == (0, 0, 0)
    assert enders.counts["incomplete"] == 0
    assert enders.counts["ended"] > 0


def all_allowed(cluster: Cluster, sessions: list[Session]) -> bool:
    with ExitStack() as stack:
        checkers = [stack.enter_context(closing(Checker(port))) for port in cluster.checks]
        return all(each.status(session)[0] == 200 for each in checkers for session in sessions)


# --- sessions come and go --------------------------------------------------------------------


def test_memory_stays_flat_while_sessions_come_and_go() -> None:
    """A day of sign-ins, ends and timeouts, in short: entries bounded, the process no larger."""
    more = f"""[session]\nidle = "2s"\nabsolute = "10s"\nmax_per_user = 3
[near_cache]\nmax_entries = {MAX_ENTRIES}\nmax_bytes = 1048576
[log]\ndenials = false\n"""
    with started(more=more) as fleet, ThreadPoolExecutor(CHURNERS) as threads:
        replica, pid = fleet.replicas[0], fleet.programs[0].pid
        entries, resident = [], []
        for _ in range(SAMPLES):
            list(threads.map(churn, [replica] * CHURNERS))
            entries.append(replica.figure("gateway_near_cache_entries"))
            resident.append(resident_kib(pid))
        created = replica.figure("gateway_sessions_created_total")
    first, second = (statistics.median(half) for half in (resident[: SAMPLES // 2],
                                                          resident[SAMPLES // 2 :]))  # fmt: skip
    print(f"\n{created:.0f} sign-ins, at most {max(entries):.0f} entries, resident "
          f"{resident[0]} KiB at first, median {first:.0f} in the first half, "
          f"{second:.0f} in the second")  # fmt: skip
    assert created > CHURNED * 0.99
    assert max(entries) <= MAX_ENTRIES
    assert second <= first + FLAT_KIB


def churn(replica: Replica) -> None:
    """A share of one sample's sign-ins: each is checked, a third is ended, others time out."""
    for number in range(CHURNED // SAMPLES // CHURNERS):
        user = f"user-{random.randrange(CHURN_USERS)}"
        created = replica.admin("POST", "/v1/sessions", {"user": user})
        if created.status == 503:  # Redis was too slow on a busy machine
            continue
        # A concurrent sign-in of the same user may have taken the place already.
        assert replica.check(created.json["token"]).status in (200, 401, 403)
        if number % 3 == 0:
            replica.admin("DELETE", f"/v1/sessions/{created.json['id']}")


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
