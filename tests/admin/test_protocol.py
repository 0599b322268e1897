"""Tokens, errors, limits, health, metrics: what all calls share."""

from __future__ import annotations

import asyncio
import gzip
import re
from typing import Any

import pytest
from multidict import CIMultiDict

from gateway.admin.api import ROUTES
from gateway.embedded import EmbeddedValkey
from gateway.errors import StoreUnavailable
from tests import servers

from .harness import Admin, Reply, running, secret_of, settings

SESSION = "/v1/sessions/" + "00" + "a" * 32
GUARDED = [route for route in ROUTES if route.scope != ""]


def path_of(pattern: str) -> str:
    return pattern.replace("{id}", "00" + "a" * 32).replace("{user}", "u").replace("{device}", "d")


def assert_problem(reply: Reply, status: int) -> dict[str, Any]:
    """Compare with RFC 9457 and what the interface adds."""
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"].partition(";")[0] == "application/problem+json"
    problem: dict[str, Any] = reply.json
    assert problem["status"] == status
    assert {"type", "title", "detail"} <= set(problem)
    assert problem["request_id"] == reply.headers["X-Request-Id"]
    assert reply.headers["Cache-Control"] == "no-store"
    return problem


# --- tokens ------------------------------------------------------------------------------------

ALL = secret_of("all")


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer  ", f"Basic {ALL}", ALL, f"Bearer x{ALL}", f"Bearer {ALL}x",
     f"Token {ALL}", f"Bearer {ALL}, Bearer {ALL}", f"Bearer,{ALL}", f"Bearer\t{ALL}",
     "Bearer ä", f"bearerx {ALL}", f"Bearer {ALL} {ALL}"],
)  # fmt: skip
async def test_a_wrong_authorization_is_401(admin: Admin, authorization: str) -> None:
    """Anything but one valid bearer token is 401 with a challenge."""
    reply = await admin.call("GET", SESSION, headers={"Authorization": authorization})
    assert_problem(reply, 401)
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    assert ALL not in reply.body.decode()


async def test_a_missing_or_doubled_authorization_is_401(admin: Admin) -> None:
    """No token is 401, and so are two headers, even when both are right."""
    url = admin.client.make_url(SESSION)
    async with admin.client.session.get(url) as answer:
        assert answer.status == 401
    for second in (ALL, "wrong"):
        headers = CIMultiDict([("Authorization", f"Bearer {ALL}"),
                               ("Authorization", f"Bearer {second}")])  # fmt: skip
        async with admin.client.session.get(url, headers=headers) as answer:
            assert answer.status == 401


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: f"{route.method} {route.path}")
async def test_every_scope_is_required(admin: Admin, route: Any) -> None:
    """A route without its scope is 403, without a token 401, whatever the body."""
    path = path_of(route.path)
    async with admin.client.session.request(route.method, admin.client.make_url(path)) as answer:
        assert answer.status == 401
    lacking = {"sessions:read": "writer", "sessions:write": "reader", "metrics": "all",
               "events:read": "all"}  # fmt: skip
    if route.scope is not None:
        for name in (lacking[route.scope], "nothing"):
            problem = assert_problem(await admin.call(route.method, path, as_=name), 403)
            assert route.scope in problem["detail"]


async def test_the_scheme_is_case_insensitive(admin: Admin) -> None:
    """RFC 9110: the scheme's case does not matter."""
    reply = await admin.call("GET", SESSION, headers={"Authorization": f"bEARER {ALL}"})
    assert reply.status == 404


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/sessions/", 404),
        ("GET", "/v1/users//sessions", 404),
        ("DELETE", "/v1/users//sessions", 404),
        ("GET", "/healthz/", 404),
        ("GET", "/check/auth_request", 404),
        ("PUT", "/v1/sessions", 405),
        ("GET", "/v1/sessions", 405),
        ("POST", "/healthz", 405),
        ("TRACE", "/v1/sessions", 405),
        ("OPTIONS", "/v1/sessions", 405),
        ("GET", SESSION, 404),
    ],
)
async def test_refusals_are_problems(admin: Admin, method: str, path: str, status: int) -> None:
    """Whatever is not there or not possible is answered as problem+json."""
    reply = await admin.call(method, path)
    assert_problem(reply, status)
    assert ("Allow" in reply.headers) == (status == 405)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "x"]
)
async def test_other_content_types_are_415(admin: Admin, content_type: str) -> None:
    """A body is JSON or refused: a form of a foreign page cannot make a session."""
    reply = await admin.call(
        "POST", "/v1/sessions", {"user": "a"}, headers={"Content-Type": content_type}
    )
    assert_problem(reply, 415)


