"""What the profiles have of their own: narrowing, the unknown method, the pages for people."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from ipaddress import ip_network
from typing import Any, Literal
from urllib.parse import quote, unquote

import pytest

from gateway.adapters import authelia, oauth2_proxy
from gateway.adapters.callers import as_it_is, holding
from gateway.adapters.oauth2_pages import Pages, whose_session
from gateway.adapters.oauth2_proxy import Options, narrowing_of
from gateway.adapters.wire import Trusted, Wording
from gateway.alerts import Action
from gateway.binding import Binding, Bonds
from gateway.credentials import CookieOptions
from gateway.errors import StoreUnavailable
from gateway.identity import AUTHELIA, HEADERS, OAUTH2_PROXY, standing_of
from gateway.lifetime import Lifetime
from gateway.model import Actor, Client, EndState, Narrowing, Session, SessionKey
from gateway.ports import Confirmation, SessionStore, SignInRules
from gateway.rules import Access, RuleSpec
from gateway.sessions import Sessions
from tests.decision.samples import (
    COOKIE,
    MINUTE_MS,
    NOW_MS,
    PARTITIONS,
    TOKEN,
    FakeStore,
    cookie,
    make_authorizer,
    make_session,
)

from .families import (
    AUTH_REQUEST,
    AUTHELIA_EXT_AUTHZ,
    AUTHELIA_FORWARD_AUTH,
    FAMILIES,
    FORWARD_AUTH,
    INGRESS,
    OAUTH2,
    PROFILES,
    Asked,
    Family,
    join,
)
from .gate import LOGIN, Gate, serving
from .reply import Reply

SIGNED_IN = Asked(cookies=(cookie(),))


def narrowed(query: str, family: Family = OAUTH2, asked: Asked = SIGNED_IN) -> bytes:
    """Return a check at the address with this query."""
    endpoint = family.line(asked).split(b" ")[1]
    return family.request(asked).replace(endpoint, endpoint + b"?" + query.encode(), 1)


# --- narrowing -------------------------------------------------------------------------------

FITS = [
    "allowed_groups=staff",
    "allowed_groups=admins,staff",
    "allowed_groups=,staff,",
    "allowed_groups=staff&allowed_groups=member",
    "allowed_groups=s%74aff",
    "%61llowed_groups=staff",
    "allowed_emails=ada@example.com,root@example.com",
    "allowed_emails=ada%40example.com",
    "allowed_email_domains=example.com",
    "allowed_email_domains=example.org,.com",
    "allowed_email_domains=*.com",
    "allowed_groups=member&allowed_emails=ada@example.com&allowed_email_domains=example.com",
    "x=1&y&=&&z=%zz&q=%ff",
    "",
]
REFUSES = [
    ("allowed_groups=admins", "role_required"),
    ("allowed_groups=Staff", "role_required"),
    ("allowed_groups=staf", "role_required"),
    ("allowed_groups=staff+", "role_required"),
    ("allowed_groups=staff&allowed_groups=admins", "role_required"),
    ("allowed_groups=admins&allowed_groups=staff", "role_required"),
    ("allowed_groups=admins;allowed_groups=staff", "role_required"),
    ("allowed_emails=ada@example.org", "denied_by_rule"),
    ("allowed_emails=Ada@example.com", "denied_by_rule"),
    ("allowed_email_domains=ample.com", "denied_by_rule"),
    ("allowed_email_domains=.example.com", "denied_by_rule"),
    ("allowed_email_domains=*.example.com", "denied_by_rule"),
    ("allowed_email_domains=com", "denied_by_rule"),
    ("allowed_groups=staff&allowed_emails=eve@example.com", "denied_by_rule"),
    ("allowed_groups=", "bad_forwarded_request"),
    ("allowed_groups", "bad_forwarded_request"),
    ("allowed_groups=,", "bad_forwarded_request"),
    ("allowed_groups=staff&allowed_groups=", "bad_forwarded_request"),
    ("allowed_emails=%ff", "bad_forwarded_request"),
]


@pytest.mark.parametrize("query", FITS)
async def test_who_fits_passes(gate: Gate, query: str) -> None:
    """One of the values of every parameter is the session's; other parameters say nothing."""
    reply = await gate.send(narrowed(query))
    assert (reply.status, reply.one("X-Auth-Request-User")) == (202, "ada")


