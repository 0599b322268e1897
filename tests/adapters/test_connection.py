"""Two ways of an answer, at once or by aiohttp's task: neither overtakes the other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_parser import HttpRequestParser

from gateway.adapters import connection
from gateway.model import Session, SessionKey, Standing
from gateway.ports import Reading
from tests.decision.samples import cookie, make_session

from .families import EXT_AUTHZ, FAMILIES, Asked, Family
from .gate import Gate, serving
from .reply import Reply

USERS = 24


def token_of(number: int) -> bytes:
    return b"0a" + f"{number:02}".encode() + b"x" * 41


def sessions() -> list[Session]:
    return [make_session(token=token_of(number), user=f"user{number}") for number in range(USERS)]


@pytest.fixture
async def half(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    """Every second session is in memory; the others take a while to be read."""
    async with serving(*sessions()) as gate:
        remembered = {each.key for each in sessions()[::2]}
        recall, read = gate.store.recall, gate.store.read

        def recall_half(key: SessionKey) -> tuple[Standing, int] | None:
            return recall(key) if key in remembered else None

        async def read_slowly(key: SessionKey) -> Reading:
            for _ in range(random.randrange(8)):
                await asyncio.sleep(0)
            return await read(key)

        gate.store.remembers = True
        monkeypatch.setattr(gate.store, "recall", recall_half)
        monkeypatch.setattr(gate.store, "read", read_slowly)
        yield gate


def asked(number: int) -> Asked:
    return Asked(cookies=(cookie(token_of(number)),))


def test_this_aiohttp_has_what_answering_at_once_needs() -> None:
    """A release that moves its inside is noticed here, not as a slower gateway."""
    assert connection.ANSWERS_AT_ONCE
    assert HttpVersion11 is not HttpVersion10
    assert not connection.fits(object, HttpRequestParser)
    assert not connection.fits(web.RequestHandler, object)


@pytest.mark.parametrize("seed", range(20))
async def test_answers_keep_the_order_of_the_questions(
    half: Gate, family: Family, seed: int
) -> None:
    """Whatever is remembered and whatever must be read, each question gets its own answer."""
    chosen = random.Random(seed)
    numbers = [chosen.randrange(USERS) for _ in range(60)]
    wire = b"".join(family.request(asked(number)) for number in numbers)
    connected = await half.connect()
    cut = sorted(chosen.sample(range(len(wire)), 12))
    for start, end in zip([0, *cut], [*cut, len(wire)], strict=True):
        connected.write(wire[start:end])
        await asyncio.sleep(0)
    for number in numbers:
        reply = await connected.read()
        assert (reply.status, reply.one(family.user)) == (family.allows, f"user{number}")
    await connected.close()


async def test_a_known_session_needs_no_task_of_aiohttp(gate: Gate, family: Family) -> None:
    """What is remembered never reaches aiohttp's handler; what must be read does."""
    await gate.ask(family, Asked(cookies=(cookie(),)))
    assert gate.server.requests_count == (0 if gate.store.remembers else 1)


async def test_an_unusual_request_goes_aiohttps_way_to_the_same_answer(gate: Gate) -> None:
    """A body, HTTP/1.0, an upgrade, a last request: the answer is the same, bytes and all."""
    usual = await gate.ask(EXT_AUTHZ, Asked(cookies=(cookie(),)))
    raw = EXT_AUTHZ.request(Asked(cookies=(cookie(),)))
    unusual = [
        raw.replace(b"HTTP/1.1", b"HTTP/1.0"),
        raw.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        raw.replace(b"\r\n\r\n", b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
        raw.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc"),
    ]
    for request in unusual:
        reply = await gate.send(request)
        assert without_close(reply) == without_close(usual)


def without_close(reply: Reply) -> tuple[int, list[tuple[str, str]], bytes]:
    return reply.status, [pair for pair in reply.headers if pair[0] != "Connection"], reply.body


async def test_a_bug_on_the_fast_way_is_met_again_and_reported(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails inside the connection is answered as "we do not know", once, and told."""
    gate.store.remembers = True
    bug = RuntimeError("bug")

    def broken(key: SessionKey) -> tuple[Standing, int] | None:
        raise bug

    monkeypatch.setattr(gate.store, "recall", broken)
    reply = await gate.ask(FAMILIES[0], Asked(cookies=(cookie(),)))
    assert (reply.status, reply.one("X-Auth-Reason")) == (403, "internal_error")
    assert gate.faults == [bug]
    assert len(gate.observed) == 1


async def test_without_aiohttps_inside_its_own_way_serves_alone(
    gate: Gate, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release of aiohttp that has moved things makes checks slower, never wrong."""
    monkeypatch.setattr(connection, "ANSWERS_AT_ONCE", False)
    connected = await gate.connect()
    for _ in range(3):
        assert (
            await connected.ask(family.request(Asked(cookies=(cookie(),))))
        ).status == family.allows
    assert gate.server.requests_count == 3
    await connected.close()


async def test_a_proxy_that_does_not_read_is_not_written_to_without_end(gate: Gate) -> None:
    """Questions pile up at the proxy, not answers at us, when it does not take them."""
    gate.store.remembers = True
    connected = await gate.connect()
    question = FAMILIES[0].request(Asked(cookies=(cookie(),)))
    connected.write(question * 50_000)
    for _ in range(50):
        await asyncio.sleep(0.01)
    written = sum(
        transport.get_write_buffer_size() for transport in gate.server._connections.values()
    )
    assert written < 2_000_000
    connected.abort()


@pytest.mark.parametrize("count", [2, 32, 33, 40, 100, 700])
async def test_every_pipelined_question_is_answered(gate: Gate, count: int) -> None:
    """However many come in one read: more than aiohttp's queue takes wait for their turn."""
    connected = await gate.connect()
    connected.write(FAMILIES[0].request(Asked(cookies=(cookie(),))) * count)
    for _ in range(count):
        assert (await connected.read()).status == 200
    await connected.close()


async def test_one_connection_does_not_starve_another(gate: Gate) -> None:
    """While somebody pours questions into one connection, others are answered in their turn."""
    gate.store.remembers = True
    flood, quiet = await gate.connect(), await gate.connect()
    question = FAMILIES[0].request(Asked(cookies=(cookie(),)))
    flood.write(question * 20_000)
    await asyncio.sleep(0)
    before = len(gate.observed)
    for _ in range(20):
        assert (await quiet.ask(question)).status == 200
    assert len(gate.observed) - before < 20_000
    flood.abort()
    await quiet.close()


async def test_nothing_of_a_stranger_is_parsed_or_kept() -> None:
    """Refused by the first bytes, whatever they are, and the connection is gone."""
    question = FAMILIES[0].request(Asked(cookies=(cookie(),)))
    async with serving(make_session(), trusted=()) as gate:
        for raw, status in ((question, 403), (question[:40], 403), (b"GET / HTTP/1.1\r\n", 404),
                            (b"nonsense", 404), (b"\x16\x03\x01", 404)):  # fmt: skip
            connected = await gate.connect()
            connected.write(raw)
            assert (await connected.read()).status == status
            assert await connected.ended()
            await connected.close()
        assert gate.store.asked == []
        assert gate.server.requests_count == 0


async def test_a_silent_stranger_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that say nothing must not use up the descriptors that the proxy needs."""
    monkeypatch.setattr(connection, "_STRANGER_S", 0.05)
    async with serving(make_session(), trusted=()) as gate:
        connected = await gate.connect()
        assert await connected.ended()
        await connected.close()
