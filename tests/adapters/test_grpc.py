"""What only gRPC has: messages, deadlines, headers to remove, and no error that decides."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.adapters import ext_authz_grpc, grpc_server
from gateway.adapters.ext_authz_grpc import MAX_MESSAGE, on_the_wire
from gateway.adapters.messages import CheckRequest, CheckResponse, HealthRequest, HealthResponse
from gateway.adapters.wire import Answer, Wording
from gateway.decision import DENIALS, PUBLIC, Decision, Reason
from gateway.errors import ConfigurationError
from gateway.identity import HEADERS, HeaderSet, standing_of
from gateway.model import SessionKey
from gateway.ports import Reading
from gateway.rules import Access, RuleSpec
from tests.decision.samples import TOKEN, cookie, make_request, make_session

from .calls import call, message, reply_of
from .families import GRPC, Asked, Family
from .gate import Gate, serving
from .reply import Reply
from .test_every_adapter import PAGE, SIGNED_IN, check_denied, check_head

RAW = GRPC[1]
HEALTH = "/grpc.health.v1.Health/Check"


@pytest.fixture(params=GRPC, ids=lambda family: family.id)
def family(request: pytest.FixtureRequest) -> Family:
    chosen: Family = request.param
    return chosen


def changed(change: Callable[[Any], object], asked: Asked = SIGNED_IN) -> bytes:
    """Return the message of a good question after `change` of its attributes."""
    parsed = CheckRequest.FromString(RAW.request(asked))
    change(parsed.attributes)
    serialized: bytes = parsed.SerializeToString()
    return serialized


# --- one explicit answer ---------------------------------------------------------------------


@pytest.mark.parametrize("status", HTTPStatus, ids=int)
def test_only_200_is_an_allow(status: HTTPStatus) -> None:
    """Of every other status a refusal is made, also of those that HTTP counts as success."""
    response = CheckResponse.FromString(on_the_wire(Answer(status, b"X-A: b\r\n", b"body")))
    assert response.HasField("status")
    assert response.HasField("ok_response") is (status == 200)
    assert response.HasField("denied_response") is (status != 200)
    assert (response.status.code == 0) is (status == 200)


@pytest.mark.parametrize("request_", [None, make_request()], ids=["unread", "read"])
@pytest.mark.parametrize(
    "decision", [PUBLIC, Decision(None, standing_of(make_session())), *DENIALS.values()]
)
def test_every_decision_is_written_out(decision: Decision, request_: Any) -> None:
    """Never nothing, which Envoy takes for an allow; and an allow has every identity header."""
    answer = on_the_wire(ext_authz_grpc.write(decision, request_, Wording()))
    assert len(answer) > 100
    response = CheckResponse.FromString(answer)
    assert response.HasField("ok_response") is (decision.reason is None)
    if decision.reason is None:
        names = [option.header.key for option in response.ok_response.headers]
        assert names == list(HEADERS)


def test_what_is_remembered_is_how_an_identity_is_written() -> None:
    """Prepared once for a session; another identity has another answer."""
    first = Decision(None, standing_of(make_session()))
    other = Decision(None, standing_of(make_session(user="bob")))
    one, same, two = (
        on_the_wire(ext_authz_grpc.write(each, make_request(), Wording()))
        for each in (first, first, other)
    )
    assert one is same
    assert b"bob" in two
    assert b"bob" not in one


# --- headers to remove -----------------------------------------------------------------------

SPELLINGS = {
    "underscores": "x_auth_user",
    "dots": "x.auth.user",
    "mixed": "x-auth_user",
    "mixed again": "x_auth-user",
    "capitals": "X_AUTH.User",
    "what CGI folds too": "x!auth~user",
}


@pytest.mark.parametrize("name", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("target", [b"/app/x", b"/public/x"])
async def test_another_spelling_of_our_headers_is_removed(
    gate: Gate, family: Family, target: bytes, name: str
) -> None:
    """With the headers that are set; what only looks similar stays."""
    others = tuple(
        (other, b"x") for other in ("x_auth_users", "xauthuser", "x--auth_user", "theme", "x_y")
    )
    asked = Asked(target, cookies=(cookie(),), more=((name, b"evil"), *others))
    reply = await gate.ask(family, asked)
    assert reply.status == 200
    assert reply.removed == (name.lower(),)


async def test_every_alias_of_every_managed_header_is_removed(gate: Gate, family: Family) -> None:
    aliases = [spelt for name in HEADERS for spelt in all_spellings(name.lower())]
    reply = await gate.ask(
        family, Asked(cookies=(cookie(),), more=tuple((name, b"evil") for name in aliases))
    )
    assert set(reply.removed) == set(aliases) - {name.lower() for name in HEADERS}
    assert reply.one("X-Auth-User") == "ada"


def all_spellings(name: str) -> list[str]:
    parts = name.split("-")
    return [
        "".join(itertools.chain(*zip(parts, (*signs, ""), strict=True)))
        for signs in itertools.product("-_.", repeat=len(parts) - 1)
    ]


def test_configured_names_are_the_ones_that_are_set_and_cleared() -> None:
    """Those in use, not those that are shipped; for somebody and for nobody."""
    told = HeaderSet((("Remote-User", "user"), ("Remote-Groups", "roles")))
    claims = ("remote_user", "remote.groups", "x_auth_user", "remote-user")
    request = make_request()._replace(header_names=claims)
    for decision in (PUBLIC, Decision(None, standing_of(make_session(), told))):
        answer = ext_authz_grpc.write(decision, request, Wording(nobody=told.nobody))
        allowed = CheckResponse.FromString(on_the_wire(answer)).ok_response
        assert [option.header.key for option in allowed.headers] == ["Remote-User", "Remote-Groups"]
        assert list(allowed.headers_to_remove) == ["remote_user", "remote.groups"]


async def test_the_exact_name_is_not_removed(gate: Gate, family: Family) -> None:
    """Envoy removes after it has set: our own would go."""
    claims = tuple((name, b"evil") for name in HEADERS)
    reply = await gate.ask(family, Asked(cookies=(cookie(),), more=claims))
    assert reply.removed == ()
    assert reply.one("X-Auth-User") == "ada"


# --- what is read ----------------------------------------------------------------------------


async def test_two_cookie_headers_are_two_when_they_come_raw(gate: Gate) -> None:
    """As with a proxy of HTTP: equal ones are one, others are not believed."""
    more = Asked(cookies=(b"theme=dark", cookie(), cookie()))
    assert (await gate.ask(RAW, more)).status == 200
    other = Asked(cookies=(cookie(), b"a=1; " + cookie(b"0b" + TOKEN[2:])))
    check_denied(await gate.ask(RAW, other), 401, "duplicate_cookie")


async def test_joined_cookie_headers_are_no_cookies(gate: Gate) -> None:
    """What Envoy joins with a comma is nobody's token."""
    for cookies in ((cookie(), cookie()), (cookie(), b"theme=dark")):
        reply = await gate.ask(GRPC[0], Asked(cookies=cookies))
        check_denied(reply, 401, "malformed_token")


