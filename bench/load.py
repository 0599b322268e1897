"""A small, fixed load over keep-alive connections, and the CPU time that a process spent on it."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Measured:
    """One round against one server."""

    cpu_us: float  # of the server process, for one check
    per_second: float
    p50_ms: float
    p99_ms: float


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process, from its own accounting."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def drive(
    pid: int, port: int, requests: list[bytes], *, total: int, connections: int, expect: bytes
) -> Measured:
    """Send `total` requests in turn over `connections` and return what they cost."""
    share = total // connections
    latencies: list[float] = []
    cpu, started = cpu_seconds(pid), time.perf_counter()
    await asyncio.gather(
        *(
            _client(
                port, islice(cycle(requests), number, number + share), expect=expect, out=latencies
            )
            for number in range(connections)
        )
    )
    wall, cpu = time.perf_counter() - started, cpu_seconds(pid) - cpu
    done = share * connections
    cuts = statistics.quantiles(latencies, n=100)
    return Measured(cpu / done * 1e6, done / wall, cuts[49] * 1e3, cuts[98] * 1e3)


async def _client(port: int, requests: Iterable[bytes], *, expect: bytes, out: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        out.append(time.perf_counter() - started)
        if not head.startswith(expect):
            raise AssertionError(f"expected {expect!r}, got {head[:80]!r}")
        await _skip_body(reader, head)
    writer.close()
    await writer.wait_closed()


async def _skip_body(reader: asyncio.StreamReader, head: bytes) -> None:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            await reader.readexactly(int(line.partition(b":")[2]))
