"""One suite for all adapters: what each must answer to its proxy, over real sockets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from gateway.decision import Kind, Reason
from gateway.errors import StoreUnavailable
from gateway.identity import AUTHELIA, HEADERS, MAX_BLOCK, OAUTH2_PROXY, headers_of, lines
from gateway.rules import Access, RuleSpec
from gateway.target import ANY_METHOD
from tests.decision.samples import NOW_MS, TOKEN, FakeStore, cookie, make_session, unavailable

from .families import (
    EXT_AUTHZ,
    FAMILIES,
    FORWARD_AUTH,
    GRPC,
    OAUTH2,
    PROFILES,
    Asked,
    Family,
)
from .gate import Gate, serving
from .reply import Reply

SIGNED_IN = Asked(cookies=(cookie(),))
PAGE = (("Sec-Fetch-Mode", b"navigate"),)
EVERY_NAME = {*HEADERS, *OAUTH2_PROXY.names, *AUTHELIA.names}
BEHIND_IDENTITY = (
    ("Cache-Control", "no-store"),
    ("Vary", "Cookie"),
    ("X-Accel-Expires", "0"),
    ("Content-Length", "0"),
)
ALWAYS = set(BEHIND_IDENTITY[:3])
HTTP = FAMILIES + PROFILES


over_http = pytest.mark.parametrize("family", HTTP, ids=lambda family: family.name)


@pytest.fixture(params=HTTP + GRPC, ids=lambda family: family.id)
def family(request: pytest.FixtureRequest) -> Family:
    """Every way of asking, gRPC too."""
    chosen: Family = request.param
    return chosen


def check_head(reply: Reply) -> None:
    """Check what holds for every answer whatsoever."""
    if not reply.for_upstream:  # else caches never see them, and the application would
        assert set(reply.headers) >= ALWAYS
    names = [name.lower() for name, _ in reply.headers]
    assert len(names) == len(set(names)), names
    assert "set-cookie" not in names
    assert not {"date", "server", "transfer-encoding"} & set(names)
    assert "location" not in names or reply.status in (302, 303, 401)
    assert len(reply.head) <= 3072
    assert reply.head.isascii()
    assert reply.head.count(b"\n") == reply.head.count(b"\r\n") == len(reply.headers) + 2


def check_denied(reply: Reply, status: int, reason: str) -> None:
    check_head(reply)
    assert (reply.status, reply.one("X-Auth-Reason")) == (status, reason)
    assert not reply.names & EVERY_NAME


# --- allow -----------------------------------------------------------------------------------


@pytest.mark.parametrize("unix", [False, True])
async def test_an_allow_tells_who_it_is_and_nothing_else(
    gate: Gate, family: Family, unix: bool
) -> None:
    """Its one status, empty, all its headers once, three against caches, and the length."""
    reply = await gate.ask(family, SIGNED_IN, unix=unix)
    session = make_session()
    check_head(reply)
    assert (reply.status, reply.body) == (family.allows, b"")
    values = {"user": "ada", "email": "ada@example.com", "name": "Ada Lovelace",
              "roles": "member,staff", "session": session.id, "device": "laptop-1"}  # fmt: skip
    assert reply.headers == [
        *((name, values[source]) for name, source in family.told.headers),
        *(() if family.grpc else BEHIND_IDENTITY),
    ]
    assert gate.activity == [gate.store.stand(session)]
    assert TOKEN not in reply.head


async def test_the_request_is_read_as_the_client_sent_it(gate: Gate, family: Family) -> None:
    """Method, target, host, scheme and address come from this family's own headers."""
    scheme = "https" if family.scheme == "fixed" else "http"
    asked = Asked(
        b"/app/a%20b?x=%2F..&y", "POST", "APP.example.com:8443", scheme, "2001:DB8::1", (cookie(),)
    )
    assert (await gate.ask(family, asked)).status == family.allows
    adapter, request, decision = gate.last
    assert (adapter, decision.kind) == (family.name, Kind.ALLOW)
    assert request is not None
    assert (request.method, request.target, request.host, request.scheme, request.address) == (
        "POST" if family.tells_method else ANY_METHOD,
        "/app/a%20b?x=%2F..&y",
        "APP.example.com:8443",
        scheme,
        "2001:db8::1",
    )


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "HEAD", "POST"])
async def test_a_public_page_has_all_headers_empty(gate: Gate, family: Family, method: str) -> None:
    """Also with a cookie, and for OPTIONS: else proxies keep what the client claimed."""
    gate.store.fault = unavailable()
    claims = tuple((name, b"evil") for name in family.told.names)
    for cookies in ((), (cookie(),), (b"__Host-sid=EVIL",)):
        reply = await gate.ask(family, Asked(b"/public/x", method, cookies=cookies, more=claims))
        check_head(reply)
        assert reply.status == family.allows
        assert [pair for pair in reply.headers if pair[0] in EVERY_NAME] == [
            (name, "") for name in family.told.names
        ]
    assert gate.store.asked == []


