"""A run learns what is normal, keeps to its rate, and proves nothing where it was shut out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.conformance.cases import CASES, Case, Must, Who
from gateway.conformance.fixes import proxy_of
from gateway.conformance.place import Place
from gateway.conformance.sender import Reply
from gateway.conformance.suite import Suite
from gateway.conformance.upstream import MARK
from gateway.conformance.verdict import Outcome
from gateway.errors import ConfigurationError

PLACE = Place("h.example", "/admin", "/public", "/x", "s=t")
Answer = Callable[[str, bool], Reply]


def page(body: bytes, status: int = 200) -> Reply:
    return Reply(status, (), body)


def echo(target: str, user: str) -> Reply:
    headers = [["X-Auth-User", user]] if user else []
    told = {"method": "GET", "target": target, "headers": headers}
    return Reply(200, ((MARK, f"GET {target}"),), json.dumps(told).encode())


def well_kept(target: str, member: bool) -> Reply:
    """Answer as a good proxy does, with the check upstream behind it."""
    if target.startswith("/public"):
        return echo(target, "")
    if target.startswith("/admin") or not member:
        return page(b"no", 403 if member else 401)
    return echo(target, "ada")


class Wire:
    """Stands in for the proxy; remembers when it was asked what."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[float, bytes]] = []

    async def send(self, request: bytes) -> Reply:
        self.asked.append((time.monotonic(), request))
        target = request.split(b" ", 2)[1].decode("latin-1")
        return self.answer(target, b"Cookie: s=t\r\n" in request)


def suite(answer: Answer, place: Place = PLACE, cases: tuple[Case, ...] = CASES) -> Suite:
    return Suite(place, Wire(answer).send, cases)


async def test_what_is_normal_is_learned() -> None:
    known = await suite(well_kept).learn()
    assert known.exact
    assert known.shut_out
    assert known.identity == {Who.STRANGER: frozenset(), Who.MEMBER: {("X-AUTH-USER", "ada")}}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda target, member: page(b"", 502), "--public: /public answers 502"),
        (lambda target, member: page(b"open"), "--protected: /admin answers 200 to a stranger"),
        (lambda target, member: page(b"p") if target.startswith(("/public", "/x")) else
         page(b"", 401), "--page: /x is open to strangers"),
        (lambda target, member: page(b"p") if target.startswith("/public") else page(b"", 401),
         "--page: /x answers 401 with this cookie"),
        (lambda target, member: echo(target, "") if member or target.startswith("/public") else
         page(b"", 401), "--header"),
    ],
    ids=["nobody-there", "not-protected", "open-page", "dead-cookie", "no-identity"],
)  # fmt: skip
async def test_what_cannot_be_judged_is_said_before_the_cases(answer: Answer, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        await suite(answer).learn()


async def test_requests_are_counted_before_and_never_exceeded() -> None:
    wire = Wire(well_kept)
    whole = Suite(PLACE, wire.send, CASES)
    known = await whole.learn()
    await whole.run(known)
    assert await whole.still_the_same(known)
    await whole.calling_cards()
    assert len(wire.asked) == whole.requests()


async def test_the_rate_is_kept() -> None:
    wire = Wire(well_kept)
    slow = Suite(replace(PLACE, cookie=""), wire.send, CASES[:20], per_second=100)
    known = await slow.learn()
    wire.asked.clear()
    await slow.run(known)
    first, last = wire.asked[0][0], wire.asked[-1][0]
    assert last - first >= 0.19


async def test_a_member_who_may_open_the_page_breaks_in_nowhere() -> None:
    """Nothing is proven by somebody who may."""

    def answer(target: str, member: bool) -> Reply:
        return echo(target, "ada") if member else well_kept(target, member)

    whole = suite(answer, replace(PLACE, page="/admin"))
    known = await whole.learn()
    assert not known.shut_out
    [plain] = await replace(whole, cases=[Case("k", "plain", Must.SHUT)]).run(known)
    assert plain.verdict.outcome is Outcome.HELD


async def test_without_a_cookie_nothing_is_made_up() -> None:
    whole = suite(well_kept, replace(PLACE, cookie=""))
    results = await whole.run(await whole.learn())
    unsent = {each.case for each in results if each.verdict.outcome is Outcome.NOT_SENT}
    assert unsent == {case for case in CASES if case.needs_cookie}


async def test_who_is_shut_out_is_told() -> None:
    shut = False

    def answer(target: str, member: bool) -> Reply:
        return page(b"too many", 429) if shut else well_kept(target, member)

    whole = suite(answer)
    known = await whole.learn()
    shut = True
    results = await whole.run(known)
    assert {each.verdict.outcome for each in results} == {Outcome.UNJUDGED}
    assert not await whole.still_the_same(known)


async def test_a_broken_connection_is_no_proof() -> None:
    async def send(request: bytes) -> Reply:
        raise ConnectionRefusedError

    known = await suite(well_kept).learn()
    results = await Suite(PLACE, send, CASES[:5]).run(known)
    assert {each.verdict.outcome for each in results} == {Outcome.UNJUDGED}


def test_a_proxy_is_told_by_its_answers() -> None:
    said = {
        "nginx": Reply(401, (("Server", "nginx/1.31.3"),)),
        "envoy": Reply(401, (("server", "envoy"),)),
        "caddy": Reply(401, (("Via", "1.1 Caddy"),)),
        "haproxy": Reply(400, (), b"<h1>400</h1>\nYour browser sent an invalid request.\n"),
        "": Reply(401, (("Server", "Apache"),)),
    }
    assert {proxy_of(Reply(), reply) for reply in said.values()} == set(said)
    assert proxy_of(Reply(401, (("Server", "openresty"),))) == "nginx"
