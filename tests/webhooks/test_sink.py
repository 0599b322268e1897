"""A receiver gets every event, signed, in order, and is left alone while it fails."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import math
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from aiohttp import web

from gateway.errors import SinkUnavailable
from gateway.model import Event, EventId
from gateway.webhooks import sink as sink_module
from gateway.webhooks.signature import signatures
from gateway.webhooks.sink import Rejected, WebhookOptions, WebhookSink
from tests import servers

KEYS = (b"k" * 32, b"l" * 32)
LOCAL = (ipaddress.ip_network("127.0.0.0/8"),)
NOW_S = 1_772_355_600.0


class Receiver:
    """Somebody's server; notes what comes, and answers what it is told to."""

    def __init__(self) -> None:
        self.port = servers.free_port()
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: Iterable[web.Response | int] = itertools.repeat(204)
        self.delay_s = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?key=1"

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        await asyncio.sleep(self.delay_s)
        answer = next(iter(self.answers), 204)
        return answer if isinstance(answer, web.Response) else web.Response(status=answer)

    def will_answer(self, *answers: web.Response | int) -> None:
        self.answers = iter(answers)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with receiver.listening():
        yield receiver


@asynccontextmanager
async def posting(receiver: Receiver, **changes: Any) -> AsyncIterator[WebhookSink]:
    options: dict[str, Any] = {
        "name": "siem", "url": receiver.url, "keys": KEYS, "types": frozenset(), "allowed": LOCAL,
        "timeout_s": 2.0, "turn_s": 2.0, "give_up_s": 3600.0,
    }  # fmt: skip
    sink = WebhookSink(WebhookOptions(**(options | changes)), lambda: NOW_S)
    try:
        yield sink
    finally:
        await sink.close()


@pytest.fixture(autouse=True)
def quick() -> Any:
    with patch.object(sink_module, "_FIRST_PAUSE_S", 0.05):
        yield


def event(number: int, kind: str = "session.created", **details: Any) -> Event:
    recorded_ms = int(NOW_S * 1000)
    return Event(EventId(recorded_ms, number, "0a"), kind, "0a" + "5" * 32, "älice", recorded_ms,
                 "app", "", "req-1", details)  # fmt: skip


EVENTS = [event(number) for number in range(5)]


# --- what is told ----------------------------------------------------------------------------


async def test_it_posts_the_event_signed_with_every_secret(receiver: Receiver) -> None:
    async with posting(receiver) as sink:
        assert sink.name == "webhook:siem"
        assert await sink.take("0a", [event(7, ip="192.0.2.1")]) == 1
    [(headers, body)] = receiver.got
    assert orjson.loads(body) == {
        "type": "session.created", "timestamp": "2026-03-01T09:00:00.000Z",
        "data": {"id": "0a-1772355600000-7", "session": "0a" + "5" * 32, "user": "älice",
                 "by": "app", "reason": "", "request_id": "req-1",
                 "details": {"ip": "192.0.2.1"}},
    }  # fmt: skip
    assert headers["webhook-id"] == "0a-1772355600000-7"
    assert headers["webhook-timestamp"] == "1772355600"
    assert headers["webhook-signature"] == signatures(KEYS, "0a-1772355600000-7", int(NOW_S), body)
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("why", "initiator"), [("revoked", "admin"), ("evicted", "policy"), ("replaced", "policy")]
)
async def test_a_session_that_was_ended_is_told_as_caep_does(
    receiver: Receiver, why: str, initiator: str
) -> None:
    ended = event(1, "session.ended", why=why)._replace(reason="laptop lost")
    async with posting(receiver) as sink:
        await sink.take("0a", [ended])
    told = orjson.loads(receiver.got[0][1])
    assert told["sub_id"] == {
        "format": "complex",
        "session": {"format": "opaque", "id": "0a" + "5" * 32},
        "user": {"format": "opaque", "id": "älice"},
    }
    assert told["events"] == {
        "https://schemas.openid.net/secevent/caep/event-type/session-revoked": {
            "event_timestamp": 1772355600, "initiating_entity": initiator,
            "reason_admin": {"en": "laptop lost"},
        }
    }  # fmt: skip


@pytest.mark.parametrize("why", ["expired", "idle", "rotated"])
async def test_what_ended_by_itself_or_lives_on_is_no_revocation(
    receiver: Receiver, why: str
) -> None:
    async with posting(receiver) as sink:
        await sink.take("0a", [event(1, "session.ended", why=why), event(2, why="revoked")])
    assert all("events" not in orjson.loads(body) for _, body in receiver.got)


async def test_only_the_types_that_it_wants_are_posted(receiver: Receiver) -> None:
    events = [event(1), event(2, "session.ended", why="idle"), event(3)]
    async with posting(receiver, types=frozenset({"session.ended"})) as sink:
        assert await sink.take("0a", events) == 3
    assert receiver.ids == [str(events[1].id)]