NAMES = [
    "Zoë 100%",
    "caf%C3%A9",
    "日本語",
    "a, b",
    'O"Hara; x=y',
    "a\u0085b",
    "e\u0301",
    "",
    "😀" * 20,
]


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_of_any_language_arrives(family: Family, name: str) -> None:
    """Percent-encoded as UTF-8 where needed; the application gets back what was told."""
    role = name.replace(",", "")  # a role with the separator would be two
    session = make_session(name=name, user=name or "ada", roles=(role,) if name else ())
    async with serving(session) as gate:
        reply = await gate.ask(family, SIGNED_IN)
    check_head(reply)
    assert reply.status == family.allows
    for header, source in family.told.headers:
        expected = {"user": session.user, "name": name, "roles": role}.get(source)
        if expected is not None:
            assert unquote(reply.one(header), errors="strict") == expected


async def test_raw_utf8_is_for_those_who_ask_for_it(family: Family) -> None:
    """The operator may have values as they are; ours stay valid UTF-8."""
    async with serving(make_session(user="Zoë 100%"), raw_utf8=True) as gate:
        reply = await gate.ask(family, SIGNED_IN)
    assert (reply.status, reply.one(family.user)) == (family.allows, "Zoë 100%")


UNFIT = ["a\r\nX-Auth-Roles: admin", "a\nb", "a\rb", "a\x00b", "a\x7f", " a", "a ", "ad\udce9min"]


@pytest.mark.parametrize("raw_utf8", [False, True])
@pytest.mark.parametrize("value", UNFIT)
async def test_an_unfit_identity_is_not_written(family: Family, value: str, raw_utf8: bool) -> None:
    """Should the store ever hold such a value, nobody passes with it, and we hear of it."""
    async with serving(make_session(user=value), raw_utf8=raw_utf8) as gate:
        reply = await gate.ask(family, SIGNED_IN)
        check_denied(reply, family.unknown, "internal_error")
        assert len(gate.faults) == 1
        assert gate.last[2].kind is Kind.UNKNOWN


