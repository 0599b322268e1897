"""Memory under faults: what has ended stays out, who is not known is refused, and soon all is well.

Real processes, real signals, real connections. Where the network is to fail, a `Wire` stands in it.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import pytest
from redis import Redis

from gateway.embedded import EmbeddedValkey
from gateway.model import SessionKey
from gateway.store.keys import Keys
from tests import servers
from tests.e2e.stack import Session

from .harness import Answer, Gateway, question, until

RecordProperty = Callable[[str, object], None]

LEASE_S = 0.5
SLACK_S = 0.05  # between our clock and what another process does
HEARD_S = 0.3  # a push takes milliseconds on a quiet machine; tests share theirs
FRESH_S = 3.0  # the promise is a second, on a quiet machine
SILENT_S = 1.4 * LEASE_S  # so long without an answer a link is given up
TO_REDIS, FROM_REDIS = "to redis", "from redis"

REPLICAS = 3
REVOCATIONS = 100
CHANGES = 30
STALL_S = 2.0
CUTS_S = 2.0
IN_POOL = 12
CLIENTS, USERS, ROUNDS = 500, 50, 4

HEARTBEATS_REFUSED = 'gateway_store_errors_total{kind="heartbeat"}'
_ADMIN_RULE = '[[policy.rules]]\npath = "/admin/**"\naccess = "session"\nroles = ["admin"]\n'


# --- a network that fails --------------------------------------------------------------------


class Wire:
    """Carries bytes to Redis and back, until it is told to hold them.

    What was held is carried afterwards, in order: TCP repeats what got lost, and loses no part.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", servers.free_port()))
        self.port: int = self._listener.getsockname()[1]
        self._flows = {TO_REDIS: threading.Event(), FROM_REDIS: threading.Event()}
        self._sockets: list[tuple[socket.socket, socket.socket]] = []
        self._lost: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """The address as `redis.url` takes it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def hold(self, *directions: str) -> None:
        """Carry nothing more that way; nobody is told."""
        for direction in directions:
            self._flows[direction].clear()

    def release(self) -> None:
        """Carry everything, also what was held."""
        for flow in self._flows.values():
            flow.set()

    def lose_connections(self) -> None:
        """Have Redis see every connection end, and the gateway none: they are half open."""
        for _, far in self._sockets:
            self._lost.add(far)
            with suppress(OSError):
                far.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self.release()
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts; close does not
        self._threads[0].join()
        self.release()
        ends = [end for pair in self._sockets for end in pair]
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for end in (self._listener, *ends):
            end.close()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            self._sockets.append((near, far))
            self._start(self._carry, near, far, TO_REDIS)
            self._start(self._carry, far, near, FROM_REDIS)

    def _carry(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        """Carry until one side ends, and that too, unless the connection was lost."""
        with suppress(OSError):
            while data := source.recv(65536):
                self._flows[direction].wait()
                sink.sendall(data)
            self._flows[direction].wait()
            if source not in self._lost:
                sink.shutdown(socket.SHUT_WR)


# --- gateways --------------------------------------------------------------------------------


class Replica(Gateway):
    """A gateway that tells what its memory is worth; it has a rule for a role too."""

    def config(self) -> str:
        common = super().config().replace('drain = "300ms"', 'drain = "10ms"')
        before, mark, rules = common.partition("[[policy.rules]]")
        return before + _ADMIN_RULE + mark + rules

    def figure(self, sample: str) -> float:
        """Return one metric; 0 if it was not counted yet."""
        lines = self.admin("GET", "/metrics").body.decode().splitlines()
        values = [
            line.removeprefix(f"{sample} ") for line in lines if line.startswith(f"{sample} ")
        ]
        return float(values[0]) if values else 0.0

    def fresh(self) -> bool:
        """Tell whether memory is trusted now."""
        return self.figure("gateway_lease_valid") == 1

    def reads(self, result: str) -> float:
        """Return how many looks into memory had this result."""
        return self.figure(f'gateway_near_cache_reads_total{{result="{result}"}}')

    def remembers(self, session: Session) -> bool:
        """Tell whether a check is allowed, and from memory."""
        hits = self.reads("hit")
        answer = self.check(session.token)
        return answer.status == 200 and self.reads("hit") > hits

    def new_session(self, user: str = "alice") -> Session:
        """Sign a user in."""
        created = self.sign_in(user)
        return Session(user, created["id"], created["token"])

    def end(self, session: Session) -> Any:
        """End a session; return the receipt."""
        answer = self.admin("DELETE", f"/v1/sessions/{session.id}")
        assert answer.status == 200, answer.body
        return answer.json

    def receives_from(self, count: int) -> bool:
        """Tell whether so many replicas confirm a change, with no need to wait for a lease."""
        answer = self.admin("DELETE", "/v1/users/nobody/sessions")
        return answer.status == 200 and (
            answer.json["replicas"] == {"live": count, "confirmed": count, "lease_expired": 0}
            and answer.json["took_ms"] < LEASE_S * 500
        )


@dataclass(frozen=True)
class Fleet:
    """Replicas over one store."""

    valkey: EmbeddedValkey
    replicas: list[Replica]
    programs: list[servers.Program]

    def settle(self) -> None:
        """Wait until every replica knows of every other."""
        for replica in self.replicas:
            until(lambda: replica.receives_from(len(self.replicas)), "settled")  # noqa: B023

    def remembered(self, user: str = "alice") -> Session:
        """Return a new session that every replica has in memory."""
        session = self.replicas[-1].new_session(user)
        for replica in self.replicas:
            until(lambda: replica.remembers(session), "in memory")  # noqa: B023
        return session

    def allowing(self, session: Session) -> int:
        """Return how many replicas allow it now."""
        return sum(replica.check(session.token).status == 200 for replica in self.replicas)

    def await_fresh(self, session: Session, within_s: float = FRESH_S) -> float:
        """Return how long it took until every replica answered from memory again."""
        started = time.monotonic()
        until(
            lambda: all(replica.remembers(session) for replica in self.replicas),
            "every replica answers from memory again",
            within_s,
        )
        return time.monotonic() - started


@contextmanager
def running(valkey: EmbeddedValkey, urls: Sequence[str], more: str = "") -> Iterator[Fleet]:
    """Run a replica for each address of the store, until the end of the block."""
    replicas = [Replica(url, more) for url in urls]
    with ExitStack() as stack:
        with ThreadPoolExecutor() as together:
            starts = together.map(lambda each: stack.enter_context(each.running()), replicas)
        programs = list(starts)
        for replica in replicas:
            until(replica.fresh, "fresh")
        yield Fleet(valkey, replicas, programs)


@contextmanager
def started(count: int = 1, more: str = "") -> Iterator[Fleet]:
    """Run so many replicas over a store of their own."""
    with (
        EmbeddedValkey(port=servers.free_port()) as valkey,
        running(valkey, [valkey.url] * count, more) as fleet,
    ):
        yield fleet


@pytest.fixture(scope="module")
def wire_and_fleet() -> Iterator[tuple[Wire, Fleet]]:
    """Three replicas over one store: the first behind a wire, the others next to it."""
    with (
        EmbeddedValkey(port=servers.free_port()) as valkey,
        Wire(valkey.port) as wire,
        running(valkey, [wire.url, *[valkey.url] * (REPLICAS - 1)]) as fleet,
    ):
        yield wire, fleet


@pytest.fixture
def wire(wire_and_fleet: tuple[Wire, Fleet]) -> Iterator[Wire]:
    """What stands between the first of the trio and the store."""
    yield wire_and_fleet[0]
    wire_and_fleet[0].release()


@pytest.fixture
def trio(wire_and_fleet: tuple[Wire, Fleet]) -> Fleet:
    """The three, each of which knows of the others."""
    wire_and_fleet[1].settle()
    return wire_and_fleet[1]


# --- looking and meddling --------------------------------------------------------------------


class Watch:
    """Asks one replica about some sessions, again and again, while something else happens."""

    def __init__(self, replica: Replica, *sessions: Session) -> None:
        self._replica = replica
        self._sessions = sessions
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answers: list[tuple[float, Session, Answer]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            session, began = random.choice(self._sessions), time.monotonic()
            self.answers.append((began, session, self._replica.check(session.token)))

    @property
    def allowed(self) -> list[float]:
        """When each check began that was allowed."""
        return [began for began, _, answer in self.answers if answer.status == 200]

    @property
    def refusals(self) -> list[Answer]:
        return [answer for _, _, answer in self.answers if answer.status != 200]

    @property
    def foreign(self) -> int:
        """How many answers named somebody else."""
        return sum(
            answer.headers["X-Auth-User"] not in (None, session.user)
            for _, session, answer in self.answers
        )

    def allowed_after(self, ends: dict[Session, float]) -> int:
        """Return how many checks were allowed that began after the receipt for their session."""
        return sum(
            answer.status == 200 and session in ends and began > ends[session]
            for began, session, answer in self.answers
        )


def assert_not_known(answer: Answer) -> None:
    """ "We do not know" is a refusal that leaves the cookie alone and names nobody."""
    assert (answer.status, answer.headers["X-Auth-Reason"]) == (403, "store_unavailable")
    assert answer.headers["Set-Cookie"] is None
    assert answer.headers["X-Auth-User"] is None


@contextmanager
def stopped(pid: int) -> Iterator[float]:
    """Stop a process until the end of the block; since when, is what the block gets."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield time.monotonic()
    finally:
        os.kill(pid, signal.SIGCONT)