# --- when it fails ---------------------------------------------------------------------------


async def taken_in_time(sink: WebhookSink, events: list[Event]) -> None:
    """Do as the relay does until all are taken."""
    left = events
    async with asyncio.timeout(10):
        while left:
            try:
                left = left[await sink.take("0a", left) :]
            except SinkUnavailable as error:
                await asyncio.sleep(error.pause_s)


async def test_a_failure_is_tried_again_under_the_same_id_and_keeps_the_order(
    receiver: Receiver,
) -> None:
    receiver.will_answer(204, 500, 503, 204, 429, 301, 404, 204)
    async with posting(receiver) as sink:
        await taken_in_time(sink, EVENTS)
    ids = [str(each.id) for each in EVENTS]
    assert list(dict.fromkeys(receiver.ids)) == ids
    assert receiver.ids == sorted(receiver.ids)
    assert len(receiver.ids) == 5 + 5


async def test_it_is_left_alone_ever_longer_and_all_partitions_wait_for_one_try(
    receiver: Receiver,
) -> None:
    receiver.answers = itertools.repeat(500)
    pauses = []
    async with posting(receiver) as sink:
        for _ in range(4):
            with pytest.raises(SinkUnavailable) as raised:
                await sink.take("0a", EVENTS)
            pauses.append(raised.value.pause_s)
            with pytest.raises(SinkUnavailable, match="a moment ago") as waiting:
                await sink.take("0b", EVENTS)
            assert waiting.value.pause_s <= raised.value.pause_s
            await asyncio.sleep(raised.value.pause_s)
    assert pauses == sorted(pauses)
    assert pauses[3] > 3 * pauses[0]
    assert len(receiver.got) == 4


async def test_deliveries_that_fail_together_are_one_failure(receiver: Receiver) -> None:
    receiver.delay_s, receiver.answers = 0.1, itertools.repeat(500)
    async with posting(receiver) as sink:
        partitions = [f"{number:02x}" for number in range(16)]
        calls = [sink.take(partition, EVENTS[:1]) for partition in partitions]
        failed = await asyncio.gather(*calls, return_exceptions=True)
    pauses = [each.pause_s for each in failed if isinstance(each, SinkUnavailable)]
    assert len(pauses) == len(receiver.got) == 16
    assert max(pauses) <= sink_module._FIRST_PAUSE_S


async def test_it_is_left_alone_for_as_long_as_it_asks(receiver: Receiver) -> None:
    receiver.will_answer(web.Response(status=503, headers={"Retry-After": "7"}))
    async with posting(receiver) as sink:
        with pytest.raises(SinkUnavailable) as raised:
            await sink.take("0a", EVENTS)
    assert raised.value.pause_s == 7


@pytest.mark.parametrize("asked", ["-1", "soon", "99999999999999999999", "1e400", "\u0663"])
async def test_nonsense_in_retry_after_leaves_it_alone_for_minutes_at_most(
    receiver: Receiver, asked: str
) -> None:
    headers = {"Retry-After": asked}
    receiver.will_answer(web.Response(status=503, headers=headers))
    async with posting(receiver) as sink:
        with pytest.raises(SinkUnavailable) as raised:
            await sink.take("0a", EVENTS)
    assert raised.value.pause_s <= 600


@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_an_event_that_the_receiver_cannot_take_is_blamed_and_no_other(
    receiver: Receiver, status: int
) -> None:
    receiver.will_answer(204, status, status)
    async with posting(receiver) as sink:
        assert await sink.take("0a", EVENTS) == 1
        with pytest.raises(Rejected, match=f"answered {status}"):
            await sink.take("0a", EVENTS[1:])
        assert await sink.take("0a", EVENTS[2:]) == 3


async def test_an_event_that_cannot_be_told_is_blamed_and_not_the_receiver(
    receiver: Receiver,
) -> None:
    async with posting(receiver) as sink:
        for at_ms in (10**17, 10**20):
            with pytest.raises((ValueError, OverflowError, OSError)):
                await sink.take("0a", [EVENTS[0]._replace(at_ms=at_ms)])
        assert await sink.take("0a", EVENTS) == 5


async def test_an_event_may_be_given_up_only_when_its_own_delivery_failed(
    receiver: Receiver,
) -> None:
    receiver.answers = itertools.repeat(500)
    async with posting(receiver, give_up_s=3600.0) as sink:
        with pytest.raises(SinkUnavailable) as tried:
            await sink.take("0a", EVENTS)
        with pytest.raises(SinkUnavailable, match="a moment ago") as untried:
            await sink.take("0b", EVENTS)
    assert (tried.value.give_up_s, untried.value.give_up_s) == (3600.0, math.inf)


