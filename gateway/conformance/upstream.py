"""The check upstream: an application that answers with what it saw, byte by byte.

Put it behind the proxy in the application's place for as long as the check runs. It is lenient
where applications are, and hides the values of credentials: its answers pass through browsers.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

import orjson

from ..sockets import bind
from .sender import Reply

MARK = "X-Conformance-Upstream"
IDLE_S = 75.0
_LIMIT = 128 * 1024
_SECRET = re.compile(r"(?i)cookie|authorization")
_LONGEST_MARK = 1024


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as the application got it; header names and values as Latin-1."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]


def seen_in(reply: Reply) -> Seen | None:
    """Return what the check upstream saw, if it was that which answered."""
    mark = reply.value(MARK.lower())
    if not mark:
        return None
    try:
        told = orjson.loads(reply.body)
        headers = tuple((str(name), str(value)) for name, value in told["headers"])
        return Seen(told["method"], told["target"], headers)
    except (ValueError, KeyError, TypeError):  # HEAD has no body
        method, _, target = mark.partition(" ")
        return Seen(method, unquote(target, "latin-1"), ())


async def serve(address: str) -> None:
    """Serve on `host:port` or `unix:/path` until the task is cancelled."""
    sock = bind(address, "--upstream")
    async with asyncio.TaskGroup() as group:

        def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            group.create_task(_converse(reader, writer))

        server = await asyncio.start_server(converse, sock=sock, limit=_LIMIT)
        async with server:
            await server.serve_forever()


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    try:
        while await _answer_one(reader, writer):
            pass
    except (OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError):
        pass  # what is no request gets no answer
    finally:
        writer.close()


async def _answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; return whether there may be another one."""
    async with asyncio.timeout(IDLE_S):
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        headers = tuple(_parsed(lines))
        await _skip_body(reader, headers)
    method, _, rest = first.partition(" ")
    seen = Seen(method, rest.rpartition(" ")[0] or rest, headers)
    close = any(n.lower() == "connection" and "close" in v.lower() for n, v in headers)
    writer.write(_told(seen, close=close))
    await writer.drain()
    return not close


def _parsed(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        name, _, value = line.partition(":")
        shown = f"({len(value)} characters)" if _SECRET.search(name) else value.strip(" \t")
        yield name, shown


async def _skip_body(reader: asyncio.StreamReader, headers: Iterable[tuple[str, str]]) -> None:
    values = {name.strip().lower(): value for name, value in headers}
    if "chunked" in values.get("transfer-encoding", "").lower():
        while size := int((await reader.readline()).partition(b";")[0], 16):
            await _skip(reader, size + 2)
        await reader.readuntil(b"\r\n")
    elif values.get("content-length", "").isdecimal():
        await _skip(reader, int(values["content-length"]))


async def _skip(reader: asyncio.StreamReader, size: int) -> None:
    """Read `size` bytes, and keep none of them: an upload may be larger than memory."""
    while size:
        chunk = await reader.read(min(size, _LIMIT))
        if not chunk:
            raise EOFError
        size -= len(chunk)


def _told(seen: Seen, *, close: bool) -> bytes:
    body = orjson.dumps({"method": seen.method, "target": seen.target, "headers": seen.headers})
    mark = f"{quote(seen.method)} {quote(seen.target, safe='/', encoding='latin-1')}"
    head = (
        "HTTP/1.1 200 OK\r\n"
        "Content-Type: application/json\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Cache-Control: no-store\r\n"
        f"{MARK}: {mark[:_LONGEST_MARK]}\r\n"
        f"{'Connection: close' if close else 'Connection: keep-alive'}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + (b"" if seen.method == "HEAD" else body)


def run(address: str) -> None:
    """Serve until interrupted; raises ConfigurationError if the address cannot be had."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(address))