def tell(valkey: EmbeddedValkey, *words: str | int) -> Any:
    """Give one command; return the reply."""
    redis: Any = Redis(port=valkey.port, decode_responses=True)
    with closing(redis):
        return redis.execute_command(*words)


@contextmanager
def cutting(valkey: EmbeddedValkey, pause_s: float) -> Iterator[None]:
    """Have Redis close every connection that it has, again and again."""
    stopping = threading.Event()

    def cut() -> None:
        while not stopping.wait(pause_s):
            for kind in ("normal", "pubsub"):  # a link is of the second kind: it has a channel
                tell(valkey, "CLIENT", "KILL", "TYPE", kind)

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def reasons(fleet: Fleet, session: Session) -> set[str]:
    """Return why the replicas refuse a session."""
    return {each.check(session.token).headers["X-Auth-Reason"] for each in fleet.replicas}


def record_of(session: Session) -> str:
    """Return the name of the tracked key."""
    return Keys("gw:").record(SessionKey(session.id[:2], session.id[2:]))


# --- Redis fails -----------------------------------------------------------------------------


def test_a_hanging_redis_is_trusted_for_a_lease(trio: Fleet) -> None:
    """Memory answers for a lease, then nobody is allowed; soon after the hang all is well."""
    session = trio.remembered()
    with stopped(trio.valkey.pid) as since, Watch(trio.replicas[0], session) as watch:
        time.sleep(LEASE_S + 1)
    trio.await_fresh(session)
    assert since < max(watch.allowed) <= since + LEASE_S + SLACK_S
    assert watch.refusals
    for refusal in watch.refusals:
        assert_not_known(refusal)


