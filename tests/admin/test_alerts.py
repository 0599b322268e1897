"""Alerts as the application sees them, and what they do to its users."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from gateway.decision import Reason
from gateway.embedded import EmbeddedValkey
from tests.alerts.databases import AWAY, CITIES, HOME, NETWORKS, write

from . import harness
from .harness import Admin

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36"


def env_of(folder: Path, **actions: str) -> dict[str, str]:
    """Return the settings of a gateway that knows places."""
    places = {
        "GW_GEO__CITY": str(write(folder / "city.mmdb", CITIES)),
        "GW_GEO__ASN": str(write(folder / "asn.mmdb", NETWORKS)),
    }
    return places | {f"GW_ALERTS__{rule.upper()}": action for rule, action in actions.items()}


@pytest.fixture
async def strict(valkey: EmbeddedValkey, prefix: str, tmp_path: Path) -> AsyncIterator[Admin]:
    """New devices must step up; nobody travels faster than he can."""
    env = env_of(tmp_path, new_device="step_up", impossible_travel="end", new_country="alert")
    async with harness.running(harness.settings(prefix, env), valkey.url) as running:
        yield running


async def at_home(admin: Admin) -> None:
    await admin.create(ip=HOME, user_agent=CHROME, device_id="laptop")


async def test_the_answer_tells_of_places_and_alerts(
    valkey: EmbeddedValkey, prefix: str, tmp_path: Path
) -> None:
    """The database fills what the application leaves out."""
    settings = harness.settings(prefix, env_of(tmp_path))
    async with harness.running(settings, valkey.url) as admin:
        await at_home(admin)
        created = await admin.create(ip=f"::ffff:{AWAY}", user_agent=CHROME, device_id="laptop")
        country, travel = created["alerts"]
        assert country == {
            "type": "new_country", "action": "alert", "previous_country": "GB",
            "new_country": "US", "city": "Milton",
        }  # fmt: skip
        assert (travel["type"], travel["distance_km"]) == ("impossible_travel", 7700)
        session = (await admin.call("GET", f"/v1/sessions/{created['id']}")).json
        assert (session["country"], session["city"], session["aal"]) == ("US", "Milton", 1)
        again = await admin.create(ip=AWAY, user_agent=CHROME, device_id="laptop")
        assert again["alerts"] == []
        metrics = (await admin.call("GET", "/metrics", as_="scraper")).body.decode()
        assert 'gateway_alerts_total{action="alert",type="new_country"} 1.0' in metrics
        assert 'gateway_alerts_total{action="shadow",type="network_change"} 1.0' in metrics


async def test_a_session_in_doubt_passes_nowhere_before_a_new_sign_in(strict: Admin) -> None:
    """Not by a renewal without a level; and what was proved once is known from then on."""
    await at_home(strict)
    doubted = await strict.create(ip=HOME, user_agent=CHROME, device_id="phone", aal=3)
    assert (doubted["aal"], [each["type"] for each in doubted["alerts"]]) == (0, ["new_device"])
    refused = await strict.check(doubted["token"])
    assert (refused.reason, refused.step_up) == (Reason.STEP_UP_REQUIRED, "aal=1")
    asked = (await strict.call("POST", "/v1/introspect", {"token": doubted["token"]})).json
    assert (asked["active"], asked["aal"]) == (True, 0)
    said = await strict.call("PATCH", f"/v1/sessions/{doubted['id']}", {"aal": 3})
    assert said.places == ["aal"]
    renewed = (await strict.call("POST", f"/v1/sessions/{doubted['id']}/renew")).json
    assert (await strict.check(renewed["token"])).reason is Reason.STEP_UP_REQUIRED
    second = await strict.create(ip=HOME, user_agent=CHROME, device_id="phone")
    assert (second["aal"], second["alerts"]) == (0, [])
    proved = await strict.call("POST", f"/v1/sessions/{second['id']}/renew", {"aal": 2})
    assert (await strict.check(proved.json["token"])).reason is None
    third = await strict.create(ip=HOME, user_agent=CHROME, device_id="phone")
    assert (third["aal"], third["alerts"]) == (1, [])


async def test_a_refused_sign_in_is_answered_403(strict: Admin) -> None:
    """However often it is tried; the session at home lives on."""
    await at_home(strict)
    for _ in range(2):
        reply = await strict.call(
            "POST", "/v1/sessions", {"user": "alice", "ip": AWAY, "device_id": "laptop"}
        )
        assert reply.status == 403
        assert reply.json["problems"] == [{"place": "alerts", "message": "impossible_travel"}]
    page = (await strict.call("GET", "/v1/users/alice/sessions")).json
    assert [each["country"] for each in page["sessions"]] == ["GB"]


async def test_alerts_reach_the_lists(valkey: EmbeddedValkey, prefix: str, tmp_path: Path) -> None:
    """At once, while the gateway runs; their names are those of the configuration."""
    env = env_of(tmp_path) | {"GW_ALERTS__LISTS": f'["{prefix}mine"]'}
    async with (
        harness.running(harness.settings(prefix, env), valkey.url) as admin,
        contextlib.AsyncExitStack() as stack,
    ):
        await admin.app._background(stack, admin.app._alert_queue.run())
        await at_home(admin)
        created = await admin.create(ip=HOME, user_agent=CHROME, device_id="phone")
        client = admin.app._store._client
        async with asyncio.timeout(10):
            while not (found := await client.lrange(f"{prefix}mine", 0, -1)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        (alert,) = map(orjson.loads, found)
        assert (alert["sessionId"], alert["userId"]) == (created["id"], "alice")


async def test_without_rules_nothing_is_remembered(valkey: EmbeddedValkey, prefix: str) -> None:
    """Every rule off: a sign-in costs what it did, and no history is kept."""
    rules = ("new_device", "new_country", "impossible_travel", "network_change",
             "shared_account", "shared_device")  # fmt: skip
    env = {f"GW_ALERTS__{rule.upper()}": "off" for rule in rules}
    async with harness.running(harness.settings(prefix, env), valkey.url) as admin:
        await admin.create(device_id="laptop", country="DE")
        names = [name async for name in admin.app._store._client.scan_iter(f"{prefix}[doq]:*")]
        assert names == []
