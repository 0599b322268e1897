"""Several processes that answer checks on one port.

The parent binds a socket for each worker and keeps it: when a worker dies, what waited to be
accepted waits for its replacement, and only the connections that the worker had are lost. The
kernel spreads connections over the sockets of those workers that are there. The parent itself
answers no checks; it has the admin API, and adds up the workers' metrics.

To a worker goes its assignment on standard input, and after it every new policy. Its end means that
the parent is gone. From it comes one line of metrics a second on standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
import structlog

from .config import Settings
from .config.settings import Policy
from .sockets import bind_shared, reserve, spread_over, take_no_more
from .telemetry import Figures, add_up

_RESTART_S = 1.0  # after a worker that died at once; else without delay
_STOP_S = 10.0  # beyond twice the drain
_LINE = 1 << 20
_HEAD = struct.Struct("I")  # the length of a message

log = structlog.get_logger("gateway")


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker needs to know."""

    settings: Settings
    redis_url: str
    sockets: tuple[int, ...]  # inherited, listening


@dataclass(slots=True)
class _Seat:
    """The place of one worker, which outlives it."""

    number: int  # from 1
    sockets: Sequence[socket.socket]
    process: asyncio.subprocess.Process | None = None
    figures: Figures = field(default_factory=dict)


class Workers:
    """Starts the workers, replaces those that die, and ends them."""

    def __init__(self, settings: Settings, redis_url: str) -> None:
        self._settings = settings
        self._redis_url = redis_url
        self._stopping = self._complete = self._gathered = False
        self._retired: Figures = {}
        count = settings.check.workers
        self._by_address = [
            bind_shared(address, "check.listen", count) for address in settings.check.listen
        ]
        self._seats = [_Seat(*each) for each in enumerate(zip(*self._by_address, strict=True), 1)]
        # gRPC binds by itself: each worker has a socket of its own, and we only keep the port.
        addresses = {each for seat in self._seats for each in settings.check.grpc_of(seat.number)}
        self._kept = [reserve(each, "check.grpc_listen", shared=True) for each in addresses]

    async def run(self) -> None:
        """Keep every seat taken."""
        await asyncio.gather(*(self._keep(seat) for seat in self._seats))

    def figures(self) -> Figures:
        """Return what all workers counted, also those that have died."""
        return add_up(self._retired, *(seat.figures for seat in self._seats))

    def use(self, policy: Policy) -> None:
        """Have every worker, also one that is started later, decide by this policy."""
        self._settings = self._settings.model_copy(update={"policy": policy})
        for seat in self._seats:
            if seat.process is not None and seat.process.stdin is not None:
                # One that has just died is replaced by one that begins with these rules.
                with contextlib.suppress(RuntimeError, OSError):
                    seat.process.stdin.write(_framed(policy))

    def ready(self) -> bool:
        """Tell whether every worker has come to answer checks; one that dies later is replaced."""
        self._complete = self._complete or all(seat.figures for seat in self._seats)
        return self._complete

    async def stop(self) -> None:
        """Have the workers drain and end; returns when they have."""
        if self._stopping:
            return
        self._stopping = True
        running = [seat.process for seat in self._seats if seat.process is not None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        await asyncio.sleep(self._settings.check.drain / 1000)
        for seat in self._seats:
            for sock in seat.sockets:
                take_no_more(sock)
                sock.close()
        limit_s = 2 * self._settings.check.drain / 1000 + _STOP_S
        _, late = await asyncio.wait(
            [asyncio.create_task(process.wait()) for process in running], timeout=limit_s
        ) if running else ((), ())  # fmt: skip
        for process in running if late else ():
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _keep(self, seat: _Seat) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            code = await self._run_one(seat)
            if self._stopping:
                return
            log.error("worker_died", code=code, what="its connections are lost; replacing it")
            if loop.time() - started < _RESTART_S:
                await asyncio.sleep(_RESTART_S)

    async def _run_one(self, seat: _Seat) -> int:
        """Run one worker to its end; return its exit code."""
        inherited = tuple(sock.fileno() for sock in seat.sockets)
        process = seat.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "worker", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, pass_fds=inherited, limit=_LINE,
        )  # fmt: skip
        # No await since it has a seat: a policy that `use` sends comes behind the assignment.
        assignment = Assignment(self._settings_of(seat), self._redis_url, inherited)
        await self._talk(seat, process, _framed(assignment))
        code = await process.wait()
        # What it counted stays counted; what it held, it holds no more.
        counted = {what: n for what, n in seat.figures.items() if what[0] != "gauge"}
        self._retired = add_up(self._retired, counted)
        seat.process, seat.figures = None, {}
        self._spread()
        return code

    def _spread(self) -> None:
        """Have new connections wait for nobody who was there and is not, while anybody is."""
        there = [place for place, seat in enumerate(self._seats) if seat.figures]
        # Else the first to come after a start would get, and keep, every connection of the proxies.
        self._gathered = bool(there) and (self._gathered or len(there) == len(self._seats))
        for sockets in self._by_address:
            spread_over(sockets, there if self._gathered else range(len(self._seats)))

    def _settings_of(self, seat: _Seat) -> Settings:
        check = self._settings.check
        own = check.model_copy(update={"grpc_listen": check.grpc_of(seat.number)})
        return self._settings.model_copy(update={"check": own})

    async def _talk(self, seat: _Seat, process: asyncio.subprocess.Process, words: bytes) -> None:
        """Say the assignment; take the figures as they come."""
        if process.stdin is None or process.stdout is None:
            return
        with contextlib.suppress(ConnectionError):
            process.stdin.write(words)
            await process.stdin.drain()
        async for line in process.stdout:
            comes, seat.figures = not seat.figures, _figures_of(line)
            if comes:
                self._spread()


class Inbox:
    """New policies, put together from what comes on standard input."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[Policy]:
        """Return the policies that are complete with these bytes."""
        self._data += data
        found: list[Policy] = []
        while len(self._data) >= _HEAD.size:
            (length,) = _HEAD.unpack_from(self._data)
            if len(self._data) < _HEAD.size + length:
                break
            message = self._data[_HEAD.size : _HEAD.size + length]
            self._data = self._data[_HEAD.size + length :]
            found.append(pickle.loads(message))  # noqa: S301  (our own parent's)
        return found


def _figures_of(line: bytes) -> Figures:
    return {
        (kind, name, tuple((key, text) for key, text in labels)): value
        for kind, name, labels, value in orjson.loads(line)
    }


def _framed(value: object) -> bytes:
    message = pickle.dumps(value)
    return _HEAD.pack(len(message)) + message


def read_assignment() -> Assignment:
    """Return what the parent says on standard input."""
    (length,) = _HEAD.unpack(_read(_HEAD.size))
    assignment: Assignment = pickle.loads(_read(length))  # noqa: S301  (our own parent's)
    return assignment


def _read(length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = os.read(0, length - len(data))
        if not more:
            raise EOFError("the parent is gone")
        data += more
    return data


def report(figures: Figures) -> None:
    """Tell the parent what this worker has counted so far."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, orjson.dumps([[*what, value] for what, value in figures.items()]) + b"\n")