def test_a_killed_redis_takes_memory_with_it() -> None:
    """Once the connection is lost nobody is allowed, lease or not, and nothing old comes back."""
    with started() as fleet:
        replica, session = fleet.replicas[0], fleet.remembered()
        os.kill(fleet.valkey.pid, signal.SIGKILL)
        until(lambda: not fleet.allowing(session), "memory is dropped at once", HEARD_S)
        with Watch(replica, session) as watch:
            time.sleep(LEASE_S)
        fleet.valkey.stop()
        fleet.valkey.start()
        until(replica.fresh, "fresh", FRESH_S)
        assert replica.check(session.token).headers["X-Auth-Reason"] == "unknown_session"
        fleet.remembered("bob")
    assert watch.allowed == []
    for refusal in watch.refusals:
        assert_not_known(refusal)


def test_a_demoted_redis_is_not_trusted() -> None:
    """A heartbeat that a replica answers extends no lease; a promotion ends that.

    Between the two checks are refused as "we do not know": what it serves may have ended.
    """
    with started() as fleet, EmbeddedValkey(port=servers.free_port()) as other:
        replica, session = fleet.replicas[0], fleet.remembered()
        copy_to(fleet.valkey, other)
        tell(fleet.valkey, "REPLICAOF", "127.0.0.1", other.port)
        time.sleep(LEASE_S + SLACK_S)
        hits, beats = replica.reads("hit"), replica.figure(HEARTBEATS_REFUSED)
        for _ in range(30):
            assert_not_known(replica.check(session.token))
            assert not replica.fresh()
        assert replica.admin("DELETE", f"/v1/sessions/{session.id}").status == 503
        # One that can be written to answers heartbeats without a fault; only its role tells.
        tell(fleet.valkey, "CONFIG", "SET", "replica-read-only", "no")
        time.sleep(LEASE_S / 2)
        assert not replica.fresh()
        assert replica.figure(HEARTBEATS_REFUSED) > beats
        assert replica.reads("hit") == hits
        tell(fleet.valkey, "REPLICAOF", "NO", "ONE")
        fleet.await_fresh(session)


