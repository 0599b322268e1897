"""gRPC as a service: addresses, workers, the stop, and an installation without the extra."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.adapters.messages import HealthResponse
from gateway.embedded import EmbeddedValkey
from tests import servers
from tests.adapters.calls import CHECK, message, reply_of
from tests.adapters.reply import Reply

from .harness import ENV, HOST, Gateway, log_lines, log_of, run_serve, until
from .test_start import assert_one_line
from .test_workers import START_S, children, metric

CLIENTS = 8
CHECKS = 160
SERVING = HealthResponse(status=1).SerializeToString()


class Envoy:
    """One connection that asks."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(
            address,
            [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 50)],
        )
        self._check = self._channel.unary_unary(CHECK)
        self._health = self._channel.unary_unary("/grpc.health.v1.Health/Check")

    def check(self, token: str, **options: Any) -> Reply:
        asked = [
            (":method", b"GET"),
            (":path", b"/x"),
            (":authority", HOST.encode()),
            (":source", b"203.0.113.7"),
            ("cookie", f"__Host-sid={token}".encode()),
        ]
        return reply_of(self._check(message(asked, raw=True), timeout=5, **options))

    def is_welcome(self) -> bool:
        """Ask for the health of whoever is at the other end."""
        return bool(self._health(b"", timeout=5) == SERVING)

    def close(self) -> None:
        self._channel.close()


@contextmanager
def asking(address: str) -> Iterator[Envoy]:
    envoy = Envoy(address)
    try:
        yield envoy
    finally:
        envoy.close()


@contextmanager
def started(workers: int, address: str = "") -> Iterator[tuple[Gateway, servers.Program, str]]:
    """A gateway that answers gRPC, its process, and where it is asked."""
    address = address or f"127.0.0.1:{servers.free_port()}"
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        more = "[log]\ndenials = false\n"
        gateway = Gateway(valkey.url, more, grpc_listen=address, workers=workers)
        with gateway.running() as program:
            until(lambda: gateway.ready() == 200, "ready", START_S)
            yield gateway, program, address