@pytest.mark.parametrize(("query", "reason"), REFUSES)
async def test_who_does_not_fit_is_refused(gate: Gate, query: str, reason: str) -> None:
    """403, which sends nobody to sign in again; and no activity is noted."""
    reply = await gate.send(narrowed(query))
    assert (reply.status, reply.one("X-Auth-Reason")) == (403, reason)
    assert not reply.names & set(OAUTH2_PROXY.names)
    assert gate.activity == []


@pytest.mark.parametrize("query", ["allowed_groups=staff", "allowed_groups=member,staff"])
async def test_narrowing_never_widens(gate: Gate, query: str) -> None:
    """What the policy refuses stays refused, and whoever is not signed in is."""
    admin = replace(SIGNED_IN, target=b"/admin/x")
    assert (await gate.send(narrowed(query, asked=admin))).status == 403
    assert (await gate.send(narrowed(query, asked=Asked()))).status == 401
    shut = replace(SIGNED_IN, target=b"/shut/x")
    assert (await gate.send(narrowed(query, asked=shut))).status == 403


async def test_a_public_page_stays_public(gate: Gate) -> None:
    """As with oauth2-proxy: narrowing is about who is signed in."""
    asked = Asked(b"/public/x")
    reply = await gate.send(narrowed("allowed_groups=admins", asked=asked))
    assert (reply.status, reply.one("X-Auth-Request-User")) == (202, "")


@pytest.mark.parametrize(
    "email", ["", "ada", "a@b@example.com", "@", "a@", "eve@example.com@evil.org"]
)
async def test_an_odd_address_is_of_no_domain(email: str) -> None:
    """What follows the last @ is not believed, and nothing is of no domain."""
    async with serving(make_session(email=email)) as gate:
        for query in ("allowed_email_domains=example.com", "allowed_email_domains=.com"):
            assert (await gate.send(narrowed(query))).status == 403
        assert (await gate.send(narrowed("allowed_emails=x"))).status == 403


@pytest.mark.parametrize("family", [each for each in FAMILIES + PROFILES if each is not OAUTH2],
                         ids=lambda each: each.name)  # fmt: skip
async def test_no_other_address_takes_options(gate: Gate, family: Family) -> None:
    """Elsewhere the query is the client's: it neither narrows nor breaks anything."""
    if family.in_line:
        asked = replace(SIGNED_IN, target=b"/app/x?allowed_groups=admins")
        assert (await gate.ask(family, asked)).status == family.allows
        return
    for query in ("allowed_groups=admins", "allowed_groups=", "allowed_emails=%ff"):
        assert (await gate.send(narrowed(query, family))).status == family.allows


@pytest.mark.parametrize(("told", "status"), [("example.com", 202), ("example.org", 403)])
async def test_the_operator_can_narrow_for_good(told: str, status: int) -> None:
    """What the configuration names holds without a word from the proxy, and beside it."""
    always = (Narrowing("email_domains", frozenset({told})),)
    async with serving(make_session()) as gate:
        use(gate, oauth2_proxy.Options(narrowing=always))
        assert (await gate.ask(OAUTH2, SIGNED_IN)).status == status
        assert (await gate.send(narrowed("allowed_groups=staff"))).status == status
        assert (await gate.send(narrowed("allowed_groups=admins"))).status == 403


def use(gate: Gate, options: oauth2_proxy.Options) -> None:
    """Ask the same listener with other options."""
    profile = oauth2_proxy.profile(Wording(LOGIN, OAUTH2_PROXY.nobody, 0), options, {})
    (adapter,) = profile.exact.values()
    gate.listener._exact["/oauth2/auth"] = gate.listener._exact["/oauth2/auth"]._replace(
        adapter=adapter
    )