def test_what_has_ended_on_the_new_primary_is_not_read_from_the_old_one() -> None:
    """After a failover the old primary may serve an ended session for long: nobody believes it."""
    with (
        EmbeddedValkey(port=servers.free_port()) as old,
        EmbeddedValkey(port=servers.free_port()) as new,
        Wire(new.port) as wire,
        running(old, [old.url]) as left,
        running(new, [new.url]) as right,
    ):
        behind, ahead = left.replicas[0], right.replicas[0]
        session = left.remembered()
        copy_to(old, new)
        tell(old, "REPLICAOF", "127.0.0.1", wire.port)
        until(lambda: ahead.check(session.token).status == 200, "allowed by the new primary")
        wire.hold(FROM_REDIS)
        time.sleep(LEASE_S + SLACK_S)
        assert ahead.end(session)["complete"] is True
        for _ in range(30):
            assert_not_known(behind.check(session.token))
            time.sleep(0.02)
        wire.release()


def copy_to(primary: EmbeddedValkey, other: EmbeddedValkey) -> None:
    """Make `other` a primary with the same data, from which `primary` can go on."""
    tell(primary, "CONFIG", "SET", "repl-diskless-sync-delay", 0)
    tell(other, "REPLICAOF", "127.0.0.1", primary.port)
    until(lambda: tell(other, "INFO", "replication")["master_link_status"] == "up", "copied")
    tell(other, "REPLICAOF", "NO", "ONE")


def test_connections_that_redis_closes_cross_nothing(
    trio: Fleet, record_property: RecordProperty
) -> None:
    """While Redis closes every connection 20 times a second, what has ended stays out.

    Nobody is taken for somebody else, and when it stops, memory is trusted again.
    """
    ends: dict[Session, float] = {}
    living = [trio.remembered(f"living-{number}") for number in range(5)]
    leaving = [trio.remembered(f"leaving-{number}") for number in range(15)]
    with ExitStack() as stack:
        watches = [stack.enter_context(Watch(each, *living, *leaving)) for each in trio.replicas]
        with cutting(trio.valkey, 0.05):
            deadline = time.monotonic() + CUTS_S
            while leaving and time.monotonic() < deadline:
                session = leaving.pop()
                answer = random.choice(trio.replicas).admin("DELETE", f"/v1/sessions/{session.id}")
                if answer.status == 200 and answer.json["complete"]:
                    ends[session] = time.monotonic()
        took_s = trio.await_fresh(living[0])
    checks = sum(len(watch.answers) for watch in watches)
    record_property("cut", f"{checks} checks, {len(ends)} ended, fresh after {took_s:.2f} s")
    assert ends
    assert sum(len(watch.allowed) for watch in watches) > 0
    assert sum(watch.foreign for watch in watches) == 0
    assert sum(watch.allowed_after(ends) for watch in watches) == 0


def test_connections_that_redis_has_closed_are_not_used(trio: Fleet) -> None:
    """After Redis closed them all, no request fails for one that lay in the pool.

    On a machine that is too busy a request may fail for its time; then that is what is counted.
    """
    replica = trio.replicas[0]

    def page(number: int) -> int:
        return replica.admin("GET", f"/v1/users/user-{number}/sessions").status

    with ThreadPoolExecutor(IN_POOL) as together:
        before = Counter(together.map(page, range(20 * IN_POOL)))
        tell(trio.valkey, "CLIENT", "KILL", "TYPE", "normal")
        time.sleep(SLACK_S)
        after = Counter(together.map(page, range(20 * IN_POOL)))
    late = replica.figure('gateway_store_errors_total{kind="timeout"}')
    assert (before + after)[200] >= 40 * IN_POOL - late
    assert set(after) <= {200, 503}


# --- the network fails -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "seconds"),
    [
        pytest.param((TO_REDIS,), 1.0, id="to redis"),
        pytest.param((FROM_REDIS,), 1.0, id="from redis"),
        pytest.param((TO_REDIS, FROM_REDIS), SILENT_S + LEASE_S, id="until the link is given up"),
    ],
)
def test_a_black_holed_replica_allows_for_a_lease(
    trio: Fleet, wire: Wire, held: tuple[str, ...], seconds: float
) -> None:
    """What another replica ends meanwhile is refused after a lease, and its receipt waits for that.

    The black hole ends, and memory is trusted again.
    """
    away, here, _ = trio.replicas
    session, living = trio.remembered(), trio.remembered("bob")
    wire.hold(*held)
    since = time.monotonic()
    with Watch(away, session) as watch:
        receipt = here.end(session)
        receipt_at = time.monotonic()
        time.sleep(max(0.0, since + seconds - receipt_at))
    wire.release()
    trio.await_fresh(living)
    assert not trio.allowing(session)
    assert receipt["replicas"] == {"live": 3, "confirmed": 2, "lease_expired": 1}
    assert receipt["complete"] is True
    assert LEASE_S <= receipt["took_ms"] / 1000 <= 2 * LEASE_S
    assert max(watch.allowed, default=since) <= min(receipt_at, since + LEASE_S + SLACK_S)
    assert bool(watch.allowed) >= (TO_REDIS not in held)  # its memory did answer
    for refusal in watch.refusals:
        assert_not_known(refusal)


