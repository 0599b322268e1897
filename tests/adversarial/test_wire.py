"""The sender reads any answer and waits for none for ever; the check upstream tells what it saw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.conformance import sender
from gateway.conformance.sender import NOTHING, Reply, Server
from gateway.conformance.upstream import Seen, seen_in
from tests import servers


@asynccontextmanager
async def answering(answer: bytes, *, close: bool = True) -> AsyncIterator[Server]:
    """Run a server that answers anything with these bytes."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if not close:
            await reader.read()  # until the client has had enough
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    async with server:
        yield Server("127.0.0.1", server.sockets[0].getsockname()[1])


async def reply_to(answer: bytes, request: bytes = b"GET / HTTP/1.1\r\n\r\n") -> Reply:
    async with answering(answer) as server:
        return await server.send(request)


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay", 200, b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", 200, b"short"),
        (b"HTTP/1.0 404 Not Found\r\n\r\nto the end", 404, b"to the end"),
        (b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n3\r\nay!\r\n0\r\n\r\n",
         200, b"okay!"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", 403, b""),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\nxx", 101, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b""),
        (b"", 0, b""),
    ],
)  # fmt: skip
async def test_every_answer_is_read(answer: bytes, status: int, body: bytes) -> None:
    reply = await reply_to(answer)
    assert (reply.status, reply.body, reply.unclear) == (status, body, "")


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>the protected page, as HTTP/0.9 has it</html>",
        b"<html>\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    ],
    ids=["0.9", "no-status", "bad-chunk", "negative-chunk", "endless-head"],
)
async def test_what_cannot_be_read_is_not_taken_for_a_refusal(answer: bytes) -> None:
    assert (await reply_to(answer)).unclear


async def test_head_has_no_body() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    assert (await reply_to(answer, b"HEAD / HTTP/1.1\r\n\r\n")).status == 200


async def test_an_endless_body_is_cut() -> None:
    reply = await reply_to(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (sender.MAX_BODY + 1000))
    assert len(reply.body) == sender.MAX_BODY


async def test_who_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "TIMEOUT_S", 0.1)
    async with answering(b"HTTP/1.1 200 OK\r\n", close=False) as server:
        assert (await server.send(b"GET / HTTP/1.1\r\n\r\n")).unclear


async def test_nobody_there_is_an_error_and_not_an_answer() -> None:
    with pytest.raises(OSError, match="Connect"):
        await Server("127.0.0.1", servers.free_port()).send(b"GET / HTTP/1.1\r\n\r\n")


async def test_the_check_upstream_tells_what_it_saw_and_keeps_secrets(upstream: int) -> None:
    lines = (b"OPTIONS /a%2f\xff HTTP/1.1", b"X_Auth_User : eve", b"Cookie: sid=secret",
             b"Authorization: Bearer secret", b"Connection: close")  # fmt: skip
    reply = await Server("127.0.0.1", upstream).send(b"\r\n".join(lines) + b"\r\n\r\n")
    found = seen_in(reply)
    assert found is not None
    assert (found.method, found.target) == ("OPTIONS", "/a%2f\xff")
    assert dict(found.headers)["X_Auth_User "] == "eve"
    assert b"secret" not in reply.body
    assert reply.value("cache-control") == "no-store"


async def test_the_check_upstream_answers_head_in_a_header(upstream: int) -> None:
    request = b"HEAD /admin HTTP/1.1\r\nConnection: close\r\n\r\n"
    reply = await Server("127.0.0.1", upstream).send(request)
    assert reply.body == b""
    assert seen_in(reply) == Seen("HEAD", "/admin", ())


async def test_the_check_upstream_keeps_requests_apart(upstream: int) -> None:
    """Bodies of both kinds are skipped; what follows is the next request."""
    body = b"POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd"
    chunks = b"POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    last = b"GET /c HTTP/1.1\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream)
    writer.write(body + chunks + last)
    text = await reader.read()
    writer.close()
    assert text.count(b"HTTP/1.1 200 OK") == 3
    assert [text.count(f'"target":"/{name}"'.encode()) for name in "abc"] == [1, 1, 1]


async def test_what_is_no_answer_of_the_check_upstream_is_not_taken_for_one() -> None:
    assert seen_in(Reply(200, (), b'{"method": "GET"}')) is None
    assert seen_in(NOTHING) is None
