"""What an answer says: an allow that should not be is a hole, what cannot be known is said so."""

from __future__ import annotations

import json

import pytest

from gateway.conformance.cases import Case, Must, Who
from gateway.conformance.place import Place
from gateway.conformance.sender import LATE, NOTHING, UNREADABLE, Reply
from gateway.conformance.upstream import MARK
from gateway.conformance.verdict import Known, Outcome, judge

PLACE = Place("h.example", "/admin", "/public", "/x", "s=t", mark="MARK")
IDENTITY = {Who.STRANGER: frozenset[tuple[str, str]](),
            Who.MEMBER: frozenset({("X-AUTH-USER", "ada")})}  # fmt: skip
EXACT = Known(PLACE, exact=True, harmless=(), secret=None, identity=IDENTITY, shut_out=True)
BLIND = Known(PLACE, exact=False, harmless=(b"public", b"sign in"), secret=b"secret",
              identity=IDENTITY)  # fmt: skip
DYNAMIC = Known(PLACE, exact=False, harmless=(), secret=None, identity=IDENTITY)


def seen(target: str = "/public", *headers: tuple[str, str], method: str = "GET") -> Reply:
    body = json.dumps({"method": method, "target": target, "headers": headers}).encode()
    return Reply(200, ((MARK, f"{method} {target}"),), body)


def answered(status: int, body: bytes = b"", **headers: str) -> Reply:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Reply(status, pairs, body)


def outcome(must: Must, reply: Reply, known: Known = EXACT, who: Who = Who.STRANGER) -> Outcome:
    return judge(Case("kind", "what", must, "/public"), who, reply, known).outcome


@pytest.mark.parametrize(
    ("must", "reply", "who"),
    [
        (Must.SHUT, seen("/admin"), Who.STRANGER),
        (Must.SHUT, seen("/public/..;/admin/x"), Who.MEMBER),
        (Must.SHUT, seen("/public", ("x-auth-user", "MARK")), Who.STRANGER),
        (Must.SHUT, answered(101), Who.STRANGER),
        (Must.SHUT, Reply(200, ((MARK, "HEAD /admin"),)), Who.STRANGER),
        (Must.REFUSED, seen("/x"), Who.STRANGER),
        (Must.IDENTITY, seen("/public", ("X_Auth_User", "MARK")), Who.STRANGER),
        (Must.IDENTITY, seen("/public", ("X.Auth.Roles", "MARK")), Who.STRANGER),
        (Must.IDENTITY, seen("/public", ("X-Auth-User ", "MARK")), Who.STRANGER),
        (Must.IDENTITY, seen("/public", ("X-Auth-U\xc5\xbfer", "MARK")), Who.STRANGER),
        (Must.IDENTITY, seen("/x"), Who.MEMBER),
        (Must.IDENTITY, seen("/x", ("X-Auth-User", "ada"), ("x-auth-user", "eve")), Who.MEMBER),
        (Must.DROPPED, seen("/public", ("x-original-url", "/admin/MARK")), Who.STRANGER),
        (Must.DROPPED, seen("/other"), Who.STRANGER),
        (Must.DROPPED, seen("/public", method="OPTIONS"), Who.STRANGER),
        (Must.HOME, answered(302, Location="//evil.example/"), Who.STRANGER),
        (Must.HOME, answered(302, Location="/\\evil.example/"), Who.STRANGER),
        (Must.HOME, answered(302, Location="https://l.example/?rd=https%3A%2F%2Fevil.example"),
         Who.STRANGER),
        (Must.HOME, answered(302, Location="https://l.example/?a=b&rd=%2F%2Fa@evil.example"),
         Who.STRANGER),
        (Must.HOME, answered(302, Location="javascript:alert(1)"), Who.STRANGER),
        (Must.HOME, answered(302, X_Injected="MARK"), Who.STRANGER),
        (Must.UNCACHED, answered(401), Who.STRANGER),
        (Must.UNCACHED, answered(302, Cache_Control="max-age=60"), Who.STRANGER),
        (Must.HIDDEN, answered(200), Who.STRANGER),
        (Must.HIDDEN, answered(401, X_Auth_Login="https://l.example"), Who.STRANGER),
    ],
)  # fmt: skip
def test_what_passed_is_a_hole(must: Must, reply: Reply, who: Who) -> None:
    assert outcome(must, reply, who=who) is Outcome.HOLE


