"""What rules look at beside method, host and path, through every adapter; and steps up."""

from __future__ import annotations

import ipaddress

import pytest

from gateway.identity import HEADERS
from gateway.rules import Access, RuleSpec
from tests.decision.samples import cookie, make_session

from .families import FAMILIES, Asked, Family, Header
from .gate import serving
from .reply import Reply

pytestmark = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)

ORIGIN: Header = ("Origin", b"https://other.example.org")
WANTS: Header = ("Access-Control-Request-Method", b"PUT")


async def ask(family: Family, rules: list[RuleSpec], asked: Asked) -> Reply:
    async with serving(make_session(), rules=rules) as gate:
        return await gate.ask(family, asked)


PREFLIGHT_RULES = [RuleSpec(Access.PUBLIC, preflight=True), RuleSpec(Access.SESSION)]


async def test_a_preflight_passes_as_nobody(family: Family) -> None:
    """By a rule that says so; a cookie beside it makes it nobody's all the same."""
    asked = Asked(method="OPTIONS", more=(ORIGIN, WANTS), cookies=(cookie(),))
    reply = await ask(family, PREFLIGHT_RULES, asked)
    assert reply.status == 200
    assert {value for name, value in reply.headers if name in HEADERS} == {""}


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("OPTIONS", ()),
        ("OPTIONS", (ORIGIN,)),
        ("OPTIONS", (WANTS,)),
        ("OPTIONS", (ORIGIN, ORIGIN, WANTS)),
        ("OPTIONS", (ORIGIN, WANTS, WANTS)),
        ("OPTIONS", (("Origin", b""), WANTS)),
        ("OPTIONS", (ORIGIN, ("Access-Control-Request-Method", b""))),
        ("OPTIONS", (ORIGIN, ("Access_Control_Request_Method", b"PUT"))),
        ("GET", (ORIGIN, WANTS)),
        ("POST", (ORIGIN, WANTS, ("X-HTTP-Method-Override", b"OPTIONS"))),
    ],
)
async def test_what_only_resembles_a_preflight_is_none(
    family: Family, method: str, headers: tuple[Header, ...]
) -> None:
    """OPTIONS, one Origin, one Access-Control-Request-Method; nothing less will do."""
    reply = await ask(family, PREFLIGHT_RULES, Asked(method=method, more=headers))
    assert (reply.status, reply.one("X-Auth-Reason")) == (401, "no_session")


@pytest.mark.parametrize(
    "headers",
    [
        (ORIGIN, WANTS),
        (ORIGIN, ORIGIN, WANTS),
        (ORIGIN, WANTS, WANTS),
        (("Origin", b""), WANTS),
        (("Origin", b"https://a.example, https://b.example"), WANTS),
        (ORIGIN, ("Access-Control-Request-Method", b"PUT,PUT")),
    ],
)
async def test_a_denied_preflight_is_denied_in_every_form(
    family: Family, headers: tuple[Header, ...]
) -> None:
    """What some server may take for a preflight does not escape a rule against them."""
    rules = [RuleSpec(Access.DENY, preflight=True), RuleSpec(Access.PUBLIC)]
    reply = await ask(family, rules, Asked(method="OPTIONS", more=headers))
    assert (reply.status, reply.one("X-Auth-Reason")) == (403, "denied_by_rule")


async def test_a_preflight_needs_a_session_by_default(family: Family) -> None:
    """Without such a rule it is a request like any other."""
    asked = Asked(method="OPTIONS", more=(ORIGIN, WANTS))
    assert (await ask(family, [RuleSpec(Access.SESSION)], asked)).status == 401


async def test_query_and_address_select_a_rule(family: Family) -> None:
    """Each adapter hands on the query, and the address that its proxy vouches for."""
    rules = [
        RuleSpec(Access.DENY, query=("export",)),
        RuleSpec(Access.PUBLIC, networks=(ipaddress.ip_network("192.0.2.0/24"),)),
        RuleSpec(Access.SESSION),
    ]
    for target, address, status in (
        (b"/app/x?tab=1", "192.0.2.7", 200),
        (b"/app/x?tab=1", "198.51.100.7", 401),
        (b"/app/x?tab=1&export=1", "192.0.2.7", 403),
        (b"/app/x?tab=1&%65xport=1", "192.0.2.7", 403),
    ):
        reply = await ask(family, rules, Asked(target, address=address))
        assert reply.status == status, (target, address)


async def test_a_step_up_says_what_the_sign_in_must_bring(family: Family) -> None:
    """403 for every proxy, never a redirect that could loop, with a hint for the application."""
    rules = [RuleSpec(Access.SESSION, aal=2, max_age_ms=300_000)]
    page = ("Sec-Fetch-Mode", b"navigate")
    reply = await ask(family, rules, Asked(cookies=(cookie(),), more=(page,)))
    assert (reply.status, reply.one("X-Auth-Reason")) == (403, "step_up_required")
    assert reply.one("X-Auth-Step-Up") == "aal=2, max_age=300"
    assert reply.all("Location") == []


async def test_other_denials_have_no_hint(family: Family) -> None:
    """The hint is for steps up alone."""
    rules = [RuleSpec(Access.SESSION, roles=("nobody",), aal=2)]
    reply = await ask(family, rules, Asked(cookies=(cookie(),)))
    assert (reply.status, reply.all("X-Auth-Step-Up")) == (403, [])