async def test_odd_bytes_beside_the_cookie_disturb_nothing(gate: Gate, family: Family) -> None:
    odd = (("user-agent", b"caf\xe9 \xff\x80"), ("x-empty", b""), ("x-utf8", "é".encode()))
    reply = await gate.ask(family, Asked(cookies=(cookie(),), more=odd))
    assert (reply.status, reply.one("X-Auth-User")) == (200, "ada")


REFUSED: dict[str, Callable[[Any], object]] = {
    "nothing": lambda a: a.Clear(),
    "no http": lambda a: a.request.Clear(),
    "no source": lambda a: a.source.Clear(),
    "another method in the headers": lambda a: header(a, ":method", value=b"OPTIONS"),
    "another path in the headers": lambda a: header(a, ":path", value=b"/public/y"),
    "another host in the headers": lambda a: header(a, ":authority", value=b"other"),
    "a path replaced in the attributes": lambda a: setattr(a.request.http, "path", b"/app/!"),
    "an attribute twice in the headers": lambda a: again(a, ":path"),
    "a header with two values": lambda a: header(a, "cookie", value=b"x"),
    "a name that is none": lambda a: header(a, "cookie", key="coo kie"),
    "a name of nothing": lambda a: header(a, "cookie", key=""),
    "a name with a line break": lambda a: header(a, "cookie", key="x_a\r\nx-auth-user"),
    "a name beyond ASCII": lambda a: header(a, "cookie", key="cöokie"),
    "headers both ways": lambda a: a.request.http.headers.add(
        key="x-forwarded-proto", value=b"https"
    ),
}


