"""The load: keep-alive connections to one server, held by processes of their own.

A generator in Python is slower than what it measures. Two of them, on uvloop, ask several times
faster than our gateway answers; rates near those of nginx are still theirs, not nginx's.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from .grpc_client import GrpcClient

PROCESSES = 2
_PATIENCE = 100
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask, what, and how every answer must begin."""

    address: int | str  # a port of 127.0.0.1, or the path of a Unix socket
    requests: Sequence[bytes]
    expect: bytes
    grpc: bool = False


@dataclass(frozen=True, slots=True)
class Times:
    """When a load began and ended, and how long each answer took; in seconds."""

    began: float
    ended: float
    latencies: list[float]
    others: int = 0  # answers that did not begin as expected: the store was too slow, say


class Client(asyncio.Protocol):
    """One keep-alive connection: one request at a time."""

    def __init__(self) -> None:
        self._received = b""

    @classmethod
    async def connect(cls, address: int | str) -> Client:
        loop = asyncio.get_running_loop()
        if isinstance(address, str):
            return (await loop.create_unix_connection(cls, address))[1]
        return (await loop.create_connection(cls, "127.0.0.1", address))[1]

    async def ask(self, request: bytes) -> bytes:
        """Return the answer."""
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._answer = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, ended, body = self._received.partition(b"\r\n\r\n")
        if ended and len(body) >= _length_of_body(head):
            answer, self._received = self._received, b""
            self._answer.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(error or ConnectionError("the server closed"))


def _length_of_body(head: bytes) -> int:
    found = _LENGTH.search(head)
    assert found is not None, f"an answer without a length: {head!r}"
    return int(found[1])


class Crowd:
    """The connections of all generator processes; a context manager."""

    def __init__(self, processes: int = PROCESSES) -> None:
        self._count = processes

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(self._count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_generate, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pipe in self._pipes:
            pipe.close()  # ends its process
        for process in self._processes:
            process.join()

    def meet(self, target: Target, connections: int) -> None:
        """Connect, in place of earlier connections, and ask everything once on each.

        So every process behind one address has seen every session before anything is measured.
        """
        each = max(1, connections // self._count)
        self._all("meet", *((target, range(n * each, (n + 1) * each)) for n in range(self._count)))

    def flood(self, checks: int) -> Times:
        """Ask as fast as answers come."""
        return self._all("flood", *[(checks // self._count,)] * self._count)

    def pace(self, per_second: float, seconds: float) -> Times:
        """Ask at a fixed rate; an answer that is late does not put off the next question."""
        return self._all("pace", *[(per_second / self._count, seconds)] * self._count)

    def _all(self, what: str, *arguments: Any) -> Times:
        for pipe, own in zip(self._pipes, arguments, strict=True):
            pipe.send((what, own))
        answers = [pipe.recv() for pipe in self._pipes]
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        began, ended = min(one.began for one in answers), max(one.ended for one in answers)
        latencies = [each for one in answers for each in one.latencies]
        return Times(began, ended, latencies, sum(one.others for one in answers))


class _Share:
    """One process's part of the crowd."""

    def __init__(self) -> None:
        self._clients: list[Client | GrpcClient] = []
        self._requests: list[Iterator[bytes]] = []
        self._expect = b""
        self._latencies: list[float] = []
        self._others = 0

    async def meet(self, target: Target, numbers: range) -> None:
        for client in self._clients:
            client.close()
        connect = GrpcClient.connect if target.grpc else Client.connect
        self._clients = [await connect(target.address) for _ in numbers]
        self._expect = target.expect
        orders = [_shuffled(target.requests, seed) for seed in numbers]
        self._requests = [itertools.cycle(order) for order in orders]
        await self._each(lambda n: self._meet(self._clients[n], orders[n]))

    async def flood(self, checks: int) -> None:
        share = checks // len(self._clients)
        await self._each(lambda n: self._flood(n, share))

    async def pace(self, per_second: float, seconds: float) -> None:
        interval, now = len(self._clients) / per_second, time.perf_counter()
        count = max(1, round(seconds / interval))
        await self._each(lambda n: self._pace(n, now + n / per_second, interval, count))

    def take(self, began: float) -> Times:
        """Return what was measured since the last time, and begin anew."""
        times = Times(began, time.perf_counter(), self._latencies, self._others)
        self._latencies, self._others = [], 0
        return times

    async def _each(self, work: Callable[[int], Any]) -> None:
        await asyncio.gather(*(work(number) for number in range(len(self._clients))))

    async def _meet(self, client: Client | GrpcClient, requests: Sequence[bytes]) -> None:
        for request in requests:
            await insist(client, request, self._expect)

    async def _flood(self, number: int, checks: int) -> None:
        for _ in range(checks):
            await self._measure(number, time.perf_counter())

    async def _pace(self, number: int, due: float, interval: float, count: int) -> None:
        """A question that waits for the answer before it counts from when it was due."""
        for _ in range(count):
            began, early = due, due - time.perf_counter()
            if early > 0:
                await asyncio.sleep(early)
                began = time.perf_counter()  # a timer that rings late is not the server's fault
            await self._measure(number, began)
            due += interval

    async def _measure(self, number: int, began: float) -> None:
        answer = await self._clients[number].ask(next(self._requests[number]))
        self._latencies.append(time.perf_counter() - began)
        self._others += not answer.startswith(self._expect)


async def insist(client: Client | GrpcClient, request: bytes, expect: bytes) -> None:
    """Ask until the answer begins as expected: who has just begun, or is busy, may refuse."""
    answer = b""
    for _ in range(_PATIENCE):
        answer = await client.ask(request)
        if answer.startswith(expect):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"expected {expect!r}, got {answer[:300]!r}")


def _shuffled(requests: Sequence[bytes], seed: int) -> list[bytes]:
    """Connections that walk the same way in step would all miss a memory at the same place."""
    return random.Random(seed).sample(requests, len(requests))


def _generate(pipe: Connection) -> None:
    """Do what the pipe says until it is closed."""
    share = _Share()
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        while True:
            try:
                what, arguments = pipe.recv()
            except EOFError:
                return
            try:
                began = time.perf_counter()
                runner.run(getattr(share, what)(*arguments))
                pipe.send(share.take(began))
            except Exception as error:  # noqa: BLE001  (goes on in the process that asked)
                pipe.send(error)


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
