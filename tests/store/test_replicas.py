"""A receipt is complete only when nobody can allow any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import fakeredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.keys import Keys
from gateway.store.replicas import Replicas, bound_s

LEASE_MS = 200
KEYS = Keys("gw:")


class Cluster:
    """A registry with a coordinator that is one of the replicas in it."""

    def __init__(self, client: Any, *, timeout_s: float = 5.0) -> None:
        self.client = client
        self.believed = True
        self.coordinator = Replicas(
            client, KEYS, "me", lease_ms=LEASE_MS, confirm_timeout_s=timeout_s,
            believes_registry=lambda: self.believed, count_error=lambda kind: None,
        )  # fmt: skip

    async def register(self, *names: str) -> None:
        for name in names:
            await self.client.hincrby(KEYS.replicas, name, 1)

    def says(self, fence: str, replica: str) -> None:
        """Hand over what a replica publishes when it sees the fence `!me-200.<n>.<step>`."""
        coordinator, _, change = fence[1:].partition(".")
        assert coordinator == self.coordinator.name
        self.coordinator.acknowledge(f"{change}.{replica}".encode())


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    client = fakeredis.FakeAsyncRedis(version=(7,))
    yield Cluster(client)
    await client.aclose()


def soon(action: Any, *arguments: Any) -> None:
    asyncio.get_running_loop().call_later(0.02, action, *arguments)


async def test_all_confirm(cluster: Cluster) -> None:
    """With every confirmation the receipt is complete, long before the lease."""
    await cluster.register("me-200", "b-200", "c-200")
    fence = cluster.coordinator.fence()
    name = fence.next_step()
    cluster.says(name, "me-200")
    soon(cluster.says, name, "b-200")
    soon(cluster.says, name, "c-200")
    started = time.monotonic()
    assert await cluster.coordinator.confirmed(fence) == (3, 3, 0, True)
    assert time.monotonic() - started < LEASE_MS / 1000


async def test_who_does_not_confirm_costs_a_lease(cluster: Cluster) -> None:
    """Never less: so long it might still trust its memory."""
    await cluster.register("me-200", "silent-200")
    fence = cluster.coordinator.fence()
    cluster.says(fence.next_step(), "me-200")
    started = time.monotonic()
    assert await cluster.coordinator.confirmed(fence) == (2, 1, 1, True)
    assert time.monotonic() - started >= bound_s("silent-200")


async def test_the_longest_lease_of_all_counts(cluster: Cluster) -> None:
    """A replica with a longer lease than ours may trust its memory for that long."""
    await cluster.register("me-200", "slow-600")
    fence = cluster.coordinator.fence()
    cluster.says(fence.next_step(), "me-200")
    started = time.monotonic()
    assert (await cluster.coordinator.confirmed(fence)).complete
    assert time.monotonic() - started >= 0.6


async def test_only_the_last_step_counts(cluster: Cluster) -> None:
    """Who has passed the first batch of an end-all has not passed the rest."""
    await cluster.register("me-200")
    fence = cluster.coordinator.fence()
    first, last = fence.next_step(), fence.next_step()
    cluster.says(first, "me-200")
    soon(cluster.says, last, "me-200")
    waiting = asyncio.create_task(cluster.coordinator.confirmed(fence))
    await asyncio.sleep(0.005)
    assert not waiting.done()
    assert await waiting == (1, 1, 0, True)


async def test_a_later_step_brings_the_earlier_ones(cluster: Cluster) -> None:
    """Confirmations may overtake one another; the stream of a replica keeps its order."""
    await cluster.register("me-200")
    fence = cluster.coordinator.fence()
    first, last = fence.next_step(), fence.next_step()
    cluster.says(last, "me-200")
    cluster.says(first, "me-200")
    assert await cluster.coordinator.confirmed(fence) == (1, 1, 0, True)


async def test_a_short_patience_is_not_complete(cluster: Cluster) -> None:
    """The answer comes in time, and does not say what is not known."""
    impatient = Cluster(cluster.client, timeout_s=0.05)
    await impatient.register("silent-200")
    fence = impatient.coordinator.fence()
    fence.next_step()
    assert await impatient.coordinator.confirmed(fence) == (1, 0, 0, False)


async def test_a_registry_that_may_have_gaps_costs_a_lease(cluster: Cluster) -> None:
    """Everybody who is known has confirmed; who is not known may still trust its memory."""
    cluster.believed = False
    await cluster.register("me-200")
    fence = cluster.coordinator.fence()
    cluster.says(fence.next_step(), "me-200")
    started = time.monotonic()
    assert await cluster.coordinator.confirmed(fence) == (1, 1, 0, True)
    assert time.monotonic() - started >= bound_s("me-200")


async def test_a_registry_out_of_reach_costs_a_lease(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sessions have ended, and nobody can be counted: a lease later nobody allows them."""

    async def away(_: str) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(cluster.client, "hkeys", away)
    fence = cluster.coordinator.fence()
    fence.next_step()
    started = time.monotonic()
    assert await cluster.coordinator.confirmed(fence) == (0, 0, 0, True)
    assert time.monotonic() - started >= bound_s("me-200")


