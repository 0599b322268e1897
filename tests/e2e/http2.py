"""An HTTP/2 client that says exactly what a test wants said, over a connection without TLS.

Libraries check names, values and pseudo-headers before they send them; attackers do not.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hpack import Decoder
from hpack.hpack import encode_integer

from .client import HOST, TIMEOUT_S, Reply

Fields = Iterable[tuple[bytes, bytes]]

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 6, 7, 9
_ACK = _END_STREAM = 1
_END_HEADERS, _PADDED, _PRIORITY = 4, 8, 32
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WIDE = struct.pack(">HI", 4, 1 << 20)  # SETTINGS_INITIAL_WINDOW_SIZE: no answer is longer

REFUSED = Reply(0, [], b"")  # the stream or the connection was ended instead of answered


def request(
    path: bytes,
    *more: tuple[bytes, bytes],
    method: bytes = b"GET",
    authority: bytes = HOST.encode(),
    scheme: bytes = b"http",
) -> list[tuple[bytes, bytes]]:
    """Return the fields of an ordinary request, and more behind them."""
    pseudo = {b":method": method, b":scheme": scheme, b":authority": authority, b":path": path}
    return [*pseudo.items(), *more]


@dataclass(frozen=True)
class Http2Client:
    """A visitor of one proxy; every request has a connection of its own."""

    port: int

    def get(self, path: bytes, *more: tuple[bytes, bytes]) -> Reply:
        return self.send(request(path, *more))

    def send(self, fields: Fields, body: bytes = b"") -> Reply:
        """Send one request; return its answer, or REFUSED."""
        block = b"".join(_literal(*field) for field in fields)
        opening = _PREFACE + _frame(_SETTINGS, 0, 0, _WIDE)
        flags = _END_HEADERS | (0 if body else _END_STREAM)
        message = _frame(_HEADERS, flags, 1, block)
        if body:
            message += _frame(_DATA, _END_STREAM, 1, body)
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S) as connection:
            connection.sendall(opening + message)
            try:
                return _answer(connection)
            except ConnectionError:
                return REFUSED


def _literal(name: bytes, value: bytes) -> bytes:
    """Return a field as it is (RFC 7541 section 6.2.3): no table, no Huffman, no questions."""
    return b"\x10" + b"".join(bytes(encode_integer(len(each), 7)) + each for each in (name, value))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _frames(connection: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    """Yield kind, flags and payload of what comes, until the end."""
    data = b""
    while True:
        while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3]):
            length = int.from_bytes(data[:3])
            yield data[3], data[4], data[9 : 9 + length]
            data = data[9 + length :]
        more = connection.recv(65_536)
        if not more:
            return
        data += more


def _answer(connection: socket.socket) -> Reply:
    """Return the answer on the one stream. Answers of 1xx are passed over."""
    decoder = Decoder()
    headers: list[tuple[str, str]] = []
    block = body = b""
    ends = False
    for kind, flags, payload in _frames(connection):
        if kind in (_RST_STREAM, _GOAWAY):
            return REFUSED
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            connection.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        if kind in (_HEADERS, _CONTINUATION):
            assert not flags & (_PADDED | _PRIORITY) or kind == _CONTINUATION
            block += payload
            ends = ends or (kind == _HEADERS and bool(flags & _END_STREAM))
            if flags & _END_HEADERS:
                fields = decoder.decode(block, raw=True)
                found = [(_text(name), _text(value)) for name, value in fields]
                headers = headers if headers and found[0][0] != ":status" else found
                block = b""
        elif kind == _DATA:
            body += payload
            ends = bool(flags & _END_STREAM)
        if ends and not block and headers:
            return Reply(int(headers[0][1]), headers[1:], body)
    return REFUSED


def _text(text: bytes) -> str:
    return bytes(text).decode("latin-1")
