"""The third table: what a session takes, and whether many of them make a check dearer."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass

import redis

from gateway.embedded import EmbeddedValkey
from tests import servers

from .options import Options
from .sessions import sign_in
from .tables import median, table

_STORED = (1_000, 10_000, 100_000)
_CACHED = (1_000, 100_000)
_AT_MOST = 1_000_000
_ROUNDS = 3  # memory differs less from time to time than speed
_TELLING = 10_000  # fewer sessions do not show what each takes


@dataclass(frozen=True, slots=True)
class Filled:
    """One process that remembers many sessions."""

    resident: int  # bytes a session, as the kernel counts
    counted: int  # bytes a session, as near_cache.max_bytes counts
    check_us: float


def measure(options: Options) -> str:
    """Return bytes per session in the gateway and in Redis, and the CPU of a check beside many."""
    return f"{_in_the_process(options)}\n\n{_in_redis(options)}"


def _in_the_process(options: Options) -> str:
    """Measure the million once: it takes two minutes."""
    rounds: dict[int, list[Filled]] = {count: [] for count in _CACHED}
    for _ in range(min(options.rounds, _ROUNDS)):
        for count in _CACHED:
            rounds[count].append(_fill(count))
    rounds[_AT_MOST] = [_fill(_AT_MOST)]
    head = ["sessions in memory", "bytes each (resident)", "as `max_bytes` counts them",
            "CPU per check without sockets, us"]  # fmt: skip
    return table(head, [[f"{count:,}", *_figures(count, each)] for count, each in rounds.items()])


def _in_redis(options: Options) -> str:
    counts = (*_STORED, *([_AT_MOST] if options.full else []))
    head = ["sessions in Redis", "bytes each, events not counted"]
    return table(head, [[f"{count:,}", f"{_stored_bytes(count):,}"] for count in counts])


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


def _stored_bytes(count: int) -> int:
    """Return what Redis' own count of its memory grows by for a session, with all its keys."""
    with EmbeddedValkey() as valkey, redis.Redis.from_url(valkey.url) as client:
        sign_in(valkey.url, 1)  # the scripts, and what there is one of
        before = int(client.info("memory")["used_memory"])
        sign_in(valkey.url, count)
        for outbox in client.scan_iter("gw:e:*"):  # bounded as a whole, and emptied by a relay
            client.delete(outbox)
        while int(client.info("memory")["lazyfree_pending_objects"]):  # freed behind the answer
            time.sleep(0.01)
        return (int(client.info("memory")["used_memory"]) - before) // count
