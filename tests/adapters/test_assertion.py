"""Assertions and unset headers, as every family of proxies gets them."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Any

import pytest
from joserfc.jwk import ECKey

from gateway import assertion
from gateway.assertion import Assertions, Keys, Terms
from tests.decision.samples import NOW_MS, cookie, make_session

from .families import Asked, Family
from .gate import ASSERTION, serving
from .reply import Reply
from .test_every_adapter import SIGNED_IN, check_head

KEYS = Keys(ECKey.generate_key("P-256").as_pem(private=True).decode())


def assertions() -> Assertions:
    terms = Terms(ASSERTION, "https://gateway.example.com", "", 300_000)
    return Assertions(KEYS, terms, lambda: NOW_MS / 1000)


def claims_of(reply: Reply) -> Any:
    part = reply.one(ASSERTION).split(".")[1]
    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))


@pytest.mark.parametrize("remembers", [False, True])
async def test_an_allow_tells_it_signed_too(family: Family, remembers: bool) -> None:
    """Both ways of an answer, under every profile; signed once for all of them."""
    signing = assertions()
    async with serving(make_session(), assertions=signing) as gate:
        gate.store.remembers = remembers
        for _ in range(3):
            reply = await gate.ask(family, SIGNED_IN)
            check_head(reply)
            assert (reply.status, reply.one(family.user)) == (family.allows, "ada")
            claims = claims_of(reply)
            assert (claims["sub"], claims["aud"]) == ("ada", "app.example.com")
        assert signing.signed == 1
        assert gate.faults == []


async def test_nobody_gets_an_empty_one_and_a_denial_none(family: Family) -> None:
    """An empty one replaces what the client claims; and nothing is signed for either."""
    signing = assertions()
    async with serving(make_session(roles=()), assertions=signing) as gate:
        reply = await gate.ask(family, Asked(b"/public/x", cookies=(cookie(),)))
        assert (reply.status, reply.one(ASSERTION)) == (family.allows, "")
        for asked in (Asked(), Asked(b"/admin/x", cookies=(cookie(),)), Asked(b"/shut/x")):
            assert not (await gate.ask(family, asked)).all(ASSERTION)
        assert signing.signed == 0


async def test_a_session_that_has_ended_gets_none(family: Family) -> None:
    signing = assertions()
    async with serving(make_session(), assertions=signing) as gate:
        assert claims_of(await gate.ask(family, SIGNED_IN))["sub"] == "ada"
        gate.store.sessions.clear()
        assert not (await gate.ask(family, SIGNED_IN)).all(ASSERTION)


async def test_what_cannot_be_signed_is_no_allow(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even with the assertion left out: some application relies on it."""
    signing = assertions()
    monkeypatch.setattr(signing._keys, "signing", None)
    async with serving(make_session(), assertions=signing) as gate:
        for remembers in (False, True):
            gate.store.remembers = remembers
            reply = await gate.ask(family, SIGNED_IN)
            assert (reply.status, reply.one("X-Auth-Reason")) == (family.unknown, "internal_error")
        assert gate.faults


async def test_too_many_audiences_are_no_allow_without_one(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made-up hosts are refused, and those that were asked before still pass."""
    monkeypatch.setattr(assertion, "_MOST_AUDIENCES", 1)
    async with serving(make_session(), assertions=assertions()) as gate:
        for remembers in (False, True):
            gate.store.remembers = remembers
            assert (await gate.ask(family, SIGNED_IN)).status == family.allows
            reply = await gate.ask(family, Asked(host="b.example.com", cookies=(cookie(),)))
            assert (reply.status, reply.one("X-Auth-Reason")) == (family.unknown, "overloaded")
            assert not reply.all(ASSERTION)
        assert gate.faults == []


# --- unset headers ---------------------------------------------------------------------------

ENVOY = {"ext_authz_http", "ext_authz_grpc", "authelia_ext_authz"}
TRAEFIK = {"forward_auth", "authelia_forward_auth"}
REMOVE = "x-envoy-auth-headers-to-remove"


async def test_unset_headers_are_empty_by_default(family: Family) -> None:
    async with serving(make_session(email="", name="")) as gate:
        reply = await gate.ask(family, SIGNED_IN)
        told = dict(family.told.headers)
        assert {name for name in reply.names if not reply.one(name)} == {
            name for name in told if told[name] in ("email", "name")
        }
        assert not reply.all(REMOVE)
        assert reply.removed == ()


@pytest.mark.parametrize("families", [("ext_authz",), ("forward_auth",)])
@pytest.mark.parametrize("target", [b"/app/x", b"/public/x"])
async def test_unset_headers_are_removed_as_the_proxy_can(
    family: Family, families: tuple[str, ...], target: bytes
) -> None:
    """Envoy is told to, Traefik does it by itself; whoever else asks gets them empty."""
    session = make_session(email="", name="")
    async with serving(session, remove_unset=families) as gate:
        reply = await gate.ask(family, Asked(target, cookies=(cookie(),)))
        assert reply.status == family.allows
        told = dict(family.told.headers)
        public = target == b"/public/x"
        unset = {name for name, source in told.items() if public or source in ("email", "name")}
        removed = {each for value in reply.all(REMOVE) for each in value.split(",")}
        removed |= set(reply.removed)
        if "ext_authz" in families and family.name in ENVOY:
            assert removed == {name.lower() for name in unset}
        else:
            assert not removed
        asked_to = ENVOY if "ext_authz" in families else TRAEFIK
        kept = unset if family.name not in asked_to else set()
        assert {name for name in reply.names if name in told and not reply.one(name)} == kept
        assert {name for name in told if name not in unset} <= reply.names


@pytest.mark.parametrize("target", [b"/app/x", b"/public/x"])
async def test_other_spellings_are_removed_beside_unset_ones(family: Family, target: bytes) -> None:
    """Over gRPC the gateway removes both, also other spellings of what is unset."""
    claims = (("X_Auth_Email", b"evil"), ("X.Auth.User", b"evil"), ("x-other", b"a"))
    async with serving(make_session(email=""), remove_unset=("ext_authz",)) as gate:
        reply = await gate.ask(family, Asked(target, cookies=(cookie(),), more=claims))
        if family.grpc:
            assert {"x-auth-email", "x_auth_email", "x.auth.user"} <= set(reply.removed)
            assert "x-other" not in reply.removed
