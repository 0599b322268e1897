"""POST /v1/sessions."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime

import pytest

from gateway.embedded import EmbeddedValkey

from .harness import Admin, running, settings

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


async def test_the_answer_has_every_member(admin: Admin) -> None:
    """A sign-in is answered 201 with the members of the interface and no others."""
    reply = await admin.call(
        "POST",
        "/v1/sessions",
        {"user": "älice", "email": "a@example.com", "name": "Ä. L.", "roles": ["admin", "x y"],
         "ip": "2001:DB8::1", "user_agent": FIREFOX, "country": "DE", "device_id": "laptop:1",
         "metadata": {"tenant": 7, "list": [], "deep": {"a": [1, 2.5, None]}}, "remember": False},
    )  # fmt: skip
    assert reply.status == 201
    assert set(reply.json) == {
        "id", "token", "set_cookie", "user", "device", "created_at", "expires_at",
        "idle_expires_at", "aal", "ended", "alerts",
    }  # fmt: skip
    assert re.fullmatch(r"[0-9a-f]{34}", reply.json["id"])
    assert re.fullmatch(r"[0-9a-f]{2}[A-Za-z0-9_-]{43}", reply.json["token"])
    assert reply.json["device"] == {"id": "laptop:1", "name": "Firefox on Linux", "type": "desktop"}
    assert (reply.json["user"], reply.json["ended"], reply.json["alerts"]) == ("älice", [], [])
    assert reply.headers["Cache-Control"] == "no-store"


async def test_times_are_rfc_3339_in_utc(admin: Admin) -> None:
    """The ends lie the configured times after the creation, all in UTC."""
    created = await admin.create()
    begin, end, idle = (
        datetime.fromisoformat(created[name])
        for name in ("created_at", "expires_at", "idle_expires_at")
    )
    assert created["created_at"].endswith("Z")
    assert (end - begin).total_seconds() == 30 * 86_400
    assert (idle - begin).total_seconds() == 4 * 3_600


async def test_the_cookie_is_safe_by_default(admin: Admin) -> None:
    """The cookie is Secure, HttpOnly, Lax, for the whole host only, and ends with the browser."""
    created = await admin.create()
    name, *attributes = created["set_cookie"].split("; ")
    assert name == f"__Host-sid={created['token']}"
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]


async def test_remember_me_outlives_the_browser(admin: Admin) -> None:
    """A remembered session's cookie lives as long as the session, and not longer when renewed."""
    created = await admin.create(remember=True)
    assert "Max-Age=2592000" in created["set_cookie"].split("; ")
    await asyncio.sleep(1.1)
    renewed = await admin.call("POST", f"/v1/sessions/{created['id']}/renew")
    assert renewed.json["expires_at"] == created["expires_at"]
    assert "Max-Age=2591998" in renewed.json["set_cookie"].split("; ")


async def test_a_parent_domain_changes_the_prefix(valkey: EmbeddedValkey, prefix: str) -> None:
    """With a Domain the cookie is called __Secure-, because browsers refuse __Host- then."""
    env = {
        "GW_SESSION__COOKIE__DOMAIN": "example.com",
        "GW_SESSION__COOKIE__SAME_SITE": "strict",
    }
    async with running(settings(prefix, env), valkey.url) as admin:
        cookie = (await admin.create())["set_cookie"]
    assert cookie.startswith("__Secure-sid=")
    assert "Domain=example.com" in cookie.split("; ")
    assert "SameSite=Strict" in cookie.split("; ")


async def test_the_limit_denies_with_409(valkey: EmbeddedValkey, prefix: str) -> None:
    """Where the limit denies, the new sign-in is refused and the old sessions stay."""
    env = {"GW_SESSION__MAX_PER_USER": "2", "GW_SESSION__ON_LIMIT": "deny"}
    async with running(settings(prefix, env), valkey.url) as admin:
        first, second = await admin.create(), await admin.create()
        refused = await admin.call("POST", "/v1/sessions", {"user": "alice"})
        assert refused.status == 409
        assert refused.headers["Content-Type"].startswith("application/problem+json")
        for each in (first, second):
            assert (await admin.check(each["token"])).reason is None
        assert (await admin.create("bob"))["user"] == "bob"


async def test_the_limit_evicts_and_says_whom(valkey: EmbeddedValkey, prefix: str) -> None:
    """Where the limit evicts, the answer names who had to go, and they are out at once."""
    async with running(settings(prefix, {"GW_SESSION__MAX_PER_USER": "1"}), valkey.url) as admin:
        old = await admin.create()
        new = await admin.create()
        assert new["ended"] == [{"id": old["id"], "why": "evicted"}]
        assert str((await admin.check(old["token"])).reason) == "unknown_session"
        assert (await admin.check(new["token"])).reason is None


async def test_the_same_device_is_replaced(admin: Admin) -> None:
    """A new session on a device ends that device's old one and no other."""
    old, other = await admin.create(device_id="d1"), await admin.create(device_id="d2")
    new = await admin.create(device_id="d1")
    assert new["ended"] == [{"id": old["id"], "why": "replaced"}]
    assert (await admin.check(other["token"])).reason is None