def header(attributes: Any, name: str, **values: bytes | str) -> None:
    """Change one of the raw headers."""
    for each in attributes.request.http.header_map.headers:
        if each.key == name:
            if name.startswith(":"):
                each.raw_value = b""
            for field, value in values.items():
                setattr(each, field, value)


def again(attributes: Any, name: str) -> None:
    for each in list(attributes.request.http.header_map.headers):
        if each.key == name:
            attributes.request.http.header_map.headers.append(each)


@pytest.mark.parametrize("case", REFUSED)
async def test_what_contradicts_itself_is_refused(gate: Gate, case: str) -> None:
    """No client can make Envoy say this, so it is not Envoy, or not as we know it."""
    for asked in (SIGNED_IN, Asked(b"/public/x", cookies=(cookie(),))):
        reply = await gate.call(changed(REFUSED[case], asked))
        check_denied(reply, 403, "bad_forwarded_request")
    assert gate.faults == []


async def test_a_client_on_a_unix_socket_has_no_address(gate: Gate) -> None:
    def over_unix(attributes: Any) -> None:
        attributes.source.Clear()
        attributes.source.address.pipe.path = b"/run/envoy.sock"

    assert (await gate.call(changed(over_unix))).status == 200
    assert gate.last[1] is not None
    assert gate.last[1].address == ""


async def test_of_a_stranger_nothing_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_server, "subrequest_of", None)
    async with serving(make_session(), trusted=()) as gate:
        check_denied(await gate.ask(RAW, SIGNED_IN), 403, "untrusted_peer")
        assert gate.faults == []


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.7:4711", "192.0.2.7"),
        ("ipv6:[2001:db8::7]:4711", "2001:db8::7"),
        ("ipv6:%5B2001:db8::7%5D:4711", "2001:db8::7"),
        ("ipv6:%5B::ffff:192.0.2.7%5D:4711", "::ffff:192.0.2.7"),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::1%eth0"),
        ("unix:", None),
        ("unix:/run/check.sock", None),
        ("", ""),
        ("nonsense", ""),
    ],
)
def test_a_peer_is_who_grpc_says(peer: str, address: str | None) -> None:
    """Whatever is not understood is an address that no network holds."""
    assert grpc_server._address_of(peer) == address


# --- messages that are none ------------------------------------------------------------------

GOOD = RAW.request(SIGNED_IN)
WIRE = st.one_of(
    st.binary(max_size=200),
    st.tuples(st.integers(0, len(GOOD)), st.binary(max_size=6)).map(
        lambda cut: GOOD[: cut[0]] + cut[1]
    ),
    st.tuples(st.integers(0, len(GOOD) - 1), st.integers(1, 255)).map(
        lambda flip: GOOD[: flip[0]] + bytes([GOOD[flip[0]] ^ flip[1]]) + GOOD[flip[0] + 1 :]
    ),
    st.tuples(st.integers(0, len(GOOD)), st.integers(0, len(GOOD))).map(
        lambda span: GOOD[: span[0]] + GOOD[span[1] :]
    ),
)
NAME = st.sampled_from([":method", ":path", ":authority", ":source", "X-Forwarded-Proto", "cookie",
                        "x_auth_user", "accept", "sec-fetch-mode", ":x", "", "\xff"])  # fmt: skip
VALUE = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"GET", b"/app/x", b"app.example.com", b"192.0.2.7", b"https", b"/public/x",
                     b"text/html", b"navigate", TOKEN[:44], b"__Host-sid=", b"__Host-sid=" + b"x"]),
)  # fmt: skip
PAIRS = st.lists(st.tuples(NAME, VALUE), max_size=9)