async def test_nothing_changed_is_confirmed_at_once(cluster: Cluster) -> None:
    """A fence that was never written waits for nobody."""
    await cluster.register("silent-200")
    fence = cluster.coordinator.fence()
    assert await cluster.coordinator.confirmed(fence) == (0, 0, 0, True)


@given(message=st.binary(max_size=40) | st.from_regex(rb"[0-9]{0,3}\.?[0-9]{0,3}\.?.{0,9}"))
def test_nonsense_on_the_channel_is_no_confirmation(message: bytes) -> None:
    """Whatever is published there, nothing fails and nobody is taken for confirmed."""
    client: Any = None
    coordinator = Cluster(client).coordinator
    fence = coordinator.fence()
    fence.next_step()
    coordinator.acknowledge(message)
    assert fence.passed_by(frozenset({"b-200"})) == frozenset()


async def test_the_dead_are_taken_out_and_the_living_stay(cluster: Cluster) -> None:
    """Only who was silent for longer than its own lease, as seen by our clock."""
    await cluster.register("dead-200", "living-200", "slow-60000")
    await cluster.coordinator.remove_silent()
    await asyncio.sleep(bound_s("dead-200") + 0.02)
    await cluster.register("living-200")
    await cluster.coordinator.remove_silent()
    assert set(await cluster.client.hkeys(KEYS.replicas)) == {b"living-200", b"slow-60000"}


async def test_nonsense_in_the_registry_breaks_no_receipt(cluster: Cluster) -> None:
    """Anybody may write to Redis; the sessions have ended, and that must be said."""
    await cluster.register("me-200", "x-" + "9" * 400, "y-" + "9" * 5000, "?", "", "z-²")
    fence = cluster.coordinator.fence()
    cluster.says(fence.next_step(), "me-200")
    assert (await cluster.coordinator.confirmed(fence)).complete
    cluster.coordinator.acknowledge(b"9" * 5000 + b".1.me-200")
    await cluster.coordinator.remove_silent()


async def test_one_look_removes_nobody(cluster: Cluster) -> None:
    """Silence takes two looks: a figure alone says nothing about when it was written."""
    await cluster.register("b-1")
    await cluster.coordinator.remove_silent()
    assert await cluster.client.hexists(KEYS.replicas, "b-1")


async def test_a_heartbeat_during_the_removal_keeps_its_replica(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removal compares once more, in Redis itself."""
    await cluster.register("b-1")
    await cluster.coordinator.remove_silent()
    await asyncio.sleep(bound_s("b-1") + 0.01)
    evaluate = cluster.client.eval

    async def after_a_beat(*arguments: Any) -> Any:
        await cluster.register("b-1")
        return await evaluate(*arguments)

    monkeypatch.setattr(cluster.client, "eval", after_a_beat)
    await cluster.coordinator.remove_silent()
    assert await cluster.client.hexists(KEYS.replicas, "b-1")


async def test_leaving_needs_no_wait_of_others(cluster: Cluster) -> None:
    """A replica that stops takes itself out."""
    await cluster.register("me-200", "b-200")
    await cluster.coordinator.leave()
    assert await cluster.client.hkeys(KEYS.replicas) == [b"b-200"]