def test_a_query_is_read_once_for_all_its_kinds() -> None:
    """Nothing is nothing; what names nobody is no answer at all."""
    assert narrowing_of("") == ()
    assert narrowing_of("allowed_emails=") is None
    assert narrowing_of("allowed_groups=a,b&allowed_emails=c") == (
        Narrowing("groups", frozenset("ab")),
        Narrowing("emails", frozenset("c")),
    )


# --- the method ------------------------------------------------------------------------------

BY_METHOD = [
    RuleSpec(Access.PUBLIC, path="/public/**"),
    RuleSpec(Access.PUBLIC, path="/read/**", methods=("GET",)),
    RuleSpec(Access.SESSION, path="/read/**"),
    RuleSpec(Access.SESSION, path="/some/**", methods=("GET", "POST")),
    RuleSpec(Access.SESSION, path="/put/**", methods=("PUT",), roles=("admin",)),
    RuleSpec(Access.SESSION, path="/put/**"),
]


@pytest.mark.parametrize(
    ("target", "stranger", "member"),
    [
        (b"/public/x", 202, 202),
        (b"/read/x", 401, 202),
        (b"/some/x", 403, 403),
        (b"/put/x", 401, 403),
    ],
)
async def test_an_untold_method_could_be_any(target: bytes, stranger: int, member: int) -> None:
    """What passes must pass with every method: nginx was not told to tell."""
    claims = (("X-Forwarded-Method", b"GET"), ("X-Original-Method", b"GET"))
    async with serving(make_session(), rules=BY_METHOD) as gate:
        for more in ((), claims):
            assert (await gate.ask(OAUTH2, Asked(target, more=more))).status == stranger
            asked = Asked(target, cookies=(cookie(),), more=more)
            assert (await gate.ask(OAUTH2, asked)).status == member


@pytest.mark.parametrize(
    ("rules", "plain", "preflight"),
    [
        ([RuleSpec(Access.PUBLIC, preflight=True), RuleSpec(Access.SESSION)], 401, 401),
        ([RuleSpec(Access.DENY, preflight=True), RuleSpec(Access.PUBLIC)], 202, 403),
        (
            [RuleSpec(Access.DENY, query=("x=1",), methods=("PUT",)), RuleSpec(Access.PUBLIC)],
            403,
            403,
        ),
        (
            [RuleSpec(Access.DENY, query=("x=2",), methods=("PUT",)), RuleSpec(Access.PUBLIC)],
            202,
            202,
        ),
    ],
)
async def test_conditions_hold_for_an_untold_method(
    rules: list[RuleSpec], plain: int, preflight: int
) -> None:
    """Whoever claims a preflight must pass as one, and as everything else too."""
    claims = (("Origin", b"https://a.example"), ("Access-Control-Request-Method", b"PUT"))
    async with serving(make_session(), rules=rules) as gate:
        assert (await gate.ask(OAUTH2, Asked(b"/a?x=1"))).status == plain
        assert (await gate.ask(OAUTH2, Asked(b"/a?x=1", more=claims))).status == preflight


async def test_a_demand_and_a_narrowing_must_both_be_met() -> None:
    """The rule's own answer comes first; a group of the proxy's opens nothing."""
    rules = [RuleSpec(Access.SESSION, aal=2)]
    for level, groups, status, step_up in (
        (1, "staff", 403, ["aal=2"]), (1, "admins", 403, ["aal=2"]),
        (2, "staff", 202, []), (2, "admins", 403, []),
    ):  # fmt: skip
        async with serving(make_session(aal=level), rules=rules) as gate:
            reply = await gate.send(narrowed(f"allowed_groups={groups}"))
            assert (reply.status, reply.all("X-Auth-Step-Up")) == (status, step_up)


