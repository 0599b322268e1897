"""Which ports of 127.0.0.1 the demo uses."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from dataclasses import astuple, dataclass

from ..errors import ConfigurationError

HOST = "127.0.0.1"
# Below what the kernel gives to outgoing connections, which come and go.
_OTHERS = range(12_000, 20_000)


@dataclass(frozen=True, slots=True)
class Ports:
    """One for each listener."""

    front: int = 8000
    check: int = 9180
    admin: int = 9182
    application: int = 8080


def choose(*, usual: bool) -> Ports:
    """Return free ports: the usual ones where they are free, if they are wanted at all."""
    others = _free_ports()
    wanted = astuple(Ports())
    return Ports(*(port if usual and is_free(port) else next(others) for port in wanted))


def _free_ports() -> Iterator[int]:
    yield from filter(is_free, random.sample(_OTHERS, len(_OTHERS)))
    raise ConfigurationError("the demo found no free port")


def is_free(port: int) -> bool:
    """Return whether a listener could have this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    """Return whether something listens there."""
    try:
        socket.create_connection((HOST, port), timeout=0.5).close()
    except OSError:
        return False
    return True
