"""The third table: what a session takes, and whether many of them make a check dearer."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

import redis

from gateway.embedded import EmbeddedValkey
from tests import servers

from .options import Options
from .sessions import sign_in
from .tables import median, table

_STORED = 10_000
_CACHED = (1_000, 100_000)
_CACHED_AT_MOST = 1_000_000
_TELLING = 10_000  # fewer sessions do not show what each takes


@dataclass(frozen=True, slots=True)
class Filled:
    """One process that remembers many sessions."""

    resident: int  # bytes a session, as the kernel counts
    counted: int  # bytes a session, as near_cache.max_bytes counts
    check_us: float


def measure(options: Options) -> str:
    """Return bytes per session in the gateway and in Redis, and the CPU of a check beside many."""
    counts = (*_CACHED, *([_CACHED_AT_MOST] if options.full else []))
    rounds: dict[int, list[Filled]] = {count: [] for count in counts}
    for _ in range(options.rounds):
        for count in counts:
            rounds[count].append(_fill(count))
    head = ["sessions in memory", "bytes each (resident)", "as `max_bytes` counts them",
            "CPU per check without sockets, us"]  # fmt: skip
    rows = [[f"{count:,}", *_figures(count, each)] for count, each in rounds.items()]
    stored = f"\nIn Redis a session takes {_stored_bytes():,} bytes, events not counted."
    return table(head, rows) + "\n" + stored


def _figures(count: int, filled: list[Filled]) -> list[str]:
    return [
        f"{median(filled, lambda one: one.resident):.0f}" if count >= _TELLING else "",
        f"{median(filled, lambda one: one.counted):.0f}",
        f"{median(filled, lambda one: one.check_us):.1f}",
    ]


def _fill(count: int) -> Filled:
    """Measure in a new process: what another has freed would hide what this one takes."""
    command = [sys.executable, "-m", "bench.filled", str(count)]
    done = subprocess.run(command, cwd=servers.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Filled(**json.loads(done.stdout))


def _stored_bytes() -> int:
    """Return what Redis' own count of its memory grows by for a session, with all its keys."""
    with EmbeddedValkey() as valkey, redis.Redis.from_url(valkey.url) as client:
        sign_in(valkey.url, 1)  # the scripts, and what there is one of
        before = int(client.info("memory")["used_memory"])
        sign_in(valkey.url, _STORED)
        for outbox in client.scan_iter("gw:e:*"):  # bounded as a whole, and emptied by a relay
            client.delete(outbox)
        return (int(client.info("memory")["used_memory"]) - before) // _STORED