async def test_the_largest_identity_fits(family: Family) -> None:
    """The most that a sign-in may have keeps the head below 3 kB."""
    room = MAX_BLOCK - len(lines(headers_of(make_session(email=""), family.told)))
    session = make_session(email="é" * (room // 6) + "x" * (room % 6))
    async with serving(session) as gate:
        reply = await gate.ask(family, SIGNED_IN)
    check_head(reply)
    assert reply.status == family.allows
    assert len(reply.head) > MAX_BLOCK


# --- denials ---------------------------------------------------------------------------------


SIGN_IN_CASES = {
    "no_session": (),
    "malformed_token": (b"__Host-sid=EVIL",),
    "duplicate_cookie": (cookie(), cookie(b"0b" + TOKEN[2:])),
    "unknown_session": (cookie(b"0b" + TOKEN[2:]),),
}


def back_of(login: str) -> str:
    """Return the address to come back to, as the sign-in page would read it."""
    before, _, rest = login.partition("?rd=")
    assert before == "https://login.example.com/"
    escaped, _, after = rest.partition("&")
    assert after == "from=gateway"
    return unquote(escaped, errors="strict")


@pytest.mark.parametrize("reason", SIGN_IN_CASES)
async def test_who_is_not_signed_in_is_told_where(gate: Gate, family: Family, reason: str) -> None:
    """401 with the way to sign in for nginx, for others a redirect; the address comes intact."""
    asked = Asked(b"/app/a%20b?x=1&rd=%2F&y=%C3%A9", cookies=SIGN_IN_CASES[reason], more=PAGE)
    reply = await gate.ask(family, asked)
    if family.grpc and not family.raw and reason == "duplicate_cookie":
        reason = "malformed_token"  # Envoy has joined the two with a comma
    if family.hands_on:
        check_denied(reply, 302, reason)
        assert reply.all("WWW-Authenticate") == []
        login = reply.one("Location")
    else:
        check_denied(reply, 401, reason)
        assert reply.one("WWW-Authenticate").split()[0] not in ("Basic", "Negotiate")
        login = reply.one(family.login)
    assert back_of(login) == asked.url.decode()
    assert reply.body == b""
    assert gate.activity == []


@pytest.mark.parametrize(
    "target",
    [b"/app/x?" + b"a" * 5000, b"/app/" + b"a" * 3000, b"/app/x?" + b"%2F&" * 700,
     b"/app/x?\xff\xfe",
     b"/app/x?<script>\"'&;,\t|", b"/app/x?\xc3\xa9", b"/app/x?" + b"\xff" * 2000],
)  # fmt: skip
async def test_no_address_spoils_the_way_back(gate: Gate, family: Family, target: bytes) -> None:
    """However long or odd, the answer stays below 3 kB and leads back to the same site."""
    if family.in_line and set(target) & {0xFF, 0xC3, 0x09}:
        return  # no HTTP request line; the next test but one sends it
    if family.scheme == "url" and b"\t" in target:
        return  # no URL
    reply = await gate.ask(family, Asked(target, more=PAGE))
    check_denied(reply, 302 if family.hands_on else 401, "no_session")
    login = reply.one("Location" if family.hands_on else family.login)
    escaped = login.partition("?rd=")[2].partition("&")[0]
    assert escaped == quote(unquote(escaped, "latin-1"), safe="", encoding="latin-1")
    assert unquote(escaped, "latin-1").startswith("https://app.example.com/app/"[:23])
    if len(target) < 100:
        assert unquote(escaped, "latin-1").encode("latin-1").endswith(target)
    assert gate.faults == []


async def test_the_scheme_of_the_way_back_is_the_proxys(gate: Gate, family: Family) -> None:
    """https unless the proxy says http."""
    for scheme in ("http", "https"):
        reply = await gate.ask(family, Asked(scheme=scheme, more=PAGE))
        login = reply.one("Location" if family.hands_on else family.login)
        said = "https" if family.scheme == "fixed" else scheme
        assert back_of(login).startswith(f"{said}://app.example.com/")
    if family.scheme == "header":
        reply = await gate.ask(family, Asked(scheme="http", more=PAGE), drop="X-Forwarded-Proto")
        login = reply.one("Location" if family.hands_on else family.login)
        assert back_of(login).startswith("https://app.example.com/")


async def test_a_handshake_of_a_websocket_has_a_scheme_too(gate: Gate) -> None:
    """Traefik with trustForwardHeader says ws or wss; the way back is to a page."""
    for said, meant in (("ws", "http"), ("wss", "https")):
        reply = await gate.ask(FORWARD_AUTH, Asked(scheme=said, more=PAGE))
        assert back_of(reply.one("Location")).startswith(f"{meant}://app.example.com/")
        assert (await gate.ask(FORWARD_AUTH, Asked(scheme=said, cookies=(cookie(),)))).status == 200


NAVIGATIONS = {
    "navigate": ((("Sec-Fetch-Mode", b"navigate"),), True),
    "cors": ((("Sec-Fetch-Mode", b"cors"), ("Accept", b"text/html")), False),
    "no-cors": ((("Sec-Fetch-Mode", b"no-cors"),), False),
    "old-browser": ((("Accept", b"text/html,*/*;q=0.8"),), True),
    "script": ((("Accept", b"application/json"),), False),
    "anything": ((("Accept", b"*/*"),), False),
    "nothing": ((), False),
    "xhr": ((("Accept", b"text/html"), ("X-Requested-With", b"XMLHttpRequest")), False),
    "xhr-lower": ((*PAGE, ("x-requested-with", b"xmlhttprequest")), False),
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("case", NAVIGATIONS)
async def test_only_a_page_is_sent_to_sign_in(
    gate: Gate, family: Family, case: str, method: str
) -> None:
    """302 after GET and HEAD, 303 after others; neither a script nor nginx gets a redirect."""
    more, page = NAVIGATIONS[case]
    reply = await gate.ask(family, Asked(method=method, more=more))
    if not (family.hands_on and page):
        check_denied(reply, 401, "no_session")
        assert len(reply.all("Location")) == (family.login == "Location")
        assert len(reply.all("WWW-Authenticate")) == 1
        return
    check_denied(reply, 302 if method in ("GET", "HEAD") else 303, "no_session")
    assert len(reply.all("Location")) == 1


async def test_without_a_sign_in_page_there_is_no_redirect(family: Family) -> None:
    """401 then, for pages as well, and no empty header."""
    async with serving(login_url="") as gate:
        reply = await gate.ask(family, Asked(more=PAGE))
    check_denied(reply, 401, "no_session")
    assert reply.all("Location") == reply.all("X-Auth-Login") == []


@pytest.mark.parametrize("cookies", [(), (cookie(),)])
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (b"/shut/x", "denied_by_rule"),
        (b"/nowhere", "no_rule"),
        (b"/", "no_rule"),
        (b"/public/../admin", "ambiguous_path"),
        (b"/public/%2e%2e/admin", "ambiguous_path"),
        (b"/public/..;/admin", "ambiguous_path"),
        (b"/public/%00", "ambiguous_path"),
        (b"/publicx", "no_rule"),
    ],
)
async def test_what_no_sign_in_would_open_is_403(
    gate: Gate, family: Family, target: bytes, reason: str, cookies: tuple[bytes, ...]
) -> None:
    """Never 401 and never a redirect, which would go round in circles."""
    reply = await gate.ask(family, Asked(target, cookies=cookies, more=PAGE))
    check_denied(reply, 403, reason)
    assert reply.all("X-Auth-Login") == reply.all("WWW-Authenticate") == []


async def test_a_missing_role_is_403(gate: Gate, family: Family) -> None:
    """Signed in but not allowed: signing in again would not help."""
    for more in ((), PAGE):
        reply = await gate.ask(family, Asked(b"/admin/x", cookies=(cookie(),), more=more))
        check_denied(reply, 403, "role_required")
    assert gate.activity == []


@pytest.mark.parametrize(
    ("changes", "reason"), [({"expires_ms": NOW_MS}, "expired"), ({"last_seen_ms": 0}, "idle")]
)
async def test_an_ended_session_is_told_to_sign_in(
    family: Family, changes: dict[str, int], reason: str
) -> None:
    """As if there were none, with a reason of its own; the cookie is left alone."""
    async with serving(make_session(**changes)) as gate:  # type: ignore[arg-type]
        check_denied(await gate.ask(family, SIGNED_IN), 401, reason)


async def test_a_body_says_no_more_than_the_head(gate: Gate, family: Family) -> None:
    """Problem details for scripts, a small page for people, nothing for nginx."""
    script = await gate.ask(family, Asked(b"/shut/x"))
    page = await gate.ask(family, Asked(b"/shut/x", more=PAGE))
    if not family.hands_on:
        assert script.body == page.body == b""
        assert script.all("Content-Type") == []
        return
    assert script.one("Content-Type") == "application/problem+json"
    assert json.loads(script.body) == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "reason": "denied_by_rule",
    }
    assert page.one("Content-Type") == "text/html; charset=utf-8"
    assert b"denied_by_rule" in page.body


