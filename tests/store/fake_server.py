"""A server that speaks RESP just well enough to be connected to, and then misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

SILENCE = b""
_GREETINGS = {
    b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n",
    b"CLIENT": b"+OK\r\n",
    b"SELECT": b"+OK\r\n",
}

Answer = Callable[[bytes], bytes]


@asynccontextmanager
async def fake_server(answer: Answer) -> AsyncIterator[str]:
    """Serve `answer(command name)` to every command but those of the greeting; yield the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (name := await _command(reader)) is not None:
                writer.write(_GREETINGS.get(name) or answer(name))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        await server.wait_closed()


async def _command(reader: asyncio.StreamReader) -> bytes | None:
    """Return the name of the next command, or None at the end."""
    line = await reader.readline()
    if not line:
        return None
    words = []
    for _ in range(int(line[1:])):
        size = int((await reader.readline())[1:])
        words.append(await reader.readexactly(size + 2))
    return words[0].strip().upper()
