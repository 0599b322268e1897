"""`python -m bench`: every contestant in turn, several rounds, medians.

CPU per check comes from the accounting of the process that answers, so a noisy neighbour moves
it less than throughput. Compare ratios within one run; absolute figures belong to one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from gateway.embedded import EmbeddedValkey

from .load import Measured, drive

SESSIONS = 200
ADMIN_TOKEN = "bench"
IDENTITY = {"email": "alice@example.com", "name": "Alice Example", "roles": ["user", "staff"]}


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server that answers checks, and the requests that it is asked."""

    name: str
    pid: int
    port: int
    requests: list[bytes]
    expect: bytes


def main() -> None:
    """Run and print the table."""
    options = _options()
    with contextlib.ExitStack() as stack:
        valkey = stack.enter_context(EmbeddedValkey())
        contestants = [*_baselines(stack, valkey.url), *_gateway(stack, valkey.url)]
        rounds = _run(contestants, options)
    print(_table(contestants, rounds, options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--checks", type=int, default=8000, help="a round and contestant")
    parser.add_argument("--connections", type=int, default=16)
    return parser.parse_args()


def _run(contestants: list[Contestant], options: argparse.Namespace) -> dict[str, list[Measured]]:
    """Interleave: a machine that changes its speed changes it for everybody."""
    rounds: dict[str, list[Measured]] = {each.name: [] for each in contestants}
    for _ in range(options.rounds + 1):
        for each in contestants:
            rounds[each.name].append(
                asyncio.run(
                    drive(each.pid, each.port, each.requests, total=options.checks,
                          connections=options.connections, expect=each.expect)
                )
            )  # fmt: skip
    return {name: measured[1:] for name, measured in rounds.items()}  # the first warms up


def _baselines(stack: contextlib.ExitStack, redis_url: str) -> list[Contestant]:
    tokens = [f"naive{number:03}" for number in range(SESSIONS)]
    client = redis.Redis.from_url(redis_url)
    for token in tokens:
        client.set(f"naive:{token}", json.dumps({"user": "alice", **IDENTITY}), ex=3600)
    client.close()
    found = []
    for name in ("bare", "naive"):
        port = _free_port()
        pid = _start(stack, ["-m", "bench.baselines", name, str(port), redis_url])
        _await_port(port)
        requests = [_request(f"sid={token}") for token in tokens]
        found.append(Contestant(_TITLES[name], pid, port, requests, b"HTTP/1.1 200"))
    return found


_TITLES = {"bare": "bare aiohttp handler", "naive": "naive aiohttp + redis-py"}


def _gateway(stack: contextlib.ExitStack, redis_url: str) -> list[Contestant]:
    found = []
    for title, block_uvloop in (("gateway", False), ("gateway, without uvloop", True)):
        port, admin = _free_port(), _free_port()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = folder / "gateway.toml"
        config.write_text(_config(port, admin, redis_url))
        pid = _start(stack, ["-m", "gateway", "serve", "--config", str(config)],
                     block_uvloop=block_uvloop)  # fmt: skip
        _await_ready(admin)
        requests = [_request(f"theme=dark; __Host-sid={token}") for token in _sign_in(admin)]
        found.append(Contestant(title, pid, port, requests, b"HTTP/1.1 200"))
        if not block_uvloop:
            unknown = _request("__Host-sid=00" + "A" * 43)
            found += [
                Contestant("gateway, unknown session", pid, port, [unknown], b"HTTP/1.1 401"),
                Contestant("gateway, no cookie", pid, port, [_request("a=b")], b"HTTP/1.1 401"),
            ]
    return found


def _config(port: int, admin: int, redis_url: str) -> str:
    """Twenty rules of which the last decides: the worst place for it."""
    rules = "".join(
        f'[[policy.rules]]\npath = "/section{number}/**"\naccess = "session"\nroles = ["staff"]\n'
        for number in range(19)
    )
    sha256 = hashlib.sha256(ADMIN_TOKEN.encode()).hexdigest()
    return (
        f'[check]\nlisten = ["127.0.0.1:{port}"]\n[admin]\nlisten = ["127.0.0.1:{admin}"]\n'
        f'tokens = [{{ name = "bench", sha256 = "{sha256}", scopes = ["sessions:write"] }}]\n'
        f'[redis]\nurl = "{redis_url}"\n[log]\ndenials = false\n'
        f'{rules}[[policy.rules]]\naccess = "session"\n'
    )


def _sign_in(admin: int) -> list[str]:
    tokens = []
    for number in range(SESSIONS):
        body = json.dumps({"user": f"user{number}", **IDENTITY}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{admin}/v1/sessions",
            data=body,
            headers={
                "Authorization": f"Bearer {ADMIN_TOKEN}",
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            tokens.append(json.load(answer)["token"])
    return tokens


def _request(cookie: str) -> bytes:
    return (
        "GET /check/auth_request HTTP/1.1\r\nHost: app.example.com\r\n"
        "X-Original-Method: GET\r\nX-Original-URI: /reports/2026?page=2\r\n"
        "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n"
        "User-Agent: Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Chrome/120.0 Safari/537.36\r\n"
        f"Accept: text/html\r\nAccept-Language: en\r\nCookie: {cookie}\r\n\r\n"
    ).encode()


def _start(stack: contextlib.ExitStack, arguments: list[str], *, block_uvloop: bool = False) -> int:
    environment = dict(os.environ)
    if block_uvloop:  # a module of this name that cannot be imported
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "uvloop.py").write_text("raise ImportError\n")
        environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(Path.cwd())])
    process = subprocess.Popen(
        [sys.executable, *arguments], stderr=subprocess.DEVNULL, env=environment
    )

    def stop() -> None:
        process.terminate()
        process.wait(timeout=10)

    stack.callback(stop)
    return process.pid


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _poll() -> Iterator[None]:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        yield
        time.sleep(0.05)
    raise TimeoutError("a server did not start")


def _await_port(port: int) -> None:
    for _ in _poll():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return


def _await_ready(admin: int) -> None:
    for _ in _poll():
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=1).close()
            return


def _table(
    contestants: list[Contestant],
    rounds: dict[str, list[Measured]],
    options: argparse.Namespace,
) -> str:
    bare = statistics.median(each.cpu_us for each in rounds[_TITLES["bare"]])
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    effort = (
        f"{options.rounds} rounds of {options.checks} checks, {options.connections} connections"
    )
    lines = [
        f"{machine}; {effort}, medians",
        "",
        "| | CPU per check, us | to bare aiohttp | checks/s | p50, ms | p99, ms |",
        "|---|---|---|---|---|---|",
    ]
    for each in contestants:
        measured = rounds[each.name]
        cpu, rate, p50, p99 = (
            statistics.median(getattr(one, field) for one in measured)
            for field in ("cpu_us", "per_second", "p50_ms", "p99_ms")
        )
        lines.append(
            f"| {each.name} | {cpu:.0f} | {cpu / bare:.2f} | {rate:.0f} | {p50:.2f} | {p99:.2f} |"
        )
    return "\n".join(lines)


main()
