"""One HTTP call from a command, with the standard library: commands start fast."""

from __future__ import annotations

import http.client
import re
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from .errors import ConfigurationError

TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Answered:
    """A status and a body."""

    status: int
    body: bytes


def call(method: str, url: str, token: str) -> Answered:
    """Make one authenticated call; raises ConfigurationError if nobody answers."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"GW_ADMIN_URL: {url} is not an http(s) address") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"GW_ADMIN_URL: {url} is not an http(s) address")
    if not re.fullmatch(r"[!-~]+", token):
        raise ConfigurationError("GW_ADMIN_TOKEN holds what no token holds")
    connection = _connection(parts.scheme, host, port)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return Answered(response.status, response.read())
    except (OSError, http.client.HTTPException) as error:
        raise ConfigurationError(f"{parts.netloc} does not answer: {error}") from None
    finally:
        connection.close()


def _connection(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