async def test_a_method_can_be_told() -> None:
    """In the header that the operator names, exactly once, and not at all is a refusal."""
    async with serving(make_session(), rules=BY_METHOD) as gate:
        use(gate, oauth2_proxy.Options(method_header="X-Forwarded-Method"))
        for method, status in ((b"GET", 202), (b"POST", 401), (b"*", 403), (b"get", 403)):
            asked = Asked(b"/read/x", more=(("X-Forwarded-Method", method),))
            assert (await gate.ask(OAUTH2, asked)).status == status, method
        assert (await gate.ask(OAUTH2, Asked(b"/read/x"))).status == 403
        twice = (("X-Forwarded-Method", b"GET"), ("X-Forwarded-Method", b"GET"))
        assert (await gate.ask(OAUTH2, Asked(b"/read/x", more=twice))).status == 403


@pytest.mark.parametrize("family", [INGRESS, FORWARD_AUTH], ids=lambda each: each.name)
async def test_other_proxies_ask_oauth2_proxy_too(family: Family) -> None:
    """ingress-nginx and Traefik tell the request in their own headers; only these are read."""
    async with serving(make_session(), rules=BY_METHOD) as gate:
        use(gate, oauth2_proxy.Options(family.name))  # type: ignore[arg-type]
        there = replace(family, line=OAUTH2.line)
        assert (await gate.ask(there, Asked(b"/read/x"))).status == 202
        assert (await gate.ask(there, Asked(b"/read/x", "POST"))).status == 401
        assert (await gate.ask(OAUTH2, Asked(b"/public/x"))).status == 403


# --- Authelia --------------------------------------------------------------------------------


async def test_envoys_prefix_is_taken_literally(gate: Gate) -> None:
    """Without the slash that was configured, `//` could begin the client's own path: refused."""
    asked = Asked(b"/public/x")
    line = b"GET /api/authz/ext-authz/public/x HTTP/1.1"
    reply = await gate.send(join(line, AUTHELIA_EXT_AUTHZ.headers(asked)))
    assert (reply.status, reply.one("X-Auth-Reason")) == (403, "bad_forwarded_request")
    reply = await gate.ask(AUTHELIA_EXT_AUTHZ, Asked(b"//public/admin"))
    assert reply.status == 403


async def test_a_prefix_without_the_slash_can_be_chosen() -> None:
    """Then `//` is the client's, and judged as that."""
    profile = authelia.profile(Wording(LOGIN, AUTHELIA.nobody, 1), "/api/authz/ext-authz")
    (adapter,) = profile.below.values()
    assert "/api/authz/ext-authz" in profile.below
    async with serving(make_session()) as gate:
        endpoint = gate.listener._below.pop("/api/authz/ext-authz/")
        gate.listener._below["/api/authz/ext-authz"] = endpoint._replace(adapter=adapter)
        line = b"GET /api/authz/ext-authz%s HTTP/1.1"
        for target, status in ((b"/public/x", 200), (b"//public/x", 403), (b"public/x", 403)):
            raw = join(line % target, AUTHELIA_EXT_AUTHZ.headers(Asked()))
            assert (await gate.send(raw)).status == status, target


async def test_options_of_authelia_s_address_are_not_read(gate: Gate) -> None:
    """Neither a portal in the query nor one in a header moves the way to sign in."""
    page = (("Sec-Fetch-Mode", b"navigate"), ("X-Authelia-URL", b"https://evil.example/"))
    query = "rd=https://evil.example/&authelia_url=https://evil.example/"
    for family, asked in (
        (AUTHELIA_FORWARD_AUTH, Asked(more=page)),
        (FORWARD_AUTH, Asked(more=page)),
    ):
        reply = await gate.send(narrowed(query, family, asked))
        assert reply.one("Location").startswith("https://login.example.com/")


# --- pages -----------------------------------------------------------------------------------


class EndingStore(FakeStore):
    """A store of which a session can be ended."""

    async def end(self, key: SessionKey, why: EndState, actor: Actor, fence: object) -> str | None:
        if self.fault is not None:
            raise self.fault
        session = self.sessions.pop(key, None)
        return None if session is None else session.user

    def fence(self) -> None:
        """Nobody else remembers anything."""

    async def confirmed(self, fence: object) -> Confirmation:
        return Confirmation()


