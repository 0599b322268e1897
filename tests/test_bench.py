"""The benchmark runs, and what it says is what it measured. Its figures are nobody's property."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from bench import gateways, through_nginx
from bench.accounting import cpu_seconds
from tests import servers

TINY = ["--rounds", "1", "--checks", "64", "--connections", "2", "--revocations", "3"]


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "bench", *TINY, *arguments]
    done = subprocess.run(command, cwd=servers.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("only", "row"),
    [
        ("gateway, no cookie", "| gateway, no cookie |"),
        ("revocation", "Checks that began after a receipt and were allowed: 0."),
    ],
)
def test_a_part_can_be_measured_alone(only: str, row: str) -> None:
    """One short round of real processes."""
    assert row in run("--only", only)


def test_the_gateway_is_asked_what_nginx_asks_it() -> None:
    """Every row of the first table answers the subrequest of the shipped configuration."""
    port = servers.free_port()
    with socket.create_server(("127.0.0.1", 0)) as gateway:
        gateway.settimeout(5)
        conf = servers.nginx_conf(listen=port, gateway=gateway.getsockname()[1], application=port)
        with servers.start_nginx(conf), socket.create_connection(("127.0.0.1", port)) as browser:
            browser.sendall(through_nginx.request("token"))
            asking, _ = gateway.accept()
            with asking:
                assert asking.recv(65536) == gateways.request(gateways.cookie("token"))


def test_children_count_as_the_process_that_has_them() -> None:
    """A gateway with workers spends its CPU time there."""
    spin = "import time\nwhile time.process_time() < 0.2: pass"
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {spin!r} + '\\ninput()'], stdin=-1)\n"
        "import time; time.sleep(0.8); print(flush=True); input(); child.kill()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        counted = cpu_seconds(process.pid)
        process.communicate(b"\n")
    assert counted >= 0.2
    assert cpu_seconds(os.getpid()) > 0