def test_a_half_open_link_is_given_up(
    trio: Fleet, wire: Wire, record_property: RecordProperty
) -> None:
    """When only Redis knows that the connections ended, trust ends with the lease.

    Then the link is made anew by itself: nothing else would ever say that the old one is dead.
    """
    away, here, _ = trio.replicas
    session, living = trio.remembered(), trio.remembered("bob")
    wire.lose_connections()
    since = time.monotonic()
    with Watch(away, session) as watch:
        receipt = here.end(session)
        receipt_at = time.monotonic()
        took_s = trio.await_fresh(living, SILENT_S + FRESH_S)
    record_property("half open", f"fresh after {took_s + receipt_at - since:.2f} s")
    assert away.check(session.token).headers["X-Auth-Reason"] == "unknown_session"
    assert receipt["replicas"] == {"live": 3, "confirmed": 2, "lease_expired": 1}
    assert receipt["complete"] is True
    assert max(watch.allowed, default=since) <= min(receipt_at, since + LEASE_S + SLACK_S)


def test_a_stalled_replica_refuses_what_ended_meanwhile(trio: Fleet) -> None:
    """A process that stood still for two seconds begins with a refusal of what ended then."""
    other, stalled, _ = trio.replicas
    session, living = trio.remembered(), trio.remembered("bob")
    path, headers = question("auth_request")
    headers["Cookie"] = f"__Host-sid={session.token}"
    with closing(http.client.HTTPConnection("127.0.0.1", stalled.check_port, timeout=5)) as asking:
        asking.connect()
        with stopped(trio.programs[1].pid) as since:
            receipt = other.end(session)
            # It lies there when the process goes on, beside what Redis has to say.
            asking.request("GET", path, headers=headers)
            time.sleep(max(0.0, since + STALL_S - time.monotonic()))
        first = asking.getresponse()
        first.read()
    trio.await_fresh(living)
    assert receipt["replicas"] == {"live": 3, "confirmed": 2, "lease_expired": 1}
    assert receipt["complete"] is True
    assert first.status in (401, 403)
    assert first.headers["X-Auth-User"] is None


# --- sessions go without a revocation --------------------------------------------------------


def test_a_flushed_redis_takes_everything_at_once(trio: Fleet) -> None:
    """FLUSHALL ends every session in every memory, and memory goes on from there."""
    session = trio.remembered()
    tell(trio.valkey, "FLUSHALL")
    until(lambda: not trio.allowing(session), "refused everywhere", HEARD_S)
    assert reasons(trio, session) == {"unknown_session"}
    trio.await_fresh(trio.replicas[0].new_session())


def test_a_record_that_is_deleted_by_hand_is_forgotten(trio: Fleet) -> None:
    """DEL of a record is heard of within milliseconds, everywhere."""
    session = trio.remembered()
    tell(trio.valkey, "DEL", record_of(session))
    until(lambda: not trio.allowing(session), "refused everywhere", HEARD_S)
    assert reasons(trio, session) == {"unknown_session"}


def test_what_redis_evicts_is_forgotten() -> None:
    """A session that Redis evicts is refused within milliseconds."""
    with started() as fleet:
        session = fleet.remembered()
        tell(fleet.valkey, "CONFIG", "SET", "maxmemory-policy", "allkeys-random")
        tell(fleet.valkey, "CONFIG", "SET", "maxmemory", 1)
        until(lambda: not tell(fleet.valkey, "EXISTS", record_of(session)), "evicted")
        until(lambda: not fleet.allowing(session), "refused", HEARD_S)
        assert reasons(fleet, session) == {"unknown_session"}
        tell(fleet.valkey, "CONFIG", "SET", "maxmemory", 0)
        fleet.await_fresh(fleet.replicas[0].new_session())


