"""Sessions bound to who signed in, from outside: two gateways with other actions on one Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.embedded import EmbeddedValkey
from tests import servers

from .harness import Answer, Gateway, ask, question, until

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/{}.0 Safari/537.36"
HOME, NEXT_DOOR, AWAY = "192.0.2.7", "192.0.2.8", "203.0.113.7"
SIGN_IN = {"ip": HOME, "user_agent": CHROME.format(130), "accept_language": "de",
           "accept_encoding": "gzip"}  # fmt: skip
SETTINGS = """
[binding]
fingerprint = "{}"
network = "{}"
address = "alert"
"""


@pytest.fixture(scope="module")
def gateways() -> Iterator[tuple[Gateway, Gateway]]:
    """One that refuses, one that asks to sign in again and ends sessions."""
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        one = Gateway(valkey.url, SETTINGS.format("deny", "step_up"))
        other = Gateway(valkey.url, SETTINGS.format("end", "deny"))
        with one.running(), other.running():
            until(lambda: one.ready() == other.ready() == 200, "ready", 30)
            yield one, other


def sign_in(gateway: Gateway, user: str) -> Any:
    answer = gateway.admin("POST", "/v1/sessions", {"user": user, **SIGN_IN})
    assert answer.status == 201, answer.body
    return answer.json


def check(
    gateway: Gateway, token: str, address: str = HOME, *, adapter: str = "auth_request",
    agent: str = CHROME.format(130), language: str = "de", encoding: str = "gzip",
) -> Answer:  # fmt: skip
    path, headers = question(adapter)
    headers |= {"X-Forwarded-For": address, "X-Real-IP": address, "User-Agent": agent,
                "Accept-Language": language, "Accept-Encoding": encoding,
                "Cookie": f"__Host-sid={token}"}  # fmt: skip
    return ask(gateway.check_port, "GET", path, headers)


def reason(answer: Answer) -> str | None:
    return answer.headers["X-Auth-Reason"]


def alerts_of(gateway: Gateway, name: str) -> float:
    lines = gateway.admin("GET", "/metrics").body.decode().splitlines()
    prefix = f'gateway_alerts_total{{action="{name}",'
    return sum(float(line.split()[-1]) for line in lines if line.startswith(prefix))


@pytest.mark.parametrize("adapter", ["auth_request", "ingress", "forward_auth"])
def test_the_same_caller_passes_and_another_does_not(
    gateways: tuple[Gateway, Gateway], adapter: str
) -> None:
    """Whichever way the proxy asks, and whether the session is in memory or not."""
    gateway, _ = gateways
    token = sign_in(gateway, f"ann-{adapter}")["token"]
    assert reason(check(gateway, token, adapter=adapter, agent="curl/8")) == "fingerprint_changed"
    for _ in range(2):
        assert check(gateway, token, adapter=adapter).status == 200
        assert check(gateway, token, adapter=adapter, agent=CHROME.format(131)).status == 200
        assert check(gateway, token, NEXT_DOOR, adapter=adapter).status == 200
        for other in ({"agent": "curl/8"}, {"language": "en"}, {"encoding": "br"}, {"agent": ""}):
            answer = check(gateway, token, adapter=adapter, **other)
            assert (answer.status, reason(answer)) == (403, "fingerprint_changed")
            assert not answer.headers["X-Auth-User"]


def test_whoever_moved_signs_in_again_there(gateways: tuple[Gateway, Gateway]) -> None:
    """A renewal for a sign-in takes the new place; one without a place does not."""
    gateway, _ = gateways
    session = sign_in(gateway, "bob")
    token = session["token"]
    answer = check(gateway, token, AWAY)
    assert (reason(answer), answer.headers["X-Auth-Step-Up"]) == ("step_up_required", "aal=1")
    renew = f"/v1/sessions/{session['id']}/renew"
    assert gateway.admin("POST", renew, {"ip": AWAY}).status == 422
    moved = gateway.admin("POST", renew, {"aal": 1, "ip": AWAY}).json
    assert check(gateway, moved["token"], AWAY).status == 200
    assert reason(check(gateway, moved["token"], HOME)) == "step_up_required"
    again = gateway.admin("POST", f"/v1/sessions/{moved['id']}/renew", {"aal": 1}).json
    assert reason(check(gateway, again["token"], HOME)) == "step_up_required"
    read = gateway.admin("GET", f"/v1/sessions/{again['id']}").json
    assert (read["ip"], read["user_agent"]) == (AWAY, SIGN_IN["user_agent"])


def test_a_refused_session_lives_unless_its_end_is_configured(
    gateways: tuple[Gateway, Gateway],
) -> None:
    """Both gateways know of the end; the alert is told once."""
    deny, end = gateways
    session = sign_in(end, "eve")
    path = f"/v1/sessions/{session['id']}"
    before = alerts_of(end, "end")
    assert reason(check(deny, session["token"], agent="curl/8")) == "fingerprint_changed"
    assert reason(check(end, session["token"], AWAY)) == "address_changed"
    assert check(end, session["token"]).status == 200
    for _ in range(3):
        refused = check(end, session["token"], agent="wget/1").status
        assert refused in (401, 403)
    until(lambda: end.admin("GET", path).status == 404, "ended")
    until(lambda: check(deny, session["token"]).status == 401, "refused by the other")
    assert alerts_of(end, "end") == before + 1


def test_bytes_that_are_no_text_are_told_too(gateways: tuple[Gateway, Gateway]) -> None:
    """Else they would be a way to go unnoticed."""
    gateway, _ = gateways
    token = sign_in(gateway, "kim")["token"]
    before = alerts_of(gateway, "deny")
    assert reason(check(gateway, token, agent="caf\xe9\xff")) == "fingerprint_changed"
    until(lambda: alerts_of(gateway, "deny") == before + 1, "told")
