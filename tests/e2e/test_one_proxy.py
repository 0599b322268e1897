"""What only one proxy, or two, could get wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from gateway.identity import HEADERS
from tests import servers

from . import traefik
from .client import Client, cookie
from .stack import INSTALLED, BackEnd, Session, Stack, start_proxy

GATEWAY_PORT = 9180


@contextmanager
def haproxy(stack: Stack, *, script: str = "", bind: str = "") -> Iterator[Client]:
    """Run HAProxy with another script, or with more words on its bind line."""
    needs("haproxy")
    port = servers.free_port()
    conf = servers.haproxy_cfg(
        listen=port, gateway=stack.check_port, application=stack.application_port
    )
    listener = f"bind 127.0.0.1:{port}"
    with servers.start_haproxy(conf.replace(listener, f"{listener} {bind}"), script):
        yield Client(port)


def needs(proxy: str) -> None:
    if not servers.installed(INSTALLED[proxy]):
        pytest.skip(f"there is no {INSTALLED[proxy]}")


@pytest.mark.parametrize("name", ["caddy", "haproxy"])
def test_answer_of_somebody_else_is_no_allow(stack: Stack, name: str) -> None:
    """At the gateway's address something else says 200 to everything."""
    needs(name)
    program, port = start_proxy(name, stack.application_port, stack.application_port)
    with program:
        reply = Client(port).get("/public/x")
    assert reply.status == 503
    assert not reply.from_application


# --- HAProxy ---------------------------------------------------------------------------------

