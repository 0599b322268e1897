"""A client that sends exactly the bytes a test wants sent: libraries tidy up what attackers do not.

Nothing here normalises a path, merges a header or follows a redirect.
"""

from __future__ import annotations

import http
import http.client
import json
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

HOST = "app.example.com"
TIMEOUT_S = 10.0
RETRY_S = 1.0  # as Retry-After says
Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Seen:
    """A request as the application received it."""

    method: str
    raw_path: str
    headers: list[tuple[str, str]]
    cookies: list[str]
    body_length: int
    body_sha256: str

    def values(self, name: str) -> list[str]:
        """Return every value of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def identity(self, name: str) -> str:
        """Return the one value of an identity header; a missing one counts as empty."""
        values = self.values(f"X-Auth-{name}")
        assert len(values) <= 1, f"X-Auth-{name} arrived {len(values)} times"
        return values[0] if values else ""


@dataclass(frozen=True)
class Reply:
    """What the client got."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header's only value, or None."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} was answered {len(values)} times"
        return values[0] if values else None

    @property
    def from_application(self) -> bool:
        """Tell whether the request got through to the application."""
        return self.header("X-Application") == "yes"

    @cached_property
    def seen(self) -> Seen:
        """Return what the application received."""
        assert self.from_application, f"{self.status} came from the proxy: {self.body[:200]!r}"
        members = json.loads(self.body)
        members["headers"] = [(name, value) for name, value in members["headers"]]
        return Seen(**members)


@dataclass(frozen=True)
class Client:
    """A visitor of one proxy; every request has a connection of its own.

    `patience` says how often to ask again where the gateway was in doubt (503 with Retry-After):
    on a busy machine it answers too late now and then. Nothing has reached the application then.
    """

    port: int
    patience: int = 0

    def get(self, target: str, *headers: tuple[str, str], host: str = HOST) -> Reply:
        """Send a GET."""
        return self.send("GET", target, headers, host=host)

    def send(
        self, method: str, target: str, headers: Headers = (), body: bytes = b"", host: str = HOST
    ) -> Reply:
        """Send a request line and headers as they are given."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return self.send_raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body, method)

    def send_raw(self, request: bytes, method: str = "GET") -> Reply:
        """Send these bytes and read one response."""
        for _ in range(self.patience):
            reply = self._send_once(request, method)
            if reply.status != http.HTTPStatus.SERVICE_UNAVAILABLE or reply.from_application:
                return reply
            time.sleep(RETRY_S)
        return self._send_once(request, method)

    def _send_once(self, request: bytes, method: str) -> Reply:
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S) as connection:
            connection.sendall(request)
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            reply = Reply(response.status, response.getheaders(), response.read())
            response.close()
        return reply


def cookie(token: str, name: str = "__Host-sid") -> tuple[str, str]:
    """Return the header a signed-in browser sends."""
    return ("Cookie", f"{name}={token}")


PAGE = ("Accept", "text/html,application/xhtml+xml")
SCRIPT = ("Sec-Fetch-Mode", "cors")
