"""Who comes from oauth2-proxy or Authelia changes one address and keeps the rest.

The configurations in peers/ are what their documentation asks for; the port of the peer is all
that is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from gateway.embedded import EmbeddedValkey
from tests import servers

from .client import HOST, Client, cookie
from .stack import BackEnd, Stack, running_stack

PEERS = Path(__file__).parent / "peers"
BINARIES = ("wheel", "debian")
PROFILES = {
    "GW_CHECK__PROFILES": '["oauth2-proxy", "authelia"]',
    "GW_CHECK__OAUTH2_PROXY__REDIRECT_DOMAINS": '["login.example.com"]',
}
OAUTH2, AUTHELIA = ("oauth2_proxy", 4180), ("authelia", 9091)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A gateway with both profiles."""
    with (
        EmbeddedValkey(port=servers.free_port()) as valkey,
        running_stack(valkey.url, PROFILES) as stack,
    ):
        yield stack


@pytest.fixture(scope="module")
def back_end(stack: Stack) -> BackEnd:
    return stack.back_end


def running_nginx(stack: Stack, binary: str, peer: tuple[str, int]) -> Iterator[Client]:
    if binary == "debian" and not servers.installed(servers.DEBIAN_NGINX):
        pytest.skip(f"there is no {servers.DEBIAN_NGINX}; apt-get install nginx-light")
    name, address = peer
    port = servers.free_port()
    ports = {8000: port, address: stack.check_port, 8080: stack.application_port}
    text = servers._with_ports((PEERS / f"{name}.conf").read_text(), ports)
    program = servers.DEBIAN_NGINX if binary == "debian" else servers.wheel_nginx()
    with servers.start_nginx(text, program):
        yield Client(port)


@pytest.fixture(scope="module", params=BINARIES)
def oauth2(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Client]:
    yield from running_nginx(stack, request.param, OAUTH2)


@pytest.fixture(scope="module", params=BINARIES)
def authelia(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Client]:
    yield from running_nginx(stack, request.param, AUTHELIA)


# --- oauth2-proxy ----------------------------------------------------------------------------


def test_oauth2_proxy_s_headers_arrive(oauth2: Client, back_end: BackEnd) -> None:
    """Under the names that the proxy gives them, whatever the client claims."""
    session = back_end.sign_in(roles=("staff", "admins"))
    claims = [(f"X-Auth-Request-{name}", "evil") for name in ("User", "Email", "Groups")]
    claims += [("X-User", "evil"), ("X-Forwarded-User", "evil"), ("X-Groups", "owners")]
    seen = oauth2.get("/x?y=1", cookie(session.token), *claims).seen
    told = {name: seen.values(name) for name in ("X-User", "X-Email", "X-Groups")}
    assert told == {
        "X-User": [session.user],
        "X-Email": [f"{session.user}@example.com"],
        "X-Groups": ["staff,admins"],
    }
    assert seen.values("X-Preferred-Username") == [session.user]
    assert seen.raw_path == "/x?y=1"


def test_oauth2_proxy_s_public_pages_know_nobody(oauth2: Client) -> None:
    """nginx drops a header whose value is empty: the client's own is gone."""
    seen = oauth2.get("/public/x", ("X-User", "evil"), ("X-Auth-Request-User", "evil")).seen
    assert seen.values("X-User") == seen.values("X-Email") == []


def test_oauth2_proxy_s_sign_in_and_out(oauth2: Client, back_end: BackEnd) -> None:
    """To the sign-in page with the way back; out again, and out means out."""
    asked = oauth2.get("/x?y=1")
    assert asked.status == 302
    there = asked.header("Location") or ""
    assert there.endswith(f"/oauth2/sign_in?rd=http://{HOST}/x?y=1")
    page = oauth2.get(there[there.index("/oauth2/") :])
    back = quote(f"http://{HOST}/x?y=1", safe="")
    assert page.header("Location") == f"https://login.example.com/?rd={back}"

    session = back_end.sign_in()
    assert b'"user"' in oauth2.get("/oauth2/userinfo", cookie(session.token)).body
    out = oauth2.get("/oauth2/sign_out?rd=https://login.example.com/bye", cookie(session.token))
    assert (out.status, out.header("Location")) == (302, "https://login.example.com/bye")
    assert "Max-Age=0" in (out.header("Set-Cookie") or "")
    assert oauth2.get("/x", cookie(session.token)).status == 302
    status, _ = back_end.call("GET", f"/v1/sessions/{session.id}")
    assert status == 404


