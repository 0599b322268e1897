"""One RESP3 connection to the primary: reads, invalidations and heartbeats in one ordered stream.

Everything is handled inside `data_received`, in the stream's order. `await get(); cache[k] = v`
left 7.5 % of the entries stale for ever in a test; storing in the stream's order left none.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import hiredis
from redis.asyncio import Redis

from ..errors import StoreUnavailable
from ..identity import Stand
from ..model import SessionKey
from ..ports import Reading
from . import records
from .faults import as_unavailable, kind_of
from .keys import Keys
from .near_cache import NearCache
from .reader import DEADLINE_S, GRACE_S
from .replicas import Replicas

BEATS_PER_LEASE = 5
SILENT_LEASES = 1  # so long without any answer: memory is of no use any more, nor the connection
CONNECT_S = 0.25
RETRY_S = (0.01, 0.3)  # between attempts; recovery is to take less than a second

# Registers, and says Redis' time. Allowed without free memory, where the server knows the flag.
_BEAT = b"redis.call('HINCRBY', KEYS[1], ARGV[1], 1) return redis.call('TIME')"
_ALLOW_OOM = b"#!lua flags=allow-oom\n"

_NOTHING = object()

OnReply = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the primary is, and who we are to it."""

    host: str
    port: int
    path: str  # of a Unix socket, or ""
    tls: ssl.SSLContext | None
    username: str
    password: str
    database: int

    @classmethod
    def of(cls, client: Redis) -> Endpoint:
        """Return where redis-py's client connects to."""
        pool: Any = client.connection_pool
        made = pool.make_connection()
        context = getattr(made, "ssl_context", None)
        return cls(
            host=getattr(made, "host", ""),
            port=int(getattr(made, "port", 0)),
            path=getattr(made, "path", ""),
            tls=context.get() if context is not None else None,
            username=made.username or "",
            password=made.password or "",
            database=int(made.db or 0),
        )


class _Batch:
    """The reads of one turn of the loop: one write, one TIME in front of them, one deadline."""

    def __init__(self) -> None:
        self.now_ms: int | None = None
        self.reads: list[_Read] = []

    def on_time(self, reply: Any) -> None:
        if isinstance(reply, list):
            self.now_ms = _milliseconds(reply)


class _Read:
    """One session that is being read: first its activity comes, then its record."""

    def __init__(self, key: SessionKey, batch: _Batch) -> None:
        self.key = key
        self.batch = batch
        self.future: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()
        self.activity: Any = None

    def on_activity(self, reply: Any) -> None:
        self.activity = reply

    def reading(self, record: Any) -> Reading:
        """Return what the three replies say together; raises StoreUnavailable."""
        if self.batch.now_ms is None or not (
            isinstance(self.activity, float | None) and isinstance(record, bytes | None)
        ):
            raise StoreUnavailable("response")
        return Reading(records.parse(self.key, record, self.activity), self.batch.now_ms)

    def fail(self, kind: str) -> None:
        if not self.future.done():
            self.future.set_exception(StoreUnavailable(kind))
            self.future.exception()  # whoever asked may be gone; then nobody else would fetch it


