"""Several processes on one port, seen from outside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.embedded import EmbeddedValkey
from tests import servers

from .harness import ENV, Gateway, log_lines, log_of, serve_command, until

WORKERS = 2
START_S = 30.0  # each worker is a Python of its own
CHECKS = 120


@contextmanager
def started() -> Iterator[tuple[Gateway, servers.Program]]:
    """A gateway with workers that have all registered, and its parent process."""
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        gateway = Gateway(valkey.url, "[log]\ndenials = false\n", workers=WORKERS)
        with gateway.running() as program:
            until(lambda: gateway.ready() == 200, "ready", START_S)
            until(lambda: answers(gateway), "answering")
            until(lambda: live_replicas(gateway) == WORKERS + 1, "all registered")
            yield gateway, program


def answers(gateway: Gateway) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", gateway.check_port)) == 0


def live_replicas(gateway: Gateway) -> int:
    """Return how many processes a receipt waits for."""
    receipt = gateway.admin("DELETE", f"/v1/sessions/{gateway.sign_in()['id']}").json
    assert receipt["complete"] is True
    count: int = receipt["replicas"]["live"]
    return count


def children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def metric(gateway: Gateway, name: str) -> float:
    """Return the sum over all labels."""
    lines = gateway.admin("GET", "/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))


def test_metrics_are_summed_over_all_workers() -> None:
    """Whichever worker answered: the admin listener tells of every check."""
    with started() as (gateway, _):
        token = gateway.sign_in()["token"]
        before = metric(gateway, "gateway_checks_total")
        for _ in range(CHECKS):
            assert gateway.check(token).status == 200
        until(lambda: metric(gateway, "gateway_checks_total") - before == CHECKS, "all counted")
        assert metric(gateway, "gateway_check_seconds_count") == CHECKS + before


def test_an_ended_session_is_refused_by_every_worker() -> None:
    """The receipt counts each process, and after it none allows."""
    with started() as (gateway, program):
        assert len(children(program.pid)) == WORKERS
        for _ in range(20):
            session = gateway.sign_in()
            assert {gateway.check(session["token"]).status for _ in range(12)} == {200}
            receipt = gateway.admin("DELETE", f"/v1/sessions/{session['id']}").json
            assert receipt["replicas"] == {
                "live": WORKERS + 1, "confirmed": WORKERS + 1, "lease_expired": 0,
            }  # fmt: skip
            assert {gateway.check(session["token"]).status for _ in range(12)} == {401}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_dies_is_replaced_and_costs_only_its_connections(
    number: signal.Signals,
) -> None:
    """New connections are answered all the time; what it had counted stays counted."""
    with started() as (gateway, program):
        token = gateway.sign_in()["token"]
        for _ in range(CHECKS):
            assert gateway.check(token).status == 200
        until(lambda: metric(gateway, "gateway_checks_total") == CHECKS, "all counted")
        killed, *others = children(program.pid)
        os.kill(killed, number)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            assert gateway.check(token).status == 200
        until(lambda: len(children(program.pid)) == WORKERS, "replaced", START_S)
        assert killed not in children(program.pid)
        assert set(others) < set(children(program.pid))
        assert metric(gateway, "gateway_checks_total") >= CHECKS
        died = [line for line in log_lines(log_of(program)) if line["event"] == "worker_died"]
        assert len(died) == 1
        assert died[0]["level"] == "error"


def test_no_new_connection_waits_for_a_worker_that_is_not_there() -> None:
    """Those that the kernel would have given to the dead one are answered by the others."""
    with started() as (gateway, program):
        token = gateway.sign_in()["token"]
        killed, *others = children(program.pid)
        os.kill(killed, signal.SIGKILL)
        until(lambda: len({*children(program.pid)} - {killed, *others}) == 1, "replaced", START_S)
        [replacement] = {*children(program.pid)} - {killed, *others}
        os.kill(replacement, signal.SIGSTOP)
        assert [gateway.check(token).status for _ in range(CHECKS)] == [200] * CHECKS
        os.kill(replacement, signal.SIGCONT)
        until(lambda: live_replicas(gateway) == WORKERS + 1, "registered", START_S)
        before = {pid: descriptors(pid) for pid in children(program.pid)}
        kept = [socket.create_connection(("127.0.0.1", gateway.check_port)) for _ in range(CHECKS)]
        until(lambda: all(descriptors(pid) > before[pid] for pid in before), "both have some")
        for each in kept:
            each.close()


def test_workers_end_with_their_parent() -> None:
    """Nobody is left to answer checks that no admin API can revoke."""
    with started() as (_, program):
        pids = children(program.pid)
        assert pids
        os.kill(program.pid, signal.SIGKILL)
        until(lambda: not any(map(runs, pids)), "ended")


def descriptors(pid: int) -> int:
    """Return how many files and sockets a process holds."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    """Also where the kernel would let several processes share it."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        url = f"redis://127.0.0.1:{servers.free_port()}"
        gateway = Gateway(url, check_port=taken.getsockname()[1], workers=2)
        (tmp_path / "gateway.toml").write_text(gateway.config())
        ended = subprocess.run(
            serve_command(tmp_path / "gateway.toml"),
            capture_output=True, text=True, timeout=30, check=False, env=ENV,
        )  # fmt: skip
    assert ended.returncode == 2
    assert "gateway: check.listen: cannot listen on" in ended.stderr
