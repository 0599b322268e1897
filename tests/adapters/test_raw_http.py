"""The listener as a server of HTTP: odd, long, broken and hostile requests, byte for byte."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.identity import headers_of
from gateway.rules import Access, RuleSpec
from tests.decision.samples import TOKEN, cookie, make_session

from .families import AUTH_REQUEST, EXT_AUTHZ, FAMILIES, PROFILES, Asked, Family, join
from .gate import Connection, Gate, serving
from .reply import Reply
from .test_every_adapter import EVERY_NAME, SIGNED_IN, check_denied, check_head


def check_refused(reply: Reply) -> None:
    """403 in our words: of a 400 nginx would make 500, and text would quote the request."""
    check_denied(reply, 403, "bad_forwarded_request")
    assert reply.body == b""
    assert reply.one("Connection") == "close"


# --- what must not disturb -------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PROPFIND", "TRACE"]
)
async def test_the_subrequests_own_method_does_not_matter(gate: Gate, method: str) -> None:
    """Proxies that name the method in a header ask with any; only Envoy's own counts."""
    for family in FAMILIES:
        if family is EXT_AUTHZ:
            continue
        raw = family.request(SIGNED_IN).replace(b"GET", method.encode(), 1)
        reply = await gate.send(raw)
        check_head(reply)
        assert reply.status == 200, family.name


async def test_envoys_own_method_is_the_clients(gate: Gate) -> None:
    """A method that no rule can name is refused."""
    assert (await gate.ask(EXT_AUTHZ, Asked(method="HEAD", cookies=(cookie(),)))).status == 200
    check_denied(
        await gate.ask(EXT_AUTHZ, Asked(method="TRACE", cookies=(cookie(),))), 403, "bad_method"
    )
    for method in ("FETCH", "get", "G(T", "GETGETGETGETGETGETGET"):
        check_refused(await gate.ask(EXT_AUTHZ, Asked(method=method, cookies=(cookie(),))))


LONG = {
    "a line of 60 kB": (("X-Long", b"a" * 60_000),),
    "a cookie of 60 kB": (("Cookie", b"a=" + b"b" * 60_000),),
    "400 headers": tuple((f"X-{number}", b"a") for number in range(400)),
    "400 cookies": tuple(("Cookie", b"a%d=1" % number) for number in range(400)),
    "odd bytes": (("X-Odd", bytes(range(0x80, 0x100))), ("User-Agent", b"\xff\xfe")),
    "an empty value": (("X-Empty", b""), ("X-Space", b"   ")),
    "Expect": (("Expect", b"100-continue"),),
    "an unknown Expect": (("Expect", b"the unexpected"),),
    "Upgrade": (("Connection", b"Upgrade"), ("Upgrade", b"websocket")),
    "h2c": (("Connection", b"Upgrade, HTTP2-Settings"), ("Upgrade", b"h2c"),
            ("HTTP2-Settings", b"AAMAAABkAARAAAAAAAIAAAAA")),
    "hop by hop": (("Connection", b"X-Original-URI, Cookie, X-Auth-User"),),
    "conditions": (("If-None-Match", b"*"), ("If-Modified-Since", b"x"), ("Range", b"bytes=0-1")),
    "codings": (("Accept-Encoding", b"gzip, br"), ("TE", b"trailers")),
}  # fmt: skip


@pytest.mark.parametrize("case", LONG)
async def test_what_clients_send_besides_is_borne(gate: Gate, family: Family, case: str) -> None:
    """The answer is the same as without it, and the connection serves the next request too."""
    plain = await gate.ask(family, SIGNED_IN)
    connection = await gate.connect()
    for _ in range(2):
        reply = await connection.ask(family.request(SIGNED_IN, extra=LONG[case]))
        assert reply.head == plain.head
    assert (await connection.ask(family.request(SIGNED_IN))).head == plain.head
    await connection.close()


