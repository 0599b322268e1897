"""Webhooks beside Redis: what the relay, its connections and the receivers grant one another."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from aiohttp.helpers import calculate_timeout_when

from gateway import delivery as delivery_module
from gateway.config import Settings
from gateway.embedded import EmbeddedValkey
from gateway.telemetry import Metrics
from tests import servers

from .test_sink import Receiver, posting


def settings(count: int = 1, *, timeout: str = "3s", **events: str) -> Settings:
    hook = {"url": "https://siem.example.com/", "secrets": ["whsec_" + "a2V5" * 8]}
    hooks = [{"name": f"siem-{number}", "timeout": timeout, **hook} for number in range(count)]
    values = {"events": {"webhooks": hooks, **events}, "redis": {"partitions": 256}}
    return Settings.model_validate(values)


@pytest.mark.parametrize(
    ("timeout", "takeover"), [("3s", "10s"), ("4499ms", "10s"), ("6s", "20s"), ("149s", "5m")]
)
def test_a_turn_and_its_last_delivery_end_before_the_relay_ends_them(
    timeout: str, takeover: str
) -> None:
    """Or all of a turn comes again and again."""
    events = settings(timeout=timeout, takeover=takeover).events
    [options] = delivery_module._webhooks(events)
    last_s = max(options.turn_s, 0.0) + options.timeout_s
    assert last_s + 0.5 < events.takeover / 2000


async def test_the_deadline_of_a_delivery_is_not_rounded_up() -> None:
    async with posting(Receiver(), timeout_s=5.2) as sink:
        timeout = sink._opened().timeout
        assert timeout.total is not None
        deadline = calculate_timeout_when(100.0, timeout.total, timeout.ceil_threshold)
    assert deadline == pytest.approx(105.2)


async def test_with_most_partitions_and_many_webhooks_nothing_waits_for_a_connection() -> None:
    metrics, opened = Metrics(), asyncio.Event()
    opened.set()
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        delivery = delivery_module.Delivery(settings(4), valkey.url, metrics)
        task = asyncio.create_task(delivery.run(opened))
        await asyncio.sleep(2)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await delivery.close()
    assert metrics.store_errors["connection"] == 0  # what redis-py says where none is free
