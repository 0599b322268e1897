"""Posts events to one receiver, one after the other, and leaves it alone while it fails."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus

import aiohttp

from .. import __version__
from ..errors import SinkUnavailable
from ..model import Event
from .addresses import Network, guarded_socket
from .payload import body_of
from .signature import signatures

# What a receiver says of the event itself. All else may pass, a wrong address or token too.
_OF_THE_EVENT = frozenset({
    HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HTTPStatus.UNPROCESSABLE_ENTITY,
})  # fmt: skip
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0
_LONGEST_ASKED_S = 600.0
_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """One receiver, in plain values."""

    name: str
    url: str
    keys: tuple[bytes, ...] = field(repr=False)
    types: frozenset[str]  # empty: all
    allowed: tuple[Network, ...]  # besides public addresses
    timeout_s: float  # of one delivery
    turn_s: float  # after which `take` comes back with what it has done
    give_up_s: float  # how long an event is tried; an older one that fails is a dead letter


def name_of(webhook: str) -> str:
    """Return the name of the sink, which is that of its consumer group."""
    return f"webhook:{webhook}"


class Rejected(Exception):
    """The receiver does not want this event."""


class WebhookSink:
    """See `ports.Sink`. Several partitions share the pause after a failure: one tries, not all."""

    def __init__(self, options: WebhookOptions, now_s: Callable[[], float] = time.time) -> None:
        self.name = name_of(options.name)
        self._options = options
        self._now_s = now_s
        self._client: aiohttp.ClientSession | None = None
        self._pause_s = 0.0
        self._closed_until = 0.0

    async def take(self, partition: str, events: Sequence[Event]) -> int:  # noqa: ARG002
        began = time.monotonic()
        for number, event in enumerate(events):
            try:
                if not self._options.types or event.type in self._options.types:
                    await self._deliver(event)
            except (SinkUnavailable, Rejected):
                if number == 0:
                    raise
                return number
            if time.monotonic() - began > self._options.turn_s:
                return number + 1
        return len(events)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _deliver(self, event: Event) -> None:
        """Return when the receiver has it."""
        left_s = self._closed_until - time.monotonic()
        if left_s > 0:
            raise SinkUnavailable("receiver", "it failed a moment ago", pause_s=left_s)
        began_s, asked_s, why = time.monotonic(), 0.0, ""
        body = body_of(event)  # here: no receiver is to blame for an event that cannot be told
        try:
            status, asked_s = await self._post(str(event.id), body)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            why = _cause(error)
        else:
            if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                self._pause_s = 0.0
                return
            why = f"answered {status}"
            if status in _OF_THE_EVENT:
                raise Rejected(why)
        pause_s, give_up_s = self._back_off(began_s, asked_s), self._options.give_up_s
        raise SinkUnavailable("receiver", why, pause_s=pause_s, give_up_s=give_up_s)

    async def _post(self, webhook_id: str, body: bytes) -> tuple[int, float]:
        """Return the status, and for how many seconds it wants to be left alone."""
        headers = self._headers(webhook_id, int(self._now_s()), body)
        async with self._opened().post(
            self._options.url, data=body, headers=headers, allow_redirects=False
        ) as response:
            return response.status, _seconds(response.headers.get("Retry-After", ""))

    def _headers(self, webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "User-Agent": f"session-gateway/{__version__}",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signatures(self._options.keys, webhook_id, timestamp, body),
        }

    def _back_off(self, began_s: float, asked_s: float) -> float:
        """Leave the receiver alone for ever longer, at least as long as it asked for.

        What was under way when another delivery failed tells nothing new: it makes it no longer.
        """
        now_s = time.monotonic()
        pause_s = max(0.0, self._closed_until - now_s, min(asked_s, _LONGEST_ASKED_S))
        if began_s >= self._closed_until:
            self._pause_s = min(max(_FIRST_PAUSE_S, 2 * self._pause_s), _LONGEST_PAUSE_S)
            pause_s = max(pause_s, self._pause_s * random.uniform(0.75, 1.0))  # noqa: S311
        self._closed_until = max(self._closed_until, now_s + pause_s)
        return pause_s

    def _opened(self) -> aiohttp.ClientSession:
        if self._client is None:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    socket_factory=partial(guarded_socket, allowed=self._options.allowed),
                    use_dns_cache=False,
                    limit=_CONNECTIONS,
                ),
                # Or deadlines above 5 s would be rounded up to whole seconds, beyond the relay's.
                timeout=aiohttp.ClientTimeout(self._options.timeout_s, ceil_threshold=math.inf),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # a proxy would resolve the name again
            )
        return self._client


def _cause(error: Exception) -> str:
    """Return what may be told: other texts hold the URL, a secret, or what the receiver sent."""
    is_plain = isinstance(error, aiohttp.ClientConnectorError)  # a host, a port, a reason
    return str(error) if is_plain else type(error).__name__


def _seconds(retry_after: str) -> float:
    """Return the delay of Retry-After; a date, which few send, counts as none."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