def test_workers_share_the_port_and_a_dead_one_is_replaced() -> None:
    """Each takes connections, their figures are one, and the port stays ours."""
    with started(2) as (gateway, program, address):
        token = gateway.sign_in()["token"]
        for _ in range(CHECKS // 10):
            with asking(address) as envoy:
                for _ in range(10):
                    assert envoy.check(token, wait_for_ready=True).one("X-Auth-User") == "alice"
        until(lambda: metric(gateway, "gateway_checks_total") == CHECKS, "all counted")
        killed = children(program.pid)[0]
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            with asking(address) as envoy:
                assert envoy.check(token, wait_for_ready=True).status == 200
        until(lambda: len(children(program.pid)) == 2, "replaced", START_S)
        assert killed not in children(program.pid)
        receipt = gateway.admin("DELETE", "/v1/users/alice/sessions").json
        assert receipt["complete"] is True
        for _ in range(12):
            with asking(address) as envoy:
                assert envoy.check(token, wait_for_ready=True).status == 401


@dataclass
class Visitor:
    """Asks without a pause until it is told to go elsewhere."""

    address: str
    token: str
    answered: int = 0
    failed: list[str] = field(default_factory=list)

    def run(self) -> None:
        with asking(self.address) as envoy:
            try:
                while envoy.is_welcome():
                    reply = envoy.check(self.token)
                    self.answered += reply.status == 200
                    self.failed += [] if reply.status == 200 else [str(reply)]
            except grpc.RpcError as error:
                self.failed.append(repr(error))


@pytest.mark.parametrize("workers", [1, 2])
def test_no_call_fails_while_the_gateway_stops(workers: int) -> None:
    """Whoever asks for the health, as Envoy can, sees none fail; and the process ends with 0."""
    with started(workers) as (gateway, program, address):
        token = gateway.sign_in()["token"]
        visitors = [Visitor(address, token) for _ in range(CLIENTS)]
        threads = [threading.Thread(target=visitor.run) for visitor in visitors]
        for thread in threads:
            thread.start()
        until(lambda: all(visitor.answered > 10 for visitor in visitors), "calls under way")
        os.kill(program.pid, signal.SIGTERM)
        until(lambda: not program.running, "the gateway has ended")
        for thread in threads:
            thread.join()
        assert program._process.returncode == 0
        assert log_lines(log_of(program))[-1]["event"] == "stopped"
    assert [each for visitor in visitors for each in visitor.failed] == []


def ask_until_the_end(address: str, token: str, seen: list[int], ended: list[object]) -> None:
    """Ask without looking whether the gateway leaves."""
    with asking(address) as envoy:
        try:
            while True:
                seen.append(envoy.check(token).status)
        except grpc.RpcError as error:
            ended.append(error.code())


def test_a_call_in_the_moment_of_the_end_is_answered_or_fails() -> None:
    """Whoever does not ask for the health gets an error then: at once, and never an allow."""
    with started(1) as (gateway, program, address):
        tokens = [gateway.sign_in()["token"], "00" + "A" * 43]
        seen: list[list[int]] = [[] for _ in range(CLIENTS)]
        ended: list[object] = []
        threads = [
            threading.Thread(target=ask_until_the_end, args=(address, tokens[i % 2], each, ended))
            for i, each in enumerate(seen)
        ]
        for thread in threads:
            thread.start()
        until(lambda: all(len(each) > 10 for each in seen), "calls under way")
        os.kill(program.pid, signal.SIGTERM)
        until(lambda: not program.running, "the gateway has ended")
        for thread in threads:
            thread.join(5)
    assert [set(each) for each in seen] == [{200}, {401}] * (CLIENTS // 2)
    assert set(ended) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert len(ended) == CLIENTS


def test_a_unix_socket_works_and_a_stale_one_is_replaced() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grpc.sock"
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(path))
        stale.close()
        with started(1, f"unix:{path}") as (gateway, _, address), asking(address) as envoy:
            assert envoy.check(gateway.sign_in()["token"]).status == 200
            assert envoy.check("x").status == 401
            assert stat.S_ISSOCK(path.stat().st_mode)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use_is_one_line(tmp_path: Path, workers: int) -> None:
    """Also where the kernel would let several processes share it."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        gateway = Gateway(
            f"redis://127.0.0.1:{servers.free_port()}", grpc_listen=address, workers=workers
        )
        ended = run_serve(gateway.config(), tmp_path)
    assert_one_line(ended, "check.grpc_listen", address, "stop what uses it")


def test_a_unix_socket_in_use_is_not_taken_away(tmp_path: Path) -> None:
    """gRPC itself would unlink it."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as living:
        path = Path(folder) / "grpc.sock"
        living.bind(str(path))
        living.listen()
        redis = f"redis://127.0.0.1:{servers.free_port()}"
        ended = run_serve(Gateway(redis, grpc_listen=f"unix:{path}").config(), tmp_path)
        assert_one_line(ended, "check.grpc_listen", "stop what uses it")
        assert path.exists()


def test_workers_cannot_share_a_unix_socket(tmp_path: Path) -> None:
    gateway = Gateway("redis://127.0.0.1:6379", grpc_listen="unix:/tmp/grpc.sock", workers=2)
    ended = run_serve(gateway.config(), tmp_path)
    assert ended.returncode == 2
    assert "check.grpc_listen: unix:/tmp/grpc.sock: gRPC workers cannot share" in ended.stderr
    assert "write {worker} where" in ended.stderr


def test_each_worker_may_have_a_unix_socket_of_its_own() -> None:
    """What replaces a worker answers where it did."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{folder}/grpc-{{worker}}.sock"
        with started(2, address) as (gateway, program, _):
            token = gateway.sign_in()["token"]
            assert sorted(each.name for each in Path(folder).iterdir()) == [
                "grpc-1.sock", "grpc-2.sock",
            ]  # fmt: skip
            for killed in (*children(program.pid)[:1], None):
                for number in ("1", "2"):
                    with asking(address.replace("{worker}", number)) as envoy:
                        assert envoy.check(token, wait_for_ready=True).status == 200
                if killed is not None:
                    os.kill(killed, signal.SIGKILL)
                    until(lambda: len(children(program.pid)) == 2, "replaced", START_S)


# --- without the extra -----------------------------------------------------------------------


@pytest.fixture
def without_grpc(tmp_path: Path) -> dict[str, str]:
    """An environment in which the extra cannot be imported."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "grpc.py").write_text("raise ImportError\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(servers.ROOT)])}


@pytest.mark.parametrize(("command", "code"), [("serve", 2), ("check-config", 1)])
def test_without_the_extra_it_is_said_what_to_install(
    tmp_path: Path, without_grpc: dict[str, str], command: str, code: int
) -> None:
    gateway = Gateway("redis://127.0.0.1:6379", grpc_listen="127.0.0.1:9181")
    config = tmp_path / "gateway.toml"
    config.write_text(gateway.config())
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", command, "--config", str(config)],
        capture_output=True, text=True, timeout=20, check=False,
        env={**os.environ, **ENV, **without_grpc},
    )  # fmt: skip
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.startswith("check.grpc_listen: ")]
    assert len(said) == 1
    assert 'pip install "session-gateway[grpc]"' in said[0]


def test_without_the_extra_all_else_works(without_grpc: dict[str, str]) -> None:
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        gateway = Gateway(valkey.url)
        with gateway.running(without_grpc):
            until(lambda: gateway.ready() == 200, "ready")
            assert gateway.check(gateway.sign_in()["token"]).status == 200