# --- "we do not know" ------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), PAGE])
@pytest.mark.parametrize("kind", ["timeout", "connection", "nonsense"])
async def test_a_store_fault_is_neither_yes_nor_no(
    gate: Gate, family: Family, kind: str, more: tuple[tuple[str, bytes], ...]
) -> None:
    """In the status that this proxy takes for a denial; no sign-in, no cookie cleared."""
    gate.store.fault = StoreUnavailable(kind, "secret detail")
    reply = await gate.ask(family, Asked(cookies=(cookie(),), more=more))
    check_denied(reply, family.unknown, "store_unavailable")
    assert reply.all("X-Auth-Login") == reply.all("WWW-Authenticate") == []
    assert len(reply.all("Retry-After")) == family.hands_on
    assert b"secret detail" not in reply.head + reply.body
    assert gate.activity == []
    assert gate.faults == []


@pytest.mark.parametrize("bug", [RuntimeError("bug"), KeyError("x"), TimeoutError(), OSError(28)])
async def test_a_bug_never_allows(gate: Gate, family: Family, bug: Exception) -> None:
    """An exception anywhere in a check denies, is reported, and tells the client nothing."""
    gate.store.fault = bug
    reply = await gate.ask(family, SIGNED_IN)
    check_denied(reply, family.unknown, "internal_error")
    assert gate.faults == [bug]
    assert gate.last[2].reason is Reason.INTERNAL_ERROR


