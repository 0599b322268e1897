"""How fast one process carries events from the outbox to Postgres, and what that costs.

`python -m bench.events` with the number of events. Half of them are sign-ins, which are two rows.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gateway.app import collect_rarely
from gateway.audit import Database, DatabaseOptions, PostgresSink
from gateway.audit.migrate import migrate
from gateway.credentials import partition_of_user
from gateway.delivery import ALONE, BESIDE_CHECKS
from gateway.embedded import EmbeddedValkey
from gateway.relay import Relay
from gateway.store import RedisOutbox, connect
from tests.audit.harness import fields_of
from tests.postgres import Postgres

from .tables import percentile_ms

_USERS = 2000
_CHUNK = 2000


async def measure(redis_url: str, dsn: str, events: int, lanes: int, batch: int) -> str:
    """Fill the outbox, empty it, and return a row of the table."""
    client = connect(redis_url)
    await client.flushall()
    await _fill(redis_url, events)
    database = Database(DatabaseOptions(dsn, 5, 3, 4))
    outbox = RedisOutbox(
        client, prefix="gw:", partitions=16, limit=10**7, takeover_ms=10_000,
        count_error=lambda _: None, sinks=[PostgresSink.name], batch=batch,
    )  # fmt: skip
    relay = Relay(outbox, [PostgresSink(database, outbox)], outbox.partitions, 10_000, lanes)
    began, cpu = time.perf_counter(), time.process_time()
    task = asyncio.create_task(relay.run())
    pauses = []
    while relay.delivered["postgres"] < events:
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        pauses.append(time.perf_counter() - before - 0.001)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    task.cancel()
    await asyncio.wait([task])
    await database.close()
    await client.aclose()
    return (f"| {lanes} x {batch} | {events} | {events / took * 60:,.0f} "
            f"| {cpu / events * 1e6:.0f} | {cpu / took:.2f} "
            f"| {percentile_ms(pauses, 99):.1f} |")  # fmt: skip


async def _fill(redis_url: str, events: int) -> None:
    client = connect(redis_url)
    client.connection_pool.connection_kwargs["socket_timeout"] = 30
    samples: list[dict[Any, Any]] = [
        fields_of(f"user-{number}", number, kind)
        for number in range(_USERS)
        for kind in ("session.created", "session.ended")
    ]
    for begin in range(0, events, _CHUNK):
        pipeline = client.pipeline(transaction=False)
        for number in range(begin, min(begin + _CHUNK, events)):
            sample = samples[number % len(samples)]
            partition = partition_of_user(sample["user"], 16)
            pipeline.xadd(f"gw:e:{{{partition}}}", sample)
        await pipeline.execute()
    await client.aclose()


def main() -> None:
    """Print the table."""
    import uvloop

    collect_rarely()
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    print("| lanes x batch | events | per minute | CPU us each | cores | pauses, p99, ms |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, Postgres() as postgres:
        asyncio.run(migrate(postgres.dsn, 5))
        with EmbeddedValkey(unix_socket=Path(folder) / "valkey") as valkey:
            for lanes, batch in (BESIDE_CHECKS, ALONE):
                uvloop.install()
                row = measure(valkey.url, postgres.dsn, events, lanes, batch)
                print(asyncio.run(row), flush=True)


if __name__ == "__main__":
    main()
