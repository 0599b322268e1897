"""The admin API's routes and handlers, in one table that the OpenAPI document is made of too."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TypeVar

import orjson
from aiohttp import web

from ..credentials import CookieOptions
from ..errors import StoreUnavailable
from ..model import Actor, EndState
from ..ports import EventLog
from ..sessions import Receipt, Sessions
from . import openapi, views
from .bodies import (
    CreateSession,
    EndAllQuery,
    EndQuery,
    EventsQuery,
    Introspect,
    ListQuery,
    RenewSession,
    UpdateSession,
    read_body,
    read_query,
)
from .problems import REQUEST_ID, Refused, answer_problems
from .routes import Route
from .tokens import Grant, Grants

Value = TypeVar("Value")

GRANT = web.RequestKey("grant", Grant)


@dataclass(frozen=True, slots=True)
class AdminOptions:
    """What the listener needs to know beside the use cases."""

    grants: Grants
    cookie: CookieOptions
    max_body: int
    without_token: frozenset[str]
    ping: Callable[[], Awaitable[None]]
    metrics: Callable[[], bytes]
    count_created: Callable[[], None]
    count_ended: Callable[[str], None]
    observe_confirmed: Callable[[float], None]  # seconds


class Api:
    """One short handler for each route."""

    def __init__(self, sessions: Sessions, events: EventLog, options: AdminOptions) -> None:
        self._sessions = sessions
        self._events = events
        self._options = options

    async def create(self, request: web.Request) -> web.Response:
        body = await read_body(request, CreateSession)
        new = await self._sessions.create(body.login(), _actor(request))
        self._options.count_created()
        for each in new.created.ended:
            self._options.count_ended(each.why)
        return _json(views.created_view(new, self._options.cookie), HTTPStatus.CREATED)

    async def get(self, request: web.Request) -> web.Response:
        session = await self._sessions.get(request.match_info["id"])
        return _json(views.session_view(_found(session)))

    async def update(self, request: web.Request) -> web.Response:
        body = await read_body(request, UpdateSession)
        session = await self._sessions.update(
            request.match_info["id"], body.changes(), _actor(request)
        )
        return _json(views.session_view(_found(session)))

    async def renew(self, request: web.Request) -> web.Response:
        body = await read_body(request, RenewSession, optional=True)
        renewed = await self._sessions.renew(
            request.match_info["id"], body.grace_ms, _actor(request), body.aal, body.client
        )
        token, session = _found(renewed)
        if body.grace_ms == 0:  # else the sweep counts it, when the grace is over
            self._options.count_ended(EndState.ROTATED)
        return _json(views.token_view(token, session, self._options.cookie))

    async def end(self, request: web.Request) -> web.Response:
        query = read_query(request, EndQuery)
        receipt = await self._sessions.end(request.match_info["id"], _actor(request, query.reason))
        return self._receipt(_found(receipt))

    async def list(self, request: web.Request) -> web.Response:
        query = read_query(request, ListQuery)
        page = await self._sessions.page(request.match_info["user"], query.limit, query.cursor)
        found = [views.session_view(session) for session in page.sessions]
        return _json({"sessions": found, "next": page.next})

    async def end_all(self, request: web.Request) -> web.Response:
        query = read_query(request, EndAllQuery)
        return self._receipt(
            await self._sessions.end_all(
                request.match_info["user"], query.except_, _actor(request, query.reason)
            )
        )

    async def end_device(self, request: web.Request) -> web.Response:
        query = read_query(request, EndQuery)
        user, device = request.match_info["user"], request.match_info["device"]
        return self._receipt(
            await self._sessions.end_device(user, device, _actor(request, query.reason))
        )

    async def introspect(self, request: web.Request) -> web.Response:
        body = await read_body(request, Introspect)
        return _json(views.introspection_view(await self._sessions.introspect(body.token)))

    async def events(self, request: web.Request) -> web.Response:
        asked = read_query(request, EventsQuery).asked()
        found = await self._events.page(replace(asked, limit=asked.limit + 1))
        return _json(views.events_view(found, asked.limit))

    async def healthz(self, _: web.Request) -> web.Response:
        return _json({"status": "alive"})

    async def readyz(self, _: web.Request) -> web.Response:
        try:
            await self._options.ping()
        except StoreUnavailable as error:
            view = {"status": "not ready", "why": error.kind}
            return _json(view, HTTPStatus.SERVICE_UNAVAILABLE)
        return _json({"status": "ready"})

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._options.metrics(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def openapi(self, _: web.Request) -> web.Response:
        return _json(openapi.document(ROUTES))

    def _receipt(self, receipt: Receipt) -> web.Response:
        for each in receipt.ended:
            self._options.count_ended(each.why)
        self._options.observe_confirmed(receipt.confirmed_after_ms / 1000)
        return _json(views.receipt_view(receipt))


READ, WRITE, READ_EVENTS = "sessions:read", "sessions:write", "events:read"
_ID, _USER = "/v1/sessions/{id}", "/v1/users/{user}"

ROUTES = (
    Route("POST", "/v1/sessions", WRITE, Api.create, "Sign a user in", "NewSession",
          body=CreateSession, status=HTTPStatus.CREATED),
    Route("GET", _ID, READ, Api.get, "Read a session", "Session"),
    Route("PATCH", _ID, WRITE, Api.update, "Change a session", "Session", body=UpdateSession),
    Route("DELETE", _ID, WRITE, Api.end, "End a session", "Receipt", query=EndQuery),
    Route("POST", f"{_ID}/renew", WRITE, Api.renew, "Give a session a new token", "Renewed",
          body=RenewSession),
    Route("GET", f"{_USER}/sessions", READ, Api.list, "List a user's sessions", "Page",
          query=ListQuery),
    Route("DELETE", f"{_USER}/sessions", WRITE, Api.end_all, "End a user's sessions", "Receipt",
          query=EndAllQuery),
    Route("DELETE", f"{_USER}/devices/{{device}}/sessions", WRITE, Api.end_device,
          "End a device's sessions", "Receipt", query=EndQuery),
    Route("POST", "/v1/introspect", READ, Api.introspect, "Ask about a token (RFC 7662)",
          "Introspection", body=Introspect),
    Route("GET", "/v1/events", READ_EVENTS, Api.events, "Read what happened", "Events",
          query=EventsQuery),
    Route("GET", "/healthz", "", Api.healthz, "Is the process alive?", "Health"),
    Route("GET", "/readyz", "", Api.readyz, "Can it answer checks?", "Health"),
    Route("GET", "/metrics", "metrics", Api.metrics, "Prometheus metrics", "text"),
    Route("GET", "/openapi.json", None, Api.openapi, "This document", "object"),
)  # fmt: skip


def build(sessions: Sessions, events: EventLog, options: AdminOptions) -> web.Application:
    """Return the application of the admin listener."""
    app = web.Application(
        middlewares=[answer_problems],
        client_max_size=options.max_body,
    )
    api = Api(sessions, events, options)
    for route in ROUTES:
        app.router.add_route(route.method, _pattern(route.path), _guarded(api, route, options))
    return app


def _pattern(path: str) -> str:
    """Return the path for aiohttp, whose own idea of a segment excludes `{` and `}`."""
    return re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", path)


def _guarded(
    api: Api, route: Route, options: AdminOptions
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return the handler behind its token check: there is no route without this."""
    is_open = route.scope == "" or route.path.strip("/").removesuffix(".json") in (
        options.without_token
    )

    async def handler(request: web.Request) -> web.Response:
        if not is_open:
            request[GRANT] = options.grants.require(request, route.scope)
        return await route.handler(api, request)

    return handler


def _actor(request: web.Request, reason: str = "") -> Actor:
    return Actor(name=request[GRANT].name, reason=reason, request_id=request[REQUEST_ID])


def _found(value: Value | None) -> Value:
    if value is None:
        raise Refused(HTTPStatus.NOT_FOUND, "there is no such session")
    return value


def _json(value: object, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