async def test_all_problems_come_at_once(admin: Admin) -> None:
    """A body with many faults is answered with all of them, each with its place."""
    body = {
        "user": "a\nb", "email": " x", "name": 5, "roles": ["ok", "a,b", ""], "ip": "1.2.3",
        "country": "de", "device_id": "a b", "metadata": [], "remember": "yes", "extra": 1,
    }  # fmt: skip
    reply = await admin.call("POST", "/v1/sessions", body)
    assert set(reply.places) == {
        "user", "email", "name", "roles.1", "roles.2", "ip", "country", "device_id", "metadata",
        "remember", "extra",
    }  # fmt: skip
    assert all(each["message"] for each in reply.json["problems"])


NEVER = ["a\rb", "a\nb", "a\x00b", "a\x1fb", "a\x7fb", " a", "a ", "\ta", "\u00a0a", "a\u2003",
         "\u0085a"]  # fmt: skip


@pytest.mark.parametrize("text", NEVER)
@pytest.mark.parametrize("place", ["user", "email", "name", "roles"])
async def test_what_no_header_can_carry_is_refused(admin: Admin, place: str, text: str) -> None:
    """Controls and padding, which would reach the application as something else, are refused."""
    value: object = [text] if place == "roles" else text
    reply = await admin.call("POST", "/v1/sessions", {"user": "alice", place: value})
    assert [each.partition(".")[0] for each in reply.places] == [place]


@pytest.mark.parametrize("place", ["user", "email", "name", "city", "user_agent"])
async def test_a_lone_surrogate_is_refused(admin: Admin, place: str) -> None:
    """A lone surrogate, which is no text, is refused wherever it stands."""
    raw = b'{"user": "alice", "%b": "ad\\udce9min"}' % place.encode()
    reply = await admin.call("POST", "/v1/sessions", raw=raw)
    assert reply.status in (400, 422)
    bad = await admin.call("POST", "/v1/sessions", raw=b'{"user": "ad\xedm"}')
    assert bad.status == 400


@pytest.mark.parametrize("role", ["a,b", ",", "", "a,"])
async def test_a_role_is_one_role(admin: Admin, role: str) -> None:
    """A role that would read as several, or as none, is refused."""
    reply = await admin.call("POST", "/v1/sessions", {"user": "alice", "roles": [role]})
    assert reply.places == ["roles.0"]


async def test_an_identity_too_long_for_proxies_is_refused(admin: Admin) -> None:
    """What with all headers would exceed nginx's buffer is refused, encoded length counting."""
    fits = await admin.call("POST", "/v1/sessions", {"user": "u" * 256, "name": "n" * 256})
    assert fits.status == 201
    roles = [f"role-{number:02d}-" + "ä" * 12 for number in range(64)]
    reply = await admin.call("POST", "/v1/sessions", {"user": "alice", "roles": roles})
    assert reply.places == ["roles"]
    assert (await admin.call("POST", "/v1/sessions", {"user": "u" * 257})).places == ["user"]


@pytest.mark.parametrize(
    "metadata",
    [{"a": "x" * 5000}, {"a": [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}],
    ids=["long", "deep"],
)
async def test_metadata_is_bounded(admin: Admin, metadata: dict[str, object]) -> None:
    """Metadata above its size or depth is refused."""
    reply = await admin.call("POST", "/v1/sessions", {"user": "alice", "metadata": metadata})
    assert reply.places == ["metadata"]


async def test_metadata_comes_back_as_it_went(admin: Admin) -> None:
    """Whatever JSON the application keeps with a session, it gets back the same."""
    metadata: dict[str, object] = {
        "": [], "o": {}, "n": None, "big": 2**53 + 1, "f": 0.1, "nul": "a\x00b", "q": '"\\',
        "u": "\u2028é😀", "x": 1, "c": 2,
    }  # fmt: skip
    created = await admin.create(metadata=metadata)
    read = await admin.call("GET", f"/v1/sessions/{created['id']}")
    assert read.json["metadata"] == metadata
    renewed = await admin.call("POST", f"/v1/sessions/{created['id']}/renew")
    again = await admin.call("GET", f"/v1/sessions/{renewed.json['id']}")
    assert again.json["metadata"] == metadata


async def test_a_client_that_sends_controls_signs_in_without_them(admin: Admin) -> None:
    """Nobody is kept out for it, and neither databases nor terminals get them."""
    facts = {"user_agent": "a\x00b\r\nc\x9b", "city": "\x1b[2JO\u0308rebro",
             "accept_language": "de,\ten", "accept_encoding": "gzip,\tbr\x7f"}  # fmt: skip
    created = await admin.create(**facts)
    read = await admin.call("GET", f"/v1/sessions/{created['id']}")
    assert (read.json["user_agent"], read.json["city"]) == ("a b  c ", " [2JO\u0308rebro")
    renewed = await admin.call(
        "POST", f"/v1/sessions/{created['id']}/renew", {"aal": 1, "user_agent": "d\x00e"}
    )
    again = await admin.call("GET", f"/v1/sessions/{renewed.json['id']}")
    assert again.json["user_agent"] == "d e"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 422),
        (b"null", 422),
        (b'"x"', 422),
        (b"{}", 422),
        (b'{"user": NaN}', 400),
        (b"[" * 3000, 400),
        (b'{"user": "a", "metadata": {"n": 1e999}}', None),
    ],
)
async def test_bodies_that_are_no_sign_in(admin: Admin, raw: bytes, status: int | None) -> None:
    """A body that is no JSON is 400, one that is no sign-in 422; never a fault."""
    reply = await admin.call("POST", "/v1/sessions", raw=raw)
    assert reply.status == status if status else reply.status < 500