async def test_a_charset_does_not_matter(admin: Admin) -> None:
    """`application/json; charset=utf-8` is JSON."""
    reply = await admin.call(
        "POST",
        "/v1/sessions",
        {"user": "a"},
        headers={"Content-Type": "application/json; charset=utf-8"},
    )
    assert reply.status == 201


async def test_a_body_has_a_limit(admin: Admin) -> None:
    """A body above the limit is 413, however it is packed."""
    large = b'{"user": "a", "name": "' + b"x" * 70_000 + b'"}'
    assert_problem(await admin.call("POST", "/v1/sessions", raw=large), 413)
    packed = gzip.compress(b" " * 10_000_000)
    reply = await admin.call(
        "POST", "/v1/sessions", raw=packed, headers={"Content-Encoding": "gzip"}
    )
    assert_problem(reply, 413)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_body_that_cannot_be_unpacked_is_400(admin: Admin, encoding: str) -> None:
    """A body that is not what its Content-Encoding says is the caller's fault, not ours."""
    reply = await admin.call(
        "POST", "/v1/sessions", raw=b"no such thing", headers={"Content-Encoding": encoding}
    )
    assert_problem(reply, 400)


async def test_a_fault_of_ours_tells_nothing(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug is 500 without a trace of what happened inside."""

    async def broken(*_: object) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr(admin.app._sessions, "get", broken)
    reply = await admin.call("GET", SESSION)
    assert_problem(reply, 500)
    assert b"inside" not in reply.body


async def test_an_unknown_outcome_is_503(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """When Redis cannot be asked the answer is "we do not know", never 404."""

    async def away(*_: object) -> None:
        raise StoreUnavailable("connection", "redis://:password@host")

    monkeypatch.setattr(admin.app._store, "read", away)
    reply = await admin.call("GET", SESSION)
    assert_problem(reply, 503)
    assert reply.headers["Retry-After"] == "1"
    assert b"password" not in reply.body


# --- request ids -------------------------------------------------------------------------------


async def test_request_ids_are_echoed_or_made(admin: Admin) -> None:
    """A request's id comes back; without one it gets one, and not the same twice."""
    given = await admin.call("GET", "/healthz", headers={"X-Request-Id": "a.B_c-1"})
    assert given.headers["X-Request-Id"] == "a.B_c-1"
    made = {(await admin.call("GET", "/healthz")).headers["X-Request-Id"] for _ in range(3)}
    assert len(made) == 3


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "ä", '"', "<script>", "a,b"])
async def test_strange_request_ids_are_replaced(admin: Admin, given: str) -> None:
    """An id that could harm a log or an event is replaced."""
    reply = await admin.call("GET", "/healthz", headers={"X-Request-Id": given})
    assert re.fullmatch(r"[0-9a-f]{16}", reply.headers["X-Request-Id"])


async def test_the_event_names_who_asked_and_why(admin: Admin, valkey: EmbeddedValkey) -> None:
    """The event of an end holds the token's name, reason and request id, never a token."""
    created = await admin.create()
    await admin.call(
        "DELETE", f"/v1/sessions/{created['id']}?reason=lost", headers={"X-Request-Id": "req-1"}
    )
    client: Any = admin.app._store._client
    events = await client.xrange(admin.app._store._keys.outbox(created["id"][:2]))
    kinds = [event[b"type"] for _, event in events]
    assert kinds == [b"session.created", b"session.ended"]
    ended = events[1][1]
    assert (ended[b"by"], ended[b"reason"], ended[b"request"]) == (b"all", b"lost", b"req-1")
    assert created["token"].encode() not in repr(events).encode()
    assert ALL not in repr(events)


