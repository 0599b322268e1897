"""The gateway and the proxies are those of the end-to-end tests; the application is our own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import servers
from tests.e2e.conftest import proxy, stack

__all__ = ["proxy", "stack", "upstream"]


@pytest.fixture(scope="session")
def upstream() -> Iterator[int]:
    """The port of the application that tells what it saw."""
    port = servers.free_port()
    with servers.start_check_upstream(port):
        yield port
