"""Two gateways behind one Envoy that asks for their health: one leaves, and nobody notices."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import yaml

from gateway.embedded import EmbeddedValkey
from tests import servers
from tests.service.harness import Gateway, until

from .client import Client, cookie

VISITORS = 8
PAGE = Path(__file__).resolve().parents[2] / "docs" / "proxies" / "envoy-grpc.md"


def with_replicas(listen: int, application: int, ports: list[int]) -> str:
    """Return the shipped configuration with these replicas and the documented health check."""
    text = servers.envoy_grpc_yaml(listen=listen, gateway=ports[0], application=application)
    config = yaml.safe_load(text)
    found = re.search(r"```yaml\n(health_checks:.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    cluster = next(c for c in config["static_resources"]["clusters"] if c["name"] == "gateway")
    cluster |= yaml.safe_load(found[1].replace("0.5s", "0.1s"))
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": [endpoint(p) for p in ports]}]
    return yaml.safe_dump(config, sort_keys=False)


def endpoint(port: int) -> dict[str, object]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"endpoint": {"address": address}}


def test_a_replica_that_leaves_costs_no_request() -> None:
    """SIGTERM under load: the other one answers everything."""
    with ExitStack() as stack:
        valkey = stack.enter_context(EmbeddedValkey(port=servers.free_port()))
        ports = [servers.free_port() for _ in range(2)]
        gateways = [Gateway(valkey.url, grpc_listen=f"127.0.0.1:{port}") for port in ports]
        programs = [stack.enter_context(gateway.running()) for gateway in gateways]
        application, listen = servers.free_port(), servers.free_port()
        stack.enter_context(servers.start_python("tests.e2e.application", application))
        until(lambda: all(gateway.ready() == 200 for gateway in gateways), "ready")
        token = gateways[1].sign_in()["token"]
        stack.enter_context(servers.start_envoy(with_replicas(listen, application, ports)))
        statuses: Counter[int] = Counter()
        stopping = threading.Event()

        def visit() -> None:
            while not stopping.is_set():
                statuses[Client(listen).get("/x", cookie(token)).status] += 1

        until(lambda: Client(listen).get("/x", cookie(token)).from_application, "answering")
        visitors = [threading.Thread(target=visit) for _ in range(VISITORS)]
        for visitor in visitors:
            visitor.start()
        time.sleep(0.3)
        os.kill(programs[0].pid, signal.SIGTERM)
        until(lambda: not programs[0].running, "the replica has left")
        time.sleep(0.3)
        stopping.set()
        for visitor in visitors:
            visitor.join()
    assert set(statuses) == {200}
    assert statuses[200] > 50
