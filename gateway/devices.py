"""Names for devices, such as "Chrome on macOS", and the traits by which one is told again.

The names come from ua-parser where it is installed. The traits never do: installing it must not
turn every known device into a new one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from functools import lru_cache

from .model import Device

# Begins the id of a device that the application did not name. None of an application may: it may be
# a cookie's value, and whoever sends that must not choose to be compared by traits alone.
_UNNAMED = "~"

_BROWSERS = (
    ("Edge", re.compile(r"Edg(?:e|A|iOS)?/")),
    ("Opera", re.compile(r"OPR/|Opera")),
    ("Samsung Internet", re.compile(r"SamsungBrowser/")),
    ("Firefox", re.compile(r"Firefox/|FxiOS/")),
    ("Chrome", re.compile(r"Chrome/|CriOS/")),
    ("Safari", re.compile(r"Version/[\d.]+ .*Safari/")),
    ("curl", re.compile(r"^curl/")),
)
_SYSTEMS = (
    ("iOS", re.compile(r"iPhone|iPad|iPod")),
    ("Android", re.compile(r"Android")),
    ("ChromeOS", re.compile(r"CrOS")),
    ("Windows", re.compile(r"Windows")),
    ("macOS", re.compile(r"Mac OS X|Macintosh")),
    ("Linux", re.compile(r"Linux|X11")),
)
_TYPES = (
    ("bot", re.compile(r"bot\b|crawler|spider", re.IGNORECASE)),
    ("tablet", re.compile(r"iPad|Tablet|Android(?!.*Mobile)")),
    ("mobile", re.compile(r"Mobi|iPhone|iPod")),
    ("desktop", re.compile(r"Windows|Macintosh|X11|CrOS")),
)
# What people call what ua-parser names more exactly than they do.
_SPOKEN = {"Mac OS X": "macOS", "Chrome OS": "ChromeOS", "Mobile Safari": "Safari"}
_VARIANT = re.compile(r" (?:Mobile|iOS|WebView|UI/WKWebView)\b")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,15}", re.ASCII)

_families: Callable[[str], tuple[str, ...]] | None = None  # until `load_parser`


def device_of(device_id: str, user_agent: str) -> Device:
    """Return the device of a sign-in.

    Without an id from the application it counts as a device never seen before: two laptops with
    the same browser must not end each other's sessions.
    """
    name, kind = describe(user_agent)
    return Device(device_id or _UNNAMED + secrets.token_hex(8), name, kind)


def is_named(device: Device) -> bool:
    """Tell whether the application gave the device its id."""
    return not device.id.startswith(_UNNAMED)


@lru_cache(maxsize=1024)
def describe(user_agent: str) -> tuple[str, str]:
    """Return (name, type) of a user agent, e.g. ("Chrome on macOS", "desktop")."""
    browser, system = _own_families(user_agent)
    if _families is not None:
        theirs = _families(user_agent)
        browser, system = (
            known if _PLAIN.fullmatch(known) else ours
            for known, ours in zip(theirs, (browser, system), strict=True)
        )
    name = " on ".join(part for part in (browser, system) if part)
    return name or "Unknown device", _first(_TYPES, user_agent) or "unknown"


@lru_cache(maxsize=1024)
def traits_of(user_agent: str) -> str:
    """Return what stays the same over updates, "Chrome/macOS/desktop"; "" if nothing is known."""
    browser, system = _own_families(user_agent)
    known = browser or system
    return f"{browser}/{system}/{_first(_TYPES, user_agent)}" if known else ""


def load_parser() -> bool:
    """Have ua-parser name devices from now on; tell whether it is installed.

    Only a process that signs users in wants it, and before it serves: it takes a tenth of a second,
    and 17 MB. (With its list of devices, which nobody here asks for, three times that.)
    """
    global _families  # noqa: PLW0603  (one process has one parser)
    try:
        from ua_parser import Parser, RegexResolver
        from ua_parser.loaders import load_lazy_builtins
    except ImportError:
        return False
    if RegexResolver is None:  # ua-parser without its extra `regex`
        return False
    browsers, systems, _ = load_lazy_builtins()
    parser = Parser(RegexResolver((browsers, systems, [])))

    def families(user_agent: str) -> tuple[str, ...]:
        browser, system = parser.parse_user_agent(user_agent), parser.parse_os(user_agent)
        return tuple(_spoken(each.family) if each else "" for each in (browser, system))

    _families = families
    describe.cache_clear()
    return True


def _spoken(family: str) -> str:
    return _SPOKEN.get(family) or _VARIANT.sub("", family)


def _own_families(user_agent: str) -> tuple[str, str]:
    return _first(_BROWSERS, user_agent), _first(_SYSTEMS, user_agent)


def _first(table: tuple[tuple[str, re.Pattern[str]], ...], text: str) -> str:
    return next((name for name, pattern in table if pattern.search(text)), "")
