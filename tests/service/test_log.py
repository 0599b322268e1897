"""The log is JSON lines, and holds no secret whatever is sent."""

from __future__ import annotations

import contextlib
import socket
from urllib.parse import quote

import structlog

from gateway.decision import DENIALS, Reason
from gateway.embedded import EmbeddedValkey
from gateway.telemetry import STRANGERS_PER_SECOND, CheckObserver, Metrics
from tests import servers

from .harness import (
    ADMIN_TOKEN,
    IN_DOUBT,
    Gateway,
    ask,
    log_lines,
    log_of,
    question,
    redis_command,
    until,
)

PASSWORD = "redis-password-0123"
BAD_TOKEN = "gwa_a-wrong-admin-token"
ADMIN_HEAD = (
    b"POST /v1/sessions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer " + ADMIN_TOKEN.encode() + b"\r\n"
)
STRANGER = "00" + "strangerstrangerstrangerstrangerstrangerabc"


def raw(port: int, request: bytes) -> bytes:
    """Send these bytes; return what comes."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.3) as client:
        client.sendall(request)
        answer = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while chunk := client.recv(65_536):
                answer += chunk
        return answer


def drive_admin(gateway: Gateway, token: str, session_id: str) -> None:
    """Make every kind of call, good and bad."""
    gateway.admin("POST", "/v1/introspect", {"token": token})
    gateway.admin("POST", "/v1/introspect", {"token": token, "more": 1})
    gateway.admin("GET", f"/v1/sessions/{token}")
    gateway.admin("GET", f"/v1/users/{quote(token)}/sessions?cursor={token}")
    gateway.admin("DELETE", f"/v1/sessions/{session_id}?reason={token}%0A")
    gateway.admin("PATCH", f"/v1/sessions/{session_id}", {"name": f"{token}\n"})
    for authorization in (f"Bearer {BAD_TOKEN}", f"Basic {BAD_TOKEN}", BAD_TOKEN):
        ask(gateway.admin_port, "GET", "/metrics", {"Authorization": authorization})
    ask(gateway.admin_port, "GET", f"/?token={BAD_TOKEN}", {})


def drive_checks(gateway: Gateway, token: str) -> None:
    """Ask every adapter, with good cookies and bad ones."""
    for adapter in IN_DOUBT:
        for cookie in (token, STRANGER, f"{token}x", f"{token}; __Host-sid={STRANGER}"):
            gateway.check(cookie, adapter)
            gateway.check(cookie, adapter, f"/x?token={token}&sid={STRANGER}")
        path, headers = question(adapter)
        ask(gateway.check_port, "POST", path, headers | {"Authorization": f"Bearer {BAD_TOKEN}"})
        ask(gateway.check_port, "GET", path, {"Cookie": f"__Host-sid={token}"})


def drive_broken_http(gateway: Gateway, token: str) -> None:
    """Send what is no HTTP, with secrets in it."""
    head = b"GET /check/auth_request HTTP/1.1\r\nHost: a\r\n"
    secrets = f"Cookie: __Host-sid={token}", f"Authorization: Bearer {ADMIN_TOKEN}"
    for secret in (each.encode() for each in secrets):
        for broken in (
            head + secret + b"\x00\r\n\r\n",
            head + secret + b"\x01\xff\r\n\r\n",
            head + secret.replace(b":", b" ") + b"\r\n\r\n",
            head + b" " + secret + b"\r\n\r\n",
            secret + b"\r\n\r\n",
            secret.replace(b": ", b":") + b" / HTTP/1.1\r\n\r\n",
            b"GET /?" + secret + b" HTTP/9.9\r\n\r\n",
            b"GET /\x01 HTTP/1.1\r\n" + secret + b"\r\n\r\n",
            ADMIN_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + secret + b"\r\n",
            ADMIN_HEAD + b"Content-Encoding: gzip\r\nContent-Length: 100\r\n\r\n" + secret * 5,
            head + secret + b"\r\nContent-Length: " + secret + b"\r\n\r\n",
            head + secret + b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            head + secret * 5000 + b"\r\n\r\n",
        ):  # fmt: skip
            for port in (gateway.check_port, gateway.admin_port):
                raw(port, broken)


def test_nothing_secret_is_logged() -> None:
    """No token, cookie, admin token or Redis password is in the log, and every line is JSON."""
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        redis_command(valkey.port, f"CONFIG SET requirepass {PASSWORD}")
        url = valkey.url.replace("//", f"//:{PASSWORD}@")
        gateway = Gateway(url, '[log]\nlevel = "debug"\n')
        with gateway.running() as program:
            until(lambda: gateway.ready() == 200, "ready")
            created = gateway.sign_in()
            drive_checks(gateway, created["token"])
            drive_admin(gateway, created["token"], created["id"])
            drive_broken_http(gateway, created["token"])
            valkey.stop()
            drive_checks(gateway, created["token"])
            drive_admin(gateway, created["token"], created["id"])
            assert program.running
            text = log_of(program)
    lines = log_lines(text)
    assert {line["event"] for line in lines} >= {"denied", "listening", "store_unavailable"}
    for secret in (created["token"], STRANGER, ADMIN_TOKEN, BAD_TOKEN, PASSWORD):
        assert secret not in text
        assert secret[6:] not in text
    assert "Traceback" not in text


def test_strangers_are_named_at_a_bounded_rate() -> None:
    """Whoever reaches the port may ask without end; what was left out is counted."""
    metrics = Metrics()
    observer = CheckObserver(metrics, log_denials=True)
    with structlog.testing.capture_logs() as lines:
        for number in range(200):
            observer("auth_request", None, DENIALS[Reason.UNTRUSTED_PEER], 0.0)
            observer.note_stranger("auth_request", f"192.0.2.{number}")
    assert STRANGERS_PER_SECOND <= len(lines) < 4 * STRANGERS_PER_SECOND
    assert lines[0]["peer"] == "192.0.2.0"
    assert {line["reason"] for line in lines} == {"untrusted_peer"}
    assert metrics.checks["auth_request"].outcomes[Reason.UNTRUSTED_PEER] == 200


def test_a_stranger_is_logged_with_its_address() -> None:
    """And with nothing that it said of itself."""
    gateway = Gateway(f"redis://127.0.0.1:{servers.free_port()}/0")
    with gateway.running({"GW_CHECK__TRUSTED_PROXIES": '["192.0.2.0/24"]'}) as program:
        until(lambda: "listening" in log_of(program), "listening")
        path, headers = question("auth_request")
        ask(gateway.check_port, "GET", path, headers)
        until(lambda: "untrusted_peer" in log_of(program), "denied")
        denied = [line for line in log_lines(log_of(program)) if line["event"] == "denied"]
    assert [(line["reason"], line["peer"]) for line in denied] == [("untrusted_peer", "127.0.0.1")]


def test_bytes_that_are_no_text_are_logged_as_json() -> None:
    """A request whose bytes are no UTF-8 is denied with a log line like any other."""
    gateway = Gateway(f"redis://127.0.0.1:{servers.free_port()}/0")
    with gateway.running() as program:
        request = (
            b"GET /check/auth_request HTTP/1.1\r\nHost: a.example\r\nX-Original-Method: GET\r\n"
            b"X-Original-URI: /caf\xe9\r\nX-Forwarded-For: 203.0.113.7\r\nCookie: \xff\r\n\r\n"
        )
        assert raw(gateway.check_port, request).startswith(b"HTTP/1.1 403")
        denied = [line for line in log_lines(log_of(program)) if line["event"] == "denied"]
    assert len(denied) == 1
    assert denied[0]["path"].startswith("/caf")