async def test_a_watcher_that_fails_changes_no_answer(family: Family) -> None:
    """A full disk under the log is no reason to answer 500, which some take for an allow."""

    def broken(*anything: object) -> None:
        raise OSError(28, "No space left on device")

    async with serving(make_session()) as gate:
        gate.listener._observe = broken
        gate.listener._on_fault = broken
        assert (await gate.ask(family, SIGNED_IN)).status == family.allows
        check_denied(await gate.ask(family, Asked()), 401, "no_session")
        gate.store.fault = RuntimeError("bug")
        check_denied(await gate.ask(family, SIGNED_IN), family.unknown, "internal_error")


# --- input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [b"/public/x", b"/app/x"])
async def test_a_missing_input_is_refused(gate: Gate, family: Family, target: bytes) -> None:
    """Never a default, not even where everything would be public."""
    for name in family.inputs:
        asked = Asked(target, cookies=(cookie(),))
        for extra in ((), ((name, b""),), ((name, b" \t "),)):
            reply = await gate.ask(family, asked, name, extra)
            check_denied(reply, 403, "bad_forwarded_request")


async def test_a_repeated_input_is_refused(gate: Gate, family: Family) -> None:
    """Also when both say the same, in any spelling of the name, before or after the other."""
    names = {name for name, _ in family.headers(Asked())}
    names -= set() if family.tells_host else {"Host"}
    names -= {":source"}  # no header: a message has it once
    for name in names:
        value = dict(family.headers(Asked(b"/public/x")))[name]
        for spelling in (name, name.lower(), name.upper()):
            for other in (value, b"", b"x"):
                reply = await gate.ask(family, Asked(b"/public/x"), extra=((spelling, other),))
                check_denied(reply, 403, "bad_forwarded_request")


async def test_a_malformed_input_is_refused(gate: Gate, family: Family) -> None:
    """Whatever is wrong with it, 403 with a reason, and no fault of ours."""
    for name, values in family.malformed.items():
        for value in values:
            for target in (b"/public/x", b"/app/x"):
                asked = Asked(target, cookies=(cookie(),))
                reply = await gate.ask(family, asked, name, ((name, value),))
                check_head(reply)
                assert reply.status == 403, (name, value)
                assert reply.one("X-Auth-Reason") in {
                    "bad_forwarded_request",
                    "bad_method",
                    "bad_host",
                    "ambiguous_path",
                }
    assert gate.faults == []


