"""The admin application as `App` builds it, over a real Valkey, asked over HTTP."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from gateway.admin import build
from gateway.app import App
from gateway.config import Settings, load
from gateway.decision import Decision
from gateway.model import CheckRequest
from tests.store.world import patient

HOST = "app.example.com"
# One token for each set of scopes; "all" has every scope but metrics.
SCOPES = {
    "all": ["sessions:read", "sessions:write"],
    "reader": ["sessions:read"],
    "auditor": ["events:read"],
    "writer": ["sessions:write"],
    "scraper": ["metrics"],
    "nothing": [],
}


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def places(self) -> list[str]:
        """Return what a 422 complains about."""
        assert self.status == 422, (self.status, self.body)
        return [each["place"] for each in self.json["problems"]]


@dataclass
class Admin:
    """A client of the admin listener, and the check that proxies would make."""

    app: App
    client: TestClient[web.Request, web.Application]
    as_: str = "all"
    sent: dict[str, str] = field(default_factory=dict)

    async def call(
        self,
        method: str,
        path: str,
        json: object = None,
        *,
        raw: bytes | None = None,
        as_: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Make one call; `path` goes out exactly as it is written."""
        data = orjson.dumps(json) if json is not None else raw
        sent = {"Authorization": f"Bearer {secret_of(as_ or self.as_)}"}
        sent |= {"Content-Type": "application/json"} if data is not None else {}
        sent |= dict(headers or {})
        url = URL(str(self.client.make_url("/")).rstrip("/") + path, encoded=True)
        async with self.client.session.request(method, url, data=data, headers=sent) as answer:
            return await _reply(answer)

    async def create(self, user: str = "alice", **more: object) -> dict[str, Any]:
        """Create a session; return the answer."""
        reply = await self.call("POST", "/v1/sessions", {"user": user, **more})
        assert reply.status == 201, reply.body
        created: dict[str, Any] = reply.json
        return created

    async def check(self, token: str, path: str = "/") -> Decision:
        """Decide about a GET that carries this cookie."""
        cookies = (f"__Host-sid={token}",)
        asked = CheckRequest("GET", path, HOST, "https", "203.0.113.7", cookies, False)
        return await self.app._check._authorizer.check(asked)


async def _reply(answer: ClientResponse) -> Reply:
    return Reply(answer.status, answer.headers, await answer.read())


def secret_of(name: str) -> str:
    """Return the token that the configuration knows under this name."""
    return f"gwa_secret-of-{name}"


def settings(prefix: str, env: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of a gateway of its own in a shared Redis."""
    tokens = [
        {"name": name, "sha256": hashlib.sha256(secret_of(name).encode()).hexdigest(),
         "scopes": scopes}
        for name, scopes in SCOPES.items()
    ]  # fmt: skip
    rules = [
        {"path": "/admin/**", "access": "session", "roles": ["admin"]},
        {"path": "/**", "access": "session"},
    ]
    values = {
        "GW_REDIS__PREFIX": prefix,
        "GW_ADMIN__TOKENS": orjson.dumps(tokens).decode(),
        "GW_POLICY__RULES": orjson.dumps(rules).decode(),
        "GW_SESSION__MAX_PER_USER": "0",
    }
    loaded = load(None, values | dict(env or {}))
    assert loaded.settings is not None, loaded.problems
    return loaded.settings


@asynccontextmanager
async def running(wanted: Settings, redis_url: str, *, opened: bool = True) -> AsyncIterator[Admin]:
    """Serve the admin API of a gateway until the end of the block."""
    app = App(wanted, redis_url)
    if opened:
        patient(app._store._client)
        await app._try_open()
        await app._ready()
    application = build(app._sessions, app._delivery.log, app._admin_options())
    async with TestClient(TestServer(application)) as client:
        yield Admin(app, client)
    await app._delivery.close()
    await app._store.close()