class Site:
    """A gate with pages, and what was counted."""

    def __init__(self, gate: Gate, store: EndingStore, ended: list[str]) -> None:
        self.gate = gate
        self.store = store
        self.ended = ended

    async def ask(
        self,
        target: str,
        *more: tuple[str, str],
        method: str = "GET",
        signed_in: bool = True,
        at: tuple[str, str] = ("X-Real-IP", "192.0.2.7"),
    ) -> Reply:
        headers = [("Host", "app.example.com"), at, *more]
        if signed_in:
            headers.append(("Cookie", cookie().decode()))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        return await self.gate.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")


@contextlib.asynccontextmanager
async def a_site(
    *sessions: Session,
    login_url: str = LOGIN,
    trusted: tuple[str, ...] = ("127.0.0.0/8",),
    bonds: Bonds | None = None,
    family: Literal["nginx", "forward_auth"] = "nginx",
) -> AsyncIterator[Site]:
    stand = partial(standing_of, profiles=(OAUTH2_PROXY,), bound=True)
    store, ended = EndingStore(*sessions, stand=stand), list[str]()
    port: SessionStore = store.as_store()
    rules = SignInRules(Lifetime(1000, 1000), 0, "evict", one_per_device=False)
    pages = Pages(
        Sessions(port, rules, PARTITIONS),
        whose_session(
            Options(family),
            Trusted((ip_network("127.0.0.0/8"),)),
            holding(Binding(bonds).hold) if bonds else as_it_is,
            make_authorizer([RuleSpec(Access.SESSION)], store, stand=stand).check,
        ),
        CookieOptions(COOKIE, "lax", "", secure=True),
        PARTITIONS,
        login_url,
        ("login.example.com", ".example.org", "ports.example.net:*", "one.example.net:8443"),
        ended.append,
    )
    async with serving(*sessions, pages=pages.by_path(), trusted=trusted) as gate:
        yield Site(gate, store, ended)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with a_site(make_session()) as site:
        yield site


CLEARED = "__Host-sid=; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=0"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_signing_out_ends_the_session(site: Site, method: str) -> None:
    """At the server and in the browser; then the way back."""
    reply = await site.ask("/oauth2/sign_out?rd=/bye", method=method)
    assert (reply.status, reply.one("Location")) == (302, "/bye")
    assert reply.one("Set-Cookie") == CLEARED
    assert reply.one("Cache-Control") == "no-store"
    assert (site.store.sessions, site.ended) == ({}, ["revoked"])
    again = await site.ask("/oauth2/sign_out")
    assert (again.status, again.one("Location"), site.ended) == (302, "/", ["revoked"])


@pytest.mark.parametrize("value", ["", "EVIL", "0b" + TOKEN[2:].decode()])
async def test_signing_out_without_a_session_clears_the_cookie(site: Site, value: str) -> None:
    """Nothing is ended, and nothing is left behind."""
    headers = [("Cookie", f"__Host-sid={value}")] if value else []
    reply = await site.ask("/oauth2/sign_out", *headers, signed_in=False)
    assert (reply.status, reply.one("Set-Cookie")) == (302, CLEARED)
    assert (len(site.store.sessions), site.ended) == (1, [])


async def test_in_doubt_nothing_is_forgotten(site: Site) -> None:
    """ "We do not know" is not "signed out": the browser keeps what it needs to try again."""
    site.store.fault = StoreUnavailable("timeout")
    reply = await site.ask("/oauth2/sign_out?rd=/bye")
    assert (reply.status, reply.all("Set-Cookie")) == (503, [])
    assert (await site.ask("/oauth2/userinfo")).status == 503
    site.store.fault = RuntimeError("bug")
    reply = await site.ask("/oauth2/sign_out?rd=/bye")
    assert (reply.status, reply.all("Set-Cookie"), reply.body) == (403, [], b"")
    assert len(site.gate.faults) == 1