def exhaust(test: Callable[[Gate, asyncio.Runner], object], rules: list[RuleSpec]) -> None:
    """Run a property over one server."""
    with asyncio.Runner() as runner:
        manager = serving(make_session(), rules=rules)
        gate = runner.run(manager.__aenter__())
        try:
            test(gate, runner)
            assert gate.faults == []
        finally:
            runner.run(manager.__aexit__(None, None, None))


FUZZ = settings(max_examples=300, database=None, suppress_health_check=list(HealthCheck))


def test_no_bytes_pass_without_a_token_or_end_in_an_error() -> None:
    """Truncated, flipped, cut and random: one explicit answer; whoever passes is the owner."""

    def property_of(gate: Gate, runner: asyncio.Runner) -> None:
        @FUZZ
        @given(wire=WIRE)
        def answered(wire: bytes) -> None:
            reply = runner.run(gate.call(wire))
            check_answer(reply, may_pass=TOKEN in wire)

        answered()

    exhaust(property_of, [RuleSpec(Access.SESSION)])


def test_no_headers_pass_without_a_token_or_end_in_an_error() -> None:
    """Well-formed messages of anything, raw and joined."""

    def property_of(gate: Gate, runner: asyncio.Runner) -> None:
        @FUZZ
        @given(pairs=PAIRS, raw=st.booleans(), beside=st.booleans())
        def answered(pairs: list[tuple[str, bytes]], raw: bool, beside: bool) -> None:
            known = [*RAW.headers(Asked())] if beside else []
            reply = runner.run(gate.call(message([*known, *pairs], raw=raw)))
            check_answer(reply, may_pass=False)

        answered()

    exhaust(property_of, [RuleSpec(Access.SESSION)])


def check_answer(reply: Reply, *, may_pass: bool) -> None:
    check_head(reply)
    if reply.status == 200:
        assert may_pass
        assert reply.one("X-Auth-User") == "ada"
    else:
        assert reply.status in (302, 303, 401, 403)
        assert not reply.names & set(HEADERS)


async def test_every_beginning_of_a_message_is_answered(gate: Gate) -> None:
    """However much of it came, nobody passes without the whole cookie."""
    for length in range(0, len(GOOD), 3):
        check_answer(await gate.call(GOOD[:length]), may_pass=TOKEN in GOOD[:length])
    assert gate.faults == []


async def test_a_message_beyond_the_limit_is_not_even_read() -> None:
    """Whoever reaches the port may send one, and many at once: grpcio would keep them all."""
    async with serving(make_session()) as gate:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await gate.call(b"a" * (grpc_server.DEFAULT_MAX_MESSAGE + 1))
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert gate.observed == []
        assert (await gate.ask(RAW, SIGNED_IN)).status == 200


async def test_a_small_message_cannot_unfold_into_a_large_one() -> None:
    """Envoy does not compress, so nobody needs to."""
    long = RAW.request(Asked(b"/public/x", more=(("x-long", b"a" * 100_000),)))
    async with serving(make_session()) as gate:
        with pytest.raises(grpc.aio.AioRpcError):
            await call(await gate.grpc_address(), long, compression=grpc.Compression.Gzip)
        assert gate.observed == []
        assert (await gate.call(long)).status == 200


