"""The check servers on their addresses: from the first connection to the last answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from .adapters.connection import CheckServer
from .sockets import BACKLOG, reserve, take_no_more

if TYPE_CHECKING:
    from .adapters.grpc_server import GrpcServer  # there only with the extra

_ACCEPT_S = 0.01  # to accept the connections that are made already
_PARENT_S = 0.2  # the same, for a parent that may be a little late


class Door(Protocol):
    """A way in: opened, drained so that no check fails, closed."""

    async def open(self) -> None: ...

    async def drain(self) -> None: ...

    async def close(self) -> None: ...


class Listening:
    """Takes HTTP connections until it is drained."""

    def __init__(
        self,
        server: CheckServer,
        sockets: Sequence[socket.socket],
        drain_s: float,
        *,
        inherited: bool = False,
    ) -> None:
        self._server = server
        self._inherited = inherited
        self._sockets = sockets
        self._drain_s = drain_s
        self._listeners: list[asyncio.Server] = []

    async def open(self) -> None:
        """Begin to take connections."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            self._listeners.append(
                await loop.create_server(self._server, sock=sock, backlog=BACKLOG)
            )

    async def drain(self) -> None:
        """Leave without failing a check.

        First every answer says `Connection: close` while new connections are still taken, and
        /readyz tells the balancer; then no new ones; then whoever is still connected gets as long
        again for a last question. Inherited sockets belong to the parent: it says when no more
        connections are to be taken, and what waits there waits for another worker.
        """
        self._server.drain()
        await asyncio.sleep(self._drain_s)
        for sock in () if self._inherited else self._sockets:
            take_no_more(sock)
        await asyncio.sleep(_PARENT_S if self._inherited else _ACCEPT_S)
        for listener in self._listeners:
            listener.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_s
        # Polled, because aiohttp has no event for "all connections are gone".
        while self._server.connections and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """End what is left."""
        await self._server.shutdown(5.0)


class GrpcListening:
    """Takes gRPC calls until it is drained. `shared`: other workers listen on the same ports."""

    def __init__(
        self, server: GrpcServer, addresses: Sequence[str], drain_s: float, *, shared: bool
    ) -> None:
        self._server = server
        self._addresses = addresses
        self._drain_s = drain_s
        self._shared = shared

    async def open(self) -> None:
        """Begin to take calls."""
        for address in () if self._shared else self._addresses:
            reserve(address, "check.grpc_listen", shared=False)
        await self._server.open(self._addresses, shared=self._shared)

    async def drain(self) -> None:
        """Leave without failing a check of whoever asks for our health.

        First only that says so; then every connection is told to go (GOAWAY), and the calls that
        were taken are answered.
        """
        self._server.drain()
        await asyncio.sleep(self._drain_s)
        await self._server.close(self._drain_s)

    async def close(self) -> None:
        """End what is left."""
        await self._server.close(0)