OTHERS = (
    *(("X-Original-Method", b"GET"), ("X-Original-URI", b"/public/x"), ("X-Real-IP", b"127.0.0.1")),
    *(("X-Original-URL", b"https://app.example.com/public/x"), ("X-Forwarded-Uri", b"/public/x")),
    *(("X-Forwarded-Method", b"OPTIONS"), ("X-Forwarded-Host", b"evil"), ("X-Forwarded-For", b"x")),
    *(("X-Forwarded-Prefix", b"/public"), ("X-Rewrite-URL", b"/public/x"), ("X-Host", b"evil")),
    *(("Forwarded", b"for=127.0.0.1;host=evil;proto=http"), ("X-HTTP-Method-Override", b"OPTIONS")),
    *(("X-Forwarded-Port", b"80"), ("X-Forwarded-Server", b"evil"), ("X-Original-Host", b"evil")),
    *(("X_Original_URI", b"/public/x"), ("X.Original.URI", b"/public/x")),
    *(("X_Forwarded_Uri", b"/public/x"), ("X.Forwarded.Uri", b"/public/x")),
    *(("X_Original_URL", b"https://app.example.com/public/x"), ("X_Forwarded_Host", b"evil")),
    *(("X-Forwarded-User", b"root"), ("Authorization", b"Bearer x"), ("Remote-User", b"root")),
    *(("X-Envoy-Original-Path", b"/public/x"), ("X-Envoy-External-Address", b"127.0.0.1")),
    *(("X-Auth-User", b"root"), ("X_Auth_User", b"root")),
)


async def test_other_families_are_not_looked_at(gate: Gate, family: Family) -> None:
    """What another proxy would have set comes from the client here: it neither opens nor shuts."""
    own = {name.lower() for name, _ in family.headers(Asked())}
    extra = tuple(pair for pair in OTHERS if pair[0].lower() not in own)
    assert len(extra) > 20
    refused = await gate.ask(family, Asked(), extra=extra)
    check_denied(refused, 401, "no_session")
    allowed = await gate.ask(family, SIGNED_IN, extra=extra)
    assert (allowed.status, allowed.one(family.user)) == (family.allows, "ada")
    for name, value in extra:
        reply = await gate.ask(family, Asked(b"/admin/x"), extra=((name, value),))
        check_denied(reply, 401, "no_session")
    request = gate.last[1]
    assert request is not None
    method = "GET" if family.tells_method else ANY_METHOD
    assert (request.method, request.host) == (method, "app.example.com")


async def test_no_other_address_is_believed(gate: Gate, family: Family) -> None:
    """The client's address is only where this proxy puts it, after what the client put there."""
    own = {name for name, _ in family.headers(Asked())}
    claims = [("X-Real-IP", b"198.51.100.1"), ("X-Forwarded-For", b"198.51.100.1")]
    claims += [("Forwarded", b"for=198.51.100.1"), ("X-Client-IP", b"198.51.100.1")]
    extra = tuple(claim for claim in claims if claim[0] not in own)
    assert (await gate.ask(family, SIGNED_IN, extra=extra)).status == family.allows
    assert gate.last[1] is not None
    assert gate.last[1].address == "192.0.2.7"


