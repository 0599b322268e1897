"""Sends bytes exactly as they are, and reads what comes back: a library would tidy them up.

Every wait ends after `TIMEOUT_S`, every answer after `MAX_BODY` bytes. One connection for each
request; no redirect is followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass

TIMEOUT_S = 10.0
MAX_HEAD = 64 * 1024
MAX_BODY = 256 * 1024

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `status` is 0 where the connection was closed without an answer."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    unclear: str = ""  # why nothing is known: an answer too late, or one that cannot be read

    def values(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key.lower() == name]

    def value(self, name: str) -> str:
        """Return a header's values, joined; "" if there is none."""
        return ", ".join(self.values(name))


NOTHING = Reply()
LATE = Reply(unclear="no answer in time")
UNREADABLE = Reply(unclear="an answer that cannot be read")


@dataclass(frozen=True, slots=True)
class Server:
    """Where to connect to."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None  # with TLS: whose certificate is expected

    async def send(self, request: bytes) -> Reply:
        """Send one request and return the (last) answer on the connection.

        Raises OSError if there is nobody to connect to, or TLS fails.
        """
        connecting = asyncio.open_connection(
            self.host, self.port, ssl=self.tls, server_hostname=self.server_name, limit=MAX_HEAD
        )
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await connecting
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await _exchange(reader, writer, request)
        except TimeoutError:
            return LATE
        except asyncio.IncompleteReadError as end:
            return UNREADABLE if end.partial else NOTHING
        except ConnectionError:
            return NOTHING
        except (ValueError, asyncio.LimitOverrunError):
            return UNREADABLE
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> Reply:
    writer.write(request)
    with contextlib.suppress(ConnectionError):  # refused before all was sent: there is an answer
        await writer.drain()
    headless = request.startswith(b"HEAD ")
    reply = await _read(reader, headless=headless)
    while 100 <= reply.status < 200 and reply.status != 101:
        reply = await _read(reader, headless=headless)
    return reply


async def _read(reader: asyncio.StreamReader, *, headless: bool) -> Reply:
    """Read one answer; raises IncompleteReadError or ValueError for what is none."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].split(b"\r\n")
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise ValueError("this is no HTTP/1 answer")
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    headers = tuple((name.strip(), value.strip(" \t")) for name, _, value in pairs)
    reply = Reply(int(match[1]), headers)
    if headless or reply.status < 200 or reply.status in (204, 304):
        return reply
    return Reply(reply.status, headers, await _read_body(reader, reply))


async def _read_body(reader: asyncio.StreamReader, reply: Reply) -> bytes:
    """Read the body, as far as it is there and short enough to compare."""
    if "chunked" in reply.value("transfer-encoding").lower():
        return await _read_chunks(reader)
    length = reply.value("content-length")
    if length.isdecimal():
        return await _read_up_to(reader, min(int(length), MAX_BODY))
    return await _read_up_to(reader, MAX_BODY)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while len(body) < MAX_BODY:
        size = int((await reader.readline()).partition(b";")[0], 16)
        if size == 0:
            break
        body += await _read_up_to(reader, min(size, MAX_BODY))
        await reader.readline()
    return body


async def _read_up_to(reader: asyncio.StreamReader, size: int) -> bytes:
    """Read `size` bytes, or as many as come before the end."""
    try:
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as end:
        return end.partial