def test_an_idle_session_ends_in_memory_too() -> None:
    """At its idle end a session is refused, though Redis can say nothing and the lease still runs.

    Redis hangs from a little before: only the entry's own deadline can end it then.
    """
    with started(more='[session]\nidle = "1s"\n') as fleet:
        replica, session = fleet.replicas[0], fleet.remembered()
        time.sleep(LEASE_S / 2)  # its checks may have been noted as activity
        told = replica.admin("GET", f"/v1/sessions/{session.id}").json["idle_expires_at"]
        ends = time.monotonic() + datetime.fromisoformat(told).timestamp() - time.time()
        time.sleep(ends - 0.25 - time.monotonic())
        with stopped(fleet.valkey.pid) as since, Watch(replica, session) as watch:
            time.sleep(LEASE_S)
        assert replica.check(session.token).headers["X-Auth-Reason"] == "idle"
    assert since < max(watch.allowed) <= ends


# --- nothing fails ---------------------------------------------------------------------------


def test_after_its_receipt_a_session_is_allowed_nowhere(
    trio: Fleet, record_property: RecordProperty
) -> None:
    """100 revocations, each asked of every replica right after its receipt: 0 allowed."""
    allowed, took_ms = 0, []
    for number in range(REVOCATIONS):
        replica = trio.replicas[number % REPLICAS]
        session = replica.new_session(f"leaver-{number}")
        assert trio.allowing(session) == REPLICAS
        receipt = replica.end(session)
        allowed += trio.allowing(session)
        assert receipt["replicas"] == {"live": 3, "confirmed": 3, "lease_expired": 0}
        assert receipt["complete"] is True
        took_ms.append(receipt["took_ms"])
    record_property("receipt p50", f"{sorted(took_ms)[REVOCATIONS // 2]} ms")
    assert allowed == 0


def test_changed_roles_are_in_force_with_the_answer(trio: Fleet) -> None:
    """When a change of roles is answered every replica judges by the new ones."""
    session = trio.remembered()
    for number in range(CHANGES):
        roles = ["admin"] if number % 2 == 0 else ["guest"]
        replica = random.choice(trio.replicas)
        answer = replica.admin("PATCH", f"/v1/sessions/{session.id}", {"roles": roles})
        assert answer.status == 200
        judged = [each.check(session.token, target="/admin/x") for each in trio.replicas]
        expected = (200, None) if roles == ["admin"] else (403, "role_required")
        assert {(each.status, each.headers["X-Auth-Reason"]) for each in judged} == {expected}
        if roles == ["admin"]:
            assert {each.headers["X-Auth-Roles"] for each in judged} == {"admin"}


async def test_clients_that_leave_cross_no_identities(
    trio: Fleet, record_property: RecordProperty
) -> None:
    """500 clients ask about 50 users and leave at random: nobody gets another's identity.

    Redis closes connections meanwhile, so that answers come from memory, the link and the pool.
    """
    sessions = [trio.replicas[0].new_session(f"user-{number}") for number in range(USERS)]
    with cutting(trio.valkey, 0.1):
        counts = await asyncio.gather(
            *(visit(trio.replicas[number % REPLICAS], sessions) for number in range(CLIENTS))
        )
    total = sum(counts, Counter())
    record_property("answers", dict(total))
    assert total["foreign"] == 0
    assert total["right"] > CLIENTS / 5
    assert total["left"] > CLIENTS / 5


async def visit(replica: Replica, sessions: Sequence[Session]) -> Counter[str]:
    """Ask several questions at once on each of some connections; read all answers, or leave."""
    counts: Counter[str] = Counter()
    for _ in range(ROUNDS):
        asked = random.choices(sessions, k=random.randint(1, 3))
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", replica.check_port)
            writer.write(b"".join(request_about(session) for session in asked))
            if random.random() < 0.5:
                await asyncio.sleep(random.random() * 0.02)
                counts["left"] += 1
            else:
                for session in asked:
                    counts[await verdict(reader, session)] += 1
            writer.transport.abort()
    return counts


def request_about(session: Session) -> bytes:
    path, headers = question("auth_request")
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Cookie: __Host-sid={session.token}", "", ""]).encode()


async def verdict(reader: asyncio.StreamReader, session: Session) -> str:
    """Read one answer; tell whom it names."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *lines = head.split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    await reader.readexactly(int(headers.get("content-length", "0")))
    if headers.get("x-auth-user", session.user) != session.user:
        return "foreign"
    return "right" if " 200 " in status else headers.get("x-auth-reason", "refused")