@pytest.mark.parametrize(
    ("hops", "address"),
    [
        ("198.51.100.1, 192.0.2.7", "192.0.2.7"),
        ("198.51.100.1,192.0.2.7 ,\t127.0.0.1", "192.0.2.7"),
        ("rubbish, fe80::1%x, 192.0.2.7, ::ffff:127.0.0.1", "192.0.2.7"),
        ("127.0.0.1, 127.0.0.2", "127.0.0.1"),
        ("198.51.100.1, " * 3000 + "192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
    ],
)
@pytest.mark.parametrize("listing", [FORWARD_AUTH, EXT_AUTHZ], ids=lambda each: each.name)
async def test_the_last_hop_that_is_not_ours_is_the_client(
    gate: Gate, listing: Family, hops: str, address: str
) -> None:
    """What stands before it is the client's own text, however much there is."""
    asked = Asked(address=hops, cookies=(cookie(),))
    assert (await gate.ask(listing, asked)).status == 200
    assert gate.last[1] is not None
    assert gate.last[1].address == address


@pytest.mark.parametrize("listing", [FORWARD_AUTH, EXT_AUTHZ], ids=lambda each: each.name)
async def test_hops_are_counted_from_the_end(listing: Family) -> None:
    """With a number of hops no address decides what is ours; a shorter list is refused."""
    cases = {
        (1, "198.51.100.1, 192.0.2.7, 203.0.113.5"): "192.0.2.7",
        (1, "192.0.2.7,127.0.0.1"): "192.0.2.7",
        (1, "192.0.2.7, 127.0.0.9, 127.0.0.1"): "127.0.0.9",
        (2, "rubbish, 192.0.2.7, 203.0.113.5 , unknown"): "192.0.2.7",
        (1, "192.0.2.7"): None,
        (2, "192.0.2.7, 203.0.113.5"): None,
        (1, "rubbish, 203.0.113.5"): None,
        (1, ", 203.0.113.5"): None,
    }
    for (hops, listed), address in cases.items():
        async with serving(make_session(), hops=hops) as gate:
            reply = await gate.ask(listing, Asked(address=listed, cookies=(cookie(),)))
            if address is None:
                check_denied(reply, 403, "bad_forwarded_request")
            else:
                assert gate.last[1] is not None
                assert (reply.status, gate.last[1].address) == (200, address)


async def test_only_our_own_prefix_is_cut_off(gate: Gate) -> None:
    """A client's path that holds the prefix again is judged with it: it is the client's."""
    target = b"/check/ext_authz/public/check/ext_authz/x"
    check_denied(await gate.ask(EXT_AUTHZ, Asked(target)), 403, "no_rule")
    target = b"/public/check/ext_authz/../x"
    check_denied(await gate.ask(EXT_AUTHZ, Asked(target)), 403, "ambiguous_path")
    target = b"/app/check/ext_authz"
    assert (await gate.ask(EXT_AUTHZ, Asked(target, cookies=(cookie(),)))).status == 200
    assert gate.last[1] is not None
    assert gate.last[1].target == target.decode()


async def test_envoy_may_leave_the_address_out(gate: Gate) -> None:
    """Its `allowed_headers` decide; then nothing is known, and nothing is guessed."""
    assert (await gate.ask(EXT_AUTHZ, SIGNED_IN, "X-Forwarded-For")).status == 200
    assert gate.last[1] is not None
    assert gate.last[1].address == ""


QUERIES = [
    b"?allowed_groups=x",
    b"?rd=https://evil",
    b"?/public/x",
    b"?uri=/public/x",
    b"?",
    b"?x#y",
]


@pytest.mark.parametrize("query", QUERIES)
async def test_a_query_on_the_endpoint_sets_nothing(
    gate: Gate, family: Family, query: bytes
) -> None:
    """Caddy appends the client's query to our address: no option is read from there.

    But for oauth2-proxy's, which can only narrow.
    """
    if family.in_line or family.grpc:
        asked = Asked(b"/app/x" + query, more=PAGE)
        check_denied(await gate.ask(family, asked), 302, "no_session")
        assert (await gate.ask(family, replace(asked, cookies=(cookie(),)))).status == family.allows
    else:
        asked = Asked(b"/app/x")
        endpoint = family.line(asked).split(b" ")[1]
        raw = family.request(asked).replace(endpoint, endpoint + query, 1)
        check_denied(await gate.send(raw), 401, "no_session")
        signed_in = raw.replace(b"\r\n\r\n", b"\r\nCookie: " + cookie() + b"\r\n\r\n")
        narrowed = family is OAUTH2 and b"allowed_groups" in query
        assert (await gate.send(signed_in)).status == (403 if narrowed else family.allows)


# --- who may ask -----------------------------------------------------------------------------


@pytest.mark.parametrize("trusted", [(), ("192.0.2.0/24",), ("::1/128",), ("127.0.0.2/32",)])
async def test_an_untrusted_peer_gets_nothing(family: Family, trusted: tuple[str, ...]) -> None:
    """Not even what is public, and whatever addresses the headers claim."""
    claims = (("X-Forwarded-For", b"192.0.2.7"), ("X-Real-IP", b"192.0.2.7"))
    async with serving(make_session(), trusted=trusted) as gate:
        for target in (b"/public/x", b"/app/x"):
            asked = Asked(target, cookies=(cookie(),), more=PAGE + claims)
            check_denied(await gate.ask(family, asked), 403, "untrusted_peer")
        assert gate.store.asked == []
        assert gate.last[1] is None
        assert gate.strangers == [(gate.last[0], "127.0.0.1")] * 2  # who asked, not what it claims


async def test_the_unix_socket_is_trusted(family: Family, sockets: Path) -> None:
    """Whoever may open it may ask, however short the list of addresses is."""
    async with serving(make_session(), folder=sockets, trusted=()) as gate:
        assert (await gate.ask(family, SIGNED_IN, unix=True)).status == family.allows
        assert (await gate.ask(family, SIGNED_IN)).status == 403


PATHS = [b"/", b"/check", b"/check/", b"/check/auth_request/", b"/check/auth_request/x",
         b"/healthz",
         b"/check/ingress/", b"/check/forward_auth/../auth_request", b"/check/ext_authz", b"*",
         b"/check/ext_authzx/public/x", b"/check/ext_authz?/public/x", b"//check/auth_request",
         b"/CHECK/auth_request", b"/check%2fauth_request", b"/check/auth_request%20", b"/metrics",
         b"/check/auth_request;x", b"/check/auth_request#x", b"/oauth2/auth", b"/public/x",
         b"/api/authz/auth-request", b"/v1/sessions", b"http://x/check/auth_request",
         b"http://x/check/ext_authz/public/x", b"//x/check/ext_authz/public/x"]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_anything_else_is_404(path: bytes) -> None:
    """Whatever the policy says and whatever headers come with it: here all is public."""
    rules = [RuleSpec(Access.PUBLIC)]
    async with serving(make_session(), rules=rules, profiles=False) as gate:
        for family in FAMILIES + PROFILES:
            raw = family.request(SIGNED_IN)
            line, rest = raw.split(b"\r\n", 1)
            method = b"OPTIONS" if path == b"*" else b"GET"
            reply = await gate.send(method + b" " + path + b" HTTP/1.1\r\n" + rest)
            assert reply.status == 404, (path, line)
            check_head(reply)
            assert not reply.names & EVERY_NAME
        assert gate.observed == []


# --- draining --------------------------------------------------------------------------------


@over_http
async def test_a_leaving_replica_closes_after_its_answer(gate: Gate, family: Family) -> None:
    """The connection stays until then; with the answer goes `Connection: close`."""
    connection = await gate.connect()
    first = await connection.ask(family.request(SIGNED_IN))
    gate.server.drain()
    last = await connection.ask(family.request(SIGNED_IN))
    assert (first.status, first.all("Connection")) == (family.allows, [])
    assert (last.status, last.one("Connection")) == (family.allows, "close")
    assert await connection.ended()
    await connection.close()


async def test_the_store_is_asked_once_for_each_check(gate: Gate, family: Family) -> None:
    """HAProxy asks four times: the answers are the same, and nothing is kept between them."""
    replies = [await gate.ask(family, SIGNED_IN) for _ in range(4)]
    assert [reply.head for reply in replies] == [replies[0].head] * 4
    gate.store.sessions.clear()
    assert (await gate.ask(family, SIGNED_IN)).status == 401
    assert len(gate.store.asked) == (1 if gate.store.remembers else 5)  # one at the fault


def test_the_store_of_these_tests_keeps_its_contract() -> None:
    """It knows exactly the sessions that it was given."""
    assert list(FakeStore(make_session()).sessions.values()) == [make_session()]
