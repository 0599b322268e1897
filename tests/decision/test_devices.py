"""Names of devices: for people to read."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import devices
from gateway.devices import describe, device_of, is_named, load_parser, traits_of

MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 "
LINUX = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 "
ANDROID = "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "


@pytest.fixture(scope="module")
def parser() -> Iterator[None]:
    """With ua-parser, which takes names out of the text itself."""
    assert load_parser()
    yield
    devices._families = None
    describe.cache_clear()


@pytest.fixture(params=["own matcher", "ua-parser"])
def matcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Either of the two that name devices."""
    monkeypatch.setattr(devices, "_families", None)
    describe.cache_clear()
    if request.param == "ua-parser":
        assert load_parser()
    yield
    describe.cache_clear()


@pytest.mark.usefixtures("matcher")
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


def test_ua_parser_knows_more() -> None:
    """A browser that our own matcher does not know has a name, a strange text has none."""
    assert describe("Mozilla/5.0 (compatible; Googlebot/2.1)") == ("Unknown device", "bot")
    assert load_parser()
    try:
        assert describe("Mozilla/5.0 (compatible; Googlebot/2.1)") == ("Googlebot", "bot")
        assert describe(LINUX + "Vivaldi/6.7")[0] == "Vivaldi on Linux"
    finally:
        devices._families = None
        describe.cache_clear()


def test_without_ua_parser_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra `ua` is not installed everywhere."""
    monkeypatch.setitem(sys.modules, "ua_parser", None)
    assert not load_parser()


def test_traits_stay_the_same_over_updates() -> None:
    """And whatever names devices; of an unknown client there are none."""
    assert traits_of(MAC + "Chrome/126.0 Safari/537.36") == "Chrome/macOS/desktop"
    assert traits_of(MAC + "Chrome/131.0 Safari/537.36") == "Chrome/macOS/desktop"
    assert traits_of("") == traits_of("\x00") == ""


def test_an_id_of_our_own_is_told_from_the_applications() -> None:
    assert is_named(device_of("laptop-1", ""))
    assert not is_named(device_of("", ""))


@pytest.mark.usefixtures("parser")
@given(user_agent=st.text(max_size=300) | st.from_regex(r"[A-Za-z <>.-]{1,40}/[0-9]{1,3}\.[0-9]"))
def test_any_user_agent_has_some_name(user_agent: str) -> None:
    """Never a fault, never an empty name, and no text of the client's own in it."""
    name, kind = describe(user_agent)
    assert name.isascii()
    assert 0 < len(name) < 40
    assert kind in {"desktop", "mobile", "tablet", "bot", "unknown"}
