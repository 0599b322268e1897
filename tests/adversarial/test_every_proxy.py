"""No known bypass works behind a shipped configuration."""

from __future__ import annotations

from gateway.conformance.cases import CASES
from tests.e2e.stack import Stack

from .running import red, run_all, start
from .user_data import USERS


def test_no_known_bypass_works(proxy: str, stack: Stack, upstream: int) -> None:
    """All cases through one proxy at once; each is named after its class of advisory."""
    program, port = start(proxy, stack, upstream)
    with program:
        results = run_all(port, stack.back_end)
    assert len(results) == len(CASES) + len(USERS)
    assert red(results) == []