FAULTS = {
    "raises": ("local answer =", 'error("broken") local answer ='),
    "does nothing": ("local answer =", "do return end local answer ="),
    "raises while it allows": ("local values = {}", "local values = {} .. nil"),
    "raises while it refuses": ("txn:done(", "txn:nothing("),
    "asks nobody": ("abns@session-gateway", "127.0.0.1:1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_script_that_fails_lets_nobody_in(stack: Stack, member: Session, fault: str) -> None:
    """HAProxy goes on after an error in Lua: the line after it has to stop the request."""
    before, after = FAULTS[fault]
    script = servers.GATEWAY_LUA.read_text()
    assert before in script
    with haproxy(stack, script=script.replace(before, after, 1)) as client:
        refusing = fault == "raises while it refuses"
        reply = client.get("/x") if refusing else client.get("/x", cookie(member.token))
    assert reply.status == 503
    assert not reply.from_application


def test_http_2_is_asked_about_as_http_1_is(stack: Stack, member: Session) -> None:
    """Its targets are whole addresses inside HAProxy; the gateway gets paths."""
    curl = shutil.which("curl")
    if curl is None and os.environ.get("GATEWAY_CI") != "1":
        pytest.skip("there is no curl")
    assert curl, "curl is required in CI: .ci/run installs it"

    def status_of(client: Client, target: str, *headers: str) -> str:
        command = [curl, "--silent", "--http2-prior-knowledge", "--path-as-is"]
        command += ["--output", os.devnull, "--write-out", "%{http_version} %{http_code}"]
        for header in ("Host: app.example.com", *headers):
            command += ["--header", header]
        url = f"http://127.0.0.1:{client.port}{target}"
        return subprocess.run([*command, url], capture_output=True, check=True, text=True).stdout

    session = ": ".join(cookie(member.token))
    with haproxy(stack) as client:
        assert status_of(client, "/x?a=1", session) == "2 200"
        assert status_of(client, "/x", session, "X_Auth_User: evil") == "2 200"
        assert status_of(client, "/public/x") == "2 200"
        assert status_of(client, "/admin", session) == "2 403"
        assert status_of(client, "/public/../admin", session) == "2 403"
        assert status_of(client, "/x") == "2 401"


def test_address_behind_a_balancer_comes_by_the_proxy_protocol(
    stack: Stack, member: Session
) -> None:
    """`accept-proxy`, as the configuration says; a client's own list is still overwritten."""
    with haproxy(stack, bind="accept-proxy") as client:
        name, value = cookie(member.token)
        head = f"GET /x HTTP/1.1\r\nHost: app.example.com\r\n{name}: {value}\r\n"
        spoofed = "X-Forwarded-For: 203.0.113.9\r\n\r\n"
        line = "PROXY TCP4 198.51.100.7 127.0.0.1 40000 443\r\n"
        reply = client.send_raw((line + head + spoofed).encode())
    assert reply.seen.values("X-Forwarded-For") == ["198.51.100.7"]


# --- Caddy -----------------------------------------------------------------------------------


def test_caddy_keeps_no_connection_to_the_gateway() -> None:
    """Else it may ask the application in the gateway's place (docs/proxies/caddy.md).

    With kept connections one in some thousand requests of the crowds in test_crowd.py was answered
    so: crowds may show the race, this line shuts it out.
    """
    question, _, rest = servers.CADDYFILE.read_text().partition("handle_response @allowed")
    assert rest
    assert question.count("reverse_proxy 127.0.0.1:9180 {") == 1
    lines = [line.strip() for line in question.splitlines()]
    assert [line for line in lines if line.startswith("keepalive")] == ["keepalive off"]
    assert "versions 1.1" in lines  # HTTP/2 would share one connection


def test_address_behind_a_balancer_is_believed_where_it_is_trusted(
    stack: Stack, back_end: BackEnd
) -> None:
    """With the changes that docs/proxies/caddy.md names."""
    needs("caddy")
    port = servers.free_port()
    text = servers.caddyfile(
        listen=port, gateway=stack.check_port, application=stack.application_port
    )
    removed = "request_header -X-Forwarded-*\n"
    assert removed in text
    for name in ("Method", "Uri", "Path", "Prefix", "Port", "Server"):
        text = text.replace(removed, f"request_header -X-Forwarded-{name}\n\t\t{removed}", 1)
    text = text.replace(removed, "")
    application = f"reverse_proxy 127.0.0.1:{stack.application_port}"
    gateway = f"reverse_proxy 127.0.0.1:{stack.check_port} {{"
    trust = "trusted_proxies 127.0.0.0/8"
    assert application in text
    assert gateway in text
    text = text.replace(application, f"{application} {{\n{trust}\n}}")
    text = text.replace(gateway, f"{gateway}\n{trust}")
    with servers.start_caddy(text):
        session = back_end.sign_in()
        listed = ("X-Forwarded-For", "203.0.113.9, 198.51.100.7")
        reply = Client(port).get("/x", cookie(session.token), listed)
    assert reply.seen.values("X-Forwarded-For") == ["203.0.113.9, 198.51.100.7, 127.0.0.1"]


def test_application_that_is_down_is_not_taken_for_the_gateway(
    stack: Stack, member: Session
) -> None:
    """Caddy has one place for both faults; only the gateway's says when to try again."""
    needs("caddy")
    program, port = start_proxy("caddy", stack.check_port, servers.free_port())
    with program:
        reply = Client(port).get("/x", cookie(member.token))
    assert (reply.status, reply.header("Retry-After")) == (502, None)


# --- Traefik ---------------------------------------------------------------------------------


@pytest.fixture
def config() -> traefik.Config:
    return traefik.load(servers.TRAEFIK_YML, servers.TRAEFIK_DYNAMIC_YML)


def test_traefik_s_files_say_what_the_stand_in_was_told(config: traefik.Config) -> None:
    """Every managed header is replaced, no word of the client's is taken for Traefik's."""
    assert set(config.identity) == {*HEADERS, "X-Auth-Jwt-Assertion"}
    assert config.gateway == f"http://127.0.0.1:{GATEWAY_PORT}/check/forward_auth"
    assert (config.trusts, config.trusted_ips) == (False, ())
    assert (config.aliases, config.sanitize) == ("delete", True)
    assert set(config.refused_escapes) == set(traefik.ENCODED.values())
    assert "Cookie" in config.asked_with
    assert not {name for name in config.asked_with if name.startswith("X-Forwarded-")}


def test_traefik_behind_a_balancer_hands_its_list_on(config: traefik.Config) -> None:
    """With what docs/proxies/traefik.md names; from anybody else the list is not believed."""
    trusting = replace(config, trusts=True, trusted_ips=("192.0.2.1",))
    lines = [
        "GET /ws HTTP/1.1",
        "Host: app.example.com",
        "X-Forwarded-For: 203.0.113.9, 198.51.100.7",
        "X-Forwarded-Uri: /public/x",
        "Connection: Upgrade",
        "Upgrade: websocket",
    ]
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    asked = {}
    for peer in ("192.0.2.1", "192.0.2.66"):
        entered = traefik.enter(traefik.parse(head, peer), trusting)
        asked[peer] = traefik.question(entered, trusting)
    believed, stranger = asked.values()
    assert believed["X-Forwarded-For"] == [b"203.0.113.9, 198.51.100.7, 192.0.2.1"]
    assert believed["X-Forwarded-Proto"] == [b"ws"]
    assert stranger["X-Forwarded-For"] == [b"192.0.2.66"]
    assert stranger["X-Forwarded-Uri"] == [b"/ws"]


def test_unknown_key_in_traefik_s_files_is_an_error(tmp_path: Path) -> None:
    static = yaml.safe_load(servers.TRAEFIK_YML.read_text())
    static["entryPoints"]["web"]["http"]["aliasHeaderStrategy"] = "delete"
    written = tmp_path / "traefik.yml"
    written.write_text(yaml.safe_dump(static))
    with pytest.raises(KeyError, match="aliasHeaderStrategy"):
        traefik.load(written, servers.TRAEFIK_DYNAMIC_YML)


@pytest.mark.parametrize(
    ("spelt", "sent"),
    [
        ("/public/../admin", "/admin"),
        ("//public//x/", "/public/x/"),
        ("/%61dmin/%c3%a9", "/admin/%C3%A9"),
        ("/a\\b", "/a%5Cb"),
        ('/a"b', "/a%22b"),
        ("http://app.example.com/x", "/x"),
    ],
)
def test_stand_in_spells_a_path_as_traefik_does(
    config: traefik.Config, spelt: str, sent: str
) -> None:
    """The gateway and the application get the same spelling."""
    head = f"GET {spelt} HTTP/1.1\r\nHost: app.example.com\r\n\r\n".encode()
    allowing = replace(config, refused_escapes=())
    entered = traefik.enter(traefik.parse(head, "192.0.2.7"), allowing)
    asked = traefik.question(entered, allowing)
    assert entered.uri == sent
    assert asked["X-Forwarded-Uri"] == [sent.encode()]
    assert asked["X-Forwarded-For"] == [b"192.0.2.7"]