class Stream(asyncio.Protocol):
    """The protocol on one connection; it ends with it.

    Knows no sockets and never waits: a test can feed it any order of bytes.
    """

    def __init__(
        self,
        keys: Keys,
        near: NearCache,
        replicas: Replicas,
        *,
        stand: Stand,
        count_error: Callable[[str], None],
    ) -> None:
        self._keys = keys
        self._near = near
        self._replicas = replicas
        self._stand = stand
        self._count_error = count_error
        self._parser = hiredis.Reader(notEnoughData=_NOTHING)
        self._expected: deque[OnReply] = deque()
        self._reading: dict[SessionKey, _Read] = {}
        self._out: list[bytes] = []
        self._batch: _Batch | None = None
        self._transport: Any = None
        self.unanswered_beats = 0
        self.full = False  # the peer does not take what we write
        self.lost = asyncio.Event()

    # --- asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Handle replies and pushes in their order; nonsense ends the connection."""
        try:
            self._parser.feed(data)
            while (reply := self._parser.gets()) is not _NOTHING:
                if isinstance(reply, hiredis.PushNotification):
                    self._on_push(reply)
                else:
                    self._expected.popleft()(reply)
        except Exception as error:  # noqa: BLE001  (whatever it is: the stream is not understood)
            self._count_error(kind_of(error))
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything at once: nobody tells us any more what has changed."""
        del exc
        self._end("connection")
        self._transport = None
        self.lost.set()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False

    # --- what others ask for

    def abort(self) -> None:
        """End the connection now, without waiting for what was not sent."""
        self._end("connection")
        if self._transport is not None:
            self._transport.abort()

    def _end(self, kind: str) -> None:
        self.full = True
        self._near.forget_all()
        reading, self._reading = self._reading, {}
        for read in reading.values():
            read.fail(kind)
        self._expected.clear()

    async def ask(self, *words: bytes | str | int) -> Any:
        """Return the reply to one command; raises StoreUnavailable if it is refused."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.send(lambda each: None if reply.done() else reply.set_result(each), *words)
        answer = await reply
        if isinstance(answer, hiredis.ReplyError):
            raise StoreUnavailable("response", str(answer))
        return answer

    def send(self, on_reply: OnReply, *words: Any) -> None:
        """Send a command with the next turn of the loop; `on_reply` is called in the stream."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(hiredis.pack_command(words))
        self._expected.append(on_reply)

    def read(self, key: SessionKey) -> asyncio.Future[Reading]:
        """Return what Redis has under `key`, or StoreUnavailable, within the deadline.

        Checks that come together share a read. None may join one while memory is not trusted: its
        answer may be from before a change that was confirmed because our lease had run out.
        """
        known = self._reading.get(key)
        if known is not None:
            return known.future
        batch = self._batch or self._begin_batch()
        read = self._reading[key] = _Read(key, batch)
        batch.reads.append(read)
        activities = self._keys.activities(key.partition)
        self.send(read.on_activity, "ZSCORE", activities, key.digest)
        self.send(partial(self._on_record, read), "GET", self._keys.record(key))
        return read.future

    def beat(self, script: bytes) -> None:
        """Ask for the lease: who answers must be a master, and must have registered us."""
        beat = _Beat(self._near.now_ms())
        self.unanswered_beats += 1
        self.send(beat.on_hello, "HELLO", "3")
        self.send(partial(self._on_beat, beat), "EVAL", script, 1, self._keys.replicas,
                  self._replicas.name)  # fmt: skip

    # --- inside

    def _flush(self) -> None:
        out, self._out, self._batch = self._out, [], None
        if self._transport is not None:
            self._transport.write(b"".join(out))

    def _begin_batch(self) -> _Batch:
        batch = self._batch = _Batch()
        self.send(batch.on_time, "TIME")
        loop = asyncio.get_running_loop()
        # The grace: for an answer that is there already, but that a busy loop has not come to yet.
        loop.call_later(DEADLINE_S, loop.call_later, GRACE_S, self._expire, batch)
        return batch

    def _expire(self, batch: _Batch) -> None:
        for read in batch.reads:
            if not read.future.done():
                self._count_error("timeout")
                self._forget_read(read)
                read.fail("timeout")

    def _forget_read(self, read: _Read) -> None:
        if self._reading.get(read.key) is read:
            del self._reading[read.key]

    def _on_record(self, read: _Read, record: Any) -> None:
        self._forget_read(read)
        try:
            with as_unavailable(self._count_error):
                reading = read.reading(record)
        except StoreUnavailable as error:
            read.fail(error.kind)
            return
        session = reading.session
        if session is not None and reading.now_ms < session.idle_expires_ms:
            self._near.keep(self._stand(session))
        if not read.future.done():
            read.future.set_result(reading)

    def _on_beat(self, beat: _Beat, reply: Any) -> None:
        self.unanswered_beats = 0
        if beat.from_master and isinstance(reply, list):
            self._near.extend_lease(beat.sent_ms, _milliseconds(reply) + 1)
        else:
            self._count_error("heartbeat")

    def _on_push(self, push: list[Any]) -> None:
        match push:
            case [b"invalidate", None]:  # FLUSHALL, or everything changed with a full resync
                self._near.forget_all()
            case [b"invalidate", names]:
                for name in names:
                    self._on_changed(name)
            case [b"message", _, message]:
                self._replicas.acknowledge(message)
            case [b"subscribe", *_]:  # comes in place of a reply
                self._expected.popleft()(push)

    def _on_changed(self, name: bytes) -> None:
        partition, end = self._keys.parse_record(name)
        if not end.startswith("!"):
            self._near.forget(SessionKey(partition, end))
            return
        coordinator, _, change = end[1:].partition(".")
        self.send(self._on_published, "PUBLISH", self._keys.confirmations(coordinator),
                  f"{change}.{self._replicas.name}")  # fmt: skip

    def _on_published(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self._count_error("publish")


class _Beat:
    """A heartbeat under way."""

    def __init__(self, sent_ms: int) -> None:
        self.sent_ms = sent_ms
        self.from_master = False

    def on_hello(self, reply: Any) -> None:
        """PING could not tell: a demoted master answers it."""
        self.from_master = _is_master(reply)


class Link:
    """Keeps one stream to the primary, for as long as `run` runs."""

    def __init__(
        self,
        endpoint: Endpoint,
        keys: Keys,
        near: NearCache,
        replicas: Replicas,
        *,
        stand: Stand,
        count_error: Callable[[str], None],
    ) -> None:
        self._endpoint = endpoint
        self._keys = keys
        self._near = near
        self._replicas = replicas
        self._stand = stand
        self._count_error = count_error
        self._stream: Stream | None = None
        self._since = 0.0

    @property
    def stream(self) -> Stream | None:
        """The stream by which to read, while memory is trusted and Redis takes what we write."""
        stream = self._stream
        return stream if stream is not None and not stream.full and self._near.fresh() else None

    def steady_for(self, seconds: float) -> bool:
        """Tell whether the connection has been the same one for so long."""
        return self._stream is not None and time.monotonic() - self._since >= seconds

    async def run(self, *, knows_flags: bool) -> None:
        """Connect, and connect again whenever the connection is lost."""
        beat = (_ALLOW_OOM if knows_flags else b"") + _BEAT
        while True:
            try:
                async with asyncio.timeout(CONNECT_S):
                    stream = await self._connect()
                await self._keep(stream, beat)
            except (OSError, StoreUnavailable, TimeoutError) as error:
                self._count_error(kind_of(error))
            finally:
                self._stream = None
            await asyncio.sleep(random.uniform(*RETRY_S))  # noqa: S311  (spreads, hides nothing)

    async def _connect(self) -> Stream:
        loop, end = asyncio.get_running_loop(), self._endpoint
        stream = Stream(
            self._keys, self._near, self._replicas, stand=self._stand,
            count_error=self._count_error,
        )  # fmt: skip
        try:
            if end.path:
                await loop.create_unix_connection(lambda: stream, end.path)
            else:
                await loop.create_connection(lambda: stream, end.host, end.port, ssl=end.tls)
            await self._greet(stream)
        except BaseException:
            stream.abort()
            raise
        return stream

    async def _greet(self, stream: Stream) -> None:
        """Have every change of a record told to us, before anything is read to be kept."""
        end = self._endpoint
        who = ["AUTH", end.username or "default", end.password] if end.password else []
        hello = await stream.ask("HELLO", "3", *who, "SETNAME", f"gateway-{self._replicas.name}")
        if not _is_master(hello):
            raise StoreUnavailable("read_only", "this is a replica")
        if end.database:
            await stream.ask("SELECT", end.database)
        await stream.ask("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._keys.tracked)
        await stream.ask("SUBSCRIBE", self._keys.confirmations(self._replicas.name))

    async def _keep(self, stream: Stream, beat: bytes) -> None:
        """Send heartbeats until the connection is lost, or silent for too long."""
        tick_s = self._near.lease_ms / 1000 / BEATS_PER_LEASE
        self._stream, self._since = stream, time.monotonic()
        try:
            while not stream.lost.is_set():
                if stream.unanswered_beats > BEATS_PER_LEASE * SILENT_LEASES:
                    stream.abort()
                elif not stream.full:
                    stream.beat(beat)
                with suppress(TimeoutError):
                    async with asyncio.timeout(tick_s):
                        await stream.lost.wait()
        finally:
            stream.abort()


def _is_master(hello: Any) -> bool:
    return isinstance(hello, dict) and hello.get(b"role") == b"master"


def _milliseconds(reply: list[Any]) -> int:
    """Return what the command TIME says: seconds and microseconds."""
    return int(reply[0]) * 1000 + int(reply[1]) // 1000
