"""Starts the gateway as an operator would, and asks as proxies and back ends would."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import servers

HOST = "app.example.com"
ADMIN_TOKEN = "gwa_the-admin-token"
_DIGEST = hashlib.sha256(ADMIN_TOKEN.encode()).hexdigest()
_COMMON = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}

# What each adapter answers when Redis cannot say.
IN_DOUBT = {"auth_request": 403, "ingress": 403, "forward_auth": 503, "ext_authz": 403}


def question(adapter: str, target: str = "/x") -> tuple[str, dict[str, str]]:
    """Return path and headers with which this adapter is asked about a GET."""
    if adapter == "auth_request":
        own = {"Host": HOST, "X-Original-Method": "GET", "X-Original-URI": target}
        return "/check/auth_request", _COMMON | own
    if adapter == "ingress":
        url = f"https://{HOST}{target}"
        own = {"X-Original-Method": "GET", "X-Original-URL": url, "X-Real-IP": "203.0.113.7"}
        return "/check/ingress", own
    if adapter == "forward_auth":
        own = {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": target, "X-Forwarded-Host": HOST}
        return "/check/forward_auth", _COMMON | own
    return f"/check/ext_authz{target}", _COMMON | {"Host": HOST}


@dataclass(frozen=True)
class Answer:
    """What the gateway said, and how long it took."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    took_ms: float = 0.0

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Gateway:
    """A process, its ports and its configuration."""

    redis_url: str = ""
    more: str = ""
    check_port: int = field(default_factory=servers.free_port)
    admin_port: int = field(default_factory=servers.free_port)
    check_listen: str = ""
    grpc_listen: str = ""
    workers: int = 1

    def config(self) -> str:
        """Return the TOML."""
        listen = self.check_listen or f"127.0.0.1:{self.check_port}"
        return f"""
[check]
listen = ["{listen}"]
grpc_listen = {[self.grpc_listen] if self.grpc_listen else []}
drain = "300ms"
workers = {self.workers}
[admin]
listen = ["127.0.0.1:{self.admin_port}"]
[[admin.tokens]]
name = "test"
sha256 = "{_DIGEST}"
scopes = ["sessions:read", "sessions:write", "events:read", "metrics"]
[redis]
url = "{self.redis_url}"
[[policy.rules]]
path = "/public/**"
access = "public"
[[policy.rules]]
path = "/**"
access = "session"
{self.more}
"""

    @contextmanager
    def running(self, env: dict[str, str] | None = None) -> Iterator[servers.Program]:
        """Run it until the end of the block; it need not be ready, only alive."""
        folder = Path(tempfile.mkdtemp(prefix="gateway-service-"))
        (folder / "gateway.toml").write_text(self.config())
        command = serve_command(folder / "gateway.toml")
        with servers.Program(
            "gateway",
            command,
            folder,
            lambda: servers.answers(self.admin_port, "/healthz"),
            {**ENV, **(env or {})},
        ) as program:
            yield program

    def ready(self) -> int:
        """Return the status of /readyz."""
        return self.admin("GET", "/readyz").status

    def admin(self, method: str, path: str, body: object = None) -> Answer:
        """Call the admin API."""
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"}
        text = None if body is None else json.dumps(body)
        return ask(self.admin_port, method, path, headers, text)

    def sign_in(self, user: str = "alice") -> Any:
        """Create a session."""
        answer = self.admin("POST", "/v1/sessions", {"user": user})
        assert answer.status == 201, answer.body
        return answer.json

    def check(self, token: str, adapter: str = "auth_request", target: str = "/x") -> Answer:
        """Ask whether a request with this cookie may pass."""
        path, headers = question(adapter, target)
        return ask(self.check_port, "GET", path, headers | {"Cookie": f"__Host-sid={token}"})


ENV = {"PYTHONPATH": str(servers.ROOT)}


def serve_command(config: Path) -> list[str]:
    return [sys.executable, "-m", "gateway", "serve", "--config", str(config)]


def ask(
    port: int, method: str, path: str, headers: dict[str, str], body: str | None = None
) -> Answer:
    """Make one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        started = time.perf_counter()
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        took_ms = (time.perf_counter() - started) * 1000
        return Answer(response.status, response.headers, content, took_ms)
    finally:
        connection.close()


def run_serve(
    config: str, folder: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a gateway that is expected to end by itself."""
    path = folder / "gateway.toml"
    path.write_text(config)
    environment = {**os.environ, **ENV, **(env or {})}
    words = ("serve", "--config", str(path))
    return servers.run_gateway(*words, env=environment, folder=folder, timeout_s=20)


def redis_command(port: int, *commands: str) -> None:
    """Give Redis commands that it answers with OK, on one connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as redis:
        for command in commands:
            redis.sendall(f"{command}\r\n".encode())
            assert redis.recv(100) == b"+OK\r\n"


def until(condition: Callable[[], bool], what: str, within_s: float = 8.0) -> None:
    """Return as soon as it holds; fail when it takes too long."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)


def log_of(program: servers.Program) -> str:
    return program.log_path.read_text(errors="surrogateescape")


def log_lines(text: str) -> list[dict[str, Any]]:
    """Return the log; every line of it is a JSON object."""
    return [json.loads(line) for line in text.splitlines()]
