"""The one place where a fault of Redis becomes "we do not know"."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004  (redis-py's own name)
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004
)

from ..errors import StoreUnavailable

_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (AuthenticationError, "auth"),
    (BusyLoadingError, "loading"),
    (OutOfMemoryError, "out_of_memory"),
    (ReadOnlyError, "read_only"),
    (TimeoutError, "timeout"),
    (builtins.TimeoutError, "timeout"),
    (ConnectionError, "connection"),
    (ResponseError, "response"),
    (OSError, "connection"),
)


def kind_of(error: Exception) -> str:
    """Return a short stable name for metrics."""
    return next((kind for family, kind in _KINDS if isinstance(error, family)), "other")


@contextmanager
def as_unavailable(count: Callable[[str], None]) -> Iterator[None]:
    """Turn every fault of Redis, of the network, or of a reply's shape into StoreUnavailable."""
    try:
        yield
    except StoreUnavailable as error:
        count(error.kind)
        raise
    except (RedisError, OSError, ValueError, TypeError, IndexError) as error:
        kind = kind_of(error)
        count(kind)
        raise StoreUnavailable(kind, str(error)) from error
