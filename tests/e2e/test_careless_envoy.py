"""The gateway behind an Envoy that was set up carelessly, asking over gRPC.

Nothing is stripped early, underscores pass, and an error of the gateway would open the door: what
is shown here the gateway does alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from gateway.embedded import EmbeddedValkey
from tests import servers

from .client import PAGE, Client, cookie
from .stack import Session, Stack, running_stack
from .test_faults import ask_until_refused_by
from .test_spoofing import EVIL, NAMES, SPELLINGS, identities


def careless_yaml(stack: Stack, port: int, *, raw: bool) -> str:
    """Return the shipped configuration without what protects by itself."""
    text = servers.envoy_grpc_yaml(
        listen=port, gateway=stack.grpc_port, application=stack.application_port
    )
    begin = text.index("                # Before anything else is done with the request.")
    text = text[:begin] + text[text.index("                upgrade_configs:") :]
    for shipped, careless in (
        ("headers_with_underscores_action: REJECT_REQUEST", ""),
        ("failure_mode_allow: false", "failure_mode_allow: true"),
        ("encode_raw_headers: true", f"encode_raw_headers: {str(raw).lower()}"),
    ):
        assert shipped in text
        text = text.replace(shipped, careless)
    return text


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(raw, id=name, marks=pytest.mark.xdist_group(f"e2e-careless-{name}"))
        for name, raw in (("raw", True), ("joined", False))
    ],
)
def careless(request: pytest.FixtureRequest, stack: Stack) -> Iterator[Client]:
    port = servers.free_port()
    with servers.start_envoy(careless_yaml(stack, port, raw=request.param)):
        yield Client(port)


def test_the_two_shipped_configurations_differ_in_the_question_only() -> None:
    """What one of them learns to refuse, the other must too."""

    def without_question(text: str) -> Any:
        config = yaml.safe_load(text)
        [web] = config["static_resources"]["listeners"]
        manager = web["filter_chains"][0]["filters"][0]["typed_config"]
        del manager["http_filters"][0]["typed_config"]
        [gateway] = [c for c in config["static_resources"]["clusters"] if c["name"] == "gateway"]
        del gateway["typed_extension_protocol_options"]
        return config

    ports = {"listen": 1, "gateway": 2, "application": 3}
    over_http, over_grpc = servers.envoy_yaml(**ports), servers.envoy_grpc_yaml(**ports)
    assert without_question(over_http) == without_question(over_grpc)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_of_an_identity_passes(
    careless: Client, member: Session, spelling: str
) -> None:
    """Exact names are overwritten, never appended to; others are removed."""
    headers = [(spelt, EVIL) for name in NAMES for spelt in SPELLINGS[spelling](name)]
    inside = careless.get("/x", cookie(member.token), *headers).seen
    outside = careless.get("/public/x", *headers).seen
    for seen, user in ((inside, member.user), (outside, "")):
        found = identities(seen)
        assert EVIL not in str(seen.headers)
        assert found["X_AUTH_USER"] == [user]
        assert all(len(values) == 1 for values in found.values())
        assert len(found) == len(NAMES)


def test_other_headers_arrive_as_they_were(careless: Client, member: Session) -> None:
    """Odd bytes disturb no check, and only what could be taken for ours goes."""
    odd = [("X_Theme", "dark"), ("X-Auth-Users", "x"), ("X-Odd", "caf\xe9 \xff")]
    seen = careless.get("/x", cookie(member.token), *odd).seen
    for name, value in odd:
        assert seen.values(name) == [value]


def test_only_raw_headers_tell_two_cookie_lines_apart(
    careless: Client, member: Session, request: pytest.FixtureRequest
) -> None:
    """Joined with a comma they are no cookies; as they came, the session is found."""
    reply = careless.get("/x", ("Cookie", "theme=dark"), cookie(member.token))
    if "joined" in request.node.name:
        assert (reply.status, reply.header("X-Auth-Reason")) == (401, "no_session")
    else:
        assert reply.seen.identity("User") == member.user


@pytest.mark.parametrize("size", [1_000, 50_000])
def test_no_length_of_headers_makes_an_error(careless: Client, size: int) -> None:
    """Under failure_mode_allow an error is an allow."""
    reply = careless.get("/x", ("X-Long", "a" * size), ("Cookie", "a" * size), PAGE)
    assert not reply.from_application
    assert reply.status in (302, 431)


def test_in_doubt_the_door_stays_shut() -> None:
    """We do not know is an answer, so that failure_mode_allow has no say."""
    with (
        EmbeddedValkey(port=servers.free_port()) as valkey,
        running_stack(valkey.url) as stack,
    ):
        session = stack.back_end.sign_in()
        port = servers.free_port()
        with servers.start_envoy(careless_yaml(stack, port, raw=True)):
            client = Client(port)
            assert client.get("/x", cookie(session.token)).from_application
            valkey.stop()
            ask_until_refused_by(client, session)
            for _ in range(20):
                refused = client.get("/x", cookie(session.token))
                assert refused.status == 503
                assert refused.header("X-Auth-Reason") == "store_unavailable"
                assert refused.header("Retry-After") == "1"
                assert refused.header("Content-Type") == "application/problem+json"
            assert client.get("/public/x").from_application
