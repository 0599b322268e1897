"""What a client says about itself is never what the application reads."""

from __future__ import annotations

import re

import pytest

from .client import HOST, Client, Seen, cookie
from .stack import Session

EVIL = "evil-admin"
NAMES = ("X-Auth-User", "X-Auth-Email", "X-Auth-Name", "X-Auth-Roles", "X-Auth-Session",
         "X-Auth-Device")  # fmt: skip
SIGNED = "X-Auth-Jwt-Assertion"  # not the gateway's unless keys are configured; never the client's
EVERY = (*NAMES, SIGNED)
SPELLINGS = {
    "as-is": lambda name: [name],
    "lower": lambda name: [name.lower()],
    "upper": lambda name: [name.upper()],
    "underscores": lambda name: [name.replace("-", "_")],
    "dots": lambda name: [name.replace("-", ".")],
    "mixed": lambda name: [name.replace("-", "_", 1), name.replace("-", ".", 1)],
    "others": lambda name: [name.replace("-", mark) for mark in "!#$%&'*+^`|~"],
    "doubled": lambda name: [name, name],
    "doubled-cases": lambda name: [name.lower(), name.upper(), name],
}


def folded(name: str) -> str:
    """Return the name as CGI makes a variable of it; WSGI and PHP fold fewer characters."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def identities(seen: Seen) -> dict[str, list[str]]:
    """Return what an application could take for identity headers, folded together."""
    managed = {folded(name) for name in EVERY}
    found: dict[str, list[str]] = {}
    for name, value in seen.headers:
        if folded(name) in managed:
            found.setdefault(folded(name), []).append(value)
    return found


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spoofed_identity_never_arrives(client: Client, member: Session, spelling: str) -> None:
    """For a member, and for a stranger on a public page, where the gateway's own are empty."""
    headers = [(spelt, EVIL) for name in EVERY for spelt in SPELLINGS[spelling](name)]
    replies = [
        client.get("/x", cookie(member.token), *headers),
        client.get("/public/x", *headers),
    ]
    for reply in replies:
        if not reply.from_application:  # Envoy refuses underscores altogether
            assert reply.status == 400
            continue
        for values in identities(reply.seen).values():
            assert len(values) == 1
            assert EVIL not in values[0]


@pytest.mark.parametrize("name", EVERY)
def test_every_managed_name_is_replaced(client: Client, member: Session, name: str) -> None:
    seen = client.get("/x", cookie(member.token), (name, EVIL), (name.lower(), EVIL)).seen
    assert EVIL not in str(seen.headers)
    assert seen.identity("User") == member.user


@pytest.mark.parametrize(
    "lines",
    [
        b"X-Auth-User : evil-admin",
        b" X-Auth-User: evil-admin",
        b"X-Other: a\r\n X-Auth-User: evil-admin",
        b"X-Auth-User\t: evil-admin",
        b"X-Auth-User\x00: evil-admin",
        b"X-Other: a\nX-Auth-User: evil-admin",
        b"X-Other: a\rX-Auth-User: evil-admin",
    ],
    ids=["space", "leading", "folded", "tab", "nul", "bare-lf", "bare-cr"],
)
def test_malformed_header_lines_bring_no_identity(
    client: Client, member: Session, lines: bytes
) -> None:
    name, value = cookie(member.token)
    head = f"GET /x HTTP/1.1\r\nHost: {HOST}\r\n{name}: {value}\r\n".encode()
    reply = client.send_raw(head + lines + b"\r\n\r\n")
    if reply.from_application:
        assert identities(reply.seen)["X_AUTH_USER"] == [member.user]
    else:
        assert reply.status in (400, 401)  # 401: folded into the cookie, which spoils it


@pytest.mark.parametrize("name", ["X-Auth-User", "X-Original-URI", "X-Forwarded-For", "Cookie"])
def test_identity_is_not_dropped_as_hop_by_hop(client: Client, member: Session, name: str) -> None:
    """A name in `Connection` asks the proxy to drop that header. Envoy obeys, or answers 400."""
    reply = client.get("/x", cookie(member.token), ("Connection", f"close, {name}"))
    if reply.from_application:
        assert reply.seen.identity("User") == member.user
        assert name not in ", ".join(reply.seen.values("Connection"))  # nor by a proxy behind it
    else:
        assert reply.status in (400, 401)


DECISIVE = [
    ("X-Original-URI", "/public/x"),
    ("X-Original-URL", f"http://{HOST}/public/x"),
    ("X-Rewrite-URL", "/public/x"),
    ("X-Forwarded-Uri", "/public/x"),
    ("X-Forwarded-Path", "/public/x"),
    ("X-Forwarded-Prefix", "/public"),
    ("X-Envoy-Original-Path", "/public/x"),
    ("X-Original-Method", "OPTIONS"),
    ("X-Forwarded-Method", "OPTIONS"),
    ("X-HTTP-Method-Override", "OPTIONS"),
    ("X-Forwarded-Host", "public.example.com"),
    ("Forwarded", "host=public.example.com;proto=https;for=127.0.0.1"),
]


@pytest.mark.parametrize("header", DECISIVE, ids=lambda header: header[0])
def test_client_cannot_change_what_is_decided(
    client: Client, member: Session, header: tuple[str, str]
) -> None:
    """The header alone, doubled, and beside all the others."""
    for headers in ([header], [header, header], [header, *DECISIVE]):
        refused = client.get("/admin/users", cookie(member.token), *headers)
        assert refused.header("X-Auth-Reason") == "role_required"
        assert client.get("/private", *headers).status == 401


def test_client_cannot_make_a_public_page_private(client: Client) -> None:
    reply = client.get("/public/x", ("X-Original-URI", "/admin"), ("X-Forwarded-Uri", "/admin"))
    assert reply.seen.raw_path == "/public/x"


def test_client_cannot_borrow_another_host(client: Client, member: Session) -> None:
    headers = [("X-Forwarded-Host", HOST), ("X-Original-URL", f"https://{HOST}/x")]
    reply = client.get("/x", cookie(member.token), *headers, host="other.example.com")
    assert reply.header("X-Auth-Reason") == "no_rule"


def test_client_cannot_borrow_another_method(client: Client, member: Session) -> None:
    names = ("X-Original-Method", "X-Forwarded-Method", "X-HTTP-Method-Override")
    headers = [cookie(member.token), *((name, "GET") for name in names)]
    assert client.get("/readonly/x", cookie(member.token)).from_application
    reply = client.send("POST", "/readonly/x", headers, b"a")
    assert reply.header("X-Auth-Reason") == "denied_by_rule"


def test_rerouting_headers_never_reach_the_application(client: Client, member: Session) -> None:
    """Frameworks that route by them would serve another path than the one checked."""
    names = ("X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X-Forwarded-Prefix",
             "X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method", "X-Original-Method",
             "X-Original-Host", "X-Rewrite-URI", "X-Forwarded-Uri", "X-Forwarded-Method",
             "X-Forwarded-Path", "Forwarded")  # fmt: skip
    headers = [(name, "/admin/users") for name in names]
    seen = client.get("/x", cookie(member.token), *headers).seen
    assert "/admin/users" not in str(seen.headers)


def test_address_is_the_peer_s_and_not_the_client_s_word(client: Client, member: Session) -> None:
    spoofed = [("X-Forwarded-For", "203.0.113.9"), ("X-Real-IP", "203.0.113.9")]
    seen = client.get("/x", cookie(member.token), *spoofed).seen
    assert "203.0.113.9" not in str(seen.headers)
    assert len(seen.values("X-Forwarded-For")) == 1
