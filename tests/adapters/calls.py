"""gRPC beside HTTP: the message in which Envoy asks, and what it makes of the answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import grpc

from gateway.adapters import ext_authz_grpc
from gateway.adapters.messages import CheckRequest, CheckResponse

from .reply import Reply

WAIT_S = 10.0
CHECK = ext_authz_grpc.PATH
_ATTRIBUTES = {":method": "method", ":path": "path", ":authority": "host"}


def message(pairs: Sequence[tuple[str, bytes]], *, raw: bool) -> bytes:
    """Return the CheckRequest of an Envoy that was sent these headers.

    `raw` is its `encode_raw_headers`: else it joins those of one name with a comma.
    """
    sent = [(name.lower(), value.strip(b" \t")) for name, value in pairs]
    asked = CheckRequest()
    attributes = asked.attributes
    http = attributes.request.http
    for name, value in reversed(sent):  # the first of several remains
        if name == ":source":
            attributes.source.address.socket_address.address = value
        elif name in _ATTRIBUTES:
            setattr(http, _ATTRIBUTES[name], value)
    headers = [pair for pair in sent if pair[0] != ":source"]
    if raw:
        for name, value in headers:
            http.header_map.headers.add(key=name, raw_value=value)
    else:
        for name in dict(headers):
            values = [value for other, value in headers if other == name]
            http.headers.add(key=name, value=b",".join(values))
    serialized: bytes = asked.SerializeToString()
    return serialized


def reply_of(answer: bytes) -> Reply:
    """Return what Envoy does, and check what no answer may leave open."""
    response = CheckResponse.FromString(answer)
    allows = response.HasField("ok_response")
    assert response.HasField("status"), answer
    assert allows == (response.status.code == 0)
    assert allows != response.HasField("denied_response")
    if allows:
        removed = tuple(response.ok_response.headers_to_remove)
        return _reply(200, response.ok_response.headers, b"", removed=removed, for_upstream=True)
    denied = response.denied_response
    assert denied.status.code not in range(200, 300)
    return _reply(denied.status.code, denied.headers, denied.body)


def _reply(status: int, options: Iterable[Any], body: bytes, **more: Any) -> Reply:
    headers = []
    for option in options:
        assert option.HasField("append")  # left out, newer Envoys append to what the client sent
        assert not option.append.value
        assert not option.header.raw_value  # arrives empty
        headers.append((option.header.key, option.header.value.decode()))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = f"HTTP/1.1 {status} \r\n{lines}\r\n".encode()
    return Reply(status, headers, body, head, **more)


async def call(address: str, request: bytes, path: str = CHECK, **options: Any) -> bytes:
    """Make one call on a channel of its own."""
    async with grpc.aio.insecure_channel(address, options=_OWN) as channel:
        answer: bytes = await channel.unary_unary(path)(request, **{"timeout": WAIT_S, **options})
        return answer


_OWN = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