async def test_who_says_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is no HTTP/2 costs nothing for long."""
    options = dict(grpc_server._OPTIONS) | {"grpc.server_handshake_timeout_ms": 100}
    assert len(options) == len(grpc_server._OPTIONS)
    monkeypatch.setattr(grpc_server, "_OPTIONS", tuple(options.items()))
    async with serving(make_session()) as gate:
        await gate.grpc_address()
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.grpc_port)
        async with asyncio.timeout(5):
            await reader.read()  # gRPC's greeting, then the end
        writer.close()


@pytest.mark.parametrize("size", [MAX_MESSAGE + 1, 5 << 20])
async def test_a_message_too_long_is_refused_in_words(gate: Gate, size: int) -> None:
    """Where more may be received: an error is what failure_mode_allow takes for an allow."""
    gate.grpc_max_message = 16 << 20
    asked = Asked(b"/public/x", more=(("x-long", b"a" * size),))
    check_denied(await gate.ask(RAW, asked), 403, "bad_forwarded_request")
    fits = Asked(b"/public/x", more=(("x-long", b"a" * (MAX_MESSAGE // 2)),))
    assert (await gate.ask(RAW, fits)).status == 200


async def test_too_many_headers_are_refused(gate: Gate, family: Family) -> None:
    """As over HTTP: each costs time in which nobody else is answered."""
    many = tuple((f"x-{number}", b"a") for number in range(513))
    assert (await gate.ask(family, Asked(b"/public/x", more=many[:400]))).status == 200
    refused = await gate.ask(family, Asked(b"/public/x", more=many))
    check_denied(refused, 403, "bad_forwarded_request")


# --- time ------------------------------------------------------------------------------------


@pytest.fixture
async def held(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Gate, asyncio.Event]]:
    """A gate whose store answers when it is let go."""
    async with serving(make_session()) as gate:
        let_go, read = asyncio.Event(), gate.store.read

        async def read_later(key: SessionKey) -> Reading:
            await let_go.wait()
            return await read(key)

        monkeypatch.setattr(gate.store, "read", read_later)
        yield gate, let_go


async def test_the_answer_is_out_before_the_caller_gives_up(
    held: tuple[Gate, asyncio.Event], family: Family
) -> None:
    """We do not know then, said in time and counted once."""
    gate, _ = held
    address, started = await gate.grpc_address(), time.monotonic()
    reply = reply_of(await call(address, family.request(SIGNED_IN), timeout=0.5))
    check_denied(reply, 503, "store_unavailable")
    assert 0.3 < time.monotonic() - started < 0.5
    assert len(gate.observed) == 1
    assert gate.faults == []


async def test_what_needs_no_wait_needs_no_time(held: tuple[Gate, asyncio.Event]) -> None:
    """However short the deadline is: a session in memory, a public page, a refusal."""
    gate, _ = held
    gate.store.remembers = True
    address = await gate.grpc_address()
    for asked, status in ((SIGNED_IN, 200), (Asked(b"/public/x"), 200), (Asked(), 401)):
        reply = reply_of(await call(address, RAW.request(asked), timeout=0.3))
        assert reply.status == status


async def test_a_caller_who_gives_up_leaves_no_fault(held: tuple[Gate, asyncio.Event]) -> None:
    gate, let_go = held
    address = await gate.grpc_address()
    asking = asyncio.create_task(call(address, GOOD))
    await until(lambda: gate.grpc is not None and gate.grpc._under_way == 1)
    asking.cancel()
    await until(lambda: gate.grpc is not None and gate.grpc._under_way == 0)
    let_go.set()
    assert (await gate.call(GOOD)).status == 200
    assert gate.faults == []


async def test_more_than_can_be_answered_in_time_is_refused_at_once(
    held: tuple[Gate, asyncio.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words, not by gRPC's own limit, which would be an error."""
    gate, let_go = held
    monkeypatch.setattr(grpc_server, "_MAX_UNDER_WAY", 3)
    address = await gate.grpc_address()
    waiting = [asyncio.create_task(call(address, GOOD)) for _ in range(3)]
    await until(lambda: gate.grpc is not None and gate.grpc._under_way == 3)
    for asked in (SIGNED_IN, Asked(b"/public/x")):
        check_denied(await gate.ask(RAW, asked), 503, "overloaded")
    let_go.set()
    assert [reply_of(answer).status for answer in await asyncio.gather(*waiting)] == [200] * 3
    assert (await gate.call(GOOD)).status == 200


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  (the server has no event for it)
            await asyncio.sleep(0.005)


