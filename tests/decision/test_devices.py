"""Names of devices: for people to read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.devices import describe, device_of

MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 "
ANDROID = "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "


@pytest.mark.parametrize(
    ("user_agent", "name", "kind"),
    [
        (MAC + "Chrome/126.0 Safari/537.36", "Chrome on macOS", "desktop"),
        (MAC + "Version/17.4 Safari/605.1.15", "Safari on macOS", "desktop"),
        (MAC + "Chrome/126.0 Safari/537.36 Edg/126.0", "Edge on macOS", "desktop"),
        (IPHONE + "Version/17.0 Mobile/15E148 Safari/604.1", "Safari on iOS", "mobile"),
        (IPHONE + "CriOS/126.0 Mobile/15E148 Safari/604.1", "Chrome on iOS", "mobile"),
        (ANDROID + "Chrome/126.0 Mobile Safari/537.36", "Chrome on Android", "mobile"),
        (ANDROID + "Chrome/126.0 Safari/537.36", "Chrome on Android", "tablet"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0",
         "Firefox on Linux", "desktop"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:126.0) Gecko/20100101 Firefox/126.0",
         "Firefox on Windows", "desktop"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1)", "Unknown device", "bot"),
        ("curl/8.5.0", "curl", "unknown"),
        ("", "Unknown device", "unknown"),
    ],
)  # fmt: skip
def test_a_user_agent_has_a_name_that_people_know(user_agent: str, name: str, kind: str) -> None:
    """What its owner would call it, and what it is."""
    assert describe(user_agent) == (name, kind)


def test_a_device_keeps_the_id_that_the_application_gave() -> None:
    """The application knows its devices; the name comes from the user agent."""
    device = device_of("laptop-1", "curl/8.5.0")
    assert (device.id, device.name) == ("laptop-1", "curl")


def test_a_device_without_an_id_is_a_new_one() -> None:
    """Two laptops with the same browser must not end each other's sessions."""
    assert device_of("", "x").id != device_of("", "x").id
    assert device_of("", "x").id


@given(user_agent=st.text(max_size=300))
def test_any_user_agent_has_some_name(user_agent: str) -> None:
    """Never a fault, never an empty name, and no text of the client's own in it."""
    name, kind = describe(user_agent)
    assert name.isascii()
    assert 0 < len(name) < 40
    assert kind in {"desktop", "mobile", "tablet", "bot", "unknown"}
