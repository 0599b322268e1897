"""One HTTP call from a command, with the standard library: commands start fast."""

from __future__ import annotations

import http.client
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
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"GW_ADMIN_URL: {url} is not an http(s) address")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return Answered(response.status, response.read())
    except OSError as error:
        raise ConfigurationError(f"{parts.netloc} does not answer: {error}") from None
    finally:
        connection.close()
