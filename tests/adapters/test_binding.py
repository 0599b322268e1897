"""Sessions bound to who signed in, as every family of proxies asks for them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.alerts import Action
from gateway.binding import Binding, Bonds
from gateway.model import Client
from tests.decision.samples import cookie, make_session

from .families import Asked, Family
from .gate import serving

NOBODY = replace(make_session(), client=Client())


@pytest.mark.parametrize("action", [Action.STEP_UP, Action.DENY, Action.END])
async def test_nothing_said_at_the_sign_in_and_nothing_now_is_no_proof(
    family: Family, action: Action
) -> None:
    """Else whoever has a token leaves the headers out, and passes."""
    only_where = replace(NOBODY, client=Client("192.0.2.7"))  # as all families say it
    async with serving(only_where, binding=Binding(Bonds(fingerprint=action))) as gate:
        for remembers in (False, True):
            gate.store.remembers = remembers
            reply = await gate.ask(family, Asked(cookies=(cookie(),)))
            wanted = "step_up_required" if action is Action.STEP_UP else "fingerprint_changed"
            assert (reply.status, reply.one("X-Auth-Reason")) == (403, wanted)


@pytest.mark.parametrize("action", [Action.STEP_UP, Action.DENY, Action.END])
async def test_no_address_at_the_sign_in_and_none_now_is_no_proof(
    family: Family, action: Action
) -> None:
    """Whether the family may leave the address out or not: nobody passes."""
    async with serving(NOBODY, binding=Binding(Bonds(address=action))) as gate:
        for drop in ("X-Forwarded-For", "X-Real-IP", ":source"):
            asked = Asked(cookies=(cookie(),))
            assert (await gate.ask(family, asked, drop)).status != family.allows


async def test_who_signed_in_passes(family: Family) -> None:
    known = replace(make_session(), client=Client("192.0.2.7", user_agent="curl/8"))
    bonds = Bonds(fingerprint=Action.DENY, address=Action.DENY)
    async with serving(known, binding=Binding(bonds)) as gate:
        asked = Asked(cookies=(cookie(),), more=(("User-Agent", b"curl/8"),))
        assert (await gate.ask(family, asked)).status == family.allows