async def test_a_receiver_that_hangs_is_given_up_in_time(receiver: Receiver) -> None:
    receiver.delay_s = 30
    began = time.monotonic()
    async with posting(receiver, timeout_s=0.2) as sink:
        with pytest.raises(SinkUnavailable):
            await sink.take("0a", EVENTS)
    assert time.monotonic() - began < 2


async def test_a_slow_receiver_is_given_a_part_and_what_it_has_counts(receiver: Receiver) -> None:
    receiver.delay_s = 0.1
    async with posting(receiver, turn_s=0.15) as sink:
        assert await sink.take("0a", EVENTS) == 2


async def test_an_endless_or_a_large_answer_costs_nothing(receiver: Receiver) -> None:
    receiver.will_answer(web.Response(body=b"x" * 20_000_000))
    async with posting(receiver) as sink:
        assert await sink.take("0a", EVENTS) == 5


async def test_a_receiver_that_is_not_there_is_waited_for() -> None:
    receiver = Receiver()
    async with posting(receiver) as sink:
        with pytest.raises(SinkUnavailable):
            await sink.take("0a", EVENTS)
        async with receiver.listening():
            await taken_in_time(sink, EVENTS)
    assert receiver.ids == [str(each.id) for each in EVENTS]


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-inner banner\r\n", b"HTTP/1.1 200 OK\r\nX: inner",
        b"HTTP/1.1 200 OK\r\nX: inner" + b"x" * 9000,
        b"HTTP/1.1 200 OK\r\nContent-Length: inner\r\n\r\n",
    ],
    ids=["another protocol", "cut off", "too long", "nonsense"],
)  # fmt: skip
async def test_a_failure_tells_neither_the_url_nor_what_the_receiver_sent(answer: bytes) -> None:
    """A URL is often the secret itself, and who answers may be no receiver at all."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/s3cret?key=s3cret"
        async with posting(Receiver(), url=url) as sink:
            with pytest.raises(SinkUnavailable) as raised:
                await sink.take("0a", EVENTS)
    assert "s3cret" not in str(raised.value)
    assert "inner" not in str(raised.value)


# --- where it does not go --------------------------------------------------------------------

SPELLINGS = (
    "127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1.",
    "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "\u2460\u2461\u2466.0.0.1",
)  # fmt: skip


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_leads_to_an_address_of_this_network(
    receiver: Receiver, host: str
) -> None:
    url = f"http://{host}:{receiver.port}/"
    async with posting(receiver, url=url, allowed=()) as sink:
        with pytest.raises(SinkUnavailable):
            await sink.take("0a", EVENTS)
    assert receiver.got == []


async def test_a_name_is_judged_by_what_it_leads_to_when_it_is_called(receiver: Receiver) -> None:
    """Rebinding: allowed when it is looked at first, another address at the next call."""
    answers = iter(["127.0.0.2", "127.0.0.1"])

    async def resolve(*_: object, **__: object) -> list[dict[str, object]]:
        return [{"hostname": "hook.example", "host": next(answers), "port": receiver.port,
                 "family": socket.AF_INET, "proto": 6, "flags": 0}]  # fmt: skip

    allowed = (ipaddress.ip_network("127.0.0.2/32"),)
    url = f"http://hook.example:{receiver.port}/"
    with patch("aiohttp.resolver.ThreadedResolver.resolve", resolve):
        async with posting(receiver, url=url, allowed=allowed) as sink:
            with pytest.raises(SinkUnavailable, match="Cannot connect"):
                await sink.take("0a", EVENTS)
            await asyncio.sleep(0.1)
            with pytest.raises(SinkUnavailable, match=r"127\.0\.0\.1 is not a public address"):
                await sink.take("0a", EVENTS)
    assert receiver.got == []


async def test_a_redirect_is_a_failure_and_is_not_followed(receiver: Receiver) -> None:
    elsewhere = Receiver()
    async with elsewhere.listening():
        for status in (301, 302, 303, 307, 308):
            headers = {"Location": elsewhere.url}
            receiver.will_answer(web.Response(status=status, headers=headers))
            async with posting(receiver) as sink:
                with pytest.raises(SinkUnavailable, match=f"answered {status}"):
                    await sink.take("0a", EVENTS)
    assert elsewhere.got == []


async def test_no_proxy_of_the_environment_is_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Receiver()
    async with proxy.listening():
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with posting(receiver) as sink:
            await sink.take("0a", EVENTS)
    assert (len(receiver.got), len(proxy.got)) == (5, 0)


@pytest.mark.parametrize("secret", KEYS)
def test_options_do_not_show_secrets(secret: bytes) -> None:
    make: Callable[..., WebhookOptions] = WebhookOptions
    options = make("n", "https://x", KEYS, frozenset(), (), 1.0, 1.0, 1.0)
    assert secret.decode() not in repr(options)