@pytest.mark.parametrize(
    ("headers", "ends"),
    [
        ([("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")], False),
        ([("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")], False),
        ([("Sec-Purpose", "prefetch;prerender"), ("Sec-Fetch-Site", "same-origin")], False),
        ([("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-User", "?1")], True),
        ([("Sec-Fetch-Site", "same-site")], True),
        ([("Sec-Fetch-Site", "none")], True),
        ([], True),
    ],
)
async def test_a_foreign_page_signs_nobody_out_unasked(
    site: Site, headers: list[tuple[str, str]], ends: bool
) -> None:
    """Its images, frames and scripts do not; a link that a person clicks does."""
    reply = await site.ask("/oauth2/sign_out", *headers)
    assert reply.status == (302 if ends else 403)
    assert len(reply.all("Set-Cookie")) == ends
    assert len(site.store.sessions) == (not ends)


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_looking_ahead_signs_nobody_out(site: Site, method: str) -> None:
    """What previews links asks with HEAD."""
    assert (await site.ask("/oauth2/sign_out", method=method)).status == 405
    assert len(site.store.sessions) == 1


async def test_two_cookies_sign_nobody_out(site: Site) -> None:
    """Which of them is meant is not guessed."""
    other = ("Cookie", "__Host-sid=0b" + TOKEN[2:].decode())
    reply = await site.ask("/oauth2/sign_out", other)
    assert (reply.status, reply.one("X-Auth-Reason")) == (403, "duplicate_cookie")
    assert len(site.store.sessions) == 1


BACK = [
    ("/a?b=c", "/a?b=c"),
    ("https://app.example.com/a", "https://app.example.com/a"),
    ("http://app.example.com/a", "http://app.example.com/a"),
    ("https://login.example.com", "https://login.example.com/"),
    ("https://login.example.com/out?x=1", "https://login.example.com/out?x=1"),
    ("https://a.b.example.org/", "https://a.b.example.org/"),
    ("https://example.org/", "https://example.org/"),
    ("https://ports.example.net:9/", "https://ports.example.net:9/"),
    ("https://one.example.net:8443/", "https://one.example.net:8443/"),
]
ASTRAY = [
    "https://xapp.example.com/", "https://x.app.example.com/",
    "x", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil",
    "/a\r\nSet-Cookie: x", "https://evil.example/", "https:evil.example", "https:///evil.example",
    "https://app.example.com@evil.example/", "https://app.example.com.evil.example/",
    "https://evil.example/app.example.com", "https://evilexample.org/",
    "https://login.example.com:1/",
    "https://app.example.com:1/", "https://one.example.net/", "https://a.login.example.com/",
    "https://login.example.com\\.evil.example/", "https://login.example.com#/",
    "javascript:alert(1)",
    "data:text/html,x", "https://LOGIN.example.com/", "https://login.example.com./",
    "https://login.example.com,evil.example/", "/oauth2/sign_out", "https://[::1]/", "/é",
    "/" + "a" * 3000,
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "back"), BACK)
async def test_the_way_back_leads_to_allowed_hosts(site: Site, wanted: str, back: str) -> None:
    """Paths, the host that was asked, and those that the operator named."""
    reply = await site.ask(f"/oauth2/sign_out?rd={quote(wanted, safe='')}")
    assert reply.one("Location") == back
    assert len(reply.head) < 3072


@pytest.mark.parametrize("wanted", ASTRAY)
async def test_no_way_back_leads_astray(site: Site, wanted: str) -> None:
    """Anything else is the root of the same site; signed out is signed out."""
    reply = await site.ask(f"/oauth2/sign_out?rd={quote(wanted, safe='')}&rd=/x")
    assert (reply.status, reply.one("Location"), site.ended) == (302, "/", ["revoked"])
    login = await site.ask(f"/oauth2/sign_in?rd={quote(wanted, safe='')}")
    assert "rd=https%3A%2F%2Fapp.example.com%2F&" in login.one("Location")


@pytest.mark.parametrize("path", ["/oauth2/sign_in", "/oauth2/start"])
async def test_signing_in_is_elsewhere(site: Site, path: str) -> None:
    """At the page that the operator named, with the way back."""
    for wanted, back in (("/a?b=c&d", "https://app.example.com/a?b=c"), BACK[5]):
        reply = await site.ask(f"{path}?rd={wanted}")
        assert reply.status == 302
        login = reply.one("Location")
        assert login.startswith("https://login.example.com/?rd=")
        assert unquote(login).split("rd=")[1].split("&from")[0] == back
    async with a_site(login_url="") as without:
        assert (await without.ask(path)).status == 404


