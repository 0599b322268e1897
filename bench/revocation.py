"""The fourth table: how long a session outlives its end, on three replicas under load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.credentials import key_of_token
from gateway.embedded import EmbeddedValkey
from tests import servers

from . import gateways
from .load import Client, Crowd, Target, fast_loop, insist
from .options import Options
from .sessions import PARTITIONS, sign_in
from .tables import percentile_ms, table

_REPLICAS = 3
_LIVING = 100  # sessions that the load asks about
_PACE = 500  # checks a second and replica, beside those of the watchers
_HEAD_START_S = 0.003  # for the watchers


@dataclass(frozen=True, slots=True)
class Replica:
    check: int
    admin: int


@dataclass(frozen=True, slots=True)
class Revoked:
    """One revocation: instants in seconds."""

    asked: float
    answered: float
    refused: float  # the first refusal of the last replica
    allowed: int  # checks that began after the answer and were allowed


def measure(options: Options) -> str:
    """Return how long receipts and refusals took, and how many checks a receipt came too early for.

    Watchers ask every replica about the session without a pause until it refuses.
    """
    with contextlib.ExitStack() as stack:
        valkey = stack.enter_context(EmbeddedValkey())
        tokens = sign_in(valkey.url, options.revocations)
        living = sign_in(valkey.url, _LIVING)
        replicas = [_start(stack, valkey.url) for _ in range(_REPLICAS)]
        stack.enter_context(_load([each.check for each in replicas], living))
        with asyncio.Runner(loop_factory=fast_loop()) as runner:
            return _table(runner.run(_revoke_all(replicas, tokens)))


def _start(stack: contextlib.ExitStack, redis_url: str) -> Replica:
    check, admin = servers.free_port(), servers.free_port()
    config = gateways.config(f"127.0.0.1:{check}", admin, redis_url)
    stack.enter_context(servers.start_gateway(config))
    return Replica(check, admin)


@contextlib.contextmanager
def _load(ports: Sequence[int], tokens: Sequence[str]) -> Iterator[None]:
    """Have every replica answer checks of other sessions until the end of the block."""
    stopping = threading.Event()
    requests = [gateways.request(gateways.cookie(token)) for token in tokens]

    def ask(crowd: Crowd) -> None:
        while not stopping.is_set():
            crowd.pace(_PACE, 0.5)

    with contextlib.ExitStack() as stack:
        crowds = [stack.enter_context(Crowd(processes=1)) for _ in ports]
        for crowd, port in zip(crowds, ports, strict=True):
            crowd.meet(Target(port, requests, b"HTTP/1.1 200"), 4)
        threads = [threading.Thread(target=ask, args=(crowd,)) for crowd in crowds]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(stopping.set)
        yield


async def _revoke_all(replicas: Sequence[Replica], tokens: Sequence[str]) -> list[Revoked | None]:
    checkers = [await Client.connect(each.check) for each in replicas]
    back_ends = [await Client.connect(each.admin) for each in replicas]
    return [
        await _revoke(token, checkers, back_ends[number % len(back_ends)])
        for number, token in enumerate(tokens)
    ]


async def _revoke(token: str, checkers: Sequence[Client], back_end: Client) -> Revoked | None:
    """Return None if the answer is no complete receipt: Redis or a replica was too slow."""
    check = gateways.request(gateways.cookie(token))
    for checker in checkers:
        await insist(checker, check, b"HTTP/1.1 200")
    watching = [asyncio.create_task(_watch(checker, check)) for checker in checkers]
    await asyncio.sleep(_HEAD_START_S)
    asked = time.perf_counter()
    receipt = await back_end.ask(_delete(token))
    answered = time.perf_counter()
    if json.loads(receipt.partition(b"\r\n\r\n")[2]).get("complete") is not True:
        await insist(back_end, _delete(token), b"HTTP/1.1 404")
        await asyncio.gather(*watching)
        return None
    watched = await asyncio.gather(*watching)
    allowed = sum(began > answered for allowances, _ in watched for began in allowances)
    return Revoked(asked, answered, max(refused for _, refused in watched), allowed)


async def _watch(checker: Client, check: bytes) -> tuple[list[float], float]:
    """Ask until it is refused; return when allowed checks began, and when the refusal came."""
    allowances: list[float] = []
    while True:
        began = time.perf_counter()
        answer = await checker.ask(check)
        if not answer.startswith(b"HTTP/1.1 200"):
            return allowances, time.perf_counter()
        allowances.append(began)


def _delete(token: str) -> bytes:
    key = key_of_token(token, PARTITIONS)
    assert key is not None
    return (
        f"DELETE /v1/sessions/{key.id} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {gateways.ADMIN_TOKEN}\r\n\r\n"
    ).encode()


def _table(every: Sequence[Revoked | None]) -> str:
    revoked = [one for one in every if one is not None]
    spans = {
        "from the request to the receipt": [one.answered - one.asked for one in revoked],
        f"from the request to the first refusal of the last of {_REPLICAS} replicas":
            [one.refused - one.asked for one in revoked],
        "from the receipt to that refusal (below 0: it came first)":
            [one.refused - one.answered for one in revoked],
    }  # fmt: skip
    rows = [
        [name, *(f"{percentile_ms(seconds, percent):.2f}" for percent in (50, 99))]
        for name, seconds in spans.items()
    ]
    allowed = sum(one.allowed for one in revoked)
    return table([f"{len(revoked)} revocations", "p50, ms", "p99, ms"], rows) + (
        f"\n\nChecks that began after a receipt and were allowed: {allowed}."
        f"\n\nRevocations without a complete receipt: {len(every) - len(revoked)}."
    )
