"""Events under long faults: `make soak`."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.audit.service import Site, chaos, site

KILLS = 50
REST_S = 4.0
AWAY_S = float(os.environ.get("SOAK_POSTGRES_AWAY_S", "600"))


def acknowledged(running: Site, what: str) -> int:
    """Return how many changes were acknowledged, each of which is a row once and in order."""
    count = running.check()
    verified = running.command("audit", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    rows = sum(map(len, running.rows().values()))
    print(f"\n{what}: {count} acknowledged changes, each a row once and in order ({rows} rows)")
    return count


@pytest.mark.soak
def test_relays_killed_fifty_times(tmp_path: Path) -> None:
    with site(tmp_path, gateways=3) as running:

        def kill_one() -> None:
            running.kill_gateway(random.randrange(3))

        chaos(running, KILLS, [kill_one], REST_S)
        running.await_empty(60)
        assert acknowledged(running, f"{KILLS} gateways killed") > 10 * KILLS


@pytest.mark.soak
def test_everything_killed_fifty_times(tmp_path: Path) -> None:
    with site(tmp_path, gateways=3) as running:

        def restart_redis() -> None:
            running.valkey.stop()
            running.valkey.start()

        def kill_one() -> None:
            running.kill_gateway(random.randrange(3))

        chaos(running, KILLS, [kill_one, running.restart_postgres, restart_redis], REST_S)
        running.await_empty(60)
        assert acknowledged(running, f"{KILLS} gateways, Postgres or Redis killed") > 10 * KILLS


@pytest.mark.soak
def test_postgres_away_for_long(tmp_path: Path) -> None:
    with site(tmp_path, gateways=2, outbox_limit=10**6) as running:
        with running.loaded():
            time.sleep(5)
            running.postgres.kill()
            time.sleep(AWAY_S)
            waiting = running.outbox_length()
            running.postgres.start()
            time.sleep(5)
        began = time.monotonic()
        running.await_empty(300)
        took_s = time.monotonic() - began
        print(f"\n{waiting} events waited when Postgres came back; carried in {took_s:.0f} s")
        count = acknowledged(running, f"Postgres away for {AWAY_S:g} s of load")
        assert count >= waiting > 10 * AWAY_S
