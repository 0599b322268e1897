"""Orders of store operations that nobody has tried yet."""

from __future__ import annotations

import pytest

from gateway.embedded import EmbeddedValkey
from tests.store.test_machine import explore
from tests.store.test_stream import STEPS
from tests.store.test_stream import explore as stream_orders

pytestmark = pytest.mark.soak


def test_new_orders_on_the_fake() -> None:
    """No order of operations breaks the limit, brings back what ended or leaves something over."""
    assert explore(None, examples=500, steps=40, derandomize=False) == 0


def test_new_orders_on_a_real_server() -> None:
    """The same, where the commands are the real ones."""
    with EmbeddedValkey() as valkey:
        assert explore(valkey.url, examples=250, steps=40, derandomize=False) == 0


async def test_more_orders_of_a_stream() -> None:
    """An ended or changed session is never recalled after it was told of, or after a lease."""
    assert await stream_orders(6) == len(STEPS) ** 6