def test_oauth2_proxy_s_groups_narrow(oauth2: Client, back_end: BackEnd) -> None:
    """The location asks for a group; nothing that the client sends widens that."""
    owner, member = back_end.sign_in(roles=("owners",)), back_end.sign_in(roles=("staff",))
    assert oauth2.get("/owned/x", cookie(owner.token)).seen.values("X-User") == [owner.user]
    for target in ("/owned/x", "/owned/x?allowed_groups=staff", "/owned/x?&allowed_groups=staff#"):
        assert oauth2.get(target, cookie(member.token)).status in (400, 403)
    assert oauth2.get("/owned/x").status == 302


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_oauth2_proxy_s_client_cannot_name_the_request(
    oauth2: Client, back_end: BackEnd, method: str
) -> None:
    """Neither path nor method nor host comes from a header of the client."""
    member = back_end.sign_in(roles=("staff",))
    lies = [
        ("X-Forwarded-Uri", "/public/x"),
        ("X-Forwarded-Method", method),
        ("X-Forwarded-Host", HOST),
    ]
    lies += [("X-Original-URI", "/public/x"), ("X-Original-URL", f"http://{HOST}/public/x")]
    assert oauth2.get("/admin/x", cookie(member.token), *lies).status == 403
    assert oauth2.get("/x", *lies).status == 302
    assert oauth2.get("/x", cookie(member.token), *lies, host="other.example.com").status == 403
    # By method: /readonly is for GET only, and nginx does not say which method it is.
    for verb in ("GET", "POST"):
        assert oauth2.send(verb, "/readonly/x", [cookie(member.token), *lies]).status == 403


# --- Authelia --------------------------------------------------------------------------------


def test_authelia_s_headers_arrive(authelia: Client, back_end: BackEnd) -> None:
    """Under their own names, whatever the client claims."""
    session = back_end.sign_in(roles=("staff", "admins"), name="Ada Lovelace")
    names = ("Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email")
    seen = authelia.get("/x", cookie(session.token), *((name, "evil") for name in names)).seen
    assert [seen.values(name) for name in names] == [
        [session.user],
        ["staff,admins"],
        ["Ada Lovelace"],
        [f"{session.user}@example.com"],
    ]
    seen = authelia.get("/public/x", *((name, "evil") for name in names)).seen
    assert not any(seen.values(name) for name in names)


def test_authelia_s_denials(authelia: Client, back_end: BackEnd) -> None:
    """To the sign-in page by the Location of a 401; 403 is 403; other methods count."""
    asked = authelia.get("/x?y=1&z")
    back = quote(f"http://{HOST}/x?y=1&z", safe="")
    assert (asked.status, asked.header("Location")) == (
        302,
        f"https://login.example.com/?rd={back}",
    )
    member = back_end.sign_in(roles=("staff",))
    lies = [("X-Original-URL", f"http://{HOST}/public/x"), ("X-Forwarded-Uri", "/public/x")]
    assert authelia.get("/admin/x", cookie(member.token), *lies).status == 403
    assert authelia.get("/readonly/x", cookie(member.token)).from_application
    post = authelia.send(
        "POST", "/readonly/x", [cookie(member.token), ("X-Original-Method", "GET")]
    )
    assert post.status == 403
    back_end.end(member)
    assert authelia.get("/x", cookie(member.token)).status == 302


def test_authelia_s_url_names_the_header_not_the_server(authelia: Client) -> None:
    """Why docs/migrating.md has `$host` in place of `$http_host`: nginx serves the host of the
    request line, and its snippet tells the gateway another.
    """
    request = f"GET http://other.example.com/public/x HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    assert authelia.send_raw(request.encode()).seen.values("Host") == ["other.example.com"]


def test_the_shipped_host_is_the_served_one(stack: Stack) -> None:
    """With the line that docs/migrating.md has instead, the gateway judges what nginx serves."""
    text = (PEERS / "authelia.conf").read_text()
    text, count = re.subn(r"\$scheme://\$http_host", "$scheme://$host", text)
    assert count == 1
    port = servers.free_port()
    ports = {8000: port, 9091: stack.check_port, 8080: stack.application_port}
    with servers.start_nginx(servers._with_ports(text, ports)):
        request = f"GET http://other.example.com/public/x HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
        assert Client(port).send_raw(request.encode()).status in (400, 403)
        assert Client(port).get("/public/x").from_application


# --- Authelia behind Envoy -------------------------------------------------------------------


@pytest.fixture(scope="module")
def envoy(stack: Stack) -> Iterator[Client]:
    """Envoy with the prefix and the headers of Authelia's documentation."""
    port = servers.free_port()
    text = servers.envoy_yaml(
        listen=port, gateway=stack.check_port, application=stack.application_port
    )
    for ours, theirs in (
        ("path_prefix: /check/ext_authz\n", "path_prefix: /api/authz/ext-authz/\n"),
        ("exact: x-auth-user", "prefix: remote-"),
    ):
        assert text.count(ours) == 1
        text = text.replace(ours, theirs)
    with servers.start_envoy(text):
        yield Client(port)


def test_authelia_s_envoy_needs_one_address(envoy: Client, back_end: BackEnd) -> None:
    """Headers, redirects and refusals arrive as with Authelia."""
    session = back_end.sign_in(roles=("staff",), name="Ada")
    seen = envoy.get("/x?y", cookie(session.token), ("Remote-User", "evil")).seen
    assert seen.values("Remote-User") == [session.user]
    assert seen.values("Remote-Groups") == ["staff"]
    assert seen.values("X-Auth-User") == []
    nobody = envoy.get("/public/x", ("Remote-User", "evil"), ("Remote-Groups", "admins")).seen
    assert "".join(nobody.values("Remote-User") + nobody.values("Remote-Groups")) == ""
    page = envoy.get("/x", ("Accept", "text/html"))
    assert page.status == 302
    assert (page.header("Location") or "").startswith("https://login.example.com/?rd=")
    assert envoy.get("/admin/x", cookie(session.token)).status == 403
