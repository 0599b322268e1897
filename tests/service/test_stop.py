"""A gateway that stops does not fail a check."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import threading
import time
from dataclasses import dataclass, field

import pytest

from gateway.app import App
from gateway.embedded import EmbeddedValkey
from tests import servers
from tests.admin.harness import settings

from .harness import Gateway, log_lines, log_of, question, until

CLIENTS = 8


@dataclass
class Client:
    """A proxy's connection: kept alive, made anew when the gateway asks for it."""

    port: int
    token: str
    stopping: threading.Event
    answered: int = 0
    reconnected: int = 0
    failed: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Ask until nobody listens any more."""
        while not self.stopping.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return
            self.reconnected += 1
            try:
                self._ask_until_closed(connection)
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
            finally:
                connection.close()

    def _ask_until_closed(self, connection: http.client.HTTPConnection) -> None:
        path, headers = question("auth_request")
        headers["Cookie"] = f"__Host-sid={self.token}"
        while not self.stopping.is_set():
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            response.read()
            if response.status == 200 and response.headers["X-Auth-User"] == "alice":
                self.answered += 1
            else:
                self.failed.append(f"{response.status} {response.headers['X-Auth-Reason']}")
            if response.will_close:
                return


@pytest.mark.parametrize("workers", [1, 2])
def test_no_check_fails_while_the_gateway_stops(workers: int) -> None:
    """Under load every request that was taken is answered rightly, and the process ends with 0."""
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        gateway = Gateway(valkey.url, workers=workers)
        with gateway.running() as program:
            until(lambda: gateway.ready() == 200, "ready", 30)
            token, stopping = gateway.sign_in()["token"], threading.Event()
            clients = [Client(gateway.check_port, token, stopping) for _ in range(CLIENTS)]
            threads = [threading.Thread(target=client.run) for client in clients]
            for thread in threads:
                thread.start()
            time.sleep(0.5)
            os.kill(program.pid, signal.SIGTERM)
            until(lambda: not program.running, "the gateway has ended")
            stopping.set()
            for thread in threads:
                thread.join()
            assert program._process.returncode == 0
            events = [line["event"] for line in log_lines(log_of(program))]
    failed = [each for client in clients for each in client.failed]
    print(f"{sum(client.answered for client in clients)} answered, {len(failed)} failed")  # noqa: T201
    assert failed == []
    assert all(client.answered > 10 and client.reconnected > 1 for client in clients)
    assert (events[-1], events.count("draining")) == ("stopped", workers if workers == 1 else 3)


def test_a_leaving_gateway_is_not_ready() -> None:
    """From SIGTERM on balancers are told to go elsewhere, while checks are still answered."""
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        gateway = Gateway(valkey.url)
        with gateway.running() as program:
            until(lambda: gateway.ready() == 200, "ready")
            token = gateway.sign_in()["token"]
            os.kill(program.pid, signal.SIGTERM)
            until(lambda: gateway.ready() == 503, "not ready", 1)
            answer = gateway.check(token)
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
            until(lambda: not program.running, "the gateway has ended")


async def test_background_work_ends_although_a_cancellation_is_lost() -> None:
    """`wait_for` of Python 3.11 loses one that comes together with what was waited for."""
    lost = 0

    async def losing() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost > 2:
                    raise

    app = App(settings("unused:"), "redis://127.0.0.1:1/0")
    async with asyncio.timeout(5), contextlib.AsyncExitStack() as stack:
        await app._background(stack, losing())
        await asyncio.sleep(0)
    assert lost == 3
    await app._store.close()