async def test_calls_on_one_connection_do_not_mix(gate: Gate) -> None:
    """A crowd of members and strangers over one channel: each gets its own answer."""
    address = await gate.grpc_address()
    cases = [(SIGNED_IN, 200), (Asked(), 401), (Asked(b"/public/x"), 200), (Asked(more=PAGE), 302)]
    async with grpc.aio.insecure_channel(address) as channel:
        ask = channel.unary_unary("/envoy.service.auth.v3.Authorization/Check")
        answers = await asyncio.gather(
            *(ask(RAW.request(asked), timeout=10) for asked, _ in cases * 100)
        )
    assert [reply_of(answer).status for answer in answers] == [status for _, status in cases * 100]


# --- faults of ours --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["subrequest_of", "on_the_wire"])
async def test_a_bug_around_the_check_is_an_explicit_refusal(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Even where the answer cannot be written: an error of the call may be an allow."""
    bug = RuntimeError("bug")

    def broken(*anything: object, **more: object) -> None:
        raise bug

    monkeypatch.setattr(grpc_server, name, broken)
    for asked in (SIGNED_IN, Asked(b"/public/x")):
        check_denied(await gate.ask(RAW, asked), 503, "internal_error")
    assert gate.faults == [bug, bug]


# --- the server ------------------------------------------------------------------------------


async def health(gate: Gate, service: bytes = b"") -> int:
    request = HealthRequest(service=service).SerializeToString()
    answer = await call(await gate.grpc_address(), request, HEALTH)
    status: int = HealthResponse.FromString(answer).status
    return status


async def test_health_says_when_to_go_elsewhere(gate: Gate) -> None:
    """Serving until the drain begins; while it lasts, checks are answered."""
    await gate.grpc_address()
    assert gate.grpc is not None
    for service in (b"", b"envoy.service.auth.v3.Authorization"):
        assert await health(gate, service) == 1
    gate.grpc.drain()
    assert await health(gate) == 2
    assert (await gate.ask(RAW, SIGNED_IN)).status == 200


@pytest.mark.parametrize("request_", [b"\n\x05other", b"\n\x01\xff", b"\xff\xff"])
async def test_health_of_another_service_is_unknown(gate: Gate, request_: bytes) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(await gate.grpc_address(), request_, HEALTH)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_call_that_was_taken_is_answered_before_the_end(
    held: tuple[Gate, asyncio.Event],
) -> None:
    gate, let_go = held
    asking = asyncio.create_task(call(await gate.grpc_address(), GOOD))
    await until(lambda: gate.grpc is not None and gate.grpc._under_way == 1)
    assert gate.grpc is not None
    ending = asyncio.create_task(gate.grpc.close(5.0))
    await asyncio.sleep(0.05)
    let_go.set()
    assert reply_of(await asking).status == 200
    await ending


@pytest.mark.parametrize("path", ["/envoy.service.auth.v2.Authorization/Check", "/x/Check",
                                  "/envoy.service.auth.v3.Authorization/check"])  # fmt: skip
async def test_there_is_no_other_method(gate: Gate, path: str) -> None:
    """An old Envoy's question is not understood, and nothing is decided."""
    address = await gate.grpc_address()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(address, RAW.request(Asked(b"/public/x")), path)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert gate.observed == []


async def test_http_has_no_such_endpoint(gate: Gate) -> None:
    """The HTTP listener of a gateway knows its own adapters only."""
    reply = await gate.send(
        b"GET /envoy.service.auth.v3.Authorization/Check HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    assert (reply.status, gate.observed) == (404, [])


async def test_an_address_that_cannot_be_had_is_one_clear_error(gate: Gate, tmp_path: Path) -> None:
    server = grpc_server.GrpcServer(gate.listener)
    taken = await gate.grpc_address()
    with pytest.raises(ConfigurationError, match=f"check.grpc_listen: cannot listen on {taken}"):
        await server.open([taken], shared=False)
    await server.close(0)


def test_reasons_of_refusals_are_in_the_answer() -> None:
    """As a header, where the client and the access log find it."""
    for reason in Reason:
        answer = on_the_wire(ext_authz_grpc.write(DENIALS[reason], None, Wording()))
        assert reply_of(answer).one("X-Auth-Reason") == reason
