"""Names for devices, such as "Chrome on macOS". For people to read; nothing is decided by them."""

from __future__ import annotations

import re
import secrets
from functools import lru_cache

from .model import Device

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


def device_of(device_id: str, user_agent: str) -> Device:
    """Return the device of a sign-in.

    Without an id from the application it counts as a device never seen before: two laptops with
    the same browser must not end each other's sessions.
    """
    name, kind = describe(user_agent)
    return Device(device_id or secrets.token_hex(8), name, kind)


@lru_cache(maxsize=1024)
def describe(user_agent: str) -> tuple[str, str]:
    """Return (name, type) of a user agent, e.g. ("Chrome on macOS", "desktop")."""
    browser = _first(_BROWSERS, user_agent)
    system = _first(_SYSTEMS, user_agent)
    name = " on ".join(part for part in (browser, system) if part)
    return name or "Unknown device", _first(_TYPES, user_agent) or "unknown"


def _first(table: tuple[tuple[str, re.Pattern[str]], ...], text: str) -> str:
    return next((name for name, pattern in table if pattern.search(text)), "")
