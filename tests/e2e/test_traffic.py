"""Cookies, methods, bodies and WebSockets pass as they are, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import socket

import aiohttp
import pytest

from .client import HOST, PAGE, Client, Seen, cookie
from .stack import BackEnd, Session

MEGABYTE = 1024 * 1024


# --- cookies ---------------------------------------------------------------------------------


def test_session_is_found_among_other_cookies(client: Client, member: Session) -> None:
    line = f'theme="dark; x"; a=1; __Host-sid={member.token}; __Host-sid2=x; sid=y'
    seen = client.get("/x", ("Cookie", line)).seen
    assert seen.identity("User") == member.user
    assert seen.cookies == [line]


def test_eight_kilobytes_of_cookies_are_no_obstacle(client: Client, member: Session) -> None:
    line = f"a={'x' * 4000}; __Host-sid={member.token}; b={'y' * 4000}"
    seen = client.get("/x", ("Cookie", line)).seen
    assert seen.identity("User") == member.user
    assert seen.cookies == [line]


def test_two_different_session_cookies_are_refused(client: Client, back_end: BackEnd) -> None:
    ours, theirs = back_end.sign_in(), back_end.sign_in()
    for first, second in ((ours, theirs), (theirs, ours)):
        line = f"__Host-sid={first.token}; __Host-sid={second.token}"
        reply = client.get("/x", ("Cookie", line))
        assert reply.status == 401
        assert reply.header("X-Auth-Reason") == "duplicate_cookie"


def test_second_cookie_line_cannot_replace_the_first(client: Client, back_end: BackEnd) -> None:
    ours, theirs = back_end.sign_in(), back_end.sign_in()
    for first, second in ((ours, theirs), (theirs, ours)):
        reply = client.get("/x", cookie(first.token), cookie(second.token))
        assert reply.status == 401
        assert not reply.from_application


def test_two_cookie_lines_never_confuse_who_it_is(client: Client, member: Session) -> None:
    """nginx passes both; Envoy joins them with a comma, and then there is no session."""
    reply = client.get("/x", ("Cookie", "theme=dark"), cookie(member.token))
    if reply.from_application:
        assert reply.seen.identity("User") == member.user
    else:
        assert reply.status == 401


@pytest.mark.parametrize(
    "name",
    ["__host-sid", "__Host-sid ", "\xe2\x80\x80__Host-sid", "\xa0__Host-sid", "x__Host-sid"],
    ids=["case", "space", "unicode-space", "no-break-space", "suffix"],
)
def test_only_the_exact_cookie_name_counts(
    client: Client, back_end: BackEnd, member: Session, name: str
) -> None:
    evil = back_end.sign_in()
    reply = client.get("/x", ("Cookie", f"__Host-sid={member.token}; {name}={evil.token}"))
    if reply.from_application:
        assert reply.seen.identity("User") == member.user
    else:
        assert reply.status in (400, 401)


# --- methods and bodies ----------------------------------------------------------------------


def test_head_is_decided_and_passed_as_head(client: Client, member: Session) -> None:
    allowed = client.send("HEAD", "/x", [cookie(member.token)])
    assert allowed.from_application
    assert allowed.body == b""
    assert client.send("HEAD", "/x", [PAGE]).status == 302
    assert client.send("HEAD", "/admin", [cookie(member.token)]).status == 403


def test_options_is_decided_like_any_other_method(client: Client, member: Session) -> None:
    preflight = [("Origin", "https://other.example"), ("Access-Control-Request-Method", "PUT")]
    assert client.send("OPTIONS", "/x", preflight).status == 401
    assert client.send("OPTIONS", "/public/x", preflight).seen.method == "OPTIONS"
    allowed = client.send("OPTIONS", "/x", [cookie(member.token), *preflight])
    assert allowed.seen.identity("User") == member.user


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_method_arrives_as_it_was_sent(client: Client, member: Session, method: str) -> None:
    assert client.send(method, "/x", [cookie(member.token)], b"abc").seen.method == method
    assert client.send(method, "/x", body=b"abc").status == 401


def test_strange_methods_reach_nothing_unasked(client: Client, member: Session) -> None:
    for method in ("TRACE", "CONNECT", "FOO", "get"):
        reply = client.send(method, "/admin", [cookie(member.token)])
        assert not reply.from_application


def test_megabyte_arrives_intact(client: Client, member: Session) -> None:
    body = os.urandom(MEGABYTE)
    seen = client.send("POST", "/upload", [cookie(member.token)], body).seen
    assert seen.body_length == MEGABYTE
    assert seen.body_sha256 == hashlib.sha256(body).hexdigest()


def test_chunked_body_arrives_intact(client: Client, member: Session) -> None:
    body = os.urandom(70_000)
    name, value = cookie(member.token)
    head = f"POST /upload HTTP/1.1\r\nHost: {HOST}\r\n{name}: {value}\r\n".encode()
    chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    seen = client.send_raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk, "POST").seen
    assert seen.body_sha256 == hashlib.sha256(body).hexdigest()


def test_form_of_a_stranger_is_refused_without_the_body(client: Client) -> None:
    headers = [PAGE, ("Sec-Fetch-Mode", "navigate"), ("Content-Type", "text/plain")]
    reply = client.send("POST", "/form", headers, b"a=1")
    assert reply.status in (401, 303)
    assert not reply.from_application


def test_smuggled_second_request_is_not_obeyed(client: Client, member: Session) -> None:
    """Two lengths of one body: what follows must not become a request of its own."""
    name, value = cookie(member.token)
    head = f"POST /x HTTP/1.1\r\nHost: {HOST}\r\n{name}: {value}\r\n".encode()
    lengths = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    reply = client.send_raw(head + lengths + b"0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n", "POST")
    assert reply.status == 400 or reply.seen.body_length == 0


# --- WebSocket -------------------------------------------------------------------------------


def websocket_url(client: Client) -> str:
    return f"http://127.0.0.1:{client.port}/ws"


async def test_websocket_opens_for_a_session(client: Client, member: Session) -> None:
    name, value = cookie(member.token)
    headers = {"Host": HOST, name: value, "X-Auth-User": "evil-admin"}
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(websocket_url(client), headers=headers) as socket,
    ):
        seen = await socket.receive_json(timeout=5)
        users = [value for name, value in seen["headers"] if name.lower() == "x-auth-user"]
        assert users == [member.user]
        await socket.send_str("hello")
        assert await socket.receive_str(timeout=5) == "hello"


def first_message(client: Client, *headers: tuple[str, str]) -> tuple[int, Seen | None]:
    """Shake hands with these headers; return the status, and what reached the application."""
    lines = [f"{name}: {value}" for name, value in headers]
    head = "\r\n".join(["GET /ws HTTP/1.1", f"Host: {HOST}", *lines]) + "\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection,
        connection.makefile("rb") as stream,
    ):
        connection.sendall(head.encode())
        status = int(stream.readline().split()[1])
        while stream.readline() not in (b"\r\n", b""):
            pass
        if status != 101:
            return status, None
        assert stream.read(2) == b"\x81\x7e"  # a text whose length takes two bytes (RFC 6455)
        return status, Seen(**json.loads(stream.read(int.from_bytes(stream.read(2)))))


def test_handshake_hands_on_no_more_than_the_upgrade(
    client: Client, proxy: str, member: Session
) -> None:
    """`Connection` has to pass there; another name in it would drop the identity further on.

    Envoy hands it on as it came (docs/proxies/envoy.md).
    """
    handshake = [
        ("Connection", "Upgrade, X-Auth-User"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ]
    status, seen = first_message(client, cookie(member.token), *handshake)
    if seen is None:
        assert status in (400, 401)
        return
    received = {name.lower(): value for name, value in seen.headers}
    assert received["x-auth-user"] == member.user
    if not proxy.startswith("envoy"):
        assert received["connection"].lower() == "upgrade"


async def test_websocket_stays_shut_for_a_stranger(client: Client) -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await http.ws_connect(websocket_url(client), headers={"Host": HOST})
    assert refusal.value.status == 401


UPGRADES = {
    "alone": ["h2c"],
    "listed-last": ["websocket, h2c"],
    "listed-first": ["h2c, websocket"],
    "second-line": ["websocket", "h2c"],
    "first-line": ["h2c", "websocket"],
    "similar": ["h2c-websocket"],
}


@pytest.mark.parametrize("case", UPGRADES)
def test_no_other_protocol_can_be_upgraded_to(client: Client, member: Session, case: str) -> None:
    """An h2c tunnel would carry further requests past the gateway."""
    lines = [("Upgrade", value) for value in UPGRADES[case]]
    connection = [("Connection", "Upgrade, HTTP2-Settings"), ("HTTP2-Settings", "AA")]
    reply = client.get("/x", cookie(member.token), *connection, *lines)
    assert reply.status != 101
    if reply.from_application and reply.body:  # Envoy drops the body of who does not upgrade
        assert [value.lower() for value in reply.seen.values("Upgrade")] in ([], ["websocket"])
