"""Reads who sends a request, beside what each adapter reads; only where sessions are bound to it.

The headers are the client's own in every family: all proxies hand them on as they came.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from multidict import istr

from ..decision import Reason
from ..model import Caller, CheckRequest, Narrowing
from .wire import Adapter, Subrequest, Trusted

USER_AGENT = istr("User-Agent")
ACCEPT_LANGUAGE = istr("Accept-Language")
ACCEPT_ENCODING = istr("Accept-Encoding")

Holding = Callable[[Adapter], Adapter]


def as_it_is(adapter: Adapter) -> Adapter:
    """Hold no session to its caller."""
    return adapter


def holding(hold: Callable[[Caller], Narrowing]) -> Holding:
    """Return how to make an adapter that holds the session of each request to its caller."""

    def held(adapter: Adapter) -> Adapter:
        read = adapter.read

        def read_with_caller(subrequest: Subrequest, trusted: Trusted) -> CheckRequest | Reason:
            asked = read(subrequest, trusted)
            if isinstance(asked, Reason):
                return asked
            header = subrequest.headers.get
            caller = Caller.of(
                asked.address, header(USER_AGENT, ""), header(ACCEPT_LANGUAGE, ""),
                header(ACCEPT_ENCODING, ""),
            )  # fmt: skip
            return asked._replace(narrowing=(*asked.narrowing, hold(caller)))

        return replace(adapter, read=read_with_caller)

    return held
