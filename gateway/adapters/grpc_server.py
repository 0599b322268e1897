"""Where gRPC calls come in and answers go out: grpcio's asyncio server, raw bytes both ways.

A call ends in an error only where there is nothing to decide: an unknown method, a caller that has
gone, a message beyond what Envoy can send. Everything else is a CheckResponse.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

# What gRPC writes to standard error by itself is no JSON, and says nothing that is not raised too.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from google.protobuf.message import DecodeError

from ..decision import Reason
from ..errors import ConfigurationError
from ..identity import lines
from .callers import Holding, as_it_is
from .ext_authz_grpc import ADAPTER, METHOD, SERVICE, on_the_wire, subrequest_of
from .listener import CheckListener
from .messages import HealthRequest, HealthResponse
from .wire import NEVER_CACHED, Answer

# With Envoy's default limit of 60 KiB of headers, some of which are sent twice, no client can make
# a message beyond this. Strangers can, and grpcio reads before we see who it is.
DEFAULT_MAX_MESSAGE = 1 << 18
_MAX_METADATA = 1 << 14
# Of one connection; Envoy then opens another. Before it has heard of a lower limit it uses as many,
# and takes a refused one for a failed check.
_MAX_STREAMS = 1024
_MAX_UNDER_WAY = 4096  # all but those that wait for the store are over at once
_SHARE = 0.8  # of the caller's time; the rest is for the way back

_OPTIONS = (
    ("grpc.max_metadata_size", _MAX_METADATA),
    ("grpc.absolute_max_metadata_size", _MAX_METADATA),
    ("grpc.max_concurrent_streams", _MAX_STREAMS),
    ("grpc.server_handshake_timeout_ms", 5000),  # so long may a connection say nothing at first
    ("grpc.compression_enabled_algorithms_bitset", 1),  # none: a small message stays small
    # Proxies that look whether a quiet connection lives are not to be sent away for it.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
)
_HEALTH = "grpc.health.v1.Health"
_SERVING, _NOT_SERVING = 1, 2

_LOST = on_the_wire(
    Answer(
        HTTPStatus.SERVICE_UNAVAILABLE,
        NEVER_CACHED + lines([("X-Auth-Reason", Reason.INTERNAL_ERROR)]),
    )
)


class GrpcServer:
    """Answers `Check` as the listener decides.

    A message above `max_message` bytes ends in an error of the call: grpcio does not hand it over.
    """

    def __init__(
        self,
        listener: CheckListener,
        max_message: int = DEFAULT_MAX_MESSAGE,
        holding: Holding = as_it_is,
    ) -> None:
        self._listener = listener
        self._max_message = max_message
        self._adapter = holding(ADAPTER)
        self._under_way = 0
        self._draining = False
        self._server: Any = None

    async def open(self, addresses: Sequence[str], *, shared: bool) -> None:
        """Begin to take calls; `shared`: other processes listen on the same ports.

        Raises ConfigurationError where an address cannot be had.
        """
        options = [
            *_OPTIONS,
            ("grpc.max_receive_message_length", self._max_message),
            ("grpc.so_reuseport", int(shared)),
        ]
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((
            _service(SERVICE, {METHOD: self._check}),
            _service(_HEALTH, {"Check": self._health}),
        ))  # fmt: skip
        for address in addresses:
            try:
                self._server.add_insecure_port(address)
            except RuntimeError:
                raise ConfigurationError(
                    f"check.grpc_listen: cannot listen on {address}; choose another address or "
                    "stop what uses it"
                ) from None
        await self._server.start()

    def drain(self) -> None:
        """Tell who asks for our health to go elsewhere."""
        self._draining = True

    async def close(self, grace_s: float) -> None:
        """Take no more calls; those that were taken have so long to be answered."""
        if self._server is not None:
            await self._server.stop(grace_s)

    async def _check(self, message: bytes, context: Any) -> bytes:
        """Answer one check, whatever happens."""
        try:
            address = _address_of(context.peer())
            if address is not None and address not in self._listener.trusted:
                return on_the_wire(self._listener.turn_away(ADAPTER, address))
            return on_the_wire(await self._answer(message, context.time_remaining()))
        except Exception as error:  # noqa: BLE001  (an error of the call could be an allow)
            self._listener.broken(error, ours=True)
            return _LOST

    async def _answer(self, message: bytes, left_s: float | None) -> Answer:
        """Answer before the caller gives up."""
        if self._under_way >= _MAX_UNDER_WAY:
            return self._listener.refuse(ADAPTER, Reason.OVERLOADED)
        self._under_way += 1
        try:
            async with asyncio.timeout(None if left_s is None else left_s * _SHARE):
                return await self._listener.answer(subrequest_of(message), self._adapter)
        except TimeoutError:
            return self._listener.refuse(ADAPTER, Reason.STORE_UNAVAILABLE)
        finally:
            self._under_way -= 1

    async def _health(self, message: bytes, context: Any) -> bytes:
        """Answer as `grpc.health.v1` says; anybody may ask."""
        try:
            service = HealthRequest.FromString(message).service.decode()
        except (DecodeError, ValueError):
            service = "?"
        if service not in ("", SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        status = _NOT_SERVING if self._draining else _SERVING
        health: bytes = HealthResponse(status=status).SerializeToString()
        return health


def _service(name: str, methods: dict[str, Any]) -> Any:
    """Return handlers of bytes: gRPC's own parsing would answer a bad message with an error."""
    handlers = {
        method: grpc.unary_unary_rpc_method_handler(function)
        for method, function in methods.items()
    }
    return grpc.method_handlers_generic_handler(name, handlers)


@lru_cache(maxsize=4096)
def _address_of(peer: str) -> str | None:
    """Return the address in `ipv4:192.0.2.7:4711` or `ipv6:%5B::1%5D:4711`; None of a Unix socket.

    Whoever may open our Unix socket is trusted; its mode is the operator's choice.
    """
    kind, _, where = peer.partition(":")
    return None if kind == "unix" else unquote(where).rpartition(":")[0].strip("[]")
