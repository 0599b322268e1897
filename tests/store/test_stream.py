"""Every order, within small bounds, of what Redis sends and what is asked: a simulated stream.

The simulated server executes what the stream writes, and what others do, in one order; its bytes
then wait in a pipe that a test empties as it likes. Nothing sleeps, nothing is random.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import hiredis
import pytest

from gateway.errors import StoreUnavailable
from gateway.identity import standing_of
from gateway.model import Device, Login, SessionKey
from gateway.store import records
from gateway.store.keys import Keys
from gateway.store.link import Stream
from gateway.store.near_cache import NearCache
from gateway.store.replicas import Replicas

from .test_near_cache import LEASE_MS, Clock

KEY = SessionKey("00", "ab" * 16)
KEYS = Keys("gw:")
RECORD, IDLE_MS = KEYS.record(KEY), 10**8
ACTIVITY = f"{KEYS.activities(KEY.partition)} {KEY.digest}"
FENCE = KEYS.fence("00", "!other-500.7.1")
START_MS = 1_800_000_000_000


def record(role: str = "member", key: SessionKey = KEY) -> bytes:
    login, device = Login("ann", roles=(role,)), Device("d", "n", "desktop")
    rest = records.rest_of_login(key, "0" * 27, login, device, IDLE_MS)
    return b"[%d,%d,0," % (START_MS, START_MS + 10**9) + rest


def encode(value: Any) -> bytes:
    """Return a value as RESP3."""
    match value:
        case None:
            return b"_\r\n"
        case Exception():
            return b"-%s\r\n" % str(value).encode()
        case float():
            return b",%r\r\n" % value
        case int():
            return b":%d\r\n" % value
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(value), value)
        case dict():
            pairs = b"".join(encode(key) + encode(each) for key, each in value.items())
            return b"%%%d\r\n%s" % (len(value), pairs)
    return b"*%d\r\n%s" % (len(value), b"".join(map(encode, value)))


def push(*values: Any) -> bytes:
    return b">" + encode(values)[1:]


class Server:
    """Redis, as far as a stream can see it: one connection that tracks changes."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.role = b"master"
        self.refuses_beats = False
        self.values: dict[str, Any] = {}
        self.pipe = b""  # sent and not yet received
        self.published: list[tuple[str, str]] = []
        self.published_early = 0  # confirmations that came while something was still remembered
        self.remembers: Callable[[], bool] = lambda: False
        self._commands = hiredis.Reader()

    def execute(self, data: bytes) -> None:
        self._commands.feed(data)
        while (words := self._commands.gets()) is not False:
            self.pipe += encode(self._answer([word.decode() for word in words]))

    def _answer(self, words: list[str]) -> Any:
        match words:
            case ["HELLO", *_]:
                return {b"role": self.role}
            case ["TIME"]:
                return self._time()
            case ["EVAL", *_]:
                return Exception("READONLY no") if self.refuses_beats else self._time()
            case ["GET", name]:
                return self.values.get(name)
            case ["ZSCORE", activities, digest]:
                return self.values.get(f"{activities} {digest}")
            case ["PUBLISH", channel, text]:
                self.published.append((channel, text))
                self.published_early += self.remembers()
                return 1
        raise AssertionError(words)

    def _time(self) -> list[bytes]:
        now = self.clock.now_ms - 1_000_000 + START_MS
        return [b"%d" % (now // 1000), b"%d" % (now % 1000 * 1000)]

    def set_session(self, value: Any) -> None:
        self.values[RECORD] = value
        self.values[ACTIVITY] = float(START_MS + IDLE_MS)
        self.pipe += push(b"invalidate", [RECORD.encode()])

    def end_session(self, *, together: bool = True) -> None:
        """What the script does: the change, then the fence.

        Servers tell of both in one push, its names sorted: the fence comes first, 200 of 200 times.
        """
        self.values.clear()
        names = [FENCE.encode(), RECORD.encode()]
        for told in [names] if together else [names[1:], names[:1]]:
            self.pipe += push(b"invalidate", told)

    def flush(self) -> None:
        self.values.clear()
        self.pipe += push(b"invalidate", None)


class Transport:
    """Takes what the stream writes to the server at once; the answers wait in the pipe."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.aborted = False

    def write(self, data: bytes) -> None:
        if not self.aborted:
            self._simulation.server.execute(data)

    def abort(self) -> None:
        self.aborted = True


class Simulation:
    """One stream over one server, and what a check would find."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.near = NearCache(lease_ms=LEASE_MS, max_entries=100, max_bytes=10**9, clock=self.clock)
        client: Any = None
        self.errors: list[str] = []
        self.replicas = Replicas(
            client, KEYS, "me", lease_ms=LEASE_MS, confirm_timeout_s=1,
            believes_registry=lambda: True, count_error=self.errors.append,
        )  # fmt: skip
        self.server = Server(self.clock)
        self.server.remembers = lambda: len(self.near) > 0
        self.server.set_session(record())
        self.reads: list[asyncio.Future[Any]] = []
        self.connect()

    def connect(self) -> None:
        """Make a new connection to the same server; what the old one was sent is lost."""
        self.server.pipe = b""
        self.server._commands = hiredis.Reader()
        self.stream = Stream(
            KEYS, self.near, self.replicas, stand=standing_of, count_error=self.errors.append
        )
        self.transport = Transport(self)
        self.stream.connection_made(self.transport)

    def lose(self) -> None:
        self.stream.connection_lost(None)

    def deliver(self, size: int | None = None) -> None:
        """Bring the next bytes of the pipe to the stream."""
        size = len(self.server.pipe) if size is None else size
        data, self.server.pipe = self.server.pipe[:size], self.server.pipe[size:]
        if data and not self.transport.aborted:
            self.stream.data_received(data)

    def read(self) -> None:
        self.reads.append(self.stream.read(KEY))
        self.stream._flush()

    def beat(self) -> None:
        self.stream.beat(b"beat")
        self.stream._flush()

    def warm(self) -> None:
        """Have the session in memory, under a lease."""
        self.beat()
        self.read()
        self.deliver()
        assert self.recalled == ("member",)

    @property
    def recalled(self) -> tuple[str, ...] | None:
        """The roles by which a check would judge from memory; None: it must ask."""
        found = self.near.recall(KEY)
        return None if found is None else found[0].roles


@pytest.fixture
async def simulation() -> Simulation:
    return Simulation()


# --- every order -----------------------------------------------------------------------------

# What can happen, in any order. `part` brings a few bytes, so that pushes are torn apart;
# `stall` everything but the last change.
STEPS = (
    "deliver", "part", "stall", "read", "beat", "end", "update", "flush", "wait", "reconnect",
    "demote",
)  # fmt: skip
DEPTH = 4  # `make soak` goes deeper


def sequences(depth: int) -> Iterator[tuple[str, ...]]:
    if depth == 0:
        yield ()
        return
    for rest in sequences(depth - 1):
        for step in STEPS:
            yield (*rest, step)


class Explored:
    """A simulation with the facts that decide what may be recalled."""

    def __init__(self) -> None:
        self.simulation = Simulation()
        self.simulation.warm()
        self.clock = self.simulation.clock
        self.server = self.simulation.server
        self.versions: list[tuple[str, ...]] = [
            ("member",)
        ]  # every state the session was in; () when it had ended
        self.told = 0  # bytes of the pipe up to and with the last change
        self.last = 0  # bytes of the last change
        self.untold_since_ms: int | None = None

    def do(self, step: str) -> None:
        simulation = self.simulation
        before = len(self.server.pipe)
        match step:
            case "deliver":
                simulation.deliver()
            case "part":
                simulation.deliver(11)
            case "stall":
                simulation.deliver(max(0, before - self.last))
            case "read":
                if not simulation.transport.aborted:
                    simulation.read()
            case "beat":
                simulation.beat()
            case "wait":
                self.clock.now_ms += LEASE_MS // 2 + 1
            case "reconnect":
                simulation.lose()
                simulation.connect()
                self.told, self.untold_since_ms = 0, None
            case "demote":
                self.server.role = b"slave" if self.server.role == b"master" else b"master"
            case _:
                self._change(step)
        if step in ("deliver", "part", "stall"):
            self.told = max(0, self.told - (before - len(self.server.pipe)))
            if not self.told:
                self.untold_since_ms = None

    def _change(self, step: str) -> None:
        before = len(self.server.pipe)
        if step == "end":
            self.server.end_session()
            self.versions.append(())
        elif step == "flush":
            self.server.flush()
            self.versions.append(())
        elif self.server.values:
            role = f"role{len(self.versions)}"
            self.server.set_session(record(role))
            self.versions.append((role,))
        self.told, self.last = len(self.server.pipe), len(self.server.pipe) - before
        if self.untold_since_ms is None:
            self.untold_since_ms = self.clock.now_ms

    def check(self) -> None:
        """What is recalled is the present state, unless a change is still under way to us, and
        then only within a lease."""
        recalled = self.simulation.recalled
        if recalled is None:
            return
        if self.untold_since_ms is None:
            assert recalled == self.versions[-1]
        else:
            assert recalled in self.versions
            assert self.clock.now_ms < self.untold_since_ms + LEASE_MS


async def test_every_order_of_events() -> None:
    """An ended or changed session is never recalled after it was told of, or after a lease.

    A fence is confirmed only when what it stands behind has been dropped.
    """
    assert await explore(DEPTH) == len(STEPS) ** DEPTH


async def explore(depth: int) -> int:
    """Try every order of so many steps; return how many there were."""
    count = 0
    for steps in sequences(depth):
        explored = Explored()
        for step in steps:
            explored.do(step)
            explored.simulation.stream._flush()  # at the end of the turn
            explored.check()
            assert not explored.server.published_early
            if explored.server.published and explored.untold_since_ms is None:
                assert explored.simulation.recalled in (None, explored.versions[-1])
        for read in explored.simulation.reads:
            read.cancel()
        count += 1
    return count


# --- single facts ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(1, 60))
async def test_a_stream_may_be_cut_anywhere(simulation: Simulation, size: int) -> None:
    """However the bytes arrive, the outcome is the same."""
    simulation.warm()
    simulation.server.end_session()
    simulation.read()
    while simulation.server.pipe:
        simulation.deliver(size)
    assert simulation.recalled is None
    assert (await simulation.reads[-1]).session is None
    simulation.stream._flush()
    assert simulation.server.published == [("gw:passed:other-500", f"7.1.me-{LEASE_MS}")]


async def test_a_reply_from_before_the_change_is_not_kept_after_it(simulation: Simulation) -> None:
    """The read found it alive; then it ended; both arrive together."""
    simulation.beat()
    simulation.read()
    simulation.server.end_session()
    simulation.deliver()
    assert simulation.recalled is None


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("size", [1, 1000])
async def test_the_fence_is_confirmed_after_the_drop(
    simulation: Simulation, size: int, together: bool
) -> None:
    """At the moment at which we confirm nothing is remembered, in whatever order we are told."""
    simulation.warm()
    simulation.server.end_session(together=together)
    while simulation.server.pipe:
        simulation.deliver(size)
        simulation.stream._flush()
    assert len(simulation.server.published) == 1
    assert simulation.server.published_early == 0


async def test_the_lease_counts_from_when_a_heartbeat_was_sent(simulation: Simulation) -> None:
    """Not from when its answer came: a change may have happened meanwhile."""
    simulation.beat()
    simulation.clock.now_ms += LEASE_MS - 100
    simulation.deliver()
    assert simulation.near.fresh()
    simulation.clock.now_ms += 100
    assert not simulation.near.fresh()


@pytest.mark.parametrize("role", [b"slave", b"replica", b"", b"MASTER"])
async def test_only_a_master_extends_the_lease(simulation: Simulation, role: bytes) -> None:
    """A demoted primary answers everything else as before."""
    simulation.server.role = role
    simulation.beat()
    simulation.deliver()
    assert not simulation.near.fresh()
    assert simulation.errors == ["heartbeat"]


async def test_a_refused_heartbeat_does_not_extend_the_lease(simulation: Simulation) -> None:
    """Who is not registered would be waited for by nobody."""
    simulation.server.refuses_beats = True
    simulation.beat()
    simulation.deliver()
    assert not simulation.near.fresh()


async def test_a_flush_drops_everything(simulation: Simulation) -> None:
    """And the lease: what Redis knew of us is gone too."""
    simulation.warm()
    simulation.server.flush()
    simulation.deliver()
    assert len(simulation.near) == 0
    assert not simulation.near.fresh()


async def test_a_lost_connection_drops_everything_and_fails_what_waits(
    simulation: Simulation,
) -> None:
    """Nobody tells us any more what changes."""
    simulation.warm()
    simulation.read()
    simulation.lose()
    assert (len(simulation.near), simulation.near.fresh()) == (0, False)
    with pytest.raises(StoreUnavailable, match="connection"):
        await simulation.reads[-1]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"nonsense\r\n",
        b":1\r\n",
        b"$-7\r\n",
        b">2\r\n+invalidate\r\n:7\r\n",
        b"*1\r\n$3\r\nabc\r\n",
        b">2\r\n+invalidate\r\n*1\r\n:7\r\n",
        b">2\r\n+invalidate\r\n*1\r\n_\r\n",
        b">2\r\n+invalidate\r\n+abc\r\n",
        b">3\r\n+message\r\n+c\r\n:7\r\n",
    ],
)
async def test_nonsense_ends_the_connection(simulation: Simulation, nonsense: bytes) -> None:
    """Bytes that nobody asked for or that are not RESP: the stream cannot be believed."""
    simulation.warm()
    simulation.stream.data_received(nonsense)
    assert simulation.transport.aborted
    assert (len(simulation.near), simulation.near.fresh()) == (0, False)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"{}", b"null", b"nonsense", record(key=SessionKey("00", "cd" * 16)), [b"a"], 7,
        Exception("WRONGTYPE no string"),
    ],
)  # fmt: skip
async def test_garbage_is_never_kept(simulation: Simulation, value: Any) -> None:
    """Another key's record, no record, no string, an error: "we do not know", and not in memory."""
    simulation.beat()
    simulation.server.values[RECORD] = value
    simulation.read()
    simulation.deliver()
    with pytest.raises(StoreUnavailable):
        await simulation.reads[-1]
    assert len(simulation.near) == 0


async def test_a_session_without_activity_is_not_kept(simulation: Simulation) -> None:
    """It rested too long; only a fresh read may say so, each time anew."""
    simulation.beat()
    del simulation.server.values[ACTIVITY]
    simulation.read()
    simulation.deliver()
    assert (await simulation.reads[-1]).session.last_seen_ms == 0
    assert len(simulation.near) == 0


async def test_checks_that_come_together_share_a_read(simulation: Simulation) -> None:
    """A crowd for one session costs one read."""
    simulation.beat()
    simulation.deliver()
    first = simulation.stream.read(KEY)
    assert simulation.stream.read(KEY) is first
    simulation.stream._flush()
    simulation.deliver()
    assert (await first).session is not None


async def test_a_silent_server_fails_reads_in_time(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the deadline, and the late answer is then nobody's."""
    monkeypatch.setattr("gateway.store.link.DEADLINE_S", 0.01)
    monkeypatch.setattr("gateway.store.link.GRACE_S", 0.01)
    simulation.beat()
    simulation.read()
    with pytest.raises(StoreUnavailable, match="timeout"):
        await simulation.reads[-1]
    simulation.deliver()
    simulation.read()
    simulation.deliver()
    assert (await simulation.reads[-1]).session is not None