BODIES = {
    "length": (("Content-Length", b"5"), b"hello"),
    "chunked": (("Transfer-Encoding", b"chunked"), b"5\r\nhello\r\n0\r\n\r\n"),
    "a request inside": (("Content-Length", b"%d"), AUTH_REQUEST.request(Asked(b"/public/x"))),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_body_is_passed_over(gate: Gate, family: Family, case: str) -> None:
    """It is never taken for a request, and the next request is found behind it."""
    (name, value), body = BODIES[case]
    if b"%d" in value:
        value %= len(body)
    connection = await gate.connect()
    connection.write(family.request(Asked(), extra=((name, value),)) + body)
    assert (await connection.read()).status == 401
    assert (await connection.ask(family.request(SIGNED_IN))).status == family.allows
    assert len(gate.observed) == 2
    await connection.close()


async def test_the_answer_does_not_wait_for_the_body(gate: Gate, family: Family) -> None:
    """A client that holds its body back holds nothing up."""
    connection = await gate.connect()
    connection.write(family.request(SIGNED_IN, extra=(("Content-Length", b"1000000"),)))
    assert (await connection.read()).status == family.allows
    await connection.close()


async def test_pipelined_requests_are_answered_in_order(gate: Gate) -> None:
    """Each by its own cookie: nothing of one request is left for the next."""
    connection = await gate.connect()
    cases = [(family, asked) for family in FAMILIES for asked in (SIGNED_IN, Asked()) * 2]
    connection.write(b"".join(family.request(asked) for family, asked in cases))
    for family, asked in cases:
        reply = await connection.read()
        check_head(reply)
        assert reply.status == (200 if asked is SIGNED_IN else 401), family.name
    await connection.close()


async def test_requests_at_once_do_not_mix(gate: Gate) -> None:
    """A crowd of members and strangers: each gets the answer to its own question."""

    async def ask(family: Family, asked: Asked) -> bool:
        reply = await gate.ask(family, asked)
        return reply.status == (200 if asked is SIGNED_IN else 401)

    asking = (ask(family, asked) for family in FAMILIES for asked in (SIGNED_IN, Asked()) * 10)
    assert all(await asyncio.gather(*asking))


async def test_http_1_0_is_answered(gate: Gate, family: Family) -> None:
    """nginx' auth_request speaks it unless told otherwise; the connection ends then."""
    connection = await gate.connect()
    raw = family.request(SIGNED_IN).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    assert (await connection.ask(raw)).status == family.allows
    assert await connection.ended()
    await connection.close()


async def test_a_request_in_single_bytes_is_one_request(gate: Gate) -> None:
    """How it is cut into packets decides nothing."""
    connection = await gate.connect()
    for byte in AUTH_REQUEST.request(SIGNED_IN):
        connection.write(bytes([byte]))
        await asyncio.sleep(0)
    assert (await connection.read()).status == 200
    await connection.close()


# --- what is not HTTP ------------------------------------------------------------------------

GOOD = AUTH_REQUEST.request(Asked(b"/public/x", cookies=(cookie(),)))
BROKEN = {
    "no host": GOOD.replace(b"Host: app.example.com\r\n", b""),
    "two hosts": GOOD.replace(b"\r\n", b"\r\nHost: app.example.com\r\n", 1),
    "unknown method": b"FETCH" + GOOD[3:],
    "lower-case method": b"get" + GOOD[3:],
    "space in target": GOOD.replace(b"/check/auth_request", b"/check/auth_request x", 1),
    "byte in target": GOOD.replace(b"/check/auth_request", b"/check/auth_request\xff", 1),
    "strange version": GOOD.replace(b"HTTP/1.1", b"HTTP/9.9", 1),
    "bare line feeds": GOOD.replace(b"\r\n", b"\n"),
    "bare carriage returns": GOOD[:-2].replace(b"\r\n", b"\r") + b"\r\n\r\n",
    "line feed in a value": GOOD.replace(b"/public/x", b"/public/x\nX-Evil: 1"),
    "NUL in a value": GOOD.replace(b"__Host-sid=", b"a=\x00; __Host-sid="),
    "control in a value": GOOD.replace(b"__Host-sid=", b"a=\x01; __Host-sid="),
    "folded line": GOOD.replace(b"\r\nX-Forwarded-For", b"\r\n X-Forwarded-For"),
    "space before colon": GOOD.replace(b"X-Original-URI:", b"X-Original-URI :"),
    "tab before colon": GOOD.replace(b"X-Original-URI:", b"X-Original-URI\t:"),
    "no colon": GOOD.replace(b"X-Original-URI:", b"X-Original-URI"),
    "no name": GOOD.replace(b"X-Original-URI:", b":"),
    "bytes in a name": GOOD.replace(b"X-Original-URI:", b"X-Original-\xffURI:"),
    "a line of 70 kB": GOOD[:-2] + b"X-Long: " + b"a" * 70_000 + b"\r\n\r\n",
    "a target of 70 kB": GOOD.replace(b"/check", b"/" + b"a" * 70_000 + b"/check", 1),
    "600 headers": GOOD[:-2] + b"".join(b"X-%d: a\r\n" % n for n in range(600)) + b"\r\n",
    "length and chunked": GOOD[:-2] + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0"
    b"\r\n\r\n",
    "two lengths": GOOD[:-2] + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "signed length": GOOD[:-2] + b"Content-Length: +5\r\n\r\nhello",
    "coding not chunked": GOOD[:-2] + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "PROXY": b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + GOOD,
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
async def test_broken_http_is_refused_in_our_words(
    gate: Gate, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """403, which every proxy takes for a denial; the token is neither echoed nor logged."""
    caplog.set_level(logging.DEBUG)
    connection = await gate.connect()
    check_refused(await connection.ask(BROKEN[case]))
    assert await at_end(connection)
    await connection.close()
    assert TOKEN.decode() not in caplog.text
    assert "Cookie" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_connection_ends_with_its_first_broken_request(gate: Gate) -> None:
    """What follows is not read: nobody can tell where a next request would begin."""
    connection = await gate.connect()
    connection.write(BROKEN["space before colon"] + GOOD)
    check_refused(await connection.read())
    assert await connection.ended()
    assert gate.observed == []
    await connection.close()


async def test_a_broken_chunk_after_the_head_allows_nothing_more(gate: Gate) -> None:
    """The request before it was whole; what comes after is not looked at."""
    connection = await gate.connect()
    head = AUTH_REQUEST.request(Asked(), extra=(("Transfer-Encoding", b"chunked"),))
    connection.write(head + b"ZZ\r\n" + GOOD)
    statuses = [(await connection.read()).status]
    while not await at_end(connection):
        statuses.append((await connection.read()).status)
    assert set(statuses) <= {401, 403}
    await connection.close()


async def at_end(connection: Connection) -> bool:
    try:
        return await connection.ended()
    except ConnectionError:
        return True


async def test_a_client_that_goes_away_leaves_no_fault(gate: Gate) -> None:
    """Half a request, or no patience for the answer, is nobody's bug."""
    for raw in (GOOD[:40], GOOD, GOOD * 5):
        connection = await gate.connect()
        connection.write(raw)
        await connection.close()
    assert (await gate.send(GOOD)).status == 200
    assert gate.faults == []


async def test_envoy_hands_on_a_strange_target_and_nobody_passes(gate: Gate) -> None:
    """The client's own path is part of our request line: every byte of it is judged."""
    for target in (
        b"/public/../app",
        b"/public#/x",
        b"/public\\x",
        b"//public/../app/x",
        b"/public;/../app",
    ):
        for prefix in (b"", b"http://app.example.com"):
            line = b"GET " + prefix + b"/check/ext_authz" + target + b" HTTP/1.1"
            reply = await gate.send(join(line, [("Host", b"app.example.com")]))
            assert reply.status in (403, 404), line


# --- random bytes ----------------------------------------------------------------------------

NAMES = sorted(
    {name for family in FAMILIES for name, _ in family.headers(Asked())}
    | {"Cookie", "cookie", "X_Original_URI", "X-Auth-User", "Content-Length", "Connection"}
)
PIECES = [
    *(b"/public/x", b"/app/x", b"/admin", b"GET", b"app.example.com", b"192.0.2.7", b"https"),
    *(b"https://app.example.com/app/x", b"__Host-sid", b"=", b";", b",", b"\xe2\x80\x80", b"\xff"),
    *(b"%2e%2e", b"..;", b"//", b"#", b"?", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\x00", b"\x7f"),
    *(TOKEN[:44], TOKEN.upper(), b"0b" + TOKEN[2:], b"OPTIONS", b":", b"http", b"chunked", b"5"),
]
VALUE = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join), st.binary(max_size=30)
)
LINES = st.lists(st.tuples(st.sampled_from(NAMES), VALUE), max_size=8)


@pytest.mark.parametrize("mode", ["added", "alone"])
def test_no_bytes_pass_without_a_token(mode: str) -> None:
    """No headers whatsoever, beside good ones or alone, are a 200 without a good token."""
    rules = [RuleSpec(Access.SESSION)]

    @settings(
        max_examples=250,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(lines=LINES, chosen=st.sampled_from(FAMILIES + PROFILES))
    def passes_nothing(lines: list[tuple[str, bytes]], chosen: Family) -> None:
        raw = chosen.request(Asked(), extra=tuple(lines))
        if mode == "alone":
            raw = join(chosen.line(Asked()), lines)
        for reply in runner.run(replies_to(raw)):
            assert reply.status in (302, 401, 403, 404), raw
            assert not reply.names & EVERY_NAME
            check_head(reply)

    async def replies_to(raw: bytes) -> list[Reply]:
        """Send it and a good request that must not pass either; return all answers."""
        connection = await gate.connect()
        connection.write(raw + AUTH_REQUEST.request(Asked()))
        connection._writer.write_eof()
        found = []
        while True:
            try:
                found.append(await connection.read())
            except (asyncio.IncompleteReadError, ConnectionError):
                break
        await connection.close()
        return found

    with asyncio.Runner() as runner:
        manager = serving(make_session(), rules=rules)
        gate = runner.run(manager.__aenter__())
        try:
            passes_nothing()
            assert gate.faults == []
            assert TOKEN not in b"".join(PIECES)
        finally:
            runner.run(manager.__aexit__(None, None, None))


def test_no_bytes_ahead_of_a_good_cookie_change_whose_it_is() -> None:
    """Whatever else a request holds, an allow names the owner of the one good token."""
    rules = [RuleSpec(Access.SESSION)]

    @settings(
        max_examples=250,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(lines=LINES, chosen=st.sampled_from(FAMILIES + PROFILES))
    def names_the_owner(lines: list[tuple[str, bytes]], chosen: Family) -> None:
        reply = runner.run(gate.ask(chosen, SIGNED_IN, extra=tuple(lines)))
        check_head(reply)
        if reply.status == chosen.allows:
            told = headers_of(make_session(), chosen.told)
            assert tuple(reply.headers[: len(told)]) == told
            assert reply.names & EVERY_NAME == set(chosen.told.names)
        else:
            assert reply.status in (302, 401, 403, 404)

    with asyncio.Runner() as runner:
        manager = serving(make_session(), rules=rules)
        gate = runner.run(manager.__aenter__())
        try:
            names_the_owner()
            assert gate.faults == []
        finally:
            runner.run(manager.__aexit__(None, None, None))
