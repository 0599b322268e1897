"""`python -m bench.filled COUNT`: remember so many sessions in this process, and check them.

The records are what sign-ins write; what is remembered of them, and the connection that checks
them, are the gateway's own. Only the sockets are left out: bytes go in, bytes come out.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import json
import os
import random
import sys
import time
from typing import Any

from gateway.adapters.connection import CheckServer
from gateway.adapters.listener import CheckListener
from gateway.adapters.wire import Trusted, Wording
from gateway.authorizer import Authorizer
from gateway.credentials import digest_of_user, key_of_token, partition_of_user
from gateway.devices import device_of
from gateway.identity import standing_of
from gateway.model import Session
from gateway.policy import Policy
from gateway.rules import Access, RuleSpec
from gateway.store import records
from gateway.store.near_cache import NearCache
from gateway.telemetry import CheckObserver, Metrics
from gateway.touches import Touches

from . import gateways
from .accounting import resident_bytes
from .sessions import PARTITIONS, login

_CHECKS = 30_000
_HOUR_MS = 3_600_000


class _Store:
    """A store of which only the memory is there: whoever asks for more fails."""

    def __init__(self, near: NearCache) -> None:
        self.recall = near.recall


class _Transport:
    """A connection whose answers go nowhere."""

    def __init__(self) -> None:
        self.allowed = 0

    def write(self, data: bytes) -> None:
        self.allowed += data.startswith(b"HTTP/1.1 200")

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": ("127.0.0.1", 1)}.get(name, default)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is open."""


def _token(number: int) -> str:
    """Return a user's token: made from the number, so that none needs to be kept here."""
    return partition_of_user(login(number).user, PARTITIONS) + f"{number:043}"


def _remember(near: NearCache, number: int) -> None:
    """Sign a user in, as the store does, and remember the record."""
    who, now = login(number), near.now_ms()
    key = key_of_token(_token(number), PARTITIONS)
    assert key is not None
    device = device_of(who.device_id, who.client.user_agent)
    rest = records.rest_of_login(key, digest_of_user(who.user), who, device, 4 * _HOUR_MS)
    record = b"[%d,%d,0," % (now, now + 720 * _HOUR_MS) + rest
    session = records.parse(key, record, float(now + 4 * _HOUR_MS))
    assert isinstance(session, Session)
    near.keep(standing_of(session))


def _server(near: NearCache) -> CheckServer:
    store: Any = _Store(near)
    specs = [RuleSpec(Access.SESSION, path=f"/section{n}/**", roles=("staff",)) for n in range(19)]
    authorizer = Authorizer(
        Policy([*specs, RuleSpec(Access.SESSION)]), store, cookie_name="__Host-sid",
        partitions=PARTITIONS, stand=standing_of, on_activity=Touches(store, 60_000).note,
    )  # fmt: skip
    observe = CheckObserver(Metrics(), log_denials=False)
    listener = CheckListener(
        authorizer,
        Wording(),
        Trusted((ipaddress.ip_network("127.0.0.0/8"),)),
        observe=observe,
        on_fault=print,
    )
    return CheckServer(listener)


async def check_us(near: NearCache) -> float:
    """Return the CPU time of a check, in microseconds, over sessions at random."""
    connection, transport = _server(near)(), _Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    asked = random.Random(1).choices(range(len(near)), k=_CHECKS)
    requests = [gateways.request(gateways.cookie(_token(number))) for number in asked]
    for request in requests[: _CHECKS // 10]:
        connection.data_received(request)
    transport.allowed, began = 0, time.process_time()
    for request in requests:
        connection.data_received(request)
    spent = time.process_time() - began
    assert transport.allowed == _CHECKS, "not every check was answered from memory"
    connection.connection_lost(None)
    return spent / _CHECKS * 1e6


def main() -> None:
    """Print one line of JSON."""
    count = int(sys.argv[1])
    near = NearCache(lease_ms=60_000_000, max_entries=count, max_bytes=1 << 40)
    now = near.now_ms()
    near.extend_lease(now, now)
    gc.collect()
    before = resident_bytes(os.getpid())
    for number in range(count):
        _remember(near, number)
    gc.collect()
    resident = (resident_bytes(os.getpid()) - before) // count
    checked = asyncio.run(check_us(near))
    print(json.dumps({"resident": resident, "counted": near.bytes // count, "check_us": checked}))


if __name__ == "__main__":
    main()