async def test_a_browser_learns_whose_session_it_has(site: Site) -> None:
    """As JSON, under oauth2-proxy's names; a stranger learns nothing."""
    reply = await site.ask("/oauth2/userinfo")
    assert (reply.status, reply.one("Content-Type")) == (200, "application/json")
    assert json.loads(reply.body) == {
        "user": "ada",
        "email": "ada@example.com",
        "groups": ["member", "staff"],
        "preferredUsername": "ada",
    }
    assert (await site.ask("/oauth2/userinfo", signed_in=False)).status == 401
    site.store.sessions.clear()
    assert (await site.ask("/oauth2/userinfo")).status == 401


@pytest.mark.parametrize(
    "refused",
    [
        {"last_seen_ms": NOW_MS - 15 * MINUTE_MS},
        {"expires_ms": NOW_MS},
        {"aal": 0},
    ],
)
async def test_whose_session_it_is_is_told_only_where_a_check_would_pass(
    refused: dict[str, Any],
) -> None:
    """What rests too long, is over or in doubt is nobody's."""
    async with a_site(make_session(**refused)) as site:
        reply = await site.ask("/oauth2/userinfo")
        assert (reply.status, reply.body) == (401, b"")


@pytest.mark.parametrize("family", ["nginx", "forward_auth"])
async def test_whose_session_it_is_is_told_only_to_its_caller(
    family: Literal["nginx", "forward_auth"],
) -> None:
    """By the address as this family tells it, and by the client's headers."""
    client = Client("192.0.2.7", user_agent="curl/8")
    session = replace(make_session(), client=client)
    bonds = Bonds(fingerprint=Action.DENY, address=Action.DENY)
    ours, theirs = ("X-Real-IP", "192.0.2.7"), ("X-Real-IP", "203.0.113.1")
    if family == "forward_auth":
        ours, theirs = ("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-For", "192.0.2.7, 192.0.2.8")
    async with a_site(session, bonds=bonds, family=family) as site:
        for agent, address, status in (
            ("curl/8", ours, 200),
            ("curl/8", theirs, 401),
            ("Firefox/1", ours, 401),
            ("", ours, 401),
        ):
            reply = await site.ask("/oauth2/userinfo", ("User-Agent", agent), at=address)
            assert reply.status == status, (agent, address)


@pytest.mark.parametrize("path", ["/oauth2", "/oauth2/", "/oauth2/callback", "/oauth2/sign_out/",
                                  "/oauth2/sign_out/x", "/OAUTH2/sign_out", "//oauth2/sign_out",
                                  "/api/authz", "/api/authz/legacy", "/api/verify",
                                  "/api/authz/auth-request/"])  # fmt: skip
async def test_nothing_else_of_a_peer_is_here(site: Site, path: str) -> None:
    assert (await site.ask(path)).status == 404
    assert len(site.store.sessions) == 1


async def test_only_the_proxy_may_ask_for_pages() -> None:
    """Somebody who reaches the port neither signs out nor learns anything."""
    async with a_site(make_session(), trusted=("192.0.2.0/24",)) as site:
        for path in ("/oauth2/sign_out", "/oauth2/userinfo", "/oauth2/sign_in"):
            reply = await site.ask(path)
            assert (reply.status, reply.body) == (404, b"")
        assert len(site.store.sessions) == 1


async def test_names_of_one_family_stay_with_it(gate: Gate) -> None:
    """No answer of one holds a name of another."""
    sets = {HEADERS, OAUTH2_PROXY.names, AUTHELIA.names}
    for family in (AUTH_REQUEST, *PROFILES):
        reply = await gate.ask(family, SIGNED_IN)
        others = set().union(*(names for names in sets if names != family.told.names))
        assert not reply.names & others
