"""A connection that asks over gRPC: as much HTTP/2 (RFC 9113) as one call at a time needs.

grpcio as a client costs more than the server that is measured.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from tests.adapters.calls import CHECK

_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 4, 6, 8
_END_STREAM = _ACK = 1
_END_HEADERS = 4
_LARGEST = 2**31 - 1


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """RFC 7541 section 6.2.2, neither indexed nor compressed."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


_GREETING = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + _frame(_SETTINGS, 0, 0, b"")
    + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _LARGEST - 65_535))
)
_HEAD = b"".join(
    _literal(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", CHECK.encode()),
        (b":authority", b"gateway"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"grpc-timeout", b"1000m"),
    )
)


class GrpcClient(asyncio.Protocol):
    """One connection, one call at a time; asked as `load.Client` is."""

    def __init__(self) -> None:
        self._received = b""
        self._message = b""
        self._stream = -1

    @classmethod
    async def connect(cls, address: int | str) -> GrpcClient:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(cls, "127.0.0.1", int(address)))[1]

    async def ask(self, request: bytes) -> bytes:
        """Return the message that answers this one."""
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._stream += 2
        body = b"\x00" + struct.pack(">I", len(request)) + request
        self._transport.write(
            _frame(_HEADERS, _END_HEADERS, self._stream, _HEAD)
            + _frame(_DATA, _END_STREAM, self._stream, body)
        )
        return await self._answer

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._answer = asyncio.get_running_loop().create_future()
        transport.write(_GREETING)

    def data_received(self, data: bytes) -> None:
        data, begin = self._received + data, 0
        while len(data) >= begin + 9:
            end = begin + 9 + int.from_bytes(data[begin : begin + 3], "big")
            if len(data) < end:
                break
            self._take(data[begin + 3], data[begin + 4], data[begin + 9 : end])
            begin = end
        self._received = data[begin:]

    def connection_lost(self, error: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(error or ConnectionError("the server closed"))

    def _take(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _DATA:
            self._message += payload
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self._transport.write(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind == _HEADERS and flags & _END_STREAM:
            answer, self._message = self._message[5:], b""
            self._answer.set_result(answer)