# --- health, metrics, the document -------------------------------------------------------------


async def test_healthz_does_not_ask_redis(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Being alive does not depend on Redis: not one command is sent."""
    asked: list[object] = []
    client: Any = admin.app._store._client
    monkeypatch.setattr(client, "execute_command", lambda *args, **_: asked.append(args))
    async with admin.client.session.get(admin.client.make_url("/healthz")) as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "alive"})
    assert asked == []


async def test_readyz_tells_whether_redis_is_there(prefix: str) -> None:
    """Ready while Redis answers, 503 with the kind of fault when it is gone, ready again."""
    port = servers.free_port()
    with EmbeddedValkey(port=port) as valkey:
        async with running(settings(prefix), valkey.url) as admin:
            assert (await admin.call("GET", "/readyz")).status == 200
            await asyncio.to_thread(valkey.stop)
            away = await admin.call("GET", "/readyz")
            assert (away.status, away.json["status"]) == (503, "not ready")
            assert (await admin.call("GET", "/healthz")).status == 200
            assert_problem(await admin.call("POST", "/v1/sessions", {"user": "a"}), 503)
            assert_problem(await admin.call("DELETE", SESSION), 503)
            await asyncio.to_thread(valkey.start)
            assert (await admin.call("GET", "/readyz")).status == 200


async def test_not_ready_before_the_store_is_open(valkey: EmbeddedValkey, prefix: str) -> None:
    """A gateway that has not yet compared its partitions with Redis' is not ready."""
    async with running(settings(prefix), valkey.url, opened=False) as admin:
        assert (await admin.call("GET", "/readyz")).status == 503


async def test_metrics_count_what_happened(admin: Admin) -> None:
    """Metrics need their scope and count sessions created and ended, by why."""
    assert_problem(await admin.call("GET", "/metrics"), 403)
    created = await admin.create(device_id="d")
    again = await admin.create(device_id="d")
    await admin.call("DELETE", f"/v1/sessions/{again['id']}")
    text = (await admin.call("GET", "/metrics", as_="scraper")).body.decode()
    assert "gateway_sessions_created_total 2.0" in text
    assert 'gateway_sessions_ended_total{why="replaced"} 1.0' in text
    assert 'gateway_sessions_ended_total{why="revoked"} 1.0' in text
    assert created["id"] not in text


async def test_renewals_are_counted_as_ends(admin: Admin) -> None:
    """The session that a renewal ends is counted too."""
    created = await admin.create()
    await admin.call("POST", f"/v1/sessions/{created['id']}/renew")
    text = (await admin.call("GET", "/metrics", as_="scraper")).body.decode()
    assert 'gateway_sessions_ended_total{why="rotated"} 1.0' in text


async def test_open_routes_are_those_configured(valkey: EmbeddedValkey, prefix: str) -> None:
    """Metrics and the document are open exactly where the operator says so."""
    env = {"GW_ADMIN__WITHOUT_TOKEN": '["metrics"]'}
    async with running(settings(prefix, env), valkey.url) as admin:
        statuses = {}
        for path in ("/metrics", "/openapi.json", "/healthz"):
            async with admin.client.session.get(admin.client.make_url(path)) as answer:
                statuses[path] = answer.status
    assert statuses == {"/metrics": 200, "/openapi.json": 401, "/healthz": 200}


async def test_the_document_names_every_route(admin: Admin) -> None:
    """The OpenAPI document has every route, for any valid token."""
    document = (await admin.call("GET", "/openapi.json", as_="nothing")).json
    named = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert named == {(route.method, route.path) for route in ROUTES}
    assert document["openapi"].startswith("3.1")