@pytest.mark.parametrize(
    ("must", "reply", "who"),
    [
        (Must.SHUT, answered(401), Who.STRANGER),
        (Must.SHUT, NOTHING, Who.STRANGER),
        (Must.SHUT, seen("/public"), Who.STRANGER),
        (Must.SHUT, seen("/public"), Who.MEMBER),  # nobody, because the page is public
        (Must.SHUT, answered(200), Who.STRANGER),  # an empty answer of the proxy's own
        (Must.IDENTITY, seen("/x", ("X-Auth-User", "ada")), Who.MEMBER),
        (Must.IDENTITY, seen("/public", ("X-Auth-User", "")), Who.STRANGER),
        (Must.DROPPED, seen("/public", ("host", "h.example")), Who.STRANGER),
        (Must.HOME, answered(302, Location="https://l.example/?rd=https%3A%2F%2Fh.example%2F%2Fe"),
         Who.STRANGER),
        (Must.UNCACHED, answered(401, Cache_Control="no-store"), Who.STRANGER),
        (Must.HIDDEN, answered(404), Who.STRANGER),
    ],
)  # fmt: skip
def test_what_was_refused_or_harmless_has_held(must: Must, reply: Reply, who: Who) -> None:
    assert outcome(must, reply, who=who) is Outcome.HELD


@pytest.mark.parametrize("known", [EXACT, BLIND], ids=["exact", "blind"])
@pytest.mark.parametrize(
    "reply",
    [answered(503), answered(429), answered(502), LATE, UNREADABLE],
    ids=["503", "429", "502", "late", "unreadable"],
)
def test_no_decision_is_no_proof(reply: Reply, known: Known) -> None:
    assert outcome(Must.SHUT, reply, known) is Outcome.UNJUDGED


def test_a_page_that_is_not_the_check_upstream_s_is_not_judged() -> None:
    assert outcome(Must.SHUT, answered(200, b"who wrote this?")) is Outcome.UNJUDGED


@pytest.mark.parametrize(
    ("must", "reply", "known", "wanted"),
    [
        (Must.SHUT, answered(200, b"secret"), BLIND, Outcome.HOLE),
        (Must.SHUT, answered(200, b"secret"), DYNAMIC, Outcome.UNJUDGED),
        (Must.SHUT, answered(200, b"something else"), BLIND, Outcome.HOLE),
        (Must.SHUT, answered(206, b"sec"), BLIND, Outcome.HOLE),
        (Must.SHUT, answered(304), BLIND, Outcome.HOLE),
        (Must.SHUT, answered(200, b"public"), BLIND, Outcome.HELD),
        (Must.SHUT, answered(403), BLIND, Outcome.HELD),
        (Must.SHUT, answered(404), BLIND, Outcome.UNJUDGED),
        (Must.REFUSED, answered(200, b"page"), BLIND, Outcome.HOLE),
        (Must.REFUSED, answered(200, b"page"), DYNAMIC, Outcome.HOLE),
        (Must.IDENTITY, answered(200, b"hello MARK"), BLIND, Outcome.HOLE),
        (Must.IDENTITY, answered(200, b"public"), BLIND, Outcome.UNJUDGED),
        (Must.IDENTITY, answered(400), BLIND, Outcome.HELD),
        (Must.DROPPED, answered(200, b"public"), BLIND, Outcome.UNJUDGED),
        (Must.DROPPED, answered(200, b"admin page"), BLIND, Outcome.HOLE),
        (Must.HIDDEN, answered(200, b"public"), BLIND, Outcome.UNJUDGED),
    ],
)
def test_without_the_check_upstream_the_page_decides(
    must: Must, reply: Reply, known: Known, wanted: Outcome
) -> None:
    assert outcome(must, reply, known) is wanted
